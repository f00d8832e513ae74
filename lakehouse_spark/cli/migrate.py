"""`lakehouse migrate`, and the ways to look first."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse_spark import migrations
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.cli.output import Json, out, print_json, stages
from lakehouse_spark.cli.sessions import opened
from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.settings import load

if TYPE_CHECKING:
    from lakehouse_spark.migrations.plan import Change, Plan


def run(
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Say what is pending, what it touches and costs, and what drifted; no Spark."),
    ] = False,
    draft: Annotated[
        str | None,
        typer.Option("--draft", metavar="NAME", help="Write a migration that would mend what drifted; no Spark."),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--into", metavar="FOLDER", help="With --draft: where it goes; by default here.")
    ] = Path(),
    as_json: Json = False,
) -> None:
    """Create or upgrade the tables; with nothing pending, write nothing."""
    if draft is not None:
        _draft(draft, folder, as_json)
    elif plan:
        _plan(as_json)
    else:
        _migrate(as_json)


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


def _draft(name: str, folder: Path, as_json: bool) -> None:
    from lakehouse_spark.migrations import draft, plan

    file = folder / draft.file_name(migrations.migrations()[-1].version, name)
    found = plan.take(load())
    operations = [operation for drift in found.drifts for operation in drift.operations]
    if operations:
        try:
            with file.open("x", encoding="utf-8") as written:
                written.write(draft.source(found.drifts, TABLES, found.major))
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror}") from error
    unmendable = [sentence for drift in found.drifts for sentence in drift.unmendable]
    if as_json:
        print_json(
            {
                "file": str(file) if operations else None,
                "operations": [o.sentence for o in operations],
                "unmendable": unmendable,
            }
        )
        return
    for sentence in (*(operation.sentence for operation in operations), *unmendable):
        _say(sentence)
    if operations:
        _say(f"drafted {file}: say there what changes and why, and keep it in lakehouse_spark/migrations")
    else:
        _say(
            "no operation mends this: there is nothing to draft"
            if unmendable
            else "nothing drifted: there is nothing to draft"
        )


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
