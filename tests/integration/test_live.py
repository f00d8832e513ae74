"""Live mode on real tables and a real broker: what a beat brings up to date, who else may work, and how it ends."""

import gc
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from py4j.finalizer import ThreadSafeFinalizer
from pyspark.sql import SparkSession

from lakehouse_spark import metrics
from lakehouse_spark.bronze import raw_trades
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.iceberg import inventory
from lakehouse_spark.jobs import bronze_writer, live
from lakehouse_spark.jobs.beat import Beat, Watch
from lakehouse_spark.jobs.registry import JOBS
from lakehouse_spark.lake import commit
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.lake.last_errors import LastError
from lakehouse_spark.lake.session import join_session
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.maintenance import journal
from lakehouse_spark.maintenance.journal import LAKEHOUSE
from lakehouse_spark.settings import LiveSettings, MetricsSettings
from tests.support.faults import ROUNDS
from tests.support.lake import Lake, book, trade

RAW, SILVER, BOOKS = "bronze.raw_trades", "silver.trades", "bronze.raw_orderbook"
SECOND = timedelta(seconds=1)
EXPIRE = "CALL lake.system.expire_snapshots(table => '{}', older_than => TIMESTAMP '{:%F %T}', retain_last => 10)"


@dataclass
class Acting(Watch):
    """Does something behind each beat."""

    act: Callable[[Beat], None]
    beats: list[Beat] = field(default_factory=list)

    def ended(self, beat: Beat, skipped: int) -> None:
        self.beats.append(beat)
        self.act(beat)


@pytest.fixture
def lake(spark: SparkSession, broker: Broker, tmp_path: Path) -> Lake:
    """A migrated lakehouse and its topics."""
    made = Lake.migrated(spark, broker.bootstrap_servers, tmp_path / "home")
    made.create_topics()
    return made


def live_for(
    lake: Lake,
    number: int,
    *tables: str,
    then: Callable[[Beat], None] = lambda beat: None,
    heard_by: Callable[[Watch], Watch] = lambda watch: watch,
) -> list[Beat]:
    """So many beats; behind each that another follows, `then`."""
    stop = threading.Event()

    def act(beat: Beat) -> None:
        if len(watch.beats) == number:
            stop.set()
        else:
            then(beat)

    watch = Acting(act)
    live.run(lake.spark, lake.settings, every=SECOND, tables=tables, stop=stop, watch=heard_by(watch))
    return watch.beats


@dataclass(frozen=True)
class Held:
    """What a session holds once garbage is collected, in MiB; and the objects of Java that Python refers to."""

    heap: float
    metaspace: float
    python: float
    references: int


def held(spark: SparkSession) -> Held:
    gc.collect()
    java: Any = spark._jvm
    for _ in range(3):  # Spark's cleaner works between two
        java.System.gc()
        time.sleep(1)
    beans = java.java.lang.management.ManagementFactory
    metaspace = next(pool for pool in beans.getMemoryPoolMXBeans() if pool.getName() == "Metaspace")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Held(
        heap=round(beans.getMemoryMXBean().getHeapMemoryUsage().getUsed() / 2**20, 1),
        metaspace=round(metaspace.getUsage().getUsed() / 2**20, 1),
        python=round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        references=len(ThreadSafeFinalizer.finalizers),
    )


def other(lake: Lake, lease: timedelta = timedelta(minutes=5)) -> journal.Run:
    return journal.Run(lake.spark, lake.settings, lease, id="other")


def leases(lake: Lake, job: str) -> list[str]:
    log = lake.spark.table("lake._metadata.maintenance_log").where(f"job = '{job}'").orderBy("_logged_at")
    return [row["status"] for row in log.collect()]


def test_every_beat_brings_every_layer_up_to_what_kafka_holds(lake: Lake) -> None:
    lake.produce("raw_trades", trade(trade_id="T1"), b"{")
    settings = lake.settings.model_copy(update={"metrics": MetricsSettings(port=0, refresh_seconds=1)})
    with metrics.observing(settings, JOBS["pipeline"], EVERY) as observer:
        observer.begin(lake.spark, settings)
        heard_by = partial(hearing, observer)
        first, second = live_for(
            lake, 2, then=lambda beat: lake.produce("raw_trades", trade(trade_id="T2")), heard_by=heard_by
        )
        found = scraped(observer, until=f'lakehouse_judged_records_total{{outcome="records",table="{SILVER}"}} 3.0')
        observer.ended(0)
    assert [{**beat.failed, **beat.left} for beat in (first, second)] == [{}, {}]
    assert [row["trade_id"] for row in lake.rows("gold.fact_trades", "trade_id")] == ["T1", "T2"]
    changed = [each.table for each in second.summaries if each.snapshot_id is not None]
    assert [changed[0], changed[-1]] == [RAW, "gold.portfolio_positions"]
    assert leases(lake, live.JOB) == ["STARTED", "DONE"]
    of_trades = {
        'judged_records_total{outcome="rejected",table="silver.trades"}': 1,
        'rejected_reasons_total{reason="malformed_json",source="bronze.raw_trades"}': 1,
        'lag_records{table="bronze.raw_trades",upstream="kafka"}': 0,
        'lag_records{table="silver.trades",upstream="bronze.raw_trades"}': 0,
        'commits_total{table="silver.trades"}': 2,
        'commit_records_total{table="silver.trades"}': 2,
        'commit_files_total{table="silver.trades"}': 2,
        'commit_retries_total{table="silver.trades"}': 0,
        'lost_races_total{table="silver.trades"}': 0,
        'table_failing{table="silver.trades"}': 0,
        "beats_total": 2,
    }
    assert {name: found["lakehouse_" + name] for name in of_trades} == of_trades
    for phase in ("branch", "write", "publish"):
        assert found[f'lakehouse_commit_seconds_total{{phase="{phase}",table="silver.trades"}}'] > 0
    assert commit.LISTENERS == []


EVERY = {"every": SECOND}


def hearing(observer: metrics.Observer, shown: Watch) -> Watch:
    """As a door has an observer hear of live mode."""
    watch: Watch = observer.heard_by({**EVERY, "watch": shown})["watch"]
    return watch


def scraped(observer: Any, until: str) -> dict[str, float]:
    """What the endpoint answers once it has a line."""
    host, port = observer.server.server_address
    deadline = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        if until in lines:
            return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[:1] != "#"}
        assert time.monotonic() < deadline, lines
        time.sleep(0.1)


def test_a_refused_topic_is_told_at_every_beat_and_the_others_go_on(lake: Lake) -> None:
    lake.produce("raw_trades", trade(trade_id="T1"))
    lake.bronze("raw_trades")
    base = lake.state(RAW)
    cursor = base.cursor_as(TopicCursor)
    assert cursor is not None
    ahead = replace(cursor, following={0: 100}, stamp=base.next_stamp(datetime.now(UTC)))
    commit.advance(lake.spark, raw_trades.TABLE, base, ahead)
    lake.produce("raw_orderbook", book())
    told = live_for(lake, 2, RAW, BOOKS)
    for beat in told:
        assert [*beat.failed] == [RAW]
        assert "ends at 1, before the next offset to read, 100: it was truncated" in beat.failed[RAW]
    assert lake.spark.table(f"lake.{BOOKS}").count() == 1


def test_a_table_that_fails_is_brought_up_to_date_once_it_can_be(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.produce("raw_trades", trade(trade_id="T1"))
    with monkeypatch.context() as patch:

        def full(*given: object, **named: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr("lakehouse_spark.jobs.silver_processor.write", full)
        kept: list[LastError] = []

        def mend(beat: Beat) -> None:
            patch.undo()

        def remember(run: live._Live, beat: Beat) -> None:
            remembered(run, beat)
            kept.extend(inventory.read(lake.settings).errors)

        remembered = live._Live._remember
        monkeypatch.setattr(live._Live, "_remember", remember)
        first, second = live_for(lake, 2, RAW, SILVER, then=mend)
    assert [(each.job, each.error) for each in kept] == [("live", "silver.trades: No space left on device")]
    assert inventory.read(lake.settings).errors == []
    assert first.failed == {SILVER: "No space left on device"}
    assert second.failed == {}
    assert [row["trade_id"] for row in lake.rows(SILVER, "trade_id")] == ["T1"]


def test_a_topic_that_is_not_there_ends_it_before_the_first_beat(lake: Lake) -> None:
    kafka = lake.settings.kafka.model_copy(update={"topics": {**lake.settings.kafka.topics, "raw_trades": "nowhere"}})
    lake.settings = lake.settings.model_copy(update={"kafka": kafka})
    with pytest.raises(UsageError, match="topic 'nowhere' does not exist"):
        live_for(lake, 1, RAW)
    assert leases(lake, live.JOB) == ["STARTED", "FAILED"]


# Who else works


def test_a_second_live_mode_is_refused_until_the_lease_of_the_first_has_run_out(lake: Lake) -> None:
    assert other(lake).hold(LAKEHOUSE, live.JOB, "a beat every 0:15:00") is None
    until = r"another live mode works on .*, as run other; it holds its lease until 20"
    with pytest.raises(RefusedError, match=until) as no:
        live_for(lake, 1, RAW)
    assert no.value.exit_code == 3
    assert str(no.value).endswith("To end it, run: lakehouse live --drain")


def test_a_live_mode_is_refused_while_someone_drains(lake: Lake) -> None:
    other(lake).announce([LAKEHOUSE], live.DRAIN, "live mode is to end")
    with pytest.raises(RefusedError, match=r"^live mode is being drained on .*, until 20\d\d-.* UTC at the latest$"):
        live_for(lake, 1, RAW)


def test_the_lease_of_a_live_mode_that_was_killed_runs_out(lake: Lake) -> None:
    assert other(lake, timedelta(0)).hold(LAKEHOUSE, live.JOB, "a beat every 0:15:00") is None
    assert len(live_for(lake, 1, RAW)) == 1


def test_a_live_mode_that_lost_its_lease_ends(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.settings = lake.settings.model_copy(update={"live": LiveSettings(lease_minutes=0.001)})
    slow = threading.Event()

    def take_over(beat: Beat) -> None:
        slow.wait(0.2)
        other(lake).announce([LAKEHOUSE], live.JOB, "a beat every 0:15:00")

    monkeypatch.setattr(journal.Run, "renew", lambda *given: None)  # as of a laptop that sleeps
    with pytest.raises(RefusedError, match="live mode other took over while this one did not renew its lease"):
        live_for(lake, 2, RAW, then=take_over)


def test_tables_that_a_continuous_writer_holds_are_left_to_it(lake: Lake) -> None:
    lake.produce("raw_trades", trade(trade_id="T1"))
    lake.produce("raw_orderbook", book())
    run = other(lake)
    run.announce([RAW], bronze_writer.JOB, "written continuously")
    with run.renewing(bronze_writer.JOB, RAW):
        (beat,) = live_for(lake, 1, RAW, BOOKS)
    assert beat.left == {RAW: "a continuous bronze_writer writes it"}
    assert [lake.spark.table(f"lake.{table}").count() for table in (RAW, BOOKS)] == [0, 1]
    (beat,) = live_for(lake, 1, RAW)
    assert (beat.left, lake.spark.table(f"lake.{RAW}").count()) == ({}, 1)


@contextmanager
def living(lake: Lake, *tables: str) -> Iterator[list[Beat]]:
    """A live mode beside the block, until it ends of its own accord; its beats."""
    watch, begun, failed = Acting(lambda beat: begun.set()), threading.Event(), list[BaseException]()

    def work() -> None:
        join_session(lake.spark)
        try:
            live.run(lake.spark, lake.settings, every=timedelta(hours=1), tables=tables, watch=watch)
        except BaseException as error:
            failed.append(error)
            begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(120)
    yield watch.beats
    thread.join(60)
    assert not thread.is_alive()
    assert failed == []


def test_drain_ends_a_live_mode_that_rests_and_waits_for_it(lake: Lake) -> None:
    with living(lake, RAW) as beats:
        said = live.drain(lake.spark, lake.settings)
    assert len(beats) == 1
    assert said.startswith("live mode ")
    assert f" ended at {datetime.now(UTC):%Y-%m-%d} " in said
    assert (leases(lake, live.JOB), leases(lake, live.DRAIN)) == (["STARTED", "DONE"], ["STARTED", "DONE"])
    assert live.drain(lake.spark, lake.settings) == "no live mode works on this lakehouse"


def test_drain_says_where_the_lease_of_a_dead_one_ran_out(lake: Lake) -> None:
    other(lake, timedelta(seconds=2)).hold(LAKEHOUSE, live.JOB, "a beat every 0:15:00")
    said = live.drain(lake.spark, lake.settings)
    assert said.startswith("live mode other said nothing more; its lease ran out at ")


def test_a_beat_leaves_no_reader_of_parquet_that_holds_memory(lake: Lake) -> None:
    """Of Iceberg's, which closes its readers' allocators never."""
    jvm: Any = lake.spark._jvm
    root = getattr(jvm, "org.apache.iceberg.arrow.ArrowAllocation").rootAllocator()
    lake.produce("raw_trades", trade(trade_id="T1"))
    live_for(lake, 1)
    assert len(root.getChildAllocators()) == 0
    assert [row[0] for row in lake.rows("silver.trades", "trade_id")] == ["T1"]
    assert len(root.getChildAllocators()) == 1


@pytest.mark.soak
def test_beats_take_no_more_memory_however_many_there_are(lake: Lake) -> None:
    """Two hundred beats, of which each finds a trade; looked at once a tenth of them has warmed the session up.

    Of as many snapshots each time: Iceberg holds those that there are, and maintenance has a limit for them.
    """
    number, looks, beats = 10 * ROUNDS, list[Held](), count(1)

    def then(beat: Beat) -> None:
        assert beat.failed == {}
        if (done := next(beats)) % ROUNDS == 0:  # those that were skipped have numbers too
            for each in TABLES:
                lake.spark.sql(EXPIRE.format(each.name, datetime.now(UTC))).collect()
            looks.append(held(lake.spark))
            print(done, looks[-1], flush=True)
        lake.produce("raw_trades", trade(trade_id=f"M{beat.number}"))

    live_for(lake, number + 1, then=then)

    def grown(what: Callable[[Held], float]) -> float:
        """By what, from the middle one of the first three looks to that of the last three: a look finds some plans that
        are still to be collected, and not always as many."""
        return median(map(what, looks[-3:])) / median(map(what, looks[:3]))

    assert grown(lambda look: look.heap) < 1.1
    assert grown(lambda look: look.metaspace) < 1.05
    assert grown(lambda look: look.python) < 1.1
    assert looks[-1].references < looks[0].references + 100
