"""Maintenance on real tables: it changes no row, loses no writer's work, and does what it said it would."""

import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from lakehouse_spark import cli, verify
from lakehouse_spark.catalog import BY_NAME, LAYERS
from lakehouse_spark.errors import LakehouseError, RefusedError, UsageError
from lakehouse_spark.jobs import maintenance, silver_processor
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit, session, snapshots
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.maintenance import compaction, journal, survey
from lakehouse_spark.maintenance.plan import PLANNED, Action, Compaction
from lakehouse_spark.settings import MaintenanceSettings, PolicySettings
from lakehouse_spark.testing import STAGES, CrashError, crash, fault
from lakehouse_spark.verify import ingestion
from tests.support.faults import ROUNDS
from tests.support.lake import NOON, TABLES, Lake, arrive, create_tables, trade

BRONZE, SILVER, LOG = "bronze.raw_trades", "silver.trades", "_metadata.maintenance_log"
ALL = (*TABLES, LOG)
POINTS = [(table, stage) for table in (LOG, BRONZE) for stage in STAGES]
TODAY = datetime.now(UTC)


@pytest.fixture
def lake(spark: SparkSession, broker: Any, tmp_path: Path) -> Lake:
    """Bronze, silver, the exchanges and the log, empty; every partition is settled at once."""
    made = Lake.new(spark, broker.bootstrap_servers, tmp_path / "home", (*TABLES, LOG))
    return with_policy(made, settle_minutes=0)


@pytest.fixture
def landed(spark: SparkSession, broker: Any, tmp_path: Path) -> Lake:
    """The same after six commits of two trades each to bronze."""
    made = Lake.new(spark, broker.bootstrap_servers, tmp_path / "home", (*TABLES, LOG), six_commits)
    return with_policy(made, settle_minutes=0)


@pytest.fixture
def processed(spark: SparkSession, broker: Any, tmp_path: Path) -> Lake:
    """The same after six commits to silver, too."""
    made = Lake.new(spark, broker.bootstrap_servers, tmp_path / "home", (*TABLES, LOG), six_runs)
    return with_policy(made, settle_minutes=0)


@pytest.fixture(scope="module")
def consumed(spark: SparkSession, broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """An `old_lake` of which silver has consumed all: to be copied."""
    home = tmp_path_factory.mktemp("consumed") / "home"
    made = with_policy(Lake.new(spark, broker.bootstrap_servers, home, (*TABLES, LOG)), settle_minutes=0)
    old_lake(made)
    made.silver("trades")
    return made


def with_policy(lake: Lake, **policy: Any) -> Lake:
    changed = PolicySettings(settle_minutes=0) if not policy else PolicySettings(**{"settle_minutes": 0, **policy})
    maintenance_settings = MaintenanceSettings(layers=dict.fromkeys(LAYERS, changed))
    lake.settings = lake.settings.model_copy(update={"maintenance": maintenance_settings})
    return lake


def land(lake: Lake, number: int, *, days_ago: int = 1, at: datetime | None = None, prefix: str = "T") -> None:
    """As many bronze commits of two trades each, of one day."""
    when = (TODAY - timedelta(days=days_ago)).replace(hour=15, minute=30).strftime("%Y-%m-%dT%H:%M:%SZ")
    for each in range(number):
        trades = (trade(trade_id=f"{prefix}{each}{half}", timestamp=when) for half in "ab")
        arrive(lake, *trades, at=at or TODAY)


def six_commits(lake: Lake) -> None:
    land(lake, 6)


def six_runs(lake: Lake) -> None:
    """One of six commits to bronze, then one of one each."""
    land(lake, 6)
    lake.silver("trades")
    for each in range(5):
        land(lake, 1, prefix=f"S{each}")
        lake.silver("trades")


def work(lake: Lake, *jobs: str, tables: tuple[str, ...] = (BRONZE,), **options: Any) -> list[Summary]:
    done = maintenance.run(lake.spark, lake.settings, jobs=jobs or PLANNED, tables=tables, **options)
    return [summary for summary in done if summary.planned]


def rows(lake: Lake, table: str = BRONZE) -> list[Row]:
    return sorted(lake.spark.table(f"lake.{table}").collect(), key=repr)


def files(lake: Lake, table: str = BRONZE) -> int:
    return lake.spark.table(f"lake.{table}.files").count()


def refs(lake: Lake, table: str = BRONZE) -> list[str]:
    return sorted(row["name"] for row in lake.spark.table(f"lake.{table}.refs").collect() if row["name"] != "main")


def on_disk(lake: Lake, table: str = BRONZE) -> set[str]:
    folder = lake.settings.root / "warehouse" / table.replace(".", "/")
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".crc"}


def data_files(lake: Lake, table: str = BRONZE) -> set[str]:
    return {name for name in on_disk(lake, table) if name.endswith(".parquet")}


def history(lake: Lake) -> dict[str, int | None]:
    return {name: lake.spark.table(f"lake.{name}.snapshots").count() for name in (*TABLES, LOG)}


def iceberg(lake: Lake, table: str = BRONZE) -> Any:
    return snapshots.load(lake.spark, BY_NAME[table])


# Compaction


def test_small_files_become_one_and_every_row_stays(landed: Lake) -> None:
    before, cursor = rows(landed), landed.cursor(BRONZE)

    (done,) = work(landed, "compaction")

    assert (done.before["files"], done.counts["files"], done.planned["files"]) == (6, 1, 1)
    assert files(landed) == 1
    assert rows(landed) == before
    assert landed.cursor(BRONZE) == cursor
    assert refs(landed) == []


@contextmanager
def full_disk(spark: SparkSession, size: int) -> Iterator[None]:
    """No file of the JVM's grows beyond so many bytes once compaction begins to write."""
    jvm, rewrite = spark._jvm, compaction._rewrite
    assert jvm is not None
    pid = int(jvm.java.lang.ProcessHandle.current().pid())
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)

    def full(*args: Any) -> None:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
        rewrite(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "_rewrite", full)
        try:
            yield
        finally:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [pytest.param(150_000, id="for the new file"), pytest.param(0, id="for any file")])
def test_a_full_disk_loses_nothing_and_leaves_no_debris(lake: Lake, size: int) -> None:
    with_policy(lake, orphan_days=0)
    hasty = lake.settings.maintenance.model_copy(update={"lease_minutes": 0.02, "longest_write_hours": 1e-9})
    lake.settings = lake.settings.model_copy(update={"maintenance": hasty})
    for number in range(5):
        arrive(lake, trade(trade_id=f"T{number}", note=os.urandom(40_000).hex()))
    before, there = rows(lake), data_files(lake)

    with full_disk(lake.spark, size), pytest.raises(LakehouseError, match="too large"):
        work(lake, "compaction")
    assert rows(lake) == before
    assert there <= data_files(lake)

    time.sleep(1.5)  # the lease runs out
    (done,) = work(lake, "compaction")
    assert (done.before["files"], done.counts["files"]) == (5, 1)
    time.sleep(1.5)
    maintenance.clean(lake.spark, lake.settings, tables=(BRONZE,))
    assert rows(lake) == before
    assert len(data_files(lake) - there) == 1
    assert maintenance.clean(lake.spark, lake.settings, tables=(BRONZE,), dry_run=True)[0].planned == {}


def test_what_was_compacted_is_left_alone_and_a_second_run_writes_nothing(landed: Lake) -> None:
    assert len(work(landed, tables=ALL)) == 1
    before = history(landed)
    assert work(landed, tables=ALL) == []
    assert history(landed) == before


def test_a_dry_run_says_what_is_due_and_writes_nothing(landed: Lake) -> None:
    before, there = history(landed), on_disk(landed)
    (due,) = work(landed, dry_run=True)
    assert (due.job, due.before["files"], due.planned["files"], due.counts, due.snapshot_id) == (
        "compaction", 6, 1, {}, None,
    )  # fmt: skip
    assert str(due).splitlines() == [
        f"compaction: bronze.raw_trades: would change files 6 → 1, bytes {due.before['bytes']:,} → "
        f"{due.before['bytes']:,}",
        "compaction: bronze.raw_trades: 6 files in 1 partitions are small or have deletes to fold in",
    ]
    assert (history(landed), on_disk(landed)) == (before, there)


def test_a_writer_that_read_before_a_compaction_only_tries_again(landed: Lake) -> None:
    base = landed.state(BRONZE)
    work(landed, "compaction")
    stamp = base.next_stamp(datetime.now(UTC))
    cursor = TopicCursor(stamp=stamp, topic="trades", topic_id="id", following={0: 12})
    commit.advance(landed.spark, BY_NAME[BRONZE], base, cursor)
    assert landed.cursor(BRONZE)["to"] == {"0": 12}


def overtaken_by(monkeypatch: pytest.MonkeyPatch, strike: Callable[[], None], staged: str = "compaction") -> None:
    """Lets `strike` commit between the staging of a compaction and its fast-forward."""
    forward = commit._fast_forwarded

    def struck_first(iceberg: Any, branch: str, snapshot: int) -> bool:
        if branch.startswith(staged):
            monkeypatch.setattr(commit, "_fast_forwarded", forward)
            strike()
        return forward(iceberg, branch, snapshot)

    monkeypatch.setattr(commit, "_fast_forwarded", struck_first)


def test_a_compaction_that_a_stream_overtakes_is_done_again_on_top_of_its_commit(
    landed: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    overtaken_by(monkeypatch, lambda: land(landed, 1, prefix="L"))
    (done,) = work(landed, "compaction")
    assert (done.counts["files"], done.planned["files"]) == (2, 1)
    assert len(rows(landed)) == 14
    assert landed.cursor(BRONZE)["to"] == {"0": 14}
    assert refs(landed) == []
    assert landed.spark.table("lake.bronze.raw_trades.snapshots").count() == 9  # first, seven commits, one compaction
    assert len(data_files(landed)) == 8


def test_a_compaction_of_files_that_a_merge_changed_meanwhile_is_given_up(
    processed: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, cursor = rows(processed, SILVER), processed.cursor(SILVER)

    def rewritten_first() -> None:
        processed.spark.sql("CALL lake.system.rewrite_data_files(table => 'silver.trades')").collect()

    overtaken_by(monkeypatch, rewritten_first)
    (done,) = work(processed, "compaction", tables=(SILVER,))
    assert rows(processed, SILVER) == before
    assert processed.cursor(SILVER) == cursor
    assert refs(processed, SILVER) == []
    assert logged(processed)[-1]["detail"] == {"sequences": [], "given_up": 1}
    assert done.counts["files"] == 1


def test_deletes_are_folded_into_their_files(lake: Lake) -> None:
    land(lake, 1)
    lake.silver("trades")
    when = (TODAY - timedelta(days=1)).replace(hour=15, minute=30).strftime("%Y-%m-%dT%H:%M:%SZ")
    for number, status in enumerate(["PARTIAL", "FILLED", "EXECUTED", "SETTLED"]):
        arrive(lake, trade(trade_id="T0a", timestamp=when, status=status), at=TODAY + timedelta(seconds=number))
        lake.silver("trades")
    deletes = "SELECT count(*) FROM lake.silver.trades.delete_files"
    if not lake.spark.sql(deletes).first()[0]:  # type: ignore[index]
        lake.spark.sql("DELETE FROM lake.silver.trades WHERE trade_id = 'T0b'")
        lake.spark.sql("DELETE FROM lake.silver.trades WHERE trade_id = 'none'")
    before = rows(lake, SILVER)
    with_policy(lake, min_input_files=2)
    (done,) = work(lake, "compaction", tables=(SILVER,))
    assert lake.spark.sql(deletes).first()[0] == 0  # type: ignore[index]
    assert rows(lake, SILVER) == before
    assert done.counts["files"] == 1


def test_what_was_compacted_is_sorted_as_declared(lake: Lake) -> None:
    when = (TODAY - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for number, symbol in enumerate(["TSLA", "AAPL", "MSFT", "GOOG", "AMZN"]):
        arrive(lake, trade(trade_id=f"T{number}", symbol=symbol, timestamp=when), at=TODAY)
    work(lake, "compaction")
    kept = [row["symbol"] for row in lake.spark.table("lake.bronze.raw_trades").select("symbol").collect()]
    assert kept == ["AAPL", "AMZN", "GOOG", "MSFT", "TSLA"]


def test_a_compaction_that_loses_a_row_is_not_made_current(landed: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    before, there = rows(landed), data_files(landed)
    rewrite = compaction._rewrite

    def losing(spark: SparkSession, table: Any, policy: Any, group: Any, branch: str, concurrent: int) -> None:
        rewrite(spark, table, policy, group, branch, concurrent)
        spark.sql(f"DELETE FROM {table.identifier}.branch_{branch} WHERE trade_id = 'T3a'")

    monkeypatch.setattr(compaction, "_rewrite", losing)
    with pytest.raises(
        LakehouseError, match="what compaction wrote is not what was there: rows and their hash"
    ) as said:
        work(landed, "compaction")
    assert said.value.exit_code == 1
    assert rows(landed) == before
    assert there <= data_files(landed)
    assert [name[:11] for name in refs(landed)] == ["compaction_"]
    assert logged(landed)[-1]["status"] == "FAILED"


def test_rows_without_an_event_time_are_never_mixed_over_days_of_arrival(lake: Lake) -> None:
    for day in (NOON, NOON + timedelta(days=1)):
        for number in range(5):
            arrive(lake, trade(trade_id=f"N{number}", timestamp=None), at=day + timedelta(minutes=number))
    (done,) = work(lake, "compaction")
    assert done.counts["files"] == 2
    spans = lake.spark.sql(
        "SELECT DISTINCT _file, CAST(_ingested_at AS DATE) AS day FROM lake.bronze.raw_trades ORDER BY day"
    ).collect()
    assert [row["day"] for row in spans] == [date(2025, 6, 1), date(2025, 6, 2)]
    assert len({row["_file"] for row in spans}) == 2


# Snapshots


def test_the_oldest_snapshots_expire_and_their_files_go(landed: Lake) -> None:
    work(landed, "compaction")
    with_policy(landed, snapshot_days=0, min_snapshots=2)
    before, cursor = rows(landed), landed.cursor(BRONZE)
    (done,) = work(landed, "snapshot_expiration")
    assert (done.before["snapshots"], done.counts["snapshots"], done.planned["snapshots"]) == (8, 2, 2)
    assert rows(landed) == before
    assert landed.cursor(BRONZE) == cursor
    with_policy(landed, snapshot_days=0, min_snapshots=1)
    assert work(landed, "snapshot_expiration") == []  # the newest cursor is on the commit before the compaction
    assert len(data_files(landed)) == 7


def test_the_newest_cursor_outlives_any_number_of_compactions(lake: Lake) -> None:
    land(lake, 2)
    cursor = lake.cursor(BRONZE)
    for _ in range(4):
        lake.spark.sql(
            "CALL lake.system.rewrite_data_files(table => 'bronze.raw_trades', options => map('rewrite-all', 'true'))"
        ).collect()
    with_policy(lake, snapshot_days=0, min_snapshots=1)
    (done,) = work(lake, "snapshot_expiration")
    assert done.counts["snapshots"] == 5
    assert lake.cursor(BRONZE) == cursor


@pytest.mark.parametrize("kind", ["Tag", "Branch"])
def test_what_a_user_named_stays_and_all_that_came_after_it(lake: Lake, kind: str) -> None:
    land(lake, 2)
    named = lake.state(BRONZE).snapshot_id
    getattr(iceberg(lake).manageSnapshots(), f"create{kind}")("audited", named).commit()
    land(lake, 3)
    with_policy(lake, snapshot_days=0, min_snapshots=1)
    (done,) = work(lake, "snapshot_expiration")
    assert done.counts["snapshots"] == 4
    assert lake.spark.read.option("versionAsOf", "audited").table("lake.bronze.raw_trades").count() == 4
    assert refs(lake) == ["audited"]


def test_a_branch_that_a_dead_writer_left_goes_with_its_files_and_a_live_one_stays(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "drop", lambda *given: None)
    land(lake, 1)
    for name in ("dead", "live"):
        with pytest.raises(CrashError), fault(BRONZE, STAGES[1], crash):
            land(lake, 1, prefix=name)
    monkeypatch.undo()
    dead, live = refs(lake)
    old = f"commit_20250101T000000_{'d' * 32}"
    iceberg(lake).manageSnapshots().renameBranch(dead, old).commit()
    there = on_disk(lake)
    (done,) = work(lake, "snapshot_expiration")
    assert refs(lake) == [live]
    assert (done.before["branches"], done.counts["branches"]) == (2, 1)
    gone = there - on_disk(lake)
    assert len([name for name in gone if name.endswith(".parquet")]) == 1
    assert lake.spark.table(f"lake.bronze.raw_trades.branch_{live}").count() == 4
    assert len(rows(lake)) == 2


def test_a_writer_whose_branch_was_dropped_only_tries_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    land(lake, 1)

    def dropped() -> None:
        for name in refs(lake):
            commit.drop(iceberg(lake), name)

    overtaken_by(monkeypatch, dropped, "commit")
    land(lake, 1, prefix="U")
    assert len(rows(lake)) == 4
    assert refs(lake) == []


def test_a_writer_that_commits_during_expiry_raises_no_alarm(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with_policy(lake, snapshot_days=0, min_snapshots=1)
    land(lake, 3)
    forget, newest_cursor = commit.forget, snapshots.newest_cursor

    def forgotten(*args: Any) -> None:
        forget(*args)
        monkeypatch.setattr(snapshots, "newest_cursor", overtaken)

    def overtaken(*args: Any) -> Any:
        monkeypatch.setattr(snapshots, "newest_cursor", newest_cursor)
        found = newest_cursor(*args)
        land(lake, 1, prefix="U")
        return found

    monkeypatch.setattr(commit, "forget", forgotten)
    (done,) = work(lake, "snapshot_expiration")
    assert (done.before["snapshots"], done.planned["snapshots"], done.counts["snapshots"]) == (4, 1, 2)
    assert len(rows(lake)) == 8


def test_many_manifests_become_few(lake: Lake) -> None:
    land(lake, 20)
    before, cursor = rows(lake), lake.cursor(BRONZE)
    (done,) = work(lake, "manifest_rewrite")
    assert (done.before, done.counts, done.planned) == ({"manifests": 20}, {"manifests": 1}, {"manifests": 1})
    assert rows(lake) == before
    assert lake.cursor(BRONZE) == cursor
    assert work(lake, "manifest_rewrite") == []


# Retention


def old_lake(lake: Lake) -> None:
    """Trades of 100 days ago and of yesterday; without an event time and dated 2099, arrived long ago and now."""
    lake.create_topics(names=("raw_trades",))
    long_ago = TODAY - timedelta(days=100)
    create_tables(lake.spark, ["bronze.raw_reference"])
    for number, at in enumerate([long_ago, long_ago + timedelta(minutes=1), TODAY]):
        stamp = at.strftime("%Y-%m-%dT%H:%M:%SZ")
        events = {
            "old": (TODAY - timedelta(days=100)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "new": stamp,
            "none": None,
            "future": "2099-01-01T00:00:00Z",
        }
        values = [trade(trade_id=f"{name}{number}", timestamp=when) for name, when in events.items()]
        lake.produce("raw_trades", *values)
        _land_at(lake, at)


def _land_at(lake: Lake, at: datetime) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lakehouse_spark.jobs.bronze_writer.datetime", _Clock(at))
        lake.bronze("raw_trades")


class _Clock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self, zone: Any) -> datetime:
        return self.at


def ids(lake: Lake) -> list[str]:
    return [row["trade_id"] for row in lake.rows(BRONZE, "trade_id")]


def test_old_rows_go_once_they_are_consumed_and_are_counted(lake: Lake) -> None:
    old_lake(lake)
    assert work(lake, "bronze_retention") == []  # silver has consumed nothing
    lake.silver("trades")
    silver = rows(lake, SILVER)
    place = lake.cursor(BRONZE)["to"]

    (done,) = work(lake, "bronze_retention")

    assert (done.before["rows"], done.counts["rows"], done.planned["rows"]) == (12, 3, 3)
    assert ids(lake) == ["future2", "new2", "none2"]
    cursor = lake.cursor(BRONZE)
    assert cursor["to"] == place
    (topic,) = cursor["removed"]
    assert cursor["removed"] == {topic: {"0": 9}}
    assert topic == cursor["topic_id"]
    assert rows(lake, SILVER) == silver

    findings = verify.findings(lake.spark, lake.settings, ingestion.offsets_are_complete)
    assert [(f.violations, f.detail) for f in findings if f.table == BRONZE] == [(0, "0 lost, 9 removed by retention")]
    (accounted,) = (
        f
        for f in verify.findings(lake.spark, lake.settings, ingestion.rows_are_accounted_for)
        if f.check.startswith("bronze rows") and f.table == SILVER
    )
    assert accounted.violations == 0
    assert accounted.detail.startswith("3 + 9 removed by retention = ")


def test_after_retention_the_stream_goes_on_and_a_rebuild_of_silver_keeps_its_rows(lake: Lake) -> None:
    old_lake(lake)
    lake.silver("trades")
    silver = {row["trade_id"] for row in rows(lake, SILVER)}
    work(lake, "bronze_retention")
    lake.ingest("raw_trades", trade(trade_id="later", timestamp=TODAY.strftime("%Y-%m-%dT%H:%M:%SZ")))
    assert sum(lake.cursor(BRONZE)["removed"].popitem()[1].values()) == 9
    silver_processor.run(lake.spark, lake.settings, ("trades",), rebuild=True)
    assert {row["trade_id"] for row in rows(lake, SILVER)} == {*silver, "later"}
    assert lake.cursor(SILVER)["removed_before"] == 9
    findings = verify.findings(lake.spark, lake.settings, ingestion.rows_are_accounted_for)
    assert [f.detail for f in findings if f.violations] == []


def test_a_writer_that_read_before_retention_only_tries_again_and_hands_the_counts_on(
    consumed: Lake, tmp_path: Path
) -> None:
    lake = consumed.copy(tmp_path / "home")
    base = lake.state(BRONZE)
    held = base.cursor_as(TopicCursor)
    assert held is not None
    work(lake, "bronze_retention")
    cursor = TopicCursor(
        stamp=base.next_stamp(datetime.now(UTC)), topic=held.topic, topic_id=held.topic_id, following={0: 12}
    )
    commit.advance(lake.spark, BY_NAME[BRONZE], base, cursor)
    assert lake.cursor(BRONZE)["removed"] == {held.topic_id: {"0": 9}}
    assert len(ids(lake)) == 3


def test_rows_that_are_really_lost_are_told_apart_from_those_that_retention_removed(
    consumed: Lake, tmp_path: Path
) -> None:
    lake = consumed.copy(tmp_path / "home")
    work(lake, "bronze_retention")
    lake.spark.sql("DELETE FROM lake.bronze.raw_trades WHERE trade_id = 'new2'")
    findings = verify.findings(lake.spark, lake.settings, ingestion.offsets_are_complete)
    assert [(f.violations, f.detail) for f in findings if f.table == BRONZE] == [(1, "1 lost, 9 removed by retention")]


# One at a time


def logged(lake: Lake) -> list[dict[str, Any]]:
    found = lake.spark.table(f"lake.{LOG}").orderBy("_logged_at").collect()
    return [{**row.asDict(), "detail": json.loads(row["detail"] or "{}")} for row in found]


def held_by_another(lake: Lake, lease: timedelta) -> None:
    other = journal.Run(lake.spark, lake.settings, lease, id="other")
    action = Action(table=BRONZE, reason="due", before={}, after={})
    object.__setattr__(action, "job", Compaction.job)
    assert other.start([action]) == {}


def test_a_table_that_another_run_holds_is_left_to_it(landed: Lake) -> None:
    held_by_another(landed, timedelta(minutes=5))
    before = history(landed)
    with pytest.raises(RefusedError, match=r"bronze\.raw_trades: held until .* by the compaction of the run other"):
        work(landed)
    assert history(landed) == before
    assert files(landed) == 6


def test_the_lease_of_a_run_that_died_runs_out(landed: Lake) -> None:
    held_by_another(landed, timedelta(0))
    assert len(work(landed)) == 1
    assert [(row["status"], row["job"]) for row in logged(landed)] == [
        ("STARTED", "compaction"), ("STARTED", "compaction"), ("DONE", "compaction"),
    ]  # fmt: skip


def test_the_log_says_what_was_planned_and_done(landed: Lake) -> None:
    (done,) = work(landed)
    started, ended = logged(landed)
    assert started["planned"] == {"files": 1, "bytes": done.before["bytes"]}
    assert started["reason"] == "6 files in 1 partitions are small or have deletes to fold in"
    assert ended["done"] == {"files": 1, "bytes": done.counts["bytes"]}
    assert ended["detail"] == {"sequences": [8], "given_up": 0}
    assert (started["lease_until"] > started["_logged_at"], ended["lease_until"]) == (True, None)


def test_a_failure_on_one_table_does_not_stop_the_others(processed: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite = compaction._rewrite

    def failing(spark: SparkSession, table: Any, *rest: Any) -> None:
        if table.name == BRONZE:
            raise OSError(28, "No space left on device")
        rewrite(spark, table, *rest)

    monkeypatch.setattr(compaction, "_rewrite", failing)
    with pytest.raises(LakehouseError, match=r"^compaction: bronze\.raw_trades: No space left on device$"):
        work(processed, "compaction", tables=(BRONZE, SILVER))
    assert files(processed, SILVER) == 1
    assert refs(processed) == []
    found = survey.take(processed.settings, [BY_NAME[BRONZE]], datetime.now(UTC))
    assert found.journal.last_failure()[BRONZE].detail == {"error": "No space left on device"}


@pytest.mark.parametrize(("table", "stage"), POINTS if ROUNDS >= 20 else [POINTS[1], POINTS[5]])
def test_a_run_that_dies_at_any_commit_is_completed_by_the_next(
    consumed: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, stage: str
) -> None:
    lake = consumed.copy(tmp_path / "home")
    silver = rows(lake, SILVER)
    short_lease = MaintenanceSettings(lease_minutes=0.001, layers=lake.settings.maintenance.layers)
    lake.settings = lake.settings.model_copy(update={"maintenance": short_lease})
    with monkeypatch.context() as patch:
        patch.setattr(commit, "drop", lambda *given: None)
        with pytest.raises((CrashError, LakehouseError)), fault(table, stage, crash):
            work(lake)
    work(lake)
    assert ids(lake) == ["future2", "new2", "none2"]
    assert rows(lake, SILVER) == silver
    assert sum(lake.cursor(BRONZE)["removed"].popitem()[1].values()) == 9


def test_an_empty_table_and_one_of_a_single_snapshot_need_nothing(lake: Lake) -> None:
    assert work(lake, tables=ALL) == []
    land(lake, 1)
    assert work(lake, tables=ALL) == []


# Files that no metadata knows


def planted(lake: Lake, name: str, days: float) -> Path:
    """A file beside the table's own, last written so many days ago."""
    path = lake.settings.root / "warehouse" / "bronze" / "raw_trades" / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"debris")
    then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    os.utime(path, (then, then))
    return path


def clean(lake: Lake, **options: Any) -> list[Summary]:
    done = maintenance.clean(lake.spark, lake.settings, tables=(BRONZE,), **options)
    return [summary for summary in done if summary.planned]


def test_orphans_go_once_they_are_old_and_nothing_else_does(lake: Lake) -> None:
    land(lake, 3)
    old, young = planted(lake, "old.parquet", 4), planted(lake, "young.parquet", 2)
    before, there = rows(lake), on_disk(lake)

    (due,) = clean(lake, dry_run=True)
    assert (due.before, due.planned, due.counts) == (
        {"files there": len(there) + crcs(lake)}, {"files there": len(there) + crcs(lake) - 1}, {},
    )  # fmt: skip
    assert old.exists()

    (done,) = clean(lake)

    assert there - on_disk(lake) == {"data/old.parquet"}
    assert young.exists()
    assert rows(lake) == before
    assert logged(lake)[-1]["detail"] == {"quarantined": False, "gone": [str(old)], "failed": {}}
    assert done.counts == due.planned
    assert clean(lake) == []
    assert logged(lake)[-1]["done"] == {}


def crcs(lake: Lake) -> int:
    return len(list((lake.settings.root / "warehouse" / "bronze" / "raw_trades").rglob("*.crc")))


def test_what_was_set_aside_comes_back(lake: Lake) -> None:
    land(lake, 1)
    path = planted(lake, "old.parquet", 4)
    clean(lake, quarantine=True)
    assert not path.exists()
    (run_id,) = {row["run_id"] for row in logged(lake)}
    clean(lake, restore=run_id)
    assert path.read_bytes() == b"debris"
    with pytest.raises(UsageError, match="no table has files that the run 'nobody' set aside"):
        clean(lake, restore="nobody")


def test_an_orphan_cleanup_that_would_take_too_much_or_too_soon_is_refused(lake: Lake) -> None:
    land(lake, 1)
    for number in range(40):
        planted(lake, f"old{number}.parquet", 4)
    with pytest.raises(RefusedError) as too_much:
        clean(lake)
    assert too_much.value.exit_code == 3
    with_policy(lake, orphan_days=0)
    with pytest.raises(RefusedError, match="may be of a write that is not over"):
        clean(lake)
    assert len(data_files(lake)) == 41


def test_the_plan_is_told_from_metadata_alone(
    landed: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = planted(landed, "old.parquet", 4)
    before = history(landed)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(landed.settings.root))
    monkeypatch.setattr("sys.argv", ["lakehouse", "plan", "--table", "raw_trades", "--orphans", "--json"])
    monkeypatch.setattr(session, "open_session", None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (None, 0)
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    assert (table["table"], table["looked_for_orphans"]) == (BRONZE, None)
    assert [(action["job"], action["parts"]) for action in table["actions"]] == [("orphan_cleanup", [str(old)])]
    assert {(kept["job"], kept["number"], kept["why"]) for kept in table["kept"]} == {
        ("compaction", 1, "still being written"),
        ("manifest_rewrite", 6, "few enough, or as large as they should be"),
        ("snapshot_expiration", 1, "carries the newest cursor"),
        ("snapshot_expiration", 4, "one of the 5 newest"),
        ("snapshot_expiration", 2, "younger than 7 days"),
    }
    assert history(landed) == before
