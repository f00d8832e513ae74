"""The `lakehouse` command: the friendly door to every job."""

import os
import sys
import time
from typing import Annotated

import typer

from lakehouse_spark import __version__
from lakehouse_spark.cli import commands, diff, migrate, move, query, rollback, trace
from lakehouse_spark.cli.failures import explained, of_parser
from lakehouse_spark.cli.groups import HELP, OF_JOBS, Group, LaterGroup, list_commands
from lakehouse_spark.cli.output import announcer, err, out
from lakehouse_spark.errors import LakehouseError


class _Jobs(LaterGroup):
    kind, module = "job", "lakehouse_spark.cli.live"


class _Rejected(LaterGroup):
    module = "lakehouse_spark.cli.rejected"


class _Audit(LaterGroup):
    module = "lakehouse_spark.cli.audit"


app = typer.Typer(cls=Group, context_settings=HELP, pretty_exceptions_enable=False, help=__doc__)
app.command("demo")(commands.run_demo)
app.add_typer(typer.Typer(cls=_Jobs, callback=list_commands, invoke_without_command=True, **OF_JOBS), name="run")
app.command("live")(commands.run_live)
app.command("status")(commands.status)
app.command("verify")(commands.run_verify)
app.command("report")(commands.write_report)
app.command("migrate")(migrate.run)
app.command("plan")(commands.show_plan)
app.command("query")(query.run)
app.command("trace")(trace.run)
app.command("diff")(diff.run)
app.command("rollback")(rollback.run)
app.command("move")(move.run)
app.command("warm-up")(commands.warm_up)
app.command("doctor")(commands.run_doctor)
app.add_typer(
    typer.Typer(
        cls=_Rejected, callback=list_commands, invoke_without_command=True,
        help="The dead-letter table: look, replay, discard.",
    ),
    name="rejected",
)  # fmt: skip
app.add_typer(
    typer.Typer(
        cls=_Audit, callback=list_commands, invoke_without_command=True,
        help="Commits that are held back because they break checks: look, publish, discard.",
    ),
    name="audit",
)  # fmt: skip


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"lakehouse-spark {__version__}", highlight=False)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _list_commands(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="This release.")
    ] = False,
) -> None:
    list_commands(context)


def main() -> None:
    """Runs the command; an error is one sentence on stderr and its exit code."""
    os.environ["TZ"] = "UTC"  # the zone in which Python sees the instants of a query's rows
    time.tzset()
    try:
        sys.exit(app(prog_name="lakehouse", standalone_mode=False))
    except typer.Abort:  # Ctrl-C
        sys.exit(130)
    except Exception as error:
        failed = of_parser(error) if isinstance(error, typer.TyperException) else error
        sentence = explained(" ".join(["lakehouse", *sys.argv[1:2]]), failed, announcer(quiet=False))
        if isinstance(failed, LakehouseError):
            err.print(f"[red]{type(failed).__name__.removesuffix('Error').lower()}:[/] ", end="")
        err.print(sentence, markup=False, highlight=False)
        sys.exit(getattr(failed, "exit_code", LakehouseError.exit_code))
