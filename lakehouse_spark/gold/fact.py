"""What the fact tables have in common: a fact for every silver row, with the keys of the versions of its day."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.table import Table

SETTLEMENTS = "settlements"
"""The name of market_hours.SETTLEMENTS among what facts are looked up in."""


@dataclass(frozen=True)
class Fact:
    """A fact table, the silver table it follows row by row, and the dimensions it refers to.

    `source_time` and `fact_time` are the instant of the event in the one and in the other, `references` the dimensions
    by the silver column that names their member (of those with versions, the natural key). `build` makes the facts,
    stamp left out, of silver rows, of what they are looked up in (dimension rows by the dimension's name, and
    SETTLEMENTS), and of the commission (in basis points of the value) of trades that name none.
    """

    table: Table
    source: Table
    source_time: str
    fact_time: str
    references: Mapping[str, Dimension]
    build: Callable[[DataFrame, Mapping[str, DataFrame], Decimal], DataFrame]

    @property
    def versioned(self) -> tuple[Dimension, ...]:
        """The dimensions of whose members it refers to the version of its day."""
        return tuple(dimension for dimension in self.references.values() if dimension.is_versioned)

    def members(self, rows: DataFrame) -> DataFrame:
        """What the silver rows refer to and when, from the `first` instant to the `last`; grain: one row per `day`
        (UTC) and referring columns."""
        by_day = rows.groupBy(*self.references, F.to_date(self.source_time).alias("day"))
        return by_day.agg(F.min(self.source_time).alias("first"), F.max(self.source_time).alias("last"))

    def touched(self, rows: DataFrame, reference: str, changed: DataFrame) -> DataFrame:
        """The silver rows whose facts may differ: `changed` has each changed member by the name of the column that
        refers to it, and `from_day`, the first day on which what is known of it can differ."""
        theirs = rows.join(changed, on=reference, how="inner")
        return theirs.where(F.to_date(self.source_time) >= F.col("from_day")).select(*rows.columns)
