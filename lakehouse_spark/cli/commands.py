"""The commands that look at a lakehouse as a whole, and the demo."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse_spark.cli.output import (
    Json,
    announcer,
    counting,
    err,
    grid_of,
    out,
    print_json,
    show_survey,
    stages,
)
from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.lake.cursor import to_text
from lakehouse_spark.settings import load

# What a command works with is imported when it runs: most of it waits for Spark's modules, which a look does without.

if TYPE_CHECKING:
    from lakehouse_spark.iceberg.inventory import TableState
    from lakehouse_spark.iceberg.payload_drift import Drift
    from lakehouse_spark.lake.last_errors import LastError

_EXACT, _AT_MOST = "exact", "at most"


def run_demo(
    events: Annotated[int, typer.Option(min=1, help="Kafka records to simulate.")] = 100_000,
    days: Annotated[int, typer.Option(min=1, help="Trading days they spread over.")] = 3,
    seed: Annotated[int, typer.Option(help="Same seed, same records.")] = 7,
    as_json: Json = False,
) -> None:
    """Simulate a market, run Kafka → Bronze → Silver → Gold for real, and prove that nothing was lost or doubled."""
    from lakehouse_spark import migrations, report
    from lakehouse_spark.catalog import TOPICS
    from lakehouse_spark.cli.results import show_outcome, teller
    from lakehouse_spark.lake import session
    from lakehouse_spark.local import broker, demo, simulator

    settings = load()
    feed = simulator.Feed(demo.scenario(events, days, seed))
    log = announcer(as_json)
    with broker.serving(settings, TOPICS, log) as connected:
        log(f"Kafka answers at {connected.kafka.bootstrap_servers}; publishing {events:,} records")
        with (
            counting("published", events, quiet=as_json) as progress,
            _in_background(lambda: demo.publish(connected, feed, progress)),
        ):
            spark = session.open_session(settings, "demo", announce=log)
            log("migrations: making the tables, the exchanges and dim_time")
            migrations.migrate(spark, settings, datetime.now(UTC))
        with stages(as_json) as step:
            step("pipeline: bronze, dimensions, silver, facts, gold; then verify")
            outcome = demo.run(spark, connected, feed, report=teller(step))
            page, _ = report.write(spark, settings)
        spark.stop()
    if as_json:
        print_json(outcome.as_dict())
    else:
        show_outcome(outcome)
        place = settings.root if settings.catalog.type == "jdbc" else settings.warehouse
        out.print(f"\nThe lakehouse is in {place}. Look around: lakehouse status · lakehouse rejected list")
        out.print('lakehouse query "SELECT symbol, count(*) FROM silver.trades GROUP BY symbol"', highlight=False)
        out.print(f"All of it on one page: {page}", highlight=False)
    raise typer.Exit(0 if outcome.proved else 1)


def status(
    errors: Annotated[
        bool, typer.Option("--errors", help="Only the last error of each job that has not ended well since.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Rows, newest stamp and lag behind upstream of every table, what drifted in payloads and what failed last; read
    without Spark."""
    from lakehouse_spark.iceberg import inventory

    found = inventory.read(load())
    if errors:
        _show_errors(found.errors, as_json)
        return
    if found.absent:
        raise RefusedError(f"tables are missing: {', '.join(found.absent)}", "What to do: lakehouse doctor")
    rows = [_status(table, found.drifts) for table in found.tables.values()]
    if as_json:
        print_json(rows)
        return
    grid = grid_of("table", "rows", "files", "snapshots", "newest stamp (UTC)", "behind upstream")
    for row in rows:
        counts = [_number(row["rows"], row["rows_are"]), *(f"{row[name]:,}" for name in ("files", "snapshots"))]
        grid.add_row(row["table"], *counts, (row["stamp"] or "")[:19].replace("T", " "), _behind(row))
    out.print(grid)
    if found.drifts:
        out.print()
        for drift in found.drifts:
            out.print(f"{drift}", markup=False, highlight=False)
    if found.errors:
        out.print()
        _show_errors(found.errors, as_json)


def run_verify(
    tables: Annotated[
        list[str] | None, typer.Option("--table", help="Check this table alone; may be repeated; default: all.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Check all that is there, and not what is new alone.")] = False,
    as_json: Json = False,
) -> None:
    """Check every invariant of what is new since it last held; exit 1 on any violation."""
    from lakehouse_spark import catalog, migrations, verify
    from lakehouse_spark.cli.results import line, show_verified
    from lakehouse_spark.cli.sessions import opened

    chosen = [catalog.table(name) for name in tables or ()]
    with opened("verify", with_kafka=True) as (spark, settings), stages(as_json) as step:
        migrations.require_current(spark, settings)

        def report(finding: verify.Finding) -> None:
            if finding.checked != verify.NOTHING_NEW:
                step(line(finding))

        findings, complaint = verify.go_on(spark, settings, chosen, in_full=full, report=report)
    if complaint:
        err.print(complaint, markup=False, highlight=False)
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        show_verified(findings)
    raise typer.Exit(1 if any(finding.violations for finding in findings) else 0)


def _span(text: str) -> timedelta:
    from lakehouse_spark.jobs.registry import span

    return span(text)


def _live_table(text: str) -> str:
    from lakehouse_spark.jobs.registry import live_table

    return live_table(text)


def run_live(
    every: Annotated[
        timedelta, typer.Option("--every", parser=_span, metavar="SPAN", help="A beat comes 30s, 15m or 1h apart.")
    ] = "15m",  # type: ignore[assignment]  # the parser is given it
    tables: Annotated[
        list[str] | None,
        typer.Option("--table", parser=_live_table, metavar="TABLE", help="A table; may be repeated; default: all."),
    ] = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Ask the live mode that works on this lakehouse to end, and wait for it.")
    ] = False,
) -> None:
    """Bring every layer up to date on a beat, with maintenance in between; the same as run pipeline --every."""
    from lakehouse_spark.cli import live

    if not drain:
        raise typer.Exit(live.run_live({"every": every, "tables": tables or []}))
    out.print(live.drain(), markup=False, highlight=False)


def write_report(
    file: Annotated[
        Path | None, typer.Option("--out", help="The page; by default report.html in LAKEHOUSE_HOME.")
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="By default the day's most traded one.")] = None,
    trader: Annotated[str | None, typer.Option(help="By default the day's most active one.")] = None,
    day: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="By default the newest with more than stragglers.")
    ] = None,
    traced: Annotated[
        bool, typer.Option("--trace", help="Trace the numbers of the symbol, the trader and the largest position.")
    ] = False,
) -> None:
    """Write one HTML page: the flow of records, rejects, freshness, a symbol's day, a trader's P&L, the tables."""
    from lakehouse_spark import migrations, report
    from lakehouse_spark.cli import trace
    from lakehouse_spark.cli.sessions import opened

    with opened("report") as (spark, settings), stages(False) as step:
        with suppress(UsageError):  # the page says what is missing
            migrations.require_current(spark, settings)
        step("reading the tables")
        asked = symbol.strip().upper() if symbol else None
        tracing = partial(trace.for_page, spark, settings, step) if traced else None
        page, missing = report.write(
            spark, settings, file, symbol=asked, trader=trader, day=day.date() if day else None, trace=tracing
        )
    for sentence in missing:
        err.print(sentence, markup=False, highlight=False)
    out.print(f"The report is in {page}", highlight=False)


def show_plan(
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help="_metadata, bronze, dim, silver, gold; may be repeated; default: all."),
    ] = None,
    tables: Annotated[list[str] | None, typer.Option("--table", help="A table; may be repeated; default: all.")] = None,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Look for files that no metadata knows too: lists the tables' folders.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what maintenance is due and why, and what is left alone; read from metadata, without Spark."""
    from lakehouse_spark import catalog
    from lakehouse_spark.maintenance import survey

    settings = load()
    if unknown := {*(layers or ())} - {*catalog.LAYERS}:
        raise UsageError(f"there is no layer {', '.join(sorted(unknown))}: they are {', '.join(catalog.LAYERS)}")
    named = [catalog.table(name).name for name in tables or ()]
    chosen = survey.chosen(layers or (), named)
    now = datetime.now(UTC)
    found = survey.take(settings, chosen, now)
    if orphans:
        actions, refused = survey.look_for_orphans(settings, chosen, now)
        found = found.with_orphans(actions, refused)
    print_json(found.as_dict()) if as_json else show_survey(found)


def run_doctor(as_json: Json = False) -> None:
    """Look at Java, disk, Kafka, catalog, schema, clock and what dead runs left; exit 1 if something must be mended."""
    from lakehouse_spark.cli import doctor

    checks = doctor.examine(load(), datetime.now(UTC))
    if as_json:
        print_json([check._asdict() for check in checks])
    else:
        colours = {doctor.OK: "green", doctor.WARN: "yellow", doctor.FAIL: "red"}
        for check in checks:
            out.print(f"[{colours[check.verdict]}]{check.verdict:4}[/] {check.name}: ", end="")
            out.print(". ".join(filter(None, (check.found, check.advice))), markup=False, highlight=False)
    raise typer.Exit(1 if any(check.verdict == doctor.FAIL for check in checks) else 0)


def warm_up(as_json: Json = False) -> None:
    """Keep the classes that Spark loads in the cache (180 MB), so that each later command and job starts sooner."""
    from lakehouse_spark.local import startup

    archive = startup.make_archive(load(), announcer(as_json))
    size = archive.stat().st_size
    print_json({"archive": str(archive), "bytes": size}) if as_json else out.print(
        f"Java starts from {archive} ({size / 1e6:.0f} MB); remove it at any time", highlight=False
    )


def _show_errors(errors: "Sequence[LastError]", as_json: bool) -> None:
    if as_json:
        print_json([{"job": each.job, "at": to_text(each.at), "error": each.error} for each in errors])
        return
    for each in errors:
        when = f" at {each.at:%Y-%m-%d %H:%M:%S} UTC" if each.at else ""
        out.print(f"{each.job} failed{when}: {each.error}", markup=False, highlight=False)


def _status(table: "TableState", drifts: Sequence["Drift"]) -> dict[str, Any]:
    counts = {"rows": table.rows, "files": table.data_files + table.delete_files, "snapshots": table.snapshots}
    behind = sum(lag.rows or 0 for lag in table.lags) if table.follows else None
    return {
        "table": table.name, **counts, "stamp": to_text(table.stamp), "behind": behind,
        "waits_for": [lag.upstream for lag in table.lags], "rows_are": _sure(table.is_exact),
        "behind_is": _sure(all(lag.is_exact for lag in table.lags)),
        "drift": [drift.as_dict() for drift in drifts if f"bronze.{drift.topic}" == table.name],
    }  # fmt: skip


def _sure(is_exact: bool) -> str:
    return _EXACT if is_exact else _AT_MOST


def _number(number: int, sure: str) -> str:
    return f"{_AT_MOST} {number:,}" if sure == _AT_MOST else f"{number:,}"


def _behind(status: Mapping[str, Any]) -> str:
    if status["behind"] is None:
        return ""
    names = f" ({', '.join(status['waits_for'])})" if status["waits_for"] else ""
    return f"{_number(status['behind'], status['behind_is'])} rows{names}"


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
