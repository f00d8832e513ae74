"""Changes of tables, carried out by Spark. Each looks first which part of it is done, so that it may be run again."""

from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import SparkSession

from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.schema import ddl
from lakehouse_spark.schema.operations import (
    FIRST,
    FORMAT_VERSION,
    AddColumn,
    Alteration,
    ChangePartitioning,
    ChangeSortOrder,
    CommentColumn,
    CreateTable,
    DropColumn,
    MakeOptional,
    MoveColumn,
    Operation,
    PromoteColumn,
    RenameColumn,
    SetProperties,
)
from lakehouse_spark.table import DISTRIBUTION, Policy, Table, transformed


@dataclass(frozen=True)
class Place:
    """Where a table is: its current snapshot and its schema, by Iceberg's ids."""

    snapshot_id: int | None = None
    schema_id: int | None = None


def carry_out(spark: SparkSession, *operations: Operation) -> None:
    """Does what is left of the operations, in their order; their tables need not be declared.

    Afterwards the tables' current snapshots have their schemas. A column that is there under its old name and its new
    one, or under neither, is left to Iceberg to refuse.
    """
    for operation in operations:
        if isinstance(operation, CreateTable):
            _create(spark, operation)
        else:
            for statement in _statements_left(spark, named(operation.table), operation):
                spark.sql(statement)
    for name in dict.fromkeys(operation.table for operation in operations):
        commit.adopt_schema(spark, named(name))


def place(spark: SparkSession, table: str | None) -> Place:
    """Where a table is now; nowhere, if it is not there."""
    if table is None or not spark.catalog.tableExists(named(table).identifier):
        return Place()
    iceberg = snapshots.load(spark, named(table))
    head = iceberg.currentSnapshot()
    return Place(None if head is None else head.snapshotId(), iceberg.schema().schemaId())


def named(name: str) -> Table:
    """A table of which no more is known than its name: it may not be declared any more, or not yet."""
    return Table(name, doc="", columns=(), key=(), policy=Policy(snapshot_days=1))


def _create(spark: SparkSession, operation: CreateTable) -> None:
    table = named(operation.table)
    for statement in (ddl.create_namespace(table.namespace), *ddl.statements(operation)):
        spark.sql(statement)
    commit.open_table(spark, table)


def _statements_left(spark: SparkSession, table: Table, operation: Alteration) -> list[str]:
    if _is_done(spark, table, operation):
        return []
    iceberg = snapshots.load(spark, table)
    match operation:
        case ChangePartitioning(added=added, removed=removed):
            parts = _partitioning(iceberg)
            operation = replace(
                operation,
                added=tuple(part for part in added if part not in parts),
                removed=tuple(part for part in removed if part in parts),
            )
        case SetProperties(changes=changes):
            held = _properties(iceberg)
            operation = replace(operation, changes=tuple(c for c in changes if held.get(c[0]) != c[2]))
    return ddl.statements(operation)


def _is_done(spark: SparkSession, table: Table, operation: Alteration) -> bool:
    """Whether columns are as the operation wants them; of all else it is asked part by part."""
    columns = {column.name: column for column in spark.table(table.identifier).schema}
    match operation:
        case AddColumn(column=added):
            return added.name in columns
        case RenameColumn(old=old, new=new):
            return old not in columns and new in columns
        case DropColumn(column=name):
            return name not in columns
        case MoveColumn(column=name, new=after):
            return (after, name) in zip((FIRST, *columns), columns, strict=False)
        case PromoteColumn(column=name, new=new):
            return name in columns and columns[name].dataType.simpleString() == new
        case CommentColumn(column=name, new=new):
            return name in columns and columns[name].metadata.get("comment", "") == new
        case MakeOptional(column=name):
            return name in columns and columns[name].nullable
        case ChangeSortOrder(new=(), distribution=mode):
            iceberg = snapshots.load(spark, table)
            return bool(iceberg.sortOrder().isUnsorted()) and _properties(iceberg).get(DISTRIBUTION) == mode
    return False


def _partitioning(iceberg: Any) -> list[str]:
    """The transforms of a table's partition spec as declarations write them."""
    schema = iceberg.schema()
    fields = snapshots.each(iceberg.spec().fields())
    return [transformed(part.transform().toString(), schema.findColumnName(part.sourceId())) for part in fields]


def _properties(iceberg: Any) -> dict[str, str]:
    return {**iceberg.properties(), FORMAT_VERSION: str(iceberg.operations().current().formatVersion())}
