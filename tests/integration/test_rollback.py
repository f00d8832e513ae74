"""A table is given what it had; what came since comes again, to the same rows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import verify
from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.jobs import gold_aggregator, rollback
from lakehouse_spark.lake import commit
from lakehouse_spark.maintenance import journal
from tests.support.lake import Lake, arrive, bring_up, moment, table, trade
from tests.support.shell import Terminal

TABLES = ("silver.trades", "silver.trader_activity", "dim.dim_symbol", "gold.fact_trades", "gold.daily_trading_summary")
Held = dict[str, set[tuple[Any, ...]]]


def content(made: Lake, name: str) -> set[tuple[Any, ...]]:
    """Rows without stamps and surrogate keys, which are given anew."""
    left_out = {str(table(name).stamp), "symbol_key", "trader_key"}
    rows = made.spark.table(table(name).identifier)
    return {tuple(row) for row in rows.select(*(c for c in rows.columns if c not in left_out)).collect()}


@pytest.fixture(scope="module")
def begun(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, datetime, Held, Held]:
    """Two beats, the moment between them, and what the tables held at its time and in the end."""
    made = Lake.migrated(spark, "127.0.0.1:9", tmp_path_factory.mktemp("rollback") / "home")
    arrive(made, trade(), trade(trade_id="T2", symbol="MSFT"))
    bring_up(made)
    before = {name: content(made, name) for name in TABLES}
    at = moment()
    late = trade(trade_id="T3", symbol="NEW", timestamp="2025-01-14T15:30:00Z")
    arrive(made, trade(status="CANCELLED"), late, trade(trade_id="T4", price=0))
    bring_up(made)
    return made, at, before, {name: content(made, name) for name in TABLES}


def test_a_table_is_as_it_was_and_what_came_since_comes_again(begun: tuple[Lake, datetime, Held, Held]) -> None:
    made, at, before, after = begun
    for name in TABLES:
        assert before[name] != after[name]
        rollback.rollback(made.spark, made.settings, table(name), at, "kim", "a wrong release")
        assert content(made, name) == before[name]
        entry = [each for each in journal.read(made.settings).entries if each.job == "rollback"][-1]
        assert (entry.table, entry.status, entry.detail["because"]) == (name, "DONE", "a wrong release")
        bring_up(made, gold=["gold.daily_trading_summary"])
        assert {each: content(made, each) for each in TABLES} == after
    bring_up(made)
    assert [finding for finding in verify.run(made.spark, made.settings) if finding.violations] == []


# Copies: position deletes of before name files of another place, so silver is not looked at


def test_what_would_not_come_again_is_refused(begun: tuple[Lake, datetime, Held, Held], tmp_path: Path) -> None:
    made, at = begun[0].copy(tmp_path / "home"), begun[1]
    with pytest.raises(UsageError, match=r"bronze\.raw_trades follows no other table"):
        rollback.rollback(made.spark, made.settings, table("bronze.raw_trades"), at, "kim", "why")
    with pytest.raises(UsageError, match="is not known as it was at 2020-01-01"):
        rollback.rollback(
            made.spark, made.settings, table("silver.trades"), datetime(2020, 1, 1, tzinfo=UTC), "kim", "why"
        )
    summary = table("gold.daily_trading_summary")
    assert rollback.rollback(made.spark, made.settings, summary, at + timedelta(days=1), "kim", "why").counts == {}
    made.spark.sql("ALTER TABLE lake.gold.daily_trading_summary ADD COLUMN venue string")
    commit.adopt_schema(made.spark, summary)
    with pytest.raises(RefusedError, match="its columns were others then"):
        rollback.rollback(made.spark, made.settings, summary, at, "kim", "why")
    analytics = table("gold.trade_analytics")
    commit.outdate(made.spark, analytics)
    outdated = moment()
    for step in gold_aggregator.steps_of(made.spark, made.settings):
        if analytics in step.tables:
            assert [summary.snapshot_id is not None for summary in step.work()] == [True]
    with pytest.raises(RefusedError, match=r"its rules were others \(rules 1 → \d+\) then"):
        rollback.rollback(made.spark, made.settings, analytics, outdated, "kim", "why")


def test_the_command_says_what_it_did(
    begun: tuple[Lake, datetime, Held, Held], tmp_path: Path, terminal: Terminal
) -> None:
    made = begun[0].copy(tmp_path / "home")
    given = ("rollback", "gold.daily_trading_summary", "--to", begun[1].isoformat())
    assert terminal(made, *given)[0] == 2
    code, said = terminal(made, *given, "--because", "a wrong release")
    assert code == 0
    assert said.startswith("rollback: gold.daily_trading_summary: 1 inserted, 0 updated, 1 deleted in")
