"""How a table differs from one of its earlier snapshots, as metadata tell: where rows may stand that were not there
then, and where some went.

Rows are where their files are, whatever stamps they carry: a commit by other means is seen like any other. Manifests
that both snapshots have are not read, so it takes as long as what differs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from lakehouse_spark.iceberg import live_files
from lakehouse_spark.iceberg.live_files import LiveFile
from lakehouse_spark.iceberg.metadata import Metadata


@dataclass(frozen=True)
class Difference:
    """The files by which a snapshot differs from an ancestor."""

    of: Metadata
    gained: Sequence[LiveFile] = ()
    """Data files that it has and the ancestor had not."""
    lifted: Sequence[LiveFile] = ()
    """Files of deletes that it has no more: rows that these deleted may be back."""
    lost: Sequence[LiveFile] = ()
    """Data files that it has no more, and new files of deletes: rows may have gone."""

    def days(self, column: str, *, with_lost: bool = False) -> frozenset[date | None] | None:
        """The days of a column by which the table is partitioned, in which rows may have been gained, or lost as well;
        None among them is of rows without one. None: the files do not tell."""
        term = self.of.column_ids[column], "day"
        found = set[date | None]()
        for file in (*self.gained, *self.lifted, *(self.lost if with_lost else ())):
            values = self.of.partition_values(file)
            if term not in values:
                return None
            day = values[term]
            found.add(live_files.EPOCH + timedelta(days=day) if isinstance(day, int) else None)
        return frozenset(found)

    def range_of(self, column: str) -> tuple[int, int] | None:
        """The least and the greatest value that a gained row has in a column of longs, or of instants as microseconds;
        None: the files do not tell."""
        number = self.of.column_ids[column]
        bounds = [(file.lower.get(number), file.upper.get(number)) for file in self.gained]
        if self.lifted or not bounds or any(low is None or high is None for low, high in bounds):
            return None
        values = [live_files.number(bound) for pair in bounds for bound in pair if bound]
        return min(values), max(values)


def since(of: Metadata, snapshot_id: int) -> Difference | None:
    """How a table differs from that snapshot; None where it is no ancestor of today's, or is not known any more."""
    then = of.at(snapshot_id)
    is_ancestor = snapshot_id in {each["snapshot-id"] for each in of.history()}
    if then is None or not is_ancestor or not _numbers_commits(of):
        return None
    shared = {each.path for each in of.manifests} & {each.path for each in then.manifests}
    now_there, once_there = (each.files_in(m for m in each.manifests if m.path not in shared) for each in (of, then))
    return between(of, now_there, once_there)


def between(of: Metadata, now: Iterable[LiveFile], then: Iterable[LiveFile]) -> Difference:
    """How a table differs that had some files then, and has others now.

    The same path may be there again: added once more its rows are there twice, and added by a later commit they are not
    deleted by what deleted them before. A file of deletes may be of several data files.
    """
    now_there, once_there = ({(f.path, f.sequence, f.deletes_from): f for f in files} for files in (now, then))
    new = [file for key, file in now_there.items() if key not in once_there]
    gone = [file for key, file in once_there.items() if key not in now_there]
    return Difference(
        of,
        gained=[file for file in new if file.is_data],
        lifted=[file for file in gone if not file.is_data],
        lost=[file for file in gone if file.is_data] + [file for file in new if not file.is_data],
    )


def paths(of: Metadata, snapshot_id: int) -> set[str] | None:
    """Of all snapshots that are known, the paths of the files that commits after this one wrote: data, deletes,
    manifests and lists of them. None where it is not known any more: it may have been another table's."""
    then = of.at(snapshot_id)
    if then is None or then.head is None or not _numbers_commits(of):
        return None
    sequence = then.head.get("sequence-number", 0)
    lists = [each["manifest-list"] for each in of.snapshots if each.get("sequence-number", 0) > sequence]
    known = {each.path: each for name in lists for each in live_files.manifests(of.io, name)}
    manifests = [each for each in known.values() if each.sequence > sequence]
    files = (file.path for file in of.files_in(manifests) if file.sequence > sequence or not file.sequence)
    return {*lists, *(each.path for each in manifests), *files}


def _numbers_commits(of: Metadata) -> bool:
    """Whether snapshots and files tell which commit wrote them: by the first version of the format they do not."""
    return int(of.said.get("format-version", 1)) > 1
