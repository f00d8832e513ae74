"""Members of the dimensions, derived anew from the change log: of new records, of today's rules, of what facts need."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark import commit, dead_letters
from lakehouse_spark.batch import Done, kept, keys_of, of_keys, settle
from lakehouse_spark.change_log import LOG, of_dimension, records
from lakehouse_spark.dim.dimension import Dimension, changes, reasons
from lakehouse_spark.numbering import with_surrogate_keys
from lakehouse_spark.silver import rejected_records
from lakehouse_spark.transforms import scd_type2


def apply(spark: SparkSession, dimension: Dimension) -> Done:
    """Refuses the bad ones of the log's new records and derives the members of the good ones anew, in one commit."""
    done = Done({})

    def attempt() -> None:
        nonlocal done
        done = _apply(spark, dimension)

    commit.again_if_overtaken(attempt)
    return done


def _apply(spark: SparkSession, dimension: Dimension) -> Done:
    table = dimension.table
    base, upstream = commit.state(spark, table), commit.state(spark, LOG)
    after = commit.from_text(base.cursor["to"]) if base.cursor else None
    if upstream.stamp is None or (after is not None and upstream.stamp <= after):
        return Done({})
    fresh = records(spark, dimension, commit.changes(spark, LOG, upstream, after))
    judged = fresh.withColumn("_reasons", reasons(fresh, dimension))
    with kept(judged) as told:
        counted = told.agg(F.count("*"), F.count_if(F.size("_reasons") > 0)).first()
        total, refused = (int(counted[0]), int(counted[1])) if counted else (0, 0)
        if not total:
            return Done({})
        if refused:
            letters = rejected_records.of_change_log(told.where(F.size("_reasons") > 0))
            dead_letters.keep(spark, letters, LOG.name, after, upstream)
        good = told.where(F.size("_reasons") == 0).select(F.col("natural_key").alias(dimension.natural_key))
        with kept(good.distinct()) as keys:
            cursor = {
                "source": LOG.name,
                "from": commit.to_text(after),
                "to": commit.to_text(upstream.stamp),
            }
            done = _rederive(spark, dimension, keys, None, base, upstream, cursor)
        return Done({"records": total, "rejected": refused, **done.counts}, done.snapshot_id)


def infer(spark: SparkSession, dimension: Dimension, wanted: DataFrame) -> Done:
    """Gives the facts of `wanted` (natural key, `first_day`, `last_day`) members to refer to where there are none."""
    return _derive_seen(spark, dimension, wanted.select(dimension.natural_key), wanted)


def rederive(spark: SparkSession, dimension: Dimension, members: DataFrame) -> Done:
    """Derives the members (natural key) from the changes their dimension has seen, by today's rules."""
    return _derive_seen(spark, dimension, members, None)


def _derive_seen(spark: SparkSession, dimension: Dimension, members: DataFrame, wanted: DataFrame | None) -> Done:
    done = Done({})
    if commit.state(spark, dimension.table).is_lost:  # what it has seen is known once it has read it again
        apply(spark, dimension)

    def attempt() -> None:
        nonlocal done
        base, upstream = commit.state(spark, dimension.table), commit.state(spark, LOG)
        seen = {name: (base.cursor or {}).get(name) for name in ("from", "to")}
        with kept(members.distinct()) as keys:
            done = _rederive(spark, dimension, keys, wanted, base, upstream, {**seen, "source": LOG.name})

    commit.again_if_overtaken(attempt)
    return done


def _rederive(
    spark: SparkSession,
    dimension: Dimension,
    keys: DataFrame,
    wanted: DataFrame | None,
    base: commit.State,
    upstream: commit.State,
    place: Mapping[str, Any],
) -> Done:
    """Derives the members of `keys` from all their changes up to the `place` in the log, and commits what differs.

    Facts and gold follow the log's new records. Where more differs than these can explain, because today's rules see
    the past otherwise, or the place was lost, they notice by the cursor's `rebuilt`.
    """
    key, stamp = dimension.natural_key, F.col(str(LOG.stamp))
    literal = keys_of(keys, key)
    upto, seen = commit.from_text(place["to"]), commit.from_text((base.cursor or {}).get("to"))
    log = commit.at(spark, LOG, upstream.snapshot_id)
    log = log.where(F.lit(False) if upto is None else stamp <= F.lit(upto).cast("timestamp"))
    theirs = of_keys(
        log.where(of_dimension(dimension)), "natural_key", keys.withColumnRenamed(key, "natural_key"), literal
    )
    members = of_keys(commit.at(spark, dimension.table, base.snapshot_id), key, keys, literal)
    # Kept before they are judged: else the optimizer judges the whole log first, and looks for the members after.
    with kept(records(spark, dimension, theirs).drop("raw_payload")) as told, kept(members) as held:
        rows = dimension.derive(changes(told, dimension))
        before = told.where(F.lit(False) if seen is None else stamp <= F.lit(seen).cast("timestamp"))
        rebuilt, now = (base.cursor or {}).get("rebuilt"), commit.to_text(base.next_stamp(datetime.now(UTC)))
        if _differ(
            dimension.derive(changes(before, dimension)),
            held.where("NOT is_inferred") if dimension.is_versioned else held,
        ):
            rebuilt = now
        if dimension.is_versioned:
            rows = _with_inferred(dimension, rows, held, wanted)
        with kept(rows) as derived, kept(with_surrogate_keys(spark, dimension, derived, held)) as fresh:
            return settle(spark, dimension.table, fresh, held, base, {**place, "stamp": now, "rebuilt": rebuilt})


def _differ(derived: DataFrame, held: DataFrame) -> bool:
    """Whether the held rows are other ones than those derived, which lack some columns."""
    ours, theirs = derived.withColumn("_side", F.lit(1)), held.select(*derived.columns).withColumn("_side", F.lit(-1))
    surplus = ours.unionByName(theirs).groupBy(*derived.columns).agg(F.sum("_side").alias("_surplus"))
    return not surplus.where(F.col("_surplus") != 0).isEmpty()


def _with_inferred(dimension: Dimension, versions: DataFrame, held: DataFrame, wanted: DataFrame | None) -> DataFrame:
    """The versions, and inferred members in the gaps where one began before or that hold a wanted day."""
    key = dimension.natural_key
    first = F.col("effective_date")  # the rest of a range that real versions split is inferred where facts need it
    asked = held.where("is_inferred").select(key, first.alias("first_day"), first.alias("last_day"))
    if wanted is not None:
        asked = asked.unionByName(wanted.select(key, "first_day", "last_day"))
    gaps = scd_type2.gaps(versions, asked, key=key)
    attributes = {
        a.name: F.col(key) if a.name in dimension.name_columns else F.lit(None).cast(a.dataType)
        for a in dimension.attributes
    }
    inferred = gaps.withColumns(attributes)
    tracked = [a.name for a in dimension.attributes if a.name not in dimension.untracked]
    inferred = inferred.withColumns(
        {
            "is_current": F.col("expiry_date") == F.lit(scd_type2.OPEN_END),
            "_row_hash": scd_type2.row_hash(tracked),
            "is_inferred": F.lit(True),
        }
    )
    return versions.withColumn("is_inferred", F.lit(False)).unionByName(inferred)
