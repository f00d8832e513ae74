"""What a table's metadata says of its snapshots, manifests and files; no file of data is opened."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import pairwise

from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot
from pyiceberg.transforms import DayTransform
from pyiceberg.typedef import Record

from lakehouse_spark.iceberg import live_files
from lakehouse_spark.iceberg.live_files import EPOCH, LiveFile
from lakehouse_spark.lake.cursor import CURSOR
from lakehouse_spark.table import Table

Term = tuple[str, str, object]
"""A field of a partition: its transform as Iceberg spells it (day, bucket[16]), its column, its value."""

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


def read(iceberg: IcebergTable, table: Table, *, with_files: bool = True) -> Health:
    """The health of a table as it was loaded; without its files it has no partitions, and takes no longer for many."""
    metadata = iceberg.metadata
    current = iceberg.current_snapshot()
    manifests = live_files.manifests(iceberg.io, current.manifest_list) if current is not None else []
    found = _Partitions(iceberg, table)
    found.add(live_files.read(iceberg.io, manifests if with_files else (), found.width))
    snapshots = sorted(map(_snapshot, metadata.snapshots), key=lambda each: (each.sequence, each.at))
    read = Health(table.name, metadata.current_snapshot_id, tuple(snapshots))
    newest = next((snapshot.id for snapshot in reversed(read.history) if snapshot.has_cursor), None)
    return replace(
        read,
        refs=tuple(
            Ref(name, ref.snapshot_id, ref.snapshot_ref_type == SnapshotRefType.TAG)
            for name, ref in sorted(metadata.refs.items())
            if name != "main"
        ),
        cursor=None if newest is None else _cursor(metadata.snapshot_by_id(newest)),
        manifests=len(manifests),
        manifest_bytes=sum(manifest.size for manifest in manifests),
        manifest_target_bytes=int(metadata.properties.get("commit.manifest.target-size-bytes", 8 * 1024 * 1024)),
        spec=metadata.default_spec_id,
        partitions=found.partitions(),
    )


class _Partitions:
    """Files by partition, as they are read."""

    def __init__(self, iceberg: IcebergTable, table: Table) -> None:
        self.schema = iceberg.schema()
        self.stamp = self.schema.find_field(table.stamp).field_id if table.stamp else None
        self.specs = {spec.spec_id: spec for spec in iceberg.metadata.partition_specs}
        self.files: dict[PartitionKey, list[File]] = {}
        self.deletes: dict[PartitionKey, list[int]] = {}

    @property
    def width(self) -> Mapping[int, int]:
        """By partition spec, how many fields it has."""
        return {spec: len(of.fields) for spec, of in self.specs.items()}

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
        of_days = (value for part, value in zip(spec.fields, values, strict=True) if part.transform == DayTransform())
        day = next((EPOCH + timedelta(days=value) for value in of_days if isinstance(value, int)), None)
        name = spec.partition_to_path(Record(*values), self.schema)
        deletes = self.deletes.get(key, [])
        files = tuple(sorted(self.files.get(key, []), key=lambda file: (file.sequence, file.path)))
        terms = tuple(
            (str(part.transform), self.schema.find_column_name(part.source_id) or part.name, value)
            for part, value in zip(spec.fields, values, strict=True)
        )
        return Partition(key, name, files, len(deletes), max(deletes, default=0), terms, day)


def _snapshot(found: IcebergSnapshot) -> Snapshot:
    return Snapshot(
        id=found.snapshot_id,
        parent=found.parent_snapshot_id,
        sequence=int(found.sequence_number or 0),
        at=_instant(found.timestamp_ms),
        is_compaction=found.summary is not None and found.summary.operation == Operation.REPLACE,
        has_cursor=_cursor(found) is not None,
    )


def _cursor(found: IcebergSnapshot | None) -> str | None:
    return None if found is None or found.summary is None else found.summary.additional_properties.get(CURSOR)


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
