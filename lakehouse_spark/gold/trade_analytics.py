"""`gold.trade_analytics`: trade sizes, flow and price impact by market session."""

from decimal import Decimal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_spark.gold import symbol_days
from lakehouse_spark.table import GOLD_POLICY, Table, column
from lakehouse_spark.transforms import exact
from lakehouse_spark.transforms.asof import with_version
from lakehouse_spark.transforms.market_hours import with_session
from lakehouse_spark.types import DATE, INSTANT, LONG, PERCENT, PRICE, RATIO, TEXT

TABLE = Table(
    name="gold.trade_analytics",
    doc="Trade microstructure, one row per symbol, exchange and market session per UTC day; cancelled trades left out.",
    columns=(
        column("analytics_date", DATE, "Analysis date (UTC)"),
        column("symbol", TEXT, "Ticker symbol"),
        column("sector", TEXT, "dim_symbol's sector as of the day"),
        column("industry", TEXT, "dim_symbol's industry as of the day"),
        column("exchange", TEXT, "Exchange code"),
        column("market_session", TEXT, "PRE_MARKET / REGULAR / AFTER_HOURS / CLOSED by the exchange's calendar"),
        column("trade_count", LONG, "Number of trades"),
        column("volume", LONG, "Total shares traded"),
        column("notional_value", PRICE, "Total notional value"),
        column("avg_trade_size", PRICE, "Mean quantity per trade, in shares"),
        column("buy_sell_ratio", PERCENT, "Buy volume / sell volume; NULL without sells"),
        column("large_trade_count", LONG, "Trades at or above the large-trade threshold"),
        column("large_trade_pct", PERCENT, "Volume of large trades / volume (0-1)"),
        column("price_impact_avg", RATIO, "Mean signed return from the previous trade, + for BUY; NULL without one"),
        column("_computed_at", INSTANT, "Commit stamp: when the row was computed"),
    ),
    key=("analytics_date", "symbol", "exchange", "market_session"),
    partitioned_by=("days(analytics_date)",),
    stamp="_computed_at",
    policy=GOLD_POLICY,
    sources=("silver.trades", "dim.dim_symbol", "dim.dim_exchange"),
    checks={
        "has_trades": "trade_count > 0",
        "large_trades_are_trades": "large_trade_count <= trade_count AND large_trade_pct BETWEEN 0 AND 1",
    },
)


_UNIT = ("analytics_date", "symbol", "exchange", "market_session")


def build(
    trades: DataFrame, symbols: DataFrame, hours: DataFrame, large_quantity: int, large_value: Decimal
) -> DataFrame:
    """Analytics of the symbols and days of `trades`, stamp left out; grain as the table's.

    `trades` are all silver trades of those symbols and days that are not cancelled, `symbols` the versions of
    dim_symbol, `hours` the exchanges' trading days (market_hours.HOURS). A trade is large from `large_quantity` shares
    or `large_value` on. Its impact is measured on the trade before it of its symbol, exchange and day, whatever session
    that was in, + for a price that moved with it.
    """
    in_order = Window.partitionBy("trade_date", "symbol", "exchange").orderBy("trade_timestamp", "trade_id")
    before = F.lag("price").over(in_order)
    move = F.try_divide((F.col("price") - before).cast("double"), before.cast("double"))
    measured = with_session(trades, hours).withColumns(
        {
            "analytics_date": F.col("trade_date"),
            "_impact": F.when(F.col("trade_type") == "BUY", move).otherwise(-move),
            "_large": (F.col("quantity") >= large_quantity) | (F.col("total_value") >= F.lit(large_value)),
        }
    )
    quantity = F.col("quantity").cast("decimal(28,0)")
    volume = F.sum(quantity)
    bought = F.sum(F.when(F.col("trade_type") == "BUY", quantity).otherwise(0))
    sold = F.sum(F.when(F.col("trade_type") == "SELL", quantity).otherwise(0))
    sums = measured.groupBy(*_UNIT).agg(
        F.count("*").alias("trade_count"),
        F.try_sum("quantity").alias("volume"),
        exact.total(F.col("total_value")).alias("notional_value"),
        exact.quotient(volume, F.count("*")).alias("avg_trade_size"),
        exact.ratio(bought, sold, PERCENT).alias("buy_sell_ratio"),
        F.count_if("_large").alias("large_trade_count"),
        exact.ratio(F.sum(F.when(F.col("_large"), quantity).otherwise(0)), volume, PERCENT).alias("large_trade_pct"),
        exact.rounded(F.avg("_impact"), RATIO).alias("price_impact_avg"),
    )
    described = with_version(sums, symbols, key="symbol", day="analytics_date", take=("sector", "industry"))
    return described.select(*(name for name in TABLE.column_names if name != TABLE.stamp))


def touched(trades: DataFrame, members: DataFrame, held: DataFrame) -> DataFrame:
    """Symbols and days (`symbol`, `day`) whose `held` rows may differ; grain: one row per symbol and day.

    `trades` are the changed ones, `members` the changed members of dim_symbol. A change of dim_exchange is not looked
    at here: other hours move trades of any day into other sessions.
    """
    units = symbol_days.of(trades, "trade_date")
    return units.unionByName(symbol_days.of_members(members, held, "analytics_date")).distinct()
