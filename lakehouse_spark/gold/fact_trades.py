"""`gold.fact_trades`: every accepted trade with the keys of its dimension versions."""

from decimal import Decimal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.dim import dim_exchange, dim_symbol, dim_trader
from lakehouse_spark.dim.dim_time import time_key
from lakehouse_spark.gold.fact import SETTLEMENTS, Fact
from lakehouse_spark.silver import trades as silver_trades
from lakehouse_spark.table import GOLD_POLICY, MERGE_ON_READ, Table, column
from lakehouse_spark.transforms.asof import with_version
from lakehouse_spark.transforms.market_hours import with_settlement_date
from lakehouse_spark.types import DATE, INSTANT, LONG, PRICE, TEXT

TABLE = Table(
    name="gold.fact_trades",
    doc="Trade facts, one row per trade of silver.trades, all statuses.",
    columns=(
        column("trade_id", TEXT, "Unique trade identifier"),
        column("symbol_key", LONG, "Surrogate key to dim_symbol: the version valid on the trade's date"),
        column("trader_key", LONG, "Surrogate key to dim_trader: the version valid on the trade's date"),
        column("time_key", LONG, "Surrogate key to dim_time: the trade's UTC minute"),
        column("exchange_key", LONG, "Surrogate key to dim_exchange"),
        column("price", PRICE, "Execution price"),
        column("quantity", LONG, "Trade quantity in shares"),
        column("total_value", PRICE, "price * quantity"),
        column("commission", PRICE, "Broker commission: the payload's, else the configured bps of total_value"),
        column("trade_type", TEXT, "BUY / SELL"),
        column("order_type", TEXT, "MARKET / LIMIT / STOP"),
        column("status", TEXT, "EXECUTED / PARTIAL / CANCELLED"),
        column("settlement_date", DATE, "When it settles: dim_exchange's settlement_days after the local trading day"),
        column("event_timestamp", INSTANT, "Trade timestamp (UTC)"),
        column("_loaded_at", INSTANT, "Commit stamp: when the row was loaded or last changed"),
    ),
    key=("trade_id",),
    partitioned_by=("days(event_timestamp)",),
    sorted_by=("symbol_key", "time_key"),
    stamp="_loaded_at",
    properties=MERGE_ON_READ,
    policy=GOLD_POLICY,
    sources=("silver.trades", "dim.dim_symbol", "dim.dim_trader", "dim.dim_exchange", "dim.dim_time"),
    lookups=("dim.dim_time",),
    checks={
        "keys_are_known": "symbol_key IS NOT NULL AND trader_key IS NOT NULL AND time_key IS NOT NULL",
        "quantity_is_positive": "quantity > 0",
    },
)


def build(
    trades: DataFrame,
    symbols: DataFrame,
    traders: DataFrame,
    exchanges: DataFrame,
    settlements: DataFrame,
    commission_bps: Decimal,
) -> DataFrame:
    """Facts of the silver trades, stamp left out; grain: one row per trade, whatever its status.

    Every trade must find a version of its symbol and trader on its date (see fact_loader), and its exchange and instant
    in `settlements` (market_hours.SETTLEMENTS); `commission_bps` of the value, rounded HALF_UP, stands in for a
    commission that the payload does not name.
    """
    keyed = with_version(trades, symbols, key="symbol", day="trade_date", take=("symbol_key",))
    keyed = with_version(keyed, traders, key="trader_id", day="trade_date", take=("trader_key",))
    codes = exchanges.select(F.col("exchange_code").alias("exchange"), "exchange_key")
    keyed = keyed.join(F.broadcast(codes), on="exchange", how="left")
    keyed = with_settlement_date(keyed, settlements)
    default = F.col("total_value") * F.lit(commission_bps / 10_000)
    return keyed.withColumns(
        {
            "time_key": time_key(F.col("trade_timestamp")),
            "commission": F.coalesce(F.col("commission"), default.try_cast(PRICE)),
            "event_timestamp": F.col("trade_timestamp"),
        }
    ).select(*(name for name in TABLE.column_names if name != TABLE.stamp))


FACT = Fact(
    table=TABLE,
    source=silver_trades.TABLE,
    source_time="trade_timestamp",
    fact_time="event_timestamp",
    references={
        "symbol": dim_symbol.DIMENSION,
        "trader_id": dim_trader.DIMENSION,
        "exchange": dim_exchange.DIMENSION,
    },
    build=lambda rows, looked_up, commission_bps: build(
        rows,
        looked_up[dim_symbol.DIMENSION.name],
        looked_up[dim_trader.DIMENSION.name],
        looked_up[dim_exchange.DIMENSION.name],
        looked_up[SETTLEMENTS],
        commission_bps,
    ),
)
