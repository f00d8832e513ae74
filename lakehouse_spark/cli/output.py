"""What commands print: answers on stdout, and what happens meanwhile on stderr."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid
from rich.text import Text

if TYPE_CHECKING:
    from lakehouse_spark.maintenance.survey import Survey

# Where there is no terminal, nothing is folded or cut to 80 columns.
_WIDE = None if sys.stdout.isatty() else 400
out, err = Console(soft_wrap=True, width=_WIDE), Console(stderr=True, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


def show_survey(found: "Survey") -> None:
    """What is due, table by table, then what is kept and why."""
    from lakehouse_spark.jobs.summary import changes  # which waits for Spark's modules

    due = grid_of("table", "job", "changes", "rewrites", "detail")
    for action in (action for plan in found.plans for action in plan.actions):
        effect = changes(action.before, action.after)
        due.add_row(action.table, action.job, effect, _megabytes(action.reads) if action.reads else "", action.reason)
    if due.row_count:
        out.print(due)
        out.print()
    kept = grid_of("table", "job", "kept, and why")
    for plan in found.plans:
        for job in dict.fromkeys(each.job for each in plan.kept):
            why = (f"{each.number:,} {each.what}: {each.why}" for each in plan.kept if each.job == job)
            kept.add_row(plan.table, job, "; ".join(why))
    if kept.row_count:
        out.print(kept)
        out.print()
    for table, failure in found.journal.last_failure().items():
        out.print(f"{table}: the last {failure.job} failed at {failure.at:%Y-%m-%d %H:%M} UTC", highlight=False)
    for sentence in found.refused:
        out.print(sentence, markup=False, highlight=False)
    looked = found.looked_for_orphans
    when = f"{min(looked.values()):%Y-%m-%d %H:%M} UTC" if len(looked) == len(found.plans) else "never, in some tables"
    out.print(f"files that no metadata knows were last looked for: {when} (orphan_cleanup)", highlight=False)
    number = sum(len(plan.actions) for plan in found.plans)
    out.print(f"{number} things to do: lakehouse run maintenance" if number else "nothing to do", highlight=False)


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, default=text) + "\n")


def text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return ", ".join(map(text, value))
    if isinstance(value, tuple):  # a struct
        return f"({', '.join('NULL' if part is None else text(part) for part in value)})"
    return str(value)


def grid_of(*columns: str) -> Grid:
    grid = Grid(show_edge=False, pad_edge=False)
    texts = ("table", "job", "changes", "kept, and why", "detail", "")
    for number, name in enumerate(columns):
        grid.add_column(Text(name), justify="left" if number == 0 or name in texts else "right")
    return grid


def show_rows(columns: Sequence[str], rows: Sequence[Any]) -> None:
    grid = grid_of(*columns)
    for row in rows:
        grid.add_row(*(Text("NULL" if value is None else text(value)) for value in row))
    out.print(grid)


def show_reasons(groups: Sequence[Mapping[str, Any]]) -> None:
    from lakehouse_spark.transforms import reasons

    for group in groups:
        out.print(f"[bold]{group['records']:,}[/]x ", end="", highlight=False)
        out.print(reasons.explained(group["reason"]), markup=False, highlight=False)
    if groups:
        out.print()


def announcer(quiet: bool) -> Callable[[str], None]:
    return lambda message: None if quiet else err.print(message, markup=False, highlight=False)


@contextmanager
def stages(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Reports steps: a spinner with the latest one at a terminal, a line each elsewhere."""
    if quiet or not err.is_terminal:
        yield announcer(quiet)
        return
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=err, transient=True
    ) as bar:
        task = bar.add_task("")

        def step(message: str) -> None:
            bar.console.print(message, markup=False, highlight=False)
            bar.update(task, description=message[:80])

        yield step


@contextmanager
def counting(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar at a terminal, a line per tenth elsewhere."""
    if quiet:
        yield lambda done: None
    elif err.is_terminal:
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=err) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)
    else:
        shown = [0]

        def tell(done: int) -> None:
            if done * 10 // total > shown[0]:
                shown[0] = done * 10 // total
                err.print(f"{what} {done:,} of {total:,}", highlight=False)

        yield tell
