"""The values that trimmed texts write, numbers and instants: exact, and NULL for anything else."""

from collections.abc import Callable

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?0*[0-9]{1,3})?\z"
_WHOLE = r"^-?[0-9]+(\.0+)?\z"
_SHORT_WHOLE = r"^-?(?:0|[1-9][0-9]{0,17})\z"  # fits 64 bits
_SHORT_NUMBER = r"^-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,99})?\z"  # within what a double holds
_SHORT_PRICE = r"^-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?\z"  # 18 decimals hold it
_PARTS = r"^-?([0-9]+)(?:\.([0-9]+))?[eE]?([+-]?[0-9]*)\z"
_LONGEST_NUMBER = 1000  # the JSON parser's own limit for a number

_DATE_TIME = (
    r"^(?!0000)([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2})(:[0-9]{2}(?:[.,]([0-9]+))?)?"
    r" ?([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?\z"
)
_SIMPLE_DATE_TIME = (  # Spark's own notation, in a year that no offset leaves
    r"^(?!9999)[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})\z"
)
_LATEST_MILLIS = 253_402_300_799_999  # 9999-12-31
_EARLIEST_MILLIS = -62_135_596_800_000  # 0001-01-01


def is_number(text: Column) -> Column:
    return (F.length(text) <= _LONGEST_NUMBER) & text.rlike(_NUMBER)


def to_double(text: Column) -> Column:
    """The number a trimmed text writes; NULL for anything else and beyond what a double holds."""
    value = text.try_cast("double")
    return F.when(text.rlike(_SHORT_NUMBER), value).when(is_number(text), F.when(F.abs(value) < float("inf"), value))


def to_decimal(text: Column, kind: T.DecimalType) -> Column:
    """The number a trimmed text writes, rounded HALF_UP once to its type's scale; NULL if none or too large."""
    return F.when(is_number(text), text.try_cast(kind))


def to_exact(text: Column, kind: T.DecimalType) -> Column:
    """The very number a trimmed text writes; NULL if its type does not hold that to the last digit."""
    is_held = is_number(text) & _has_places(text, kind.scale)
    return F.when(text.rlike(_SHORT_PRICE), text.try_cast(kind)).when(is_held, text.try_cast(kind))


def to_long(text: Column) -> Column:
    """The integral number a trimmed text writes (100, 100.0, 1e2); NULL for fractions and beyond 64 bits."""
    return F.when(text.rlike(_SHORT_WHOLE), text.try_cast("bigint")).when(
        is_number(text),
        F.when(text.rlike(_WHOLE), F.substring_index(text, ".", 1).try_cast("bigint")).when(
            _has_places(text, 0), text.try_cast(T.DecimalType(38, 0)).try_cast("bigint")
        ),
    )


def _has_places(text: Column, most: int) -> Column:
    """Whether a number has at most so many digits behind the point once the exponent has moved it, zeros at the end
    left out."""
    whole, fraction, exponent = (F.regexp_extract(text, _PARTS, group) for group in (1, 2, 3))
    digits = F.rtrim(F.concat(whole, fraction), F.lit("0"))
    point = F.length(whole) + F.coalesce(F.nullif(exponent, F.lit("")).try_cast("int"), F.lit(0))
    return (F.length(digits) - point <= most) | (F.ltrim(digits, F.lit("0")) == "")


def to_instant(text: Column) -> Column:
    """The instant a trimmed text writes: an ISO-8601 date and time (UTC where no offset is given, cut to microseconds)
    or integral epoch milliseconds.
    """

    def part(group: int) -> Column:
        return F.regexp_extract(text, _DATE_TIME, group)

    zone = F.upper(part(5))
    offset = (
        F.when(zone.isin("", "Z"), F.lit("Z"))
        .when(F.length(zone) == 3, F.concat(zone, F.lit(":00")))
        .when(F.length(zone) == 5, F.concat(F.substring(zone, 1, 3), F.lit(":"), F.substring(zone, 4, 2)))
        .otherwise(zone)
    )
    seconds = F.when(part(3) == "", F.lit(":00")).otherwise(F.substring(part(3), 1, 3))
    fraction = F.when(part(4) == "", F.lit("")).otherwise(F.concat(F.lit("."), F.substring(part(4), 1, 6)))
    canonical = F.concat(part(1), F.lit("T"), part(2), seconds, fraction, offset)
    instant = _only_if(canonical.try_cast("timestamp"), lambda at: _is_in_years(F.unix_millis(at)))
    return (
        F.when(text.rlike(_SIMPLE_DATE_TIME), text.try_cast("timestamp"))
        .when(text.rlike(_DATE_TIME), instant)
        .otherwise(F.timestamp_millis(_only_if(to_long(text), _is_in_years)))
    )


def _is_in_years(millis: Column) -> Column:
    return millis.between(_EARLIEST_MILLIS, _LATEST_MILLIS)


def _only_if(value: Column, holds: Callable[[Column], Column]) -> Column:
    """The value where `holds` is true of it, else NULL; in an array, so that its code is not written out per use."""
    return F.get(F.filter(F.array(value), holds), 0)
