"""W3, change log → SCD2: a batch of changes brought into a dimension with full history."""

from collections.abc import Sequence
from typing import Any

from benchmarks import lake
from benchmarks.contents import Result
from benchmarks.plan import Case, Contender, Curve, Results, Verdict, Workload, by_parameter
from benchmarks.w3_inputs import inputs
from benchmarks.w3_peers import DbtSnapshot, JoinAndWrite, MackDelta, PyIcebergPandas, iceberg_result, rewind
from lakehouse_spark.dim import dim_symbol
from lakehouse_spark.jobs import dimension_loader


class Ours(lake.InSpark):
    name = "lakehouse"
    note = "dimension_loader: changed members derived anew from all their changes, one commit"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def prepare(self) -> None:
        rewind(self.job)

    def work(self) -> dict[str, int]:
        [summary] = dimension_loader.run(self.spark, [dim_symbol.DIMENSION.name])
        return dict(summary.counts)

    def result(self) -> Result:
        return iceberg_result(self.job)


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


PEERS = (DbtSnapshot, MackDelta, PyIcebergPandas)
BARE = (Ours, *PEERS, JoinAndWrite)
ALL = (*BARE, OursNothingNew)
CONTENDERS = (*ALL, OursWithComet)
_THOUSAND, _MILLION = 100_000, 1_000_000
_SHARES = {"0.01 %": 10_000, "1 %": 100, "10 %": 10}
_SIZES = ("5 k, 1 %", "100 k, 1 %", "1 M, 1 %")
_GOAL, _CLUSTERED = "1 M, 1 %", "1 M, 1 %, clustered"
_OUT_OF_ORDER = ("5 k, 1 %, out of order", "100 k, 1 %, out of order", "1 M, 1 %, out of order")


def cases(size: str, runs: int) -> Sequence[Case]:
    def case(members: int, share: str, order: str, contenders: Sequence[type[Contender]]) -> Case:
        many = {5_000: "5 k", _THOUSAND: "100 k", _MILLION: "1 M"}[members]
        name = f"{many}, {share}" + ("" if order == "in order" else f", {order}")
        params: dict[str, Any] = {"members": members, "records": members // _SHARES[share], "order": order}
        children = 2 if size in ("default", "full") and members == _THOUSAND else 1
        return Case(name, params, contenders, runs, 420 if members < _MILLION else 900, children)

    few = (case(5_000, "1 %", "in order", ALL), case(5_000, "1 %", "out of order", BARE))
    small = (case(_THOUSAND, "1 %", "in order", ALL), case(_THOUSAND, "1 %", "out of order", BARE))
    default = (
        *few,
        *small,
        *(case(_THOUSAND, share, "in order", BARE) for share in _SHARES if share != "1 %"),
        *(case(_MILLION, share, "in order", CONTENDERS if share == "1 %" else BARE) for share in _SHARES),
        case(_MILLION, "1 %", "clustered", BARE),
    )
    return {
        "tiny": few,
        "small": small,
        "default": default,
        "full": (
            *default,
            case(_THOUSAND, "1 %", "clustered", BARE),
            case(_MILLION, "1 %", "out of order", BARE),
        ),
    }[size]


def judge(results: Results) -> list[Verdict]:
    return [_faster(results), _written(results), *(v for name in _OUT_OF_ORDER for v in _right(results, name))]


def _faster(results: Results) -> Verdict:
    goal = f"at least 2x as fast as the fastest correct peer at {_GOAL}"
    ours = results.median(_GOAL, Ours.name)
    found = {peer.name: results.median(_GOAL, peer.name) for peer in PEERS}
    correct = {name: wall for name, wall in found.items() if wall}
    if not ours or not correct:
        return Verdict(goal, "not measured", None)
    fastest = min(correct, key=lambda name: correct[name])
    times = correct[fastest] / ours
    return Verdict(goal, f"{times:.2f}x ({ours:.2f} s, {fastest} {correct[fastest]:.2f} s)", times >= 2)


def _written(results: Results) -> Verdict:
    """Both as sizes of files: those the commit added, and the same changed rows as the limit row writes them."""
    goal = f"files at most 3x the changed rows' at {_CLUSTERED}"
    ours = [s.result["mib"] for s in results.of(_CLUSTERED, Ours.name) if s.result and s.correct]
    bare = [s.result["mib"] for s in results.of(_CLUSTERED, JoinAndWrite.name) if s.result and s.correct]
    if not ours or not bare:
        return Verdict(goal, "not measured", None)
    return Verdict(
        goal, f"{max(ours) / bare[0]:.1f}x ({max(ours):.2f} MiB, {bare[0]:.2f} MiB)", max(ours) <= 3 * bare[0]
    )


def _right(results: Results, case: str) -> list[Verdict]:
    """Who is right where changes come out of order; nothing where that was not measured."""
    found = {c.name: [s.correct for s in results.of(case, c.name)] for c in (Ours, *PEERS)}
    wrong = [name for name, turns in found.items() if False in turns]
    right = [name for name, turns in found.items() if turns and all(turns)]
    if not wrong and not right:
        return []
    said = f"right: {' / '.join(right) or 'none'}; wrong: {' / '.join(wrong) or 'none'}"
    return [Verdict(f"right at {case}", said, Ours.name in right if found[Ours.name] else None)]


WORKLOAD = Workload(
    name="W3",
    title="SCD2 from a change log",
    cases=cases,
    inputs=inputs,
    judge=judge,
    curves=(
        Curve("wall seconds, warm, 1 % changed", "members", by_parameter("members", "wall", _SIZES)),
        Curve("CPU seconds, warm, 1 % changed", "members", by_parameter("members", "cpu", _SIZES)),
        *(
            Curve(
                f"wall seconds, warm, {many} members",
                "changed members",
                by_parameter("records", "wall", tuple(f"{many}, {share}" for share in _SHARES)),
            )
            for many in ("100 k", "1 M")
        ),
    ),
)
