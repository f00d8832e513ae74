"""From Kafka to silver: every record is there, once, and accounted for."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import FEEDS, TOPICS
from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.ingest import kafka
from lakehouse_spark.lake import snapshots, upstream
from lakehouse_spark.lake.cursor import FeedCursor, TopicCursor, rows_removed
from lakehouse_spark.lake.queries import counts
from lakehouse_spark.lake.topic_progress import progress
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import rejected_records, trader_activity, trades
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.verify.finding import Finding, differing, repeated


def offsets_are_there_once(spark: SparkSession, settings: Settings) -> Iterator[Finding]:
    """Bronze holds each Kafka offset once."""
    stored = {}
    for source in TOPICS.values():
        state = snapshots.state(spark, source.table)
        _, _, epoch = progress(spark, source, state)
        rows = _of_epoch(snapshots.at(spark, source.table, state.snapshot_id), epoch)
        rows = rows.where(F.col("_kafka_partition").isNotNull())
        stored[source.table.name] = repeated(rows, ("_kafka_partition", "_kafka_offset"))
    for name, again in counts(stored).items():
        yield Finding("each Kafka offset is stored once", name, again, f"{again} stored more than once")


def offsets_are_complete(spark: SparkSession, settings: Settings) -> Iterator[Finding]:
    """Bronze holds every record that Kafka still has below the cursor."""
    check = "every record Kafka still has is stored"
    silent: str | None = None  # a broker that does not answer is asked once, not for every topic
    lost: dict[str, DataFrame] = {}
    removed: dict[str, Mapping[int, int]] = {}
    for source in TOPICS.values():
        table = source.table
        state = snapshots.state(spark, table)
        following, topic_id, epoch = progress(spark, source, state)
        if not following:
            yield Finding(check, table.name, 0, "nothing ingested yet")
            continue
        if silent:
            yield Finding(check, table.name, None, silent)
            continue
        try:
            cursor = state.cursor_as(TopicCursor)
            named = cursor.topic if cursor else None
            found = kafka.offered(spark, settings, named or settings.topic(source.name))
        except UsageError as error:
            yield Finding(check, table.name, None, f"not checked: {error}")
            continue
        except LakehouseError as error:
            silent = f"not checked: {error}"
            yield Finding(check, table.name, None, silent)
            continue
        if topic_id not in (None, found.topic_id):
            yield Finding(check, table.name, 1, "the topic was deleted and created again")
            continue
        first, last = found.earliest, found.latest
        ends = {p: max(first[p], min(following.get(p, 0), last[p])) for p in last}
        kept = kafka.batch(spark, settings, found.topic, ends).select("partition", "offset")
        stored = _of_epoch(snapshots.at(spark, table, state.snapshot_id), epoch).select(
            F.col("_kafka_partition").alias("partition"), F.col("_kafka_offset").alias("offset")
        )
        lost[table.name] = kept.join(stored, on=["partition", "offset"], how="left_anti")
        removed[table.name] = cursor.removed.get(found.topic_id, {}) if cursor else {}
    for name, partitions in _by_partition(lost).items():
        gone = {p: min(number, removed[name].get(p, 0)) for p, number in partitions.items()}
        number = sum(partitions.values()) - sum(gone.values())
        of_retention = f", {sum(gone.values()):,} removed by retention" if any(gone.values()) else ""
        yield Finding(check, name, number, f"{number} lost{of_retention}")


def _by_partition(lost: Mapping[str, DataFrame]) -> dict[str, dict[int, int]]:
    """How many records of each topic's partitions are missing, by the name of the table, in one query."""
    found: dict[str, dict[int, int]] = {name: {} for name in lost}
    counted = [
        rows.groupBy(F.lit(name).alias("name"), "partition").agg(F.count("*").alias("rows"))
        for name, rows in lost.items()
    ]  # fmt: skip
    for row in reduce(DataFrame.unionByName, counted).collect() if counted else ():
        found[row["name"]][row["partition"]] = row["rows"]
    return found


def rows_are_accounted_for(spark: SparkSession, settings: Settings) -> Iterator[Finding]:
    """Bronze rows = accepted + duplicates + rejected, and the tables hold what was counted."""
    for feed in FEEDS.values():
        source, table = feed.topic.table, feed.table
        state = snapshots.state(spark, table)
        cursor = state.cursor_as(FeedCursor)
        if cursor is None:
            seen = spark.table(source.identifier).count()
            detail = f"{seen} bronze rows wait for silver_processor"
            yield Finding("bronze rows = accepted + duplicates + rejected", table.name, 0, detail)
            continue
        upto = F.lit(cursor.upto).cast("timestamp")
        read = spark.table(source.identifier).where(F.col(str(source.stamp)) <= upto).count()
        totals = cursor.totals
        counted = totals["accepted"] + totals["duplicates"] + totals["rejected"]
        removed = rows_removed(snapshots.state(spark, source).cursor) - cursor.removed_before
        detail = (
            f"{read:,}{f' + {removed:,} removed by retention' if removed else ''} = {totals['accepted']:,} accepted + "
            f"{totals['duplicates']:,} duplicates + {totals['rejected']:,} rejected"
        )
        off = abs(read + removed - counted)
        yield Finding("bronze rows = accepted + duplicates + rejected", table.name, off, detail)
        yield _rows_match_counts(spark, feed, state, totals)
        yield _rejects_match_counts(spark, feed, upto, cursor)


def _rows_match_counts(spark: SparkSession, feed: Feed, state: snapshots.State, totals: Mapping[str, int]) -> Finding:
    held = snapshots.at(spark, feed.table, state.snapshot_id).count()
    detail = f"{held:,} rows, {totals['rows']:,} expected"
    return Finding("accepted records are in the table once", feed.table.name, abs(held - totals["rows"]), detail)


def _rejects_match_counts(spark: SparkSession, feed: Feed, upto: Column, cursor: FeedCursor) -> Finding:
    letters = spark.table(rejected_records.TABLE.identifier).where(F.col("source_table") == feed.topic.table.name)
    # Those of a batch that is under way, or whose job died, are written before silver counts them.
    counted = (
        letters.where(F.col("_ingested_at") <= upto)
        .agg(F.count("*").alias("all"), F.count_if(F.col("status") != rejected_records.REPLAYED).alias("rejected"))
        .collect()[0]
    )
    rejected = cursor.totals["rejected"] + cursor.rejected_before
    off = max(counted["rejected"] - rejected, rejected - counted["all"], 0)
    detail = f"{rejected:,} rejected, {counted['all']:,} in the dead-letter table"
    return Finding("rejected records are kept", feed.topic.table.name, off, detail)


def activity_follows_from_trades(spark: SparkSession, settings: Settings) -> Iterator[Finding]:
    """trader_activity is what the trades it has seen add up to."""
    table = trader_activity.TABLE
    if upstream.read(spark, [table]).progress.waits_for(trades.TABLE):
        yield Finding("activity = sums of trades", table.name, 0, "trades wait for silver_processor")
        return
    columns = [name for name in table.column_names if name != table.stamp]
    held = spark.table(table.identifier).select(*columns)
    derived = trader_activity.build(spark.table(trades.TABLE.identifier)).select(*columns)
    off = differing(held, derived)
    yield Finding("activity = sums of trades", table.name, off, f"{off} rows differ")


def _of_epoch(rows: DataFrame, epoch: datetime | None) -> DataFrame:
    """The rows of the topic as it is now, where a recreated one was accepted."""
    return rows if epoch is None else rows.where(F.col("_ingested_at") > F.lit(epoch))
