"""Every reason code of the silver layer, every silver column, and the whole of it against the oracle."""

import json
import os
import random
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from chispa import assert_df_equality
from pyspark.sql import Row, SparkSession

from lakehouse_spark.lake import frames
from lakehouse_spark.transforms import drift
from tests.support import in_memory, silver_oracle
from tests.support.hostile_records import hostile_records
from tests.support.lake import bar, book, trade

Cases = list[tuple[bytes | None, list[str]]]


def refused_as_expected(spark: SparkSession, topic: str, cases: Cases) -> None:
    rows = in_memory.judged(spark, topic, in_memory.records_of(payload for payload, _ in cases))
    found = [row["_reasons"] for row in rows.orderBy("_source_offset").collect()]
    named = [(payload, reasons) for (payload, _), reasons in zip(cases, found, strict=True)]
    assert named == cases


COMMON: Cases = [
    (None, ["tombstone"]),
    (b"", ["malformed_json"]),
    (b"[]", ["malformed_json"]),
    (b'{"symbol": "\xff"}', ["invalid_encoding"]),
    (b"\xff", ["invalid_encoding"]),
]

TRADES: Cases = [
    (trade(), []),
    (trade(account_id="A1", status="PARTIAL", commission="0.25", venue={"x": [1]}), []),
    (trade(account_id=None, status="", commission=" "), []),
    (trade(symbol=" brk.b\u00a0", trade_type="sell", order_type=" Stop\t", exchange="nyse", status="cancelled"), []),
    (trade(commission=-0.5), []),
    (
        b"{}",
        [
            "missing_exchange", "missing_order_type", "missing_price", "missing_quantity", "missing_symbol",
            "missing_timestamp", "missing_trade_id", "missing_trade_type", "missing_trader_id",
        ],
    ),
    (trade(trade_id=...), ["missing_trade_id"]),
    (trade(trade_id=" \u00a0"), ["missing_trade_id"]),
    (trade(trade_id=True), ["invalid_trade_id"]),
    (trade(trader_id=None), ["missing_trader_id"]),
    (trade(trader_id=["TR1"]), ["invalid_trader_id"]),
    (trade(symbol=""), ["missing_symbol"]),
    (trade(symbol={}), ["invalid_symbol"]),
    (trade(symbol="-A"), ["invalid_symbol"]),
    (trade(symbol="A B"), ["invalid_symbol"]),
    (trade(symbol="AAPL\nX"), ["invalid_symbol"]),
    (trade(symbol="\u00c5BC"), ["invalid_symbol"]),
    (trade(symbol="\u0131BM"), ["invalid_symbol"]),
    (trade(symbol="T\ufb01"), ["invalid_symbol"]),
    (trade(trade_type="\u017fell"), ["invalid_trade_type"]),
    (trade(order_type="\u017ftop"), ["invalid_order_type"]),
    (trade(exchange="ly\u017fe"), ["unknown_exchange"]),
    (trade(exchange="l\u017fe"), ["unknown_exchange"]),
    (trade(status="Canceled"), []),
    (trade(status="part\u0131al"), ["invalid_status"]),
    (trade(symbol="A23456789.12-45"), []),
    (trade(symbol="A23456789.12-456"), ["invalid_symbol"]),
    (trade(symbol=7), []),
    (trade(price=...), ["missing_price"]),
    (trade(price="12,5"), ["invalid_price"]),
    (trade(price=0), ["invalid_price"]),
    (trade(price=-1), ["invalid_price"]),
    (trade(price="0.00000049999"), ["invalid_price"]),
    (trade(price="0.0000005"), []),
    (trade(price=True), ["invalid_price"]),
    (trade(price="999999999999.9999995", quantity=1), ["invalid_price"]),
    (trade(price="999999999999.9999994", quantity=1), []),
    (trade(price="500000000000", quantity=2), ["value_overflow"]),
    (trade(price="499999999999.9999995", quantity=2), ["value_overflow"]),
    (trade(price="499999999999.9999994", quantity=2), []),
    (trade(price="0.000001", quantity=9223372036854775807), ["value_overflow"]),
    (trade(price="999999999999", quantity=0), ["invalid_quantity"]),
    (trade(quantity=None), ["missing_quantity"]),
    (trade(quantity=0), ["invalid_quantity"]),
    (trade(quantity=-100), ["invalid_quantity"]),
    (trade(quantity=1.5), ["invalid_quantity"]),
    (trade(quantity="1e2"), []),
    (trade(quantity=9223372036854775808), ["invalid_quantity"]),
    (trade(trade_type="HOLD"), ["invalid_trade_type"]),
    (trade(trade_type=1), ["invalid_trade_type"]),
    (trade(order_type="ICEBERG"), ["invalid_order_type"]),
    (trade(status="DONE"), ["invalid_status"]),
    (trade(status=False), ["invalid_status"]),
    (trade(account_id=[]), ["invalid_account_id"]),
    (trade(commission="free"), ["invalid_commission"]),
    (trade(commission="1e12"), ["invalid_commission"]),
    (trade(exchange="XXXX"), ["unknown_exchange"]),
    (trade(exchange=None), ["missing_exchange"]),
    (trade(exchange=False), ["invalid_exchange"]),
    (trade(timestamp=""), ["missing_timestamp"]),
    (trade(timestamp="2025-01-15"), ["invalid_timestamp"]),
    (trade(timestamp="2025-06-02T12:05:00.250000Z"), []),
    (trade(timestamp="2025-06-02T12:05:00.250001Z"), ["future_timestamp"]),
    (trade(timestamp="2025-06-02T12:05:00.2500009Z"), []),
    (trade(timestamp="9999-12-31T00:00:00Z"), ["future_timestamp"]),
    (trade(timestamp="2000-01-01T00:00:00Z"), []),
    (trade(timestamp="1999-12-31T23:59:59.999999Z"), ["ancient_timestamp"]),
    (trade(timestamp="2000-01-01T00:59:59+01:00"), ["ancient_timestamp"]),
    (trade(timestamp=0), ["ancient_timestamp"]),
    (
        trade(trade_id=None, symbol="?", price=-1, quantity="x", timestamp=1, exchange="MOON", status="?",
        commission=[]),
        [
            "ancient_timestamp", "invalid_commission", "invalid_price", "invalid_quantity", "invalid_status",
            "invalid_symbol", "missing_trade_id", "unknown_exchange",
        ],
    ),
    *COMMON,
]  # fmt: skip

BOOKS: Cases = [
    (book(), []),
    (book(bids=[]), []),
    (book(asks=[]), []),
    (book(bids=[], asks=[]), ["empty_book"]),
    (book(bids=[[187.5, 0]], asks=[]), ["empty_book"]),
    (book(bids=[[187.5, 0]], asks=[[187.4, 0.0]]), ["empty_book"]),
    (book(bids=[[188, 0], [187, 5]]), []),
    (book(bids=[[187.51, 1]]), ["crossed_book"]),
    (book(bids=[[187.40, 1], [187.52, 1]]), ["crossed_book"]),
    (book(bids=[["187.51", 1]]), ["crossed_book"]),
    (book(bids=[["187.510000000000000000", 1]]), ["crossed_book"]),
    (book(bids=[["18751e-2", 1]]), ["crossed_book"]),
    (book(bids=[["187.510000000000000001", 1]]), ["crossed_book"]),
    (book(bids=[["187.509999999999999999", 1]]), []),
    (book(bids=[["0.00000812", 1]], asks=[["0.00000813", 1]]), []),
    (book(bids=[["8.13e-6", 1]], asks=[["0.00000813", 1]]), ["crossed_book"]),
    (book(bids=[["187.4999999999999999999", 1]]), ["invalid_level"]),
    (book(bids=[["187.49000000000000000000", 1]]), []),
    (book(bids=[["1e-19", 1]]), ["invalid_level"]),
    (book(bids=[["0.0000005", 1]]), []),
    (book(bids=[], asks=[["999999999999.9999994", 1]]), []),
    (book(bids=[], asks=[["999999999999.9999995", 1]]), ["invalid_level"]),
    (book(bids=[], asks=[["1e20", 1]]), ["invalid_level"]),
    (book(bids=...), ["missing_bids"]),
    (book(asks=None), ["missing_asks"]),
    (book(asks=" "), ["missing_asks"]),
    (book(bids="none"), ["invalid_bids"]),
    (book(bids="[[187.5, 1]]"), ["invalid_bids"]),
    (book(asks={"price": 187.5}), ["invalid_asks"]),
    (book(asks=5), ["invalid_asks"]),
    (book(bids=True, asks=[]), ["invalid_bids"]),
    (book(bids=[187.5, 1]), ["invalid_level"]),
    (book(bids=[[187.5]]), ["invalid_level"]),
    (book(bids=[[187.5, 1, 2]]), ["invalid_level"]),
    (book(bids=[[]]), ["invalid_level"]),
    (book(bids=[None]), ["invalid_level"]),
    (book(bids=["[187.5, 1]"]), ["invalid_level"]),
    (book(bids=[{"price": 187.5}]), ["invalid_level"]),
    (book(bids=[[187.4, 1], 5]), ["invalid_level"]),
    (book(bids=[[0, 1]]), ["invalid_level"]),
    (book(bids=[[-1, 0]]), ["invalid_level"]),
    (book(bids=[["0.0000004", 1]]), ["invalid_level"]),
    (book(bids=[["1e12", 1]]), ["invalid_level"]),
    (book(bids=[[187.4, -1]]), ["invalid_level"]),
    (book(bids=[[187.4, 1.5]]), ["invalid_level"]),
    (book(bids=[[187.4, None]]), ["invalid_level"]),
    (book(bids=[[True, 1]]), ["invalid_level"]),
    (book(bids=[["", 1]]), ["invalid_level"]),
    (book(bids=[["~187.4", 1]]), ["invalid_level"]),
    (book(bids=[[" 187.4 ", "1e2"]]), []),
    (book(bids=[[187.4, 9223372036854775807], [187.3, 1]]), ["invalid_level"]),
    (book().replace(b"[187.49, 100]", b"[187.49, 100.00000000000000001]"), ["invalid_level"]),
    (book().replace(b"[187.49, 100]", b"[187.49, 1e-400]"), ["invalid_level"]),
    (book(bids=[[0, 1]], asks=[["x", 1]]), ["invalid_level"]),
    (book(bids=None, asks=[[0, 1]]), ["invalid_level", "missing_bids"]),
    (book(snapshot_time=None), ["missing_snapshot_time"]),
    (book(snapshot_time="2026-01-01T00:00:00Z"), ["future_timestamp"]),
    (book(snapshot_time="1970-01-01T00:00:00Z"), ["ancient_timestamp"]),
    (book(snapshot_time=[1]), ["invalid_snapshot_time"]),
    (book(symbol="a^b", exchange="?", bids=[[188, 1]]), ["crossed_book", "invalid_symbol", "unknown_exchange"]),
    (
        b"{}",
        ["missing_asks", "missing_bids", "missing_exchange", "missing_snapshot_time", "missing_symbol"],
    ),
    *COMMON,
]

BARS: Cases = [
    (bar(), []),
    (bar(vwap=..., trade_count=None), []),
    (bar(interval=" 1H "), []),
    (bar(interval="1D", volume=0), []),
    (bar(interval="1M"), ["invalid_interval"]),
    (bar(interval="5M"), ["invalid_interval"]),
    (bar(open=0, high=0, low=0, close=0), []),
    (bar(low=187.1), ["inconsistent_ohlc"]),
    (bar(low=187.0), []),
    (bar(high=187.4), ["inconsistent_ohlc"]),
    (bar(high="187.4999995"), []),
    (bar(open=190), ["inconsistent_ohlc"]),
    (bar(close=180), ["inconsistent_ohlc"]),
    (bar(close=None, low=200), ["missing_close"]),
    (bar(high="x", low=200), ["invalid_high"]),
    (bar(volume=-1), ["invalid_volume"]),
    (bar(volume=1.5), ["invalid_volume"]),
    (bar(volume=...), ["missing_volume"]),
    (bar().replace(b"12000", b"1e-400"), ["invalid_volume"]),
    (bar(interval="2m"), ["invalid_interval"]),
    (bar(interval=1), ["invalid_interval"]),
    (bar(interval=True), ["invalid_interval"]),
    (bar(interval=""), ["missing_interval"]),
    (bar(vwap="x"), ["invalid_vwap"]),
    (bar(trade_count=1.5), ["invalid_trade_count"]),
    (bar(tick_time="2025-06-02T13:00:00Z"), ["future_timestamp"]),
    (bar(tick_time="1999-12-31T23:59:59Z"), ["ancient_timestamp"]),
    (bar(tick_time="noon"), ["invalid_tick_time"]),
    (bar(exchange="TSE"), ["unknown_exchange"]),
    (bar(low=188, volume=-1, interval="1y"), ["inconsistent_ohlc", "invalid_interval", "invalid_volume"]),
    (
        b"{}",
        [
            "missing_close", "missing_exchange", "missing_high", "missing_interval", "missing_low", "missing_open",
            "missing_symbol", "missing_tick_time", "missing_volume",
        ],
    ),
    *COMMON,
]  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "cases"), [("raw_trades", TRADES), ("raw_orderbook", BOOKS), ("raw_marketdata", BARS)]
)
def test_a_record_is_refused_for_just_these_reasons(spark: SparkSession, topic: str, cases: Cases) -> None:
    refused_as_expected(spark, topic, cases)


def accepted(spark: SparkSession, topic: str, *payloads: bytes) -> Any:
    """The judged records by place, business columns and place alone."""
    rows = in_memory.judged(spark, topic, in_memory.records_of(payloads))
    return rows.drop("_reasons", "_event_time", "_ingested_at", *drift.COLUMNS).orderBy("_source_offset")


def expected(spark: SparkSession, topic: str, *rows: tuple[Any, ...]) -> Any:
    table = in_memory.FEEDS[topic].table
    names = [name for name in table.column_names if not name.startswith("_")]
    kinds = ", ".join(f"`{name}` {table.schema[name].dataType.simpleString()}" for name in names)
    placed = [(*row, "topic", 0, offset) for offset, row in enumerate(rows)]
    return frames.of_rows(spark, placed, f"{kinds}, _source_topic string, _source_partition int, _source_offset long")


NOON = datetime(2025, 1, 15, 15, 30, tzinfo=UTC)


def test_a_trade_is_typed_trimmed_and_valued(spark: SparkSession) -> None:
    found = accepted(
        spark,
        "raw_trades",
        trade(),
        trade(
            trade_id=" T-2 ", symbol="brk.b", price="187.1234565", quantity="1e2", trade_type=" sell",
            order_type="Market",
            trader_id=7, exchange="lse", timestamp="2025-01-15T23:59:59.9999999-01:00", account_id=" A1 ",
            status="partial",
            commission="0.0000005",
        ),
        trade(trade_id="T3").replace(b"187.5", b"123456789.123456499999999999999").replace(b"100", b"8000"),
    )  # fmt: skip
    assert_df_equality(
        found,
        expected(
            spark,
            "raw_trades",
            (
                "T1", "AAPL", Decimal("187.5"), 100, Decimal("18750"), "BUY", "LIMIT", "TR1", "NASDAQ", NOON,
                date(2025, 1, 15), None, "EXECUTED", None,
            ),
            (
                "T-2", "BRK.B", Decimal("187.123457"), 100, Decimal("18712.3457"), "SELL", "MARKET", "7", "LSE",
                datetime(2025, 1, 16, 0, 59, 59, 999_999, tzinfo=UTC), date(2025, 1, 16), "A1", "PARTIAL",
                Decimal("0.000001"),
            ),
            (
                "T3", "AAPL", Decimal("123456789.123456"), 8000, Decimal("987654312987.648"), "BUY", "LIMIT", "TR1",
                "NASDAQ", NOON, date(2025, 1, 15), None, "EXECUTED", None,
            ),
        ),
        ignore_nullable=True, ignore_metadata=True, ignore_column_order=True,
    )  # fmt: skip


def test_a_book_becomes_its_best_levels_and_depths(spark: SparkSession) -> None:
    deep = [[187.40, 7], [187.49, 1], [187.44, 6], [187.45, 5], [187.47, 3], [187.48, 2], [187.46, 4], [187.495, 0]]
    found = accepted(
        spark,
        "raw_orderbook",
        book(),
        book(snapshot_time="2025-01-15T15:30:00.1234567Z", bids=deep, asks=[["187.52", "9"], [187.51, 8], [187.51, 4]]),
        book(exchange=" nyse", bids=[]),
        book(exchange="LSE", asks=[]).replace(b"[187.49, 100]", b"[187.489999499999999999, 1e2]"),
    )
    assert_df_equality(
        found,
        expected(
            spark,
            "raw_orderbook",
            (
                "b5533c4d8e3e29cd9d912c11d26b88ad", "AAPL", NOON, Decimal("187.49"), 100, Decimal("187.51"), 150,
                Decimal("0.02"), 300, 200, "NASDAQ",
            ),
            (
                "8325380d1217c0bf0d9443326418c329", "AAPL", datetime(2025, 1, 15, 15, 30, 0, 123_456, tzinfo=UTC),
                Decimal("187.49"), 1, Decimal("187.51"), 8, Decimal("0.02"), 15, 21, "NASDAQ",
            ),
            (
                "a19adcabf671084886b1ccd6f0c0ba2d", "AAPL",
                NOON, None, None, Decimal("187.51"), 150, None, None, 200, "NYSE",
            ),
            (
                "70431c810bdcbaabd3ee1d15c949492e", "AAPL",
                NOON, Decimal("187.489999"), 100, None, None, None, 300, None, "LSE",
            ),
        ),
        ignore_nullable=True, ignore_metadata=True, ignore_column_order=True,
    )  # fmt: skip


def test_a_bar_is_typed_and_named(spark: SparkSession) -> None:
    found = accepted(
        spark,
        "raw_marketdata",
        bar(),
        bar(
            interval=" 1H",
            open="187.0000005",
            vwap=...,
            trade_count="",
            volume="1.2e4",
            exchange="nasdaq",
            symbol=" aapl ",
        ),
    )
    first = (
        "bd72dbe1cc95bac340129d9f6d1cd94e", "AAPL", NOON, "1m", Decimal("187"), Decimal("188"), Decimal("186.5"),
        Decimal("187.5"), 12000, Decimal("187.3"), 17, "NASDAQ",
    )  # fmt: skip
    second = (
        "903471b3938f689aa44fa5a2688b975d", *first[1:3], "1h", Decimal("187.000001"), *first[5:9], None, None, "NASDAQ",
    )  # fmt: skip
    assert_df_equality(
        found,
        expected(spark, "raw_marketdata", first, second),
        ignore_nullable=True,
        ignore_metadata=True,
        ignore_column_order=True,
    )


# The oracle

RECORDS = 500
ROUNDS = int(os.environ.get("SOAK_ROUNDS", "2"))
TOPICS = ("raw_trades", "raw_orderbook", "raw_marketdata")


@pytest.mark.parametrize("topic", TOPICS)
def test_nasty_records_fare_as_the_oracle_says(spark: SparkSession, topic: str) -> None:
    fare_as_the_oracle_says(spark, topic, seed=20250602)


@pytest.mark.soak
@pytest.mark.parametrize("topic", TOPICS)
def test_nasty_records_of_any_seed_fare_as_the_oracle_says(spark: SparkSession, topic: str) -> None:
    for _ in range(ROUNDS):
        seed = random.SystemRandom().getrandbits(32)
        print(f"{topic}: seed {seed}")
        fare_as_the_oracle_says(spark, topic, seed=seed)


def fare_as_the_oracle_says(spark: SparkSession, topic: str, seed: int) -> None:
    """Bronze byte for byte, and every record's fate, reasons and values."""
    records = in_memory.records_of(hostile_records(topic, RECORDS, seed))
    said = silver_oracle.silver(topic, records, in_memory.EXCHANGES)
    assert min(said.counts.values()) > RECORDS / 30

    rows = in_memory.bronze(spark, topic, records).orderBy("_kafka_offset").collect()
    for record, row in zip(records, rows, strict=True):
        wanted = {name: _arrays(value) for name, value in silver_oracle.bronze(topic, record).items()}
        assert (record.value, _typed(topic, row)) == (record.value, wanted)

    table = in_memory.Table(topic)
    table.apply(spark, records)
    differing = {
        record.value: (table.outcomes[0, record.offset], said.outcomes[0, record.offset])
        for record in records
        if table.outcomes[0, record.offset] != said.outcomes[0, record.offset]
    }
    assert differing == {}
    assert {key: {name: _plain(row[name]) for name in said.rows[key]} for key, row in table.rows.items()} == said.rows


def _typed(topic: str, row: Row) -> dict[str, Any]:
    names = [*silver_oracle.BRONZE[topic], "raw_payload", "_raw_bytes"]
    return {name: _arrays(_plain(row[name]), quoted=name in ("bids", "asks")) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return bytes(value) if isinstance(value, bytearray) else value


def _arrays(value: Any, *, quoted: bool = False) -> Any:
    """Arrays with their numbers as doubles, as bronze's text may print them."""
    if quoted and value is not None:
        value = json.loads(value, parse_int=silver_oracle.Number, parse_float=silver_oracle.Number)
    if isinstance(value, list):
        return [_arrays(part) for part in value]
    if isinstance(value, silver_oracle.Number):
        return float(value)
    return value
