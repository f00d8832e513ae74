"""Reference data from CSV, JSON lines and Parquet files, local or on S3, into the change log."""

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark import change_log
from lakehouse_spark.bronze import raw_reference
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.types import BYTES, INTEGER, LONG, TEXT

_FORMATS = {"csv": "csv", "json": "json", "jsonl": "json", "ndjson": "json", "parquet": "parquet"}
_SPLIT = "134217728"
_LONGEST_LINE = 16_777_216
_CORRUPT = "_corrupt_record"
_UNREADABLE = ("FAILED_READ_FILE", "CANNOT_READ_FILE_FOOTER", "is not a Parquet file", "COLUMN_ALREADY_EXISTS")


def load(spark: SparkSession, dimension: Dimension, sources: Sequence[str]) -> int:
    """Lands the files' records in their order, one commit a file, and returns how many there were.

    A source is a file, a folder or a pattern. Columns go by name: the dimension's attributes, and optionally
    `effective_date`, `sequence` and `is_deleted`; others are kept in the log. A file that was loaded before lands
    nothing. Raises UsageError for one that is missing, of no known format, or without a column for the natural key.
    """
    landed = 0
    for path, digest in [found for source in sources for found in _files(spark, source)]:
        if change_log.is_landed(spark, dimension, path, digest):
            continue
        with _readable(path):
            rows = _rows(spark, dimension, path)
            if not rows.isEmpty():
                landed += change_log.land(spark, dimension, _records(dimension, rows), path, digest)
    return landed


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """One sentence for a file that is not what its extension says."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        if not any(sign in str(error) for sign in _UNREADABLE):
            raise
        raise LakehouseError(f"{path}: cannot be read as the {_format(path)} that its extension says it is") from error


def _files(spark: SparkSession, source: str) -> list[tuple[str, str]]:
    """Path and SHA-256 of the files behind a source, by name."""
    path = source if re.match(r"[a-z][a-z0-9]+:", source) else f"file://{Path(source).absolute()}"
    try:
        files = spark.read.format("binaryFile").load(path).select("path", F.sha2("content", 256)).collect()
    except AnalysisException as error:
        raise UsageError(f"{source}: no such file or folder") from error
    except PySparkException as error:
        raise LakehouseError(f"{source}: cannot be read: {str(error).splitlines()[0][:300]}") from error
    if not files:
        raise UsageError(f"{source}: no files in it, or none that holds anything")
    return sorted((row[0], row[1]) for row in files)


def _rows(spark: SparkSession, dimension: Dimension, path: str) -> DataFrame:
    """The file's records and where they stand in it; grain: one row per record."""
    return {"csv": _csv, "json": _json, "parquet": _parquet}[_format(path)](spark, dimension, path)


def _records(dimension: Dimension, rows: DataFrame) -> DataFrame:
    """A file's records as `raw_reference.build` takes them, but for the source; grain: one row per record."""
    in_order = Window.orderBy("_block", "_nth")
    return rows.select(
        F.lit(dimension.name).alias("dimension"),
        "attributes",
        "raw_payload",
        F.lit(None).cast(TEXT).alias("_kafka_topic"),
        F.lit(None).cast(INTEGER).alias("_kafka_partition"),
        F.lit(None).cast(LONG).alias("_kafka_offset"),
        F.row_number().over(in_order).cast(LONG).alias("_source_row"),
        F.lit(None).cast(BYTES).alias("_raw_bytes"),
    )


def _format(path: str) -> str:
    extension = re.sub(r"\.(gz|bz2|zst)$", "", path).rpartition(".")[2].lower()
    if extension not in _FORMATS:
        known = ", ".join(f".{name}" for name in _FORMATS)
        raise UsageError(f"{path}: the extension tells the format: expected one of {known}")
    return _FORMATS[extension]


def _csv(spark: SparkSession, dimension: Dimension, path: str) -> DataFrame:
    options = {"multiLine": "true", "escape": '"', "encoding": "UTF-8"}
    first = spark.read.options(**options).csv(path).first() or ()  # a header is read with its repeated names renamed
    names = _checked(dimension, path, [name or f"_c{place}" for place, name in enumerate(first)])
    schema = T.StructType([T.StructField(name, TEXT) for name in (*names, _CORRUPT)])
    read = spark.read.options(**options, header="true", columnNameOfCorruptRecord=_CORRUPT)
    rows = read.schema(schema).csv(path)
    placed = rows.select(*map(_column, names), _CORRUPT, *_place())
    whole = F.col(_CORRUPT).isNull()
    return placed.select(
        F.when(whole, _map(names)).alias("attributes"),
        F.coalesce(_CORRUPT, _payload(names)).alias("raw_payload"),
        "_block",
        "_nth",
    )


def _json(spark: SparkSession, dimension: Dimension, path: str) -> DataFrame:
    lines = spark.read.text(path).select(F.col("value").alias("raw_payload"), *_place())
    filled = lines.where(F.length(F.trim("raw_payload")) > 0)
    return raw_reference.with_attributes(filled, _LONGEST_LINE)


def _parquet(spark: SparkSession, dimension: Dimension, path: str) -> DataFrame:
    rows = spark.read.parquet(path)
    names = _checked(dimension, path, rows.columns)
    texts = []
    for field, name in zip(rows.schema, names, strict=True):
        nested = isinstance(field.dataType, T.ArrayType | T.MapType | T.StructType)
        value = F.to_json(_column(field.name)) if nested else _column(field.name)
        texts.append(value.cast(TEXT).alias(name))
    placed = rows.select(*texts, *_place())
    return placed.select(
        _map(names).alias("attributes"),
        _payload(names).alias("raw_payload"),
        "_block",
        "_nth",
    )


def _checked(dimension: Dimension, path: str, header: Sequence[str]) -> list[str]:
    """The column names, trimmed and in lower case."""
    names = [name.lstrip("\ufeff").strip().lower() for name in header]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{path}: a column stands there twice: {', '.join(twice)}")
    if dimension.natural_key not in names:
        near = difflib.get_close_matches(dimension.natural_key, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names) or 'none'}"
        raise UsageError(f"{path}: expected a column {dimension.natural_key!r} for {dimension.name}; {hint}")
    return names


def _map(names: Sequence[str]) -> Column:
    return F.create_map(*(part for name in names for part in (F.lit(name), _column(name))))


def _payload(names: Sequence[str]) -> Column:
    """The record as JSON, in place of bytes that are not kept."""
    return F.to_json(F.struct(*map(_column, names)), {"ignoreNullFields": "false"})


def _column(name: str) -> Column:
    """A column by its whole name, dots and backticks included."""
    return F.col("`" + name.replace("`", "``") + "`")


def _place() -> list[Column]:
    """Where a record stands in its file."""
    return [F.col("_metadata.file_block_start").alias("_block"), F.monotonically_increasing_id().alias("_nth")]
