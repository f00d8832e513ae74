"""Each job reads the sources that its tables declare, and no others."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, DataFrameReader, SparkSession

from lakehouse_spark.bronze import raw_marketdata, raw_orderbook
from lakehouse_spark.catalog import BY_NAME, TABLES
from lakehouse_spark.dim import dim_account, dim_symbol, dim_trader
from lakehouse_spark.ingest import reference_files
from lakehouse_spark.jobs import dimension_loader, fact_loader, gold_aggregator, silver_processor
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.migrations import baseline
from lakehouse_spark.settings import conf_dir
from tests.support.lake import NOON, Lake, arrive, bar, book, trade

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


@contextmanager
def reading() -> Iterator[set[str]]:
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


def run_all(lake: Lake, *, rebuild: bool = False) -> dict[str, set[str]]:
    """Runs every job from the change log and bronze on, one table after the other; what was read until each was
    reported, by table."""
    by_table: dict[str, set[str]] = {}
    with reading() as found:

        def report(summary: Summary) -> None:
            by_table[summary.table] = set(found)
            found.clear()

        dimension_loader.run(lake.spark, rebuild=rebuild, report=report)
        for job in (silver_processor, fact_loader, gold_aggregator):
            job.run(lake.spark, lake.one_by_one, rebuild=rebuild, report=report)
    return by_table


def refer(lake: Lake, folder: Path, name: str, lines: str) -> None:
    dimension = {"symbol": dim_symbol, "trader": dim_trader, "account": dim_account}[name].DIMENSION
    file = folder / f"{name}.csv"
    file.write_text(lines)
    reference_files.load(lake.spark, dimension, [str(file)])


def test_jobs_read_what_their_tables_declare_and_nothing_else(spark: SparkSession, tmp_path: Path) -> None:
    lake = Lake.new(spark, "127.0.0.1:9", tmp_path / "home", [table.name for table in TABLES])
    baseline.seed_exchanges(lake.spark, conf_dir())
    refer(lake, tmp_path, "symbol", "symbol,sector,effective_date\nAAPL,Tech,2025-01-01\n")
    refer(lake, tmp_path, "trader", "trader_id,trader_name,effective_date\nTR1,Ada,2025-01-01\n")
    refer(lake, tmp_path, "account", "account_id,trader_id,account_open_date\nAC1,TR1,2024-05-01\n")
    arrive(lake, trade(), trade(trade_id="T2", trader_id="TR2", symbol="IBM"), b"{")
    arrive(lake, book(), topic=raw_orderbook.TOPIC)
    arrive(lake, bar(), topic=raw_marketdata.TOPIC)
    rounds = [run_all(lake)]
    assert set(run_all(lake)) == set(rounds[0])
    refer(lake, tmp_path, "symbol", "symbol,sector,effective_date\nAAPL,Fruit,2025-01-10\n")
    refer(lake, tmp_path, "trader", "trader_id,trader_name,effective_date\nTR1,Ada L.,2025-01-10\n")
    refer(lake, tmp_path, "account", "account_id,trader_id,account_open_date\nAC0,TR1,2023-05-01\n")
    later = NOON + timedelta(hours=1)
    arrive(lake, trade(trade_id="T3", timestamp="2025-01-16T15:30:00Z", symbol="IBM"), at=later)
    arrive(lake, book(snapshot_time="2025-01-16T15:30:00Z"), topic=raw_orderbook.TOPIC, at=later)
    rounds.append(run_all(lake))  # of what changed
    rounds.append(run_all(lake, rebuild=True))

    beside = {LETTERS, *(table.name for table in TABLES if table.namespace == "_metadata")}
    for tables, sources in READ.items():
        read = set().union(*(by_table[name] for by_table in rounds for name in tables))
        on_behalf = {LOG} if any(name.startswith("dim.") for name in sources) else set()
        assert read - beside - on_behalf - set(tables) == sources - BY_FILES, tables
        declared = {source for name in tables for source in BY_NAME[name].sources}
        assert declared - set(tables) == sources, tables
    assert {name for tables in READ for name in tables} == {
        table.name for table in TABLES if table.sources and table.name != LETTERS
    }
