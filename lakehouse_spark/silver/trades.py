"""`silver.trades`: one row per trade, typed and validated; its status moves only forward."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.bronze import raw_trades
from lakehouse_spark.silver import feed
from lakehouse_spark.table import MERGE_ON_READ, SILVER_RETENTION, Table, column
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
    retention=SILVER_RETENTION,
    sources=("bronze.raw_trades", "dim.dim_exchange"),
)

STATUSES = ("PARTIAL", "EXECUTED", "CANCELLED")
"""In the order in which a trade may move through them; steps may be skipped."""


def judge(bronze: DataFrame, exchanges: DataFrame, max_bytes: int) -> DataFrame:
    """Every raw trade with its typed values and `_reasons`; grain: one row per bronze row.

    Prices in the trading currency, quantities in shares, instants in UTC. Repeats are not looked at here.
    """
    records = feed.with_fields(bronze, raw_trades.TOPIC, exchanges, max_bytes).withColumn(
        "_exact", quality.exact_digits(F.col("raw_payload"), ("price", "commission"), max_bytes)
    )
    fields, exact = F.col("_fields"), F.col("_exact")

    trade_id = quality.text(fields, "trade_id")
    symbol = quality.symbol(fields)
    price = quality.decimal(fields, "price", exact)
    price = price.unless(price.value <= 0, "invalid_price")
    quantity = quality.integer(fields, "quantity")
    quantity = quantity.unless(quantity.value <= 0, "invalid_quantity")
    trade_type = quality.code(fields, "trade_type", ("BUY", "SELL"))
    order_type = quality.code(fields, "order_type", ("MARKET", "LIMIT", "STOP"))
    trader_id = quality.text(fields, "trader_id")
    exchange = quality.exchange(fields, F.col("_known"))
    timestamp = quality.event_time(fields, "timestamp", F.col("_ingested_at"))
    account_id = quality.text(fields, "account_id", required=False)
    status = quality.code(fields, "status", STATUSES, default="EXECUTED")
    commission = quality.decimal(fields, "commission", exact, required=False)

    total_value = (price.value * quantity.value.cast("decimal(19,0)")).try_cast(PRICE)
    priced = price.reason.isNull() & quantity.reason.isNull()
    overflow = F.when(priced & total_value.isNull(), F.lit("value_overflow"))
    checked = (
        trade_id, symbol, price, quantity, trade_type, order_type, trader_id, exchange, timestamp, account_id, status,
        commission,
    )  # fmt: skip
    values = {
        "trade_id": trade_id.value,
        "symbol": symbol.value,
        "price": price.value,
        "quantity": quantity.value,
        "total_value": total_value,
        "trade_type": trade_type.value,
        "order_type": order_type.value,
        "trader_id": trader_id.value,
        "exchange": exchange.value,
        "trade_timestamp": timestamp.value,
        "trade_date": F.to_date(timestamp.value),
        "account_id": account_id.value,
        "status": status.value,
        "commission": commission.value,
    }
    rules = [field.reason for field in checked] + [overflow]
    return feed.judged(records, values, rules, TABLE, "trade_timestamp")


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
    key_repeats_across_days=True,
)  # fmt: skip
