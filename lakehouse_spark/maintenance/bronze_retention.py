"""Rows of bronze that are old and consumed go, in whole files, and are counted in the cursor."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.bronze.topic import Topic
from lakehouse_spark.catalog import TOPICS
from lakehouse_spark.errors import RefusedError
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.lake.pruning import midnight
from lakehouse_spark.maintenance.plan import Retention
from lakehouse_spark.table import Table

_EARLIER = ""
"""For rows of a topic that was deleted and created again since."""


def carry_out(spark: SparkSession, table: Table, action: Retention) -> None:
    """Removes the action's files in one commit, which hands the cursor on and counts their rows in it, by topic and
    partition.

    Raises RefusedError where the table has no cursor, and LostRaceError where writers keep committing.
    """

    def attempt() -> None:
        base = snapshots.state(spark, table)
        cursor = base.cursor_as(TopicCursor)
        if cursor is None:
            raise RefusedError(
                f"{table.name}: its cursor was lost, so nothing can be counted", "Run bronze_writer first."
            )
        counted = _counted(spark, table, action, base, cursor)
        removed = {topic: dict(rows) for topic, rows in cursor.removed.items()}
        for (topic, partition), rows in counted.items():
            of_topic = removed.setdefault(topic, {})
            of_topic[partition] = of_topic.get(partition, 0) + rows
        paths = (file.path for file in action.files)
        handed_on = replace(cursor, removed=removed, counts={}, gaps=())
        commit.remove_files(spark, table, paths, base, handed_on, within=_old(spark, table, action))

    commit.again_if_overtaken(attempt)


def _event_time(table: Table) -> str:
    return next(topic.event_time for topic in TOPICS.values() if isinstance(topic, Topic) and topic.table is table)


def _old(spark: SparkSession, table: Table, action: Retention) -> Any:
    """Rows that an event or its arrival dates before the first day that stays, as an expression of Iceberg's."""
    expressions, first = snapshots.expressions(spark), midnight(action.first)
    either = (expressions.lessThan(column, first.isoformat()) for column in (_event_time(table), table.stamp))
    return getattr(expressions, "or")(*either)


def _counted(
    spark: SparkSession, table: Table, action: Retention, base: snapshots.State, cursor: TopicCursor
) -> Mapping[tuple[str, int], int]:
    """Rows of the files by topic id and partition; only those two columns of the old files are read."""
    first = F.lit(midnight(action.first))
    stamp = F.col(str(table.stamp))
    is_earlier = F.lit(False) if cursor.epoch is None else stamp <= F.lit(cursor.epoch)
    topic = F.when(is_earlier, F.lit(_EARLIER)).otherwise(F.lit(cursor.topic_id or _EARLIER))
    files = spark.createDataFrame(pa.table({"_file": [file.path for file in action.files]}))
    rows = snapshots.at(spark, table, base.snapshot_id).where((F.col(_event_time(table)) < first) | (stamp < first))
    rows = rows.select("*", "_file").join(F.broadcast(files), on="_file", how="left_semi")
    counted = rows.groupBy(topic.alias("topic"), "_kafka_partition").agg(F.count("*").alias("rows"))
    return {(row["topic"], row["_kafka_partition"]): row["rows"] for row in counted.collect()}
