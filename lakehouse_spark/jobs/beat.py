"""A beat, of live mode or alone: every layer is brought up to date, and a table that fails stops no other."""

import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pyspark.sql import SparkSession

from lakehouse_spark.catalog import DIMENSIONS, FACTS, TOPICS
from lakehouse_spark.errors import RefusedError, in_a_sentence
from lakehouse_spark.jobs import (
    bronze_writer,
    dimension_loader,
    fact_loader,
    gold_aggregator,
    silver_processor,
    steps,
)
from lakehouse_spark.jobs.steps import Step
from lakehouse_spark.jobs.summary import Summary, tell
from lakehouse_spark.lake.log import ERROR
from lakehouse_spark.lake.session import complain
from lakehouse_spark.maintenance.schedule import Schedule
from lakehouse_spark.settings import Settings

if TYPE_CHECKING:
    from lakehouse_spark.maintenance.journal import Journal

_BRONZE = tuple(topic.table.name for topic in TOPICS.values())
_DIMENSIONS = tuple(dimension.table.name for dimension in DIMENSIONS.values())
_SILVER = tuple(f"silver.{name}" for name in silver_processor.TABLES)
_FACTS = tuple(fact.table.name for fact in FACTS.values())
_GOLD = tuple(table.name for tables, _ in gold_aggregator.STEPS for table in tables)
TABLES = (*_BRONZE, *_DIMENSIONS, *_SILVER, *_FACTS, *_GOLD)
"""What a beat brings up to date, in its order."""
_LONGEST_PAUSE = timedelta(minutes=15)


@dataclass(frozen=True)
class Beat:
    """What came of one beat: its number counts from 1, those that were skipped too."""

    number: int
    began: datetime
    seconds: float
    summaries: Sequence[Summary]
    failed: Mapping[str, str]
    """By table, why it was not brought up to date."""
    left: Mapping[str, str]
    """By table, why it was left alone."""
    well: Collection[str] = ()
    """The tables that were brought up to date, or had nothing to be brought up to."""
    errors: Sequence[BaseException] = ()
    """What was raised, in the order of the tables."""

    def wrong_since(self, before: Mapping[str, str]) -> Mapping[str, str]:
        """By table, why it is not up to date: it failed now, or did `before` and has not been brought up since."""
        return {table: why for table, why in before.items() if table not in self.well} | {**self.failed}

    def as_dict(self) -> dict[str, Any]:
        return {
            "beat": self.number, "at": self.began.isoformat(timespec="seconds"), "seconds": self.seconds,
            "tables": [summary.as_dict() for summary in self.summaries if summary.snapshot_id is not None],
            "failed": dict(self.failed), "left": dict(self.left),
        }  # fmt: skip


def streamed(leases: "Journal", now: datetime) -> list[str]:
    """The bronze tables that a continuous bronze_writer holds."""
    return [table for table in _BRONZE if leases.holder(table, now, (bronze_writer.JOB,))]


class Watch:
    """Hears what live mode does, and prints it: a line for each table that changed, and one of JSON for each beat."""

    def done(self, summary: Summary) -> None:
        if summary.snapshot_id is not None or summary.notes:
            tell(summary)

    def ended(self, beat: Beat, skipped: int) -> None:
        """A beat, and how many were skipped until now."""
        for table, why in beat.failed.items():
            complain(f"{table}: {why}", ERROR, table=table)
        print(json.dumps({"job": "pipeline", **beat.as_dict(), "skipped": skipped}), flush=True)

    def waits(self, beat_at: datetime, due_at: datetime, due: Schedule) -> None:
        """When the next beat comes, and the next maintenance."""

    def failed(self, what: str, error: Exception) -> None:
        """Something that is no table of a beat."""
        complain(f"{what}: {in_a_sentence(error)}", ERROR)


@dataclass(frozen=True)
class _Trouble:
    """A table failed so many times in a row, and is tried again at a later beat."""

    times: int
    again_at: int


@dataclass
class Beats:
    """The beats of one live mode for these tables, which remember what failed.

    A table that is refused, to protect data, is refused anew at every beat until someone decides. One that fails for
    another reason is tried again at the next beat, then after 2, 4, 8 … beats, but within a quarter of an hour.
    """

    spark: SparkSession
    settings: Settings
    every: timedelta
    tables: Collection[str]
    stop: threading.Event
    report: Callable[[Summary], None]
    _troubles: dict[str, _Trouble] = field(default_factory=dict)

    def run(self, number: int, streamed: Collection[str] = ()) -> Beat:
        """One beat; the tables that are `streamed` are a continuous bronze_writer's, and left to it."""
        began, at = time.monotonic(), datetime.now(UTC)
        summaries, failed, well = list[Summary](), dict[str, str](), set[str]()
        errors: list[BaseException] = []
        left = dict.fromkeys(streamed, "a continuous bronze_writer writes it")
        left |= {
            table: f"failed {trouble.times} times; tried again at beat {trouble.again_at}"
            for table, trouble in self._troubles.items()
            if trouble.again_at > number
        }
        for tables, steps_of, at_once in self._layers():
            chosen = {table for table in tables if table in self.tables} - {*left}
            if not chosen or self.stop.is_set():
                continue
            try:
                due = [step for step in steps_of() if chosen.intersection(_names(step))]
            except Exception as error:  # of no single table: such as of a broker that does not answer
                failed |= self._note(number, chosen, error)
                errors.append(error)
                continue
            outcome = steps.attempt(self.spark, due, self.report, at_once=at_once, stop=self.stop)
            summaries += outcome.summaries
            for step, failure in outcome.failures:
                failed |= self._note(number, _names(step), failure)
                errors.append(failure)
            left |= {table: "waits" for step in outcome.left for table in _names(step)}
            well |= chosen - {*failed, *left}
        for table in well:
            self._troubles.pop(table, None)
        return Beat(number, at, round(time.monotonic() - began, 3), summaries, failed, left, well, errors)

    def _layers(self) -> Iterable[tuple[Sequence[str], Callable[[], list[Step]], int]]:
        """The tables of each layer, their steps, and how many of these go at once."""
        spark, settings, at_once = self.spark, self.settings, self.settings.spark.tables_at_once
        longest, audits = settings.ingest.max_record_bytes, settings.audit
        members = partial(dimension_loader.steps_of, spark, max_record_bytes=longest, audits=audits)
        return (
            (_BRONZE, partial(bronze_writer.steps_of, spark, settings, stop=self.stop), at_once),
            (_DIMENSIONS, members, 1),
            (_SILVER, partial(silver_processor.steps_of, spark, settings), at_once),
            (_FACTS, partial(fact_loader.steps_of, spark, settings), at_once),
            (_GOLD, partial(gold_aggregator.steps_of, spark, settings), at_once),
        )

    def _note(self, number: int, tables: Iterable[str], error: BaseException) -> dict[str, str]:
        """Remembers when these are tried again; by table, what there is to tell."""
        told, longest = {}, max(1, _LONGEST_PAUSE // self.every)
        for table in tables:
            times = self._troubles[table].times + 1 if table in self._troubles else 1
            pause = 1 if isinstance(error, RefusedError) else min(2 ** (times - 1), longest)
            self._troubles[table] = _Trouble(times, number + pause)
            told[table] = in_a_sentence(error)
        return told


def _names(step: Step) -> list[str]:
    return [table.name for table in step.tables]
