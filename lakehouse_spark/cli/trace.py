"""`lakehouse trace`: where one number comes from, down to the records; and what became of one record."""

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from lakehouse_spark.cli.output import Json, grid_of, out, print_json, show_rows, stages, text
from lakehouse_spark.errors import UsageError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakehouse_spark.report.model import Traced
    from lakehouse_spark.settings import Settings
    from lakehouse_spark.trace import Trace
    from lakehouse_spark.trace.fate import Fate

_MOST_ON_A_PAGE = 50
"""Rows of each list of a trace in the report."""


def run(
    what: Annotated[
        str, typer.Argument(metavar="TABLE|RECORD", help="A table, or a record's place, as raw_trades/0/12345.")
    ],
    key: Annotated[
        list[str] | None, typer.Argument(metavar="COLUMN=VALUE", help="Which row of the table; instants in UTC.")
    ] = None,
    column: Annotated[str | None, typer.Option("--column", help="Trace this column alone.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print at most of each list.")] = 20,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print all records that matter, as CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Show where a row comes from and make it again of just that, or what became of a record; exit 1 if it differs."""
    from lakehouse_spark import catalog, migrations, trace
    from lakehouse_spark.cli.sessions import opened

    with opened("trace") as (spark, settings), stages(as_json or as_csv) as step:
        migrations.require_current(spark, settings)
        if "/" in what:
            if key or column:
                raise UsageError("a record is named by its place alone", "lakehouse trace raw_trades/0/12345")
            step("looking for the record")
            fate = trace.fate(spark, settings, what)
            _print_csv(fate.touched) if as_csv else _show_fate(fate, limit, as_json)
            return
        step("looking for what the row is made of")
        found = trace.trace(spark, settings, catalog.table(what), dict(map(_parted, key or ())), column)
        if as_csv:
            _print_csv(found.named)
        elif as_json:
            print_json(_as_dict(found, limit))
        else:
            _show(found, limit)
    raise typer.Exit(1 if found.differing else 0)


def _parted(pair: str) -> tuple[str, str]:
    name, parted, value = pair.partition("=")
    if not parted:
        raise UsageError(f"expected COLUMN=VALUE, got {pair!r}", "lakehouse trace silver.trades trade_id=T1")
    return name, value


def _show(found: "Trace", limit: int) -> None:
    said = " ".join(f"{name}={value}" for name, value in found.key.items())
    out.print(f"[bold]{found.table.name}[/] ", end="")
    out.print(said, markup=False, highlight=False)
    grid = grid_of("column", "value", "made again", "")
    grid.add_column("rule", justify="left")
    for value in found.values:
        held, again = (Text(_or_null(each)) for each in (value.held, value.again))
        mark = "[green]equal[/]" if value.is_equal else "[red]DIFFERS[/]"
        grid.add_row(value.name, held, again, mark, Text(value.rule))
    out.print(grid)
    for part in found.parts:
        _show_list(part.title, part.rows, limit)
    for title, rows in _records(found):
        _show_list(title, rows, limit)
    for note in found.notes:
        out.print(note, markup=False, highlight=False)
    number = found.named.count()
    if found.differing:
        out.print(f"[red]DIFFERS[/] when made again of these {number:,} records: {', '.join(found.differing)}")
    else:
        out.print(f"[green]equal[/] when made again of these {number:,} records alone")


def _show_fate(found: "Fate", limit: int, as_json: bool) -> None:
    lists = {"records about the same": found.records, "the row": found.rows, "rows made of it": found.touched}
    given = {title: rows for title, rows in lists.items() if rows is not None}
    if as_json:
        told = {title: _told(rows, limit) for title, rows in given.items()}
        print_json({"record": found.place, "fate": found.sentence, **told})
        return
    out.print(f"[bold]{found.place}[/] ", end="", highlight=False)
    out.print(found.sentence, markup=False, highlight=False)
    for title, rows in given.items():
        _show_list(title, rows, limit)


def _show_list(title: str, rows: "DataFrame", limit: int) -> None:
    number = rows.count()
    if not number:
        return
    out.print(f"\n[bold]{title}[/]: {number:,}" + (f", of which {limit}" if number > limit else ""), highlight=False)
    show_rows(*_shown(rows, limit))


def _shown(rows: "DataFrame", limit: int) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """The columns that people read, and the first rows."""
    first = _first(rows, limit)
    if "payload" in rows.columns:
        columns = ("record", "key", "fate", "because", "payload")
        return columns, [[_place(row), *(row[name] for name in columns[1:])] for row in first]
    of_table = [name for name in rows.columns if not name.startswith("_")]
    shown = ["_use", *of_table] if "_use" in rows.columns else of_table
    return [name.removeprefix("_") for name in shown], [[row[name] for name in shown] for row in first]


def _records(found: "Trace") -> Sequence[tuple[str, "DataFrame"]]:
    return ("records that matter", found.named), ("left out, for it changes nothing", found.left_out)


def _or_null(value: Any) -> str:
    return "NULL" if value is None else text(value)


def _place(row: Any) -> str:
    """A record's place, as `lakehouse trace` takes it."""
    of_file = f"raw_reference/{row['source']}/{row['position']}"
    return of_file if row["partition"] is None else f"{row['source']}/{row['partition']}/{row['position']}"


def _first(rows: "DataFrame", limit: int) -> Sequence[Any]:
    from lakehouse_spark.cli.query import with_instants_as_text

    return with_instants_as_text(rows).limit(limit).collect()


def _as_dict(found: "Trace", limit: int) -> dict[str, Any]:
    return {
        "table": found.table.name,
        "key": found.key,
        "columns": [
            {"name": v.name, "value": v.held, "made_again": v.again, "equal": v.is_equal, "rule": v.rule}
            for v in found.values
        ],
        "made_of": {part.title: _told(part.rows, limit) for part in found.parts},
        "records": _told(found.named, limit),
        "left_out": _told(found.left_out, limit),
        "notes": found.notes,
        "equal": not found.differing,
    }


def for_page(
    spark: "SparkSession", settings: "Settings", step: Callable[[str], None], table: str, key: Mapping[str, str]
) -> "Traced":
    """A row's trace as the report shows it."""
    from lakehouse_spark import catalog, trace
    from lakehouse_spark.report.model import Listed, Traced, TracedColumn

    step(f"tracing {table} {' '.join(key.values())}")
    found = trace.trace(spark, settings, catalog.table(table), key)

    def listed(title: str, rows: "DataFrame") -> Listed:
        columns, first = _shown(rows, _MOST_ON_A_PAGE)
        return Listed(title, rows.count(), tuple(columns), tuple(tuple(map(_or_null, row)) for row in first))

    lists = [*((part.title, part.rows) for part in found.parts), *_records(found)]
    return Traced(
        table,
        key,
        tuple(TracedColumn(v.name, _or_null(v.held), _or_null(v.again), v.is_equal, v.rule) for v in found.values),
        tuple(listed(*each) for each in lists),
        tuple(found.notes),
    )


def _told(rows: "DataFrame", limit: int) -> dict[str, Any]:
    return {"number": rows.count(), "rows": [row.asDict(recursive=True) for row in _first(rows, limit)]}


def _print_csv(rows: "DataFrame") -> None:
    """All of them, a partition at a time."""
    from lakehouse_spark.cli.query import with_instants_as_text

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(rows.columns)
    for row in with_instants_as_text(rows).toLocalIterator():
        writer.writerow(["" if value is None else text(value) for value in row])
