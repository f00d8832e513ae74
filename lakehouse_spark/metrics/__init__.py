"""Metrics and alerts: what a process does and how its lakehouse is, told to Prometheus or to a webhook.

Whoever starts a job opens an `observing` around it. What keeps metrics from being told never keeps the job from its
work: it is said once, and left.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from pyspark.sql import SparkSession

from lakehouse_spark.errors import LakehouseError, in_a_sentence
from lakehouse_spark.iceberg.embedded import MissingError
from lakehouse_spark.ingest import kafka
from lakehouse_spark.jobs.beat import Beat, Watch
from lakehouse_spark.jobs.job import Job, Options
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit
from lakehouse_spark.lake.commit import Commit
from lakehouse_spark.lake.log import ERROR
from lakehouse_spark.lake.session import complain, join_session
from lakehouse_spark.maintenance.schedule import SCHEDULES, Schedule
from lakehouse_spark.settings import Settings

if TYPE_CHECKING:  # what only those wait for who have asked for it
    from lakehouse_spark.metrics.alerts import Alert
    from lakehouse_spark.metrics.reading import Reader, Reading

_P = ParamSpec("_P")
_LAST_LOOK_SECONDS = 5.0
"""How long the end of a job waits for a look that is under way."""


@contextmanager
def observing(settings: Settings, job: Job, options: Options) -> Iterator["Observer"]:
    """Tells what a run of the job does, as far as the settings ask for it; UsageError where the port is taken.

    Live mode and continuous streams are told over HTTP and to the webhook, all other jobs in the textfile.
    """
    goes_on = bool(options.get("every") or options.get("continuous"))
    wanted = settings.metrics.port is not None or settings.alerts.webhook_url
    if not (wanted if goes_on else settings.metrics.textfile_dir):
        yield Observer()
        return
    observer = _Enduring(settings, job) if goes_on else _Passing(settings, job)
    with observer.open():
        try:
            yield observer
        except Exception as error:
            observer.ended(getattr(error, "exit_code", LakehouseError.exit_code), in_a_sentence(error))
            raise


class Observer:
    """Hears what a run of a job does; this one does nothing about it."""

    def begin(self, spark: SparkSession, settings: Settings) -> None:
        """The session is there; the settings know the broker, too."""

    def heard_by(self, options: Options) -> Options:
        """The options of the job with who is to hear of what it does."""
        return options

    def ended(self, exit_code: int, error: str = "") -> None:
        """The run is over."""


def _harmless(hear: Callable[_P, None]) -> Callable[_P, None]:
    """What hears of a job, and fails it in no way."""

    @wraps(hear)
    def heard(*given: _P.args, **named: _P.kwargs) -> None:
        with suppress(Exception):
            hear(*given, **named)

    return heard


class _Telling(Observer):
    """Keeps the values of the metrics while a job runs."""

    counts_small_files = True

    def __init__(self, settings: Settings, job: Job) -> None:
        from lakehouse_spark.metrics import declared
        from lakehouse_spark.metrics.values import Values

        self.settings, self.job, self.values, self.of = settings, job, Values(), declared
        self.reader: Reader | None = None
        self.began = time.monotonic()
        self._has_complained = False

    @contextmanager
    def open(self) -> Iterator[None]:
        commit.LISTENERS.append(self._committed)
        try:
            yield
        finally:
            commit.LISTENERS.remove(self._committed)
            self.close()

    def close(self) -> None:
        """Gives back what it holds."""

    @_harmless
    def begin(self, spark: SparkSession, settings: Settings) -> None:
        from lakehouse_spark.metrics.reading import Reader

        asked = partial(kafka.offered, spark, settings) if self.job.topics else None
        self.reader = Reader(settings, asked, self.counts_small_files)
        self.reader.begin()

    def heard_by(self, options: Options) -> Options:
        return {**options, "report": self.done}

    def ended(self, exit_code: int, error: str = "") -> None:
        self.values.set(self.of.JOB_SECONDS, time.monotonic() - self.began, self.job.name)
        self.values.set(self.of.JOB_EXIT_CODE, exit_code, self.job.name)
        self.values.add(self.of.JOB_FAILURES, exit_code != 0, self.job.name)
        if exit_code == 0:
            self.values.set(self.of.JOB_SUCCEEDED_AT, time.time(), self.job.name)

    @_harmless
    def done(self, summary: Summary) -> None:
        self.values.set(self.of.TABLE_SUCCEEDED_AT, time.time(), summary.job, summary.table)

    def _committed(self, done: Commit) -> None:
        of, values, table = self.of, self.values, done.table
        for phase, seconds in done.seconds.items():
            values.add(of.COMMIT_SECONDS, seconds, table, phase)
        values.add(of.RETRIES, max(0, done.tries - 1), table)
        values.add(of.LOST_RACES, done.is_lost, table)
        values.add(of.COMMITS, done.state is not None, table)
        if done.state is not None:
            values.add(of.COMMIT_RECORDS, done.added.get("records", 0), table)
            values.add(of.COMMIT_FILES, done.added.get("data-files", 0), table)
            values.add(of.COMMIT_BYTES, done.added.get("files-size", 0), table)

    def look(self) -> "Reading | None":
        """Brings what the tables say up to now; None where they cannot be read."""
        of, values = self.of, self.values
        if self.reader is None:
            return None
        try:
            reading = self.reader.read(datetime.now(UTC))
        except Exception as error:
            if not isinstance(error, MissingError):  # which a lakehouse is until its first job has made it
                self.left("the tables cannot be read", error)
            values.replace((m for m in of.OF_TABLES if m is not of.READ_AT), {(of.READABLE, ()): 0})
            return None
        self._has_complained = False
        values.replace(of.OF_TABLES, reading.values)
        for labels, number in reading.reasons.items():
            values.add(of.REJECTED, number, *labels)
        return reading

    def left(self, what: str, error: Exception) -> None:
        """Says what is not told, once until it is."""
        if not self._has_complained:
            complain(f"metrics: {what}: {in_a_sentence(error)}", ERROR)
        self._has_complained = True


class _Passing(_Telling):
    """Of a job that ends: all it did is in the textfile then."""

    def __init__(self, settings: Settings, job: Job) -> None:
        super().__init__(settings, job)
        # A job that compacts reads all manifests anyway.
        self.counts_small_files = job.name in ("compaction", "maintenance")

    def ended(self, exit_code: int, error: str = "") -> None:
        super().ended(exit_code, error)
        try:
            from lakehouse_spark.metrics import values

            self.look()
            folder = self.settings.metrics.textfile_dir
            assert folder is not None
            values.write(self.values, folder)
        except Exception as failure:
            self.left("the textfile is not written (LAKEHOUSE_METRICS__TEXTFILE_DIR)", failure)


class _Enduring(_Telling):
    """Of a job that goes on: a thread of its own looks at the tables now and then, and posts alerts behind beats."""

    def __init__(self, settings: Settings, job: Job) -> None:
        from lakehouse_spark.metrics import alerts

        super().__init__(settings, job)
        self.failing: Mapping[str, str] = {}
        self._alerts = alerts
        self._webhook = (
            alerts.Webhook(settings, partial(complain, level=ERROR)) if settings.alerts.webhook_url else None
        )
        self._of_tables: list[Alert] = []
        self._is_over, self._is_due, self._thread = False, threading.Event(), threading.Thread()
        self._server: Any = None

    @contextmanager
    def open(self) -> Iterator[None]:
        from lakehouse_spark.metrics import values

        if self.settings.metrics.port is not None:
            self._server = values.serve(self.values, self.settings.metrics)
            host, port = self._server.server_address
            complain(f"metrics: http://{host}:{port}/metrics")
        with super().open():
            yield

    def close(self) -> None:
        self._look_no_more()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def begin(self, spark: SparkSession, settings: Settings) -> None:
        super().begin(spark, settings)
        self._thread = threading.Thread(target=self._look_on, args=(spark,), name="metrics", daemon=True)
        self._thread.start()

    def _look_no_more(self) -> None:
        self._is_over = True
        self._is_due.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_LOOK_SECONDS)

    def _look_on(self, spark: SparkSession) -> None:
        with suppress(Exception):
            join_session(spark)
        look_at = 0.0
        while not self._is_over:
            self._is_due.clear()
            try:
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + self.settings.metrics.refresh_seconds
                    reading = self.look()
                    if reading is not None:  # else what fires goes on to: nobody knows
                        self._of_tables = [*self._alerts.of_reading(reading, self.settings)]
                if self._webhook is not None and not self._is_over:
                    self._webhook.tell(self._firing)
            except Exception as error:
                self.left("nothing is told", error)
            self._is_due.wait(max(0.0, look_at - time.monotonic()))

    @property
    def _firing(self) -> "list[Alert]":
        return [*self._of_tables, *self._alerts.of_failures(self.failing)]

    def heard_by(self, options: Options) -> Options:
        if not options.get("every"):
            return super().heard_by(options)
        self.values.set(self.of.BEAT_AT, time.time())
        self.values.set(self.of.BEATS_SKIPPED, 0)  # whose growth is asked for, which begins at a value
        for each in SCHEDULES:
            self.values.set(self.of.MAINTENANCE_FAILURES, 0, each.name)
        return {**options, "watch": _Hearing(options.get("watch") or Watch(), self)}

    @_harmless
    def beat(self, beat: Beat, skipped: int) -> None:
        of, values = self.of, self.values
        values.add(of.BEATS, 1)
        values.set(of.BEATS_SKIPPED, skipped)
        values.set(of.BEAT_SECONDS, beat.seconds)
        values.set(of.BEAT_AT, time.time())
        for table in beat.failed:
            values.add(of.TABLE_FAILURES, 1, table)
        well = {summary.table for summary in beat.summaries}
        self.failing = {table: why for table, why in self.failing.items() if table not in well} | {**beat.failed}
        for table in well:
            values.set(of.TABLE_FAILING, 0, table)
        for table in self.failing:
            values.set(of.TABLE_FAILING, 1, table)
        if not self.failing:
            values.set(of.JOB_SUCCEEDED_AT, time.time(), self.job.name)
        self._is_due.set()

    @_harmless
    def maintenance_failed(self, schedule: str) -> None:
        self.values.add(self.of.MAINTENANCE_FAILURES, 1, schedule)

    @_harmless
    def ended(self, exit_code: int, error: str = "") -> None:
        super().ended(exit_code, error)
        self._look_no_more()
        if exit_code and self._webhook is not None:
            self._webhook.tell([*self._firing, self._alerts.Alert(self._alerts.JOB_FAILED, self.job.name, error)])


class _Hearing(Watch):
    """Tells an observer what live mode does, beside the one that shows it."""

    def __init__(self, shown: Watch, observer: _Enduring) -> None:
        self._shown, self._observer = shown, observer

    def done(self, summary: Summary) -> None:
        self._shown.done(summary)
        self._observer.done(summary)

    def ended(self, beat: Beat, skipped: int) -> None:
        self._shown.ended(beat, skipped)
        self._observer.beat(beat, skipped)

    def waits(self, beat_at: datetime, due_at: datetime, due: Schedule) -> None:
        self._shown.waits(beat_at, due_at, due)

    def failed(self, what: str, error: Exception) -> None:
        self._shown.failed(what, error)
        self._observer.maintenance_failed(what)
