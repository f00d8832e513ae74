"""What the four dimensions built from the change log share: their feeds' columns, and which records are rejected."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.bronze import raw_reference
from lakehouse_spark.table import Table
from lakehouse_spark.transforms import quality
from lakehouse_spark.transforms.attributes import day, flag, stated_or_none, text, whole
from lakehouse_spark.transforms.payload import once
from lakehouse_spark.transforms.quality import Field

ORDER = ("sequence", "_ingested_at", "_place")
"""What decides between two changes of a key and a date; `_place` is the record's position within its commit."""

PLACING = (
    Field("effective_date", day, required=False),
    Field("sequence", whole, required=False),
    Field("is_deleted", flag, required=False),
)
"""Columns of every feed: when a change is of, its order among those of a date, and whether it is a delete."""


@dataclass(frozen=True)
class Dimension:
    """A dimension derived from `bronze.raw_reference`.

    `natural_key` identifies a member, `surrogate_key` a row of the table, issued from `first_key` on. `attributes` are
    the feed's business columns; `derive` makes the rows, surrogate key and stamp left out, of the changes of whole
    members (see `changes`). `rules` are the fields, by name, of columns that are more than some text or some date.
    `aliases` are names that a feed may give its columns too. Of dimensions with versions (SCD2), `name_columns` hold
    the key in members known from facts alone, and `untracked` names the attributes of which every version has the last
    known value.
    """

    table: Table
    natural_key: str
    surrogate_key: str
    first_key: int
    attributes: tuple[T.StructField, ...]
    derive: Callable[[DataFrame], DataFrame]
    rules: tuple[Field, ...] = ()
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
        return tuple(declared.name for declared in self.fields)

    @property
    def fields(self) -> tuple[Field, ...]:
        """How each column's text becomes a value, and the rules it keeps; the natural key comes first."""
        ruled = {declared.name: declared for declared in self.rules}
        key = ruled.get(self.natural_key) or quality.text(self.natural_key)
        return key, *(ruled.get(a.name) or _of_type(a) for a in self.attributes), *PLACING

    @property
    def texts(self) -> tuple[str, ...]:
        """The columns that hold a text: of JSON, they take strings and numbers."""
        return (self.natural_key, *(a.name for a in self.attributes if isinstance(a.dataType, T.StringType)))

    def key_of(self, attributes: Column) -> Column:
        """The natural key in a record's attributes as the log keeps it, right or not; NULL if missing."""
        return self.fields[0].value(text(attributes, self.natural_key))


def _of_type(attribute: T.StructField) -> Field:
    if isinstance(attribute.dataType, T.DateType):
        return Field(attribute.name, day, required=False)
    return quality.text(attribute.name, required=False)


def with_reasons(log: DataFrame, dimension: Dimension) -> DataFrame:
    """Records of the dimension's log with `_reasons`, why today's rules reject them; empty for good ones."""
    return log.withColumn("_reasons", reasons(dimension))


def reasons(dimension: Dimension) -> Column:
    """Why a record of the dimension's log is rejected, in alphabetical order; empty for a good one."""

    def reason(declared: Field) -> Column:
        def judged(written: Column) -> Column:
            value = declared.value(written)
            return once(value, lambda value: declared.reason(written, value, written.isNotNull() & value.isNull()))

        return once(_written(dimension, declared), judged)

    return quality.reasons(raw_reference.unreadable(), [reason(declared) for declared in dimension.fields])


def _written(dimension: Dimension, declared: Field) -> Column:
    """A column's trimmed text, NULL for one that is missing; where no text is asked for, as pandas writes that too."""
    written = text(F.col("attributes"), declared.name)
    return written if declared.name in dimension.texts else once(written, stated_or_none)


def changes(log: DataFrame, dimension: Dimension) -> DataFrame:
    """The good records of the log as changes: natural key, attributes in their types, and what orders them.

    All of it is read from the `attributes`, never from what landing made of them by the rules of its day. A record
    without an effective date is of the day (UTC) on which it landed. `_states_<attribute>` says whether the record
    speaks of an attribute at all: one whose column the feed lacks does not, an empty one says NULL.
    """
    good = log.where(F.size(reasons(dimension)) == 0)
    values = {each.name: once(_written(dimension, each), each.value) for each in dimension.fields}
    read = {
        **values,
        "effective_date": F.coalesce(values["effective_date"], F.to_date("_ingested_at")),
        "is_deleted": F.coalesce(values["is_deleted"], F.lit(False)),
    }
    return good.select(
        *(value.alias(name) for name, value in read.items()),
        *(F.map_contains_key("attributes", a.name).alias(f"_states_{a.name}") for a in dimension.attributes),
        "_ingested_at",
        F.struct("_kafka_partition", "_kafka_offset", "_source_row").alias("_place"),
    )


def stated(*names: str) -> dict[str, Column]:
    return {name: F.col(f"_states_{name}") for name in names}
