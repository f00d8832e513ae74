"""Migrations: applied once each, whatever crashes or runs at the same time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from threading import Barrier
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse_spark import migrations
from lakehouse_spark.bronze import raw_reference
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.dim import dim_exchange, dim_time, dim_trader
from lakehouse_spark.errors import RefusedError
from lakehouse_spark.lake import change_log, commit, dimension_members, frames, snapshots
from lakehouse_spark.lake.cursor import Cursor, TopicCursor, UpstreamCursor
from lakehouse_spark.migrations import baseline, ledger, migrate, pending
from lakehouse_spark.migrations.migration import Migration, Step
from lakehouse_spark.schema import ddl
from lakehouse_spark.schema.operations import AddColumn, ColumnDefinition
from lakehouse_spark.settings import DimTimeSettings, Settings
from lakehouse_spark.silver import rejected_records
from tests.support.lake import compiled

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
    with compiled(spark):
        return [tuple(row) for row in found.collect()]


def exchanges(spark: SparkSession) -> list[tuple[int, str]]:
    rows = spark.sql("SELECT exchange_key, exchange_code FROM lake.dim.dim_exchange ORDER BY exchange_key").collect()
    return [tuple(row) for row in rows]


def metadata(spark: SparkSession) -> dict[str, str]:
    """The metadata file each table stands at: any commit moves it."""
    return {
        table.name: str(snapshots.load(spark, table).operations().current().metadataFileLocation()) for table in TABLES
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


VERSIONS = [
    ("V001", "initial schema", "2025-06-01 12:00:00"),
    ("V002", "repair text of the change log", "2025-06-01 12:00:00"),
    ("V003", "log of maintenance", "2025-06-01 12:00:00"),
    ("V004", "ledger by operation", "2025-06-01 12:00:00"),
    ("V005", "settlement date", "2025-06-01 12:00:00"),
    ("V006", "control tables described anew", "2025-06-01 12:00:00"),
    ("V007", "payload drift", "2025-06-01 12:00:00"),
    ("V008", "kafka headers", "2025-06-01 12:00:00"),
]
RELEASED = ["V001", "V002", "V003", "V004", "V005", "V006", "V007", "V008"]


def test_a_migrated_lakehouse_holds_the_exchanges_last_year_and_this_one(migrated: SparkSession) -> None:
    assert recorded(migrated) == VERSIONS
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
        "_metadata.schema_migrations": 2, "dim.dim_exchange": 2, "dim.dim_time": 2, "bronze.raw_reference": 2,
        "_metadata.surrogate_keys": 2,
    }  # fmt: skip
    assert counts == {table.name: filled.get(table.name, 1) for table in TABLES}


def test_pyiceberg_reads_every_table_of_a_new_lakehouse(migrated: SparkSession) -> None:
    uri = migrated.conf.get("spark.sql.catalog.lake.uri") or ""
    catalog = SqlCatalog("lake", uri=uri.removeprefix("jdbc:").partition("?")[0].replace("sqlite:/", "sqlite:////", 1))
    rows = {table.name: catalog.load_table(table.name).scan().to_arrow() for table in TABLES}
    filled = {name: found.num_rows for name, found in rows.items() if found.num_rows}
    assert filled == {
        "_metadata.schema_migrations": 8, "_metadata.surrogate_keys": 1, "bronze.raw_reference": 17,
        "dim.dim_exchange": 17, "dim.dim_time": 731 * 1440,
    }  # fmt: skip
    for found in rows.values():
        found.validate(full=True)


def test_migrating_again_or_running_the_ddl_again_writes_nothing(migrated: SparkSession) -> None:
    before = metadata(migrated)
    assert migrate(migrated, Settings(), NOW) == []
    for migration in migrations.migrations():
        migrations.apply(migrated, migration.operations)
    baseline.create_tables(migrated)
    baseline.fill(migrated, Settings(), NOW)
    assert metadata(migrated) == before


def test_asking_what_is_pending_creates_nothing(sessions: Sessions) -> None:
    spark = sessions()
    assert [migration.version for migration in pending(spark)] == RELEASED
    assert spark.sql("SHOW NAMESPACES IN lake").collect() == []


def test_an_edited_migration_is_refused(migrated: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    initial, repair, *later = migrations.migrations()
    edited = replace(repair, operations=(AddColumn("silver.trades", ColumnDefinition("x", "int", "X")),))
    monkeypatch.setattr(migrations, "migrations", lambda: [initial, edited, *later])
    asks: list[Callable[[], object]] = [lambda: pending(migrated), lambda: migrate(migrated, Settings(), NOW)]
    for ask in asks:
        with pytest.raises(RefusedError, match=r"V002 was edited after it was applied here .* as a new migration"):
            ask()


@pytest.mark.usefixtures("short_years")
def test_a_later_migration_is_applied_alone_and_an_older_release_is_refused(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark = sessions()
    calls: list[str] = []
    first = Migration("V001", "first", (Step("a", lambda _: calls.append("V001")),))
    second = Migration("V002", "second", (Step("b", lambda _: calls.append("V002")),))
    monkeypatch.setattr(migrations, "migrations", lambda: [first])
    assert migrate(spark, Settings(), NOW) == [first]
    monkeypatch.setattr(migrations, "migrations", lambda: [first, second])
    assert pending(spark) == [second]
    assert migrate(spark, Settings(), NOW) == [second]
    assert calls == ["V002"]  # a new lakehouse is made as the first release declares it
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
    for _ in ("the change log", "their keys", "exchanges", "2024 and 2025", "the record"):
        any_write.steps = 1
        with pytest.raises(Crash):
            migrate(spark, Settings(), NOW)
    any_write.steps = -1
    assert migrate(spark, Settings(), NOW) == []
    assert recorded(spark) == VERSIONS
    assert [code for _, code in exchanges(spark)] == [code for _, code in EXCHANGES]  # keys are never used twice
    assert rows_per_year(spark) == [(2024, 1440, 1440), (2025, 1440, 1440)]
    empty = [table.name for table in TABLES if snapshots.load(spark, table).currentSnapshot() is None]
    assert empty == []


@pytest.mark.usefixtures("short_years")
def test_runners_at_once_leave_one_row_per_version(sessions: Sessions) -> None:
    together = Barrier(3)

    def run(spark: SparkSession) -> list[Migration]:
        together.wait(60)
        return migrate(spark, Settings(), NOW)

    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(run, [sessions() for _ in range(3)]))
    assert [migration.version for run in runs for migration in run] == RELEASED
    spark = sessions()
    assert recorded(spark) == VERSIONS
    assert exchanges(spark) == EXCHANGES
    assert rows_per_year(spark) == [(2024, 1440, 1440), (2025, 1440, 1440)]


@pytest.mark.usefixtures("short_years")
def test_a_run_that_ends_between_anothers_look_and_its_commit_is_recorded_once(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = count(1)
    real = ledger.read

    def overtaken(spark: SparkSession, known: Sequence[Migration]) -> ledger.Ledger | None:
        found = real(spark, known)
        if next(looks) == 2:  # the last one before it records
            assert found is None
            assert [migration.version for migration in migrate(sessions(), Settings(), NOW)] == RELEASED
        return found

    monkeypatch.setattr(ledger, "read", overtaken)
    spark = sessions()
    assert migrate(spark, Settings(), NOW) == []
    assert recorded(spark) == VERSIONS


def exchange_records(spark: SparkSession) -> list[tuple[Any, ...]]:
    """The change log's records of exchanges from its first commit on."""
    rows = spark.table(LOG.identifier).where("dimension = 'dim_exchange'").orderBy("_ingested_at", "_source_row")
    return [tuple(row) for row in rows.select("source", "natural_key", "attributes").collect()]


@pytest.mark.usefixtures("short_years")
def test_exchanges_of_before_state_their_settlement_once_and_what_users_state_wins(sessions: Sessions) -> None:
    spark = sessions()
    baseline.create_tables(spark)
    dimension = dim_exchange.DIMENSION
    stated: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("NYSE", "XNYS", {}),
        ("TSX", "XTSE", {"settlement_days": "3"}),
        ("LSE", "XLON", {}),
        ("SSE", "XSTO", {}),
    )
    records = [
        (number, {"exchange_code": code, "mic": mic, "effective_date": "1900-01-01", **more})
        for number, (code, mic, more) in enumerate(stated)
    ]
    given = frames.of_rows(spark, records, "_source_row long, attributes map<string,string>")
    names = {"raw_payload": "string", "_kafka_topic": "string", "_kafka_partition": "int", "_kafka_offset": "long",
             "_raw_bytes": "binary"}  # fmt: skip
    rows = given.select("*", F.lit("dim_exchange").alias("dimension"),
                        *(F.lit(None).cast(kind).alias(name) for name, kind in names.items()))  # fmt: skip
    change_log.land(spark, dimension, rows, "exchanges.csv", "a digest")
    dimension_members.apply(spark, dimension)
    spark.sql("UPDATE lake.dim.dim_exchange SET settlement_days = NULL")  # as the release before read them
    [state] = [migration.operations for migration in migrations.migrations() if migration.version == "V005"]
    for _ in range(2):
        migrations.apply(spark, state)
    assert exchange_records(spark)[4:] == [
        ("V005__settlement_date", code,
         {"exchange_code": code, "settlement_days": "1", "effective_date": "1899-12-31"}) for code in ("NYSE", "TSX")
    ]  # fmt: skip
    dimension_members.apply(spark, dimension)
    held = spark.table("lake.dim.dim_exchange").orderBy("exchange_code").select("exchange_code", "settlement_days")
    assert [tuple(row) for row in held.collect()] == [("LSE", None), ("NYSE", 1), ("SSE", None), ("TSX", 3)]
    assert not snapshots.state(spark, dimension.table).is_outdated


LOG, LETTERS, TRADERS = raw_reference.TABLE, rejected_records.TABLE, dim_trader.TABLE
BAD = "CAST(X'4DFC6C6C6572' AS STRING)"  # Müller as cp1252 writes it
LANDED = datetime(2025, 5, 1, tzinfo=UTC)


def lacking_the_gate(spark: SparkSession) -> None:
    """A change log as an older release wrote it, its letters, and a dimension that was derived from it."""
    for statement in (*ddl.create_namespaces(), *(s for t in (LOG, LETTERS, TRADERS) for s in ddl.create_table(t))):
        spark.sql(statement)
    for table in (LOG, LETTERS, TRADERS):
        commit.open_table(spark, table)
    records = spark.sql(
        f"""SELECT * FROM VALUES
        (1, 'a.jsonl', {BAD}, map('trader_id', {BAD}), {BAD}),
        (2, 'a.jsonl', 'TR2', map('trader_id', 'TR2', 'trader_name', {BAD}), concat('TR2 ', {BAD})),
        (3, 'a.jsonl', 'TR3', map('trader_id', 'TR3', 'trader_name', 'M\ufffdller'), 'TR3 M\ufffdller'),
        (4, 'b.CSV.gz', 'TR4', map('trader_id', 'TR4', 'trader_name', 'M\ufffdller'), 'TR4 M\ufffdller'),
        (5, 'b.csv', 'TR5', map('trader_id', 'TR5', 'trader_name', 'Müller', 'x', null), 'TR5 Müller'),
        (6, 'c.parquet', 'TR6', map('trader_id', 'TR6', {BAD}, null), 'TR6 M\ufffdller')
        AS (_source_row, source, natural_key, attributes, raw_payload)"""
    )
    rows = records.select("*", *(F.lit(None).cast(c.dataType).alias(c.name) for c in LOG.columns if c.name not in
                                 (*records.columns, "dimension", "_ingested_at")))  # fmt: skip
    rows = rows.withColumns({"dimension": F.lit("dim_trader"), "_ingested_at": F.lit(LANDED).cast("timestamp")})
    commit.append(spark, LOG, rows, snapshots.state(spark, LOG), READ)
    letter = spark.sql(
        f"SELECT 'id' AS rejected_id, array('missing_trader_id') AS reasons, {BAD} AS raw_payload, "
        "TIMESTAMP'2025-05-01' AS _rejected_at, TIMESTAMP'2025-05-01' AS _ingested_at"
    )
    rest = (F.lit(None).cast(c.dataType).alias(c.name) for c in LETTERS.columns if c.name not in letter.columns)
    commit.append(spark, LETTERS, letter.select("*", *rest), snapshots.state(spark, LETTERS), Cursor(stamp=LANDED))
    commit.advance(spark, TRADERS, snapshots.state(spark, TRADERS), DERIVED)


READ = TopicCursor(stamp=LANDED, topic="t", topic_id="id", following={0: 7})
DERIVED = UpstreamCursor(stamp=LANDED, source="bronze.raw_reference", after=None, upto=LANDED)


def test_text_that_is_not_utf8_is_repaired_once_and_its_bytes_are_kept(sessions: Sessions) -> None:
    spark = sessions()
    lacking_the_gate(spark)
    repair = migrations.migrations()[1].operations
    migrations.apply(spark, repair)
    rows = spark.table(LOG.identifier).orderBy("_source_row")
    kept = rows.select("natural_key", "attributes", "raw_payload", "_raw_bytes").collect()
    assert [tuple(row) for row in kept] == [
        ("M\ufffdller", None, "M\ufffdller", b"M\xfcller"),
        ("TR2", None, "TR2 M\ufffdller", b"TR2 M\xfcller"),
        ("TR3", {"trader_id": "TR3", "trader_name": "M\ufffdller"}, "TR3 M\ufffdller", None),  # it may be meant
        ("TR4", None, "TR4 M\ufffdller", b"TR4 M\xef\xbf\xbdller"),
        ("TR5", {"trader_id": "TR5", "trader_name": "Müller", "x": None}, "TR5 Müller", None),
        ("TR6", None, "TR6 M\ufffdller", b"TR6 M\xef\xbf\xbdller"),
    ]
    same = rows.select("dimension", "source", "_ingested_at", "_source_digest").distinct().orderBy("source").collect()
    assert [(row[0], row[1], row[3]) for row in same] == [
        ("dim_trader", name, None) for name in ("a.jsonl", "b.CSV.gz", "b.csv", "c.parquet")
    ]
    assert {row["_ingested_at"].astimezone(UTC) for row in same} == {LANDED}
    letters = spark.table(LETTERS.identifier).select("raw_payload", "_raw_bytes", "reasons").collect()
    assert [tuple(row) for row in letters] == [("M\ufffdller", b"M\xfcller", ["missing_trader_id"])]
    cursors = {table.name: snapshots.state(spark, table).cursor for table in (LOG, LETTERS, TRADERS)}
    assert cursors == {
        "bronze.raw_reference": replace(READ, rules=2),
        "silver._rejected_records": Cursor(stamp=LANDED, rules=2),
        "dim.dim_trader": replace(DERIVED, rules=1),  # to be derived whole
    }
    before = [snapshots.state(spark, table).snapshot_id for table in (LOG, LETTERS, TRADERS)]
    migrations.apply(spark, repair)
    assert [snapshots.state(spark, table).snapshot_id for table in (LOG, LETTERS, TRADERS)] == before
    refs = spark.table(f"{LOG.identifier}.refs").select("name").collect()
    assert [row["name"] for row in refs] == ["main"]


def test_a_repair_needs_no_cursor_and_leaves_a_dimension_without_one_alone(sessions: Sessions) -> None:
    spark = sessions()
    lacking_the_gate(spark)
    for table in (LOG, TRADERS):
        spark.sql(
            f"CALL lake.system.rewrite_data_files(table => '{table.name}', options => map('rewrite-all', 'true'))"
        )
        spark.sql(
            f"CALL lake.system.expire_snapshots(table => '{table.name}', retain_last => 1, "
            "older_than => TIMESTAMP'2100-01-01')"
        )
    assert snapshots.state(spark, LOG).cursor is None
    migrations.apply(spark, migrations.migrations()[1].operations)
    state = snapshots.state(spark, LOG)
    assert (state.cursor, state.stamp) == (None, LANDED)
    assert spark.table(LOG.identifier).where("_raw_bytes IS NOT NULL").count() == 4
