"""Surrogate keys: reserved, then used, and with their version for ever, even where it was gone meanwhile."""

from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.lake import commit, frames, snapshots
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.lake.queries import measured
from lakehouse_spark.lake.reconcile import settle
from lakehouse_spark.metadata import retired_keys, surrogate_keys


def with_surrogate_keys(spark: SparkSession, dimension: Dimension, rows: DataFrame, held: DataFrame) -> DataFrame:
    """The rows with the surrogate key each had before, even if it was gone meanwhile; new ones for the rest."""
    identity, surrogate = list(dimension.table.key), dimension.surrogate_key
    wanted = rows.withColumn("_wanted", F.lit(True))
    unnumbered, gone = F.col(surrogate).isNull(), F.col("_wanted").isNull()
    both = wanted.join(held.select(*identity, surrogate), on=identity, how="full")
    with measured(both, new=F.count_if(unnumbered), leaving=F.count_if(gone)) as (matched, found):
        if found["leaving"]:
            _retire(spark, dimension, matched.where(gone).select(*identity, surrogate))
        if not found["new"]:
            return rows.join(held.select(*identity, surrogate), on=identity, how="left")
    known = rows.join(_issued(spark, dimension, held), on=identity, how="left")
    missing = known.where(unnumbered)
    needed = missing.count()
    if not needed:
        return known
    first = reserve(spark, dimension, needed)
    numbered = missing.withColumn(surrogate, F.row_number().over(Window.orderBy(*identity)) + F.lit(first - 1))
    return known.where(~unnumbered).unionByName(numbered)


def _issued(spark: SparkSession, dimension: Dimension, held: DataFrame) -> DataFrame:
    """Identity and surrogate key of the rows held and of all that ever left the dimension."""
    identity, surrogate = list(dimension.table.key), dimension.surrogate_key
    current = held.select(*identity, surrogate)
    if snapshots.state(spark, retired_keys.TABLE).stamp is None:
        return current
    gone = spark.table(retired_keys.TABLE.identifier).where(F.col("table_name") == dimension.name)
    named = {"natural_key": dimension.natural_key, "surrogate_key": surrogate}
    gone = gone.withColumnsRenamed(named).select(*identity, surrogate)
    return current.unionByName(gone.join(current, on=identity, how="left_anti"))


def _retire(spark: SparkSession, dimension: Dimension, leaving: DataFrame) -> None:
    """Remembers the surrogate keys of rows that are about to leave; written before they do, and only once."""
    table = retired_keys.TABLE
    version = F.col("effective_date") if dimension.is_versioned else F.lit(None).cast("date")
    fresh = leaving.select(
        F.lit(dimension.name).alias("table_name"),
        F.col(dimension.surrogate_key).alias("surrogate_key"),
        F.make_valid_utf8(F.col(dimension.natural_key)).alias(
            "natural_key"
        ),  # a reader of before may have let bytes in
        version.alias("effective_date"),
    )

    def attempt() -> None:
        base = snapshots.state(spark, table)
        held = snapshots.at(spark, table, base.snapshot_id).where(F.col("table_name") == dimension.name)
        held = held.join(fresh, on=list(table.key), how="left_semi")
        settle(spark, table, fresh, held, base, _cursor(base, "retired", dimension))

    commit.again_if_overtaken(attempt)


def reserve(spark: SparkSession, dimension: Dimension, count: int) -> int:
    """The first of `count` surrogate keys that are this caller's alone, whoever else asks and whenever it dies."""
    table, first = surrogate_keys.TABLE, 0

    def attempt() -> None:
        nonlocal first
        base = snapshots.state(spark, table)
        held = snapshots.at(spark, table, base.snapshot_id).where(F.col("table_name") == dimension.name)
        found = held.first()
        first = max(found["last_issued_key"] + 1 if found else dimension.first_key, dimension.first_key)
        row = [(dimension.name, first + count - 1)]
        fresh = frames.of_rows(spark, row, "table_name string, last_issued_key long")
        settle(spark, table, fresh, held, base, _cursor(base, "reserved", dimension))

    commit.again_if_overtaken(attempt)
    return first


def _cursor(base: snapshots.State, done: str, dimension: Dimension) -> Cursor:
    return Cursor(stamp=base.next_stamp(datetime.now(UTC)), notes={done: dimension.name})
