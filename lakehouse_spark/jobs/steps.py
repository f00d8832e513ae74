"""The tables of a job, side by side where lineage allows: a small batch waits for plans more than for cores."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from lakehouse_spark.errors import in_a_sentence
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.table import Table


@dataclass(frozen=True)
class Step:
    """Tables that are brought up to date together; `work` yields the summary of each once it is."""

    tables: tuple[Table, ...]
    work: Callable[[], Iterable[Summary]]

    def follows(self, other: "Step") -> bool:
        """Whether a table of the other one is a declared source of one of these."""
        made = {table.name for table in other.tables}
        return any(made.intersection(table.sources) for table in self.tables)


def run(
    spark: SparkSession, steps: Sequence[Step], report: Callable[[Summary], None], *, at_once: int
) -> list[Summary]:
    """The summaries of all steps, in the order of these; each begins once those that it follows have ended.

    At most so many run `at_once`. A step that fails ends those behind it before they begin, and no other: then its
    error is raised, the first one of several with the others as its notes.
    """
    told, lock = [list[Summary]() for _ in steps], threading.Lock()

    def work(number: int) -> None:
        for summary in steps[number].work():
            with lock:
                told[number].append(summary)
                report(summary)

    pool = _Here() if at_once == 1 else ThreadPoolExecutor(at_once, "table", _joins, (spark,))
    try:
        errors = _ended(steps, lambda number: pool.submit(work, number), at_once)
    finally:
        # Not waited for: whoever interrupts the job stops Spark next, and that ends the work under way.
        pool.shutdown(wait=False, cancel_futures=True)
    if errors:
        for other in errors[1:]:
            errors[0].add_note(in_a_sentence(other))
        raise errors[0]
    return [summary for summaries in told for summary in summaries]


def _ended(steps: Sequence[Step], begin: Callable[[int], Future[None]], at_once: int) -> list[BaseException]:
    """The errors of the steps, in the order of these, once all that can be begun have ended."""
    waiting, running = list(range(len(steps))), dict[Future[None], int]()
    errors, without = dict[int, BaseException](), set[int]()
    while waiting or running:
        for number in list(waiting):
            before = {earlier for earlier in range(number) if steps[number].follows(steps[earlier])}
            if before & without:
                without.add(number)
                waiting.remove(number)
            elif len(running) < at_once and before.isdisjoint([*waiting, *running.values()]):
                running[begin(number)] = number
                waiting.remove(number)
        for ended in wait(running, return_when=FIRST_COMPLETED).done:
            number, error = running.pop(ended), ended.exception()
            if error is not None:
                without.add(number)
                errors[number] = error
    return [errors[number] for number in sorted(errors)]


class _Here(Executor):
    """Does what is submitted at once, in the calling thread."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **named))
        except Exception as error:
            done.set_exception(error)
        return done


def _joins(spark: SparkSession) -> None:
    """Makes the session that of a new thread: what Spark does there would else look for one."""
    jvm = spark._jvm
    assert jvm is not None
    jvm.SparkSession.setActiveSession(spark._jsparkSession)
