"""`silver.trader_activity`: what each trader bought and sold of each symbol on each day."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.silver.feed import generated_key
from lakehouse_spark.silver.trades import live
from lakehouse_spark.table import SILVER_POLICY, Table, column
from lakehouse_spark.transforms import exact
from lakehouse_spark.types import DATE, INSTANT, LONG, PRICE, TEXT

TABLE = Table(
    name="silver.trader_activity",
    doc="Trading activity. Grain: one row per trader per symbol per day with at least one trade not cancelled.",
    columns=(
        column("activity_id", TEXT, "md5(trader_id|symbol|activity_date)"),
        column("trader_id", TEXT, "Trader identifier"),
        column("activity_date", DATE, "Activity date (UTC)"),
        column("symbol", TEXT, "Ticker symbol"),
        column("total_buys", LONG, "Number of buy trades"),
        column("total_sells", LONG, "Number of sell trades"),
        column("buy_volume", LONG, "Total buy quantity"),
        column("sell_volume", LONG, "Total sell quantity"),
        column("buy_value", PRICE, "Total buy notional value"),
        column("sell_value", PRICE, "Total sell notional value"),
        column("net_position", LONG, "buy_volume - sell_volume"),
        column("avg_trade_size", PRICE, "Average trade quantity"),
        column("_processed_at", INSTANT, "Commit stamp: silver processing timestamp"),
    ),
    key=("activity_id",),
    partitioned_by=("days(activity_date)", "bucket(16, symbol)"),
    stamp="_processed_at",
    distribution="hash",
    policy=SILVER_POLICY,
    sources=("silver.trades",),
    checks={
        "has_trades": "total_buys + total_sells > 0",
        "net_is_bought_less_sold": "net_position = try_subtract(buy_volume, sell_volume)",
    },
)

GROUP = ("trader_id", "symbol", "activity_date")


def build(trades: DataFrame) -> DataFrame:
    """Activity of all given silver trades, stamp left out; cancelled trades count nowhere.

    Volumes in shares, values in the trading currency; a group whose trades are all cancelled has no row. A sum beyond
    its column's type is NULL: records that were accepted must not stop the table.
    """
    active = live(trades).withColumn("activity_date", F.col("trade_date"))
    buys, sells = F.col("trade_type") == "BUY", F.col("trade_type") == "SELL"

    def total(column_name: str, side: Column) -> Column:
        return F.try_sum(F.when(side, F.col(column_name)).otherwise(0))

    sums = active.groupBy(*GROUP).agg(
        F.count_if(buys).alias("total_buys"),
        F.count_if(sells).alias("total_sells"),
        total("quantity", buys).alias("buy_volume"),
        total("quantity", sells).alias("sell_volume"),
        total("total_value", buys).try_cast(PRICE).alias("buy_value"),
        total("total_value", sells).try_cast(PRICE).alias("sell_value"),
    )
    volume = F.col("buy_volume").cast("decimal(19,0)") + F.col("sell_volume").cast("decimal(19,0)")
    return sums.select(
        generated_key(F.col("trader_id"), F.col("symbol"), F.col("activity_date").cast("string")).alias("activity_id"),
        *GROUP[:1],
        "activity_date",
        "symbol",
        "total_buys",
        "total_sells",
        "buy_volume",
        "sell_volume",
        "buy_value",
        "sell_value",
        F.try_subtract("buy_volume", "sell_volume").alias("net_position"),
        exact.quotient(volume, F.col("total_buys") + F.col("total_sells")).alias("avg_trade_size"),
    )
