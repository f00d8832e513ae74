"""What can be done with dead letters: replay them by today's rules, or discard them with a reason."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import DIMENSIONS, FEEDS
from lakehouse_spark.dim import dim_exchange, reference_log
from lakehouse_spark.dim.reference_log import LOG
from lakehouse_spark.errors import UsageError
from lakehouse_spark.ingest import decoding
from lakehouse_spark.jobs import silver_processor
from lakehouse_spark.jobs.judging import decided
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import dead_letters, dimension_members, snapshots
from lakehouse_spark.lake.cursor import FeedCursor
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.lake.pruning import day_predicate, day_set, ranges
from lakehouse_spark.lake.queries import kept, measured
from lakehouse_spark.lake.reconcile import Done
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import rejected_records, trades
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.silver.rejected_records import DISCARDED, OPEN, PLACE, REPLAYED, TABLE, id_in_change_log
from lakehouse_spark.transforms import dedup
from lakehouse_spark.transforms.quality import RULES_VERSION


def replay(spark: SparkSession, settings: Settings, selection: Selection) -> list[Summary]:
    """Judges the selected open records by today's rules and writes what is good now.

    The dead letter of an accepted record becomes REPLAYED, that of one rejected again stays OPEN with its new reasons.
    A crash in between is made good by replaying again. Reference records come first: the others may have been
    rejected for want of them.
    """
    _require_known(spark, selection)
    feeds = {feed.topic.table.name: feed for feed in FEEDS.values()}
    chosen = [name for name in (LOG.name, *feeds) if selection.source_table in (None, name)]
    summaries = []
    for name in chosen:
        began = time.monotonic()
        if name in feeds:
            first = silver_processor.process(spark, settings, feeds[name])  # what nobody has judged yet
            counts, warnings = _replay(spark, settings, feeds[name], selection)
            notes = (*first.notes, *first.warnings, *warnings)
        else:
            counts, notes = _replay_reference(spark, settings, selection), ()
        snapshot_id = snapshots.state(spark, TABLE).snapshot_id if counts else None
        summaries.append(Summary.of("rejected replay", name, Done(counts or {}, snapshot_id, notes), began))
    if trades.FEED.topic.table.name in chosen:
        silver_processor.derive_activity(spark, settings.audit)
    return summaries


def _require_known(spark: SparkSession, selection: Selection) -> None:
    if not selection.ids:
        return
    named = F.col("rejected_id").isin(*selection.ids)
    known = {row[0] for row in spark.table(TABLE.identifier).where(named).select("rejected_id").collect()}
    if unknown := [rejected_id for rejected_id in selection.ids if rejected_id not in known]:
        raise UsageError(f"no rejected record has the id {', '.join(unknown)}; see: lakehouse rejected list")


def _replay_reference(spark: SparkSession, settings: Settings, selection: Selection) -> dict[str, int] | None:
    """Members of which a record is good now are derived anew from the change log."""
    chosen = spark.table(TABLE.identifier).where(
        selection.predicate & (F.col("source_table") == LOG.name) & (F.col("status") == OPEN)
    )
    with measured(chosen, days=day_set("_ingested_at")) as (letters, found):
        if not found["days"]:
            return None
        landed = day_predicate("_ingested_at", ranges(found["days"]))
        records = spark.table(LOG.identifier).where(landed).withColumn("rejected_id", id_in_change_log())
        records = records.join(letters.select(*TABLE.key), on=list(TABLE.key), how="left_semi")
        with kept(reference_log.judged(records, DIMENSIONS.values(), settings.ingest.max_record_bytes)) as judged:
            good = F.size("_reasons") == 0
            counted = judged.agg(F.count("*"), F.count_if(good)).collect()[0]
            for dimension in DIMENSIONS.values():
                dimension_members.apply(spark, dimension, audits=settings.audit)
                of_dimension = judged.where(good & (F.col("dimension") == dimension.name))
                named = of_dimension.select(F.col("natural_key").alias(dimension.natural_key))
                if not named.isEmpty():
                    dimension_members.rederive(spark, dimension, named, settings.audit)
            verdicts = judged.select(
                *TABLE.key,
                F.when(good, REPLAYED).otherwise(OPEN).alias("_status"),
                F.when(~good, F.col("_reasons")).alias("_new_reasons"),
                F.when(good, F.lit("derived")).alias("_new_resolution"),
            )
            _resolve(spark, letters, verdicts, TABLE.key)
        return {"records": counted[0], "replayed": counted[1], "rejected again": counted[0] - counted[1]}


def _replay(
    spark: SparkSession, settings: Settings, feed: Feed, selection: Selection
) -> tuple[dict[str, int] | None, tuple[str, ...]]:
    """What was counted, None where there was nothing to judge; and the checks that what is published breaks."""
    of_feed = F.col("source_table") == feed.topic.table.name
    base = snapshots.state(spark, feed.table)
    chosen = spark.table(TABLE.identifier).where(selection.predicate & of_feed & (F.col("status") == OPEN))
    last = base.cursor_as(FeedCursor)
    if last is None:
        return None, ()
    with measured(chosen, count=F.count("*")) as (letters, found):
        if not found["count"]:
            return None, ()
        exchanges = spark.table(dim_exchange.TABLE.identifier)
        records = decoding.again(settings, feed.topic.name, letters)
        judged = feed.judge(records, exchanges, settings.ingest.max_record_bytes)
        held = snapshots.at(spark, feed.table, base.snapshot_id)
        with decided(feed, judged, held, settings.audit, from_start=True) as done:
            again, counts = done.records, done.counts
            if counts["inserted"] or counts["updated"]:
                totals = dict(last.totals)
                totals["rows"] += counts["inserted"]
                totals["replayed"] = totals.get("replayed", 0) + counts["accepted"]
                cursor = replace(last, totals=totals, stamp=base.next_stamp(datetime.now(UTC)))
                silver_processor.write(spark, feed, again, base, cursor, counts, done.verdict.checked)
            _resolve(spark, letters, _verdicts(again), PLACE)
            told = {
                "records": counts["records"],
                "replayed": counts["accepted"] + counts["duplicates"],
                "rejected again": counts["rejected"],
            }
            return told, tuple(done.verdict.warnings)


def _verdicts(decided: DataFrame) -> DataFrame:
    is_rejected = F.col("_outcome") == dedup.REJECTED
    return rejected_records.placed(
        decided,
        F.when(is_rejected, OPEN).otherwise(REPLAYED).alias("_status"),
        F.when(is_rejected, F.col("_reasons")).alias("_new_reasons"),
        F.when(F.col(dedup.NEW), "inserted")
        .when(F.col("_outcome") == dedup.ACCEPTED, "updated")
        .when(F.col("_outcome") == dedup.DUPLICATE, "duplicate")
        .alias("_new_resolution"),
    )


def _resolve(spark: SparkSession, letters: DataFrame, verdicts: DataFrame, place: Sequence[str]) -> None:
    now = datetime.now(UTC)
    resolved = F.col("_status") == REPLAYED
    rows = letters.join(verdicts, on=list(place), how="inner").withColumns(
        {
            "status": F.col("_status"),
            "reasons": F.coalesce("_new_reasons", "reasons"),
            "resolution": F.col("_new_resolution"),
            "attempts": F.col("attempts") + 1,
            "rules_version": F.lit(str(RULES_VERSION)),
            "_resolved_at": F.when(resolved, F.lit(now).cast("timestamp")),
        }
    )
    dead_letters.resolve(spark, rows, now)


def discard(spark: SparkSession, selection: Selection, reason: str) -> int:
    """Closes the selected open records for good, with the reason; returns how many."""
    _require_known(spark, selection)
    now = datetime.now(UTC)
    chosen = spark.table(TABLE.identifier).where(selection.predicate & (F.col("status") == OPEN))
    closed = chosen.withColumns(
        {"status": F.lit(DISCARDED), "resolution": F.lit(reason), "_resolved_at": F.lit(now).cast("timestamp")}
    )
    with measured(closed, count=F.count("*")) as (rows, found):
        number: int = found["count"]
        if number:
            dead_letters.resolve(spark, rows, now)
        return number
