"""What commands print: answers on stdout, and what happens meanwhile on stderr."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from lakehouse_spark import verify
from lakehouse_spark.jobs.summary import Summary, changes
from lakehouse_spark.local import demo
from lakehouse_spark.transforms import reasons

if TYPE_CHECKING:
    from lakehouse_spark.maintenance.survey import Survey

# Where there is no terminal, nothing is folded or cut to 80 columns.
_WIDE = None if sys.stdout.isatty() else 400
out, err = Console(soft_wrap=True, width=_WIDE), Console(stderr=True, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


def show_outcome(outcome: demo.Outcome) -> None:
    grid = grid_of(
        "topic", "in Kafka", "bronze", "accepted", "duplicates", "rejected", "silver rows", "lost", "doubled"
    )
    for flow in outcome.flows:
        judged = (flow.accepted, flow.duplicates, flow.rejected)
        numbers = (flow.produced, flow.bronze, *judged, flow.rows, flow.lost, flow.doubled)
        grid.add_row(flow.topic, *(f"{number:,}" for number in numbers))
    out.print(grid)
    reasons = grid_of("rejected because", *(flow.topic for flow in outcome.flows))
    for code in sorted({code for flow in outcome.flows for code in flow.reasons}):
        reasons.add_row(code, *(f"{flow.reasons.get(code, 0):,}" for flow in outcome.flows))
    out.print(reasons)
    model = grid_of("dimensions, facts, gold", "rows")
    for name, number in outcome.rows.items():
        model.add_row(name, f"{number:,}")
    out.print(model)
    show_findings(outcome.findings, only_violations=True)
    for surprise in outcome.surprises:
        out.print(f"[red]not as simulated:[/] {surprise}")
    lost, doubled = (sum(getattr(flow, name) for flow in outcome.flows) for name in ("lost", "doubled"))
    checked = sum(1 for finding in outcome.findings if finding.holds)
    colour = "green" if outcome.proved else "red"
    out.print(f"[bold {colour}]{lost:,} lost, {doubled:,} doubled[/]: verify checked {checked} invariants")


def show_findings(findings: Sequence[verify.Finding], *, only_violations: bool = False) -> None:
    shown = [finding for finding in findings if not (only_violations and finding.holds)]
    if shown:
        grid = grid_of("invariant", "table", "", "detail")
        for finding in shown:
            mark = (
                "[green]holds[/]"
                if finding.holds
                else "[yellow]unchecked[/]"
                if finding.violations is None
                else "[red]BROKEN[/]"
            )
            grid.add_row(finding.check, finding.table, mark, finding.detail)
        out.print(grid)
    if not only_violations:
        broken = sum(1 for finding in findings if finding.violations)
        unchecked = sum(1 for finding in findings if finding.violations is None)
        rest = f", {unchecked} could not be checked" if unchecked else ""
        out.print(f"{len(findings) - broken - unchecked} invariants hold, {broken} are broken{rest}")


def show_survey(found: "Survey") -> None:
    """What is due, table by table, then what is kept and why."""
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


def teller(step: Callable[[str], None]) -> Callable[[Summary | verify.Finding], None]:
    """Tells of every step of the work, and of invariants only where they do not hold."""

    def tell(done: Summary | verify.Finding) -> None:
        if isinstance(done, Summary) or not done.holds:
            step(line(done))

    return tell


def line(done: Summary | verify.Finding) -> str:
    if isinstance(done, Summary):
        return str(done)
    return f"verify: {done.table}: {done.check}: {'holds' if done.holds else done.detail}"


def print_summaries(summaries: Sequence[Summary], as_json: bool) -> None:
    if as_json:
        print_json([summary.as_dict() for summary in summaries])
        return
    for summary in summaries:
        out.print(str(summary), highlight=False)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, default=text) + "\n")


def text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return ", ".join(map(text, value))
    return str(value)


def with_instants_as_text(rows: DataFrame) -> DataFrame:
    """Instants as ISO-8601 in UTC: those of the year 1 have no room in Python's."""
    numbers = [str(number) for number in range(len(rows.columns))]  # a query may name two columns alike
    texts = [
        F.regexp_replace(F.date_format(F.col(number), "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"), r"\.000000$", "")
        if isinstance(field.dataType, TimestampType)
        else F.col(number)
        for number, field in zip(numbers, rows.schema, strict=True)
    ]
    return rows.toDF(*numbers).select(*texts).toDF(*rows.columns)


def grid_of(*columns: str) -> Grid:
    grid = Grid(show_edge=False, pad_edge=False)
    texts = ("table", "job", "changes", "kept, and why", "detail", "")
    for number, name in enumerate(columns):
        grid.add_column(name, justify="left" if number == 0 or name in texts else "right")
    return grid


def show_rows(columns: Sequence[str], rows: Sequence[Any]) -> None:
    grid = grid_of(*columns)
    for row in rows:
        grid.add_row(*("NULL" if value is None else text(value) for value in row))
    out.print(grid)


def show_reasons(groups: Sequence[Mapping[str, Any]]) -> None:
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
