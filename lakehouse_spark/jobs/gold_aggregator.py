"""Silver and dimensions → the five gold tables: exactly the days and keys that changed, with what follows from them."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim import dim_account, dim_exchange, dim_symbol, dim_trader, trading_hours
from lakehouse_spark.gold import (
    daily_trading_summary,
    market_overview,
    open_lots,
    portfolio_positions,
    trade_analytics,
    trader_performance,
)
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import change_log, snapshots, upstream
from lakehouse_spark.lake.change_log import DIMENSIONS
from lakehouse_spark.lake.pruning import Days, day_predicate, days_of
from lakehouse_spark.lake.queries import kept
from lakehouse_spark.lake.reconcile import Done, settle
from lakehouse_spark.lake.upstream import Upstream
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import orderbook_snapshots, trades
from lakehouse_spark.table import Table
from lakehouse_spark.transforms import lots
from lakehouse_spark.transforms.scd_type2 import BEGINNING
from lakehouse_spark.transforms.sessions import HOURS

JOB = "gold_aggregator"

_LOOK_BACK = timedelta(days=7)
"""Where a symbol's latest earlier close is looked for first; the whole history only for those without one there."""

States = Mapping[str, snapshots.State]


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
    sources = [trades.TABLE, orderbook_snapshots.TABLE, *(dimension.table for dimension in DIMENSIONS.values())]
    states = {table.name: snapshots.state(spark, table) for table in sources}
    summaries = []
    if states[trades.TABLE.name].stamp is None:
        return [Summary(JOB, table.name) for table in _TABLES]
    for step in (_summary, _overview, _analytics, _positions):
        began = time.monotonic()
        for table, done in step(spark, settings, states, rebuild).items():
            summary, began = Summary.of(JOB, table.name, done, began), time.monotonic()
            report(summary)
            summaries.append(summary)
    return summaries


_TABLES = (
    daily_trading_summary.TABLE, market_overview.TABLE, trade_analytics.TABLE, open_lots.TABLE,
    trader_performance.TABLE, portfolio_positions.TABLE,
)  # fmt: skip


def _live(news: Upstream) -> DataFrame:
    """The trades that count."""
    return news.rows(trades.TABLE).where(F.col("status") != "CANCELLED")


def _units_of(changed: DataFrame, day: str) -> DataFrame:
    return changed.select("symbol", F.to_date(day).alias("day"))


def _of_units(rows: DataFrame, units: DataFrame, days: Days, time_column: str) -> DataFrame:
    """The rows of these symbols and days; `days` are those of all the units."""
    chosen = rows.where(day_predicate(time_column, days)).withColumn("day", F.to_date(time_column))
    return chosen.join(units, on=["symbol", "day"], how="left_semi").drop("day")


def _units_of_members(news: Upstream, held: DataFrame, day: str) -> DataFrame:
    """The held rows' symbols and days that a change of dim_symbol can have touched."""
    members = news.changed_members(dim_symbol.DIMENSION)
    return (
        held.join(members, on="symbol", how="inner")
        .where(F.col(day) >= F.col("from_day"))
        .select("symbol", F.col(day).alias("day"))
    )


def _summary(spark: SparkSession, settings: Settings, states: States, rebuild: bool) -> dict[Table, Done]:
    table = daily_trading_summary.TABLE
    news = upstream.read(spark, [table], states=states, rebuild=rebuild)
    base = news.states[table.name]
    if not news.is_new:
        return {table: Done({})}
    held, symbols = snapshots.at(spark, table, base.snapshot_id), news.rows(dim_symbol.TABLE)
    books = news.rows(orderbook_snapshots.TABLE)
    if news.is_whole:
        fresh = daily_trading_summary.build(_live(news), books, symbols, held.where(F.lit(False)))
        return {table: settle(spark, table, fresh, held, base, news.cursor)}
    with kept(_units_of(news.changed(trades.TABLE), "trade_date").distinct()) as traded:
        units = traded.unionByName(_units_of(news.changed(orderbook_snapshots.TABLE), "snapshot_time"))
        units = units.unionByName(_units_of_members(news, held, "summary_date"))
        units = units.unionByName(_next_days(held, traded, days_of(traded, "day")))
        with kept(units.distinct()) as touched:
            days = days_of(touched, "day")
            fresh = daily_trading_summary.build(
                _of_units(_live(news), touched, days, "trade_timestamp"),
                _of_units(books, touched, days, "snapshot_time"),
                symbols,
                _earlier_closes(held, touched, days),
            )
            held = _of_units(held, touched, days, "summary_date")
            return {table: settle(spark, table, fresh, held, base, news.cursor)}


def _next_days(held: DataFrame, units: DataFrame, days: Days) -> DataFrame:
    """The symbols' next days after the units, whose price change is measured on the units' closes."""
    if not days:
        return units.where(F.lit(False))
    changed = units.withColumnRenamed("day", "_changed")
    later = held.where(F.col("summary_date") > F.lit(days[0][0])).join(changed, on="symbol", how="inner")
    return (
        later.where(F.col("summary_date") > F.col("_changed"))
        .groupBy("symbol", "_changed")
        .agg(F.min("summary_date").alias("day"))
        .select("symbol", "day")
    )


def _earlier_closes(held: DataFrame, units: DataFrame, days: Days) -> DataFrame:
    """Held closes of the units' symbols on other days, at least the latest one before each symbol's first unit."""
    if not days:
        return held.where(F.lit(False))
    symbols = units.groupBy("symbol").agg(F.min("day").alias("_first"))
    first, last = days[0][0], days[-1][1]
    since = F.col("summary_date") >= F.lit(first - _LOOK_BACK)
    recent = held.where(since & (F.col("summary_date") <= F.lit(last))).join(symbols, on="symbol", how="inner")
    recent = recent.join(units.withColumnRenamed("day", "summary_date"), on=["symbol", "summary_date"], how="left_anti")
    found = recent.where(F.col("summary_date") < F.col("_first")).select("symbol").distinct()
    columns = ("symbol", "summary_date", "close_price")
    with kept(symbols.join(found, on="symbol", how="left_anti")) as lacking:
        if lacking.isEmpty():
            return recent.select(*columns)
        older = held.where(~since).join(F.broadcast(lacking.localCheckpoint()), on="symbol", how="inner")
    return recent.select(*columns).unionByName(older.select(*columns))


def _overview(spark: SparkSession, settings: Settings, states: States, rebuild: bool) -> dict[Table, Done]:
    table, summaries = market_overview.TABLE, daily_trading_summary.TABLE
    news = upstream.read(spark, [table], states=states, rebuild=rebuild)
    base = news.states[table.name]
    if not news.is_new:
        return {table: Done({})}
    held = snapshots.at(spark, table, base.snapshot_id)
    live, books, stored = _live(news), news.rows(orderbook_snapshots.TABLE), news.rows(summaries)
    if not news.is_whole:
        changed = (
            news.changed(trades.TABLE).select(F.col("trade_date").alias("day")),
            news.changed(orderbook_snapshots.TABLE).select(F.to_date("snapshot_time").alias("day")),
            news.changed(summaries).select(F.col("summary_date").alias("day")),
        )
        with kept(changed[0].unionByName(changed[1]).unionByName(changed[2]).distinct()) as touched:
            days = days_of(touched, "day")
        live, books = (
            live.where(day_predicate("trade_timestamp", days)),
            books.where(day_predicate("snapshot_time", days)),
        )
        stored, held = (
            stored.where(day_predicate("summary_date", days)),
            held.where(day_predicate("overview_date", days)),
        )
    fresh = market_overview.build(live, books, stored)
    return {table: settle(spark, table, fresh, held, base, news.cursor)}


def _analytics(spark: SparkSession, settings: Settings, states: States, rebuild: bool) -> dict[Table, Done]:
    table = trade_analytics.TABLE
    news = upstream.read(spark, [table], states=states, rebuild=rebuild)
    base = news.states[table.name]
    if not news.is_new:
        return {table: Done({})}
    held, live = snapshots.at(spark, table, base.snapshot_id), _live(news)
    # Other hours of an exchange move trades of any day into other sessions.
    if news.is_whole or news.has_moved(dim_exchange.TABLE):
        return {table: _analyse(spark, settings, news, live, held, base)}
    units = _units_of(news.changed(trades.TABLE), "trade_date")
    units = units.unionByName(_units_of_members(news, held, "analytics_date"))
    with kept(units.distinct()) as touched:
        days = days_of(touched, "day")
        live = _of_units(live, touched, days, "trade_timestamp")
        held = _of_units(held, touched, days, "analytics_date")
        return {table: _analyse(spark, settings, news, live, held, base)}


def _analyse(
    spark: SparkSession, settings: Settings, news: Upstream, live: DataFrame, held: DataFrame, base: snapshots.State
) -> Done:
    table, gold = trade_analytics.TABLE, settings.gold
    with kept(live) as traded:
        hours = _hours(spark, news, traded)
        symbols = news.rows(dim_symbol.TABLE)
        fresh = trade_analytics.build(traded, symbols, hours, gold.large_trade_quantity, gold.large_trade_value)
        return settle(spark, table, fresh, held, base, news.cursor)


def _hours(spark: SparkSession, news: Upstream, traded: DataFrame) -> DataFrame:
    """The trading days of the exchanges that were traded on, over the days on which they were."""
    found = traded.groupBy("exchange").agg(F.min("trade_date").alias("first"), F.max("trade_date").alias("last"))
    days = {row["exchange"]: row for row in found.collect()}
    known = {row["exchange_code"]: row.asDict() for row in news.rows(dim_exchange.TABLE).collect()}
    nothing = dict.fromkeys(dim_exchange.TABLE.column_names)
    exchanges = [known.get(code) or {**nothing, "exchange_code": code} for code in days]
    first = min((row["first"] for row in days.values()), default=None)
    last = max((row["last"] for row in days.values()), default=None)
    rows = trading_hours.hours(exchanges, first, last) if first and last else []
    return spark.createDataFrame(rows, HOURS)


@dataclass(frozen=True)
class _Scope:
    """What is derived anew: all days from `first` on (None: no day), and all days of `traders` (None: of none)."""

    first: date | None
    traders: DataFrame | None

    def of(self, rows: DataFrame, day: str, time_column: str | None = None) -> DataFrame:
        since: Column = F.lit(False) if self.first is None else F.col(day) >= F.lit(self.first)
        if self.traders is None:
            pruned = rows.where(F.col(time_column) >= F.lit(self.first)) if time_column and self.first else rows
            return pruned.where(since)
        marked = rows.join(F.broadcast(self.traders.withColumn("_theirs", F.lit(True))), on="trader_id", how="left")
        return marked.where(since | F.col("_theirs").isNotNull()).drop("_theirs")

    def others(self, rows: DataFrame) -> DataFrame:
        return rows if self.traders is None else rows.join(self.traders, on="trader_id", how="left_anti")

    def lots(self, pieces: DataFrame, days: DataFrame) -> DataFrame:
        """Open lots of the days: of the traders on all of them, of others from the first day on."""
        recent = open_lots.build(self.others(pieces), days.where(F.col("day") >= F.lit(self.first)))
        if self.traders is None:
            return recent
        theirs = pieces.join(self.traders, on="trader_id", how="left_semi")
        return recent.unionByName(open_lots.build(theirs, days))


def _positions(spark: SparkSession, settings: Settings, states: States, rebuild: bool) -> dict[Table, Done]:
    """Lots, performance and positions: one derivation, three tables.

    A day goes on from the lots of the trading day before it, so only the days from the first changed one on are
    derived. A trader whose default account changed is derived from the beginning.
    """
    tables = (open_lots.TABLE, trader_performance.TABLE, portfolio_positions.TABLE)
    news = upstream.read(spark, tables, states=states, rebuild=rebuild)
    bases = {table: news.states[table.name] for table in tables}
    if not news.is_new:
        return {table: Done({}) for table in tables}
    held = {table: snapshots.at(spark, table, base.snapshot_id) for table, base in bases.items()}
    with kept(_moved_traders(spark, news, held[trader_performance.TABLE])) as moved:
        scope = _scope(news, moved)
        summaries = news.rows(daily_trading_summary.TABLE)
        before = _day_before(summaries, scope.first)
        live = scope.of(_live(news), "trade_date", "trade_timestamp")
        days = summaries.select(F.col("summary_date").alias("day")).distinct()
        with kept(open_lots.booked(live, news.rows(dim_account.TABLE))) as booked:
            opening = scope.others(held[open_lots.TABLE].where(F.col("lot_date") == F.lit(before)))
            entered = booked.select(*lots.KEY, "trade_id", "trade_timestamp", "trade_type", "price", "quantity")
            with (
                kept(lots.pieces(lots.as_entries(opening).unionByName(entered))) as pieces,
                kept(scope.lots(pieces, days)) as carried,
            ):
                closes = _closes(summaries, held[portfolio_positions.TABLE], scope, before)
                performed, others = _performance(news, scope, booked, pieces, held[trader_performance.TABLE])
                fresh = {
                    open_lots.TABLE: carried,
                    trader_performance.TABLE: performed,
                    portfolio_positions.TABLE: portfolio_positions.build(carried, closes),
                }
                done = {}
                for table, rows in fresh.items():
                    day = table.key[0]
                    theirs = scope.of(held[table], day, day)
                    if table is trader_performance.TABLE:
                        theirs = theirs.unionByName(others)
                    done[table] = settle(spark, table, rows, theirs, bases[table], news.cursor)
    return done


def _scope(news: Upstream, moved: DataFrame) -> _Scope:
    if news.is_whole:
        return _Scope(BEGINNING, None)
    first = news.changed(trades.TABLE).agg(F.min("trade_date")).first()
    return _Scope(first[0] if first else None, None if moved.isEmpty() else moved)


def _day_before(summaries: DataFrame, first: date | None) -> date | None:
    if first is None:
        return None
    found = summaries.where(F.col("summary_date") < F.lit(first)).agg(F.max("summary_date")).first()
    return found[0] if found else None


def _moved_traders(spark: SparkSession, news: Upstream, performed: DataFrame) -> DataFrame:
    """Traders who have `performed` and whose default account is another one than when the tables were last derived."""
    dimension = dim_account.DIMENSION
    accounts = news.rows(dimension.table)
    if news.is_whole or not news.has_moved(dimension.table):
        return accounts.select("trader_id").where(F.lit(False))
    changed = news.changed_members(dimension).select(dimension.natural_key)
    were = change_log.as_of(spark, dimension, changed, news.consumed(dimension.table))
    columns = ("account_id", "trader_id", "account_open_date")
    same = accounts.join(changed, on="account_id", how="left_anti")
    earlier = open_lots.default_accounts(same.select(*columns).unionByName(were.select(*columns)))
    now = open_lots.default_accounts(accounts).withColumnRenamed("account_id", "_now")
    both = earlier.join(now, on="trader_id", how="full")
    moved = both.where(~F.col("account_id").eqNullSafe(F.col("_now"))).select("trader_id")
    return moved.join(performed.select("trader_id"), on="trader_id", how="left_semi")


def _performance(
    news: Upstream, scope: _Scope, booked: DataFrame, pieces: DataFrame, held: DataFrame
) -> tuple[DataFrame, DataFrame]:
    """Fresh trader_performance; and the held rows outside the scope whose attributes a change of dim_trader touched."""
    traders, key = news.rows(dim_trader.TABLE), list(trader_performance.TABLE.key)
    fresh = trader_performance.build(booked, pieces, traders)
    if news.is_whole:
        return fresh, held.where(F.lit(False))
    members = news.changed_members(dim_trader.DIMENSION)
    dated = held.join(members, on="trader_id", how="inner").where(F.col("performance_date") >= F.col("from_day"))
    within = scope.of(held, "performance_date", "performance_date").select(*key)
    others = dated.drop("from_day").join(within, on=key, how="left_anti").select(*held.columns)
    return fresh.unionByName(trader_performance.again(others, traders)), others


def _closes(summaries: DataFrame, positions: DataFrame, scope: _Scope, before: date | None) -> DataFrame:
    """Closing prices of the scope's days, and those that the positions of the trading day before them had."""
    columns = ("symbol", "summary_date", "close_price")
    if scope.traders is not None or (scope.first is not None and before is None):
        return summaries.select(*columns)
    carried = positions.where(F.col("position_date") == F.lit(before)).select(
        "symbol", F.col("position_date").alias("summary_date"), F.col("current_price").alias("close_price")
    )
    since = summaries.where(F.col("summary_date") >= F.lit(scope.first)).select(*columns)
    return since.unionByName(carried.distinct())
