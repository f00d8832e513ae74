"""W1, Kafka → bronze: a topic of trades into `bronze.raw_trades`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import contents, lake, trades
from benchmarks.contents import Result
from benchmarks.plan import Case, Contender, Curve, Inputs, Results, Sample, Verdict, Workload, by_parameter
from benchmarks.w1_peers import DIGESTS, KafkaConnect, PyIcebergLoop, SparkSink, ToNoop, ToParquet
from lakehouse_spark.bronze.raw_trades import TABLE
from lakehouse_spark.jobs import bronze_writer
from lakehouse_spark.local import broker

_TRUTH = {
    "timestamp": "epoch_us(moment)",
    "_kafka_partition": "place::INTEGER",
    "_kafka_offset": "following::BIGINT",
    "raw_payload": "payload",
}


class Ours(lake.InSpark):
    name = "lakehouse"
    note = "bronze_writer, one commit"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def prepare(self) -> None:
        lake.create(self.spark, TABLE)

    def work(self) -> Mapping[str, Any] | None:
        bronze_writer.run(self.spark, self.settings, [TABLE.short_name])
        return None

    def result(self) -> Result:
        return contents.of_iceberg(contents.catalog(self.home).load_table(TABLE.name), DIGESTS)


class OursInSmallCommits(Ours):
    """How the cost of a commit grows with the commits before it."""

    name = "lakehouse, small commits"
    note = "bronze_writer, a commit per 1,000 records"

    def work(self) -> Mapping[str, Any]:
        moments = [time.monotonic()]
        bronze_writer.run(
            self.spark, self.settings, [TABLE.short_name], report=lambda _: moments.append(time.monotonic())
        )
        return {"commit_seconds": [round(b - a, 3) for a, b in pairwise(moments)]}


ALL = (Ours, PyIcebergLoop, KafkaConnect, SparkSink, ToParquet, ToNoop)
CONTENDERS = (*ALL, OursInSmallCommits)


def cases(size: str, runs: int) -> Sequence[Case]:
    tiny = Case("20 k", {"records": 20_000}, ALL, 1, children=1)
    small = Case("100 k", {"records": 100_000}, ALL, runs)
    full = Case("1 M", {"records": 1_000_000}, ALL, runs)
    largest = Case("5 M", {"records": 5_000_000}, (Ours, ToParquet), 3, children=1)

    def commits(number: int) -> Case:
        params = {"records": number * 1000, "settings": {"ingest__max_offsets_per_trigger": 1000}}
        # The warm turn is the measured one, the cold one is as long: so one child, one turn each.
        return Case(f"{number} commits", params, (OursInSmallCommits,), 1, children=1, timeout=3000)

    return {
        "tiny": (tiny, commits(20)),
        "small": (Case("100 k", {"records": 100_000}, ALL, runs, children=1), commits(30)),
        "default": (small, full, commits(150)),
        "full": (small, full, largest, commits(1000)),
    }[size]


@contextmanager
def inputs(case: Case, folder: Path) -> Iterator[Inputs]:
    """A broker with the topic of the case, every record in a place known beforehand."""
    records = case.params["records"]
    numbers = f"SELECT range AS n, range AS i, 0 AS bad FROM range({records})"
    file = trades.write(folder / "trades.parquet", numbers, per_day=records)
    topic, control = "trades", "control"
    with broker.serving(lake.here(folder / "broker"), [topic, control]) as served:
        servers = str(served.kafka.bootstrap_servers)
        trades.publish(file, servers, topic)
        truth = {
            name: {column: _TRUTH.get(column, expression) for column, expression in columns.items()}
            for name, columns in DIGESTS.items()
        }
        connected = {
            "kafka__bootstrap_servers": servers,
            "kafka__topics": {TABLE.short_name: topic},
            **case.params.get("settings", {}),
        }
        values = {"servers": servers, "topic": topic, "control": control, "settings": connected}
        yield Inputs(values, contents.of_parquet([file], truth).digests)


def judge(results: Results) -> list[Verdict]:
    """BENCHMARKS.md's goals: at 1 M where it was run, else at the largest size that was."""
    size = next((c for c in ("1 M", "100 k", "20 k") if results.of(c, Ours.name)), "1 M")

    def ratio(other: type[Contender], measure: str, most: float, text: str) -> Verdict:
        ours, theirs = (results.median(size, c.name, measure) for c in (Ours, other))
        if not ours or not theirs:
            return Verdict(text, "not measured", None)
        return Verdict(f"{text} ({size}, warm)", f"{ours / theirs:.2f}x", ours / theirs <= most)

    goals = [
        ratio(PyIcebergLoop, "wall", 0.5, "wall time at most 0.5x the PyIceberg loop's"),
        ratio(PyIcebergLoop, "cpu", 0.8, "CPU at most 0.8x the PyIceberg loop's"),
        ratio(ToParquet, "wall", 1.3, "wall time at most 1.3x the limit's"),
        ratio(KafkaConnect, "wall", 0.25, "wall time at most 0.25x Kafka Connect's"),
    ]
    return [*goals, _commit_growth(results)]


def _commit_growth(results: Results) -> Verdict:
    sample = _longest(results)
    seconds = sample.details["commit_seconds"] if sample and sample.details else []
    if len(seconds) < 15:
        return Verdict("the last commit takes at most 1.3x the 10th", "not measured", None)
    early, late = sorted(seconds[5:15])[5], sorted(seconds[-10:])[5]
    text = f"commit {len(seconds):,} takes at most 1.3x commit 10 (medians of ten)"
    return Verdict(text, f"{late / early:.2f}x ({late:.2f} s, {early:.2f} s)", late / early <= 1.3)


def _commit_curve(workload: Workload, results: Results) -> dict[str, list[tuple[float, float]]]:
    sample = _longest(results)
    seconds = sample.details["commit_seconds"] if sample and sample.details else []
    return {OursInSmallCommits.name: list(enumerate(seconds))} if seconds else {}


def _longest(results: Results) -> Sample | None:
    """The warm turn with the most commits."""
    found = [s for s in results.samples if s.contender == OursInSmallCommits.name and s.turn == "warm" and s.details]
    return max(found, key=lambda sample: len((sample.details or {})["commit_seconds"]), default=None)


_SIZES = ("20 k", "100 k", "1 M", "5 M")

WORKLOAD = Workload(
    name="W1",
    title="Kafka → bronze",
    cases=cases,
    inputs=inputs,
    judge=judge,
    curves=(
        Curve("CPU seconds, warm", "records", by_parameter("records", "cpu", _SIZES)),
        Curve("wall seconds, warm", "records", by_parameter("records", "wall", _SIZES)),
        Curve("seconds per commit", "commits before it", _commit_curve, scale="linear"),
    ),
)
