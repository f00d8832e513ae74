"""Dead letters as people look at them: how many there are for each reason, the oldest, one; read without Spark."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.iceberg import metadata, rows
from lakehouse_spark.iceberg.live_files import LiveFile
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.lake.cursor import CURSOR, FeedCursor, from_json
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver.rejected_records import TABLE

_PLACE = ("_rejected_at", "_kafka_topic", "_kafka_partition", "_kafka_offset")
_ORDER = [(name, "ascending", "at_start") for name in _PLACE]
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class Judged(NamedTuple):
    """Records that silver judged, and how many of them it rejected."""

    records: int
    rejected: int

    @property
    def share(self) -> float:
        """Of the rejected ones among all, between 0 and 1; 0 where nothing was judged."""
        return self.rejected / self.records if self.records else 0.0


@dataclass(frozen=True)
class Letters:
    """The selected dead letters, as they were at one moment."""

    of: Metadata
    selection: Selection

    def by_reason(self) -> tuple[int, Mapping[str, int]]:
        """How many there are, and how many for each reason code; one with several reasons counts for each."""
        number, codes = 0, Counter[str]()
        for batch in self._batches(self._files, ["reasons"]):
            number += len(batch)
            codes.update(pc.list_flatten(batch["reasons"]).to_pylist())
        return number, codes

    def oldest(self, limit: int | None = None, columns: Sequence[str] = TABLE.column_names) -> list[dict[str, Any]]:
        """The first that were rejected, so many at most, with instants as texts in UTC. A file is opened if one of them
        may be in it, and no more rows are held than these and a batch."""
        held: pa.Table | None = None
        for file in sorted(self._files, key=self._begins):
            if held is not None and len(held) == limit and self._begins(file) > held["_rejected_at"][-1].as_py():
                break
            for batch in self._batches([file], [*columns, *_PLACE]):
                found = pa.Table.from_batches([batch])
                both = found if held is None else pa.concat_tables([held, found], promote_options="permissive")
                held = both.take(pc.sort_indices(both, _ORDER)[:limit])
        return [] if held is None else _with_instants_as_text(held.select(columns)).to_pylist()

    @property
    def _files(self) -> list[LiveFile]:
        if self.of.total("delete-files"):
            raise LakehouseError(
                f"{TABLE.name} has delete files, which no release of this program leaves there",
                "Ask for its rows by `lakehouse query`.",
            )
        source = self.selection.source_table
        return [f for f in self.of.data_files if source in (None, self.of.partition_value(f, "source_table"))]

    def _begins(self, file: LiveFile) -> datetime:
        return file.oldest(self.of.stamp_id) or _BEFORE_ALL

    def _batches(self, files: Iterable[LiveFile], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The letters in these files that are selected."""
        judged = ("rejected_id", "reasons", "status")
        for file in files:
            if self.selection.ids and not any(map(self._selects, rows.batches(self.of, [file], judged))):
                continue  # no payload is read where none of a few letters is
            for batch in rows.batches(self.of, [file], [*dict.fromkeys([*columns, *judged])]):
                yield batch if self._takes_all else batch.filter(self._selected(batch))

    @property
    def _takes_all(self) -> bool:
        """Whether all letters of the files are selected; then nothing is compared, for which pyarrow imports pandas."""
        return not (self.selection.reason or self.selection.wanted_status or self.selection.ids)

    def _selects(self, batch: pa.RecordBatch) -> bool:
        return bool(pc.any(self._selected(batch)).as_py())

    def _selected(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        chosen = pa.repeat(True, len(batch))
        if self.selection.reason:
            owners = pc.list_parent_indices(batch["reasons"])
            having = owners.filter(pc.equal(pc.list_flatten(batch["reasons"]), self.selection.reason))
            chosen = pc.is_in(pa.arange(0, len(batch)), having)
        if self.selection.wanted_status:
            chosen = pc.and_(chosen, pc.equal(batch["status"], self.selection.wanted_status))
        if self.selection.ids:
            chosen = pc.and_(chosen, pc.is_in(batch["rejected_id"], pa.array(self.selection.ids)))
        return chosen


def read(settings: Settings, selection: Selection) -> Letters:
    """What is selected of the dead letters that there are now; raises MissingError where there is no lakehouse."""
    return Letters(metadata.of(settings, TABLE), selection)


def judged_since(silver: Metadata, after: datetime | None) -> Judged:
    """What a silver table judged later than a stamp (None: ever), as far back as its totals and its cursors go.

    Records that a rebuild judged again count as judged since; those that were accepted later stay rejected here.
    """
    newest, seen = silver.cursor, silver.commit_at(after) if after else None
    before = from_json(seen["summary"][CURSOR]) if seen else None
    if not isinstance(newest, FeedCursor):
        return Judged(0, 0)
    known = before.totals if isinstance(before, FeedCursor) and before.since == newest.since else {}
    records, rejected = (newest.totals.get(name, 0) - known.get(name, 0) for name in ("records", "rejected"))
    return Judged(records, rejected)


def _with_instants_as_text(found: pa.Table) -> pa.Table:
    """ISO 8601, in which there is room for any year."""
    for place, field in enumerate(found.schema):
        if pa.types.is_timestamp(field.type):
            instants = found.column(place).cast(pa.timestamp("us"))
            text = pc.strftime(instants, format="%Y-%m-%dT%H:%M:%S")
            found = found.set_column(place, field.name, pc.replace_substring_regex(text, r"\.000000$", ""))
    return found
