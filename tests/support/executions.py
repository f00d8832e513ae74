"""What a piece of work costs Spark: its SQL executions, each with the line of ours that asked for it, and its jobs."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from py4j.java_gateway import GatewayClient
from py4j.protocol import is_error
from pyspark.sql import SparkSession

import lakehouse_spark

_OURS = Path(lakehouse_spark.__file__).parent
_SHOWS_ALL = {
    "spark.sql.ui.retainedExecutions": "100000",
    "spark.ui.liveUpdate.period": "0",
    "spark.appStateStore.asyncTracking.enable": "false",
}
"""Makes Spark's own listener show all that it has heard of, and at once."""
_SHORTEST = 0.002
"""Seconds: no execution is over sooner, and nearly every other question to the JVM is."""


@dataclass(frozen=True)
class Question:
    """One to the JVM that took long; `asked_by` are the lines of lakehouse_spark that led to it, innermost first."""

    began: float
    ended: float
    asked_by: tuple[str, ...]


@dataclass(frozen=True)
class Execution:
    """One SQL execution, as Spark describes it, and as which of our lines asked for it; `began` by the clock."""

    number: int
    described: str
    asked_by: tuple[str, ...]
    jobs: int
    began: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.jobs} jobs, {1000 * self.seconds:.0f} ms: {' < '.join(self.asked_by) or self.described}"


@dataclass(frozen=True)
class Spent:
    """What something cost: `jobs` are all of Spark's, also those of no execution; `questions` all those to the JVM, and
    `thrown` the lines of ours, innermost first, that asked each which it answered by an exception."""

    executions: tuple[Execution, ...]
    jobs: int
    questions: int
    thrown: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.executions))


class Counter:
    """Counts what Spark runs; Spark's own pages, which keep a few executions, stay as they are."""

    def __init__(self, spark: SparkSession) -> None:
        self._context, java = spark.sparkContext._jsc.sc(), spark._jvm
        assert java is not None
        conf, apache = self._context.getConf(), java.org.apache.spark
        for name, value in _SHOWS_ALL.items():
            conf.set(name, value)
        store = apache.status.ElementTrackingStore(apache.util.kvstore.InMemoryStore(), conf)
        self.listener = apache.sql.execution.ui.SQLAppStatusListener(conf, store, True)
        self._heard = apache.sql.execution.ui.SQLAppStatusStore(store, java.scala.Option.empty())
        self.asked = 0
        self.took_long: list[Question] = []
        self.thrown: list[tuple[str, ...]] = []
        self._before = (0, self._jobs(), self.asked)

    def spent(self) -> Spent:
        """What it cost since this was last asked, or since the counter began."""
        was_asked, (executions, jobs, asked) = self.asked, self._before
        self._context.listenerBus().waitUntilEmpty(60_000)
        found = self._heard.executionsList(executions, 100_000)
        new = tuple(self._execution(found.apply(place)) for place in range(found.size()))
        spent = Spent(new, self._jobs() - jobs, was_asked - asked, tuple(self.thrown))
        self.thrown.clear()
        self._before = (executions + len(new), self._jobs(), self.asked)
        return spent

    def _jobs(self) -> int:
        return int(self._context.dagScheduler().numTotalJobs())

    def _execution(self, told: Any) -> Execution:
        began, ended = told.submissionTime() / 1000, told.completionTime()
        around = [each for each in self.took_long if each.began - 0.001 <= began <= each.ended]
        asked_by = around[-1].asked_by if around else ()
        seconds = ended.get().getTime() / 1000 - began if ended.isDefined() else 0.0
        return Execution(told.executionId(), told.description(), asked_by, told.jobs().size(), began, seconds)


@contextmanager
def counted(spark: SparkSession) -> Iterator[Counter]:
    """Counts what is run within it; only one at a time."""
    counter, send = Counter(spark), GatewayClient.send_command

    def ask(self: Any, *args: Any, **options: Any) -> Any:
        counter.asked += 1
        began = time.time()
        try:
            answer = send(self, *args, **options)
            if is_error(answer)[0]:
                counter.thrown.append(_lines_of_ours())
            return answer
        finally:
            ended = time.time()
            if ended - began > _SHORTEST:
                counter.took_long.append(Question(began, ended, _lines_of_ours()))

    with pytest.MonkeyPatch.context() as patch:
        counter._context.addSparkListener(counter.listener)
        patch.setattr(GatewayClient, "send_command", ask)
        try:
            yield counter
        finally:
            counter._context.removeSparkListener(counter.listener)


def _lines_of_ours() -> tuple[str, ...]:
    """The lines of lakehouse_spark that are being run, the innermost first."""
    frame: FrameType | None = sys._getframe()
    lines = []
    while frame is not None:
        code = frame.f_code
        file = Path(code.co_filename)
        if file.is_relative_to(_OURS):
            lines.append(f"{file.relative_to(_OURS)}:{frame.f_lineno} {code.co_name}")
        frame = frame.f_back
    return tuple(lines)
