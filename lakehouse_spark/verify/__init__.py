"""`lakehouse verify`: the invariants of the lakehouse, each checked against the data itself."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from pyspark.sql import SparkSession

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.errors import UsageError
from lakehouse_spark.settings import Settings
from lakehouse_spark.verify import ingestion, model, storage
from lakehouse_spark.verify.finding import Finding

__all__ = ["CHECKS", "Finding", "run"]

CHECKS: tuple[Callable[[SparkSession, Settings], Iterator[Finding]], ...] = (
    ingestion.offsets_are_there_once,
    ingestion.offsets_are_complete,
    ingestion.rows_are_accounted_for,
    ingestion.activity_follows_from_trades,
    storage.keys_are_unique,
    model.days_have_1440_minutes,
    model.dimensions_follow_from_their_log,
    model.versions_are_disjoint,
    model.previous_values_have_a_date,
    model.facts_follow_silver,
    model.foreign_keys_resolve,
    model.trades_settle_as_their_exchange_says,
    model.values_add_up,
    model.lots_add_up,
    storage.texts_are_utf8,
    storage.declarations_hold,
    storage.files_exist,
)


_AT_ONCE = 4
"""Most checks are small queries, that wait for their planning and for Kafka more than for a core."""


def run(
    spark: SparkSession, settings: Settings, *, report: Callable[[Finding], None] = lambda finding: None
) -> list[Finding]:
    """Checks every invariant, some at a time; writes nothing. Raises UsageError if it was never migrated."""
    missing = [table.name for table in TABLES if not spark.catalog.tableExists(table.identifier)]
    if missing:
        raise UsageError(f"tables are missing: {', '.join(missing)}; run: lakehouse migrate")
    findings = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for found in pool.map(lambda check: list(check(spark, settings)), CHECKS):
            for finding in found:
                report(finding)
                findings.append(finding)
    return findings
