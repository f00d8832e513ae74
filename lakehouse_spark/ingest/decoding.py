"""Which texts the records of a topic have: decoded by its format, and again where an earlier look could not."""

import json
from collections.abc import Iterable

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.avro.functions import from_avro

from lakehouse_spark.bronze.topic import Topic
from lakehouse_spark.catalog import TOPICS
from lakehouse_spark.errors import UsageError
from lakehouse_spark.ingest import schema_registry
from lakehouse_spark.ingest.schema_registry import Pause
from lakehouse_spark.settings import Settings
from lakehouse_spark.transforms import framing
from lakehouse_spark.transforms.framing import AvroSchema

MOST_IDS = 500
"""Ids that are looked for in a batch, those of most records: a sender of noise would have the registry asked for each
of its records. Records of others wait as those of unknown ids do."""

_JSON, _AVRO = "json", "avro"
_readable: dict[tuple[schema_registry.Schema, tuple[str, ...]], AvroSchema | str] = {}


def check(settings: Settings, topics: Iterable[str]) -> None:
    """Raises UsageError where it is plain before anything is read that records of these topics cannot be decoded."""
    if unknown := set(settings.kafka.formats) - set(TOPICS):
        raise UsageError(
            f"LAKEHOUSE_KAFKA__FORMATS: no such table {', '.join(sorted(unknown))}; tables: {', '.join(TOPICS)}"
        )
    if any(_format(settings, topic) == _AVRO for topic in topics):
        schema_registry.check(settings)


def _format(settings: Settings, topic: str) -> str:
    """The format of the records behind a bronze table, by its name without the layer."""
    return settings.kafka.formats.get(topic, _JSON)


def text(settings: Settings, topic: str, records: DataFrame, pause: Pause | None = None) -> Column | None:
    """The text of each record (`value`), None where it is the value itself.

    Of Avro, it asks the records for the ids of their schemas, and the registry for those (see schema_registry.schema).
    """
    return _text(settings, topic, records, F.col("value"), pause)


def again(settings: Settings, topic: str, rows: DataFrame) -> DataFrame:
    """Rows of bronze or dead letters (`raw_payload`, `_raw_bytes`), of which those are decoded now that no earlier look
    decoded: their schema may be known since, or the format of their topic."""
    if _format(settings, topic) == _JSON:
        return rows
    raw, raw_bytes = F.col("raw_payload"), F.col("_raw_bytes")
    is_due = framing.is_undecoded(raw, raw_bytes) | F.coalesce(F.startswith(raw, F.lit("\0")), F.lit(False))
    value = F.coalesce(raw_bytes, raw.cast("binary"))
    decoded = _text(settings, topic, rows.where(is_due), value)
    assert decoded is not None
    return rows.withColumns(
        {
            "raw_payload": F.when(is_due, decoded).otherwise(raw),
            "_raw_bytes": F.when(is_due, value).otherwise(raw_bytes),
        }
    )


def _text(
    settings: Settings, topic: str, records: DataFrame, value: Column, pause: Pause | None = None
) -> Column | None:
    form, most = _format(settings, topic), settings.ingest.max_record_bytes
    if form == _JSON:
        return None
    if form == _AVRO:
        source = TOPICS[topic]
        arrays = source.array_fields if isinstance(source, Topic) else ()
        return framing.avro_text(value, _schemas(settings, records, value, arrays, pause), most)
    return framing.json_text(value, most)


def _schemas(
    settings: Settings, records: DataFrame, value: Column, arrays: tuple[str, ...], pause: Pause | None
) -> dict[int, AvroSchema | str]:
    """The schemas of these records by id, of those that the registry has."""
    due = records.where(framing.is_framed(value) & (F.octet_length(value) <= settings.ingest.max_record_bytes))
    counted = due.groupBy(framing.schema_id(value).alias("id")).agg(F.count("*").alias("records"))
    ids = [row["id"] for row in counted.orderBy(F.desc("records"), "id").limit(MOST_IDS).collect()]
    found = {identity: schema_registry.schema(settings, identity, pause) for identity in ids}
    spark = records.sparkSession
    return {identity: _read(spark, schema, arrays) for identity, schema in found.items() if schema is not None}


def _read(spark: SparkSession, schema: schema_registry.Schema, arrays: tuple[str, ...]) -> AvroSchema | str:
    """The schema as Spark reads it, or why it does not."""
    key = schema, arrays
    if key not in _readable:
        _readable[key] = _look(spark, schema, arrays) if schema.type == "AVRO" else f"is of type {schema.type}"
    return _readable[key]


def _look(spark: SparkSession, schema: schema_registry.Schema, arrays: tuple[str, ...]) -> AvroSchema | str:
    try:
        types = [json.loads(each) for each in schema.references]
        envelope = json.dumps(framing.envelope(json.loads(schema.text), types))
        read = spark.range(0).select(from_avro(F.lit(b""), envelope)["payload"].alias("payload"))
        kind = read.schema["payload"].dataType
        if not isinstance(kind, T.StructType):
            return "is not of a record"
        found = AvroSchema(envelope, kind, bool(types), arrays)
        spark.range(0).select(framing.avro_text(F.lit(b""), {0: found}, 0))  # refused for names that differ in case
    except ValueError:
        return "is no JSON"
    except (PySparkException, Py4JJavaError):
        return "cannot be read by Spark"
    return found
