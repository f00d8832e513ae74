"""Which rows are within the times that a batch is of."""

from datetime import UTC, datetime, timedelta

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.lake import frames
from lakehouse_spark.lake.pruning import around, time_set

NOON = datetime(2025, 2, 28, 12, tzinfo=UTC)


def test_every_time_of_a_batch_is_around_it_and_no_day_between(spark: SparkSession) -> None:
    months = [NOON + timedelta(days=30 * number, minutes=14, seconds=59, microseconds=999_999) for number in range(40)]
    rows = frames.of_rows(spark, [(each,) for each in months], "at timestamp")
    [[times]] = rows.agg(time_set("at")).collect()
    near = around("at", times)(F.col)
    assert rows.where(near).count() == 40
    between = [(each + timedelta(days=15),) for each in months]
    assert frames.of_rows(spark, between, "at timestamp").where(near).count() == 0


def test_of_few_times_their_own_quarters_of_an_hour_are_around(spark: SparkSession) -> None:
    rows = frames.of_rows(spark, [(NOON,), (NOON + timedelta(hours=3),)], "at timestamp")
    [[times]] = rows.agg(time_set("at")).collect()
    offsets = (-1, 0, 899, 900, 3 * 3_600 - 1, 3 * 3_600, 3 * 3_600 + 900)
    others = frames.of_rows(spark, [(NOON + timedelta(seconds=each), each) for each in offsets], "at timestamp, s int")
    found = others.where(around("at", times)(F.col)).select("s").collect()
    assert sorted(row["s"] for row in found) == [0, 899, 10_800]
