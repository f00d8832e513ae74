"""`gold.fact_orderbook`: every accepted order-book snapshot with the keys of its dimension versions."""

from lakehouse_spark.table import GOLD_RETENTION, MERGE_ON_READ, Table, column
from lakehouse_spark.types import INSTANT, LONG, PRICE, TEXT

TABLE = Table(
    name="gold.fact_orderbook",
    doc="Order-book facts, one row per snapshot of silver.orderbook_snapshots.",
    columns=(
        column("snapshot_id", TEXT, "Unique snapshot identifier"),
        column("symbol_key", LONG, "Surrogate key to dim_symbol: the version valid on the snapshot's date"),
        column("time_key", LONG, "Surrogate key to dim_time: the snapshot's UTC minute"),
        column("bid_price", PRICE, "Best bid; NULL with an empty side"),
        column("ask_price", PRICE, "Best ask; NULL with an empty side"),
        column("spread", PRICE, "ask_price - bid_price; NULL with an empty side"),
        column("bid_depth", LONG, "Total bid quantity of the five best levels"),
        column("ask_depth", LONG, "Total ask quantity of the five best levels"),
        column("mid_price", PRICE, "(bid_price + ask_price) / 2; NULL with an empty side"),
        column("snapshot_timestamp", INSTANT, "Snapshot timestamp (UTC)"),
        column("_loaded_at", INSTANT, "Commit stamp: when the row was loaded or last changed"),
    ),
    key=("snapshot_id",),
    partitioned_by=("days(snapshot_timestamp)", "bucket(16, symbol_key)"),
    sorted_by=("symbol_key", "time_key"),
    stamp="_loaded_at",
    distribution="hash",
    properties=MERGE_ON_READ,
    retention=GOLD_RETENTION,
    sources=("silver.orderbook_snapshots", "dim.dim_symbol", "dim.dim_time"),
)
