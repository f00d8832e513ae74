"""The tables of a job, side by side where lineage allows: a small batch waits for plans more than for cores."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from lakehouse_spark.errors import in_a_sentence
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake.session import join_session
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


@dataclass(frozen=True)
class Outcome:
    """What came of steps: the summaries and the errors in the order of these, and those that never began."""

    summaries: list[Summary]
    failures: list[tuple[Step, BaseException]]
    left: list[Step]
    """Steps that follow one that failed, and all that was not begun when the run was asked to stop."""


def run(
    spark: SparkSession, steps: Sequence[Step], report: Callable[[Summary], None], *, at_once: int
) -> list[Summary]:
    """The summaries of all steps, in the order of these; each begins once those that it follows have ended.

    At most so many run `at_once`. A step that fails ends those behind it before they begin, and no other: then its
    error is raised, the first one of several with the others as its notes.
    """
    outcome = attempt(spark, steps, report, at_once=at_once)
    raise_first([error for _, error in outcome.failures])
    return outcome.summaries


def raise_first(errors: Sequence[BaseException]) -> None:
    """Raises the first of the errors, if there are any, with the others as its notes."""
    if errors:
        for other in errors[1:]:
            errors[0].add_note(in_a_sentence(other))
        raise errors[0]


def attempt(
    spark: SparkSession,
    steps: Sequence[Step],
    report: Callable[[Summary], None],
    *,
    at_once: int,
    stop: threading.Event | None = None,
) -> Outcome:
    """Like `run`, and raises no error of a step; once `stop` is set, what has begun ends and nothing else begins."""
    told, lock = [list[Summary]() for _ in steps], threading.Lock()

    def work(number: int) -> None:
        if not here:
            join_session(spark)
        for summary in steps[number].work():
            with lock:
                told[number].append(summary)
                report(summary)

    here = at_once == 1 or len(steps) == 1
    pool = _Here() if here else ThreadPoolExecutor(at_once, "table")
    try:
        errors, left = _ended(steps, lambda number: pool.submit(work, number), at_once, stop or threading.Event())
    finally:
        # Not waited for: whoever interrupts the job stops Spark next, and that ends the work under way.
        pool.shutdown(wait=False, cancel_futures=True)
    return Outcome(
        [summary for summaries in told for summary in summaries],
        [(steps[number], error) for number, error in sorted(errors.items())],
        [steps[number] for number in sorted(left)],
    )


def _ended(
    steps: Sequence[Step], begin: Callable[[int], Future[None]], at_once: int, stop: threading.Event
) -> tuple[dict[int, BaseException], set[int]]:
    """The errors of the steps, once all that can be begun have ended; and which never began."""
    waiting, running = list(range(len(steps))), dict[Future[None], int]()
    errors, left = dict[int, BaseException](), set[int]()
    while waiting or running:
        for number in list(waiting):
            before = {earlier for earlier in range(number) if steps[number].follows(steps[earlier])}
            if stop.is_set() or before & {*left, *errors}:
                left.add(number)
                waiting.remove(number)
            elif len(running) < at_once and before.isdisjoint([*waiting, *running.values()]):
                running[begin(number)] = number
                waiting.remove(number)
        for ended in wait(running, return_when=FIRST_COMPLETED).done:
            number, error = running.pop(ended), ended.exception()
            if error is not None:
                errors[number] = error
    return errors, left


class _Here(Executor):
    """Does what is submitted at once, in the calling thread."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args, **named))
        except Exception as error:
            done.set_exception(error)
        return done
