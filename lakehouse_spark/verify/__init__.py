"""`lakehouse verify`: the invariants of the lakehouse, each checked against the data itself."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pyspark.sql import SparkSession

from lakehouse_spark.catalog import DIMENSIONS, FACTS, FEEDS, TABLES, TOPICS
from lakehouse_spark.dim import dim_account, dim_time
from lakehouse_spark.errors import UsageError
from lakehouse_spark.gold import (
    daily_trading_summary,
    fact_trades,
    market_overview,
    open_lots,
    portfolio_positions,
    trade_analytics,
)
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import trader_activity
from lakehouse_spark.table import Table
from lakehouse_spark.verify import ingestion, model, storage
from lakehouse_spark.verify.finding import Finding

__all__ = ["CHECKS", "Finding", "run"]

_BRONZE = tuple(topic.table for topic in TOPICS.values())
_OF_FEEDS = tuple(table for feed in FEEDS.values() for table in (feed.table, feed.topic.table))
_DIMENSIONS = tuple(dimension.table for dimension in DIMENSIONS.values())
_VERSIONED = tuple(dimension.table for dimension in DIMENSIONS.values() if dimension.is_versioned)
_FACTS = tuple(fact.table for fact in FACTS.values())
_OF_TRADES = (fact_trades.TABLE, daily_trading_summary.TABLE, market_overview.TABLE, trade_analytics.TABLE)

CHECKS: tuple[tuple[Callable[..., Iterator[Finding]], tuple[Table, ...]], ...] = (
    (ingestion.offsets_are_there_once, _BRONZE),
    (ingestion.offsets_are_complete, _BRONZE),
    (ingestion.rows_are_accounted_for, _OF_FEEDS),
    (ingestion.activity_follows_from_trades, (trader_activity.TABLE,)),
    (storage.keys_are_unique, ()),
    (model.days_have_1440_minutes, (dim_time.TABLE,)),
    (model.dimensions_follow_from_their_log, _DIMENSIONS),
    (model.versions_are_disjoint, _VERSIONED),
    (model.previous_values_have_a_date, (dim_account.TABLE,)),
    (model.facts_follow_silver, _FACTS),
    (model.foreign_keys_resolve, _FACTS),
    (model.trades_settle_as_their_exchange_says, (fact_trades.TABLE,)),
    (model.values_add_up, _OF_TRADES),
    (model.lots_add_up, (open_lots.TABLE, portfolio_positions.TABLE)),
    (storage.texts_are_utf8, ()),
    (storage.declarations_hold, ()),
    (storage.files_exist, ()),
)
"""Each with the tables that it is about; one without any is about every table, and looks only at those it is given."""


_AT_ONCE = 4
"""Most checks are small queries, that wait for their planning and for Kafka more than for a core."""


def run(
    spark: SparkSession,
    settings: Settings,
    tables: Sequence[Table] = (),
    *,
    report: Callable[[Finding], None] = lambda finding: None,
) -> list[Finding]:
    """Checks every invariant of these tables, by default of all, some at a time; writes nothing.

    Raises UsageError if it was never migrated.
    """
    missing = [table.name for table in TABLES if not spark.catalog.tableExists(table.identifier)]
    if missing:
        raise UsageError(f"tables are missing: {', '.join(missing)}; run: lakehouse migrate")
    names = {table.name for table in tables or TABLES}

    def found_by(check: Callable[..., Iterator[Finding]], about: tuple[Table, ...]) -> list[Finding]:
        if about and names.isdisjoint(table.name for table in about):
            return []
        found = check(spark, settings) if about else check(spark, settings, tables)
        return [replace(each, invariant=check.__name__) for each in found if not about or each.table in names]

    findings = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for found in pool.map(found_by, *zip(*CHECKS, strict=True)):
            for finding in found:
                report(finding)
                findings.append(finding)
    return findings
