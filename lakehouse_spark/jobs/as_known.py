"""Gold as it would have been: derived anew from bronze and the change log as they stood at a moment, onto a branch."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.dim import dim_exchange, members
from lakehouse_spark.dim.dimension import Dimension, changes
from lakehouse_spark.dim.reference_log import LOG, readable
from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.iceberg import metadata
from lakehouse_spark.ingest import decoding
from lakehouse_spark.jobs.gold_steps import Steps
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit, dimension_records, frames, snapshots
from lakehouse_spark.lake.cursor import rows_removed, to_text
from lakehouse_spark.lake.progress import Progress
from lakehouse_spark.lake.queries import kept
from lakehouse_spark.lake.reconcile import Done
from lakehouse_spark.lake.upstream import Upstream
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import judging, orderbook_snapshots, rejected_records, trades
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.table import Table
from lakehouse_spark.transforms import dedup, drift

JOB = "gold_aggregator"
AS_KNOWN_AT = "lakehouse.as-known-at"
"""Snapshot property of what is on such a branch: the moment."""

_FEEDS = (trades.FEED, orderbook_snapshots.FEED)
_NAME = re.compile(r"[A-Za-z]\w{0,63}", re.ASCII)
_OURS = re.compile(r"main|(commit|compaction|audit)_.*")


@dataclass(frozen=True)
class Known(Upstream):
    """Sources as they would have been, all of them new."""

    made: dict[str, DataFrame] = field(default_factory=dict)
    """Their rows, by the table's name."""

    def rows(self, table: Table) -> DataFrame:
        return self.made[table.name]


def derive(
    spark: SparkSession,
    settings: Settings,
    gold: Steps,
    moment: datetime,
    into: str,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Gives the branch `into` of every table of `gold` what a rebuild of all layers would have made at a moment.

    From the records that bronze and the change log held then, without those that were discarded by then, by today's
    rules and settings; so it does not matter which snapshots have expired. Tables and their readers see none of it. A
    run that dies leaves branches away, and none of another moment. Raises UsageError for a name that no branch can
    have, and RefusedError, before anything is derived, where retention has removed bronze, or the name is somebody
    else's branch.
    """
    if not _NAME.fullmatch(into) or _OURS.fullmatch(into):
        raise UsageError(f"{JOB}: {into!r} is no name for such a branch: letters, digits and _, a letter first")
    if moment > datetime.now(UTC):
        raise UsageError(f"{JOB}: {moment.isoformat()} is still to come")
    tables = [table for step, _ in gold for table in step]
    for table in tables:
        commit.require_own(spark, table, into, AS_KNOWN_AT)
    then = _arrived(spark, settings, [LOG, *(feed.topic.table for feed in _FEEDS)], moment)
    for table in tables:
        commit.drop_own(spark, table, into)
    summaries, stamp = [], F.lit(datetime.now(UTC)).cast("timestamp")
    news = Known(spark, tables, {}, Progress((), {}), rebuild=True)
    with ExitStack() as stack:
        for table, rows in _sources(spark, settings, then, moment, stack):
            news.made[table.name] = rows
        for step, how in gold:
            began = time.monotonic()
            nothing = {table: frames.of_rows(spark, [], table.schema) for table in step}
            derived = stack.enter_context(how(spark, settings, news, nothing))
            for table, (fresh, _) in derived.items():
                rows = stack.enter_context(kept(fresh.withColumn(str(table.stamp), stamp)))
                news.made[table.name] = rows
                properties = {AS_KNOWN_AT: str(to_text(moment))}
                snapshot_id = commit.branch(spark, table, into, rows, properties)
                done = Done({"rows": rows.count()}, snapshot_id, (f"on branch {into}",))
                summaries.append(Summary.of(JOB, table.name, done, began))
                report(summaries[-1])
                began = time.monotonic()
    return summaries


def _sources(
    spark: SparkSession, settings: Settings, then: Mapping[Table, DataFrame], moment: datetime, stack: ExitStack
) -> list[tuple[Table, DataFrame]]:
    """The tables that gold is made of, each with the rows that it would have had, of the records of `then`."""
    letters = spark.table(rejected_records.TABLE.identifier)
    letters = letters.where((F.col("status") == rejected_records.DISCARDED) & (F.col("_resolved_at") <= F.lit(moment)))
    found = {d.table: stack.enter_context(kept(_members(spark, d, then[LOG], letters))) for d in DIMENSIONS.values()}
    exchanges = found[dim_exchange.TABLE]
    for feed in _FEEDS:
        rows = _accepted(settings, feed, then[feed.topic.table], letters, exchanges)
        found[feed.table] = stack.enter_context(kept(rows))
    return list(found.items())


def _arrived(
    spark: SparkSession, settings: Settings, tables: Sequence[Table], moment: datetime
) -> Mapping[Table, DataFrame]:
    """The rows of bronze tables that could be read at a moment: by when their commits became current, and where that is
    not known any more, by their stamps, which are taken when a commit begins."""
    found = {}
    for name, now in metadata.those(settings, tables).items():
        if removed := rows_removed(now.cursor):
            raise RefusedError(
                f"{name}: retention has removed {removed:,} rows, without which nothing is as it would have been",
                "What was read then, as far back as snapshots are kept: lakehouse query --known-at. To keep more of "
                "bronze: row_days of LAKEHOUSE_MAINTENANCE__LAYERS",
            )
        if now.head is None or (now.cursor is None and now.total("records")):
            raise RefusedError(f"{name}: its cursor is lost, so that nobody knows what retention has removed")
        try:
            state = now.known_at(moment).state
            upto = state.stamp if state else None
        except UsageError:
            upto = moment
        stamp = F.col(str(now.table.stamp))
        rows = snapshots.at(spark, now.table, now.head["snapshot-id"])
        found[now.table] = rows.where(F.lit(False) if upto is None else stamp <= F.lit(upto))
    return found


def _members(spark: SparkSession, dimension: Dimension, log: DataFrame, letters: DataFrame) -> DataFrame:
    """The members that the log's records make, and of a dimension without versions those that they made by older rules:
    a key that facts refer to never disappears."""
    theirs = dimension_records.records(spark, dimension, readable(log), letters)
    rows = dimension.derive(changes(theirs, dimension))
    if dimension.is_versioned:
        return rows
    named = theirs.select(F.col("natural_key").alias(dimension.natural_key)).distinct()
    held = spark.table(dimension.table.identifier).join(named, on=dimension.natural_key, how="left_semi")
    return members.with_rejected(dimension, rows, held, theirs)


def _accepted(settings: Settings, feed: Feed, bronze: DataFrame, letters: DataFrame, exchanges: DataFrame) -> DataFrame:
    """The rows of silver that the records make, stamp left out."""
    rest, _ = judging.set_aside(bronze, letters)
    rest = decoding.again(settings, feed.topic.name, rest)
    judged = feed.judge(rest, exchanges, settings.ingest.max_record_bytes).drop(*drift.COLUMNS)
    nothing = frames.of_rows(bronze.sparkSession, [], feed.table.schema)
    return dedup.to_write(judging.decide(feed, judged, nothing, from_start=False))
