"""The commands that look at a lakehouse as a whole, and the demo."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pyspark.errors import PySparkException

from lakehouse_spark import catalog, migrations, report, verify
from lakehouse_spark.catalog import TOPICS
from lakehouse_spark.cli.output import (
    Json,
    announcer,
    counting,
    err,
    grid_of,
    line,
    out,
    print_json,
    show_findings,
    show_outcome,
    show_rows,
    show_survey,
    stages,
    teller,
    with_instants_as_text,
)
from lakehouse_spark.cli.sessions import opened
from lakehouse_spark.errors import UsageError, in_a_sentence
from lakehouse_spark.lake import session
from lakehouse_spark.lake.cursor import to_text
from lakehouse_spark.local import broker, demo, simulator
from lakehouse_spark.settings import load


def run_demo(
    events: Annotated[int, typer.Option(min=1, help="Kafka records to simulate.")] = 100_000,
    days: Annotated[int, typer.Option(min=1, help="Trading days they spread over.")] = 3,
    seed: Annotated[int, typer.Option(help="Same seed, same records.")] = 7,
    as_json: Json = False,
) -> None:
    """Simulate a market, run Kafka → Bronze → Silver → Gold for real, and prove that nothing was lost or doubled."""
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
        out.print(f"\nThe lakehouse is in {settings.root}. Look around: lakehouse status · lakehouse rejected list")
        out.print('lakehouse query "SELECT symbol, count(*) FROM silver.trades GROUP BY symbol"', highlight=False)
        out.print(f"All of it on one page: {page}", highlight=False)
    raise typer.Exit(0 if outcome.proved else 1)


def status(as_json: Json = False) -> None:
    """Rows, newest stamp and lag behind upstream of every table."""
    with opened("status") as (spark, settings):
        migrations.require_current(spark, settings)
        rows = [_status(table) for table in report.tables(spark)]
    if as_json:
        print_json(rows)
        return
    grid = grid_of("table", "rows", "files", "snapshots", "newest stamp (UTC)", "behind upstream")
    for row in rows:
        counts = [f"{row[name]:,}" for name in ("rows", "files", "snapshots")]
        grid.add_row(row["table"], *counts, (row["stamp"] or "")[:19].replace("T", " "), _behind(row))
    out.print(grid)


def run_verify(as_json: Json = False) -> None:
    """Check every invariant; exit 1 on any violation."""
    with opened("verify", with_kafka=True) as (spark, settings), stages(as_json) as step:
        migrations.require_current(spark, settings)
        findings = verify.run(spark, settings, report=lambda finding: step(line(finding)))
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        show_findings(findings)
    raise typer.Exit(1 if any(finding.violations for finding in findings) else 0)


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
    with opened("report") as (spark, settings), stages(False) as step:
        with suppress(UsageError):  # the page says what is missing
            migrations.require_current(spark, settings)
        step("reading the tables")
        asked = symbol.strip().upper() if symbol else None
        page, missing = report.write(
            spark, settings, file, symbol=asked, trader=trader, day=day.date() if day else None
        )
    for sentence in missing:
        err.print(sentence, markup=False, highlight=False)
    out.print(f"The report is in {page}", highlight=False)


def migrate(as_json: Json = False) -> None:
    """Create or upgrade the tables; with nothing pending, write nothing."""
    with opened("migrate") as (spark, settings), stages(as_json) as step:
        step("applying migrations")
        applied = migrations.migrate(spark, settings, datetime.now(UTC), say=step)
    if as_json:
        print_json([{"version": m.version, "description": m.description} for m in applied])
        return
    for migration in applied:
        out.print(f"applied {migration.version}: {migration.description}")
    if not applied:
        out.print("nothing to migrate")


def show_plan(
    layers: Annotated[
        list[str] | None,
        typer.Option("--layer", help=f"{', '.join(catalog.LAYERS)}; may be repeated; default: all."),
    ] = None,
    tables: Annotated[list[str] | None, typer.Option("--table", help="A table; may be repeated; default: all.")] = None,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Look for files that no metadata knows too: lists the tables' folders.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what maintenance is due and why, and what is left alone; read from metadata, without Spark."""
    from lakehouse_spark.lake import pyiceberg  # which no other command waits for
    from lakehouse_spark.maintenance import survey

    settings = load()
    if unknown := {*(layers or ())} - {*catalog.LAYERS}:
        raise UsageError(f"there is no layer {', '.join(sorted(unknown))}: they are {', '.join(catalog.LAYERS)}")
    named = [catalog.table(name).name for name in tables or ()]
    chosen = survey.chosen(layers or (), named)
    lake, now = pyiceberg.open_catalog(settings), datetime.now(UTC)
    found = survey.take(lake, settings.maintenance, chosen, now)
    if orphans:
        actions, refused = survey.look_for_orphans(lake, settings.maintenance, chosen, now)
        found = found.with_orphans(actions, refused)
    print_json(found.as_dict()) if as_json else show_survey(found)


def query(
    sql: Annotated[str, typer.Argument(help='Spark SQL, e.g. "SELECT * FROM silver.trades LIMIT 5".')],
    limit: Annotated[int, typer.Option(min=1, help="Rows to print at most.")] = 100,
    as_json: Json = False,
) -> None:
    """Ask the tables a question in SQL; it is not meant for writing."""
    with opened("query") as (spark, _):
        spark.catalog.setCurrentCatalog("lake")
        try:
            found = spark.sql(sql)
            rows = with_instants_as_text(found.limit(limit + 1)).collect()
        except PySparkException as error:
            raise UsageError(in_a_sentence(error).split(";", maxsplit=1)[0]) from None
    if as_json:
        print_json([row.asDict(recursive=True) for row in rows[:limit]])
        return
    show_rows(found.columns, rows[:limit])
    if len(rows) > limit:
        out.print(f"the first {limit:,} rows; --limit for more")


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
