"""W5, gold: what is new in silver into all gold tables.

It is fifteen minutes of rows, on histories of different lengths, or a trade of thirty days ago that is cancelled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks import lake
from benchmarks.contents import Result
from benchmarks.plan import Case, Curve, Results, Verdict, Workload, by_parameter, compared
from benchmarks.w5_inputs import SNAPSHOTS, TRADES, inputs
from benchmarks.w5_peers import ChangedDay, DuckDbRecompute, Rebuild, current_snapshots, iceberg_result, rewind
from lakehouse_spark.jobs import gold_aggregator


class Ours(lake.InSpark):
    name = "lakehouse"
    note = "gold_aggregator: all five tables and the open lots, six commits"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def prepare(self) -> None:
        rewind(self.job)

    def work(self) -> dict[str, Any]:
        done = gold_aggregator.run(self.spark, self.settings)
        return {"seconds": {summary.table: summary.seconds for summary in done}}

    def result(self) -> Result:
        return iceberg_result(self.job)


class OursNothingNew(Ours):
    name = "lakehouse, nothing new"
    note = "the same job once more; files and commits are those of this turn alone"
    before: Mapping[str, int | None] | None = None

    def prepare(self) -> None:
        if self.before is None:
            super().prepare()
            super().work()
            self.before = current_snapshots(self.job)

    def result(self) -> Result:
        return iceberg_result(self.job, self.before)


class OursWithComet(Ours):
    name = "lakehouse with Comet"
    note = "the same job; what Comet can do of its plans is done as native code"
    accelerator = "comet"


ALL = (Ours, OursNothingNew, Rebuild, DuckDbRecompute, ChangedDay)
CONTENDERS = (*ALL, OursWithComet)
_DAYS = {"1 day": 1, "10 days": 10, "60 days": 60, "250 days": 250}
_CANCELLED = "60 days, a trade cancelled"


def cases(size: str, runs: int) -> Sequence[Case]:
    lengths, children = {"tiny": 1, "small": 3, "default": 3, "full": 4}[size], 2 if size == "full" else 1
    histories = [
        Case(
            name,
            {"records": TRADES + SNAPSHOTS, "days": days},
            ALL if size == "tiny" else CONTENDERS,
            runs,
            420,
            children,
        )
        for name, days in list(_DAYS.items())[:lengths]
    ]
    if size in {"tiny", "small"}:
        return histories
    return [*histories, Case(_CANCELLED, {"records": 1, "days": 60, "cancelled": 1}, (Ours,), runs, 420, children)]


def judge(results: Results) -> list[Verdict]:
    """BENCHMARKS.md's goals; on histories shorter than theirs the ratios are shown and not judged."""
    longest = next((name for name in ("60 days", "10 days", "1 day") if results.of(name, Ours.name)), "60 days")
    ours = results.median(longest, Ours.name)
    ratios = [
        compared(
            f"a history of {longest} costs at most 1.2x one of a day",
            *(ours if longest != "1 day" else None, results.median("1 day", Ours.name)),
            lambda ratio: ratio <= 1.2,
        ),
        compared(
            f"at least 10x as fast as Spark's full recompute of {longest}",
            *(results.median(longest, Rebuild.name), ours),
            lambda ratio: ratio >= 10,
        ),
        compared(
            f"faster than DuckDB's recompute of three tables of {longest}",
            *(results.median(longest, DuckDbRecompute.name), ours),
            lambda ratio: ratio > 1,
        ),
    ]
    if longest != "60 days":
        ratios = [replace(verdict, met=None) for verdict in ratios]
    late = compared(
        "a trade of thirty days ago that is cancelled costs at most 1.3x the CPU seconds of fifteen minutes",
        *(results.median(_CANCELLED, Ours.name, "cpu"), results.median("60 days", Ours.name, "cpu")),
        lambda ratio: ratio <= 1.3,
    )
    return [*ratios, late, _nothing_new(results, longest)]


def _nothing_new(results: Results, longest: str) -> Verdict:
    goal, found = "nothing new: at most 2 s, and nothing written", results.median(longest, OursNothingNew.name)
    if found is None:
        return Verdict(goal, "not measured", None)
    written = max(s.result["commits"] for s in results.of(longest, OursNothingNew.name) if s.result)
    return Verdict(goal, f"{found:.3f} s, {written} commits ({longest})", found <= 2 and not written)


WORKLOAD = Workload(
    name="W5",
    title="gold, fifteen minutes more",
    cases=cases,
    inputs=inputs,
    judge=judge,
    curves=(
        Curve("CPU seconds, warm", "days of history", by_parameter("days", "cpu", tuple(_DAYS))),
        Curve("wall seconds, warm", "days of history", by_parameter("days", "wall", tuple(_DAYS))),
    ),
)
