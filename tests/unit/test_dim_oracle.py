"""The plain-Python oracle of the dimensions, held to examples computed by hand."""

from collections.abc import Iterable
from datetime import date
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

Made = dict[str, Any]

OPEN_END = date(9999, 12, 31)
FIRST_DAY = date(1900, 1, 1)
HASH_A, HASH_B = "0cc175b9c0f1b6a831c399e269772661", "92eb5ffee6ae2fec3ad71c777531578f"  # md5 of "a" and of "b"
PROPERTY = settings(max_examples=50, deadline=None)


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
        "market_open_time": None, "market_close_time": None, "mic": None, "settlement_days": None,
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


# Properties of the oracle itself, on the histories other tests use


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
