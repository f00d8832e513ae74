"""What no benchmark says, found without Spark: sizes of records, of rows as Parquet, and of metadata.

python -m benchmarks.scale.simulated       # writes results/scale.json, in some minutes
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
from pyiceberg.table import Table as IcebergTable
from pyspark.sql.pandas.types import to_arrow_schema

from benchmarks import contents, lake, metadata_only
from benchmarks.scale.figures import SIMULATED
from lakehouse_spark.bronze import raw_trades
from lakehouse_spark.lake.cursor import CURSOR, TopicCursor
from lakehouse_spark.maintenance import survey
from lakehouse_spark.metadata import maintenance_log
from lakehouse_spark.silver import trades

RAW = raw_trades.TABLE
ROWS = 1_000_000
SYMBOLS, TRADERS = 10_000, 100_000
PARTITIONS = (3, 200, 2_000)
COMMITS, FILES = 60, 200
"""What metadata is looked at after: as many commits, of as many files each, as a topic of 200 partitions leaves."""
PLANNED = (100_000, 500_000)
_AT = datetime(2025, 1, 6, 21, tzinfo=UTC)
_STAMP = "TIMESTAMPTZ '2025-01-06 21:00:00+00' AS stamp"
_COMMON = f"""
    SELECT range AS n, hash(range, 1) % {SYMBOLS} AS s,
        concat('SYM', lpad((hash(range, 1) % {SYMBOLS})::VARCHAR, 5, '0')) AS symbol,
        ((1000 + hash(range, 2) % 90000) / 100)::DECIMAL(18, 2) AS price,
        ['NYSE', 'NASDAQ', 'LSE', 'TSE'][1 + (hash(range, 3) % 4)::INTEGER] AS exchange,
        TIMESTAMP '2025-01-06 14:30:00' + to_microseconds(range * 23400) AS moment
    FROM range({ROWS})
"""
_TRADES = f"""
    SELECT *, concat('T20250106-', lpad(n::VARCHAR, 9, '0')) AS trade_id, (1 + hash(n, 4) % 5000)::BIGINT AS quantity,
        ['BUY', 'SELL'][1 + (hash(n, 5) % 2)::INTEGER] AS trade_type,
        ['MARKET', 'LIMIT', 'STOP'][1 + (hash(n, 6) % 3)::INTEGER] AS order_type, hash(n, 7) % {TRADERS} AS t,
        concat('TRD-', lpad((hash(n, 7) % {TRADERS})::VARCHAR, 6, '0')) AS trader_id
    FROM ({_COMMON})
"""
_TRADE_PAYLOAD = """
    concat('{"trade_id":"', trade_id, '","symbol":"', symbol, '","price":', price, ',"quantity":', quantity,
        ',"trade_type":"', trade_type, '","order_type":"', order_type, '","trader_id":"', trader_id, '","exchange":"',
        exchange, '","timestamp":"', strftime(moment, '%Y-%m-%dT%H:%M:%S.%fZ'), '","account_id":"', trader_id, '-1"}')
"""
_SPREAD = "((1 + hash(n, 4) % 9) / 100)::DECIMAL(18, 2)"


def _side(first: str, sign: str, seed: int) -> str:
    """A side of a book as a JSON array of `$levels` levels."""
    level = f"concat('[', {first} {sign} (i / 100)::DECIMAL(18, 2), ',', 1 + hash(n, i, {seed}) % 5000, ']')"
    return f"concat('[', array_to_string(list_transform(range($levels), lambda i: {level}), ','), ']')"


_BOOKS = f"""
    SELECT *, price AS bid, {_SPREAD} AS spread, {_side("price", "-", 1)} AS bids,
        {_side(f"price + {_SPREAD}", "+", 2)} AS asks
    FROM ({_COMMON})
"""
_BOOK_PAYLOAD = """
    concat('{"symbol":"', symbol, '","snapshot_time":"', strftime(moment, '%Y-%m-%dT%H:%M:%S.%fZ'), '","bids":', bids,
        ',"asks":', asks, ',"exchange":"', exchange, '"}')
"""
_PLACE = "'topic' AS topic, (n % 200)::INTEGER AS part, n // 200 AS following"


def records(con: duckdb.DuckDBPyConnection, levels: int) -> None:
    """The views `trades` and `books`, each record with its payload; one with so many levels a side."""
    con.execute(f"CREATE OR REPLACE TABLE trades AS SELECT *, {_TRADE_PAYLOAD} AS payload FROM ({_TRADES})")
    books = f"CREATE OR REPLACE TABLE books AS SELECT *, {_BOOK_PAYLOAD} AS payload FROM ({_BOOKS})"
    con.execute(books, {"levels": levels})


SHAPES: Mapping[str, str] = {
    "bronze.raw_trades": f"""SELECT trade_id, symbol, price::DOUBLE AS price, quantity, trade_type, order_type,
        trader_id, exchange, moment, payload, {_STAMP}, {_PLACE} FROM trades""",
    "silver.trades": f"""SELECT trade_id, symbol, price::DECIMAL(18, 6) AS price, quantity,
        (price * quantity)::DECIMAL(18, 6) AS total_value, trade_type, order_type, trader_id, exchange, moment,
        moment::DATE AS day, {_STAMP}, trader_id || '-1' AS account_id, 'EXECUTED' AS status, {_PLACE}
        FROM trades ORDER BY s % 16, n""",
    "gold.fact_trades": f"""SELECT trade_id, 100000 + s AS symbol_key, 200000 + t AS trader_key,
        202501061430 + n // 20000 AS time_key, 1 AS exchange_key, price::DECIMAL(18, 6) AS price, quantity,
        (price * quantity)::DECIMAL(18, 6) AS total_value, (price * quantity / 10000)::DECIMAL(18, 6) AS commission,
        trade_type, order_type, 'EXECUTED' AS status, moment::DATE + 2 AS settlement_date, moment, {_STAMP}
        FROM trades""",
    "bronze.raw_orderbook": f"""SELECT symbol, moment, bids, asks, exchange, payload, {_STAMP}, {_PLACE} FROM books""",
    "silver.orderbook_snapshots": f"""SELECT md5(symbol || exchange || moment) AS snapshot_id, symbol, moment,
        bid::DECIMAL(18, 6) AS bid, 100 + s AS bid_qty, (bid + spread)::DECIMAL(18, 6) AS ask, 100 + s AS ask_qty,
        spread::DECIMAL(18, 6) AS spread, 1 + hash(n, 8) % 20000 AS bid_depth, 1 + hash(n, 9) % 20000 AS ask_depth,
        exchange, {_STAMP}, {_PLACE} FROM books ORDER BY s % 16, n""",
    "gold.fact_orderbook": f"""SELECT md5(symbol || exchange || moment) AS snapshot_id, 100000 + s AS symbol_key,
        202501061430 + n // 20000 AS time_key, bid::DECIMAL(18, 6) AS bid, (bid + spread)::DECIMAL(18, 6) AS ask,
        spread::DECIMAL(18, 6) AS spread, 1 + hash(n, 8) % 20000 AS bid_depth, 1 + hash(n, 9) % 20000 AS ask_depth,
        (bid + spread / 2)::DECIMAL(18, 6) AS mid, moment, {_STAMP} FROM books ORDER BY s % 16, n""",
}
"""Rows of a table as it holds them, of a day with 10,000 symbols."""


def sizes(folder: Path, levels: int) -> dict[str, float]:
    """Bytes of a record in Kafka, and of a row in a file of its table."""
    con = duckdb.connect()
    records(con, levels)
    found = {}
    for name in ("trades", "books"):
        found[f"payload of {name}"] = round(one(con, f"SELECT avg(strlen(payload)) FROM {name}"), 1)
    for table, rows in SHAPES.items():
        file = folder / f"{table}.parquet"
        con.execute(f"COPY ({rows}) TO '{file}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)")
        found[table] = round(file.stat().st_size / ROWS, 1)
    return found


def one(con: duckdb.DuckDBPyConnection, query: str) -> float:
    answer = con.execute(query).fetchone()
    assert answer is not None
    return float(answer[0])


def cursor(partitions: int) -> TopicCursor:
    """Of a topic that has been read for months, and from whose table retention has removed some."""
    following = {each: 2_000_000_000 + each for each in range(partitions)}
    began = {each: end - 1_000_000 for each, end in following.items()}
    removed = {"GY3oSmCkTSGDGSHCW3nYeA": {each: 1_000_000_000 + each for each in range(partitions)}}
    return TopicCursor(
        stamp=_AT, topic="raw_orderbook", topic_id="GY3oSmCkTSGDGSHCW3nYeA", began=began, following=following,
        removed=removed, rules=3,
    )  # fmt: skip


def start(home: Path, partitions: int) -> IcebergTable:
    """The tables that a plan of bronze looks at, with one row, and the cursor of so many partitions."""
    lake.create_without_spark(home, trades.TABLE, "trade_timestamp")
    lake.create_without_spark(home, maintenance_log.TABLE, "_logged_at")
    table = lake.create_without_spark(home, RAW, "timestamp")
    row: dict[str, list[object]] = {name: [None] for name in RAW.column_names}
    row |= {"timestamp": [_AT], "_ingested_at": [_AT]}
    row |= {name: ["0" * 12] for name in ("trade_id", "symbol", "raw_payload")}
    table.append(pa.table(row, schema=to_arrow_schema(RAW.schema)), {CURSOR: cursor(partitions).to_json()})
    return table.refresh()


def metadata(home: Path) -> dict[str, float]:
    """Bytes of metadata by what they grow with, of a topic of 200 partitions."""
    table = start(home, PARTITIONS[1])
    before = metadata_file(table).stat().st_size
    metadata_only.add_files(table, RAW, COMMITS * FILES, at_once=FILES)
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    manifests = snapshot.manifests(table.io)
    entries = sum(manifest.added_files_count or 0 for manifest in manifests)
    listed = Path(contents.local(snapshot.manifest_list)).stat().st_size
    return {
        "bytes of a snapshot": round((metadata_file(table).stat().st_size - before) / COMMITS),
        "bytes of a file in its manifest": round(sum(each.manifest_length for each in manifests) / entries),
        "bytes of a manifest in the list": round(listed / len(manifests)),
    }


def metadata_file(table: IcebergTable) -> Path:
    return Path(contents.local(table.metadata_location))


def plans(home: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """What it takes to plan the maintenance of bronze with so many live files, each in a process of its own."""
    table, there = start(home, PARTITIONS[1]), 1
    for files in PLANNED:
        metadata_only.add_files(table, RAW, files - there)
        there = files
        planned = [sys.executable, "-m", "benchmarks.scale.simulated", "plan", str(home)]
        yield files, json.loads(subprocess.run(planned, capture_output=True, text=True, check=True).stdout)


def plan(home: Path) -> dict[str, float]:
    began = time.monotonic()
    survey.take(lake.here(home), [RAW], datetime.now(UTC) + timedelta(hours=2))
    seconds = round(time.monotonic() - began, 1)
    # Not the peak that getrusage knows, which is that of the process this one was forked from.
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {"seconds": seconds, "peak_rss_mib": round(int(peak) / 1024)}


def find() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        return {
            "day": f"{datetime.now(UTC):%Y-%m-%d}",
            "bytes a row, 2 levels a side": sizes(place, 2),
            "bytes a row, 10 levels a side": sizes(place, 10),
            "bytes of a bronze cursor, by partitions": {each: len(cursor(each).to_json()) for each in PARTITIONS},
            "metadata, 200 partitions": metadata(place / "metadata"),
            "a plan, by live files": dict(plans(place / "plans")),
        }


if __name__ == "__main__":
    if sys.argv[1:2] == ["plan"]:
        print(json.dumps(plan(Path(sys.argv[2]))))
    else:
        SIMULATED.write_text(json.dumps(find(), indent=1) + "\n")
