"""Declarations and operations as Spark SQL: `python -m lakehouse_spark.schema.ddl infra/ddl` writes the scripts."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.schema.operations import (
    FIRST,
    AddColumn,
    Alteration,
    ChangePartitioning,
    ChangeSortOrder,
    ColumnDefinition,
    CommentColumn,
    CreateTable,
    DropColumn,
    MakeOptional,
    MoveColumn,
    Operation,
    PromoteColumn,
    RenameColumn,
    SetProperties,
    creation,
)
from lakehouse_spark.table import CATALOG, DISTRIBUTION, Table, column_of, properties, with_column

NAMESPACES = ("bronze", "silver", "gold", "dim", "_metadata")

_ORDERED: Mapping[str, str] = {
    "none": "LOCALLY ORDERED BY",
    "hash": "DISTRIBUTED BY PARTITION LOCALLY ORDERED BY",
    "range": "ORDERED BY",
}

_STRING = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
_OF_ICEBERG = re.compile(
    r"((?:add|drop|replace|write|set|create)\W+)(?=partition|ordered|locally|distributed|unordered|identifier|branch|tag)(\w)",
    re.IGNORECASE,
)

_SCRIPTS: Mapping[str, Callable[[Table], bool]] = {
    "02_bronze_tables.sql": lambda table: table.namespace == "bronze",
    "03_silver_tables.sql": lambda table: table.namespace == "silver",
    "04_gold_tables.sql": lambda table: table.namespace == "gold" and not table.short_name.startswith("fact_"),
    "05_fact_tables.sql": lambda table: table.namespace == "gold" and table.short_name.startswith("fact_"),
    "06_dimension_tables.sql": lambda table: table.namespace in ("dim", "_metadata"),
}


def create_namespaces() -> list[str]:
    """One idempotent statement per namespace."""
    return [create_namespace(namespace) for namespace in NAMESPACES]


def create_namespace(namespace: str) -> str:
    return f"CREATE NAMESPACE IF NOT EXISTS {CATALOG}.{namespace}"


def create_table(table: Table) -> list[str]:
    """The statements that create a table and set its sort order; run again, they write no new metadata."""
    return statements(creation(table))


def statements(operation: Operation) -> list[str]:
    """An operation as Spark SQL with Iceberg's extensions.

    A creation may be run again. What was altered before may be refused: a column that is there already, or no longer.
    """
    if isinstance(operation, CreateTable):
        order = _write(operation.sorted_by, operation.distribution) if operation.sorted_by else []
        return [_create(operation), *_alterations(operation.table, order)]
    return _alterations(operation.table, _clauses(operation))


def view_of_before(name: str, table: str, columns: Sequence[str], operations: Sequence[Operation]) -> str:
    """A view of a table, which has these columns after the operations, with the columns and names of before.

    Columns that were added are not in it, and those that were dropped cannot be.
    """
    names = {column: column for column in columns}
    for operation in reversed([operation for operation in operations if operation.table == table]):
        match operation:
            case RenameColumn(old=old, new=new):
                names = {now: old if before == new else before for now, before in names.items()}
            case AddColumn(column=column):
                names = {now: before for now, before in names.items() if before != column.name}
    selected = ", ".join(f"{_name(now)} AS {_name(before)}" for now, before in names.items())
    return f"CREATE OR REPLACE VIEW {CATALOG}.{name} AS SELECT {selected} FROM {CATALOG}.{table}"


def scripts() -> dict[str, str]:
    """The text of each DDL script by file name, in the order they must run."""
    texts = {"01_create_namespaces.sql": _script(create_namespaces())}
    for name, belongs in _SCRIPTS.items():
        texts[name] = _script([statement for table in TABLES if belongs(table) for statement in create_table(table)])
    return texts


def _create(table: CreateTable) -> str:
    columns = ",\n".join(f"  {_column(column)}" for column in table.columns)
    held = properties(table.distribution, dict(table.properties))
    listed = ",\n".join(f"  {_text(key)} = {_text(value)}" for key, value in held.items())
    partitions = ", ".join(map(_quoted, table.partitioned_by))
    parts = [
        f"CREATE TABLE IF NOT EXISTS {CATALOG}.{table.table} (\n{columns}\n)",
        "USING iceberg",
        *([f"PARTITIONED BY ({partitions})"] if partitions else []),
        f"COMMENT {_text(table.comment)}",
        f"TBLPROPERTIES (\n{listed}\n)",
    ]
    return "\n".join(parts)


def _alterations(table: str, clauses: list[str]) -> list[str]:
    return [f"ALTER TABLE {CATALOG}.{table} {_STRING.sub(_hidden, clause)}" for clause in clauses]


def _hidden(string: re.Match[str]) -> str:
    """A string without the phrases by which Iceberg takes an ALTER TABLE for its own: one letter of each is escaped."""
    return _OF_ICEBERG.sub(lambda phrase: f"{phrase[1]}\\u{ord(phrase[2]):04x}", string[0])


def _clauses(operation: Alteration) -> list[str]:
    match operation:
        case AddColumn(column=column, after=after):
            return [f"ADD COLUMN {_column(column)}{'' if after is None else ' ' + _place(after)}"]
        case RenameColumn(old=old, new=new):
            return [f"RENAME COLUMN {_name(old)} TO {_name(new)}"]
        case PromoteColumn(column=name, new=new):
            return [f"ALTER COLUMN {_name(name)} TYPE {new}"]
        case DropColumn(column=name):
            return [f"DROP COLUMN {_name(name)}"]
        case MoveColumn(column=name, new=new):
            return [f"ALTER COLUMN {_name(name)} {_place(new)}"]
        case CommentColumn(column=name, new=new):
            return [f"ALTER COLUMN {_name(name)} COMMENT {_text(new)}"]
        case MakeOptional(column=name):
            return [f"ALTER COLUMN {_name(name)} DROP NOT NULL"]
        case ChangePartitioning(added=added, removed=removed):
            return [  # added first: what is written meanwhile is no less apart than before or after
                *(f"ADD PARTITION FIELD {_quoted(transform)}" for transform in added),
                *(f"DROP PARTITION FIELD {_quoted(transform)}" for transform in removed),
            ]
        case ChangeSortOrder(new=new, distribution=distribution):
            return _write(new, distribution)
        case SetProperties(changes=changes):
            return _set({name: new for name, _, new in changes})


def _write(sorted_by: tuple[str, ...], distribution: str) -> list[str]:
    """The clauses that set an order and leave write.distribution-mode at `distribution`.

    `DISTRIBUTED BY PARTITION` sets that property to hash, `ORDERED BY` to range and `UNORDERED` to none;
    `LOCALLY ORDERED BY` alone leaves it as it is.
    """
    if sorted_by:
        return [f"WRITE {_ORDERED[distribution]} {', '.join(map(_quoted, sorted_by))}"]
    if distribution == "range":
        return ["WRITE UNORDERED", *_set({DISTRIBUTION: distribution})]
    return ["WRITE DISTRIBUTED BY PARTITION" if distribution == "hash" else "WRITE UNORDERED"]


def _set(values: Mapping[str, str | None]) -> list[str]:
    """The clauses that set properties to their values, and remove those without one."""
    listed = ", ".join(f"{_text(name)} = {_text(value)}" for name, value in values.items() if value is not None)
    unset = ", ".join(_text(name) for name, value in values.items() if value is None)
    return [
        *([f"SET TBLPROPERTIES ({listed})"] if listed else []),
        *([f"UNSET TBLPROPERTIES ({unset})"] if unset else []),
    ]


def _place(after: str) -> str:
    return "FIRST" if after == FIRST else f"AFTER {_name(after)}"


def _column(column: ColumnDefinition) -> str:
    return f"{_name(column.name)} {column.type} COMMENT {_text(column.comment)}"


def _quoted(term: str) -> str:
    """A term of partitioning or of a sort order with its column quoted."""
    return with_column(term, _name(column_of(term)))


def _name(column: str) -> str:
    return f"`{column.replace('`', '``')}`"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _script(statements: list[str]) -> str:
    header = "-- Generated by `python -m lakehouse_spark.schema.ddl infra/ddl`: do not edit.\n\n"
    return header + "\n".join(f"{statement};\n" for statement in statements)


def main(folder: str) -> None:
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, text in scripts().items():
        (target / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
