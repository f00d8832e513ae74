"""`silver.orderbook_snapshots`: the top of each book and the depth of its five best levels."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.bronze import raw_orderbook
from lakehouse_spark.silver import feed
from lakehouse_spark.table import MERGE_ON_READ, SILVER_RETENTION, Table, column
from lakehouse_spark.transforms import payload, quality
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
    retention=SILVER_RETENTION,
    sources=("bronze.raw_orderbook", "dim.dim_exchange"),
)

_DEPTH = 5
_TEXT_LEVELS = T.ArrayType(T.ArrayType(T.StringType()))
_EXACT_LEVELS = T.ArrayType(T.ArrayType(PRICE))
_MOST = 9_223_372_036_854_775_807


def judge(bronze: DataFrame, exchanges: DataFrame, max_bytes: int) -> DataFrame:
    """Every raw snapshot with its typed values and `_reasons`; grain: one row per bronze row.

    Levels may come in any order; those of quantity 0 are ignored. A side without levels has NULL columns.
    """
    raw = F.col("raw_payload")
    levels = T.StructType([T.StructField("bids", _TEXT_LEVELS), T.StructField("asks", _TEXT_LEVELS)])
    records = (
        feed.with_fields(bronze, raw_orderbook.TOPIC, exchanges, max_bytes)
        .withColumn("_texts", payload.parse(raw, levels, max_bytes))
        .withColumn("_exact", quality.exact_digits(raw, ("bids", "asks"), max_bytes, _EXACT_LEVELS))
        .withColumn("_bids", _levels("bids"))
        .withColumn("_asks", _levels("asks"))
        .withColumn("_bids_5", _best("_bids", descending=True))
        .withColumn("_asks_5", _best("_asks", descending=False))
    )
    fields = F.col("_fields")
    symbol = quality.symbol(fields)
    exchange = quality.exchange(fields, F.col("_known"))
    snapshot_time = quality.event_time(fields, "snapshot_time", F.col("_ingested_at"))
    sides = [_side_reason(fields, "bids"), _side_reason(fields, "asks")]
    bad_level = F.when(_has_bad_level("bids") | _has_bad_level("asks"), F.lit("invalid_level"))
    readable = F.coalesce(*sides, bad_level).isNull()
    bid, ask = F.get(F.col("_bids_5"), 0), F.get(F.col("_asks_5"), 0)
    empty = F.when(readable & bid.isNull() & ask.isNull(), F.lit("empty_book"))
    crossed = F.when(readable & (bid["price"] >= ask["price"]), F.lit("crossed_book"))
    values = {
        "snapshot_id": feed.generated_key(symbol.value, exchange.value, feed.utc_text(snapshot_time.value)),
        "symbol": symbol.value,
        "snapshot_time": snapshot_time.value,
        "best_bid_price": bid["price"],
        "best_bid_qty": bid["quantity"],
        "best_ask_price": ask["price"],
        "best_ask_qty": ask["quantity"],
        "spread": (ask["price"] - bid["price"]).try_cast(PRICE),
        "bid_depth_5": _depth("_bids_5"),
        "ask_depth_5": _depth("_asks_5"),
        "exchange": exchange.value,
    }
    rules = [symbol.reason, exchange.reason, snapshot_time.reason, *sides, bad_level, empty, crossed]
    return feed.judged(records, values, rules, TABLE, "snapshot_time")


def _levels(side: str) -> Column:
    """A side's levels as (price, quantity); a part that breaks the rules is NULL."""

    def level(text: Column, place: Column) -> Column:
        price, quantity = payload.trimmed(F.get(text, 0)), payload.trimmed(F.get(text, 1))
        digits = F.get(F.get(F.col("_exact")[side], place), 0)
        exact = F.when(payload.is_number(price), F.coalesce(digits, payload.to_decimal(price, PRICE)))
        shares = payload.to_long(quantity)
        pair = F.size(text) == 2
        return F.struct(
            F.when(pair & (exact > 0), exact).alias("price"), F.when(pair & (shares >= 0), shares).alias("quantity")
        )

    return F.transform(F.col("_texts")[side], level)


def _best(side: str, *, descending: bool) -> Column:
    """The five best levels that hold a quantity, best first; equal prices stay in the payload's order."""
    held = F.filter(F.col(side), lambda level: level["quantity"] > 0)
    sign = -1 if descending else 1
    ranked = F.transform(
        held,
        lambda level, place: F.struct(
            (level["price"] * sign).alias("rank"), place.alias("place"), level["price"], level["quantity"]
        ),
    )
    return F.slice(F.array_sort(ranked), 1, _DEPTH)


def _depth(side: str) -> Column:
    total = F.aggregate(
        F.col(side), F.lit(0).cast("decimal(38,0)"), lambda total, level: (total + level["quantity"]).cast("decimal(38,0)")
    )
    return F.when((F.size(F.col(side)) > 0) & (total <= _MOST), total.try_cast("bigint"))


def _side_reason(fields: Column, side: str) -> Column:
    text = payload.present(fields[side])
    return F.when(text.isNull(), F.lit(f"missing_{side}")).when(
        payload.to_array_text(text).isNull(), F.lit(f"invalid_{side}")
    )


def _has_bad_level(side: str) -> Column:
    """Whether an array of levels holds one that is not [price > 0, integral quantity >= 0]."""
    is_array = payload.to_array_text(payload.present(F.col("_fields")[side])).isNotNull()
    bad = F.exists(F.col(f"_{side}"), lambda level: level["price"].isNull() | level["quantity"].isNull())
    overflows = (F.size(F.col(f"_{side}_5")) > 0) & _depth(f"_{side}_5").isNull()
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
