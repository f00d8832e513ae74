"""`lakehouse migrate`, and the ways to look first."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse_spark.cli.output import Json, announcer, out, print_json, stages
from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.settings import load

# What a way works with is imported when it is gone: most of it waits for Spark's modules, which help does without.

if TYPE_CHECKING:
    from lakehouse_spark.local.rehearsal import Outcome
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
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="Apply what is pending to a copy of the metadata, run the jobs and verify."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create or upgrade the tables; with nothing pending, write nothing."""
    if (draft is not None) + plan + rehearse > 1:
        raise UsageError("--plan, --draft and --rehearse go one at a time")
    if draft is not None:
        _draft(draft, folder, as_json)
    elif rehearse:
        _rehearse(as_json)
    elif plan:
        _plan(as_json)
    else:
        _migrate(as_json)


def _migrate(as_json: bool) -> None:
    from lakehouse_spark import migrations
    from lakehouse_spark.cli.sessions import opened

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


def _plan(as_json: bool) -> None:
    from lakehouse_spark.migrations import plan

    found = plan.take(load())
    print_json(found.as_dict()) if as_json else _show(found)
    raise typer.Exit(RefusedError.exit_code if found.refused else 0)


def _draft(name: str, folder: Path, as_json: bool) -> None:
    from lakehouse_spark import migrations
    from lakehouse_spark.catalog import TABLES
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
    if as_json:
        print_json({"file": str(file) if operations else None, "drift": [drift.as_dict() for drift in found.drifts]})
        return
    for sentence in (sentence for drift in found.drifts for sentence in drift.sentences):
        _say(sentence)
    if operations:
        _say(f"drafted {file}: say there what changes and why, and keep it in lakehouse_spark/migrations")
    else:
        _say(f"{'no operation mends this' if found.drifts else 'nothing drifted'}: there is nothing to draft")


def _rehearse(as_json: bool) -> None:
    from lakehouse_spark.cli.results import line
    from lakehouse_spark.iceberg import copies
    from lakehouse_spark.lake.session import open_session
    from lakehouse_spark.local import rehearsal

    with kept_if_it_fails("lakehouse-rehearsal-") as folder, stages(as_json) as step:
        step(f"copying the metadata of all tables to {folder}")
        staged = copies.stage(load(), folder)
        spark = open_session(staged, "rehearsal", announce=step)
        step("applying migrations to the copy, then the jobs behind bronze, then verify")
        outcome = rehearsal.run(spark, staged, report=lambda done: step(line(done)))
        spark.stop()
        if as_json:
            print_json(outcome.as_dict())
        else:
            _tell(outcome)
        if not outcome.holds:
            raise typer.Exit(1)


@contextmanager
def kept_if_it_fails(prefix: str) -> Iterator[Path]:
    """A new folder, which goes unless there is something in it to look at."""
    folder = Path(mkdtemp(prefix=prefix))
    try:
        yield folder
    except (RefusedError, UsageError):
        rmtree(folder)
        raise
    except BaseException:
        announcer(quiet=False)(f"what was rehearsed is kept in {folder}")
        raise
    rmtree(folder)


def _tell(outcome: "Outcome") -> None:
    from lakehouse_spark.cli.results import show_findings

    for migration in outcome.applied:
        _say(f"rehearsed {migration.version}: {migration.description}")
    show_findings(outcome.findings, only_violations=True)
    held, rest = sum(finding.holds for finding in outcome.findings), len(outcome.findings)
    _say(f"{held} of {rest} invariants hold, and the jobs brought {len(outcome.summaries)} tables up to date")


def _show(found: "Plan") -> None:
    """What is pending, change by change, then what is refused, derived whole or drifted."""
    if found.is_new:
        from lakehouse_spark.catalog import TABLES

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
        differs = "will still differ" if found.pending else "differs"
        _say(f"{drift.table} {differs} from its declaration; what would mend it:")
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
        number = len(found.pending)
        return f"{number} migration{' is' if number == 1 else 's are'} pending: lakehouse migrate"
    return "nothing to migrate"


def _say(sentence: str) -> None:
    out.print(sentence, markup=False, highlight=False)
