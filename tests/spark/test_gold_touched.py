"""What a change touches: the days and keys of each gold table and fact that are derived anew, against literals."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.gold import (
    daily_trading_summary,
    fact_orderbook,
    fact_trades,
    market_overview,
    open_lots,
    portfolio_positions,
    trade_analytics,
    trader_performance,
)
from lakehouse_spark.gold.scope import Scope
from lakehouse_spark.lake import frames
from lakehouse_spark.transforms.asof import without_version

FRIDAY, MONDAY, TUESDAY = date(2025, 6, 6), date(2025, 6, 9), date(2025, 6, 10)
_CLOSES = "symbol string, summary_date date, close_price decimal(18,6)"


def at(day: date, hour: int = 14) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=UTC)


def units(spark: SparkSession, *rows: tuple[str, date]) -> DataFrame:
    return frames.of_rows(spark, list(rows), "symbol string, day date")


def books(spark: SparkSession, *rows: tuple[str, datetime]) -> DataFrame:
    return frames.of_rows(spark, list(rows), "symbol string, snapshot_time timestamp")


def members(spark: SparkSession, key: str, *rows: tuple[str, date]) -> DataFrame:
    return frames.of_rows(spark, list(rows), f"{key} string, from_day date")


def closes(spark: SparkSession, *rows: tuple[str, date, int]) -> DataFrame:
    return frames.of_rows(spark, [(symbol, day, Decimal(close)) for symbol, day, close in rows], _CLOSES)


def found(rows: DataFrame) -> list[tuple[Any, ...]]:
    return sorted(map(tuple, rows.collect()))


def test_a_summary_is_touched_by_trades_books_members_and_the_close_before_it(spark: SparkSession) -> None:
    days = (FRIDAY, MONDAY, TUESDAY)
    held = closes(spark, *((symbol, day, 1) for symbol in ("AAA", "BBB", "CCC") for day in days))
    traded = units(spark, ("AAA", FRIDAY), ("NEW", MONDAY))
    quoted, renamed = books(spark, ("BBB", at(MONDAY, 23))), members(spark, "symbol", ("CCC", MONDAY))
    touched = daily_trading_summary.touched(traded, FRIDAY, quoted, renamed, held)
    assert found(touched) == [
        ("AAA", FRIDAY), ("AAA", MONDAY), ("BBB", MONDAY), ("CCC", MONDAY), ("CCC", TUESDAY), ("NEW", MONDAY),
    ]  # fmt: skip
    nothing = daily_trading_summary.touched(units(spark), None, books(spark), renamed, held)
    assert found(nothing) == [("CCC", MONDAY), ("CCC", TUESDAY)]


def test_closes_are_looked_for_a_week_back_and_further_only_for_symbols_that_lack_one(spark: SparkSession) -> None:
    old, recent = date(2025, 1, 2), date(2025, 6, 2)
    held = closes(
        spark, ("AAA", old, 1), ("AAA", recent, 2), ("AAA", MONDAY, 3), ("BBB", old, 4), ("BBB", TUESDAY, 5),
        ("CCC", recent, 6),
    )  # fmt: skip
    touched = units(spark, ("AAA", MONDAY), ("BBB", MONDAY))
    near, lacking = daily_trading_summary.recent_closes(held, touched, MONDAY, MONDAY)
    assert found(near) == [("AAA", recent, Decimal(2))]
    assert found(lacking) == [("BBB",)]
    assert found(daily_trading_summary.older_closes(held, lacking, MONDAY)) == [("BBB", old, Decimal(4))]


def test_an_overview_is_touched_by_the_days_of_trades_books_and_summaries(spark: SparkSession) -> None:
    trades = frames.of_rows(spark, [(FRIDAY,), (FRIDAY,)], "trade_date date")
    touched = market_overview.touched(trades, books(spark, ("A", at(MONDAY, 0))), closes(spark, ("A", TUESDAY, 1)))
    assert found(touched) == [(FRIDAY,), (MONDAY,), (TUESDAY,)]


def test_analytics_are_touched_by_trades_and_by_members_from_their_day_on(spark: SparkSession) -> None:
    held = frames.of_rows(spark, [("AAA", FRIDAY), ("AAA", MONDAY)], "symbol string, analytics_date date")
    trades = frames.of_rows(spark, [("BBB", FRIDAY), ("BBB", FRIDAY)], "symbol string, trade_date date")
    touched = trade_analytics.touched(trades, members(spark, "symbol", ("AAA", MONDAY)), held)
    assert found(touched) == [("AAA", MONDAY), ("BBB", FRIDAY)]


SATURDAY = date(2025, 6, 7)
_SCOPED = "trader_id string, since date, eve date"


def test_a_scope_is_all_days_from_one_on_and_those_of_some_traders_from_an_earlier_one_on(spark: SparkSession) -> None:
    days = (FRIDAY, MONDAY, TUESDAY)
    rows = frames.of_rows(spark, [(t, d) for t in ("T1", "T2") for d in days], "trader_id string, day date")
    theirs = frames.of_rows(spark, [("T2", MONDAY, FRIDAY)], _SCOPED)
    assert found(Scope.of_everybody(TUESDAY).of(rows, "day", "day")) == [("T1", TUESDAY), ("T2", TUESDAY)]
    both = Scope(TUESDAY, theirs, MONDAY)
    assert found(both.of(rows, "day", "day")) == [("T1", TUESDAY), ("T2", MONDAY), ("T2", TUESDAY)]
    assert found(Scope(None, theirs, MONDAY).of(rows, "day")) == [("T2", MONDAY), ("T2", TUESDAY)]
    assert found(Scope.of_everybody(None).of(rows, "day")) == []
    assert found(both.of_others(rows)) == [("T1", FRIDAY), ("T1", MONDAY), ("T1", TUESDAY)]


def test_a_trader_goes_on_from_the_lots_of_the_eve(spark: SparkSession) -> None:
    rows = [(t, d) for t in ("T1", "T2", "T3") for d in (FRIDAY, MONDAY, TUESDAY)]
    held = frames.of_rows(spark, rows, "trader_id string, lot_date date")
    theirs = frames.of_rows(spark, [("T2", MONDAY, FRIDAY), ("T3", FRIDAY, None)], _SCOPED)
    assert found(open_lots.opening(held, Scope(TUESDAY, theirs, FRIDAY), MONDAY)) == [("T1", MONDAY), ("T2", FRIDAY)]
    assert found(open_lots.opening(held, Scope(None, theirs, FRIDAY), None)) == [("T2", FRIDAY)]
    assert found(open_lots.opening(held, Scope.of_everybody(TUESDAY), MONDAY)) == [
        ("T1", MONDAY), ("T2", MONDAY), ("T3", MONDAY),
    ]  # fmt: skip


def test_traders_are_touched_from_the_first_of_their_days_on_if_it_is_before_that_of_everybody(
    spark: SparkSession,
) -> None:
    traded = frames.of_rows(
        spark,
        [("T1", "AAA", MONDAY), ("T1", "BBB", FRIDAY), ("T2", "AAA", TUESDAY)],
        "trader_id string, symbol string, trade_date date",
    )
    repriced = frames.of_rows(spark, [("T2", MONDAY), ("T3", TUESDAY)], "trader_id string, since date")
    moved = frames.of_rows(spark, [("T4", date(1900, 1, 1))], "trader_id string, since date")
    touched = open_lots.touched(traded, repriced, moved, None)
    assert found(touched) == [("T1", FRIDAY), ("T2", MONDAY), ("T3", TUESDAY), ("T4", date(1900, 1, 1))]
    before_tuesday = open_lots.touched(traded, repriced, None, TUESDAY)
    assert found(before_tuesday) == [("T1", FRIDAY), ("T2", MONDAY)]
    days = frames.of_rows(spark, [(FRIDAY,), (MONDAY,), (TUESDAY,)], "day date")
    eves = open_lots.with_eves(touched.where("trader_id <> 'T3'"), days).orderBy("trader_id").collect()
    assert [(row["trader_id"], row["eve"]) for row in eves] == [("T1", None), ("T2", FRIDAY), ("T4", None)]


def test_who_holds_what_has_another_price_now_is_touched_from_that_day_on(spark: SparkSession) -> None:
    def position(trader: str, symbol: str, day: date, price: int) -> tuple[Any, ...]:
        return (day, trader, "A", symbol, Decimal(price))

    held = frames.of_rows(
        spark, [
            position("T1", "AAA", FRIDAY, 1), position("T1", "AAA", MONDAY, 1), position("T1", "AAA", TUESDAY, 3),
            position("T2", "BBB", MONDAY, 5), position("T3", "AAA", TUESDAY, 3), position("T4", "AAA", MONDAY, 1),
        ],
        "position_date date, trader_id string, account_id string, symbol string, current_price decimal(18,6)",
    )  # fmt: skip
    now = closes(spark, ("AAA", FRIDAY, 1), ("AAA", MONDAY, 2), ("AAA", TUESDAY, 3), ("BBB", MONDAY, 6))
    traded = frames.of_rows(spark, [("AAA", MONDAY)], "symbol string, trade_date date")
    assert found(portfolio_positions.repriced(held, now, traded, MONDAY)) == [("T1", MONDAY), ("T4", MONDAY)]
    carried = closes(spark, ("AAA", FRIDAY, 1), ("AAA", SATURDAY, 2), ("AAA", TUESDAY, 3))
    saturday = frames.of_rows(spark, [("AAA", SATURDAY)], "symbol string, trade_date date")
    assert found(portfolio_positions.repriced(held, carried, saturday, SATURDAY)) == [("T1", MONDAY), ("T4", MONDAY)]


def test_traders_move_with_their_default_account_if_they_have_traded(spark: SparkSession) -> None:
    schema = "account_id string, trader_id string, account_open_date date"
    now = [("A1", "T1", FRIDAY), ("A2", "T1", MONDAY), ("A3", "T2", MONDAY), ("A4", "T3", FRIDAY), ("A5", "T4", FRIDAY)]
    were = [("A1", "T1", TUESDAY)]  # so T1's was A2; A3 is T2's first; T3's is as it was; T4 never traded
    moved = open_lots.moved_traders(
        frames.of_rows(spark, now, schema),
        frames.of_rows(spark, [("A1",), ("A3",), ("A5",)], "account_id string"),
        frames.of_rows(spark, were, schema),
        frames.of_rows(spark, [("T1",), ("T2",), ("T3",)], "trader_id string"),
    )
    assert found(moved) == [("T1",), ("T2",)]


def test_performance_outside_the_scope_is_touched_by_its_trader_alone(spark: SparkSession) -> None:
    held = frames.of_rows(
        spark,
        [(t, d) for t in ("T1", "T2") for d in (FRIDAY, MONDAY, TUESDAY)],
        "trader_id string, performance_date date",
    )
    renamed = members(spark, "trader_id", ("T1", MONDAY))
    outside = trader_performance.touched_outside(held, renamed, Scope.of_everybody(TUESDAY))
    assert found(outside) == [("T1", MONDAY)]


def test_positions_take_the_price_of_the_day_before_from_the_positions_then(spark: SparkSession) -> None:
    summed = closes(spark, ("AAA", FRIDAY, 1), ("AAA", MONDAY, 2), ("BBB", TUESDAY, 3))
    held = frames.of_rows(
        spark,
        [("AAA", MONDAY, Decimal(20)), ("AAA", MONDAY, Decimal(20)), ("CCC", FRIDAY, Decimal(30))],
        "symbol string, position_date date, current_price decimal(18,6)",
    )
    from_tuesday = portfolio_positions.closes(summed, held, TUESDAY, MONDAY)
    assert found(from_tuesday) == [("AAA", MONDAY, Decimal(20)), ("BBB", TUESDAY, Decimal(3))]
    assert found(portfolio_positions.closes(summed, held, FRIDAY, None)) == found(summed)


def test_a_fact_is_touched_from_the_day_on_from_which_a_version_can_differ(spark: SparkSession) -> None:
    rows = books(spark, ("AAA", at(FRIDAY)), ("AAA", at(MONDAY, 0)), ("AAA", at(MONDAY, 9)), ("BBB", at(MONDAY)))
    changed = members(spark, "symbol", ("AAA", MONDAY))
    touched = fact_orderbook.FACT.touched(rows, "symbol", changed)
    assert touched.columns == ["symbol", "snapshot_time"]
    members_of = fact_orderbook.FACT.members(touched).select("symbol", "day", F.hour("first"), F.hour("last"))
    assert found(members_of) == [("AAA", MONDAY, 0, 9)]
    assert [d.name for d in fact_trades.FACT.versioned] == ["dim_symbol", "dim_trader"]


def test_days_that_no_version_covers_are_found(spark: SparkSession) -> None:
    versions = frames.of_rows(spark, [("AAA", MONDAY, MONDAY)], "symbol string, effective_date date, expiry_date date")
    wanted = units(spark, ("AAA", FRIDAY), ("AAA", MONDAY), ("AAA", TUESDAY), ("BBB", MONDAY), ("BBB", MONDAY))
    assert found(without_version(wanted, versions, key="symbol")) == [
        ("AAA", FRIDAY), ("AAA", TUESDAY), ("BBB", MONDAY),
    ]  # fmt: skip
