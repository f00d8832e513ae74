"""What changed between two moments, and why: every row that differs has a cause."""

import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.bronze import raw_orderbook
from lakehouse_spark.errors import UsageError
from lakehouse_spark.jobs import rejected
from lakehouse_spark.lake import commit
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.trace.diff import Changes, diff
from tests.support import lake
from tests.support.executions import counted
from tests.support.histories import STATUSES, histories
from tests.support.lake import Lake, arrive, book, bring_up, moment, table
from tests.support.market import Market, change, market
from tests.support.scd_changes import drawn
from tests.support.shell import Terminal

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "1"))
SHOWN = 8 if ROUNDS > 1 else 1
"""Rows of a table that are explained of a random history."""
FEW = ("dim.dim_account", "gold.fact_trades", "gold.daily_trading_summary", "gold.portfolio_positions")
EXPLAINED = FEW if ROUNDS == 1 else (
    "silver.trades", "dim.dim_symbol", "dim.dim_trader", "gold.market_overview", "gold.trade_analytics",
    "gold._open_lots", "gold.trader_performance", *FEW,
)  # fmt: skip
SUMMARY, POSITIONS = "gold.daily_trading_summary", "gold.portfolio_positions"


def sent(**changes: Any) -> bytes:
    return lake.trade(**{"price": 10, "timestamp": "2025-01-15T15:30:00Z", **changes})


def told(found: Changes) -> list[tuple[str, dict[str, tuple[str, str]], list[tuple[str, str | None, str]]]]:
    """Of each row: what became of it, the columns that changed as texts, and its causes."""
    rows = []
    for row in found.rows:
        sides = {n: (str((row.before or {}).get(n)), str((row.after or {}).get(n))) for n in row.columns}
        rows.append((row.kind, sides, [(cause.what, cause.record, cause.detail) for cause in row.causes]))
    return rows


def since(made: Lake, at: datetime, name: str, until: datetime | None = None) -> Changes:
    return diff(made.spark, made.settings, table(name), at, until)


@pytest.fixture(scope="module")
def begun(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, datetime]:
    """Two trades in all layers, a record that waits for its symbol's name to be mended, and the moment behind them."""
    made = Lake.migrated(spark, "127.0.0.1:9", tmp_path_factory.mktemp("diff") / "home")
    Market(made).refer("dim_symbol", [change("AAPL", date(2000, 1, 1), company_name="Apple")])
    bring_up(
        made, sent(), sent(trade_id="T2", price=12, timestamp="2025-01-16T15:30:00Z"), sent(trade_id="T3", price="x")
    )
    return made, moment()


@pytest.fixture
def made(begun: tuple[Lake, datetime], tmp_path: Path) -> tuple[Lake, datetime]:
    return begun[0].copy(tmp_path / "home"), begun[1]


def test_a_late_record_changes_a_day_and_the_change_of_the_day_after(
    made: tuple[Lake, datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, at = made
    bring_up(lake, sent(trade_id="T4", price=11, quantity=50, timestamp="2025-01-15T16:00:00Z"), gold=[SUMMARY])
    found = since(lake, at, SUMMARY)
    assert found.numbers == {"appeared": 0, "changed": 2, "went": 0}
    cause = ("late record", "trades/0/3", "T4 of 2025-01-15 16:00:00 UTC")
    (first, second) = told(found)
    assert (first[0], first[2]) == ("changed", [cause])
    assert first[1]["close_price"] == ("10.000000", "11.000000")
    assert (second[1], second[2]) == ({"price_change_pct": ("20.0000", "9.0909")}, [cause])
    with monkeypatch.context() as patch:
        patch.setattr("lakehouse_spark.trace.diff._FEW", 0)
        assert told(since(lake, at, SUMMARY)) == [first, second]
    assert [cause.record for cause in since(lake, at, "silver.trades").rows[0].causes] == ["trades/0/3"]


def test_the_first_book_of_all_is_a_record_that_came(made: tuple[Lake, datetime]) -> None:
    lake, at = made
    arrive(lake, book(snapshot_time="2025-01-16T15:30:00Z"), topic=raw_orderbook.TOPIC)
    bring_up(lake, gold=[SUMMARY])
    (row,) = told(since(lake, at, SUMMARY))
    assert [*row[1]] == ["avg_spread"]
    ((what, record, detail),) = row[2]
    assert (what, record, detail.endswith(" of 2025-01-16 15:30:00 UTC")) == ("late record", "orderbook/0/0", True)


def test_what_it_costs_to_explain_a_new_day_does_not_grow_with_its_rows(made: tuple[Lake, datetime]) -> None:
    lake, at = made
    new = [sent(trade_id=f"N{number}", symbol=f"S{number}", timestamp="2025-01-17T15:00:00Z") for number in range(6)]
    bring_up(lake, *new, gold=[SUMMARY])
    with counted(lake.spark) as counter:
        one = diff(lake.spark, lake.settings, table(SUMMARY), at, limit=1)
        of_one = counter.spent()
        six = diff(lake.spark, lake.settings, table(SUMMARY), at, limit=6)
        of_six = counter.spent()
    assert (len(one.rows), len(six.rows)) == (1, 6)
    assert [[cause.record for cause in row.causes] for row in six.rows] == [[f"trades/0/{n}"] for n in range(3, 9)]
    assert len(of_six.executions) == len(of_one.executions), of_six


def test_a_cancellation_takes_a_day_away(made: tuple[Lake, datetime]) -> None:
    lake, at = made
    bring_up(lake, sent(trade_id="T2", price=12, timestamp="2025-01-16T15:30:00Z", status="CANCELLED"))
    cause = ("status change", "trades/0/3", "T2: EXECUTED → CANCELLED")
    for name in ("gold.daily_trading_summary", "gold.market_overview", "gold.trader_performance"):
        found = since(lake, at, name)
        assert found.numbers["went"] == 1, name
        assert told(found)[-1][2] == [cause], name
    (row,) = told(since(lake, at, "gold.fact_trades"))
    assert row == ("changed", {"status": ("EXECUTED", "CANCELLED")}, [cause])


def test_a_dimension_that_is_restated_changes_what_it_describes(made: tuple[Lake, datetime]) -> None:
    lake, at = made
    Market(lake, arrivals=9).refer("dim_symbol", [change("AAPL", date(2025, 1, 16), company_name="Apple Inc.")])
    bring_up(lake, gold=[SUMMARY])
    (row,) = told(since(lake, at, "gold.daily_trading_summary"))
    assert row[1] == {"company_name": ("Apple", "Apple Inc.")}
    ((what, record, detail),) = row[2]
    assert (what, detail) == ("dimension record", "dim_symbol AAPL states the member as of 2025-01-16")
    assert record is not None
    assert record.startswith("raw_reference/")
    assert [kind for kind, _, _ in told(since(lake, at, "dim.dim_symbol"))] == ["changed", "appeared"]


def test_an_account_that_comes_late_moves_positions_and_the_next_late_trade_finds_it(
    made: tuple[Lake, datetime],
) -> None:
    lake, at = made
    Market(lake, arrivals=9).refer("dim_account", [change("AC1", date(2025, 1, 1), trader_id="TR1")])
    bring_up(lake, gold=[POSITIONS])
    found = since(lake, at, POSITIONS)
    assert found.numbers == {"appeared": 2, "changed": 0, "went": 2}
    assert {cause for _, _, causes in told(found) for cause in causes} == {
        ("dimension record", "raw_reference/batch 10/0", "dim_account AC1 states the member as of 2025-01-01")
    }
    middle = moment()
    bring_up(
        lake,
        sent(trade_id="T4", price=11, quantity=50, timestamp="2025-01-15T16:00:00Z"),
        gold=[SUMMARY, POSITIONS],
    )
    found = since(lake, middle, POSITIONS)
    assert (found.numbers["changed"], found.notes) == (2, [])
    late = ("late record", "trades/0/3", "T4 of 2025-01-15 16:00:00 UTC")
    assert [causes for _, _, causes in told(found)] == [[late], [late]]


def test_a_replay_is_told_as_one(made: tuple[Lake, datetime], monkeypatch: pytest.MonkeyPatch) -> None:
    lake, at = made
    arrive(lake, sent(trade_id="T5", exchange="NEWX"))
    lake.silver("trades")
    middle = moment()
    Market(lake, arrivals=9).refer("dim_exchange", [change("NEWX", date(2000, 1, 1))])
    (done, *_) = rejected.replay(lake.spark, lake.settings, Selection("bronze.raw_trades", "unknown_exchange"))
    assert done.counts == {"records": 1, "replayed": 1, "rejected again": 0}
    lake.silver("trades")
    (row,) = told(since(lake, middle, "silver.trades"))
    assert row[2] == [("replayed record", "trades/0/3", "T5")]
    assert told(since(lake, at, "silver.trades", middle)) == []


def test_newer_rules_are_told_where_no_record_explains_it(
    made: tuple[Lake, datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, at = made
    wrong = "UPDATE lake.gold.daily_trading_summary SET vwap = 1 WHERE summary_date = DATE '2025-01-15'"
    lake.spark.sql(wrong)
    between = moment()
    (row,) = told(since(lake, at, "gold.daily_trading_summary"))
    assert row[1:] == ({"vwap": ("10.000000", "1.000000")}, [])  # nobody knows why, and that is said
    commit.outdate(lake.spark, table(SUMMARY))
    bring_up(lake, gold=[SUMMARY])
    (row,) = told(since(lake, between, "gold.daily_trading_summary"))
    ((what, _, detail),) = row[2]
    assert (what, detail.startswith("rules ")) == ("newer rules", True)


def test_a_moment_that_is_not_known_and_a_table_that_is_made_of_nothing_are_told_so(
    begun: tuple[Lake, datetime],
) -> None:
    lake, at = begun
    with pytest.raises(UsageError, match="is not known as it was at 2020-01-01"):
        since(lake, datetime(2020, 1, 1, tzinfo=UTC), "gold.daily_trading_summary")
    with pytest.raises(UsageError, match=r"the rows of bronze\.raw_trades are not made of others"):
        since(lake, at, "bronze.raw_trades")
    assert since(lake, at, "gold.daily_trading_summary").numbers == {"appeared": 0, "changed": 0, "went": 0}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_of_any_history_every_change_has_a_cause(spark: SparkSession, tmp_path: Path, number: int) -> None:
    dice = Random(number)
    history = max(drawn(histories(), 30, number + 70), key=lambda each: len(each.trades) + len(each.accounts))
    found = market(spark, tmp_path / "home")
    lake.create_tables(found.spark, ("bronze.raw_trades", "bronze.raw_orderbook"))
    gold = [name for name in EXPLAINED if name.startswith("gold.") and "fact" not in name]
    trades = dice.sample(history.trades, len(history.trades))
    half = len(trades) // 2
    found.refer("dim_symbol", history.symbols[::2])
    found.refer("dim_trader", history.traders[::2])
    found.refer("dim_account", history.accounts[::2])
    found.trade(trades[:half])
    found.book(history.books)
    found.load(*gold)
    at = moment()
    found.refer("dim_symbol", history.symbols[1::2])
    found.refer("dim_account", history.accounts[1::2])
    late = trades[half:]
    busted = [{**row, "status": STATUSES[-1]} for row in trades[:half] if dice.random() < 0.3]
    found.trade([*late, *busted])
    found.load(*gold)
    for name in EXPLAINED:
        seen = diff(found.spark, found.lake.settings, table(name), at, limit=SHOWN)
        unexplained = [row for row in seen.rows if not row.causes]
        assert not unexplained, (name, unexplained)


# The command


def test_the_command_prints_what_changed(terminal: Terminal, begun: tuple[Lake, datetime]) -> None:
    code, said = terminal(begun[0], "diff", "gold.fact_trades", "--since", "2020-01-01")
    assert (code, "gold.fact_trades is not known as it was at 2020-01-01" in " ".join(said.split())) == (2, True)
    code, said = terminal(begun[0], "diff", "gold.fact_trades", "--since", begun[1].isoformat())
    assert (code, said) == (0, "gold.fact_trades: 0 appeared, 0 changed, 0 went\n")
    code, said = terminal(begun[0], "diff", "gold.fact_trades", "--since", begun[1].isoformat(), "--json")
    assert json.loads(said) == {
        "table": "gold.fact_trades", "appeared": 0, "changed": 0, "went": 0, "rows": [], "notes": [],
    }  # fmt: skip
