"""`gold.trader_performance`: volumes, realized P&L and risk of a trader's day."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_spark.gold.scope import Scope
from lakehouse_spark.table import GOLD_POLICY, Table, column
from lakehouse_spark.transforms import exact, lots
from lakehouse_spark.transforms.asof import with_version
from lakehouse_spark.types import DATE, INSTANT, INTEGER, LONG, PERCENT, PRICE, RATE, RATIO, TEXT

TABLE = Table(
    name="gold.trader_performance",
    doc="Trader performance by FIFO lots, one row per trader per UTC day with trades; cancelled trades left out.",
    columns=(
        column("performance_date", DATE, "Evaluation date (UTC)"),
        column("trader_id", TEXT, "Trader identifier"),
        column("trader_name", TEXT, "dim_trader's name as of the day"),
        column("account_type", TEXT, "dim_trader's account_type as of the day"),
        column("risk_category", TEXT, "dim_trader's risk_category as of the day"),
        column("total_trades", LONG, "Trades of the day"),
        column("total_volume", LONG, "Total shares traded"),
        column("total_notional", PRICE, "Total trade value"),
        column("realized_pnl", PRICE, "Profit or loss of the shares closed that day, gross of commission"),
        column("win_rate", RATE, "Share of closing trades with a profit (0-1); NULL without closing trades"),
        column("avg_hold_time_sec", LONG, "Share-weighted mean holding time of the shares closed, in seconds"),
        column("max_drawdown_pct", PERCENT, "Largest fall of cumulative P&L from its peak, % of total_notional"),
        column("sharpe_ratio", RATIO, "Mean over standard deviation of returns per closing trade; NULL under 2"),
        column("distinct_symbols", INTEGER, "Number of distinct symbols traded"),
        column("_computed_at", INSTANT, "Commit stamp: when the row was computed"),
    ),
    key=("performance_date", "trader_id"),
    partitioned_by=("days(performance_date)",),
    stamp="_computed_at",
    policy=GOLD_POLICY,
    sources=("silver.trades", "dim.dim_trader", "dim.dim_account", "gold.daily_trading_summary", "gold._open_lots"),
    lookups=("gold.daily_trading_summary", "gold._open_lots"),  # they change with the trades, which are followed
    checks={
        "has_trades": "total_trades > 0",
        "win_rate_is_a_share": "win_rate BETWEEN 0 AND 1",
    },
)


_UNIT = ("trader_id", "performance_date")
_ATTRIBUTES = ("trader_name", "account_type", "risk_category")


def build(trades: DataFrame, pieces: DataFrame, traders: DataFrame) -> DataFrame:
    """Performance of the traders and days of `trades`, stamp left out; grain: one row per trader and UTC day.

    `trades` are all silver trades of those traders and days that are not cancelled, `pieces` what they close
    (lots.pieces), `traders` the versions of dim_trader. Amounts in the trading currency, gross of commission. What no
    version of the trader says on the day is NULL.
    """
    sums = (
        trades.withColumn("performance_date", F.col("trade_date"))
        .groupBy(*_UNIT)
        .agg(
            F.count("*").alias("total_trades"),
            F.try_sum("quantity").alias("total_volume"),
            exact.total(F.col("total_value")).alias("total_notional"),
            F.count_distinct("symbol").cast("int").alias("distinct_symbols"),
        )
    )
    joined = sums.join(_closes(pieces), on=list(_UNIT), how="left")
    total = joined.withColumns(
        {
            "realized_pnl": F.when(F.col("win_rate").isNull(), F.lit(0).cast(PRICE)).otherwise(F.col("realized_pnl")),
            "max_drawdown_pct": exact.percent(F.col("_drawdown"), F.col("total_notional"), PERCENT),
        }
    )
    return with_attributes(total, traders)


def _closes(pieces: DataFrame) -> DataFrame:
    """The columns about closing trades; grain: one row per trader and day that has any."""
    micros = F.unix_micros("closed.at") - F.unix_micros("opened.at")
    shares = F.col("shares").cast("decimal(19,0)")
    closing = (
        pieces.where(F.col("closed").isNotNull())
        .withColumn("performance_date", F.to_date("closed.at"))
        .groupBy(*_UNIT, F.col("closed.trade_id").alias("_trade"), F.col("closed.at").alias("_at"))
        .agg(
            F.try_sum(lots.pnl()).alias("_pnl"),
            F.try_sum(lots.cost()).alias("_cost"),
            F.try_sum(shares).alias("_shares"),
            F.try_sum(micros.cast("decimal(19,0)") * shares).alias("_held"),
        )
    )
    so_far = Window.partitionBy(*_UNIT).orderBy("_at", "_trade").rowsBetween(Window.unboundedPreceding, 0)
    run = closing.withColumn("_cumulative", F.try_sum("_pnl").over(so_far))
    peak = F.greatest(F.max("_cumulative").over(so_far), F.lit(0))
    fallen = run.withColumns(
        {
            "_fall": peak - F.col("_cumulative"),
            "_return": F.try_divide(F.col("_pnl").cast("double"), F.col("_cost").cast("double")),
        }
    )
    varied = F.min("_return") < F.max("_return")
    sharpe = exact.rounded(F.try_divide(F.avg("_return"), F.stddev_samp("_return")), RATIO)
    # Whole seconds by hand: a quotient of decimals is rounded to six digits first, and then a second time.
    held, second = F.try_sum("_held"), F.try_sum("_shares") * F.lit(1_000_000).cast("decimal(7,0)")
    part = F.try_mod(held, second)
    return fallen.groupBy(*_UNIT).agg(
        F.try_sum("_pnl").try_cast(PRICE).alias("realized_pnl"),
        exact.ratio(F.count_if(F.col("_pnl") > 0), F.count("*"), RATE).alias("win_rate"),
        (((held - part) / second).try_cast("bigint") + F.when(part * 2 >= second, 1).otherwise(0)).alias(
            "avg_hold_time_sec"
        ),
        F.max("_fall").alias("_drawdown"),
        F.when(varied, sharpe).alias("sharpe_ratio"),
    )


def with_attributes(rows: DataFrame, traders: DataFrame) -> DataFrame:
    """Adds the trader's attributes as of the day; the name falls back to the trader_id."""
    versions = traders.withColumnRenamed("name", "trader_name")
    described = with_version(rows, versions, key="trader_id", day="performance_date", take=(*_ATTRIBUTES, "_row_hash"))
    unknown = F.col("_row_hash").isNull()
    named = described.withColumn("trader_name", F.when(unknown, F.col("trader_id")).otherwise(F.col("trader_name")))
    return named.select(*(name for name in TABLE.column_names if name != TABLE.stamp))


def again(held: DataFrame, traders: DataFrame) -> DataFrame:
    """The held rows with their traders' attributes looked up anew."""
    return with_attributes(held.drop(*_ATTRIBUTES), traders)


def touched_outside(held: DataFrame, members: DataFrame, scope: Scope) -> DataFrame:
    """The held rows outside the scope that a change of dim_trader can have touched: only their attributes may differ.

    `members` has each changed `trader_id` and `from_day`, the first day on which a version of it can differ.
    """
    dated = held.join(members, on="trader_id", how="inner").where(F.col("performance_date") >= F.col("from_day"))
    within = scope.of(held, "performance_date", "performance_date").select(*TABLE.key)
    return dated.drop("from_day").join(within, on=list(TABLE.key), how="left_anti").select(*held.columns)
