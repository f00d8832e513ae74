"""Maintenance beside jobs that work without a pause, and killed: the tables end as if there had been none of it.

For SOAK_ROUNDS from 20 on (`scripts/soak`) it goes on for ten minutes.
"""

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.catalog import LAYERS
from lakehouse_spark.errors import RefusedError
from lakehouse_spark.jobs import maintenance
from lakehouse_spark.lake.cursor import TopicCursor, rows_removed
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.metadata.maintenance_log import TABLE as LOG
from lakehouse_spark.settings import MaintenanceSettings, PolicySettings
from tests.support.child import MADE, Children, chain
from tests.support.faults import ROUNDS
from tests.support.lake import Lake

SECONDS = 600 if ROUNDS >= 20 else 12
EAGER = PolicySettings(settle_minutes=0, snapshot_days=0, min_snapshots=20, min_input_files=2)
"""All that is written is due at once; 20 snapshots are more than a job commits between its reading and its writing."""


@pytest.fixture
def lake(spark: SparkSession, broker: Broker, tmp_path: Path) -> Lake:
    """The tables that trades pass through, the log, and a topic: all of it due for maintenance at once."""
    made = Lake.new(spark, broker.bootstrap_servers, tmp_path / "home", (*MADE, LOG.name))
    made.create_topics(names=["raw_trades"])
    eager = MaintenanceSettings(layers=dict.fromkeys(LAYERS, EAGER), lease_minutes=0.05)
    made.settings = made.settings.model_copy(update={"maintenance": eager})
    return made


def maintained(lake: Lake) -> Counter[str]:
    """How often each job had something to do."""
    try:
        done = maintenance.run(lake.spark, lake.settings, tables=(*MADE, LOG.name))
    except RefusedError:  # a job was quicker, again and again: the next run goes on
        return Counter()
    return Counter(summary.job for summary in done if summary.planned)


def as_if_undisturbed(lake: Lake, undisturbed: Lake) -> None:
    chain(lake)
    chain(undisturbed)
    for table in ("silver.trades", "silver.trader_activity", "silver._rejected_records"):
        assert lake.content(table) == undisturbed.content(table), table
    totals, wanted = (each.cursor("silver.trades")["totals"] for each in (lake, undisturbed))
    assert totals == wanted
    bronze = lake.state("bronze.raw_trades").cursor_as(TopicCursor)
    assert bronze is not None
    rows = lake.spark.table("lake.bronze.raw_trades").count()
    assert rows + rows_removed(bronze) == wanted["records"] == bronze.following[0]


def test_jobs_go_on_and_their_tables_stay_small(lake: Lake, undisturbed: Lake, children: Children) -> None:
    child, done = children.start(), Counter[str]()
    child.tell("endless", number=0)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        done += maintained(lake)
        assert child.process.poll() is None, child.log.read_text()[-3000:]
    child.kill()
    as_if_undisturbed(lake, undisturbed)
    done += maintained(lake)
    assert done
    if ROUNDS >= 20:  # in seconds, a slow machine commits too little for all of them
        assert {"bronze_retention", "compaction", "snapshot_expiration"} <= set(done)
    for table in MADE:
        assert lake.snapshots(table) <= 30, table  # 20, and what a run itself adds
        assert lake.spark.table(f"lake.{table}.files").count() <= 20, table


@pytest.mark.soak
def test_maintenance_killed_at_random_moments_leaves_nothing_to_repair(
    lake: Lake, undisturbed: Lake, children: Children
) -> None:
    chance = random.Random(20260101)
    worker = children.start()
    worker.tell("endless", number=0)
    for _ in range(ROUNDS):
        child = children.start()
        child.tell("maintain")
        time.sleep(chance.uniform(0.5, 15))  # the moment is the test: no condition to await
        assert child.process.poll() is None, child.log.read_text()[-3000:]
        child.kill()
    worker.kill()
    time.sleep(3.1)  # the lease of the last one runs out
    done = maintained(lake) + maintained(lake)
    as_if_undisturbed(lake, undisturbed)
    assert done
