"""The change log of all dimensions, `bronze.raw_reference`: how a file's records land in it, once.

Records from Kafka come by bronze_writer, as those of any topic.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim import reference_log
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.dim.reference_log import LOG, of_dimension
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import TopicCursor


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
        named = records.withColumns({"source": F.lit(source), "_source_digest": F.lit(digest)})
        rows = reference_log.build(named, [dimension], next_stamp)
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


def is_empty(spark: SparkSession, dimension: Dimension) -> bool:
    """Whether the log has no record of the dimension."""
    return spark.table(LOG.identifier).where(of_dimension(dimension)).limit(1).isEmpty()
