"""`gold.market_overview`: breadth, volumes and volatility of an exchange's day."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.table import GOLD_POLICY, Table, column
from lakehouse_spark.transforms import exact
from lakehouse_spark.types import DATE, INSTANT, INTEGER, LONG, PRICE, RATIO, TEXT

TABLE = Table(
    name="gold.market_overview",
    doc="Exchange-wide metrics, one row per exchange per UTC day with trades; cancelled trades left out.",
    columns=(
        column("overview_date", DATE, "Market date (UTC)"),
        column("exchange", TEXT, "Exchange code"),
        column("total_trades", LONG, "Trades on the exchange"),
        column("total_volume", LONG, "Shares traded on the exchange"),
        column("total_value", PRICE, "Notional value traded on the exchange"),
        column("active_symbols", INTEGER, "Symbols with at least one trade"),
        column("active_traders", INTEGER, "Traders with at least one trade"),
        column("advancers", INTEGER, "Symbols traded here whose daily price change is positive"),
        column("decliners", INTEGER, "Symbols traded here whose daily price change is negative"),
        column("unchanged", INTEGER, "Symbols traded here whose daily price change is zero"),
        column("avg_spread", PRICE, "Mean order-book spread on the exchange; NULL without one"),
        column("market_volatility_idx", RATIO, "Symbols' daily volatility, mean weighted by their volume here"),
        column("_computed_at", INSTANT, "Commit stamp: when the row was computed"),
    ),
    key=("overview_date", "exchange"),
    partitioned_by=("days(overview_date)",),
    stamp="_computed_at",
    policy=GOLD_POLICY,
    sources=("silver.trades", "silver.orderbook_snapshots", "gold.daily_trading_summary"),
    checks={
        "has_trades": "total_trades > 0",
        "changes_are_of_symbols": "advancers + decliners + unchanged <= active_symbols",
    },
)


_UNIT = ("exchange", "overview_date")


def build(trades: DataFrame, books: DataFrame, summaries: DataFrame) -> DataFrame:
    """Overviews of the days of `trades`, stamp left out; grain: one row per exchange and UTC day.

    `trades` are all silver trades of those days that are not cancelled, `books` their order-book rows, `summaries` the
    rows of daily_trading_summary as they are stored.
    """
    of_day = trades.withColumn("overview_date", F.col("trade_date"))
    sums = of_day.groupBy(*_UNIT).agg(
        F.count("*").alias("total_trades"),
        F.try_sum("quantity").alias("total_volume"),
        exact.total(F.col("total_value")).alias("total_value"),
        F.count_distinct("trader_id").cast("int").alias("active_traders"),
    )
    volumes = of_day.groupBy(*_UNIT, "symbol").agg(F.sum(F.col("quantity").cast("decimal(19,0)")).alias("_volume"))
    stored = summaries.select("symbol", F.col("summary_date").alias("overview_date"), "price_change_pct", "volatility")
    change, known = F.col("price_change_pct"), F.col("volatility").isNotNull()
    weighted = F.sum(F.when(known, F.col("volatility") * F.col("_volume")))
    breadth = (
        volumes.join(stored, on=["symbol", "overview_date"], how="left")
        .groupBy(*_UNIT)
        .agg(
            F.count("*").cast("int").alias("active_symbols"),
            F.count_if(change > 0).cast("int").alias("advancers"),
            F.count_if(change < 0).cast("int").alias("decliners"),
            F.count_if(change == 0).cast("int").alias("unchanged"),
            exact.ratio(weighted, F.sum(F.when(known, F.col("_volume"))), RATIO).alias("market_volatility_idx"),
        )
    )
    spreads = books.groupBy("exchange", F.to_date("snapshot_time").alias("overview_date")).agg(
        exact.mean(F.col("spread")).alias("avg_spread")
    )
    joined = sums.join(breadth, on=list(_UNIT), how="inner").join(spreads, on=list(_UNIT), how="left")
    return joined.select(*(name for name in TABLE.column_names if name != TABLE.stamp))


def touched(trades: DataFrame, books: DataFrame, summaries: DataFrame) -> DataFrame:
    """The days (`day`) whose overviews may differ, of the changed rows of what they are built from; one row a day."""
    traded = trades.select(F.col("trade_date").alias("day"))
    quoted = books.select(F.to_date("snapshot_time").alias("day"))
    summed = summaries.select(F.col("summary_date").alias("day"))
    return traded.unionByName(quoted).unionByName(summed).distinct()
