"""What a later release adds, in lakehouses of before and in new ones: the same tables, whatever crashes or races."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import migrations
from lakehouse_spark.dim import dim_time
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.migrations import baseline, ledger, migrate
from lakehouse_spark.migrations.migration import Migration
from lakehouse_spark.schema.operations import FIRST, AddColumn, ColumnDefinition
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import trades
from tests.support.later_release import NEXT, NOTES, later_release

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
RELEASED = [migration.version for migration in migrations.migrations()]
Sessions = Callable[[], SparkSession]


@pytest.fixture(autouse=True)
def short_years(monkeypatch: pytest.MonkeyPatch) -> None:
    """Years of one minute, to keep the runs short."""
    real = dim_time.minutes_of
    monkeypatch.setattr(dim_time, "minutes_of", lambda year: (real(year)[0], real(year)[0] + 60, 60))


COLUMNS = [
    "trade_id", "symbol", "price", "quantity", "total_value", "trade_type", "order_type", "trader_id", "exchange",
    "venue", "trade_timestamp",
]  # fmt: skip


def recorded(spark: SparkSession) -> list[str]:
    rows = spark.sql("SELECT DISTINCT version FROM lake._metadata.schema_migrations ORDER BY version").collect()
    return [row["version"] for row in rows]


def holds_what_is_declared(spark: SparkSession) -> None:
    assert spark.table("lake.silver.trades").columns[: len(COLUMNS)] == COLUMNS
    for table in (trades.TABLE, NOTES):
        assert spark.table(table.identifier).schema == table.schema
        head = snapshots.at(spark, table, snapshots.state(spark, table).snapshot_id)
        assert head.schema == table.schema, "rows as of the current snapshot"
    notes = snapshots.load(spark, NOTES)
    assert [part.transform().toString() for part in notes.spec().fields()] == ["day"]
    assert [part.direction().name() for part in notes.sortOrder().fields()] == ["ASC"]
    held = {name: notes.properties().get(name) for name in ("commit.retry.num-retries", "write.distribution-mode")}
    assert held == {"commit.retry.num-retries": "9", "write.distribution-mode": "range"}
    assert recorded(spark) == [*RELEASED, NEXT.version]


def test_a_new_lakehouse_of_a_later_release_is_made_as_declared_and_recorded_with_all_versions(
    sessions: Sessions,
) -> None:
    spark = sessions()
    with later_release():
        assert [migration.version for migration in migrate(spark, Settings(), NOW)] == [*RELEASED, NEXT.version]
        holds_what_is_declared(spark)
        assert spark.table("lake.silver.trades.snapshots").count() == 1  # made so, not altered


def test_a_start_that_an_earlier_release_did_not_finish_is_completed_by_a_later_one(sessions: Sessions) -> None:
    spark = sessions()
    baseline.create_tables(spark)
    with later_release():
        assert [migration.version for migration in migrate(spark, Settings(), NOW)] == [*RELEASED, NEXT.version]
        holds_what_is_declared(spark)


class Crash(BaseException):
    """What a kill leaves behind: nothing handles it."""


def test_what_a_crash_left_of_a_migration_is_completed_and_nothing_is_done_twice(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark = sessions()
    migrate(spark, Settings(), NOW)

    def crash(*_: Any) -> None:
        raise Crash

    with later_release():
        for module, step in ((commit, "adopt_schema"), (commit, "open_table"), (ledger, "record")):
            with monkeypatch.context() as patch:
                patch.setattr(module, step, crash)
                with pytest.raises(Crash):
                    migrate(spark, Settings(), NOW)
        rows = spark.sql(
            f"SELECT operation_index FROM lake._metadata.schema_migrations WHERE version = '{NEXT.version}'"
        )
        assert [tuple(row) for row in rows.collect()] == [(1,)]
        assert [migration.version for migration in migrate(spark, Settings(), NOW)] == [NEXT.version]
        holds_what_is_declared(spark)
        assert spark.table("lake.silver.trades.snapshots").count() == 2
        before = [snapshots.load(spark, table).currentSnapshot().snapshotId() for table in (trades.TABLE, NOTES)]
        assert migrate(spark, Settings(), NOW) == []
        migrations.apply(spark, migrations.migrations()[-1].operations)
        after = [snapshots.load(spark, table).currentSnapshot().snapshotId() for table in (trades.TABLE, NOTES)]
        assert after == before


def test_runners_at_once_add_a_column_once(sessions: Sessions) -> None:
    migrate(sessions(), Settings(), NOW)
    together = Barrier(3)

    def run(spark: SparkSession) -> list[Migration]:
        together.wait(60)
        return migrate(spark, Settings(), NOW)

    with later_release():
        with ThreadPoolExecutor(3) as pool:
            runs = list(pool.map(run, [sessions() for _ in range(3)]))
        assert [migration.version for run in runs for migration in run] == [NEXT.version]
        holds_what_is_declared(sessions())


def test_a_column_stands_before_all_others_or_after_them_as_its_operation_says(sessions: Sessions) -> None:
    spark = sessions()
    baseline.create_tables(spark)
    cursor = Cursor(stamp=datetime(2025, 5, 1, tzinfo=UTC), notes={"to": "x"})
    commit.advance(spark, trades.TABLE, snapshots.state(spark, trades.TABLE), cursor)
    first = AddColumn("silver.trades", ColumnDefinition("leading", "decimal(18,6)", "It's first"), after=FIRST)
    last = AddColumn("silver.trades", ColumnDefinition("trailing", "array<string>", "Last"))
    migrations.apply(spark, [first, last, first])
    found = spark.table("lake.silver.trades").schema.fields
    ends = [(f.name, f.dataType.simpleString(), f.metadata["comment"], f.nullable) for f in (found[0], found[-1])]
    assert ends == [("leading", "decimal(18,6)", "It's first", True), ("trailing", "array<string>", "Last", True)]
    state = snapshots.state(spark, trades.TABLE)
    assert state.cursor == replace(cursor, rules=2)
    assert snapshots.load(spark, trades.TABLE).currentSnapshot().summary()["lakehouse.cursor"]  # handed on, not lost
