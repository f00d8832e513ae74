"""What a table's metadata says of its snapshots, manifests and files; no file of data is opened."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record

from lakehouse_spark.iceberg.live_files import EPOCH, LiveFile
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.lake.cursor import CURSOR

Term = tuple[str, str, object]
"""A field of a partition: its transform as Iceberg spells it (day, bucket[16]), its column, its value."""

_FOR_EVER = timedelta(days=36_500) // timedelta(milliseconds=1)
"""What is to be kept for longer is kept for ever."""

PartitionKey = tuple[int, tuple[object, ...]]
"""The id of a partition spec, and a value for each of its fields."""


@dataclass(frozen=True)
class Snapshot:
    """One of the table's snapshots, whatever branch it is on."""

    id: int
    parent: int | None
    sequence: int
    at: datetime
    is_compaction: bool
    has_cursor: bool


@dataclass(frozen=True)
class Ref:
    """A branch or a tag beside `main`."""

    name: str
    snapshot: int
    is_tag: bool = False
    max_age: timedelta | None = None
    """How long after its snapshot was made it is kept (None: for ever)."""


@dataclass(frozen=True)
class File:
    """A data file that is live in the current snapshot."""

    path: str
    bytes: int
    records: int
    sequence: int
    """That of the commit which added it."""
    oldest_stamp: datetime | None = None
    newest_stamp: datetime | None = None


@dataclass(frozen=True)
class Partition:
    """The live files that share the values of the partition fields; those of an unpartitioned table."""

    key: PartitionKey
    name: str
    """As Iceberg spells it: trade_timestamp_day=2025-01-31/symbol_bucket=7; '' where the table has no partitions."""
    files: tuple[File, ...]
    deletes: int = 0
    """How many delete files are of this partition."""
    delete_sequence: int = 0
    """That of the newest commit with a delete file."""
    terms: tuple[Term, ...] = ()
    """What the values are of, field by field."""
    day: date | None = None
    """The day it holds, where the table is partitioned by days and it is not the partition of rows without one."""

    @cached_property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def sequence(self) -> int:
        """That of the newest commit which added to it."""
        return max(self.delete_sequence, max((file.sequence for file in self.files), default=0))


@dataclass(frozen=True)
class Health:
    """One table's metadata at one moment."""

    table: str
    snapshot: int | None
    snapshots: tuple[Snapshot, ...] = ()
    """Oldest first."""
    refs: tuple[Ref, ...] = ()
    cursor: str | None = None
    """The newest one of the history, as its snapshot's summary holds it."""
    manifests: int = 0
    manifest_bytes: int = 0
    manifest_target_bytes: int = 8 * 1024 * 1024
    spec: int = 0
    """The id of the partition spec by which files are written now."""
    partitions: tuple[Partition, ...] = field(default=(), repr=False)

    @cached_property
    def by_id(self) -> Mapping[int, Snapshot]:
        return {snapshot.id: snapshot for snapshot in self.snapshots}

    @cached_property
    def history(self) -> tuple[Snapshot, ...]:
        """The current snapshot's line of ancestors as far as it is known, oldest first."""
        return tuple(reversed(list(self.line(self.snapshot))))

    @cached_property
    def ids(self) -> frozenset[int]:
        """Of the snapshots of the history."""
        return frozenset(snapshot.id for snapshot in self.history)

    @cached_property
    def followed(self) -> Mapping[int, datetime]:
        """When a snapshot of the history was followed by another, by its id; the current one is missing."""
        return {one.id: other.at for one, other in pairwise(self.history)}

    def line(self, snapshot: int | None) -> Iterator[Snapshot]:
        """A snapshot and its ancestors as far as they are known."""
        while snapshot is not None and snapshot in self.by_id:
            found = self.by_id[snapshot]
            yield found
            snapshot = found.parent

    @cached_property
    def committed(self) -> Mapping[int, Snapshot]:
        """The snapshots of the history by their sequence numbers."""
        return {snapshot.sequence: snapshot for snapshot in self.history}

    @property
    def files(self) -> int:
        """How many there are, of data and of deletes."""
        return sum(len(partition.files) + partition.deletes for partition in self.partitions)

    @property
    def rows(self) -> int:
        """How many were written; those that were deleted since count too."""
        return sum(file.records for partition in self.partitions for file in partition.files)

    @property
    def bytes(self) -> int:
        return sum(partition.bytes for partition in self.partitions)


def read(of: Metadata, *, with_files: bool = True) -> Health:
    """The health of a table as it was read; without its files it has no partitions, and takes no longer for many."""
    found = _Partitions(of)
    found.add(of.files_in(of.manifests if with_files else ()))
    snapshots = sorted(map(_snapshot, of.snapshots), key=lambda each: (each.sequence, each.at))
    properties = of.said.get("properties") or {}
    return Health(
        table=of.table.name,
        snapshot=of.head["snapshot-id"] if of.head else None,
        snapshots=tuple(snapshots),
        refs=tuple(
            Ref(name, ref["snapshot-id"], ref["type"] == "tag", _max_age(ref))
            for name, ref in sorted((of.said.get("refs") or {}).items())
            if name != "main"
        ),
        cursor=next((text for text in map(_cursor, of.history()) if text is not None), None),
        manifests=len(of.manifests),
        manifest_bytes=sum(manifest.size for manifest in of.manifests),
        manifest_target_bytes=int(properties.get("commit.manifest.target-size-bytes", 8 * 1024 * 1024)),
        spec=of.said["default-spec-id"],
        partitions=found.partitions(),
    )


def _max_age(ref: Mapping[str, Any]) -> timedelta | None:
    limit = ref.get("max-ref-age-ms")
    return None if limit is None or limit > _FOR_EVER else timedelta(milliseconds=limit)


class _Partitions:
    """Files by partition, as they are read."""

    def __init__(self, of: Metadata) -> None:
        self.schema = Schema.model_validate(of.schema)
        self.specs = {spec["spec-id"]: PartitionSpec.model_validate(spec) for spec in of.said["partition-specs"]}
        self.stamp = of.stamp_id if of.table.stamp else None
        self.files: dict[PartitionKey, list[File]] = {}
        self.deletes: dict[PartitionKey, list[int]] = {}

    def add(self, live: Iterable[LiveFile]) -> None:
        for each in live:
            key = (each.spec, each.partition)
            if each.is_data:
                stamps = (None, None) if self.stamp is None else (each.oldest(self.stamp), each.newest(self.stamp))
                file = File(each.path, each.size, each.records, each.sequence, *stamps)
                self.files.setdefault(key, []).append(file)
            else:
                self.deletes.setdefault(key, []).append(each.sequence)

    def partitions(self) -> tuple[Partition, ...]:
        keys = sorted({*self.files, *self.deletes}, key=repr)
        return tuple(self._partition(key) for key in keys)

    def _partition(self, key: PartitionKey) -> Partition:
        spec, values = self.specs[key[0]], key[1]
        of_days = (value for part, value in zip(spec.fields, values, strict=True) if str(part.transform) == "day")
        day = next((EPOCH + timedelta(days=value) for value in of_days if isinstance(value, int)), None)
        name = spec.partition_to_path(Record(*values), self.schema)
        deletes = self.deletes.get(key, [])
        files = tuple(sorted(self.files.get(key, []), key=lambda file: (file.sequence, file.path)))
        terms = tuple(
            (str(part.transform), self.schema.find_column_name(part.source_id) or part.name, value)
            for part, value in zip(spec.fields, values, strict=True)
        )
        return Partition(key, name, files, len(deletes), max(deletes, default=0), terms, day)


def _snapshot(said: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        id=said["snapshot-id"],
        parent=said.get("parent-snapshot-id"),
        sequence=said.get("sequence-number") or 0,
        at=_instant(said["timestamp-ms"]),
        is_compaction=(said.get("summary") or {}).get("operation") == "replace",
        has_cursor=_cursor(said) is not None,
    )


def _cursor(said: Mapping[str, Any]) -> str | None:
    found: str | None = (said.get("summary") or {}).get(CURSOR)
    return found


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
