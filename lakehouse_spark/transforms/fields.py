"""A payload's fields as texts: what a JSON object writes under the names that are asked for, digit by digit."""

from dataclasses import dataclass
from functools import cache

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.transforms import payload


@dataclass(frozen=True)
class Kinds:
    """The names of a payload's fields, and which of them are texts, JSON arrays and instants, which are strings or
    numbers; the others are numbers."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    arrays: tuple[str, ...]
    instants: tuple[str, ...]

    @property
    def by_name(self) -> dict[str, tuple[str, ...]]:
        """Which kinds of JSON value each field may have."""
        return {
            name: ("string",) if name in self.texts
            else ("array",) if name in self.arrays
            else ("string", "number") if name in self.instants
            else ("number",)
            for name in self.names
        }  # fmt: skip


def with_fields(records: DataFrame, kinds: Kinds, *, max_bytes: int) -> DataFrame:
    """The records (`raw_payload`, `_raw_bytes`) with `_fields`, the texts of the payload's fields of these names
    (`payload.field`), NULL where it is no object; `_lone`, the names of those that hold half of a surrogate pair, NULL
    or empty without any; and `_is_plain` (`payload.is_plain`).

    A payload of more than `max_bytes` is not read.
    """
    before, columns = _columns(kinds, max_bytes)
    tokens = payload.text_fields(kinds.names)
    read = payload.with_object(records.withColumns(before), "_json", "_parsed", tokens, "_is_plain")
    return read.withColumns(columns).drop("_parsed", "_json")


@cache
def _columns(kinds: Kinds, max_bytes: int) -> tuple[dict[str, Column], dict[str, Column]]:
    """The text to be read, and whether it is plain; and what is made of these and of the object that is in it."""
    raw, text, parsed, is_plain = F.col("raw_payload"), F.col("_json"), F.col("_parsed"), F.col("_is_plain")
    names, texts, arrays = kinds.names, kinds.texts, kinds.arrays
    tokens = payload.text_fields(names)
    odd = payload.is_inexact(text) | payload.is_any_odd([payload.field("_parsed", name) for name in texts])
    if arrays:
        odd = odd | payload.may_be_quoted_array(text)

    def exact(found: Column) -> Column:
        return F.struct(*(_exact_text(found[name], name in texts, name in arrays).alias(name) for name in names))

    is_strange = parsed.isNotNull() & ~is_plain
    fields = F.when(is_strange & odd, F.transform(payload.marked(text, tokens), exact)).otherwise(parsed)
    lone = F.when(is_strange, payload.with_lone_surrogates(text, tokens))
    is_read = payload.size(raw, F.col("_raw_bytes")) <= max_bytes
    before = {
        "_json": F.when(is_read, payload.without_mark(raw)),
        "_is_plain": F.coalesce(is_read & payload.is_plain(raw, kinds.by_name), F.lit(False)),
    }
    return before, {"_fields": fields, "_lone": lone}


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
