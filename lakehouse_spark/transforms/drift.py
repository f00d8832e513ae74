"""Payload drift: fields that a topic does not declare, or that come as another kind of JSON value than it declares.

A payload is read by the names that are declared, and what else it holds goes unseen. To read every payload a second
time for that would cost as much as the first; so a cheap count of its quotes tells nearly always that there is nothing
else in it, and only where it does not, all of the payload is looked at.
"""

from collections.abc import Sequence
from functools import cache

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.transforms import payload

HAS, DRIFT = "_has", "_drift"
COLUMNS = (HAS, DRIFT)
ENTRIES = T.ArrayType(
    T.StructType([T.StructField("name", T.StringType(), False), T.StructField("json_type", T.StringType(), False)]),
    False,
)


def with_drift(
    records: DataFrame, names: Sequence[str], *, texts: Sequence[str], arrays: Sequence[str], instants: Sequence[str]
) -> DataFrame:
    """The records (`raw_payload`, and `_fields` of these `names`) with two more columns, NULL where there is no object.

    `_has` has a bit for each of the names, by its place, whose field holds something. `_drift` is NULL for a payload as
    declared, else its other fields: of the name of each, and what JSON value it has (`string`, `integer`, `number`,
    `boolean`, `array`, `object` or `null`). Names that are no `texts`, `arrays` or `instants` are numbers; an instant
    is a string or a number; null is as declared.
    """
    has, entries = _columns(tuple(names), tuple(texts), tuple(arrays), tuple(instants))
    return records.withColumn(HAS, has).withColumn(DRIFT, entries)


def measures() -> dict[str, Column]:
    """Aggregates of records with these columns: how many are objects (`readable`), which fields they have (`has`), and
    how many fields drifted (`drifted`)."""
    return {
        "readable": F.count(HAS),
        "has": F.bit_or(HAS),
        "drifted": F.coalesce(F.sum(F.size(DRIFT)), F.lit(0)),
    }


def fields_of(records: DataFrame) -> DataFrame:
    """The fields that drifted in records with these columns: `name`, `json_type`, and in how many `records`."""
    drifted = records.where(F.col(DRIFT).isNotNull()).select(F.inline(DRIFT))
    return drifted.groupBy("name", "json_type").agg(F.count("*").alias("records"))


def absent(has: int, names: Sequence[str]) -> list[str]:
    """The names that no record of those has whose `_has` were joined by OR."""
    return [name for place, name in enumerate(names) if not has >> place & 1]


@cache
def _columns(
    names: tuple[str, ...], texts: tuple[str, ...], arrays: tuple[str, ...], instants: tuple[str, ...]
) -> tuple[Column, Column]:
    text, strings = payload.without_mark(F.col("raw_payload")), (*texts, *instants)
    numbers = tuple(name for name in names if name not in (*strings, *arrays))
    has = F.lit(0).cast("long")
    for place, name in enumerate(names):
        has = has + F.when(payload.field("_fields", name).isNotNull(), F.lit(1 << place)).otherwise(F.lit(0))
    of_strings = sum(1 << place for place, name in enumerate(names) if name in strings)
    is_usual = payload.once(text, lambda text: _is_usual(text, F.col(HAS), of_strings, numbers, arrays))
    kinds = {
        **dict.fromkeys(texts, ("string",)),
        **dict.fromkeys(arrays, ("array",)),
        **dict.fromkeys(instants, ("string", "integer", "number")),
        **dict.fromkeys(numbers, ("integer", "number")),
    }
    odd = F.filter(F.array_distinct(_entries(text)), lambda entry: ~_is_declared(entry, kinds))
    found = F.when(F.col("_fields").isNotNull() & ~is_usual, F.when(F.size(odd) > 0, odd)).cast(ENTRIES)
    return F.when(F.col("_fields").isNotNull(), has), found


def _is_usual(text: Column, has: Column, of_strings: int, numbers: Sequence[str], arrays: Sequence[str]) -> Column:
    """Whether a valid payload has the declared fields that hold something, of the declared kinds, and nothing else.

    Without escapes, and without blanks around a colon but for one behind it, `":` ends each name, and stands nowhere
    else unless a string begins with a colon: as many of them as fields that were read leave no other name. As many
    quotes as these names and their strings take leave no string in another place, if no number's name is followed by
    one; and no other kind of value begins as numbers and arrays do. False says nothing.
    """
    present, strings = F.bit_count(has), F.bit_count(has.bitwiseAND(of_strings))
    is_plain = ~F.contains(text, F.lit("\\"))
    for strange in ('" :', '"\t:', '"\n:', '"\r:', '":  ', '":\t', '":\n', '":\r'):
        is_plain = is_plain & ~F.contains(text, F.lit(strange))
    for name in arrays:
        written = payload.field("_fields", name)
        is_plain = is_plain & F.coalesce(F.startswith(written, F.lit("[")), F.lit(True))
    for name in numbers:
        written = payload.field("_fields", name)  # true, an array and an object come behind all digits
        is_plain = is_plain & F.coalesce((written >= "-") & (written < ":"), F.lit(True))
        is_plain = is_plain & ~F.contains(text, F.lit(f'"{name}":"')) & ~F.contains(text, F.lit(f'"{name}": "'))
    return is_plain & (_bytes_of(text, '":') == 2 * present) & (_bytes_of(text, '"') == 2 * (present + strings))


def _bytes_of(text: Column, part: str) -> Column:
    """What all the places take where the text has this part."""
    return F.octet_length(text) - F.octet_length(F.replace(text, F.lit(part), F.lit("")))


def _entries(text: Column) -> Column:
    """All fields of a valid payload with the kinds of their values."""
    return F.transform(
        F.map_entries(payload.marked_map(text)),
        lambda entry: F.struct(payload.unmarked(entry["key"]).alias("name"), _kind(entry["value"]).alias("json_type")),
    )


def _kind(token: Column) -> Column:
    """What JSON value a marked token is."""
    return (
        F.when(token.isNull(), "null")
        .when(payload.is_string(token), "string")
        .when(payload.is_digits(token), F.when(token.rlike("[.eE]"), "number").otherwise("integer"))
        .when(F.startswith(token, F.lit("[")), "array")
        .when(F.startswith(token, F.lit("{")), "object")
        .otherwise("boolean")
    )


def _is_declared(entry: Column, kinds: dict[str, tuple[str, ...]]) -> Column:
    is_so = F.lit(False)
    for name, allowed in kinds.items():
        is_so = is_so | (entry["name"] == name) & entry["json_type"].isin(*allowed, "null")
    return is_so
