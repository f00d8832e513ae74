"""Whether tables in their new place are what they were: the same snapshots of the same files, by what is read there.

Files of rows are compared as they are copied (see `files`). What stands between them and the catalog was written anew;
it is read here by other code than that which wrote it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse_spark.errors import LakehouseError, in_a_sentence
from lakehouse_spark.iceberg import avro
from lakehouse_spark.move import files, relocation
from lakehouse_spark.move.relocation import FILE_PATH, POSITION_DELETES, Relocation
from lakehouse_spark.move.source import Held, side_by_side
from lakehouse_spark.move.target import Place

_SAME = (
    "table-uuid", "format-version", "last-sequence-number", "current-snapshot-id", "refs", "snapshot-log",
    "current-schema-id", "schemas", "default-spec-id", "partition-specs", "default-sort-order-id", "sort-orders",
)  # fmt: skip
"""What a table says of itself, wherever it is."""
_MANIFEST: tuple[avro.Path, ...] = ((500,), (501,), (502,), (517,), (515,), (516,), (503,), (512,), (513,), (514,))
"""Of a manifest: its path and length, partition spec, content, sequence numbers, snapshot, rows added, existing and
deleted."""
_ENTRY: tuple[avro.Path, ...] = (
    (2, 100), (2, 104), (2, 134), (2, 143), (2, 125), (2, 128), (0,), (1,), (3,), (4,), (2, 101), (2, 102), (2, 103),
    (2, 109), (2, 110), (2, 140), (2, 135),
)  # fmt: skip
"""Of a file: its path, size, content, the file that it deletes from, and bounds; the entry's status, snapshot and
sequence numbers; the file's format, partition, records, counts of values and of nulls, order, and the columns that it
deletes by."""

Record = tuple[Any, ...]
Move = Callable[[str], str]


def compare(tables: Mapping[str, Held], found: Mapping[str, Held], places: Mapping[str, Place]) -> None:
    """Raises LakehouseError for the first table that is not what it was."""

    def differs(name: str) -> str | None:
        there = found.get(name)
        if there is None:
            return f"{name} is missing in the target"
        try:
            return next(_differences(tables[name], there, Relocation(tables[name].place, places[name].location)), None)
        except Exception as error:
            raise LakehouseError(f"{name} cannot be read in the target: {in_a_sentence(error)}") from error

    for difference in side_by_side(differs, tables):
        if difference:
            raise LakehouseError(
                f"the target does not hold what was moved: {difference}", "Use the source still, and report this"
            )


def _differences(here: Held, there: Held, move: Relocation) -> Iterator[str]:
    for name in _SAME:
        if here.said.get(name) != there.said.get(name):
            yield f"{here.name}: {name} is {there.said.get(name)}, not {here.said.get(name)}"
    if not relocation.kept_properties(here.said).items() <= there.said.get("properties", {}).items():
        yield f"{here.name}: its properties are others"
    if [*map(_plain, here.snapshots)] != [*map(_plain, there.snapshots)]:
        yield f"{here.name}: its snapshots are others"
    lengths: dict[str, int] = {}

    def manifests_differ(pair: tuple[str, str]) -> bool:
        before, after = files.read(here.io, pair[0]), files.read(there.io, pair[1])
        lengths[pair[1]] = len(after)
        return _of_files(pair[0], before, move) != _of_files(pair[1], after, _stays)

    def lists_differ(pair: tuple[str, str]) -> bool:
        before, after = files.read(here.io, pair[0]), files.read(there.io, pair[1])
        if any(lengths[path] != length for path, length in avro.records(pair[1], after, *_MANIFEST[:2])):
            return True
        return _of_manifests(pair[0], before, move) != _of_manifests(pair[1], after, _stays)

    for differ, before, after in (
        (manifests_differ, here.contents.manifests, there.contents.manifests),
        (lists_differ, here.contents.lists, there.contents.lists),
    ):
        pairs = list(zip(before, after, strict=True))
        for (path, moved), differs in zip(pairs, side_by_side(differ, pairs), strict=True):
            if differs:
                yield f"{here.name}: {moved} does not say what {path} does"
    yield from _deletes_differ(here, there, move)


def _plain(snapshot: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in snapshot.items() if name != "manifest-list"}


def _of_manifests(path: str, content: bytes, move: Move) -> list[Record]:
    """What a list says of manifests, but for their lengths."""
    return [(move(manifest), *rest) for manifest, _, *rest in avro.records(path, content, *_MANIFEST)]


def _of_files(path: str, content: bytes, move: Move) -> list[Record]:
    """What a manifest says of files; of those that name others, what does not follow from the names."""

    def said(entry: Record) -> Record:
        file, size, kind, of, lower, upper, *rest = entry
        if kind == POSITION_DELETES:
            size, lower, upper = None, _without_path(lower), _without_path(upper)
        return (move(file), size, kind, move(of) if of else of, lower, upper, *rest)

    return [said(entry) for entry in avro.records(path, content, *_ENTRY)]


def _without_path(bounds: Mapping[int, bytes] | None) -> Mapping[int, bytes]:
    return {column: bound for column, bound in (bounds or {}).items() if column != FILE_PATH}


def _deletes_differ(here: Held, there: Held, move: Move) -> Iterator[str]:
    found = {file.path: file for file in there.contents.files}
    for file in here.contents.files:
        if not file.names_files:
            continue
        moved = found[move(file.path)]
        content = files.read(there.io, moved.path)
        if len(content) != moved.size:
            yield f"{here.name}: {moved.path} has {len(content):,} bytes, not {moved.size:,}"
        if _deletes(files.read(here.io, file.path), move) != _deletes(content, _stays):
            yield f"{here.name}: {moved.path} deletes other rows than {file.path}"


def _deletes(content: bytes, move: Move) -> list[tuple[str, int]]:
    """From which files which rows are deleted."""
    read = pq.ParquetFile(pa.BufferReader(content)).read(["file_path", "pos"])
    rows = zip(read["file_path"].to_pylist(), read["pos"].to_pylist(), strict=True)
    return sorted((move(path), position) for path, position in rows)


def _stays(path: str) -> str:
    return path
