"""What the fact tables have in common: a fact for every silver row, with the keys of the versions of its day."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.table import Table


@dataclass(frozen=True)
class Fact:
    """A fact table, the silver table it follows row by row, and the versioned dimensions it refers to.

    `source_time` and `fact_time` are the instant of the event in the one and in the other. `build` makes the facts,
    stamp left out, of silver rows, of dimension rows by the dimension's name, and of the commission (in basis points of
    the value) of trades that name none.
    """

    table: Table
    source: Table
    source_time: str
    fact_time: str
    dimensions: tuple[Dimension, ...]
    build: Callable[[DataFrame, Mapping[str, DataFrame], Decimal], DataFrame]

    def members(self, rows: DataFrame) -> DataFrame:
        """What the silver rows refer to and when; grain: one row per `day` (UTC) and natural keys."""
        keys = (dimension.natural_key for dimension in self.dimensions)
        return rows.select(*keys, F.to_date(self.source_time).alias("day")).distinct()

    def touched(self, rows: DataFrame, dimension: Dimension, changed: DataFrame) -> DataFrame:
        """The silver rows that may refer to another version now: `changed` has each changed member of the dimension
        and `from_day`, the first day on which a version of it can differ."""
        theirs = rows.join(changed, on=dimension.natural_key, how="inner")
        return theirs.where(F.to_date(self.source_time) >= F.col("from_day")).select(*rows.columns)
