"""W4, facts with point-in-time keys: silver trades into an empty gold.fact_trades, with the versions of their day."""

from collections.abc import Sequence

from benchmarks import lake
from benchmarks.contents import Result
from benchmarks.plan import Case, Contender, Curve, Results, Verdict, Workload, by_parameter, compared
from benchmarks.w4_inputs import FACTS, inputs
from benchmarks.w4_peers import DuckDbAsof, PandasAsof, RangeJoin, ToParquet, iceberg_result, rewind
from lakehouse_spark.jobs import fact_loader


class Ours(lake.InSpark):
    name = "lakehouse"
    note = "fact_loader, one commit; members that are missing would be inferred"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def prepare(self) -> None:
        rewind(self.job)

    def work(self) -> None:
        fact_loader.run(self.spark, self.settings, [FACTS.short_name])

    def result(self) -> Result:
        return iceberg_result(self.job)


class OursWithComet(Ours):
    name = "lakehouse with Comet"
    note = "the same job; what Comet can do of its plans is done as native code"
    accelerator = "comet"


FAST = (Ours, DuckDbAsof, RangeJoin, ToParquet)
ALL = (*FAST, PandasAsof)
CONTENDERS = (*ALL, OursWithComet)
_SIZES = {"20 k": 20_000, "100 k": 100_000, "1 M": 1_000_000, "5 M": 5_000_000}
_VERSIONS = (1, 10, 100)


def _name(size: str, versions: int) -> str:
    return f"{size}, {versions} version{'s' if versions > 1 else ''}"


def cases(size: str, runs: int) -> Sequence[Case]:
    def of(size: str, versions: Sequence[int], contenders: Sequence[type[Contender]] = ALL) -> list[Case]:
        children = 2 if size == "1 M" else 1
        return [
            Case(_name(size, v), {"records": _SIZES[size], "versions": v}, contenders, runs, 420, children)
            for v in versions
        ]

    tiny, small, large = of("20 k", (1, 100)), of("100 k", _VERSIONS), of("1 M", _VERSIONS, CONTENDERS)
    return {
        "tiny": tiny,
        "small": small,
        "default": [*small, *large],
        "full": [*small, *large, *of("5 M", (1, 100), (*FAST, OursWithComet))],
    }[size]


def judge(results: Results) -> list[Verdict]:
    """BENCHMARKS.md's goals, at the largest size that was run up to 1 M."""
    size = next((s for s in ("1 M", "100 k", "20 k") if results.of(_name(s, 100), Ours.name)), "1 M")
    many = _name(size, 100)
    ours, one = results.median(many, Ours.name), results.median(_name(size, 1), Ours.name)
    plain, duckdb = results.median(many, RangeJoin.name), results.median(many, DuckDbAsof.name)
    return [
        compared(f"100 versions a key cost at most 1.3x one ({size})", ours, one, lambda ratio: ratio <= 1.3),
        compared(f"at least 10x as fast as the range join at {many}", plain, ours, lambda ratio: ratio >= 10),
        compared(f"at least 0.6x as fast as DuckDB at {many}", duckdb, ours, lambda ratio: ratio >= 0.6),
    ]


WORKLOAD = Workload(
    name="W4",
    title="facts with point-in-time keys",
    cases=cases,
    inputs=inputs,
    judge=judge,
    curves=(
        *(
            Curve(
                f"{measure} seconds, warm, 100 versions",
                "trades",
                by_parameter("records", measure.lower(), [_name(s, 100) for s in _SIZES]),
            )
            for measure in ("CPU", "wall")
        ),
        *(
            Curve(
                f"wall seconds, warm, {size} trades",
                "versions of a key",
                by_parameter("versions", "wall", [_name(size, v) for v in _VERSIONS]),
            )
            for size in ("100 k", "1 M")
        ),
    ),
)
