"""Kafka → bronze: one Structured Streaming query per topic; the table itself is the checkpoint."""

import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from lakehouse_spark.bronze.topic import Topic
from lakehouse_spark.catalog import REFERENCE_TOPIC, TOPICS
from lakehouse_spark.dim.reference_log import ReferenceTopic
from lakehouse_spark.errors import LakehouseError, RefusedError, UsageError, in_a_sentence, is_caused_by
from lakehouse_spark.ingest import decoding, kafka
from lakehouse_spark.ingest.schema_registry import Interrupted
from lakehouse_spark.jobs.steps import Step
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import Gap, TopicCursor
from lakehouse_spark.lake.topic_progress import progress
from lakehouse_spark.settings import Settings

JOB = "bronze_writer"


def run(
    spark: SparkSession,
    settings: Settings,
    tables: Sequence[str] = (),
    *,
    continuous: bool = False,
    accept_gap: bool = False,
    stop: threading.Event | None = None,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Appends what the topics of `tables` (default: all there are) hold beyond each table's cursor, then stops.

    With `continuous`, goes on until `stop` is set. `report` hears of every commit. Raises RefusedError where going on
    would lose or repeat records unseen (unless `accept_gap`), LostRaceError if another writer committed first. The
    first failure of any topic ends the others behind the micro-batch that each has under way.
    """
    if unknown := set(tables) - set(TOPICS):
        raise UsageError(f"bronze_writer: no such table {', '.join(sorted(unknown))}; tables: {', '.join(TOPICS)}")
    chosen = list(dict.fromkeys(tables)) or there(spark, settings)
    kafka.check_settings(settings)
    decoding.check(settings, chosen)
    ending = _Ending(stop or threading.Event())
    writers = [_open(spark, settings, TOPICS[name], accept_gap, ending, report) for name in chosen]
    waiting = [writer for writer in writers if continuous or writer.is_behind]
    try:
        for writer in waiting:
            writer.start(spark, settings, continuous)
        _await_all(waiting, ending)
        for writer in waiting:
            writer.record_gap(spark)
    finally:
        for writer in waiting:
            writer.close()
    return [writer.summary for writer in writers]


def steps_of(
    spark: SparkSession, settings: Settings, tables: Sequence[str] = (), *, stop: threading.Event | None = None
) -> list[Step]:
    """What `run` does once, a step for each table: what fails of a topic leaves the others alone."""
    chosen = list(dict.fromkeys(tables)) or there(spark, settings)
    return [Step((TOPICS[name].table,), partial(run, spark, settings, [name], stop=stop)) for name in chosen]


def there(spark: SparkSession, settings: Settings) -> list[str]:
    """The tables whose topics are read by default: the reference data's only where there is one that we may see."""
    if kafka.exists(spark, settings, settings.topic(REFERENCE_TOPIC.name)):
        return list(TOPICS)
    return [name for name in TOPICS if name != REFERENCE_TOPIC.name]


@dataclass
class _Ending:
    """Whether the job is to end: it was asked to, or one of its topics failed."""

    asked: threading.Event
    has_failed: bool = False

    @property
    def is_due(self) -> bool:
        return self.has_failed or self.asked.is_set()

    def pause(self, seconds: float) -> bool:
        """Waits for so long, but not once the job is to end: whether it is."""
        return self.asked.wait(seconds) or self.has_failed


_POLL_SECONDS = 1
_PATIENCE_SECONDS = 60.0
"""For the micro-batch under way when the job is to end. One that is cut off leaves no commit: the next run takes it."""


def _await_all(writers: Sequence["_Writer"], ending: _Ending) -> None:
    """Waits until every query has ended, of its own accord or once the job is to end; raises the first failure."""
    deadline: float | None = None
    while running := [writer for writer in writers if writer.is_running]:
        if ending.is_due:
            deadline = deadline or time.monotonic() + _PATIENCE_SECONDS
            for writer in running:
                if not writer.is_writing or time.monotonic() > deadline:
                    writer.cut_off()
        running[0].wait(_POLL_SECONDS)
    failures = [writer.failure for writer in writers if writer.failure is not None]
    if failures:
        raise min(failures, key=lambda failure: failure[0])[1]


@dataclass
class _Writer:
    """One topic's query, and the state of the table as its last commit left it."""

    source: Topic | ReferenceTopic
    found: kafka.Offered
    state: snapshots.State
    following: dict[int, int]
    epoch: datetime | None
    gaps: tuple[Gap, ...]
    ending: _Ending
    report: Callable[[Summary], None]
    began: float = field(default_factory=time.monotonic)
    rows: int = 0
    committed: bool = False
    query: StreamingQuery | None = None
    scratch: Path | None = None
    is_writing: bool = False
    is_torn: bool = False
    """Whether its query was cut off within a micro-batch: what fails for that is no failure."""
    failure: tuple[float, Exception] | None = None
    """When its query failed, and what a user should read of it."""

    @property
    def is_behind(self) -> bool:
        return bool(self.gaps) or any(end > self.following.get(p, 0) for p, end in self.found.latest.items())

    @property
    def summary(self) -> Summary:
        snapshot_id = self.state.snapshot_id if self.committed else None
        seconds = round(time.monotonic() - self.began, 3)
        return Summary(JOB, self.source.table.name, {"records": self.rows}, snapshot_id, seconds)

    def start(self, spark: SparkSession, settings: Settings, continuous: bool) -> None:
        self.scratch = settings.scratch / f"{self.source.name}-{uuid.uuid4().hex}"
        has_headers = self.source.name in settings.kafka.headers
        records = kafka.stream(spark, settings, self.found, self.following, headers=has_headers)
        every = f"{settings.ingest.trigger_seconds} seconds"
        writer = records.writeStream.queryName(f"{JOB} {self.source.name}").foreachBatch(
            lambda batch, number: self.write(batch, number, settings)
        )
        writer = writer.option("checkpointLocation", f"file://{self.scratch}")
        self.query = (writer.trigger(processingTime=every) if continuous else writer.trigger(availableNow=True)).start()

    def write(self, batch: DataFrame, number: int, settings: Settings) -> None:
        """Commits one micro-batch, unless the job is about to end.

        An error is kept, and never raised: Spark would know no more of it than its text, log that, and search it with
        an expression that overflows the stack over a long one. That Spark takes the batch for done changes nothing:
        where to go on is in the table, and the next run reads it there.
        """
        self.is_writing = True
        try:
            if not self.ending.is_due:
                with suppress(Interrupted):
                    self._write(batch, number, settings)
        except Exception as error:
            self._fail(error)
        finally:
            self.is_writing = False

    def _write(self, batch: DataFrame, number: int, settings: Settings) -> None:
        ends = {**self.following, **self._planned(number)}
        if all(end <= self.following.get(partition, 0) for partition, end in ends.items()):
            return
        spark, table, began = batch.sparkSession, self.source.table, time.monotonic()
        found = kafka.offered(spark, settings, self.found.topic)
        kafka.check(table.name, self.following, self.found.topic_id, found)  # it may have been made anew since
        stamp = self.state.next_stamp(datetime.now(UTC))
        fresh = batch.where(kafka.within(self.following, ends))
        text = decoding.text(settings, self.source.name, fresh, self.ending.pause)
        rows = self.source.build(fresh, stamp, settings.ingest.max_record_bytes, text)
        cursor = self._cursor(ends, stamp)
        self.state = commit.append(spark, table, rows, self.state, cursor)
        self.following, self.gaps, self.committed = ends, (), True
        added = snapshots.added_records(spark, table, self.state)
        self.rows += added
        seconds = round(time.monotonic() - began, 3)
        self.report(Summary(JOB, table.name, {"records": added}, self.state.snapshot_id, seconds))

    def _planned(self, number: int) -> dict[int, int]:
        """Where this micro-batch ends, from the offset log that Spark wrote before it began."""
        if self.scratch is None:
            raise LakehouseError(f"{self.source.table.name}: the stream was not started")
        log = self.scratch / "offsets" / str(number)
        try:
            offsets = json.loads(log.read_text().splitlines()[-1])[self.found.topic]
        except (OSError, ValueError, KeyError) as error:
            raise LakehouseError(
                f"{self.source.table.name}: the scratch folder {self.scratch} was changed while the stream ran "
                f"({type(error).__name__}); nothing of this batch was written. Run the job again"
            ) from error
        return {int(p): max(end, self.following.get(int(p), 0)) for p, end in offsets.items()}

    @property
    def is_running(self) -> bool:
        """Whether its query goes on; that it failed on its own is noted when this is first asked after."""
        if self.query is None:
            return False
        if self.query.isActive:
            return True
        error = self.query.exception()
        if error is not None:
            self._fail(error)
        return False

    def wait(self, seconds: int) -> None:
        """Until its query ends, but no longer."""
        if self.query is not None:
            with suppress(StreamingQueryException):  # `is_running` notes it
                self.query.awaitTermination(seconds)

    def cut_off(self) -> None:
        """Ends its query now."""
        query, self.query, self.is_torn = self.query, None, self.is_writing
        if query is not None and query.isActive:
            query.stop()

    def _fail(self, error: Exception) -> None:
        """Notes the first failure, and ends the job."""
        if self.failure is None and not self.is_torn:
            self.failure = (time.monotonic(), _translated(self.source.table.name, error))
        self.ending.has_failed = True

    def record_gap(self, spark: SparkSession) -> None:
        """An accepted gap with no record behind it is a commit of its own."""
        if self.gaps and not self.is_torn:
            stamp = self.state.next_stamp(datetime.now(UTC))
            self.state = commit.advance(spark, self.source.table, self.state, self._cursor(self.following, stamp))
            self.gaps, self.committed = (), True

    def _cursor(self, ends: Mapping[int, int], stamp: datetime) -> TopicCursor:
        return TopicCursor(
            stamp=stamp, topic=self.found.topic, topic_id=self.found.topic_id, began=self.following, following=ends,
            epoch=self.epoch, gaps=self.gaps, removed=self._removed,
        )  # fmt: skip

    @property
    def _removed(self) -> Mapping[str, Mapping[int, int]]:
        """What retention has removed, which a recreated topic moves to those before it."""
        cursor = self.state.cursor_as(TopicCursor)
        removed = dict(cursor.removed) if cursor else {}
        earlier = [topic for topic in removed if topic != self.found.topic_id]
        if not earlier:
            return removed
        summed: dict[int, int] = {}
        for topic in earlier:
            for partition, rows in removed.pop(topic).items():
                summed[partition] = summed.get(partition, 0) + rows
        return {**removed, "": summed}

    def close(self) -> None:
        self.cut_off()
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)


def _open(
    spark: SparkSession,
    settings: Settings,
    source: Topic | ReferenceTopic,
    accept_gap: bool,
    ending: _Ending,
    report: Callable[[Summary], None],
) -> _Writer:
    table = source.table
    state = snapshots.state(spark, table)
    following, topic_id, epoch = progress(spark, source, state)
    found = kafka.offered(spark, settings, settings.topic(source.name))
    gaps: tuple[Gap, ...] = ()
    try:
        kafka.check(table.name, following, topic_id, found)
    except RefusedError as refusal:
        if not accept_gap:
            raise
        gaps = (Gap(refusal.happened, following),)
        following, epoch = _after_gap(following, topic_id, found, epoch, state)
    return _Writer(source, found, state, following, epoch, gaps, ending, report)


def _after_gap(
    following: Mapping[int, int],
    topic_id: str | None,
    found: kafka.Offered,
    epoch: datetime | None,
    state: snapshots.State,
) -> tuple[dict[int, int], datetime | None]:
    """Where to go on once a gap is accepted: a recreated topic from its beginning, else behind the gap."""
    truncated = any(found.latest.get(p, 0) < end for p, end in following.items() if p in found.latest)
    if truncated or (topic_id is not None and topic_id != found.topic_id):
        return dict(found.earliest), state.stamp
    return {p: max(end, found.earliest[p]) for p, end in following.items() if p in found.earliest}, epoch


def _translated(table: str, error: Exception) -> LakehouseError:
    """The error a user should read in place of someone else's."""
    if isinstance(error, LakehouseError):
        return error
    if is_caused_by(error, "KAFKA_DATA_LOSS"):
        return RefusedError(
            f"{table}: Kafka removed or truncated records while they were being read. Nothing is skipped: run the job "
            "again, and it will say what is missing and how to accept it"
        )
    return LakehouseError(f"{table}: the stream failed: {in_a_sentence(error)}")
