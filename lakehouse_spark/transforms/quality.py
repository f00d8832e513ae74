"""Rules of the silver layer: each field's value beside the reason, if any, for which the record is rejected."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_lowercase, ascii_uppercase

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.transforms import framing, payload, values
from lakehouse_spark.types import PRICE, TEXTS

RULES_VERSION = 2
"""Raised whenever a rule changes: a table made by older rules is derived whole, its dead letters are judged again."""

FUTURE_LIMIT = "INTERVAL 5 MINUTES"
ANCIENT_LIMIT = "2000-01-01T00:00:00Z"
_NONE: Mapping[str, str] = {}
SYMBOL = r"^[A-Z0-9][A-Z0-9.\-]{0,14}\z"


@dataclass(frozen=True)
class Field:
    """How a field's trimmed text (NULL: missing) becomes a value, and which rules the value must keep.

    A text without a value is `invalid_<name>`; of the `rules`, pairs of "is it broken" and reason code, the first
    broken one counts.
    """

    name: str
    value: Callable[[Column], Column]
    required: bool = True
    rules: tuple[tuple[Callable[[Column], Column], str], ...] = ()

    def unless(self, broken: Callable[[Column], Column], reason: str) -> "Field":
        """The same field with one more rule, looked at only when no earlier one is broken."""
        return replace(self, rules=(*self.rules, (broken, reason)))

    def reason(self, text: Column, value: Column, unread: Column) -> Column:
        """The first rule broken, NULL for none; `unread` says whether the text is there and gave no value."""
        missing = F.when(text.isNull(), F.lit(f"missing_{self.name}" if self.required else None))
        broken = (F.when(is_broken(value), F.lit(code)) for is_broken, code in self.rules)
        return F.coalesce(missing, F.when(unread, F.lit(f"invalid_{self.name}")), *broken)


def text(name: str, *, required: bool = True) -> Field:
    """Trimmed text; booleans, arrays and objects are invalid."""
    return Field(name, lambda text: F.when(text != payload.NOT_TEXT, text), required)


def folded(code: Column) -> Column:
    """A code with its ASCII letters in upper case: any other letter stays what it is, for the rules to judge."""
    # The comparison spares nearly every code the slow way: what no letter changes has none in lower case.
    return F.when(code == F.upper(code), code).otherwise(F.translate(code, ascii_lowercase, ascii_uppercase))


def code(name: str, *allowed: str, default: str | None = None, synonyms: Mapping[str, str] = _NONE) -> Field:
    """Text with ASCII letters in upper case, one of `allowed` where given; `synonyms` name some of them otherwise."""

    def value(text: Column) -> Column:
        upper = F.when(text != payload.NOT_TEXT, folded(text))
        for synonym, meant in synonyms.items():
            upper = F.when(upper == synonym, F.lit(meant)).otherwise(upper)
        return upper if default is None else F.when(text.isNull(), F.lit(default)).otherwise(upper)

    field = Field(name, value, default is None)
    return field.unless(lambda value: ~value.isin(*allowed), f"invalid_{name}") if allowed else field


def symbol() -> Field:
    return code("symbol").unless(lambda value: ~value.rlike(SYMBOL), "invalid_symbol")


def exchange() -> Field:
    """One that `with_known_exchange` found."""
    return code("exchange").unless(lambda value: ~F.col("_known"), "unknown_exchange")


def decimal(name: str, *, required: bool = True, kind: T.DecimalType = PRICE) -> Field:
    """The payload's own digits rounded HALF_UP once."""
    return Field(name, lambda text: values.to_decimal(text, kind), required)


def integer(name: str, *, required: bool = True) -> Field:
    return Field(name, values.to_long, required)


def event_time(name: str) -> Field:
    """Neither more than five minutes after the record arrived, nor before the year 2000."""
    return (
        Field(name, values.to_instant)
        .unless(lambda value: value > F.col("_ingested_at") + F.expr(FUTURE_LIMIT), "future_timestamp")
        .unless(lambda value: value < F.lit(ANCIENT_LIMIT).cast("timestamp"), "ancient_timestamp")
    )


def with_values(records: DataFrame, fields: Sequence[Field]) -> DataFrame:
    """Adds each field's value as `v_<name>` and its first broken rule as `r_<name>`, from the texts in `_fields`.

    In stages, so that no expression holds another one twice: the optimizer leaves a shared column alone, and the
    generated code stays small enough to be compiled.
    """
    texts = {f"t_{field.name}": payload.present(payload.field("_fields", field.name)) for field in fields}
    typed = {f"v_{field.name}": field.value(F.col(f"t_{field.name}")) for field in fields}
    reasons = {}
    for field in fields:
        text, value = F.col(f"t_{field.name}"), F.col(f"v_{field.name}")
        reasons[f"r_{field.name}"] = field.reason(text, value, text.isNotNull() & value.isNull())
    return records.withColumns(texts).withColumns(typed).withColumns(reasons)


def unreadable(raw: Column, raw_bytes: Column, max_bytes: int, *, is_lone: Column, is_object: Column) -> Column:
    """Why nothing of a record can be read, NULL where it can be; the first such reason is a record's only one.

    `is_lone` says whether half of a surrogate pair is in it, `is_object` whether its text is a JSON object.
    """
    size, undecoded = payload.size(raw, raw_bytes), framing.undecoded(raw, raw_bytes)
    is_broken = raw_bytes.isNotNull() & ~framing.is_decoded(raw, raw_bytes)
    return (
        F.when(raw.isNull(), F.lit("tombstone"))
        .when(size > max_bytes, F.lit("oversized_record"))
        # What has a NUL in front had it before its text was repaired.
        .when(F.startswith(raw, F.lit("\0")) & (size >= framing.FRAME_BYTES), F.lit("schema_registry_framing"))
        .when(undecoded.isNotNull(), undecoded)
        .when(is_broken | is_lone, F.lit("invalid_encoding"))
        .when(~is_object, F.lit("malformed_json"))
    )


def reasons(unreadable: Column, rules: Sequence[Column]) -> Column:
    """All reasons of a record in alphabetical order, empty for a good one; an unreadable record has just one."""
    found = F.array_sort(F.array_distinct(F.array_compact(F.array(*rules))))
    return F.when(unreadable.isNotNull(), F.array(unreadable)).otherwise(found).cast(TEXTS)


def with_known_exchange(records: DataFrame, exchanges: DataFrame) -> DataFrame:
    """Adds `_known`: whether the payload's exchange is one of `exchanges` (one row per `exchange_code`)."""
    codes = exchanges.select(folded(F.col("exchange_code")).alias("_code"), F.lit(True).alias("_found")).distinct()
    code_of = folded(payload.trimmed(payload.field("_fields", "exchange")))
    joined = records.join(F.broadcast(codes), on=code_of == F.col("_code"), how="left")
    return joined.withColumn("_known", F.col("_found").isNotNull()).drop("_code", "_found")
