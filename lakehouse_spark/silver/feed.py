"""What the three silver tables fed from Kafka share: the judged record and the policy for repeats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.bronze.topic import Topic
from lakehouse_spark.table import Table
from lakehouse_spark.transforms import drift, quality

PLACE = ("_source_topic", "_source_partition", "_source_offset")
"""Where the record that made a row of silver has its place in the topic."""

ARRIVAL = ("_ingested_at", "_source_partition", "_source_offset")
"""The order in which records of one topic arrived."""


@dataclass(frozen=True)
class Feed:
    """How one bronze table becomes one silver table.

    `judge` gives the judged records; `content` names the business columns a repeat is compared by; `status` the
    column that may move forward through `steps`, and `untimed` what is not compared at the last step; `restates`
    whether a later record with other content replaces the row (else it is rejected).
    """

    table: Table
    topic: Topic
    judge: Callable[[DataFrame, DataFrame, int], DataFrame]
    key: str
    content: tuple[str, ...]
    event_time: str
    status: str | None = None
    steps: tuple[str, ...] = ()
    untimed: str | None = None
    restates: bool = False
    key_repeats_across_days: bool = False

    @property
    def changing(self) -> tuple[str, ...]:
        """The columns, but for the stamp, that a later record may change in a row."""
        return (self.status,) if self.status else (*self.content, *PLACE, "_ingested_at", "_accepted_hashes")


def judged(
    records: DataFrame, rules: Sequence[Column], table: Table, derived: dict[str, Column], event_time: str
) -> DataFrame:
    """The table's columns, then `_reasons` (empty: good), `_event_time`, the record's place in the topic, and what of
    its payload is not as declared (`drift.COLUMNS`).

    A column is what `derived` says, else the `v_` value of the same name.
    """
    place = {
        "_source_topic": F.col("_kafka_topic"),
        "_source_partition": F.col("_kafka_partition"),
        "_source_offset": F.col("_kafka_offset"),
        "_ingested_at": F.col("_ingested_at"),
    }
    business = [name for name in table.column_names if not name.startswith("_")]
    values = {name: derived.get(name, F.col(f"v_{name}")) for name in business}
    return records.select(
        *(value.cast(table.schema[name].dataType.simpleString()).alias(name) for name, value in values.items()),
        *(column.alias(name) for name, column in place.items()),
        quality.reasons(F.col("_unreadable"), rules).alias("_reasons"),
        values[event_time].alias("_event_time"),
        *drift.COLUMNS,
    )


def with_fields(bronze: DataFrame, topic: Topic, exchanges: DataFrame, max_bytes: int) -> DataFrame:
    """Bronze rows with `_fields` (texts), `_known` (exchange) and `_unreadable` (why nothing can be read)."""
    read = topic.with_fields(bronze, max_bytes)
    records = drift.with_drift(read, topic.kinds)
    raw, raw_bytes, lone = F.col("raw_payload"), F.col("_raw_bytes"), F.coalesce(F.size("_lone") > 0, F.lit(False))
    unreadable = quality.unreadable(raw, raw_bytes, max_bytes, is_lone=lone, is_object=F.col("_fields").isNotNull())
    return quality.with_known_exchange(records.withColumn("_unreadable", unreadable), exchanges)


def utc_text(instant: Column) -> Column:
    """`yyyy-MM-ddTHH:mm:ss.SSSSSSZ`, the form in which instants enter a generated key."""
    return F.date_format(instant, "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'")


def generated_key(*parts: Column) -> Column:
    return F.md5(F.concat_ws("|", *parts).cast("binary"))
