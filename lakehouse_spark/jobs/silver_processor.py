"""Bronze → silver: judge, deduplicate, refuse or accept; every bronze row is accounted for in the same commit."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark import commit, dead_letters
from lakehouse_spark.batch import MOST_RANGES, Done, day_predicate, days_of, kept, settle, within_days
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


def run(
    spark: SparkSession,
    settings: Settings,
    tables: Sequence[str] = (),
    *,
    rebuild: bool = False,
    since: date | None = None,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Processes what bronze holds beyond each silver table's cursor; tables by name, all four by default.

    With `rebuild`, judges all that bronze holds by today's rules and writes what differs, in one commit per table;
    `since` leaves the rows of earlier days as they are.
    Raises LostRaceError, leaving silver as the winner made it, if another silver_processor committed first.
    """
    if unknown := set(tables) - set(TABLES):
        raise UsageError(f"silver_processor: no such table {', '.join(sorted(unknown))}; tables: {', '.join(TABLES)}")
    if since is not None and not rebuild:
        raise UsageError("silver_processor: --from says how far back a rebuild goes: give --rebuild too")
    summaries = []
    for name in [name for name in TABLES if not tables or name in tables]:
        began = time.monotonic()
        if name not in FEEDS:
            done = derive_activity(spark, rebuild=rebuild)
        elif rebuild:
            done = rejudge(spark, settings, FEEDS[name], since)
        else:
            done = process(spark, settings, FEEDS[name])
        summary = Summary.of(JOB, f"silver.{name}", done, began)
        report(summary)
        summaries.append(summary)
    return summaries


def process(spark: SparkSession, settings: Settings, feed: Feed) -> Done:
    """One batch: everything the bronze table was given since the last commit of the silver table."""
    base, upstream = commit.state(spark, feed.table), commit.state(spark, feed.topic.table)
    after = commit.from_text(base.cursor["to"]) if base.cursor else None
    if upstream.stamp is None or (after is not None and upstream.stamp <= after):
        return Done({})
    source, told = feed.topic.table.name, commit.state(spark, rejected_records.TABLE)
    letters = dead_letters.of_batch(spark, told, source, after)  # of an attempt that died, or of all if the cursor did
    raw, discarded = _set_aside(commit.changes(spark, feed.topic.table, upstream, after), letters)
    exchanges = spark.table(dim_exchange.TABLE.identifier)
    judged = feed.judge(raw, exchanges, settings.ingest.max_record_bytes)
    held = commit.at(spark, feed.table, base.snapshot_id)
    with kept(judged) as records, kept(decide(feed, records, held, from_start=after is None)) as decided:
        counts = count(decided)
        if counts["rejected"]:
            refused = rejected_records.build(decided.where(F.col("_outcome") == dedup.REJECTED), raw, source)
            dead_letters.keep(spark, refused, source, after, upstream)
        left_out = discarded.count()
        counts |= {name: counts[name] + left_out for name in ("records", "rejected")}
        cursor = _cursor(feed.topic.table, base, after, upstream, counts)
        done = Done(counts, write(spark, feed, decided, base, cursor, counts).snapshot_id)
        dead_letters.close(spark, letters, _good(decided), "accepted by a later attempt")
        return done


def _set_aside(raw: DataFrame, letters: DataFrame) -> tuple[DataFrame, DataFrame]:
    """The rows of bronze that are still to be judged, and where (PLACE) it holds those that were discarded for good."""
    place = list(rejected_records.PLACE)
    discarded = letters.where(F.col("status") == "DISCARDED").select(*place)
    return raw.join(discarded, on=place, how="left_anti"), discarded.join(raw, on=place, how="left_semi")


def decide(feed: Feed, judged: DataFrame, rows: DataFrame, *, from_start: bool) -> DataFrame:
    """Every judged record with `_outcome`, `_reasons` and `_row`; grain: one row per bronze row.

    `rows` of the silver table are looked at only where the batch's own keys and days can be. With `from_start`, they
    may have been made by records of this batch.
    """
    good = judged.where(F.size("_reasons") == 0)
    held = rows.where(_within_reach(feed, good))
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


def rejudge(spark: SparkSession, settings: Settings, feed: Feed, since: date | None) -> Done:
    """Derives the table from all that bronze holds, as if it arrived today; refused records are judged again.

    Rows whose record bronze no longer holds stay as they are, and so do discarded records; with `since`, also rows and
    refused records of earlier days. What is downstream notices rows that are gone by the cursor's `rebuilt`.
    """
    process(spark, settings, feed)
    base, upstream = commit.state(spark, feed.table), commit.state(spark, feed.topic.table)
    if base.cursor is None:
        return Done({})
    raw = commit.at(spark, feed.topic.table, upstream.snapshot_id)
    exchanges = spark.table(dim_exchange.TABLE.identifier)
    source, told = feed.topic.table.name, commit.state(spark, rejected_records.TABLE)
    letters = dead_letters.of_batch(spark, told, source, None)
    letters = letters.join(raw.select(*rejected_records.PLACE), on=list(rejected_records.PLACE), how="left_semi")
    rest, discarded = _set_aside(raw, letters)
    judged = feed.judge(rest, exchanges, settings.ingest.max_record_bytes)
    is_early = F.lit(False) if since is None else F.to_date(feed.event_time) < F.lit(since)
    with (
        kept(judged.withColumn("_early", F.coalesce(is_early, F.lit(False)))) as records,
        kept(_with_there(feed, commit.at(spark, feed.table, base.snapshot_id), records)) as rows,
    ):
        stays = rows.where(~F.col("_there") | is_early).drop("_there")
        early, again = records.where("_early").drop("_early"), records.where(~F.col("_early")).drop("_early")
        with kept(decide(feed, again, stays, from_start=False)) as decided:
            written = dedup.to_write(decided)
            updated = written.where(F.col(dedup.ROW) == "update").select(feed.key)
            replaced = rows.where(F.col("_there") & ~is_early).drop("_there")
            replaced = replaced.unionByName(stays.join(updated, on=feed.key, how="left_semi"))
            refused = decided.where(F.col("_outcome") == dedup.REJECTED)
            of_again = letters.join(rejected_records.placed(early), on=list(rejected_records.PLACE), how="left_anti")
            dead_letters.open_again(spark, rejected_records.build(refused, raw, source), source)
            counts = count(decided)
            counts["rows"] += stays.count()
            if since is not None:
                counts |= _with_early(feed, early, letters.where(F.col("status") == "OPEN"), stays, counts)
            left_out = discarded.count()
            counts |= {name: counts[name] + left_out for name in ("records", "rejected")}
            cursor = _recounted(base, upstream, counts)
            done = settle(spark, feed.table, written, replaced, base, cursor)
            dead_letters.close(spark, of_again, _good(decided), "rebuilt")
            return done


def _with_there(feed: Feed, rows: DataFrame, records: DataFrame) -> DataFrame:
    """The rows, with `_there`: whether bronze still holds the record that made them.

    A topic made anew uses the places of the old one again. So the record in a row's place must have its key, unless
    today's rules may have given it another one: then it must have been there before the row.
    """
    key = F.col(feed.key)
    places = records.groupBy(*_PLACE).agg(F.collect_set(key).alias("_keys"), F.min("_ingested_at").alias("_since"))
    marked = rows.join(places, on=list(_PLACE), how="left")
    is_there = F.array_contains("_keys", key) | (F.col("_since") <= F.col(str(feed.table.stamp)))
    return marked.withColumn("_there", F.coalesce(is_there, F.lit(False))).drop("_keys", "_since")


def _good(decided: DataFrame) -> DataFrame:
    """Where bronze holds the records that were not rejected."""
    return rejected_records.placed(decided.where(F.col("_outcome") != dedup.REJECTED))


def _with_early(
    feed: Feed, early: DataFrame, open_letters: DataFrame, rows: DataFrame, counts: Mapping[str, int]
) -> dict[str, int]:
    """The counts with the records of earlier days, whose fates stand; repeats among them by today's rules."""
    refused = rejected_records.as_source(open_letters)
    accepted = early.join(refused, on=list(rejected_records.SOURCE), how="left_anti")
    told = count(decide(feed, accepted, rows.where(F.lit(False)), from_start=False))
    records = early.count()
    return {
        "records": counts["records"] + records,
        "accepted": counts["accepted"] + told["records"] - told["duplicates"],
        "duplicates": counts["duplicates"] + told["duplicates"],
        "rejected": counts["rejected"] + records - told["records"],
    }


def _recounted(base: commit.State, upstream: commit.State, counts: Mapping[str, int]) -> dict[str, Any]:
    stamp = commit.to_text(base.next_stamp(datetime.now(UTC)))
    return {
        **(base.cursor or {}),
        "from": None,
        "to": commit.to_text(upstream.stamp),
        "stamp": stamp,
        "since": stamp,
        "rebuilt": stamp,
        "counts": dict(counts),
        "totals": dict(counts),
    }


def derive_activity(spark: SparkSession, *, rebuild: bool = False) -> Done:
    """Recomputes the trader activity of the groups whose trades changed since the last commit, or of all."""
    table, source = trader_activity.TABLE, trades.TABLE
    base, upstream = commit.state(spark, table), commit.state(spark, source)
    after = commit.from_text(base.cursor["to"]) if base.cursor else None
    if upstream.stamp is None or (not rebuild and after is not None and upstream.stamp <= after):
        return Done({})
    rebuilt = (upstream.cursor or {}).get("rebuilt")
    cursor = {"source": source.name, "from": None, "to": commit.to_text(upstream.stamp), "rebuilt": rebuilt}
    if rebuild or rebuilt != (base.cursor or {}).get("rebuilt"):
        fresh = trader_activity.build(commit.at(spark, source, upstream.snapshot_id))
        held = commit.at(spark, table, base.snapshot_id)
        return settle(spark, table, fresh, held, base, cursor)
    changed = commit.changes(spark, source, upstream, after)
    groups = changed.select("trader_id", "symbol", F.col("trade_date").alias("activity_date")).distinct()
    with kept(groups) as touched:
        days = days_of(touched, "activity_date")
        all_trades = commit.at(spark, source, upstream.snapshot_id).where(day_predicate("trade_timestamp", days))
        keys = touched.withColumnRenamed("activity_date", "trade_date")
        of_groups = all_trades.join(keys, on=["trader_id", "symbol", "trade_date"], how="left_semi")
        held = commit.at(spark, table, base.snapshot_id).where(day_predicate("activity_date", days))
        of_touched = held.join(touched, on=list(trader_activity.GROUP), how="left_semi")
        cursor["from"] = commit.to_text(after)
        fresh = trader_activity.build(of_groups)
        return settle(spark, table, fresh, of_touched, base, cursor)


def _within_reach(feed: Feed, good: DataFrame) -> Column:
    """A literal predicate that holds for every row of the table under one of the batch's keys.

    Keys that contain the event's time cannot lie outside the batch's days. A trade_id may: it is looked for by the
    ranges of ids that occur together, day by day, and the statistics of the files tell which ones can hold it.
    """
    if not feed.key_repeats_across_days:
        return day_predicate(feed.event_time, days_of(good, feed.event_time))
    ranges = _key_ranges(good, feed.key, feed.event_time)
    reach = F.lit(False)
    for low, high in ranges:
        reach = reach | F.col(feed.key).between(low, high)
    return reach


def _key_ranges(good: DataFrame, key: str, event_time: str) -> list[tuple[str, str]]:
    bounds = (F.min(key).alias("low"), F.max(key).alias("high"))
    family = (F.to_date(event_time).alias("day"), F.substring(key, 1, 3).alias("prefix"))
    found = good.groupBy(*family).agg(*bounds).orderBy("low").limit(MOST_RANGES + 1).collect()
    if len(found) > MOST_RANGES:
        found = good.agg(*bounds).collect()
    merged: list[tuple[str, str]] = []
    for low, high in ((row["low"], row["high"]) for row in found if row["low"] is not None):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


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
    rows = dedup.to_write(decided).withColumn(str(table.stamp), stamp)
    if not counts["updated"]:
        return commit.append(spark, table, rows, base, cursor)
    changing = [feed.status] if feed.status else [*feed.content, *_PLACE, "_ingested_at", "_accepted_hashes"]
    days = days_of(rows, feed.event_time)
    return commit.merge(
        spark, table, rows.select(*table.column_names), base, cursor,
        bounds=within_days(feed.event_time, days),
        updates=[*changing, str(table.stamp)],
    )  # fmt: skip


def _cursor(
    source: Table, base: commit.State, after: datetime | None, upstream: commit.State, counts: Mapping[str, int]
) -> commit.Cursor:
    """What this commit consumed, `from` exclusive `to` inclusive, its counts, and their totals `since` the first."""
    stamp = commit.to_text(base.next_stamp(datetime.now(UTC)))
    before = base.cursor or {"totals": {}, "since": stamp}
    # Lost with a cursor is whether what is downstream knew of a rebuild.
    rebuilt = stamp if base.is_lost else before.get("rebuilt")
    return {
        "source": source.name,
        "from": commit.to_text(after),
        "to": commit.to_text(upstream.stamp),
        "stamp": stamp,
        "since": before["since"],
        **({"rebuilt": rebuilt} if rebuilt else {}),
        "counts": dict(counts),
        "totals": before["totals"] | {name: before["totals"].get(name, 0) + count for name, count in counts.items()},
    }
