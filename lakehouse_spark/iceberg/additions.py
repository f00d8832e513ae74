"""What a table has gained since one of its snapshots, as metadata tell: where rows may stand that were not there then.

Rows are where their files are, whatever stamps they carry: a commit by other means is seen like any other.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import takewhile

from lakehouse_spark.iceberg import live_files
from lakehouse_spark.iceberg.live_files import LiveFile, Manifest
from lakehouse_spark.iceberg.metadata import Metadata

_FIRST_DAY = date(1970, 1, 1)


@dataclass(frozen=True)
class Additions:
    """The data files that a snapshot has and the one before it had not, and the files of deletes that it has no more:
    rows that these deleted may be back."""

    of: Metadata
    files: Sequence[LiveFile]
    lifted: Sequence[LiveFile]
    is_append_only: bool
    """Whether no commit in between did anything but append: no row went."""

    def days(self, column: str) -> frozenset[date | None] | None:
        """The days of a column by which the table is partitioned, in which rows may have been gained; None among them
        is of rows without one. None: the files do not tell."""
        term = self.of.column_ids[column], "day"
        found = set[date | None]()
        for file in (*self.files, *self.lifted):
            values = self.of.partition_values(file)
            if term not in values:
                return None
            day = values[term]
            found.add(_FIRST_DAY + timedelta(days=day) if isinstance(day, int) else None)
        return frozenset(found)

    def range_of(self, column: str) -> tuple[int, int] | None:
        """The least and the greatest value that a gained row has in a column of longs, or of instants as microseconds;
        None: the files do not tell."""
        number = self.of.column_ids[column]
        bounds = [(file.lower.get(number), file.upper.get(number)) for file in self.files]
        if self.lifted or not bounds or any(low is None or high is None for low, high in bounds):
            return None
        values = [int.from_bytes(bound, "little", signed=True) for pair in bounds for bound in pair if bound]
        return min(values), max(values)


def since(of: Metadata, snapshot_id: int) -> Additions | None:
    """What was gained since that snapshot; None where it is no ancestor of today's, or is not known any more."""
    then = replace(of, said={**of.said, "current-snapshot-id": snapshot_id})
    between = list(takewhile(lambda each: each["snapshot-id"] != snapshot_id, of.history()))
    if then.head is None or (between and between[-1].get("parent-snapshot-id") != snapshot_id):
        return None
    known = then.head.get("sequence-number", 0)
    kept = {file.path for file in of.delete_files} if then.total("delete-files") else set[str]()
    return Additions(
        of,
        tuple(_later(of, (each for each in of.manifests if each.is_of_data), known)),
        tuple(file for file in then.delete_files if file.path not in kept) if then.total("delete-files") else (),
        all(each["summary"]["operation"] == "append" for each in between),
    )


def paths(of: Metadata, sequence: int) -> set[str]:
    """Of all snapshots that are known, the paths of the files that commits after this one wrote: data, deletes,
    manifests and lists of them."""
    later = [each for each in of.snapshots if each.get("sequence-number", 0) > sequence]
    lists = [each["manifest-list"] for each in later]
    found = {each.path: each for name in lists for each in live_files.manifests(of.io, name)}
    manifests = [each for each in found.values() if each.sequence > sequence]
    return {*lists, *(each.path for each in manifests), *(file.path for file in _later(of, manifests, sequence))}


def _later(of: Metadata, manifests: Iterable[Manifest], sequence: int) -> Iterator[LiveFile]:
    """The files in these manifests that commits after this one added."""
    return (f for f in of.files_in(m for m in manifests if m.sequence > sequence) if f.sequence > sequence)
