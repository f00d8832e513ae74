"""The plain-Python oracles of the dimensions and of gold, held to examples computed by hand."""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import histories
from tests.support.dim_oracle import (
    SYMBOL,
    ChangeEvent,
    Version,
    accounts,
    dimension,
    exchanges,
    inferred,
    row_hash,
    scd1,
    scd2,
    scd3,
    value_text,
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
    trade_analytics,
    trader_performance,
)

Made = dict[str, Any]

OPEN_END = date(9999, 12, 31)
FIRST_DAY = date(1900, 1, 1)
HASH_A, HASH_B = "0cc175b9c0f1b6a831c399e269772661", "92eb5ffee6ae2fec3ad71c777531578f"  # md5 of "a" and of "b"
FRIDAY, SUNDAY, MONDAY, TUESDAY = date(2025, 6, 6), date(2025, 6, 8), date(2025, 6, 9), date(2025, 6, 10)


def june(day: int) -> date:
    return date(2025, 6, day)


def change(arrival: int, day: int, value: str | None = None, sequence: int | None = None, **more: Any) -> ChangeEvent:
    """A change of the key K whose tracked column is `t`; `gone` makes it a delete."""
    gone = more.pop("gone", False)
    return ChangeEvent("K", june(day), sequence, arrival, gone, {} if gone else {"t": value, **more})


def spans(events: Iterable[ChangeEvent]) -> list[tuple[Any, ...]]:
    """(value, first day, last day or None where open) of each version; current where open."""
    found = scd2(events, ["t"])
    assert all(version.is_current == (version.expiry_date == OPEN_END) for version in found)
    return [
        (v.attributes["t"], v.effective_date.day, None if v.expiry_date == OPEN_END else v.expiry_date.day)
        for v in found
    ]


# SCD2


def test_a_change_ends_the_version_before_it_the_day_before() -> None:
    assert scd2([change(0, 1, "a"), change(1, 5, "b")], ["t"]) == [
        Version("K", june(1), june(4), False, {"t": "a"}, HASH_A),
        Version("K", june(5), OPEN_END, True, {"t": "b"}, HASH_B),
    ]


def test_a_late_change_takes_its_place_between_the_others() -> None:
    assert spans([change(0, 1, "a"), change(1, 9, "b"), change(2, 5, "c")]) == [
        ("a", 1, 4), ("c", 5, 8), ("b", 9, None),
    ]  # fmt: skip
    assert spans([change(0, 5, "a"), change(1, 1, "b")]) == [("b", 1, 4), ("a", 5, None)]


def test_a_late_change_may_join_and_may_part_equal_neighbours() -> None:
    assert spans([change(0, 1, "a"), change(1, 5, "a"), change(2, 9, "a")]) == [("a", 1, None)]
    assert spans([change(0, 1, "a"), change(1, 9, "a"), change(2, 5, "b")]) == [
        ("a", 1, 4), ("b", 5, 8), ("a", 9, None),
    ]  # fmt: skip
    assert spans([change(0, 1, "a"), change(1, 5, "b"), change(2, 9, "a"), change(3, 5, "a")]) == [("a", 1, None)]


def test_a_delete_leaves_no_current_version_and_a_re_insert_leaves_the_gap() -> None:
    deleted = [change(0, 1, "a"), change(1, 5, gone=True)]
    assert spans(deleted) == [("a", 1, 4)]
    assert spans([*deleted, change(2, 9, "a")]) == [("a", 1, 4), ("a", 9, None)]
    assert spans([*deleted, change(2, 9, "a"), change(3, 5, "b")]) == [("a", 1, 4), ("b", 5, 8), ("a", 9, None)]


def test_a_delete_of_nothing_is_nothing() -> None:
    assert spans([change(0, 1, gone=True)]) == []
    assert spans([change(0, 1, gone=True), change(1, 5, "a"), change(2, 7, gone=True), change(3, 8, gone=True)]) == [
        ("a", 5, 6)
    ]


def test_the_last_change_of_a_date_wins_by_sequence_then_by_arrival() -> None:
    assert spans([change(0, 1, "a"), change(1, 1, "b")]) == [("b", 1, None)]
    assert spans([change(0, 1, "a", sequence=2), change(1, 1, "b", sequence=1)]) == [("a", 1, None)]
    assert spans([change(0, 1, "a", sequence=1), change(1, 1, "b", sequence=1)]) == [("b", 1, None)]
    assert spans([change(0, 1, "a", sequence=-1), change(1, 1, "b")]) == [("a", 1, None)]


def test_a_delete_takes_part_in_the_tie_of_its_date() -> None:
    assert spans([change(0, 1, "a"), change(1, 1, gone=True)]) == []
    assert spans([change(0, 1, gone=True), change(1, 1, "a")]) == [("a", 1, None)]
    assert spans([change(0, 1, "a"), change(1, 5, "b", sequence=1), change(2, 5, gone=True)]) == [
        ("a", 1, 4), ("b", 5, None),
    ]  # fmt: skip
    assert spans([change(0, 1, "a"), change(1, 5, "b"), change(2, 5, gone=True)]) == [("a", 1, 4)]


def test_an_untracked_attribute_is_the_last_in_every_version() -> None:
    events = [
        change(0, 1, "a", u=1), change(1, 9, "b", u=3), change(2, 5, "a", u=2), change(3, 20, gone=True),
    ]  # fmt: skip
    assert [(v.effective_date.day, v.attributes) for v in scd2(events, ["t"], ["u"])] == [
        (1, {"t": "a", "u": 3}),
        (9, {"t": "b", "u": 3}),
    ]
    assert [v.attributes["u"] for v in scd2([*events, change(4, 9, "b", u=None)], ["t"], ["u"])] == [None, None]
    assert [v.attributes["u"] for v in scd2([*events, change(4, 25, "b", u=5)], ["t"], ["u"])] == [5, 5, 5]


# Row hashes: digests of the texts beside them, by md5sum


def test_a_row_hash_escapes_bars_and_backslashes_and_tells_null_from_nothing() -> None:
    written = {"c": "back\\slash", "a": "x|y", "b": None, "untracked": 1}
    assert row_hash(written, ["c", "b", "a"]) == "96f714f932fdbb8d3cc3d3e8888cfffe"  # x\|y|<NUL>|back\\slash
    assert row_hash({"t": None}, ["t"]) == row_hash({}, ["t"]) == "93b885adfe0da089cdf634904fd59f71"  # <NUL>
    assert row_hash({"t": ""}, ["t"]) == "d41d8cd98f00b204e9800998ecf8427e"
    assert row_hash({"a": "x|", "b": "y"}, ["a", "b"]) != row_hash({"a": "x", "b": "|y"}, ["a", "b"])


def test_a_row_hash_writes_values_as_spark_does() -> None:
    values = {"a": 7, "b": True, "c": Decimal("1.50"), "d": date(2025, 1, 2)}
    assert row_hash(values, values) == "f52f9df19b3223ddedb5fdcd225928c7"  # 7|true|1.50|2025-01-02
    assert value_text(Decimal("1E+3")) == "1000"
    assert value_text(Decimal("0E-8")) == "0.00000000"
    with pytest.raises(TypeError, match=r"got 1\.5"):
        value_text(1.5)


# SCD1 and SCD3


def test_scd1_keeps_the_last_row_and_a_delete_keeps_it_too() -> None:
    events = [change(0, 5, "a", x=1), change(1, 1, "b", x=2), change(2, 9, gone=True)]
    assert scd1(events, ["t", "x"]) == {"K": {"t": "a", "x": 1}}
    assert scd1([*events, change(3, 5, None, x=3)], ["t", "x"]) == {"K": {"t": None, "x": 3}}
    assert scd1([change(0, 1, gone=True)], ["t"]) == {}


def account(arrival: int, day: int, tier: str | None = None, status: str | None = None, **more: Any) -> ChangeEvent:
    sequence, gone = more.pop("sequence", None), more.pop("gone", False)
    return ChangeEvent("AC1", june(day), sequence, arrival, gone, {"tier": tier, "status": status, **more})


def tier_of(*events: ChangeEvent) -> tuple[Any, Any, Any]:
    row = scd3(events)["AC1"]
    return row["current_tier"], row["previous_tier"], row["tier_change_date"]


def test_scd3_takes_runs_as_one_and_null_as_no_statement() -> None:
    gold = account(0, 1, "GOLD")
    assert tier_of(gold) == ("GOLD", None, None)
    assert tier_of(gold, account(1, 2), account(2, 3, "GOLD")) == ("GOLD", None, None)
    assert tier_of(gold, account(1, 3, "SILVER"), account(2, 5), account(3, 7, "SILVER")) == (
        "SILVER", "GOLD", june(3),
    )  # fmt: skip
    assert tier_of(gold, account(1, 3, "SILVER"), account(2, 5, "GOLD")) == ("GOLD", "SILVER", june(5))
    assert tier_of(account(0, 1)) == (None, None, None)


def test_scd3_orders_by_date_then_sequence_then_arrival() -> None:
    gold, silver = account(0, 5, "GOLD"), account(1, 1, "SILVER")
    assert tier_of(gold, silver) == ("GOLD", "SILVER", june(5))
    assert tier_of(account(0, 1, "GOLD", sequence=2), account(1, 1, "SILVER", sequence=1)) == (
        "GOLD", "SILVER", june(1),
    )  # fmt: skip


def test_scd3_pairs_change_apart_and_a_delete_states_nothing() -> None:
    events = [
        account(0, 1, "GOLD", "ACTIVE", trader_id="TR1", account_open_date=june(1), account_type="CASH"),
        account(1, 5, None, "CLOSED", trader_id="TR1", account_open_date=june(1), account_type="IRA"),
        account(2, 9, "SILVER", "ACTIVE", trader_id="TR9", gone=True),
    ]
    assert accounts(events) == [
        {
            "account_id": "AC1", "trader_id": "TR1", "account_open_date": june(1), "account_type": "IRA",
            "current_tier": "GOLD", "previous_tier": None, "tier_change_date": None,
            "current_status": "CLOSED", "previous_status": "ACTIVE", "status_change_date": june(5),
        },
    ]  # fmt: skip
    assert accounts(events[2:]) == []


def test_the_exchanges_of_the_log_are_scd1() -> None:
    (row,) = exchanges([ChangeEvent("NYSE", june(1), None, 0, False, {"country": "US"})])
    assert row == {
        "exchange_code": "NYSE", "exchange_name": None, "timezone": None, "country": "US", "currency": None,
        "market_open_time": None, "market_close_time": None, "mic": None,
    }  # fmt: skip


# Inferred members


def inferred_spans(events: Iterable[ChangeEvent], *days: date) -> list[tuple[bool, date, date, bool]]:
    found = inferred(scd2(events, ["t"]), [("K", day) for day in days], ["t"])
    return [(version.is_inferred, version.effective_date, version.expiry_date, version.is_current) for version in found]


def test_a_fact_of_an_unknown_key_gets_a_member_for_ever() -> None:
    assert dimension(SYMBOL, [], [("AAA", june(5)), ("AAA", june(1))]) == [
        {
            "symbol": "AAA", "company_name": "AAA", "sector": None, "industry": None, "market_cap_category": None,
            "listing_exchange": None, "ipo_date": None, "effective_date": FIRST_DAY, "expiry_date": OPEN_END,
            "is_current": True, "is_inferred": True,
            "_row_hash": "ea74ff61f708bc341710c25a537a3ea2",  # AAA|<NUL>|<NUL>|<NUL>|<NUL>: company_name comes first
        },
    ]  # fmt: skip


def test_the_first_real_change_splits_an_inferred_member() -> None:
    assert inferred_spans([change(0, 5, "a")], june(4), june(5)) == [
        (True, FIRST_DAY, june(4), False),
        (False, june(5), OPEN_END, True),
    ]


def test_a_fact_in_a_gap_gets_a_member_from_expiry_to_the_next_version() -> None:
    gap = [change(0, 1, "a"), change(1, 5, gone=True), change(2, 9, "a")]
    assert inferred_spans(gap, june(7)) == [
        (False, june(1), june(4), False),
        (True, june(5), june(8), False),
        (False, june(9), OPEN_END, True),
    ]
    assert inferred_spans(gap[:2], june(7)) == [(False, june(1), june(4), False), (True, june(5), OPEN_END, True)]
    assert inferred_spans(gap, june(1), june(9)) == [(False, june(1), june(4), False), (False, june(9), OPEN_END, True)]


def test_a_fact_before_all_time_is_refused() -> None:
    with pytest.raises(ValueError, match="fact of 'K': expected a date from 1900-01-01, got 1899-12-31"):
        inferred([], [("K", date(1899, 12, 31))], ["t"])


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
    assert picked(fact_trades(rows, versions, traders), *columns) == [
        ("T1", ("AAA", FIRST_DAY), ("TR1", FIRST_DAY), 202506062359, "NYSE", "0.123457", "CANCELLED"),
        ("T2", ("AAA", june(9)), ("TR1", june(7)), 202506090000, "NYSE", "0.000000", "EXECUTED"),
    ]
    assert picked(fact_trades(rows[:1], versions, traders, Decimal("2.5")), "commission") == [("0.308641",)]


def test_a_fact_without_a_version_is_refused() -> None:
    with pytest.raises(LookupError, match="symbol 'AAA' on 2025-06-06: expected one version, found 0"):
        fact_trades([trade(1, FRIDAY, "10:00", "BUY", 1, "1")], [symbol(since=MONDAY)], [trader()])


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


# Properties of the oracles themselves, on the histories other tests use

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
@given(st.data())
def test_a_dimension_does_not_depend_on_the_order_of_arrival(data: st.DataObject) -> None:
    symbols = data.draw(histories.symbol_changes(ties=False))
    owned = data.draw(histories.account_changes(ties=False))

    assert dimension(SYMBOL, data.draw(histories.reordered(symbols))) == dimension(SYMBOL, symbols)
    assert accounts(data.draw(histories.reordered(owned))) == accounts(owned)


@PROPERTY
@given(histories.histories())
def test_versions_are_disjoint_and_cover_every_fact(history: histories.History) -> None:
    rows = dimension(SYMBOL, history.symbols, history.symbol_facts)
    for name in histories.SYMBOLS:
        of_key = [row for row in rows if row["symbol"] == name]
        assert all(row["effective_date"] <= row["expiry_date"] for row in of_key)
        assert all(before["expiry_date"] < after["effective_date"] for before, after in pairwise(of_key))
        assert [row["is_current"] for row in of_key[:-1]] == [False] * len(of_key[:-1])
    for name, day in history.symbol_facts:
        assert sum(row["symbol"] == name and row["effective_date"] <= day <= row["expiry_date"] for row in rows) == 1


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
