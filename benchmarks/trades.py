"""Trades for every workload, made by DuckDB: the same seed gives the same bytes, a million in about a second."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
from confluent_kafka import Producer

from lakehouse_spark.errors import LakehouseError

SEED = 7
PARTITIONS = 3
FIRST_DAY = "2025-01-06"
VENUES = ("NYSE", "NASDAQ", "LSE", "TSE")
_READ_ROWS = 50_000

PAYLOAD = """
    concat('{"trade_id":"', trade_id, '","symbol":"', symbol, '","price":', price, ',"quantity":', quantity,
        ',"trade_type":"', trade_type, '","order_type":"', order_type, '","trader_id":"', trader_id,
        '","exchange":"', exchange, '","timestamp":"', strftime(moment, '%Y-%m-%dT%H:%M:%S.%fZ'),
        '","account_id":"', account_id, '"}')
"""

# Of each record: `n` is its arrival, `i` its trade, `bad` the rule it breaks (0: none).
_RECORDS = f"""
    WITH numbered AS (
        SELECT n, i, bad, TIMESTAMP '{FIRST_DAY}' + to_days((i // $per_day)::INTEGER) AS day FROM ({{numbers}})
    ),
    fields AS (
        SELECT n,
            CASE WHEN $uuid THEN md5(concat($seed, '-', i))
                ELSE concat('T', strftime(day, '%Y%m%d'), '-', lpad(i::VARCHAR, 9, '0')) END AS trade_id,
            concat('SYM', lpad((hash(i, $seed, 1) % 200)::VARCHAR, 3, '0')) AS symbol,
            CASE WHEN bad = 1 THEN -1 ELSE (1000 + hash(i, $seed, 2) % 90000) / 100 END::DECIMAL(18, 2) AS price,
            CASE WHEN bad = 2 THEN 0 ELSE 1 + hash(i, $seed, 3) % 5000 END::BIGINT AS quantity,
            CASE WHEN bad = 3 THEN 'HOLD' WHEN hash(i, $seed, 4) % 2 = 0 THEN 'BUY' ELSE 'SELL' END AS trade_type,
            (['MARKET', 'LIMIT', 'STOP'])[1 + (hash(i, $seed, 5) % 3)::INTEGER] AS order_type,
            concat('TRD-', lpad((hash(i, $seed, 6) % 5000)::VARCHAR, 5, '0')) AS trader_id,
            CASE WHEN bad = 4 THEN 'NOWHERE'
                ELSE ({list(VENUES)!r})[1 + (hash(i, $seed, 7) % {len(VENUES)})::INTEGER] END AS exchange,
            day + to_microseconds((50400000000 + hash(i, $seed, 8) % 23400000000)::BIGINT) AS moment,
            concat('ACC-', lpad((hash(i, $seed, 6) % 5000)::VARCHAR, 5, '0'), '-1') AS account_id,
            bad, n % {PARTITIONS} AS place, n // {PARTITIONS} AS following
        FROM numbered
    )
    SELECT *, {{payload}} AS payload
    FROM fields ORDER BY n
"""


def write(file: Path, numbers: str, *, per_day: int, uuid: bool = False) -> Path:
    """Writes one row per row of the query `numbers` (columns `n`, the arrival, `i`, the trade, and `bad`) as Parquet.

    Day `d` has the trades `d * per_day` to `(d + 1) * per_day - 1`, during New York's session. Record `n` goes to
    partition `n % PARTITIONS` as its next record, so that every record's place is known before Kafka has it.
    """
    records = _RECORDS.format(numbers=numbers, payload=PAYLOAD)
    duckdb.execute(
        f"COPY ({records}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)",
        {"seed": SEED, "per_day": per_day, "uuid": uuid},
    )
    return file


def publish(file: Path, servers: str, topic: str) -> None:
    """Sends the payloads to the topic, each to its partition, in order."""
    producer = Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "compression.type": "zstd",
            "queue.buffering.max.messages": 1_000_000,
            "log_level": 2,  # retries are no news
        }
    )
    for place, payload in _records(file):
        while True:
            try:
                producer.produce(topic, payload, partition=place)
                break
            except BufferError:
                producer.poll(0.1)
    if left := producer.flush(120):
        raise LakehouseError(f"publish to {servers}: {left} records of {topic} were not delivered")


def _records(file: Path) -> Iterator[tuple[int, bytes]]:
    rows = duckdb.connect().execute(f"SELECT place, payload::BLOB FROM '{file}' ORDER BY n")
    while batch := rows.fetchmany(_READ_ROWS):
        yield from batch
