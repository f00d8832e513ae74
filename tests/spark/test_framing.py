"""Records in Avro and in JSON by JSON Schema, decoded: their texts are those of the same records in plain JSON."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.ingest import decoding
from lakehouse_spark.lake import frames
from lakehouse_spark.settings import KafkaSettings, RegistrySettings, Settings
from tests.support import in_memory
from tests.support.lake import BOOK, book
from tests.support.schema_registry import Registry, avro, framed, serving

MOMENT = datetime(2025, 1, 15, 15, 30, 0, 123456, tzinfo=UTC)
MILLIS = MOMENT.replace(microsecond=123000)


def optional(kind: object) -> dict[str, Any]:
    return {"type": ["null", kind], "default": None}


def record(**fields: object) -> dict[str, Any]:
    typed = (
        (name, kind if isinstance(kind, dict) and "default" in kind else {"type": kind})
        for name, kind in fields.items()
    )
    return {
        "type": "record",
        "name": "Record",
        "namespace": "com.example",
        "fields": [{"name": n, **k} for n, k in typed],
    }


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2}
SIDE = {"type": "enum", "name": "Side", "symbols": ["BUY", "SELL"]}
ALL = record(
    text="string", price=DECIMAL, tiny={**DECIMAL, "precision": 20, "scale": 8}, amount="double", whole="long",
    small="float", flag="boolean", side=SIDE, millis={"type": "long", "logicalType": "timestamp-millis"},
    micros={"type": "long", "logicalType": "timestamp-micros"},
    local={"type": "long", "logicalType": "local-timestamp-micros"}, day={"type": "int", "logicalType": "date"},
    bids={"type": "array", "items": {"type": "array", "items": "double"}}, note=optional("string"),
    fee=optional(DECIMAL), tags={"type": "map", "values": "string"},
)  # fmt: skip
VALUES: dict[str, Any] = {
    "text": 'Zürich "🎈"', "price": Decimal("1.50"), "tiny": Decimal("0.00000001"), "amount": 187.49, "whole": 2**62,
    "small": 1.5, "flag": True, "side": "SELL", "millis": MILLIS, "micros": MOMENT,
    "local": MOMENT.replace(tzinfo=None), "day": date(2025, 1, 15), "bids": [[187.49, 100.0], [], [187.48, 200.0]],
    "note": None, "fee": Decimal("-0.05"), "tags": {"venue": "XNAS"},
}  # fmt: skip
TEXT = (
    '{"text":"Zürich \\"🎈\\"","price":1.50,"tiny":1E-8,"amount":187.49,"whole":4611686018427387904,"small":1.5,'
    '"flag":true,"side":"SELL","millis":"2025-01-15T15:30:00.123000Z","micros":"2025-01-15T15:30:00.123456Z",'
    '"local":"2025-01-15T15:30:00.123456","day":"2025-01-15","bids":[[187.49,100.0],[],[187.48,200.0]],"fee":-0.05,'
    '"tags":{"venue":"XNAS"}}'
)
OPEN = record(a=optional("string"), b=optional("long"))
ONE = record(a="string")


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as running:
        yield running


def settings_of(registry: Registry, form: str = "avro", topic: str = "raw_trades", **ingest: Any) -> Settings:
    made = Settings(kafka=KafkaSettings(formats={topic: form}), registry=RegistrySettings(url=registry.url))  # type: ignore[dict-item]
    return made.model_copy(update={"ingest": made.ingest.model_copy(update=ingest)})


def texts(
    spark: SparkSession, settings: Settings, values: Sequence[bytes | None], topic: str = "raw_trades"
) -> list[str | None]:
    rows = frames.of_rows(spark, list(enumerate(values)), "place int, value binary")
    text = decoding.text(settings, topic, rows)
    assert text is not None
    return [row[0] for row in rows.select(text.alias("text"), "place").orderBy("place").collect()]


def test_a_record_of_avro_becomes_the_json_that_it_would_have_been(spark: SparkSession, registry: Registry) -> None:
    registry.add(7, ALL)
    (text,) = texts(spark, settings_of(registry), [avro(7, ALL, VALUES)])
    assert text == TEXT


def test_records_of_two_schemas_each_by_its_own(spark: SparkSession, registry: Registry) -> None:
    later = record(a="string", venue=optional("string"), n="int")
    registry.add(1, ONE)
    registry.add(2**31 - 1, later)
    values = [
        avro(1, ONE, {"a": "x"}),
        avro(2**31 - 1, later, {"a": "y", "venue": "XNAS", "n": 2}),
        None,
        avro(1, ONE, {"a": ""}),
    ]
    settings = settings_of(registry)
    assert texts(spark, settings, values) == ['{"a":"x"}', '{"a":"y","venue":"XNAS","n":2}', None, '{"a":""}']
    assert sorted(registry.asked) == ["/schemas/ids/1", "/schemas/ids/2147483647"]
    texts(spark, settings, values)
    assert len(registry.asked) == 2  # what was fetched once is not asked for again


def test_a_record_whose_fields_are_all_null_is_none_that_is_broken(spark: SparkSession, registry: Registry) -> None:
    registry.add(3, OPEN)
    whole = avro(3, OPEN, {"a": None, "b": None})
    assert texts(spark, settings_of(registry), [whole, whole[:-1], whole + b"\0"]) == [
        "{}", "invalid_payload: schema 3", "invalid_payload: schema 3",
    ]  # fmt: skip


def test_no_broken_record_takes_others_with_it(spark: SparkSession, registry: Registry) -> None:
    registry.add(4, ALL)
    whole = avro(4, ALL, VALUES)
    counted = record(a={"type": "array", "items": "null"}, b="bytes")
    registry.add(5, counted)
    registry.add(6, ONE)
    moment = record(at={"type": "long", "logicalType": "timestamp-millis"})
    registry.add(8, moment)
    billion = b"\x80\x80\x80\x80\x08"
    values = {
        whole: TEXT,
        whole[:-1]: "invalid_payload: schema 4",
        whole[:40]: "invalid_payload: schema 4",
        whole[:5]: "invalid_payload: schema 4",
        whole + b"lakehouse record"[:15]: "invalid_payload: schema 4",
        framed(4, b"\xff" * 30): "invalid_payload: schema 4",
        framed(5, billion): "invalid_payload: schema 5",
        framed(5, b"\0" + billion): "invalid_payload: schema 5",
        framed(6, billion + b"abc"): "invalid_payload: schema 6",
        framed(6, b"\x01"): "invalid_payload: schema 6",
        framed(6, b"\x04\xff\xfe"): "invalid_payload: schema 6",  # no UTF-8
        framed(8, b"\xff" * 9 + b"\x01"): "invalid_payload: schema 8",  # beyond all years
        b'{"trade_id": "T1"}': "invalid_payload: not framed",
        b"\0\0\0\0": "invalid_payload: not framed",
        b"": "invalid_payload: not framed",
        framed(99, b"abc"): "unknown_schema: 99",
        framed(2**32 - 1, b"abc"): "unknown_schema: 4294967295",
    }
    assert dict(zip(values, texts(spark, settings_of(registry), list(values)), strict=True)) == values


def test_names_that_differ_in_case_alone_are_no_schema_that_spark_reads(
    spark: SparkSession, registry: Registry
) -> None:
    registry.add(1, record(symbol="string", Symbol="string"))
    registry.add(2, ONE)
    values = [
        avro(1, record(symbol="string", Symbol="string"), {"symbol": "a", "Symbol": "b"}),
        avro(2, ONE, {"a": "x"}),
    ]
    assert texts(spark, settings_of(registry), values) == [
        "invalid_payload: schema 1 cannot be read by Spark", '{"a":"x"}',
    ]  # fmt: skip


def test_a_schema_that_refers_to_others_is_read_with_them(spark: SparkSession, registry: Registry) -> None:
    side = {"type": "enum", "name": "Side", "namespace": "com.types", "symbols": ["BUY", "SELL"]}
    leg = {
        "type": "record", "name": "Leg", "namespace": "com.types",
        "fields": [{"name": "side", "type": "Side"}, {"name": "price", "type": "double"}],
    }  # fmt: skip
    order = record(first="com.types.Leg", second=optional("com.types.Leg"), side="com.types.Side")
    to_side = {"name": "com.types.Side", "subject": "types/side", "version": 1}
    to_leg = {"name": "com.types.Leg", "subject": "leg", "version": 2}
    registry.add(1, "string", subject="leg")
    registry.add(2, side, subject="types/side")
    registry.add(3, leg, [to_side], subject="leg")
    registry.add(4, order, [to_leg, to_side])
    gone = {"name": "com.types.Gone", "subject": "gone", "version": 1}
    registry.add(5, record(a="com.types.Gone"), [gone])
    value = {"first": {"side": "BUY", "price": 1.25}, "second": None, "side": "SELL"}
    assert texts(spark, settings_of(registry), [avro(4, order, value, [side, leg]), framed(5, b"\2a")]) == [
        '{"first":{"side":"BUY","price":1.25},"side":"SELL"}', "unknown_schema: 5",
    ]  # fmt: skip


def test_what_spark_cannot_read_by_a_schema_says_so(spark: SparkSession, registry: Registry) -> None:
    registry.add(1, record(next=optional("com.example.Record")))
    registry.add(2, "string")
    registry.add(3, {"type": "object"}, kind="JSON")
    registry.add(4, record(a={**DECIMAL, "precision": 39}))
    assert texts(spark, settings_of(registry), [framed(number, b"\0") for number in (1, 2, 3, 4)]) == [
        "invalid_payload: schema 1 cannot be read by Spark",
        "invalid_payload: schema 2 is not of a record",
        "invalid_payload: schema 3 is of type JSON",
        "invalid_payload: schema 4 cannot be read by Spark",
    ]


def test_records_larger_than_the_limit_are_kept_and_not_read(spark: SparkSession, registry: Registry) -> None:
    registry.add(1, ONE)
    settings = settings_of(registry, max_record_bytes=8)
    assert texts(spark, settings, [avro(1, ONE, {"a": "12"}), avro(1, ONE, {"a": "123"})]) == [
        '{"a":"12"}', "oversized_record: 9",
    ]  # fmt: skip


def test_json_by_json_schema_is_what_stands_behind_the_frame(spark: SparkSession, registry: Registry) -> None:
    said = json.dumps({"price": 1.50, "note": "🎈"}).encode()
    values = [framed(7, said), framed(7, b"\xff"), said, None, framed(7, b"")]
    assert texts(spark, settings_of(registry, "json_schema"), values) == [
        said.decode(), "invalid_payload: not valid UTF-8", "invalid_payload: not framed", None, "",
    ]  # fmt: skip
    assert registry.asked == []


LEVELS = {"type": "array", "items": {"type": "array", "items": "double"}}
BOOKS = record(symbol="string", snapshot_time=ALL["fields"][8]["type"], bids=LEVELS, asks=LEVELS, exchange="string")


def test_a_book_in_avro_is_judged_as_in_json_and_what_cannot_be_decoded_has_one_reason(
    spark: SparkSession, registry: Registry
) -> None:
    registry.add(1, BOOKS)
    sent = {**BOOK, "snapshot_time": MILLIS}
    crossed = {**sent, "bids": [[187.52, 1.0]]}
    values = [
        *(avro(1, BOOKS, each) for each in (sent, crossed)), framed(1, b"\0"), b"{}", b"\xff", framed(9, b""), None,
        framed(1, b" " * 2000),
    ]  # fmt: skip
    settings = settings_of(registry, topic="raw_orderbook", max_record_bytes=1000)
    rows = frames.of_rows(
        spark,
        [(v, "test", 0, n) for n, v in enumerate(values)],
        "value binary, topic string, partition int, offset long",
    )
    feed, most = in_memory.FEEDS["raw_orderbook"], settings.ingest.max_record_bytes
    bronze = feed.topic.build(rows, in_memory.STAMP, most, decoding.text(settings, "raw_orderbook", rows))
    exchanges = frames.of_rows(spark, [("NASDAQ",)], "exchange_code string")
    found = feed.judge(bronze, exchanges, most).orderBy("_source_offset").collect()
    same = [
        book(snapshot_time="2025-01-15T15:30:00.123Z"),
        book(snapshot_time="2025-01-15T15:30:00.123Z", bids=[[187.52, 1]]),
    ]
    plain = in_memory.judged(spark, "raw_orderbook", in_memory.records_of(same)).orderBy("_source_offset").collect()
    business = [name for name in feed.table.column_names if not name.startswith("_")]
    assert [[row[name] for name in business] for row in found[:2]] == [
        [row[name] for name in business] for row in plain
    ]
    assert found[0]["best_bid_qty"] == 100
    assert [row["_reasons"] for row in found] == [
        [], ["crossed_book"], ["invalid_payload"], ["invalid_payload"], ["invalid_payload"], ["unknown_schema"],
        ["tombstone"], ["oversized_record"],
    ]  # fmt: skip


def levels(*fields: dict[str, Any], name: str = "Level") -> dict[str, Any]:
    return {"type": "array", "items": {"type": "record", "name": name, "fields": [*fields]}}


PRICE, QUANTITY, ORDERS = (
    {"name": "price", "type": DECIMAL}, {"name": "quantity", "type": "long"},
    {"name": "orders", "type": ["null", "int"], "default": None},
)  # fmt: skip


def level(price: str, quantity: int | None, **more: Any) -> dict[str, Any]:
    return {"price": Decimal(price), "quantity": quantity, **more}


def test_levels_that_are_records_become_arrays_digit_by_digit(spark: SparkSession, registry: Registry) -> None:
    sides = record(symbol="string", bids=levels(PRICE, QUANTITY), asks=optional(levels(QUANTITY, PRICE, name="Ask")))
    lone = record(bids=levels(PRICE, QUANTITY))
    texts_ = record(bids=levels({"name": "price", "type": "string"}, {"name": "quantity", "type": "double"}))
    gaps = record(
        bids={
            "type": "array",
            "items": ["null", levels(PRICE, {"name": "quantity", "type": ["null", "long"]})["items"]],
        }
    )
    for number, schema in enumerate((sides, lone, texts_, gaps), 1):
        registry.add(number, schema)
    bids = [level("1.50", 2**62), level("0.01", 0)]
    values = {
        avro(1, sides, {"symbol": "A", "bids": bids, "asks": [level("1.60", 7)]}): (
            '{"symbol":"A","bids":[[1.50,4611686018427387904],[0.01,0]],"asks":[[1.60,7]]}'
        ),
        avro(1, sides, {"symbol": "A", "bids": [], "asks": None}): '{"symbol":"A","bids":[]}',
        avro(2, lone, {"bids": bids[:1]}): '{"bids":[[1.50,4611686018427387904]]}',
        avro(3, texts_, {"bids": [{"price": '1.5",][', "quantity": 1.5}]}): '{"bids":[["1.5\\",][",1.5]]}',
        avro(4, gaps, {"bids": [None, level("1.50", None)]}): '{"bids":[null,[1.50,null]]}',
        avro(2, lone, {"bids": bids})[:-1]: "invalid_payload: schema 2",
    }
    found = texts(spark, settings_of(registry, topic="raw_orderbook"), list(values), "raw_orderbook")
    assert dict(zip(values, found, strict=True)) == values


def test_what_else_a_level_has_stands_in_a_field_of_its_own(spark: SparkSession, registry: Registry) -> None:
    venue = {"name": "venue", "type": "string"}
    more = record(bids=levels(PRICE, ORDERS, QUANTITY, venue), symbol="string")
    registry.add(1, more)
    bids = [level("1.50", 7, orders=3, venue="X"), level("1.49", 8, orders=None, venue="Y")]
    values = [avro(1, more, {"bids": bids, "symbol": "A"}), avro(1, more, {"bids": [], "symbol": "A"})]
    assert texts(spark, settings_of(registry, topic="raw_orderbook"), values, "raw_orderbook") == [
        '{"symbol":"A","bids.orders":[3,null],"bids.venue":["X","Y"],"bids":[[1.50,7],[1.49,8]]}',
        '{"symbol":"A","bids.orders":[],"bids.venue":[],"bids":[]}',
    ]


def test_records_that_are_no_levels_stay_records(spark: SparkSession, registry: Registry) -> None:
    short, other = record(bids=levels(PRICE)), record(rungs=levels(PRICE, QUANTITY), bids="string")
    registry.add(1, short)
    registry.add(2, other)
    values = [
        avro(1, short, {"bids": [{"price": Decimal("1.50")}]}),
        avro(2, other, {"rungs": [level("1.50", 7)], "bids": "no"}),
    ]
    expected = ['{"bids":[{"price":1.50}]}', '{"rungs":[{"price":1.50,"quantity":7}],"bids":"no"}']
    assert texts(spark, settings_of(registry, topic="raw_orderbook"), values, "raw_orderbook") == expected
    sides = record(bids=levels(PRICE, QUANTITY))
    registry.add(3, sides)
    books, trades = (settings_of(registry, topic=topic) for topic in ("raw_orderbook", "raw_trades"))
    value = [avro(3, sides, {"bids": [level("1.50", 7)]})]
    assert texts(spark, books, value, "raw_orderbook") == ['{"bids":[[1.50,7]]}']
    assert texts(spark, trades, value) == ['{"bids":[{"price":1.50,"quantity":7}]}']  # trades have no levels


def test_what_could_not_be_decoded_is_decoded_again_and_nothing_else(spark: SparkSession, registry: Registry) -> None:
    registry.add(1, ONE)
    one, unknown, text = avro(1, ONE, {"a": "x"}), avro(2, ONE, {"a": "y"}), framed(1, b'{"b":1}')
    rows = [
        ("unknown_schema: 1", one, '{"a":"x"}'),
        ("oversized_record: 7", one, '{"a":"x"}'),
        (one.decode(), None, '{"a":"x"}'),  # landed when its topic had no format
        ("unknown_schema: 2", unknown, "unknown_schema: 2"),
        ("invalid_payload: not framed", b"{}", "invalid_payload: not framed"),
        ('{"a":"kept"}', one, '{"a":"kept"}'),
        ('{"plain":1}', None, '{"plain":1}'),
        ("unknown_schema: \ufffd", b"unknown_schema: \xff", "unknown_schema: \ufffd"),  # repaired, of no format
        (None, None, None),
    ]
    given = frames.of_rows(
        spark, [(n, *row[:2]) for n, row in enumerate(rows)], "n int, raw_payload string, _raw_bytes binary"
    )
    found = decoding.again(settings_of(registry), "raw_trades", given).orderBy("n").collect()
    assert [row["raw_payload"] for row in found] == [row[2] for row in rows]
    assert found[2]["_raw_bytes"] == one
    as_text = frames.of_rows(spark, [(0, text.decode(), None), (1, "unknown_schema: 1", text)], given.schema)
    told = decoding.again(settings_of(registry, "json_schema"), "raw_trades", as_text).orderBy("n").collect()
    assert [row["raw_payload"] for row in told] == ['{"b":1}', '{"b":1}']
    assert decoding.again(Settings(), "raw_trades", given) is given
