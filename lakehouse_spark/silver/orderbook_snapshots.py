"""`silver.orderbook_snapshots`: the top of each book and the depth of its five best levels."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.bronze import raw_orderbook
from lakehouse_spark.silver import feed
from lakehouse_spark.table import MERGE_ON_READ, SILVER_POLICY, Table, column
from lakehouse_spark.transforms import payload, quality, values
from lakehouse_spark.types import INSTANT, INTEGER, LONG, PRICE, TEXT

TABLE = Table(
    name="silver.orderbook_snapshots",
    doc="Validated order-book snapshots. Grain: one row per symbol, snapshot_time and exchange.",
    columns=(
        column("snapshot_id", TEXT, "md5(symbol|exchange|snapshot_time)"),
        column("symbol", TEXT, "Ticker symbol"),
        column("snapshot_time", INSTANT, "Snapshot timestamp (UTC)"),
        column("best_bid_price", PRICE, "Top-of-book bid"),
        column("best_bid_qty", LONG, "Top bid quantity"),
        column("best_ask_price", PRICE, "Top-of-book ask"),
        column("best_ask_qty", LONG, "Top ask quantity"),
        column("spread", PRICE, "best_ask_price - best_bid_price"),
        column("bid_depth_5", LONG, "Total bid quantity across top 5 levels"),
        column("ask_depth_5", LONG, "Total ask quantity across top 5 levels"),
        column("exchange", TEXT, "Exchange code"),
        column("_processed_at", INSTANT, "Commit stamp: silver processing timestamp"),
        column("_source_topic", TEXT, "Kafka topic for lineage"),
        column("_source_partition", INTEGER, "Kafka partition for lineage"),
        column("_source_offset", LONG, "Kafka offset for lineage"),
    ),
    key=("snapshot_id",),
    partitioned_by=("days(snapshot_time)", "bucket(16, symbol)"),
    stamp="_processed_at",
    distribution="hash",
    properties=MERGE_ON_READ,
    policy=SILVER_POLICY,
    sources=("bronze.raw_orderbook", "dim.dim_exchange"),
    lookups=("dim.dim_exchange",),
    checks={
        "spread_is_ask_less_bid": "spread = best_ask_price - best_bid_price",
    },
)

_DEPTH = 5
_EXACT = T.DecimalType(38, 18)
"""What prices are compared in: two that differ by less than a column shows are still two."""

_MOST = 9_223_372_036_854_775_807


def judge(bronze: DataFrame, exchanges: DataFrame, max_bytes: int) -> DataFrame:
    """Every raw snapshot with its typed values and `_reasons`; grain: one row per bronze row.

    Levels may come in any order; those of quantity 0 are ignored. A side without levels has NULL columns. Bid and ask
    are compared as the payload writes them, and stored rounded.
    """
    texts = feed.with_fields(bronze, raw_orderbook.TOPIC, exchanges, max_bytes)
    records = (
        quality.with_values(texts, _FIELDS)
        .withColumns({"_bid_rows": payload.to_rows(F.col("t_bids")), "_ask_rows": payload.to_rows(F.col("t_asks"))})
        .withColumns({"_bids": _levels("bids"), "_asks": _levels("asks")})
        .withColumns({"_bids_5": _best("_bids", descending=True), "_asks_5": _best("_asks", descending=False)})
        .withColumns({"_bid": F.get(F.col("_bids_5"), 0), "_ask": F.get(F.col("_asks_5"), 0)})
        .withColumns({"v_bid_depth_5": _depth("_bids_5"), "v_ask_depth_5": _depth("_asks_5")})
        .withColumns({"_bad_bids": _has_bad_level("bids"), "_bad_asks": _has_bad_level("asks")})
    )
    bid, ask = F.col("_bid"), F.col("_ask")
    bad_level = F.when(F.col("_bad_bids") | F.col("_bad_asks"), F.lit("invalid_level"))
    readable = F.coalesce(F.col("r_bids"), F.col("r_asks"), bad_level).isNull()
    empty = F.when(readable & bid.isNull() & ask.isNull(), F.lit("empty_book"))
    crossed = F.when(readable & (bid["exact"] >= ask["exact"]), F.lit("crossed_book"))
    rules = [*(F.col(f"r_{field.name}") for field in _FIELDS), bad_level, empty, crossed]
    key = (F.col("v_symbol"), F.col("v_exchange"), feed.utc_text(F.col("v_snapshot_time")))
    derived = {
        "snapshot_id": feed.generated_key(*key),
        "best_bid_price": bid["price"],
        "best_bid_qty": bid["quantity"],
        "best_ask_price": ask["price"],
        "best_ask_qty": ask["quantity"],
        "spread": (ask["price"] - bid["price"]).try_cast(PRICE),
    }
    return feed.judged(records, rules, TABLE, derived, "snapshot_time")


_FIELDS = (
    quality.symbol(),
    quality.exchange(),
    quality.event_time("snapshot_time"),
    quality.Field("bids", payload.to_array_text),
    quality.Field("asks", payload.to_array_text),
)


def _levels(side: str) -> Column:
    """A side's levels as (exact, price, quantity); a part that breaks the rules is NULL."""

    def level(text: Column) -> Column:
        pair = F.size(text) == 2
        shares = values.to_long(payload.trimmed(F.get(text, 1)))
        return F.struct(
            F.when(pair, values.to_exact(payload.trimmed(F.get(text, 0)), _EXACT)).alias("exact"),
            F.when(pair & (shares >= 0), shares).alias("quantity"),
        )

    def priced(level: Column) -> Column:
        price = level["exact"].try_cast(PRICE)
        return F.struct(level["exact"], F.when(price > 0, price).alias("price"), level["quantity"])

    return F.transform(F.transform(F.col(f"_{side[:-1]}_rows"), level), priced)


def _best(side: str, *, descending: bool) -> Column:
    """The five best levels that hold a quantity, best first; equal prices stay in the payload's order."""
    held = F.filter(F.col(side), lambda level: level["quantity"] > 0)

    def rank(level: Column) -> Column:
        return -level["exact"] if descending else level["exact"]

    ranked = F.transform(
        held,
        lambda level, place: F.struct(
            rank(level).alias("rank"), place.alias("place"), level["exact"], level["price"], level["quantity"]
        ),
    )
    return F.slice(F.array_sort(ranked), 1, _DEPTH)


def _depth(side: str) -> Column:
    kind = T.DecimalType(38, 0)
    total = F.aggregate(F.col(side), F.lit(0).cast(kind), lambda total, level: (total + level["quantity"]).cast(kind))
    return F.when((F.size(F.col(side)) > 0) & (total <= _MOST), total.try_cast("bigint"))


def _has_bad_level(side: str) -> Column:
    """Whether an array of levels holds one that is not [price > 0, integral quantity >= 0]."""
    is_array = F.col(f"v_{side}").isNotNull()
    bad = F.exists(F.col(f"_{side}"), lambda level: level["price"].isNull() | level["quantity"].isNull())
    overflows = (F.size(F.col(f"_{side}_5")) > 0) & F.col(f"v_{side[:-1]}_depth_5").isNull()
    return F.coalesce(is_array & (F.col(f"_{side}").isNull() | bad | overflows), F.lit(False))


FEED = feed.Feed(
    table=TABLE,
    topic=raw_orderbook.TOPIC,
    judge=judge,
    key="snapshot_id",
    content=(
        "best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty", "spread", "bid_depth_5", "ask_depth_5",
    ),
    event_time="snapshot_time",
)  # fmt: skip
