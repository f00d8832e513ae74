"""What became of one record: the row that it made, or why it made none, and every row further down that names it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import DIMENSIONS, FEEDS, TOPICS
from lakehouse_spark.dim import dim_account, dim_exchange, dim_symbol, dim_trader
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.dim.reference_log import LOG
from lakehouse_spark.errors import UsageError
from lakehouse_spark.gold import (
    daily_trading_summary,
    fact_orderbook,
    fact_trades,
    market_overview,
    open_lots,
    portfolio_positions,
    trade_analytics,
    trader_performance,
)
from lakehouse_spark.lake import frames
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import orderbook_snapshots, rejected_records, trader_activity, trades
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.silver.trades import live
from lakehouse_spark.table import Table
from lakehouse_spark.trace import records
from lakehouse_spark.trace.moment import Moment
from lakehouse_spark.trace.origins import default_account
from lakehouse_spark.types import TEXT

_HOW = "a record's place is TOPIC/PARTITION/OFFSET, as raw_trades/0/12345, or raw_reference/FILE/ROW"


@dataclass(frozen=True)
class Fate:
    """Of a record."""

    place: str
    sentence: str
    """What became of it."""
    records: DataFrame
    """It, and all others that are about the same row (records.SCHEMA), in the order in which they came."""
    rows: DataFrame | None
    """The row of silver, or of the dimension, that it is about."""
    touched: DataFrame
    """`table`, `row` (its key) and `because`: every row further down whose trace names the record."""


def fate(spark: SparkSession, settings: Settings, place: str) -> Fate:
    """Raises UsageError for a place of no record."""
    name, *middle, position = place.split("/")
    table = _table(settings, name)
    if not middle or not position.isdecimal():
        raise UsageError(f"{place!r} is no place of a record", _HOW)
    if table is LOG:
        return _of_log(spark, place, "/".join(middle), int(position))
    if len(middle) != 1 or not middle[0].isdecimal():
        raise UsageError(f"{place!r} is no place of a record", _HOW)
    feed = next(feed for feed in FEEDS.values() if feed.topic.table is table)
    return _of_feed(spark, settings, feed, place, int(middle[0]), int(position))


def _table(settings: Settings, name: str) -> Table:
    for short, topic in TOPICS.items():
        if name in (short, topic.table.name, settings.topic(short)):
            return topic.table
    raise UsageError(f"there is no topic {name!r}", f"{_HOW}; topics: {', '.join(TOPICS)}")


def _of_feed(spark: SparkSession, settings: Settings, feed: Feed, place: str, partition: int, offset: int) -> Fate:
    bronze = spark.table(feed.topic.table.identifier)
    there = (F.col("_kafka_partition") == partition) & (F.col("_kafka_offset") == offset)
    found = (
        bronze.where(there).orderBy(F.desc("_ingested_at")).limit(1).localCheckpoint()
    )  # a topic made anew: the newest
    if found.isEmpty():
        letter = spark.table(rejected_records.TABLE.identifier)
        kept = letter.where(there & (F.col("source_table") == feed.topic.table.name)).first()
        where = f"; its dead letter is: lakehouse rejected show {kept['rejected_id']}" if kept else ""
        raise UsageError(f"bronze holds no record {place}", f"it never came, or retention removed it{where}")
    moment = Moment(spark, feed.table)
    seen = moment.records(feed)
    if seen.where(there).isEmpty():
        listed = frames.of_rows(spark, [], records.SCHEMA)
        return Fate(place, f"waits for {feed.table.name}: lakehouse run pipeline", listed, None, _nothing(spark))
    near = records.with_same_keys if feed.key_repeats_across_days else _at_same_time
    around = near(feed, seen, found).localCheckpoint()
    decided = moment.decided(settings, feed, around)
    is_own = (F.col("_source_partition") == partition) & (F.col("_source_offset") == offset)
    own = decided.where(is_own).orderBy(F.desc("_ingested_at")).first()
    assert own is not None
    key = own[feed.key]
    same = decided.where(is_own if key is None else F.col(feed.key) == key)
    listed = records.listed(feed, same, around).orderBy("arrived", "partition", "position")
    sentence = _sentence(own["_fate"], own["_because"])
    rows = spark.table(feed.table.identifier).where(F.col(feed.key) == key)
    if own["_fate"] not in (records.MADE, records.MOVED, records.RESTATED):
        return Fate(place, sentence, listed, rows, _nothing(spark))
    row = rows.first()
    return Fate(
        place, sentence, listed, rows, _nothing(spark) if row is None else _union(spark, _touched(spark, feed, row))
    )


def _sentence(became: str, because: str | None) -> str:
    return f"{became}: {because}" if because else became


def _at_same_time(feed: Feed, bronze: DataFrame, found: DataFrame) -> DataFrame:
    """All of bronze at the record's own instant, which is a part of the key."""
    time = feed.topic.event_time
    return bronze.join(found.select(time).distinct(), on=time, how="left_semi").select(*bronze.columns)


def _of_log(spark: SparkSession, place: str, source: str, position: int) -> Fate:
    log = spark.table(LOG.identifier)
    of_topic = (F.col("_kafka_partition").cast("string") == source) & (F.col("_kafka_offset") == position)
    of_file = F.col("_kafka_offset").isNull() & F.endswith("source", F.lit(source)) & (F.col("_source_row") == position)
    found = log.where(of_topic | of_file).orderBy(F.desc("_ingested_at")).first()
    if found is None:
        raise UsageError(f"the change log holds no record {place}", _HOW)
    dimension = DIMENSIONS.get(found["dimension"] or "")
    if dimension is None:
        listed = frames.of_rows(spark, [], records.SCHEMA)
        return Fate(place, f"{records.REFUSED}: it names no dimension", listed, None, _nothing(spark))
    key = found["natural_key"]
    moment = Moment(spark, dimension.table)
    same = moment.log(dimension).where(F.col("natural_key").eqNullSafe(F.lit(key)))
    listed = records.of_members(dimension, same).orderBy("arrived", "partition", "position")
    own = listed.where(F.col("arrived") == F.lit(found["_ingested_at"])).where(F.col("position") == position).first()
    sentence = (
        f"waits for {dimension.table.name}, or was discarded" if own is None
        else _sentence(own["fate"], own["because"])
    )  # fmt: skip
    rows = spark.table(dimension.table.identifier).where(F.col(dimension.natural_key) == key)
    touched = [] if own is None or own["fate"] == records.REFUSED else [*_of_member(spark, dimension, rows, key)]
    return Fate(place, sentence, listed, rows, _union(spark, touched))


# The rows further down

Touched = tuple[Table, DataFrame, str]
"""Rows of a table, and why they name the record."""


def _rows(spark: SparkSession, table: Table) -> DataFrame:
    return spark.table(table.identifier)


def _touched(spark: SparkSession, feed: Feed, row: Row) -> Iterator[Touched]:
    if feed.table is trades.TABLE:
        yield from _of_trade(spark, row)
    if feed.table is orderbook_snapshots.TABLE:
        day, symbol, exchange = row["snapshot_time"].date(), row["symbol"], row["exchange"]
        facts, summed, seen = fact_orderbook.TABLE, daily_trading_summary.TABLE, market_overview.TABLE
        yield facts, _rows(spark, facts).where(F.col("snapshot_id") == row["snapshot_id"]), "the event"
        on = (F.col("summary_date") == day) & (F.col("symbol") == symbol)
        yield summed, _rows(spark, summed).where(on), "order book of the day"
        on = (F.col("overview_date") == day) & (F.col("exchange") == exchange)
        yield seen, _rows(spark, seen).where(on), "order book on the exchange"


def _of_trade(spark: SparkSession, row: Row) -> Iterator[Touched]:
    traded, day, symbol, trader = _rows(spark, trades.TABLE), row["trade_date"], row["symbol"], row["trader_id"]
    exchange, is_out = row["exchange"], row["status"] == trades.STATUSES[-1]
    out = ", left out there: it is cancelled" if is_out else ""
    yield fact_trades.TABLE, _rows(spark, fact_trades.TABLE).where(F.col("trade_id") == row["trade_id"]), "the event"
    of_symbol = live(traded).where(F.col("symbol") == symbol)

    activity = _rows(spark, trader_activity.TABLE).where(F.col("activity_date") == day)
    theirs = activity.where((F.col("trader_id") == trader) & (F.col("symbol") == symbol))
    yield trader_activity.TABLE, theirs, f"trade of the day{out}"
    yield from _of_symbol(spark, of_symbol, day, symbol, f"trade of the day{out}")
    analysed = _rows(spark, trade_analytics.TABLE).where(F.col("analytics_date") == day)
    there = analysed.where((F.col("symbol") == symbol) & (F.col("exchange") == exchange))
    yield trade_analytics.TABLE, there, f"trade of the day, in any session{out}"
    place = F.struct(F.lit(row["trade_timestamp"]).alias("trade_timestamp"), F.lit(row["trade_id"]).alias("trade_id"))
    later = of_symbol.where(place < trades.place()).agg(F.min("trade_date")).collect()[0][0]
    is_last = later != day
    if is_last and later is not None:
        yield from _of_symbol(spark, of_symbol, later, symbol, f"last close before{out}")
    yield from _of_lots(spark, row, later if is_last else day, out)


def _of_symbol(spark: SparkSession, of_symbol: DataFrame, day: object, symbol: str, because: str) -> Iterator[Touched]:
    summed, seen = daily_trading_summary.TABLE, market_overview.TABLE
    on = (F.col("summary_date") == F.lit(day)) & (F.col("symbol") == symbol)
    yield summed, _rows(spark, summed).where(on), because
    exchanges = of_symbol.where(F.col("trade_date") == F.lit(day)).select("exchange").distinct()
    of_day = _rows(spark, seen).where(F.col("overview_date") == F.lit(day))
    yield seen, of_day.join(exchanges, on="exchange", how="left_semi"), f"{because}, of a symbol of the exchange"


def _of_lots(spark: SparkSession, row: Row, until: object, out: str) -> Iterator[Touched]:
    """`until` that day the trade is the last price of its symbol (None: to this day; its own day: it is not)."""
    trader, symbol, day = row["trader_id"], row["symbol"], row["trade_date"]
    other = default_account(_rows(spark, dim_account.TABLE), trader)
    account = row["account_id"] if row["account_id"] is not None else other
    booked = F.coalesce("account_id", F.lit(other)) == account
    theirs = live(_rows(spark, trades.TABLE)).where(
        (F.col("trader_id") == trader) & (F.col("symbol") == symbol) & booked
    )
    days = theirs.where(F.col("trade_date") >= day).select(F.col("trade_date").alias("performance_date")).distinct()
    performed = _rows(spark, trader_performance.TABLE).where(F.col("trader_id") == trader)
    on_day = performed.where(F.col("performance_date") == day)
    yield trader_performance.TABLE, on_day, f"trade of the day{out}"
    after = performed.where(F.col("performance_date") > day).join(days, on="performance_date", how="left_semi")
    yield trader_performance.TABLE, after, f"trade before in what was traded on the day{out}"
    held, valued = open_lots.TABLE, portfolio_positions.TABLE
    lots = _rows(spark, held).where((F.col("lot_date") >= day) & (F.col("trader_id") == trader))
    mine = (F.col("account_id") == account) & (F.col("symbol") == symbol)
    yield held, lots.where(mine), f"trade of the account in the symbol{out}"
    positions = _rows(spark, valued).where(F.col("position_date") >= day)
    own = positions.where(F.col("trader_id") == trader).where(F.col("account_id") == account)
    yield valued, own.where(F.col("symbol") == symbol), f"trade of the position{out}"
    yield valued, own.where(F.col("symbol") != symbol), f"trade of the account's other positions{out}"
    if until != day:
        within = positions if until is None else positions.where(F.col("position_date") < F.lit(until))
        priced = within.where(F.col("symbol") == symbol)
        yield valued, priced, f"last price{out}"
        accounts = priced.select("position_date", "trader_id", "account_id").distinct()
        others = within.where(F.col("symbol") != symbol)
        beside = others.join(accounts, on=["position_date", "trader_id", "account_id"], how="left_semi")
        yield valued, beside, f"last price of another position{out}"
    of_day = (
        live(_rows(spark, trades.TABLE)).where(F.col("trade_date") == day).agg(F.min(trades.place())).collect()[0][0]
    )
    if of_day is not None and of_day["trade_id"] == row["trade_id"]:
        why = "witness that there was trading on the day"
        yield held, _rows(spark, held).where(F.col("lot_date") == day), why
        yield valued, positions.where(F.col("position_date") == day), why


def _of_member(spark: SparkSession, dimension: Dimension, rows: DataFrame, key: str) -> Iterator[Touched]:
    yield dimension.table, rows, "what it states"
    keys = rows.select(dimension.surrogate_key)
    for table in (fact_trades.TABLE, fact_orderbook.TABLE):
        if dimension.surrogate_key in table.column_names:
            yield table, _rows(spark, table).join(keys, on=dimension.surrogate_key, how="left_semi"), "its key"
    by_column: dict[str, Sequence[tuple[Table, str]]] = {
        dim_symbol.TABLE.name: [(daily_trading_summary.TABLE, "symbol"), (trade_analytics.TABLE, "symbol")],
        dim_trader.TABLE.name: [(trader_performance.TABLE, "trader_id")],
        dim_exchange.TABLE.name: [(trade_analytics.TABLE, "exchange")],
    }
    for table, column in by_column.get(dimension.table.name, ()):
        yield table, _rows(spark, table).where(F.col(column) == key), "its attributes"
    if dimension is dim_account.DIMENSION:
        owners = rows.select("trader_id")
        for table in (trader_performance.TABLE, open_lots.TABLE, portfolio_positions.TABLE):
            yield table, _rows(spark, table).join(owners, on="trader_id", how="left_semi"), "an account of the trader"


def _union(spark: SparkSession, touched: Sequence[Touched] | Iterator[Touched]) -> DataFrame:
    def told(table: Table, rows: DataFrame, because: str) -> DataFrame:
        parts: list[Column] = [F.concat(F.lit(f"{name}="), F.col(name).cast(TEXT)) for name in table.key]
        return rows.select(
            F.lit(table.name).alias("table"), F.concat_ws(" ", *parts).alias("row"), F.lit(because).alias("because")
        )

    return reduce(DataFrame.unionByName, (told(*each) for each in touched), _nothing(spark))


def _nothing(spark: SparkSession) -> DataFrame:
    return frames.of_rows(spark, [], "table string, row string, because string")
