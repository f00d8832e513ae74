"""Tables of a job side by side: the order that lineage asks for, and what is left of a run in which some fail."""

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.errors import LostRaceError
from lakehouse_spark.jobs import steps
from lakehouse_spark.jobs.steps import Step
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.silver import market_data, orderbook_snapshots, trader_activity, trades
from lakehouse_spark.table import Table

TABLES = (trades.TABLE, orderbook_snapshots.TABLE, market_data.TABLE, trader_activity.TABLE)
"""The last one follows the first."""


def _nothing(table: Table) -> None:
    pass


def _steps(act: Callable[[Table], None]) -> list[Step]:
    def work(table: Table) -> Iterator[Summary]:
        act(table)
        yield Summary("job", table.short_name)

    return [Step((table,), partial(work, table)) for table in TABLES]


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_summaries_are_in_the_order_of_the_steps_and_each_is_reported_once(spark: SparkSession, at_once: int) -> None:
    heard: list[Summary] = []
    told = steps.run(spark, _steps(_nothing), heard.append, at_once=at_once)
    assert [each.table for each in told] == ["trades", "orderbook_snapshots", "market_data", "trader_activity"]
    assert sorted(each.table for each in heard) == ["market_data", "orderbook_snapshots", "trader_activity", "trades"]


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_a_step_begins_once_what_it_follows_has_ended(spark: SparkSession, at_once: int) -> None:
    began: list[str] = []
    others = threading.Event()

    def act(table: Table) -> None:
        began.append(table.short_name)
        if table is trades.TABLE and at_once > 1:  # the longest of all
            assert others.wait(10)
            assert "trader_activity" not in began
        if table is market_data.TABLE:
            others.set()

    steps.run(spark, _steps(act), lambda summary: None, at_once=at_once)
    assert sorted(began) == ["market_data", "orderbook_snapshots", "trader_activity", "trades"]
    assert began.index("trader_activity") == 3


def test_no_more_run_at_once_than_are_allowed(spark: SparkSession) -> None:
    lock, now, most = threading.Lock(), 0, 0
    meeting = threading.Barrier(2)

    def act(table: Table) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        meeting.wait(10)  # nobody passes alone
        with lock:
            now -= 1

    steps.run(spark, _steps(act), lambda summary: None, at_once=2)
    assert (now, most) == (0, 2)


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_fails_ends_only_what_follows_it(spark: SparkSession, at_once: int) -> None:
    heard: list[str] = []

    def act(table: Table) -> None:
        if table is trades.TABLE:
            raise LostRaceError("trades: another writer committed")

    with pytest.raises(LostRaceError, match="trades: another writer committed") as failed:
        steps.run(spark, _steps(act), lambda summary: heard.append(summary.table), at_once=at_once)
    assert sorted(heard) == ["market_data", "orderbook_snapshots"]
    assert not hasattr(failed.value, "__notes__")


@pytest.mark.parametrize("at_once", [1, 2])
def test_of_several_failures_the_first_table_s_is_raised_and_names_the_others(
    spark: SparkSession, at_once: int
) -> None:
    def act(table: Table) -> None:
        if table is not trades.TABLE:
            raise ValueError(f"{table.short_name} broke")

    with pytest.raises(ValueError, match="orderbook_snapshots broke") as failed:
        steps.run(spark, _steps(act), lambda summary: None, at_once=at_once)
    assert failed.value.__notes__ == ["ValueError: market_data broke", "ValueError: trader_activity broke"]


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_attempt_says_what_failed_and_what_never_began(spark: SparkSession, at_once: int) -> None:
    def act(table: Table) -> None:
        if table is trades.TABLE:
            raise LostRaceError("trades: another writer committed")

    outcome = steps.attempt(spark, _steps(act), lambda summary: None, at_once=at_once)
    assert [each.table for each in outcome.summaries] == ["orderbook_snapshots", "market_data"]
    assert [(step.tables, str(error)) for step, error in outcome.failures] == [
        ((trades.TABLE,), "trades: another writer committed")
    ]
    assert [step.tables for step in outcome.left] == [(trader_activity.TABLE,)]


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_attempt_that_is_asked_to_stop_ends_what_began_and_begins_nothing_else(
    spark: SparkSession, at_once: int
) -> None:
    stop, began = threading.Event(), threading.Barrier(at_once)

    def act(table: Table) -> None:
        began.wait(10)
        stop.set()

    outcome = steps.attempt(spark, _steps(act), lambda summary: None, at_once=at_once, stop=stop)
    assert [each.table for each in outcome.summaries] == ["trades", "orderbook_snapshots"][:at_once]
    assert (outcome.failures, len(outcome.left)) == ([], 4 - at_once)
