"""Metrics without Spark: what the tables say, what a process counts, how Prometheus gets it, and what fails."""

import socket
import stat
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse_spark import metrics
from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.errors import LakehouseError, LostRaceError, UsageError
from lakehouse_spark.iceberg import inventory, live_files, metadata
from lakehouse_spark.ingest.kafka import Offered
from lakehouse_spark.jobs.beat import Beat, Watch
from lakehouse_spark.jobs.registry import JOBS
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit
from lakehouse_spark.lake.commit import Commit
from lakehouse_spark.lake.cursor import FeedCursor
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.metrics import values
from lakehouse_spark.metrics.declared import (
    COMMITS,
    FILES,
    JOB_EXIT_CODE,
    JOB_FAILURES,
    JUDGED,
    LAG_RECORDS,
    LAG_SECONDS,
    METRICS,
    READABLE,
    ROWS,
    SMALL_FILES,
    SNAPSHOTS,
    TABLE_SUCCEEDED_AT,
)
from lakehouse_spark.metrics.reading import Ends, Reader, Reading
from lakehouse_spark.metrics.values import Values
from lakehouse_spark.settings import MetricsSettings, Settings
from lakehouse_spark.silver.rejected_records import TABLE as LETTERS
from tests.support.home import NOTHING, RAW, SILVER, SYMBOLS, Home, at, follows, topic


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def with_metrics(settings: Settings, **given: Any) -> Settings:
    soon = MetricsSettings.model_construct(**{"refresh_seconds": 0.05, **given})  # sooner than a user may ask for
    return settings.model_copy(update={"metrics": soon})


def feed(stamp: datetime, upto: datetime, **totals: int) -> FeedCursor:
    return FeedCursor(stamp=stamp, source=RAW, after=None, upto=upto, since=at(0), totals=totals)


# What the tables say


def test_what_waits_is_counted_and_timed_from_the_first_commit_that_waits(home: Home) -> None:
    for minute in (1, 2, 3):
        home.land(RAW, *[at(minute)] * minute, cursor=topic(at(minute)))
    home.land(SILVER, at(4), cursor=follows(RAW, at(4), at(1)))
    found = Reader(home.settings).read(at(10)).values
    assert found[LAG_RECORDS, (SILVER, RAW)] == 5
    assert found[LAG_SECONDS, (SILVER, RAW)] == 8 * 60
    assert (found[ROWS, (RAW,)], found[FILES, (RAW,)], found[SNAPSHOTS, (RAW,)]) == (6, 3, 3)


def test_a_table_that_has_everything_is_said_to_lag_by_nothing(home: Home) -> None:
    home.land(RAW, at(1), cursor=topic(at(1)))
    home.land(SILVER, at(2), cursor=follows(RAW, at(2), at(1)))
    found = Reader(home.settings).read(at(50)).values
    assert (found[LAG_RECORDS, (SILVER, RAW)], found[LAG_SECONDS, (SILVER, RAW)]) == (0, 0)
    assert found[LAG_SECONDS, (SYMBOLS, "bronze.raw_reference")] == 0


def test_what_silver_judged_are_the_totals_of_its_cursor(home: Home) -> None:
    home.land(SILVER, at(2), cursor=feed(at(2), at(1), records=10, accepted=6, duplicates=1, rejected=3, inserted=6))
    reading = Reader(home.settings).read(at(3))
    found = {labels[1]: value for (metric, labels), value in reading.values.items() if metric is JUDGED}
    assert found == {"records": 10, "accepted": 6, "duplicates": 1, "rejected": 3}
    assert reading.judged[SILVER] == (10, 3)


def test_small_files_are_counted_and_no_manifest_is_read_twice(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = live_files.read

    def counted(io: Any, among: Any, width: Any) -> Any:
        chosen = list(among)
        opened.extend(manifest.path for manifest in chosen)
        return read(io, chosen, width)

    monkeypatch.setattr(live_files, "read", counted)
    home.land(RAW, at(1), cursor=topic(at(1)))
    home.land(RAW, at(2), cursor=topic(at(2)))
    reader = Reader(home.settings)
    assert reader.read(at(3)).values[SMALL_FILES, (RAW,)] == 2
    opened.clear()
    home.land(RAW, at(4), cursor=topic(at(4)))
    assert reader.read(at(5)).values[SMALL_FILES, (RAW,)] == 3
    assert len([*filter(lambda path: "raw_trades" in path, opened)]) == 1


def reject(home: Home, minute: int, *letters: tuple[str, list[str]]) -> None:
    """Dead letters with the stamp of a minute."""
    kinds = {LETTERS.stamp: pa.timestamp("us", tz="UTC"), "reasons": pa.list_(pa.string())}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in ("source_table", "reasons", LETTERS.stamp)])
    if not home.catalog.table_exists(LETTERS.name):
        table = home.catalog.create_table(LETTERS.name, schema, properties={"format-version": "2"})
        with table.update_spec() as spec:
            spec.add_identity("source_table")
    rows = [{"source_table": source, "reasons": reasons, LETTERS.stamp: at(minute)} for source, reasons in letters]
    home.catalog.load_table(LETTERS.name).append(pa.Table.from_pylist(rows, schema=schema))


def test_rejected_records_are_counted_by_reason_once_each_and_none_from_before(home: Home) -> None:
    reject(home, 1, (RAW, ["invalid_json"]))
    reader = Reader(home.settings)
    reader.begin()
    assert reader.read(at(2)).reasons == {}
    reject(home, 3, (RAW, ["invalid_price", "invalid_quantity"]), ("bronze.raw_orderbook", ["crossed_book"]))
    reject(home, 4, (RAW, ["invalid_price"]))
    assert reader.read(at(5)).reasons == {
        (RAW, "invalid_price"): 2, (RAW, "invalid_quantity"): 1, ("bronze.raw_orderbook", "crossed_book"): 1,
    }  # fmt: skip
    assert reader.read(at(6)).reasons == {}


def test_what_follows_a_dimension_waits_since_the_commit_that_moved_it_on(home: Home) -> None:
    for minute in (1, 2, 3):
        home.land(SYMBOLS, at(10 + minute), cursor=follows("bronze.raw_reference", at(10 + minute), at(minute)))
    symbols = metadata.read(home.settings, [BY_NAME[SYMBOLS]])[SYMBOLS]
    assert [inventory._first_later(symbols, consumed) for consumed in (None, at(1), at(2), at(3))] == [
        at(11), at(12), at(13), None,
    ]  # fmt: skip


# What Kafka says


def offered(end: int) -> Offered:
    return Offered("trades", "id", {0: 0}, {0: end})


def test_behind_kafka_something_waits_since_the_first_look_that_saw_it() -> None:
    ends = Ends()
    assert ends.lag(offered(10), {0: 10}, at(0)) == (0, 0)
    assert ends.lag(offered(15), {0: 10}, at(1)) == (5, 0)
    assert ends.lag(offered(25), {0: 10}, at(2)) == (15, 60)
    assert ends.lag(offered(25), {0: 15}, at(3)) == (10, 60)  # what came by the second look waits
    assert ends.lag(offered(25), {0: 25}, at(4)) == (0, 0)


def test_of_a_partition_that_was_never_read_all_that_is_kept_waits() -> None:
    assert Ends().lag(Offered("trades", "id", {0: 5, 1: 7}, {0: 9, 1: 9}), {0: 9}, at(0)) == (2, 0)


def test_a_topic_that_stands_behind_for_days_takes_no_more_memory() -> None:
    ends = Ends()
    for look in range(2_000):
        lag = ends.lag(offered(5 + look), {0: 0}, at(0) + timedelta(minutes=look))
    assert lag == (2_004, 1_999 * 60)
    assert len(ends.looks) == 1_000


def test_a_silent_broker_leaves_out_its_lags_and_nothing_else(home: Home) -> None:
    home.land(RAW, at(1), cursor=topic(at(1)))

    def silent(topic: str) -> Offered:
        raise LakehouseError("Kafka does not answer")

    assert (LAG_RECORDS, (RAW, "kafka")) not in Reader(home.settings, silent).read(at(2)).values
    found = Reader(home.settings, lambda topic: offered(7)).read(at(2)).values
    assert found[LAG_RECORDS, (RAW, "kafka")] == 6


def test_while_the_broker_is_silent_the_time_goes_on_since_nothing_waited(home: Home) -> None:
    home.land(RAW, at(1), cursor=topic(at(1)))
    answers = [1, 1, None, None, 5, None]

    def answer(topic: str) -> Offered:
        end = answers[minute]
        if end is None:
            raise LakehouseError("Kafka does not answer")
        return offered(end)

    reader, lags = Reader(home.settings, answer), []
    for minute in range(len(answers)):
        found = reader.read(at(minute)).values
        lags.append((found.get((LAG_RECORDS, (RAW, "kafka"))), found[LAG_SECONDS, (RAW, "kafka")]))
    assert lags == [(0, 0), (0, 0), (None, 60), (None, 120), (4, 0), (None, 60)]


# How Prometheus gets it


def test_the_textfile_goes_on_from_run_to_run(tmp_path: Path) -> None:
    first, second = Values(), Values()
    first.add(COMMITS, 3, SILVER)
    first.set(ROWS, 10, SILVER)
    first.set(ROWS, 20, RAW)
    file = values.write(first, tmp_path / "new")
    second.add(COMMITS, 2, SILVER)
    second.set(ROWS, 11, SILVER)
    second.set(JUDGED, 5, SILVER, "records")
    values.write(second, tmp_path / "new")
    assert [line for line in file.read_text().splitlines() if not line.startswith("# HELP")] == [
        "# TYPE lakehouse_judged_records_total counter",
        'lakehouse_judged_records_total{outcome="records",table="silver.trades"} 5.0',
        "# TYPE lakehouse_table_rows gauge",
        'lakehouse_table_rows{table="silver.trades"} 11.0',
        'lakehouse_table_rows{table="bronze.raw_trades"} 20.0',
        "# TYPE lakehouse_commits_total counter",
        'lakehouse_commits_total{table="silver.trades"} 5.0',
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert {path.name for path in file.parent.glob("*")} == {"lakehouse.prom", ".lakehouse.prom.lock"}


def test_what_the_tables_say_does_not_add_up_in_the_textfile(tmp_path: Path) -> None:
    for total in (5, 8):
        told = Values()
        told.set(JUDGED, total, SILVER, "records")
        file = values.write(told, tmp_path)
    assert 'lakehouse_judged_records_total{outcome="records",table="silver.trades"} 8.0' in file.read_text()


@pytest.mark.parametrize("torn", ['lakehouse_commits_total{table="silver.tr', "\x00\xff", "", "of_another 1\n"])
def test_a_textfile_that_is_torn_begins_anew(torn: str, tmp_path: Path) -> None:
    (tmp_path / "lakehouse.prom").write_text(torn)
    told = Values()
    told.add(COMMITS, 1, SILVER)
    assert 'lakehouse_commits_total{table="silver.trades"} 1.0' in values.write(told, tmp_path).read_text()


def test_two_runs_that_end_at_once_both_count(tmp_path: Path) -> None:
    def end() -> None:
        told = Values()
        told.add(COMMITS, 1, SILVER)
        values.write(told, tmp_path)

    threads = [threading.Thread(target=end) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 'lakehouse_commits_total{table="silver.trades"} 8.0' in (tmp_path / "lakehouse.prom").read_text()


def test_every_metric_is_declared_as_prometheus_wants_it() -> None:
    for metric in METRICS.values():
        assert metric.name.startswith("lakehouse_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.help.endswith("."), metric.name
        assert metric.unit, metric.name
        assert not {*metric.labels} & {"job", "instance"}, "Prometheus has these already"


# What a process does


@contextmanager
def observed(settings: Settings, job: str = "pipeline", **options: Any) -> Iterator[Any]:
    with metrics.observing(settings, JOBS[job], options) as observer:
        yield observer


def test_unless_asked_for_nothing_listens_and_nothing_is_written(home: Home) -> None:
    before = home.names
    threads = threading.active_count()
    with observed(home.settings, every=timedelta(minutes=15)) as live:
        live.begin(NOTHING, home.settings)
        assert live.heard_by({"every": 1}) == {"every": 1}
        assert (threading.active_count(), commit.LISTENERS) == (threads, [])
        live.ended(0)
    with observed(with_metrics(home.settings, port=0), "silver_processor") as passing:
        assert type(passing) is metrics.Observer
    assert home.names == before


def test_a_port_that_is_taken_is_one_clear_error(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(UsageError) as refused,
            observed(with_metrics(home.settings, port=port), every=timedelta(minutes=15)),
        ):
            pass
    assert str(refused.value) == (
        f"metrics: 127.0.0.1:{port} cannot be listened on: Address already in use. "
        "Name another port in LAKEHOUSE_METRICS__PORT"
    )
    assert refused.value.exit_code == 2
    assert commit.LISTENERS == []


def scraped(observer: Any) -> dict[str, float]:
    """What the endpoint answers, by series."""
    host, port = observer.server.server_address
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def awaited(observer: Any, series: str) -> dict[str, float]:
    """What the endpoint answers once it has a series."""
    deadline = time.monotonic() + 30
    while series not in (found := scraped(observer)):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def done(table: str, state: State | None = None, **given: Any) -> Commit:
    return Commit(table, state, **given)


def test_live_mode_answers_with_its_beats_its_commits_and_the_tables(home: Home) -> None:
    home.land(RAW, at(1), cursor=topic(at(1)))
    shown: list[tuple[int, int]] = []

    class Shown(Watch):
        def ended(self, beat: Beat, skipped: int) -> None:
            shown.append((beat.number, skipped))

    with observed(with_metrics(home.settings, port=0), every=timedelta(minutes=15)) as live:
        live.begin(NOTHING, home.settings)
        watch = live.heard_by({"every": timedelta(minutes=15), "watch": Shown()})["watch"]
        summaries = [Summary("bronze_writer", RAW, {"records": 1}, 1)]
        watch.done(summaries[0])
        watch.ended(Beat(1, at(1), 2.5, summaries, {SILVER: "broke"}, {}, [RAW]), 0)
        watch.ended(Beat(4, at(2), 2.5, summaries, {}, {SILVER: "waits"}), 2)
        added = {"records": 7, "data-files": 2, "files-size": 900}
        for listen in commit.LISTENERS:
            listen(done(RAW, State(1, None, None), tries=3, seconds={"write": 1.5}, added=added))
            listen(done(RAW, is_lost=True, tries=1))
        found = awaited(live, f'lakehouse_table_rows{{table="{RAW}"}}')
        live.ended(0)
    assert shown == [(1, 0), (4, 2)]
    assert (found["lakehouse_readable"], found[f'lakehouse_lag_records{{table="{SILVER}",upstream="{RAW}"}}']) == (1, 1)
    assert (found["lakehouse_beats_total"], found["lakehouse_beats_skipped_total"]) == (2, 2)
    assert found[f'lakehouse_table_failing{{table="{SILVER}"}}'] == 1  # it was not tried again since
    assert found[f'lakehouse_table_failing{{table="{RAW}"}}'] == 0
    assert found[f'lakehouse_table_failures_total{{table="{SILVER}"}}'] == 1
    of_commits = {
        name: found[f'lakehouse_{name}_total{{table="{RAW}"}}']
        for name in ("commits", "commit_records", "commit_files", "commit_bytes", "commit_retries", "lost_races")
    }
    assert of_commits == {
        "commits": 1, "commit_records": 7, "commit_files": 2, "commit_bytes": 900, "commit_retries": 2, "lost_races": 1,
    }  # fmt: skip
    assert found[f'lakehouse_commit_seconds_total{{phase="write",table="{RAW}"}}'] == 1.5
    assert "lakehouse_job_last_success_timestamp_seconds" not in {name.partition("{")[0] for name in found}


def test_a_lakehouse_that_cannot_be_read_is_said_to_be_so_and_lags_are_not_guessed(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[datetime] = []
    read = Reader.read

    def counted(reader: Reader, now: datetime) -> Reading:
        looks.append(now)
        return read(reader, now)

    monkeypatch.setattr(Reader, "read", counted)
    with observed(with_metrics(home.settings, port=0), every=timedelta(minutes=15)) as live:
        live.begin(NOTHING, home.settings)
        awaited(live, f'lakehouse_table_rows{{table="{RAW}"}}')
        (home.folder / "catalog.db").rename(home.folder / "away")
        (home.folder / "catalog.db").write_text("no database")
        looks.clear()
        deadline = time.monotonic() + 30
        while len(looks) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert scraped(live)["lakehouse_readable"] == 0
        assert not [name for name in scraped(live) if "lag" in name or "table_rows" in name]
        assert "lakehouse_read_timestamp_seconds" in scraped(live)
        (home.folder / "away").rename(home.folder / "catalog.db")
        assert awaited(live, f'lakehouse_table_rows{{table="{RAW}"}}')["lakehouse_readable"] == 1
    complaints = [line for line in capsys.readouterr().err.splitlines() if "cannot be read" in line]
    assert complaints == [
        f"metrics: the tables cannot be read: {home.folder}/catalog.db is no catalog: "
        "DatabaseError: file is not a database"
    ]


def test_a_lakehouse_that_is_not_there_yet_is_no_complaint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = with_metrics(Settings(home=tmp_path / "none"), port=0)
    with observed(settings, every=timedelta(minutes=15)) as live:
        live.begin(NOTHING, settings)
        assert awaited(live, "lakehouse_readable")["lakehouse_readable"] == 0
        live.ended(0)
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("metrics: http://127.0.0.1:")


def test_a_job_that_ends_leaves_a_textfile_well_or_not(home: Home, tmp_path: Path) -> None:
    home.land(RAW, at(1), cursor=topic(at(1)))
    folder = tmp_path / "textfiles"
    settings = with_metrics(home.settings, textfile_dir=folder)
    with observed(settings, "silver_processor") as job:
        job.begin(NOTHING, settings)
        job.heard_by({})["report"](Summary("silver_processor", SILVER))
        job.ended(0)
    with pytest.raises(UsageError), observed(settings, "silver_processor"):
        raise UsageError("no such table")
    found = values._read(folder / "lakehouse.prom")
    assert (found[JOB_EXIT_CODE, ("silver_processor",)], found[JOB_FAILURES, ("silver_processor",)]) == (2, 1)
    assert (found[TABLE_SUCCEEDED_AT, ("silver_processor", SILVER)]) > 0
    assert (found[ROWS, (RAW,)], found[READABLE, ()]) == (1, 1)


def test_metrics_that_cannot_be_told_do_not_fail_the_job(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with observed(with_metrics(home.settings, textfile_dir=tmp_path / "file"), "silver_processor") as job:
        job.begin(NOTHING, home.settings)
        job.ended(0)
    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith("metrics: the textfile is not written (LAKEHOUSE_METRICS__TEXTFILE_DIR): ")


def test_what_a_listener_raises_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Commit] = []

    def broken(of: Commit) -> None:
        raise ValueError

    state = State(1, None, datetime(2025, 6, 1, tzinfo=UTC))
    monkeypatch.setattr(commit, "LISTENERS", [broken, heard.append])
    monkeypatch.setattr(commit, "_published", lambda *given: state)
    assert commit._publish(NOTHING, LETTERS, state, None, NOTHING) is state
    assert [(of.table, of.state, of.is_lost) for of in heard] == [("silver._rejected_records", state, False)]


def test_a_commit_that_lost_is_heard_of_too(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Commit] = []

    def lose(*given: object) -> State:
        raise LostRaceError("another writer committed")

    monkeypatch.setattr(commit, "LISTENERS", [heard.append])
    monkeypatch.setattr(commit, "_published", lose)
    with pytest.raises(LostRaceError):
        commit._publish(NOTHING, LETTERS, State(1, None, None), None, NOTHING)
    assert [(of.state, of.is_lost) for of in heard] == [(None, True)]
