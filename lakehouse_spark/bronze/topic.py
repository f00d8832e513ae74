"""What the three raw tables share: the record's own columns and how a Kafka record becomes a row."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.table import Table, column
from lakehouse_spark.transforms import payload
from lakehouse_spark.types import BYTES, INSTANT, INTEGER, LONG, TEXT

RECORD_COLUMNS = (
    column("raw_payload", TEXT, "Full JSON payload; NULL for a tombstone; repaired text where not valid UTF-8"),
    column("_ingested_at", INSTANT, "Commit stamp: when the record landed in Bronze"),
    column("_kafka_topic", TEXT, "Source Kafka topic"),
    column("_kafka_partition", INTEGER, "Kafka partition"),
    column("_kafka_offset", LONG, "Kafka offset (for exactly-once tracking)"),
    column("_raw_bytes", BYTES, "The exact bytes where they are not valid UTF-8, else NULL"),
)
KEY = ("_kafka_topic", "_kafka_partition", "_kafka_offset", "_ingested_at")


@dataclass(frozen=True)
class Topic:
    """A Kafka topic, the table it lands in, its payload's fields, and which of them are text.

    `values` gives the remaining typed columns from the fields' texts.
    """

    table: Table
    event_time: str
    fields: tuple[str, ...]
    text_fields: tuple[str, ...]
    values: Callable[[Column], dict[str, Column]]

    @property
    def name(self) -> str:
        return self.table.short_name


def build(records: DataFrame, topic: Topic, stamp: datetime, max_bytes: int) -> DataFrame:
    """One row per Kafka record (`value`, `topic`, `partition`, `offset`): nothing dropped, nothing rejected.

    Typed columns hold the value where it parses, else NULL; all of them are NULL where the payload is not one JSON
    object, is nested too deeply for the parser or is larger than `max_bytes`.
    """
    text = F.col("value").cast("string")
    decoded = records.select(
        F.make_valid_utf8(text).alias("raw_payload"),
        F.lit(stamp).cast("timestamp").alias("_ingested_at"),
        F.col("topic").alias("_kafka_topic"),
        F.col("partition").alias("_kafka_partition"),
        F.col("offset").alias("_kafka_offset"),
        F.when(~F.is_valid_utf8(text), F.col("value")).alias("_raw_bytes"),
    )
    parsed = with_fields(decoded, topic, max_bytes)
    fields = F.col("_fields")
    typed = {name: payload.present(fields[name]).isNotNull() for name in topic.text_fields}
    columns = {
        **{name: F.when(there & (fields[name] != payload.NOT_TEXT), fields[name]) for name, there in typed.items()},
        **topic.values(fields),
    }
    return parsed.select(*(columns.get(name, F.col(name)).alias(name) for name in topic.table.column_names))


def with_fields(records: DataFrame, topic: Topic, max_bytes: int) -> DataFrame:
    """The records with `_fields`, a struct of the payload's field texts; NULL where there is no JSON object."""
    raw = F.col("raw_payload")
    parsed = records.withColumn("_fields", payload.texts(raw, topic.fields, max_bytes))
    fields = F.col("_fields")
    odd = payload.is_odd(fields[topic.text_fields[0]])
    for name in topic.text_fields[1:]:
        odd = F.coalesce(odd, F.lit(False)) | F.coalesce(payload.is_odd(fields[name]), F.lit(False))
    exact = F.struct(
        *(
            (payload.as_written(raw, name, fields[name]) if name in topic.text_fields else fields[name]).alias(name)
            for name in topic.fields
        )
    )
    return parsed.withColumn("_fields", F.when(odd, exact).otherwise(fields))
