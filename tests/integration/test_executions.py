"""What a beat costs, table by table: how many executions, Spark jobs and new data files.

A beat brings all tables up to what bronze holds. Each execution is planned anew, whatever it finds, so their number is
what a small beat takes. A number here that grows is a step that got dearer: if that is meant, write the new one down.
The jobs are those without adaptive execution, as all tests run; a user has more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.bronze import raw_marketdata, raw_orderbook
from lakehouse_spark.catalog import BY_NAME, TABLES
from lakehouse_spark.jobs import dimension_loader, fact_loader, gold_aggregator, silver_processor
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import calendar, snapshots
from lakehouse_spark.settings import Settings
from tests.support.executions import Spent, counted
from tests.support.lake import Lake, arrive, bar, book, create_tables, trade
from tests.support.market import Market, change


@dataclass
class Beat:
    """By table: its executions, jobs and new data files, and which of our lines asked for the executions."""

    costs: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    spent: dict[str, Spent] = field(default_factory=dict)


@pytest.fixture(scope="module")
def beats(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Beat]:
    """Four beats, one after the other, of a lakehouse that has had one before."""
    lake = Lake.copied(spark, "127.0.0.1:9", tmp_path_factory.mktemp("beats"), "beats", _begin)
    return {name: _beat(lake, news) for name, news in NEWS.items()}


def _begin(spark: SparkSession) -> None:
    """Members of every dimension but accounts, and a beat with two days of trades, a book and a bar."""
    create_tables(spark, [table.name for table in TABLES])
    lake = Lake(spark, Settings())
    market = Market(lake)
    long_ago = date(2000, 1, 1)
    market.refer("dim_exchange", [change("NASDAQ", long_ago, mic="XNAS", timezone="America/New_York")])
    market.refer("dim_symbol", [change("AAPL", long_ago, company_name="Apple")])
    market.refer("dim_trader", [change("TR1", long_ago, name="One")])
    calendar.fill(spark, [2025])
    arrive(lake, trade(trade_id="T1", timestamp="2025-01-14T15:30:00Z"), trade(trade_id="T2", trade_type="SELL"))
    arrive(lake, book(), topic=raw_orderbook.TOPIC)
    arrive(lake, bar(), topic=raw_marketdata.TOPIC)
    _run(lake, lambda summary: None)


def _run(lake: Lake, report: Callable[[Summary], None]) -> None:
    """One table after the other, so that it is known what each costs."""
    dimension_loader.run(lake.spark, report=report)
    for job in (silver_processor, fact_loader, gold_aggregator):
        job.run(lake.spark, lake.one_by_one, report=report)


def _beat(lake: Lake, news: Callable[[Lake], None]) -> Beat:
    """What each table costs once the news are there; what a job does before its first table counts to that one."""
    news(lake)
    beat = Beat()

    def note(summary: Summary) -> None:
        spent = beat.spent[summary.table] = counter.spent()
        beat.costs[summary.table] = (len(spent.executions), spent.jobs, _new_files(lake, summary))

    with counted(lake.spark) as counter:
        _run(lake, note)
    return beat


def _new_files(lake: Lake, summary: Summary) -> int:
    if summary.snapshot_id is None:
        return 0
    made = snapshots.load(lake.spark, BY_NAME[summary.table]).snapshot(summary.snapshot_id)
    return int(made.summary().get("added-data-files") or 0)


def _in_all(lake: Lake) -> None:
    """Of the trades one is refused."""
    arrive(lake, trade(trade_id="T3"), trade(trade_id="T4", price=-1))
    arrive(lake, book(snapshot_time="2025-01-15T15:31:00Z"), topic=raw_orderbook.TOPIC)
    arrive(lake, bar(tick_time="2025-01-15T15:31:00Z"), topic=raw_marketdata.TOPIC)


def _in_trades(lake: Lake) -> None:
    arrive(lake, trade(trade_id="T5"))


def _late(lake: Lake) -> None:
    arrive(lake, trade(trade_id="T6", timestamp="2025-01-14T16:00:00Z"))


NEWS = {"in all": _in_all, "in trades": _in_trades, "late": _late, "none": lambda lake: None}


def _assert_costs(beat: Beat, expected: dict[str, tuple[int, int, int]]) -> None:
    """The costs of the tables that cost anything."""
    costs = {name: cost for name, cost in beat.costs.items() if any(cost)}
    told = (f"{name} {cost}:\n{beat.spent[name]}" for name, cost in costs.items() if cost != expected.get(name))
    assert costs == expected, "\n\n".join(told)


def test_what_news_in_all_tables_costs(beats: dict[str, Beat]) -> None:
    _assert_costs(
        beats["in all"],
        {
            "dim.dim_exchange": (1, 1, 0),
            "silver.trades": (7, 9, 1),
            "silver.orderbook_snapshots": (3, 5, 1),
            "silver.market_data": (3, 5, 1),
            "silver.trader_activity": (3, 7, 1),
            "gold.fact_trades": (5, 13, 1),
            "gold.fact_orderbook": (5, 8, 1),
            "gold.daily_trading_summary": (5, 20, 1),
            "gold.market_overview": (3, 8, 1),
            "gold.trade_analytics": (5, 10, 1),
            "gold._open_lots": (7, 6, 1),
            "gold.trader_performance": (2, 6, 1),
            "gold.portfolio_positions": (2, 3, 1),
        },
    )


def test_what_news_in_trades_only_costs(beats: dict[str, Beat]) -> None:
    _assert_costs(
        beats["in trades"],
        {
            "dim.dim_exchange": (1, 1, 0),
            "silver.trades": (4, 6, 1),
            "silver.trader_activity": (3, 7, 1),
            "gold.fact_trades": (5, 13, 1),
            "gold.daily_trading_summary": (5, 20, 1),
            "gold.market_overview": (3, 8, 1),
            "gold.trade_analytics": (5, 10, 1),
            "gold._open_lots": (7, 6, 1),
            "gold.trader_performance": (2, 6, 1),
            "gold.portfolio_positions": (2, 4, 1),
        },
    )


def test_what_a_late_trade_costs(beats: dict[str, Beat]) -> None:
    _assert_costs(
        beats["late"],
        {
            "dim.dim_exchange": (1, 1, 0),
            "silver.trades": (4, 6, 1),
            "silver.trader_activity": (3, 7, 1),
            "gold.fact_trades": (5, 13, 1),
            "gold.daily_trading_summary": (6, 22, 1),
            "gold.market_overview": (3, 8, 1),
            "gold.trade_analytics": (5, 10, 1),
            "gold._open_lots": (10, 22, 2),
            "gold.trader_performance": (2, 6, 1),
            "gold.portfolio_positions": (2, 4, 2),
        },
    )


def test_what_nothing_new_costs(beats: dict[str, Beat]) -> None:
    _assert_costs(
        beats["none"],
        {
            "dim.dim_exchange": (1, 1, 0),
        },
    )
