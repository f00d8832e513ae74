"""`lakehouse rollback`: a table as it was at a moment, by a new commit."""

from datetime import datetime
from getpass import getuser
from typing import Annotated

import typer

from lakehouse_spark.cli.output import Json, out, print_json, stages
from lakehouse_spark.cli.query import instant
from lakehouse_spark.errors import UsageError


def run(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A table of silver, dim or gold.")],
    to: Annotated[datetime, typer.Option("--to", parser=instant, metavar="INSTANT", help="As it was then.")],
    because: Annotated[str, typer.Option(help="What who asks later will read.")] = "",
    by: Annotated[str, typer.Option(help="Who decides; default: the user of this machine.")] = "",
    as_json: Json = False,
) -> None:
    """Give a table the rows that it had at a moment; its job makes anew what came since, by the code of then."""
    if not because:
        raise UsageError("say why: --because 'release 1.4 doubled volumes; 1.4.1 is installed'")
    from lakehouse_spark import catalog, migrations
    from lakehouse_spark.cli.sessions import opened
    from lakehouse_spark.jobs import rollback

    chosen = catalog.table(table)
    with opened("rollback") as (spark, settings), stages(as_json) as step:
        migrations.require_current(spark, settings)
        step("comparing with how it was")
        done = rollback.rollback(spark, settings, chosen, to, by or getuser(), because)
    if as_json:
        print_json(done.as_dict())
    else:
        out.print(str(done), markup=False, highlight=False)
        out.print("its job makes anew what came since: lakehouse run pipeline", highlight=False)
