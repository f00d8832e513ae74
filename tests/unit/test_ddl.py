"""DDL texts: pure functions of declarations."""

from pathlib import Path
from typing import Any

import pytest

from lakehouse_spark.schema import ddl
from lakehouse_spark.schema.operations import (
    AddColumn,
    ChangePartitioning,
    ColumnDefinition,
    CommentColumn,
    DropColumn,
    RenameColumn,
)
from lakehouse_spark.table import Policy, Table, column
from lakehouse_spark.types import INSTANT, LONG, PRICE, TEXT, TEXTS

COMMITTED = Path(__file__).parents[2] / "infra" / "ddl"


def declared(**changes: Any) -> Table:
    arguments: dict[str, Any] = {
        "name": "silver.bars",
        "doc": "Bars, a trader's view.",
        "columns": (
            column("timestamp", INSTANT, "When (UTC)"),
            column("interval", TEXT, r"Either '1m' or a \ backslash"),
            column("open", PRICE, "Open price"),
            column("tags", TEXTS, "Tags"),
            column("days", LONG, "Age in days"),
        ),
        "key": ("timestamp",),
        "policy": Policy(snapshot_days=7),
    }
    return Table(**(arguments | changes))


def test_a_table_becomes_one_statement_with_quoted_names_and_escaped_comments() -> None:
    assert ddl.create_table(declared()) == [
        r"""CREATE TABLE IF NOT EXISTS lake.silver.bars (
  `timestamp` timestamp COMMENT 'When (UTC)',
  `interval` string COMMENT 'Either \'1m\' or a \\ backslash',
  `open` decimal(18,6) COMMENT 'Open price',
  `tags` array<string> COMMENT 'Tags',
  `days` bigint COMMENT 'Age in days'
)
USING iceberg
COMMENT 'Bars, a trader\'s view.'
TBLPROPERTIES (
  'format-version' = '2',
  'write.format.default' = 'parquet',
  'write.parquet.compression-codec' = 'zstd',
  'write.parquet.dict-encoding.enabled' = 'true',
  'write.metadata.delete-after-commit.enabled' = 'true',
  'write.metadata.previous-versions-max' = '10',
  'commit.retry.num-retries' = '4',
  'commit.retry.min-wait-ms' = '100',
  'read.split.target-size' = '134217728',
  'write.distribution-mode' = 'none'
)"""
    ]


def test_partition_transforms_quote_their_column_and_nothing_else() -> None:
    table = declared(partitioned_by=("days(timestamp)", "bucket(16, days)", "truncate(4, interval)", "open"))
    assert (
        "PARTITIONED BY (days(`timestamp`), bucket(16, `days`), truncate(4, `interval`), `open`)\n"
        in (ddl.create_table(table)[0])
    )


def test_a_tables_own_properties_win_over_the_defaults() -> None:
    text = ddl.create_table(declared(properties={"commit.retry.num-retries": "9"}))[0]
    assert "'commit.retry.num-retries' = '9'" in text
    assert "'commit.retry.num-retries' = '4'" not in text


@pytest.mark.parametrize(
    ("distribution", "clause"),
    [
        ("none", "WRITE LOCALLY ORDERED BY `interval`, `timestamp`"),
        ("hash", "WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY `interval`, `timestamp`"),
        ("range", "WRITE ORDERED BY `interval`, `timestamp`"),
    ],
)
def test_a_sort_order_is_set_in_the_words_of_the_tables_distribution(distribution: str, clause: str) -> None:
    table = declared(sorted_by=("interval", "timestamp"), distribution=distribution)
    create, alter = ddl.create_table(table)
    assert f"'write.distribution-mode' = '{distribution}'" in create
    assert alter == f"ALTER TABLE lake.silver.bars {clause}"


def test_no_comment_of_an_altered_table_reads_like_a_command_of_icebergs_own() -> None:
    """Iceberg's parser would take an ALTER TABLE with one of these words anywhere, in quotes or not, for its own."""
    comment = CommentColumn("silver.bars", "open", "", "It's: drop tag, WRITE\nordered by, Add `partition field`; add")
    assert ddl.statements(comment) == [
        r"ALTER TABLE lake.silver.bars ALTER COLUMN `open` COMMENT 'It\'s: drop \u0074ag, WRITE"
        "\n"
        r"\u006frdered by, Add `\u0070artition field`; add'"
    ]
    assert ddl.statements(ChangePartitioning("silver.bars", added=("open",))) == [
        "ALTER TABLE lake.silver.bars ADD PARTITION FIELD `open`"
    ]


def test_a_view_has_the_columns_and_names_of_before() -> None:
    operations = (
        RenameColumn("silver.bars", "open", "first"),
        RenameColumn("silver.trades", "days", "age"),
        AddColumn("silver.bars", ColumnDefinition("open", "boolean", "Whether it goes on")),
        DropColumn("silver.bars", "tags"),
        RenameColumn("silver.bars", "first", "opened"),
    )
    assert ddl.view_of_before("silver.bars_v1", "silver.bars", ["timestamp", "opened", "days", "open"], operations) == (
        "CREATE OR REPLACE VIEW lake.silver.bars_v1 AS SELECT `timestamp` AS `timestamp`, `opened` AS `open`, "
        "`days` AS `days` FROM lake.silver.bars"
    )


def test_namespaces_come_as_one_statement_each() -> None:
    assert ddl.create_namespaces() == [
        "CREATE NAMESPACE IF NOT EXISTS lake.bronze",
        "CREATE NAMESPACE IF NOT EXISTS lake.silver",
        "CREATE NAMESPACE IF NOT EXISTS lake.gold",
        "CREATE NAMESPACE IF NOT EXISTS lake.dim",
        "CREATE NAMESPACE IF NOT EXISTS lake._metadata",
    ]


def test_every_table_is_created_by_exactly_one_script() -> None:
    created = {
        name: [line.split()[5].removeprefix("lake.") for line in text.splitlines() if line.startswith("CREATE TABLE")]
        for name, text in ddl.scripts().items()
    }
    assert created == {
        "01_create_namespaces.sql": [],
        "02_bronze_tables.sql": [
            "bronze.raw_trades",
            "bronze.raw_orderbook",
            "bronze.raw_marketdata",
            "bronze.raw_reference",
        ],
        "03_silver_tables.sql": [
            "silver.trades",
            "silver.orderbook_snapshots",
            "silver.market_data",
            "silver.trader_activity",
            "silver._rejected_records",
        ],
        "04_gold_tables.sql": [
            "gold.daily_trading_summary",
            "gold._open_lots",
            "gold.trader_performance",
            "gold.market_overview",
            "gold.portfolio_positions",
            "gold.trade_analytics",
        ],
        "05_fact_tables.sql": ["gold.fact_trades", "gold.fact_orderbook"],
        "06_dimension_tables.sql": [
            "_metadata.schema_migrations",
            "_metadata.maintenance_log",
            "_metadata.payload_drift",
            "_metadata.surrogate_keys",
            "_metadata.retired_keys",
            "dim.dim_exchange",
            "dim.dim_symbol",
            "dim.dim_trader",
            "dim.dim_account",
            "dim.dim_time",
        ],
    }


def test_the_committed_scripts_regenerate_identically(tmp_path: Path) -> None:
    ddl.main(str(tmp_path))
    generated = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()}
    committed = {file.name: file.read_text(encoding="utf-8") for file in COMMITTED.iterdir()}
    assert committed == generated, "run: python -m lakehouse_spark.ddl infra/ddl"
