"""Bronze and silver driven through their pure transforms alone: no broker, no catalog, the table a list of rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import types as T

from lakehouse_spark.bronze import topic as bronze_topic
from lakehouse_spark.lake import frames
from lakehouse_spark.silver import judging, market_data, orderbook_snapshots, trades
from lakehouse_spark.silver.feed import PLACE, Feed
from lakehouse_spark.transforms import dedup
from tests.support.silver_oracle import MAX_RECORD_BYTES, Record

STAMP = datetime(2025, 6, 2, 12, 0, 0, 250_000, tzinfo=UTC)
EXCHANGES = ("NYSE", "NASDAQ", "LSE")
FEEDS: dict[str, Feed] = {feed.topic.name: feed for feed in (trades.FEED, orderbook_snapshots.FEED, market_data.FEED)}

_RECORD = "value binary, topic string, partition int, offset long"


def records_of(values: Iterable[bytes | str | None], *, stamp: datetime = STAMP, first: int = 0) -> list[Record]:
    """The values as one batch of partition 0, offsets in order."""
    encoded = (value.encode() if isinstance(value, str) else value for value in values)
    return [Record(value, offset, stamp) for offset, value in enumerate(encoded, first)]


def bronze(spark: SparkSession, topic: str, records: Sequence[Record], max_bytes: int = MAX_RECORD_BYTES) -> DataFrame:
    """The bronze rows of one batch, whose records share a stamp."""
    (stamp,) = {record.ingested_at for record in records}
    rows = [(record.value, record.topic, record.partition, record.offset) for record in records]
    return bronze_topic.build(frames.of_rows(spark, rows, _RECORD), FEEDS[topic].topic, stamp, max_bytes)


def judged(spark: SparkSession, topic: str, records: Sequence[Record], max_bytes: int = MAX_RECORD_BYTES) -> DataFrame:
    exchanges = frames.of_rows(spark, [(code,) for code in EXCHANGES], "exchange_code string")
    return FEEDS[topic].judge(bronze(spark, topic, records, max_bytes), exchanges, max_bytes)


_JUDGED: dict[tuple[str, bytes | None], Row] = {}
_SCHEMAS: dict[str, T.StructType] = {}


def judged_once(spark: SparkSession, topic: str, records: Sequence[Record]) -> DataFrame:
    """The judged records, each payload judged only the first time it is seen: as if it had come at STAMP."""
    new = list({record.value for record in records if (topic, record.value) not in _JUDGED})
    if new:
        rows = judged(spark, topic, records_of(new))
        _SCHEMAS[topic] = rows.schema
        for row in rows.collect():
            _JUDGED[topic, new[row["_source_offset"]]] = row
    placed = []
    for record in records:
        place = dict(zip(PLACE, (record.topic, record.partition, record.offset), strict=True))
        placed.append({**_JUDGED[topic, record.value].asDict(), **place, "_ingested_at": record.ingested_at})
    return frame(spark, _SCHEMAS[topic], placed)


def frame(spark: SparkSession, schema: T.StructType, rows: Iterable[dict[str, Any]]) -> DataFrame:
    """Rows by name as a DataFrame; a name a row lacks is NULL, whatever the schema says."""
    nullable = T.StructType([T.StructField(each.name, each.dataType) for each in schema])
    return frames.of_rows(spark, [tuple(row.get(name) for name in schema.names) for row in rows], nullable)


@dataclass
class Table:
    """A silver table in memory: its rows by key, and what became of every record."""

    topic: str
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[tuple[int, int], tuple[str, list[str]]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        found = [outcome for outcome, _ in self.outcomes.values()]
        return {name: found.count(name) for name in (dedup.ACCEPTED, dedup.DUPLICATE, dedup.REJECTED)}

    def apply(self, spark: SparkSession, records: Sequence[Record], *, from_start: bool = False) -> None:
        """Judges one batch against the rows held so far and writes what it says has to be written."""
        feed = FEEDS[self.topic]
        held = frame(spark, feed.table.schema, self.rows.values())
        decided = judging.decide(feed, judged_once(spark, self.topic, records), held, from_start=from_start)
        rows = decided.collect()
        for row in rows:
            self.outcomes[row["_source_partition"], row["_source_offset"]] = (row["_outcome"], row["_reasons"])
        if any(row[dedup.STANDS] for row in rows):
            rows = dedup.to_write(decided).collect()
        for row in rows:
            if row[dedup.ROW] is not None:
                self._write(feed, row)

    def _write(self, feed: Feed, row: Row) -> None:
        values = {name: row[name] for name in feed.table.column_names if name in row}
        key = row[feed.key]
        if row[dedup.ROW] == "insert":
            assert key not in self.rows
            self.rows[key] = values
        else:
            self.rows[key].update({name: values[name] for name in feed.changing})


def silver_trades(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    """Rows of silver.trades, of `trade_row`."""
    return frame(spark, trades.TABLE.schema, rows)


def trade_row(
    number: int, side: str, quantity: int, price: str, *, trader: str = "TR1", symbol: str = "AAPL",
    at: datetime = datetime(2025, 1, 15, 15, 30, tzinfo=UTC), status: str = "EXECUTED",
) -> dict[str, Any]:  # fmt: skip
    return {
        "trade_id": f"T{number}", "symbol": symbol, "price": Decimal(price), "quantity": quantity,
        "total_value": Decimal(price) * quantity, "trade_type": side, "order_type": "LIMIT", "trader_id": trader,
        "exchange": "NASDAQ", "trade_timestamp": at, "trade_date": at.date(), "status": status,
    }  # fmt: skip
