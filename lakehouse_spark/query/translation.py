"""Statements of Spark's SQL in DuckDB's words: one SELECT, with joins, subqueries in FROM and WITH, over tables whose
columns are known. Names are looked up as Spark does it; what may be taken for two things is refused."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import NamedTuple

import sqlglot
from pyspark.sql.types import DataType
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakehouse_spark.query.expressions import (
    INT,
    UNKNOWN,
    Expressions,
    NotExactError,
    Read,
    Resolve,
    Typed,
    alike,
    called,
    only,
    ordered,
    quoted,
)
from lakehouse_spark.table import CATALOG

Value = int | str | date | datetime


class Range(NamedTuple):
    """All rows outside of it are left out of the answer; None: it has no end on that side."""

    column: str
    low: Value | None
    high: Value | None


@dataclass
class Reading:
    """A table in FROM: the columns that the statement names, and ranges that no needed row is outside of."""

    table: str
    columns: dict[str, DataType] = field(default_factory=dict)
    ranges: list[Range] = field(default_factory=list)


class Translation(NamedTuple):
    """A statement for DuckDB over tables t0, t1, … of these readings, and the columns of its answer."""

    sql: str
    columns: Sequence[tuple[str, DataType]]
    readings: Sequence[Reading]


class _Column(NamedTuple):
    """A column of FROM; `of` is the name of its table or subquery, in lower case, part by part."""

    name: str
    value: Typed
    of: tuple[str, ...]
    is_merged: bool = False
    """By USING into the one of the same name: it is had by its table's name alone."""


class _Selected(NamedTuple):
    name: str
    value: Typed
    node: exp.Expression | None
    """None of what * brought."""


class _Query(NamedTuple):
    sql: str
    columns: Sequence[_Selected]


Views = Mapping[str, _Query]
ColumnsOf = Callable[[str], Mapping[str, DataType]]


def translate(sql: str, columns_of: ColumnsOf, limit: int) -> Translation:
    """The statement, of whose rows `limit` are wanted; raises NotExactError where its answer might differ."""
    if special := re.search(r"\\|\$\{|\|>", sql):
        raise NotExactError(f"{special[0]} in the statement")
    if not re.match(r"\s*(SELECT|WITH)\b", sql, re.IGNORECASE):
        raise NotExactError("it is not one SELECT")
    try:
        statements = sqlglot.parse(sql, read="spark")
    except SqlglotError:
        raise NotExactError("the statement is not understood") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        raise NotExactError("it is not one SELECT")
    translator = _Translator(columns_of)
    found = translator.query(statements[0], {}, limit)
    columns = [(each.name, each.value.type) for each in found.columns]
    return Translation(found.sql, columns, translator.readings)


class _Translator:
    def __init__(self, columns_of: ColumnsOf) -> None:
        self._columns_of = columns_of
        self._subqueries = 0
        self.readings: list[Reading] = []

    def query(self, select: exp.Expression, views: Views, limit: int | None = None) -> _Query:
        """A SELECT; one with a `limit` is the statement itself, whose rows alone have an order and an end."""
        if not isinstance(select, exp.Select):
            raise NotExactError(f"{called(select)} in place of a SELECT")
        only(select, "expressions from_ joins where group having order limit distinct with_")
        args = select.args
        if limit is None and (args.get("order") or args.get("limit")):
            raise NotExactError("a subquery in an order, or cut off")
        if args.get("distinct"):
            only(args["distinct"], "")
        views = self._with(args.get("with_"), views)
        source, columns = self._from(select, views)
        resolve = self._resolver(columns)
        where = args.get("where")
        condition = Expressions(resolve).condition(where.this).sql if where else ""
        if where:
            self._note_ranges(where.this, resolve)
        selected = [*self._selected(select, columns, resolve)]
        groups = self._groups(select, selected, columns, resolve)
        is_aggregated = groups is not None or any(
            each.node is not None and each.node.find(exp.AggFunc) for each in selected
        )
        if is_aggregated and any(each.node is None for each in selected):
            raise NotExactError("* beside aggregates")
        having = self._having(args.get("having"), selected, columns, is_aggregated)
        if args.get("distinct"):
            for each in selected:
                ordered(each.value)
        clauses = [
            "SELECT" + (" DISTINCT" if args.get("distinct") else ""),
            ", ".join(f"{each.value.sql} AS c{number}" for number, each in enumerate(selected)),
            f"FROM {source}",
            f"WHERE {condition}" if where else "",
            f"GROUP BY {', '.join(groups)}" if groups else "",
            f"HAVING {having}" if having else "",
        ]
        if limit is not None:
            clauses += self._end(select, selected, columns, is_aggregated, limit)
        return _Query(" ".join(filter(None, clauses)), selected)

    # FROM

    def _with(self, clause: exp.With | None, views: Views) -> Views:
        if clause is None:
            return views
        only(clause, "expressions")
        found: dict[str, _Query] = {}
        for each in clause.expressions:
            only(each, "this alias")
            only(each.args["alias"], "this")
            name = each.alias.lower()
            if name in found:
                raise NotExactError(f"WITH names {name} twice")
            found[name] = self.query(each.this, {**views, **found})
        return {**views, **found}

    def _from(self, select: exp.Select, views: Views) -> tuple[str, list[_Column]]:
        begin = select.args.get("from_")
        if begin is None:
            raise NotExactError("a SELECT without FROM")
        only(begin, "this")
        source, columns = self._source(begin.this, views)
        for join in select.args.get("joins") or ():
            source, columns = self._joined(join, source, columns, views)
        return source, columns

    def _joined(self, join: exp.Join, source: str, columns: list[_Column], views: Views) -> tuple[str, list[_Column]]:
        only(join, "this side kind on using")
        side = (join.side or "").upper()
        if side not in ("", "LEFT", "RIGHT", "FULL") or (join.kind or "").upper() not in ("", "INNER", "OUTER"):
            raise NotExactError(f"a {f'{side} {join.kind}'.strip()} JOIN")
        other, added = self._source(join.this, views)
        if using := join.args.get("using"):
            if side not in ("", "LEFT"):
                raise NotExactError(f"a {side} JOIN with USING")
            columns, condition = self._merged(columns, added, [name.name for name in using])
        elif on := join.args.get("on"):
            columns = [*columns, *added]
            condition = Expressions(self._resolver(columns)).condition(on).sql
        else:
            raise NotExactError("a join without ON or USING")
        return f"{source} {side or 'INNER'} JOIN {other} ON {condition}", columns

    def _merged(
        self, columns: Sequence[_Column], added: Sequence[_Column], using: Sequence[str]
    ) -> tuple[list[_Column], str]:
        """The keys, then what else the left side has, then the right; and the condition of the join."""
        left, right = [_named(columns, (name.lower(),)) for name in using], [_named(added, (n.lower(),)) for n in using]
        equal = [alike(a.value, b.value) for a, b in zip(left, right, strict=True)]
        for one, other in zip(left, right, strict=True):
            self._note_read(one.value)
            self._note_read(other.value)
        merged = [each._replace(is_merged=True) if each in right else each for each in added]
        found = [*left, *(each for each in columns if each not in left), *merged]
        return found, " AND ".join(f"{a.sql} = {b.sql}" for a, b in equal)

    def _source(self, node: exp.Expression, views: Views) -> tuple[str, list[_Column]]:
        """A table, a name of WITH or a subquery, and its columns."""
        if isinstance(node, exp.Subquery):
            only(node, "this alias")
            return self._subquery(self.query(node.this, views), _alias(node) or ())
        if not isinstance(node, exp.Table):
            raise NotExactError(f"{called(node)} in FROM")
        only(node, "this db catalog alias")
        parts = [part.name for part in node.parts]
        if len(parts) == 1 and parts[0].lower() in views:
            return self._subquery(views[parts[0].lower()], _alias(node) or (parts[0].lower(),))
        if len(parts) == 3 and parts[0] == CATALOG:
            parts = parts[1:]
        if len(parts) != 2:
            raise NotExactError(f"{'.'.join(parts)} is none of the declared tables")
        name = ".".join(parts)
        place = len(self.readings)
        self.readings.append(Reading(name))
        of = _alias(node) or (CATALOG, *(part.lower() for part in parts))
        return f"t{place}", [
            _Column(column, Typed(f"t{place}.{quoted(column)}", kind, column, read=Read(place, column)), of)
            for column, kind in self._columns_of(name).items()
        ]

    def _subquery(self, query: _Query, of: tuple[str, ...]) -> tuple[str, list[_Column]]:
        self._subqueries += 1
        name = f"s{self._subqueries}"
        columns = [
            _Column(each.name, Typed(f"{name}.c{number}", each.value.type, each.name), of)
            for number, each in enumerate(query.columns)
        ]
        return f"({query.sql}) AS {name}", columns

    def _resolver(self, columns: Sequence[_Column]) -> Resolve:
        def resolve(node: exp.Column) -> Typed:
            found = _named(columns, _parts(node)).value
            self._note_read(found)
            return found._replace(name=node.name)  # Spark repeats a name as it was written

        return resolve

    def _note_read(self, value: Typed) -> None:
        if value.type == UNKNOWN:
            raise NotExactError(f"the type of {value.name}")
        if value.read:
            self.readings[value.read.place].columns[value.read.column] = value.type

    # SELECT

    def _selected(self, select: exp.Select, columns: Sequence[_Column], resolve: Resolve) -> Iterator[_Selected]:
        expressions = Expressions(resolve, aggregates=True)
        for node in select.expressions:
            if node.is_star:
                for column in self._starred(node, columns):
                    self._note_read(column.value)
                    yield _Selected(column.name, column.value, None)
                continue
            if isinstance(node, exp.Alias):
                only(node, "this alias")
                yield _Selected(node.alias, expressions.read(node.this), node.this)
                continue
            value = expressions.read(node)
            if value.name is None:
                raise NotExactError(f"the name that Spark gives {called(node)}")
            yield _Selected(value.name, value, node)

    def _starred(self, node: exp.Expression, columns: Sequence[_Column]) -> list[_Column]:
        if isinstance(node, exp.Star):
            only(node, "")
            return [column for column in columns if not column.is_merged]
        if not isinstance(node, exp.Column):
            raise NotExactError(f"{called(node)} with *")
        only(node, "this table db catalog")
        only(node.this, "")
        if any(column.is_merged for column in columns):
            raise NotExactError("the * of one table beside USING")
        *of, _ = _parts(node)
        found = [column for column in columns if column.of[-len(of) :] == tuple(of)]
        if len({column.of for column in found}) != 1:
            raise NotExactError(f"{'.'.join(of)}.* is of no table, or of several")
        return found

    def _groups(
        self, select: exp.Select, selected: Sequence[_Selected], columns: Sequence[_Column], resolve: Resolve
    ) -> list[str] | None:
        group = select.args.get("group")
        if group is None:
            return None
        only(group, "expressions all")
        if group.args.get("all"):
            if group.expressions or any(each.node is not None and _is_mixed(each.node) for each in selected):
                raise NotExactError("GROUP BY ALL beside columns within and outside of aggregates")
            values = [each.value for each in selected if each.node is not None and not each.node.find(exp.AggFunc)]
        else:
            values = [self._group(node, selected, columns, resolve) for node in group.expressions]
        if any(value.literal is not None for value in values):
            raise NotExactError("GROUP BY a literal")
        return [ordered(value).sql for value in values]

    def _group(
        self, node: exp.Expression, selected: Sequence[_Selected], columns: Sequence[_Column], resolve: Resolve
    ) -> Typed:
        if isinstance(node, exp.Literal):
            found = _at(node, selected)
        elif isinstance(node, exp.Column) and not _matching(columns, _parts(node)):
            found = _aliased(node, selected)
        else:
            return Expressions(resolve).read(node)
        if found.node is None or found.node.find(exp.AggFunc):
            raise NotExactError("GROUP BY of an aggregate, or of what * brings")
        return found.value

    def _having(
        self,
        having: exp.Having | None,
        selected: Sequence[_Selected],
        columns: Sequence[_Column],
        is_aggregated: bool,
    ) -> str:
        if having is None:
            return ""
        if not is_aggregated:
            raise NotExactError("HAVING without groups")
        return Expressions(self._after_select(selected, columns), aggregates=True).condition(having.this).sql

    def _after_select(self, selected: Sequence[_Selected], columns: Sequence[_Column]) -> Resolve:
        """Names in HAVING and ORDER BY: of what is selected, or else of FROM; not of both, unless it is the same."""
        resolve = self._resolver(columns)

        def after(node: exp.Column) -> Typed:
            chosen = [each for each in selected if not node.table and each.name.lower() == node.name.lower()]
            if not chosen:
                return resolve(node)
            if len(chosen) > 1:
                raise NotExactError(f"{node.name} is selected twice")
            if _matching(columns, _parts(node)) and resolve(node).sql != chosen[0].value.sql:
                raise NotExactError(f"{node.name} is a column and an alias")
            return chosen[0].value._replace(name=node.name)

        return after

    def _end(
        self,
        select: exp.Select,
        selected: Sequence[_Selected],
        columns: Sequence[_Column],
        is_aggregated: bool,
        limit: int,
    ) -> Iterator[str]:
        """ORDER BY and LIMIT."""
        if order := select.args.get("order"):
            only(order, "expressions")
            resolve = self._after_select(selected, columns)
            expressions = Expressions(resolve, aggregates=is_aggregated)
            is_distinct = bool(select.args.get("distinct"))
            terms = [_term(term, selected, expressions, is_distinct) for term in order.expressions]
            yield f"ORDER BY {', '.join(terms)}"
        if given := select.args.get("limit"):
            only(given, "expression")
            number = Expressions(_no_column).read(given.expression)
            if not isinstance(number.literal, int) or number.literal < 0 or number.type != INT:
                raise NotExactError("LIMIT of another kind than a number")
            limit = min(limit, number.literal)
        yield f"LIMIT {limit}"

    def _note_ranges(self, condition: exp.Expression, resolve: Resolve) -> None:
        """What WHERE demands of single columns; it leaves out each row that is outside, beside outer joins too."""
        expressions = Expressions(resolve)
        for part in _conjuncts(condition):
            lows, highs = _ends(part)
            if not lows and not highs:
                continue
            column = expressions.operand(part.this)
            low, high = ([alike(column, expressions.operand(end))[1].literal for end in ends] for ends in (lows, highs))
            if column.read and None not in (*low, *high):
                found = Range(column.read.column, min(low, default=None), max(high, default=None))  # type: ignore[type-var]
                self.readings[column.read.place].ranges.append(found)


def _conjuncts(condition: exp.Expression) -> Iterator[exp.Expression]:
    if isinstance(condition, exp.And | exp.Paren):
        for part in condition.iter_expressions():
            yield from _conjuncts(part)
    else:
        yield condition


def _ends(condition: exp.Expression) -> tuple[Sequence[exp.Expression], Sequence[exp.Expression]]:
    """The values of which the least is the low end of what a condition takes, and those with the high end."""
    match condition:
        case exp.EQ():
            return [condition.expression], [condition.expression]
        case exp.GT() | exp.GTE():
            return [condition.expression], []
        case exp.LT() | exp.LTE():
            return [], [condition.expression]
        case exp.Between():
            return [condition.args["low"]], [condition.args["high"]]
        case exp.In():
            return condition.expressions, condition.expressions
    return [], []


def _term(term: exp.Expression, selected: Sequence[_Selected], expressions: Expressions, is_distinct: bool) -> str:
    if not isinstance(term, exp.Ordered):
        raise NotExactError(f"{called(term)} in ORDER BY")
    only(term, "this desc nulls_first")
    end = ("DESC" if term.args.get("desc") else "ASC") + f" NULLS {'FIRST' if term.args.get('nulls_first') else 'LAST'}"
    node = term.this
    names = [each.name.lower() for each in selected]
    if isinstance(node, exp.Literal):
        found = _at(node, selected)
    elif isinstance(node, exp.Column) and not node.table and names.count(node.name.lower()) == 1:
        found = selected[names.index(node.name.lower())]
    elif is_distinct:
        raise NotExactError("ORDER BY of something else than DISTINCT selects")
    else:
        value = ordered(expressions.read(node))
        if value.literal is not None:
            raise NotExactError("ORDER BY a literal")
        return f"{value.sql} {end}"
    ordered(found.value)
    return f"{next(n for n, each in enumerate(selected, start=1) if each is found)} {end}"


def _at(node: exp.Literal, selected: Sequence[_Selected]) -> _Selected:
    """What stands at a place that is given by its number."""
    said = str(node.this)
    if node.is_string or not said.isdecimal() or not 1 <= int(said) <= len(selected):
        raise NotExactError(f"{said} is no place among what is selected")
    return selected[int(said) - 1]


def _aliased(node: exp.Column, selected: Sequence[_Selected]) -> _Selected:
    found = [each for each in selected if not node.table and each.name.lower() == node.name.lower()]
    if len(found) != 1:
        raise NotExactError(f"{node.name} is no column, or several")
    return found[0]


def _named(columns: Sequence[_Column], parts: tuple[str, ...]) -> _Column:
    found = _matching(columns, parts)
    if len(found) != 1:
        raise NotExactError(f"{'.'.join(parts)} is no column, or several")
    return found[0]


def _matching(columns: Sequence[_Column], parts: tuple[str, ...]) -> list[_Column]:
    *of, name = parts
    return [
        column
        for column in columns
        if column.name.lower() == name and (column.of[-len(of) :] == tuple(of) if of else not column.is_merged)
    ]


def _parts(node: exp.Column) -> tuple[str, ...]:
    return tuple(part.name.lower() for part in node.parts)


def _alias(node: exp.Expression) -> tuple[str, ...]:
    """The name that a source has in the statement; none: ()."""
    alias = node.args.get("alias")
    if alias is None:
        return ()
    only(alias, "this")
    return (alias.name.lower(),)


def _is_mixed(node: exp.Expression) -> bool:
    """Whether there are aggregates in it, and columns outside of them."""
    is_aggregated = node.find(exp.AggFunc) is not None
    return is_aggregated and any(column.find_ancestor(exp.AggFunc) is None for column in node.find_all(exp.Column))


def _no_column(node: exp.Column) -> Typed:
    raise NotExactError(f"{node.name} stands where no column can")
