"""The dead-letter table: a rejected record is kept before anything else is written, and once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import FEEDS
from lakehouse_spark.dim.reference_log import LOG
from lakehouse_spark.errors import UsageError
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import Cursor, to_text
from lakehouse_spark.lake.pruning import days_of, within_days
from lakehouse_spark.lake.queries import kept, measured
from lakehouse_spark.lake.reconcile import settle
from lakehouse_spark.silver.rejected_records import DISCARDED, OPEN, PLACE, REPLAYED, STATUSES, TABLE
from lakehouse_spark.transforms.quality import RULES_VERSION


@dataclass(frozen=True)
class Selection:
    """Which records: all of them, or those of a bronze table, with a reason code, a status, or given ids."""

    table: str | None = None
    reason: str | None = None
    status: str | None = None
    ids: Sequence[str] = ()

    @property
    def source_table(self) -> str | None:
        if not self.table:
            return None
        known = {*(feed.topic.name for feed in FEEDS.values()), LOG.short_name}
        name = self.table.removeprefix("bronze.")
        if name not in known:
            raise UsageError(f"no such bronze table {self.table!r}: one of {', '.join(sorted(known))}")
        return f"bronze.{name}"

    @property
    def wanted_status(self) -> str | None:
        if not self.status:
            return None
        if self.status.upper() not in STATUSES:
            raise UsageError(f"no such status {self.status!r}: one of {', '.join(STATUSES)}")
        return self.status.upper()

    @property
    def predicate(self) -> Column:
        """The same for Spark as `letters` reads without it."""
        chosen = F.lit(True)
        if self.source_table:
            chosen = chosen & (F.col("source_table") == self.source_table)
        if self.reason:
            chosen = chosen & F.array_contains("reasons", self.reason)
        if self.wanted_status:
            chosen = chosen & (F.col("status") == self.wanted_status)
        if self.ids:
            chosen = chosen & F.col("rejected_id").isin(*self.ids)
        return chosen


def keep(
    spark: SparkSession, letters: DataFrame, source_table: str, after: datetime | None, upto: snapshots.State
) -> None:
    """Writes the letters, rejected among rows of `source_table` stamped later than `after`, that are not there yet.

    Open ones, of an earlier attempt at this batch, get the reasons of today's rules.
    """
    done = {"source": source_table, "read": to_text(upto.stamp)}
    _bring_up(spark, letters, source_table, after, (REPLAYED, DISCARDED), done)


def of_batch(spark: SparkSession, read: snapshots.State, source_table: str, after: datetime | None) -> DataFrame | None:
    """As `read`, the dead letters of the rows that a bronze table was given later than `after` (None: of all).

    None where the files tell that there is none, as of any batch that is looked at for the first time.
    """
    is_there = ("source_table", "=", source_table), *snapshots.later_than("_ingested_at", after)
    if not snapshots.has_files(spark, TABLE, read, *is_there):
        return None
    since = F.lit(True) if after is None else F.col("_ingested_at") > F.lit(after)
    return snapshots.at(spark, TABLE, read.snapshot_id).where((F.col("source_table") == source_table) & since)


def open_again(spark: SparkSession, rejected: DataFrame, source_table: str) -> None:
    """Brings the letters of a bronze table up to a judgement by which records of it are `rejected`: new ones are added,
    closed ones open.

    Discarded ones stay closed. Those of records that are good now are for `close`, once their rows are written.
    """
    _bring_up(spark, rejected, source_table, None, (DISCARDED,), {"judged": "again"})


def _bring_up(
    spark: SparkSession,
    rejected: DataFrame,
    source_table: str,
    after: datetime | None,
    closed: Sequence[str],
    done: Mapping[str, Any],
) -> None:
    """Adds the letters `rejected`, of rows stamped later than `after`, or brings those up to them that are there; ones
    of the status `closed` stay."""
    key, columns = list(TABLE.key), [name for name in TABLE.column_names if name != TABLE.stamp]

    def write(letters: DataFrame) -> None:
        base = snapshots.state(spark, TABLE)
        cursor = Cursor(stamp=base.next_stamp(datetime.now(UTC)), notes=done)
        there = of_batch(spark, base, source_table, after)
        if there is None:
            settle(spark, TABLE, letters.select(*columns), None, base, cursor)
            return
        is_closed = F.col("status").isin(*closed)
        with kept(there.join(letters.select(*key), on=key, how="left_semi")) as known:
            due = letters.join(known.where(is_closed).select(*key), on=key, how="left_anti")
            held = known.where(~is_closed)
            before = held.select(*key, F.col("attempts").alias("_attempts"))
            again = due.join(before, on=key, how="left").withColumn("attempts", F.coalesce("_attempts", "attempts"))
            settle(spark, TABLE, again.select(*columns), held, base, cursor)

    with kept(rejected) as rows:
        commit.again_if_overtaken(lambda: write(rows))


def close(
    spark: SparkSession, letters: DataFrame, accepted: DataFrame, resolution: str, *, place: Sequence[str] = PLACE
) -> None:
    """Marks the open ones among the letters of `accepted` records (`place`) as REPLAYED, with how that came."""
    now = datetime.now(UTC)
    replayed = {"status": REPLAYED, "resolution": resolution, "rules_version": str(RULES_VERSION)}
    good = letters.where(F.col("status") == OPEN).join(accepted, on=list(place), how="left_semi")
    closed = good.withColumns({name: F.lit(value) for name, value in replayed.items()})
    closed = closed.withColumn("_resolved_at", F.lit(now).cast("timestamp"))
    with measured(closed, count=F.count("*")) as (rows, found):
        if found["count"]:
            resolve(spark, rows, now)


def resolve(spark: SparkSession, letters: DataFrame, now: datetime) -> None:
    """Writes the new fate of open letters; what others did to the dead-letter table meanwhile stands."""
    fate = ["status", "reasons", "resolution", "attempts", "rules_version", "_resolved_at"]
    days = days_of(letters, "_ingested_at")

    def attempt() -> None:
        base = snapshots.state(spark, TABLE)
        cursor = Cursor(stamp=base.next_stamp(now), notes={"resolved": True})
        bounds = within_days("_ingested_at", days)
        held = snapshots.at(spark, TABLE, base.snapshot_id).where(bounds(F.col) & (F.col("status") == OPEN))
        rows = letters.join(held.select(*TABLE.key), on=list(TABLE.key), how="left_semi")
        commit.merge(spark, TABLE, rows.select(*TABLE.column_names), base, cursor, bounds=bounds, updates=fate)

    commit.again_if_overtaken(attempt)
