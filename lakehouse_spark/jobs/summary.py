"""What a job did to one table: a line for people, the same for machines."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Summary:
    """`counts` names what was counted (records, accepted, …); `snapshot_id` is None where nothing was written."""

    job: str
    table: str
    counts: dict[str, int] = field(default_factory=dict)
    snapshot_id: int | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.snapshot_id is None:
            return f"{self.job}: {self.table}: nothing new"
        counted = ", ".join(f"{value:,} {name}" for name, value in self.counts.items())
        return f"{self.job}: {self.table}: {counted} in {self.seconds:.1f} s"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
