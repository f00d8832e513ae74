"""Changes of the lakehouse's tables as frozen values: they hold literals, so that no later declaration changes them.

Each says in a sentence what it does, whether it breaks who reads the table, and what undoes it. Where something is
replaced, the operation holds the `old` and the `new`. What Iceberg forbids cannot be said here: a narrower type, a new
column that must have a value.
"""

import re
from dataclasses import dataclass, replace
from typing import Self

from lakehouse_spark.table import Table, column_of

FIRST = ""
"""As the column that another stands after: none, it stands before all others."""

FORMAT_VERSION = "format-version"
"""The property that says by which version of Iceberg's specification a table is written."""

_WIDER = {("int", "bigint"), ("float", "double")}
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_MOST_DIGITS = 38


@dataclass(frozen=True)
class ColumnDefinition:
    """A nullable column: `type` as SQL writes it ("decimal(18,6)")."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class _Operation:
    """What is true of most operations on `table` ("silver.trades")."""

    table: str

    @property
    def is_breaking(self) -> bool:
        """Whether what worked before may fail, or read a whole table; all other operations are additive."""
        return False

    @property
    def inverse(self) -> "_Operation | None":
        """What leads back to the table of before and every value that it held; None where nothing does."""
        return None


@dataclass(frozen=True)
class AddColumn(_Operation):
    """A new column, NULL in the rows there are.

    It stands right after the column `after`, before all others (FIRST), or, by default, at the end.
    """

    column: ColumnDefinition
    after: str | None = None

    @property
    def inverse(self) -> "DropColumn":
        return DropColumn(self.table, self.column.name)

    @property
    def sentence(self) -> str:
        place = "at the end" if self.after is None else _place(self.after)
        return f"{self.table} gains {self.column.name} ({self.column.type}) {place}, NULL in the rows it has"


@dataclass(frozen=True)
class CreateTable(_Operation):
    """A new table; `properties` are those beyond what every table has."""

    comment: str
    columns: tuple[ColumnDefinition, ...]
    partitioned_by: tuple[str, ...] = ()
    sorted_by: tuple[str, ...] = ()
    distribution: str = "none"
    properties: tuple[tuple[str, str], ...] = ()

    @property
    def sentence(self) -> str:
        return f"{self.table} is created, with the columns {', '.join(column.name for column in self.columns)}"


@dataclass(frozen=True)
class RenameColumn(_Operation):
    """Another name for a column, which keeps its values."""

    old: str
    new: str

    @property
    def is_breaking(self) -> bool:
        return True

    @property
    def inverse(self) -> "RenameColumn":
        return RenameColumn(self.table, self.new, self.old)

    @property
    def sentence(self) -> str:
        return f"{self.table}.{self.old} is renamed to {self.new} and keeps its values"


@dataclass(frozen=True)
class PromoteColumn(_Operation):
    """A wider type for a column, both as SQL writes them; files of before are read as the wider one."""

    column: str
    old: str
    new: str

    def __post_init__(self) -> None:
        if not is_promotion(self.old, self.new):
            raise ValueError(
                f"{self.table}.{self.column}: Iceberg promotes int to bigint, float to double and a decimal to one of "
                f"more digits and the same scale, got {self.old} to {self.new}"
            )

    @property
    def sentence(self) -> str:
        return f"{self.table}.{self.column} is widened from {self.old} to {self.new}"


@dataclass(frozen=True)
class DropColumn(_Operation):
    """The end of a column; snapshots of before still show its values."""

    column: str

    @property
    def is_breaking(self) -> bool:
        return True

    @property
    def sentence(self) -> str:
        return f"{self.table}.{self.column} is dropped, and only time travel still shows its values"


@dataclass(frozen=True)
class _Redefinition(_Operation):
    """Something else in a column's definition, which may be taken back."""

    column: str
    old: str
    new: str

    @property
    def inverse(self) -> Self:
        return replace(self, old=self.new, new=self.old)


@dataclass(frozen=True)
class MoveColumn(_Redefinition):
    """Another place for a column: `old` and `new` are the columns that it stands right after, or FIRST."""

    @property
    def sentence(self) -> str:
        return f"{self.table}.{self.column} moves to stand {_place(self.new)}, until now {_place(self.old)}"


@dataclass(frozen=True)
class CommentColumn(_Redefinition):
    """Other words for what a column holds; "" says nothing."""

    @property
    def sentence(self) -> str:
        return f"{self.table}.{self.column} is described as {self.new!r}, until now as {self.old!r}"


@dataclass(frozen=True)
class MakeOptional(_Operation):
    """A column that had to have a value may be NULL."""

    column: str

    @property
    def sentence(self) -> str:
        return f"{self.table}.{self.column} may be NULL from now on"


@dataclass(frozen=True)
class ChangePartitioning(_Operation):
    """Partition transforms as SQL writes them ("bucket(16, symbol)"), added at the end or removed.

    Files of before stay in their partitions until compaction rewrites them. It breaks who relies on a column by which
    files are no longer apart, as MERGE does to leave most of a table unread.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def is_breaking(self) -> bool:
        return not {column_of(transform) for transform in self.removed} <= set(map(column_of, self.added))

    @property
    def inverse(self) -> "ChangePartitioning":
        return replace(self, added=self.removed, removed=self.added)

    @property
    def sentence(self) -> str:
        changes = [f"by {', '.join(self.added)} too"] if self.added else []
        changes += [f"no longer by {', '.join(self.removed)}"] if self.removed else []
        return f"{self.table} is partitioned {' and '.join(changes)}, in files written from now on"


@dataclass(frozen=True)
class ChangeSortOrder(_Operation):
    """Another order of the rows in each file: terms as SQL writes them ("symbol", "price DESC NULLS LAST").

    `distribution` is the table's distribution mode, which Spark sets together with the order.
    """

    old: tuple[str, ...]
    new: tuple[str, ...]
    distribution: str = "none"

    @property
    def inverse(self) -> "ChangeSortOrder":
        return replace(self, old=self.new, new=self.old)

    @property
    def sentence(self) -> str:
        was, becomes = (", ".join(terms) or "nothing" for terms in (self.old, self.new))
        return f"{self.table} is sorted by {becomes}, until now by {was}, in files written from now on"


@dataclass(frozen=True)
class SetProperties(_Operation):
    """Properties with their old and new values; None: not set.

    A later format version breaks who cannot read it, and there is no way back.
    """

    changes: tuple[tuple[str, str | None, str | None], ...]

    @property
    def is_breaking(self) -> bool:
        return any(name == FORMAT_VERSION for name, _, _ in self.changes)

    @property
    def inverse(self) -> "SetProperties | None":
        if self.is_breaking:
            return None
        return replace(self, changes=tuple((name, new, old) for name, old, new in self.changes))

    @property
    def sentence(self) -> str:
        changes = (f"{name} to {_value(new)} (until now {_value(old)})" for name, old, new in self.changes)
        return f"{self.table} sets {', '.join(changes)}"


Alteration = (
    AddColumn
    | RenameColumn
    | PromoteColumn
    | DropColumn
    | MoveColumn
    | CommentColumn
    | MakeOptional
    | ChangePartitioning
    | ChangeSortOrder
    | SetProperties
)
"""What changes a table that is there."""

Operation = CreateTable | Alteration


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


def is_promotion(old: str, new: str) -> bool:
    """Whether Iceberg can widen a type to another, both as SQL writes them."""
    narrow, wide = _DECIMAL.fullmatch(old), _DECIMAL.fullmatch(new)
    if narrow and wide:
        return int(narrow[1]) < int(wide[1]) <= _MOST_DIGITS and narrow[2] == wide[2]
    return (old, new) in _WIDER


def _place(after: str) -> str:
    return f"after {after}" if after else "before all others"


def _value(value: str | None) -> str:
    return "nothing" if value is None else repr(value)
