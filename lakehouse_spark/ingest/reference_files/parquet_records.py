"""Parquet: every column as text, whatever its type, and each record as JSON in place of the text that it never had."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from lakehouse_spark.ingest.reference_files.record import IsText, Record, undecodable
from lakehouse_spark.transforms.payload import NOT_TEXT

_ROWS = 16_384


def opened(content: IO[bytes], *, is_seekable: bool) -> parquet.ParquetFile:
    """The file behind the bytes; they are read whole unless they can be read from any place on."""
    source = content if is_seekable else pa.BufferReader(content.read())
    # The instants of old writers fit no 64 bits of nanoseconds: those of the year 9999 would be others.
    return parquet.ParquetFile(source, coerce_int96_timestamp_unit="us", page_checksum_verification=True)


def read(file: parquet.ParquetFile, is_text: IsText) -> Iterator[Record]:
    """The records. One with a text that is not UTF-8 has as its exact bytes its JSON with the text's own in it; bytes
    in a column of text are text, and booleans, arrays and objects there are none."""
    for batch in file.iter_batches(batch_size=_ROWS):
        names = batch.schema.names
        known = [is_text(name) for name in names]
        columns = [texts(column, is_text=text) for column, text in zip(batch.columns, known, strict=True)]
        is_odd = [text and _is_no_text(column.type) for column, text in zip(batch.columns, known, strict=True)]
        for values in zip(*columns, strict=True):
            payload = json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False, separators=(",", ":"))
            try:
                payload.encode()
            except UnicodeEncodeError:
                yield undecodable(payload.encode("utf-8", "surrogateescape"))
            else:
                readable = (NOT_TEXT if odd and value else value for odd, value in zip(is_odd, values, strict=True))
                yield Record(names, tuple(readable) if any(is_odd) else values, payload)


def _is_no_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or pa.types.is_nested(kind))


def texts(column: pa.Array, *, is_text: bool = False) -> list[str | None]:
    """A column's values as text, bytes that are not UTF-8 as half pairs; a missing value and a float's NaN are None.

    Dates and times are ISO, instants in UTC and cut to microseconds, nested values JSON, binary ones hexadecimal unless
    all are text or `is_text` says they are.
    """
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return texts(column.storage, is_text=is_text)
    if pa.types.is_dictionary(kind):
        return texts(column.dictionary_decode(), is_text=is_text)
    if is_text and (_is_binary(kind) or pa.types.is_fixed_size_binary(kind)):
        return _decoded(column)
    with suppress(pa.ArrowException, ValueError, OverflowError):
        for holds, read in _READERS:
            if holds(kind):
                return read(column)
    return _nested(column)


def _strings(column: pa.Array) -> list[str | None]:
    try:
        column.validate(full=True)
        return _listed(column)
    except pa.ArrowInvalid:
        return _decoded(column.cast(pa.large_binary()))


def _decoded(column: pa.Array) -> list[str | None]:
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in column.to_pylist()]


def _is_binary(kind: pa.DataType) -> bool:
    return kind in (pa.binary(), pa.large_binary(), pa.binary_view())


def _binaries(column: pa.Array) -> list[str | None]:
    values = column.to_pylist()
    try:
        return [None if value is None else value.decode() for value in values]
    except UnicodeDecodeError:
        return [None if value is None else value.hex() for value in values]


def _floats(column: pa.Array) -> list[str | None]:
    wide = column.cast(pa.float32()) if pa.types.is_float16(column.type) else column
    known = pc.if_else(pc.is_nan(wide), pa.scalar(None, wide.type), wide)
    return _listed(pc.replace_substring_regex(known.cast(pa.string()), r"^(-?[0-9]+)$", r"\1.0"))


def _decimals(column: pa.Array) -> list[str | None]:
    return [None if value is None else f"{value:f}" for value in column.to_pylist()]


def _instants(column: pa.Array) -> list[str | None]:
    unit = column.type.unit
    in_utc = column.cast(pa.int64()).cast(pa.timestamp(unit))
    if unit == "ns":
        in_utc = pc.floor_temporal(in_utc, unit="microsecond").cast(pa.timestamp("us"))
    return _without_zeros(in_utc)


def _times(column: pa.Array) -> list[str | None]:
    if column.type.bit_width == 64 and column.type.unit == "ns":
        column = column.cast(pa.time64("us"), safe=False)
    return _without_zeros(column)


def _without_zeros(column: pa.Array) -> list[str | None]:
    whole = pc.replace_substring_regex(column.cast(pa.string()), r"\.0+$", "")
    return _listed(pc.replace_substring_regex(whole, r"(\.[0-9]*[1-9])0+$", r"\1"))


def _nested(column: pa.Array) -> list[str | None]:
    return [_any(value) for value in column]


def _listed(column: pa.Array) -> list[str | None]:
    found: list[str | None] = column.cast(pa.large_string()).to_pylist()
    return found


def _any(value: pa.Scalar) -> str | None:
    """One value as text or JSON; of one that Python cannot hold, Arrow's own words."""
    if not value.is_valid:
        return None
    try:
        held = value.as_py(maps_as_pydicts="lossy")
    except (ValueError, OverflowError, pa.ArrowException):
        return str(value.type)
    if isinstance(held, dict | list):
        return json.dumps(held, ensure_ascii=False, separators=(",", ":"), default=str)
    return str(held)


_READERS: tuple[tuple[Callable[[Any], bool], Callable[[Any], list[str | None]]], ...] = (
    (lambda kind: kind in (pa.string(), pa.large_string(), pa.string_view()), _strings),
    (_is_binary, _binaries),
    (pa.types.is_fixed_size_binary, _binaries),
    (pa.types.is_floating, _floats),
    (pa.types.is_decimal, _decimals),
    (pa.types.is_timestamp, _instants),
    (pa.types.is_time, _times),
    (pa.types.is_nested, _nested),
    (lambda kind: True, _listed),
)
