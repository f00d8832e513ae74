"""Members of the dimensions, derived anew from the change log: of new records, of today's rules, of what facts need."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim import members
from lakehouse_spark.dim.dimension import Dimension, changes, with_reasons
from lakehouse_spark.dim.reference_log import LOG, of_dimension, readable
from lakehouse_spark.lake import commit, dead_letters, snapshots, upstream
from lakehouse_spark.lake.cursor import UpstreamCursor
from lakehouse_spark.lake.dimension_records import records
from lakehouse_spark.lake.pruning import keys_of, of_keys
from lakehouse_spark.lake.queries import kept, measured
from lakehouse_spark.lake.reconcile import Done, settle
from lakehouse_spark.lake.surrogate_keys import with_surrogate_keys
from lakehouse_spark.settings import AuditSettings
from lakehouse_spark.silver import rejected_records

_MOST_NAMES = 10
_LONGEST_NAME = 40


class _Place(NamedTuple):
    """A dimension's place in the change log: records stamped later than `after` are those its commit consumed."""

    after: datetime | None
    upto: datetime | None


def apply(
    spark: SparkSession, dimension: Dimension, *, rebuild: bool = False, audits: AuditSettings | None = None
) -> Done:
    """Rejects the bad ones of the log's new records and derives the members of the good ones anew, in one commit.

    With `rebuild`, and where older rules made the dimension or its cursor is lost, all of the log is judged and all
    members are derived; dead letters of records that are good now are closed, and what is rejected now has one.
    """
    done = Done({})

    def attempt() -> None:
        nonlocal done
        done = _apply(spark, dimension, rebuild, audits)

    commit.again_if_overtaken(attempt)
    return done


def _apply(spark: SparkSession, dimension: Dimension, rebuild: bool, audits: AuditSettings | None) -> Done:
    news = upstream.read(spark, [dimension.table])
    base, log = news.states[dimension.table.name], news.states[LOG.name]
    is_whole = rebuild or base.is_outdated or base.is_lost
    seen = news.consumed(LOG)
    after = None if is_whole else seen
    if not is_whole and not (news.is_new and _has_records(spark, dimension, log, after)):
        return Done({})
    fresh = records(spark, dimension, snapshots.changes(spark, LOG, log, after))
    with measured(with_reasons(fresh, dimension), **_counts(dimension)) as (judged, found):
        counts = {name: number for name, number in found.asDict().items() if number or name != "ignored"}
        if not counts["records"] and not (is_whole and base.cursor):
            return Done({})
        rejected = judged.where(F.size("_reasons") > 0)
        last = base.cursor_as(UpstreamCursor)
        since = last.after if last and is_whole and seen == log.stamp else seen
        place = _Place(since, log.stamp)
        if is_whole:
            return _apply_whole(spark, dimension, judged, counts, base, log, place, audits)
        if counts["rejected"]:
            dead_letters.keep(spark, rejected_records.of_change_log(rejected), LOG.name, after, log)
        good = judged.where(F.size("_reasons") == 0).select(F.col("natural_key").alias(dimension.natural_key))
        with kept(good.distinct()) as keys:
            done = _rederive(spark, dimension, keys, None, base, log, place, audits)
        counts |= done.counts
        return Done(counts, done.snapshot_id, _ignored_names(judged, dimension, counts), done.warnings)


def _apply_whole(
    spark: SparkSession,
    dimension: Dimension,
    judged: DataFrame,
    counts: Mapping[str, int],
    base: snapshots.State,
    log: snapshots.State,
    place: _Place,
    audits: AuditSettings | None,
) -> Done:
    """Brings the dimension and the dead letters of its records up to what today's rules say of all of them."""
    key, is_good = list(rejected_records.TABLE.key), F.size("_reasons") == 0
    verdicts = judged.select(rejected_records.id_in_change_log().alias("rejected_id"), "_ingested_at", "_reasons")
    letters = spark.table(rejected_records.TABLE.identifier).where(F.col("source_table") == LOG.name)
    with kept(letters.join(verdicts.select(*key), on=key, how="left_semi")) as known:
        is_open = known.where(F.col("status") == rejected_records.OPEN).select(*key, F.lit(True).alias("_open"))
        seen = F.col("_ingested_at") <= F.lit(_seen(base)).cast("timestamp")
        changed = verdicts.join(is_open, on=key, how="left").agg(
            F.count_if(~is_good & F.col("_open").isNull() & seen), F.count_if(is_good & F.col("_open").isNotNull())
        )
        rejected_now, accepted_now = changed.collect()[0]
        if counts["rejected"]:
            dead_letters.open_again(spark, rejected_records.of_change_log(judged.where(~is_good)), LOG.name)
        accepted = verdicts.where(is_good).select(*key)
        is_due = base.is_outdated or base.is_lost  # a job that dies before it commits has all of this before it again
        if accepted_now and is_due:
            dead_letters.close(spark, known, accepted, "derived", place=key)
        done = _rederive(spark, dimension, None, None, base, log, place, audits)
        if accepted_now and not is_due:
            dead_letters.close(spark, known, accepted, "derived", place=key)
    why = f"{base.rules_moved}: " if base.is_outdated else "its cursor was lost: " if base.is_lost else ""
    note = (
        f"{why}derived whole: {sum(done.counts.values()):,} rows changed, {rejected_now:,} records refused now, "
        f"{accepted_now:,} accepted now"
    )
    notes = (note, *_ignored_names(judged, dimension, counts))
    return Done({**counts, **done.counts}, done.snapshot_id, notes, done.warnings)


def _has_records(spark: SparkSession, dimension: Dimension, log: snapshots.State, after: datetime | None) -> bool:
    """Whether the log may have records of the dimension that are stamped later than `after`; runs no query."""
    return snapshots.has_files(
        spark, LOG, log, ("dimension", "=", dimension.name), *snapshots.later_than(str(LOG.stamp), after)
    )


def _counts(dimension: Dimension) -> dict[str, Column]:
    """Aggregates of judged records: all, those rejected, and the values that Kafka records have under names of no
    column."""
    return {
        "records": F.count("*"),
        "rejected": F.count_if(F.size("_reasons") > 0),
        "ignored": F.coalesce(F.sum(F.size(members.unknown_names(dimension))), F.lit(0)),
    }


def _ignored_names(judged: DataFrame, dimension: Dimension, counts: Mapping[str, int]) -> tuple[str, ...]:
    if not counts.get("ignored"):
        return ()
    names = judged.select(F.explode(members.unknown_names(dimension)).alias("name")).distinct()
    found = [row[0] for row in names.orderBy("name").limit(_MOST_NAMES + 1).collect()]
    listed = ", ".join(repr(name[:_LONGEST_NAME]) for name in found[:_MOST_NAMES])
    more = ", …" if len(found) > _MOST_NAMES else ""
    return (f"{dimension.name} has no column of these names in records from Kafka, which are ignored: {listed}{more}",)


def infer(spark: SparkSession, dimension: Dimension, wanted: DataFrame, audits: AuditSettings | None = None) -> Done:
    """Gives the facts of `wanted` (natural key, `first_day`, `last_day`) members to refer to where there are none."""
    return _derive_seen(spark, dimension, wanted.select(dimension.natural_key), wanted, audits)


def rederive(spark: SparkSession, dimension: Dimension, named: DataFrame, audits: AuditSettings | None = None) -> Done:
    """Derives the members `named` (natural key) from the changes their dimension has seen, by today's rules."""
    return _derive_seen(spark, dimension, named, None, audits)


def _derive_seen(
    spark: SparkSession, dimension: Dimension, named: DataFrame, wanted: DataFrame | None, audits: AuditSettings | None
) -> Done:
    done = Done({})
    held = snapshots.state(spark, dimension.table)
    if held.is_lost or held.is_outdated:  # what it has seen, and says by today's rules, is known once it is read again
        apply(spark, dimension, audits=audits)

    def attempt() -> None:
        nonlocal done
        base, log = snapshots.state(spark, dimension.table), snapshots.state(spark, LOG)
        last = base.cursor_as(UpstreamCursor)
        place = _Place(last.after, last.upto) if last else _Place(None, None)
        with kept(named.distinct()) as keys:
            done = _rederive(spark, dimension, keys, wanted, base, log, place, audits)

    commit.again_if_overtaken(attempt)
    return done


def _seen(base: snapshots.State) -> datetime | None:
    """Up to where the dimension has consumed the change log."""
    cursor = base.cursor_as(UpstreamCursor)
    return cursor.upto if cursor else None


def _rederive(
    spark: SparkSession,
    dimension: Dimension,
    keys: DataFrame | None,
    wanted: DataFrame | None,
    base: snapshots.State,
    read: snapshots.State,
    place: _Place,
    audits: AuditSettings | None,
) -> Done:
    """Derives the members of `keys` (None: all) from all their changes up to the `place` in the log, as `read`, and
    commits what differs.

    Facts and gold follow the log's new records. Where more differs than these can explain, because today's rules see
    the past otherwise, or the place was lost, they notice by the cursor's `rebuilt`.
    """
    key, stamp = dimension.natural_key, F.col(str(LOG.stamp))
    upto, seen = place.upto, _seen(base)
    log = snapshots.at(spark, LOG, read.snapshot_id).where(of_dimension(dimension))
    theirs = log.where(F.lit(False) if upto is None else stamp <= F.lit(upto).cast("timestamp"))
    rows_of_members = snapshots.at(spark, dimension.table, base.snapshot_id)
    if keys is not None:
        literal = keys_of(keys, key)
        theirs = of_keys(theirs, "natural_key", keys.withColumnRenamed(key, "natural_key"), literal)
        rows_of_members = of_keys(rows_of_members, key, keys, literal)
    # Kept before they are judged: else the optimizer judges the whole log first, and looks for the members after.
    with (
        kept(records(spark, dimension, readable(theirs))) as readable_records,
        kept(changes(readable_records, dimension)) as good,
        kept(rows_of_members) as held,
    ):
        is_seen = F.lit(False) if seen is None else stamp <= F.lit(seen).cast("timestamp")
        rebuilt, now = base.cursor.rebuilt if base.cursor else None, base.next_stamp(datetime.now(UTC))
        rows, were = dimension.derive(good), dimension.derive(good.where(is_seen))
        if not dimension.is_versioned:
            rows = _with_rejected(dimension, rows, theirs, held)
            were = _with_rejected(dimension, were, theirs.where(is_seen), held)
        if _differ(were, held.where("NOT is_inferred") if dimension.is_versioned else held):
            rebuilt = now
        if dimension.is_versioned:
            rows = members.with_inferred(dimension, rows, held, wanted)
        with kept(rows) as derived, kept(with_surrogate_keys(spark, dimension, derived, held)) as fresh:
            cursor = UpstreamCursor(stamp=now, rebuilt=rebuilt, source=LOG.name, after=place.after, upto=place.upto)
            return settle(spark, dimension.table, fresh, held, base, cursor, audits)


def _with_rejected(dimension: Dimension, derived: DataFrame, log: DataFrame, held: DataFrame) -> DataFrame:
    """The rows that good records make of a dimension without versions, and the held rows of members that have none.

    A key that facts refer to never disappears: a member whose records (in `log`) newer rules reject, all of them, keeps
    its row, less what breaks a rule.
    """
    lacking = members.rejected(dimension, derived, held).select(*derived.columns)
    lacking = lacking.where(F.is_valid_utf8(dimension.natural_key))  # no fact refers to another text
    return derived if lacking.isEmpty() else derived.unionByName(members.less_what_breaks(dimension, lacking, log))


def _differ(derived: DataFrame, held: DataFrame) -> bool:
    """Whether the held rows are other ones than those derived, which lack some columns."""
    ours, theirs = derived.withColumn("_side", F.lit(1)), held.select(*derived.columns).withColumn("_side", F.lit(-1))
    surplus = ours.unionByName(theirs).groupBy(*derived.columns).agg(F.sum("_side").alias("_surplus"))
    return not surplus.where(F.col("_surplus") != 0).isEmpty()
