"""From Kafka to silver: every record is there, once, and accounted for."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.catalog import FEEDS, TOPICS
from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.ingest import kafka
from lakehouse_spark.lake import snapshots
from lakehouse_spark.lake.cursor import FeedCursor, TopicCursor, from_json, rows_removed
from lakehouse_spark.lake.queries import counts
from lakehouse_spark.lake.topic_progress import progress
from lakehouse_spark.silver import rejected_records, trader_activity, trades
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.verify.finding import Finding, differing, repeated
from lakehouse_spark.verify.look import Look

_SOURCES = {topic.table: topic for topic in TOPICS.values()}
_FEEDS = {table: feed for feed in FEEDS.values() for table in (feed.table, feed.topic.table)}


def offsets_are_there_once(looks: Sequence[Look]) -> Iterator[Finding]:
    """Bronze holds each Kafka offset once."""
    stored = {}
    for look in looks:
        _, _, epoch = progress(look.spark, _SOURCES[look.table], look.state())
        then = _cursor_then(look)
        counted_then = then is not None and then.topic is not None and then.epoch == epoch
        rows = look.like_gained("_kafka_offset") if counted_then else look.rows()
        rows = _of_epoch(rows, epoch).where(F.col("_kafka_partition").isNotNull())
        stored[look.table.name] = repeated(rows, ("_kafka_partition", "_kafka_offset"))
    for name, again in counts(stored).items():
        yield Finding("each Kafka offset is stored once", name, again, f"{again} stored more than once")


def offsets_are_complete(looks: Sequence[Look]) -> Iterator[Finding]:
    """Bronze holds every record that Kafka still has below the cursor."""
    check = "every record Kafka still has is stored"
    silent: str | None = None  # a broker that does not answer is asked once, not for every topic
    lost: dict[str, DataFrame] = {}
    removed: dict[str, Mapping[int, int]] = {}
    short = set[str]()
    for look in looks:
        table, state, source = look.table, look.state(), _SOURCES[look.table]
        cursor = state.cursor_as(TopicCursor)
        if look.are_as_proved([table]) and (cursor is None or cursor.topic is None):  # there is no topic to look after
            look.is_of_new = True
            yield Finding(check, table.name, 0, "0 lost")
            continue
        following, topic_id, epoch = progress(look.spark, source, state)
        if not following:
            yield Finding(check, table.name, 0, "nothing ingested yet")
            continue
        if silent:
            yield Finding(check, table.name, None, silent)
            continue
        try:
            named = cursor.topic if cursor else None
            found = kafka.offered(look.spark, look.settings, named or look.settings.topic(source.name))
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
        if any(last.get(partition, 0) < offset for partition, offset in following.items()):
            short.add(table.name)
        ends = {p: max(first[p], min(following.get(p, 0), last[p])) for p in last}
        proved = _proved_upto(look, topic_id, epoch)
        starts = None if proved is None else {p: min(ends[p], max(first[p], proved.get(p, 0))) for p in ends}
        if starts == ends:
            yield _lost(check, table.name, 0, 0, table.name in short)
            continue
        kept = kafka.batch(look.spark, look.settings, found.topic, ends, starts).select("partition", "offset")
        stored = _of_epoch(look.rows(), epoch).select(
            F.col("_kafka_partition").alias("partition"), F.col("_kafka_offset").alias("offset")
        )
        if starts is None:
            removed[table.name] = cursor.removed.get(found.topic_id, {}) if cursor else {}
        else:  # since which nothing was removed
            stored, removed[table.name] = stored.where(F.col("offset") >= min(starts.values())), {}
        lost[table.name] = kept.join(stored, on=["partition", "offset"], how="left_anti")
    for name, partitions in _by_partition(lost).items():
        gone = {p: min(number, removed[name].get(p, 0)) for p, number in partitions.items()}
        number = sum(partitions.values()) - sum(gone.values())
        yield _lost(check, name, number, sum(gone.values()), name in short)


def _lost(check: str, name: str, number: int, removed: int, is_short: bool) -> Finding:
    """What is lost of a topic. Where Kafka ends before the cursor, what it may get there yet is not looked at."""
    of_retention = f", {removed:,} removed by retention" if removed else ""
    detail = f"{number} lost{of_retention}{', Kafka ends before the cursor' if is_short else ''}"
    return Finding(check, name, number, detail, waits=is_short and not number)


def _proved_upto(look: Look, topic_id: str | None, epoch: datetime | None) -> Mapping[int, int] | None:
    """The next offset of each partition as it was when all before were proved to be stored, if no row went since."""
    cursor = _cursor_then(look)
    if cursor is None or (cursor.topic_id, cursor.epoch) != (topic_id, epoch):
        return None
    if not look.are_as_proved([look.table]) and ((news := look.news()) is None or news.lost):
        return None
    look.is_of_new = True
    return cursor.following


def _cursor_then(look: Look) -> TopicCursor | None:
    """The table's cursor as it was at the proof; None where it is not known."""
    before, iceberg = look.before(), look.pin().iceberg
    if before is None or before.snapshot is None:
        return None
    written = snapshots.newest_cursor(iceberg, iceberg.snapshot(before.snapshot))
    cursor = from_json(written) if written else None
    return cursor if isinstance(cursor, TopicCursor) else None


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


def rows_are_accounted_for(looks: Sequence[Look]) -> Iterator[Finding]:
    """Bronze rows = accepted + duplicates + rejected, and the tables hold what was counted."""
    for look in looks:
        feed = _FEEDS[look.table]
        cursor = look.state(feed.table).cursor_as(FeedCursor)
        if look.table is feed.table:
            yield from _rows_match_counts(look, feed, cursor)
        elif cursor is not None:
            yield _rejects_match_counts(look, cursor)


def _rows_match_counts(look: Look, feed: Feed, cursor: FeedCursor | None) -> Iterator[Finding]:
    source, table, check = feed.topic.table, feed.table, "bronze rows = accepted + duplicates + rejected"
    if cursor is None:
        detail = f"{look.rows(source).count()} bronze rows wait for silver_processor"
        yield Finding(check, table.name, 0, detail, waits=True)
        return
    rows, stamp, upto = look.rows(source), F.col(str(source.stamp)), F.lit(cursor.upto).cast("timestamp")
    if look.proof is None:
        read = rows.where(stamp <= upto).count()
    else:  # as metadata count them, without the few that came later
        read, look.is_of_new = rows.count() - rows.where(stamp.isNull() | (stamp > upto)).count(), True
    totals = cursor.totals
    counted = totals["accepted"] + totals["duplicates"] + totals["rejected"]
    removed = rows_removed(look.state(source).cursor) - cursor.removed_before
    detail = (
        f"{read:,}{f' + {removed:,} removed by retention' if removed else ''} = {totals['accepted']:,} accepted + "
        f"{totals['duplicates']:,} duplicates + {totals['rejected']:,} rejected"
    )
    yield Finding(check, table.name, abs(read + removed - counted), detail)
    held = look.rows().count()
    detail = f"{held:,} rows, {totals['rows']:,} expected"
    yield Finding("accepted records are in the table once", table.name, abs(held - totals["rows"]), detail)


def _rejects_match_counts(look: Look, cursor: FeedCursor) -> Finding:
    letters = look.rows(rejected_records.TABLE).where(F.col("source_table") == look.table.name)
    # Those of a batch that is under way, or whose job died, are written before silver counts them.
    counted = (
        letters.where(F.col("_ingested_at") <= F.lit(cursor.upto).cast("timestamp"))
        .agg(F.count("*").alias("all"), F.count_if(F.col("status") != rejected_records.REPLAYED).alias("rejected"))
        .collect()[0]
    )
    rejected = cursor.totals["rejected"] + cursor.rejected_before
    off = max(counted["rejected"] - rejected, rejected - counted["all"], 0)
    detail = f"{rejected:,} rejected, {counted['all']:,} in the dead-letter table"
    return Finding("rejected records are kept", look.table.name, off, detail)


def activity_follows_from_trades(looks: Sequence[Look]) -> Iterator[Finding]:
    """trader_activity is what the trades it has seen add up to."""
    for look in looks:
        table, check = look.table, "activity = sums of trades"
        if look.progress.waits_for(trades.TABLE):
            yield Finding(check, table.name, 0, "trades wait for silver_processor", waits=True)
            continue
        columns = [name for name in table.column_names if name != table.stamp]
        held, traded = look.of_days_changed(table, trades.TABLE)
        off = differing(held.select(*columns), trader_activity.build(traded).select(*columns))
        yield Finding(check, table.name, off, f"{off} rows differ")


def _of_epoch(rows: DataFrame, epoch: datetime | None) -> DataFrame:
    """The rows of the topic as it is now, where a recreated one was accepted."""
    return rows if epoch is None else rows.where(F.col("_ingested_at") > F.lit(epoch))
