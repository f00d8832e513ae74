"""Arithmetic as Spark does it: the types of what comes out, and how it is rounded."""

from pyspark.sql.types import DataType, DecimalType

from lakehouse_spark.query.typed import (
    BIGINT,
    DOUBLE,
    INT,
    INTEGERS,
    MAX_PRECISION,
    NotExactError,
    Typed,
    as_decimal,
    cast,
    decimal,
    named,
    sql_type,
)

MACROS = (
    "ratio(a, b) AS CASE WHEN a IS NULL THEN NULL WHEN b = 0 THEN error('division by zero') "
    "ELSE CAST(a AS DOUBLE) / CAST(b AS DOUBLE) END",
    # Spark sums in floating point, which is exact as long as no part of the sum is larger.
    "average(total, most, number) AS CASE WHEN most >= 9007199254740992 THEN error('a sum beyond 2^53') "
    "ELSE CAST(total AS DOUBLE) / number END",
    # Spark fails where a part of a sum is without room, whichever part it takes first.
    "part_by_part(total, most, room) AS CASE WHEN most > room THEN error('a sum whose parts may overflow') "
    "ELSE total END",
    "units(a, one) AS CAST(a * one AS HUGEINT)",
    "_rounded(a, b, shift) AS (CAST(2 AS HUGEINT) * abs(a) * shift + abs(b)) // (CAST(2 AS HUGEINT) * abs(b))",
    "_text(r, one, places) AS CAST(r // one AS VARCHAR) || '.' || lpad(CAST(r % one AS VARCHAR), places, '0')",
    "quotient(a, b, widest, shift, one, places) AS CASE WHEN a IS NULL THEN NULL "
    "WHEN b = 0 THEN error('division by zero') "
    "WHEN abs(b) >= widest THEN error('a quotient that is rounded twice') "
    "ELSE CASE WHEN (a < 0) <> (b < 0) THEN '-' ELSE '' END || _text(_rounded(a, b, shift), one, places) END",
)
"""What the rules call: a quotient of decimals is that of integers, in units of their last place, as a text."""
_DIGITS_OF_DOUBLES = 15


def calculated(sign: str, left: Typed, right: Typed) -> Typed:
    """A sum, a difference or a product."""
    name = named(f"({{}} {sign} {{}})", left, right)
    if left.type in INTEGERS and right.type in INTEGERS:
        kind: DataType = INT if left.type == right.type == INT else BIGINT
        return Typed(f"({cast(left, kind).sql} {sign} {cast(right, kind).sql})", kind, name, may_fail=True)
    one, other = as_decimal(left), as_decimal(right)
    if sign == "*":
        kind = _fitting(one.precision + other.precision + 1, one.scale + other.scale)
        one = _in_128_bits(one)
    else:
        scale = max(one.scale, other.scale)
        kind = _fitting(max(one.precision - one.scale, other.precision - other.scale) + scale + 1, scale)
        one = other = kind
    made = f"CAST({cast(left, one).sql} {sign} {cast(right, other).sql} AS {sql_type(kind)})"
    return Typed(made, kind, name, may_fail=_is_full(kind))


def divided(left: Typed, right: Typed) -> Typed:
    """Of integers, in floating point; of decimals, rounded half up to the places of Spark's type."""
    name = named("({} / {})", left, right)
    if left.type in INTEGERS and right.type in INTEGERS:
        return Typed(f"ratio({left.sql}, {right.sql})", DOUBLE, name, may_fail=not right.literal)
    one, other = as_decimal(left), as_decimal(right)
    places = max(6, one.scale + other.precision + 1)
    kind = _fitting(one.precision - one.scale + other.scale + places, places, may_round=True)
    may_fail = _is_full(kind) or not right.literal
    return Typed(_quotient(cast(left, one), cast(right, other), kind), kind, name, may_fail=may_fail)


def rounded(value: Typed, places: Typed) -> Typed:
    """A decimal, half up."""
    if not isinstance(value.type, DecimalType) or not isinstance(places.literal, int) or places.type != INT:
        raise NotExactError(f"a {value.type.simpleString()} is rounded")
    scale = min(value.type.scale, places.literal)
    kind = DecimalType(min(value.type.precision - value.type.scale + 1 + scale, MAX_PRECISION), scale)
    name = named("round({}, {})", value, places)
    return Typed(f"CAST({value.sql} AS {sql_type(kind)})", kind, name, may_fail=_is_full(kind))


def summed(value: Typed) -> Typed:
    name = named("sum({})", value)
    if isinstance(value.type, DecimalType):
        kind: DataType = decimal(min(value.type.precision + 10, MAX_PRECISION), value.type.scale)
    elif value.type in INTEGERS:
        kind = BIGINT
    else:
        raise NotExactError(f"a sum of {value.type.simpleString()}")
    total = f"CAST(sum({value.sql}) AS {sql_type(kind)})"
    if value.type == BIGINT:
        total = f"part_by_part({total}, sum(abs(CAST({value.sql} AS HUGEINT))), 9223372036854775807)"
    elif isinstance(kind, DecimalType) and _is_full(kind):
        most = f"{'9' * (MAX_PRECISION - kind.scale)}.{'9' * kind.scale}".rstrip(".")
        total = f"part_by_part({total}, sum(abs({cast(value, kind).sql})), CAST('{most}' AS {sql_type(kind)}))"
    return Typed(total, kind, name)


def averaged(value: Typed) -> Typed:
    name, total = named("avg({})", value), summed(value)
    number = Typed(f"nullif(count({value.sql}), 0)", BIGINT)
    if not isinstance(value.type, DecimalType):
        most = f"sum(abs(CAST({value.sql} AS HUGEINT)))"
        return Typed(f"average(sum({value.sql}), {most}, {number.sql})", DOUBLE, name)
    kind = decimal(value.type.precision + 4, value.type.scale + 4)
    if kind.precision <= _DIGITS_OF_DOUBLES:
        raise NotExactError("an average of decimals so narrow that Spark takes it in floating point")
    return Typed(_quotient(total, cast(number, as_decimal(number)), kind), kind, name)


def _fitting(precision: int, scale: int, *, may_round: bool = False) -> DecimalType:
    """What is too wide gives up digits behind the point, but not of the first six."""
    kept = scale if precision <= MAX_PRECISION else max(MAX_PRECISION - (precision - scale), min(scale, 6))
    if kept != scale and not may_round:
        raise NotExactError("a product or a sum of decimals is rounded")
    return DecimalType(min(precision, MAX_PRECISION), kept)


def _is_full(kind: DataType) -> bool:
    """Whether a decimal may be without room for its value."""
    return isinstance(kind, DecimalType) and kind.precision == MAX_PRECISION


def _in_128_bits(kind: DecimalType) -> DecimalType:
    """As wide as DuckDB's products have to be: it leaves that of two narrow decimals in 64 bits, where it overflows."""
    return DecimalType(max(kind.precision, 19), kind.scale)


def _quotient(left: Typed, right: Typed, kind: DecimalType) -> str:
    """One decimal through another. Spark rounds first to 38 places, then to those of its type. That is the same as at
    once where the first step cannot reach a tie of the second: for a divisor of less than ten to the places between."""
    scales = [as_decimal(left).scale, as_decimal(right).scale]
    shift = kind.scale + scales[1] - scales[0]
    if shift < 0:
        raise NotExactError("a quotient with fewer places than it is made of")
    units = [
        f"units({cast(each, _in_128_bits(as_decimal(each))).sql}, {_power(scale, f'DECIMAL({scale + 1}, 0)')})"
        for each, scale in zip((left, right), scales, strict=True)
    ]
    powers = [_power(places, "HUGEINT") for places in (MAX_PRECISION - kind.scale, shift, kind.scale)]
    return f"CAST(quotient({', '.join([*units, *powers])}, {kind.scale}) AS {sql_type(kind)})"


def _power(places: int, kind: str) -> str:
    """Ten to this power."""
    return f"CAST(1{'0' * places} AS {kind})"
