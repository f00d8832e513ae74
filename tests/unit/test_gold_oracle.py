"""The plain-Python oracle of gold, held to examples computed by hand."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import histories
from tests.support.dim_oracle import (
    SYMBOL,
    accounts,
    dimension,
)
from tests.support.gold_oracle import (
    daily_trading_summary,
    default_account,
    differing,
    fact_orderbook,
    fact_trades,
    fifo,
    half_up,
    market_overview,
    portfolio_positions,
    ratio,
    resolved,
    same,
    settlement_date,
    trade_analytics,
    trader_performance,
)

Made = dict[str, Any]

OPEN_END = date(9999, 12, 31)
FIRST_DAY = date(1900, 1, 1)
FRIDAY, SUNDAY, MONDAY, TUESDAY = date(2025, 6, 6), date(2025, 6, 8), date(2025, 6, 9), date(2025, 6, 10)


def june(day: int) -> date:
    return date(2025, 6, day)


def by_the_day(exchange: str, instant: datetime) -> date:
    return instant.date()


# Rows of silver and of the dimensions


def at(day: date, clock: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC)


def trade(number: int, day: date, clock: str, side: str, quantity: int, price: str, **more: Any) -> Made:
    row = {
        "trade_id": f"T{number}",
        "symbol": "AAA",
        "price": Decimal(price),
        "quantity": quantity,
        "total_value": Decimal(price) * quantity,
        "trade_type": side,
        "order_type": "MARKET",
        "trader_id": "TR1",
        "exchange": "NYSE",
        "trade_timestamp": at(day, clock),
        "trade_date": day,
        "account_id": "AC1",
        "status": "EXECUTED",
        "commission": None,
    }
    assert set(more) <= set(row)
    return row | more


def book(number: int, day: date, clock: str, bid: str | None, ask: str | None, **more: Any) -> Made:
    both = bid is not None and ask is not None
    return {
        "snapshot_id": f"S{number}",
        "symbol": "AAA",
        "snapshot_time": at(day, clock),
        "best_bid_price": None if bid is None else Decimal(bid),
        "best_ask_price": None if ask is None else Decimal(ask),
        "spread": Decimal(ask) - Decimal(bid) if both and ask and bid else None,
        "bid_depth_5": None if bid is None else 3,
        "ask_depth_5": None if ask is None else 4,
        "exchange": "NYSE",
        **more,
    }


def symbol(name: str = "AAA", since: date = FIRST_DAY, until: date = OPEN_END, **more: Any) -> Made:
    row = {"company_name": f"{name} Inc", "sector": "Tech", "industry": "Chips", "listing_exchange": "NYSE"}
    return {"symbol": name, **row, "effective_date": since, "expiry_date": until, **more}


def trader(name: str = "TR1", since: date = FIRST_DAY, until: date = OPEN_END, risk: str = "LOW") -> Made:
    row = {"name": f"{name}'s name", "account_type": "ALGORITHMIC", "risk_category": risk}
    return {"trader_id": name, **row, "effective_date": since, "expiry_date": until}


def picked(rows: Iterable[Made], *columns: str) -> list[tuple[Any, ...]]:
    """Columns of each row; decimals as text, so that the scale counts."""
    return [tuple(str(row[c]) if isinstance(row[c], Decimal) else row[c] for c in columns) for row in rows]


CLOSES = ("performance_date", "realized_pnl", "win_rate", "avg_hold_time_sec", "max_drawdown_pct", "sharpe_ratio")
HOLDING = (
    "position_date", "quantity", "avg_cost_basis", "current_price", "market_value", "unrealized_pnl",
    "unrealized_pnl_pct", "weight_pct",
)  # fmt: skip


def closes(trades: Iterable[Made]) -> list[tuple[Any, ...]]:
    return picked(trader_performance(trades, [], [trader()]), *CLOSES)


def holding(trades: Iterable[Made], *columns: str) -> list[tuple[Any, ...]]:
    return picked(portfolio_positions(trades, []), *(columns or HOLDING))


# Numbers


def test_amounts_round_half_up_away_from_zero() -> None:
    assert [str(half_up(Decimal(text), 2)) for text in ("0.125", "-0.125", "0.1249999", "-0.004", "7")] == [
        "0.13", "-0.13", "0.12", "0.00", "7.00",
    ]  # fmt: skip


def test_a_ratio_that_does_not_fit_its_column_is_null() -> None:
    assert str(ratio("sharpe_ratio", 9999.9999994)) == "9999.999999"
    assert ratio("sharpe_ratio", 9999.9999996) is None
    assert ratio("sharpe_ratio", 1e300) is None
    assert str(ratio("win_rate", 2 / 3)) == "0.6667"
    assert str(ratio("weight_pct", -0.00001)) == "0.0000"


def test_only_double_columns_may_differ_by_one_in_the_last_place() -> None:
    row = {"symbol": "AAA", "volatility": Decimal("0.141421"), "vwap": Decimal("1.000000"), "_computed_at": 1}
    assert same(row, {**row, "volatility": Decimal("0.141422"), "_computed_at": 2})
    assert differing(row, {**row, "volatility": Decimal("0.141423")}) == ["volatility"]
    assert differing(row, {**row, "volatility": None, "vwap": Decimal("1.000001")}) == ["volatility", "vwap"]
    assert differing(row, {"symbol": "AAA", "volatility": row["volatility"]}) == ["vwap"]


# Facts


def test_a_trade_fact_names_the_versions_of_its_date_whatever_its_status() -> None:
    versions = [symbol("BBB"), symbol(until=june(8)), symbol(since=june(9))]
    traders = [trader("TR2"), trader(until=june(6)), trader(since=june(7))]
    rows = [
        trade(1, FRIDAY, "23:59:59.999999", "BUY", 1, "1234.565000", status="CANCELLED"),
        trade(2, MONDAY, "00:00", "SELL", 2, "5.000000", commission=Decimal("0.000000")),
    ]
    columns = ("trade_id", "symbol_key", "trader_key", "time_key", "exchange_key", "commission", "status")
    assert picked(fact_trades(rows, versions, traders, by_the_day), *columns) == [
        ("T1", ("AAA", FIRST_DAY), ("TR1", FIRST_DAY), 202506062359, "NYSE", "0.123457", "CANCELLED"),
        ("T2", ("AAA", june(9)), ("TR1", june(7)), 202506090000, "NYSE", "0.000000", "EXECUTED"),
    ]
    assert picked(fact_trades(rows[:1], versions, traders, by_the_day, Decimal("2.5")), "commission") == [("0.308641",)]


def test_a_fact_without_a_version_is_refused() -> None:
    with pytest.raises(LookupError, match="symbol 'AAA' on 2025-06-06: expected one version, found 0"):
        fact_trades([trade(1, FRIDAY, "10:00", "BUY", 1, "1")], [symbol(since=MONDAY)], [trader()], by_the_day)


def test_a_trade_settles_open_days_after_the_local_day_it_counts_to() -> None:
    def settles(instant: datetime, days: int, zone: str = "America/New_York", holiday: date = OPEN_END) -> date:
        return settlement_date(instant, ZoneInfo(zone), days, lambda day: day.weekday() < 5 and day != holiday)

    assert [settles(at(FRIDAY, "15:00"), days) for days in (0, 1, 2)] == [FRIDAY, MONDAY, TUESDAY]
    assert settles(at(SUNDAY, "15:00"), 1) == TUESDAY
    assert settles(at(MONDAY, "03:59"), 0) == MONDAY  # Sunday evening in New York
    assert settles(at(TUESDAY, "03:59"), 0) == MONDAY
    assert settles(at(TUESDAY, "03:59"), 0, zone="Europe/London") == TUESDAY
    assert settles(at(FRIDAY, "15:00"), 1, holiday=MONDAY) == TUESDAY
    assert settles(at(MONDAY, "15:00"), 1, holiday=MONDAY) == june(11)


def test_an_order_book_fact_has_a_mid_price_where_both_sides_are() -> None:
    rows = [book(1, FRIDAY, "10:00:59", "10.000001", "10.000002"), book(2, FRIDAY, "10:01", None, "11.000000")]
    columns = ("snapshot_id", "symbol_key", "time_key", "bid_price", "ask_price", "spread", "bid_depth", "mid_price")
    key = ("AAA", FIRST_DAY)
    assert picked(fact_orderbook(rows, [symbol()]), *columns) == [
        ("S1", key, 202506061000, "10.000001", "10.000002", "0.000001", 3, "10.000002"),
        ("S2", key, 202506061001, None, "11.000000", None, None, None),
    ]


# FIFO lots


def test_a_short_sale_closes_over_two_days() -> None:
    rows = [
        trade(1, MONDAY, "10:00", "SELL", 100, "10"),
        trade(2, MONDAY, "11:00", "BUY", 60, "9"),
        trade(3, TUESDAY, "10:00", "BUY", 40, "12"),
    ]
    # Monday: (10 - 9) * 60 after an hour. Tuesday: (10 - 12) * 40 after a day, 100 * 80 / 480 of the notional.
    assert closes(rows) == [
        (MONDAY, "60.000000", "1.0000", 3_600, "0.0000", None),
        (TUESDAY, "-80.000000", "0.0000", 86_400, "16.6667", None),
    ]
    # (9 - 10) * -40 = 40 on a cost of 400.
    assert holding(rows) == [
        (MONDAY, -40, "10.000000", "9", "-360.000000", "40.000000", "10.0000", "100.0000"),
    ]


def test_a_partial_close_takes_the_oldest_shares_first() -> None:
    rows = [
        trade(1, MONDAY, "10:00", "BUY", 100, "10"),
        trade(2, MONDAY, "10:30", "BUY", 50, "13"),
        trade(3, MONDAY, "11:00", "SELL", 120, "12"),
    ]
    # 100 * 2 - 20 * 1; (100 * 3600 + 20 * 1800) / 120 seconds.
    assert closes(rows) == [(MONDAY, "180.000000", "1.0000", 3_300, "0.0000", None)]
    # 30 shares at 13, now 12: -30 on 390.
    assert holding(rows) == [(MONDAY, 30, "13.000000", "12", "360.000000", "-30.000000", "-7.6923", "100.0000")]


def test_a_trade_may_close_one_side_and_open_the_other() -> None:
    rows = [trade(1, MONDAY, "10:00", "BUY", 30, "13"), trade(2, MONDAY, "10:00:01.500", "SELL", 50, "12")]
    assert closes(rows) == [(MONDAY, "-30.000000", "0.0000", 2, "3.0303", None)]  # 1.5 s; 30 of 990
    assert holding(rows, "quantity", "avg_cost_basis", "unrealized_pnl") == [(-20, "12.000000", "0.000000")]


def test_the_cost_of_several_lots_is_their_mean_and_is_rounded_once() -> None:
    rows = [
        trade(1, MONDAY, "10:00", "BUY", 1, "10.000000"),
        trade(2, MONDAY, "10:01", "BUY", 2, "10.000001"),
    ]
    # 30.000002 / 3 = 10.00000066..; 3 * 10.000001 - 30.000002 = 0.000001, though 10.000001 is the rounded cost.
    assert holding(rows, "avg_cost_basis", "market_value", "unrealized_pnl") == [
        ("10.000001", "30.000003", "0.000001"),
    ]


def test_a_cancelled_opening_trade_leaves_the_other_side_open() -> None:
    rows = [
        trade(1, MONDAY, "10:00", "BUY", 10, "5", status="CANCELLED"),
        trade(2, MONDAY, "11:00", "SELL", 10, "6", status="PARTIAL"),
    ]
    assert closes(rows) == [(MONDAY, "0.000000", None, None, None, None)]
    assert holding(rows, "quantity", "avg_cost_basis") == [(-10, "6.000000")]
    assert closes(rows[:1]) == holding(rows[:1]) == []


def test_a_position_is_carried_over_a_weekend_to_every_day_with_a_trade_anywhere() -> None:
    other = {"symbol": "BBB", "trader_id": "TR2"}
    rows = [
        trade(1, FRIDAY, "10:00", "BUY", 10, "5"),
        trade(2, june(7), "10:00", "BUY", 10, "9", status="CANCELLED"),
        trade(3, SUNDAY, "10:00", "BUY", 1, "100", **other),
        trade(4, MONDAY, "10:00", "SELL", 1, "100", **other),
        trade(5, MONDAY, "10:00", "BUY", 1, "6", trader_id="TR3"),
        trade(6, TUESDAY, "10:00", "SELL", 10, "7"),
    ]
    columns = ("position_date", "trader_id", "quantity", "current_price", "unrealized_pnl")
    assert holding(rows, *columns) == [
        (FRIDAY, "TR1", 10, "5", "0.000000"),
        (SUNDAY, "TR1", 10, "5", "0.000000"),
        (SUNDAY, "TR2", 1, "100", "0.000000"),
        (MONDAY, "TR1", 10, "6", "10.000000"),
        (MONDAY, "TR3", 1, "6", "0.000000"),
        (TUESDAY, "TR3", 1, "7", "1.000000"),
    ]


def test_trades_at_one_instant_are_ordered_by_id() -> None:
    rows = [trade(3, MONDAY, "10:00", "SELL", 1, "7"), trade(2, MONDAY, "10:00", "BUY", 1, "6"),
            trade(1, MONDAY, "10:00", "BUY", 1, "5")]  # fmt: skip
    assert closes(rows) == [(MONDAY, "2.000000", "1.0000", 0, "0.0000", None)]
    assert holding(rows, "avg_cost_basis", "current_price") == [("6.000000", "7")]


def test_a_trader_with_two_accounts_has_lots_in_each() -> None:
    rows = [
        trade(1, MONDAY, "10:00", "BUY", 10, "5"),
        trade(2, MONDAY, "11:00", "SELL", 4, "6", account_id="AC2"),
        trade(3, MONDAY, "12:00", "SELL", 4, "7"),
        trade(4, MONDAY, "13:00", "BUY", 2, "9", symbol="BBB"),
    ]
    assert closes(rows) == [(MONDAY, "8.000000", "1.0000", 7_200, "0.0000", None)]
    # Of AC1: 6 * 7 = 42 and 2 * 9 = 18.
    assert holding(rows, "account_id", "symbol", "quantity", "weight_pct") == [
        ("AC1", "AAA", 6, "70.0000"),
        ("AC1", "BBB", 2, "30.0000"),
        ("AC2", "AAA", -4, "100.0000"),
    ]


def test_a_trade_without_account_is_booked_to_the_one_opened_first() -> None:
    def owned(account_id: str, opened: date | None, trader_id: str | None = "TR1") -> Made:
        return {"account_id": account_id, "trader_id": trader_id, "account_open_date": opened}

    never, late, early, twin = owned("A1", None), owned("A2", june(2)), owned("A4", june(1)), owned("A3", june(1))
    stranger = owned("A0", date(2000, 1, 1), "TR9")
    assert default_account("TR1", [never, late, early, twin, stranger]) == "A3"
    assert default_account("TR1", [never, late, stranger]) == "A2"
    assert default_account("TR1", [never, stranger, owned("A0", None, None)]) == "A1"
    assert default_account("TR1", [stranger]) == "UNKNOWN"
    rows = [trade(1, MONDAY, "10:00", "BUY", 1, "5", account_id=None), trade(2, MONDAY, "10:00", "SELL", 1, "6")]
    assert [row["account_id"] for row in resolved(rows, [late])] == ["A2", "AC1"]


# trader_performance


def test_drawdown_falls_from_the_peak_of_the_days_cumulative_pnl() -> None:
    rows = []
    for number, (price, gain) in enumerate([(10, 10), (10, 30), (60, -25), (10, 5), (60, -40)]):
        rows += [
            trade(2 * number, MONDAY, f"10:0{number}:00", "BUY", 1, str(price)),
            trade(2 * number + 1, MONDAY, f"10:0{number}:30", "SELL", 1, str(price + gain)),
        ]
    (row,) = trader_performance(rows, [], [trader()])
    # Cumulative 10, 40, 15, 20, -20: 60 below the peak. Notional 150 + 130 = 280; 6000 / 280 = 21.42857.
    assert picked([row], "realized_pnl", "win_rate", "avg_hold_time_sec", "max_drawdown_pct", "total_notional") == [
        ("-20.000000", "0.6000", 30, "21.4286", "280.000000"),
    ]


def test_sharpe_is_the_mean_return_of_closing_trades_over_their_deviation() -> None:
    def round_trip(number: int, bought: str, sold: str, quantity: int = 10) -> list[Made]:
        return [
            trade(2 * number, MONDAY, f"10:0{number}", "BUY", quantity, bought),
            trade(2 * number + 1, MONDAY, f"10:0{number}", "SELL", quantity, sold),
        ]

    # Returns 0.1 and 0.3: mean 0.2, deviation 0.1 * sqrt 2.
    assert closes([*round_trip(0, "10", "11"), *round_trip(1, "10", "13")])[0][-1] == "1.414214"
    assert closes(round_trip(0, "10", "11"))[0][-1] is None
    # Three returns of 0.1: as doubles 0.3 / 3 is less than 1.0 / 10, yet there is no deviation.
    assert 0.3 / 3 < 1.0 / 10
    equal = [*round_trip(0, "10", "11", 1), *round_trip(1, "3", "3.3", 1), *round_trip(2, "7", "7.7", 3)]
    assert closes(equal)[0][-1] is None
    # A trade without profit or loss is no win: returns 0.1 and 0.
    even = [*round_trip(0, "10", "11"), *round_trip(1, "10", "10")]
    assert closes(even) == [(MONDAY, "10.000000", "0.5000", 0, "0.0000", "0.707107")]


def test_one_trade_that_closes_two_lots_is_one_closing_trade() -> None:
    rows = [
        trade(1, MONDAY, "10:00", "BUY", 10, "10"),
        trade(2, MONDAY, "10:10", "BUY", 10, "20"),
        trade(3, MONDAY, "10:20", "SELL", 20, "18"),
        trade(4, MONDAY, "10:30", "SELL", 10, "30"),
        trade(5, MONDAY, "10:40", "BUY", 10, "33"),
    ]
    # pnl 80 - 20 = 60 on a cost of 300: r 0.2. Short 10 at 30, bought at 33: pnl -30 on 300: r -0.1.
    # Mean 0.05, deviation 0.3 / sqrt 2 = 0.2121320: 0.2357023. Hold (10*1200 + 10*600 + 10*600) / 30.
    # Drawdown 30 of 100 + 200 + 360 + 300 + 330 = 1290: 2.3256 %.
    assert closes(rows) == [(MONDAY, "30.000000", "0.5000", 800, "2.3256", "0.235702")]


def test_performance_describes_the_trader_as_of_the_day() -> None:
    rows = [
        trade(1, FRIDAY, "10:00", "BUY", 10, "5"),
        trade(2, FRIDAY, "10:00", "BUY", 1, "7", symbol="BBB", account_id="AC2"),
        trade(3, MONDAY, "10:00", "BUY", 1, "5"),
        trade(4, MONDAY, "10:00", "BUY", 1, "5", status="CANCELLED", symbol="BBB"),
    ]
    columns = (
        "trader_name", "account_type", "risk_category", "total_trades", "total_volume", "total_notional",
        "distinct_symbols",
    )  # fmt: skip
    traders = [trader(until=SUNDAY), trader(since=MONDAY, risk="HIGH")]
    assert picked(trader_performance(rows, [], traders), *columns) == [
        ("TR1's name", "ALGORITHMIC", "LOW", 2, 11, "57.000000", 2),
        ("TR1's name", "ALGORITHMIC", "HIGH", 1, 1, "5.000000", 1),
    ]


# daily_trading_summary


def test_a_daily_summary_of_three_trades() -> None:
    rows = [
        trade(1, MONDAY, "10:00", "BUY", 2, "100"),
        trade(2, MONDAY, "10:01", "SELL", 1, "110", exchange="LSE"),
        trade(3, MONDAY, "10:02", "BUY", 4, "99"),
        trade(4, MONDAY, "10:03", "BUY", 4, "500", status="CANCELLED"),
    ]
    books = [
        book(1, MONDAY, "10:00", "10.00", "10.01"),
        book(2, MONDAY, "10:01", "10.00", "10.03", exchange="LSE"),
        book(3, MONDAY, "10:02", None, "10.03"),
        book(4, TUESDAY, "10:02", "10.00", "19.00"),
        book(5, MONDAY, "10:02", "10.00", "19.00", symbol="BBB"),
    ]
    (row,) = daily_trading_summary(rows, books, [symbol()])
    assert row == {
        "summary_date": MONDAY,
        "symbol": "AAA",
        "company_name": "AAA Inc",
        "sector": "Tech",
        "exchange": "NYSE",
        "open_price": Decimal(100),
        "close_price": Decimal(99),
        "high_price": Decimal(110),
        "low_price": Decimal(99),
        "vwap": Decimal("100.857143"),  # 706 / 7
        "total_volume": 7,
        "total_value": Decimal("706.000000"),
        "trade_count": 3,
        "buy_volume": 6,
        "sell_volume": 1,
        "avg_spread": Decimal("0.020000"),
        "price_change_pct": Decimal("-1.0000"),
        "volatility": Decimal("0.141421"),  # of 0.1 and -0.1
    }


def test_the_price_change_is_against_the_latest_earlier_close_else_the_open() -> None:
    rows = [
        trade(1, FRIDAY, "10:00", "BUY", 1, "8"),
        trade(2, FRIDAY, "11:00", "BUY", 1, "10"),
        trade(3, june(7), "11:00", "BUY", 1, "99", status="CANCELLED"),
        trade(4, MONDAY, "10:00", "BUY", 1, "12"),
        trade(5, MONDAY, "11:00", "BUY", 1, "9.666666"),
    ]
    columns = ("summary_date", "price_change_pct", "volatility", "avg_spread")
    assert picked(daily_trading_summary(rows, [], [symbol()]), *columns) == [
        (FRIDAY, "25.0000", None, None),
        (MONDAY, "-3.3333", None, None),
    ]


def test_a_symbol_on_two_exchanges_without_a_listing_takes_the_one_with_the_largest_volume() -> None:
    def exchange_of(*volumes: tuple[str, int], listing: str | None = None) -> str:
        rows = [trade(n, MONDAY, "10:00", "BUY", v, "5", exchange=code) for n, (code, v) in enumerate(volumes)]
        (row,) = daily_trading_summary(rows, [], [symbol(listing_exchange=listing)])
        return str(row["exchange"])

    assert exchange_of(("LSE", 3), ("NYSE", 2), ("NYSE", 2)) == "NYSE"
    assert exchange_of(("NYSE", 4), ("LSE", 4)) == "LSE"
    assert exchange_of(("NYSE", 4), ("LSE", 1), listing="TSE") == "TSE"


def test_the_summary_describes_the_symbol_as_of_the_day() -> None:
    rows = [trade(1, FRIDAY, "10:00", "BUY", 1, "8"), trade(2, MONDAY, "10:00", "BUY", 1, "8")]
    versions = [symbol(until=SUNDAY), symbol(since=MONDAY, company_name="AAA", sector=None, listing_exchange=None)]
    assert picked(daily_trading_summary(rows, [], versions), "company_name", "sector", "exchange") == [
        ("AAA Inc", "Tech", "NYSE"),
        ("AAA", None, "NYSE"),
    ]


# market_overview


def test_an_overview_counts_symbols_by_their_stored_change_and_weighs_their_volatility() -> None:
    rows = [
        trade(1, MONDAY, "10:00", "BUY", 30, "5"),
        trade(2, MONDAY, "10:00", "BUY", 10, "5", symbol="BBB", trader_id="TR2"),
        trade(3, MONDAY, "10:00", "BUY", 50, "5", symbol="CCC"),
        trade(4, MONDAY, "10:00", "BUY", 7, "5", symbol="DDD"),
        trade(5, MONDAY, "10:00", "BUY", 5, "2", exchange="LSE"),
        trade(6, MONDAY, "10:00", "BUY", 5, "2", exchange="TSE", status="CANCELLED"),
    ]
    stored = [
        {"summary_date": MONDAY, "symbol": name, "price_change_pct": Decimal(change), "volatility": volatility}
        for name, change, volatility in (
            ("AAA", "0.0001", Decimal("0.010000")),
            ("BBB", "-3.0000", Decimal("0.050000")),
            ("CCC", "0.0000", None),
            ("DDD", "7.0000", None),
        )
    ]
    books = [
        book(1, MONDAY, "10:00", "10.00", "10.01"),
        book(2, MONDAY, "10:01", "10.00", "10.02", symbol="ZZZ"),
        book(3, MONDAY, "10:02", "10.00", None),
        book(4, MONDAY, "10:02", "10.00", "10.50", exchange="TSE"),
    ]
    columns = (
        "exchange", "total_trades", "total_volume", "total_value", "active_symbols", "active_traders", "advancers",
        "decliners", "unchanged", "avg_spread", "market_volatility_idx",
    )  # fmt: skip
    # (30 * 0.01 + 10 * 0.05) / 40
    assert picked(market_overview(rows, books, stored), *columns) == [
        ("LSE", 1, 5, "10.000000", 1, 1, 1, 0, 0, None, "0.010000"),
        ("NYSE", 4, 97, "485.000000", 4, 2, 2, 1, 1, "0.015000", "0.020000"),
    ]


# trade_analytics


def clock(exchange: str, instant: datetime) -> str:
    return "PRE_MARKET" if instant.hour < 12 else "REGULAR"


def test_price_impact_is_the_signed_return_from_the_trade_before() -> None:
    rows = [
        trade(1, MONDAY, "10:00", "BUY", 1, "100"),
        trade(2, MONDAY, "10:01", "BUY", 1, "110"),
        trade(3, MONDAY, "10:02", "SELL", 1, "99"),
        trade(4, MONDAY, "10:03", "BUY", 1, "99"),
        trade(5, MONDAY, "10:04", "BUY", 1, "500", status="CANCELLED"),
        trade(6, MONDAY, "10:05", "SELL", 1, "50", exchange="LSE"),
        trade(7, MONDAY, "12:00", "SELL", 1, "108.9"),
        trade(8, TUESDAY, "10:00", "BUY", 1, "300"),
    ]
    columns = ("analytics_date", "exchange", "market_session", "trade_count", "price_impact_avg")
    # (0.1 + 0.1 + 0) / 3; the first REGULAR trade follows the last PRE_MARKET one: 99 -> 108.9, sold.
    assert picked(trade_analytics(rows, [symbol()], clock), *columns) == [
        (MONDAY, "LSE", "PRE_MARKET", 1, None),
        (MONDAY, "NYSE", "PRE_MARKET", 4, "0.066667"),
        (MONDAY, "NYSE", "REGULAR", 1, "-0.100000"),
        (TUESDAY, "NYSE", "PRE_MARKET", 1, None),
    ]


def test_large_trades_are_those_at_the_limit_of_either_kind() -> None:
    rows = [
        trade(1, MONDAY, "10:00", "BUY", 10_000, "0.01"),
        trade(2, MONDAY, "10:01", "SELL", 9_999, "20"),
        trade(3, MONDAY, "10:02", "SELL", 1, "200000"),
    ]
    columns = (
        "sector", "industry", "volume", "notional_value", "avg_trade_size", "buy_sell_ratio", "large_trade_count",
        "large_trade_pct",
    )  # fmt: skip
    assert picked(trade_analytics(rows, [symbol()], clock), *columns) == [
        ("Tech", "Chips", 20_000, "400080.000000", "6666.666667", "1.0000", 2, "0.5001"),  # 10001 / 20000 = 0.50005
    ]
    assert picked(trade_analytics(rows[:1], [symbol()], clock, 10_001, Decimal(101)), *columns[5:]) == [
        (None, 0, "0.0000")
    ]


# Properties of the oracle itself, on the histories other tests use

PROPERTY = settings(max_examples=50, deadline=None)


@PROPERTY
@given(histories.trades())
def test_fifo_matches_the_kth_share_bought_with_the_kth_share_sold(rows: list[Made]) -> None:
    rows = [row | {"quantity": row["quantity"] % 7 + 1} for row in rows]
    matches, lots = fifo(rows)

    shares: dict[str, list[Made]] = {"BUY": [], "SELL": []}
    for row in sorted(rows, key=lambda row: (row["trade_timestamp"], row["trade_id"])):
        if row["status"] != "CANCELLED":
            shares[row["trade_type"]] += [row] * row["quantity"]
    pairs = list(zip(shares["BUY"], shares["SELL"], strict=False))
    rest = shares["BUY"][len(pairs) :] + shares["SELL"][len(pairs) :]

    assert sum(match.pnl for match in matches) == sum(sold["price"] - bought["price"] for bought, sold in pairs)
    found = [{match.opening["trade_id"], match.closing["trade_id"]} for match in matches for _ in range(match.shares)]
    by_ids = sorted(sorted(pair) for pair in found)
    assert by_ids == sorted(sorted((bought["trade_id"], sold["trade_id"])) for bought, sold in pairs)
    assert [lot.trade["trade_id"] for lot in lots for _ in range(lot.shares)] == [row["trade_id"] for row in rest]


@PROPERTY
@given(histories.histories())
def test_open_lots_are_buys_less_sells_and_totals_agree(history: histories.History) -> None:
    symbols = dimension(SYMBOL, history.symbols, history.symbol_facts)
    owned = accounts(history.accounts)
    positions = portfolio_positions(history.trades, owned)
    summaries = daily_trading_summary(history.trades, history.books, symbols)
    overview = market_overview(history.trades, history.books, summaries)
    analytics = trade_analytics(history.trades, symbols, histories.session)

    live = [row for row in history.trades if row["status"] != "CANCELLED"]
    net = sum(row["quantity"] if row["trade_type"] == "BUY" else -row["quantity"] for row in live)
    last = max((row["position_date"] for row in positions), default=None)
    closed_flat = last is None or any(row["trade_date"] > last for row in live)
    assert net == (0 if closed_flat else sum(row["quantity"] for row in positions if row["position_date"] == last))
    whole = sum(row["total_value"] for row in live)
    assert whole == sum(row["total_value"] for row in summaries) == sum(row["total_value"] for row in overview)
    assert whole == sum(row["notional_value"] for row in analytics)


@PROPERTY
@given(st.data())
def test_arrivals_lose_nothing(data: st.DataObject) -> None:
    rows = data.draw(histories.trades(max_size=8))
    arriving = data.draw(histories.shuffled_batches(data.draw(histories.statements(rows))))

    held: dict[str, Made] = {}
    for stated in (row for batch in arriving for row in batch):
        before = held.setdefault(stated["trade_id"], stated)
        held[stated["trade_id"]] = max(before, stated, key=lambda row: histories.STATUSES.index(row["status"]))
    assert held == {row["trade_id"]: row for row in rows}
    assert [row for batch in data.draw(histories.batches(rows)) for row in batch] == rows
