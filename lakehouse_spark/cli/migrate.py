"""`lakehouse migrate`, and the ways to look first."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse_spark import migrations
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.cli.output import Json, out, print_json, stages
from lakehouse_spark.cli.sessions import opened
from lakehouse_spark.errors import RefusedError
from lakehouse_spark.settings import load

if TYPE_CHECKING:
    from lakehouse_spark.migrations.plan import Change, Plan


def run(
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Say what is pending, what it touches and costs, and what drifted; no Spark."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create or upgrade the tables; with nothing pending, write nothing."""
    _plan(as_json) if plan else _migrate(as_json)


def _migrate(as_json: bool) -> None:
    with opened("migrate") as (spark, settings), stages(as_json) as step:
        step("applying migrations")
        applied = migrations.migrate(spark, settings, datetime.now(UTC))
    if as_json:
        print_json([{"version": m.version, "description": m.description} for m in applied])
        return
    for migration in applied:
        out.print(f"applied {migration.version}: {migration.description}")
    if not applied:
        out.print("nothing to migrate")


def _plan(as_json: bool) -> None:
    from lakehouse_spark.migrations import plan  # brings PyIceberg, which no other command waits for

    found = plan.take(load())
    print_json(found.as_dict()) if as_json else _show(found)
    raise typer.Exit(RefusedError.exit_code if found.refused else 0)


def _show(found: "Plan") -> None:
    """What is pending, change by change, then what is refused, derived whole or drifted."""
    if found.is_new:
        out.print(f"there is no lakehouse here yet: all {len(TABLES)} tables would be made; run: lakehouse migrate")
        return
    for migration in found.pending:
        _say(f"{migration.version} {migration.description}")
        for change in (change for change in found.changes if change.version == migration.version):
            _say(f"  {change.sentence} ({_about(change)})")
    if found.derivations:
        tables = ", ".join(f"{each.table} ({each.rows:,} rows)" for each in found.derivations)
        _say(f"older rules than this release's made these, and their next job derives them whole: {tables}")
    for drift in found.drifts:
        _say(f"{drift.table} is not as declared{' even then' if found.pending else ''}. What would mend it:")
        for sentence in drift.sentences:
            _say(f"  {sentence}")
    for sentence in found.refused:
        _say(f"refused: {sentence}")
    _say(_end(found))


def _about(change: "Change") -> str:
    if change.rewrites_rows:
        return "work: rows are read, and rewritten where they change"
    return f"{change.kind}; read by {', '.join(change.readers) or 'no table'}; metadata only"


def _end(found: "Plan") -> str:
    if found.refused:
        return "lakehouse migrate would refuse"
    if found.pending:
        return f"{len(found.pending)} migrations are pending: lakehouse migrate"
    return "nothing to migrate"


def _say(sentence: str) -> None:
    out.print(sentence, markup=False, highlight=False)
