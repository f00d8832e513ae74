"""Brings the lakehouse's tables to what this release declares."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from lakehouse_spark import migrations
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import snapshots
from lakehouse_spark.lake.session import complain
from lakehouse_spark.metadata.schema_migrations import TABLE
from lakehouse_spark.settings import Settings

JOB = "schema_migration"


def run(
    spark: SparkSession, settings: Settings, *, report: Callable[[Summary], None] = lambda summary: None
) -> list[Summary]:
    """Applies the pending migrations in order; with none pending, writes nothing."""
    began = time.monotonic()
    done = migrations.migrate(spark, settings, datetime.now(UTC), say=complain)
    snapshot_id = snapshots.state(spark, TABLE).snapshot_id if done else None
    seconds = round(time.monotonic() - began, 3)
    summary = Summary(JOB, TABLE.name, {"migrations": len(done)}, snapshot_id, seconds)
    report(summary)
    return [summary]
