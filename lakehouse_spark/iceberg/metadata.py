"""Tables as their metadata files say, without Spark and without PyIceberg's models: to import these takes a second, and
to make them of a thousand snapshots per table another, which is too long for what is asked all the time."""

import gzip
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from pyiceberg.io import FileIO

from lakehouse_spark.errors import UsageError
from lakehouse_spark.iceberg import embedded, live_files
from lakehouse_spark.iceberg.embedded import LocalFiles
from lakehouse_spark.iceberg.live_files import LiveFile, Manifest
from lakehouse_spark.lake.cursor import CURSOR, Cursor, from_json
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.schema.ddl import NAMESPACES
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import Table

_GZIP = b"\x1f\x8b"
_AT_ONCE = 16
_REFS_ONLY = {"snapshot-loading-mode": "refs"}
"""What a REST catalog is to tell of snapshots: all of them are in the file."""


@dataclass(frozen=True, eq=False)
class Metadata:
    """One table at one moment: the JSON of its metadata file, and `io`, by which the files that it names are read."""

    table: Table
    said: Mapping[str, Any]
    io: FileIO

    @property
    def snapshots(self) -> Sequence[Mapping[str, Any]]:
        return self.said.get("snapshots") or ()

    @cached_property
    def head(self) -> Mapping[str, Any] | None:
        """The current snapshot; None of a table without any."""
        return self._by_id.get(self.said.get("current-snapshot-id"))

    @cached_property
    def _by_id(self) -> Mapping[int | None, Mapping[str, Any]]:
        return {snapshot["snapshot-id"]: snapshot for snapshot in self.snapshots}

    def at(self, snapshot_id: int | None) -> "Metadata | None":
        """The table as it was at a snapshot; None where that is not known any more."""
        if snapshot_id not in self._by_id:
            return None
        return replace(self, said={**self.said, "current-snapshot-id": snapshot_id})

    def known_at(self, moment: datetime) -> "Metadata":
        """The table as who read it at a moment saw it, columns and all; raises UsageError where that is not known."""
        log = ((entry["timestamp-ms"], entry["snapshot-id"]) for entry in self.said.get("snapshot-log") or ())
        snapshot = self._by_id[current_at(self.table.name, log, moment)]
        schema = snapshot.get("schema-id", self.schema_id)
        return replace(
            self, said={**self.said, "current-snapshot-id": snapshot["snapshot-id"], "current-schema-id": schema}
        )

    def history(self) -> Iterator[Mapping[str, Any]]:
        """The current snapshot and its ancestors as far as they are known, newest first."""
        snapshot = self.head
        while snapshot is not None:
            yield snapshot
            snapshot = self._by_id.get(snapshot.get("parent-snapshot-id"))

    def total(self, counted: str) -> int:
        """What the current snapshot's summary says of records, data-files, files-size or delete-files in all."""
        summary = self.head["summary"] if self.head else {}
        return int(summary.get(f"total-{counted}") or 0)

    @cached_property
    def cursor(self) -> Cursor | None:
        """The newest cursor that survives."""
        written = (snapshot["summary"].get(CURSOR) for snapshot in self.history())
        return next((from_json(found) for found in written if found is not None), None)

    def commit_at(self, stamp: datetime) -> Mapping[str, Any] | None:
        """The newest snapshot with a cursor that was stamped no later; None where there is none any more."""
        written = [snapshot for snapshot in reversed([*self.history()]) if CURSOR in snapshot["summary"]]
        before = bisect_right(written, stamp, key=lambda each: from_json(each["summary"][CURSOR]).stamp)
        return written[before - 1] if before else None

    @cached_property
    def state(self) -> State | None:
        """The table as `snapshots.state` tells it; None without a snapshot.

        Where the cursor is lost, the stamp is the latest that a file may hold.
        """
        if self.head is None:
            return None
        if self.cursor is not None:
            return State(self.head["snapshot-id"], self.cursor, self.cursor.stamp)
        stamps = (file.newest(self.stamp_id) for file in self.data_files) if self.table.stamp else ()
        stamp = max((stamp for stamp in stamps if stamp is not None), default=None)
        return State(self.head["snapshot-id"], None, stamp)

    @property
    def schema_id(self) -> int:
        """Iceberg's number of the current schema, another one after every change."""
        return int(self.said["current-schema-id"])

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """The current one."""
        schemas: Iterable[Mapping[str, Any]] = self.said["schemas"]
        return next(schema for schema in schemas if schema["schema-id"] == self.schema_id)

    @property
    def columns(self) -> Sequence[Mapping[str, Any]]:
        """The columns of the current schema."""
        fields: Sequence[Mapping[str, Any]] = self.schema["fields"]
        return fields

    @cached_property
    def column_ids(self) -> Mapping[str, int]:
        """By name, the ids of these columns."""
        return {column["name"]: column["id"] for column in self.columns}

    @property
    def stamp_id(self) -> int:
        return self.column_ids[str(self.table.stamp)]

    def partition_values(self, file: LiveFile) -> Mapping[tuple[int, str], object]:
        """What all rows of a file have in common, by the id of the column and Iceberg's name of the transform."""
        terms = zip(self._specs[file.spec], file.partition, strict=True)
        return {(term["source-id"], term["transform"]): value for term, value in terms}

    def partition_value(self, file: LiveFile, column: str) -> object:
        """What a file's rows all have in a column by whose identity the table is partitioned."""
        return self.partition_values(file)[self.column_ids[column], "identity"]

    @cached_property
    def manifests(self) -> tuple[Manifest, ...]:
        """Those of the current snapshot."""
        return tuple(live_files.manifests(self.io, self.head["manifest-list"])) if self.head else ()

    def files_in(self, manifests: Iterable[Manifest]) -> Iterator[LiveFile]:
        """The live files of some of the manifests."""
        return live_files.read(self.io, manifests, {spec: len(terms) for spec, terms in self._specs.items()})

    @cached_property
    def data_files(self) -> tuple[LiveFile, ...]:
        return tuple(file for file in self.files_in(m for m in self.manifests if m.is_of_data))

    @cached_property
    def delete_files(self) -> tuple[LiveFile, ...]:
        return tuple(file for file in self.files_in(m for m in self.manifests if not m.is_of_data))

    @cached_property
    def _specs(self) -> Mapping[int, Sequence[Mapping[str, Any]]]:
        return {spec["spec-id"]: spec["fields"] for spec in self.said["partition-specs"]}


def current_at(table: str, log: Iterable[tuple[int, int]], moment: datetime) -> int:
    """The snapshot that was current at a moment, by the `log` of when (ms since the epoch) which one became current.

    Expiry takes entries out of it from its beginning; raises UsageError for a moment before the first that is left.
    """
    became = sorted(log, key=lambda entry: entry[0])
    before = bisect_right(became, int(moment.timestamp() * 1000), key=lambda entry: entry[0])
    if before:
        return became[before - 1][1]
    what = f"{table} is not known as it was at {moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if not became:
        raise UsageError(what, "it has no snapshot")
    since = datetime.fromtimestamp(became[0][0] / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    raise UsageError(what, f"it is from {since[:-6]} UTC on; what was before has expired, or it was made then")


def read(settings: Settings, tables: Sequence[Table]) -> dict[str, Metadata]:
    """Those of the tables that are there, by name; raises MissingError where no lakehouse is, and makes no file."""
    places = dict(_places(settings, tables))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        contents = pool.map(lambda place: content(*place), places.values())
        return {
            table.name: Metadata(table, json.loads(said), io)
            for (table, (io, _)), said in zip(places.items(), contents, strict=True)
        }


def of(settings: Settings, table: Table) -> Metadata:
    """One table; raises MissingError where it is missing."""
    return those(settings, [table])[table.name]


def those(settings: Settings, tables: Sequence[Table]) -> dict[str, Metadata]:
    """The tables, by name; raises MissingError where one is missing."""
    found = read(settings, tables)
    for table in tables:
        if table.name not in found:
            raise embedded.MissingError(f"{table.name} is missing: {embedded.NOT_THERE}")
    return found


def _places(settings: Settings, tables: Sequence[Table]) -> Iterator[tuple[Table, tuple[FileIO, str]]]:
    """Where the metadata files of the tables are, as far as these are there."""
    if settings.catalog.type == "jdbc":
        known = embedded.locations(settings)
        io = _file_io(settings)
        yield from ((table, (io, known[table.name])) for table in tables if table.name in known)
        return
    from pyiceberg.exceptions import NoSuchTableError

    from lakehouse_spark.iceberg import pyiceberg

    catalog = pyiceberg.open_catalog(settings, _REFS_ONLY)
    for table in tables:
        with suppress(NoSuchTableError):
            found = catalog.load_table(tuple(table.name.split(".")))
            yield table, (found.io, found.metadata_location)


def places(settings: Settings) -> dict[str, tuple[FileIO, str]]:
    """Where the metadata file of every table of our namespaces is, declared or not, with what reads it.

    Raises MissingError where no lakehouse is, and makes no file.
    """
    if settings.catalog.type == "jdbc":
        io = _file_io(settings)
        known = embedded.locations(settings)
        return {name: (io, known[name]) for name in known if name.partition(".")[0] in NAMESPACES}
    from pyiceberg.exceptions import NoSuchTableError

    from lakehouse_spark.iceberg import pyiceberg

    catalog = pyiceberg.open_catalog(settings, _REFS_ONLY)

    def place(identifier: tuple[str, ...]) -> tuple[FileIO, str] | None:
        with suppress(NoSuchTableError):  # dropped since it was listed
            table = catalog.load_table(identifier)
            return table.io, table.metadata_location
        return None

    there = (namespace for namespace in NAMESPACES if catalog.namespace_exists(namespace))
    listed = [identifier for namespace in there for identifier in catalog.list_tables(namespace)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = zip(listed, pool.map(place, listed), strict=True)
        return {".".join(identifier): place for identifier, place in found if place is not None}


def _file_io(settings: Settings) -> FileIO:
    if settings.warehouse.startswith(("file:", "/")):
        return LocalFiles()
    from lakehouse_spark.iceberg import pyiceberg

    return pyiceberg.file_io(settings)


def content(io: FileIO, location: str) -> bytes:
    """The text of a metadata file, be it compressed or not."""
    with io.new_input(location).open() as stream:
        read = stream.read()
    return gzip.decompress(read) if read.startswith(_GZIP) else read
