"""`bronze.raw_reference`: the change log of all dimensions."""

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.table import LOG_POLICY, Table, column
from lakehouse_spark.transforms import framing, payload, quality
from lakehouse_spark.transforms.attributes import ATTRIBUTES, day, flag, stated_or_none, text, whole, with_attributes
from lakehouse_spark.types import BYTES, DATE, FLAG, INSTANT, INTEGER, LONG, TEXT

TABLE = Table(
    name="bronze.raw_reference",
    doc="Reference records of all dimensions as they arrived, append-only, one row per record, repeats included.",
    columns=(
        column("dimension", TEXT, "Dimension the record is for (e.g., dim_symbol)"),
        column("natural_key", TEXT, "Natural key of the member (e.g., AAPL)"),
        column("attributes", ATTRIBUTES, "Business columns by name, values as text"),
        column("effective_date", DATE, "Date of the change: the feed's, else the load date (UTC)"),
        column("sequence", LONG, "The feed's order among changes of one key and date; NULL: arrival decides"),
        column("is_deleted", FLAG, "True where the record deletes the member"),
        column("source", TEXT, "File or topic the record came from"),
        column("raw_payload", TEXT, "The record as it arrived, as text"),
        column("_ingested_at", INSTANT, "Commit stamp: when the record landed in Bronze"),
        column("_kafka_topic", TEXT, "Source Kafka topic; NULL from a file"),
        column("_kafka_partition", INTEGER, "Kafka partition; NULL from a file"),
        column("_kafka_offset", LONG, "Kafka offset; NULL from a file"),
        column("_source_row", LONG, "Position of the record in its file, the arrival order within a stamp"),
        column("_source_digest", TEXT, "SHA-256 of the file; NULL from Kafka"),
        column("_raw_bytes", BYTES, "The exact bytes where they are not valid UTF-8, else NULL"),
    ),
    key=(),
    # A load names one dimension and few keys: both prune to at most one bucket per key when a key's history is read
    # again. New records prune by the file statistics of _ingested_at, which no partitioning could do better.
    partitioned_by=("dimension", "bucket(8, natural_key)"),
    sorted_by=("natural_key",),
    stamp="_ingested_at",
    distribution="hash",
    policy=LOG_POLICY,
)


def build(records: DataFrame, natural_key: Column, stamp: datetime) -> DataFrame:
    """One row per record, whatever it holds: `dimension`, `attributes` (NULL if unreadable) and where it came from.

    What does not parse is NULL here. The dimension rejects it; bronze rejects nothing.
    """
    written = F.col("attributes")
    given = stated_or_none(text(written, "effective_date"))
    undated = written.isNotNull() & given.isNull()
    arrived = F.lit(stamp).cast("timestamp")
    columns = {
        "natural_key": natural_key,
        "effective_date": F.when(undated, F.to_date(arrived)).otherwise(day(given)),
        "sequence": whole(text(written, "sequence")),
        "is_deleted": F.coalesce(flag(text(written, "is_deleted")), F.lit(False)),
        "_ingested_at": arrived,
    }
    return records.select(*(columns.get(name, F.col(name)).alias(name) for name in TABLE.column_names))


def from_kafka(records: DataFrame, max_bytes: int, text_of: Column | None = None) -> DataFrame:
    """Kafka records (`value`, `topic`, `partition`, `offset`) as `build` takes them; `dimension` is a field of theirs.

    Records larger than `max_bytes` are kept and not parsed. `text_of` is the payload of a topic whose values are not
    texts themselves (see framing)."""
    kept = payload.landed(F.col("value"), text_of)
    decoded = records.select(
        kept["raw_payload"].alias("raw_payload"),
        F.col("topic").alias("_kafka_topic"),
        F.col("partition").alias("_kafka_partition"),
        F.col("offset").alias("_kafka_offset"),
        kept["_raw_bytes"].alias("_raw_bytes"),
    )
    return with_attributes(decoded, max_bytes).select(
        F.ltrim(text(F.col("attributes"), "dimension"), F.lit(payload.NOT_TEXT)).alias("dimension"),
        "attributes",
        F.col("_kafka_topic").alias("source"),
        "raw_payload",
        "_kafka_topic",
        "_kafka_partition",
        "_kafka_offset",
        F.lit(None).cast(LONG).alias("_source_row"),
        F.lit(None).cast(TEXT).alias("_source_digest"),
        "_raw_bytes",
    )


UNREADABLE = (
    "tombstone", "oversized_record", "schema_registry_framing", "unknown_schema", "invalid_payload",
    "invalid_encoding", "malformed_json", "malformed_record",
)  # fmt: skip
"""The reasons that stand alone."""

MOST_BYTES = 2**31 - 1
"""No record has more."""


def unreadable(max_bytes: int = MOST_BYTES) -> Column:
    """Why nothing of a record can be read, the only reason then for which it is rejected; NULL where it can be read.

    One of more than `max_bytes` has no attributes, so it names no dimension.
    """
    raw, raw_bytes, attributes = F.col("raw_payload"), F.col("_raw_bytes"), F.col("attributes")
    is_object = attributes.isNotNull()
    is_json = F.col("_kafka_topic").isNotNull() | F.startswith(F.ltrim(raw), F.lit("{"))
    lone = is_object & is_json & payload.has_lone_surrogate(raw)
    of_topic = quality.unreadable(raw, raw_bytes, max_bytes, is_lone=lone, is_object=is_object)
    is_of_topic = F.col("_kafka_topic").isNotNull()
    is_broken = raw_bytes.isNotNull() & ~(is_of_topic & framing.is_decoded(raw, raw_bytes))
    broken = F.when(is_broken | lone, F.lit("invalid_encoding"))
    of_file = F.coalesce(broken, F.when(~is_object, F.lit("malformed_record")))
    return F.when(is_of_topic & ~is_object, of_topic).otherwise(of_file)
