"""A lakehouse written by earlier code, brought up by today's: every table says what it would if it were new.

And under a later release, that adds a column and a table, and one more that changes tables in every other way: jobs go
on without a rebuild, and old rows are as they were.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import catalog, migrations, verify
from lakehouse_spark.bronze import raw_trades
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.jobs import dimension_loader, fact_loader, gold_aggregator, silver_processor
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit, frames, snapshots
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.settings import KafkaSettings, Settings
from lakehouse_spark.silver import trades
from tests.support.lake import TRADE, Lake
from tests.support.lakehouses import connect, unpack
from tests.support.later_release import KINDS, NEXT, later_release

OPEN_END = date(9999, 12, 31)


def run_all(lake: Lake) -> list[Summary]:
    return [
        *dimension_loader.run(lake.spark),
        *silver_processor.run(lake.spark, lake.settings),
        *fact_loader.run(lake.spark, lake.settings),
        *gold_aggregator.run(lake.spark, lake.settings),
    ]


def migrate(lake: Lake) -> list[str]:
    return [done.version for done in migrations.migrate(lake.spark, lake.settings, datetime.now(UTC))]


@pytest.fixture(scope="module")
def upgraded(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, dict[str, Summary]]:
    """The lakehouse of 7e782d6 after one run of every job, and what that run said of each table."""
    home = tmp_path_factory.mktemp("upgraded") / "home"
    unpack("7e782d6", home)
    settings = Settings(home=home, kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    lake = Lake(connect(spark, home), settings)
    assert migrate(lake) == ["V002", "V003", "V004", "V005", "V006", "V007", "V008"]
    return lake, {summary.table: summary for summary in run_all(lake)}


def rows(lake: Lake, table: str, *columns: str, where: str = "true") -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in lake.spark.table(f"lake.{table}").where(where).select(*columns).collect())


def test_trades_are_judged_again(upgraded: tuple[Lake, dict[str, Summary]]) -> None:
    lake, said = upgraded
    assert rows(lake, "silver.trades", "trade_id", "symbol", "quantity", "status", "_source_offset") == [
        ("T1", "AAPL", 100, "EXECUTED", 0),
        ("T10", "AAPL", 100, "EXECUTED", 13),
        ("T13", "AAPL", 3, "EXECUTED", 16),
        ("T14", "ML.PA", 100, "EXECUTED", 17),
        ("T15", "FLG1", 100, "EXECUTED", 18),
        ("T2", "AAPL", 40, "EXECUTED", 1),
        ("T4", "IBM", 100, "EXECUTED", 3),
        ("T5", "AAPL", 7, "CANCELLED", 6),
        ("T6", "AAPL", 8, "CANCELLED", 8),
        ("T7", "AAPL", 100, "EXECUTED", 10),
        ("T8", "AAPL", 100, "EXECUTED", 11),
    ]  # fmt: skip
    totals = lake.cursor("silver.trades")["totals"]
    assert {name: totals[name] for name in ("records", "accepted", "duplicates", "rejected", "rows")} == {
        "records": 19, "accepted": 13, "duplicates": 0, "rejected": 6, "rows": 11,
    }  # fmt: skip
    assert any("rules" in note for note in said["silver.trades"].notes)


def test_dead_letters_close_and_open(upgraded: tuple[Lake, dict[str, Summary]]) -> None:
    lake, _ = upgraded
    trades = "source_table = 'bronze.raw_trades'"
    found = rows(lake, "silver._rejected_records", "_kafka_offset", "status", "reasons", where=trades)
    assert [(offset, status, reasons) for offset, status, reasons in found if status != "REPLAYED"] == [
        (2, "OPEN", ["invalid_symbol"]),
        (4, "OPEN", ["invalid_encoding"]),
        (5, "OPEN", ["invalid_encoding"]),
        (12, "OPEN", ["schema_registry_framing"]),
        (14, "OPEN", ["invalid_price"]),
        (15, "DISCARDED", ["invalid_price"]),
    ]
    assert [offset for offset, status, _ in found if status == "REPLAYED"] == [7, 9, 13]
    others = rows(lake, "silver._rejected_records", "source_table", "status", "reasons", where=f"NOT {trades}")
    assert others == [
        ("bronze.raw_marketdata", "OPEN", ["invalid_interval"]),
        ("bronze.raw_orderbook", "REPLAYED", ["crossed_book"]),
        ("bronze.raw_reference", "OPEN", ["invalid_encoding"]),  # both traders of the one damaged key
        ("bronze.raw_reference", "OPEN", ["invalid_encoding"]),
        ("bronze.raw_reference", "OPEN", ["invalid_encoding"]),  # ML.PA, and the trader of half a surrogate pair
        ("bronze.raw_reference", "OPEN", ["invalid_encoding"]),
        ("bronze.raw_reference", "OPEN", ["invalid_market_close_time", "invalid_market_open_time"]),
        ("bronze.raw_reference", "OPEN", ["invalid_symbol"]),
        ("bronze.raw_reference", "OPEN", ["invalid_timezone"]),
        ("bronze.raw_reference", "REPLAYED", ["invalid_is_deleted"]),
    ]
    open_by = rows(lake, "silver._rejected_records", "rules_version", where="status = 'OPEN'")
    assert set(open_by) == {("2",)}


def test_a_month_no_longer_stands_over_a_minute(upgraded: tuple[Lake, dict[str, Summary]]) -> None:
    lake, _ = upgraded
    assert rows(lake, "silver.market_data", "symbol", "interval", "close", "volume") == [
        ("AAPL", "1m", Decimal("187.500000"), 12000),
        ("MSFT", "1m", Decimal("187.500000"), 12000),
    ]


def test_members_are_derived_by_what_their_records_mean_today(upgraded: tuple[Lake, dict[str, Summary]]) -> None:
    lake, _ = upgraded
    version = ("effective_date", "expiry_date", "is_current", "is_inferred")
    assert rows(lake, "dim.dim_symbol", "symbol", "company_name", *version) == [
        ("AAPL", "Apple", date(2024, 1, 1), OPEN_END, True, False),
        ("FLG1", "FLG1", date(2025, 2, 2), OPEN_END, True, True),
        ("FLG1", "One", date(2025, 1, 1), date(2025, 2, 1), False, False),
        ("IBM", "IBM Corp", date(2024, 1, 1), OPEN_END, True, False),
        ("ML.PA", "ML.PA", date(1900, 1, 1), OPEN_END, True, True),
        ("SHIB", "SHIB", date(1900, 1, 1), OPEN_END, True, True),
    ]
    assert rows(lake, "dim.dim_trader", "trader_id", "name", *version) == [
        ("T-JOS\ufffd", "T-JOS\ufffd", date(1900, 1, 1), OPEN_END, True, True),
        ("TR1", "TR1", date(1900, 1, 1), OPEN_END, True, True),
        ("TR2", "Two", date(2024, 1, 1), OPEN_END, True, False),
        ("TR3", "TR3", date(1900, 1, 1), OPEN_END, True, True),
    ]
    hours = ("timezone", "market_open_time", "market_close_time")
    ours = "exchange_code IN ('AMPM', 'BADTZ', 'NOHOURS')"
    assert rows(lake, "dim.dim_exchange", "exchange_code", "exchange_name", *hours, where=ours) == [
        ("AMPM", "Am pm", "America/New_York", None, None),
        ("BADTZ", "Bad zone", None, "09:30", "16:00"),
        ("NOHOURS", "No hours", "America/New_York", None, None),
    ]


def test_gold_follows(upgraded: tuple[Lake, dict[str, Summary]]) -> None:
    lake, _ = upgraded
    columns = ("analytics_date", "symbol", "exchange", "market_session", "trade_count", "volume")
    assert rows(lake, "gold.trade_analytics", *columns) == [
        (date(2025, 1, 15), "AAPL", "BADTZ", "REGULAR", 1, 100),
        (date(2025, 1, 15), "AAPL", "NASDAQ", "REGULAR", 4, 243),
        (date(2025, 1, 15), "AAPL", "NOHOURS", "REGULAR", 1, 100),
        (date(2025, 1, 15), "IBM", "NASDAQ", "REGULAR", 1, 100),
        (date(2025, 1, 15), "ML.PA", "NASDAQ", "REGULAR", 1, 100),
        (date(2025, 2, 3), "FLG1", "NASDAQ", "REGULAR", 1, 100),
    ]
    assert rows(lake, "gold.daily_trading_summary", "symbol", "summary_date", "trade_count", "open_price") == [
        ("AAPL", date(2025, 1, 15), 6, Decimal("187.500000")),
        ("FLG1", date(2025, 2, 3), 1, Decimal("31.000000")),
        ("IBM", date(2025, 1, 15), 1, Decimal("11.000000")),
        ("ML.PA", date(2025, 1, 15), 1, Decimal("30.000000")),
    ]


def test_every_invariant_holds_and_a_second_run_writes_nothing(upgraded: tuple[Lake, dict[str, Summary]]) -> None:
    lake, _ = upgraded
    findings = verify.run(lake.spark, lake.settings)
    assert [str(finding) for finding in findings if finding.violations] == []
    before = {table.name: lake.snapshots(table.name) for table in TABLES}
    assert migrate(lake) == []
    assert [summary.table for summary in run_all(lake) if summary.snapshot_id or summary.notes] == []
    assert {table.name: lake.snapshots(table.name) for table in TABLES} == before


# Under a later release


def enter_trades(lake: Lake, *records: dict[str, Any]) -> None:
    """What bronze_writer would commit of these records, which follow the nineteen there are."""
    spark, table = lake.spark, raw_trades.TABLE
    base = snapshots.state(spark, table)
    stamp = base.next_stamp(datetime.now(UTC))
    rows = [(json.dumps(r).encode(), "raw_trades", 0, 19 + number) for number, r in enumerate(records)]
    given = frames.of_rows(spark, rows, "value binary, topic string, partition int, offset bigint")
    last = base.cursor_as(TopicCursor)
    assert last is not None
    cursor = replace(last, following={0: 19 + len(records)}, stamp=stamp)
    commit.append(spark, table, raw_trades.TOPIC.build(given, stamp, 1_000_000), base, cursor)


@pytest.fixture(scope="module")
def grown(upgraded: tuple[Lake, dict[str, Summary]]) -> Iterator[Lake]:
    """The upgraded lakehouse, brought up to the next release and to the one after it, which new trades reach."""
    lake, _ = upgraded
    with later_release(every_kind=True):
        assert migrate(lake) == [NEXT.version, KINDS.version]
        assert [summary.table for summary in run_all(lake) if summary.snapshot_id or summary.notes] == []
        cancelled = {**TRADE, "trade_id": "T2", "trade_type": "SELL", "quantity": 40, "price": 188}
        enter_trades(
            lake,
            {**TRADE, "trade_id": "N1", "timestamp": "2025-01-15T18:00:00Z"},
            {**cancelled, "timestamp": "2025-01-15T16:00:00Z", "status": "CANCELLED"},
        )
        run_all(lake)
        yield lake


def test_old_rows_have_no_value_in_a_new_column_and_new_rows_have_theirs(grown: Lake) -> None:
    assert grown.spark.table("lake.silver.trades").schema == trades.TABLE.schema
    rows = grown.rows("silver.trades", "trade_id", "exchange", "venue", "status")
    assert sorted(tuple(row) for row in rows) == [
        ("N1", "NASDAQ", "XNAS", "EXECUTED"),
        ("T1", "NASDAQ", None, "EXECUTED"),
        ("T10", "NASDAQ", None, "EXECUTED"),
        ("T13", "NASDAQ", None, "EXECUTED"),
        ("T14", "NASDAQ", None, "EXECUTED"),
        ("T15", "NASDAQ", None, "EXECUTED"),
        ("T2", "NASDAQ", None, "CANCELLED"),  # an old row that a new record moved on
        ("T4", "NASDAQ", None, "EXECUTED"),
        ("T5", "NASDAQ", None, "CANCELLED"),
        ("T6", "NASDAQ", None, "CANCELLED"),
        ("T7", "NOHOURS", None, "EXECUTED"),
        ("T8", "BADTZ", None, "EXECUTED"),
    ]
    assert grown.rows("_metadata.notes") == []


def test_old_trades_have_their_settlement_date_by_what_the_exchanges_state_now(grown: Lake) -> None:
    held = grown.rows("dim.dim_exchange", "exchange_code", "settlement_days")
    assert {row["exchange_code"] for row in held if row["settlement_days"] == 1} == {
        "AMEX", "ARCA", "BATS", "IEX", "NASDAQ", "NYSE", "SSE", "TSX",
    }  # fmt: skip
    assert {row["settlement_days"] for row in held if row["exchange_code"] in ("LSE", "TSE", "NOHOURS")} == {None}
    facts = grown.spark.table("lake.gold.fact_trades").selectExpr("trade_id", "CAST(settlement_date AS STRING)")
    assert sorted(tuple(row) for row in facts.collect()) == [
        ("N1", "2025-01-16"),
        ("T1", "2025-01-16"),
        ("T10", "2025-01-16"),
        ("T13", "2025-01-16"),
        ("T14", "2025-01-16"),
        ("T15", "2025-02-04"),
        ("T2", "2025-01-16"),
        ("T4", "2025-01-16"),
        ("T5", "2025-01-16"),
        ("T6", "2025-01-16"),
        ("T7", "2025-01-17"),  # nothing stated: two days, all of them open
        ("T8", "2025-01-17"),
    ]


def test_tables_that_changed_in_every_way_are_written_on_by_their_jobs(grown: Lake) -> None:
    overview = grown.spark.table("lake.gold.market_overview").where("exchange = 'NASDAQ'")
    assert [c for c in overview.columns if c in ("active_traders", "unchanged", "decliners")] == [
        "active_traders", "unchanged", "decliners",
    ]  # fmt: skip
    counted = overview.selectExpr("CAST(overview_date AS STRING)", "active_traders", "unchanged", "total_trades")
    assert sorted(tuple(row) for row in counted.collect()) == [("2025-01-15", 3, 3, 6), ("2025-02-03", 1, 1, 1)]
    files = grown.spark.table("lake.gold.fact_trades.files").select("spec_id").distinct().collect()
    assert sorted(row["spec_id"] for row in files) == [0, 1]


def test_under_a_later_release_every_invariant_holds_and_a_second_run_writes_nothing(grown: Lake) -> None:
    findings = verify.run(grown.spark, grown.settings)
    assert [str(finding) for finding in findings if finding.violations] == []
    assert {"silver.trades", "_metadata.notes"} <= {finding.table for finding in findings}
    before = {table.name: grown.snapshots(table.name) for table in catalog.TABLES}
    assert migrate(grown) == []
    assert [summary.table for summary in run_all(grown) if summary.snapshot_id or summary.notes] == []
    assert {table.name: grown.snapshots(table.name) for table in catalog.TABLES} == before


def test_a_ledger_of_versions_reads_on_as_one_of_operations(grown: Lake) -> None:
    rows = grown.rows("_metadata.schema_migrations", "version", "operation_index", "class", "major")
    first, *later = sorted((tuple(row) for row in rows), key=lambda row: (row[0], row[1] or 0))
    assert first == ("V001", None, None, None)
    operations = {"V002": 1, "V003": 1, "V004": 11, "V005": 3, "V006": 4, "V007": 1, "V008": 3, NEXT.version: 2}
    numbers = [(version, number + 1) for version, count in operations.items() for number in range(count)]
    breaking = (5, 6)  # a name, and a column, that someone may have read
    kinds = [(KINDS.version, n, "breaking" if n in breaking else "additive", 2) for n in range(1, 10)]
    assert later == [*((version, number, "additive", 1) for version, number in numbers), *kinds]
