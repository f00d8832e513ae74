"""The files that are live in a snapshot, as its manifests say; no file of data is opened."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from pyiceberg.io import FileIO

from lakehouse_spark.iceberg import avro

_MANIFEST: tuple[avro.Path, ...] = ((500,), (501,), (502,), (517,), (515,))
"""Of an entry of a manifest list: manifest_path, manifest_length, partition_spec_id, content, sequence_number."""
_ENTRY: tuple[avro.Path, ...] = (
    (0,), (4,), (2, 134), (2, 102), (2, 100), (2, 104), (2, 103), (2, 125), (2, 128), (2, 143),
)  # fmt: skip
"""Of an entry of a manifest: status, file_sequence_number; of its file: content, partition, file_path,
file_size_in_bytes, record_count, lower_bounds, upper_bounds, referenced_data_file."""
_PATH_OF_DELETED = 2147483546
"""The id of the column `file_path` in files of position deletes."""
_ADDED, _DELETED = 1, 2
_DATA, _POSITION_DELETES = 0, 1
EPOCH = date(1970, 1, 1)
"""The day from which Iceberg counts days."""
_FIRST_INSTANT = datetime(1970, 1, 1, tzinfo=UTC)


class Manifest(NamedTuple):
    """A manifest of a snapshot; `is_of_data` False: its files are of deletes."""

    path: str
    size: int
    spec: int
    is_of_data: bool
    sequence: int


class LiveFile(NamedTuple):
    """A file of data or of deletes, with the values of its partition spec's fields."""

    path: str
    size: int
    records: int
    sequence: int
    """That of the commit which added it."""
    spec: int
    partition: tuple[object, ...]
    lower: Mapping[int, bytes]
    """By column id, a value that none in the file is less than."""
    upper: Mapping[int, bytes]
    is_data: bool
    deletes_from: str | None
    """Of position deletes in one data file: which. None: of data, or of deletes that may be of several."""

    def oldest(self, column: int) -> datetime | None:
        """The earliest instant of a column; None where the file says nothing of it."""
        return _instant(self.lower.get(column))

    def newest(self, column: int) -> datetime | None:
        """The latest instant of a column; None where the file says nothing of it."""
        return _instant(self.upper.get(column))


def manifests(io: FileIO, manifest_list: str) -> list[Manifest]:
    """The manifests of a snapshot."""
    ((location, content),) = avro.fetched(io, [manifest_list])
    found = avro.records(location, content, *_MANIFEST)
    return [Manifest(path, size, spec, not deletes, sequence or 0) for path, size, spec, deletes, sequence in found]


def read(io: FileIO, among: Iterable[Manifest], width: Mapping[int, int]) -> Iterator[LiveFile]:
    """The live files of these manifests; `width` by partition spec is how many fields it has."""
    chosen = list(among)
    contents = avro.fetched(io, [manifest.path for manifest in chosen])
    for manifest, (location, content) in zip(chosen, contents, strict=True):
        for entry in avro.records(location, content, *_ENTRY):
            if entry[0] != _DELETED:
                yield _file(manifest, entry, width[manifest.spec])


def _file(manifest: Manifest, entry: tuple[Any, ...], width: int) -> LiveFile:
    status, sequence, content, partition, path, size, records, lower, upper, referenced = entry
    if sequence is None:  # that of the commit which wrote the manifest, if it added the file
        sequence = manifest.sequence if status == _ADDED else 0
    is_data = manifest.is_of_data and content in (None, _DATA)
    lower, upper = lower or {}, upper or {}
    if referenced is None and content == _POSITION_DELETES and _PATH_OF_DELETED in lower:
        first, last = lower[_PATH_OF_DELETED], upper.get(_PATH_OF_DELETED)
        referenced = first.decode() if first == last else None
    values = tuple([partition[position] for position in range(width)])
    return LiveFile(path, size, records, sequence, manifest.spec, values, lower, upper, is_data, referenced)


def number(bound: bytes) -> int:
    """A bound of a column of whole numbers, of dates in days or of instants in microseconds."""
    return int.from_bytes(bound, "little", signed=True)


def _instant(bound: bytes | None) -> datetime | None:
    return None if bound is None else _FIRST_INSTANT + timedelta(microseconds=number(bound))
