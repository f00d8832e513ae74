"""Expressions of Spark's SQL in DuckDB's words, with the types that Spark gives them.

This is a list of what is known to be equal in both engines, to the last digit: each rule writes out the casts that
Spark would add, so that none of DuckDB's own comes into play, and what no rule names is refused. Where Spark would
fail, as on an overflow, DuckDB fails as well, and Spark is asked then. Instants are in UTC, without a zone in DuckDB.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    IntegerType,
    LongType,
    NullType,
    StringType,
    TimestampType,
)
from sqlglot import exp

from lakehouse_spark.errors import LakehouseError

BOOLEAN, DATE, DOUBLE, INT, BIGINT, STRING, TIMESTAMP = (
    BooleanType(), DateType(), DoubleType(), IntegerType(), LongType(), StringType(), TimestampType()
)  # fmt: skip
UNKNOWN = NullType()
"""In place of a type that is left to Spark."""
_ORDERED = (BOOLEAN, DATE, INT, BIGINT, STRING, TIMESTAMP)
_MAX_PRECISION = 38
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?")
_PREDICATES = (exp.Connector, exp.Predicate, exp.Not)


class NotExactError(LakehouseError):
    """Something that is not known to be the same in DuckDB engines."""


class Read(NamedTuple):
    """A column of one of the tables that a statement reads, by its place among them."""

    place: int
    column: str


class Typed(NamedTuple):
    """An expression in DuckDB's SQL with its type in Spark; `name` is what Spark calls a column of it that has no
    alias, None where that is not known."""

    sql: str
    type: DataType
    name: str | None = None
    literal: int | str | date | datetime | None = None
    read: Read | None = None


MACROS = (
    "ratio(a, b) AS CASE WHEN b = 0 THEN error('division by zero') ELSE CAST(a AS DOUBLE) / CAST(b AS DOUBLE) END",
    # Spark sums in floating point, which is exact as long as no part of the sum is larger.
    "average(total, most, number) AS CASE WHEN most >= 9007199254740992 THEN error('a sum beyond 2^53') "
    "ELSE CAST(total AS DOUBLE) / number END",
    "units(a, one) AS CAST(a * one AS HUGEINT)",
    "_rounded(a, b, shift) AS (CAST(2 AS HUGEINT) * abs(a) * shift + abs(b)) // (CAST(2 AS HUGEINT) * abs(b))",
    "_text(r, one, places) AS CAST(r // one AS VARCHAR) || '.' || lpad(CAST(r % one AS VARCHAR), places, '0')",
    "quotient(a, b, widest, shift, one, places) AS CASE WHEN b = 0 THEN error('division by zero') "
    "WHEN abs(b) >= widest THEN error('a quotient that is rounded twice') "
    "ELSE CASE WHEN (a < 0) <> (b < 0) THEN '-' ELSE '' END || _text(_rounded(a, b, shift), one, places) END",
)
"""What the rules call: a quotient of decimals is that of integers, in units of their last place, as a text."""
Resolve = Callable[[exp.Column], Typed]


class Expressions:
    """Reads expressions in which columns are what `resolve` says."""

    def __init__(self, resolve: Resolve, *, aggregates: bool = False) -> None:
        self._resolve = resolve
        self._aggregates = aggregates

    def read(self, node: exp.Expression) -> Typed:
        """The expression in DuckDB's words; raises NotExactError."""
        rule, known = _RULES.get(type(node), (None, ""))
        if rule is None:
            raise NotExactError(f"{called(node)} is not known to be the same in DuckDB")
        only(node, known)
        return rule(self, node)

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
        said = str(node.this)
        if not node.is_string:
            return _number(said)
        if "\0" in said:
            raise NotExactError("a text has a character that ends it elsewhere")
        return Typed(text(said), STRING, said, said)

    def negative(self, node: exp.Neg) -> Typed:
        if not isinstance(node.this, exp.Literal) or node.this.is_string:
            raise NotExactError("a minus stands before something else than a number")
        return _number(f"-{node.this.this}")

    def boolean(self, node: exp.Boolean) -> Typed:
        return Typed("TRUE" if node.this else "FALSE", BOOLEAN)

    def parenthesis(self, node: exp.Paren) -> Typed:
        found = self.read(node.this)
        return found._replace(sql=f"({found.sql})")

    def connector(self, node: exp.Expression) -> Typed:
        left, right = self.condition(node.this), self.condition(node.expression)
        return Typed(f"({left.sql} {'AND' if isinstance(node, exp.And) else 'OR'} {right.sql})", BOOLEAN)

    def negation(self, node: exp.Not) -> Typed:
        return Typed(f"(NOT {self.condition(node.this).sql})", BOOLEAN)

    def comparison(self, node: exp.Expression) -> Typed:
        left, right = alike(self.operand(node.this), self.operand(node.expression))
        return Typed(f"({left.sql} {COMPARISONS[type(node)]} {right.sql})", BOOLEAN)

    def between(self, node: exp.Between) -> Typed:
        value, low, high = (self.operand(node.args[part]) for part in ("this", "low", "high"))
        (above, low), (below, high) = alike(value, low), alike(value, high)
        return Typed(f"({above.sql} >= {low.sql} AND {below.sql} <= {high.sql})", BOOLEAN)

    def among(self, node: exp.In) -> Typed:
        value, items = self.operand(node.this), [self.operand(item) for item in node.expressions]
        if any(item.type != value.type and not {item.type, value.type} <= {INT, BIGINT} for item in items):
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
        return Typed(f"({value.sql} LIKE {pattern.sql})", BOOLEAN)

    def cast(self, node: exp.Cast) -> Typed:
        """DATE '…' and TIMESTAMP '…', which are parsed as casts, and the day of an instant."""
        value, to = self.operand(node.this), _CASTS.get(node.to.this)
        if isinstance(value.literal, str) and to is not None:
            return _instant(value.literal, to)
        return self._day(value) if to == DATE else _refuse(node)

    def to_date(self, node: exp.Expression) -> Typed:
        value = self.operand(node.this)
        return self._day(value)._replace(name=value.name and f"to_date({value.name})")

    def _day(self, value: Typed) -> Typed:
        if value.type not in (DATE, TIMESTAMP):
            raise NotExactError("a date is made of something else than an instant")
        return Typed(f"CAST({value.sql} AS DATE)", DATE)

    def arithmetic(self, node: exp.Expression) -> Typed:
        sign, left, right = _SIGNS[type(node)], self.operand(node.this), self.operand(node.expression)
        name = f"({left.name} {sign} {right.name})" if left.name and right.name else None
        if {left.type, right.type} <= {INT, BIGINT}:
            kind: DataType = INT if left.type == right.type == INT else BIGINT
        else:
            kind = _decimal_result(sign, _as_decimal(left), _as_decimal(right))
        if sign == "*" and isinstance(kind, DecimalType):
            factors = " * ".join(_cast(each, _as_decimal(each)) for each in (left, right))
            return Typed(f"CAST({factors} AS {_sql_type(kind)})", kind, name)
        return Typed(f"CAST({_cast(left, kind)} {sign} {_cast(right, kind)} AS {_sql_type(kind)})", kind, name)

    def division(self, node: exp.Div) -> Typed:
        """Of integers, in floating point; of decimals, rounded half up to the places of Spark's type."""
        left, right = self.operand(node.this), self.operand(node.expression)
        name = f"({left.name} / {right.name})" if left.name and right.name else None
        if {left.type, right.type} <= {INT, BIGINT}:
            return Typed(f"ratio({left.sql}, {right.sql})", DOUBLE, name)
        over, under = _as_decimal(left), _as_decimal(right)
        places = max(6, over.scale + under.precision + 1)
        whole = over.precision - over.scale + under.scale
        kind = _capped(whole + places, places, may_round=True)
        return Typed(_quotient(left, over, right, under, kind), kind, name)

    def choice(self, node: exp.Case) -> Typed:
        branches = [(self.condition(each.this), each.args["true"]) for each in node.args["ifs"]]
        values = [value for _, value in branches] + [node.args.get("default") or exp.Null()]
        typed = [None if isinstance(value, exp.Null) else self.read(value) for value in values]
        kinds = [value.type for value in typed if value is not None]
        if not kinds or any(kind != kinds[0] for kind in kinds):
            raise NotExactError("the branches of CASE are of several types")
        said = ["NULL" if value is None else value.sql for value in typed]
        whens = " ".join(f"WHEN {case.sql} THEN {value}" for (case, _), value in zip(branches, said, strict=False))
        return Typed(f"(CASE {whens} ELSE {said[-1]} END)", kinds[0])

    def coalesce(self, node: exp.Coalesce) -> Typed:
        values = [self.read(value) for value in (node.this, *node.expressions)]
        if any(value.type != values[0].type for value in values):
            raise NotExactError("the arguments of coalesce are of several types")
        return Typed(f"coalesce({', '.join(value.sql for value in values)})", values[0].type)  # or it was called nvl

    def count(self, node: exp.Count) -> Typed:
        inner = self._within_aggregate(node)
        if isinstance(node.this, exp.Star):
            only(node.this, "")
            return Typed("count(*)", BIGINT, "count(1)")
        if isinstance(node.this, exp.Distinct):
            only(node.this, "expressions")
            [value] = [inner.read(each) for each in node.this.expressions[:1]]
            if len(node.this.expressions) > 1:
                raise NotExactError("count(DISTINCT …) of several columns")
            ordered(value)
            return Typed(f"count(DISTINCT {value.sql})", BIGINT, value.name and f"count(DISTINCT {value.name})")
        value = inner.read(node.this)
        return Typed(f"count({value.sql})", BIGINT, value.name and f"count({value.name})")

    def count_if(self, node: exp.CountIf) -> Typed:
        met = self._within_aggregate(node).condition(node.this)
        return Typed(f"count(*) FILTER (WHERE {met.sql})", BIGINT)

    def extreme(self, node: exp.Expression) -> Typed:
        function, value = node.key, ordered(self._within_aggregate(node).read(node.this))
        return Typed(f"{function}({value.sql})", value.type, value.name and f"{function}({value.name})")

    def sum(self, node: exp.Sum) -> Typed:
        value = self._within_aggregate(node).read(node.this)
        if isinstance(value.type, DecimalType):
            kind: DataType = _decimal(min(value.type.precision + 10, _MAX_PRECISION), value.type.scale)
        elif value.type in (INT, BIGINT):
            kind = BIGINT
        else:
            raise NotExactError(f"a sum of {value.type.simpleString()}")
        return Typed(f"CAST(sum({value.sql}) AS {_sql_type(kind)})", kind, value.name and f"sum({value.name})")

    def average(self, node: exp.Avg) -> Typed:
        value = self._within_aggregate(node).read(node.this)
        name = value.name and f"avg({value.name})"
        number = Typed(f"nullif(count({value.sql}), 0)", BIGINT)
        if value.type in (INT, BIGINT):
            return Typed(
                f"average(sum({value.sql}), sum(abs(CAST({value.sql} AS HUGEINT))), {number.sql})", DOUBLE, name
            )
        if not isinstance(value.type, DecimalType):
            raise NotExactError(f"an average of {value.type.simpleString()}")
        kind = _decimal(value.type.precision + 4, value.type.scale + 4)
        total = _decimal(min(value.type.precision + 10, _MAX_PRECISION), value.type.scale)
        summed = Typed(f"CAST(sum({value.sql}) AS {_sql_type(total)})", total)
        return Typed(_quotient(summed, total, number, DecimalType(20, 0), kind), kind, name)

    def _within_aggregate(self, node: exp.Expression) -> "Expressions":
        if not self._aggregates:
            raise NotExactError(f"{called(node)} stands where no aggregate can")
        return Expressions(self._resolve)


COMPARISONS: Mapping[type[exp.Expression], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM",
}  # fmt: skip
_SIGNS: Mapping[type[exp.Expression], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*"}
_CASTS: Mapping[Any, DataType] = {exp.DType.DATE: DATE, exp.DType.TIMESTAMPTZ: TIMESTAMP}
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
    **dict.fromkeys(COMPARISONS, (_E.comparison, "this expression")),
    exp.Between: (_E.between, "this low high"),
    exp.In: (_E.among, "this expressions"),
    exp.Is: (_E.is_null, "this expression"),
    exp.Like: (_E.like, "this expression"),
    exp.Cast: (_E.cast, "this to"),
    exp.TryCast: (_E.cast, "this to"),  # how CAST is parsed
    exp.TsOrDsToDate: (_E.to_date, "this safe"),
    **dict.fromkeys(_SIGNS, (_E.arithmetic, "this expression")),
    exp.Div: (_E.division, "this expression safe"),
    exp.Case: (_E.choice, "ifs default"),
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


def ordered(value: Typed) -> Typed:
    """Refuses one whose values may be equal or in order by other rules elsewhere, as those of floating point."""
    if value.type not in _ORDERED and not isinstance(value.type, DecimalType):
        raise NotExactError(f"{value.type.simpleString()} is compared")
    return value


def alike(left: Typed, right: Typed) -> tuple[Typed, Typed]:
    """Two values as Spark compares them: of one type."""
    ordered(left), ordered(right)
    if left.type == right.type:
        return left, right
    for text_, other in ((left, right), (right, left)):
        if isinstance(text_.literal, str) and other.type in (DATE, TIMESTAMP):
            made = _instant(text_.literal, other.type)
            return (made, other) if text_ is left else (other, made)
    if {left.type, right.type} == {INT, BIGINT}:
        return left._replace(sql=_cast(left, BIGINT)), right._replace(sql=_cast(right, BIGINT))
    if STRING in (left.type, right.type):
        raise NotExactError("a text is compared with another type")
    one, other_ = _as_decimal(left), _as_decimal(right)
    scale = max(one.scale, other_.scale)
    kind = _decimal(max(one.precision - one.scale, other_.precision - other_.scale) + scale, scale)
    return left._replace(sql=_cast(left, kind)), right._replace(sql=_cast(right, kind))


def text(value: str) -> str:
    """A literal of DuckDB's."""
    return "'" + value.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name in DuckDB's SQL."""
    return '"' + name.replace('"', '""') + '"'


def _refuse(node: exp.Expression) -> Typed:
    raise NotExactError(f"{called(node)} is not known to be the same in DuckDB")


def _number(said: str) -> Typed:
    """A number as it is written, and of the type that Spark gives it for that."""
    if re.fullmatch(r"-?\d+", said):
        for kind, bits in ((INT, 31), (BIGINT, 63)):
            if -(2**bits) <= int(said) < 2**bits:
                return Typed(f"CAST({said} AS {_sql_type(kind)})", kind, said, int(said))
    elif re.fullmatch(r"-?\d+\.\d+", said):
        digits, scale = re.sub(r"[-.]", "", said).lstrip("0"), len(said.partition(".")[2])
        decimal = _decimal(max(len(digits), scale), scale)
        return Typed(f"CAST('{said}' AS {_sql_type(decimal)})", decimal, said)
    raise NotExactError(f"the number {said} is of a type that may differ")


def _instant(said: str, kind: DataType) -> Typed:
    """A text as Spark reads it where a date or an instant is wanted: of its many ways to write one, two."""
    if not (_DAY if kind == DATE else _INSTANT).fullmatch(said):
        raise NotExactError(f"{said!r} as a {kind.simpleString()}")
    try:
        value = date.fromisoformat(said) if kind == DATE else datetime.fromisoformat(_padded(said))
    except ValueError:  # as the 30th of February, which Spark refuses in its own words
        raise NotExactError(f"{said!r} as a {kind.simpleString()}") from None
    return Typed(
        f"CAST({text(value.isoformat(' ') if isinstance(value, datetime) else said)} AS {_sql_type(kind)})",
        kind,
        literal=value,
    )


def _padded(said: str) -> str:
    """With six digits of the second's fraction, as Python wants them."""
    whole, dot, fraction = said.partition(".")
    return whole + dot + fraction.ljust(6, "0") if dot else said


def _as_decimal(value: Typed) -> DecimalType:
    """The decimal that Spark makes of a number beside another decimal: of a literal, as wide as its digits."""
    if isinstance(value.type, DecimalType):
        return value.type
    if value.type not in (INT, BIGINT):
        raise NotExactError(f"{value.type.simpleString()} stands where a number is wanted")
    if isinstance(value.literal, int):
        return DecimalType(len(str(abs(value.literal))), 0)
    return DecimalType(10 if value.type == INT else 20, 0)


def _decimal_result(sign: str, left: DecimalType, right: DecimalType) -> DecimalType:
    """Spark's type of the result, as long as no digit is cut off to make room."""
    if sign == "*":
        return _capped(left.precision + right.precision + 1, left.scale + right.scale)
    scale = max(left.scale, right.scale)
    return _capped(max(left.precision - left.scale, right.precision - right.scale) + scale + 1, scale)


def _capped(precision: int, scale: int, *, may_round: bool = False) -> DecimalType:
    """What is too wide gives up digits behind the point, but not of the first six."""
    kept = scale if precision <= _MAX_PRECISION else max(_MAX_PRECISION - (precision - scale), min(scale, 6))
    if kept != scale and not may_round:
        raise NotExactError("a product or a sum of decimals is rounded")
    return DecimalType(min(precision, _MAX_PRECISION), kept)


def _quotient(left: Typed, over: DecimalType, right: Typed, under: DecimalType, kind: DecimalType) -> str:
    """One decimal through another. Spark rounds first to 38 places, then to those of its type. That is the same as at
    once where the first step cannot reach a tie of the second: for a divisor of less than ten to the places between."""
    shift = kind.scale + under.scale - over.scale
    if shift < 0:
        raise NotExactError("a quotient with fewer places than it is made of")
    units = [f"units({_cast(each, own)}, {_power(own.scale)})" for each, own in ((left, over), (right, under))]
    powers = [_power(places, "HUGEINT") for places in (_MAX_PRECISION - kind.scale, shift, kind.scale)]
    return f"CAST(quotient({', '.join([*units, *powers])}, {kind.scale}) AS {_sql_type(kind)})"


def _power(places: int, kind: str = "") -> str:
    """Ten to this power."""
    return f"CAST(1{'0' * places} AS {kind or f'DECIMAL({places + 1}, 0)'})"


def _decimal(precision: int, scale: int) -> DecimalType:
    if precision > _MAX_PRECISION:
        raise NotExactError("decimals are wider than both can hold")
    return DecimalType(precision, scale)


def _cast(value: Typed, kind: DataType) -> str:
    return value.sql if value.type == kind else f"CAST({value.sql} AS {_sql_type(kind)})"


def _sql_type(kind: DataType) -> str:
    return kind.simpleString().upper()
