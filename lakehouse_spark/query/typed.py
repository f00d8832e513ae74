"""Values of Spark's SQL in DuckDB's words: their types, literals, casts, and how two of them are compared.

Instants are in UTC, and without a zone in DuckDB.
"""

import re
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

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

from lakehouse_spark.errors import LakehouseError

BOOLEAN, DATE, DOUBLE, INT, BIGINT, STRING, TIMESTAMP = (
    BooleanType(), DateType(), DoubleType(), IntegerType(), LongType(), StringType(), TimestampType()
)  # fmt: skip
INTEGERS = (INT, BIGINT)
UNKNOWN = NullType()
"""In place of a type that is left to Spark."""
MAX_PRECISION = 38
_ORDERED = (BOOLEAN, DATE, INT, BIGINT, STRING, TIMESTAMP)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?")

Literal = int | str | date | datetime


class NotExactError(LakehouseError):
    """Why a statement is not answered: something that is not known to be the same in both engines."""


class Range(NamedTuple):
    """All rows outside of it are left out of the answer; None: it has no end on that side."""

    column: str
    low: Literal | None
    high: Literal | None


@dataclass(eq=False)
class Reading:
    """A table in FROM, whose name is `alias` for DuckDB: the columns that the statement names, and ranges that no row
    of the answer is outside of."""

    table: str
    alias: str
    columns: dict[str, DataType] = field(default_factory=dict)
    ranges: list[Range] = field(default_factory=list)


class Origin(NamedTuple):
    """A column of a table that is read."""

    reading: Reading
    column: str


class Typed(NamedTuple):
    """An expression in DuckDB's SQL with its type in Spark; `name` is what Spark calls a column of it that has no
    alias, None where that is not known; `origin` is the column that it is, where it is one of a table; `may_fail` where
    there are values at which Spark fails, as with an overflow."""

    sql: str
    type: DataType
    name: str | None = None
    literal: Literal | None = None
    origin: Origin | None = None
    may_fail: bool = False


def ordered(value: Typed) -> Typed:
    """Refuses one whose values may be equal or in order by other rules elsewhere, as those of floating point."""
    if value.type not in _ORDERED and not isinstance(value.type, DecimalType):
        raise NotExactError(f"{value.type.simpleString()} is compared")
    return value


def alike(left: Typed, right: Typed) -> tuple[Typed, Typed]:
    """Two values as Spark compares them: of one type."""
    if ordered(left).type == ordered(right).type:
        return left, right
    if {left.type, right.type} == {*INTEGERS}:
        return cast(left, BIGINT), cast(right, BIGINT)
    if left.type in (DATE, TIMESTAMP) and isinstance(right.literal, str):
        return left, instant(right.literal, left.type)
    if right.type in (DATE, TIMESTAMP) and isinstance(left.literal, str):
        return instant(left.literal, right.type), right
    if STRING in (left.type, right.type):
        raise NotExactError("a text is compared with another type")
    one, other = as_decimal(left), as_decimal(right)
    scale = max(one.scale, other.scale)
    kind = decimal(max(one.precision - one.scale, other.precision - other.scale) + scale, scale)
    return cast(left, kind), cast(right, kind)


def cast(value: Typed, kind: DataType) -> Typed:
    """The value as another type, in which there is room for it, or DuckDB fails."""
    return value if value.type == kind else value._replace(sql=f"CAST({value.sql} AS {sql_type(kind)})", type=kind)


def number(said: str) -> Typed:
    """A number as it is written, and of the type that Spark gives it for that."""
    if re.fullmatch(r"-?\d+", said):
        for kind, bits in ((INT, 31), (BIGINT, 63)):
            if -(2**bits) <= int(said) < 2**bits:
                return Typed(f"CAST({said} AS {sql_type(kind)})", kind, str(int(said)), int(said))
    elif re.fullmatch(r"-?\d+\.\d+", said):
        digits, scale = re.sub(r"[-.]", "", said).lstrip("0"), len(said.partition(".")[2])
        fraction = decimal(max(len(digits), scale), scale)
        name = Decimal(said)  # of which zero has no sign
        return Typed(f"CAST('{said}' AS {sql_type(fraction)})", fraction, str(name if name else abs(name)))
    raise NotExactError(f"the number {said} is of a type that may differ")


def text(said: str) -> Typed:
    if "\0" in said:
        raise NotExactError("a text has a character that ends it elsewhere")
    return Typed(_quoted(said, "'"), STRING, said, said)


def instant(said: str, kind: DataType) -> Typed:
    """A text as Spark reads it where a date or an instant is wanted: of its many ways to write one, two."""
    try:
        if not (_DAY if kind == DATE else _INSTANT).fullmatch(said):
            raise ValueError
        whole, dot, fraction = said.partition(".")
        found = datetime.fromisoformat(whole + dot + fraction.ljust(6, "0") if dot else whole)
    except ValueError:  # as the 30th of February, which Spark refuses in its own words
        raise NotExactError(f"{said!r} as a {kind.simpleString()}") from None
    value = found.date() if kind == DATE else found
    return Typed(f"CAST('{value}' AS {sql_type(kind)})", kind, literal=value)


def quoted(name: str) -> str:
    """A name in DuckDB's SQL."""
    return _quoted(name, '"')


def named(form: str, *values: Typed) -> str | None:
    """What Spark calls something that it makes of these values, with their names put into the form."""
    names = [value.name for value in values if value.name is not None]
    return form.format(*names) if len(names) == len(values) else None


def decimal(precision: int, scale: int) -> DecimalType:
    if precision > MAX_PRECISION:
        raise NotExactError("decimals are wider than both can hold")
    return DecimalType(precision, scale)


def as_decimal(value: Typed) -> DecimalType:
    """The decimal that Spark makes of a number beside another decimal: of a literal, as wide as its digits."""
    if isinstance(value.type, DecimalType):
        return value.type
    if value.type not in INTEGERS:
        raise NotExactError(f"{value.type.simpleString()} stands where a number is wanted")
    if isinstance(value.literal, int):
        return DecimalType(len(str(abs(value.literal))), 0)
    return DecimalType(10 if value.type == INT else 20, 0)


def sql_type(kind: DataType) -> str:
    """A type's name, which is the same in DuckDB."""
    return kind.simpleString().upper()


def _quoted(said: str, quote: str) -> str:
    return quote + said.replace(quote, quote * 2) + quote
