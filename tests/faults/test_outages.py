"""What live mode stands on is away for a while: it says so, comes back by itself, and nothing is lost.

An outage lasts fifteen seconds for each of SOAK_ROUNDS: five minutes at twenty.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.loopback import free_port
from lakehouse_spark.local.topics import create_topics
from lakehouse_spark.settings import Settings
from tests.support.faults import ROUNDS
from tests.support.lake import TOPICS, trade
from tests.support.object_store import ObjectStore
from tests.support.shell import LAKEHOUSE, Shell, scraped

AWAY_SECONDS = 15.0 * ROUNDS
_PATIENCE_SECONDS = 180.0
RAW, FACTS = "bronze.raw_trades", "gold.fact_trades"


@dataclass(frozen=True)
class House:
    """A migrated lakehouse whose broker is its own, and what puts it where it is."""

    shell: Shell
    broker: Broker
    where: dict[str, str]

    def run(self, *command: str) -> list[str]:
        done = self.shell.run([*LAKEHOUSE, *command], **self.where)
        assert done.code == 0, done
        return done.lines

    def trade(self, *names: str) -> None:
        self.shell.produce("raw_trades", *(trade(trade_id=name) for name in names))

    @contextmanager
    def living(self) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
        """Live mode with a beat every five seconds, and where it tells its metrics."""
        port = free_port()
        told = {"LAKEHOUSE_METRICS__PORT": str(port), "LAKEHOUSE_METRICS__REFRESH_SECONDS": "1"}
        command = [*LAKEHOUSE, "run", "pipeline", "--every", "5s"]
        with self.shell.home.with_name("live.log").open("wb") as log:
            environment = {**self.shell.environment, **self.where, **told}
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                yield process, port
            finally:
                process.kill()
                process.wait(60)


def house(settings: Settings, broker: Broker, folder: Path, where: dict[str, str]) -> House:
    shell = Shell(broker.bootstrap_servers, folder / "home", settings.jar_cache)
    create_topics(broker.bootstrap_servers, {f"submit_{name}": 1 for name in TOPICS})
    made = House(shell, broker, where)
    made.run("migrate")
    return made


def ride_out(
    made: House, leave: Callable[[], object], come_back: Callable[[], object], *, told: str, trades: bool
) -> None:
    """Trades before and behind it, and if Kafka is there, meanwhile too: all of them are facts in the end."""
    made.trade("A1", "A2")
    with made.living() as (process, port):
        scraped(port, rows(2), seconds=_PATIENCE_SECONDS)
        leave()
        until = time.monotonic() + AWAY_SECONDS
        if trades:
            made.trade("B1", "B2", "B3")
        scraped(port, told, seconds=_PATIENCE_SECONDS)
        time.sleep(max(0.0, until - time.monotonic()))  # the time is the test: no condition to await
        assert process.poll() is None
        come_back()
        made.trade("C1")
        after = rows(6 if trades else 3)
        deadline = time.monotonic() + AWAY_SECONDS + _PATIENCE_SECONDS
        while failing := _failing(scraped(port, after, "lakehouse_readable 1.0", seconds=deadline - time.monotonic())):
            assert time.monotonic() < deadline, failing
            time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(_PATIENCE_SECONDS) == 0
    assert made.run("status", "--errors") == []
    assert made.run("verify", "--full")[-1].startswith("proved in full at ")


def _failing(lines: Sequence[str]) -> list[str]:
    """The tables that fail; each is tried again after a pause of its own."""
    return [line for line in lines if line.startswith("lakehouse_table_failing{") and line.endswith(" 1.0")]


def rows(number: int) -> str:
    return f'lakehouse_table_rows{{table="{FACTS}"}} {number}.0'


FAILING = f'lakehouse_table_failing{{table="{RAW}"}} 1.0'
UNREADABLE = "lakehouse_readable 0.0"
"""Clients of S3 try for minutes before a table fails."""


@pytest.mark.soak
def test_live_mode_outlives_its_broker(settings: Settings, own_broker: Broker, tmp_path: Path) -> None:
    def leave() -> None:
        assert own_broker.pid is not None
        os.kill(own_broker.pid, signal.SIGKILL)

    made = house(settings, own_broker, tmp_path, {})
    ride_out(made, leave, own_broker.start, told=FAILING, trades=False)


@pytest.mark.soak
def test_live_mode_outlives_the_disk_of_the_catalog_and_the_tables(
    settings: Settings, own_broker: Broker, tmp_path: Path
) -> None:
    made = house(settings, own_broker, tmp_path, {})
    home = made.shell.home
    away = home.with_name("away")
    ride_out(made, lambda: home.rename(away), lambda: away.rename(home), told=FAILING, trades=True)


@pytest.mark.soak
def test_live_mode_outlives_the_object_store(settings: Settings, own_broker: Broker, tmp_path: Path) -> None:
    with ObjectStore(tmp_path / "store") as store:
        made = house(settings, own_broker, tmp_path, store.environment)
        ride_out(made, store.kill, store.start, told=UNREADABLE, trades=True)
