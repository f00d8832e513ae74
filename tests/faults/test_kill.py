"""Jobs that are killed, stopped, overtaken or out of disk anywhere: the tables end as if nothing had happened.

SOAK_ROUNDS sets how many times a working process is killed at a random moment; from 20 on (`scripts/soak`), kill -9
also strikes at every named point instead of three.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from lakehouse_spark.errors import LakehouseError, LostRaceError
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.testing import STAGES, CrashError, crash, fault
from tests.support.child import MADE, TABLES, Children, chain, meet, round_of
from tests.support.faults import ROUNDS
from tests.support.lake import Lake

POINTS = [(table, stage) for table in TABLES for stage in STAGES]
KILLED = POINTS if ROUNDS >= 20 else [
    ("bronze.raw_trades", "after the fast-forward"),
    ("silver._rejected_records", "after the fast-forward"),
    ("silver.trades", "between staging and fast-forward"),
]  # fmt: skip


@pytest.fixture
def lake(spark: SparkSession, broker: Broker, tmp_path: Path) -> Lake:
    """The tables that trades pass through, and their topic."""
    made = Lake.new(spark, broker.bootstrap_servers, tmp_path / "home", MADE)
    made.create_topics(names=["raw_trades"])
    return made


def contents(lake: Lake) -> dict[str, list[Row]]:
    return {table: lake.content(table) for table in TABLES}


def assert_as_if_nothing_had_happened(lake: Lake, undisturbed: Lake, records: int) -> None:
    """The tables are those of one run over the same records, and every record was counted once."""
    chain(undisturbed)
    assert contents(lake) == contents(undisturbed)
    for each in (lake, undisturbed):
        totals = each.cursor("silver.trades")["totals"]
        assert totals["records"] == each.spark.table("lake.bronze.raw_trades").count() == records
        # of each six: a, b and a's next status; b again; b's other price and no JSON
        assert (totals["accepted"], totals["duplicates"], totals["rejected"]) == (
            records // 2, records // 6, records // 3,
        )  # fmt: skip
        assert totals["rows"] == each.spark.table("lake.silver.trades").count() == records // 3


def test_a_crash_at_any_point_of_any_commit_leaves_nothing_to_repair(
    lake: Lake, undisturbed: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_spark.lake.commit.drop", lambda *given: None)
    points = POINTS if ROUNDS >= 20 else POINTS[::2]
    for number, (table, stage) in enumerate(points):
        lake.produce("raw_trades", *round_of(number))
        before = lake.state(table).snapshot_id
        seen = LakehouseError if table == "bronze.raw_trades" else CrashError  # Spark passes on no exception as it is
        with pytest.raises(seen), fault(table, stage, crash):
            chain(lake)
        assert (lake.state(table).snapshot_id != before) == (stage == "after the fast-forward"), (table, stage)
    chain(lake)
    assert_as_if_nothing_had_happened(lake, undisturbed, records=6 * len(points))


@pytest.mark.soak
def test_kill_9_at_named_points_leaves_nothing_to_repair(lake: Lake, undisturbed: Lake, children: Children) -> None:
    for number, (table, stage) in enumerate(KILLED):
        lake.produce("raw_trades", *round_of(number))
        before = lake.state(table).snapshot_id
        child = children.start()
        child.tell("chain", table=table, stage=stage, strike="kill")
        assert child.answer() is None
        assert child.process.returncode == -signal.SIGKILL
        assert (lake.state(table).snapshot_id != before) == (stage == "after the fast-forward"), (table, stage)
    chain(lake)
    assert_as_if_nothing_had_happened(lake, undisturbed, records=6 * len(KILLED))


@pytest.mark.soak
def test_kill_9_at_random_moments_leaves_nothing_to_repair(lake: Lake, undisturbed: Lake, children: Children) -> None:
    chance = random.Random(20250101 + ROUNDS)
    for number in range(ROUNDS):
        child = children.start()
        child.tell("endless", number=1000 * number)
        time.sleep(chance.uniform(0.5, 20))  # the moment is the test: no condition to await
        assert child.process.poll() is None, child.log.read_text()[-3000:]
        child.kill()
    lake.produce("raw_trades", *round_of(9_999))
    chain(lake)
    produced = lake.cursor("bronze.raw_trades")["to"]["0"]
    chain(undisturbed)
    assert contents(lake) == contents(undisturbed)
    offsets = [row["_kafka_offset"] for row in lake.rows("bronze.raw_trades", "_kafka_offset")]
    assert offsets == list(range(produced))
    assert lake.cursor("silver.trades")["totals"]["records"] == produced


@pytest.mark.soak
def test_of_two_writers_at_once_exactly_one_commits_each_range(
    lake: Lake, undisturbed: Lake, children: Children, tmp_path: Path
) -> None:
    child = children.start()
    records = 0
    for number, (job, table) in enumerate([("bronze", "bronze.raw_trades"), ("silver", "silver.trades")] * 2):
        folder = tmp_path / f"meeting {number}"
        folder.mkdir()
        if job == "bronze":
            lake.produce("raw_trades", *round_of(number))
            records += 6
        before = commits(lake, table)
        child.tell(job, table=table, stage="before it is staged", strike="meet", folder=str(folder))
        outcomes = [run_and_meet(lake, job, table, folder), child.answer()]
        assert sorted(outcomes) == [[0, ""], [3, "LostRaceError"]]
        assert commits(lake, table) == before + 1
        if job == "silver":
            lake.silver("trades", "trader_activity")
    assert_as_if_nothing_had_happened(lake, undisturbed, records)


def commits(lake: Lake, table: str) -> int:
    """How many snapshots were ever current; what the loser staged was not."""
    return lake.spark.table(f"lake.{table}.history").count()


def run_and_meet(lake: Lake, job: str, table: str, folder: Path) -> list[Any]:
    try:
        with fault(table, "before it is staged", lambda: meet(folder, "parent", "child")):
            lake.bronze("raw_trades") if job == "bronze" else lake.silver("trades")
    except LostRaceError as lost:
        return [lost.exit_code, type(lost).__name__]
    return [0, ""]


@pytest.mark.soak
def test_a_writer_that_slept_while_another_overtook_it_is_refused(
    lake: Lake, undisturbed: Lake, children: Children
) -> None:
    child = children.start()
    lake.produce("raw_trades", *round_of(0))
    for job, table, stage in (
        ("bronze", "bronze.raw_trades", "before it is staged"),
        ("silver", "silver.trades", "between staging and fast-forward"),
    ):
        child.tell(job, table=table, stage=stage, strike="stop")
        child.await_stop()
        lake.bronze("raw_trades") if job == "bronze" else lake.silver("trades", "trader_activity")
        won = lake.state(table)
        os.kill(child.process.pid, signal.SIGCONT)
        assert child.answer() == [3, "LostRaceError"]
        assert lake.state(table) == won
    assert_as_if_nothing_had_happened(lake, undisturbed, records=6)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 16 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here: a small file system cannot be made")
    if done.returncode:
        pytest.skip(f"a small file system needs the right to mount: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.soak
def test_a_full_disk_ends_the_job_with_a_clear_error_and_a_later_run_completes(
    spark: SparkSession, broker: Broker, undisturbed: Lake, lake: Lake, small_disk: Path
) -> None:
    full = Lake.new(spark, broker.bootstrap_servers, small_disk / "home", MADE).on_topics_of(lake)
    for number, left in enumerate((0, 8_192, 32_768, 65_536)):
        full.produce("raw_trades", *round_of(number))
        fill(small_disk / "ballast", left)
        with pytest.raises(Exception, match=r"(?i)no space left|database or disk is full|SQLITE_FULL"):
            chain(full)
        small_disk.joinpath("ballast").unlink()
    chain(full)
    assert_as_if_nothing_had_happened(full, undisturbed, records=24)


def fill(ballast: Path, left: int) -> None:
    """Takes all room but about `left` bytes."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError:
            pass
        file.truncate(max(0, file.tell() - left))
