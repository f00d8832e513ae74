"""From a reference record's payload to its attributes, and from an attribute's text to a value."""

from string import ascii_lowercase, ascii_uppercase

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.transforms import payload, values
from lakehouse_spark.types import BYTES, TEXT

ATTRIBUTES = T.MapType(TEXT, TEXT)

_DATE = r"^(?!0000)([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]00:00(?::00(?:\.0+)?)?(?:Z|[+]00:00)?)?\z"
_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0", "nan")
_NONE_OF_PANDAS = ("nan", "nat")
_NOT_NAMED = " \t\n\r\f\v\u00a0-_"
_NESTED = r"^\x00[tf\[{]"


def with_attributes(records: DataFrame, max_bytes: int) -> DataFrame:
    """Adds `attributes`, the fields of the JSON object in `raw_payload`; NULL if it is none.

    Strings and numbers as they are written; a boolean, an array or an object has payload.NOT_TEXT before it (see
    `of_feed`). `_raw_bytes`, where the records have them, count for `max_bytes`.
    """
    raw_bytes = F.col("_raw_bytes") if "_raw_bytes" in records.columns else F.lit(None).cast(BYTES)
    is_read = payload.size(F.col("raw_payload"), raw_bytes) <= max_bytes
    json = F.when(is_read, payload.without_mark(F.col("raw_payload")))
    bracketed = F.concat(F.lit("["), json, F.lit("]"))  # what follows the object is an error then
    objects = payload.strict_json(bracketed, T.ArrayType(ATTRIBUTES))
    records = records.withColumns({"_json": json, "_objects": objects})
    is_one = (F.size("_objects") == 1) & F.get("_objects", 0).isNotNull() & ~payload.is_closed_early(F.col("_json"))
    plain = F.transform_keys(F.get("_objects", 0), lambda name, value: _name(name))
    tokens = F.transform_keys(payload.marked_map(F.col("_json")), lambda name, token: _name(payload.unmarked(name)))
    records = records.withColumns({"_plain": plain, "_tokens": F.when(is_one, tokens)})
    texts = F.zip_with(F.map_values("_tokens"), F.map_values("_plain"), _text_of)  # both in the payload's order
    read = records.withColumn("attributes", F.map_from_arrays(F.map_keys("_tokens"), texts))
    return read.drop("_json", "_objects", "_plain", "_tokens")


def _text_of(token: Column, plain: Column) -> Column:
    is_scalar = payload.is_string(token) | payload.is_digits(token)
    return F.when(is_scalar, payload.unmarked(token)).otherwise(F.concat(F.lit(payload.NOT_TEXT), plain))


def _name(written: Column) -> Column:
    """A name trimmed and in lower case; that of the dimension is known however it is spelled."""
    return F.when(folded(written) == "dimension", F.lit("dimension")).otherwise(F.lower(payload.trimmed(written)))


def folded(name: Column) -> Column:
    """What names of columns are compared by: in lower case, without blanks, hyphens and underscores."""
    return F.translate(name, ascii_uppercase + _NOT_NAMED, ascii_lowercase)


def of_feed(attributes: Column, columns: Column, texts: Column) -> Column:
    """The attributes of a record whose feed has these `columns` (name by folded name), `texts` being those of text.

    They have their columns' names, whatever the feed spells them like; of two that are the same, the last one counts.
    What is no text (see `with_attributes`) is payload.NOT_TEXT in a column of text, and anywhere else the JSON of it.
    """
    named = F.transform_keys(attributes, lambda name, value: F.coalesce(columns[folded(name)], name))
    return F.transform_values(
        named,
        lambda name, value: (
            F.when(value.isNull() | ~value.rlike(_NESTED), value)
            .when(F.array_contains(texts, name), F.lit(payload.NOT_TEXT))
            .otherwise(F.substr(value, F.lit(2)))
        ),
    )


def text(attributes: Column, name: str) -> Column:
    """An attribute's trimmed text; NULL for one that is missing, empty or blank."""
    return F.nullif(payload.trimmed(attributes[name]), F.lit(""))


def stated_or_none(written: Column) -> Column:
    """The text of a date or a number, NULL for what pandas writes where there is none."""
    return F.when(~F.lower(written).isin(*_NONE_OF_PANDAS), written)


def day(written: Column) -> Column:
    """An ISO date, also with the time of midnight; NULL for anything else."""
    return F.regexp_extract(written, _DATE, 1).try_cast("date")


def flag(written: Column) -> Column:
    lower = F.translate(written, ascii_uppercase, ascii_lowercase)
    return F.when(lower.isin(*_TRUE), True).when(lower.isin(*_FALSE), False)


def whole(written: Column) -> Column:
    """An integer in any notation, of a trimmed text, also as files have it: with a plus or leading zeros."""
    digits = F.when(written.rlike(r"^[+-]?[0-9]{1,19}(\.0+)?\z"), F.substring_index(written, ".", 1))
    return F.coalesce(digits.try_cast("bigint"), values.to_long(written))
