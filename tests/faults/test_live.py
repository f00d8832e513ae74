"""Live mode that is killed in any beat and begun again: the tables end as if nothing had happened.

SOAK_ROUNDS sets how many times it is killed.
"""

import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.jobs import live
from lakehouse_spark.jobs.beat import Beat, Watch
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.loopback import wait_for
from lakehouse_spark.maintenance import journal
from lakehouse_spark.maintenance.journal import LAKEHOUSE, LEASES
from lakehouse_spark.settings import LiveSettings
from tests.support.child import TABLES, Children, chain, round_of
from tests.support.faults import ROUNDS
from tests.support.lake import Lake

CHOSEN = ("bronze.raw_trades", "silver.trades", "silver.trader_activity")


@pytest.fixture
def lake(spark: SparkSession, broker: Broker, tmp_path: Path) -> Lake:
    """A migrated lakehouse whose leases are short, and its topics."""
    made = Lake.migrated(spark, broker.bootstrap_servers, tmp_path / "home")
    made.settings = made.settings.model_copy(update={"live": LiveSettings(lease_minutes=0.1)})
    made.create_topics()
    return made


def is_free(lake: Lake) -> bool:
    log = journal.read(lake.settings, LEASES)
    return log.holder(LAKEHOUSE, datetime.now(UTC), (live.JOB,)) is None


@pytest.mark.soak
def test_a_live_mode_that_is_killed_in_any_beat_leaves_nothing_to_repair(
    lake: Lake, undisturbed: Lake, children: Children
) -> None:
    chance = random.Random(20250101 + ROUNDS)
    for number in range(ROUNDS):
        assert wait_for(lambda: is_free(lake), 60)
        child = children.start()
        child.tell("live", tables=CHOSEN)
        until = time.monotonic() + chance.uniform(2, 15)  # the moment is the test: no condition to await
        while time.monotonic() < until:
            lake.produce("raw_trades", *round_of(1000 * number + int(time.monotonic() * 10) % 1000))
            time.sleep(0.5)
        assert child.process.poll() is None, child.log.read_text()[-3000:]
        child.kill()
    assert wait_for(lambda: is_free(lake), 60)
    stop = threading.Event()
    live.run(lake.spark, lake.settings, every=timedelta(seconds=1), tables=CHOSEN, stop=stop, watch=_Ending(stop))
    chain(undisturbed)
    for table in TABLES:
        assert lake.content(table) == undisturbed.content(table), table
    assert lake.cursor("silver.trades")["totals"] == undisturbed.cursor("silver.trades")["totals"]


@dataclass
class _Ending(Watch):
    stop: threading.Event

    def ended(self, beat: Beat, skipped: int) -> None:
        assert beat.failed == {}
        self.stop.set()
