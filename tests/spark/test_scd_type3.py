"""SCD3: the current value, the one before it, and the day it changed, whatever the order of arrival."""

from typing import Any

from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim import dim_account
from lakehouse_spark.lake import frames
from lakehouse_spark.transforms import scd_type3
from lakehouse_spark.transforms.scd_type3 import Pair
from tests.support import dim_oracle, histories
from tests.support.scd_changes import ORDER, Change, as_dicts, change, delete, drawn, event_frame, frame, june, together

PLACE = ("effective_date", *ORDER)
TIER = Pair("tier", "current_tier", "previous_tier", "tier_change_date")
STATUS = Pair("status", "current_status", "previous_status", "status_change_date")


def tiers(spark: SparkSession, *changes: Change) -> DataFrame:
    return scd_type3.latest(frame(spark, "id string, tier string", *changes), key="id", pairs=[TIER], order=PLACE)


def rows(spark: SparkSession, *expected: tuple[Any, ...]) -> DataFrame:
    columns = "id string, current_tier string, previous_tier string, tier_change_date date"
    return frames.of_rows(spark, list(expected), columns)


def test_the_previous_value_is_the_one_before_the_current(spark: SparkSession) -> None:
    found = tiers(
        spark,
        change("new", 1, "GOLD"),
        change("changed", 1, "SILVER"), change("changed", 5, "GOLD"),
        change("twice", 1, "BRONZE"), change("twice", 5, "SILVER"), change("twice", 9, "GOLD"),
        change("there and back", 1, "SILVER"), change("there and back", 5, "GOLD"),
        change("there and back", 9, "SILVER"),
        change("late", 9, "GOLD"), change("late", 5, "SILVER"),
        change("late between", 1, "BRONZE"), change("late between", 9, "GOLD"), change("late between", 5, "SILVER"),
        change("on one day", 1, "BRONZE"), change("on one day", 1, "SILVER"), change("on one day", 1, "GOLD"),
        change("by sequence", 1, "GOLD", sequence=2), change("by sequence", 1, "SILVER", sequence=1),
    )  # fmt: skip
    expected = rows(
        spark,
        ("new", "GOLD", None, None),
        ("changed", "GOLD", "SILVER", june(5)),
        ("twice", "GOLD", "SILVER", june(9)),
        ("there and back", "SILVER", "GOLD", june(9)),
        ("late", "GOLD", "SILVER", june(9)),
        ("late between", "GOLD", "SILVER", june(9)),
        ("on one day", "GOLD", "SILVER", june(1)),
        ("by sequence", "GOLD", "SILVER", june(1)),
    )
    assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)


def test_equal_values_that_follow_each_other_are_one_and_null_says_nothing(spark: SparkSession) -> None:
    found = tiers(
        spark,
        change("repeated", 1, "SILVER"), change("repeated", 5, "GOLD"), change("repeated", 9, "GOLD"),
        change("never changed", 1, "GOLD"), change("never changed", 9, "GOLD"),
        change("earlier repeat", 5, "GOLD"), change("earlier repeat", 9, "GOLD"), change("earlier repeat", 1, "GOLD"),
        change("NULL between", 1, "GOLD"), change("NULL between", 5, None), change("NULL between", 9, "GOLD"),
        change("NULL last", 1, "SILVER"), change("NULL last", 5, "GOLD"), change("NULL last", 9, None),
        change("NULL first", 1, None), change("NULL first", 5, "GOLD"),
        change("nothing but NULL", 1, None), change("nothing but NULL", 5, None),
        change("empty is a value", 1, "GOLD"), change("empty is a value", 5, ""),
        change("bridged", 1, "SILVER"), change("bridged", 5, "GOLD"), change("bridged", 9, "SILVER"),
        change("bridged", 5, "SILVER", sequence=7), change("bridged", 5, "GOLD", sequence=6),
    )  # fmt: skip
    expected = rows(
        spark,
        ("repeated", "GOLD", "SILVER", june(5)),
        ("never changed", "GOLD", None, None),
        ("earlier repeat", "GOLD", None, None),
        ("NULL between", "GOLD", None, None),
        ("NULL last", "GOLD", "SILVER", june(5)),
        ("NULL first", "GOLD", None, None),
        ("nothing but NULL", None, None, None),
        ("empty is a value", "", "GOLD", june(5)),
        ("bridged", "SILVER", "GOLD", june(5)),
    )
    assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)


def test_a_delete_keeps_the_row_and_states_nothing(spark: SparkSession) -> None:
    found = tiers(
        spark,
        change("deleted", 1, "SILVER"), change("deleted", 5, "GOLD"), delete("deleted", 9, "BRONZE"),
        change("back again", 1, "GOLD"), delete("back again", 5), change("back again", 9, "GOLD"),
        delete("never there", 1, "GOLD"),
    )  # fmt: skip
    expected = rows(spark, ("deleted", "GOLD", "SILVER", june(5)), ("back again", "GOLD", None, None))
    assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)


def test_each_pair_has_a_history_of_its_own_and_other_columns_have_their_last_value(spark: SparkSession) -> None:
    changes = frame(
        spark, "id string, tier string, status string, owner string, kind string",
        change("A", 1, "GOLD", "ACTIVE", "T1", "CASH"),
        change("A", 5, None, "SUSPENDED", "T2", "silent"),
        change("A", 9, "GOLD", "ACTIVE", None, "silent"),
    )  # fmt: skip
    found = scd_type3.latest(
        changes, key="id", pairs=[TIER, STATUS], columns=["owner", "kind"], order=PLACE,
        stated={"kind": F.col("kind") != "silent"},
    )  # fmt: skip
    expected = frames.of_rows(
        spark,
        [("A", "GOLD", None, None, "ACTIVE", "SUSPENDED", june(9), None, "CASH")],
        "id string, current_tier string, previous_tier string, tier_change_date date, current_status string, "
        "previous_status string, status_change_date date, owner string, kind string",
    )
    assert_df_equality(found, expected, ignore_nullable=True)


def test_sixty_random_histories_end_as_the_oracle_says(spark: SparkSession) -> None:
    events = together(drawn(histories.account_changes(), 60))
    kinds = {"trader_id": "string", "tier": "string", "status": "string", "account_type": "string"}
    changes = event_frame(spark, events, "account_id", {**kinds, "account_open_date": "date"})
    others = ("trader_id", "account_open_date", "account_type")
    found = scd_type3.latest(changes, key="account_id", pairs=dim_account.PAIRS, columns=others, order=PLACE)
    expected = dim_oracle.accounts(events)
    assert len(expected) > 60
    assert as_dicts(found, "account_id") == expected
