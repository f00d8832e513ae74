"""The ledger: each operation once, in order, whatever is killed, raced, edited, left out or refused."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from datetime import timedelta
from pathlib import Path
from sqlite3 import connect as sqlite
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import migrations
from lakehouse_spark.errors import RefusedError
from lakehouse_spark.lake import alter, commit, snapshots
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.metadata.schema_migrations import TABLE
from lakehouse_spark.migrations import ledger, migrate, pending
from lakehouse_spark.migrations.migration import Migration, Step
from lakehouse_spark.schema.operations import (
    AddColumn,
    ChangePartitioning,
    ColumnDefinition,
    DropColumn,
    PromoteColumn,
    RenameColumn,
)
from lakehouse_spark.schema.policy import Agreement
from lakehouse_spark.settings import Settings
from tests.support.executions import counted
from tests.support.lake import Lake
from tests.support.lakehouses import connect
from tests.support.small_lakehouse import FIRST, NOW, RENAMED, make, release, struck, version

THING = "test.things"
THINGS = alter.named(THING)
ADDED = version(2, AddColumn(THING, ColumnDefinition("note", "string", "Note")))
LATER = version(3, AddColumn(THING, ColumnDefinition("more", "string", "More")))
DROPPED = (DropColumn(THING, "c"),)
AGREED = Agreement(2, ("the risk desk",))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def small(spark: SparkSession, home: Path) -> SparkSession:
    return Lake.copied(spark, "127.0.0.1:9", home, "small", make).spark


@pytest.fixture
def files(home: Path) -> Callable[[], list[tuple[str, str]]]:
    """The metadata file at which each table stands: any commit moves it."""

    def read() -> list[tuple[str, str]]:
        with closing(sqlite(home / "catalog.db")) as catalog:
            names = "SELECT table_name, metadata_location FROM iceberg_tables ORDER BY 1"
            return list(catalog.execute(names))

    return read


def run(spark: SparkSession, *known: Migration, **more: Any) -> list[str]:
    with release(FIRST, *known):
        return [migration.version for migration in migrate(spark, Settings(), NOW, **more)]


def rows(spark: SparkSession, *names: str) -> list[tuple[object, ...]]:
    found = spark.table(TABLE.identifier).select(*names).orderBy("version", "operation_index").collect()
    return [tuple(row) for row in found]


def has_both(spark: SparkSession) -> None:
    """The values of before are in b, and the new a has none."""
    assert [tuple(r) for r in spark.sql("SELECT a, b, c, d FROM lake.test.things ORDER BY b").collect()] == [
        (None, 1, 10, None),
        (None, 2, 20, None),
    ]
    assert rows(spark, "version", "operation_index") == [("V001", None), ("V002", 1), ("V002", 2), ("V002", 3)]


def test_each_operation_is_a_row_that_says_what_it_did(small: SparkSession) -> None:
    before = snapshots.load(small, THINGS).currentSnapshot().snapshotId()
    assert run(small, RENAMED) == ["V002"]
    has_both(small)
    assert rows(small, "version", "description", "operation", "class", "table_name", "major")[1:] == [
        ("V002", "a for b", "test.things.a is renamed to b and keeps its values", "breaking", "test.things", 1),
        ("V002", "a for b", "test.things gains a (bigint) at the end, NULL in the rows it has", "additive", THING, 1),
        ("V002", "a for b", "test.things gains d (string) at the end, NULL in the rows it has", "additive", THING, 1),
    ]
    places = rows(small, "snapshot_before", "snapshot_after", "schema_before", "schema_after")[1:]
    head = snapshots.load(small, THINGS).currentSnapshot().snapshotId()
    assert [(start, end) for _, _, start, end in places] == [(0, 1), (1, 2), (2, 3)]
    assert (places[0][0], places[2][1]) == (before, head)
    assert [after for _, after, _, _ in places[:2]] == [start for start, _, _, _ in places[1:]]
    assert small.table(TABLE.identifier).where("seconds > 0").count() == 3
    assert snapshots.at(small, THINGS, before).columns == ["a", "c"]


def test_a_run_that_ends_anywhere_is_taken_up_at_its_next_operation(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "LEASE", timedelta(0))
    monkeypatch.setattr(ledger, "give_back", lambda *_: None)  # as little as one that is killed

    class KilledError(BaseException):
        pass

    def kill() -> None:
        raise KilledError

    own = Lake.copied(spark, "127.0.0.1:9", tmp_path / "whole", "small", make).spark
    with struck(0, kill) as points:
        run(own, RENAMED)
    assert len(points) > 40
    for at in range(1, len(points) + 1, 8):
        own = Lake.copied(spark, "127.0.0.1:9", tmp_path / str(at), "small", make).spark
        with struck(at, kill), pytest.raises(KilledError):
            run(own, RENAMED)
        done = rows(own, "version")
        assert run(own, RENAMED) == (["V002"] if len(done) < 4 else [])
        has_both(own)


@pytest.mark.soak
@pytest.mark.parametrize("at", range(2, 45, 6))
def test_a_process_that_is_killed_anywhere_is_taken_up_at_its_next_operation(
    small: SparkSession, settings: Settings, home: Path, tmp_path: Path, at: int
) -> None:
    here = settings.model_copy(update={"home": home, "cache": settings.jar_cache})
    command = [sys.executable, "-m", "tests.support.small_lakehouse", here.model_dump_json(), str(at)]
    with (tmp_path / "log").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=log, start_new_session=True, cwd=Path(__file__).parents[2])
    assert code.returncode == -9, (tmp_path / "log").read_text()[-2000:]
    run(small, RENAMED)
    has_both(small)


@pytest.mark.parametrize(
    ("had", "has", "reason"),
    [
        (
            (ADDED,), (version(2, *RENAMED.operations),),
            r"V002 was edited after it was applied here \(checksum .*\)\. Restore the file and write the change as a",
        ),
        (
            (ADDED,), (),
            r"V002 was applied here and is unknown to this release \(newest: V001\)\. Run the release that applied it",
        ),
        (
            (LATER,), (ADDED, LATER),
            r"V002 was not applied here, and V003, which comes after it, was\. Give the change the number after",
        ),
    ],
    ids=["edited", "unknown", "out of order"],
)  # fmt: skip
def test_another_history_is_refused_and_changes_nothing(
    small: SparkSession,
    files: Callable[[], list[tuple[str, str]]],
    had: tuple[Migration, ...],
    has: tuple[Migration, ...],
    reason: str,
) -> None:
    assert run(small, *had) == [migration.version for migration in had]
    before = files()
    asks: list[Callable[[], object]] = [
        lambda: migrate(small, Settings(), NOW),
        lambda: pending(small),
        lambda: migrations.require_current(small, Settings()),
    ]
    with release(FIRST, *has):
        for ask in asks:
            with pytest.raises(RefusedError, match=reason) as refused:
                ask()
            assert refused.value.exit_code == 3
    assert files() == before


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        ((version(2, *DROPPED),), r"V002 .* declare major version 2 with the consumers that agreed, or leave c, with"),
        ((version(2, *DROPPED, agreed=Agreement(3, ("x",))),), "major version 3 is declared, and the one after 1 is 2"),
        ((ADDED, version(3, *DROPPED)), r"V003 \(number 3\): test\.things\.c is dropped"),
        (
            (
                version(2, ChangePartitioning(THING, added=("c",))),
                version(3, *DROPPED, agreed=AGREED),
            ),
            r"V003 .* test\.things\.c cannot be dropped: the table is partitioned by it",
        ),
        (
            (version(2, *DROPPED, AddColumn(THING, ColumnDefinition("c", "int", "C")), agreed=AGREED),),
            r"V002 .* had another column c that was dropped, .*: choose a name that was never used",
        ),
    ],
)  # fmt: skip
def test_what_policy_refuses_changes_nothing(
    small: SparkSession, files: Callable[[], list[tuple[str, str]]], refused: tuple[Migration, ...], reason: str
) -> None:
    before = files()
    with pytest.raises(RefusedError, match=reason):
        run(small, *refused)
    assert files() == before


def test_an_agreement_raises_the_major_version_and_leaves_the_names_of_before_in_a_view(small: SparkSession) -> None:
    agreed = version(2, RenameColumn(THING, "a", "b"), *RENAMED.operations[1:], *DROPPED, agreed=AGREED)
    assert run(small, agreed) == ["V002"]
    assert rows(small, "version", "operation_index", "major")[-1] == ("V002", 4, 2)
    assert [tuple(row) for row in small.sql("SELECT * FROM lake.test.things_v1 ORDER BY a").collect()] == [(1,), (2,)]
    assert small.table("lake.test.things_v1").columns == ["a"]
    assert run(small, agreed, version(3, DropColumn(THING, "d"), agreed=Agreement(3, ("us",)))) == ["V003"]
    assert rows(small, "version", "major")[-1] == ("V003", 3)
    assert small.table("lake.test.things_v1").count() == 2


def test_how_far_a_lakehouse_is_costs_no_query_unless_an_earlier_release_wrote_it(small: SparkSession) -> None:
    run(small, ADDED)

    def asked(*known: Migration) -> int:
        with release(FIRST, *known), counted(small) as counter:
            with pytest.raises(RefusedError, match="older") if len(known) > 1 else nullcontext():
                migrations.require_current(small, Settings())
            return len(counter.spent().executions)

    assert asked(ADDED) == 0
    assert asked(ADDED, LATER) == 0
    base = snapshots.state(small, TABLE)
    assert base.stamp is not None
    commit.advance(small, TABLE, base, Cursor(stamp=base.stamp, notes={"versions": ["V002"]}))
    assert asked(ADDED) == 1


@pytest.fixture
def blocked() -> Iterator[tuple[Step, threading.Event, threading.Event]]:
    """A step that begins, and ends once it may."""
    begins, may_end = threading.Event(), threading.Event()

    def work(_: SparkSession) -> None:
        begins.set()
        assert may_end.wait(120)

    yield Step("block", work), begins, may_end
    may_end.set()


def test_of_two_runs_one_waits_for_the_other(
    spark: SparkSession, small: SparkSession, home: Path, blocked: tuple[Step, threading.Event, threading.Event]
) -> None:
    step, begins, may_end = blocked
    said: list[str] = []

    def waits(sentence: str) -> None:
        said.append(sentence)
        may_end.set()

    with release(FIRST, version(2, step, *ADDED.operations)), ThreadPoolExecutor(1) as pool:
        first = pool.submit(migrate, small, Settings(), NOW)
        assert begins.wait(120)
        assert migrate(connect(spark, home), Settings(), NOW, say=waits) == []
        assert [migration.version for migration in first.result(120)] == ["V002"]
    assert said == ["another run is at work on the migrations: waiting for it; had it died, for a minute"]
    assert rows(small, "version", "operation_index") == [("V001", None), ("V002", 1), ("V002", 2)]


def test_a_run_that_was_taken_for_dead_records_nothing_any_more(
    spark: SparkSession,
    small: SparkSession,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    blocked: tuple[Step, threading.Event, threading.Event],
) -> None:
    monkeypatch.setattr(ledger, "LEASE", timedelta(0))
    step, begins, may_end = blocked
    second_time = Step("block", lambda _: None)
    rest = (RenameColumn(THING, "a", "b"), PromoteColumn(THING, "c", "int", "bigint"))
    with ThreadPoolExecutor(1) as pool:
        with release(FIRST, version(2, step, *rest)):
            first = pool.submit(migrate, small, Settings(), NOW)
            assert begins.wait(120)
        with release(FIRST, version(2, second_time, *rest)):
            assert [m.version for m in migrate(connect(spark, home), Settings(), NOW)] == ["V002"]
            may_end.set()
            assert first.result(120) == []
    assert rows(small, "version", "operation_index") == [("V001", None), ("V002", 1), ("V002", 2), ("V002", 3)]
    assert small.table("lake.test.things").columns == ["b", "c"]


def test_a_step_that_fails_gives_the_ledger_back_at_once(small: SparkSession) -> None:
    def fail(_: SparkSession) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(small, version(2, Step("block", fail)))
    said: list[str] = []
    assert run(small, version(2, Step("block", lambda _: None)), say=said.append) == ["V002"]
    assert said == []


def test_an_operation_that_cannot_be_carried_out_is_refused_before_those_before_it(small: SparkSession) -> None:
    impossible = RenameColumn(THING, "nowhere", "x")
    with pytest.raises(RefusedError, match=r"has no column x: .*nowhere is renamed to x"):
        run(small, version(2, *ADDED.operations, impossible))
    assert rows(small, "version", "operation_index") == [("V001", None)]
