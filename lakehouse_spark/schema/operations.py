"""Changes of the lakehouse's tables as frozen values: they hold literals, so that no later declaration changes them."""

from dataclasses import dataclass

from lakehouse_spark.table import Table

FIRST = ""
"""As `after` of a column: before all others."""


@dataclass(frozen=True)
class ColumnDefinition:
    """A nullable column: `type` as SQL writes it ("decimal(18,6)")."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class AddColumn:
    """A new column of `table` ("silver.trades"), NULL in the rows it has.

    It stands right after the column `after`, before all others (FIRST), or, by default, at the end.
    """

    table: str
    column: ColumnDefinition
    after: str | None = None


@dataclass(frozen=True)
class CreateTable:
    """A new table; `properties` are those beyond what every table has."""

    table: str
    comment: str
    columns: tuple[ColumnDefinition, ...]
    partitioned_by: tuple[str, ...] = ()
    sorted_by: tuple[str, ...] = ()
    distribution: str = "none"
    properties: tuple[tuple[str, str], ...] = ()


def creation(table: Table) -> CreateTable:
    """The operation that makes a table as it is declared today."""
    return CreateTable(
        table=table.name,
        comment=table.doc,
        columns=tuple(
            ColumnDefinition(c.name, c.dataType.simpleString(), c.metadata["comment"]) for c in table.columns
        ),
        partitioned_by=table.partitioned_by,
        sorted_by=table.sorted_by,
        distribution=table.distribution,
        properties=tuple(table.properties.items()),
    )
