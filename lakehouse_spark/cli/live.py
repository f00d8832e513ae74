"""Live mode at a terminal: one calm page in place of lines."""

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from lakehouse_spark.cli import run
from lakehouse_spark.cli.output import grid_of
from lakehouse_spark.cli.sessions import opened
from lakehouse_spark.errors import in_a_sentence
from lakehouse_spark.jobs.beat import TABLES, Beat, Watch
from lakehouse_spark.jobs.job import Job, Options
from lakehouse_spark.jobs.registry import JOBS
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.maintenance.schedule import Schedule


def run_live(options: Options) -> int:
    return execute(JOBS["pipeline"], options)


def drain() -> str:
    """Asks the live mode of the lakehouse to end, waits for it, and says what came of it."""
    from lakehouse_spark.jobs import live  # brings PyIceberg, which no other command waits for

    with opened("live") as (spark, settings):
        return live.drain(spark, settings)


def execute(job: Job, options: Options) -> int:
    """Runs the job like any other, with a page in place of lines where it is live mode at a terminal."""
    if not (options.get("every") and sys.stdout.isatty()):
        return run.execute(job, options)
    with _page(options["every"], options["tables"] or TABLES) as page:
        return run.execute(job, {**options, "watch": page})


@contextmanager
def _page(every: timedelta, tables: Collection[str]) -> Iterator["Page"]:
    console = Console()
    with Live(console=console, auto_refresh=False) as shown:
        yield Page(every, tables, shown)


class Page(Watch):
    """What live mode does, table by table."""

    def __init__(self, every: timedelta, tables: Collection[str], shown: Live) -> None:
        self._every, self._tables, self._shown = every, [table for table in TABLES if table in tables], shown
        self._new = dict.fromkeys(self._tables, 0)
        self._changed: dict[str, datetime] = {}
        self._fresh: dict[str, datetime] = {}
        self._said: dict[str, str] = {}
        self._last, self._next, self._maintenance = "the first beat is under way", "", ""

    def done(self, summary: Summary) -> None:
        if summary.table in self._new and summary.snapshot_id is not None and not summary.planned:
            self._new[summary.table] += summary.counts.get("inserted", summary.counts.get("records", 0))
            self._changed[summary.table] = datetime.now(UTC)
        self._show()

    def ended(self, beat: Beat, skipped: int) -> None:
        self._said = {**beat.left, **beat.failed}
        self._fresh |= {table: beat.began for table in self._tables if table not in self._said}
        at, missed = f"{beat.began:%H:%M:%S}", f", {skipped:,} skipped" if skipped else ""
        self._last = f"beat {beat.number:,} at {at} took {beat.seconds:.1f} s{missed}"
        self._show()

    def waits(self, beat_at: datetime, due_at: datetime, due: Schedule) -> None:
        self._next = f"next beat {beat_at:%H:%M:%S}"
        self._maintenance = f"next maintenance {due.name}, {due_at:%a %H:%M}"
        self._show()

    def failed(self, what: str, error: Exception) -> None:
        self._shown.console.print(f"{what}: {in_a_sentence(error)}", markup=False, highlight=False)

    def _show(self) -> None:
        self._shown.update(self.render(datetime.now(UTC)), refresh=True)

    def render(self, now: datetime) -> Group:
        """The page as it is at a moment; times are in UTC."""
        head = " · ".join(filter(None, (f"a beat every {self._every}", self._last, self._next, self._maintenance)))
        grid: Grid = grid_of("table", "new rows", "changed", "behind by", "")
        for table in self._tables:
            changed, fresh = self._changed.get(table), self._fresh.get(table)
            grid.add_row(
                table,
                f"{self._new[table]:,}",
                f"{changed:%H:%M:%S}" if changed else "",
                f"{(now - fresh).total_seconds():,.0f} s" if fresh else "",
                Text(self._said.get(table, ""), style="yellow"),
            )
        return Group(Text(head + " (UTC)"), grid, Text("Ctrl-C ends it behind what is being committed", style="dim"))


app = run.commands(execute)
