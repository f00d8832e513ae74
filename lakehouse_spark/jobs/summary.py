"""What a job did to one table: a line for people, the same for machines."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lakehouse_spark.lake import log
from lakehouse_spark.lake.reconcile import Done


@dataclass(frozen=True)
class Summary:
    """`counts` names what was counted (records, accepted, …); `snapshot_id` is None where nothing was written; `notes`
    are whole sentences: a line each after that of the counts. Of maintenance there are also the counts `before`, and
    those that were `planned`: with no others, nothing was done yet."""

    job: str
    table: str
    counts: dict[str, int] = field(default_factory=dict)
    snapshot_id: int | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    before: Mapping[str, int] = field(default_factory=dict)
    planned: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, job: str, table: str, done: Done, began: float) -> "Summary":
        """What was done since `began`, as time.monotonic() tells it."""
        return cls(
            job, table, done.counts, done.snapshot_id, round(time.monotonic() - began, 3), (*done.notes, *done.warnings)
        )

    def after(self, earlier: "Summary | None") -> "Summary":
        """What both did to the table, this one and an earlier one; the notes are those of this one."""
        if earlier is None:
            return self
        counts = dict(Counter(earlier.counts) + Counter(self.counts))
        snapshot_id = self.snapshot_id or earlier.snapshot_id
        return replace(self, counts=counts, snapshot_id=snapshot_id, seconds=round(earlier.seconds + self.seconds, 3))

    def __str__(self) -> str:
        return "\n".join(f"{self.job}: {self.table}: {said}" for said in (self._counted, *self.notes))

    @property
    def _counted(self) -> str:
        if self.planned and not self.counts:
            return "would change " + changes(self.before, self.planned)
        if self.planned:
            other = {name: number for name, number in self.planned.items() if self.counts[name] != number}
            as_planned = f" (planned: {_listed(other)})" if other else ""
            return f"{changes(self.before, self.counts)}{as_planned} in {self.seconds:.1f} s"
        if self.snapshot_id is None:
            return "nothing new"
        return f"{_listed(self.counts)} in {self.seconds:.1f} s"

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value or name not in ("before", "planned")}


def tell(summary: Summary) -> None:
    """Prints it."""
    said = log.line(
        summary, job=summary.job, table=summary.table, snapshot=summary.snapshot_id, counts=summary.counts,
        seconds=summary.seconds,
    )  # fmt: skip
    print(said, flush=True)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{value:,} {name}" for name, value in counts.items())


def changes(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """Counts as they change, for people to read: files 50 → 12."""
    return ", ".join(f"{name} {before[name]:,} → {number:,}" for name, number in after.items())
