"""Bronze → silver: judge, deduplicate, refuse or accept; every bronze row is accounted for in the same commit."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from lakehouse_spark import commit
from lakehouse_spark.dim import dim_exchange
from lakehouse_spark.errors import UsageError
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import market_data, orderbook_snapshots, rejected_records, trader_activity, trades
from lakehouse_spark.silver.feed import ARRIVAL, Feed
from lakehouse_spark.table import Table
from lakehouse_spark.transforms import dedup

JOB = "silver_processor"
FEEDS: Mapping[str, Feed] = {
    feed.table.short_name: feed for feed in (trades.FEED, orderbook_snapshots.FEED, market_data.FEED)
}
TABLES = (*FEEDS, trader_activity.TABLE.short_name)

_PLACE = ("_source_topic", "_source_partition", "_source_offset")
_MOST_RANGES = 64
"""Literal ranges a predicate may hold; beyond that one range covers all."""


def run(
    spark: SparkSession,
    settings: Settings,
    tables: Sequence[str] = (),
    *,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Processes what bronze holds beyond each silver table's cursor; tables by name, all four by default.

    Raises LostRaceError, leaving silver as the winner made it, if another silver_processor committed first.
    """
    if unknown := set(tables) - set(TABLES):
        raise UsageError(f"silver_processor: no such table {', '.join(sorted(unknown))}; tables: {', '.join(TABLES)}")
    summaries = []
    for name in [name for name in TABLES if not tables or name in tables]:
        began = time.monotonic()
        done = process(spark, settings, FEEDS[name]) if name in FEEDS else derive_activity(spark)
        summary = Summary(JOB, f"silver.{name}", done.counts, done.snapshot_id, round(time.monotonic() - began, 3))
        report(summary)
        summaries.append(summary)
    return summaries


@dataclass(frozen=True)
class Done:
    """What one table's run counted, and the snapshot it committed, if any."""

    counts: dict[str, int]
    snapshot_id: int | None = None


def process(spark: SparkSession, settings: Settings, feed: Feed) -> Done:
    """One batch: everything the bronze table was given since the last commit of the silver table."""
    base, upstream = commit.state(spark, feed.table), commit.state(spark, feed.topic.table)
    after = commit.from_text(base.cursor["to"]) if base.cursor else None
    if upstream.stamp is None or (after is not None and upstream.stamp <= after):
        return Done({})
    raw = commit.changes(spark, feed.topic.table, upstream, after)
    exchanges = spark.table(dim_exchange.TABLE.identifier)
    judged = feed.judge(raw, exchanges, settings.ingest.max_record_bytes)
    with kept(judged) as records, kept(decide(spark, feed, records, base, from_start=after is None)) as decided:
        counts = count(decided)
        _refuse(spark, feed, decided, raw, after, upstream)
        cursor = _cursor(feed.topic.table, base, after, upstream, counts)
        return Done(counts, write(spark, feed, decided, base, cursor, counts).snapshot_id)


def decide(spark: SparkSession, feed: Feed, judged: DataFrame, base: commit.State, *, from_start: bool) -> DataFrame:
    """Every judged record with `_outcome`, `_reasons` and `_row`; grain: one row per bronze row.

    The silver table is read as of `base`, and only where the batch's own keys and days can be. With `from_start`, its
    rows may have been made by records of this batch.
    """
    good = judged.where(F.size("_reasons") == 0)
    held = commit.at(spark, feed.table, base.snapshot_id).where(_within_reach(feed, good))
    if feed.restates:
        classified = dedup.restate(
            good, held, key=feed.key, content=feed.content, arrival=("_ingested_at", *_PLACE), from_start=from_start
        )
    else:
        classified = dedup.classify(
            good, held, key=feed.key, content=feed.content, arrival=(*ARRIVAL, "_source_topic"), status=feed.status,
            steps=feed.steps, from_start=from_start,
        )  # fmt: skip
    conflict = F.when(F.col("_outcome") == dedup.REJECTED, F.array(F.lit(dedup.CONFLICT))).otherwise(F.col("_reasons"))
    bad = judged.where(F.size("_reasons") > 0).withColumn("_outcome", F.lit(dedup.REJECTED))
    return classified.withColumn("_reasons", conflict).unionByName(bad, allowMissingColumns=True)


def derive_activity(spark: SparkSession) -> Done:
    """Recomputes the trader activity of the groups whose trades changed since the last commit."""
    table, source = trader_activity.TABLE, trades.TABLE
    base, upstream = commit.state(spark, table), commit.state(spark, source)
    after = commit.from_text(base.cursor["to"]) if base.cursor else None
    if upstream.stamp is None or (after is not None and upstream.stamp <= after):
        return Done({})
    changed = commit.changes(spark, source, upstream, after)
    groups = changed.select("trader_id", "symbol", F.col("trade_date").alias("activity_date")).distinct()
    with kept(groups) as touched:
        days = days_of(touched, "activity_date")
        all_trades = commit.at(spark, source, upstream.snapshot_id).where(_day_predicate("trade_timestamp", days))
        keys = touched.withColumnRenamed("activity_date", "trade_date")
        of_groups = all_trades.join(keys, on=["trader_id", "symbol", "trade_date"], how="left_semi")
        held = commit.at(spark, table, base.snapshot_id).where(_day_predicate("activity_date", days))
        with kept(_activity_changes(trader_activity.build(of_groups), touched, held)) as rows:
            written = rows.count()
            cursor = _cursor(source, base, after, upstream, {"groups": touched.count(), "written": written})
            if not written:
                return Done({"rows": 0}, commit.advance(spark, table, base, cursor).snapshot_id)
            stamped = rows.withColumn(str(table.stamp), F.lit(commit.from_text(cursor["stamp"])).cast("timestamp"))
            state = commit.merge(
                spark, table, stamped, base, cursor,
                bounds=day_bounds("activity_date", days_of(rows, "activity_date")),
                updates=[name for name in table.column_names if name not in table.key],
                deletes="source._gone",
            )  # fmt: skip
            return Done({"rows": written}, state.snapshot_id)


def _activity_changes(fresh: DataFrame, touched: DataFrame, held: DataFrame) -> DataFrame:
    """Rows to write: fresh ones that differ from the held, and the key of held ones whose group is gone (`_gone`)."""
    table = trader_activity.TABLE
    values = [name for name in table.column_names if name != table.stamp]
    same = held.select(F.col("activity_id"), F.struct(*values).alias("_held"))
    changed = (
        fresh.join(same, on="activity_id", how="left")
        .where(~F.struct(*values).eqNullSafe(F.col("_held")))
        .select(*values, F.lit(False).alias("_gone"))
    )
    group = list(trader_activity.GROUP)
    gone = (
        held.join(touched, on=group, how="left_semi")
        .join(fresh, on="activity_id", how="left_anti")
        .select(*values, F.lit(True).alias("_gone"))
    )
    return changed.unionByName(gone)


def _within_reach(feed: Feed, good: DataFrame) -> Column:
    """A literal predicate that holds for every row of the table under one of the batch's keys.

    Keys that contain the event's time cannot lie outside the batch's days. A trade_id may: it is looked for by the
    ranges of ids that occur together, day by day, and the statistics of the files tell which ones can hold it.
    """
    if not feed.key_repeats_across_days:
        return _day_predicate(feed.event_time, days_of(good, feed.event_time))
    ranges = _key_ranges(good, feed.key, feed.event_time)
    reach = F.lit(False)
    for low, high in ranges:
        reach = reach | F.col(feed.key).between(low, high)
    return reach


def _key_ranges(good: DataFrame, key: str, event_time: str) -> list[tuple[str, str]]:
    bounds = (F.min(key).alias("low"), F.max(key).alias("high"))
    family = (F.to_date(event_time).alias("day"), F.substring(key, 1, 3).alias("prefix"))
    found = good.groupBy(*family).agg(*bounds).orderBy("low").limit(_MOST_RANGES + 1).collect()
    if len(found) > _MOST_RANGES:
        found = good.agg(*bounds).collect()
    merged: list[tuple[str, str]] = []
    for low, high in ((row["low"], row["high"]) for row in found if row["low"] is not None):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def days_of(rows: DataFrame, column: str) -> list[tuple[date, date]]:
    """The days of the rows as inclusive ranges of consecutive days; one range where they are many."""
    found = rows.select(F.to_date(column).alias("day")).distinct().orderBy("day").limit(1000).collect()
    days = [row["day"] for row in found if row["day"] is not None]
    if len(found) == 1000:
        low, high = rows.agg(F.min(F.to_date(column)), F.max(F.to_date(column))).collect()[0]
        return [(low, high)]
    ranges: list[tuple[date, date]] = []
    for day in days:
        if ranges and day == ranges[-1][1] + timedelta(days=1):
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges if len(ranges) <= _MOST_RANGES else [(days[0], days[-1])]


def day_bounds(column: str, days: Iterable[tuple[date, date]], alias: str = "target.") -> str:
    """The days as a predicate of literals that Iceberg turns into partitions; instants and dates alike."""
    kind = "DATE" if column.endswith("_date") else "TIMESTAMP"
    zone = "" if kind == "DATE" else " 00:00:00Z"
    parts = [
        f"({alias}`{column}` >= {kind} '{low}{zone}' AND {alias}`{column}` < {kind} '{high + timedelta(days=1)}{zone}')"
        for low, high in days
    ]
    return " OR ".join(parts) or "false"


def _day_predicate(column: str, days: Iterable[tuple[date, date]]) -> Column:
    return F.expr(day_bounds(column, days, alias=""))


def count(decided: DataFrame) -> dict[str, int]:
    """Records by outcome, the rows they make (`rows`), and what there is to write (`inserted`, `updated`)."""
    outcome = F.col("_outcome")
    names = {"accepted": dedup.ACCEPTED, "duplicates": dedup.DUPLICATE, "rejected": dedup.REJECTED}
    counted = decided.agg(
        F.count("*").alias("records"),
        *(F.count_if(outcome == value).alias(name) for name, value in names.items()),
        F.count_if(dedup.NEW).alias("rows"),
        F.count_if(F.col(dedup.ROW) == "insert").alias("inserted"),
        F.count_if(F.col(dedup.ROW) == "update").alias("updated"),
    ).collect()[0]
    return {name: int(counted[name]) for name in ("records", *names, "rows", "inserted", "updated")}


def _refuse(
    spark: SparkSession, feed: Feed, decided: DataFrame, raw: DataFrame, after: datetime | None, upto: commit.State
) -> None:
    """Writes the batch's rejects that are not in the dead-letter table yet; before silver, so that none is lost."""
    table, source = rejected_records.TABLE, feed.topic.table.name
    letters = rejected_records.build(decided.where(F.col("_outcome") == dedup.REJECTED), raw, source)
    since = F.lit(True) if after is None else F.col("_ingested_at") > F.lit(after)

    def write() -> None:
        base = commit.state(spark, table)
        known = commit.at(spark, table, base.snapshot_id).where((F.col("source_table") == source) & since)
        with kept(letters.join(known, on=list(table.key), how="left_anti")) as missing:
            if missing.isEmpty():
                return
            stamp = base.next_stamp(datetime.now(UTC))
            cursor = {"source": source, "upto": commit.to_text(upto.stamp), "stamp": commit.to_text(stamp)}
            stamped = missing.withColumn(str(table.stamp), F.lit(stamp).cast("timestamp"))
            commit.append(spark, table, stamped, base, cursor)

    commit.again_if_overtaken(write)


def write(
    spark: SparkSession,
    feed: Feed,
    decided: DataFrame,
    base: commit.State,
    cursor: commit.Cursor,
    counts: Mapping[str, int],
) -> commit.State:
    """One commit: new rows appended, changed rows merged, or only the cursor moved."""
    table = feed.table
    if not counts["inserted"] and not counts["updated"]:
        return commit.advance(spark, table, base, cursor)
    stamp = F.lit(commit.from_text(cursor["stamp"])).cast("timestamp")
    rows = decided.where(F.col(dedup.ROW).isNotNull()).withColumn(str(table.stamp), stamp)
    if not counts["updated"]:
        return commit.append(spark, table, rows, base, cursor)
    changing = [feed.status] if feed.status else [*feed.content, *_PLACE, "_ingested_at", "_accepted_hashes"]
    days = days_of(rows, feed.event_time)
    return commit.merge(
        spark, table, rows.select(*table.column_names), base, cursor,
        bounds=day_bounds(feed.event_time, days),
        updates=[*changing, str(table.stamp)],
    )  # fmt: skip


def _cursor(
    source: Table, base: commit.State, after: datetime | None, upstream: commit.State, counts: Mapping[str, int]
) -> commit.Cursor:
    """What this commit consumed, `from` exclusive `to` inclusive, its counts, and their totals `since` the first."""
    stamp = commit.to_text(base.next_stamp(datetime.now(UTC)))
    before = base.cursor or {"totals": {}, "since": stamp}
    return {
        "source": source.name,
        "from": commit.to_text(after),
        "to": commit.to_text(upstream.stamp),
        "stamp": stamp,
        "since": before["since"],
        "counts": dict(counts),
        "totals": {name: before["totals"].get(name, 0) + count for name, count in counts.items()},
    }


@contextmanager
def kept(rows: DataFrame) -> Iterator[DataFrame]:
    """The rows computed once, however often they are looked at."""
    kept = rows.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        yield kept
    finally:
        kept.unpersist()
