"""Expressions of Spark's SQL in DuckDB's words, with the types that Spark gives them.

This is a list of what is known to be equal in both engines, to the last digit: each rule writes out the casts that
Spark would add, so that none of DuckDB's own comes into play, and what no rule names is refused. Where Spark would
fail, as on an overflow, DuckDB fails as well, and Spark is asked then.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyspark.sql.types import DataType
from sqlglot import exp

from lakehouse_spark.query import arithmetic, typed
from lakehouse_spark.query.typed import (
    BIGINT,
    BOOLEAN,
    DATE,
    INT,
    INTEGERS,
    STRING,
    TIMESTAMP,
    NotExactError,
    Typed,
    alike,
    named,
    ordered,
)

Resolve = Callable[[exp.Column], Typed]
_PREDICATES = (exp.Connector, exp.Predicate, exp.Not)


class Expressions:
    """Reads expressions in which columns are what `resolve` says; `may_fail` is what they call at which Spark fails for
    some values. It does so in the rows that it comes to, and both engines come to the same ones where nothing else in
    the statement leaves rows out."""

    def __init__(self, resolve: Resolve, *, aggregates: bool = False) -> None:
        self._resolve = resolve
        self._aggregates = aggregates
        self.may_fail: list[str] = []

    def read(self, node: exp.Expression) -> Typed:
        """The expression in DuckDB's words; raises NotExactError."""
        rule, known = _RULES.get(type(node), (None, ""))
        if rule is None:
            raise NotExactError(f"{called(node)} is not known to be the same in DuckDB")
        only(node, known)
        found = rule(self, node)
        if found.may_fail:
            self.may_fail.append(called(node))
        return found

    def condition(self, node: exp.Expression) -> Typed:
        """One that is true, false or NULL."""
        found = self.read(node)
        if found.type != BOOLEAN:
            raise NotExactError("a condition is of another type than boolean")
        return found

    def operand(self, node: exp.Expression) -> Typed:
        """One that Spark's grammar takes beside an operator: a condition needs parentheses there."""
        if isinstance(node, _PREDICATES):
            raise NotExactError("a condition stands beside an operator without parentheses")
        return self.read(node)

    def column(self, node: exp.Column) -> Typed:
        return self._resolve(node)

    def literal(self, node: exp.Literal) -> Typed:
        return typed.text(str(node.this)) if node.is_string else typed.number(str(node.this))

    def negative(self, node: exp.Neg) -> Typed:
        if not isinstance(node.this, exp.Literal) or node.this.is_string:
            raise NotExactError("a minus stands before something else than a number")
        return typed.number(f"-{node.this.this}")

    def boolean(self, node: exp.Boolean) -> Typed:
        return Typed("TRUE" if node.this else "FALSE", BOOLEAN)

    def parenthesis(self, node: exp.Paren) -> Typed:
        found = self.read(node.this)
        return found._replace(sql=f"({found.sql})")

    def connector(self, node: exp.Expression) -> Typed:
        with self._in_any_order():
            left, right = self.condition(node.this), self.condition(node.expression)
        return Typed(f"({left.sql} {'AND' if isinstance(node, exp.And) else 'OR'} {right.sql})", BOOLEAN)

    @contextmanager
    def _in_any_order(self) -> Iterator[None]:
        """Refuses what Spark may fail at: DuckDB begins with the condition that it takes for the cheapest."""
        before = len(self.may_fail)
        yield
        if len(self.may_fail) > before:
            raise NotExactError(f"{self.may_fail[-1]} beside another condition")

    def negation(self, node: exp.Not) -> Typed:
        return Typed(f"(NOT {self.condition(node.this).sql})", BOOLEAN)

    def comparison(self, node: exp.Expression) -> Typed:
        left, right = alike(self.operand(node.this), self.operand(node.expression))
        return Typed(f"({left.sql} {_COMPARISONS[type(node)]} {right.sql})", BOOLEAN)

    def between(self, node: exp.Between) -> Typed:
        with self._in_any_order():
            value, low, high = (self.operand(node.args[part]) for part in ("this", "low", "high"))
        (above, low), (below, high) = alike(value, low), alike(value, high)
        return Typed(f"({above.sql} >= {low.sql} AND {below.sql} <= {high.sql})", BOOLEAN)

    def among(self, node: exp.In) -> Typed:
        with self._in_any_order():
            value, items = self.operand(node.this), [self.operand(item) for item in node.expressions]
        if any(item.type != value.type and not {item.type, value.type} <= {*INTEGERS} for item in items):
            raise NotExactError("IN lists values of another type")
        equal = (alike(value, item) for item in items)
        return Typed(f"({' OR '.join(f'{left.sql} = {right.sql}' for left, right in equal)})", BOOLEAN)

    def is_null(self, node: exp.Is) -> Typed:
        if not isinstance(node.expression, exp.Null):
            raise NotExactError("IS asks for something else than NULL")
        return Typed(f"({self.operand(node.this).sql} IS NULL)", BOOLEAN)

    def like(self, node: exp.Like) -> Typed:
        value, pattern = self.operand(node.this), self.operand(node.expression)
        if value.type != STRING or not isinstance(pattern.literal, str) or re.search(r"[_\\]", pattern.literal):
            raise NotExactError("LIKE with another pattern than of literal characters and %")
        return Typed(f"({value.sql} {'NOT ' if node.args.get('negate') else ''}LIKE {pattern.sql})", BOOLEAN)

    def cast(self, node: exp.Cast) -> Typed:
        """DATE '…' and TIMESTAMP '…', which are parsed as casts, and the day of an instant."""
        value, to = self.operand(node.this), _CASTS.get(node.to.this)
        if isinstance(value.literal, str) and to is not None:
            return typed.instant(value.literal, to)
        if to != DATE:
            raise NotExactError("a cast to another type than DATE")
        return self._day(value)

    def to_date(self, node: exp.Expression) -> Typed:
        value = self.operand(node.this)
        return self._day(value)._replace(name=named("to_date({})", value))

    def _day(self, value: Typed) -> Typed:
        if value.type not in (DATE, TIMESTAMP):
            raise NotExactError("a date is made of something else than an instant")
        return Typed(f"CAST({value.sql} AS DATE)", DATE)

    def part(self, node: exp.Expression) -> Typed:
        """The year, month or hour of an instant."""
        # What is asked for a year may be a text elsewhere, so the parser puts a cast around it.
        is_wrapped = isinstance(node.this, exp.TsOrDsToDate) and not node.this.args.get("safe")
        value = self.operand(node.this.this if is_wrapped else node.this)
        if value.type not in (DATE, TIMESTAMP) or (value.type == DATE and isinstance(node, exp.Hour)):
            raise NotExactError(f"the {node.key} of something else than an instant")
        return Typed(f"CAST({node.key}({value.sql}) AS INT)", INT, named(f"{node.key}({{}})", value))

    def truncated(self, node: exp.TimestampTrunc) -> Typed:
        value, unit = self.operand(node.this), str(node.args["unit"].name).upper()
        if value.type != TIMESTAMP or unit not in _UNITS:
            raise NotExactError(f"date_trunc to {unit} of {value.type.simpleString()}")
        return Typed(f"CAST(date_trunc('{unit}', {value.sql}) AS TIMESTAMP)", TIMESTAMP)

    def rounded(self, node: exp.Round) -> Typed:
        places = node.args.get("decimals")
        if not isinstance(places, exp.Literal):
            raise NotExactError("round to another number of places than a literal one")
        return arithmetic.rounded(self.operand(node.this), self.literal(places))

    def arithmetic(self, node: exp.Expression) -> Typed:
        return arithmetic.calculated(_SIGNS[type(node)], self.operand(node.this), self.operand(node.expression))

    def division(self, node: exp.Div) -> Typed:
        return arithmetic.divided(self.operand(node.this), self.operand(node.expression))

    def choice(self, node: exp.Case) -> Typed:
        whens = [(self.condition(branch.this), self._or_null(branch.args["true"])) for branch in node.args["ifs"]]
        other = self._or_null(node.args.get("default") or exp.Null())
        kinds = [value.type for _, value in (*whens, (None, other)) if value.type != typed.UNKNOWN]
        if not kinds or any(kind != kinds[0] for kind in kinds):
            raise NotExactError("the branches of CASE are of several types")
        said = " ".join(f"WHEN {case.sql} THEN {value.sql}" for case, value in whens)
        return Typed(f"(CASE {said} ELSE {other.sql} END)", kinds[0])

    def _or_null(self, node: exp.Expression) -> Typed:
        return Typed("NULL", typed.UNKNOWN) if isinstance(node, exp.Null) else self.read(node)

    def null_if(self, node: exp.Nullif) -> Typed:
        value, (one, other) = self.read(node.this), alike(self.read(node.this), self.read(node.expression))
        if value.literal is not None or isinstance(node.this, exp.Literal | exp.Neg | exp.Paren):
            raise NotExactError("nullif of a literal, at which Spark fails")
        return Typed(f"(CASE WHEN {one.sql} = {other.sql} THEN NULL ELSE {value.sql} END)", value.type)

    def coalesce(self, node: exp.Coalesce) -> Typed:
        values = [self.read(value) for value in (node.this, *node.expressions)]
        if any(value.type != values[0].type for value in values):
            raise NotExactError("the arguments of coalesce are of several types")
        return Typed(f"coalesce({', '.join(value.sql for value in values)})", values[0].type)  # or it was called nvl

    def count(self, node: exp.Count) -> Typed:
        counted, what, distinct = self._within_aggregate(node), node.this, ""
        if isinstance(what, exp.Star):
            only(what, "")
            return Typed("count(*)", BIGINT, "count(1)")
        if isinstance(what, exp.Distinct):
            only(what, "expressions")
            if len(what.expressions) > 1:
                raise NotExactError("count(DISTINCT …) of several columns")
            what, distinct = what.expressions[0], "DISTINCT "
        value = counted.read(what)
        if distinct:
            ordered(value)
        return Typed(f"count({distinct}{value.sql})", BIGINT, named(f"count({distinct}{{}})", value))

    def count_if(self, node: exp.CountIf) -> Typed:
        met = self._within_aggregate(node).condition(node.this)
        return Typed(f"count(*) FILTER (WHERE {met.sql})", BIGINT)

    def extreme(self, node: exp.Expression) -> Typed:
        function, value = node.key, ordered(self._within_aggregate(node).read(node.this))
        return Typed(f"{function}({value.sql})", value.type, named(f"{function}({{}})", value))

    def sum(self, node: exp.Sum) -> Typed:
        return arithmetic.summed(self._within_aggregate(node).read(node.this))

    def average(self, node: exp.Avg) -> Typed:
        return arithmetic.averaged(self._within_aggregate(node).read(node.this))

    def _within_aggregate(self, node: exp.Expression) -> "Expressions":
        if not self._aggregates:
            raise NotExactError(f"{called(node)} stands where no aggregate can")
        within = Expressions(self._resolve)
        within.may_fail = self.may_fail
        return within


_COMPARISONS: Mapping[type[exp.Expression], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM",
}  # fmt: skip
_SIGNS: Mapping[type[exp.Expression], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
_CASTS: Mapping[Any, DataType] = {exp.DType.DATE: DATE, exp.DType.TIMESTAMPTZ: TIMESTAMP}
_UNITS = ("YEAR", "MONTH", "DAY", "HOUR", "MINUTE")
_E = Expressions
_RULES: Mapping[type[exp.Expression], tuple[Callable[[Expressions, Any], Typed], str]] = {
    exp.Column: (_E.column, "this table db catalog"),
    exp.Literal: (_E.literal, "this is_string"),
    exp.Neg: (_E.negative, "this"),
    exp.Boolean: (_E.boolean, "this"),
    exp.Paren: (_E.parenthesis, "this"),
    exp.And: (_E.connector, "this expression"),
    exp.Or: (_E.connector, "this expression"),
    exp.Not: (_E.negation, "this"),
    **dict.fromkeys(_COMPARISONS, (_E.comparison, "this expression")),
    exp.Between: (_E.between, "this low high"),
    exp.In: (_E.among, "this expressions"),
    exp.Is: (_E.is_null, "this expression"),
    exp.Like: (_E.like, "this expression negate"),
    exp.Cast: (_E.cast, "this to"),
    exp.TryCast: (_E.cast, "this to"),  # how CAST is parsed
    exp.TsOrDsToDate: (_E.to_date, "this safe"),
    **dict.fromkeys((exp.Year, exp.Month, exp.Hour), (_E.part, "this")),
    exp.TimestampTrunc: (_E.truncated, "this unit"),
    exp.Round: (_E.rounded, "this decimals"),
    **dict.fromkeys(_SIGNS, (_E.arithmetic, "this expression")),
    exp.Div: (_E.division, "this expression safe"),
    exp.Case: (_E.choice, "ifs default"),
    exp.Nullif: (_E.null_if, "this expression"),
    exp.Coalesce: (_E.coalesce, "this expressions"),
    exp.Avg: (_E.average, "this"),
    exp.Count: (_E.count, "this big_int"),
    exp.CountIf: (_E.count_if, "this"),
    exp.Max: (_E.extreme, "this"),
    exp.Min: (_E.extreme, "this"),
    exp.Sum: (_E.sum, "this"),
}
"""Of each kind of node, its rule and the parts that the rule looks at: one with other parts says more than it knows."""


def only(node: exp.Expression, known: str) -> None:
    """Refuses a node that has other parts than these."""
    if more := sorted({part for part, value in node.args.items() if value} - {*known.split()}):
        raise NotExactError(f"{called(node)} with {', '.join(part.strip('_') for part in more)}")


def called(node: exp.Expression) -> str:
    """A node as people call it: a function by its name."""
    name = node.sql_name() if isinstance(node, exp.Func) and not isinstance(node, exp.Anonymous) else str(node.name)
    return (name or node.key).lower() if isinstance(node, exp.Func) else node.key.upper()
