"""From a record's bytes to the texts and values of its fields, by the rules of RFC 8259 and nothing looser.

Spark's JSON functions pass numbers through a double and stop at the end of the first value. Both would be silent
losses here, so a payload is parsed inside one pair of brackets (what follows the object is then a syntax error), and
numbers with more digits than a double carries are read a second time as decimals.
"""

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

NOT_TEXT = "\u0000"
"""What a text field holds where the payload has a boolean, an array or an object."""

_STRICT = {"mode": "PERMISSIVE", "allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}
_WHITESPACE = " \t\n\r\f\v\u00a0"

_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?0*[0-9]{1,3})?\z"
_WHOLE = r"^-?[0-9]+(\.0+)?\z"
_ZERO = r"^-?[0.]+([eE].*)?\z"
_LONGEST_NUMBER = 1000  # the JSON parser's own limit for a number

_DATE_TIME = (
    r"^(?!0000)([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,]([0-9]+))?"
    r" ?([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?\z"
)
_LATEST_MILLIS = 253_402_300_799_999  # 9999-12-31
_EARLIEST_MILLIS = -62_135_596_800_000  # 0001-01-01

# A number of 16 digits or more with a point in it has 8 of them in a row: the cheap test comes first.
_LONG_RUN = r"[0-9]{8}"
_LONG_DECIMAL = r"(?=[0-9]*\.[0-9])[0-9.]{16}"
_LONG_EXPONENT = r"[0-9][eE][+-]?[0-9]{4}"  # 1e-999999999: rounding it as a decimal would take for ever


def parse(payload: Column, fields: T.StructType, max_bytes: int) -> Column:
    """The payload's fields as a struct, NULL unless it is exactly one JSON object of at most `max_bytes`."""
    bounded = F.when(F.octet_length(payload) <= max_bytes, payload)
    objects = F.from_json(F.concat(F.lit("["), bounded, F.lit("]")), T.ArrayType(fields), _STRICT)
    complete = (F.size(objects) == 1) & (F.substring(F.rtrim(payload, F.lit(" \t\n\r")), -1, 1) == "}")
    return F.when(complete, F.get(objects, 0))


def texts(payload: Column, names: Sequence[str], max_bytes: int) -> Column:
    """The payload's fields as texts: strings unquoted, numbers and nested values as the parser prints them."""
    return parse(payload, T.StructType([T.StructField(name, T.StringType()) for name in names]), max_bytes)


def trimmed(text: Column) -> Column:
    return F.btrim(text, F.lit(_WHITESPACE))


def present(text: Column) -> Column:
    """The trimmed text, NULL where nothing is left: null, '' and blanks are missing alike."""
    return F.nullif(trimmed(text), F.lit(""))


def is_odd(text: Column) -> Column:
    """Whether a text may have been a boolean, an array, an object or a decimal number in the payload."""
    return text.isin("true", "false", '"Infinity"', '"-Infinity"') | text.rlike(r"^(?:[\[{]|-?[0-9]+\.)")


def as_written(payload: Column, name: str, text: Column) -> Column:
    """A text field's exact text: numbers as the payload writes them, NOT_TEXT for what is no text.

    Expensive, so callers guard it by `is_odd`.
    """
    value = F.try_variant_get(F.try_parse_json(payload), f"$.{name}", "variant")
    kind = F.schema_of_variant(value)
    token = F.regexp_extract(payload, rf'"{name}"\s*:\s*(-?[0-9][0-9.eE+-]*)', 1)
    return (
        F.when(kind == "BOOLEAN", F.lit(NOT_TEXT))
        .when(kind.startswith("ARRAY") | kind.startswith("OBJECT"), F.lit(NOT_TEXT))
        .when((kind.startswith("DECIMAL") | kind.isin("DOUBLE", "FLOAT")) & (token != ""), token)
        .otherwise(text)
    )


def needs_digits(payload: Column) -> Column:
    """Whether the payload holds a number with more digits than a double carries."""
    return payload.rlike(_LONG_RUN) & payload.rlike(_LONG_DECIMAL) & ~payload.rlike(_LONG_EXPONENT)


def is_number(text: Column) -> Column:
    return (F.length(text) <= _LONGEST_NUMBER) & text.rlike(_NUMBER)


def to_double(text: Column) -> Column:
    number = trimmed(text)
    value = F.when(is_number(number), number.try_cast("double"))
    return F.when(F.abs(value) < float("inf"), value)


def to_decimal(text: Column, kind: T.DecimalType) -> Column:
    """The number, rounded HALF_UP once to the type's scale; NULL where it does not fit or is no number."""
    number = trimmed(text)
    return F.when(is_number(number), number.try_cast(kind))


def to_long(text: Column) -> Column:
    """The integral number (100, 100.0, 1e2); NULL for fractions and beyond 64 bits."""
    number = trimmed(text)
    exact = number.try_cast(T.DecimalType(38, 18))
    integral = (exact == F.floor(exact)) & ((exact != 0) | number.rlike(_ZERO))
    return F.when(
        is_number(number),
        F.when(number.rlike(_WHOLE), F.substring_index(number, ".", 1).try_cast("bigint")).when(
            integral, exact.try_cast("bigint")
        ),
    )


def to_instant(text: Column) -> Column:
    """ISO-8601 date and time (UTC where no offset is given, cut to microseconds) or integral epoch milliseconds."""
    written = trimmed(text)

    def part(group: int) -> Column:
        return F.regexp_extract(written, _DATE_TIME, group)

    zone = F.upper(part(4))
    offset = (
        F.when(zone.isin("", "Z"), F.lit("Z"))
        .when(F.length(zone) == 3, F.concat(zone, F.lit(":00")))
        .when(F.length(zone) == 5, F.concat(F.substring(zone, 1, 3), F.lit(":"), F.substring(zone, 4, 2)))
        .otherwise(zone)
    )
    fraction = F.when(part(3) == "", F.lit("")).otherwise(F.concat(F.lit("."), F.substring(part(3), 1, 6)))
    seconds = F.when(F.length(part(2)) == 5, F.concat(part(2), F.lit(":00"))).otherwise(part(2))
    canonical = F.concat(part(1), F.lit("T"), seconds, fraction, offset)
    simple = written.rlike(r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z\z")
    millis = to_long(written)
    in_range = millis.between(_EARLIEST_MILLIS, _LATEST_MILLIS)
    return (
        F.when(simple, written.try_cast("timestamp"))
        .when(written.rlike(_DATE_TIME), canonical.try_cast("timestamp"))
        .when(in_range, F.timestamp_millis(F.when(in_range, millis)))
    )


def to_array_text(text: Column) -> Column:
    """The JSON text of an array; NULL for anything else."""
    return F.when(F.startswith(F.ltrim(text), F.lit("[")), text)
