"""`bronze.raw_marketdata`: every record of the market-data topic."""

from collections.abc import Mapping

from pyspark.sql import Column

from lakehouse_spark.bronze import topic
from lakehouse_spark.table import BRONZE_POLICY, Table, column
from lakehouse_spark.transforms import values
from lakehouse_spark.types import DOUBLE, INSTANT, LONG, TEXT

TABLE = Table(
    name="bronze.raw_marketdata",
    doc="Raw market-data bars, one row per Kafka record, whatever it holds.",
    columns=(
        column("symbol", TEXT, "Ticker symbol"),
        column("tick_time", INSTANT, "Market data tick timestamp (UTC)"),
        column("open", DOUBLE, "Open price"),
        column("high", DOUBLE, "High price"),
        column("low", DOUBLE, "Low price"),
        column("close", DOUBLE, "Close price"),
        column("volume", LONG, "Volume"),
        column("vwap", DOUBLE, "Volume-weighted average price"),
        column("interval", TEXT, "Tick interval (1m, 5m, 1h, 1d)"),
        column("exchange", TEXT, "Exchange code"),
        *topic.RECORD_COLUMNS,
    ),
    key=topic.KEY,
    partitioned_by=("days(tick_time)",),
    stamp="_ingested_at",
    policy=BRONZE_POLICY,
)


def _values(fields: Mapping[str, Column]) -> dict[str, Column]:
    prices = {name: values.to_double(fields[name]) for name in ("open", "high", "low", "close", "vwap")}
    return {
        **prices,
        "volume": values.to_long(fields["volume"]),
        "tick_time": values.to_instant(fields["tick_time"]),
    }


TOPIC = topic.Topic(
    table=TABLE,
    event_time="tick_time",
    fields=(
        "symbol", "interval", "exchange", "tick_time", "open", "high", "low", "close", "volume", "vwap", "trade_count",
    ),
    text_fields=("symbol", "interval", "exchange"),
    values=_values,
)  # fmt: skip
