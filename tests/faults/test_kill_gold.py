"""A load of facts and gold that dies between two of its commits: the next run ends as if nothing had happened."""

from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.jobs import fact_loader, gold_aggregator
from lakehouse_spark.testing import STAGES, CrashError, crash, fault
from tests.support.faults import ROUNDS
from tests.support.market import FRIDAY, Market, compare, market, trade

TABLES = (
    "dim.dim_symbol", "dim.dim_trader", "gold.fact_trades", "gold.daily_trading_summary", "gold.market_overview",
    "gold.trade_analytics", "gold._open_lots", "gold.trader_performance", "gold.portfolio_positions",
)  # fmt: skip
"""In the order in which a load of new trades commits to them; the first two for members known from trades alone."""
CHOSEN = TABLES if ROUNDS >= 20 else ("dim.dim_symbol", "gold.daily_trading_summary", "gold._open_lots")


def enter(found: Market, number: int) -> None:
    """A day of trades: a new symbol, a new trader, and shares of old ones bought and sold again."""
    day = FRIDAY + timedelta(number)
    mine = {"symbol": f"S{number}", "trader_id": f"TR{number}", "account_id": "AC"}
    found.trade(
        [
            trade(10 * number, f"{day}T14:00", "BUY", 30, "10", account_id="AC"),
            trade(10 * number + 1, f"{day}T15:00", "SELL", 20, f"{11 + number}", account_id="AC"),
            trade(10 * number + 2, f"{day}T16:00", "SELL", 5, "7", **mine),
        ]
    )


def test_a_load_that_dies_after_any_commit_is_completed_by_the_next_one(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_spark.lake.commit.drop", lambda *given: None)
    found = market(spark, tmp_path / "home")
    for number, name in enumerate(CHOSEN):
        enter(found, number)
        before = found.lake.state(name).snapshot_id
        with pytest.raises(CrashError), fault(name, STAGES[2], crash):
            found.load()
        assert found.lake.state(name).snapshot_id != before, name
    found.load()
    compare(found)
    jobs = fact_loader.run(found.spark, found.lake.settings) + gold_aggregator.run(found.spark, found.lake.settings)
    assert all(summary.snapshot_id is None for summary in jobs)
