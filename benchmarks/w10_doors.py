"""W10, the doors: commands of the product on W9's lakehouses, each a process of its own, so that every turn is cold."""

import ctypes
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from benchmarks import lake, w8_peers
from benchmarks.contents import Result
from benchmarks.plan import Case, Contender, Curve, Inputs, Results, Verdict, Workload, by_parameter, within
from benchmarks.w9_inputs import DAYS, NEWEST_DAY, OF_A_DAY, inputs, of_beat, own_broker, publish

_ADOPT_ORPHANS = 36
"""PR_SET_CHILD_SUBREAPER of Linux."""
_START = "from lakehouse_spark.cli import main; main()"
_NEW = 1_000
"""Events of an increment, which only `Diff` takes in."""


class Door(Contender):
    """A command line and the wall seconds that it may take.

    The JVM outlives its command by a moment, as an orphan. So that its CPU seconds are counted, it is adopted here and
    waited for.
    """

    arguments: Sequence[str]
    goal: ClassVar[float]

    def open(self) -> None:
        ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1)
        lake.rewind(Path(self.job.inputs["home"]), self.job.inputs["snapshots"])

    def work(self) -> None:
        self.answer = w8_peers.run_python(self.job, self.name, "-c", _START, *self.arguments)
        with suppress(ChildProcessError):
            while True:
                os.wait()


class Status(Door):
    name = "lakehouse status"
    arguments = ("status",)
    goal = 2


class Rejected(Door):
    name = "lakehouse rejected list"
    arguments = ("rejected", "list")
    goal = 2


class Query(Door):
    name = "lakehouse query"
    note = "SELECT count(*) FROM gold.fact_trades"
    arguments = ("query", "SELECT count(*) AS facts FROM gold.fact_trades", "--json")
    goal = 3

    def result(self) -> Result:
        [row] = json.loads(self.answer)
        return Result(of_beat(0, {"facts": str(row["facts"])}), 0, 0, 0)


class Trace(Door):
    name = "lakehouse trace"
    note = "a symbol's summary of the newest day"
    arguments = ("trace", "gold.daily_trading_summary", "symbol=SYM001", f"summary_date={NEWEST_DAY}")
    goal = 20


class Diff(Door):
    name = "lakehouse diff"
    note = "of the symbols' summaries, since before an increment of 1,000 events; cold is with the increment"
    goal = 20

    def open(self) -> None:
        super().open()
        since = datetime.now(UTC).isoformat()
        publish(Path(self.job.inputs["folder"]), self.job.inputs["servers"], 1)
        w8_peers.run_python(self.job, "the increment", "-c", _START, "run", "pipeline")
        self.arguments = ("diff", "gold.daily_trading_summary", "--since", since)


class Verify(Door):
    name = "lakehouse verify"
    note = "of all there is"
    arguments = ("verify", "--full")
    goal = 20


class NothingNew(Door):
    name = "lakehouse run pipeline"
    note = "with nothing new"
    arguments = ("run", "pipeline")
    goal = 8

    def result(self) -> Result:
        found = w8_peers.iceberg_result(self.job)
        return replace(found, digests=of_beat(0, found.digests))


CONTENDERS: tuple[type[Door], ...] = (Status, Rejected, Query, Trace, Diff, Verify, NothingNew)
_GOAL = "10 days"
"""As many events as the demo has."""


def cases(size: str, runs: int) -> Sequence[Case]:
    def case(name: str, days: int, per_day: int = OF_A_DAY) -> Case:
        params = {"records": 0, "days": days, "per_day": per_day}
        return Case(name, params, CONTENDERS, runs, timeout=1200, children=1)

    if size == "tiny":
        return [case("1 small day", 1, 2_500)]
    return [case(name, days) for name, days in DAYS.items() if size != "small" or name == _GOAL]


def _with_increments(case: Case, folder: Path) -> AbstractContextManager[Inputs]:
    return inputs(replace(case, params={**case.params, "records": _NEW}), folder)


def judge(results: Results) -> list[Verdict]:
    """As users would wait, on as many events as the demo has."""
    return [*(_opened(results, door) for door in CONTENDERS), _nothing_written(results)]


def _opened(results: Results, door: type[Door]) -> Verdict:
    goal, found = f"{door.name}: at most {door.goal} s on {_GOAL}", results.median(_GOAL, door.name)
    return within(goal, found, door.goal)


def _nothing_written(results: Results) -> Verdict:
    goal = "a run with nothing new writes nothing"
    commits = [s.result["commits"] for s in results.samples if s.contender == NothingNew.name and s.result]
    return (
        Verdict(goal, f"{max(commits)} commits", not max(commits)) if commits else Verdict(goal, "not measured", None)
    )


WORKLOAD = Workload(
    name="W10",
    title="the doors, cold",
    cases=cases,
    inputs=_with_increments,
    judge=judge,
    beside=own_broker,
    curves=(Curve("wall seconds", "days of history", by_parameter("days", "wall", tuple(DAYS))),),
)
