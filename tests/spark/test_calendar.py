"""The years of `dim_time`: appended once each, whoever asks, whatever an earlier release wrote."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.dim import dim_time
from lakehouse_spark.lake import calendar, commit, frames, snapshots
from lakehouse_spark.schema import ddl
from lakehouse_spark.transforms import market_hours

Sessions = Callable[[], SparkSession]
TABLE = dim_time.TABLE


@pytest.fixture(autouse=True)
def short_years(monkeypatch: pytest.MonkeyPatch) -> None:
    """Years of two minutes, their first and their last, to keep the runs short."""
    real = dim_time.minutes_of
    monkeypatch.setattr(dim_time, "minutes_of", lambda year: (*real(year)[:2], real(year)[1] - real(year)[0] - 60))


@pytest.fixture
def empty(sessions: Sessions) -> SparkSession:
    spark = sessions()
    for statement in (ddl.create_namespace("dim"), *ddl.create_table(TABLE)):
        spark.sql(statement)
    commit.open_table(spark, TABLE)
    return spark


def keys(spark: SparkSession) -> list[int]:
    return [row["time_key"] for row in spark.table(TABLE.identifier).orderBy("time_key").collect()]


def snapshot_count(spark: SparkSession) -> int:
    return spark.table(f"{TABLE.identifier}.snapshots").count()


def test_years_are_appended_in_one_commit_whose_cursor_names_them(empty: SparkSession) -> None:
    calendar.fill(empty, [2025, 2008, 2025])
    assert keys(empty) == [200801010000, 200812312359, 202501010000, 202512312359]
    assert snapshot_count(empty) == 2
    cursor = snapshots.state(empty, TABLE).cursor
    assert cursor is not None
    assert cursor.notes["years"] == [2008, 2025]


def test_years_that_are_there_cost_no_query_and_no_commit(empty: SparkSession) -> None:
    calendar.fill(empty, [2024, 2025])
    empty.sparkContext.setJobGroup("again", "years that are there")
    try:
        calendar.fill(empty, [2025, 2024])
        assert list(empty.sparkContext.statusTracker().getJobIdsForGroup("again")) == []
        calendar.fill(empty, [2024, 2026])
        assert list(empty.sparkContext.statusTracker().getJobIdsForGroup("again")) != []
    finally:
        empty.sparkContext.setLocalProperty("spark.jobGroup.id", "")
    assert snapshot_count(empty) == 3
    assert keys(empty) == [202401010000, 202412312359, 202501010000, 202512312359, 202601010000, 202612312359]


def test_years_that_an_earlier_release_wrote_without_a_cursor_are_not_doubled(empty: SparkSession) -> None:
    sessions = frames.of_rows(empty, market_hours.nyse_sessions([2024]), market_hours.NYSE_SESSIONS)
    dim_time.build(empty.range(*dim_time.minutes_of(2024)), sessions).writeTo(TABLE.identifier).append()
    assert snapshots.state(empty, TABLE).cursor is None
    assert snapshots.state(empty, TABLE).stamp is None
    calendar.fill(empty, [2024])
    assert snapshot_count(empty) == 2
    calendar.fill(empty, [2023, 2024])
    assert keys(empty) == [202301010000, 202312312359, 202401010000, 202412312359]


def test_a_year_that_was_deleted_is_written_anew(empty: SparkSession) -> None:
    calendar.fill(empty, [2024, 2025])
    empty.sql("DELETE FROM lake.dim.dim_time WHERE year = 2024")
    calendar.fill(empty, [2024, 2025])
    assert keys(empty) == [202401010000, 202412312359, 202501010000, 202512312359]


def test_of_runs_that_want_the_same_years_at_once_each_year_is_written_once(
    empty: SparkSession, sessions: Sessions
) -> None:
    together = Barrier(3)

    def run(years: list[int]) -> None:
        spark = sessions()
        together.wait(60)
        calendar.fill(spark, years)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run, [[2023, 2024], [2024, 2025], [2023, 2025]]))
    assert keys(empty) == [
        202301010000, 202312312359, 202401010000, 202412312359, 202501010000, 202512312359,
    ]  # fmt: skip
