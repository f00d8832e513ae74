"""`gold.portfolio_positions`: what every account holds at the end of a day, and what it is worth."""

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_spark.table import GOLD_POLICY, Table, column
from lakehouse_spark.transforms import exact
from lakehouse_spark.types import DATE, INSTANT, LONG, PERCENT, PRICE, TEXT

TABLE = Table(
    name="gold.portfolio_positions",
    doc="Open positions by FIFO lots, one row per trader, account and symbol per UTC day with trades anywhere.",
    columns=(
        column("position_date", DATE, "Position as of the end of this day (UTC)"),
        column("trader_id", TEXT, "Trader identifier"),
        column("account_id", TEXT, "Trading account; UNKNOWN where none is known"),
        column("symbol", TEXT, "Ticker symbol"),
        column("quantity", LONG, "Net position in shares (positive=long, negative=short), never 0"),
        column("avg_cost_basis", PRICE, "Share-weighted entry price of the open lots"),
        column("current_price", PRICE, "Last traded price at or before the end of the day"),
        column("market_value", PRICE, "quantity * current_price"),
        column("unrealized_pnl", PRICE, "(current_price - avg_cost_basis) * quantity"),
        column("unrealized_pnl_pct", PERCENT, "unrealized_pnl in percent of |quantity| * avg_cost_basis"),
        column("weight_pct", PERCENT, "|market_value| in percent of the account's sum of |market_value|"),
        column("_computed_at", INSTANT, "Commit stamp: when the row was computed"),
    ),
    key=("position_date", "trader_id", "account_id", "symbol"),
    partitioned_by=("days(position_date)",),
    stamp="_computed_at",
    policy=GOLD_POLICY,
    sources=("silver.trades", "dim.dim_account", "gold.daily_trading_summary", "gold._open_lots"),
    lookups=("gold.daily_trading_summary", "gold._open_lots"),  # they change with the trades, which are followed
    checks={
        "is_open": "quantity <> 0",
        "weight_is_a_percentage": "weight_pct BETWEEN 0 AND 100",
    },
)


_UNIT = ("position_date", "trader_id", "account_id", "symbol")


def build(lots: DataFrame, closes: DataFrame) -> DataFrame:
    """Positions of the days of `lots`, stamp left out; grain: one row per trader, account, symbol and UTC day.

    `lots` are rows of gold._open_lots, all of a day's or all of some traders'; `closes` the symbols' closing prices
    (`symbol`, `summary_date`, `close_price`), reaching back to the last trade before the first of the days.
    """
    shares = F.col("quantity").cast("decimal(28,0)")
    side = F.when(F.col("side") == "BUY", 1).otherwise(-1)
    positions = (
        lots.withColumn("position_date", F.col("lot_date"))
        .groupBy(*_UNIT)
        .agg(F.sum(shares * side).alias("_net"), F.sum(F.col("price") * shares).alias("_cost"))
    )
    priced = _with_price(positions, closes)
    net, price = F.col("_net"), F.col("current_price")
    value = F.try_multiply(net, price)  # a value beyond any type is NULL: accepted records must not stop the table
    gain = F.try_subtract(value, F.signum("_net").cast("decimal(1,0)") * F.col("_cost"))
    valued = priced.withColumns({"_value": value, "_gain": gain})
    of_account = Window.partitionBy("position_date", "trader_id", "account_id")
    is_whole = F.count("_value").over(of_account) == F.count(F.lit(1)).over(of_account)
    whole = F.when(is_whole, F.try_sum(F.abs("_value")).over(of_account))
    return valued.select(
        *_UNIT,
        net.try_cast("bigint").alias("quantity"),
        exact.quotient(F.col("_cost"), F.abs(net)).alias("avg_cost_basis"),
        "current_price",
        F.col("_value").try_cast(PRICE).alias("market_value"),
        F.col("_gain").try_cast(PRICE).alias("unrealized_pnl"),
        exact.percent(F.col("_gain"), F.col("_cost"), PERCENT).alias("unrealized_pnl_pct"),
        exact.percent(F.abs("_value"), whole, PERCENT).alias("weight_pct"),
    )


def _with_price(positions: DataFrame, closes: DataFrame) -> DataFrame:
    """Adds `current_price`: the symbol's close on the latest day up to the position's."""
    asked = positions.select("symbol", F.col("position_date").alias("_day")).distinct()
    closed = closes.select("symbol", F.col("summary_date").alias("_day"), "close_price")
    timeline = asked.withColumn("_asked", F.lit(True)).unionByName(closed, allowMissingColumns=True)
    up_to = Window.partitionBy("symbol").orderBy("_day").rangeBetween(Window.unboundedPreceding, 0)
    last = F.last("close_price", ignorenulls=True).over(up_to)
    prices = timeline.withColumn("current_price", last).where("_asked")
    prices = prices.select("symbol", F.col("_day").alias("position_date"), "current_price")
    return positions.join(prices, on=["symbol", "position_date"], how="left")


def closes(summaries: DataFrame, held: DataFrame, first: date | None, before: date | None) -> DataFrame:
    """Closing prices for the days from `first` on (None: for no day), as `build` takes them.

    Those of `before`, the trading day before these days, come from the positions `held` then: so no earlier summary is
    read, unless there is no day before.
    """
    columns = ("symbol", "summary_date", "close_price")
    if first is not None and before is None:
        return summaries.select(*columns)
    carried = held.where(F.col("position_date") == F.lit(before)).select(
        "symbol", F.col("position_date").alias("summary_date"), F.col("current_price").alias("close_price")
    )
    since = summaries.where(F.col("summary_date") >= F.lit(first)).select(*columns)
    return since.unionByName(carried.distinct())


def repriced(held: DataFrame, closes: DataFrame, traded: DataFrame, first: date | None) -> DataFrame:
    """The traders who hold a position at another price than the `closes` (see `build`) say now, and `since` when.

    `traded` are the `symbol` and `trade_date` of trades that changed, on `first` and later; only these can have moved a
    price, from their own day on.
    """
    changed = traded.groupBy("symbol").agg(F.min("trade_date").alias("_from"))
    ours = held.where(F.col("position_date") >= F.lit(first)).join(F.broadcast(changed), on="symbol", how="inner")
    theirs = ours.where(F.col("position_date") >= F.col("_from"))
    was = theirs.select(*_UNIT, F.col("current_price").alias("_was"))
    moved = _with_price(was, closes).where(~F.col("current_price").eqNullSafe(F.col("_was")))
    return moved.groupBy("trader_id").agg(F.min("position_date").alias("since"))
