"""Silver and dimensions → the five gold tables: exactly the days and keys that changed, with what follows from them."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import partial

from pyspark.sql import SparkSession

from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.errors import UsageError
from lakehouse_spark.gold import (
    daily_trading_summary,
    market_overview,
    open_lots,
    portfolio_positions,
    trade_analytics,
    trader_performance,
)
from lakehouse_spark.jobs import gold_steps, steps
from lakehouse_spark.jobs.gold_steps import Derive
from lakehouse_spark.jobs.steps import Step
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import snapshots, upstream
from lakehouse_spark.lake.reconcile import Done, settle
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import trades
from lakehouse_spark.table import Table

JOB = "gold_aggregator"

States = Mapping[str, snapshots.State]

STEPS: gold_steps.Steps = (
    ((daily_trading_summary.TABLE,), gold_steps.summaries),
    ((market_overview.TABLE,), gold_steps.overviews),
    ((trade_analytics.TABLE,), gold_steps.analytics),
    ((open_lots.TABLE, trader_performance.TABLE, portfolio_positions.TABLE), gold_steps.positions),
)
"""Tables that are derived together, and how: from the sources that they declare."""


def run(
    spark: SparkSession,
    settings: Settings,
    *,
    rebuild: bool = False,
    as_known_at: datetime | None = None,
    into: str | None = None,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Recomputes what follows from the changes in silver and the dimensions since the last commits.

    With `rebuild`, everything; the result is the same. Only rows that differ are written. The intraday and the
    end-of-day run are this same job. Raises LostRaceError if another gold_aggregator committed first.

    With `as_known_at`, the tables stay, and the branch `into` of each gets what they would have been then (see
    `as_known.derive`).
    """
    if (as_known_at is None) != (into is None) or (rebuild and into):
        raise UsageError(f"{JOB}: --as-known-at says of when, and --into the branch: give both, without --rebuild")
    if as_known_at is not None and into is not None:
        from lakehouse_spark.jobs import as_known  # brings PyIceberg, which no other run waits for

        return as_known.derive(spark, settings, STEPS, as_known_at, into, report)
    due = steps_of(spark, settings, rebuild=rebuild)
    return steps.run(spark, due, report, at_once=settings.spark.tables_at_once)


def steps_of(spark: SparkSession, settings: Settings, *, rebuild: bool = False) -> list[Step]:
    """What `run` does, a step for the tables that are derived together: all see their upstreams at one moment."""
    made = [table for tables, _ in STEPS for table in tables]
    followed = {name for table in made for name in table.follows} - {table.name for table in made}
    states = {name: snapshots.state(spark, BY_NAME[name]) for name in sorted(followed)}
    return [Step(each, partial(_settled, spark, settings, each, how, states, rebuild)) for each, how in STEPS]


def _settled(
    spark: SparkSession, settings: Settings, tables: tuple[Table, ...], derive: Derive, states: States, rebuild: bool
) -> Iterator[Summary]:
    """Brings the tables up to what their sources hold, each in a commit of its own."""
    began = time.monotonic()
    if states[trades.TABLE.name].stamp is None:
        yield from (Summary(JOB, table.name) for table in tables)
        return
    news = upstream.read(spark, tables, states=states, rebuild=rebuild)
    bases = {table: news.states[table.name] for table in tables}
    if not news.is_new:
        yield from (Summary.of(JOB, table.name, Done({}), began) for table in tables)
        return
    held = {table: snapshots.at(spark, table, base.snapshot_id) for table, base in bases.items()}
    with derive(spark, settings, news, held) as derived:
        for table, (fresh, replaced) in derived.items():
            done = settle(spark, table, fresh, replaced, bases[table], news.cursor, settings.audit)
            summary, began = Summary.of(JOB, table.name, done, began), time.monotonic()
            yield summary
