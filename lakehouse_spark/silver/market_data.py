"""`silver.market_data`: one row per bar; a restatement replaces it."""

from dataclasses import replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.bronze import raw_marketdata
from lakehouse_spark.silver import feed
from lakehouse_spark.table import MERGE_ON_READ, SILVER_POLICY, Table, column
from lakehouse_spark.transforms import payload, quality
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
    policy=SILVER_POLICY,
    sources=("bronze.raw_marketdata", "dim.dim_exchange"),
    lookups=("dim.dim_exchange",),
    checks={
        "low_is_at_most_high": "low <= high",
    },
)

INTERVALS = ("1m", "5m", "1h", "1d")


def judge(bronze: DataFrame, exchanges: DataFrame, max_bytes: int) -> DataFrame:
    """Every raw bar with its typed values and `_reasons`; grain: one row per bronze row."""
    records = quality.with_values(feed.with_fields(bronze, raw_marketdata.TOPIC, exchanges, max_bytes), _FIELDS)
    opened, high, low, close = (F.col(f"v_{name}") for name in ("open", "high", "low", "close"))
    outside = (low > F.least(opened, close)) | (high < F.greatest(opened, close))
    whole = F.coalesce(*(F.col(f"r_{name}") for name in ("open", "high", "low", "close"))).isNull()
    rules = [F.col(f"r_{field.name}") for field in _FIELDS] + [F.when(whole & outside, F.lit("inconsistent_ohlc"))]
    key = (F.col("v_symbol"), F.col("v_exchange"), F.col("v_interval"), feed.utc_text(F.col("v_tick_time")))
    return feed.judged(records, rules, TABLE, {"market_data_id": feed.generated_key(*key)}, "tick_time")


def _interval(text: Column) -> Column:
    """Hours and days in either case; M is a month, and no minute."""
    return F.when(text != payload.NOT_TEXT, F.translate(text, "HD", "hd"))


_FIELDS = (
    quality.symbol(),
    quality.event_time("tick_time"),
    replace(quality.text("interval"), value=_interval).unless(
        lambda interval: ~interval.isin(*INTERVALS), "invalid_interval"
    ),
    quality.decimal("open"),
    quality.decimal("high"),
    quality.decimal("low"),
    quality.decimal("close"),
    quality.integer("volume").unless(lambda volume: volume < 0, "invalid_volume"),
    quality.decimal("vwap", required=False),
    quality.integer("trade_count", required=False),
    quality.exchange(),
)

FEED = feed.Feed(
    table=TABLE,
    topic=raw_marketdata.TOPIC,
    judge=judge,
    key="market_data_id",
    content=("open", "high", "low", "close", "volume", "vwap", "trade_count"),
    event_time="tick_time",
    restates=True,
)
