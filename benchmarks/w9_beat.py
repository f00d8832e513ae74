"""W9, the beat: increment after increment through every layer, in one warm session, on shorter and longer histories."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame

from benchmarks import lake, w8_peers
from benchmarks.contents import Result
from benchmarks.plan import Case, Contender, Curve, Results, Verdict, Workload, by_parameter, median
from benchmarks.w8_inputs import snapshots
from benchmarks.w9_inputs import DAYS, OF_A_DAY, inputs, of_beat, own_broker, publish
from lakehouse_spark.bronze import raw_orderbook, raw_trades
from lakehouse_spark.ingest import kafka
from lakehouse_spark.jobs import pipeline


class Ours(lake.InSpark):
    name = "lakehouse"
    note = "pipeline, one increment after the other; files and commits are those of the last"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)
    beat = 0

    def prepare(self) -> None:
        if self.beat == 0:
            lake.rewind(self.home, self.job.inputs["snapshots"])
        self.beat += 1
        publish(Path(self.job.inputs["folder"]), self.job.inputs["servers"], self.beat)
        self.before = snapshots(self.home)

    def work(self) -> dict[str, Any]:
        done = pipeline.run(self.spark, self.settings)
        return {"beat": self.beat, "seconds": {summary.table: summary.seconds for summary in done}}

    def result(self) -> Result:
        found = w8_peers.iceberg_result(self.job, self.before)
        return replace(found, digests=of_beat(self.beat, found.digests))


class BareSteps(w8_peers.BareSteps):
    note = "W8's bare steps, on the increment alone"
    beat = 0

    def prepare(self) -> None:
        topics = (raw_trades.TABLE.short_name, raw_orderbook.TABLE.short_name)
        self.following = {topic: kafka.offered(self.spark, self.settings, topic).latest for topic in topics}
        self.beat += 1
        publish(Path(self.job.inputs["folder"]), self.job.inputs["servers"], self.beat)

    def records(self, topic: str) -> DataFrame:
        found = kafka.offered(self.spark, self.settings, topic)
        reader = self.spark.read.format("kafka").option("kafka.bootstrap.servers", self.job.inputs["servers"])
        begin = kafka.starting_offsets(found, self.following[topic])
        return reader.option("subscribe", topic).option("startingOffsets", begin).load()


CONTENDERS: tuple[type[Contender], ...] = (Ours, BareSteps)
_LARGE = "100 k on 10 days"
_BEATS = (2, 3, 10)
"""Those that are judged; the first is cold."""


def cases(size: str, runs: int) -> Sequence[Case]:
    def case(name: str, records: int, days: int, per_day: int = OF_A_DAY) -> Case:
        params = {"records": records, "days": days, "per_day": per_day}
        return Case(name, params, CONTENDERS, max(runs, _BEATS[-1] - 1), timeout=1800, children=1)

    if size == "tiny":
        return [replace(case("1 k on 1 day", 1_000, 1, 2_500), runs=min(runs, 2))]
    histories = [case(name, 10_000, days) for name, days in DAYS.items() if size != "small" or days <= 10]
    return [*histories, *([case(_LARGE, 100_000, 10)] if size != "small" else [])]


def judge(results: Results) -> list[Verdict]:
    """The beats judged are the second, the third and the tenth, by their median."""
    return [
        _beat(results, "wall", 8, "wall seconds"),
        _beat(results, "cpu", 12, "CPU seconds"),
        _growth(results),
        _memory(results),
    ]


def _beat(results: Results, measure: str, most: float, unit: str) -> Verdict:
    goal, found = f"10 k on 60 days: a warm beat takes at most {most} {unit}", _judged(results, "60 days", measure)
    if not found:
        return Verdict(goal, "not measured", None)
    each = ", ".join(f"beat {beat}: {value:.2f}" for beat, value in found.items())
    middle = median([*found.values()]) or 0.0
    return Verdict(goal, f"{middle:.2f} ({each})", middle <= most)


def _growth(results: Results) -> Verdict:
    goal = "10 k on 60 days costs at most 1.2x the CPU seconds of 10 k on one day"
    long, short = (median([*_judged(results, case, "cpu").values()]) for case in ("60 days", "1 day"))
    if not long or not short:
        return Verdict(goal, "not measured", None)
    return Verdict(goal, f"{long / short:.2f}x ({long:.2f} s, {short:.2f} s)", long <= 1.2 * short)


def _memory(results: Results) -> Verdict:
    goal = "100 k: beat 10 peaks at most 10 % above the first"
    first, tenth = results.of(_LARGE, Ours.name, "cold"), _judged(results, _LARGE, "peak_rss_mib").get(10)
    if not first or not tenth:
        return Verdict(goal, "not measured", None)
    before = first[0].peak_rss_mib
    return Verdict(goal, f"{tenth / before:.2f}x ({tenth:,.0f} MiB, {before:,.0f} MiB)", tenth <= 1.1 * before)


def _by_beat(results: Results, case: str, measure: str) -> dict[int, float]:
    """Of the product's correct turns."""
    right = [s for s in results.of(case, Ours.name) if s.correct is not False and s.details]
    return {s.details["beat"]: getattr(s, measure) for s in right if s.details}


def _judged(results: Results, case: str, measure: str) -> dict[int, float]:
    return {beat: value for beat, value in _by_beat(results, case, measure).items() if beat in _BEATS}


def _beat_by_beat(measure: str) -> Callable[[Workload, Results], Mapping[str, Sequence[tuple[float, float]]]]:
    def points(workload: Workload, results: Results) -> dict[str, list[tuple[float, float]]]:
        found = {case.name: _by_beat(results, case.name, measure) for case in workload.all_cases()}
        return {case: [*beats.items()] for case, beats in found.items() if beats}

    return points


WORKLOAD = Workload(
    name="W9",
    title="the beat",
    cases=cases,
    inputs=inputs,
    judge=judge,
    beside=own_broker,
    curves=(
        Curve("CPU seconds, warm", "days of history", by_parameter("days", "cpu", tuple(DAYS))),
        Curve("wall seconds, warm", "days of history", by_parameter("days", "wall", tuple(DAYS))),
        Curve("CPU seconds of the lakehouse", "beat", _beat_by_beat("cpu"), scale="linear"),
    ),
)
