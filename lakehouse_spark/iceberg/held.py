"""Commits that are held back, because they break checks of their tables: read without Spark."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.lake.cursor import BROKEN, CURSOR, HELD, from_json


@dataclass(frozen=True)
class Held:
    """A commit on a branch of its own, which waits for a person; `broken` has how many rows break each check."""

    table: str
    branch: str
    snapshot_id: int
    at: datetime
    stamp: datetime
    """The commit's own, which the rows carry that it writes."""
    broken: Mapping[str, int]
    counts: Mapping[str, int]
    """What it counted: rows inserted, updated and deleted; of silver, records by outcome too."""


def of(tables: Iterable[Metadata]) -> Iterator[Held]:
    """Those of the tables, in the order of these."""
    for table in tables:
        snapshots = {snapshot["snapshot-id"]: snapshot for snapshot in table.snapshots}
        for name, ref in sorted((table.said.get("refs") or {}).items()):
            snapshot = snapshots.get(ref["snapshot-id"])
            if (
                not HELD.fullmatch(name)
                or ref["type"] != "branch"
                or snapshot is None
                or CURSOR not in snapshot["summary"]
            ):
                continue
            cursor = from_json(snapshot["summary"][CURSOR])
            yield Held(
                table.table.name, name, snapshot["snapshot-id"],
                datetime.fromtimestamp(snapshot["timestamp-ms"] / 1000, UTC), cursor.stamp,
                cursor.notes.get(BROKEN, {}), cursor.counts,
            )  # fmt: skip
