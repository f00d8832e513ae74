"""`lakehouse audit`: commits that are held back because they break checks of their tables: look, publish, discard."""

from getpass import getuser
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse_spark.catalog import BY_NAME, TABLES, table
from lakehouse_spark.cli.groups import Group, completing
from lakehouse_spark.cli.output import Json, grid_of, out, print_json, show_rows
from lakehouse_spark.errors import UsageError
from lakehouse_spark.settings import load

if TYPE_CHECKING:
    from lakehouse_spark.iceberg.held import Held

app = typer.Typer(cls=Group)

TableName = Annotated[str, typer.Argument(metavar="TABLE", autocompletion=completing(BY_NAME))]
Because = Annotated[str, typer.Option(help="What who asks later will read.")]
By = Annotated[str, typer.Option(help="Who decides; default: the user of this machine.")]


@app.command("list")
def list_held(as_json: Json = False) -> None:
    """The commits that are held back, by table. Read without Spark."""
    from lakehouse_spark.iceberg import held, metadata

    found = [*held.of(metadata.read(load(), TABLES).values())]
    if as_json:
        print_json([_as_dict(each) for each in found])
        return
    grid = grid_of("table", "held since (UTC)", "breaks", "what it would do", "branch")
    for each in found:
        grid.add_row(each.table, f"{each.at:%Y-%m-%d %H:%M:%S}", _said(each.broken), _said(each.counts), each.branch)
    out.print(grid if found else "no commit is held back")


@app.command("show")
def show_held(
    name: TableName,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print at most of each check.")] = 20,
    as_json: Json = False,
) -> None:
    """The checks that a commit breaks which is held back, and the rows that break them."""
    from lakehouse_spark.cli.query import with_instants_as_text
    from lakehouse_spark.cli.sessions import opened
    from lakehouse_spark.jobs import audit
    from lakehouse_spark.lake import audit as checked

    chosen = table(name)
    waits = audit.of(load(), chosen)
    with opened("audit show") as (spark, settings):
        found = checked.of(spark, settings.audit, chosen)
        checks = {**found.checks, **found.queries}
        rows = {
            check: with_instants_as_text(breaking).limit(limit).collect()
            for check, breaking in audit.breaking(spark, settings, chosen, waits).items()
        }
        if as_json:
            told = {check: [row.asDict(recursive=True) for row in found] for check, found in rows.items()}
            print_json({**_as_dict(waits), "checks": {c: checks.get(c) for c in waits.broken}, "rows": told})
            return
        _tell(waits)
        for check, number in waits.broken.items():
            out.print(f"\n[bold]{check}[/] {checks.get(check, '')}: {number:,} rows", highlight=False)
            if rows.get(check):
                show_rows(rows[check][0].asDict().keys(), rows[check])  # type: ignore[arg-type]


@app.command("publish")
def publish_held(name: TableName, because: Because = "", by: By = "", as_json: Json = False) -> None:
    """Make a commit current although it breaks checks; the log of maintenance keeps who did, and why."""
    _decide("publish", "published", name, because, by, as_json)


@app.command("discard")
def discard_held(name: TableName, because: Because = "", by: By = "", as_json: Json = False) -> None:
    """Drop a commit that is held back: the next run makes it anew, by the code and the data of then."""
    _decide("discard", "discarded", name, because, by, as_json)


def _decide(decision: str, done: str, name: str, because: str, by: str, as_json: bool) -> None:
    """Has the function of `jobs.audit` decide that is named as the decision, and prints what is `done`."""
    if not because:
        raise UsageError("say why: --because 'a merger doubled the price, agreed with the desk'")
    from lakehouse_spark.cli.sessions import opened
    from lakehouse_spark.jobs import audit

    chosen = table(name)
    with opened(f"audit {decision}") as (spark, settings):
        waits = getattr(audit, decision)(spark, settings, chosen, by or getuser(), because)
    print_json({**_as_dict(waits), "decision": decision}) if as_json else out.print(f"{done} {waits.branch}")


def _tell(waits: "Held") -> None:
    out.print(f"[bold]{waits.table}[/]: held since {waits.at:%Y-%m-%d %H:%M:%S} UTC on {waits.branch}", highlight=False)
    out.print(f"it would do: {_said(waits.counts)}", highlight=False)


def _said(counts: Any) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def _as_dict(waits: "Held") -> dict[str, Any]:
    return {
        "table": waits.table, "branch": waits.branch, "held_since": waits.at.isoformat(), "broken": dict(waits.broken),
        "counts": dict(waits.counts),
    }  # fmt: skip
