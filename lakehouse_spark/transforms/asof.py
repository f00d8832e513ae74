"""Joins to the version of a dimension that was valid on a day."""

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def with_version(rows: DataFrame, versions: DataFrame, *, key: str, day: str, take: Sequence[str]) -> DataFrame:
    """Adds the columns `take` of the version (SCD2) of the row's `key` on its `day`; NULL where there is none.

    An equality on the key with the range of days as a residual condition: ranges of a key are disjoint, so a row finds
    at most one version.
    """
    valid = versions.select(
        F.col(key).alias("_key"), F.col("effective_date").alias("_from"), F.col("expiry_date").alias("_to"), *take
    )
    on = (F.col(key) == F.col("_key")) & F.col(day).between(F.col("_from"), F.col("_to"))
    return rows.join(valid, on=on, how="left").drop("_key", "_from", "_to")


def without_version(wanted: DataFrame, versions: DataFrame, *, key: str) -> DataFrame:
    """The keys and days (`key`, `day`) of `wanted` that no version covers; grain: one row per key and day."""
    needed = wanted.select(F.col(key).alias("_key"), "day").distinct()
    covers = (F.col("_key") == F.col(key)) & F.col("day").between(F.col("effective_date"), F.col("expiry_date"))
    return needed.join(versions, on=covers, how="left_anti").select(F.col("_key").alias(key), "day")
