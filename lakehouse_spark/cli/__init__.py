"""The `lakehouse` command: the friendly door to every job."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from lakehouse_spark import migrations, report, verify
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.cli import entry
from lakehouse_spark.errors import LakehouseError, UsageError, in_a_sentence
from lakehouse_spark.jobs import rejected
from lakehouse_spark.jobs.bronze_writer import TOPICS
from lakehouse_spark.jobs.rejected import Selection
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import session
from lakehouse_spark.lake.cursor import to_text
from lakehouse_spark.local import broker, demo, simulator
from lakehouse_spark.settings import Settings, load
from lakehouse_spark.transforms import reasons

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
rejected_app = typer.Typer(no_args_is_help=True, help="The dead-letter table: look, replay, discard.")
app.add_typer(rejected_app, name="rejected")

# Where there is no terminal, nothing is folded or cut to 80 columns.
_WIDE = None if sys.stdout.isatty() else 400
out, err = Console(soft_wrap=True, width=_WIDE), Console(stderr=True, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]


def main() -> None:
    """Runs the command; an error is one sentence on stderr and its exit code."""
    os.environ["TZ"] = "UTC"  # the zone in which Python sees the instants of a query's rows
    time.tzset()
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        sentence = entry.explained(f"lakehouse {sys.argv[1]}", error, _log(quiet=False))
        if isinstance(error, LakehouseError):
            err.print(f"[red]{type(error).__name__.removesuffix('Error').lower()}:[/] ", end="")
        err.print(sentence, markup=False, highlight=False)
        sys.exit(getattr(error, "exit_code", LakehouseError.exit_code))


@app.command("demo")
def run_demo(
    events: Annotated[int, typer.Option(min=1, help="Kafka records to simulate.")] = 100_000,
    days: Annotated[int, typer.Option(min=1, help="Trading days they spread over.")] = 3,
    seed: Annotated[int, typer.Option(help="Same seed, same records.")] = 7,
    as_json: Json = False,
) -> None:
    """Simulate a market, run Kafka → Bronze → Silver → Gold for real, and prove that nothing was lost or doubled."""
    settings = load()
    feed = simulator.Feed(demo.scenario(events, days, seed))
    log = _log(as_json)
    with broker.serving(settings, TOPICS, log) as connected:
        log(f"Kafka answers at {connected.kafka.bootstrap_servers}; publishing {events:,} records")
        with (
            _counting("published", events, quiet=as_json) as progress,
            _in_background(lambda: demo.publish(connected, feed, progress)),
        ):
            spark = session.open_session(settings, "demo", announce=log)
            log("migrations: making the tables, the exchanges and dim_time")
            migrations.migrate(spark, settings, datetime.now(UTC))
        with _stages(as_json) as step:
            step("pipeline: bronze, dimensions, silver, facts, gold; then verify")
            outcome = demo.run(spark, connected, feed, report=_teller(step))
            page, _ = report.write(spark, settings)
        spark.stop()
    if as_json:
        _print_json(outcome.as_dict())
    else:
        _show_outcome(outcome)
        out.print(f"\nThe lakehouse is in {settings.root}. Look around: lakehouse status · lakehouse rejected list")
        out.print('lakehouse query "SELECT symbol, count(*) FROM silver.trades GROUP BY symbol"', highlight=False)
        out.print(f"All of it on one page: {page}", highlight=False)
    raise typer.Exit(0 if outcome.proved else 1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def run(context: typer.Context, job: Annotated[str | None, typer.Argument(help="The job's name.")] = None) -> None:
    """Run a job here and now: bronze_writer, silver_processor, pipeline …, with the job's own options."""
    if job is None or job in entry.HELP:
        print(entry.listing("lakehouse run"))
        raise typer.Exit(0 if job else UsageError.exit_code)
    raise typer.Exit(entry.main(job, context.args))


@app.command()
def status(as_json: Json = False) -> None:
    """Rows, newest stamp and lag behind upstream of every table."""
    with _session("status") as (spark, _):
        _needs_tables(spark)
        rows = [_status(table) for table in report.tables(spark)]
    if as_json:
        _print_json(rows)
        return
    grid = _grid("table", "rows", "files", "snapshots", "newest stamp (UTC)", "behind upstream")
    for row in rows:
        counts = [f"{row[name]:,}" for name in ("rows", "files", "snapshots")]
        grid.add_row(row["table"], *counts, (row["stamp"] or "")[:19].replace("T", " "), _behind(row))
    out.print(grid)


@app.command("verify")
def run_verify(as_json: Json = False) -> None:
    """Check every invariant; exit 1 on any violation."""
    with _session("verify", with_kafka=True) as (spark, settings), _stages(as_json) as step:
        _needs_tables(spark)
        findings = verify.run(spark, settings, report=lambda finding: step(_line(finding)))
    if as_json:
        _print_json([finding.as_dict() for finding in findings])
    else:
        _show_findings(findings)
    raise typer.Exit(1 if any(finding.violations for finding in findings) else 0)


@app.command("report")
def write_report(
    file: Annotated[
        Path | None, typer.Option("--out", help="The page; by default report.html in LAKEHOUSE_HOME.")
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="By default the day's most traded one.")] = None,
    trader: Annotated[str | None, typer.Option(help="By default the day's most active one.")] = None,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="By default the newest with more than stragglers.")
    ] = None,
) -> None:
    """Write one HTML page: the flow of records, rejects, freshness, a symbol's day, a trader's P&L, the tables."""
    with _session("report") as (spark, settings), _stages(False) as step:
        step("reading the tables")
        asked = symbol.strip().upper() if symbol else None
        page, missing = report.write(
            spark, settings, file, symbol=asked, trader=trader, day=day.date() if day else None
        )
    for sentence in missing:
        err.print(sentence, markup=False, highlight=False)
    out.print(f"The report is in {page}", highlight=False)


@app.command()
def migrate(as_json: Json = False) -> None:
    """Create or upgrade the tables; with nothing pending, write nothing."""
    with _session("migrate") as (spark, settings), _stages(as_json) as step:
        step("applying migrations")
        applied = migrations.migrate(spark, settings, datetime.now(UTC))
    if as_json:
        _print_json([{"version": m.version, "description": m.description} for m in applied])
        return
    for migration in applied:
        out.print(f"applied {migration.version}: {migration.description}")
    if not applied:
        out.print("nothing to migrate")


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help='Spark SQL, e.g. "SELECT * FROM silver.trades LIMIT 5".')],
    limit: Annotated[int, typer.Option(min=1, help="Rows to print at most.")] = 100,
    as_json: Json = False,
) -> None:
    """Ask the tables a question in SQL; it is not meant for writing."""
    with _session("query") as (spark, _):
        spark.catalog.setCurrentCatalog("lake")
        try:
            found = spark.sql(sql)
            rows = _with_instants_as_text(found.limit(limit + 1)).collect()
        except PySparkException as error:
            raise UsageError(in_a_sentence(error).split(";", maxsplit=1)[0]) from None
    if as_json:
        _print_json([row.asDict(recursive=True) for row in rows[:limit]])
        return
    _show_rows(found.columns, rows[:limit])
    if len(rows) > limit:
        out.print(f"the first {limit:,} rows; --limit for more")


Topic = Annotated[
    str | None, typer.Option("--table", help="raw_trades, raw_orderbook, raw_marketdata or raw_reference.")
]
Reason = Annotated[str | None, typer.Option(help="Only records with this reason code.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of records; none: all that the options select.")]


@rejected_app.command("list")
def list_rejected(
    table: Topic = None,
    reason: Reason = None,
    status_is: Annotated[str | None, typer.Option("--status", help="OPEN, REPLAYED or DISCARDED.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Records to print at most.")] = 50,
    by_reason: Annotated[bool, typer.Option("--by-reason", help="Only how many per reason, and what to do.")] = False,
    as_json: Json = False,
) -> None:
    """The rejected records by reason, with what to do about it; then each, oldest first."""
    with _session("rejected list") as (spark, _):
        _needs_tables(spark)
        found = rejected.select(spark, Selection(table, reason, status_is))
        groups = rejected.by_reason(found) if by_reason or not as_json else []
        if by_reason:
            _print_json(groups) if as_json else _show_reasons(groups)
            return
        columns = [
            "rejected_id",
            "source_table",
            "_kafka_partition",
            "_kafka_offset",
            "event_time",
            "reasons",
            "status",
        ]
        number = found.count()
        chosen = found.select(*columns, "attempts", "resolution").limit(limit)
        rows = _with_instants_as_text(chosen).collect()
    if as_json:
        _print_json([row.asDict() for row in rows])
        return
    _show_reasons(groups)
    _show_rows([*columns], [[row[name] for name in columns] for row in rows])
    out.print(f"{len(rows):,} of {number:,} records")


@rejected_app.command("show")
def show_rejected(rejected_id: str, as_json: Json = False) -> None:
    """One rejected record, whole, with its payload."""
    with _session("rejected show") as (spark, _):
        _needs_tables(spark)
        rows = _with_instants_as_text(rejected.select(spark, Selection(ids=[rejected_id]))).collect()
    if not rows:
        raise UsageError(f"no rejected record has the id {rejected_id!r}; see: lakehouse rejected list")
    if as_json:
        _print_json([row.asDict() for row in rows])
        return
    for row in rows:
        for name, value in row.asDict().items():
            out.print(f"[bold]{name}[/]: ", end="")
            out.print(_text(value), markup=False, highlight=False)
        for code in row["reasons"]:
            out.print(reasons.told(code), markup=False, highlight=False)


@rejected_app.command("replay")
def replay_rejected(
    ids: Ids = None,
    table: Topic = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Judge open records by today's rules; those that are good now enter silver."""
    with _session("rejected replay") as (spark, settings), _stages(as_json) as step:
        _needs_tables(spark)
        step("replaying")
        summaries = rejected.replay(spark, settings, Selection(table, reason, ids=ids or ()))
    _print_summaries(summaries, as_json)


@rejected_app.command("discard")
def discard_rejected(
    ids: Ids = None,
    table: Topic = None,
    reason: Reason = None,
    why: Annotated[str, typer.Option(help="What the audit will read.")] = "",
    as_json: Json = False,
) -> None:
    """Close open records for good; they stay in the table with the reason given."""
    if not why:
        raise UsageError("say why: --why 'test feed of 3 May, agreed with the desk'")
    if not (ids or table or reason):
        raise UsageError("say which records: ids, --table or --reason")
    with _session("rejected discard") as (spark, _):
        _needs_tables(spark)
        number = rejected.discard(spark, Selection(table, reason, ids=ids or ()), why)
    _print_json({"discarded": number}) if as_json else out.print(f"{number:,} records discarded")


@contextmanager
def _session(name: str, *, with_kafka: bool = False) -> Iterator[tuple[SparkSession, Settings]]:
    settings = load()
    if with_kafka and (settings.root / "kafka").exists():
        with broker.serving(settings, TOPICS) as connected:
            yield session.open_session(connected, name), connected
    else:
        yield session.open_session(settings, name), settings


def _needs_tables(spark: SparkSession) -> None:
    missing = [table.name for table in TABLES if not spark.catalog.tableExists(table.identifier)]
    if missing:
        raise UsageError(f"there is no lakehouse here yet ({len(missing)} tables are missing); run: lakehouse migrate")


def _status(table: report.TableState) -> dict[str, Any]:
    counts = {"rows": table.rows, "files": table.data_files + table.delete_files, "snapshots": table.snapshots}
    behind = sum(lag.rows or 0 for lag in table.lags) if table.follows else None
    waits_for = [lag.upstream for lag in table.lags]
    return {
        "table": table.name, **counts, "stamp": to_text(table.stamp), "behind": behind, "waits_for": waits_for,
    }  # fmt: skip


def _behind(status: Mapping[str, Any]) -> str:
    if status["behind"] is None:
        return ""
    return f"{status['behind']:,} rows" + (f" ({', '.join(status['waits_for'])})" if status["waits_for"] else "")


def _show_outcome(outcome: demo.Outcome) -> None:
    grid = _grid("topic", "in Kafka", "bronze", "accepted", "duplicates", "rejected", "silver rows", "lost", "doubled")
    for flow in outcome.flows:
        judged = (flow.accepted, flow.duplicates, flow.rejected)
        numbers = (flow.produced, flow.bronze, *judged, flow.rows, flow.lost, flow.doubled)
        grid.add_row(flow.topic, *(f"{number:,}" for number in numbers))
    out.print(grid)
    reasons = _grid("rejected because", *(flow.topic for flow in outcome.flows))
    for code in sorted({code for flow in outcome.flows for code in flow.reasons}):
        reasons.add_row(code, *(f"{flow.reasons.get(code, 0):,}" for flow in outcome.flows))
    out.print(reasons)
    model = _grid("dimensions, facts, gold", "rows")
    for name, number in outcome.rows.items():
        model.add_row(name, f"{number:,}")
    out.print(model)
    _show_findings(outcome.findings, only_violations=True)
    for surprise in outcome.surprises:
        out.print(f"[red]not as simulated:[/] {surprise}")
    lost, doubled = (sum(getattr(flow, name) for flow in outcome.flows) for name in ("lost", "doubled"))
    checked = sum(1 for finding in outcome.findings if finding.holds)
    colour = "green" if outcome.proved else "red"
    out.print(f"[bold {colour}]{lost:,} lost, {doubled:,} doubled[/]: verify checked {checked} invariants")


def _show_findings(findings: Sequence[verify.Finding], *, only_violations: bool = False) -> None:
    shown = [finding for finding in findings if not (only_violations and finding.holds)]
    if shown:
        grid = _grid("invariant", "table", "", "detail")
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


def _teller(step: Callable[[str], None]) -> Callable[[Summary | verify.Finding], None]:
    """Tells of every step of the work, and of invariants only where they do not hold."""

    def tell(done: Summary | verify.Finding) -> None:
        if isinstance(done, Summary) or not done.holds:
            step(_line(done))

    return tell


def _line(done: Summary | verify.Finding) -> str:
    if isinstance(done, Summary):
        return str(done)
    return f"verify: {done.table}: {done.check}: {'holds' if done.holds else done.detail}"


def _print_summaries(summaries: Sequence[Summary], as_json: bool) -> None:
    if as_json:
        _print_json([summary.as_dict() for summary in summaries])
        return
    for summary in summaries:
        out.print(str(summary), highlight=False)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, default=_text) + "\n")


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value)


def _with_instants_as_text(rows: DataFrame) -> DataFrame:
    """Instants as ISO-8601 in UTC: those of the year 1 have no room in Python's."""
    numbers = [str(number) for number in range(len(rows.columns))]  # a query may name two columns alike
    texts = [
        F.regexp_replace(F.date_format(F.col(number), "yyyy-MM-dd'T'HH:mm:ss.SSSSSS"), r"\.000000$", "")
        if isinstance(field.dataType, TimestampType)
        else F.col(number)
        for number, field in zip(numbers, rows.schema, strict=True)
    ]
    return rows.toDF(*numbers).select(*texts).toDF(*rows.columns)


def _grid(*columns: str) -> Grid:
    grid = Grid(show_edge=False, pad_edge=False)
    for number, name in enumerate(columns):
        grid.add_column(
            name, justify="left" if number == 0 else "right" if name not in ("table", "detail", "") else "left"
        )
    return grid


def _show_rows(columns: Sequence[str], rows: Sequence[Any]) -> None:
    grid = _grid(*columns)
    for row in rows:
        grid.add_row(*("NULL" if value is None else _text(value) for value in row))
    out.print(grid)


def _show_reasons(groups: Sequence[Mapping[str, Any]]) -> None:
    for group in groups:
        out.print(f"[bold]{group['records']:,}[/]x ", end="", highlight=False)
        out.print(reasons.told(group["reason"]), markup=False, highlight=False)
    if groups:
        out.print()


def _log(quiet: bool) -> Callable[[str], None]:
    return lambda message: None if quiet else err.print(message, markup=False, highlight=False)


@contextmanager
def _stages(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Reports steps: a spinner with the latest one at a terminal, a line each elsewhere."""
    if quiet or not err.is_terminal:
        yield _log(quiet)
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
def _counting(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
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


@contextmanager
def _in_background(work: Callable[[], None]) -> Iterator[None]:
    """Runs the work beside the block; its error is raised when the block ends."""
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    yield
    thread.join()
    if failed:
        raise failed[0]
