"""Statements of Spark's SQL in DuckDB's words: one SELECT, with joins, subqueries in FROM and WITH, over tables whose
columns are known. Names are looked up as Spark does it; what may be taken for two things is refused."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import sqlglot
from pyspark.sql.types import DataType
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakehouse_spark.query import spelling, typed
from lakehouse_spark.query.expressions import Expressions, Resolve, called, only
from lakehouse_spark.query.scope import Column, Parts, Scope, parts
from lakehouse_spark.query.typed import NotExactError, Origin, Range, Reading, Typed, alike, ordered
from lakehouse_spark.table import CATALOG

LONGEST = 50_000
"""Of a subquery in DuckDB's words, in characters: what WITH names is written out wherever it is used."""


class Translation(NamedTuple):
    """A statement for DuckDB over the tables of these readings, and the columns of its answer."""

    sql: str
    columns: Sequence[tuple[str, DataType]]
    readings: Sequence[Reading]


class _Selected(NamedTuple):
    """A column that SELECT makes; `node` None: one that * brought."""

    name: str
    value: Typed
    node: exp.Expression | None = None

    @property
    def is_aggregated(self) -> bool:
        return self.node is not None and self.node.find(exp.AggFunc) is not None


class _Query(NamedTuple):
    """`may_fail` is what it calls at which Spark fails for some values."""

    sql: str
    columns: Sequence[_Selected]
    may_fail: Sequence[str]


_Views = Mapping[str, _Query]
ColumnsOf = Callable[[str], Mapping[str, DataType]]


def translate(sql: str, columns_of: ColumnsOf, limit: int) -> Translation:
    """The statement, of whose rows `limit` are wanted; raises NotExactError where its answer might differ."""
    if special := re.search(r"\\|\$\{|\|>", sql):
        raise NotExactError(f"{special[0]} in the statement")
    try:
        statements = sqlglot.parse(sql, read="spark")
    except SqlglotError:
        raise NotExactError("the statement is not understood") from None
    [statement, *more] = statements
    if more or not isinstance(statement, exp.Select):
        raise NotExactError("it is not one SELECT")
    sources = _Sources(columns_of)
    found = sources.query(statement, {}, limit)
    spelling.check(sql, statement)
    return Translation(found.sql, [(each.name, each.value.type) for each in found.columns], sources.readings)


class _Sources:
    """What stands in FROM: tables, which are noted to be read, and subqueries."""

    def __init__(self, columns_of: ColumnsOf) -> None:
        self._columns_of = columns_of
        self._subqueries = 0
        self.readings: list[Reading] = []

    def query(self, select: exp.Expression, views: _Views, limit: int | None = None) -> _Query:
        """A SELECT; one with a `limit` is the statement itself, whose rows alone have an order and an end."""
        if not isinstance(select, exp.Select):
            raise NotExactError(f"{called(select)} in place of a SELECT")
        only(select, "expressions from_ joins where group having order limit distinct with_")
        if limit is None and (select.args.get("order") or select.args.get("limit")):
            raise NotExactError("a subquery in an order, or cut off")
        source, scope, may_fail = self._from(select, self._with(select.args.get("with_"), views))
        return _Select(select, scope, may_fail).query(source, limit)

    def _with(self, clause: exp.With | None, views: _Views) -> _Views:
        found: dict[str, _Query] = {}
        if clause is not None:
            only(clause, "expressions")
            for each in clause.expressions:
                only(each, "this alias")
                [name] = _alias(each)
                if name in found:
                    raise NotExactError(f"WITH names {name} twice")
                found[name] = self.query(each.this, {**views, **found})
        return {**views, **found}

    def _from(self, select: exp.Select, views: _Views) -> tuple[str, Scope, list[str]]:
        begin = select.args.get("from_")
        if begin is None:
            raise NotExactError("a SELECT without FROM")
        only(begin, "this")
        source, scope, may_fail = self._source(begin.this, views)
        for join in select.args.get("joins") or ():
            other, added, failing = self._source(join.this, views)
            kind, scope, condition = _joined(join, scope, added)
            source = f"{source} {kind} JOIN {other} ON {condition}"
            may_fail += failing
        return source, scope, may_fail

    def _source(self, node: exp.Expression, views: _Views) -> tuple[str, Scope, list[str]]:
        """A table, a name of WITH or a subquery, its columns, and what it calls at which Spark may fail."""
        if isinstance(node, exp.Subquery):
            only(node, "this alias")
            return self._subquery(self.query(node.this, views), _alias(node))
        if not isinstance(node, exp.Table):
            raise NotExactError(f"{called(node)} in FROM")
        only(node, "this db catalog alias")
        name = [part.name for part in node.parts]
        if len(name) == 1 and name[0].lower() in views:
            return self._subquery(views[name[0].lower()], _alias(node) or parts(node))
        name = name[1:] if name[0] == CATALOG else name
        if len(name) != 2:
            raise NotExactError(f"{'.'.join(name)} is none of the declared tables")
        reading = Reading(".".join(name), f"t{len(self.readings)}")
        self.readings.append(reading)
        of = _alias(node) or (CATALOG, *(part.lower() for part in name))
        columns = [
            Column(name, Typed(f"{reading.alias}.{typed.quoted(name)}", kind, name, origin=Origin(reading, name)), of)
            for name, kind in self._columns_of(reading.table).items()
        ]
        return reading.alias, Scope(columns), []

    def _subquery(self, query: _Query, of: Parts) -> tuple[str, Scope, list[str]]:
        if len(query.sql) > LONGEST:
            raise NotExactError("its subqueries, written out at each use, are too long")
        self._subqueries += 1
        alias = f"s{self._subqueries}"
        columns = [
            Column(each.name, Typed(f"{alias}.c{number}", each.value.type, each.name), of)
            for number, each in enumerate(query.columns)
        ]
        return f"({query.sql}) AS {alias}", Scope(columns), [*query.may_fail]


def _joined(join: exp.Join, scope: Scope, added: Scope) -> tuple[str, Scope, str]:
    """The kind of a join, the columns on both sides, and the condition."""
    only(join, "this side kind on using")
    side = (join.side or "INNER").upper()
    if side not in ("INNER", "LEFT", "RIGHT", "FULL") or join.kind not in ("", "OUTER" if join.side else "INNER"):
        raise NotExactError(f"a {f'{join.side} {join.kind}'.strip()} JOIN")
    if using := join.args.get("using"):
        if side not in ("INNER", "LEFT"):
            raise NotExactError(f"a {side} JOIN with USING")
        both, condition = scope.merged(added, [name.name for name in using])
        return side, both, condition
    if on := join.args.get("on"):
        both = scope.joined(added)
        expressions = Expressions(both.resolve)
        condition = expressions.condition(on).sql
        _refuse_to_leave_out(expressions.may_fail)
        return side, both, condition
    raise NotExactError("a join without ON or USING")


class _Select:
    """One SELECT over the columns of its FROM."""

    def __init__(self, select: exp.Select, scope: Scope, may_fail: list[str]) -> None:
        self._args = select.args
        self._scope = scope
        if any(self._args.get(part) for part in ("joins", "where", "having")):
            _refuse_to_leave_out(may_fail)
        self._may_fail = may_fail
        self._selected = [*self._select(select.expressions)]
        self._groups = self._group(select.args.get("group"))
        self._is_aggregated = self._groups is not None or any(each.is_aggregated for each in self._selected)
        if self._is_aggregated and any(each.node is None for each in self._selected):
            raise NotExactError("* beside aggregates")

    def query(self, source: str, limit: int | None) -> _Query:
        named = ", ".join(f"{each.value.sql} AS c{number}" for number, each in enumerate(self._selected))
        clauses = [
            f"SELECT {self._distinct()}{named} FROM {source}",
            self._where(self._args.get("where")),
            f"GROUP BY {', '.join(self._groups)}" if self._groups else "",
            self._having(self._args.get("having")),
        ]
        if limit is not None:
            clauses += [self._order(self._args.get("order")), _limit(self._args.get("limit"), limit)]
        return _Query(" ".join(filter(None, clauses)), self._selected, self._may_fail)

    def _expressions(self, resolve: Resolve, *, aggregates: bool = False) -> Expressions:
        found = Expressions(resolve, aggregates=aggregates)
        found.may_fail = self._may_fail
        return found

    def _select(self, nodes: Sequence[exp.Expression]) -> Iterator[_Selected]:
        expressions = self._expressions(self._scope.resolve, aggregates=True)
        for node in nodes:
            if node.is_star:
                yield from (_Selected(column.name, column.value) for column in self._scope.starred(node))
            elif isinstance(node, exp.Alias):
                only(node, "this alias")
                yield _Selected(node.alias, expressions.read(node.this), node.this)
            else:
                value = expressions.read(node)
                if value.name is None:
                    raise NotExactError(f"the name that Spark gives {called(node)}")
                yield _Selected(value.name, value, node)

    def _distinct(self) -> str:
        if not self._args.get("distinct"):
            return ""
        only(self._args["distinct"], "")
        for each in self._selected:
            ordered(each.value)
        return "DISTINCT "

    def _where(self, where: exp.Where | None) -> str:
        if where is None:
            return ""
        expressions = Expressions(self._scope.resolve)
        condition = expressions.condition(where.this)
        if self._args.get("joins") or any(column.value.origin is None for column in self._scope.columns):
            _refuse_to_leave_out(expressions.may_fail)
        self._may_fail += expressions.may_fail
        for part in _conjuncts(where.this):
            _note_range(part, expressions)
        return f"WHERE {condition.sql}"

    def _group(self, group: exp.Group | None) -> Sequence[str] | None:
        if group is None:
            return None
        only(group, "expressions all")
        if group.args.get("all"):
            if group.expressions or any(each.node is not None and _is_mixed(each.node) for each in self._selected):
                raise NotExactError("GROUP BY ALL beside columns within and outside of aggregates")
            values = [each.value for each in self._selected if not each.is_aggregated]
        else:
            values = [self._group_by(node) for node in group.expressions]
        if any(value.literal is not None for value in values):
            raise NotExactError("GROUP BY a literal")
        return [ordered(value).sql for value in values]

    def _group_by(self, node: exp.Expression) -> Typed:
        """A place in SELECT, a column, or if there is none of the name an alias, or an expression."""
        if isinstance(node, exp.Literal):
            found = self._at(node)
        elif isinstance(node, exp.Column) and not self._scope.has(node):
            aliased = self._called(node)
            if len(aliased) != 1:
                raise NotExactError(f"{node.name} is no column, or several")
            found = aliased[0]
        else:
            return self._expressions(self._scope.resolve).read(node)
        if found.is_aggregated:
            raise NotExactError("GROUP BY an aggregate")
        return found.value

    def _having(self, having: exp.Having | None) -> str:
        if having is None:
            return ""
        if not self._is_aggregated:
            raise NotExactError("HAVING without groups")
        return f"HAVING {self._expressions(self._resolve, aggregates=True).condition(having.this).sql}"

    def _order(self, order: exp.Order | None) -> str:
        if order is None:
            return ""
        only(order, "expressions")
        return f"ORDER BY {', '.join(self._term(term) for term in order.expressions)}"

    def _term(self, term: exp.Expression) -> str:
        if not isinstance(term, exp.Ordered):
            raise NotExactError(f"{called(term)} in ORDER BY")
        only(term, "this desc nulls_first")
        direction = "DESC" if term.args.get("desc") else "ASC"
        nulls = "FIRST" if term.args.get("nulls_first") else "LAST"
        return f"{self._order_by(term.this)} {direction} NULLS {nulls}"

    def _order_by(self, node: exp.Expression) -> str:
        """A column of the answer by its place, or an expression."""
        aliased = self._called(node) if isinstance(node, exp.Column) else []
        if isinstance(node, exp.Literal) or len(aliased) == 1:
            found = self._at(node) if isinstance(node, exp.Literal) else aliased[0]
            ordered(found.value)
            return str(next(place for place, each in enumerate(self._selected, start=1) if each is found))
        if self._args.get("distinct"):
            raise NotExactError("ORDER BY of something else than DISTINCT selects")
        value = ordered(self._expressions(self._resolve, aggregates=self._is_aggregated).read(node))
        if value.literal is not None:
            raise NotExactError("ORDER BY a literal")
        return value.sql

    def _resolve(self, node: exp.Column) -> Typed:
        """In HAVING and ORDER BY: what is selected by this name, or else a column of FROM; not one of each."""
        aliased = self._called(node)
        if not aliased:
            return self._scope.resolve(node)
        if len(aliased) > 1:
            raise NotExactError(f"{node.name} is selected twice")
        if self._scope.has(node) and self._scope.resolve(node).sql != aliased[0].value.sql:
            raise NotExactError(f"{node.name} is a column and an alias")
        return aliased[0].value._replace(name=node.name)

    def _called(self, node: exp.Column) -> list[_Selected]:
        return [each for each in self._selected if (each.name.lower(),) == parts(node)]

    def _at(self, node: exp.Literal) -> _Selected:
        """What stands at a place that is given by its number."""
        said = str(node.this)
        if node.is_string or not said.isdecimal() or not 1 <= int(said) <= len(self._selected):
            raise NotExactError(f"{said} is no place among what is selected")
        return self._selected[int(said) - 1]


def _refuse_to_leave_out(may_fail: Sequence[str]) -> None:
    """Where a condition or a join may leave out the rows at which Spark fails, before it comes to them or after."""
    if may_fail:
        raise NotExactError(f"{may_fail[0]} of rows that a condition or a join may leave out")


def _limit(limit: exp.Expression | None, wanted: int) -> str:
    if limit is None:
        return f"LIMIT {wanted}"
    only(limit, "expression")
    said = limit.args.get("expression")
    if not isinstance(said, exp.Literal) or said.is_string or not str(said.this).isdecimal():
        raise NotExactError("LIMIT of another kind than a number")
    if (most := int(str(said.this))) > 2**31 - 1:
        raise NotExactError("LIMIT of more than an INT")
    return f"LIMIT {min(wanted, most)}"


def _note_range(condition: exp.Expression, expressions: Expressions) -> None:
    """What a part of WHERE demands of one column: a row outside is left out, beside outer joins too."""
    lows, highs = _ends(condition)
    if not lows and not highs:
        return
    column = expressions.operand(condition.this)
    low, high = ([alike(column, expressions.operand(end))[1].literal for end in ends] for ends in (lows, highs))
    if column.origin and None not in (*low, *high):
        found = Range(column.origin.column, min(low, default=None), max(high, default=None))  # type: ignore[type-var]
        column.origin.reading.ranges.append(found)


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


def _alias(node: exp.Expression) -> Parts:
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
