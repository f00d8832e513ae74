"""Answers of DuckDB's over rows that are read from the tables' files: nothing is written, and none of its own readers,
extensions or settings is there to be asked for."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
from pyspark.sql.types import ArrayType, BinaryType, DataType, DecimalType, Row

from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.iceberg import live_files, metadata, rows
from lakehouse_spark.iceberg.live_files import LiveFile
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.query.arithmetic import MACROS
from lakehouse_spark.query.translation import translate
from lakehouse_spark.query.typed import (
    BIGINT,
    BOOLEAN,
    DATE,
    DOUBLE,
    INT,
    STRING,
    TIMESTAMP,
    UNKNOWN,
    Literal,
    NotExactError,
    Range,
)
from lakehouse_spark.settings import Settings
from lakehouse_spark.types import HEADERS

MOST_FILES, MOST_ROWS, MOST_BYTES = 1_000, 3_000_000, 128_000_000
"""Of the tables that a statement reads; to read more takes about as long as Spark does to start."""
_FORMAT = 2
_TYPES: Mapping[str, tuple[DataType, pa.DataType]] = {
    "boolean": (BOOLEAN, pa.bool_()),
    "int": (INT, pa.int32()),
    "long": (BIGINT, pa.int64()),
    "double": (DOUBLE, pa.float64()),
    "string": (STRING, pa.string()),
    "binary": (BinaryType(), pa.binary()),
    "date": (DATE, pa.date32()),
    "timestamptz": (TIMESTAMP, pa.timestamp("us")),
}
_LISTS: Mapping[str, tuple[DataType, pa.DataType]] = {
    "string": (ArrayType(STRING), pa.list_(pa.string())),
    "key string, value binary": (HEADERS, pa.list_(pa.struct({"key": pa.string(), "value": pa.binary()}))),
}
"""By what stands in a list: a type, or the fields of a struct."""
_DECIMAL = re.compile(r"decimal\((\d+), ?(\d+)\)")
_FIRST_INSTANT = datetime(1970, 1, 1)
_CONFIG = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
}


class Answer(NamedTuple):
    """Rows as Spark would return them, with instants as ISO-8601 in UTC."""

    columns: Sequence[str]
    rows: Sequence[tuple[Any, ...]]


def answer(settings: Settings, sql: str, limit: int, known_at: datetime | None = None) -> Answer:
    """The first rows of the answer to a statement, of the tables as they are, or as they were known at a moment; raises
    NotExactError where it is Spark's to answer."""
    if changed := [name for name in settings.spark.conf if name.startswith("spark.sql.")]:
        raise NotExactError(f"settings of Spark's SQL are changed: {', '.join(changed)}")
    found: dict[str, Metadata] = {}

    def columns_of(table: str) -> Mapping[str, DataType]:
        if table not in BY_NAME:
            raise NotExactError(f"{table} is none of the declared tables")
        if table not in found:
            read = metadata.read(settings, [BY_NAME[table]])
            found.update({name: of if known_at is None else of.known_at(known_at) for name, of in read.items()})
        if table not in found:
            raise NotExactError(f"{table} is not there")
        return {name: kind for name, (kind, _) in _types(found[table]).items()}

    translation = translate(sql, columns_of, limit)
    chosen = [_chosen(found[reading.table], reading.ranges) for reading in translation.readings]
    _refuse_many(chosen)
    with duckdb.connect(":memory:", config=_CONFIG) as engine:
        for macro in MACROS:
            engine.execute(f"CREATE MACRO {macro}")
        for reading, files in zip(translation.readings, chosen, strict=True):
            engine.register("read", _rows(found[reading.table], files, list(reading.columns)))
            engine.execute(f"CREATE TABLE {reading.alias} AS SELECT * FROM read")
            engine.unregister("read")
        try:
            answered = engine.execute(translation.sql).fetchall()
        except duckdb.Error as error:  # as of an overflow: Spark has words of its own for it
            raise NotExactError(f"DuckDB fails: {str(error).partition(chr(10))[0]}") from error
    shown = [_shown(kind) for _, kind in translation.columns]
    return Answer(
        [name for name, _ in translation.columns],
        [tuple(show(value) for show, value in zip(shown, row, strict=True)) for row in answered],
    )


def _types(of: Metadata) -> Mapping[str, tuple[DataType, pa.DataType]]:
    """The columns' types for Spark, and as they are handed on."""
    return {column["name"]: _type(column["type"]) for column in of.columns}


def _type(said: Any) -> tuple[DataType, pa.DataType]:
    if isinstance(said, dict):
        element = said.get("element", "")  # of a list
        if isinstance(element, dict):
            element = ", ".join(f"{field['name']} {field['type']}" for field in element.get("fields", ()))
        return _LISTS.get(element, (UNKNOWN, pa.null()))
    if decimal := _DECIMAL.fullmatch(said):
        precision, scale = map(int, decimal.groups())
        return DecimalType(precision, scale), pa.decimal128(precision, scale)
    return _TYPES.get(said, (UNKNOWN, pa.null()))


def _chosen(of: Metadata, ranges: Sequence[Range]) -> list[LiveFile]:
    """The data files that may have rows in all of the ranges."""
    if of.said["format-version"] > _FORMAT:
        raise NotExactError(f"{of.table.name} is of a later format of Iceberg's")
    if of.total("data-files") + of.total("delete-files") > MOST_FILES:
        raise NotExactError(f"{of.table.name} has more than {MOST_FILES:,} files")
    return [file for file in of.data_files if all(_may_have(of, file, each) for each in ranges)]


def _may_have(of: Metadata, file: LiveFile, within: Range) -> bool:
    column = of.column_ids[within.column]
    low, high = file.lower.get(column), file.upper.get(column)
    kind = _types(of)[within.column][0]
    if low is None or high is None or kind not in (INT, BIGINT, STRING, DATE, TIMESTAMP):
        return True

    def comparable(bound: bytes) -> Any:  # a text's may be cut off, and is then less than all, or greater
        return bound if kind == STRING else live_files.number(bound)

    is_below = within.high is not None and comparable(low) > _comparable(within.high)
    is_above = within.low is not None and comparable(high) < _comparable(within.low)
    return not (is_below or is_above)


def _comparable(value: Literal) -> Any:
    """A value as Iceberg's bounds have it: texts in bytes, dates in days and instants in microseconds."""
    match value:
        case str():
            return value.encode()
        case datetime():
            since = value - _FIRST_INSTANT
            return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        case date():
            return (value - live_files.EPOCH).days
    return value


def _refuse_many(chosen: Sequence[Sequence[LiveFile]]) -> None:
    records = sum(file.records for files in chosen for file in files)
    size = sum(file.size for files in chosen for file in files)
    if records > MOST_ROWS or size > MOST_BYTES:
        raise NotExactError(f"there are {records:,} rows to read, of {size / 1e6:,.0f} MB")


def _rows(of: Metadata, files: Sequence[LiveFile], columns: Sequence[str]) -> pa.RecordBatchReader:
    """These columns of the live rows. Where none is named, it is how many there are that counts: where none are
    deleted, metadata say it."""
    types = _types(of)
    if not columns and not of.delete_files:
        return pa.table({"nothing": pa.nulls(sum(file.records for file in files), pa.bool_())}).to_reader()
    read = columns or [next(name for name, (kind, _) in types.items() if kind != UNKNOWN)]
    schema = pa.schema([(name, types[name][1]) for name in read])

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in rows.live_batches(of, files, read):
            found = [column.cast(kind) for column, kind in zip(batch.columns, schema.types, strict=True)]
            yield pa.RecordBatch.from_arrays(found, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _shown(kind: DataType) -> Callable[[Any], Any]:
    """How a value is returned: an instant as text, a header as a row, all else as it is, if Python has room for it."""
    if isinstance(kind, DecimalType):
        # Spark hands a decimal to Python with an exponent of three digits each: 3.3E-7 as 330E-9, which is 3.30E-7.
        return lambda value: None if value is None else Decimal(value.to_eng_string())
    if kind == HEADERS:
        return lambda value: None if value is None else [Row(**header) for header in value]
    if kind not in (DATE, TIMESTAMP):
        return lambda value: value
    expected = date if kind == DATE else datetime

    def show(value: Any) -> Any:
        if value is not None and type(value) is not expected:
            raise NotExactError(f"{value} has no room in Python's {expected.__name__}")
        return value.isoformat() if kind == TIMESTAMP and value is not None else value

    return show
