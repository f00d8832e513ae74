"""What is told of tables without Spark is what Spark finds in them."""

from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.catalog import BY_NAME, TABLES
from lakehouse_spark.iceberg import inventory
from lakehouse_spark.iceberg.inventory import TableState
from lakehouse_spark.lake import commit
from lakehouse_spark.lake.cursor import Consumed, UpstreamsCursor
from tests.support.lake import NOON, Lake, arrive, enter_exchanges, trade

BRONZE, SILVER, FACTS = "bronze.raw_trades", "silver.trades", "gold.fact_trades"


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    """Three trades of a day in silver, one of which was cancelled since; a fourth in bronze that nobody judged."""
    made = Lake.new(spark, "127.0.0.1:9", tmp_path / "home", [each.name for each in TABLES])
    enter_exchanges(made.spark)
    arrive(made, *(trade(trade_id=f"T{number}") for number in (1, 2, 3)), b"{")
    made.silver("trades")
    arrive(made, trade(trade_id="T1", status="CANCELLED"), at=NOON + timedelta(minutes=1))
    made.silver("trades")
    arrive(made, trade(trade_id="T4"), at=NOON + timedelta(minutes=2))
    return made


def told(lake: Lake) -> dict[str, TableState]:
    """What is told of each table, once it is known to be what Spark says."""
    found = inventory.read(lake.settings)
    assert found.absent == []
    for table in TABLES:
        state, rows = found.tables[table.name], lake.spark.table(table.identifier).count()
        assert state.rows == rows if state.is_exact else state.rows >= rows, table.name
        assert state.snapshots == lake.snapshots(table.name), table.name
        if table.stamp:
            assert found.states[table.name] == lake.state(table.name), table.name
    return dict(found.tables)


def lags(state: TableState) -> list[tuple[str, int | None, bool]]:
    return [(lag.upstream, lag.rows, lag.is_exact) for lag in state.lags]


def test_tables_with_deletes_and_lag_are_told_exactly(lake: Lake) -> None:
    tables = told(lake)
    silver = tables[SILVER]
    assert (silver.rows, silver.data_files, silver.delete_files, silver.is_exact) == (3, 2, 1, True)
    assert lags(silver) == [(BRONZE, 1, True)]
    assert lags(tables[FACTS]) == [(SILVER, 3, True)]
    assert (tables["silver._rejected_records"].rows, tables[FACTS].rows, tables[FACTS].follows) == (1, 0, True)


def test_rows_that_a_compaction_mixed_with_older_ones_are_counted_by_their_stamps(lake: Lake) -> None:
    first = lake.spark.sql("SELECT min(_processed_at) AS stamp FROM lake.silver.trades").collect()[0]["stamp"]
    facts = BY_NAME[FACTS]
    cursor = UpstreamsCursor(stamp=lake.state(FACTS).next_stamp(NOON), upto={SILVER: Consumed(first.astimezone())})
    commit.append(lake.spark, facts, lake.spark.createDataFrame([], facts.schema), lake.state(FACTS), cursor)
    assert lags(told(lake)[FACTS]) == [(SILVER, 1, True)]

    lake.expire(SILVER, BRONZE)
    tables = told(lake)
    assert (tables[SILVER].data_files, tables[BRONZE].data_files) == (1, 2)  # a record without a time is by itself
    assert lags(tables[FACTS]) == [(SILVER, 1, True)]
    assert inventory.read(lake.settings).states[BRONZE].is_lost


def test_deletes_in_several_files_at_once_make_a_count_an_upper_bound(lake: Lake) -> None:
    lake.spark.sql("ALTER TABLE lake.silver.trades SET TBLPROPERTIES ('write.delete.granularity' = 'partition')")
    lake.spark.sql("DELETE FROM lake.silver.trades WHERE trade_id IN ('T1', 'T2')")
    found = told(lake)
    assert (found[SILVER].rows, found[SILVER].is_exact) == (3, False)
    assert lags(found[FACTS]) == [(SILVER, 3, False)]
