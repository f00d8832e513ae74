"""What the four dimensions built from the change log share: their feeds' columns, and which records are refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.bronze.raw_reference import day, flag, text, whole
from lakehouse_spark.table import Table
from lakehouse_spark.types import TEXTS

ORDER = ("sequence", "_ingested_at", "_place")
"""What decides between two changes of a key and a date; `_place` is the record's position within its commit."""


@dataclass(frozen=True)
class Dimension:
    """A dimension derived from `bronze.raw_reference`.

    `natural_key` identifies a member, `surrogate_key` a row of the table, issued from `first_key` on. `attributes` are
    the feed's business columns; `derive` makes the rows, surrogate key and stamp left out, of the changes of whole
    members (see `changes`). `upper_case` says whether keys are codes, compared without regard to case. Of dimensions
    with versions (SCD2), `name_columns` hold the key in members known from facts alone, and `untracked` names the
    attributes of which every version has the last known value.
    """

    table: Table
    natural_key: str
    surrogate_key: str
    first_key: int
    attributes: tuple[T.StructField, ...]
    derive: Callable[[DataFrame], DataFrame]
    upper_case: bool = False
    name_columns: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.table.short_name

    @property
    def is_versioned(self) -> bool:
        return "effective_date" in self.table.column_names

    @property
    def feed_columns(self) -> tuple[str, ...]:
        """Columns a feed may have; others are kept in the change log and ignored."""
        return (self.natural_key, *(a.name for a in self.attributes), "effective_date", "sequence", "is_deleted")

    def key_of(self, attributes: Column) -> Column:
        """The natural key in a record's attributes, NULL if missing."""
        key = text(attributes, self.natural_key)
        return F.upper(key) if self.upper_case else key


def reasons(log: DataFrame, dimension: Dimension) -> Column:
    """Why a record of the dimension's log is refused, in alphabetical order; empty for a good one."""
    attributes = F.col("attributes")

    def invalid(name: str, read: Callable[[Column], Column]) -> Column:
        written = text(attributes, name)
        return F.when(written.isNotNull() & read(written).isNull(), F.lit(f"invalid_{name}"))

    dates = (a.name for a in dimension.attributes if isinstance(a.dataType, T.DateType))
    broken = [
        F.when(F.col("natural_key").isNull(), F.lit(f"missing_{dimension.natural_key}")),
        invalid("effective_date", day),
        invalid("sequence", whole),
        invalid("is_deleted", flag),
        *(invalid(name, day) for name in dates),
    ]
    found = F.array_sort(F.array_compact(F.array(*broken)))
    unreadable = F.when(F.col("_raw_bytes").isNotNull(), F.lit("invalid_encoding")).when(
        attributes.isNull(), F.lit("malformed_record")
    )
    return F.when(unreadable.isNotNull(), F.array(unreadable)).otherwise(found).cast(TEXTS)


def changes(log: DataFrame, dimension: Dimension) -> DataFrame:
    """The good records of the log as changes: natural key, attributes in their types, and what orders them.

    `_states_<attribute>` tells whether the record speaks of an attribute at all; one whose column the feed lacks says
    nothing, where an empty one says NULL.
    """
    good = log.where(F.size(reasons(log, dimension)) == 0)
    written = F.col("attributes")
    values = {
        a.name: day(text(written, a.name)) if isinstance(a.dataType, T.DateType) else text(written, a.name)
        for a in dimension.attributes
    }
    return good.select(
        F.col("natural_key").alias(dimension.natural_key),
        *(value.alias(name) for name, value in values.items()),
        *(F.map_contains_key(written, name).alias(f"_states_{name}") for name in values),
        "effective_date",
        "sequence",
        "is_deleted",
        "_ingested_at",
        F.struct("_kafka_partition", "_kafka_offset", "_source_row").alias("_place"),
    )


def stated(*names: str) -> dict[str, Column]:
    return {name: F.col(f"_states_{name}") for name in names}
