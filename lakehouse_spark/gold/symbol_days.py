"""Symbols' days: the units in which the gold tables of symbols are derived anew."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def of(rows: DataFrame, time_column: str) -> DataFrame:
    """The rows' symbols and UTC days, `symbol` and `day`, repeats included."""
    return rows.select("symbol", F.to_date(time_column).alias("day"))


def of_members(members: DataFrame, held: DataFrame, day: str) -> DataFrame:
    """Symbols and days of the `held` rows that changes of dim_symbol can have touched.

    `members` has each changed `symbol` and `from_day`, the first day on which a version of it can differ.
    """
    return (
        held.join(members, on="symbol", how="inner")
        .where(F.col(day) >= F.col("from_day"))
        .select("symbol", F.col(day).alias("day"))
    )


def within(rows: DataFrame, touched: DataFrame, time_column: str) -> DataFrame:
    """The rows of the symbols and days `touched`."""
    dated = rows.withColumn("day", F.to_date(time_column))
    return dated.join(touched, on=["symbol", "day"], how="left_semi").drop("day")
