"""`gold.fact_orderbook`: every accepted order-book snapshot with the keys of its dimension versions."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.dim import dim_symbol
from lakehouse_spark.dim.dim_time import time_key
from lakehouse_spark.gold.fact import Fact
from lakehouse_spark.silver import orderbook_snapshots
from lakehouse_spark.table import GOLD_POLICY, MERGE_ON_READ, Table, column
from lakehouse_spark.transforms.asof import with_version
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
    policy=GOLD_POLICY,
    sources=("silver.orderbook_snapshots", "dim.dim_symbol", "dim.dim_time"),
    lookups=("dim.dim_time",),
    checks={
        "keys_are_known": "symbol_key IS NOT NULL AND time_key IS NOT NULL",
    },
)


def build(books: DataFrame, symbols: DataFrame) -> DataFrame:
    """Facts of the silver order-book rows, stamp left out; grain: one row per snapshot."""
    dated = books.withColumn("_day", F.to_date("snapshot_time"))
    keyed = with_version(dated, symbols, key="symbol", day="_day", take=("symbol_key",))
    bid, ask = F.col("best_bid_price"), F.col("best_ask_price")
    return keyed.select(
        "snapshot_id",
        "symbol_key",
        time_key(F.col("snapshot_time")).alias("time_key"),
        bid.alias("bid_price"),
        ask.alias("ask_price"),
        "spread",
        F.col("bid_depth_5").alias("bid_depth"),
        F.col("ask_depth_5").alias("ask_depth"),
        ((bid + ask) / 2).cast(PRICE).alias("mid_price"),
        F.col("snapshot_time").alias("snapshot_timestamp"),
    )


FACT = Fact(
    table=TABLE,
    source=orderbook_snapshots.TABLE,
    source_time="snapshot_time",
    fact_time="snapshot_timestamp",
    references={"symbol": dim_symbol.DIMENSION},
    build=lambda rows, members, _: build(rows, members[dim_symbol.DIMENSION.name]),
)
