"""Rows of `bronze.raw_reference`, records of any dimension: how they are made, whose they are, why one is rejected."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.bronze import raw_reference
from lakehouse_spark.dim import dimension
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.table import Table
from lakehouse_spark.transforms import payload
from lakehouse_spark.transforms.attributes import folded, of_feed

LOG = raw_reference.TABLE


@dataclass(frozen=True)
class ReferenceTopic:
    """The Kafka topic of the reference records of these dimensions."""

    dimensions: tuple[Dimension, ...]
    table: Table = LOG
    name: str = LOG.short_name

    def build(self, records: DataFrame, stamp: datetime, max_bytes: int, text: Column | None = None) -> DataFrame:
        """One row per record; names of columns are those of the dimension that the record names."""
        columns, texts = (
            F.coalesce(*(F.when(of_dimension(d), known(d)) for d in self.dimensions)) for known in (_columns, _texts)
        )
        read = raw_reference.from_kafka(records, max_bytes, text)
        named = of_feed(F.col("attributes"), columns, texts)
        return build(read.withColumn("attributes", named), self.dimensions, stamp)


def _columns(dimension: Dimension) -> Column:
    """The feed's columns by their folded names, as a map."""
    names = {**{name: name for name in dimension.feed_columns}, **dimension.aliases}
    return F.create_map(*(part for name, own in names.items() for part in (folded(F.lit(name)), F.lit(own))))


def _texts(dimension: Dimension) -> Column:
    return F.array(*map(F.lit, dimension.texts))


def build(records: DataFrame, dimensions: Iterable[Dimension], stamp: datetime) -> DataFrame:
    """Records of these dimensions as rows of the log; grain: one row per record."""
    keys = (F.when(of_dimension(d), d.key_of(F.col("attributes"))) for d in dimensions)
    return raw_reference.build(records, F.coalesce(*keys), stamp)


def of_dimension(dimension: Dimension) -> Column:
    """The records of the dimension, as a condition that prunes the log."""
    return F.col("dimension") == dimension.name


def readable(log: DataFrame) -> DataFrame:
    """The log's records without their payloads, but those that may tell what the attributes cannot (see `reasons`)."""
    return log.withColumn(
        "raw_payload", F.when(payload.may_have_lone_surrogate(F.col("raw_payload")), F.col("raw_payload"))
    )


def of_no_dimension(log: DataFrame, dimensions: Iterable[Dimension], max_bytes: int) -> DataFrame:
    """The log's records of none of the dimensions, with `_reasons`: no loader would ever see them."""
    named = F.col("dimension")
    of_none = log.where(named.isNull() | ~named.isin(*(each.name for each in dimensions)))
    return of_none.withColumn("_reasons", F.array(_why_nameless(max_bytes)))


def _why_nameless(max_bytes: int) -> Column:
    no_dimension = F.when(F.col("dimension").isNull(), "missing_dimension").otherwise("invalid_dimension")
    return F.coalesce(raw_reference.unreadable(max_bytes), no_dimension)


def judged(log: DataFrame, dimensions: Iterable[Dimension], max_bytes: int) -> DataFrame:
    """Records of the log with `_reasons`, why today's rules reject them; empty for good ones."""
    known = (F.when(of_dimension(each), dimension.reasons(each)) for each in dimensions)
    return log.withColumn("_reasons", F.coalesce(*known, F.array(_why_nameless(max_bytes))))
