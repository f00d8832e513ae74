"""Gold at the edges of its types and calendars: each value against a literal."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim import dim_symbol, dim_trader
from lakehouse_spark.gold import daily_trading_summary, portfolio_positions, trade_analytics, trader_performance
from lakehouse_spark.lake import frames
from lakehouse_spark.silver import orderbook_snapshots
from lakehouse_spark.transforms import lots, market_hours
from tests.support.in_memory import silver_trades
from tests.support.in_memory import trade_row as row

NOON = datetime(2025, 1, 15, 12, tzinfo=UTC)


def summaries(spark: SparkSession, *rows: dict[str, Any]) -> list[Any]:
    books, symbols, none = (
        spark.createDataFrame([], table.schema)
        for table in (orderbook_snapshots.TABLE, dim_symbol.TABLE, daily_trading_summary.TABLE)
    )
    return daily_trading_summary.build(silver_trades(spark, *rows), books, symbols, none).collect()


def performance(spark: SparkSession, *rows: dict[str, Any]) -> list[Any]:
    trades = silver_trades(spark, *rows)
    traders: DataFrame = spark.createDataFrame([], dim_trader.TABLE.schema)
    pieces = lots.pieces(trades.withColumn("account_id", F.lit("A1")))
    return trader_performance.build(trades, pieces, traders).collect()


def test_more_shares_than_fit_18_digits_still_have_a_mean_price(spark: SparkSession) -> None:
    many = 900_000_000_000_000_000
    (found,) = summaries(spark, row(1, "BUY", many, "0.000001"), row(2, "BUY", many, "0.000001"))
    assert (found["total_volume"], found["vwap"]) == (1_800_000_000_000_000_000, Decimal("0.000001"))
    assert (found["buy_volume"], found["sell_volume"]) == (1_800_000_000_000_000_000, 0)


def test_a_mean_price_is_rounded_once(spark: SparkSession) -> None:
    """50.00001049999999997…: ten digits more would be rounded to …05 first."""
    shares = 10_000_000_000
    (found,) = summaries(spark, row(1, "BUY", shares + 1, "50.000010"), row(2, "BUY", shares, "50.000011"))
    assert found["vwap"] == Decimal("50.000010")
    (beyond,) = summaries(spark, *(row(n, "BUY", 10**18 - 1, "0.000001") for n in range(10)))
    assert (beyond["vwap"], beyond["total_volume"]) == (Decimal("0.000001"), None)


def test_a_price_moves_by_the_exact_difference(spark: SparkSession) -> None:
    """Subtracted as doubles, 160.01 - 160.00 is a little less than a cent, and 0.0000625 would be rounded down."""
    symbols, hours = spark.createDataFrame([], dim_symbol.TABLE.schema), spark.createDataFrame([], market_hours.HOURS)
    moves = {("160", "160.01"): "0.000063", ("800", "800.01"): "0.000013", ("32", "31.99"): "-0.000313"}
    for prices, impact in moves.items():
        trades = silver_trades(spark, *(row(n, "BUY", 1, price) for n, price in enumerate(prices)))
        (found,) = trade_analytics.build(trades, symbols, hours, 10_000, Decimal(200_000)).collect()
        assert found["price_impact_avg"] == Decimal(impact)


def test_a_position_whose_worth_no_type_holds_has_none(spark: SparkSession) -> None:
    whose = "trader_id string, account_id string, symbol string"
    lot = f"lot_date date, {whose}, side string, price decimal(18,6), quantity long"
    day = NOON.date()
    held = [(day, "TR1", "A1", symbol, "BUY", Decimal("0.000001"), 10**18 - 1) for symbol in ("AAA", "AAA", "BBB")]
    prices = [("AAA", day, Decimal("999999999999.999999")), ("BBB", day, Decimal("0.000002"))]
    closes = frames.of_rows(spark, prices, "symbol string, summary_date date, close_price decimal(18,6)")
    found = portfolio_positions.build(frames.of_rows(spark, held, lot), closes).orderBy("symbol").collect()
    columns = ("quantity", "avg_cost_basis", "market_value", "unrealized_pnl", "unrealized_pnl_pct", "weight_pct")
    cost, pnl = Decimal("0.000001"), Decimal("999999999999.999999")
    assert [tuple(made[name] for name in columns) for made in found] == [
        (2 * 10**18 - 2, cost, None, None, None, Decimal(100)),
        (10**18 - 1, cost, None, pnl, Decimal(100), Decimal(0)),
    ]


def test_a_volume_beyond_its_column_is_null_not_zero(spark: SparkSession) -> None:
    (found,) = summaries(spark, *(row(n, "SELL", 9_000_000_000_000_000_000, "0.0000001") for n in (1, 2)))
    assert (found["buy_volume"], found["sell_volume"], found["total_volume"]) == (0, None, None)


def test_a_holding_time_is_rounded_once(spark: SparkSession) -> None:
    """1 share for 0.499999 s and 2 for 0.5 s are 0.499999666… s: none, and not what 0.5 would be."""
    (found,) = performance(
        spark,
        row(1, "BUY", 3, "10", at=NOON),
        row(2, "SELL", 1, "11", at=NOON + timedelta(microseconds=499_999)),
        row(3, "SELL", 2, "11", at=NOON + timedelta(microseconds=500_000)),
    )
    assert (found["avg_hold_time_sec"], found["realized_pnl"]) == (0, Decimal(3))
    (half,) = performance(
        spark, row(1, "BUY", 3, "10", at=NOON), row(2, "SELL", 3, "11", at=NOON + timedelta(milliseconds=500))
    )
    assert half["avg_hold_time_sec"] == 1


def test_a_profit_beyond_its_column_is_null_and_none_at_all_is_zero(spark: SparkSession) -> None:
    def day(symbol: str, first: int) -> list[dict[str, Any]]:
        return [
            row(first, "BUY", 900_000, "0.000001", symbol=symbol, at=NOON),
            row(first + 1, "SELL", 900_000, "1000000", symbol=symbol, at=NOON + timedelta(seconds=9)),
        ]

    beyond = [*day("A", 1), *day("B", 3)]
    found = {made["trader_id"]: made for made in performance(spark, *beyond, row(9, "BUY", 1, "2", trader="TR2"))}
    assert {trader: made["realized_pnl"] for trader, made in found.items()} == {"TR1": None, "TR2": Decimal(0)}
    assert [found["TR2"][name] for name in ("win_rate", "avg_hold_time_sec", "sharpe_ratio")] == [None, None, None]


def exchange(code: str, mic: str | None, timezone: str | None) -> dict[str, Any]:
    hours = {"market_open_time": "09:30", "market_close_time": "15:00"}
    return {"exchange_code": code, "mic": mic, "timezone": timezone, **hours}


def trading_days(listed: dict[str, Any], first: date, last: date) -> set[date]:
    opened = {row[4].date() for row in market_hours.hours([listed], first, last)}
    return {day for day in opened if first <= day <= last}


def test_a_day_is_the_same_however_long_the_range_that_was_asked_for() -> None:
    """Shanghai's calendar ends with 2026; its National Day of 2025 stays a holiday for a range that goes on."""
    shanghai, holiday = exchange("SSE", "XSHG", "Asia/Shanghai"), date(2025, 10, 1)
    assert trading_days(shanghai, holiday, holiday) == set()
    long = trading_days(shanghai, date(2025, 9, 30), date(2027, 1, 5))
    assert holiday not in long
    assert {date(2025, 9, 30), date(2026, 12, 31), date(2027, 1, 5)} <= long  # behind its end: weekdays
    assert date(2027, 1, 3) not in long
    for day, trades in ((date(2026, 12, 31), True), (date(2027, 1, 1), True), (date(2027, 1, 2), False)):
        assert trading_days(shanghai, day, day) == ({day} if trades else set())


def test_an_exchange_that_shares_anothers_days_has_its_holidays() -> None:
    found = trading_days(exchange("IEX", "IEXG", "America/New_York"), date(2025, 7, 3), date(2025, 7, 4))
    assert found == {date(2025, 7, 3)}


def test_the_calendars_of_other_weeks_and_easters_open_too() -> None:
    """Tel Aviv traded on Sundays; Bucharest's Easter Monday is the Orthodox one."""
    asked = date(2025, 4, 17), date(2025, 4, 22)
    trading = {mic: trading_days(exchange(mic, mic, None), *asked) for mic in ("XTAE", "XBSE")}
    assert trading == {
        "XTAE": {date(2025, 4, day) for day in (17, 20, 21, 22)},
        "XBSE": {date(2025, 4, day) for day in (17, 22)},
    }


def test_a_session_that_opens_on_the_evening_before_is_regular_from_then_on(spark: SparkSession) -> None:
    """Chicago's Monday begins on Sunday at 17:00, its Tuesday on Monday."""
    hours = market_hours.hours([exchange("CME", "CMES", "America/Chicago")], date(2025, 6, 6), date(2025, 6, 10))
    asked = ["06-06T21:59", "06-06T22:00", "06-07T05:00", "06-08T21:59", "06-08T22:00", "06-09T21:59", "06-09T22:00"]
    times = [datetime.fromisoformat(f"2025-{text}:00+00:00") for text in asked]
    trades = frames.of_rows(
        spark, [("CME", at.date(), at) for at in times], "exchange string, trade_date date, trade_timestamp timestamp"
    )
    found = market_hours.with_session(trades, frames.of_rows(spark, hours, market_hours.HOURS)).orderBy(
        "trade_timestamp"
    )
    assert [made["market_session"] for made in found.collect()] == [
        "REGULAR", "AFTER_HOURS", "CLOSED", "CLOSED", "REGULAR", "REGULAR", "REGULAR",
    ]  # fmt: skip


def test_trades_settle_by_the_row_of_their_exchange_and_instant_and_not_without_one(spark: SparkSession) -> None:
    nyse = {**exchange("NYSE", "XNYS", "America/New_York"), "settlement_days": 1}
    days = [(date(2025, 6, 6), date(2025, 6, 7)), (date(2025, 7, 4), date(2025, 7, 4))]
    settlements = frames.of_rows(spark, market_hours.settlements([nyse], days), market_hours.SETTLEMENTS)
    asked = [
        ("NYSE", "2025-06-06T03:59:59.999999", "2025-06-06"),  # Thursday evening in New York
        ("NYSE", "2025-06-06T04:00:00", "2025-06-09"),
        ("NYSE", "2025-06-07T03:59:59", "2025-06-09"),
        ("NYSE", "2025-06-07T04:00:00", "2025-06-10"),
        ("NYSE", "2025-07-04T23:00:00", "2025-07-08"),
        ("MARS", "2025-06-06T15:00:00", None),
    ]
    schema = "exchange string, trade_date date, trade_timestamp timestamp"
    settled = [
        (code, date.fromisoformat(when[:10]), datetime.fromisoformat(f"{when}+00:00"), day and date.fromisoformat(day))
        for code, when, day in asked
    ]
    trades = frames.of_rows(spark, [row[:3] for row in settled], schema)
    found = market_hours.with_settlement_date(trades, settlements)
    assert_df_equality(found, frames.of_rows(spark, settled, f"{schema}, settlement_date date"), ignore_row_order=True)


def test_without_a_timezone_the_calendars_own_counts() -> None:
    """Sydney's Monday begins on the UTC Sunday."""
    found = market_hours.hours([exchange("ASX", "XASX", None)], date(2025, 1, 12), date(2025, 1, 12))
    monday = datetime(2025, 1, 12, 13, tzinfo=UTC)
    assert (date(2025, 1, 12), monday) in {(row[1], row[2]) for row in found}
