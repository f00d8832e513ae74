"""What of a payload is not as its topic declares it, whatever the payload."""

import json
from collections.abc import Iterable

import pytest
from pyspark.sql import SparkSession

from tests.support import drift_oracle, in_memory
from tests.support.hostile_records import BASES, hostile_records
from tests.support.lake import BOOK, TRADE, book, trade


def named(entry: str) -> tuple[str, str]:
    json_type, _, name = entry.partition(":")
    return name, json_type


def drift_of(spark: SparkSession, topic: str, values: Iterable[bytes | str]) -> list[list[tuple[str, str]] | None]:
    """By payload; None where it is no object."""
    rows = in_memory.judged(spark, topic, in_memory.records_of(values)).orderBy("_source_offset")
    found = rows.select("_has", "_drift").collect()
    return [None if row["_has"] is None else sorted(named(entry) for entry in row["_drift"] or ()) for row in found]


def test_fields_of_other_names_and_kinds_are_named_with_what_they_hold(spark: SparkSession) -> None:
    cases: list[tuple[bytes | str, list[tuple[str, str]] | None]] = [
        (trade(), []),
        (trade(account_id="A", status=None, commission=0.5), []),
        (trade(venue="XNAS", lot=7, weight=1.5, odd=True, tags=["a"], more={"a": 1}, none=None), [
            ("lot", "integer"), ("more", "object"), ("none", "null"), ("odd", "boolean"), ("tags", "array"),
            ("venue", "string"), ("weight", "number"),
        ]),
        (trade(price="187.5"), [("price", "string")]),
        (trade(price="187.5", trader_id=7), [("price", "string"), ("trader_id", "integer")]),
        (trade(timestamp=1736955000000), []),
        (trade(trade_id=True, symbol=["A"], exchange={}), [
            ("exchange", "object"), ("symbol", "array"), ("trade_id", "boolean"),
        ]),
        (trade(symbol=...), []),
        (trade(symbol=["AAPL"]), [("symbol", "array")]),
        (trade(timestamp=["2025-01-15T15:30:00Z"]), [("timestamp", "array")]),
        (trade(timestamp=True), [("timestamp", "boolean")]),
        (trade(timestamp=1736955000000)[:-1] + b', "venue"  : 7}', [("venue", "integer")]),
        (json.dumps({**TRADE, "trader_id": 7}).replace('"price": 187.5', '"price": \t"187.5"'), [
            ("price", "string"), ("trader_id", "integer"),
        ]),
        (trade(**{"n" * 200: 1}), [("n" * 100 + "…", "integer")]),
        (json.dumps({**TRADE, ":": ":"}), [(":", "string")]),
        (json.dumps({**TRADE, "x": "y"}, separators=(",", " : ")), [("x", "string")]),
        (json.dumps({**TRADE, "price": "1", "trader_id": 7}, separators=(",", ":\t")), [
            ("price", "string"), ("trader_id", "integer"),
        ]),
        (json.dumps(TRADE, indent=2), []),
        (json.dumps(TRADE)[:-1] + r', "venu\u0065": 1}', [("venue", "integer")]),
        (json.dumps(TRADE)[:-1] + ', "symbol": "IBM"}', []),
        (json.dumps(TRADE)[:-1] + ', "x": 1, "x": "1", "x": 2}', [("x", "integer"), ("x", "string")]),
        (trade(price=True, quantity=[], commission={}), [
            ("commission", "object"), ("price", "boolean"), ("quantity", "array"),
        ]),
        ("\ufeff" + json.dumps(TRADE), []),
        ("{}", []),
        ("[]", None),
        ("{", None),
    ]  # fmt: skip
    assert drift_of(spark, "raw_trades", [payload for payload, _ in cases]) == [drift for _, drift in cases]
    books: list[bytes | str] = [
        book(),
        book(bids="[]", depth=2),
        json.dumps({**BOOK, "bids": [["1", 2]]}),
        book(asks=5),
        book(symbol=7, bids=[["1", 2]]),
    ]
    assert drift_of(spark, "raw_orderbook", books) == [
        [], [("bids", "string"), ("depth", "integer")], [], [("asks", "integer")],
        [("symbol", "integer")],
    ]  # fmt: skip


@pytest.mark.parametrize("topic", BASES)
def test_of_nasty_records_all_that_is_not_as_declared_is_found(spark: SparkSession, topic: str) -> None:
    texts = []
    for value in hostile_records(topic, 400, 11):
        try:
            texts.append(value.decode() if value else "")
        except UnicodeDecodeError:
            continue
    texts = [text for text in dict.fromkeys(texts) if r"\ud" not in text.lower()]  # half a pair is no character
    compared = 0
    for text, found in zip(texts, drift_of(spark, topic, texts), strict=True):
        if found is not None:
            assert found == drift_oracle.drift(topic, text), text
            compared += 1
    assert compared > 100
