"""A table as its catalog holds it now, in the words of declarations: what to compare them with, without Spark."""

from collections.abc import Mapping
from typing import Any

from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.sorting import NullOrder, SortDirection
from pyiceberg.transforms import Transform, VoidTransform
from pyiceberg.types import DecimalType, FixedType, IcebergType, ListType, MapType, StructType

from lakehouse_spark.schema.drift import Found
from lakehouse_spark.schema.operations import FORMAT_VERSION, ColumnDefinition
from lakehouse_spark.table import transformed

_SQL: Mapping[str, str] = {
    "long": "bigint",
    "timestamptz": "timestamp",
    "timestamp": "timestamp_ntz",
    "uuid": "string",
}
"""The types that Spark calls otherwise."""


def read(iceberg: IcebergTable) -> Found:
    """A table as it was loaded."""
    return of(iceberg.metadata)


def of(metadata: TableMetadata) -> Found:
    """A table by its metadata. Nested fields that must have a value show in the type of their column."""
    schema = metadata.schema()
    order = next(order for order in metadata.sort_orders if order.order_id == metadata.default_sort_order_id)
    live = {column.field_id for column in schema.fields}
    of_before = [column for before in metadata.schemas for column in before.fields if column.field_id not in live]
    return Found(
        columns=tuple(ColumnDefinition(c.name, sql_type(c.field_type), c.doc or "") for c in schema.fields),
        required=frozenset(column.name for column in schema.fields if column.required),
        partitioned_by=tuple(
            _term(schema, part.source_id, part.transform)
            for part in metadata.spec().fields
            if not isinstance(part.transform, VoidTransform)  # what format version 1 leaves of a removed one
        ),
        sorted_by=tuple(
            _term(schema, part.source_id, part.transform) + _direction(part.direction, part.null_order)
            for part in order.fields
        ),
        properties={**metadata.properties, FORMAT_VERSION: str(metadata.format_version)},
        dropped=frozenset(column.name for column in of_before),
        partition_columns=frozenset(
            name
            for spec in metadata.partition_specs
            for part in spec.fields
            if (name := schema.find_column_name(part.source_id))
        ),
        partition_names=frozenset(part.name for spec in metadata.partition_specs for part in spec.fields),
    )


def sql_type(kind: IcebergType) -> str:
    """A type as Spark's `simpleString` writes it; a nested field that must have a value is "not null"."""
    match kind:
        case DecimalType():
            return f"decimal({kind.precision},{kind.scale})"
        case FixedType():
            return "binary"
        case ListType():
            return f"array<{sql_type(kind.element_type)}{_null(kind.element_required)}>"
        case MapType():
            return f"map<{sql_type(kind.key_type)},{sql_type(kind.value_type)}{_null(kind.value_required)}>"
        case StructType():
            return f"struct<{','.join(f'{f.name}:{sql_type(f.field_type)}{_null(f.required)}' for f in kind.fields)}>"
        case _:
            return _SQL.get(str(kind), str(kind))


def _null(is_required: bool) -> str:
    return " not null" if is_required else ""


def _term(schema: Schema, column: int, by: Transform[Any, Any]) -> str:
    return transformed(str(by), schema.find_column_name(column) or f"column {column}")


def _direction(direction: SortDirection, nulls: NullOrder) -> str:
    is_default = (direction, nulls) == (SortDirection.ASC, NullOrder.NULLS_FIRST)
    return "" if is_default else f" {direction.name} {nulls.name.replace('_', ' ')}"
