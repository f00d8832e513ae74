"""What names mean in a statement: the columns that FROM brings."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlglot import exp

from lakehouse_spark.query.expressions import called, only
from lakehouse_spark.query.typed import UNKNOWN, NotExactError, Typed, alike

Parts = tuple[str, ...]
"""A name part by part, in lower case: Spark looks no further."""


class Column(NamedTuple):
    """A column of FROM; `of` is the name of its table or subquery, () where that has none."""

    name: str
    value: Typed
    of: Parts
    is_merged: bool = False
    """By USING into the one of the same name: it is had by its table's name alone."""


class Scope(NamedTuple):
    """The columns of FROM, in the order in which * brings them."""

    columns: Sequence[Column]

    def resolve(self, node: exp.Column) -> Typed:
        """The column of this name, which its table has to be read for."""
        return _read(self._one(parts(node)).value)._replace(name=node.name)  # Spark repeats a name as it was written

    def has(self, node: exp.Column) -> bool:
        return bool(self._all(parts(node)))

    def starred(self, node: exp.Expression) -> list[Column]:
        """What * or t.* brings."""
        if isinstance(node, exp.Star):
            only(node, "")
            found = [column for column in self.columns if not column.is_merged]
        elif isinstance(node, exp.Column):
            only(node.this, "")
            *of, _ = parts(node)
            found = [column for column in self.columns if column.of[-len(of) :] == tuple(of)]
            if len({column.of for column in found}) != 1 or any(column.is_merged for column in self.columns):
                raise NotExactError(f"{'.'.join(of)}.* is of no table, of several, or beside USING")
        else:
            raise NotExactError(f"{called(node)} with *")
        for column in found:
            _read(column.value)
        return found

    def joined(self, other: "Scope") -> "Scope":
        return Scope([*self.columns, *other.columns])

    def merged(self, other: "Scope", using: Sequence[str]) -> tuple["Scope", str]:
        """The keys, then what else the left side has, then the right; and the condition of the join."""
        pairs = [(self._one((name.lower(),)), other._one((name.lower(),))) for name in using]
        equal = [alike(_read(left.value), _read(right.value)) for left, right in pairs]
        keys, merged = [left for left, _ in pairs], [right for _, right in pairs]
        rest = [column for column in self.columns if column not in keys]
        added = [column._replace(is_merged=True) if column in merged else column for column in other.columns]
        return Scope([*keys, *rest, *added]), " AND ".join(f"{left.sql} = {right.sql}" for left, right in equal)

    def _one(self, name: Parts) -> Column:
        found = self._all(name)
        if len(found) != 1:
            raise NotExactError(f"{'.'.join(name)} is no column, or several")
        return found[0]

    def _all(self, name: Parts) -> list[Column]:
        *of, last = name
        named = (column for column in self.columns if column.name.lower() == last)
        return [each for each in named if (each.of[-len(of) :] == tuple(of) if of else not each.is_merged)]


def parts(node: exp.Column | exp.Table) -> Parts:
    return tuple(part.name.lower() for part in node.parts)


def _read(value: Typed) -> Typed:
    """Notes that a table is read for this column."""
    if value.type == UNKNOWN:
        raise NotExactError(f"the type of {value.name}")
    if value.origin:
        value.origin.reading.columns[value.origin.column] = value.type
    return value
