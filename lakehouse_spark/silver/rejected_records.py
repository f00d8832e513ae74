"""`silver._rejected_records`: the dead-letter table; nothing that arrived is ever lost."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.silver import feed
from lakehouse_spark.table import SILVER_POLICY, Table, column
from lakehouse_spark.transforms.quality import RULES_VERSION
from lakehouse_spark.types import BYTES, INSTANT, INTEGER, LONG, TEXT, TEXTS

TABLE = Table(
    name="silver._rejected_records",
    doc="Records that silver refused, with every reason. Grain: one row per Kafka record.",
    columns=(
        column("rejected_id", TEXT, "md5(topic|partition|offset); of a file's record md5(source|digest|row)"),
        column("source_table", TEXT, "Bronze table that holds the record"),
        column("_kafka_topic", TEXT, "Source Kafka topic, or file"),
        column("_kafka_partition", INTEGER, "Kafka partition; NULL from a file"),
        column("_kafka_offset", LONG, "Kafka offset, or row of the file"),
        column("event_time", INSTANT, "Event time (UTC), NULL if none"),
        column("reasons", TEXTS, "Reason codes in alphabetical order"),
        column("raw_payload", TEXT, "The record's text"),
        column("_raw_bytes", BYTES, "The exact bytes where they are not valid UTF-8"),
        column("rules_version", TEXT, "Version of the rules that judged the record last"),
        column("status", TEXT, "OPEN / REPLAYED / DISCARDED"),
        column("attempts", INTEGER, "How often the record was judged"),
        column("resolution", TEXT, "How the record was resolved"),
        column("_rejected_at", INSTANT, "Commit stamp of the refusal"),
        column("_resolved_at", INSTANT, "When the record was replayed or discarded"),
        column("_ingested_at", INSTANT, "When the record landed in Bronze; bounds every look into this table"),
    ),
    key=("rejected_id", "_ingested_at"),
    partitioned_by=("source_table", "days(_ingested_at)"),
    stamp="_rejected_at",
    policy=SILVER_POLICY,
    sources=("bronze.raw_trades", "bronze.raw_orderbook", "bronze.raw_marketdata", "bronze.raw_reference"),
    lookups=("bronze.raw_trades", "bronze.raw_orderbook", "bronze.raw_marketdata", "bronze.raw_reference"),
)

OPEN, REPLAYED, DISCARDED = STATUSES = ("OPEN", "REPLAYED", "DISCARDED")
"""Where a dead letter stands: it waits, its record was accepted since, or it was closed for good."""

PLACE = ("_kafka_topic", "_kafka_partition", "_kafka_offset", "_ingested_at")
"""What a dead letter and its bronze row have in common."""

SOURCE = (*feed.PLACE, "_ingested_at")
"""PLACE, as judged records and silver rows name it."""


def build(rejected: DataFrame, bronze: DataFrame, source_table: str) -> DataFrame:
    """The dead letters of a batch, stamp left out: `rejected` (place in the topic, `_reasons`, `_event_time`) with
    the payloads of `bronze`; grain: one row per rejected record."""
    places = placed(rejected, "_reasons", "_event_time")
    place = list(PLACE)
    named = F.concat_ws("|", "_kafka_topic", F.col("_kafka_partition"), F.col("_kafka_offset"))
    letters = bronze.select(*place, "raw_payload", "_raw_bytes").join(places, on=place, how="inner")
    return letters.select(
        *_letter(F.md5(named.cast("binary")), source_table, F.col("_event_time"), F.col("_reasons")),
        *place,
        "raw_payload",
        "_raw_bytes",
    )


def placed(judged: DataFrame, *also: str | Column) -> DataFrame:
    """Where bronze holds the judged records: PLACE, and the columns asked for."""
    return judged.select(*SOURCE, *also).withColumnsRenamed(dict(zip(SOURCE, PLACE, strict=True)))


def as_source(rows: DataFrame) -> DataFrame:
    """PLACE of dead letters or bronze rows, under the names of SOURCE."""
    return rows.select(*PLACE).withColumnsRenamed(dict(zip(PLACE, SOURCE, strict=True)))


def of_change_log(rejected: DataFrame) -> DataFrame:
    """The dead letters among new rows of `bronze.raw_reference` (with `_reasons`), stamp left out."""
    return rejected.select(
        *_letter(id_in_change_log(), "bronze.raw_reference", F.lit(None).cast(INSTANT), F.col("_reasons")),
        F.col("source").alias("_kafka_topic"),
        "_kafka_partition",
        F.coalesce("_kafka_offset", "_source_row").alias("_kafka_offset"),
        "_ingested_at",
        "raw_payload",
        "_raw_bytes",
    )


def id_in_change_log() -> Column:
    """The `rejected_id` that a row of `bronze.raw_reference` has as a dead letter."""
    from_topic = F.concat_ws("|", "_kafka_topic", F.col("_kafka_partition"), F.col("_kafka_offset"))
    from_file = F.concat_ws("|", "source", "_source_digest", F.col("_source_row"))
    return F.md5(F.when(F.col("_source_digest").isNull(), from_topic).otherwise(from_file).cast("binary"))


def _letter(rejected_id: Column, source_table: str, event_time: Column, reasons: Column) -> list[Column]:
    return [
        rejected_id.alias("rejected_id"),
        F.lit(source_table).alias("source_table"),
        event_time.alias("event_time"),
        reasons.alias("reasons"),
        F.lit(str(RULES_VERSION)).alias("rules_version"),
        F.lit(OPEN).alias("status"),
        F.lit(1).alias("attempts"),
        F.lit(None).cast(TEXT).alias("resolution"),
        F.lit(None).cast(INSTANT).alias("_resolved_at"),
    ]
