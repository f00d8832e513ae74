"""`gold.daily_trading_summary`: prices, volumes and volatility of a symbol's day."""

from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_spark.gold import symbol_days
from lakehouse_spark.silver import trades as silver_trades
from lakehouse_spark.table import GOLD_POLICY, Table, column
from lakehouse_spark.transforms import exact
from lakehouse_spark.transforms.asof import with_version
from lakehouse_spark.types import DATE, INSTANT, LONG, PERCENT, PRICE, RATIO, TEXT

TABLE = Table(
    name="gold.daily_trading_summary",
    doc="Daily trading metrics, one row per symbol per UTC day with trades; cancelled trades left out.",
    columns=(
        column("summary_date", DATE, "Trading date (UTC)"),
        column("symbol", TEXT, "Ticker symbol"),
        column("company_name", TEXT, "dim_symbol's company_name as of the day"),
        column("sector", TEXT, "dim_symbol's sector as of the day"),
        column("exchange", TEXT, "Listing exchange as of the day, else the exchange with the largest volume"),
        column("open_price", PRICE, "Price of the day's first trade"),
        column("close_price", PRICE, "Price of the day's last trade"),
        column("high_price", PRICE, "Day high"),
        column("low_price", PRICE, "Day low"),
        column("vwap", PRICE, "Volume-weighted average price"),
        column("total_volume", LONG, "Total shares traded"),
        column("total_value", PRICE, "Total notional value"),
        column("trade_count", LONG, "Number of trades"),
        column("buy_volume", LONG, "Shares of BUY trades"),
        column("sell_volume", LONG, "Shares of SELL trades"),
        column("avg_spread", PRICE, "Mean order-book spread of the day; NULL without one"),
        column("price_change_pct", PERCENT, "Change in percent on the latest earlier close, else on this day's open"),
        column("volatility", RATIO, "Sample standard deviation of trade-to-trade returns; NULL under 3 trades"),
        column("_computed_at", INSTANT, "Commit stamp: when the row was computed"),
    ),
    key=("summary_date", "symbol"),
    partitioned_by=("days(summary_date)",),
    sorted_by=("symbol", "summary_date"),
    stamp="_computed_at",
    policy=GOLD_POLICY,
    sources=("silver.trades", "silver.orderbook_snapshots", "dim.dim_symbol"),
    checks={
        "low_is_lowest": "low_price <= least(open_price, close_price, vwap)",
        "high_is_highest": "greatest(open_price, close_price, vwap) <= high_price",
        "volume_is_bought_and_sold": "total_volume = try_add(buy_volume, sell_volume)",
        "has_trades": "trade_count > 0",
    },
)


_UNIT = ("symbol", "summary_date")
_LOOK_BACK = timedelta(days=7)
"""Where a symbol's latest earlier close is looked for first; the whole history only for those without one there."""


def build(trades: DataFrame, books: DataFrame, symbols: DataFrame, closes: DataFrame) -> DataFrame:
    """Summaries of the symbols and days of `trades`, stamp left out; grain: one row per symbol and UTC day.

    `trades` are all silver trades of those symbols and days that are not cancelled, `books` their order-book rows,
    `symbols` the versions of dim_symbol, `closes` earlier summaries' `symbol`, `summary_date` and `close_price`, of
    days that are not built here. Prices in the trading currency, volumes in shares, changes in percent. Without a
    version that says them, company_name (but for the symbol itself in an inferred one) and sector are NULL, and the
    exchange is the one with the largest volume.
    """
    of_day = trades.withColumn("summary_date", F.col("trade_date"))
    place = silver_trades.place()
    before = F.lag("price").over(Window.partitionBy(*_UNIT).orderBy("trade_timestamp", "trade_id"))
    returns = of_day.withColumn("_return", F.try_divide(F.col("price").cast("double"), before.cast("double")) - 1)
    sums = returns.groupBy(*_UNIT).agg(
        F.min_by("price", place).alias("open_price"),
        F.max_by("price", place).alias("close_price"),
        F.max("price").alias("high_price"),
        F.min("price").alias("low_price"),
        exact.quotient(F.try_sum("total_value"), F.try_sum(F.col("quantity").cast("decimal(19,0)"))).alias("vwap"),
        F.try_sum("quantity").alias("total_volume"),
        exact.total(F.col("total_value")).alias("total_value"),
        F.count("*").alias("trade_count"),
        _volume_of("BUY").alias("buy_volume"),
        _volume_of("SELL").alias("sell_volume"),
        F.when(F.count("*") > 2, exact.rounded(F.stddev_samp("_return"), RATIO)).alias("volatility"),
    )
    spreads = books.groupBy("symbol", F.to_date("snapshot_time").alias("summary_date")).agg(
        exact.mean(F.col("spread")).alias("avg_spread")
    )
    volumes = of_day.groupBy(*_UNIT, "exchange").agg(F.sum(F.col("quantity").cast("decimal(28,0)")).alias("_volume"))
    busiest = volumes.groupBy(*_UNIT).agg(
        F.min_by("exchange", F.struct(-F.col("_volume"), F.col("exchange"))).alias("_busiest")
    )
    joined = _with_base(sums, closes).join(spreads, on=list(_UNIT), how="left").join(busiest, on=list(_UNIT))
    return with_attributes(joined, symbols)


def _volume_of(side: str) -> Column:
    return F.try_sum(F.when(F.col("trade_type") == side, F.col("quantity")).otherwise(0))


def _with_base(sums: DataFrame, closes: DataFrame) -> DataFrame:
    """Adds `price_change_pct`, on the close of the symbol's latest earlier day."""
    built = sums.select(*sums.columns, F.lit(True).alias("_built"))
    timeline = built.unionByName(closes.select(*_UNIT, "close_price"), allowMissingColumns=True)
    earlier = F.lag("close_price").over(Window.partitionBy("symbol").orderBy("summary_date"))
    based = timeline.withColumn("_base", F.coalesce(earlier, F.col("open_price"))).where("_built")
    change = exact.percent(F.col("close_price") - F.col("_base"), F.col("_base"), PERCENT)
    return based.withColumn("price_change_pct", change).drop("_base", "_built")


def with_attributes(rows: DataFrame, symbols: DataFrame) -> DataFrame:
    """Adds the symbol's attributes as of the day; `exchange` falls back to `_busiest`, company_name to the symbol."""
    take = ("company_name", "sector", "listing_exchange", "_row_hash")
    described = with_version(rows, symbols, key="symbol", day="summary_date", take=take)
    unknown = F.col("_row_hash").isNull()
    named = described.withColumn("company_name", F.when(unknown, F.col("symbol")).otherwise(F.col("company_name")))
    listed = named.withColumn("exchange", F.coalesce("listing_exchange", "_busiest"))
    return listed.select(*(name for name in TABLE.column_names if name != TABLE.stamp))


def touched(traded: DataFrame, first: date | None, books: DataFrame, members: DataFrame, held: DataFrame) -> DataFrame:
    """Symbols and days (`symbol`, `day`) whose `held` summary may differ; grain: one row per symbol and day.

    `traded` are the symbols and days with changed trades, from the day `first` on (None: there are none), `books` the
    changed order-book rows, `members` the changed members of dim_symbol (see `symbol_days.of_members`).
    """
    units = traded.unionByName(symbol_days.of(books, "snapshot_time"))
    units = units.unionByName(symbol_days.of_members(members, held, "summary_date"))
    return (units if first is None else units.unionByName(_next_days(held, traded, first))).distinct()


def _next_days(held: DataFrame, traded: DataFrame, first: date) -> DataFrame:
    """The symbols' next days after those that were traded on, whose price change is measured on the closes of these."""
    changed = traded.withColumnRenamed("day", "_changed")
    later = held.where(F.col("summary_date") > F.lit(first)).join(changed, on="symbol", how="inner")
    return (
        later.where(F.col("summary_date") > F.col("_changed"))
        .groupBy("symbol", "_changed")
        .agg(F.min("summary_date").alias("day"))
        .select("symbol", "day")
    )


def recent_closes(held: DataFrame, touched: DataFrame, first: date, last: date) -> tuple[DataFrame, DataFrame]:
    """Held closes of the touched symbols on other days, from a week before `first` to `last`, the outermost touched
    days; and the symbols (`symbol`) that have none among them before their own first touched day."""
    symbols = touched.groupBy("symbol").agg(F.min("day").alias("_first"))
    day = F.col("summary_date")
    recent = held.where((day >= F.lit(first - _LOOK_BACK)) & (day <= F.lit(last)))
    recent = recent.join(symbols, on="symbol", how="inner")
    recent = recent.join(touched.withColumnRenamed("day", "summary_date"), on=list(_UNIT), how="left_anti")
    found = recent.where(day < F.col("_first")).select("symbol").distinct()
    return recent.select(*_UNIT, "close_price"), symbols.join(found, on="symbol", how="left_anti").select("symbol")


def older_closes(held: DataFrame, symbols: DataFrame, first: date) -> DataFrame:
    """Held closes of these symbols from before the days of `recent_closes`."""
    older = held.where(F.col("summary_date") < F.lit(first - _LOOK_BACK))
    return older.join(F.broadcast(symbols), on="symbol", how="inner").select(*_UNIT, "close_price")
