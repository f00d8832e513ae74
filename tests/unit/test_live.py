"""The beat loop without Spark: beats at fixed times, those missed, what fails, what is due in between, how it ends."""

import io
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import rich.live
from rich.console import Console

from lakehouse_spark import migrations
from lakehouse_spark.cli.live import Page
from lakehouse_spark.dim import dim_symbol
from lakehouse_spark.errors import LakehouseError, RefusedError
from lakehouse_spark.jobs import live, pipeline
from lakehouse_spark.jobs.beat import Beat, Beats, Watch
from lakehouse_spark.jobs.registry import span
from lakehouse_spark.jobs.steps import Step
from lakehouse_spark.jobs.stopping import asked_by_signal
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import last_errors
from lakehouse_spark.maintenance import journal
from lakehouse_spark.maintenance.schedule import SCHEDULES, Schedule
from lakehouse_spark.silver import market_data, trader_activity, trades
from lakehouse_spark.table import Table

NOON = datetime(2025, 6, 7, 12, tzinfo=UTC)
MINUTE = 60.0
NOTHING: Any = None


@pytest.fixture(autouse=True)
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no Spark here, of which readers could be closed."""
    monkeypatch.setattr(live, "close_allocators", lambda spark: None)


@dataclass
class Hand(live.Clock):
    """A clock that moves only when it is waited for, or worked by."""

    passed: float = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.passed)

    def seconds(self) -> float:
        return self.passed

    def wait(self, event: threading.Event, seconds: float) -> None:
        self.passed += seconds


class Lasting(Beats):
    """Beats that do nothing but last; behind the last of them they ask to end."""

    def last(self, clock: Hand, seconds: Sequence[float]) -> "Lasting":
        self.clock, self.lengths, self.begun = clock, list(seconds), list[tuple[int, float]]()
        return self

    def run(self, number: int, streamed: Collection[str] = ()) -> Beat:
        self.begun.append((number, self.clock.passed))
        self.clock.passed += self.lengths.pop(0)
        if not self.lengths:
            self.stop.set()
        return Beat(number, self.clock.now(), 0.0, [], {}, {})


@dataclass
class Heard(Watch):
    skipped: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def ended(self, beat: Beat, skipped: int) -> None:
        self.skipped.append(skipped)

    def failed(self, what: str, error: Exception) -> None:
        self.failures.append(f"{what}: {error}")


class Live(live._Live):
    """With maintenance that only lasts."""

    def maintain(self, act: Callable[[Schedule], None]) -> None:
        self.act = act

    def _carry_out(self, due: Schedule) -> None:
        self.act(due)


def beats(kind: type[Beats], every: timedelta = timedelta(minutes=15), **given: Any) -> Any:
    return kind(NOTHING, NOTHING, every, given.get("tables", ()), threading.Event(), lambda summary: None)


def lived(*seconds: float, act: Callable[[Schedule, Hand], None] = lambda due, clock: None) -> tuple[Lasting, Live]:
    clock = Hand()
    lasting = beats(Lasting).last(clock, seconds)
    loop = Live(lasting, journal.Run(NOTHING, NOTHING, timedelta(minutes=10)), Heard(), clock)
    loop.maintain(lambda due: act(due, clock))
    loop.run()
    return lasting, loop


def test_beats_come_at_fixed_times_from_the_start() -> None:
    lasting, loop = lived(10, 100, 15 * MINUTE, 1)
    assert lasting.begun == [(1, 0), (2, 15 * MINUTE), (3, 30 * MINUTE), (4, 45 * MINUTE)]
    assert loop.skipped == 0


def test_a_beat_that_overruns_makes_those_missed_skipped_and_counted() -> None:
    lasting, loop = lived(31 * MINUTE, 16 * MINUTE, 1)
    assert lasting.begun == [(1, 0), (4, 45 * MINUTE), (6, 75 * MINUTE)]
    assert loop.watch.skipped == [0, 2, 3]  # type: ignore[attr-defined]


def test_due_maintenance_is_done_behind_a_beat_and_never_beside_one() -> None:
    done: list[tuple[str, float]] = []

    def act(due: Schedule, clock: Hand) -> None:
        done.append((due.name, clock.passed / MINUTE))

    _, loop = lived(*[MINUTE] * 23, 20 * MINUTE, MINUTE, act=act)
    assert done == [("compact_bronze", 365.0)]  # at 18:00 the beat of 17:45 is not over: it lasts until 18:05
    assert loop.skipped == 1


def test_beats_that_maintenance_lasts_over_are_skipped() -> None:
    def act(due: Schedule, clock: Hand) -> None:
        clock.passed += 40 * MINUTE

    lasting, loop = lived(*[MINUTE] * 26, act=act)
    assert lasting.begun[-2:] == [(25, 360 * MINUTE), (28, 405 * MINUTE)]  # from 18:01 to 18:41
    assert loop.skipped == 2


def test_what_was_due_several_times_since_the_last_beat_is_done_once() -> None:
    done: list[str] = []
    lived(60 * 24 * MINUTE, 1, act=lambda due, clock: done.append(due.name))
    assert done == [
        "compact_bronze", "compact_silver", "compact_gold", "compact_dimensions", "expire_snapshots",
        "orphan_cleanup", "rewrite_manifests",
    ]  # fmt: skip


def test_maintenance_that_fails_is_told_and_beats_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any, **named: Any) -> None:
        raise LakehouseError("compaction: bronze.raw_trades: No space left on device")

    monkeypatch.setattr("lakehouse_spark.jobs.maintenance.run", broken)
    clock, heard = Hand(passed=-1.0), Heard()
    lasting = beats(Lasting).last(clock, [1.0, 1.0, 1.0])
    live._Live(lasting, journal.Run(NOTHING, NOTHING, timedelta(minutes=10)), heard, clock).run()
    assert len(lasting.begun) == 3
    assert heard.failures == [
        f"{name}: compaction: bronze.raw_trades: No space left on device"
        for name in ("compact_bronze", "compact_silver")
    ]


# What fails

SILVER = (trades.TABLE, market_data.TABLE, trader_activity.TABLE)


@dataclass
class Failing:
    """Work on tables; which of them fail, and how."""

    errors: dict[str, Exception] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def work(self, table: Table) -> Iterator[Summary]:
        if table.name in self.errors:
            raise self.errors[table.name]
        self.done.append(table.name)
        yield Summary("job", table.name, {"records": 1}, 1)

    def layers(self) -> Iterable[tuple[Sequence[str], Callable[[], list[Step]], int]]:
        for tables in ((dim_symbol.TABLE,), SILVER):
            due = [Step((table,), partial(self.work, table)) for table in tables]
            yield [table.name for table in tables], partial(list, due), 1


@pytest.fixture
def failing() -> Failing:
    return Failing()


@pytest.fixture
def some(failing: Failing, monkeypatch: pytest.MonkeyPatch) -> Beats:
    made: Beats = beats(Beats, tables={table.name for table in (dim_symbol.TABLE, *SILVER)})
    monkeypatch.setattr(made, "_layers", failing.layers)
    return made


def test_a_table_that_fails_stops_what_follows_it_and_no_other(failing: Failing, some: Beats) -> None:
    failing.errors["silver.trades"] = ValueError("broke")
    beat = some.run(1)
    assert failing.done == ["dim.dim_symbol", "silver.market_data"]
    assert [each.table for each in beat.summaries] == ["dim.dim_symbol", "silver.market_data"]
    assert beat.failed == {"silver.trades": "ValueError: broke"}
    assert beat.left == {"silver.trader_activity": "waits"}
    assert beat.well == {"dim.dim_symbol", "silver.market_data"}


def test_a_table_that_fails_again_and_again_is_tried_later_and_later(failing: Failing, some: Beats) -> None:
    some.every = timedelta(seconds=30)
    failing.errors["silver.trades"] = ValueError("broke")
    tried = [number for number in range(1, 100) if some.run(number).failed]
    assert tried == [1, 2, 4, 8, 16, 32, 62, 92]  # within a quarter of an hour, which is 30 beats
    assert some.run(93).left["silver.trades"] == "failed 8 times; tried again at beat 122"
    del failing.errors["silver.trades"]
    assert some.run(122).failed == {}
    failing.errors["silver.trades"] = ValueError("broke anew")
    assert [number for number in range(123, 130) if some.run(number).failed] == [123, 124, 126]


def test_a_table_that_is_refused_is_told_at_every_beat(failing: Failing, some: Beats) -> None:
    failing.errors["dim.dim_symbol"] = RefusedError("dim.dim_symbol: a gap", "Accept it")
    beats_told = [some.run(number).failed for number in range(1, 5)]
    assert beats_told == [{"dim.dim_symbol": "dim.dim_symbol: a gap. Accept it"}] * 4


def test_what_fails_before_any_table_is_told_of_all_of_the_layer(
    failing: Failing, some: Beats, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent() -> list[Step]:
        raise LakehouseError("Kafka does not answer")

    layers = [(("dim.dim_symbol",), silent, 1), *[*failing.layers()][1:]]
    monkeypatch.setattr(some, "_layers", lambda: layers)
    beat = some.run(1)
    assert beat.failed == {"dim.dim_symbol": "Kafka does not answer"}
    assert failing.done == ["silver.trades", "silver.market_data", "silver.trader_activity"]
    layers[0] = (("dim.dim_symbol",), list, 1)  # it answers, and there is no topic to read
    assert "dim.dim_symbol" in some.run(2).well


def test_a_table_that_a_stream_writes_is_left_to_it(failing: Failing, some: Beats) -> None:
    beat = some.run(1, streamed=["silver.trades"])
    assert failing.done == ["dim.dim_symbol", "silver.market_data", "silver.trader_activity"]
    assert beat.left == {"silver.trades": "a continuous bronze_writer writes it"}


def test_a_beat_alone_raises_what_failed_behind_all_that_was_done(
    failing: Failing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = journal.Entry(
        run_id="stream", table="bronze.raw_trades", job="bronze_writer", status="started",
        at=datetime.now(UTC), lease_until=datetime.now(UTC) + timedelta(minutes=5),
    )  # fmt: skip
    monkeypatch.setattr(migrations, "migrate", lambda *_, **__: ())
    monkeypatch.setattr(journal, "read", lambda *_: journal.Journal((lease,)))
    monkeypatch.setattr(Beats, "_layers", lambda self: failing.layers())
    failing.errors = {"dim.dim_symbol": RefusedError("a gap"), "silver.market_data": ValueError("broke")}
    heard = list[Summary]()
    chosen = ["bronze.raw_trades", "dim.dim_symbol", "silver.trades", "silver.market_data"]
    with pytest.raises(RefusedError, match="a gap") as raised:
        pipeline.run_some(NOTHING, NOTHING, chosen, report=heard.append)

    assert raised.value.__notes__ == ["ValueError: broke"]
    assert [summary.table for summary in heard] == ["silver.trades"]
    assert "bronze.raw_trades: left alone: a continuous bronze_writer writes it" in capsys.readouterr().err


def test_tables_that_were_not_asked_for_are_not_touched(failing: Failing, some: Beats) -> None:
    some.tables = {"silver.market_data"}
    beat = some.run(1)
    assert (failing.done, beat.failed, beat.left) == (["silver.market_data"], {}, {})


def test_once_it_is_asked_to_end_no_other_table_is_begun(failing: Failing, some: Beats) -> None:
    some.report = lambda summary: some.stop.set()
    beat = some.run(1)
    assert [each.table for each in beat.summaries] == ["dim.dim_symbol"]


def test_what_stands_wrong_is_kept_until_every_table_of_it_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(last_errors, "keep", lambda spark, settings, job, error: kept.append(f"{job}: {error}"))
    monkeypatch.setattr(last_errors, "clear", lambda spark, job: kept.append(f"{job} is well"))
    loop = Live(beats(Lasting), journal.Run(NOTHING, NOTHING, timedelta(minutes=10)), Heard(), Hand())
    silent = dict.fromkeys(("bronze.raw_trades", "bronze.raw_orderbook"), "Kafka does not answer")

    def after(failed: dict[str, str], *well: str) -> list[str]:
        kept.clear()
        loop._remember(Beat(1, NOON, 1.0, [], failed, {}, well))
        return [*kept]

    assert after({}, "silver.trades") == ["live is well", "pipeline is well"]  # of what was left by others
    assert after({}, "silver.trades") == []
    both = "live: bronze.raw_trades, bronze.raw_orderbook: Kafka does not answer"
    assert after(silent) == [both]
    assert after(silent) == []  # it stands already
    assert after({}, "silver.trades") == []  # they were not tried
    assert after({"silver.trades": "silver.trades: lost"}, "bronze.raw_orderbook") == [
        "live: bronze.raw_trades: Kafka does not answer; silver.trades: lost"
    ]
    assert after({}, "bronze.raw_trades", "silver.trades") == ["live is well", "pipeline is well"]


# How it is asked for, and to end


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("15m", 900), ("1h", 3600)], ids=lambda value: str(value))
def test_a_span_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert span(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["15", "m", "0s", "-1m", "1.5h", "1d", "15 m", ""])
def test_any_other_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no span of time like 30s, 15m or 1h"):
        span(text)


def test_the_first_signal_asks_and_the_second_ends_at_once() -> None:
    with asked_by_signal(NOTHING) as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


# Who holds what


def entry(run: str, table: str, job: str, status: str, until: int | None) -> journal.Entry:
    lease = None if until is None else NOON + timedelta(minutes=until)
    return journal.Entry(run, table, job, status, NOON, lease)


def test_a_lease_is_of_one_kind_of_work() -> None:
    log = journal.Journal(
        (
            entry("stream", "bronze.raw_trades", "bronze_writer", "STARTED", 10),
            entry("mode", "*", "live", "STARTED", 5),
            entry("mode", "*", "live", "RENEWED", 15),
            entry("old", "bronze.raw_orderbook", "bronze_writer", "STARTED", 10),
            entry("old", "bronze.raw_orderbook", "bronze_writer", "DONE", None),
        )
    )

    def holder(table: str, *jobs: str, minutes: int = 0) -> str | None:
        found = log.holder(table, NOON + timedelta(minutes=minutes), *([jobs] if jobs else []))
        return found.run_id if found else None

    assert holder("bronze.raw_trades", "bronze_writer") == "stream"
    assert holder("bronze.raw_trades") is None  # maintenance goes on beside writers
    assert holder("bronze.raw_orderbook", "bronze_writer") is None
    assert (holder("*", "live", minutes=14), holder("*", "live", minutes=16)) == ("mode", None)
    assert holder("*", "drain") is None


def test_only_maintenance_is_said_to_have_failed() -> None:
    log = journal.Journal(
        (
            entry("one", "bronze.raw_trades", "compaction", "FAILED", None),
            entry("stream", "bronze.raw_trades", "bronze_writer", "DONE", None),
            entry("mode", "*", "live", "FAILED", None),
        )
    )
    assert {table: failed.run_id for table, failed in log.last_failure().items()} == {"bronze.raw_trades": "one"}


# What is seen at a terminal


def test_the_page_says_what_came_of_every_table() -> None:
    console = Console(width=150, record=True, file=io.StringIO())
    page = Page(timedelta(minutes=15), ["silver.trades", "silver.market_data"], rich.live.Live(console=console))
    page.done(Summary("silver_processor", "silver.trades", {"records": 9, "inserted": 7}, 1))
    page.done(Summary("silver_processor", "silver.trades", {"records": 2, "inserted": 1}, 2))
    page.done(Summary("compaction", "silver.trades", {"files": 1}, 3, planned={"files": 1}))
    page.ended(Beat(3, NOON, 4.25, [], {"silver.market_data": "ValueError: broke"}, {}), skipped=1)
    page.waits(NOON + timedelta(minutes=15), NOON + timedelta(hours=6), SCHEDULES[0])
    console.print(page.render(NOON + timedelta(seconds=90)))
    head, columns, _, first, second, _ = (" ".join(line.split()) for line in console.export_text().splitlines())
    assert head == (
        "a beat every 0:15:00 · beat 3 at 12:00:00 took 4.2 s, 1 skipped · next beat 12:15:00 · "
        "next maintenance compact_bronze, Sat 18:00 (UTC)"
    )
    assert columns == "table ┃ new rows ┃ changed ┃ behind by ┃"
    assert first.startswith("silver.trades │ 8 │ ")
    assert first.endswith(" │ 90 s │")
    assert second == "silver.market_data │ 0 │ │ │ ValueError: broke"
