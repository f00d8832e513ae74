"""Silver derived anew: all that bronze holds, judged by today's rules as if it arrived today."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim import dim_exchange
from lakehouse_spark.ingest import decoding
from lakehouse_spark.jobs.judging import decide
from lakehouse_spark.lake import dead_letters, snapshots
from lakehouse_spark.lake.cursor import FeedCursor, rows_removed
from lakehouse_spark.lake.queries import kept, measured
from lakehouse_spark.lake.reconcile import Done, settle
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import judging, rejected_records
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.transforms import dedup, drift


def rejudge(
    spark: SparkSession, settings: Settings, feed: Feed, base: snapshots.State, since: date | None = None
) -> Done:
    """Derives the table, read as `base`, from all that bronze holds; rejected records are judged again.

    Rows whose record bronze no longer holds stay as they are, and so do discarded records; with `since`, also rows and
    rejected records of earlier days. What is downstream notices rows that are gone by the cursor's `rebuilt`.
    """
    upstream = snapshots.state(spark, feed.topic.table)
    if base.cursor is None and None in (base.stamp, upstream.stamp):
        return Done({})
    is_due = base.is_outdated or base.is_lost
    raw = snapshots.at(spark, feed.topic.table, upstream.snapshot_id)
    exchanges = spark.table(dim_exchange.TABLE.identifier)
    source, read = feed.topic.table.name, snapshots.state(spark, rejected_records.TABLE)
    letters = dead_letters.of_batch(spark, read, source, None)
    if letters is None:
        letters = spark.table(rejected_records.TABLE.identifier).where(F.lit(False))
    places = raw.select(*rejected_records.PLACE)
    unread = letters.where(F.col("status") != rejected_records.REPLAYED)
    gone = unread.join(places, on=list(rejected_records.PLACE), how="left_anti")
    rejected_before = gone.count() if rows_removed(upstream.cursor) else 0
    letters = letters.join(places, on=list(rejected_records.PLACE), how="left_semi")
    rest, discarded = judging.set_aside(raw, letters)
    rest = decoding.again(settings, feed.topic.name, rest)
    judged = feed.judge(rest, exchanges, settings.ingest.max_record_bytes).drop(*drift.COLUMNS)
    is_early = judging.is_early(feed, since)
    with (
        kept(judged.withColumn("_early", F.coalesce(is_early, F.lit(False)))) as records,
        kept(judging.with_there(feed, snapshots.at(spark, feed.table, base.snapshot_id), records)) as rows,
    ):
        stays = rows.where(~F.col("_there") | is_early).drop("_there")
        replaced = rows.where(F.col("_there") & ~is_early).drop("_there")
        if since is not None:
            records = judging.with_all_of(feed, records, replaced)
        early, again = records.where("_early").drop("_early"), records.where(~F.col("_early")).drop("_early")
        with measured(decide(feed, again, stays, from_start=False), **judging.counts()) as (decided, counted):
            written = dedup.to_write(decided)
            updated = written.where(F.col(dedup.ROW) == "update").select(feed.key)
            replaced = replaced.unionByName(stays.join(updated, on=feed.key, how="left_semi"))
            rejected = judging.rejected(decided)
            of_again = letters.join(rejected_records.placed(early), on=list(rejected_records.PLACE), how="left_anti")
            notes = (_note(decided, of_again, base),) if is_due else ()
            dead_letters.open_again(spark, rejected_records.build(rejected, raw, source), source)
            counts = counted.asDict()
            counts["rows"] += stays.count()
            if since is not None:
                open_letters = letters.where(F.col("status") == rejected_records.OPEN)
                counts |= _with_early(feed, early, open_letters, stays, counts)
            left_out = discarded.count()
            counts |= {name: counts[name] + left_out for name in ("records", "rejected")}
            cursor = replace(_recounted(source, base, upstream, counts), rejected_before=rejected_before)
            if is_due:  # a job that dies before it settles has all of this before it again, this included
                dead_letters.close(spark, of_again, judging.places_of_accepted(decided), "accepted by newer rules")
            done = settle(spark, feed.table, written, replaced, base, cursor, settings.audit)
            if not is_due:
                dead_letters.close(spark, of_again, judging.places_of_accepted(decided), "rebuilt")
            return replace(done, notes=notes)


def _note(decided: DataFrame, letters: DataFrame, base: snapshots.State) -> str:
    """What a user reads of a table that is derived whole: how many of the records that it has consumed are rejected
    that were not, and the other way round; where the cursor is lost that said what it has consumed, of all."""
    why = base.rules_moved if base.is_outdated else "its cursor was lost, and older rules made rows of it"
    cursor = base.cursor_as(FeedCursor)
    upto = cursor.upto if cursor else None
    consumed = F.lit(True) if upto is None else F.col("_ingested_at") <= F.lit(upto)
    records, rejected, freed = judging.moved_verdicts(decided.where(consumed), letters).collect()[0]
    return f"{why}: judged {records:,} records again, {rejected:,} are refused now and {freed:,} no longer"


def _with_early(
    feed: Feed, early: DataFrame, open_letters: DataFrame, rows: DataFrame, counts: Mapping[str, int]
) -> dict[str, int]:
    """The counts with the records of earlier days, whose fates stand; repeats among them by today's rules."""
    rejected = rejected_records.as_source(open_letters)
    accepted = early.join(rejected, on=list(rejected_records.SOURCE), how="left_anti")
    decided = decide(feed, accepted, rows.where(F.lit(False)), from_start=False)
    counted = decided.agg(*(measure.alias(name) for name, measure in judging.counts().items())).collect()[0]
    records = early.count()
    return {
        "records": counts["records"] + records,
        "accepted": counts["accepted"] + counted["records"] - counted["duplicates"],
        "duplicates": counts["duplicates"] + counted["duplicates"],
        "rejected": counts["rejected"] + records - counted["records"],
    }


def _recounted(source: str, base: snapshots.State, upstream: snapshots.State, counts: Mapping[str, int]) -> FeedCursor:
    stamp, last = base.next_stamp(datetime.now(UTC)), base.cursor_as(FeedCursor)
    new = FeedCursor(
        stamp=stamp, source=source, after=None, upto=upstream.stamp, since=stamp, totals=dict(counts),
        removed_before=rows_removed(upstream.cursor),
    )  # fmt: skip
    return replace(new, rebuilt=stamp, counts=dict(counts), notes=last.notes if last else {})
