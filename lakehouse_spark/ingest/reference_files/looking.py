"""A file read to its end before anything lands: its records as one table, or a sentence on why it cannot be loaded."""

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.ingest.reference_files import csv_records, headers, json_records, parquet_records
from lakehouse_spark.ingest.reference_files.paths import File
from lakehouse_spark.ingest.reference_files.record import Record, decompressed, text

_FOREIGN = (OSError, EOFError, zlib.error, pa.ArrowException, UnicodeError, MemoryError)
"""What the libraries that read files raise for one that is broken."""

_SCHEMA = pa.schema(
    {
        "attributes": pa.map_(pa.string(), pa.string()),
        "raw_payload": pa.string(),
        "_raw_bytes": pa.binary(),
        "_source_row": pa.int64(),
    }
)
_NO_DATES = ("", "nan", "nat")
"""A date that is none: pandas writes its missing ones like that too."""

_ROWS, _BYTES = 16_384, 67_108_864
"""Records and characters of one batch, whichever comes first."""


@dataclass(frozen=True)
class Looked:
    """A file's records in order, its SHA-256, whether any has an effective date or none can, and what to say."""

    file: File
    digest: str
    records: pa.Table
    is_dated: bool
    notes: Sequence[str]


def look(file: File, dimension: Dimension, *, ignore_unknown: bool) -> Looked:
    """The file, read whole.

    Raises UsageError or LakehouseError, one sentence that names it, where it cannot be read as what its extension says,
    is not UTF-8, holds nothing (but in a folder that is noted), or has columns that `headers.judge` refuses.
    """
    try:
        with TemporaryDirectory(prefix="lakehouse-reference-") as scratch:
            return _read(file, file.fetch(Path(scratch)), dimension, ignore_unknown)
    except LakehouseError as error:
        said = str(error)
        raise type(error)(said if said.startswith(file.shown) else f"{file.shown}: {said}") from error
    except _FOREIGN as error:
        cause = (str(getattr(error, "strerror", None) or error).splitlines() or [""])[0][:200] or type(error).__name__
        said = "cannot be read" if isinstance(error, PermissionError) else _mismatch(file)
        raise LakehouseError(f"{file.shown}: {said}: {cause}") from error


def _mismatch(file: File) -> str:
    packed = f", compressed as .{file.compression}," if file.compression else ""
    return f"cannot be read as the {file.format}{packed} that its extension says it is"


def _read(file: File, path: Path, dimension: Dimension, ignore_unknown: bool) -> Looked:
    with path.open("rb") as stored:
        digest = hashlib.file_digest(stored, "sha256").hexdigest()
    collected = _Collected(headers.Names(dimension))
    with path.open("rb") as stored, decompressed(stored, file.compression) as content:
        if not content.peek(1) and not file.is_named:
            return Looked(file, digest, _SCHEMA.empty_table(), True, ["is empty, and skipped"])
        if file.format == "csv":
            names, rows = csv_records.header(text(content))
            notes = headers.judge(names, dimension, ignore_unknown=ignore_unknown)
            collected.add(csv_records.read(names, rows))
        elif file.format == "parquet":
            columns = parquet_records.opened(content, is_seekable=not file.compression)
            notes = headers.judge(columns.schema_arrow.names, dimension, ignore_unknown=ignore_unknown)
            collected.add(parquet_records.read(columns, collected.names.is_text))
        else:
            collected.add(
                json_records.read(text(content), collected.names.is_text, is_lines=file.format == "json lines")
            )
            names = list(collected.names)
            notes = headers.judge(names, dimension, ignore_unknown=ignore_unknown) if names else []
    if not collected.count:
        notes.append("holds no records")
    return Looked(file, digest, collected.table(), collected.is_dated or not collected.readable, notes)


class _Collected:
    """Records as Arrow has them; `names` maps the names they have to those that the change log keeps."""

    def __init__(self, names: headers.Names) -> None:
        self.names = names
        self.count = 0
        self.readable = 0
        self.is_dated = False
        self._batches: list[pa.RecordBatch] = []

    def add(self, records: Iterable[Record]) -> None:
        batch: list[Record] = []
        size = 0
        for record in records:
            batch.append(record)
            size += len(record.payload)
            if len(batch) == _ROWS or size > _BYTES:
                self._add(batch)
                batch, size = [], 0
        self._add(batch)

    def table(self) -> pa.Table:
        return pa.Table.from_batches(self._batches, _SCHEMA)

    def _add(self, batch: Sequence[Record]) -> None:
        keys: list[str] = []
        values: list[str | None] = []
        begins: list[int | None] = []
        names: Sequence[str] | None = None
        kept: list[str] = []
        for record in batch:
            if record.names is None:
                begins.append(None)
                continue
            if record.names is not names:
                names = record.names
                kept = [self.names[name] for name in names]
            begins.append(len(keys))
            keys.extend(kept)
            values.extend(record.values)
            self.readable += 1
        if not self.is_dated:
            dates = (value for key, value in zip(keys, values, strict=True) if key == "effective_date")
            self.is_dated = any(value and value.strip().lower() not in _NO_DATES for value in dates)
        offsets = pa.array([*begins, len(keys)], pa.int32())
        columns = [
            pa.MapArray.from_arrays(offsets, pa.array(keys, pa.string()), pa.array(values, pa.string())),
            pa.array([record.payload for record in batch], pa.string()),
            pa.array([record.raw for record in batch], pa.binary()),
            pa.array(range(self.count + 1, self.count + len(batch) + 1), pa.int64()),
        ]
        self._batches.append(pa.RecordBatch.from_arrays(columns, schema=_SCHEMA))
        self.count += len(batch)
