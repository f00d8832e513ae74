"""Table declarations as pages of the documentation: the list of tables, the dictionary of columns, the lineage."""

from collections.abc import Iterable, Mapping

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.table import Table

LAYERS: Mapping[str, str] = {
    "bronze": "Records as they arrived, append-only.",
    "dim": "Dimensions, derived from the change log; and the calendar.",
    "silver": "Judged, typed and deduplicated records; and those that were rejected.",
    "gold": "Facts and aggregates.",
    "_metadata": "Control tables.",
}
"""What each namespace holds, in the order of the dictionary."""


def table_list() -> str:
    """All tables in dependency order with their partitioning, as a Markdown table."""
    lines = ["| table | partitioned by | what it holds |", "|---|---|---|"]
    lines += [f"| `{table.name}` | {_codes(table.partitioned_by)} | {table.doc} |" for table in TABLES]
    return "\n".join(lines)


def dictionary() -> str:
    """Every table with its columns, as the body of a page."""
    parts = []
    for namespace, holds in LAYERS.items():
        parts.append(f"## {namespace}\n\n{holds}")
        parts += [_table(table) for table in TABLES if table.namespace == namespace]
    return "\n\n".join(parts)


def lineage() -> str:
    """Which tables each table follows and looks up, and which are built from it, as a Markdown table."""
    lines = ["| table | follows | looks up | what is built from it |", "|---|---|---|---|"]
    for table in TABLES:
        cells = (table.follows, table.lookups, [other.name for other in TABLES if table.name in other.sources])
        lines.append(f"| `{table.name}` | {' | '.join(map(_codes, cells))} |")
    return "\n".join(lines)


def edges() -> list[tuple[str, str, bool]]:
    """Source, table, and whether the source is only looked up, for every source of every table."""
    return [(source, table.name, source in table.lookups) for table in TABLES for source in table.sources]


def _table(table: Table) -> str:
    facts = {
        "key": _codes(table.key),
        "partitioned by": _codes(table.partitioned_by),
        "sorted by": _codes(table.sorted_by),
        "stamp": _codes([table.stamp] if table.stamp else []),
        "distribution": f"`{table.distribution}`",
        "rows are kept": _days(table.policy.row_days),
        "snapshots are kept": _days(table.policy.snapshot_days),
        "follows": _codes(table.follows),
        "looks up": _codes(table.lookups),
        "checked before it is published": _checks(table),
        "properties of its own": _codes(f"{name}={value}" for name, value in table.properties.items()),
    }
    columns = (
        f"| `{column.name}` | `{column.dataType.simpleString()}` | {escaped(column.metadata['comment'])} |"
        for column in table.columns
    )
    return "\n".join(
        [
            f"### {table.name}", "", escaped(table.doc), "",
            "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), "",
            "| column | type | what it holds |", "|---|---|---|", *columns,
        ]
    )  # fmt: skip


def _checks(table: Table) -> str:
    """Those of tables whose jobs check what they write."""
    if not table.checks:
        return "-"
    return "; ".join(f"{name}: `{sql}`" for name, sql in table.all_checks.items())


def escaped(text: str) -> str:
    """Text for a cell of a Markdown table; what stands between backticks stays as it is."""
    parts = text.split("`")
    parts[::2] = [part.replace("*", "\\*").replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts).replace("|", "\\|")


def _days(number: int | None) -> str:
    return "for ever" if number is None else f"{number} days"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "-"
