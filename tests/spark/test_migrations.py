"""Migrations: applied once each, whatever crashes or runs at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import pytest
from pyspark.sql import DataFrameWriterV2, SparkSession

from lakehouse_spark import commit, ddl, migrations
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.dim import dim_time
from lakehouse_spark.errors import RefusedError
from lakehouse_spark.migrations import Migration, migrate, pending
from lakehouse_spark.settings import DimTimeSettings, Settings

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
Sessions = Callable[[], SparkSession]


@pytest.fixture
def short_years(monkeypatch: pytest.MonkeyPatch) -> None:
    """Years of one day, to keep the runs short."""
    real = dim_time.minutes_of

    def first_day(year: int) -> tuple[int, int, int]:
        start, _, step = real(year)
        return start, start + 24 * 60 * 60, step

    monkeypatch.setattr(dim_time, "minutes_of", first_day)


def recorded(spark: SparkSession) -> list[tuple[str, str, str]]:
    """(version, description, applied at) in order."""
    rows = spark.sql(
        "SELECT version, description, CAST(applied_at AS STRING) FROM lake._metadata.schema_migrations ORDER BY version"
    )
    return [tuple(row) for row in rows.collect()]


def rows_per_year(spark: SparkSession) -> list[tuple[int, int, int]]:
    """(year, rows, distinct keys) of dim_time."""
    found = spark.sql("SELECT year, COUNT(*), COUNT(DISTINCT time_key) FROM lake.dim.dim_time GROUP BY 1 ORDER BY 1")
    return [tuple(row) for row in found.collect()]


def exchanges(spark: SparkSession) -> list[tuple[int, str]]:
    rows = spark.sql("SELECT exchange_key, exchange_code FROM lake.dim.dim_exchange ORDER BY exchange_key").collect()
    return [tuple(row) for row in rows]


def metadata(spark: SparkSession) -> dict[str, str]:
    """The metadata file each table stands at: any commit moves it."""
    return {
        table.name: str(commit.load(spark, table).operations().current().metadataFileLocation()) for table in TABLES
    }


EXCHANGES = [
    (1, "AMEX"),
    (2, "ARCA"),
    (3, "ASX"),
    (4, "BATS"),
    (5, "EURONEXT"),
    (6, "HKEX"),
    (7, "IEX"),
    (8, "KRX"),
    (9, "LSE"),
    (10, "NASDAQ"),
    (11, "NYSE"),
    (12, "SGX"),
    (13, "SIX"),
    (14, "SSE"),
    (15, "TSE"),
    (16, "TSX"),
    (17, "XETRA"),
]


def test_a_migrated_lakehouse_holds_the_exchanges_last_year_and_this_one(migrated: SparkSession) -> None:
    assert recorded(migrated) == [("V001", "initial schema", "2025-06-01 12:00:00")]
    assert exchanges(migrated) == EXCHANGES
    assert rows_per_year(migrated) == [(2024, 366 * 1440, 366 * 1440), (2025, 365 * 1440, 365 * 1440)]


@pytest.mark.usefixtures("short_years")
def test_a_lakehouse_starts_with_the_years_that_the_settings_name(sessions: Sessions) -> None:
    spark = sessions()
    migrate(spark, Settings(dim_time=DimTimeSettings(years=(1999, 2030))), NOW)
    assert rows_per_year(spark) == [(1999, 1440, 1440), (2030, 1440, 1440)]


def test_every_table_starts_with_a_snapshot_to_build_on(migrated: SparkSession) -> None:
    counts = {table.name: migrated.table(f"{table.identifier}.snapshots").count() for table in TABLES}
    filled = {
        "_metadata.schema_migrations": 2, "dim.dim_exchange": 2, "dim.dim_time": 3, "bronze.raw_reference": 2,
        "_metadata.surrogate_keys": 2,
    }  # fmt: skip
    assert counts == {table.name: filled.get(table.name, 1) for table in TABLES}


def test_migrating_again_or_running_the_ddl_again_writes_nothing(migrated: SparkSession) -> None:
    before = metadata(migrated)
    assert migrate(migrated, Settings(), NOW) == []
    (initial,) = migrations.migrations()
    initial.apply(migrated, Settings(), NOW)
    for table in TABLES:
        for statement in ddl.create_table(table):
            migrated.sql(statement)
    assert metadata(migrated) == before


def test_asking_what_is_pending_creates_nothing(sessions: Sessions) -> None:
    spark = sessions()
    assert [migration.version for migration in pending(spark)] == ["V001"]
    assert spark.sql("SHOW NAMESPACES IN lake").collect() == []


def test_an_edited_migration_is_refused(migrated: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    (initial,) = migrations.migrations()
    monkeypatch.setattr(migrations, "migrations", lambda: [replace(initial, checksum="0" * 64)])
    for ask in (lambda: pending(migrated), lambda: migrate(migrated, Settings(), NOW)):
        with pytest.raises(RefusedError, match=r"V001 was edited after it was applied here .* as a new migration"):
            ask()


@pytest.mark.usefixtures("short_years")
def test_a_later_migration_is_applied_alone_and_an_older_release_is_refused(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark = sessions()
    calls: list[str] = []
    first = Migration("V001", "first", "a", lambda *_: calls.append("V001"))
    second = Migration("V002", "second", "b", lambda *_: calls.append("V002"))
    monkeypatch.setattr(migrations, "migrations", lambda: [first])
    assert migrate(spark, Settings(), NOW) == [first]
    monkeypatch.setattr(migrations, "migrations", lambda: [first, second])
    assert pending(spark) == [second]
    assert migrate(spark, Settings(), NOW) == [second]
    assert calls == ["V001", "V002"]
    assert recorded(spark) == [
        ("V001", "first", "2025-06-01 12:00:00"),
        ("V002", "second", "2025-06-01 12:00:00.000001"),  # the clock stood still, the stamp did not
    ]
    monkeypatch.setattr(migrations, "migrations", lambda: [first])
    with pytest.raises(RefusedError, match=r"V002 was applied here and is unknown to this release \(newest: V001\)"):
        pending(spark)


class Crash(BaseException):
    """What a kill leaves behind: nothing handles it."""


class Countdown:
    """Lets `steps` of the wrapped functions complete, the last of them with a crash."""

    def __init__(self) -> None:
        self.steps = -1

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            self.steps -= 1
            if self.steps == 0:
                raise Crash
            return result

        return counted


@pytest.fixture
def any_step(monkeypatch: pytest.MonkeyPatch) -> Countdown:
    """Counts every statement and first snapshot."""
    countdown = Countdown()
    monkeypatch.setattr(SparkSession, "sql", countdown.wrap(SparkSession.sql))
    monkeypatch.setattr(commit, "open_table", countdown.wrap(commit.open_table))
    return countdown


@pytest.fixture
def any_write(monkeypatch: pytest.MonkeyPatch) -> Countdown:
    """Counts every commit of rows."""
    countdown = Countdown()
    monkeypatch.setattr(DataFrameWriterV2, "overwrite", countdown.wrap(DataFrameWriterV2.overwrite))
    monkeypatch.setattr(commit, "append", countdown.wrap(commit.append))
    return countdown


@pytest.mark.usefixtures("short_years")
def test_a_crash_after_any_step_is_completed_by_the_next_run(
    sessions: Sessions, any_step: Countdown, any_write: Countdown
) -> None:
    spark = sessions()
    for steps in (1, 2, 3, 5, 11, 12, 13, 40):
        any_step.steps = steps
        with pytest.raises(Crash):
            migrate(spark, Settings(), NOW)
    any_step.steps = -1
    for _ in ("the change log", "their keys", "exchanges", "2024", "2025", "the record"):
        any_write.steps = 1
        with pytest.raises(Crash):
            migrate(spark, Settings(), NOW)
    any_write.steps = -1
    assert migrate(spark, Settings(), NOW) == []
    assert recorded(spark) == [("V001", "initial schema", "2025-06-01 12:00:00")]
    assert [code for _, code in exchanges(spark)] == [code for _, code in EXCHANGES]  # keys are never used twice
    assert rows_per_year(spark) == [(2024, 1440, 1440), (2025, 1440, 1440)]
    empty = [table.name for table in TABLES if commit.load(spark, table).currentSnapshot() is None]
    assert empty == []


@pytest.mark.usefixtures("short_years")
def test_runners_at_once_leave_one_row_per_version(sessions: Sessions) -> None:
    together = Barrier(3)

    def run(spark: SparkSession) -> list[Migration]:
        together.wait(60)
        return migrate(spark, Settings(), NOW)

    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(run, [sessions() for _ in range(3)]))
    assert [migration.version for run in runs for migration in run] == ["V001"]
    spark = sessions()
    assert recorded(spark) == [("V001", "initial schema", "2025-06-01 12:00:00")]
    assert exchanges(spark) == EXCHANGES
    assert rows_per_year(spark) == [(2024, 1440, 1440), (2025, 1440, 1440)]
