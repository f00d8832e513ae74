"""W2, bronze → silver: a batch of raw trades parsed, judged, deduplicated against the history, written to silver."""

from collections.abc import Sequence
from typing import Any

from benchmarks import lake
from benchmarks.contents import Result
from benchmarks.plan import Case, Contender, Curve, Results, Verdict, Workload, by_parameter, compared
from benchmarks.w2_inputs import SILVER, inputs
from benchmarks.w2_peers import (
    DeltaMerge,
    DuckDbAppend,
    PlainMerge,
    PyIcebergUpsert,
    ToNoop,
    ToParquet,
    iceberg_result,
    rewind,
)
from lakehouse_spark.jobs import silver_processor
from lakehouse_spark.silver import rejected_records


class Ours(lake.InSpark):
    name = "lakehouse"
    note = "silver_processor, one commit"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def prepare(self) -> None:
        rewind(self.job)

    def work(self) -> None:
        silver_processor.run(self.spark, self.settings, [SILVER.short_name])

    def result(self) -> Result:
        return iceberg_result(self.job, rejected_records.TABLE.name)


class OursNothingNew(Ours):
    name = "lakehouse, nothing new"
    note = "the same job once more"

    def prepare(self) -> None:
        super().prepare()
        super().work()


class OursWithComet(Ours):
    name = "lakehouse with Comet"
    note = "the same job; what Comet can do of its plans is done as native code"
    accelerator = "comet"


FAST = (Ours, DuckDbAppend, PlainMerge, DeltaMerge)
ALL = (*FAST, PyIcebergUpsert, ToParquet, ToNoop)
CONTENDERS = (*ALL, OursNothingNew, OursWithComet)
_BATCHES = ("20 k", "100 k", "1 M")
_HISTORIES = ("100 k", "100 k, 10x history", "100 k, 30x history")
_REPLAY = "100 k, full replay"


def cases(size: str, runs: int) -> Sequence[Case]:
    def case(name: str, records: int, contenders: Sequence[type[Contender]], **params: Any) -> Case:
        children = 2 if name == "100 k" and size in ("default", "full") else 1
        return Case(name, {"records": records, "history": 1, "repeats": 0.0, **params}, contenders, runs, 420, children)

    few = case("20 k", 20_000, ALL)
    base = case("100 k", 100_000, ALL)
    more = (
        case("100 k, 10x history", 100_000, FAST, history=10),
        case("100 k, 30x history", 100_000, FAST, history=30),
        case("100 k, 30x history, random ids", 100_000, (Ours, DuckDbAppend, PlainMerge), history=30, uuid=True),
        case("100 k, 10x history, 10 % repeats", 100_000, FAST, history=10, repeats=0.1),
        case(_REPLAY, 100_000, (*FAST, OursNothingNew), repeats=1.0),
    )
    million = case("1 M", 1_000_000, (*FAST, ToParquet, ToNoop, OursWithComet))
    return {
        "tiny": (few, case("20 k, full replay", 20_000, (*FAST, OursNothingNew), repeats=1.0)),
        "small": (few, base),
        "default": (few, base, *more, million),
        "full": (few, base, *more, million),
    }[size]


def judge(results: Results) -> list[Verdict]:
    ours = results.median("100 k", Ours.name)
    upsert = results.median("100 k", PyIcebergUpsert.name)
    longer = results.median("100 k, 30x history", Ours.name)
    replay = results.median(_REPLAY, Ours.name)
    written = [s.result["files"] for s in results.of(_REPLAY, Ours.name) if s.result]

    def at_most(goal: str, most: float, above: float | None, below: float | None) -> Verdict:
        return compared(goal, above, below, lambda times: times <= most)

    return [
        at_most("at most 0.01x the wall time of PyIceberg's upsert at 100 k", 0.01, ours, upsert),
        at_most("a history of 30 batches costs at most 1.2x one of one", 1.2, longer, ours),
        at_most("a full replay costs at most 0.3x", 0.3, replay, ours),
        Verdict("a full replay writes nothing", f"{max(written)} files", not any(written))
        if written
        else Verdict("a full replay writes nothing", "not measured", None),
    ]


WORKLOAD = Workload(
    name="W2",
    title="bronze → silver.trades",
    cases=cases,
    inputs=inputs,
    judge=judge,
    curves=(
        Curve("CPU seconds, warm", "records in the batch", by_parameter("records", "cpu", _BATCHES)),
        Curve("wall seconds, warm", "records in the batch", by_parameter("records", "wall", _BATCHES)),
        Curve("wall seconds, warm, batch of 100 k", "batches of history", by_parameter("history", "wall", _HISTORIES)),
    ),
)
