"""W8, the whole cycle: a day's events from Kafka to gold, every job once."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import exp, log
from typing import Any

from benchmarks import lake
from benchmarks.contents import Result
from benchmarks.plan import Case, Contender, Curve, Results, Verdict, Workload, by_parameter
from benchmarks.w8_inputs import inputs
from benchmarks.w8_peers import BareSteps, JobByJob, WithoutSpark, iceberg_result, rewind
from lakehouse_spark.jobs import pipeline


class Ours(lake.InSpark):
    name = "lakehouse"
    note = "pipeline: every job in one session, every table"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def prepare(self) -> None:
        rewind(self.job)

    def work(self) -> dict[str, Any]:
        done = pipeline.run(self.spark, self.settings)
        return {"seconds": {summary.table: summary.seconds for summary in done}}

    def result(self) -> Result:
        return iceberg_result(self.job)


class OursWithComet(Ours):
    name = "lakehouse with Comet"
    note = "the same job; what Comet can do of its plans is done as native code"
    accelerator = "comet"


CONTENDERS = (Ours, WithoutSpark, JobByJob, BareSteps, OursWithComet)
_SIZES = {"10 k": 10_000, "100 k": 100_000, "1 M": 1_000_000}
_MOST = 300_000


def cases(size: str, runs: int) -> Sequence[Case]:
    sizes = {"tiny": ("10 k",), "small": ("10 k", "100 k")}.get(size, tuple(_SIZES))

    def contenders(name: str) -> list[type[Contender]]:
        left: list[type[Contender]] = [] if name == "10 k" or size == "full" else [JobByJob]
        left += [] if name == "1 M" else [OursWithComet]
        return [contender for contender in CONTENDERS if contender not in left]

    return [Case(name, {"records": _SIZES[name]}, contenders(name), runs, 1200, 1) for name in sizes]


def judge(results: Results) -> list[Verdict]:
    """BENCHMARKS.md's goals."""
    ours, others = (results.median("10 k", c.name) for c in (Ours, JobByJob))
    crossover = _crossover(results)
    return [
        Verdict("at least 5x as fast as a spark-submit per job at 10 k", "not measured", None)
        if not ours or not others
        else _ratio("at least 5x as fast as a spark-submit per job at 10 k", others, ours, lambda ratio: ratio >= 5),
        Verdict(
            f"as fast as PyIceberg + DuckDB from {_MOST:,} events on at the latest",
            crossover[0],
            crossover[1],
        ),
    ]


def _ratio(goal: str, above: float, below: float, holds: Callable[[float], bool]) -> Verdict:
    return Verdict(goal, f"{above / below:.2f}x ({above:.2f} s, {below:.2f} s)", holds(above / below))


def _crossover(results: Results) -> tuple[str, bool | None]:
    """Where the warm wall times meet, between measured sizes on straight lines of the logarithms."""
    points = []
    for name, events in _SIZES.items():
        ours, theirs = (results.median(name, c.name) for c in (Ours, WithoutSpark))
        if ours and theirs:
            points.append((events, log(ours / theirs)))
    if not points:
        return "not measured", None
    if points[0][1] <= 0:
        return f"faster from {points[0][0]:,} events on", True
    for (low, before), (high, after) in pairwise(points):
        if after <= 0:
            events = round(low * (high / low) ** (before / (before - after)))
            return f"{events:,} events", events <= _MOST
    largest, behind = points[-1]
    return f"not up to {largest:,} events ({exp(behind):.1f}x the time there)", None if largest < _MOST else False


WORKLOAD = Workload(
    name="W8",
    title="the whole cycle",
    cases=cases,
    inputs=inputs,
    judge=judge,
    curves=(
        Curve("CPU seconds, warm", "events", by_parameter("records", "cpu", tuple(_SIZES))),
        Curve("wall seconds, warm", "events", by_parameter("records", "wall", tuple(_SIZES))),
    ),
)
