"""Payload drift: fields that a topic does not declare, or that come as another kind of JSON value than it declares.

A payload is read by the names that are declared, and what else it holds goes unseen. To read every payload a second
time for that would cost as much as the first; so a pattern tells of nearly all of them that there is nothing else, and
only where it does not, all of the payload is looked at.
"""

from collections.abc import Sequence
from functools import cache

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.transforms import payload
from lakehouse_spark.transforms.fields import Kinds

HAS, DRIFT = "_has", "_drift"
COLUMNS = (HAS, DRIFT)
_LONGEST = 100
"""Characters of a name that are kept."""


def with_drift(records: DataFrame, kinds: Kinds) -> DataFrame:
    """The records (`raw_payload`, and what `with_fields` adds of these fields) with two more columns, NULL where there
    is no object.

    `_has` has a bit for each of them, by its place, that holds something. `_drift` is NULL for a payload as declared,
    else its other fields as texts: what JSON value each has (`string`, `integer`, `number`, `boolean`, `array`,
    `object` or `null`), a colon, and its name. Null is as declared.
    """
    has, entries = _columns(kinds)
    return records.withColumns({HAS: has, DRIFT: entries})


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
def _columns(kinds: Kinds) -> tuple[Column, Column]:
    is_object, text = F.col("_fields").isNotNull(), payload.without_mark(F.col("raw_payload"))
    has = F.lit(0).cast("long")
    for place, name in enumerate(kinds.names):
        has = has + F.when(payload.field("_fields", name).isNotNull(), F.lit(1 << place)).otherwise(F.lit(0))
    declared = kinds.by_name
    allowed = [
        f"{kind}:{name}"
        for name, values in declared.items()
        for value in (*values, "null")
        for kind in (("integer", "number") if value == "number" else (value,))
    ]
    odd = F.array_distinct(F.filter(_entries(text), lambda entry: ~entry.isin(allowed)))
    is_known = F.col("_is_plain") | payload.is_as_declared(text, declared)
    return F.when(is_object, has), F.when(is_object & ~is_known, F.when(F.size(odd) > 0, odd))


def _shortened(name: Column) -> Column:
    return F.when(F.length(name) > _LONGEST, F.concat(F.left(name, F.lit(_LONGEST)), F.lit("…"))).otherwise(name)


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
