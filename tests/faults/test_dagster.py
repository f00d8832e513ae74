"""Dagster that is killed at any moment, a part of it or all: the tables end as if nothing had happened, and nothing is
ever done twice at a time.

SOAK_ROUNDS sets how many times something is killed.
"""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from lakehouse_spark import verify
from lakehouse_spark.catalog import BY_NAME, DIMENSIONS
from lakehouse_spark.jobs import beat, pipeline
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.loopback import wait_for
from tests.conftest import CONF
from tests.support import processes
from tests.support.faults import ROUNDS
from tests.support.lake import ALL_TOPICS, Lake, trade
from tests.support.processes import Process

dg: Any = pytest.importorskip("dagster", reason="the extra `dagster` is not installed")

ROOT = Path(__file__).parents[2]
_PATIENCE_SECONDS = 900  # for a minute to pass, a session, and a beat of all tables on a machine that is busy
_LONGEST_SECONDS = 40  # from the start of a job's JVM to the strike: most beats are over by then
STAMPS = {"_ingested_at", "_processed_at", "_rejected_at", "_updated_at", "_loaded_at", "_computed_at"}


@dataclass
class Daemon:
    """Dagster's daemon with a beat every minute, which is begun again as often as it is killed."""

    lake: Lake
    home: Path
    """DAGSTER_HOME."""
    begun: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def marker(self) -> str:
        return f"DAGSTER_HOME={self.home}"

    def start(self) -> None:
        settings = self.lake.settings
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(self.home),
            "LAKEHOUSE_HOME": str(settings.root),
            "LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS": str(settings.kafka.bootstrap_servers),
            "LAKEHOUSE_KAFKA__TOPICS": json.dumps(dict(settings.kafka.topics)),
            "LAKEHOUSE_DIM_TIME__YEARS": "[2025]",
            "LAKEHOUSE_SPARK__DRIVER_MEMORY": "1g",
            "LAKEHOUSE_SPARK__SHUFFLE_PARTITIONS": "1",
            "LAKEHOUSE_SPARK__CONF": json.dumps(CONF),
        }
        command = [sys.executable, "-m", "dagster._daemon", "run", "--workspace", str(self.home / "workspace.yaml")]
        with (self.home.parent / "daemon.log").open("ab") as log:
            self.begun.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def all(self) -> list[Process]:
        return processes.of(self.marker)

    def of_kind(self, kind: str) -> list[Process]:
        """Without copies of them, as which their children begin."""
        found = [process for process in self.all() if process.kind == kind]
        return [process for process in found if process.parent not in {each.pid for each in found}]

    def end(self) -> None:
        """All that is left of it."""
        while left := [process for process in self.all() if process.pid != os.getpid()]:
            for process in left:
                process.kill()
            for each in self.begun:
                each.poll()
            time.sleep(0.1)
        for each in self.begun:
            each.wait(30)


@pytest.fixture
def lake(spark: SparkSession, broker: Broker, tmp_path: Path) -> Lake:
    """A migrated lakehouse and its topics."""
    made = Lake.migrated(spark, broker.bootstrap_servers, tmp_path / "home")
    made.create_topics(names=ALL_TOPICS)
    return made


@pytest.fixture
def undisturbed(spark: SparkSession, lake: Lake, tmp_path: Path) -> Lake:
    """Another lakehouse on the same topics."""
    servers = str(lake.settings.kafka.bootstrap_servers)
    return Lake.migrated(spark, servers, tmp_path / "undisturbed").on_topics_of(lake)


@pytest.fixture
def daemon(lake: Lake, tmp_path: Path) -> Iterator[Daemon]:
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "infra" / "dagster" / "dagster.yaml", home)
    module = {"module_name": "tests.support.every_layer_every_minute", "working_directory": str(ROOT)}
    (home / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"python_module": module}]}))
    made = Daemon(lake, home)
    made.start()
    yield made
    made.end()


@dataclass
class Overlap(threading.Thread):
    """Looks, as long as it is not ended, whether the JVMs of two jobs live at one time."""

    daemon_of: Daemon
    found: list[Sequence[tuple[int, int]]] = field(default_factory=list)
    """The processes and their parents."""
    looks: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self.ended.wait(0.1):
            jvms = self.daemon_of.of_kind("jvm")
            self.looks += 1
            if len(jvms) > 1:
                self.found.append([(jvm.pid, jvm.parent) for jvm in jvms])


def _run(daemon: Daemon, jvm: Process) -> list[Process]:
    return daemon.of_kind("run")


STRIKES: dict[str, Callable[[Daemon, Process], list[Process]]] = {
    "the run": _run,
    "the run and all that it began": lambda daemon, jvm: [
        each for run in _run(daemon, jvm) for each in (run, *processes.below(run, daemon.all()))
    ],
    "the job's JVM": lambda daemon, jvm: [jvm],
    "the daemon": lambda daemon, jvm: daemon.of_kind("daemon"),
    "Dagster, and not the job": lambda daemon, jvm: [
        each for kind in ("daemon", "server", "run") for each in daemon.of_kind(kind)
    ],
}


def news(lake: Lake, number: int) -> None:
    """A symbol that is known, one that is not, shares bought and sold again, a repeat, and one that is no JSON."""
    known, unknown, day = f"K{number:03}", f"U{number:03}", f"2025-01-{15 + number % 3}"
    lake.produce(
        "raw_reference",
        json.dumps(
            {"dimension": "dim_symbol", "symbol": known, "sector": "Technology", "effective_date": "2025-01-01"}
        ).encode(),
    )
    mine = {"trader_id": f"TR{number:03}", "account_id": f"AC{number:03}"}
    bought = trade(trade_id=f"{number}a", symbol=known, quantity=30, timestamp=f"{day}T15:30:00Z", **mine)
    sold = trade(
        trade_id=f"{number}b", symbol=known, quantity=20, timestamp=f"{day}T16:00:00Z", trade_type="SELL", price=190,
        **mine,
    )  # fmt: skip
    other = trade(trade_id=f"{number}c", symbol=unknown, timestamp=f"{day}T17:00:00Z", **mine)
    lake.produce("raw_trades", bought, sold, other, bought, b"{")


def contents(lake: Lake) -> dict[str, list[Any]]:
    """The rows of every table that a beat writes, without stamps, and with what a surrogate key stands for in its
    place: keys are issued in the order in which members come."""
    stands_for: dict[str, dict[int, Any]] = {}
    for dimension in DIMENSIONS.values():
        identity = (dimension.natural_key, *(("effective_date",) if dimension.is_versioned else ()))
        rows = lake.rows(dimension.table.name, dimension.surrogate_key, *identity)
        stands_for[dimension.surrogate_key] = {row[0]: tuple(row[1:]) for row in rows}
    return {
        name: sorted(
            (
                {key: stands_for[key].get(value) if key in stands_for else value for key, value in row.asDict().items()}
                for row in lake.rows(name, *(each for each in BY_NAME[name].column_names if each not in STAMPS))
            ),
            key=repr,
        )
        for name in (*beat.TABLES, "silver._rejected_records")
    }


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_dagster_that_is_killed_at_any_moment_leaves_nothing_to_repair_and_starts_nothing_twice(
    lake: Lake, undisturbed: Lake, daemon: Daemon
) -> None:
    chance, overlap = random.Random(20250101 + ROUNDS), Overlap(daemon)
    kinds = [kind for _ in range(0, ROUNDS, len(STRIKES)) for kind in chance.sample([*STRIKES], len(STRIKES))]
    overlap.start()
    struck: set[int] = set()

    def fresh() -> list[Process]:
        assert daemon.begun[-1].poll() is None, (daemon.home.parent / "daemon.log").read_text()[-3000:]
        return [jvm for jvm in daemon.of_kind("jvm") if jvm.pid not in struck]

    for number, kind in enumerate(kinds[:ROUNDS]):
        news(lake, 2 * number)
        assert wait_for(lambda: bool(fresh()), _PATIENCE_SECONDS), "no run began"
        [jvm] = fresh()
        struck.add(jvm.pid)
        time.sleep(chance.uniform(0, _LONGEST_SECONDS))  # the moment is the test: no condition to await
        news(lake, 2 * number + 1)
        targets = STRIKES[kind](daemon, jvm)
        print(f"round {number}: kill -9 {kind}: {[(each.kind, each.pid) for each in targets]}", flush=True)
        for each in targets:
            each.kill()
        if daemon.begun[-1].pid in {each.pid for each in targets}:
            daemon.begun[-1].wait(30)
            daemon.start()
    last = time.time()
    with dg.DagsterInstance.from_config(str(daemon.home)) as instance:

        def records() -> list[Any]:
            return list(instance.get_run_records(dg.RunsFilter(job_name="every_layer"), ascending=True))

        def is_done() -> bool:
            fresh()
            done = [each for each in records() if each.dagster_run.status == dg.DagsterRunStatus.SUCCESS]
            return any(each.start_time > last for each in done)

        assert wait_for(is_done, _PATIENCE_SECONDS), "no run ended well"
        overlap.ended.set()
        overlap.join()
        daemon.end()
        begun = [each for each in records() if each.start_time]

    pipeline.run(undisturbed.spark, undisturbed.settings)
    expected, found = contents(undisturbed), contents(lake)
    assert len(expected["gold.fact_trades"]) == 6 * ROUNDS
    for name in expected:
        assert found[name] == expected[name], name
    assert [
        each for each in verify.findings(lake.spark, lake.settings, *(c.check for c in verify.CHECKS)) if not each.holds
    ] == []
    assert overlap.found == []
    assert overlap.looks > 100
    for one, other in itertools.pairwise(begun):
        assert one.end_time is not None
        assert one.end_time <= other.start_time
    at = [each.dagster_run.tags[".dagster/scheduled_execution_time"] for each in begun]
    assert len(set(at)) == len(at)
