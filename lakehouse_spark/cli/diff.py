"""`lakehouse diff`: which rows of a table changed between two moments, from what to what, and because of what."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from lakehouse_spark.cli.output import Json, grid_of, out, print_json, stages, text
from lakehouse_spark.cli.query import instant

if TYPE_CHECKING:
    from lakehouse_spark.trace.diff import Change, Changes


def run(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A table of silver, dim or gold.")],
    since: Annotated[datetime, typer.Option("--since", parser=instant, metavar="INSTANT", help="From when on.")],
    until: Annotated[
        datetime | None, typer.Option("--until", parser=instant, metavar="INSTANT", help="Until when; default: now.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to explain at most.")] = 20,
    as_json: Json = False,
) -> None:
    """Show which rows appeared, changed and went between two moments, old beside new, each with its causes."""
    from lakehouse_spark import catalog, migrations
    from lakehouse_spark.cli.sessions import opened
    from lakehouse_spark.trace.diff import diff

    chosen = catalog.table(table)
    with opened("diff") as (spark, settings), stages(as_json) as step:
        migrations.require_current(spark, settings)
        step("comparing, and looking for causes")
        found = diff(spark, settings, chosen, since, until, limit)
    print_json(_as_dict(found)) if as_json else _show(found)


def _show(found: "Changes") -> None:
    for change in found.rows:
        out.print(f"[bold]{change.kind}[/] ", end="")
        out.print(" ".join(f"{name}={value}" for name, value in change.key.items()), markup=False, highlight=False)
        if change.before is not None and change.after is not None:
            grid = grid_of("column", "was", "is")
            for name in change.columns:
                grid.add_row(name, *(Text("NULL" if v is None else text(v)) for v in _sides(change, name)))
            out.print(grid)
        for line in _causes(change):
            out.print(f"  {line}", markup=False, highlight=False)
    for note in found.notes:
        out.print(note, markup=False, highlight=False)
    said = ", ".join(f"{number:,} {kind}" for kind, number in found.numbers.items())
    more = f"; the first {len(found.rows)} are shown, --limit for more" if _all(found) > len(found.rows) else ""
    out.print(f"{found.table.name}: {said}{more}", markup=False, highlight=False)


def _sides(change: "Change", name: str) -> Iterable[Any]:
    assert change.before is not None
    assert change.after is not None
    return change.before.get(name), change.after.get(name)


def _causes(change: "Change") -> Iterable[str]:
    for cause in change.causes:
        yield " ".join(filter(None, (f"{cause.what}:", cause.record, cause.detail and f"({cause.detail})")))
    if not change.causes:
        yield "no cause was found: neither a record, nor a member, nor rules or a rebuild"


def _all(found: "Changes") -> int:
    return sum(found.numbers.values())


def _as_dict(found: "Changes") -> dict[str, Any]:
    return {
        "table": found.table.name,
        **found.numbers,
        "rows": [
            {
                "kind": change.kind,
                "key": dict(change.key),
                "before": change.before,
                "after": change.after,
                "columns": change.columns,
                "causes": [{"what": c.what, "record": c.record, "detail": c.detail} for c in change.causes],
            }
            for change in found.rows
        ],
        "notes": found.notes,
    }
