"""Rules of the silver layer: each field's value beside the reason, if any, for which it is refused."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.transforms import payload
from lakehouse_spark.types import PRICE, TEXTS

RULES_VERSION = "1"
"""Raised whenever a rule changes, so that a rejected record tells which rules judged it."""

FUTURE_LIMIT = "INTERVAL 5 MINUTES"
ANCIENT_LIMIT = "2000-01-01T00:00:00Z"
SYMBOL = r"^[A-Z0-9][A-Z0-9.\-]{0,14}\z"


@dataclass(frozen=True)
class Field:
    """A field of a record: its typed value, and the first rule it breaks (NULL: none)."""

    value: Column
    reason: Column

    def unless(self, broken: Column, reason: str) -> "Field":
        """The same field with one more rule, looked at only when no earlier one is broken."""
        return Field(self.value, F.coalesce(self.reason, F.when(broken, F.lit(reason))))


def _field(name: str, text: Column, value: Column, required: bool) -> Field:
    missing = F.when(payload.present(text).isNull(), F.lit(f"missing_{name}" if required else None))
    unparsable = F.when(payload.present(text).isNotNull() & value.isNull(), F.lit(f"invalid_{name}"))
    return Field(value, F.coalesce(missing, unparsable))


def text(fields: Column, name: str, *, required: bool = True) -> Field:
    """Trimmed text; booleans, arrays and objects are invalid."""
    value = payload.present(fields[name])
    return _field(name, fields[name], F.when(value != payload.NOT_TEXT, value), required)


def code(fields: Column, name: str, allowed: Sequence[str] = (), default: str | None = None) -> Field:
    """Upper-cased text, one of `allowed` where given."""
    found = text(fields, name, required=default is None)
    value = F.upper(found.value) if default is None else F.coalesce(F.upper(found.value), F.lit(default))
    field = Field(value, found.reason)
    return field.unless(~value.isin(*allowed), f"invalid_{name}") if allowed else field


def symbol(fields: Column) -> Field:
    field = code(fields, "symbol")
    return field.unless(~field.value.rlike(SYMBOL), "invalid_symbol")


def exchange(fields: Column, known: Column) -> Field:
    return code(fields, "exchange").unless(~known, "unknown_exchange")


def decimal(fields: Column, name: str, exact: Column, *, required: bool = True, kind: T.DecimalType = PRICE) -> Field:
    """The payload's own digits rounded HALF_UP once; `exact` holds those that a double would have cut."""
    written = payload.trimmed(fields[name])
    value = F.when(payload.is_number(written), F.coalesce(exact[name], payload.to_decimal(written, kind)))
    return _field(name, fields[name], value, required)


def integer(fields: Column, name: str, *, required: bool = True) -> Field:
    return _field(name, fields[name], payload.to_long(fields[name]), required)


def event_time(fields: Column, name: str, ingested_at: Column) -> Field:
    """Neither more than five minutes after the record arrived, nor before the year 2000."""
    value = payload.to_instant(fields[name])
    return (
        _field(name, fields[name], value, required=True)
        .unless(value > ingested_at + F.expr(FUTURE_LIMIT), "future_timestamp")
        .unless(value < F.lit(ANCIENT_LIMIT).cast("timestamp"), "ancient_timestamp")
    )


def exact_digits(raw: Column, names: Sequence[str], max_bytes: int, kind: T.DataType = PRICE) -> Column:
    """The named numbers read as decimals where the payload has more digits than a double carries, else NULL."""
    schema = T.StructType([T.StructField(name, kind) for name in names])
    return F.when(payload.needs_digits(raw), payload.parse(raw, schema, max_bytes))


def reasons(raw: Column, raw_bytes: Column, fields: Column, rules: Sequence[Column]) -> Column:
    """All reasons of a record in alphabetical order, empty for a good one; an unreadable record has just one."""
    found = F.array_sort(F.array_distinct(F.array_compact(F.array(*rules))))
    unreadable = (
        F.when(raw.isNull(), F.lit("tombstone"))
        .when(raw_bytes.isNotNull(), F.lit("invalid_encoding"))
        .when(fields.isNull(), F.lit("malformed_json"))
    )
    return F.when(unreadable.isNotNull(), F.array(unreadable)).otherwise(found).cast(TEXTS)


def with_known_exchange(records: DataFrame, exchanges: DataFrame) -> DataFrame:
    """Adds `_known`: whether the payload's exchange is one of `exchanges` (one row per `exchange_code`)."""
    codes = exchanges.select(F.upper("exchange_code").alias("_code"), F.lit(True).alias("_found")).distinct()
    code_of = F.upper(payload.trimmed(F.col("_fields")["exchange"]))
    joined = records.join(F.broadcast(codes), on=code_of == F.col("_code"), how="left")
    return joined.withColumn("_known", F.col("_found").isNotNull()).drop("_code", "_found")
