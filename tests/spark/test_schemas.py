"""The tables in a real catalog, against the seed: every expectation is a literal copied from it."""

import re
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.lake import snapshots

# Sections 2 and 3 of the seed, in its words.
SEED = {
    "bronze.raw_trades": (
        "trade_id string, symbol string, price double, quantity long, trade_type string, order_type string, "
        "trader_id string, exchange string, timestamp timestamp, raw_payload string, _ingested_at timestamp, "
        "_kafka_topic string, _kafka_partition int, _kafka_offset long"
    ),
    "bronze.raw_orderbook": (
        "symbol string, snapshot_time timestamp, bids string, asks string, exchange string, raw_payload string, "
        "_ingested_at timestamp, _kafka_topic string, _kafka_partition int, _kafka_offset long"
    ),
    "bronze.raw_marketdata": (
        "symbol string, tick_time timestamp, open double, high double, low double, close double, volume long, "
        "vwap double, interval string, exchange string, raw_payload string, _ingested_at timestamp, "
        "_kafka_topic string, _kafka_partition int, _kafka_offset long"
    ),
    "silver.trades": (
        "trade_id string, symbol string, price decimal(18,6), quantity long, total_value decimal(18,6), "
        "trade_type string, order_type string, trader_id string, exchange string, trade_timestamp timestamp, "
        "trade_date date, _source_offset long, _processed_at timestamp"
    ),
    "silver.orderbook_snapshots": (
        "snapshot_id string, symbol string, snapshot_time timestamp, best_bid_price decimal(18,6), "
        "best_bid_qty long, best_ask_price decimal(18,6), best_ask_qty long, spread decimal(18,6), "
        "bid_depth_5 long, ask_depth_5 long, exchange string, _processed_at timestamp"
    ),
    "silver.market_data": (
        "market_data_id string, symbol string, tick_time timestamp, interval string, open decimal(18,6), "
        "high decimal(18,6), low decimal(18,6), close decimal(18,6), volume long, vwap decimal(18,6), "
        "trade_count long, exchange string, _processed_at timestamp"
    ),
    "silver.trader_activity": (
        "activity_id string, trader_id string, activity_date date, symbol string, total_buys long, "
        "total_sells long, buy_volume long, sell_volume long, buy_value decimal(18,6), sell_value decimal(18,6), "
        "net_position long, avg_trade_size decimal(18,6), _processed_at timestamp"
    ),
    "gold.daily_trading_summary": (
        "summary_date date, symbol string, company_name string, sector string, exchange string, "
        "open_price decimal(18,6), close_price decimal(18,6), high_price decimal(18,6), low_price decimal(18,6), "
        "vwap decimal(18,6), total_volume long, total_value decimal(18,6), trade_count long, buy_volume long, "
        "sell_volume long, avg_spread decimal(18,6), price_change_pct decimal(10,4), volatility decimal(10,6), "
        "_computed_at timestamp"
    ),
    "gold.trader_performance": (
        "performance_date date, trader_id string, trader_name string, account_type string, risk_category string, "
        "total_trades long, total_volume long, total_notional decimal(18,6), realized_pnl decimal(18,6), "
        "win_rate decimal(5,4), avg_hold_time_sec long, max_drawdown_pct decimal(10,4), "
        "sharpe_ratio decimal(10,6), distinct_symbols int, _computed_at timestamp"
    ),
    "gold.market_overview": (
        "overview_date date, exchange string, total_trades long, total_volume long, total_value decimal(18,6), "
        "active_symbols int, active_traders int, advancers int, decliners int, unchanged int, "
        "avg_spread decimal(18,6), market_volatility_idx decimal(10,6), _computed_at timestamp"
    ),
    "gold.portfolio_positions": (
        "position_date date, trader_id string, account_id string, symbol string, quantity long, "
        "avg_cost_basis decimal(18,6), current_price decimal(18,6), market_value decimal(18,6), "
        "unrealized_pnl decimal(18,6), unrealized_pnl_pct decimal(10,4), weight_pct decimal(10,4), "
        "_computed_at timestamp"
    ),
    "gold.trade_analytics": (
        "analytics_date date, symbol string, sector string, industry string, exchange string, "
        "market_session string, trade_count long, volume long, notional_value decimal(18,6), "
        "avg_trade_size decimal(18,6), buy_sell_ratio decimal(10,4), large_trade_count long, "
        "large_trade_pct decimal(10,4), price_impact_avg decimal(10,6), _computed_at timestamp"
    ),
    "gold.fact_trades": (
        "trade_id string, symbol_key long, trader_key long, time_key long, exchange_key long, "
        "price decimal(18,6), quantity long, total_value decimal(18,6), commission decimal(18,6), "
        "trade_type string, order_type string, status string"
    ),
    "gold.fact_orderbook": (
        "snapshot_id string, symbol_key long, time_key long, bid_price decimal(18,6), ask_price decimal(18,6), "
        "spread decimal(18,6), bid_depth long, ask_depth long, mid_price decimal(18,6)"
    ),
    "dim.dim_symbol": (
        "symbol_key long, symbol string, company_name string, sector string, industry string, "
        "market_cap_category string, listing_exchange string, ipo_date date, effective_date date, "
        "expiry_date date, is_current boolean, _row_hash string"
    ),
    "dim.dim_trader": (
        "trader_key long, trader_id string, name string, account_type string, risk_category string, "
        "trading_tier string, registration_date date, effective_date date, expiry_date date, is_current boolean, "
        "_row_hash string"
    ),
    "dim.dim_exchange": (
        "exchange_key long, exchange_code string, exchange_name string, timezone string, country string, "
        "currency string, market_open_time string, market_close_time string, _updated_at timestamp"
    ),
    "dim.dim_time": (
        "time_key long, full_timestamp timestamp, date date, year int, quarter int, month int, month_name string, "
        "week int, day_of_month int, day_of_week int, day_name string, is_weekend boolean, "
        "is_trading_day boolean, market_session string, hour int, minute int"
    ),
    "dim.dim_account": (
        "account_key long, account_id string, trader_id string, current_tier string, previous_tier string, "
        "tier_change_date date, current_status string, previous_status string, status_change_date date, "
        "account_open_date date, account_type string, _updated_at timestamp"
    ),
}

# Columns that SEMANTICS.md and DESIGN.md add.
ADDED = {
    "bronze.raw_trades": "_raw_bytes binary, _kafka_headers array<struct<key:string,value:binary>>",
    "bronze.raw_orderbook": "_raw_bytes binary, _kafka_headers array<struct<key:string,value:binary>>",
    "bronze.raw_marketdata": "_raw_bytes binary, _kafka_headers array<struct<key:string,value:binary>>",
    "bronze.raw_reference": (
        "dimension string, natural_key string, attributes map<string,string>, effective_date date, sequence long, "
        "is_deleted boolean, source string, raw_payload string, _ingested_at timestamp, _kafka_topic string, "
        "_kafka_partition int, _kafka_offset long, _source_row long"
    ),
    "silver.trades": (
        "account_id string, status string, commission decimal(18,6), _source_topic string, _source_partition int"
    ),
    "silver._rejected_records": (
        "rejected_id string, source_table string, _kafka_topic string, _kafka_partition int, _kafka_offset long, "
        "event_time timestamp, reasons array<string>, raw_payload string, _raw_bytes binary, rules_version string, "
        "status string, attempts int, resolution string, _rejected_at timestamp, _resolved_at timestamp"
    ),
    "gold.fact_trades": "settlement_date date, event_timestamp timestamp, _loaded_at timestamp",
    "gold.fact_orderbook": "snapshot_timestamp timestamp, _loaded_at timestamp",
    "gold._open_lots": (
        "lot_date date, trader_id string, account_id string, symbol string, trade_id string, opened_at timestamp, "
        "side string, price decimal(18,6), quantity long, _computed_at timestamp"
    ),
    "dim.dim_symbol": "is_inferred boolean, _updated_at timestamp",
    "dim.dim_trader": "is_inferred boolean, _updated_at timestamp",
    "dim.dim_exchange": "mic string, settlement_days int",
    "_metadata.surrogate_keys": "table_name string, last_issued_key long, _updated_at timestamp",
    "_metadata.retired_keys": (
        "table_name string, surrogate_key long, natural_key string, effective_date date, _updated_at timestamp"
    ),
    "_metadata.schema_migrations": (
        "version string, description string, checksum string, applied_at timestamp, operation_index int, "
        "operation string, class string, table_name string, seconds double, snapshot_before long, "
        "snapshot_after long, schema_before int, schema_after int, major int"
    ),
    "_metadata.maintenance_log": (
        "run_id string, table_name string, job string, status string, lease_until timestamp, reason string, "
        "planned map<string,bigint>, done map<string,bigint>, detail string, _logged_at timestamp"
    ),
    "_metadata.payload_drift": (
        "topic string, batch string, name string, change string, json_type string, records long, readable long, "
        "upto timestamp, _noted_at timestamp"
    ),
}

# Section 5.2, in Iceberg's words: (partition field, source column, transform).
PARTITIONS = {
    "bronze.raw_trades": [("timestamp_day", "timestamp", "day")],
    "bronze.raw_orderbook": [("snapshot_time_day", "snapshot_time", "day")],
    "bronze.raw_marketdata": [("tick_time_day", "tick_time", "day")],
    "bronze.raw_reference": [
        ("dimension", "dimension", "identity"),
        ("natural_key_bucket", "natural_key", "bucket[8]"),
    ],
    "silver.trades": [("trade_timestamp_day", "trade_timestamp", "day"), ("symbol_bucket", "symbol", "bucket[16]")],
    "silver.orderbook_snapshots": [
        ("snapshot_time_day", "snapshot_time", "day"),
        ("symbol_bucket", "symbol", "bucket[16]"),
    ],
    "silver.market_data": [("tick_time_day", "tick_time", "day"), ("symbol_bucket", "symbol", "bucket[16]")],
    "silver.trader_activity": [
        ("activity_date_day", "activity_date", "day"),
        ("symbol_bucket", "symbol", "bucket[16]"),
    ],
    "gold.fact_trades": [("event_timestamp_day", "event_timestamp", "day")],
    "gold.fact_orderbook": [
        ("snapshot_timestamp_day", "snapshot_timestamp", "day"),
        ("symbol_key_bucket", "symbol_key", "bucket[16]"),
    ],
    "gold.daily_trading_summary": [("summary_date_day", "summary_date", "day")],
    "gold.trader_performance": [("performance_date_day", "performance_date", "day")],
    "gold.market_overview": [("overview_date_day", "overview_date", "day")],
    "gold.portfolio_positions": [("position_date_day", "position_date", "day")],
    "gold._open_lots": [("lot_date_day", "lot_date", "day")],
    "gold.trade_analytics": [("analytics_date_day", "analytics_date", "day")],
    "dim.dim_symbol": [("symbol_bucket", "symbol", "bucket[8]")],
    "dim.dim_trader": [("trader_id_bucket", "trader_id", "bucket[8]")],
    "dim.dim_exchange": [],
    "dim.dim_time": [("date_year", "date", "year")],
    "dim.dim_account": [("account_id_bucket", "account_id", "bucket[8]")],
    "_metadata.surrogate_keys": [],
    "_metadata.retired_keys": [],
    "_metadata.schema_migrations": [],
    "_metadata.payload_drift": [],
    "_metadata.maintenance_log": [("_logged_at_month", "_logged_at", "month")],
}

# Section 6.4, and the change log's own.
SORTED = {
    "bronze.raw_trades": ["symbol ASC", "timestamp ASC"],
    "bronze.raw_reference": ["natural_key ASC"],
    "silver.trades": ["symbol ASC", "trade_timestamp ASC"],
    "gold.fact_trades": ["symbol_key ASC", "time_key ASC"],
    "gold.fact_orderbook": ["symbol_key ASC", "time_key ASC"],
    "gold.daily_trading_summary": ["symbol ASC", "summary_date ASC"],
}

# Section 1.5.
TABLE_DEFAULTS = {
    "write.format.default": "parquet",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.dict-encoding.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
    "commit.retry.num-retries": "4",
    "commit.retry.min-wait-ms": "100",
    "read.split.target-size": "134217728",
}

MERGE_ON_READ = {
    "silver.trades",
    "silver.orderbook_snapshots",
    "silver.market_data",
    "gold.fact_trades",
    "gold.fact_orderbook",
}


def columns(text: str) -> dict[str, str]:
    """Type by name, from "name type, name type"; the seed's long is Spark's bigint."""
    pairs = [column.split(" ") for column in text.split(", ")] if text else []
    return {name: re.sub(r"^long$", "bigint", kind) for name, kind in pairs}


@pytest.fixture(scope="module")
def iceberg(migrated: SparkSession) -> dict[str, Any]:
    """Iceberg's own view of every table, by name."""
    return {table.name: snapshots.load(migrated, table) for table in TABLES}


def test_the_catalog_holds_exactly_the_declared_tables(migrated: SparkSession) -> None:
    found = {
        f"{row['namespace']}.{row['tableName']}"
        for namespace in ("bronze", "silver", "gold", "dim", "_metadata")
        for row in migrated.sql(f"SHOW TABLES IN lake.{namespace}").collect()
    }
    assert found == set(SEED) | set(ADDED)
    assert len(SEED) == 19


def test_every_schema_equals_its_declaration_to_the_last_comment(migrated: SparkSession) -> None:
    for table in TABLES:
        assert migrated.table(table.identifier).schema == table.schema, table.name


def test_every_table_has_the_seeds_columns_in_order_and_the_added_ones(migrated: SparkSession) -> None:
    for name in set(SEED) | set(ADDED):
        found = {field.name: field.dataType.simpleString() for field in migrated.table(f"lake.{name}").schema}
        seed, added = columns(SEED.get(name, "")), columns(ADDED.get(name, ""))
        assert [(column, kind) for column, kind in found.items() if column in seed] == list(seed.items()), name
        assert {column: found.get(column) for column in added} == added, name
        assert [column for column in found if column not in seed | added and not column.startswith("_")] == [], name


def test_every_table_is_partitioned_as_the_seed_says(iceberg: dict[str, Any]) -> None:
    specs = {
        name: [
            (field.name(), table.schema().findColumnName(field.sourceId()), field.transform().toString())
            for field in table.spec().fields()
        ]
        for name, table in iceberg.items()
    }
    rejected = specs.pop("silver._rejected_records")
    assert specs == PARTITIONS
    assert rejected


def test_every_table_is_sorted_as_the_seed_says(iceberg: dict[str, Any]) -> None:
    orders = {
        name: [
            f"{table.schema().findColumnName(field.sourceId())} {field.direction().name()}"
            for field in table.sortOrder().fields()
        ]
        for name, table in iceberg.items()
    }
    assert {name: order for name, order in orders.items() if order} == SORTED


def test_every_table_is_format_version_2_with_the_seeds_properties(iceberg: dict[str, Any]) -> None:
    for name, table in iceberg.items():
        properties = dict(table.properties())
        assert table.operations().current().formatVersion() == 2, name
        assert {key: properties.get(key) for key in TABLE_DEFAULTS} == TABLE_DEFAULTS, name


def test_bucketed_tables_are_distributed_by_partition_and_others_not_at_all(iceberg: dict[str, Any]) -> None:
    modes = {name: dict(table.properties())["write.distribution-mode"] for name, table in iceberg.items()}
    assert {name for name, mode in modes.items() if mode == "hash"} == {
        "bronze.raw_reference",
        "silver.trades",
        "silver.orderbook_snapshots",
        "silver.market_data",
        "silver.trader_activity",
        "gold.fact_orderbook",
        "dim.dim_symbol",
        "dim.dim_trader",
        "dim.dim_account",
    }
    assert set(modes.values()) == {"hash", "none"}


def test_tables_with_scattered_changes_merge_on_read(iceberg: dict[str, Any]) -> None:
    modes = {
        name: {dict(table.properties()).get(f"write.{kind}.mode") for kind in ("delete", "update", "merge")}
        for name, table in iceberg.items()
    }
    assert {name for name, mode in modes.items() if mode == {"merge-on-read"}} == MERGE_ON_READ
    assert {name for name, mode in modes.items() if mode != {None}} == MERGE_ON_READ


def test_every_table_and_column_tells_its_purpose_to_any_engine(iceberg: dict[str, Any]) -> None:
    for name, table in iceberg.items():
        assert dict(table.properties()).get("comment"), name
        assert [field.name() for field in table.schema().columns() if not field.doc()] == [], name
