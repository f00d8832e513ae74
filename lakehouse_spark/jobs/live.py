"""Live mode: every layer is brought up to date on a beat, in one warm session; maintenance is done between beats."""

import math
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from lakehouse_spark import migrations
from lakehouse_spark.catalog import REFERENCE_TOPIC, TOPICS
from lakehouse_spark.errors import LakehouseError, RefusedError, UsageError, in_a_sentence
from lakehouse_spark.iceberg import metadata
from lakehouse_spark.ingest import kafka
from lakehouse_spark.jobs import maintenance
from lakehouse_spark.jobs.beat import TABLES, Beat, Beats, Watch, streamed
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import last_errors
from lakehouse_spark.lake.session import close_allocators, complain
from lakehouse_spark.maintenance import journal, schedule
from lakehouse_spark.maintenance.journal import LAKEHOUSE, LEASES
from lakehouse_spark.maintenance.plan import OrphanCleanup
from lakehouse_spark.maintenance.schedule import Schedule
from lakehouse_spark.metadata import maintenance_log
from lakehouse_spark.settings import Settings

JOB, DRAIN = "live", "drain"
"""As the log of maintenance names the leases of live mode, and of who asks it to end."""
_PIPELINE = "pipeline"
"""The job as which live mode runs, and fails."""
_DRAINING = timedelta(minutes=1)
"""For how long one who asks for the end, and is killed, keeps live mode from beginning."""
_POLL_SECONDS = 10.0
"""How soon live mode notices between beats that it is asked to end through the lakehouse."""


class Clock:
    """The time, as live mode sees it pass."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def seconds(self) -> float:
        """Since some moment; it never goes back."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Until the event is set, but no longer."""
        event.wait(seconds)


def run(
    spark: SparkSession,
    settings: Settings,
    *,
    every: timedelta,
    tables: Collection[str] = (),
    stop: threading.Event | None = None,
    watch: Watch | None = None,
    clock: Clock | None = None,
) -> list[Summary]:
    """Migrates, then brings the tables (default: all) up to date on every beat until `stop` is set or someone drains.

    Returns what was done, by table. Raises RefusedError where another live mode works on the lakehouse, UsageError
    before the first beat where the configuration is wrong, and the error of a beat behind which Spark is gone.
    """
    if not spark.catalog.tableExists(maintenance_log.TABLE.identifier):
        migrations.migrate(spark, settings, datetime.now(UTC), say=complain)
    migrations.pending(spark)  # what would be refused is, before a lease is taken
    own = journal.Run(spark, settings, timedelta(minutes=settings.live.lease_minutes))
    holder = own.hold(LAKEHOUSE, JOB, f"a beat every {every}", besides=(DRAIN,))
    if holder is not None:
        raise _held_by(holder, settings)
    with own.renewing(JOB, LAKEHOUSE):
        migrations.migrate(spark, settings, datetime.now(UTC), say=complain)
        chosen = {*(tables or TABLES)}
        _check_topics(spark, settings, chosen)
        stop, watch = stop or threading.Event(), watch or Watch()
        beats = Beats(spark, settings, every, chosen, stop, watch.done)
        return _Live(beats, own, watch, clock or Clock()).run()


def drain(spark: SparkSession, settings: Settings) -> str:
    """Asks the live mode of this lakehouse to end behind its beat and waits until it has; says what came of it."""
    holder = journal.read(settings, LEASES).holder(LAKEHOUSE, datetime.now(UTC), (JOB,))
    if holder is None:
        return "no live mode works on this lakehouse"
    own = journal.Run(spark, settings, _DRAINING)
    own.announce([LAKEHOUSE], DRAIN, f"live mode {holder.run_id} is to end")
    with own.renewing(DRAIN, LAKEHOUSE):
        while (log := journal.read(settings, LEASES)).holder(LAKEHOUSE, datetime.now(UTC), (JOB,)) is not None:
            time.sleep(1)
    last = next(each for each in reversed(log.entries) if (each.run_id, each.job) == (holder.run_id, JOB))
    if last.lease_until is None:
        return f"live mode {holder.run_id} ended at {last.at:%Y-%m-%d %H:%M:%S} UTC"
    return f"live mode {holder.run_id} said nothing more; its lease ran out at {_until(last)}"


def _held_by(holder: journal.Entry, settings: Settings) -> RefusedError:
    if holder.job == DRAIN:
        return RefusedError(f"live mode is being drained on {settings.warehouse}, until {_until(holder)} at the latest")
    return RefusedError(
        f"another live mode works on {settings.warehouse}, as run {holder.run_id}; it holds its lease until "
        f"{_until(holder)} and renews it while it lives",
        "To end it, run: lakehouse live --drain",
    )


def _until(entry: journal.Entry) -> str:
    return f"{entry.lease_until:%Y-%m-%d %H:%M:%S} UTC"


def _check_topics(spark: SparkSession, settings: Settings, tables: Collection[str]) -> None:
    """Raises UsageError where no broker is named, or a topic that is not there; for one that is silent, beats wait."""
    kafka.bootstrap_servers(settings)
    for name, topic in TOPICS.items():
        if topic.table.name in tables and topic is not REFERENCE_TOPIC:
            try:
                kafka.offered(spark, settings, settings.topic(name))
            except UsageError:
                raise
            except LakehouseError:
                return


@dataclass
class _Live:
    """One live mode, which holds the lakehouse: beats at fixed times from its start, of which it skips those missed."""

    beats: Beats
    own: journal.Run
    watch: Watch
    clock: Clock
    number: int = 1
    skipped: int = 0
    totals: dict[str, Summary] = field(default_factory=dict)
    wrong: Mapping[str, str] | None = None
    """By table, why it is not brought up to date; None before the first beat."""
    read: tuple[Mapping[str, Any] | None, journal.Journal] | None = None
    """The leases as of the snapshot of the log that was read last: it is looked for often, and changes rarely."""

    def run(self) -> list[Summary]:
        self.began, self.maintained = self.clock.seconds(), self.clock.now()
        while not self._is_to_end():
            beat = self.beats.run(self.number, self._streamed())
            self.totals |= {each.table: each.after(self.totals.get(each.table)) for each in beat.summaries}
            self.watch.ended(beat, self.skipped)
            self._remember(beat)
            if beat.failed and not self.beats.stop.is_set() and not _answers(self.beats.spark):
                raise LakehouseError(f"Spark is gone, and live mode with it: {next(iter(beat.failed.values()))}")
            self._rest()
        return list(self.totals.values())

    def _remember(self, beat: Beat) -> None:
        """Keeps in the lakehouse what stands wrong, where that is not what stood wrong behind the beat before."""
        wrong = beat.wrong_since(self.wrong or {})
        if wrong and wrong != self.wrong:
            last_errors.keep(self.beats.spark, self.beats.settings, JOB, "; ".join(_named(wrong)))
        elif not wrong and self.wrong != {}:  # at first, what another live mode left, by its end too
            for job in (JOB, _PIPELINE):
                last_errors.clear(self.beats.spark, job)
        self.wrong = wrong

    def _rest(self) -> None:
        """Does the maintenance that has become due, then waits for the next beat; beats whose time passes meanwhile are
        skipped."""
        self._maintain()
        close_allocators(self.beats.spark)
        following = self._following()
        while (left := self._time_of(following) - self.clock.seconds()) > 0 and not self._is_to_end():
            now = self.clock.now()
            self.watch.waits(now + timedelta(seconds=left), *schedule.next_of(now))
            self.clock.wait(self.beats.stop, min(left, _POLL_SECONDS))
        self.skipped += following - self.number - 1
        self.number = following

    def _following(self) -> int:
        """The number of the next beat whose time has not passed."""
        passed = (self.clock.seconds() - self.began) / self.beats.every.total_seconds()
        return max(self.number, math.ceil(passed)) + 1

    def _time_of(self, number: int) -> float:
        return self.began + (number - 1) * self.beats.every.total_seconds()

    def _maintain(self) -> None:
        """What fails is told, and due again at its next time."""
        now = self.clock.now()
        due, self.maintained = schedule.due_between(self.maintained, now), now
        for each in due:
            if not self._is_to_end():
                self._carry_out(each)

    def _carry_out(self, due: Schedule) -> None:
        spark, settings = self.beats.spark, self.beats.settings
        try:
            if due.jobs == (OrphanCleanup.job,):
                maintenance.clean(spark, settings, layers=due.layers, report=self.watch.done)
            else:
                maintenance.run(
                    spark, settings, jobs=due.jobs, layers=due.layers, stop=self.beats.stop, report=self.watch.done
                )
        except Exception as error:
            self.watch.failed(due.name, error)
            last_errors.keep(spark, settings, due.name, in_a_sentence(error))
        else:
            last_errors.clear(spark, due.name)

    def _is_to_end(self) -> bool:
        """Whether it was asked to end, by a signal or through the lakehouse; raises where it lost its lease."""
        if self.beats.stop.is_set():
            return True
        log, now = self._log(), datetime.now(UTC)
        holder = log.holder(LAKEHOUSE, now, (JOB,))
        if holder is not None and holder.run_id != self.own.id:
            raise RefusedError(f"live mode {holder.run_id} took over while this one did not renew its lease")
        return log.holder(LAKEHOUSE, now, (DRAIN,)) is not None

    def _streamed(self) -> list[str]:
        """The tables that beats leave to a continuous bronze_writer."""
        return streamed(self._log(), datetime.now(UTC))

    def _log(self) -> journal.Journal:
        """The leases; while the catalog is away, as every table of the next beat will tell, those of before."""
        try:
            log = metadata.of(self.beats.settings, maintenance_log.TABLE)
            if self.read is None or self.read[0] != log.head:
                self.read = log.head, journal.of(log, LEASES)
        except Exception:
            return self.read[1] if self.read else journal.Journal()
        return self.read[1]


def _named(wrong: Mapping[str, str]) -> Iterator[str]:
    """Each error once, behind its tables unless it begins with one."""
    for why in dict.fromkeys(wrong.values()):
        tables = [table for table, of_table in wrong.items() if of_table == why]
        yield why if why.startswith(tables[0]) else f"{', '.join(tables)}: {why}"


def _answers(spark: SparkSession) -> bool:
    try:
        return not spark.sparkContext._jsc.sc().isStopped()
    except (Py4JError, OSError):
        return False
