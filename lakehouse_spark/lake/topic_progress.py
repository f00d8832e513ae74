"""How far a topic was read into its table: from the table's cursor, or from its rows where that is lost."""

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse_spark.bronze.topic import Topic
from lakehouse_spark.dim.reference_log import ReferenceTopic
from lakehouse_spark.lake import snapshots
from lakehouse_spark.lake.cursor import to_text


def progress(
    spark: SparkSession, source: Topic | ReferenceTopic, state: snapshots.State
) -> tuple[dict[int, int], str | None, str | None]:
    """The next offset per partition, the topic's id and since when it is that topic; from the rows if need be."""
    if state.cursor is not None and "topic" in state.cursor:
        ends = {int(partition): end for partition, end in state.cursor["to"].items()}
        return ends, state.cursor["topic_id"], state.cursor.get("epoch")
    rows = snapshots.at(spark, source.table, state.snapshot_id).where(F.col("_kafka_partition").isNotNull())
    newest = F.max_by("_kafka_offset", F.struct("_ingested_at", "_kafka_offset"))  # a recreated topic counts anew
    latest = rows.groupBy("_kafka_partition").agg((newest + 1).alias("following"))
    ends = {row["_kafka_partition"]: row["following"] for row in latest.collect()}
    return ends, None, _last_restart(rows)


def _last_restart(rows: DataFrame) -> str | None:
    """The stamp after which offsets began anew, as those of a recreated topic do; None if they never did."""
    offset, stamp = F.col("_kafka_offset"), F.col("_ingested_at")
    batches = rows.groupBy("_kafka_partition", stamp).agg(F.min(offset).alias("low"), F.max(offset).alias("high"))
    in_order = Window.partitionBy("_kafka_partition").orderBy(stamp)
    before = batches.withColumns({"_high": F.lag("high").over(in_order), "_at": F.lag(stamp).over(in_order)})
    return to_text(snapshots.newest(before.where(F.col("low") <= F.col("_high")), "_at"))
