"""How a table in a catalog differs from its declaration: the operations that would mend it, and what none can. Pure.

Declarations know no field ids. A column that is missing and one that is not declared count as one that was renamed
where they agree in type and comment, and no other does; else as one to add and one to drop.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import Any

from lakehouse_spark.schema.operations import (
    FIRST,
    FORMAT_VERSION,
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
    is_promotion,
)
from lakehouse_spark.table import DISTRIBUTION, Table, column_of, properties, with_column


@dataclass(frozen=True)
class Found:
    """A table as its catalog holds it, in the words of declarations."""

    columns: tuple[ColumnDefinition, ...]
    required: frozenset[str] = frozenset()
    """The columns that must have a value."""
    partitioned_by: tuple[str, ...] = ()
    sorted_by: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    """The table's description ("comment") and its format version among them."""
    dropped: frozenset[str] = frozenset()
    """Names of columns that were dropped, as far as the metadata remembers."""
    partition_columns: frozenset[str] = frozenset()
    """The columns of all partition specs, today's and older ones."""
    partition_names: frozenset[str] = frozenset()
    """The names of their fields: of a column itself its name at that time, else one like "symbol_bucket"."""

    @property
    def by_name(self) -> Mapping[str, ColumnDefinition]:
        return {column.name: column for column in self.columns}


@dataclass(frozen=True)
class Drift:
    """What differs in one table; nothing does where both are empty."""

    table: str
    operations: tuple[Operation, ...] = ()
    """Carried out in this order, they make the table as it is declared, but for what is unmendable."""
    unmendable: tuple[str, ...] = ()
    """What no operation can mend, each in a sentence that says what to do instead."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """What would be done, then what cannot be."""
        return *(operation.sentence for operation in self.operations), *self.unmendable

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        operations = [operation.sentence for operation in self.operations]
        return {"table": self.table, "operations": operations, "unmendable": list(self.unmendable)}


def drift(declared: Table, found: Found | None) -> Drift:
    """How a table differs from its declaration; None: it is missing.

    Properties that are not declared are left alone.
    """
    target = creation(declared)
    if found is None:
        return Drift(target.table, (target,))
    renames = list(_renames(target, found))
    found = _renamed(found, renames)
    # Iceberg drops no column by which a table is sorted, and partitions and sorts by none that is not there yet.
    operations = (
        *renames,
        *_placed(target, found),
        *_redefined(target, found),
        *_partitioned(target, found),
        *_sorted(target, found),
        *_dropped(target, found),
        *_with_properties(declared, found),
    )
    return Drift(target.table, operations, tuple(_unmendable(declared, target, found)))


def after(found: Found | None, operation: Operation) -> Found:
    """A table (None: it is missing) as an operation leaves it; what is done already changes nothing.

    Raises ValueError where the table lacks what is to be changed.
    """
    if isinstance(operation, CreateTable):
        return found or _created(operation)
    if found is None:
        raise ValueError(f"{operation.table} is missing: {operation.sentence}")
    try:
        return _altered(found, operation)
    except KeyError as error:
        raise ValueError(f"{operation.table} has no column {error.args[0]}: {operation.sentence}") from None


def _altered(found: Found, operation: Alteration) -> Found:
    match operation:
        case AddColumn(column=column, after=place):
            return found if column.name in found.by_name else _with_column(found, column, place)
        case RenameColumn(old=old, new=new):
            return _renamed(found, [operation]) if old in found.by_name else _with(found, found.by_name[new])
        case DropColumn(column=name):
            left = tuple(column for column in found.columns if column.name != name)
            return replace(found, columns=left, dropped=found.dropped | {name}, required=found.required - {name})
        case MoveColumn(column=name, new=place):
            left = tuple(column for column in found.columns if column.name != name)
            return _with_column(replace(found, columns=left), found.by_name[name], place)
        case PromoteColumn(column=name, new=new):
            return _with(found, replace(found.by_name[name], type=new))
        case CommentColumn(column=name, new=new):
            return _with(found, replace(found.by_name[name], comment=new))
        case MakeOptional(column=name):
            return replace(found, required=found.required - {name})
        case ChangePartitioning(added=added, removed=removed):
            kept = tuple(term for term in found.partitioned_by if term not in removed)
            return replace(
                found,
                partitioned_by=(*kept, *(term for term in added if term not in kept)),
                partition_columns=found.partition_columns.union(map(column_of, added)),
            )
        case ChangeSortOrder(new=new, distribution=mode):
            return replace(found, sorted_by=new, properties={**found.properties, DISTRIBUTION: mode})
        case SetProperties(changes=changes):
            held = {**found.properties, **{name: value for name, _, value in changes if value is not None}}
            unset = {name for name, _, value in changes if value is None}
            return replace(found, properties={name: value for name, value in held.items() if name not in unset})


def _created(table: CreateTable) -> Found:
    return Found(
        columns=table.columns,
        partitioned_by=table.partitioned_by,
        sorted_by=table.sorted_by,
        properties={"comment": table.comment, **properties(table.distribution, dict(table.properties))},
        partition_columns=frozenset(map(column_of, table.partitioned_by)),
    )


def _with_column(found: Found, column: ColumnDefinition, after: str | None) -> Found:
    """With one more column, right after another (FIRST: before all), or at the end."""
    order = list(found.columns)
    order.insert(len(order) if after is None else order.index(found.by_name[after]) + 1 if after else 0, column)
    return replace(found, columns=tuple(order))


def _with(found: Found, changed: ColumnDefinition) -> Found:
    return replace(found, columns=tuple(changed if c.name == changed.name else c for c in found.columns))


def _renames(target: CreateTable, found: Found) -> Iterator[RenameColumn]:
    missing = [column for column in target.columns if column.name not in found.by_name]
    surplus = [found.by_name[name] for name in _surplus(target, found)]
    for new in missing:
        alike = [column for column in surplus if replace(column, name=new.name) == new]
        rivals = [column for column in missing if replace(column, name=new.name) == new]
        if len(alike) == len(rivals) == 1:
            yield RenameColumn(target.table, alike[0].name, new.name)


def _renamed(found: Found, renames: list[RenameColumn]) -> Found:
    for rename in renames:
        old, new = rename.old, rename.new
        found = replace(
            found,
            columns=tuple(replace(c, name=new) if c.name == old else c for c in found.columns),
            required=frozenset(new if name == old else name for name in found.required),
            partition_columns=frozenset(new if name == old else name for name in found.partition_columns),
            partitioned_by=_of_renamed(found.partitioned_by, old, new),
            sorted_by=_of_renamed(found.sorted_by, old, new),
        )
    return found


def _placed(target: CreateTable, found: Found) -> Iterator[AddColumn | MoveColumn]:
    """Adds and moves columns, in the declared order, each right after the one that is declared before it."""
    declared = [column.name for column in target.columns]
    order = [column.name for column in found.columns]
    kept = [name for name in order if name in declared]
    blocks = SequenceMatcher(None, kept, declared, autojunk=False).get_matching_blocks()
    in_place = {name for block in blocks for name in kept[block.a : block.a + block.size]}
    after = FIRST
    for column in target.columns:
        if column.name not in order:
            is_last = bool(order) and order[-1] == after
            yield AddColumn(target.table, column, None if is_last else after)
            _place(order, column.name, after)
        elif column.name not in in_place and (was := _before(order, column.name)) != after:
            yield MoveColumn(target.table, column.name, was, after)
            order.remove(column.name)
            _place(order, column.name, after)
        after = column.name


def _place(order: list[str], name: str, after: str) -> None:
    order.insert(order.index(after) + 1 if after else 0, name)


def _before(order: list[str], name: str) -> str:
    place = order.index(name)
    return order[place - 1] if place else FIRST


def _redefined(target: CreateTable, found: Found) -> Iterator[PromoteColumn | MakeOptional | CommentColumn]:
    for new in target.columns:
        old = found.by_name.get(new.name)
        if old is None:
            continue
        if is_promotion(old.type, new.type):
            yield PromoteColumn(target.table, new.name, old.type, new.type)
        if new.name in found.required:
            yield MakeOptional(target.table, new.name)
        if old.comment != new.comment:
            yield CommentColumn(target.table, new.name, old.comment, new.comment)


def _partitioned(target: CreateTable, found: Found) -> Iterator[ChangePartitioning]:
    added = tuple(transform for transform in target.partitioned_by if transform not in found.partitioned_by)
    removed = tuple(transform for transform in found.partitioned_by if transform not in target.partitioned_by)
    if added or removed:
        yield ChangePartitioning(target.table, added, removed)


def _sorted(target: CreateTable, found: Found) -> Iterator[ChangeSortOrder]:
    if found.sorted_by != target.sorted_by:
        yield ChangeSortOrder(target.table, found.sorted_by, target.sorted_by, target.distribution)


def _dropped(target: CreateTable, found: Found) -> Iterator[DropColumn]:
    for name in _surplus(target, found):
        if name not in found.partition_columns:
            yield DropColumn(target.table, name)


def _surplus(target: CreateTable, found: Found) -> list[str]:
    declared = {column.name for column in target.columns}
    return [column.name for column in found.columns if column.name not in declared]


def _with_properties(declared: Table, found: Found) -> Iterator[SetProperties]:
    wanted = {"comment": declared.doc, **declared.all_properties}
    if _has_later_format(declared, found):
        del wanted[FORMAT_VERSION]
    held = found.properties
    changes = tuple((name, held.get(name), value) for name, value in wanted.items() if held.get(name) != value)
    if changes:
        yield SetProperties(declared.name, changes)


def _unmendable(declared: Table, target: CreateTable, found: Found) -> Iterator[str]:
    for new in target.columns:
        old = found.by_name.get(new.name, new)
        if old.type != new.type and not is_promotion(old.type, new.type):
            yield (
                f"{target.table}.{new.name} is {old.type}, declared {new.type}, and Iceberg cannot turn one into the "
                "other: declare the type that it has, or another column"
            )
    for name in _surplus(target, found):
        if name in found.partition_columns:
            yield f"{undroppable(target.table, name)}; declare it"
    kept = [transform for transform in found.partitioned_by if transform in target.partitioned_by]
    reached = (*kept, *(transform for transform in target.partitioned_by if transform not in kept))
    if reached != target.partitioned_by:
        yield (
            f"{target.table} is partitioned by {', '.join(target.partitioned_by)}, and new transforms come last: "
            f"declare them as {', '.join(reached)}"
        )
    if _has_later_format(declared, found):
        version = found.properties[FORMAT_VERSION]
        yield (
            f"{target.table} has {FORMAT_VERSION} {version}, declared {declared.all_properties[FORMAT_VERSION]}, and "
            f"there is no way back: declare {version}"
        )


def undroppable(table: str, column: str) -> str:
    """Why a column that any partition spec is made of stays: Iceberg reads no table that lost one (iceberg#10234)."""
    return f"{table}.{column} cannot be dropped: the table is partitioned by it, or was, and could not be read any more"


def _has_later_format(declared: Table, found: Found) -> bool:
    return int(found.properties.get(FORMAT_VERSION, "0")) > int(declared.all_properties[FORMAT_VERSION])


def _of_renamed(terms: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    return tuple(with_column(term, new) if column_of(term) == old else term for term in terms)
