"""`bronze.raw_reference`: the change log of all dimensions."""

from pyspark.sql import types as T

from lakehouse_spark.table import Retention, Table, column
from lakehouse_spark.types import DATE, FLAG, INSTANT, INTEGER, LONG, TEXT

TABLE = Table(
    name="bronze.raw_reference",
    doc="Reference records of all dimensions as they arrived, append-only, one row per record, repeats included.",
    columns=(
        column("dimension", TEXT, "Dimension the record is for (e.g., dim_symbol)"),
        column("natural_key", TEXT, "Natural key of the member (e.g., AAPL)"),
        column("attributes", T.MapType(TEXT, TEXT), "Business columns by name, values as text"),
        column("effective_date", DATE, "Date of the change: the feed's, else the load date (UTC)"),
        column("sequence", LONG, "The feed's order among changes of one key and date; NULL: arrival decides"),
        column("is_deleted", FLAG, "True where the record deletes the member"),
        column("source", TEXT, "File or topic the record came from"),
        column("raw_payload", TEXT, "The record as it arrived, as text"),
        column("_ingested_at", INSTANT, "Commit stamp: when the record landed in Bronze"),
        column("_kafka_topic", TEXT, "Source Kafka topic; NULL from a file"),
        column("_kafka_partition", INTEGER, "Kafka partition; NULL from a file"),
        column("_kafka_offset", LONG, "Kafka offset; NULL from a file"),
        column("_source_row", LONG, "Position of the record in its load, the arrival order within a stamp"),
    ),
    key=(),
    # A load names one dimension and few keys: both prune to at most one bucket per key when a key's history is read
    # again. New records prune by the file statistics of _ingested_at, which no partitioning could do better.
    partitioned_by=("dimension", "bucket(8, natural_key)"),
    sorted_by=("natural_key",),
    stamp="_ingested_at",
    distribution="hash",
    retention=Retention(snapshot_days=7),  # the dimensions are rebuilt from here: rows stay for ever
)
