"""FIFO lots: which shares bought are which shares sold.

The k-th share bought matches the k-th share sold, whichever of the two opened the position. With cumulative quantities
both sides are sequences of intervals, and the matches are their overlaps: sorted by their ends, each piece between two
ends belongs to at most one buy and one sell. One sort, no loop over rows.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

KEY = ("trader_id", "account_id", "symbol")
"""What positions are held by."""

_SHARES = T.DecimalType(28, 0)


def pieces(entries: DataFrame) -> DataFrame:
    """Shares that were opened together and closed together; grain: one row per overlap of a buy and a sell.

    `entries` are trades that count, and lots open before them as trades of what is left: KEY, `trade_id`,
    `trade_timestamp`, `trade_type` (BUY or SELL), `price`, `quantity` (shares). Returns KEY, `shares`, and `opened` and
    `closed`, structs of `at`, `trade_id`, `price` and `side`; `closed` is NULL while the shares are open.
    """
    of_side = Window.partitionBy(*KEY, "trade_type").orderBy("trade_timestamp", "trade_id")
    entry = F.struct(F.col("trade_timestamp").alias("at"), "trade_id", "price", F.col("trade_type").alias("side"))
    ends = entries.select(
        *KEY,
        F.sum(F.col("quantity").cast(_SHARES)).over(of_side.rowsBetween(Window.unboundedPreceding, 0)).alias("_end"),
        F.when(F.col("trade_type") == "BUY", entry).alias("_buy"),
        F.when(F.col("trade_type") == "SELL", entry).alias("_sell"),
    )
    # From the last end down, the entry that a piece belongs to is the nearest one of its side at or above it.
    downward = Window.partitionBy(*KEY).orderBy(F.desc("_end"))
    at_or_above = downward.rowsBetween(Window.unboundedPreceding, 0)
    below = F.coalesce(F.lead("_end").over(downward), F.lit(0).cast(_SHARES))
    cut = ends.select(
        *KEY,
        (F.col("_end") - below).cast("bigint").alias("shares"),
        F.last("_buy", ignorenulls=True).over(at_or_above).alias("_buy"),
        F.last("_sell", ignorenulls=True).over(at_or_above).alias("_sell"),
    ).where(F.col("shares") > 0)
    matched = F.col("_buy").isNotNull() & F.col("_sell").isNotNull()
    return cut.select(
        *KEY,
        "shares",
        F.least("_buy", "_sell").alias("opened"),
        F.when(matched, F.greatest("_buy", "_sell")).alias("closed"),
    )


def pnl() -> Column:
    """Profit or loss of a closed piece, gross of commission, in the trading currency."""
    gain = F.col("closed.price") - F.col("opened.price")
    signed = F.when(F.col("opened.side") == "BUY", gain).otherwise(-gain)
    return signed * F.col("shares").cast("decimal(19,0)")


def cost() -> Column:
    """What the piece was opened for."""
    return F.col("opened.price") * F.col("shares").cast("decimal(19,0)")


def open_at_end_of(pieces: DataFrame, days: DataFrame) -> DataFrame:
    """The lots open at the end of each of `days` (one column, `day`); grain: one row per KEY, day and opening trade.

    Columns KEY, `day`, `trade_id`, `opened_at`, `side`, `price` and `quantity` (shares left).
    """
    since, until = F.to_date("opened.at"), F.to_date("closed.at")
    spanned = pieces.join(
        F.broadcast(days), on=(F.col("day") >= since) & (until.isNull() | (F.col("day") < until)), how="inner"
    )
    lot = (F.col("opened.trade_id"), F.col("opened.at").alias("opened_at"), F.col("opened.side"), F.col("opened.price"))
    return spanned.groupBy(*KEY, "day", *lot).agg(F.sum("shares").alias("quantity"))


def as_entries(lots: DataFrame) -> DataFrame:
    """Lots carried over, as entries of `pieces`."""
    return lots.select(
        *KEY,
        "trade_id",
        F.col("opened_at").alias("trade_timestamp"),
        F.col("side").alias("trade_type"),
        "price",
        "quantity",
    )
