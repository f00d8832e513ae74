"""What the three raw tables share: the record's own columns and how a Kafka record becomes a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.table import Table, column
from lakehouse_spark.transforms import fields, payload
from lakehouse_spark.transforms.fields import Kinds
from lakehouse_spark.types import BYTES, HEADERS, INSTANT, INTEGER, LONG, TEXT

RECORD_COLUMNS = (
    column("raw_payload", TEXT, "Full JSON payload; NULL for a tombstone; repaired text where not valid UTF-8"),
    column("_ingested_at", INSTANT, "Commit stamp: when the record landed in Bronze"),
    column("_kafka_topic", TEXT, "Source Kafka topic"),
    column("_kafka_partition", INTEGER, "Kafka partition"),
    column("_kafka_offset", LONG, "Kafka offset (for exactly-once tracking)"),
    column("_raw_bytes", BYTES, "The exact bytes where they are not valid UTF-8, else NULL"),
    column("_kafka_headers", HEADERS, "Kafka headers as sent, in order; NULL where not asked for, or none"),
)
KEY = ("_kafka_topic", "_kafka_partition", "_kafka_offset", "_ingested_at")


@dataclass(frozen=True)
class Topic:
    """A Kafka topic, the table it lands in, its payload's fields, and which of them are text.

    `values` gives the remaining typed columns from the fields' texts; `array_fields` are those that take JSON arrays.
    """

    table: Table
    event_time: str
    fields: tuple[str, ...]
    text_fields: tuple[str, ...]
    values: Callable[[Mapping[str, Column]], dict[str, Column]]
    array_fields: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.table.short_name

    @property
    def kinds(self) -> Kinds:
        """Its fields, and what JSON values they are."""
        return Kinds(self.fields, self.text_fields, self.array_fields, (self.event_time,))

    def build(self, records: DataFrame, stamp: datetime, max_bytes: int, text: Column | None = None) -> DataFrame:
        return build(records, self, stamp, max_bytes, text)

    def with_fields(self, records: DataFrame, max_bytes: int) -> DataFrame:
        """Rows of the table with the texts of their payloads' fields (see fields.with_fields)."""
        return fields.with_fields(records, self.kinds, max_bytes=max_bytes)


def build(records: DataFrame, topic: Topic, stamp: datetime, max_bytes: int, text: Column | None = None) -> DataFrame:
    """One row per Kafka record (`value`, `topic`, `partition`, `offset`, and `headers` where they were asked for):
    nothing dropped, nothing rejected.

    Typed columns hold the value where it parses, else NULL; all of them are NULL where the payload is not one JSON
    object, is nested too deeply for the parser or has more than `max_bytes`; a field that holds half of a surrogate
    pair is no text. `text` is the payload of a topic whose values are not texts themselves (see framing).
    """
    kept = payload.landed(F.col("value"), text)
    headers = F.col("headers") if "headers" in records.columns else F.lit(None).cast(HEADERS)
    decoded = records.select(
        kept["raw_payload"].alias("raw_payload"),
        F.lit(stamp).cast("timestamp").alias("_ingested_at"),
        F.col("topic").alias("_kafka_topic"),
        F.col("partition").alias("_kafka_partition"),
        F.col("offset").alias("_kafka_offset"),
        kept["_raw_bytes"].alias("_raw_bytes"),
        headers.alias("_kafka_headers"),
    )
    read = topic.with_fields(decoded, max_bytes)
    trimmed = {name: F.col(f"t_{name}") for name in topic.fields}
    texts = {
        name: F.when(~trimmed[name].isin("", payload.NOT_TEXT), payload.field("_fields", name))
        for name in topic.text_fields
    }
    columns = {**texts, **topic.values(trimmed)}
    return read.withColumns({f"t_{name}": fields.trimmed(name) for name in topic.fields}).select(
        *(columns.get(name, F.col(name)).alias(name) for name in topic.table.column_names)
    )
