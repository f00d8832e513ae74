"""A payload's fields as texts: what a JSON object writes under the names that are asked for, digit by digit."""

from collections.abc import Sequence
from functools import cache

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.transforms import payload


def with_fields(
    records: DataFrame, names: Sequence[str], *, texts: Sequence[str], arrays: Sequence[str], max_bytes: int
) -> DataFrame:
    """The records (`raw_payload`, `_raw_bytes`) with `_fields`, the texts of the payload's fields of these `names`
    (`payload.field`), NULL where it is no object; and `_lone`, the names of those that hold half of a surrogate pair,
    NULL or empty without any.

    Of the fields some are `texts` and some JSON `arrays`, the others numbers or instants. A payload of more than
    `max_bytes` is not read.
    """
    text, columns = _columns(tuple(names), tuple(texts), tuple(arrays), max_bytes)
    read = payload.with_object(records.withColumn("_json", text), "_json", "_parsed", payload.text_fields(names))
    return read.withColumns(columns).drop("_parsed", "_json")


@cache
def _columns(
    names: tuple[str, ...], texts: tuple[str, ...], arrays: tuple[str, ...], max_bytes: int
) -> tuple[Column, dict[str, Column]]:
    """The text to be read; and what is made of that (`_json`) and of the object in it (`_parsed`)."""
    raw, text, parsed = F.col("raw_payload"), F.col("_json"), F.col("_parsed")
    tokens = payload.text_fields(names)
    odd = payload.is_inexact(text) | payload.is_any_odd([payload.field("_parsed", name) for name in texts])
    if arrays:
        odd = odd | payload.may_be_quoted_array(text)

    def exact(found: Column) -> Column:
        return F.struct(*(_exact_text(found[name], name in texts, name in arrays).alias(name) for name in names))

    fields = F.when(parsed.isNotNull() & odd, F.transform(payload.marked(text, tokens), exact)).otherwise(parsed)
    lone = F.when(parsed.isNotNull(), payload.with_lone_surrogates(text, tokens))
    is_read = payload.size(raw, F.col("_raw_bytes")) <= max_bytes
    return F.when(is_read, payload.without_mark(raw)), {"_fields": fields, "_lone": lone}


def _exact_text(token: Column, is_text: bool, is_array: bool) -> Column:
    """A field's text as the payload writes it; NOT_TEXT where its kind cannot be this field's."""
    written = payload.unmarked(token)
    if is_array:
        string = payload.is_string(token) & payload.present(written).isNotNull()
        return F.when(string, payload.NOT_TEXT).otherwise(payload.as_marked_array(token))
    if is_text:
        return F.when(payload.is_string(token) | payload.is_digits(token), written).otherwise(
            F.when(token.isNotNull(), payload.NOT_TEXT)
        )
    return written


def trimmed(name: str) -> Column:
    """A field's trimmed text, of what `with_fields` added; NULL where it holds half of a surrogate pair."""
    is_whole = F.col("_lone").isNull() | ~F.array_contains("_lone", name)
    return F.when(is_whole, payload.trimmed(payload.field("_fields", name)))
