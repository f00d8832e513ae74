"""The catalog of declarations, and the reference file of exchanges."""

import csv
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from lakehouse_spark import catalog
from lakehouse_spark.errors import UsageError
from lakehouse_spark.table import column_of, transformed, with_column

EXCHANGES = Path(__file__).parents[2] / "lakehouse_spark" / "conf" / "reference" / "exchanges.csv"
HEADER = "exchange_code,exchange_name,timezone,country,currency,market_open_time,market_close_time,mic\n"


def test_the_catalog_holds_the_seeds_nineteen_tables_and_the_control_tables() -> None:
    assert set(catalog.BY_NAME) == {
        "bronze.raw_trades",
        "bronze.raw_orderbook",
        "bronze.raw_marketdata",
        "silver.trades",
        "silver.orderbook_snapshots",
        "silver.market_data",
        "silver.trader_activity",
        "gold.daily_trading_summary",
        "gold.trader_performance",
        "gold.market_overview",
        "gold.portfolio_positions",
        "gold.trade_analytics",
        "gold._open_lots",
        "gold.fact_trades",
        "gold.fact_orderbook",
        "dim.dim_symbol",
        "dim.dim_trader",
        "dim.dim_exchange",
        "dim.dim_time",
        "dim.dim_account",
        "bronze.raw_reference",
        "silver._rejected_records",
        "_metadata.surrogate_keys",
        "_metadata.retired_keys",
        "_metadata.schema_migrations",
        "_metadata.maintenance_log",
        "_metadata.payload_drift",
    }


def test_every_table_comes_after_the_tables_it_is_built_from() -> None:
    seen: set[str] = set()
    for table in catalog.TABLES:
        assert set(table.sources) <= seen, table.name
        seen.add(table.name)


def test_the_registries_name_what_there_is_in_the_order_in_which_it_is_worked_on() -> None:
    topics = {name: topic.table.name for name, topic in catalog.TOPICS.items()}
    assert list(topics.items()) == [
        ("raw_trades", "bronze.raw_trades"),
        ("raw_orderbook", "bronze.raw_orderbook"),
        ("raw_marketdata", "bronze.raw_marketdata"),
        ("raw_reference", "bronze.raw_reference"),
    ]
    feeds = {name: (feed.topic.name, feed.table.name) for name, feed in catalog.FEEDS.items()}
    assert list(feeds.items()) == [
        ("trades", ("raw_trades", "silver.trades")),
        ("orderbook_snapshots", ("raw_orderbook", "silver.orderbook_snapshots")),
        ("market_data", ("raw_marketdata", "silver.market_data")),
    ]
    assert list(catalog.DIMENSIONS) == ["dim_exchange", "dim_symbol", "dim_trader", "dim_account"]
    facts = {name: fact.source.name for name, fact in catalog.FACTS.items()}
    assert list(facts.items()) == [
        ("fact_trades", "silver.trades"),
        ("fact_orderbook", "silver.orderbook_snapshots"),
    ]


def test_what_a_registry_declares_is_among_the_tables_with_what_it_is_built_from() -> None:
    for feed in catalog.FEEDS.values():
        assert feed.topic.table.name in feed.table.sources
    for fact in catalog.FACTS.values():
        followed = {fact.source.name, *(dimension.table.name for dimension in fact.references.values())}
        assert followed == set(fact.table.follows)
    declared = [*catalog.TOPICS.values(), *catalog.FEEDS.values(), *catalog.DIMENSIONS.values()]
    assert {each.table.name for each in declared} <= set(catalog.BY_NAME)


def test_no_table_is_listed_twice_and_no_short_name_is_ambiguous() -> None:
    short_names = Counter(table.short_name for table in catalog.TABLES)
    assert [name for name, count in short_names.items() if count > 1] == []


def test_every_table_but_dim_time_has_a_stamp() -> None:
    assert [table.name for table in catalog.TABLES if table.stamp is None] == ["dim.dim_time"]


def test_bucketed_tables_are_written_by_partition() -> None:
    bucketed = {table.name for table in catalog.TABLES if any("bucket" in part for part in table.partitioned_by)}
    assert bucketed == {table.name for table in catalog.TABLES if table.distribution == "hash"}


def test_snapshots_are_kept_for_the_seeds_days() -> None:
    kept = {(table.namespace, table.policy.snapshot_days) for table in catalog.TABLES}
    assert kept == {("bronze", 7), ("silver", 14), ("gold", 30), ("dim", 30), ("_metadata", 30)}


def test_only_bronze_topics_lose_rows() -> None:
    kept = {table.name: table.policy.row_days for table in catalog.TABLES if table.policy.row_days}
    assert kept == {"bronze.raw_trades": 90, "bronze.raw_orderbook": 90, "bronze.raw_marketdata": 90}


def test_every_column_says_what_it_means() -> None:
    silent = [(t.name, c.name) for t in catalog.TABLES for c in t.columns if not c.metadata.get("comment", "").strip()]
    assert silent == []


@pytest.mark.parametrize("name", ["gold.fact_trades", "fact_trades"])
def test_a_table_is_found_with_or_without_its_namespace(name: str) -> None:
    assert catalog.table(name).name == "gold.fact_trades"


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("silver.trade", "silver.trades"), ("fact_trade", "fact_trades"), ("dim.dim_symbl", "dim.dim_symbol")],
)
def test_an_unknown_table_names_the_nearest_one(asked: str, meant: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"there is no table '{asked}': did you mean '{meant}'?")):
        catalog.table(asked)


def test_a_table_like_no_other_lists_them_all() -> None:
    with pytest.raises(UsageError, match=r"there is no table 'x': the tables are .*silver\.trades"):
        catalog.table("x")


def test_the_reference_file_holds_the_exchanges_people_ask_for_with_real_time_zones() -> None:
    with EXCHANGES.open(encoding="utf-8", newline="") as file:
        rows = {row["exchange_code"]: row for row in csv.DictReader(file, strict=True)}
    assert {"NYSE", "NASDAQ", "LSE", "XETRA", "TSE", "HKEX"} <= set(rows)
    for row in rows.values():
        assert ZoneInfo(row["timezone"])
        assert re.fullmatch(r"[A-Z0-9]{4}", row["mic"])
        assert re.fullmatch(r"[0-2][0-9]:[0-5][0-9]", row["market_open_time"])
        assert row["effective_date"] == "1900-01-01"  # any change a user loads comes after it
    assert {code: row["settlement_days"] for code, row in rows.items()} == {
        "AMEX": "1", "ARCA": "1", "BATS": "1", "IEX": "1", "NASDAQ": "1", "NYSE": "1", "SSE": "1", "TSX": "1",
        "ASX": "2", "EURONEXT": "2", "HKEX": "2", "KRX": "2", "LSE": "2", "SGX": "2", "SIX": "2", "TSE": "2",
        "XETRA": "2",
    }  # fmt: skip


def test_a_table_knows_the_column_of_its_days() -> None:
    found = {table.name: table.day_column for table in catalog.TABLES}
    assert found["gold.fact_orderbook"] == "snapshot_timestamp"
    assert found["silver._rejected_records"] == "_ingested_at"
    assert found["gold.market_overview"] == "overview_date"
    assert {name for name, day in found.items() if day is None} == {
        "_metadata.schema_migrations", "_metadata.maintenance_log", "_metadata.surrogate_keys",
        "_metadata.retired_keys", "_metadata.payload_drift", "bronze.raw_reference",
        "dim.dim_exchange", "dim.dim_symbol", "dim.dim_trader", "dim.dim_account", "dim.dim_time",
    }  # fmt: skip


def test_a_table_looks_up_only_what_it_declares_among_its_sources() -> None:
    facts = catalog.BY_NAME["gold.fact_trades"]
    assert facts.follows == ("silver.trades", "dim.dim_symbol", "dim.dim_trader", "dim.dim_exchange")
    with pytest.raises(ValueError, match=r"looks up what is not among its sources: \['dim.dim_account'\]"):
        replace(facts, lookups=("dim.dim_account",))


@pytest.mark.parametrize(
    ("iceberg", "column", "declared"),
    [
        ("identity", "symbol", "symbol"),
        ("bucket[16]", "symbol", "bucket(16, symbol)"),
        ("truncate[4]", "symbol", "truncate(4, symbol)"),
        ("day", "at", "days(at)"),
        ("hour", "at", "hours(at)"),
    ],
)
def test_transforms_are_spelled_as_declarations_do(iceberg: str, column: str, declared: str) -> None:
    assert transformed(iceberg, column) == declared


@pytest.mark.parametrize(
    ("term", "column", "of_another"),
    [
        ("symbol", "symbol", "ticker"),
        ("days(at)", "at", "days(ticker)"),
        ("bucket(16, symbol)", "symbol", "bucket(16, ticker)"),
        ("price DESC NULLS LAST", "price", "ticker DESC NULLS LAST"),
        ("truncate(4, symbol) ASC NULLS LAST", "symbol", "truncate(4, ticker) ASC NULLS LAST"),
        ("days(the day)", "the day", "days(ticker)"),
    ],
)
def test_a_term_knows_its_column(term: str, column: str, of_another: str) -> None:
    assert column_of(term) == column
    assert with_column(term, "ticker") == of_another
