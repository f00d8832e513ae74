"""Who hears of a run of a job and tells it: of one that ends, in the textfile; of one that goes on, while it does."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial, wraps
from typing import ParamSpec
from wsgiref.simple_server import WSGIServer

from pyspark.sql import SparkSession

from lakehouse_spark import catalog
from lakehouse_spark.catalog import TOPICS
from lakehouse_spark.errors import in_a_sentence
from lakehouse_spark.iceberg.embedded import MissingError
from lakehouse_spark.ingest import kafka
from lakehouse_spark.jobs.beat import TABLES, Beat, Watch
from lakehouse_spark.jobs.job import Job, Options
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit
from lakehouse_spark.lake.commit import Commit
from lakehouse_spark.lake.log import ERROR
from lakehouse_spark.lake.session import complain, join_session
from lakehouse_spark.maintenance.schedule import SCHEDULES, Schedule
from lakehouse_spark.metrics import Observer, alerts, declared, values
from lakehouse_spark.metrics.alerts import Alert, Webhook
from lakehouse_spark.metrics.reading import Reader, Reading
from lakehouse_spark.metrics.values import Values
from lakehouse_spark.settings import Settings

_P = ParamSpec("_P")
_READS_MANIFESTS = ("compaction", "maintenance")
"""Jobs that read all of them anyway: these count small files."""
_LAST_LOOK_SECONDS = 5.0
"""How long the end of a job waits for a look that is under way."""


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
        self.settings, self.job, self.values = settings, job, Values()
        self.reader: Reader | None = None
        self.began = time.monotonic()
        self._has_complained = False

    @contextmanager
    def open(self) -> Iterator[None]:
        with commit.heard_by(self._committed):
            yield

    @_harmless
    def begin(self, spark: SparkSession, settings: Settings) -> None:
        asked = partial(kafka.offered, spark, settings) if self.job.topics else None
        self.reader = Reader(settings, asked, self.counts_small_files)
        self.reader.begin()

    def heard_by(self, options: Options) -> Options:
        told: Callable[[Summary], None] | None = options.get("report")

        def report(summary: Summary) -> None:
            self.done(summary)
            if told:
                told(summary)

        return {**options, "report": report}

    def ended(self, exit_code: int, error: str = "") -> None:
        self.is_over = True
        self.values.set(declared.JOB_SECONDS, time.monotonic() - self.began, self.job.name)
        self.values.set(declared.JOB_EXIT_CODE, exit_code, self.job.name)
        self.values.add(declared.JOB_FAILURES, exit_code != 0, self.job.name)
        if exit_code == 0:
            self.values.set(declared.JOB_SUCCEEDED_AT, time.time(), self.job.name)

    @_harmless
    def done(self, summary: Summary) -> None:
        self.values.set(declared.TABLE_SUCCEEDED_AT, time.time(), summary.job, summary.table)

    def _committed(self, done: Commit) -> None:
        table = done.table
        for phase, seconds in done.seconds.items():
            self.values.add(declared.COMMIT_SECONDS, seconds, table, phase)
        counted = {
            declared.RETRIES: max(0, done.tries - 1),
            declared.LOST_RACES: done.is_lost,
            declared.COMMITS: done.state is not None,
            declared.COMMIT_RECORDS: done.added.get("records", 0) if done.state else 0,
            declared.COMMIT_FILES: done.added.get("data-files", 0) if done.state else 0,
            declared.COMMIT_BYTES: done.added.get("files-size", 0) if done.state else 0,
        }
        for metric, number in counted.items():
            self.values.add(metric, number, table)

    def look(self) -> Reading | None:
        """Brings what the tables say up to now; None where they cannot be read."""
        if self.reader is None:
            return None
        try:
            reading = self.reader.read(datetime.now(UTC))
        except Exception as error:
            if not isinstance(error, MissingError):  # which a lakehouse is until its first job has made it
                self.left("the tables cannot be read", error)
            told = (metric for metric in declared.OF_TABLES if metric is not declared.READ_AT)
            self.values.replace(told, {(declared.READABLE, ()): 0})
            return None
        self._has_complained = False
        self.values.replace(declared.OF_TABLES, reading.values)
        for labels, number in reading.reasons.items():
            self.values.add(declared.REJECTED, number, *labels)
        return reading

    def left(self, what: str, error: Exception) -> None:
        """Says what is not told, once until it is."""
        if not self._has_complained:
            complain(f"metrics: {what}: {in_a_sentence(error)}", ERROR)
        self._has_complained = True


class Passing(_Telling):
    """Of a job that ends: all it did is in the textfile then."""

    def __init__(self, settings: Settings, job: Job) -> None:
        super().__init__(settings, job)
        self.counts_small_files = job.name in _READS_MANIFESTS

    def ended(self, exit_code: int, error: str = "") -> None:
        super().ended(exit_code, error)
        folder = self.settings.metrics.textfile_dir
        assert folder is not None
        try:
            self.look()
            values.write(self.values, folder)
        except Exception as failure:
            self.left("the textfile is not written (LAKEHOUSE_METRICS__TEXTFILE_DIR)", failure)


class Enduring(_Telling):
    """Of a job that goes on: a thread of its own looks at the tables now and then, and posts alerts behind beats."""

    def __init__(self, settings: Settings, job: Job, options: Options) -> None:
        super().__init__(settings, job)
        self.tables = _tables(options)
        self.failing: Mapping[str, str] = {}
        has_webhook = settings.alerts.webhook_url is not None
        self._webhook = Webhook(settings, partial(complain, level=ERROR)) if has_webhook else None
        self._of_tables: list[Alert] = []
        self._is_due, self._thread = threading.Event(), threading.Thread()
        self.server: WSGIServer | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        if self.settings.metrics.port is not None:
            self.server = values.serve(self.values, self.settings.metrics)
            host, port = self.server.server_address[:2]
            complain(f"metrics: http://{host!s}:{port}/metrics")
        try:
            with super().open():
                yield
        finally:
            self._look_no_more()
            if self.server is not None:
                self.server.shutdown()
                self.server.server_close()

    def begin(self, spark: SparkSession, settings: Settings) -> None:
        super().begin(spark, settings)
        self._thread = threading.Thread(target=self._look_on, args=(spark,), name="metrics", daemon=True)
        self._thread.start()

    def _look_on(self, spark: SparkSession) -> None:
        with suppress(Exception):
            join_session(spark)
        look_at = 0.0
        while not self.is_over:
            try:
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + self.settings.metrics.refresh_seconds
                    reading = self.look()
                    if reading is not None:  # else what fires goes on to: nobody knows
                        found = alerts.of_reading(reading, self.settings)
                        self._of_tables = [alert for alert in found if alert.subject in self.tables]
                if self._webhook is not None and not self.is_over:
                    self._webhook.tell(self._firing)
            except Exception as error:
                self.left("nothing is told", error)
            self._is_due.wait(max(0.0, look_at - time.monotonic()))
            self._is_due.clear()

    def _look_no_more(self) -> None:
        self.is_over = True
        self._is_due.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_LOOK_SECONDS)

    @property
    def _firing(self) -> list[Alert]:
        return [*self._of_tables, *alerts.of_failures(self.failing)]

    def heard_by(self, options: Options) -> Options:
        if not options.get("every"):
            return super().heard_by(options)
        self.values.set(declared.BEAT_AT, time.time())
        self.values.set(declared.BEATS_SKIPPED, 0)  # whose growth is asked for, which begins at a value
        for each in SCHEDULES:
            self.values.set(declared.MAINTENANCE_FAILURES, 0, each.name)
        return {**options, "watch": _Hearing(options.get("watch") or Watch(), self)}

    @_harmless
    def beat(self, beat: Beat, skipped: int) -> None:
        self.values.add(declared.BEATS, 1)
        self.values.set(declared.BEATS_SKIPPED, skipped)
        self.values.set(declared.BEAT_SECONDS, beat.seconds)
        self.values.set(declared.BEAT_AT, time.time())
        for table in beat.failed:
            self.values.add(declared.TABLE_FAILURES, 1, table)
        self.failing = beat.wrong_since(self.failing)
        for table in {*beat.well, *self.failing}:
            self.values.set(declared.TABLE_FAILING, table in self.failing, table)
        if not self.failing:
            self.values.set(declared.JOB_SUCCEEDED_AT, time.time(), self.job.name)
        self._is_due.set()

    @_harmless
    def maintenance_failed(self, schedule: str) -> None:
        self.values.add(declared.MAINTENANCE_FAILURES, 1, schedule)

    @_harmless
    def ended(self, exit_code: int, error: str = "") -> None:
        super().ended(exit_code, error)
        self._look_no_more()
        if exit_code and self._webhook is not None:
            self._webhook.tell([Alert(alerts.JOB_FAILED, self.job.name, error), *self._firing])


def _tables(options: Options) -> Collection[str]:
    """The tables that live mode, or a continuous stream, is to keep up to date: alerts are of these."""
    if named := options.get("tables"):
        return {catalog.table(name).name for name in named}
    return {topic.table.name for topic in TOPICS.values()} if options.get("continuous") else TABLES


class _Hearing(Watch):
    """Tells an observer what live mode does, beside the one that shows it."""

    def __init__(self, shown: Watch, observer: Enduring) -> None:
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
