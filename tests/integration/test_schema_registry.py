"""Topics of Avro and of JSON by JSON Schema: the same rows as of plain JSON, and a registry that is late or away."""

import base64
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pyspark.sql import SparkSession

from lakehouse_spark import jars
from lakehouse_spark.bronze import raw_orderbook
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.jobs import rejected, silver_processor
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.local.loopback import free_port
from lakehouse_spark.settings import RegistrySettings, Settings
from lakehouse_spark.silver import orderbook_snapshots
from tests.support import apicurio
from tests.support.lake import TRADE, Lake, arrive, book, trade
from tests.support.schema_registry import Registry, avro, framed, serving

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
TEXTS = ("trade_id", "symbol", "trade_type", "order_type", "trader_id", "exchange")
FIELDS: list[dict[str, Any]] = [
    *({"name": name, "type": "string"} for name in TEXTS),
    {"name": "price", "type": DECIMAL},
    {"name": "quantity", "type": "long"},
    {"name": "timestamp", "type": MICROS},
    {"name": "account_id", "type": ["null", "string"]},
]
TRADES = {"type": "record", "name": "Trade", "fields": FIELDS}
LATER = {"type": "record", "name": "Trade", "fields": [*FIELDS, {"name": "venue", "type": "string"}]}
AT = datetime(2025, 1, 15, 15, 30, 0, 5, tzinfo=UTC)


def values(trade_id: str, price: str, **changes: Any) -> dict[str, Any]:
    return {**TRADE, "trade_id": trade_id, "price": Decimal(price), "timestamp": AT, "account_id": None, **changes}


def as_avro(number: int, schema: object, *given: Any, **changes: Any) -> bytes:
    return avro(number, schema, values(*given, **changes))


def as_json(trade_id: str, price: str, **changes: Any) -> bytes:
    said = trade(trade_id=trade_id, price=0, timestamp="2025-01-15T15:30:00.000005Z", **changes)
    return said.replace(b'"price": 0', f'"price": {price}'.encode())


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as running:
        running.add(1, TRADES)
        yield running


def decoding(lake: Lake, url: str, form: str = "avro", **registry: Any) -> Lake:
    kafka = lake.settings.kafka.model_copy(update={"formats": {"raw_trades": form}})
    ingest = lake.settings.ingest.model_copy(update={"trigger_seconds": 0.2})
    update = {"kafka": kafka, "registry": RegistrySettings(url=url, **registry), "ingest": ingest}
    return Lake(lake.spark, lake.settings.model_copy(update=update))


def letters(lake: Lake) -> list[tuple[Any, ...]]:
    rows = lake.rows("silver._rejected_records", "_kafka_offset", "status", "reasons", "raw_payload")
    return sorted((row[0], row[1], *row[2], row[3]) for row in rows)


def ids(lake: Lake) -> list[str]:
    return [row[0] for row in lake.rows("silver.trades", "trade_id")]


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_same_trades_in_avro_are_the_rows_that_they_are_in_json(
    lake: Lake, spark: SparkSession, registry: Registry, tmp_path: Path
) -> None:
    plain = Lake.new(spark, "127.0.0.1:9", tmp_path / "plain")
    arrive(plain, as_json("T1", "1.50"), as_json("T2", "187.49", venue="XNAS", account_id="A"))
    plain.silver("trades")

    lake = decoding(lake, registry.url)
    registry.add(2, LATER)
    first = as_avro(1, TRADES, "T1", "1.50")
    broken, unknown = framed(1, b"\x02"), as_avro(3, LATER, "T3", "2.25", venue="XLON")
    lake.ingest(
        "raw_trades", first, as_avro(2, LATER, "T2", "187.49", venue="XNAS", account_id="A"), broken, None, b"{}",
        unknown, as_avro(1, TRADES, "T4", "-1.00"),
    )  # fmt: skip

    def rows(of: Lake) -> list[dict[str, Any]]:
        unlike = {"_processed_at", "_source_topic"}
        held = (row.asDict() for row in of.rows("silver.trades", order="trade_id"))
        return [{name: value for name, value in row.items() if name not in unlike} for row in held]

    assert rows(lake) == rows(plain)
    assert [(row["trade_id"], str(row["price"])) for row in rows(lake)] == [("T1", "1.500000"), ("T2", "187.490000")]
    typed = ("trade_id", "price", "quantity", "timestamp")
    bronze, of_plain = (each.rows("bronze.raw_trades", *typed, order="_kafka_offset") for each in (lake, plain))
    assert bronze[:2] == of_plain
    drift = lake.rows("_metadata.payload_drift", "name", "change", "json_type", "records")
    assert [tuple(row) for row in drift] == [("venue", "UNKNOWN", "string", 1)]

    kept = lake.rows("bronze.raw_trades", "raw_payload", "_raw_bytes", order="_kafka_offset")
    assert kept[0]["raw_payload"] == (
        '{"trade_id":"T1","symbol":"AAPL","trade_type":"BUY","order_type":"LIMIT","trader_id":"TR1",'
        '"exchange":"NASDAQ","price":1.50,"quantity":100,"timestamp":"2025-01-15T15:30:00.000005Z"}'
    )
    assert kept[0]["_raw_bytes"] == first
    assert [row["_raw_bytes"] for row in kept][2:6] == [broken, None, b"{}", unknown]
    assert [letter[:4] for letter in letters(lake)[:4]] == [
        (2, "OPEN", "invalid_payload", "invalid_payload: schema 1"), (3, "OPEN", "tombstone", None),
        (4, "OPEN", "invalid_payload", "invalid_payload: not framed"),
        (5, "OPEN", "unknown_schema", "unknown_schema: 3"),
    ]  # fmt: skip
    assert [letter[:3] for letter in letters(lake)[4:]] == [(6, "OPEN", "invalid_price")]


def test_books_whose_levels_are_records_are_the_rows_that_they_are_in_json(
    lake: Lake, spark: SparkSession, registry: Registry, tmp_path: Path
) -> None:
    plain = Lake.new(spark, "127.0.0.1:9", tmp_path / "plain")
    same = {"snapshot_time": "2025-01-15T15:30:00.000005Z", "asks": [[187.52, 50]]}
    arrive(plain, book(bids=[[187.5, 100], [187.49, 9007199254740993]], **same), topic=raw_orderbook.TOPIC)
    plain.silver("orderbook_snapshots")

    level = {"type": "record", "name": "Level", "fields": [
        {"name": "price", "type": DECIMAL}, {"name": "quantity", "type": "long"}, {"name": "orders", "type": "int"},
    ]}  # fmt: skip
    levels = {"type": "array", "items": "Level"}
    fields = [
        {"name": "symbol", "type": "string"}, {"name": "snapshot_time", "type": MICROS},
        {"name": "bids", "type": {"type": "array", "items": level}}, {"name": "asks", "type": ["null", levels]},
        {"name": "exchange", "type": "string"},
    ]  # fmt: skip
    schema = {"type": "record", "name": "Book", "fields": fields}
    registry.add(5, schema)

    def side(*given: tuple[str, int]) -> list[dict[str, Any]]:
        return [{"price": Decimal(price), "quantity": quantity, "orders": 2} for price, quantity in given]

    sent = {"symbol": "AAPL", "snapshot_time": AT, "asks": side(("187.52", 50)), "exchange": "NASDAQ"}
    value = avro(5, schema, {**sent, "bids": side(("187.50", 100), ("187.49", 9007199254740993))})
    kafka = lake.settings.kafka.model_copy(update={"formats": {"raw_orderbook": "avro"}})
    update = {"kafka": kafka, "registry": RegistrySettings(url=registry.url)}
    lake = Lake(lake.spark, lake.settings.model_copy(update=update))
    crossed = avro(5, schema, {**sent, "bids": side(("187.53", 1))})
    worthless = avro(5, schema, {**sent, "bids": side(("0.00", 1))})
    lake.ingest("raw_orderbook", value, crossed, worthless, avro(5, schema, {**sent, "bids": [], "asks": None}))

    (kept, *_) = lake.rows("bronze.raw_orderbook", "raw_payload", "_raw_bytes", "bids", "asks", order="_kafka_offset")
    assert tuple(kept) == (
        '{"symbol":"AAPL","snapshot_time":"2025-01-15T15:30:00.000005Z","exchange":"NASDAQ","bids.orders":[2,2],'
        '"asks.orders":[2],"bids":[[187.50,100],[187.49,9007199254740993]],"asks":[[187.52,50]]}',
        value, "[[187.5,100],[187.49,9007199254740993]]", "[[187.52,50]]",
    )  # fmt: skip
    business = [name for name in orderbook_snapshots.TABLE.column_names if not name.startswith("_")]
    (found,), (wanted,) = (each.rows("silver.orderbook_snapshots", *business) for each in (lake, plain))
    assert found == wanted
    assert (str(found["best_bid_price"]), found["best_bid_qty"]) == ("187.500000", 100)
    assert lake.rejects("raw_orderbook") == [["crossed_book"], ["invalid_level"], ["missing_asks"]]
    drift = lake.rows("_metadata.payload_drift", "name", "change", "json_type", "records", order="name")
    assert [tuple(row) for row in drift] == [
        ("asks.orders", "UNKNOWN", "array", 3), ("bids.orders", "UNKNOWN", "array", 4),
    ]  # fmt: skip


@pytest.mark.soak
def test_a_record_of_an_unknown_schema_counts_once_that_is_known_also_where_all_is_judged_anew(
    lake: Lake, registry: Registry
) -> None:
    lake = decoding(lake, registry.url)
    lake.ingest("raw_trades", as_avro(1, TRADES, "T1", "1.50"), as_avro(3, LATER, "T3", "2.25", venue="XLON"))
    rejected.replay(lake.spark, lake.settings, Selection(reason="unknown_schema"))
    assert [letter[:3] for letter in letters(lake)] == [(1, "OPEN", "unknown_schema")]
    registry.add(3, LATER)
    rejected.replay(lake.spark, lake.settings, Selection(reason="unknown_schema"))
    assert ids(lake) == ["T1", "T3"]
    assert [letter[:3] for letter in letters(lake)] == [(1, "REPLAYED", "unknown_schema")]
    before = lake.content("silver.trades"), lake.content("silver._rejected_records")
    silver_processor.run(lake.spark, lake.settings, ["trades"], rebuild=True)
    assert (lake.content("silver.trades"), lake.content("silver._rejected_records")) == before


@pytest.mark.soak
def test_a_topic_that_is_told_its_format_late_is_read_again(lake: Lake, registry: Registry) -> None:
    lake.ingest("raw_trades", as_avro(1, TRADES, "T1", "1.50"), framed(1, trade(trade_id="T2")), trade(trade_id="T3"))
    assert lake.rejects("raw_trades") == [["schema_registry_framing"], ["schema_registry_framing"]]
    told = decoding(lake, registry.url)
    rejected.replay(told.spark, told.settings, Selection(reason="schema_registry_framing"))
    assert ids(told) == ["T1", "T3"]
    told = decoding(lake, registry.url, "json_schema")
    rejected.replay(told.spark, told.settings, Selection(reason="invalid_payload"))
    assert ids(told) == ["T1", "T2", "T3"]


def test_a_job_waits_for_its_registry_and_goes_on(lake: Lake, registry: Registry) -> None:
    lake = decoding(lake, registry.url, patience_seconds=60)
    registry.status = 503
    lake.produce("raw_trades", as_avro(1, TRADES, "T1", "1.50"))
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lake.bronze, "raw_trades", continuous=True, stop=stop)
        until(lambda: len(registry.asked) >= 2)
        assert not running.done()
        assert lake.rows("bronze.raw_trades") == []
        registry.status = 200
        until(lambda: len(lake.rows("bronze.raw_trades")) == 1)
        lake.produce("raw_trades", as_avro(1, TRADES, "T2", "1.50"))
        until(lambda: len(lake.rows("bronze.raw_trades")) == 2)
        registry.status, asked = 503, len(registry.asked)
        lake.produce("raw_trades", framed(9, b"\0"))
        until(lambda: len(registry.asked) > asked)
        stop.set()
        assert running.result(30)[0].counts == {"records": 2}  # it does not wait where it is to end
    registry.status = 200
    lake.bronze("raw_trades")
    lake.silver("trades")
    assert (ids(lake), lake.rejects("raw_trades")) == (["T1", "T2"], [["unknown_schema"]])


@pytest.mark.soak
def test_a_registry_that_stays_away_loses_nothing(lake: Lake) -> None:
    port = free_port()
    lake = decoding(lake, f"http://127.0.0.1:{port}", patience_seconds=0.5)
    lake.produce("raw_trades", as_avro(1, TRADES, "T1", "1.50"))
    with pytest.raises(
        LakehouseError, match=f"the schema registry at http://127.0.0.1:{port} does not answer: "
    ) as away:
        lake.bronze("raw_trades")
    assert away.value.exit_code == 1
    assert lake.state("bronze.raw_trades").cursor is None
    with serving(port) as registry:
        registry.add(1, TRADES)
        lake.bronze("raw_trades")
        lake.silver("trades")
    assert ids(lake) == ["T1"]


@pytest.mark.soak
def test_a_registry_behind_tls_that_wants_a_password(
    lake: Lake, settings: Settings, spark: SparkSession, tmp_path: Path
) -> None:
    certificate, both = make_certificate(spark, settings, tmp_path)
    with serving(certificate=both) as registry:
        registry.add(1, TRADES)
        registry.authorization = f"Basic {base64.b64encode(b'lake:hush-hush').decode()}"
        url = registry.url.replace("http:", "https:")
        lake.produce("raw_trades", as_avro(1, TRADES, "T1", "1.50"))
        given: dict[str, Any] = {"ca_file": certificate, "credential": SecretStr("lake:hush-hush")}
        for wrong, said in (
            ({**given, "credential": SecretStr("lake:wrong")}, "refuses us"),
            ({**given, "ca_file": None}, "is not trusted: self-signed certificate"),
        ):
            with pytest.raises(LakehouseError, match=f"the schema registry at {url} {said}"):
                decoding(lake, url, **wrong).bronze("raw_trades")
        assert lake.rows("bronze.raw_trades") == []
        decoding(lake, url, **given).bronze("raw_trades")
    assert [row[0] for row in lake.rows("bronze.raw_trades", "trade_id")] == ["T1"]


def make_certificate(spark: SparkSession, settings: Settings, folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1, and a file that has its key too."""
    keytool, store = str(jars.find_java(settings.java).with_name("keytool")), str(folder / "store.p12")
    held = ["-keystore", store, "-storepass", "changeit", "-alias", "it"]
    made = "-genkeypair -storetype PKCS12 -dname CN=registry -keyalg EC -validity 2 -ext san=ip:127.0.0.1"
    subprocess.run([keytool, *made.split(), *held], check=True, capture_output=True)
    told = subprocess.run([keytool, "-exportcert", "-rfc", *held], check=True, capture_output=True, text=True).stdout
    java: Any = spark._jvm
    password = spark.sparkContext._gateway.new_array(java.char, 8)  # type: ignore[union-attr]
    for place, character in enumerate("changeit"):
        password[place] = character
    key = java.java.security.KeyStore.getInstance(java.java.io.File(store), password).getKey("it", password)
    form = java.java.lang.Class.forName("java.security.spec.PKCS8EncodedKeySpec")
    encoded = bytes(java.java.security.KeyFactory.getInstance("EC").getKeySpec(key, form).getEncoded())
    body = base64.encodebytes(encoded).decode()
    certificate, both = folder / "certificate.pem", folder / "both.pem"
    certificate.write_text(told)
    both.write_text(f"{told}-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n")
    return certificate, both


@pytest.mark.soak
def test_apicurio_gives_the_schemas_that_records_name(lake: Lake, settings: Settings, tmp_path: Path) -> None:
    side = {"type": "enum", "name": "Side", "namespace": "com.types", "symbols": ["BUY", "SELL"]}
    fields = [
        {"name": each["name"], "type": "com.types.Side" if each["name"] == "trade_type" else each["type"]}
        for each in FIELDS
    ]
    trades = {"type": "record", "name": "Trade", "namespace": "com.example", "fields": fields}
    to_side = {"name": "com.types.Side", "subject": "types/side", "version": 1}
    with apicurio.serving(settings, tmp_path) as url:
        apicurio.register(url, "types/side", side)
        first = apicurio.register(url, "trades-value", TRADES)
        second = apicurio.register(url, "trades-value", trades, [to_side])
        lake = decoding(lake, url)
        lake.ingest(
            "raw_trades", as_avro(first, TRADES, "T1", "1.50"), avro(second, trades, values("T2", "2.25"), [side]),
            framed(second + 1000, b"\0"), framed(second, b"\0"),
        )  # fmt: skip
    assert [tuple(row) for row in lake.rows("silver.trades", "trade_id", "price", "trade_type")] == [
        ("T1", Decimal("1.5"), "BUY"), ("T2", Decimal("2.25"), "BUY"),
    ]  # fmt: skip
    assert lake.rejects("raw_trades") == [["unknown_schema"], ["invalid_payload"]]
