"""How far a topic was read into its table: from the table's cursor, or from its rows where that is lost."""

from datetime import datetime

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse_spark.bronze.topic import Topic
from lakehouse_spark.dim.reference_log import ReferenceTopic
from lakehouse_spark.lake import snapshots
from lakehouse_spark.lake.cursor import TopicCursor


def progress(
    spark: SparkSession, source: Topic | ReferenceTopic, state: snapshots.State
) -> tuple[dict[int, int], str | None, datetime | None]:
    """The next offset per partition, the topic's id and since when it is that topic; from the rows if need be."""
    cursor = state.cursor_as(TopicCursor)
    if cursor is not None and cursor.topic is not None:
        return dict(cursor.following), cursor.topic_id, cursor.epoch
    rows = snapshots.at(spark, source.table, state.snapshot_id).where(F.col("_kafka_partition").isNotNull())
    newest = F.max_by("_kafka_offset", F.struct("_ingested_at", "_kafka_offset"))  # a recreated topic counts anew
    latest = rows.groupBy("_kafka_partition").agg((newest + 1).alias("following"))
    ends = {row["_kafka_partition"]: row["following"] for row in latest.collect()}
    return ends, None, _last_restart(rows)


def _last_restart(rows: DataFrame) -> datetime | None:
    """The stamp after which offsets began anew, as those of a recreated topic do; None if they never did."""
    offset, stamp = F.col("_kafka_offset"), F.col("_ingested_at")
    batches = rows.groupBy("_kafka_partition", stamp).agg(F.min(offset).alias("low"), F.max(offset).alias("high"))
    in_order = Window.partitionBy("_kafka_partition").orderBy(stamp)
    before = batches.withColumns({"_high": F.lag("high").over(in_order), "_at": F.lag(stamp).over(in_order)})
    return snapshots.newest(before.where(F.col("low") <= F.col("_high")), "_at")
