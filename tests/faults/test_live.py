"""Live mode that is killed in any beat and begun again, and live mode that goes on: nothing is lost, nothing grows.

SOAK_ROUNDS sets how many times it is killed.
"""

import gc
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from py4j.finalizer import ThreadSafeFinalizer
from pyspark.sql import SparkSession

from lakehouse_spark.iceberg import pyiceberg
from lakehouse_spark.jobs import live
from lakehouse_spark.jobs.beat import Beat, Watch
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.loopback import wait_for
from lakehouse_spark.maintenance import journal
from lakehouse_spark.maintenance.journal import LAKEHOUSE, LEASES
from lakehouse_spark.settings import LiveSettings
from tests.support.child import TABLES, Children, chain, round_of
from tests.support.faults import ROUNDS
from tests.support.lake import Lake, book

CHOSEN = ("bronze.raw_trades", "silver.trades", "silver.trader_activity")
MOST_GROWTH = 1.25


@pytest.fixture
def lake(spark: SparkSession, broker: Broker, tmp_path: Path) -> Lake:
    """A migrated lakehouse whose leases are short, and its topics."""
    made = Lake.migrated(spark, broker.bootstrap_servers, tmp_path / "home")
    made.settings = made.settings.model_copy(update={"live": LiveSettings(lease_minutes=0.1)})
    made.create_topics()
    return made


def is_free(lake: Lake) -> bool:
    log = journal.read(pyiceberg.open_catalog(lake.settings), LEASES)
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


@dataclass
class Weighing(Watch):
    """Publishes before every beat but the first, and weighs the process behind it."""

    lake: Lake
    beats: int
    stop: threading.Event
    weights: list[dict[str, int]] = field(default_factory=list)

    def ended(self, beat: Beat, skipped: int) -> None:
        assert beat.failed == {}
        self.weights.append(weight(self.lake.spark))
        if len(self.weights) == self.beats:
            self.stop.set()
        self.lake.produce("raw_trades", *round_of(beat.number))
        self.lake.produce("raw_orderbook", book())


def weight(spark: SparkSession) -> dict[str, int]:
    """What lives: bytes of the JVM's heap and of its classes, and objects of Java's that Python refers to."""
    gc.collect()
    jvm: Any = spark._jvm
    jvm.java.lang.System.gc()
    beans = jvm.java.lang.management.ManagementFactory
    (classes,) = (pool for pool in beans.getMemoryPoolMXBeans() if pool.getName() == "Metaspace")
    return {
        "heap": beans.getMemoryMXBean().getHeapMemoryUsage().getUsed(),
        "classes": classes.getUsage().getUsed(),
        "references": len(ThreadSafeFinalizer.finalizers),
    }


@pytest.mark.soak
def test_what_lives_does_not_grow_from_beat_to_beat(lake: Lake) -> None:
    stop = threading.Event()
    watch = Weighing(lake, 60 if ROUNDS < 20 else 200, stop)
    lake.produce("raw_trades", *round_of(0))
    live.run(lake.spark, lake.settings, every=timedelta(seconds=1), stop=stop, watch=watch)
    begun, ended = watch.weights[20:30], watch.weights[-10:]
    for name in ("heap", "classes", "references"):
        before, after = (min(each[name] for each in some) for some in (begun, ended))
        assert after <= MOST_GROWTH * before, (name, [each[name] for each in watch.weights])
