"""When which maintenance is due, in UTC: declared once, for live mode and for whatever else runs jobs by the clock."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lakehouse_spark.catalog import LAYERS

SUNDAY = 0
"""As cron counts the days of a week."""


@dataclass(frozen=True)
class Schedule:
    """Maintenance at full hours: every so many hours from midnight, or at one hour, of every day or of one weekday."""

    name: str
    jobs: tuple[str, ...]
    layers: tuple[str, ...] = LAYERS
    every_hours: int = 24
    hour: int = 0
    weekday: int | None = None

    @property
    def cron(self) -> str:
        """The five fields of a line of cron."""
        hours = f"*/{self.every_hours}" if self.every_hours < 24 else str(self.hour)
        return f"0 {hours} * * {'*' if self.weekday is None else self.weekday}"

    def next_after(self, now: datetime) -> datetime:
        """The first time it is due that is later than `now`."""
        due = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        while not self._is_at(due):
            due += timedelta(hours=1)
        return due

    def _is_at(self, hour: datetime) -> bool:
        is_day = self.weekday is None or hour.isoweekday() % 7 == self.weekday
        return is_day and hour.hour % self.every_hours == self.hour


SCHEDULES = (
    Schedule("compact_bronze", ("compaction",), ("bronze",), every_hours=6),
    Schedule("compact_silver", ("compaction",), ("silver",), every_hours=12),
    # The control tables too: every lease that is renewed adds a file to the log of maintenance.
    Schedule("compact_gold", ("compaction",), ("gold", "_metadata"), hour=2),
    Schedule("compact_dimensions", ("compaction",), ("dim",), hour=3, weekday=SUNDAY),
    Schedule("expire_snapshots", ("bronze_retention", "snapshot_expiration"), hour=4),
    Schedule("orphan_cleanup", ("orphan_cleanup",), hour=5, weekday=SUNDAY),
    Schedule("rewrite_manifests", ("manifest_rewrite",), hour=6, weekday=SUNDAY),
)


def due_between(after: datetime, until: datetime, schedules: Iterable[Schedule] = SCHEDULES) -> list[Schedule]:
    """What was due later than `after` and by `until`, once each, in the order in which it first was."""
    found = sorted((schedule.next_after(after), number, schedule) for number, schedule in enumerate(schedules))
    return [schedule for due, _, schedule in found if due <= until]


def next_of(now: datetime, schedules: Iterable[Schedule] = SCHEDULES) -> tuple[datetime, Schedule]:
    """The first that is due later than `now`, and when."""
    return min(((each.next_after(now), each) for each in schedules), key=lambda found: found[0])
