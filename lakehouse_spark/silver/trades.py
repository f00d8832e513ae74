"""`silver.trades`: one row per trade, typed and validated; its status moves only forward."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.bronze import raw_trades
from lakehouse_spark.silver import feed
from lakehouse_spark.table import MERGE_ON_READ, SILVER_POLICY, Table, column
from lakehouse_spark.transforms import quality
from lakehouse_spark.types import DATE, INSTANT, INTEGER, LONG, PRICE, TEXT

TABLE = Table(
    name="silver.trades",
    doc="Validated, deduplicated trades. Grain: one row per trade_id.",
    columns=(
        column("trade_id", TEXT, "Deduplicated trade identifier"),
        column("symbol", TEXT, "Ticker symbol"),
        column("price", PRICE, "Execution price (precise)"),
        column("quantity", LONG, "Shares / units"),
        column("total_value", PRICE, "price * quantity"),
        column("trade_type", TEXT, "BUY / SELL (validated enum)"),
        column("order_type", TEXT, "MARKET / LIMIT / STOP (validated)"),
        column("trader_id", TEXT, "Trader identifier"),
        column("exchange", TEXT, "Exchange code"),
        column("trade_timestamp", INSTANT, "Event timestamp (UTC normalized)"),
        column("trade_date", DATE, "Derived UTC date for partitioning"),
        column("_source_offset", LONG, "Kafka offset for lineage"),
        column("_processed_at", INSTANT, "Commit stamp: silver processing timestamp"),
        column("account_id", TEXT, "Trading account, where the payload names one"),
        column("status", TEXT, "EXECUTED / PARTIAL / CANCELLED"),
        column("commission", PRICE, "Broker commission, where the payload names one"),
        column("_source_topic", TEXT, "Kafka topic for lineage"),
        column("_source_partition", INTEGER, "Kafka partition for lineage"),
    ),
    key=("trade_id",),
    partitioned_by=("days(trade_timestamp)", "bucket(16, symbol)"),
    sorted_by=("symbol", "trade_timestamp"),
    stamp="_processed_at",
    distribution="hash",
    properties=MERGE_ON_READ,
    policy=SILVER_POLICY,
    sources=("bronze.raw_trades", "dim.dim_exchange"),
    lookups=("dim.dim_exchange",),
    checks={
        "price_is_positive": "price > 0",
        "quantity_is_positive": "quantity > 0",
        "date_is_of_timestamp": "trade_date = to_date(trade_timestamp)",
    },
)

STATUSES = ("PARTIAL", "EXECUTED", "CANCELLED")
"""In the order in which a trade may move through them; steps may be skipped. A cancellation has a time of its own."""


def place() -> Column:
    """Where a trade stands among others in their order: by its time, then by its id."""
    return F.struct("trade_timestamp", "trade_id")


def live(trades: DataFrame) -> DataFrame:
    """The trades that count: all that are not cancelled."""
    return trades.where(F.col("status") != "CANCELLED")


def judge(bronze: DataFrame, exchanges: DataFrame, max_bytes: int) -> DataFrame:
    """Every raw trade with its typed values and `_reasons`; grain: one row per bronze row.

    Prices in the trading currency, quantities in shares, instants in UTC. Repeats are not looked at here.
    """
    records = quality.with_values(feed.with_fields(bronze, raw_trades.TOPIC, exchanges, max_bytes), _FIELDS)
    total_value = (F.col("v_price") * F.col("v_quantity").cast("decimal(19,0)")).try_cast(PRICE)
    priced = records.withColumn("v_total_value", total_value).withColumn("v_trade_date", F.to_date("v_timestamp"))
    sound = F.col("r_price").isNull() & F.col("r_quantity").isNull()
    overflow = F.when(sound & F.col("v_total_value").isNull(), F.lit("value_overflow"))
    rules = [F.col(f"r_{field.name}") for field in _FIELDS] + [overflow]
    return feed.judged(priced, rules, TABLE, {"trade_timestamp": F.col("v_timestamp")}, "trade_timestamp")


_FIELDS = (
    quality.text("trade_id"),
    quality.symbol(),
    quality.decimal("price").unless(lambda price: price <= 0, "invalid_price"),
    quality.integer("quantity").unless(lambda quantity: quantity <= 0, "invalid_quantity"),
    quality.code("trade_type", "BUY", "SELL"),
    quality.code("order_type", "MARKET", "LIMIT", "STOP"),
    quality.text("trader_id"),
    quality.exchange(),
    quality.event_time("timestamp"),
    quality.text("account_id", required=False),
    quality.code("status", *STATUSES, default="EXECUTED", synonyms={"CANCELED": "CANCELLED"}),
    quality.decimal("commission", required=False),
)

FEED = feed.Feed(
    table=TABLE,
    topic=raw_trades.TOPIC,
    judge=judge,
    key="trade_id",
    content=(
        "symbol", "price", "quantity", "total_value", "trade_type", "order_type", "trader_id", "exchange",
        "trade_timestamp", "account_id", "commission",
    ),
    event_time="trade_timestamp",
    status="status",
    steps=STATUSES,
    untimed="trade_timestamp",
    key_repeats_across_days=True,
)  # fmt: skip
