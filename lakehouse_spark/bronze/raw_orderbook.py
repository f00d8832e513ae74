"""`bronze.raw_orderbook`: every record of the order-book topic."""

from collections.abc import Mapping

from pyspark.sql import Column

from lakehouse_spark.bronze import topic
from lakehouse_spark.table import BRONZE_POLICY, Table, column
from lakehouse_spark.transforms import payload, values
from lakehouse_spark.types import INSTANT, TEXT

TABLE = Table(
    name="bronze.raw_orderbook",
    doc="Raw order-book snapshots, one row per Kafka record, whatever it holds.",
    columns=(
        column("symbol", TEXT, "Ticker symbol"),
        column("snapshot_time", INSTANT, "Snapshot capture time (UTC)"),
        column("bids", TEXT, "JSON array of [price, qty] bid levels"),
        column("asks", TEXT, "JSON array of [price, qty] ask levels"),
        column("exchange", TEXT, "Exchange code"),
        *topic.RECORD_COLUMNS,
    ),
    key=topic.KEY,
    partitioned_by=("days(snapshot_time)",),
    stamp="_ingested_at",
    policy=BRONZE_POLICY,
)


def _values(fields: Mapping[str, Column]) -> dict[str, Column]:
    return {
        "snapshot_time": values.to_instant(fields["snapshot_time"]),
        "bids": payload.to_array_text(fields["bids"]),
        "asks": payload.to_array_text(fields["asks"]),
    }


TOPIC = topic.Topic(
    table=TABLE,
    event_time="snapshot_time",
    fields=("symbol", "exchange", "snapshot_time", "bids", "asks"),
    text_fields=("symbol", "exchange"),
    values=_values,
    array_fields=("bids", "asks"),
)
