"""What users test their own tables with: each assert holds where it should, and names the rows where not."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse_spark.jobs import silver_processor
from lakehouse_spark.lake import snapshots
from lakehouse_spark.silver import trades
from lakehouse_spark.testing import (
    STAGES,
    assert_accounted,
    assert_incremental_equals_full,
    assert_recovers,
    assert_scd2_valid,
)
from tests.support.lake import Lake, arrive, trade

OPEN = date(9999, 12, 31)


def june(day: int) -> date:
    return date(2025, 6, day)


def desks(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    """A stranger's dimension, whose columns have names of their own."""
    return spark.createDataFrame(list(rows), "desk string, since date, until date, live boolean")


def valid(versions: DataFrame) -> None:
    assert_scd2_valid(versions, "desk", effective="since", expiry="until", current="live")


def test_versions_with_a_gap_and_a_deleted_member_are_valid(spark: SparkSession) -> None:
    valid(
        desks(
            spark,
            ("FX", june(1), june(9), False),
            ("FX", june(12), OPEN, True),
            ("RATES", june(1), june(2), False),
        )
    )


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([("FX", june(1), june(9), False), ("FX", june(9), OPEN, True)], "overlaps the next one"),
        ([("FX", june(1), OPEN, True), ("FX", june(9), OPEN, True)], "overlaps the next one"),
        ([("FX", june(3), june(2), False)], "ends before it begins"),
        ([("FX", june(1), june(9), True)], "is current, and ends"),
        ([("FX", june(1), OPEN, False)], "is open, and not current"),
        ([("FX", june(1), OPEN, None)], "is open, and not current"),
        ([("FX", None, OPEN, True)], "a date is missing"),
    ],
)
def test_a_wrong_version_is_named(spark: SparkSession, rows: list[tuple[Any, ...]], fault: str) -> None:
    with pytest.raises(AssertionError, match=f"versions are wrong:\\n.*'desk': 'FX'.*{fault}"):
        valid(desks(spark, *rows))


def places(spark: SparkSession, *offsets: int) -> DataFrame:
    return spark.range(1).selectExpr(
        f"explode(array({', '.join(map(str, offsets))})) AS offset", "'t' AS topic", "0 AS partition"
    ) if offsets else spark.sql("SELECT 0 AS offset, 't' AS topic, 0 AS partition WHERE false")  # fmt: skip


def test_records_that_are_each_in_one_outcome_are_accounted_for(spark: SparkSession) -> None:
    records = places(spark, 0, 1, 2)
    assert_accounted(records, {"accepted": records.where("offset < 2"), "rejected": places(spark, 2)})


@pytest.mark.parametrize(
    ("accepted", "rejected", "row"),
    [
        ([0, 1], [], "'offset': 2, 'records': 1, 'outcomes': []"),
        ([0, 1, 2], [2], "'offset': 2, 'records': 1, 'outcomes': ['accepted', 'rejected']"),
        ([0, 1, 2, 2], [], "'offset': 2, 'records': 1, 'outcomes': ['accepted', 'accepted']"),
        ([0, 1, 2, 7], [], "'offset': 7, 'records': 0, 'outcomes': ['accepted']"),
    ],
)
def test_a_record_that_is_lost_or_counted_twice_is_named(
    spark: SparkSession, accepted: list[int], rejected: list[int], row: str
) -> None:
    with pytest.raises(AssertionError) as refused:
        assert_accounted(
            places(spark, 0, 1, 2), {"accepted": places(spark, *accepted), "rejected": places(spark, *rejected)}
        )
    assert row in str(refused.value)


def test_increments_equal_a_full_run_but_for_stamps_and_order(spark: SparkSession) -> None:
    rows = (
        "SELECT * FROM VALUES (1, 'a', {0}), (1, 'a', {0}), (2, NULL, {0}) AS t(id, name, _computed_at) ORDER BY id {1}"
    )
    assert_incremental_equals_full(spark.sql(rows.format(7, "ASC")), spark.sql(rows.format(8, "DESC")))


def test_a_row_that_increments_lack_is_named(spark: SparkSession) -> None:
    once, twice = spark.sql("SELECT 1 AS id"), spark.sql("SELECT explode(array(1, 1)) AS id")
    with pytest.raises(AssertionError, match="'where': 'in the full run only', 'times': 1, 'id': 1"):
        assert_incremental_equals_full(once, twice)
    with pytest.raises(AssertionError, match="'where': 'in increments only', 'times': 1, 'id': 1"):
        assert_incremental_equals_full(twice, once)
    with pytest.raises(AssertionError, match="the columns differ"):
        assert_incremental_equals_full(once, once.withColumn("more", once.id))


# Crashes


def held(lake: Lake) -> DataFrame:
    return snapshots.at(lake.spark, trades.TABLE, lake.state(trades.TABLE.name).snapshot_id)


def houses(spark: SparkSession, folder: Path) -> Any:
    """Gives lakehouses in which three trades have come to bronze."""
    number = 0

    def begin() -> Lake:
        nonlocal number
        number += 1
        made = Lake.new(spark, "127.0.0.1:9", folder / f"house {number}")
        arrive(made, trade(), trade(), trade(trade_id="T2"))
        return made

    return begin


def test_a_job_recovers_from_a_crash_at_any_point(spark: SparkSession, tmp_path: Path) -> None:
    def run(lake: Lake) -> None:
        silver_processor.run(lake.spark, lake.settings, ["trades"])

    assert_recovers(houses(spark, tmp_path), run, held, trades.TABLE.name)


def test_a_job_that_does_more_when_it_is_run_again_is_found(spark: SparkSession, tmp_path: Path) -> None:
    def run(lake: Lake) -> None:
        arrive(lake, trade(trade_id="T3"))
        silver_processor.run(lake.spark, lake.settings, ["trades"])

    def arrived(lake: Lake) -> DataFrame:
        return lake.spark.table("lake.bronze.raw_trades").select("trade_id")

    with pytest.raises(AssertionError, match=f"silver.trades, ended {STAGES[0]} and run again: rows differ"):
        assert_recovers(houses(spark, tmp_path), run, arrived, trades.TABLE.name)
