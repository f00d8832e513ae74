"""Maintenance of a lakehouse on an object store and a REST catalog, whose answers get lost, late, or errors, and whose
store is killed in mid-commit: what is due is done once, no live file is gone, and the next run goes on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import verify
from lakehouse_spark.catalog import BY_NAME, LAYERS
from lakehouse_spark.jobs import maintenance
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import snapshots
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.metadata.maintenance_log import TABLE as LOG
from lakehouse_spark.settings import MaintenanceSettings, PolicySettings, Settings
from lakehouse_spark.verify import ingestion, storage
from tests.support.child import MADE, chain, round_of
from tests.support.faults import ROUNDS
from tests.support.lake import Lake
from tests.support.proxy import Answer, Request
from tests.support.wire import (
    BRANCH,
    EXPIRE,
    HOLD,
    LOST,
    PUBLISH,
    RAW,
    SILVER,
    WRITE,
    Wire,
    at_random,
    once,
    stage_of,
    strung,
)

EAGER = PolicySettings(settle_minutes=0, snapshot_days=0, min_snapshots=2, min_input_files=2, orphan_days=0)
ALL_DUE = MaintenanceSettings(
    layers=dict.fromkeys(LAYERS, EAGER), tables={LOG.name: PolicySettings(min_snapshots=1_000)},
    longest_write_hours=0.000001, orphan_share=1, lease_minutes=0.02,
)  # fmt: skip
COMPACTION, EXPIRY, RETENTION, CLEANUP = "compaction", "snapshot_expiration", "bronze_retention", "orphan_cleanup"
IN_ORDER = (COMPACTION, EXPIRY, RETENTION, CLEANUP)


@pytest.fixture(scope="module")
def wire(
    spark: SparkSession, settings: Settings, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Wire]:
    with strung(spark, settings, broker, tmp_path_factory.mktemp("kept"), (*MADE, LOG.name)) as made:
        made.lake.settings = made.lake.settings.model_copy(update={"maintenance": ALL_DUE})
        yield made


def job(name: str, *tables: str) -> Callable[[Lake], list[Summary]]:
    chosen = tables or (RAW, SILVER)
    if name == CLEANUP:
        return lambda lake: maintenance.clean(lake.spark, lake.settings, tables=chosen)
    return lambda lake: maintenance.run(lake.spark, lake.settings, jobs=(name,), tables=chosen)


def make_due(wire: Wire, number: int) -> None:
    """Small files, old snapshots, old rows that are consumed, and files that no metadata knows."""
    wire.lake.produce("raw_trades", *round_of(10 * number))
    wire.lake.bronze("raw_trades")
    wire.lake.produce("raw_trades", *round_of(10 * number + 1))
    chain(wire.lake)
    for table in (RAW, SILVER):
        place = snapshots.load(wire.lake.spark, BY_NAME[table]).location().removeprefix("s3://")
        with wire.store.files.open_output_stream(f"{place}/data/left-{number}.parquet") as file:
            file.write(b"left")


def left(wire: Wire) -> list[str]:
    return [path for path in wire.objects if "/data/left-" in path]


def rewrites(lake: Lake, table: str) -> int:
    """Of the snapshots on main, how many replaced files by others with the same rows."""
    iceberg = snapshots.load(lake.spark, BY_NAME[table])
    return [each.operation() for each in snapshots.ancestors(iceberg, iceberg.currentSnapshot())].count("replace")


def planned(wire: Wire, name: str, *tables: str) -> list[str]:
    """The tables for which it still has something to do."""
    chosen = tables or (RAW, SILVER)
    done = maintenance.run(wire.lake.spark, wire.lake.settings, jobs=(name,), tables=chosen, dry_run=True)
    return [summary.table for summary in done if summary.planned]


@contextmanager
def unchanged(wire: Wire, *checks: verify.Check) -> Iterator[None]:
    """What holds goes on to hold, and what readers see of silver does not change."""
    before = wire.lake.content(SILVER)
    yield
    assert wire.lake.content(SILVER) == before
    found = verify.findings(wire.lake.spark, wire.lake.settings, *(checks or HOLD))
    assert [str(each) for each in found if each.violations] == []


def goes_on(wire: Wire, name: str, said: str | None, *tables: str) -> None:
    """What was told of a disturbed run is a sentence, and the next one, undisturbed, leaves nothing to do."""
    assert said is None or "\n" not in said
    if said is not None:
        assert wire.run(job(name, *tables)) is None, said
    if name != CLEANUP:
        assert planned(wire, name, *tables) == []


def test_maintenance_whose_answers_were_lost_is_done_once(wire: Wire) -> None:
    make_due(wire, 1)
    with unchanged(wire, ingestion.offsets_are_complete, storage.files_exist):
        for name, stage, how in (
            (COMPACTION, PUBLISH, "cut"), (EXPIRY, EXPIRE, "a 500"), (RETENTION, PUBLISH, "a 503"),
        ):  # fmt: skip
            rule, struck = once(RAW, stage, LOST[how])
            with wire.disturbed(catalog=rule):
                said = wire.run(job(name, RAW))
            assert struck == [stage]
            goes_on(wire, name, said, RAW)
        assert rewrites(wire.lake, RAW) == 1
        # Two of twelve are no JSON, and so of no day: of those it is the arrival that counts.
        assert wire.lake.spark.table(f"lake.{RAW}").count() == 2
        deleted: list[str] = []

        def lose(request: Request) -> Answer | None:
            if request.method != "DELETE" or deleted:
                return None
            deleted.append(request.path)
            return Answer(500, is_done=True)

        assert len(left(wire)) == 2
        with wire.disturbed(store=lose):
            said = wire.run(job(CLEANUP))
        goes_on(wire, CLEANUP, said)
        assert (len(deleted), left(wire)) == (1, [])
    assert wire.branches == set()


@pytest.mark.soak
@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize(
    ("name", "stage"),
    [(COMPACTION, BRANCH), (COMPACTION, WRITE), (COMPACTION, PUBLISH), (EXPIRY, EXPIRE), (RETENTION, BRANCH),
     (RETENTION, WRITE), (RETENTION, PUBLISH)],
)  # fmt: skip
def test_each_lost_answer_to_maintenance_is_made_up_for(wire: Wire, name: str, stage: str, how: str) -> None:
    make_due(wire, 100 + 10 * list(LOST).index(how))
    with unchanged(wire):
        before = rewrites(wire.lake, RAW)
        rule, struck = once(RAW, stage, LOST[how])
        with wire.disturbed(catalog=rule):
            said = wire.run(job(name))
        assert struck == [stage]
        goes_on(wire, name, said)
        if name != EXPIRY:  # which takes those of before from the history
            assert rewrites(wire.lake, RAW) - before == (1 if name == COMPACTION else 0)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "stage"), [(COMPACTION, WRITE), (COMPACTION, PUBLISH), (EXPIRY, EXPIRE), (RETENTION, WRITE)]
)
def test_maintenance_whose_store_is_killed_in_mid_commit_goes_on_once_it_is_back(
    wire: Wire, name: str, stage: str
) -> None:
    """It is back after some seconds, while the catalog still asks it for what a table was: Iceberg's own server tries
    for minutes to answer a question."""
    make_due(wire, 200)
    with unchanged(wire):
        before, killed, back = rewrites(wire.lake, RAW), list[str](), Timer(5, wire.store.start)

        def kill(request: Request) -> None:
            if not killed and stage_of(request, RAW) == stage:
                killed.append(stage)
                wire.store.kill()
                back.start()

        with wire.disturbed(catalog=kill):
            said = wire.run(job(name))
        assert killed == [stage]
        back.join()
        goes_on(wire, name, said)
        if name != EXPIRY:  # which takes those of before from the history
            assert rewrites(wire.lake, RAW) - before == (1 if name == COMPACTION else 0)


@pytest.mark.soak
def test_maintenance_by_answers_that_are_late_lost_or_errors_at_random_ends_as_undisturbed(wire: Wire) -> None:
    for number in range(ROUNDS):
        make_due(wire, 300 + number)
        store, catalog = at_random(20260301 + number)
        with unchanged(wire):
            for name in IN_ORDER:
                with wire.disturbed(store=store, catalog=catalog):
                    tries = [wire.run(job(name)) for _ in range(2)]
                assert [said for said in tries if said and "\n" in said] == []
                assert wire.run(job(name)) is None, tries
                goes_on(wire, name, None)
        assert left(wire) == []
    chain(wire.lake)
