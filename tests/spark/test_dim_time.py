"""`dim_time`: literal minutes around holidays, early closes and both nights the clocks change."""

from datetime import UTC, date, datetime

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim import dim_time
from lakehouse_spark.lake import frames
from lakehouse_spark.transforms import market_hours
from tests.support.lake import compiled


def minutes(spark: SparkSession, first: str, last: str) -> DataFrame:
    """The rows of the UTC minutes from `first` to before `last`."""
    start, end = (int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) for text in (first, last))
    sessions = frames.of_rows(spark, market_hours.nyse_sessions([2025]), market_hours.NYSE_SESSIONS)
    return dim_time.build(spark.range(start, end, 60, numPartitions=1), sessions)


def changes(rows: DataFrame) -> list[tuple[str, str, bool]]:
    """(first minute, session, trading day) of each run of minutes that agree on the latter two."""
    runs: list[tuple[str, str, bool]] = []
    text = F.date_format("full_timestamp", "yyyy-MM-dd HH:mm")
    for at, session, traded in rows.select(text, "market_session", "is_trading_day").orderBy("time_key").collect():
        if not runs or runs[-1][1:] != (session, traded):
            runs.append((at, session, traded))
    return runs


def test_a_minute_has_every_column_in_utc(spark: SparkSession) -> None:
    rows = minutes(spark, "2025-01-05T23:59", "2025-01-06T00:01")
    assert rows.schema.simpleString() == dim_time.TABLE.schema.simpleString()
    as_text = rows.withColumn("full_timestamp", F.col("full_timestamp").cast("string")).orderBy("time_key")
    assert [tuple(row) for row in as_text.collect()] == [
        (
            202501052359, "2025-01-05 23:59:00", date(2025, 1, 5), 2025, 1, 1, "January", 1, 5, 7, "Sunday", True,
            False, "CLOSED", 23, 59,
        ),
        (
            202501060000, "2025-01-06 00:00:00", date(2025, 1, 6), 2025, 1, 1, "January", 2, 6, 1, "Monday", False,
            False, "CLOSED", 0, 0,
        ),
    ]  # fmt: skip


def test_a_winter_trading_day_and_its_evening_into_the_utc_saturday(spark: SparkSession) -> None:
    assert changes(minutes(spark, "2025-01-10T00:00", "2025-01-12T00:00")) == [
        ("2025-01-10 00:00", "CLOSED", False),  # Thursday the 9th: closed for the funeral of President Carter
        ("2025-01-10 05:00", "CLOSED", True),
        ("2025-01-10 09:00", "PRE_MARKET", True),
        ("2025-01-10 14:30", "REGULAR", True),
        ("2025-01-10 21:00", "AFTER_HOURS", True),
        ("2025-01-11 01:00", "CLOSED", True),
        ("2025-01-11 05:00", "CLOSED", False),
    ]


def test_the_spring_night_moves_the_session_an_hour_in_utc(spark: SparkSession) -> None:
    assert changes(minutes(spark, "2025-03-07T12:00", "2025-03-10T22:00")) == [
        ("2025-03-07 12:00", "PRE_MARKET", True),
        ("2025-03-07 14:30", "REGULAR", True),
        ("2025-03-07 21:00", "AFTER_HOURS", True),
        ("2025-03-08 01:00", "CLOSED", True),
        ("2025-03-08 05:00", "CLOSED", False),
        ("2025-03-10 04:00", "CLOSED", True),
        ("2025-03-10 08:00", "PRE_MARKET", True),
        ("2025-03-10 13:30", "REGULAR", True),
        ("2025-03-10 20:00", "AFTER_HOURS", True),
    ]


def test_the_autumn_night_moves_the_session_back(spark: SparkSession) -> None:
    assert changes(minutes(spark, "2025-10-31T12:00", "2025-11-03T22:00")) == [
        ("2025-10-31 12:00", "PRE_MARKET", True),
        ("2025-10-31 13:30", "REGULAR", True),
        ("2025-10-31 20:00", "AFTER_HOURS", True),
        ("2025-11-01 00:00", "CLOSED", True),
        ("2025-11-01 04:00", "CLOSED", False),
        ("2025-11-03 05:00", "CLOSED", True),
        ("2025-11-03 09:00", "PRE_MARKET", True),
        ("2025-11-03 14:30", "REGULAR", True),
        ("2025-11-03 21:00", "AFTER_HOURS", True),
    ]


def test_thanksgiving_is_closed_and_its_friday_closes_at_one(spark: SparkSession) -> None:
    assert changes(minutes(spark, "2025-11-27T06:00", "2025-11-29T06:00")) == [
        ("2025-11-27 06:00", "CLOSED", False),
        ("2025-11-28 05:00", "CLOSED", True),
        ("2025-11-28 09:00", "PRE_MARKET", True),
        ("2025-11-28 14:30", "REGULAR", True),
        ("2025-11-28 18:00", "AFTER_HOURS", True),
        ("2025-11-29 01:00", "CLOSED", True),
        ("2025-11-29 05:00", "CLOSED", False),
    ]


def test_independence_day_is_closed_and_its_eve_closes_at_one(spark: SparkSession) -> None:
    assert changes(minutes(spark, "2025-07-03T12:00", "2025-07-05T12:00")) == [
        ("2025-07-03 12:00", "PRE_MARKET", True),
        ("2025-07-03 13:30", "REGULAR", True),
        ("2025-07-03 17:00", "AFTER_HOURS", True),
        ("2025-07-04 00:00", "CLOSED", True),
        ("2025-07-04 04:00", "CLOSED", False),
    ]


def test_the_first_minutes_of_a_year_belong_to_new_yorks_last_session(spark: SparkSession) -> None:
    assert changes(minutes(spark, "2025-01-01T00:00", "2025-01-02T06:00")) == [
        ("2025-01-01 00:00", "AFTER_HOURS", True),
        ("2025-01-01 01:00", "CLOSED", True),
        ("2025-01-01 05:00", "CLOSED", False),
        ("2025-01-02 05:00", "CLOSED", True),
    ]


def test_every_utc_day_of_a_year_has_1440_rows_with_keys_of_their_own(spark: SparkSession) -> None:
    sessions = frames.of_rows(spark, market_hours.nyse_sessions([2025]), market_hours.NYSE_SESSIONS)
    year = dim_time.build(spark.range(*dim_time.minutes_of(2025), numPartitions=2), sessions)
    days = year.groupBy("date").agg(F.count("*").alias("rows"), F.countDistinct("time_key").alias("keys"))
    with compiled(spark):
        counted = days.groupBy("rows", "keys").agg(F.count("*"), F.min("date"), F.max("date")).collect()
    assert [tuple(row) for row in counted] == [(1440, 1440, 365, date(2025, 1, 1), date(2025, 12, 31))]


def test_a_fact_finds_its_minute(spark: SparkSession) -> None:
    at = F.lit(datetime(2025, 1, 15, 14, 30, 59, 999999, tzinfo=UTC))
    assert spark.range(1).select(dim_time.time_key(at)).first() == (202501151430,)


@pytest.mark.parametrize(("year", "count"), [(2000, 252), (2025, 250), (2027, 251)])
def test_sessions_are_known_from_2000_to_years_ahead(year: int, count: int) -> None:
    assert len([day for day, *_ in market_hours.nyse_sessions([year]) if day.year == year]) == count
