"""SCD1: the last statement about each attribute stands, whatever the order of arrival."""

from dataclasses import replace
from typing import Any

from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.lake import frames
from lakehouse_spark.transforms import scd_type1
from tests.support import dim_oracle, histories
from tests.support.scd_changes import ORDER, Change, as_dicts, change, delete, drawn, event_frame, frame, together

COLUMNS = "code string, name string, mic string"
PLACE = ("effective_date", *ORDER)


def latest(spark: SparkSession, *changes: Change) -> DataFrame:
    return scd_type1.latest(frame(spark, COLUMNS, *changes), key="code", columns=["name", "mic"], order=PLACE)


def rows(spark: SparkSession, *expected: tuple[Any, ...]) -> DataFrame:
    return frames.of_rows(spark, list(expected), COLUMNS)


def test_a_member_is_what_its_last_change_says(spark: SparkSession) -> None:
    found = latest(
        spark,
        change("new", 1, "a", "X"),
        change("changed", 1, "a", "X"), change("changed", 2, "b", "Y"),
        change("unchanged", 1, "a", "X"), change("unchanged", 1, "a", "X"), change("unchanged", 5, "a", "X"),
        change("late", 9, "b", "Y"), change("late", 5, "a", "X"),
        change("out of order", 5, "b", "X"), change("out of order", 9, "c", "X"), change("out of order", 1, "a", "X"),
        change("later arrival", 1, "a", "X"), change("later arrival", 1, "b", "Y"),
        change("higher sequence", 1, "a", "X", sequence=2), change("higher sequence", 1, "b", "Y", sequence=1),
        change("no sequence", 1, "a", "X", sequence=-1), change("no sequence", 1, "b", "Y"),
        change("same sequence", 1, "a", "X", sequence=3), change("same sequence", 1, "b", "Y", sequence=3),
    )  # fmt: skip
    expected = rows(
        spark,
        ("new", "a", "X"), ("changed", "b", "Y"), ("unchanged", "a", "X"), ("late", "b", "Y"),
        ("out of order", "c", "X"), ("later arrival", "b", "Y"), ("higher sequence", "a", "X"),
        ("no sequence", "a", "X"), ("same sequence", "b", "Y"),
    )  # fmt: skip
    assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)


def test_null_is_a_value_and_is_not_the_empty_one(spark: SparkSession) -> None:
    found = latest(
        spark,
        change("to NULL", 1, "a", "X"), change("to NULL", 2, None, None),
        change("from NULL", 1, None, None), change("from NULL", 2, "a", None),
        change("empty", 1, None, "X"), change("empty", 2, "", "X"),
    )  # fmt: skip
    expected = rows(spark, ("to NULL", None, None), ("from NULL", "a", None), ("empty", "", "X"))
    assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)


def test_a_delete_keeps_the_row_and_makes_none(spark: SparkSession) -> None:
    found = latest(
        spark,
        change("deleted", 1, "a", "X"), delete("deleted", 2),
        change("same day", 1, "a", "X"), delete("same day", 1, "b", "Y"),
        change("back again", 1, "a", "X"), delete("back again", 2), change("back again", 3, "b", "X"),
        delete("never there", 1, "a", "X"),
        replace(change("flag unknown", 1, "a", "X"), gone=None),
    )  # fmt: skip
    expected = rows(
        spark, ("deleted", "a", "X"), ("same day", "a", "X"), ("back again", "b", "X"), ("flag unknown", "a", "X")
    )
    assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)


def test_a_change_that_says_nothing_of_an_attribute_leaves_it_as_it_was(spark: SparkSession) -> None:
    changes = frame(
        spark, COLUMNS,
        change("A", 1, "a", "X"), change("A", 2, "b", "silent"), change("A", 3, None, "silent"),
        change("B", 1, "a", "silent"),
        change("C", 3, "a", "X"), change("C", 1, "b", "Y"),
    )  # fmt: skip
    stated = {"mic": F.col("mic") != "silent"}
    found = scd_type1.latest(changes, key="code", columns=["name", "mic"], order=PLACE, stated=stated)
    expected = rows(spark, ("A", None, "X"), ("B", "a", None), ("C", "a", "X"))
    assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)


def test_sixty_random_histories_end_as_the_oracle_says(spark: SparkSession) -> None:
    names = ("trader_id", "tier", "status", "account_type")
    events = together(drawn(histories.account_changes(), 60))
    changes = event_frame(spark, events, "account_id", dict.fromkeys(names, "string"))
    found = scd_type1.latest(changes, key="account_id", columns=names, order=PLACE)
    expected = [{"account_id": key, **row} for key, row in dim_oracle.scd1(events, names).items()]
    assert len(expected) > 60
    assert as_dicts(found, "account_id") == expected
