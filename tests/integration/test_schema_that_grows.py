"""A lakehouse of earlier code under a later release that adds a column and a table, and one more that changes tables in
every other way: jobs go on without a rebuild, and old rows are as they were."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import catalog, migrations, verify
from lakehouse_spark.bronze import raw_trades
from lakehouse_spark.jobs import dimension_loader, fact_loader, gold_aggregator, silver_processor
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.settings import KafkaSettings, Settings
from lakehouse_spark.silver import trades
from tests.support.lake import TRADE, Lake
from tests.support.lakehouses import unpack
from tests.support.later_release import KINDS, NEXT, later_release


def run_all(lake: Lake) -> list[Summary]:
    return [
        *dimension_loader.run(lake.spark),
        *silver_processor.run(lake.spark, lake.settings),
        *fact_loader.run(lake.spark, lake.settings),
        *gold_aggregator.run(lake.spark, lake.settings),
    ]


def enter_trades(lake: Lake, *records: dict[str, Any]) -> None:
    """What bronze_writer would commit of these records, which follow the nineteen there are."""
    spark, table = lake.spark, raw_trades.TABLE
    base = snapshots.state(spark, table)
    stamp = base.next_stamp(datetime.now(UTC))
    rows = [(json.dumps(r).encode(), "raw_trades", 0, 19 + number) for number, r in enumerate(records)]
    given = spark.createDataFrame(rows, "value binary, topic string, partition int, offset bigint")
    last = base.cursor_as(TopicCursor)
    assert last is not None
    cursor = replace(last, following={0: 19 + len(records)}, stamp=stamp)
    commit.append(spark, table, raw_trades.TOPIC.build(given, stamp, 1_000_000), base, cursor)


@pytest.fixture(scope="module")
def grown(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """The lakehouse of 7e782d6, brought up to this release and then to the next, which new trades reach."""
    home: Path = tmp_path_factory.mktemp("grown") / "home"
    unpack("7e782d6", home)
    settings = Settings(home=home, kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    own = spark.newSession()
    own.conf.set("spark.sql.catalog.lake.uri", settings.catalog_uri)
    own.conf.set("spark.sql.catalog.lake.warehouse", settings.warehouse)
    lake = Lake(own, settings)
    done = [m.version for m in migrations.migrate(own, settings, datetime.now(UTC))]
    assert done == ["V002", "V003", "V004", "V005", "V006", "V007"]
    run_all(lake)
    with later_release(every_kind=True):
        done = [m.version for m in migrations.migrate(own, settings, datetime.now(UTC))]
        assert done == [NEXT.version, KINDS.version]
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


def test_every_invariant_holds_and_a_second_run_writes_nothing(grown: Lake) -> None:
    findings = verify.run(grown.spark, grown.settings)
    assert [str(finding) for finding in findings if finding.violations] == []
    assert {"silver.trades", "_metadata.notes"} <= {finding.table for finding in findings}
    before = {table.name: grown.snapshots(table.name) for table in catalog.TABLES}
    assert migrations.migrate(grown.spark, grown.settings, datetime.now(UTC)) == []
    assert [summary.table for summary in run_all(grown) if summary.snapshot_id or summary.notes] == []
    assert {table.name: grown.snapshots(table.name) for table in catalog.TABLES} == before


def test_a_ledger_of_versions_reads_on_as_one_of_operations(grown: Lake) -> None:
    rows = grown.rows("_metadata.schema_migrations", "version", "operation_index", "class", "major")
    first, *later = sorted((tuple(row) for row in rows), key=lambda row: (row[0], row[1] or 0))
    assert first == ("V001", None, None, None)
    operations = {"V002": 1, "V003": 1, "V004": 11, "V005": 3, "V006": 4, "V007": 1, NEXT.version: 2}
    numbers = [(version, number + 1) for version, count in operations.items() for number in range(count)]
    breaking = (5, 6)  # a name, and a column, that someone may have read
    kinds = [(KINDS.version, n, "breaking" if n in breaking else "additive", 2) for n in range(1, 10)]
    assert later == [*((version, number, "additive", 1) for version, number in numbers), *kinds]
