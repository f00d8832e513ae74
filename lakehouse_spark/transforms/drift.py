"""Payload drift: fields that a topic does not declare, or that come as another kind of JSON value than it declares.

A payload is read by the names that are declared, and what else it holds goes unseen. To read every payload a second
time for that would cost as much as the first; so a cheap count of its quotes tells nearly always that there is nothing
else in it, and only where it does not, all of the payload is looked at.
"""

from collections.abc import Sequence
from functools import cache

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.transforms import payload

HAS, DRIFT = "_has", "_drift"
COLUMNS = (HAS, DRIFT)
_LONGEST = 100
"""Characters of a name that are kept."""


def with_drift(
    records: DataFrame, names: Sequence[str], *, texts: Sequence[str], arrays: Sequence[str], instants: Sequence[str]
) -> DataFrame:
    """The records (`raw_payload`, and `_fields` of these `names`) with two more columns, NULL where there is no object.

    `_has` has a bit for each of the names, by its place, whose field holds something. `_drift` is NULL for a payload as
    declared, else its other fields as texts: what JSON value each has (`string`, `integer`, `number`, `boolean`,
    `array`, `object` or `null`), a colon, and its name. Names that are no `texts`, `arrays` or `instants` are numbers;
    an instant is a string or a number; null is as declared.
    """
    has, entries = _columns(tuple(names), tuple(texts), tuple(arrays), tuple(instants))
    text = payload.without_mark(F.col("raw_payload"))
    return records.withColumns({HAS: has, "_text": text}).withColumn(DRIFT, entries).drop("_text")


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
    drifted = records.where(F.col(DRIFT).isNotNull()).select(F.explode(DRIFT).alias("field"))
    json_type = F.substring_index("field", ":", 1)
    name = F.substr("field", F.length(json_type) + 2)
    return drifted.groupBy(name.alias("name"), json_type.alias("json_type")).agg(F.count("*").alias("records"))


def present(has: int, names: Sequence[str]) -> set[str]:
    """The names that any record of those has whose `_has` were joined by OR."""
    return {name for place, name in enumerate(names) if has >> place & 1}


@cache
def _columns(
    names: tuple[str, ...], texts: tuple[str, ...], arrays: tuple[str, ...], instants: tuple[str, ...]
) -> tuple[Column, Column]:
    text, strings = F.col("_text"), (*texts, *instants)
    numbers = tuple(name for name in names if name not in (*strings, *arrays))
    has = F.lit(0).cast("long")
    for place, name in enumerate(names):
        has = has + F.when(payload.field("_fields", name).isNotNull(), F.lit(1 << place)).otherwise(F.lit(0))
    of_strings = sum(1 << place for place, name in enumerate(names) if name in strings)
    is_usual = _is_usual(text, F.col(HAS), of_strings, strings, numbers, arrays)
    kinds = {
        **dict.fromkeys(texts, ("string",)),
        **dict.fromkeys(arrays, ("array",)),
        **dict.fromkeys(instants, ("string", "integer", "number")),
        **dict.fromkeys(numbers, ("integer", "number")),
    }
    declared = [f"{kind}:{name}" for name, allowed in kinds.items() for kind in (*allowed, "null")]
    odd = F.array_distinct(F.filter(_entries(text), lambda entry: ~entry.isin(declared)))
    found = F.when(F.col("_fields").isNotNull() & ~is_usual, F.when(F.size(odd) > 0, odd))
    return F.when(F.col("_fields").isNotNull(), has), found


def _is_usual(
    text: Column, has: Column, of_strings: int, strings: Sequence[str], numbers: Sequence[str], arrays: Sequence[str]
) -> Column:
    """Whether a valid payload has the declared fields that hold something, of the declared kinds, and nothing else.

    Without escapes, and without blanks around a colon but for one behind it, `":` ends each name, and stands nowhere
    else unless a string begins with a colon: as many of them as fields that were read leave no other name. As many
    quotes as these names and their strings take leave no string in another place, if no number's name is followed by
    one and no array holds one; and no other kind of value begins as these do. False says nothing.
    """
    present, in_strings = F.bit_count(has), F.bit_count(has.bitwiseAND(of_strings))
    is_plain = F.lit(True)
    for strange in ("\\", "\t", "\n", "\r", " :", ":  "):
        is_plain = is_plain & ~F.contains(text, F.lit(strange))
    for name in strings:
        written = payload.field("_fields", name)
        is_plain = is_plain & F.coalesce(
            ~F.substr(written, F.lit(1), F.lit(1)).isin("[", "{", payload.NOT_TEXT) & ~written.isin("true", "false"),
            F.lit(True),
        )
    for name in arrays:
        written = payload.field("_fields", name)
        is_array = F.startswith(written, F.lit("[")) & ~F.contains(written, F.lit('"'))
        is_plain = is_plain & F.coalesce(is_array, F.lit(True))
    for name in numbers:
        written = payload.field("_fields", name)  # true, an array and an object come behind all digits
        is_plain = is_plain & F.coalesce((written >= "-") & (written < ":"), F.lit(True))
        is_plain = is_plain & ~F.contains(text, F.lit(f'"{name}":"')) & ~F.contains(text, F.lit(f'"{name}": "'))
    return is_plain & (_bytes_of(text, '":') == 2 * present) & (_bytes_of(text, '"') == 2 * (present + in_strings))


def _shortened(name: Column) -> Column:
    return F.when(F.length(name) > _LONGEST, F.concat(F.left(name, F.lit(_LONGEST)), F.lit("…"))).otherwise(name)


def _bytes_of(text: Column, part: str) -> Column:
    """What all the places take where the text has this part."""
    return F.octet_length(text) - F.octet_length(F.replace(text, F.lit(part), F.lit("")))


def _entries(text: Column) -> Column:
    """All fields of a valid payload: the kind of the value, a colon, and the name."""
    return F.transform(
        F.map_entries(payload.marked_map(text)),
        # A text, for which Spark has a hash: of structs it would compare each with each.
        lambda entry: F.concat(_kind(entry["value"]), F.lit(":"), _shortened(payload.unmarked(entry["key"]))),
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
