"""What the change log says of a dimension: its records, the members that they change, and these as of a moment."""

from datetime import datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.bronze.raw_reference import MOST_BYTES
from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.dim import bitemporal, reference_log
from lakehouse_spark.dim.dimension import Dimension, changes
from lakehouse_spark.dim.reference_log import LOG, of_dimension, readable
from lakehouse_spark.lake import dead_letters, snapshots
from lakehouse_spark.silver import rejected_records
from lakehouse_spark.transforms.scd_type2 import BEGINNING


def records(spark: SparkSession, dimension: Dimension, log: DataFrame, letters: DataFrame | None = None) -> DataFrame:
    """The log's records of the dimension, without those that were discarded for good, as the dead letters say: by
    default, as they are now."""
    letters = spark.table(rejected_records.TABLE.identifier) if letters is None else letters
    key = list(rejected_records.TABLE.key)
    is_discarded = (F.col("source_table") == LOG.name) & (F.col("status") == rejected_records.DISCARDED)
    discarded = letters.where(is_discarded).select(*key)
    named = log.where(of_dimension(dimension)).withColumn("rejected_id", rejected_records.id_in_change_log())
    return named.join(discarded, on=key, how="left_anti").select(*log.columns)


def changed_members(
    spark: SparkSession, dimension: Dimension, after: datetime | None, upto: datetime | None
) -> DataFrame:
    """Members with good changes stamped later than `after` and up to `upto`: natural key, and `from_day`, the earliest
    effective date among them, before which no version of the member can have changed; without versions, BEGINNING."""
    rows, stamp = spark.table(LOG.identifier), F.col(str(LOG.stamp))
    if upto is None or upto == after:  # nothing: not worth the columns of a change
        return rows.where(F.lit(False)).select(
            F.col("natural_key").alias(dimension.natural_key), F.col("effective_date").alias("from_day")
        )
    rows = rows.where(stamp <= F.lit(upto))
    good = changes(records(spark, dimension, rows if after is None else rows.where(stamp > F.lit(after))), dimension)
    first = F.min("effective_date") if dimension.is_versioned else F.lit(BEGINNING)
    return good.groupBy(dimension.natural_key).agg(first.alias("from_day"))


def as_of(spark: SparkSession, dimension: Dimension, keys: DataFrame, upto: datetime | None) -> DataFrame:
    """The members of `keys` as the log up to `upto` says, surrogate keys and inferred members left out."""
    rows = records(spark, dimension, spark.table(LOG.identifier))
    rows = rows.where(F.lit(False)) if upto is None else rows.where(F.col(str(LOG.stamp)) <= F.lit(upto))
    theirs = rows.join(
        keys.select(F.col(dimension.natural_key).alias("natural_key")), on="natural_key", how="left_semi"
    )
    return dimension.derive(changes(theirs, dimension))


def bitemporal_versions(spark: SparkSession, dimension: Dimension) -> DataFrame:
    """What was known when of which days of a dimension's members (see `bitemporal.build`), as today's rules read the
    log; inferred members, which no record states, are left out."""
    log = readable(records(spark, dimension, spark.table(LOG.identifier)))
    return bitemporal.build(changes(log, dimension), dimension)


def reject_nameless(spark: SparkSession, max_bytes: int = MOST_BYTES) -> None:
    """Keeps the log's records of no dimension that there is as dead letters: no loader would ever see them."""
    upstream = snapshots.state(spark, LOG)
    nameless = reference_log.of_no_dimension(
        snapshots.at(spark, LOG, upstream.snapshot_id), DIMENSIONS.values(), max_bytes
    )
    if not nameless.isEmpty():
        dead_letters.keep(spark, rejected_records.of_change_log(nameless), LOG.name, None, upstream)
