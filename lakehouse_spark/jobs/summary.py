"""What a job did to one table: a line for people, the same for machines."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from lakehouse_spark.lake.reconcile import Done


@dataclass(frozen=True)
class Summary:
    """`counts` names what was counted (records, accepted, …); `snapshot_id` is None where nothing was written; `notes`
    are whole sentences: a line each after that of the counts."""

    job: str
    table: str
    counts: dict[str, int] = field(default_factory=dict)
    snapshot_id: int | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, job: str, table: str, done: Done, began: float) -> "Summary":
        """What was done since `began`, as time.monotonic() tells it."""
        return cls(job, table, done.counts, done.snapshot_id, round(time.monotonic() - began, 3), done.notes)

    def __str__(self) -> str:
        return "\n".join(f"{self.job}: {self.table}: {said}" for said in (self._counted, *self.notes))

    @property
    def _counted(self) -> str:
        if self.snapshot_id is None:
            return "nothing new"
        counted = ", ".join(f"{value:,} {name}" for name, value in self.counts.items())
        return f"{counted} in {self.seconds:.1f} s"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
