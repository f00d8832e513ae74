"""Everything once, in order, in one warm session: a JVM's start costs more than most of the steps."""

import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta

from pyspark.sql import SparkSession

from lakehouse_spark import migrations
from lakehouse_spark.jobs import bronze_writer, dimension_loader, fact_loader, gold_aggregator, silver_processor
from lakehouse_spark.jobs.beat import Beats, streamed
from lakehouse_spark.jobs.steps import raise_first
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake.session import complain
from lakehouse_spark.settings import Settings


def run(
    spark: SparkSession, settings: Settings, *, report: Callable[[Summary], None] = lambda summary: None
) -> list[Summary]:
    """Migrates, then brings every layer up to what Kafka holds now."""
    migrations.migrate(spark, settings, datetime.now(UTC), say=complain)
    return [*bronze_writer.run(spark, settings, report=report), *derive(spark, settings, report=report)]


def run_some(
    spark: SparkSession,
    settings: Settings,
    tables: Collection[str],
    *,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """One beat of these tables, like those of live mode: what fails of one stops no other, and is raised at the end.

    A bronze table that a continuous bronze_writer holds is left to it.
    """
    from lakehouse_spark.maintenance import journal  # brings PyIceberg, which no other job waits for

    migrations.migrate(spark, settings, datetime.now(UTC), say=complain)
    leases = journal.read(settings, journal.LEASES)
    beats = Beats(spark, settings, timedelta(minutes=15), tables, threading.Event(), report)
    beat = beats.run(1, streamed(leases, datetime.now(UTC)))
    for table in sorted(beat.left.keys() & {*tables}):
        complain(f"{table}: left alone: {beat.left[table]}")
    raise_first(beat.errors)
    return [*beat.summaries]


def derive(
    spark: SparkSession, settings: Settings, *, report: Callable[[Summary], None] = lambda summary: None
) -> list[Summary]:
    """Brings every layer behind bronze up to what bronze holds now; Kafka is not asked."""
    return [
        *dimension_loader.run(
            spark, max_record_bytes=settings.ingest.max_record_bytes, audits=settings.audit, report=report
        ),
        *silver_processor.run(spark, settings, report=report),
        *fact_loader.run(spark, settings, report=report),
        *gold_aggregator.run(spark, settings, report=report),
    ]
