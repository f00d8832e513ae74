"""A move that is killed, and backups that are made while live mode works.

SOAK_ROUNDS sets at how many steps of each kind a move is killed, from 20 on (`scripts/soak`).
"""

import random
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import verify
from lakehouse_spark.iceberg import pyiceberg
from lakehouse_spark.jobs import pipeline
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.loopback import wait_for
from lakehouse_spark.move import Move
from lakehouse_spark.settings import Settings
from tests.support.child import Children, round_of
from tests.support.faults import ROUNDS
from tests.support.killed_move import APPEAR, COPY, WRITE, killed, steps
from tests.support.lake import ALL_TOPICS, Lake
from tests.support.lakehouses import connect, unpack_few
from tests.support.two_beats import begin, digests

TABLES = 5


def hashes(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest() for file in files}


def appeared(home: Path) -> int:
    """How many tables are there, each of which is whole."""
    if not (home / "catalog.db").exists():
        return 0
    catalog = pyiceberg.open_catalog(Settings(home=home))
    names = [name for space in catalog.list_namespaces() for name in catalog.list_tables(space)]
    for name in names:
        catalog.load_table(name).scan().to_arrow()
    return len(names)


def chosen(kinds: list[str]) -> list[list[int]]:
    """Steps at which moves to one target each are killed, one after the other."""
    first = {kind: kinds.index(kind) for kind in (COPY, WRITE, APPEAR)}
    if ROUNDS < 20:
        return [[first[COPY] + 10, first[APPEAR] + 1]]
    of_kind = {kind: [step for step, each in enumerate(kinds) if each == kind] for kind in first}
    draw = random.Random(7)
    return [[draw.choice(of_kind[kind]) for kind in (COPY, WRITE, APPEAR)] for _ in range(ROUNDS // 4)]


def test_killed_anywhere_it_is_run_again_and_a_table_is_whole_or_not_there(tmp_path: Path) -> None:
    home, undisturbed = tmp_path / "home", tmp_path / "undisturbed"
    unpack_few(home)
    before = hashes(home)
    kinds = steps(home, undisturbed)
    assert appeared(undisturbed) == TABLES
    for number, struck in enumerate(chosen(kinds)):
        there = tmp_path / f"there {number}"
        for step in struck:
            killed(home, there, step)
            assert appeared(there) == kinds[: step + 1].count(APPEAR)

        done = Move(Settings(home=home), Settings(home=there)).run(lambda sentence: None)

        assert done.registered == TABLES - kinds[: struck[-1] + 1].count(APPEAR)
        assert appeared(there) == TABLES
        assert {*hashes(there)} == {*hashes(undisturbed)}
        assert _data(there) == _data(undisturbed)
    assert hashes(home) == before


def _data(home: Path) -> dict[str, str]:
    return {name: found for name, found in hashes(home).items() if name.endswith(".parquet")}


def _has_changed(lake: Lake, seen: int | None) -> bool:
    return lake.state("silver.trades").snapshot_id != seen


@pytest.mark.soak
def test_backups_beside_live_mode_are_lakehouses_that_go_on(
    settings: Settings, spark: SparkSession, broker: Broker, tmp_path: Path
) -> None:
    lake = Lake.migrated(spark, broker.bootstrap_servers, tmp_path / "home")
    lake.create_topics(names=ALL_TOPICS)
    begin(lake)
    update = {"cache": settings.jar_cache, "spark": settings.spark}
    child = Children(lake.settings.model_copy(update=update), tmp_path).start()
    backups: list[Lake] = []
    try:
        child.tell("live", tables=[])
        for number in range(max(ROUNDS // 4, 3)):
            seen = lake.state("silver.trades").snapshot_id
            lake.produce("raw_trades", *round_of(number))
            # The tables behind silver are in the middle of their beat then.
            assert wait_for(partial(_has_changed, lake, seen), 180)
            place = lake.settings.model_copy(update={"home": tmp_path / f"backup {number}"})
            Move(lake.settings, place, beside_writers=True).run(lambda sentence: None)
            backups.append(Lake(connect(spark, place.root), place))
    finally:
        child.kill()
    pipeline.run(lake.spark, lake.settings)
    for backup in backups:
        found = verify.go_on(backup.spark, backup.settings, in_full=True).findings
        assert [str(each) for each in found if not each.holds] == []
        pipeline.run(backup.spark, backup.settings)
        assert digests(backup) == digests(lake)
