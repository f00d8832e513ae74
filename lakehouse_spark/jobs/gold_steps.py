"""What each step of gold_aggregator reads and keeps; what a change touches and what follows from it is in `gold`.

A step yields, for each of its tables, the fresh rows and the held ones that they replace.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from functools import cache, partial

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim import dim_account, dim_exchange, dim_symbol, dim_trader
from lakehouse_spark.gold import (
    daily_trading_summary,
    market_overview,
    open_lots,
    portfolio_positions,
    symbol_days,
    trade_analytics,
    trader_performance,
)
from lakehouse_spark.gold.scope import Scope
from lakehouse_spark.lake import dimension_records, frames, snapshots
from lakehouse_spark.lake.pruning import (
    Days,
    Units,
    day_predicate,
    day_set,
    days_of,
    ranges,
    unit_predicate,
    unit_set,
    units,
)
from lakehouse_spark.lake.queries import kept, measured
from lakehouse_spark.lake.upstream import Upstream
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import orderbook_snapshots, trades
from lakehouse_spark.table import Table
from lakehouse_spark.transforms import market_hours
from lakehouse_spark.transforms.scd_type2 import BEGINNING

Held = Mapping[Table, DataFrame]
"""All rows of each of a step's tables."""

Derived = Mapping[Table, tuple[DataFrame, DataFrame]]
"""By table, the fresh rows and the held ones of the same keys; good until the step's context ends."""

Derive = Callable[[SparkSession, Settings, Upstream, Held], AbstractContextManager[Derived]]
Steps = Sequence[tuple[tuple[Table, ...], Derive]]
"""Tables that are derived together, and how."""


def _within(rows: DataFrame, touched: DataFrame, wanted: Units, time_column: str) -> DataFrame:
    """The rows of the symbols and days `touched`; `wanted` are all of these, and prune."""
    return symbol_days.within(rows.where(unit_predicate(time_column, "symbol", wanted)), touched, time_column)


@contextmanager
def summaries(spark: SparkSession, settings: Settings, news: Upstream, held: Held) -> Iterator[Derived]:
    table = daily_trading_summary.TABLE
    rows, symbols = held[table], news.rows(dim_symbol.TABLE)
    live, books = trades.live(news.rows(trades.TABLE)), news.rows(orderbook_snapshots.TABLE)
    if news.is_whole:
        yield {table: (daily_trading_summary.build(live, books, symbols, rows.where(F.lit(False))), rows)}
        return
    changed = symbol_days.of(news.changed(trades.TABLE), "trade_date").distinct()
    with measured(changed, days=day_set("day")) as (traded, found):
        days = ranges(found["days"])
        touched = daily_trading_summary.touched(
            traded,
            days[0][0] if days else None,
            news.changed(orderbook_snapshots.TABLE),
            news.changed_members(dim_symbol.DIMENSION),
            rows,
        )
        with measured(touched, units=unit_set("day", "symbol")) as (touched, found):
            wanted = units(found["units"])
            fresh = daily_trading_summary.build(
                _within(live, touched, wanted, "trade_timestamp"),
                _within(books, touched, wanted, "snapshot_time"),
                symbols,
                _earlier_closes(rows, touched, ranges(wanted)),
            )
            yield {table: (fresh, _within(rows, touched, wanted, "summary_date"))}


def _earlier_closes(held: DataFrame, touched: DataFrame, days: Days) -> DataFrame:
    """Held closes of the touched symbols on other days, at least the latest one before each symbol's first."""
    if not days:
        return held.where(F.lit(False))
    first, last = days[0][0], days[-1][1]
    recent, symbols = daily_trading_summary.recent_closes(held, touched, first, last)
    with measured(symbols, count=F.count("*")) as (lacking, found):
        if not found["count"]:
            return recent
        return recent.unionByName(daily_trading_summary.older_closes(held, lacking.localCheckpoint(), first))


@contextmanager
def overviews(spark: SparkSession, settings: Settings, news: Upstream, held: Held) -> Iterator[Derived]:
    table, summed = market_overview.TABLE, daily_trading_summary.TABLE
    rows, stored = held[table], news.rows(summed)
    live, books = trades.live(news.rows(trades.TABLE)), news.rows(orderbook_snapshots.TABLE)
    if not news.is_whole:
        touched = market_overview.touched(
            news.changed(trades.TABLE), news.changed(orderbook_snapshots.TABLE), news.changed(summed)
        )
        days = days_of(touched, "day")
        live = live.where(day_predicate("trade_timestamp", days))
        books = books.where(day_predicate("snapshot_time", days))
        stored = stored.where(day_predicate("summary_date", days))
        rows = rows.where(day_predicate("overview_date", days))
    yield {table: (market_overview.build(live, books, stored), rows)}


@contextmanager
def analytics(spark: SparkSession, settings: Settings, news: Upstream, held: Held) -> Iterator[Derived]:
    table = trade_analytics.TABLE
    rows, live = held[table], trades.live(news.rows(trades.TABLE))
    # Other hours of an exchange move trades of any day into other sessions.
    if news.is_whole or news.has_moved(dim_exchange.TABLE):
        with measured(live, **_places()) as (traded, found):
            yield {table: (_analysed(spark, settings, news, traded, found), rows)}
        return
    touched = trade_analytics.touched(news.changed(trades.TABLE), news.changed_members(dim_symbol.DIMENSION), rows)
    with measured(touched, units=unit_set("day", "symbol")) as (touched, found):
        wanted = units(found["units"])
        with measured(_within(live, touched, wanted, "trade_timestamp"), **_places()) as (traded, found):
            fresh = _analysed(spark, settings, news, traded, found)
            yield {table: (fresh, _within(rows, touched, wanted, "analytics_date"))}


def _places() -> dict[str, Column]:
    """Where and between which days trades were made, as aggregates of them."""
    return {"exchanges": F.collect_set("exchange"), "first": F.min("trade_date"), "last": F.max("trade_date")}


def _analysed(spark: SparkSession, settings: Settings, news: Upstream, traded: DataFrame, places: Row) -> DataFrame:
    gold, hours = settings.gold, _hours(spark, news, places)
    symbols = news.rows(dim_symbol.TABLE)
    return trade_analytics.build(traded, symbols, hours, gold.large_trade_quantity, gold.large_trade_value)


def _hours(spark: SparkSession, news: Upstream, places: Row) -> DataFrame:
    """The trading days of the exchanges that were traded on, over the days on which any was."""
    known = {row["exchange_code"]: row.asDict() for row in news.rows(dim_exchange.TABLE).collect()}
    nothing = dict.fromkeys(dim_exchange.TABLE.column_names)
    exchanges = [known.get(code) or {**nothing, "exchange_code": code} for code in places["exchanges"]]
    rows = market_hours.hours(exchanges, places["first"], places["last"]) if exchanges else []
    return frames.of_rows(spark, rows, market_hours.HOURS)


@contextmanager
def positions(spark: SparkSession, settings: Settings, news: Upstream, held: Held) -> Iterator[Derived]:
    """Lots, performance and positions: one derivation, three tables."""
    carried_over, performed, valued = open_lots.TABLE, trader_performance.TABLE, portfolio_positions.TABLE
    summed = news.rows(daily_trading_summary.TABLE)
    days = summed.select(F.col("summary_date").alias("day")).distinct()
    day_before = cache(partial(_day_before, summed))  # the first day of all is asked for twice
    with _scope(spark, news, held, summed, days, day_before) as scope:
        before, eve = day_before(scope.first), day_before(scope.earliest)
        live = scope.of(trades.live(news.rows(trades.TABLE)), "trade_date", "trade_timestamp")
        with kept(open_lots.booked(live, news.rows(dim_account.TABLE))) as booked:
            carried = held[carried_over]
            opening = open_lots.opening(
                carried if eve is None else carried.where(F.col("lot_date") >= F.lit(eve)), scope, before
            )
            with (
                kept(open_lots.pieces(opening, booked)) as pieces,
                kept(open_lots.of_scope(pieces, days, scope)) as lots,
            ):
                traders = news.rows(dim_trader.TABLE)
                performance, outside = trader_performance.build(booked, pieces, traders), None
                if not news.is_whole:
                    members = news.changed_members(dim_trader.DIMENSION)
                    outside = trader_performance.touched_outside(held[performed], members, scope)
                    performance = performance.unionByName(trader_performance.again(outside, traders))
                closes = portfolio_positions.closes(summed, held[valued], scope.earliest, eve)
                replaced = {table: scope.of(rows, table.key[0], table.key[0]) for table, rows in held.items()}
                if outside is not None:
                    replaced[performed] = replaced[performed].unionByName(outside)
                yield {
                    carried_over: (lots, replaced[carried_over]),
                    performed: (performance, replaced[performed]),
                    valued: (portfolio_positions.build(lots, closes), replaced[valued]),
                }


@contextmanager
def _scope(
    spark: SparkSession,
    news: Upstream,
    held: Held,
    summed: DataFrame,
    days: DataFrame,
    day_before: Callable[[date | None], date | None],
) -> Iterator[Scope]:
    """What the news touch: everybody from the first day on which there is trading now and was none, or the other way
    round; on other days those who traded, who hold what has another price now, or whose account is another one.

    On the newest day, and where a run died between two of the tables, that is not asked: all of it touches everybody.
    """
    if news.is_whole:
        yield Scope.of_everybody(BEGINNING)
        return
    changed, performed = news.changed(trades.TABLE), held[trader_performance.TABLE]
    found = changed.agg(F.min("trade_date")).first()
    first = found[0] if found else None
    is_of_all = first is None or not _goes_on_after(spark, first) or not _are_level(news, held)
    moved = _moved_traders(spark, news, performed) if news.has_moved(dim_account.TABLE) else None
    if is_of_all and moved is None:
        yield Scope.of_everybody(first)
        return
    units = changed.select("trader_id", "symbol", "trade_date").distinct()
    with measured(units, days=day_set("trade_date")) as (traded, found):
        everybody = first if is_of_all else _first_moved(performed, summed, ranges(found["days"]))
        valued = held[portfolio_positions.TABLE]
        closes = portfolio_positions.closes(summed, valued, first, day_before(first))
        repriced = portfolio_positions.repriced(valued, closes, traded, first)
        touched = open_lots.with_eves(open_lots.touched(traded, repriced, moved, everybody), days)
        with measured(touched, earliest=F.min("since")) as (traders, found):
            earliest = found["earliest"]
            yield Scope(everybody, traders, earliest) if earliest else Scope.of_everybody(everybody)


def _goes_on_after(spark: SparkSession, day: date) -> bool:
    """Whether there was trading on a later day; runs no query."""
    summary = daily_trading_summary.TABLE
    return snapshots.has_files(spark, summary, snapshots.state(spark, summary), ("summary_date", ">", day))


def _are_level(news: Upstream, held: Held) -> bool:
    """Whether the tables have consumed the same of their sources."""
    cursors = [news.states[table.name].cursor for table in held]
    return all(cursor and cursors[0] and cursor.place == cursors[0].place for cursor in cursors)


def _first_moved(performed: DataFrame, summed: DataFrame, days: Days) -> date | None:
    """The first of the days with trading that had none when the traders last `performed`, or the other way round."""
    were = performed.where(day_predicate("performance_date", days)).select(F.col("performance_date").alias("day"))
    are = summed.where(day_predicate("summary_date", days)).select(F.col("summary_date").alias("day"))
    both = were.distinct().unionByName(are.distinct()).groupBy("day").agg(F.count("*").alias("_sides"))
    found = both.where(F.col("_sides") == 1).agg(F.min("day")).first()
    return found[0] if found else None


def _day_before(summed: DataFrame, first: date | None) -> date | None:
    """The last trading day before `first`."""
    if first is None:
        return None
    found = summed.where(F.col("summary_date") < F.lit(first)).agg(F.max("summary_date")).first()
    return found[0] if found else None


def _moved_traders(spark: SparkSession, news: Upstream, performed: DataFrame) -> DataFrame:
    """Traders who have `performed` and whose default account is another one than when the tables were last derived,
    and `since` the beginning."""
    dimension = dim_account.DIMENSION
    accounts = news.rows(dimension.table)
    changed = news.changed_members(dimension).select(dimension.natural_key)
    were = dimension_records.as_of(spark, dimension, changed, news.consumed(dimension.table))
    moved = open_lots.moved_traders(accounts, changed, were, performed)
    return moved.select("trader_id", F.lit(BEGINNING).alias("since"))
