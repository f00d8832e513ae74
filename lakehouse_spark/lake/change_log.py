"""Dimensions as functions of their change log: records land in `bronze.raw_reference`, members are derived anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.bronze import raw_reference
from lakehouse_spark.bronze.raw_reference import UNREADABLE, folded
from lakehouse_spark.dim import dim_account, dim_exchange, dim_symbol, dim_trader
from lakehouse_spark.dim.dimension import Dimension, changes, reasons
from lakehouse_spark.lake import commit, dead_letters, snapshots
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.silver import rejected_records
from lakehouse_spark.table import Table
from lakehouse_spark.transforms import payload
from lakehouse_spark.types import TEXTS

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
        """One row per record; names of columns are those of the dimension that the record names."""
        columns, texts = (
            F.coalesce(*(F.when(of_dimension(d), known(d)) for d in DIMENSIONS.values()))
            for known in (_columns, _texts)
        )
        read = raw_reference.from_kafka(records, max_bytes)
        named = raw_reference.of_feed(F.col("attributes"), columns, texts)
        return log_rows(read.withColumn("attributes", named), stamp)


def _columns(dimension: Dimension) -> Column:
    """The feed's columns by their folded names, as a map."""
    names = {**{name: name for name in dimension.feed_columns}, **dimension.aliases}
    return F.create_map(*(part for name, own in names.items() for part in (folded(F.lit(name)), F.lit(own))))


def _texts(dimension: Dimension) -> Column:
    return F.array(*map(F.lit, dimension.texts))


def log_rows(records: DataFrame, stamp: datetime) -> DataFrame:
    """Records of any dimension as rows of the log; grain: one row per record."""
    keys = (F.when(of_dimension(d), d.key_of(F.col("attributes"))) for d in DIMENSIONS.values())
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
        base = snapshots.state(spark, LOG)
        if not again and landed_at(spark, dimension, source, digest, base):
            return
        next_stamp = base.next_stamp(datetime.now(UTC))
        rows = log_rows(records.withColumns({"source": F.lit(source), "_source_digest": F.lit(digest)}), next_stamp)
        last = base.cursor_as(TopicCursor) or TopicCursor(stamp=next_stamp)  # how far the topic was read is handed on
        commit.append(spark, LOG, rows, base, replace(last, stamp=next_stamp, source=source))
        stamp = next_stamp

    commit.again_if_overtaken(attempt)
    return stamp


def landed_at(
    spark: SparkSession, dimension: Dimension, source: str, digest: str, base: snapshots.State | None = None
) -> datetime | None:
    """When this content landed last (as of `base`), where it is the newest of this source or of this dimension."""
    log = spark.table(LOG.identifier) if base is None else snapshots.at(spark, LOG, base.snapshot_id)
    rows = log.where(of_dimension(dimension) & F.col("_source_row").isNotNull())
    newest = F.max_by("_source_digest", "_ingested_at")
    of_source = F.max_by("_source_digest", F.when(F.col("source") == source, F.col("_ingested_at")))
    last = F.max(F.when(F.col("_source_digest") == digest, F.unix_micros("_ingested_at")))
    *digests, micros = rows.agg(newest, of_source, last).collect()[0]
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros) if digest in digests else None


def records(spark: SparkSession, dimension: Dimension, log: DataFrame) -> DataFrame:
    """The log's records of the dimension, without those that were discarded for good."""
    letters, key = spark.table(rejected_records.TABLE.identifier), list(rejected_records.TABLE.key)
    discarded = letters.where((F.col("source_table") == LOG.name) & (F.col("status") == "DISCARDED")).select(*key)
    named = log.where(of_dimension(dimension)).withColumn("rejected_id", rejected_records.id_in_change_log())
    return named.join(discarded, on=key, how="left_anti").select(*log.columns)


def readable(log: DataFrame) -> DataFrame:
    """The log's records without their payloads, but those that may tell what the attributes cannot (see `reasons`)."""
    return log.withColumn(
        "raw_payload", F.when(payload.may_have_lone_surrogate(F.col("raw_payload")), F.col("raw_payload"))
    )


def with_refused(dimension: Dimension, derived: DataFrame, log: DataFrame, held: DataFrame) -> DataFrame:
    """The rows that good records make of a dimension without versions, and the held rows of members that have none.

    A key that facts refer to never disappears: a member whose records (in `log`) newer rules refuse, all of them, keeps
    its row, less the values that break a rule, or all of them if a record of it cannot be read.
    """
    key = dimension.natural_key
    lacking = refused_members(dimension, derived, held).where(F.is_valid_utf8(key))  # no fact refers to another text
    if lacking.isEmpty():
        return derived
    refused = log.select(F.col("natural_key").alias(key), F.explode(reasons(log, dimension)).alias("_reason"))
    found = refused.groupBy(key).agg(F.collect_set("_reason").alias("_broken"))
    kept = lacking.join(found, on=key, how="left").withColumn("_broken", F.coalesce("_broken", F.array().cast(TEXTS)))

    def value(name: str) -> Column:
        offending = F.array(*map(F.lit, (f"invalid_{dimension.aliases.get(name, name)}", *UNREADABLE)))
        return F.when(~F.arrays_overlap("_broken", offending), F.col(name)).alias(name)

    return derived.unionByName(kept.select(key, *(value(name) for name in derived.columns if name != key)))


def refused_members(dimension: Dimension, derived: DataFrame, held: DataFrame) -> DataFrame:
    """The held rows of members that no good record makes."""
    key = dimension.natural_key
    return held.join(derived.select(key), on=key, how="left_anti")


def is_empty(spark: SparkSession, dimension: Dimension) -> bool:
    """Whether the log has no record of the dimension."""
    return spark.table(LOG.identifier).where(of_dimension(dimension)).limit(1).isEmpty()


def refuse_strays(spark: SparkSession, max_bytes: int = raw_reference.MOST_BYTES) -> None:
    """Keeps the log's records of no dimension that there is as dead letters: no loader would ever see them."""
    named = F.col("dimension")
    upstream = snapshots.state(spark, LOG)
    strays = snapshots.at(spark, LOG, upstream.snapshot_id).where(named.isNull() | ~named.isin(*DIMENSIONS))
    if strays.isEmpty():
        return
    refused = strays.withColumn("_reasons", F.array(_why_stray(max_bytes)))
    dead_letters.keep(spark, rejected_records.of_change_log(refused), LOG.name, None, upstream)


def _why_stray(max_bytes: int) -> Column:
    no_dimension = F.when(F.col("dimension").isNull(), "missing_dimension").otherwise("invalid_dimension")
    return F.coalesce(raw_reference.unreadable(max_bytes), no_dimension)


def judged(log: DataFrame, max_bytes: int) -> DataFrame:
    """Records of the log with `_reasons`, why today's rules refuse them; empty for good ones."""
    known = (F.when(of_dimension(dimension), reasons(log, dimension)) for dimension in DIMENSIONS.values())
    return log.withColumn("_reasons", F.coalesce(*known, F.array(_why_stray(max_bytes))))


def of_dimension(dimension: Dimension) -> Column:
    """The records of the dimension, as a condition that prunes the log."""
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
