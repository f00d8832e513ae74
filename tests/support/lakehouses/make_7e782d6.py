"""Makes `7e782d6.tar.xz`: a small lakehouse with what the rules of that commit let through or refused.

Run with the checkout of that commit on PYTHONPATH: `python make_7e782d6.py HOME`.
`dim_time` is emptied at the end, for its size.
"""

import json
import shutil
import sqlite3
import sys
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from lakehouse_spark import broker, migrations, session
from lakehouse_spark.jobs import (
    bronze_writer,
    dimension_loader,
    fact_loader,
    gold_aggregator,
    rejected,
    silver_processor,
)
from lakehouse_spark.settings import DimTimeSettings, Settings, SparkSettings, load

TRADE = {
    "trade_id": "T1", "symbol": "AAPL", "price": 187.5, "quantity": 100, "trade_type": "BUY", "order_type": "LIMIT",
    "trader_id": "TR1", "exchange": "NASDAQ", "timestamp": "2025-01-15T15:30:00Z",
}  # fmt: skip
BOOK = {
    "symbol": "AAPL", "snapshot_time": "2025-01-15T15:30:00Z", "bids": [[187.49, 100]], "asks": [[187.51, 150]],
    "exchange": "NASDAQ",
}  # fmt: skip
BAR = {
    "symbol": "AAPL", "tick_time": "2025-01-15T15:30:00Z", "open": 187.0, "high": 188.0, "low": 186.5, "close": 187.5,
    "volume": 12000, "interval": "1m", "exchange": "NASDAQ", "vwap": 187.3, "trade_count": 17,
}  # fmt: skip


def record(base: Mapping[str, Any], **changes: Any) -> bytes:
    return json.dumps({**base, **changes}).encode()


TRADES = (
    record(TRADE),
    record(TRADE, trade_id="T2", trade_type="SELL", quantity=40, price=188, timestamp="2025-01-15T16:00:00Z"),
    record(TRADE, trade_id="T3", symbol="\u0131BM", price=10),
    record(TRADE, trade_id="T4", symbol="IBM", price=11, timestamp="2025-01-15T15:31:00Z"),
    record(TRADE, trade_id="X\ud800", price=20),
    record(TRADE, trade_id="X\ud801", price=20),
    record(TRADE, trade_id="T5", trader_id="TR2", quantity=7),
    record(TRADE, trade_id="T5", trader_id="TR2", quantity=7, status="Canceled"),
    record(TRADE, trade_id="T6", trader_id="TR2", quantity=8),
    record(TRADE, trade_id="T6", trader_id="TR2", quantity=8, status="CANCELLED", timestamp="2025-01-17T15:30:00Z"),
    record(TRADE, trade_id="T7", exchange="NOHOURS", price=5, timestamp="2025-01-15T17:00:00Z"),
    record(TRADE, trade_id="T8", exchange="BADTZ", price=6, timestamp="2025-01-15T17:00:00Z"),
    b"\x00\x00\x00\x00\x07" + record(TRADE, trade_id="T9"),
    b"\xef\xbb\xbf" + record(TRADE, trade_id="T10", price=9),
    record(TRADE, trade_id="T11", price=-1),
    record(TRADE, trade_id="T12", price=-2),
    record(TRADE, trade_id="T13", trader_id="T-JOS\ufffd", quantity=3),
    record(TRADE, trade_id="T14", symbol="ML.PA", trader_id="TR3", price=30),
    record(TRADE, trade_id="T15", symbol="FLG1", trader_id="TR3", price=31, timestamp="2025-02-03T15:30:00Z"),
)
BOOKS = (record(BOOK), record(BOOK, symbol="SHIB", bids=[[0.00000812, 100]], asks=[[0.00000813, 100]]))
BARS = (record(BAR), record(BAR, interval="1M", close=187.9, volume=99), record(BAR, symbol="MSFT"))
REFERENCE = (
    record({}, dimension="dim_symbol", symbol="AAPL", company_name="Apple", sector="Tech", effective_date="2024-01-01"),
    record({}, dimension="dim_symbol", symbol="\u0131BM", company_name="Not IBM", effective_date="2024-06-01"),
    record({}, dimension="dim_symbol", symbol="IBM", company_name="IBM Corp", effective_date="2024-01-01"),
    record({}, dimension="dim_trader", trader_id="TR9", name="N\ud800", effective_date="2024-01-01"),
)
EXCHANGES = """exchange_code,exchange_name,timezone,country,currency,market_open_time,market_close_time,mic
NOHOURS,No hours,America/New_York,US,USD,,,
BADTZ,Bad zone,EST/EDT,US,USD,09:30,16:00,
AMPM,Am pm,America/New_York,US,USD,9:30 AM,4:00 PM,
"""
TRADERS = "trader_id,name,effective_date\nT-JOS\u00e9,A,2024-01-01\nT-JOS\u00e8,B,2024-01-01\nTR2,Two,2024-01-01\n"
SYMBOLS = '{"symbol":"ML.PA","company_name":"Michelin Clermont-Ferrand \u00e9","effective_date":"2024-01-05"}\n'
FLAGS = "symbol,company_name,effective_date,is_deleted\nFLG1,One,2025-01-01,\nFLG1,One,2025-02-02,1.0\n"
FILES = (
    ("dim_exchange", "ex.csv", EXCHANGES.encode()),
    ("dim_trader", "traders.csv", TRADERS.encode("cp1252")),
    ("dim_symbol", "symbols.jsonl", SYMBOLS.encode("cp1252")),
    ("dim_symbol", "flags.csv", FLAGS.encode()),
)


def fill(settings: Settings, files: Path) -> None:
    with broker.serving(settings, bronze_writer.TOPICS, print) as here:
        spark = session.open_session(here, "fixture")
        migrations.migrate(spark, here, datetime.now(UTC))
        producer = Producer({"bootstrap.servers": here.kafka.bootstrap_servers})
        topics = {"raw_trades": TRADES, "raw_orderbook": BOOKS, "raw_marketdata": BARS, "raw_reference": REFERENCE}
        for topic, values in topics.items():
            for value in values:
                producer.produce(topic, value=value, partition=0)
        assert producer.flush(30) == 0
        for dimension, name, content in FILES:
            (files / name).write_bytes(content)
            dimension_loader.run(spark, [dimension], [str(files / name)])
        bronze_writer.run(spark, here)
        dimension_loader.run(spark)
        silver_processor.run(spark, here)
        fact_loader.run(spark, here)
        gold_aggregator.run(spark, here)
        letters = spark.table("lake.silver._rejected_records").where("raw_payload LIKE '%T12%'")
        ids = [row[0] for row in letters.select("rejected_id").collect()]
        assert rejected.discard(spark, rejected.Selection(ids=ids), "agreed with the desk") == 1
        spark.sql("DELETE FROM lake.dim.dim_time")
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        older = f"older_than => TIMESTAMP '{now}', retain_last => 1"
        spark.sql(f"CALL lake.system.expire_snapshots(table => 'dim.dim_time', {older})").collect()
        spark.stop()


def pack(home: Path, archive: Path) -> None:
    with sqlite3.connect(home / "catalog.db") as catalog:
        catalog.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with tarfile.open(archive, "w:xz") as tar:
        for file in (home / "catalog.db", *sorted((home / "warehouse").rglob("*"))):
            if file.is_file() and file.suffix != ".crc":
                tar.add(file, file.relative_to(home))


if __name__ == "__main__":
    home = Path(sys.argv[1]).absolute()
    shutil.rmtree(home, ignore_errors=True)
    files = home / "files"
    files.mkdir(parents=True)
    spark = SparkSettings(master="local[2]", driver_memory="2g", shuffle_partitions=1)
    fill(load().model_copy(update={"home": home, "spark": spark, "dim_time": DimTimeSettings(years=(2025,))}), files)
    pack(home, Path(__file__).parent / "7e782d6.tar.xz")
