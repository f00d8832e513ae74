"""Which changes of tables are refused, why, and what to do instead. Pure.

Lineage is declared by table, and which columns of its sources a table reads is nowhere said. So all tables that are
built from a table count as readers of each of its columns; checks, reports and whoever else queries it are unknown.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from lakehouse_spark.schema.drift import Found, undroppable
from lakehouse_spark.schema.operations import (
    AddColumn,
    ChangePartitioning,
    DropColumn,
    Operation,
    RenameColumn,
)
from lakehouse_spark.table import Table, column_of


@dataclass(frozen=True)
class Agreement:
    """By what a migration may break its readers: a new major version, and the consumers that agreed to it.

    Consumers are tables, by their names, and whoever else reads ("the risk desk").
    """

    major: int
    consumers: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.consumers:
            raise ValueError(f"major version {self.major}: an agreement names the consumers that agreed")


def readers(table: str, tables: Sequence[Table]) -> tuple[str, ...]:
    """Those of the declared tables that may read a column of a table: those that are built from it."""
    return tuple(other.name for other in tables if table in other.sources)


def refusals(
    operations: Sequence[Operation],
    *,
    major: int,
    found: Mapping[str, Found],
    tables: Sequence[Table],
    agreement: Agreement | None = None,
    before: Sequence[Operation] = (),
) -> list[str]:
    """Why a migration's operations are refused, each in a sentence; none where they may be carried out.

    `major` is the version that they start from, `found` holds the tables, by name, as they are until the operations
    `before` are carried out, and `tables` is all that is declared.
    """
    reasons = [] if agreement is None else list(_of_version(agreement, major))
    for operation in operations:
        reasons += _of_readers(operation, readers(operation.table, tables), agreement, major)
    said_before = sum(1 for _ in _of_columns(before, found))
    return [*reasons, *islice(_of_columns([*before, *operations], found), said_before, None)]


def _of_version(agreement: Agreement, major: int) -> Iterator[str]:
    if agreement.major != major + 1:
        yield f"major version {agreement.major} is declared, and the one after {major} is {major + 1}: declare that"


def _of_readers(
    operation: Operation, read_by: tuple[str, ...], agreement: Agreement | None, major: int
) -> Iterator[str]:
    is_harmless = isinstance(operation, RenameColumn) and not read_by
    if not operation.is_breaking or is_harmless:
        return
    if agreement is None:
        who = ", ".join(read_by) or "whoever reads it"
        yield (
            f"{operation.sentence}; {who} may rely on how it was: declare major "
            f"version {major + 1} with the consumers that agreed, or {_instead(operation)}"
        )
    elif missing := [table for table in read_by if table not in agreement.consumers]:
        yield (
            f"{operation.sentence}; {', '.join(missing)} may rely on how it was, and did not agree: see that they can "
            "do without, and name them among the consumers"
        )


def _instead(operation: Operation) -> str:
    match operation:
        case RenameColumn(new=new):
            return f"add {new} and fill both"
        case DropColumn(column=column):
            return f"leave {column}, with a comment that nothing fills it any more"
        case ChangePartitioning():
            return "go on partitioning by these columns"
        case _:
            return "leave it as it is"


def _of_columns(operations: Sequence[Operation], found: Mapping[str, Found]) -> Iterator[str]:
    """Which columns may not be dropped, and which names not be given, after the operations before.

    A name that is used again would hold one thing in old snapshots and another in new ones. A column that is renamed
    loses nothing, so its old name is free. Once it is dropped, none of its names is.
    """
    gone = {(table, name) for table, held in found.items() for name in held.dropped}
    partitioned = {(table, name) for table, held in found.items() for name in held.partition_columns}
    fields = {(table, name) for table, held in found.items() for name in held.partition_names}
    names_of: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for operation in operations:
        table, added = operation.table, ""
        own: set[tuple[str, str]] = set()
        match operation:
            case DropColumn(column=name):
                names = names_of.pop((table, name), {(table, name)})
                gone |= names
                if names & partitioned:
                    yield f"{undroppable(table, name)}; {_instead(operation)}"
            case RenameColumn(old=old, new=added):
                own = names_of.pop((table, old), {(table, old)})
                names_of[table, added] = {*own, (table, added)}
            case AddColumn(column=column):
                added = column.name
            case ChangePartitioning(added=transforms):
                partitioned |= {(table, column_of(transform)) for transform in transforms}
                fields |= {(table, transform) for transform in transforms}
        if (table, added) in fields - own:
            yield (
                f"{table} has, or had, a partition field {added}, and Iceberg gives no column that name: choose another"
            )
        if (table, added) in gone:
            yield (
                f"{table} had another column {added} that was dropped, and snapshots of before hold its values: choose "
                "a name that was never used"
            )
