"""What of a lakehouse is to be moved: its tables as of one moment, and all files that their snapshots lead to."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from pyiceberg.io import FileIO

from lakehouse_spark.errors import LakehouseError, RefusedError, in_a_sentence
from lakehouse_spark.iceberg import avro, metadata
from lakehouse_spark.iceberg.embedded import NOT_THERE, MissingError
from lakehouse_spark.move.files import gone
from lakehouse_spark.move.relocation import POSITION_DELETES
from lakehouse_spark.settings import Settings

AT_ONCE = 8
"""Files that are copied at once, or tables looked at."""
_MANIFEST: tuple[avro.Path, ...] = ((500,),)
_ENTRY: tuple[avro.Path, ...] = ((0,), (2, 134), (2, 100), (2, 101), (2, 104))
"""Of an entry of a manifest: status; of its file: content, file_path, file_format, file_size_in_bytes."""
_DELETED = 2
_LOOKS = 50
"""At all tables, until nothing was committed from one to the next."""

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class File:
    """A file that a snapshot leads to."""

    table: str
    path: str
    size: int
    names_files: bool
    """Whether it is one of position deletes, and so cannot be copied as it is."""


@dataclass(frozen=True)
class Contents:
    """Where the files of a table are: of all its snapshots, each one once."""

    lists: tuple[str, ...]
    manifests: tuple[str, ...]
    files: tuple[File, ...]


@dataclass(frozen=True, eq=False)
class Held:
    """A table as it was when it was looked at."""

    name: str
    location: str
    """Of its metadata file."""
    said: Mapping[str, Any]
    io: FileIO

    @property
    def file_name(self) -> str:
        """Of its metadata file, which it keeps wherever the table goes."""
        return self.location.rpartition("/")[2]

    @property
    def uuid(self) -> str:
        return str(self.said["table-uuid"])

    @property
    def changed(self) -> int:
        """When it was last committed to, in milliseconds since the epoch."""
        return int(self.said["last-updated-ms"])

    @property
    def place(self) -> str:
        """The folder that the table's files are in."""
        return str(self.said["location"]).rstrip("/")

    @property
    def snapshots(self) -> list[Mapping[str, Any]]:
        return self.said.get("snapshots") or []

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was committed since it was registered: that would have left its metadata file behind."""
        return not self.said.get("metadata-log")

    @cached_property
    def contents(self) -> Contents:
        """Raises RefusedError for what cannot be moved, LakehouseError where a file is gone or not whole."""
        try:
            return self._contents()
        except LakehouseError:
            raise
        except FileNotFoundError as error:
            raise gone(error) from error
        except Exception as error:
            raise LakehouseError(f"{self.name}: its metadata cannot be read: {in_a_sentence(error)}") from error

    def _contents(self) -> Contents:
        lists = tuple(dict.fromkeys(snapshot["manifest-list"] for snapshot in self.snapshots))
        manifests = tuple(dict.fromkeys(path for (path,) in self._records(lists, _MANIFEST)))
        files = {file.path: file for file in self._live(manifests)}
        for many in ("statistics", "partition-statistics"):
            for each in self.said.get(many) or ():
                path = each["statistics-path"]
                files[path] = File(self.name, path, each["file-size-in-bytes"], names_files=False)
        return Contents(lists, manifests, tuple(files.values()))

    def _live(self, manifests: tuple[str, ...]) -> Iterator[File]:
        for status, content, path, kind, size in self._records(manifests, _ENTRY):
            if status == _DELETED:
                continue
            names_files = content == POSITION_DELETES
            if names_files and kind.upper() != "PARQUET":
                raise RefusedError(
                    f"{self.name}: deletes in a file of {kind} cannot be moved, such as {path}",
                    "Rewrite the table's files first: lakehouse run compaction",
                )
            yield File(self.name, path, size, names_files)

    def _records(self, locations: tuple[str, ...], paths: tuple[avro.Path, ...]) -> Iterator[tuple[Any, ...]]:
        for each in avro.fetched(self.io, locations):
            yield from avro.records(*each, *paths)


def read(settings: Settings) -> dict[str, Held]:
    """All tables of our namespaces, by name, as they were at one moment.

    A REST catalog tells of one table at a time. Where two looks at all of them find the same, that was what there was
    between these. Raises MissingError where there is no table, and makes no file; RefusedError where no two looks do.
    """
    places = metadata.places(settings)
    if not places:
        raise MissingError(NOT_THERE)
    for _ in range(_LOOKS):
        before, places = places, metadata.places(settings)
        if _locations(before) == _locations(places):
            return of(places)
    raise RefusedError("tables are committed to all the time", "Stop some of what writes, then run it again")


def _locations(places: Mapping[str, tuple[FileIO, str]]) -> dict[str, str]:
    return {name: location for name, (_, location) in places.items()}


def of(places: Mapping[str, tuple[FileIO, str]]) -> dict[str, Held]:
    """The tables whose metadata files are there."""

    def held(place: tuple[str, tuple[FileIO, str]]) -> Held:
        name, (io, location) = place
        return Held(name, location, json.loads(metadata.content(io, location)), io)

    return {table.name: table for table in side_by_side(held, places.items())}


def side_by_side(work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """The results in the order of the tasks; what is not begun behind an error is not done."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield from pool.map(work, tasks)
    finally:
        pool.shutdown(cancel_futures=True)
