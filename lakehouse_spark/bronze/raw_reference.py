"""`bronze.raw_reference`: the change log of all dimensions."""

from datetime import datetime
from string import ascii_lowercase, ascii_uppercase

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.table import Retention, Table, column
from lakehouse_spark.transforms import payload, quality
from lakehouse_spark.transforms.payload import is_closed_early, strict_json, to_long, trimmed
from lakehouse_spark.types import BYTES, DATE, FLAG, INSTANT, INTEGER, LONG, TEXT

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
    retention=Retention(snapshot_days=7),  # the dimensions are rebuilt from here: rows stay for ever
)

ATTRIBUTES = T.MapType(TEXT, TEXT)

_DATE = r"^(?!0000)([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]00:00(?::00(?:\.0+)?)?(?:Z|[+]00:00)?)?\z"
_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0", "nan")
_NONE_OF_PANDAS = ("nan", "nat")
_NOT_NAMED = " \t\n\r\f\v\u00a0-_"
_NESTED = r"^\x00[tf\[{]"


def build(records: DataFrame, natural_key: Column, stamp: datetime) -> DataFrame:
    """One row per record, whatever it holds: `dimension`, `attributes` (NULL if unreadable) and where it came from.

    What does not parse is NULL here and refused by the dimension: nothing is rejected in bronze.
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


def from_kafka(records: DataFrame, max_bytes: int) -> DataFrame:
    """Kafka records (`value`, `topic`, `partition`, `offset`) as `build` takes them; `dimension` is a field of theirs.

    Records larger than `max_bytes` are kept and not parsed."""
    raw = F.col("value").cast("string")
    decoded = records.select(
        F.make_valid_utf8(raw).alias("raw_payload"),
        F.col("topic").alias("_kafka_topic"),
        F.col("partition").alias("_kafka_partition"),
        F.col("offset").alias("_kafka_offset"),
        F.when(~F.is_valid_utf8(raw), F.col("value")).alias("_raw_bytes"),
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


def with_attributes(records: DataFrame, max_bytes: int) -> DataFrame:
    """Adds `attributes`, the fields of the JSON object in `raw_payload`; NULL if it is none.

    Strings and numbers as they are written; a boolean, an array or an object has payload.NOT_TEXT before it (see
    `of_feed`). `_raw_bytes`, where the records have them, count for `max_bytes`.
    """
    raw_bytes = F.col("_raw_bytes") if "_raw_bytes" in records.columns else F.lit(None).cast(BYTES)
    is_read = payload.size(F.col("raw_payload"), raw_bytes) <= max_bytes
    json = F.when(is_read, payload.without_mark(F.col("raw_payload")))
    bracketed = F.concat(F.lit("["), json, F.lit("]"))  # what follows the object is an error then
    objects = strict_json(bracketed, T.ArrayType(ATTRIBUTES))
    records = records.withColumns({"_json": json, "_objects": objects})
    is_one = (F.size("_objects") == 1) & F.get("_objects", 0).isNotNull() & ~is_closed_early(F.col("_json"))
    plain = F.transform_keys(F.get("_objects", 0), lambda name, value: _name(name))
    tokens = F.transform_keys(payload.marked_map(F.col("_json")), lambda name, token: _name(payload.unmarked(name)))
    records = records.withColumns({"_plain": plain, "_tokens": F.when(is_one, tokens)})
    texts = F.zip_with(F.map_values("_tokens"), F.map_values("_plain"), _text_of)  # both in the payload's order
    read = records.withColumn("attributes", F.map_from_arrays(F.map_keys("_tokens"), texts))
    return read.drop("_json", "_objects", "_plain", "_tokens")


def _text_of(token: Column, plain: Column) -> Column:
    is_scalar = payload.is_string(token) | payload.is_digits(token)
    return F.when(is_scalar, payload.unmarked(token)).otherwise(F.concat(F.lit(payload.NOT_TEXT), plain))


def _name(written: Column) -> Column:
    """A name trimmed and in lower case; that of the dimension is known however it is spelled."""
    return F.when(folded(written) == "dimension", F.lit("dimension")).otherwise(F.lower(trimmed(written)))


def folded(name: Column) -> Column:
    """What names of columns are compared by: in lower case, without blanks, hyphens and underscores."""
    return F.translate(name, ascii_uppercase + _NOT_NAMED, ascii_lowercase)


def of_feed(attributes: Column, columns: Column, texts: Column) -> Column:
    """The attributes of a record whose feed has these `columns` (name by folded name), `texts` being those of text.

    They have their columns' names, whatever the feed spells them like; of two that are the same, the last one counts.
    What is no text (see `with_attributes`) is payload.NOT_TEXT in a column of text, and anywhere else the JSON of it.
    """
    named = F.transform_keys(attributes, lambda name, value: F.coalesce(columns[folded(name)], name))
    return F.transform_values(
        named,
        lambda name, value: (
            F.when(value.isNull() | ~value.rlike(_NESTED), value)
            .when(F.array_contains(texts, name), F.lit(payload.NOT_TEXT))
            .otherwise(F.substr(value, F.lit(2)))
        ),
    )


UNREADABLE = (
    "tombstone", "oversized_record", "schema_registry_framing", "invalid_encoding", "malformed_json",
    "malformed_record",
)  # fmt: skip
"""The reasons that stand alone."""

MOST_BYTES = 2**31 - 1
"""No record has more."""


def unreadable(max_bytes: int = MOST_BYTES) -> Column:
    """Why nothing of a record can be read, NULL where it can be: the only reason for which it is refused then.

    One of more than `max_bytes` has no attributes, so no dimension: only strays are that large.
    """
    raw, raw_bytes, attributes = F.col("raw_payload"), F.col("_raw_bytes"), F.col("attributes")
    is_object = attributes.isNotNull()
    is_json = F.col("_kafka_topic").isNotNull() | F.startswith(F.ltrim(raw), F.lit("{"))
    lone = is_object & is_json & payload.has_lone_surrogate(raw)
    of_topic = quality.unreadable(raw, raw_bytes, max_bytes, is_lone=lone, is_object=is_object)
    broken = F.when(raw_bytes.isNotNull() | lone, F.lit("invalid_encoding"))
    of_file = F.coalesce(broken, F.when(~is_object, F.lit("malformed_record")))
    return F.when(F.col("_kafka_topic").isNotNull() & ~is_object, of_topic).otherwise(of_file)


def text(attributes: Column, name: str) -> Column:
    """An attribute's trimmed text; NULL for one that is missing, empty or blank."""
    return F.nullif(trimmed(attributes[name]), F.lit(""))


def stated_or_none(written: Column) -> Column:
    """The text of a date or a number, NULL for what pandas writes where there is none."""
    return F.when(~F.lower(written).isin(*_NONE_OF_PANDAS), written)


def day(written: Column) -> Column:
    """An ISO date, also with the time of midnight; NULL for anything else."""
    return F.regexp_extract(written, _DATE, 1).try_cast("date")


def flag(written: Column) -> Column:
    lower = F.translate(written, ascii_uppercase, ascii_lowercase)
    return F.when(lower.isin(*_TRUE), True).when(lower.isin(*_FALSE), False)


def whole(written: Column) -> Column:
    """An integer in any notation, of a trimmed text, also as files have it: with a plus or leading zeros."""
    digits = F.when(written.rlike(r"^[+-]?[0-9]{1,19}(\.0+)?\z"), F.substring_index(written, ".", 1))
    return F.coalesce(digits.try_cast("bigint"), to_long(written))
