"""A lakehouse that moves from a folder to S3 and a REST catalog after its first beat, has its second one there on the
same topics, and moves back: at each place it is the lakehouse that never moved. Of trades alone; of every layer, with
`verify --full` at each place, in `scripts/soak`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from lakehouse_spark import verify
from lakehouse_spark.catalog import BY_NAME, TABLES
from lakehouse_spark.errors import LakehouseError, RefusedError
from lakehouse_spark.iceberg import metadata, pyiceberg
from lakehouse_spark.jobs import pipeline
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.maintenance.journal import LAKEHOUSE, Run
from lakehouse_spark.metadata import maintenance_log
from lakehouse_spark.move import Move, Moved
from lakehouse_spark.move.target import Target
from lakehouse_spark.settings import Settings
from tests.support import servers
from tests.support.child import MADE, chain
from tests.support.child import TABLES as CHAIN
from tests.support.lake import ALL_TOPICS, Lake, trade
from tests.support.lakehouses import connect, unpack_few
from tests.support.object_store import ObjectStore
from tests.support.rest_catalog import RestCatalog
from tests.support.two_beats import begin, digests, go_on


@dataclass
class Journey:
    """One lakehouse at each place, and one that saw the same and stayed."""

    here: Lake
    """In a folder, after the first beat."""
    there: Lake
    """On servers, after the second."""
    back: Lake
    """In another folder."""
    stayed: Lake
    moved: tuple[Moved, Moved]


def quiet(sentence: str) -> None:
    """Nobody wants to know."""


def move(here: Settings, there: Settings) -> Moved:
    return Move(here, there).run(quiet)


@pytest.fixture(scope="module")
def catalog(
    settings: Settings, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestCatalog]:
    """One without any table: other tests fill the shared one."""
    with RestCatalog.of(settings, tmp_path_factory.mktemp("catalog") / "moved", object_store) as running:
        yield running


@pytest.fixture(scope="module")
def journey(
    spark: SparkSession, broker: Broker, catalog: RestCatalog, tmp_path_factory: pytest.TempPathFactory
) -> Journey:
    homes = tmp_path_factory.mktemp("journey")
    here = Lake.migrated(spark, broker.bootstrap_servers, homes / "here")
    here.create_topics(names=ALL_TOPICS)
    begin(here)
    pipeline.run(here.spark, here.settings)
    stayed = here.copy(homes / "stayed")

    settings = there_of(here, catalog, homes / "there")
    first = move(here.settings, settings)
    there = Lake(servers.connect(spark, settings), settings)
    go_on(there)
    for lake in (there, stayed):
        pipeline.run(lake.spark, lake.settings)

    settings = here.settings.model_copy(update={"home": homes / "back"})
    second = move(there.settings, settings)
    return Journey(here, there, Lake(connect(spark, settings.root), settings), stayed, (first, second))


def violations(lake: Lake) -> list[str]:
    verified = verify.go_on(lake.spark, lake.settings, in_full=True)
    assert verified.complaint is None
    assert {found.invariant for found in verified.findings} == {invariant.name for invariant in verify.CHECKS}
    return [str(found) for found in verified.findings if not found.holds]


@pytest.mark.soak
def test_the_second_beat_there_is_that_of_a_lakehouse_that_stayed(journey: Journey) -> None:
    assert digests(journey.there) == digests(journey.stayed)
    assert sorted(row[0] for row in journey.there.rows("silver.trades", "trade_id")) == ["T1", "T2", "T3", "T5", "T6"]
    bronze = journey.there.rows("bronze.raw_trades", "_kafka_offset", order="_kafka_offset")
    assert [row[0] for row in bronze] == [0, 1, 2, 3, 4, 5, 6, 7, 8], "no record is read twice, and none is left out"


@pytest.mark.soak
def test_every_invariant_holds_there_in_full(journey: Journey) -> None:
    assert violations(journey.there) == []


@pytest.mark.soak
def test_back_in_a_folder_it_is_what_it_was_there_with_its_deletes(journey: Journey) -> None:
    kept = metadata.read(journey.back.settings, TABLES)
    assert sum(len(table.delete_files) for table in kept.values()) > 0
    assert digests(journey.back) == digests(journey.there)
    before = {table.name: journey.back.snapshots(table.name) for table in TABLES}
    assert [done.table for done in pipeline.run(journey.back.spark, journey.back.settings) if done.snapshot_id] == []
    assert before == {table.name: journey.there.snapshots(table.name) for table in TABLES}


def there_of(lake: Lake, catalog: RestCatalog, home: Path) -> Settings:
    """The settings of the same lakehouse on servers."""
    of_home = {"home": home, "kafka": lake.settings.kafka}
    return servers.settings_of(catalog.environment).model_copy(update=of_home)


def seen(lake: Lake) -> dict[str, list[Row]]:
    return {name: lake.content(name) for name in CHAIN}


def test_jobs_go_on_on_servers_and_then_back_in_a_folder(
    spark: SparkSession, broker: Broker, settings: Settings, object_store: ObjectStore, tmp_path: Path
) -> None:
    here = Lake.new(spark, broker.bootstrap_servers, tmp_path / "here", MADE).keeping_headers("raw_trades")
    here.create_topics(names=["raw_trades"])
    sent = [("trace", b"\xff\x00"), ("empty", b""), ("null", None)]
    here.produce("raw_trades", trade(trade_id="T1", status="PARTIAL"), trade(trade_id="T2"), b"{", headers=sent)
    chain(here)
    stayed = here.copy(tmp_path / "stayed")
    with RestCatalog.of(settings, tmp_path / "chain", object_store) as running:
        place = there_of(here, running, tmp_path / "there")
        move(here.settings, place)
        there = Lake(servers.connect(spark, place), place)
        here.produce("raw_trades", trade(trade_id="T1"), trade(trade_id="T3", status="PARTIAL"), trade(trade_id="T2"))
        for lake in (there, stayed):
            chain(lake)
        assert seen(there) == seen(stayed)

        place = here.settings.model_copy(update={"home": tmp_path / "back"})
        move(there.settings, place)
    assert len(metadata.of(place, BY_NAME["silver.trades"]).delete_files) == 1
    back = Lake(connect(spark, place.root), place)
    here.produce("raw_trades", trade(trade_id="T3"))
    for lake in (back, stayed):
        chain(lake)

    assert seen(back) == seen(stayed)
    assert [tuple(row) for row in back.rows("silver.trades", "trade_id", "status")] == [
        ("T1", "EXECUTED"), ("T2", "EXECUTED"), ("T3", "EXECUTED")
    ]  # fmt: skip
    kept = back.rows("bronze.raw_trades", "_kafka_headers", order="_kafka_offset")
    assert [row[0] for row in kept] == [sent] * 3 + [None] * 4
    totals = back.cursor("silver.trades")["totals"]
    assert {name: totals[name] for name in ("records", "accepted", "duplicates", "rejected", "rows")} == {
        "records": 7, "accepted": 5, "duplicates": 1, "rejected": 1, "rows": 3,
    }  # fmt: skip


def test_where_live_mode_is_at_work_a_lakehouse_is_backed_up_but_not_moved_and_the_backup_restored(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = Lake.new(spark, "127.0.0.1:1", tmp_path / "home", ("silver.trades", maintenance_log.TABLE.name))
    backup, restored = (lake.settings.model_copy(update={"home": tmp_path / name}) for name in ("backup", "restored"))
    run = Run(lake.spark, lake.settings, timedelta(minutes=10))
    assert run.hold(LAKEHOUSE, "live", "a beat every minute") is None
    with pytest.raises(RefusedError, match=rf"live holds the lakehouse, as run {run.id}, until 2"):
        move(lake.settings, backup)
    assert not backup.root.exists()
    assert Move(lake.settings, backup, beside_writers=True).run(quiet).registered == 2
    run.end(LAKEHOUSE, "live", "DONE")
    # The lease is in the backup, and whoever ended it is not.
    with pytest.raises(RefusedError, match="live holds the lakehouse"):
        move(backup, restored)
    Move(backup, restored, beside_writers=True).run(quiet)
    log = Lake(connect(spark, restored.root), restored).rows(maintenance_log.TABLE.name, "run_id", "job", "status")
    assert [tuple(row) for row in log] == [(run.id, "live", "STARTED")]


def embedded_at_s3(store: ObjectStore, home: Path, **changes: str) -> Settings:
    """A lakehouse whose catalog is in a folder, and its files are on S3."""
    return servers.settings_of({**store.environment, **changes}).model_copy(update={"home": home})


def test_a_catalog_in_a_folder_leads_to_files_on_s3_and_back(object_store: ObjectStore, tmp_path: Path) -> None:
    homes = [Settings(home=tmp_path / name) for name in ("here", "back")]
    unpack_few(homes[0].root)
    there = embedded_at_s3(object_store, tmp_path / "there", LAKEHOUSE_CATALOG__WAREHOUSE="s3a://warehouse/embedded")
    for source, target in ((homes[0], there), (there, homes[1])):
        assert (move(source, target).copied, move(source, target).copied) == (23, 0)
    trades = [pyiceberg.open_catalog(each).load_table("silver.trades") for each in (homes[0], there, homes[1])]
    assert trades[1].location() == "s3a://warehouse/embedded/silver/trades"
    assert [table.scan().to_arrow().num_rows for table in trades] == [12, 12, 12]
    assert trades[0].scan().to_arrow() == trades[2].scan().to_arrow()


@pytest.mark.soak
def test_a_server_goes_on_where_an_interruption_left_it(
    settings: Settings, object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, register, registered = Settings(home=tmp_path / "here"), Target.register, list[str]()
    unpack_few(here.root)

    def failing(self: Target, name: str, *rest: Any) -> None:
        registered.append(name)
        if len(registered) == 3:
            raise OSError("the cable is out")
        register(self, name, *rest)

    with RestCatalog.of(settings, tmp_path / "interrupted", object_store) as running:
        there = servers.settings_of(running.environment)
        with monkeypatch.context() as patch:
            patch.setattr(Target, "register", failing)
            with pytest.raises(LakehouseError, match="the move stopped: the cable is out"):
                move(here, there)
        trades = pyiceberg.open_catalog(here).load_table("silver.trades")
        trades.append(trades.scan(limit=1).to_arrow())
        assert (move(here, there).copied, move(here, there).registered) == (1, 0)
        moved = pyiceberg.open_catalog(there).load_table("silver.trades")
        assert moved.location() == "s3://warehouse/interrupted/silver/trades"
        assert moved.scan().to_arrow().num_rows == 13
        with moved.transaction() as transaction:
            transaction.set_properties({"a": "b"})
        with pytest.raises(RefusedError, match=r"the target holds silver\.trades already"):
            move(here, there)


def test_a_store_that_takes_no_file_is_one_sentence(object_store: ObjectStore, tmp_path: Path) -> None:
    here = Settings(home=tmp_path / "here")
    unpack_few(here.root)
    wrong = {
        "a stranger": {"LAKEHOUSE_S3__SECRET_ACCESS_KEY": "canary-of-a-stranger"},
        "who may only look": object_store.environment_of("reader"),
    }
    for who, key in wrong.items():
        with pytest.raises(LakehouseError) as stopped:
            move(here, embedded_at_s3(object_store, tmp_path / who, **key))
        assert stopped.value.happened.startswith("the move stopped: ")
        assert stopped.value.advice == "Run it again: what is there is not copied again"
        assert "canary" not in str(stopped.value)
        assert "\n" not in str(stopped.value)


@pytest.mark.soak
def test_every_invariant_holds_back_in_a_folder_in_full(journey: Journey) -> None:
    assert violations(journey.back) == []
