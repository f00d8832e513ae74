"""Dimensions as functions of their change log: records land in `bronze.raw_reference`, members are derived anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse_spark import commit, dead_letters
from lakehouse_spark.batch import Done, kept, keys_of, of_keys, settle
from lakehouse_spark.bronze import raw_reference
from lakehouse_spark.dim import dim_account, dim_exchange, dim_symbol, dim_trader, retired_keys, surrogate_keys
from lakehouse_spark.dim.dimension import Dimension, changes, reasons
from lakehouse_spark.silver import rejected_records
from lakehouse_spark.table import Table
from lakehouse_spark.transforms import scd_type2

LOG = raw_reference.TABLE
DIMENSIONS: Mapping[str, Dimension] = {
    dimension.name: dimension
    for dimension in (dim_exchange.DIMENSION, dim_symbol.DIMENSION, dim_trader.DIMENSION, dim_account.DIMENSION)
}


@dataclass(frozen=True)
class ReferenceTopic:
    """The Kafka topic of reference records, for bronze_writer."""

    table: Table = LOG
    name: str = LOG.short_name

    def build(self, records: DataFrame, stamp: datetime, max_bytes: int) -> DataFrame:
        return log_rows(raw_reference.from_kafka(records, max_bytes), stamp)


def log_rows(records: DataFrame, stamp: datetime) -> DataFrame:
    """Records of any dimension as rows of the log; grain: one row per record."""
    written = F.col("attributes")
    keys = (F.when(F.col("dimension") == d.name, d.key_of(written)) for d in DIMENSIONS.values())
    return raw_reference.build(records, F.coalesce(*keys), stamp)


def land(
    spark: SparkSession, dimension: Dimension, records: DataFrame, source: str, digest: str, *, again: bool = False
) -> datetime | None:
    """Appends a file's records to the log and returns their stamp; None where this very content is there already.

    A file is known by its name and content: loading it again changes nothing (unless `again`), loading it with other
    content does.
    """
    stamp: datetime | None = None

    def attempt() -> None:
        nonlocal stamp
        base = commit.state(spark, LOG)
        if not again and landed_at(spark, dimension, source, digest, base):
            return
        next_stamp = base.next_stamp(datetime.now(UTC))
        rows = log_rows(records.withColumns({"source": F.lit(source), "_source_digest": F.lit(digest)}), next_stamp)
        progress = {name: value for name, value in (base.cursor or {}).items() if name in _KAFKA_PROGRESS}
        commit.append(spark, LOG, rows, base, {**progress, "source": source, "stamp": commit.to_text(next_stamp)})
        stamp = next_stamp

    commit.again_if_overtaken(attempt)
    return stamp


_KAFKA_PROGRESS = ("topic", "topic_id", "from", "to", "epoch", "gaps")
"""Fields of the log's cursor that tell how far the topic was read; a file's commit hands them on."""


def landed_at(
    spark: SparkSession, dimension: Dimension, source: str, digest: str, base: commit.State | None = None
) -> datetime | None:
    """When this content landed last (as of `base`), where it is the newest of this source or of this dimension."""
    log = spark.table(LOG.identifier) if base is None else commit.at(spark, LOG, base.snapshot_id)
    rows = log.where(_of(dimension) & F.col("_source_row").isNotNull())
    newest = F.max_by("_source_digest", "_ingested_at")
    of_source = F.max_by("_source_digest", F.when(F.col("source") == source, F.col("_ingested_at")))
    last = F.max(F.when(F.col("_source_digest") == digest, F.unix_micros("_ingested_at")))
    *digests, micros = rows.agg(newest, of_source, last).collect()[0]
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros) if digest in digests else None


def records(spark: SparkSession, dimension: Dimension, log: DataFrame) -> DataFrame:
    """The log's records of the dimension, without those that were discarded for good."""
    letters, key = spark.table(rejected_records.TABLE.identifier), list(rejected_records.TABLE.key)
    discarded = letters.where((F.col("source_table") == LOG.name) & (F.col("status") == "DISCARDED")).select(*key)
    named = log.where(_of(dimension)).withColumn("rejected_id", rejected_records.id_in_change_log())
    return named.join(discarded, on=key, how="left_anti").select(*log.columns)


def is_empty(spark: SparkSession, dimension: Dimension) -> bool:
    """Whether the log has no record of the dimension."""
    return spark.table(LOG.identifier).where(_of(dimension)).limit(1).isEmpty()


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


def refuse_strays(spark: SparkSession) -> None:
    """Keeps the log's records of no dimension that there is as dead letters: no loader would ever see them."""
    named = F.col("dimension")
    upstream = commit.state(spark, LOG)
    strays = commit.at(spark, LOG, upstream.snapshot_id).where(named.isNull() | ~named.isin(*DIMENSIONS))
    if strays.isEmpty():
        return
    dead_letters.keep(spark, rejected_records.of_change_log(judged(strays)), LOG.name, None, upstream)


def judged(log: DataFrame) -> DataFrame:
    """Records of the log with `_reasons`, why today's rules refuse them; empty for good ones."""
    stray = (
        F.when(F.col("raw_payload").isNull(), "tombstone")
        .when(F.col("_raw_bytes").isNotNull(), "invalid_encoding")
        .when(F.col("attributes").isNull(), "malformed_json")
        .when(F.col("dimension").isNull(), "missing_dimension")
        .otherwise("invalid_dimension")
    )
    known = (F.when(_of(dimension), reasons(log, dimension)) for dimension in DIMENSIONS.values())
    return log.withColumn("_reasons", F.coalesce(*known, F.array(stray)))


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
    theirs = of_keys(log.where(_of(dimension)), "natural_key", keys.withColumnRenamed(key, "natural_key"), literal)
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
        with kept(rows) as derived, kept(_with_surrogate_keys(spark, dimension, derived, held)) as fresh:
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


def _with_surrogate_keys(spark: SparkSession, dimension: Dimension, rows: DataFrame, held: DataFrame) -> DataFrame:
    """The rows with the surrogate key each had before, even if it was gone meanwhile; new ones for the rest."""
    identity, surrogate = list(dimension.table.key), dimension.surrogate_key
    wanted = rows.withColumn("_wanted", F.lit(True))
    with kept(wanted.join(held.select(*identity, surrogate), on=identity, how="full")) as matched:
        unnumbered, gone = F.col(surrogate).isNull(), F.col("_wanted").isNull()
        counted = matched.agg(F.count_if(unnumbered), F.count_if(gone)).first()
        new, leaving = (counted[0], counted[1]) if counted else (0, 0)
        if leaving:
            _retire(spark, dimension, matched.where(gone).select(*identity, surrogate))
        if not new:
            return rows.join(held.select(*identity, surrogate), on=identity, how="left")
    known = rows.join(_issued(spark, dimension, held), on=identity, how="left")
    missing = known.where(unnumbered)
    needed = missing.count()
    if not needed:
        return known
    first = reserve(spark, dimension, needed)
    numbered = missing.withColumn(surrogate, F.row_number().over(Window.orderBy(*identity)) + F.lit(first - 1))
    return known.where(~unnumbered).unionByName(numbered)


def _issued(spark: SparkSession, dimension: Dimension, held: DataFrame) -> DataFrame:
    """Identity and surrogate key of the rows held and of all that ever left the dimension."""
    identity, surrogate = list(dimension.table.key), dimension.surrogate_key
    current = held.select(*identity, surrogate)
    if commit.state(spark, retired_keys.TABLE).stamp is None:
        return current
    gone = spark.table(retired_keys.TABLE.identifier).where(F.col("table_name") == dimension.name)
    named = {"natural_key": dimension.natural_key, "surrogate_key": surrogate}
    gone = gone.withColumnsRenamed(named).select(*identity, surrogate)
    return current.unionByName(gone.join(current, on=identity, how="left_anti"))


def _retire(spark: SparkSession, dimension: Dimension, leaving: DataFrame) -> None:
    """Remembers the surrogate keys of rows that are about to leave; written before they do, and only once."""
    table = retired_keys.TABLE
    version = F.col("effective_date") if dimension.is_versioned else F.lit(None).cast("date")
    fresh = leaving.select(
        F.lit(dimension.name).alias("table_name"),
        F.col(dimension.surrogate_key).alias("surrogate_key"),
        F.col(dimension.natural_key).alias("natural_key"),
        version.alias("effective_date"),
    )

    def attempt() -> None:
        base = commit.state(spark, table)
        held = commit.at(spark, table, base.snapshot_id).where(F.col("table_name") == dimension.name)
        held = held.join(fresh, on=list(table.key), how="left_semi")
        settle(spark, table, fresh, held, base, {"retired": dimension.name})

    commit.again_if_overtaken(attempt)


def reserve(spark: SparkSession, dimension: Dimension, count: int) -> int:
    """The first of `count` surrogate keys that are this caller's alone, whoever else asks and whenever it dies."""
    table, first = surrogate_keys.TABLE, 0

    def attempt() -> None:
        nonlocal first
        base = commit.state(spark, table)
        held = commit.at(spark, table, base.snapshot_id).where(F.col("table_name") == dimension.name)
        found = held.first()
        first = max(found["last_issued_key"] + 1 if found else dimension.first_key, dimension.first_key)
        row = [(dimension.name, first + count - 1)]
        fresh = spark.createDataFrame(row, "table_name string, last_issued_key long")
        settle(spark, table, fresh, held, base, {"reserved": dimension.name})

    commit.again_if_overtaken(attempt)
    return first


def _of(dimension: Dimension) -> Any:
    return F.col("dimension") == dimension.name


def names(given: Sequence[str] = ()) -> list[Dimension]:
    """The dimensions of these names, all by default, in the order in which they are loaded."""
    return [dimension for name, dimension in DIMENSIONS.items() if not given or name in given]


def changed_members(
    spark: SparkSession, dimension: Dimension, after: datetime | None, upto: datetime | None
) -> DataFrame:
    """Members with good changes stamped later than `after` and up to `upto`: natural key, and `from_day`, the earliest
    effective date among them, before which no version of the member can have changed."""
    rows, stamp = spark.table(LOG.identifier), F.col(str(LOG.stamp))
    if upto is None or upto == after:  # nothing: not worth the columns of a change
        return rows.where(F.lit(False)).select(
            F.col("natural_key").alias(dimension.natural_key), F.col("effective_date").alias("from_day")
        )
    rows = rows.where(stamp <= F.lit(upto))
    good = changes(records(spark, dimension, rows if after is None else rows.where(stamp > F.lit(after))), dimension)
    return good.groupBy(dimension.natural_key).agg(F.min("effective_date").alias("from_day"))


def as_of(spark: SparkSession, dimension: Dimension, keys: DataFrame, upto: datetime | None) -> DataFrame:
    """The members of `keys` as the log up to `upto` says, surrogate keys and inferred members left out."""
    rows = records(spark, dimension, spark.table(LOG.identifier))
    rows = rows.where(F.lit(False)) if upto is None else rows.where(F.col(str(LOG.stamp)) <= F.lit(upto))
    theirs = rows.join(
        keys.select(F.col(dimension.natural_key).alias("natural_key")), on="natural_key", how="left_semi"
    )
    return dimension.derive(changes(theirs, dimension))
