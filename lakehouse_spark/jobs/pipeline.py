"""Everything once, in order, in one warm session: a JVM's start costs more than most of the steps."""

from collections.abc import Callable
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from lakehouse_spark import migrations
from lakehouse_spark.jobs import bronze_writer, dimension_loader, fact_loader, gold_aggregator, silver_processor
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake.session import complain
from lakehouse_spark.settings import Settings


def run(
    spark: SparkSession, settings: Settings, *, report: Callable[[Summary], None] = lambda summary: None
) -> list[Summary]:
    """Migrates, then brings every layer up to what Kafka holds now."""
    migrations.migrate(spark, settings, datetime.now(UTC), say=complain)
    return [
        *bronze_writer.run(spark, settings, report=report),
        *dimension_loader.run(spark, max_record_bytes=settings.ingest.max_record_bytes, report=report),
        *silver_processor.run(spark, settings, report=report),
        *fact_loader.run(spark, settings, report=report),
        *gold_aggregator.run(spark, settings, report=report),
    ]
