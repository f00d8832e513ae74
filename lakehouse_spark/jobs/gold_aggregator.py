"""Silver and dimensions → the five gold tables: exactly the days and keys that changed, with what follows from them."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from pyspark.sql import SparkSession

from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.gold import (
    daily_trading_summary,
    market_overview,
    open_lots,
    portfolio_positions,
    trade_analytics,
    trader_performance,
)
from lakehouse_spark.jobs import gold_steps
from lakehouse_spark.jobs.gold_steps import Derived, Held
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import snapshots, upstream
from lakehouse_spark.lake.reconcile import Done, settle
from lakehouse_spark.lake.upstream import Upstream
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import trades
from lakehouse_spark.table import Table

JOB = "gold_aggregator"

States = Mapping[str, snapshots.State]


@dataclass(frozen=True)
class Step:
    """Tables that are derived together, and how (see gold_steps): from the sources that they declare."""

    tables: tuple[Table, ...]
    derive: Callable[[SparkSession, Settings, Upstream, Held], AbstractContextManager[Derived]]


STEPS = (
    Step((daily_trading_summary.TABLE,), gold_steps.summaries),
    Step((market_overview.TABLE,), gold_steps.overviews),
    Step((trade_analytics.TABLE,), gold_steps.analytics),
    Step((open_lots.TABLE, trader_performance.TABLE, portfolio_positions.TABLE), gold_steps.positions),
)
"""In the order in which they run: a step may read what those before it have written."""


def run(
    spark: SparkSession,
    settings: Settings,
    *,
    rebuild: bool = False,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Recomputes what follows from the changes in silver and the dimensions since the last commits.

    With `rebuild`, everything; the result is the same. Only rows that differ are written. The intraday and the
    end-of-day run are this same job. Raises LostRaceError if another gold_aggregator committed first.
    """
    made = {table.name for step in STEPS for table in step.tables}
    followed = dict.fromkeys(name for step in STEPS for table in step.tables for name in table.follows)
    states = {name: snapshots.state(spark, BY_NAME[name]) for name in followed if name not in made}
    if states[trades.TABLE.name].stamp is None:
        return [Summary(JOB, table.name) for step in STEPS for table in step.tables]
    summaries = []
    for step in STEPS:
        began = time.monotonic()
        for table, done in _settled(spark, settings, step, states, rebuild):
            summary, began = Summary.of(JOB, table.name, done, began), time.monotonic()
            report(summary)
            summaries.append(summary)
    return summaries


def _settled(
    spark: SparkSession, settings: Settings, step: Step, states: States, rebuild: bool
) -> Iterator[tuple[Table, Done]]:
    """The step's tables, each brought up to what its sources hold, in a commit of its own."""
    news = upstream.read(spark, step.tables, states=states, rebuild=rebuild)
    bases = {table: news.states[table.name] for table in step.tables}
    if not news.is_new:
        yield from ((table, Done({})) for table in step.tables)
        return
    held = {table: snapshots.at(spark, table, base.snapshot_id) for table, base in bases.items()}
    with step.derive(spark, settings, news, held) as derived:
        for table, (fresh, replaced) in derived.items():
            yield table, settle(spark, table, fresh, replaced, bases[table], news.cursor)
