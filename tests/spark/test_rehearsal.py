"""Migrations rehearsed on a copy of the metadata of a lakehouse that an earlier release wrote; it stays as it was."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import migrations
from lakehouse_spark.iceberg import copies
from lakehouse_spark.local import rehearsal
from lakehouse_spark.local.rehearsal import Outcome
from lakehouse_spark.migrations.migration import Migration, Step
from lakehouse_spark.schema.operations import ColumnDefinition, CreateTable
from lakehouse_spark.settings import Settings
from tests.support.lakehouses import connect, unpack

pytestmark = pytest.mark.soak  # all jobs and all invariants, once: how a copy is staged, the unit tests say

NOTES = CreateTable("_metadata.notes", "Notes.", (ColumnDefinition("note", "string", "Its text"),))


def begin_a_year(spark: SparkSession) -> None:
    spark.sql("INSERT INTO lake.dim.dim_time (date) VALUES (DATE '2030-01-01')")


def state(home: Path) -> tuple[dict[str, tuple[int, int]], list[tuple[str, ...]]]:
    """Every file of a lakehouse with its size and when it was written, and where its tables' metadata stand."""
    files = {str(f): (f.stat().st_size, f.stat().st_mtime_ns) for f in (home / "warehouse").rglob("*") if f.is_file()}
    with closing(sqlite3.connect(home / "catalog.db")) as catalog:
        return files, sorted(catalog.execute("SELECT * FROM iceberg_tables"))


class Rehearsed:
    def __init__(self, home: Path, folder: Path, spark: SparkSession) -> None:
        self.home, self.before = home, state(home)
        staged = copies.stage(Settings(home=home), folder)
        self.told: list[str] = []
        own = connect(spark, folder)
        self.outcome: Outcome = rehearsal.run(own, staged, report=lambda done: self.told.append(str(done)))
        files = own.table("lake.silver.trades.files").select("file_path").collect()
        self.trades_in = {str(row["file_path"]).partition("/warehouse/")[0] for row in files}
        self.notes = own.catalog.tableExists("lake._metadata.notes")


@pytest.fixture(scope="module")
def rehearsed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsed]:
    """The released lakehouse brought to this release and a later one, which makes a table and begins a year."""
    home: Path = tmp_path_factory.mktemp("real") / "home"
    unpack("7e782d6", home)
    released = migrations.migrations()
    later = Migration("V099", "notes, and a year", (NOTES, Step("begin a year", begin_a_year)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "migrations", lambda: [*released, later])
        yield Rehearsed(home, tmp_path_factory.mktemp("rehearsal"), spark)


def test_the_lakehouse_stays_as_it_was(rehearsed: Rehearsed) -> None:
    assert state(rehearsed.home) == rehearsed.before


def test_what_is_pending_was_applied_to_the_copy_which_reads_the_old_files(rehearsed: Rehearsed) -> None:
    assert [m.version for m in rehearsed.outcome.applied] == [
        "V002", "V003", "V004", "V005", "V006", "V007", "V008", "V099",
    ]  # fmt: skip
    assert rehearsed.notes
    assert f"file:{rehearsed.home}" in {place.replace("file://", "file:") for place in rehearsed.trades_in}


def test_verify_finds_what_a_migration_broke(rehearsed: Rehearsed) -> None:
    assert not rehearsed.outcome.holds
    broken = [finding for finding in rehearsed.outcome.findings if finding.violations]
    assert [(f.table, f.check, f.violations) for f in broken] == [("dim.dim_time", "1,440 minutes a day", 365)]


def test_the_jobs_ran_over_what_bronze_holds(rehearsed: Rehearsed) -> None:
    assert {summary.table for summary in rehearsed.outcome.summaries} >= {
        "dim.dim_symbol", "silver.trades", "gold.fact_trades", "gold.daily_trading_summary",
    }  # fmt: skip
    assert any("gold.fact_trades" in told for told in rehearsed.told)
