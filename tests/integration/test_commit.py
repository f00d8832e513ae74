"""The commit protocol on one small table: of several authors of the same base one commits, and nothing else happens."""

import gc
import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from py4j.finalizer import ThreadSafeFinalizer
from py4j.protocol import Py4JError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.errors import LostRaceError
from lakehouse_spark.lake import commit, frames, snapshots
from lakehouse_spark.lake.cursor import CURSOR, Cursor, from_json
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.schema import ddl
from lakehouse_spark.table import GOLD_POLICY, MERGE_ON_READ, Table, column
from lakehouse_spark.types import INSTANT, LONG, TEXT
from tests.support.lakehouses import connect

Commit = Callable[[SparkSession, Table, State, datetime], State]

MIDNIGHT = datetime(2025, 3, 1, tzinfo=UTC)
START = [("a", 1), ("b", 2)]


def minute(number: int) -> datetime:
    return MIDNIGHT + timedelta(minutes=number)


@pytest.fixture(scope="module")
def session(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> SparkSession:
    own = connect(spark, tmp_path_factory.mktemp("commits"))
    own.sql(ddl.create_namespace("gold"))
    return own


@pytest.fixture
def empty(session: SparkSession) -> Table:
    return _small(session)


def _small(session: SparkSession) -> Table:
    """A new table, as a migration leaves it."""
    table = Table(
        name=f"gold.small_{uuid.uuid4().hex[:8]}",
        doc="Small. Grain: one row per id.",
        columns=(column("id", TEXT, "Key"), column("value", LONG, "Value"), column("_at", INSTANT, "Commit stamp")),
        key=("id",),
        stamp="_at",
        properties=MERGE_ON_READ,
        policy=GOLD_POLICY,
    )
    for statement in ddl.create_table(table):
        session.sql(statement)
    commit.open_table(session, table)
    return table


@pytest.fixture
def table(session: SparkSession, empty: Table) -> Table:
    """A table with the rows START, one commit each, at minutes 1 and 2."""
    for number, pair in enumerate(START, 1):
        add(session, empty, snapshots.state(session, empty), minute(number), *pair)
    return empty


def cursor(stamp: datetime, by: str) -> Cursor:
    return Cursor(stamp=stamp, notes={"by": by})


def rows(spark: SparkSession, table: Table, stamp: datetime, *pairs: tuple[str, int]) -> DataFrame:
    return frames.of_rows(spark, [(*pair, stamp) for pair in pairs], table.schema).coalesce(1)


def add(spark: SparkSession, table: Table, base: State, stamp: datetime, key: str = "new", value: int = 9) -> State:
    return commit.append(spark, table, rows(spark, table, stamp, (key, value)), base, cursor(stamp, "rows"))


def change(spark: SparkSession, table: Table, base: State, stamp: datetime) -> State:
    source = rows(spark, table, stamp, ("a", 100))
    return commit.merge(
        spark,
        table,
        source,
        base,
        cursor(stamp, "merge"),
        bounds=lambda column: column("id") == "a",
        updates=["value", "_at"],
    )


def move(spark: SparkSession, table: Table, base: State, stamp: datetime) -> State:
    return commit.advance(spark, table, base, cursor(stamp, "cursor"))


KINDS: dict[str, tuple[Commit, list[tuple[str, int]]]] = {
    "rows": (add, [("a", 1), ("b", 2), ("new", 9)]),
    "a merge": (change, [("a", 100), ("b", 2)]),
    "only a cursor": (move, [("a", 1), ("b", 2)]),
}
"""How a commit can be made, and what START becomes by it."""


def content(spark: SparkSession, table: Table) -> list[tuple[str, int]]:
    return [(row["id"], row["value"]) for row in spark.table(table.identifier).orderBy("id", "value").collect()]


def operations(spark: SparkSession, table: Table) -> list[str]:
    found = spark.table(f"{table.identifier}.snapshots").orderBy("committed_at").select("operation")
    return [row["operation"] for row in found.collect()]


def branches(spark: SparkSession, table: Table) -> list[str]:
    return [row["name"] for row in spark.table(f"{table.identifier}.refs").collect() if row["name"] != "main"]


def compact(spark: SparkSession, table: Table) -> None:
    done = spark.sql(
        f"CALL lake.system.rewrite_data_files(table => '{table.name}', options => map('min-input-files', '2'))"
    ).collect()[0]
    assert done["rewritten_data_files_count"] == 2


class _Answers:
    """An Iceberg table whose fast-forward raises `error`, after the commit was made or in place of it."""

    def __init__(self, wrapped: Any, error: Exception, *, made: bool, forward: bool = False) -> None:
        self._wrapped, self._error, self._made, self._forward = wrapped, error, made, forward

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            if name == "commit" and self._forward:
                if self._made:
                    self._wrapped.commit()
                raise self._error
            answer = getattr(self._wrapped, name)(*arguments)
            if name in ("manageSnapshots", "fastForwardBranch", "removeBranch"):
                forward = self._forward or name == "fastForwardBranch"
                return _Answers(answer, self._error, made=self._made, forward=forward)
            return answer

        return call


def faults_of_children(spark: SparkSession) -> int:
    """Page faults of the processes that the JVM started and that ended: each has some."""
    process: Any = spark._jvm
    stat = Path(f"/proc/{process.java.lang.ProcessHandle.current().pid()}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[8])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux")
def test_a_commit_starts_no_process(session: SparkSession, table: Table) -> None:
    row = (F.lit("new").alias("id"), F.lit(9).cast("bigint").alias("value"), F.lit(minute(3)).alias("_at"))
    before = faults_of_children(session)

    commit.append(session, table, session.range(1).select(*row), snapshots.state(session, table), cursor(minute(3), ""))

    assert faults_of_children(session) == before


def test_a_merge_leaves_nothing_of_java_behind_in_python(session: SparkSession, table: Table) -> None:
    """A live mode merges for months."""
    counts = []
    for number in range(3):
        change(session, table, snapshots.state(session, table), minute(10 + number))
        gc.collect()
        counts.append(len(ThreadSafeFinalizer.finalizers))
    assert counts[1] == counts[2]


@pytest.mark.parametrize("first", KINDS)
def test_the_second_of_two_writers_from_one_base_is_refused_whatever_its_stamp(
    session: SparkSession, table: Table, first: str
) -> None:
    base = snapshots.state(session, table)
    winner, expected = KINDS[first]
    won = winner(session, table, base, minute(10))
    for second, (loser, _) in KINDS.items():
        for stamp in (minute(9), minute(11)):
            with pytest.raises(LostRaceError, match="another writer committed since snapshot") as refused:
                loser(session, table, base, stamp)
            assert (refused.value.exit_code, second) == (3, second)
    assert content(session, table) == expected
    assert snapshots.state(session, table) == won
    assert branches(session, table) == []


@pytest.mark.parametrize("first", KINDS)
def test_a_writer_overtaken_after_it_staged_its_rows_is_refused(
    session: SparkSession, table: Table, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    base = snapshots.state(session, table)
    winner, expected = KINDS[first]
    forward, won = commit._fast_forwarded, []

    def overtaken(iceberg: Any, branch: str, staged: int) -> bool:
        monkeypatch.setattr(commit, "_fast_forwarded", forward)
        won.append(winner(session, table, base, minute(10)))
        return forward(iceberg, branch, staged)

    monkeypatch.setattr(commit, "_fast_forwarded", overtaken)
    with pytest.raises(LostRaceError):
        add(session, table, base, minute(11), "late", 5)
    assert content(session, table) == expected
    assert [snapshots.state(session, table)] == won
    assert branches(session, table) == []


def test_of_four_writers_at_once_exactly_one_commits(spark: SparkSession, session: SparkSession, table: Table) -> None:
    base = snapshots.state(session, table)
    warehouse = session.conf.get("spark.sql.catalog.lake.warehouse")
    homes = [connect(spark, Path(str(warehouse).removeprefix("file://")).parent) for _ in range(4)]

    def attempt(number: int) -> str:
        try:
            add(homes[number], table, base, minute(10 + number), f"writer {number}", number)
        except LostRaceError:
            return "lost"
        return f"writer {number}"

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attempt, range(4)))
    winners = [outcome for outcome in outcomes if outcome != "lost"]
    assert len(winners) == 1
    assert [key for key, _ in content(session, table)] == ["a", "b", *winners]


@pytest.mark.parametrize("kind", KINDS)
def test_a_compaction_between_read_and_commit_is_no_conflict(session: SparkSession, table: Table, kind: str) -> None:
    base = snapshots.state(session, table)
    compact(session, table)
    author, expected = KINDS[kind]
    done = author(session, table, base, minute(10))
    assert content(session, table) == expected
    assert snapshots.state(session, table) == done
    assert "replace" in operations(session, table)


@pytest.mark.parametrize("kind", KINDS)
def test_a_compaction_after_the_rows_were_staged_doubles_nothing(
    session: SparkSession, table: Table, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    base = snapshots.state(session, table)
    forward = commit._fast_forwarded

    def compacted_first(iceberg: Any, branch: str, staged: int) -> bool:
        monkeypatch.setattr(commit, "_fast_forwarded", forward)
        compact(session, table)
        return forward(iceberg, branch, staged)

    monkeypatch.setattr(commit, "_fast_forwarded", compacted_first)
    author, expected = KINDS[kind]
    done = author(session, table, base, minute(10))
    assert content(session, table) == expected
    assert snapshots.state(session, table) == done
    assert branches(session, table) == []


def test_a_writer_that_meets_a_compaction_and_then_a_commit_is_refused(session: SparkSession, table: Table) -> None:
    base = snapshots.state(session, table)
    compact(session, table)
    move(session, table, snapshots.state(session, table), minute(10))
    with pytest.raises(LostRaceError):
        add(session, table, base, minute(11))
    assert content(session, table) == START


def test_stamps_increase_though_the_clock_is_set_back() -> None:
    last = State(1, None, datetime(2025, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC))
    assert last.next_stamp(datetime(2025, 3, 1, 11, tzinfo=UTC)) == datetime(2025, 3, 1, 12, 0, 1, tzinfo=UTC)
    assert last.next_stamp(datetime(2025, 3, 1, 12, 0, 0, 999_999, tzinfo=UTC)) == datetime(
        2025, 3, 1, 12, 0, 1, tzinfo=UTC
    )
    assert last.next_stamp(datetime(2025, 3, 1, 13, tzinfo=UTC)) == datetime(2025, 3, 1, 13, tzinfo=UTC)
    assert State(1, None, None).next_stamp(MIDNIGHT) == MIDNIGHT


def test_a_new_table_has_one_empty_snapshot_however_often_it_is_opened(session: SparkSession, empty: Table) -> None:
    commit.open_table(session, empty)
    assert operations(session, empty) == ["append"]
    assert content(session, empty) == []
    found = snapshots.state(session, empty)
    assert (found.cursor, found.stamp) == (None, None)


def test_the_first_commit_of_a_table_is_compared_too(session: SparkSession, empty: Table) -> None:
    base = snapshots.state(session, empty)
    add(session, empty, base, minute(1), "first", 1)
    with pytest.raises(LostRaceError):
        add(session, empty, base, minute(2), "second", 2)
    assert content(session, empty) == [("first", 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_commit_whose_answer_was_lost_is_recognised(
    session: SparkSession, table: Table, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    base, load = snapshots.state(session, table), snapshots.load
    author, expected = KINDS[kind]
    with monkeypatch.context() as patch:
        patch.setattr(commit, "load", lambda *at: _Answers(load(*at), Py4JError("502 Bad Gateway"), made=True))
        done = author(session, table, base, minute(10))
    assert snapshots.state(session, table) == done
    assert content(session, table) == expected
    assert branches(session, table) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_commit_that_failed_leaves_the_table_as_it_was(
    session: SparkSession, table: Table, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    base, load = snapshots.state(session, table), snapshots.load
    author, expected = KINDS[kind]
    with monkeypatch.context() as patch:
        patch.setattr(commit, "load", lambda *at: _Answers(load(*at), Py4JError("502 Bad Gateway"), made=False))
        with pytest.raises(Py4JError, match="502 Bad Gateway"):
            author(session, table, base, minute(10))
    assert snapshots.state(session, table) == base
    assert content(session, table) == START
    assert branches(session, table) == []
    author(session, table, base, minute(11))
    assert content(session, table) == expected


def test_what_a_killed_writer_staged_is_invisible_and_named_by_its_time(
    session: SparkSession, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = snapshots.state(session, table)

    def killed(*given: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(commit, "_fast_forwarded", killed)
        patch.setattr(commit, "drop", lambda *given: None)
        with pytest.raises(KeyboardInterrupt):
            add(session, table, base, minute(10), "dead", 0)
    (left,) = session.table(f"{table.identifier}.refs").where("name != 'main'").collect()
    assert re.fullmatch(rf"commit_{datetime.now(UTC):%Y}\d{{4}}t\d{{6}}_[0-9a-f]{{32}}", left["name"])
    assert session.table(table.identifier).count() == 2
    assert session.table(f"{table.identifier}.branch_{left['name']}").count() == 3
    assert snapshots.state(session, table) == base
    done = add(session, table, base, minute(11))
    assert content(session, table) == [("a", 1), ("b", 2), ("new", 9)]
    assert snapshots.state(session, table) == done


def test_the_cursor_outlasts_snapshots_without_one(session: SparkSession, table: Table) -> None:
    compact(session, table)
    rows(session, table, minute(5), ("foreign", 3)).writeTo(table.identifier).append()
    found = snapshots.state(session, table)
    assert found.cursor is not None
    assert found.cursor.to_json() == '{"by":"rows","rules":2,"stamp":"2025-03-01T00:02:00.000000+00:00"}'
    assert found.stamp == datetime(2025, 3, 1, 0, 2, tzinfo=UTC)
    assert found.snapshot_id == snapshots.load(session, table).currentSnapshot().snapshotId()


def test_a_table_without_a_cursor_gives_the_stamp_of_its_rows(session: SparkSession, empty: Table) -> None:
    stamp = datetime(2025, 3, 1, 23, 59, 59, 123_456, tzinfo=UTC)
    rows(session, empty, stamp, ("x", 1)).writeTo(empty.identifier).append()
    rows(session, empty, minute(3), ("y", 2)).writeTo(empty.identifier).append()
    found = snapshots.state(session, empty)
    assert (found.cursor, found.stamp) == (None, stamp)


def test_the_rows_of_a_commit_and_its_cursor_stand_in_one_snapshot(session: SparkSession, table: Table) -> None:
    for author, _ in KINDS.values():
        done = author(session, table, snapshots.state(session, table), minute(10))
        summary = snapshots.load(session, table).snapshot(done.snapshot_id).summary()
        assert done.cursor is not None
        by = done.cursor.notes["by"]
        assert summary.get(CURSOR) == f'{{"by":"{by}","rules":2,"stamp":"2025-03-01T00:10:00.000000+00:00"}}'
    assert session.conf.get(f"spark.sql.iceberg.snapshot-property.{CURSOR}", None) is None


def test_changes_are_the_rows_stamped_later_that_were_there_when_they_were_asked_for(
    session: SparkSession, table: Table
) -> None:
    upto = snapshots.state(session, table)
    add(session, table, upto, minute(10))
    found = snapshots.changes(session, table, upto, minute(1))
    assert [row["id"] for row in found.orderBy("id").collect()] == ["b"]
    everything = snapshots.changes(session, table, upto, None)
    assert [row["id"] for row in everything.orderBy("id").collect()] == ["a", "b"]


def test_idempotent_work_that_was_overtaken_is_done_again(session: SparkSession, table: Table) -> None:
    tries: list[int] = []

    def attempt() -> None:
        base = snapshots.state(session, table)
        if not tries:
            move(session, table, base, minute(10))
        tries.append(base.snapshot_id)
        add(session, table, base, minute(11))

    commit.again_if_overtaken(attempt)
    assert len(tries) == 2
    assert content(session, table) == [("a", 1), ("b", 2), ("new", 9)]


def test_work_that_is_always_overtaken_gives_up() -> None:
    tries: list[int] = []

    def attempt() -> None:
        tries.append(1)
        raise LostRaceError("overtaken")

    with pytest.raises(LostRaceError):
        commit.again_if_overtaken(attempt)
    assert len(tries) == 6


def test_commits_to_several_tables_at_once_have_their_own_cursors(session: SparkSession) -> None:
    tables = {name: _small(session) for name in "AB"}
    for table in tables.values():
        add(session, table, snapshots.state(session, table), minute(1), "a", 1)

    def commit_all(name: str) -> None:
        table = tables[name]
        for number in range(2, 8):
            stamp, author = minute(number), cursor(minute(number), f"{name} {number}")
            base = snapshots.state(session, table)
            if number % 3:
                commit.merge(
                    session, table, rows(session, table, stamp, ("a", number)), base, author,
                    bounds=lambda column: column("id") == "a", updates=["value", "_at"],
                )  # fmt: skip
            else:
                commit.append(session, table, rows(session, table, stamp, (f"n{number}", number)), base, author)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(commit_all, tables))
    for name, table in tables.items():
        summaries = session.table(f"{table.identifier}.snapshots").orderBy("committed_at").select("summary").collect()
        said = [from_json(row["summary"][CURSOR]).notes for row in summaries if CURSOR in row["summary"]]
        assert said == [{"by": "rows"}, *({"by": f"{name} {number}"} for number in range(2, 8))]
        assert content(session, table) == [("a", 7), ("n3", 3), ("n6", 6)]


def test_a_merge_deletes_updates_and_inserts_in_one_commit(session: SparkSession, table: Table) -> None:
    source = rows(session, table, minute(10), ("a", 7), ("b", 0), ("c", 3), ("d", 0))
    gone = source.withColumn("_gone", F.col("value") == 0)
    commit.merge(
        session, table, gone, snapshots.state(session, table), cursor(minute(10), "merge"),
        bounds=lambda column: column("id") >= "a", updates=["value", "_at"], deletes=F.col("source._gone"),
    )  # fmt: skip
    assert content(session, table) == [("a", 7), ("c", 3)]
