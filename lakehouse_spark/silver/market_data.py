"""`silver.market_data`: one row per bar; a restatement replaces it."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.bronze import raw_marketdata
from lakehouse_spark.silver import feed
from lakehouse_spark.table import MERGE_ON_READ, SILVER_RETENTION, Table, column
from lakehouse_spark.transforms import quality
from lakehouse_spark.types import INSTANT, INTEGER, LONG, PRICE, TEXT

TABLE = Table(
    name="silver.market_data",
    doc="Validated market-data bars. Grain: one row per symbol, tick_time, interval and exchange.",
    columns=(
        column("market_data_id", TEXT, "md5(symbol|exchange|interval|tick_time)"),
        column("symbol", TEXT, "Ticker symbol"),
        column("tick_time", INSTANT, "Tick timestamp (UTC)"),
        column("interval", TEXT, "Aggregation interval (1m, 5m, 1h, 1d)"),
        column("open", PRICE, "Open price"),
        column("high", PRICE, "High price"),
        column("low", PRICE, "Low price"),
        column("close", PRICE, "Close price"),
        column("volume", LONG, "Volume"),
        column("vwap", PRICE, "Volume-weighted average price"),
        column("trade_count", LONG, "Number of trades in interval"),
        column("exchange", TEXT, "Exchange code"),
        column("_processed_at", INSTANT, "Commit stamp: silver processing timestamp"),
        column("_source_topic", TEXT, "Kafka topic of the record in force"),
        column("_source_partition", INTEGER, "Kafka partition of the record in force"),
        column("_source_offset", LONG, "Kafka offset of the record in force"),
        column("_ingested_at", INSTANT, "When the record in force landed in Bronze: a restatement must be newer"),
        column("_accepted_hashes", T.ArrayType(LONG), "Contents accepted so far: a repeat of any is a duplicate"),
    ),
    key=("market_data_id",),
    partitioned_by=("days(tick_time)", "bucket(16, symbol)"),
    stamp="_processed_at",
    distribution="hash",
    properties=MERGE_ON_READ,
    retention=SILVER_RETENTION,
    sources=("bronze.raw_marketdata", "dim.dim_exchange"),
)

INTERVALS = ("1m", "5m", "1h", "1d")
_PRICES = ("open", "high", "low", "close")


def judge(bronze: DataFrame, exchanges: DataFrame, max_bytes: int) -> DataFrame:
    """Every raw bar with its typed values and `_reasons`; grain: one row per bronze row."""
    records = feed.with_fields(bronze, raw_marketdata.TOPIC, exchanges, max_bytes).withColumn(
        "_exact", quality.exact_digits(F.col("raw_payload"), (*_PRICES, "vwap"), max_bytes)
    )
    fields, exact = F.col("_fields"), F.col("_exact")
    symbol = quality.symbol(fields)
    tick_time = quality.event_time(fields, "tick_time", F.col("_ingested_at"))
    interval = quality.text(fields, "interval")
    interval = quality.Field(F.lower(interval.value), interval.reason)
    interval = interval.unless(~interval.value.isin(*INTERVALS), "invalid_interval")
    opened, high, low, close = (quality.decimal(fields, name, exact) for name in _PRICES)
    volume = quality.integer(fields, "volume")
    volume = volume.unless(volume.value < 0, "invalid_volume")
    vwap = quality.decimal(fields, "vwap", exact, required=False)
    trade_count = quality.integer(fields, "trade_count", required=False)
    exchange = quality.exchange(fields, F.col("_known"))
    outside = (low.value > F.least(opened.value, close.value)) | (high.value < F.greatest(opened.value, close.value))
    inconsistent = F.when(outside, F.lit("inconsistent_ohlc"))
    checked = (symbol, tick_time, interval, opened, high, low, close, volume, vwap, trade_count, exchange)
    values = {
        "market_data_id": feed.generated_key(
            symbol.value, exchange.value, interval.value, feed.utc_text(tick_time.value)
        ),
        "symbol": symbol.value,
        "tick_time": tick_time.value,
        "interval": interval.value,
        "open": opened.value,
        "high": high.value,
        "low": low.value,
        "close": close.value,
        "volume": volume.value,
        "vwap": vwap.value,
        "trade_count": trade_count.value,
        "exchange": exchange.value,
    }
    return feed.judged(records, values, [field.reason for field in checked] + [inconsistent], TABLE, "tick_time")


FEED = feed.Feed(
    table=TABLE,
    topic=raw_marketdata.TOPIC,
    judge=judge,
    key="market_data_id",
    content=("open", "high", "low", "close", "volume", "vwap", "trade_count"),
    event_time="tick_time",
    restates=True,
)
