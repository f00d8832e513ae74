"""What a beat reads and costs, table by table: its sources, how many executions, Spark jobs and new data files.

A beat brings all tables up to what bronze holds. Each execution is planned anew, whatever it finds, so their number is
what a small beat takes. A number here that grows is a step that got dearer: if that is meant, write the new one down.
The jobs are those without adaptive execution, as all tests run; a user has more.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from pyspark.sql import DataFrame, DataFrameReader, SparkSession

from lakehouse_spark.bronze import raw_marketdata, raw_orderbook
from lakehouse_spark.catalog import BY_NAME, TABLES
from lakehouse_spark.jobs import dimension_loader, fact_loader, gold_aggregator, silver_processor
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import snapshots
from tests.support.executions import Spent, counted
from tests.support.lake import Lake, arrive, bar, book, trade
from tests.support.market import Market, change, with_members

LOG, LETTERS = "bronze.raw_reference", "silver._rejected_records"
TRADES, BOOKS, SUMMARY = "silver.trades", "silver.orderbook_snapshots", "gold.daily_trading_summary"
SYMBOLS, TRADERS, ACCOUNTS, EXCHANGES = (f"dim.dim_{name}" for name in ("symbol", "trader", "account", "exchange"))

READ = {
    ("dim.dim_exchange",): {LOG},
    ("dim.dim_symbol",): {LOG},
    ("dim.dim_trader",): {LOG},
    ("dim.dim_account",): {LOG},
    ("silver.trades",): {"bronze.raw_trades", EXCHANGES},
    ("silver.orderbook_snapshots",): {"bronze.raw_orderbook", EXCHANGES},
    ("silver.market_data",): {"bronze.raw_marketdata", EXCHANGES},
    ("silver.trader_activity",): {TRADES},
    ("gold.fact_trades",): {TRADES, SYMBOLS, TRADERS, EXCHANGES, "dim.dim_time"},
    ("gold.fact_orderbook",): {BOOKS, SYMBOLS, "dim.dim_time"},
    ("gold.daily_trading_summary",): {TRADES, BOOKS, SYMBOLS},
    ("gold.market_overview",): {TRADES, BOOKS, SUMMARY},
    ("gold.trade_analytics",): {TRADES, SYMBOLS, EXCHANGES},
    ("gold._open_lots", "gold.trader_performance", "gold.portfolio_positions"): {TRADES, ACCOUNTS, TRADERS, SUMMARY},
}  # fmt: skip
"""What the derivation of some tables reads beside these themselves, dead letters and control tables; and beside the
change log, which facts and gold read on behalf of their dimensions."""
BY_FILES = {"dim.dim_time"}
"""Looked at by the files of its years alone: a fact's minute is computed."""


@dataclass
class Beat:
    """By table: its executions, jobs and new data files, which of our lines asked for the executions, and the names of
    the tables that were read."""

    read: dict[str, set[str]] = field(default_factory=dict)
    costs: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    spent: dict[str, Spent] = field(default_factory=dict)


@pytest.fixture(scope="module")
def beats(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Beat]:
    """Beats, one after the other, of a lakehouse that has had one before; the last derives all tables anew."""
    lake = with_members(spark, "127.0.0.1:9", tmp_path_factory.mktemp("beats"))
    _begin(lake)
    made = {name: _beat(lake, news) for name, news in NEWS.items()}
    return {**made, "rebuild": _beat(lake, lambda lake: None, rebuild=True)}


@contextmanager
def _reading() -> Iterator[set[str]]:
    """The names of the tables that are read from here on."""
    found: set[str] = set()

    def noting(read: Any) -> Any:
        def table(self: Any, name: str) -> DataFrame:
            found.add(name.removeprefix("lake."))
            return read(self, name)  # type: ignore[no-any-return]

        return table

    with pytest.MonkeyPatch.context() as patch:
        for kind in (SparkSession, DataFrameReader):
            patch.setattr(kind, "table", noting(kind.table))
        yield found


def _begin(lake: Lake) -> None:
    """A beat with two days of trades, a book and a bar."""
    arrive(lake, trade(trade_id="T1", timestamp="2025-01-14T15:30:00Z"), trade(trade_id="T2", trade_type="SELL"))
    arrive(lake, book(), topic=raw_orderbook.TOPIC)
    arrive(lake, bar(), topic=raw_marketdata.TOPIC)
    _run(lake, lambda summary: None)


def _run(lake: Lake, report: Callable[[Summary], None], *, rebuild: bool = False) -> None:
    """One table after the other, so that it is known what each costs."""
    dimension_loader.run(lake.spark, rebuild=rebuild, report=report)
    for job in (silver_processor, fact_loader, gold_aggregator):
        job.run(lake.spark, lake.one_by_one, rebuild=rebuild, report=report)


def _beat(lake: Lake, news: Callable[[Lake], None], *, rebuild: bool = False) -> Beat:
    """What each table costs once the news are there; what a job does before its first table counts to that one."""
    news(lake)
    beat = Beat()

    def note(summary: Summary) -> None:
        spent = beat.spent[summary.table] = counter.spent()
        beat.costs[summary.table] = (len(spent.executions), spent.jobs, _new_files(lake, summary))
        beat.read[summary.table] = {*read}
        read.clear()

    with counted(lake.spark) as counter, _reading() as read:
        _run(lake, note, rebuild=rebuild)
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


def _restated(lake: Lake) -> None:
    """A member of each dimension that has versions or a history changes, and an account opens earlier."""
    market, day = Market(lake), date(2025, 1, 10)
    market.refer("dim_symbol", [change("AAPL", day, company_name="Apfel")])
    market.refer("dim_trader", [change("TR1", day, name="Eins")])
    market.refer("dim_account", [change("AC1", date(2024, 5, 1), trader_id="TR1", tier="GOLD")])


NEWS = {"in all": _in_all, "in trades": _in_trades, "late": _late, "none": lambda lake: None, "restated": _restated}


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
            "gold.fact_trades": (4, 11, 1),
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


def test_no_beat_has_java_throw_what_python_takes_for_the_end_of_something(beats: dict[str, Beat]) -> None:
    """An exception takes tens of milliseconds to come across, as at the end of each of Java's collections that Python
    iterates over itself (see snapshots.each)."""
    thrown = {(name, table, *spent.thrown) for name, beat in beats.items() for table, spent in beat.spent.items()}
    assert {each for each in thrown if len(each) > 2} == set()


def test_jobs_read_what_their_tables_declare_and_nothing_else(beats: dict[str, Beat]) -> None:
    beside = {LETTERS, *(table.name for table in TABLES if table.namespace == "_metadata")}
    for tables, sources in READ.items():
        read = set().union(*(beat.read[name] for beat in beats.values() for name in tables))
        on_behalf = {LOG} if any(name.startswith("dim.") for name in sources) else set()
        assert read - beside - on_behalf - set(tables) == sources - BY_FILES, tables
        declared = {source for name in tables for source in BY_NAME[name].sources}
        assert declared - set(tables) == sources, tables
    assert {name for tables in READ for name in tables} == {
        table.name for table in TABLES if table.sources and table.name != LETTERS
    }
