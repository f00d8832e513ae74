"""`bronze.raw_trades`: every record of the trades topic."""

from collections.abc import Mapping

from pyspark.sql import Column

from lakehouse_spark.bronze import topic
from lakehouse_spark.table import BRONZE_POLICY, Table, column
from lakehouse_spark.transforms import values
from lakehouse_spark.types import DOUBLE, INSTANT, LONG, TEXT

TABLE = Table(
    name="bronze.raw_trades",
    doc="Raw trade events, one row per Kafka record, whatever it holds.",
    columns=(
        column("trade_id", TEXT, "Trade identifier from source"),
        column("symbol", TEXT, "Ticker symbol (e.g., AAPL)"),
        column("price", DOUBLE, "Execution price"),
        column("quantity", LONG, "Number of shares / units"),
        column("trade_type", TEXT, "BUY / SELL"),
        column("order_type", TEXT, "MARKET / LIMIT / STOP"),
        column("trader_id", TEXT, "Trader identifier"),
        column("exchange", TEXT, "Exchange code"),
        column("timestamp", INSTANT, "Event timestamp from source (UTC)"),
        *topic.RECORD_COLUMNS,
    ),
    key=topic.KEY,
    partitioned_by=("days(timestamp)",),
    sorted_by=("symbol", "timestamp"),
    stamp="_ingested_at",
    policy=BRONZE_POLICY,
)

TEXT_FIELDS = ("trade_id", "symbol", "trade_type", "order_type", "trader_id", "exchange", "account_id", "status")


def _values(fields: Mapping[str, Column]) -> dict[str, Column]:
    return {
        "price": values.to_double(fields["price"]),
        "quantity": values.to_long(fields["quantity"]),
        "timestamp": values.to_instant(fields["timestamp"]),
    }


TOPIC = topic.Topic(
    table=TABLE,
    event_time="timestamp",
    fields=(*TEXT_FIELDS, "price", "quantity", "timestamp", "commission"),
    text_fields=TEXT_FIELDS,
    values=_values,
)
