"""What a benchmark is made of: contenders, cases, workloads, and the results of running them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.contents import Result

SIZES = ("tiny", "small", "default", "full")


@dataclass(frozen=True)
class Job:
    """What a child is told: its contender, the case, the inputs that stand ready, and a folder of its own."""

    workload: str
    contender: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Any]
    folder: str
    warm: int
    cores: tuple[int, ...]

    @property
    def scratch(self) -> Path:
        return Path(self.folder)


class Contender:
    """A way to do a workload. One object lives as long as its child: one cold turn, then warm ones.

    `open` and the first `work` make the cold figure; `prepare`, which gives each turn the same starting point, and
    `result`, which reads what came out, are not measured.
    """

    name: ClassVar[str]
    note: ClassVar[str] = ""
    is_limit: ClassVar[bool] = False
    is_slow: ClassVar[bool] = False
    """Takes part with one child and one warm turn."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def open(self) -> None:
        """Imports, sessions, servers."""

    def prepare(self) -> None:
        """The same empty (or filled) tables before each turn."""

    def work(self) -> Mapping[str, Any] | None:
        """The measured work; what it returns goes into the results as `details`."""
        raise NotImplementedError

    def result(self) -> Result | None:
        """What came out; None for a step that keeps nothing."""
        return None

    def close(self) -> None:
        """Ends what `open` started."""


@dataclass(frozen=True)
class Case:
    """One point of a workload: its parameters, who takes part, and how many warm turns each gets at least."""

    name: str
    params: Mapping[str, Any]
    contenders: Sequence[type[Contender]]
    runs: int
    timeout: float = 420
    children: int = 2
    """Processes per contender, in A B B A order; their warm turns add up to `runs`."""


@dataclass(frozen=True)
class Inputs:
    """What all contenders of a case read, and the digests that a right result must have."""

    values: Mapping[str, Any]
    expected: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Workload:
    """A workload: its cases by size, how inputs are made (not measured), and its goals."""

    name: str
    title: str
    cases: Callable[[str, int], Sequence[Case]]
    """By size and least number of warm runs."""
    inputs: Callable[[Case, Path], AbstractContextManager[Inputs]]
    judge: Callable[["Results"], list["Verdict"]]
    beside: Callable[[Mapping[str, Any], Path], AbstractContextManager[Mapping[str, Any]]] = lambda inputs, folder: (
        nullcontext({})
    )
    """What stands beside one child alone, in its folder: from the inputs' values, what the child is told besides."""
    curves: Sequence["Curve"] = ()

    def all_cases(self) -> list[Case]:
        """Each case of any size once."""
        return list({case.name: case for size in SIZES for case in self.cases(size, 1)}.values())


@dataclass(frozen=True)
class Curve:
    """A growth plot: by contender, the points to draw."""

    title: str
    over: str
    points: Callable[["Workload", "Results"], Mapping[str, Sequence[tuple[float, float]]]]
    scale: str = "log"


def by_parameter(name: str, measure: str, cases: Sequence[str]) -> Callable[["Workload", "Results"], dict[str, Any]]:
    """Warm medians of `measure` over the parameter `name` of the cases named."""

    def points(workload: "Workload", results: "Results") -> dict[str, list[tuple[float, float]]]:
        lines: dict[str, list[tuple[float, float]]] = {}
        for case in workload.all_cases():
            for contender in case.contenders if case.name in cases else ():
                if (found := results.median(case.name, contender.name, measure)) is not None:
                    lines.setdefault(contender.name, []).append((case.params[name], found))
        return {contender: sorted(set(found)) for contender, found in lines.items()}

    return points


@dataclass(frozen=True)
class Verdict:
    """A goal, what was found, and whether it was met; None where a side of it was not measured."""

    goal: str
    found: str
    met: bool | None


def compared(
    goal: str, above: float | None, below: float | None, holds: Callable[[float], bool] | None = None
) -> Verdict:
    """One median as so many times another; without `holds` that is shown and not judged."""
    if not above or not below:
        return Verdict(goal, "not measured", None)
    times = above / below
    return Verdict(goal, f"{times:.2f}x ({above:.2f} s, {below:.2f} s)", holds(times) if holds else None)


def within(goal: str, found: float | None, most: float) -> Verdict:
    """A median that is to be at most so many seconds."""
    return Verdict(goal, f"{found:.2f} s", found <= most) if found else Verdict(goal, "not measured", None)


@dataclass(frozen=True)
class Sample:
    """One measured turn. Bytes are those of system calls: page cache and sockets included."""

    case: str
    contender: str
    turn: str
    wall: float
    cpu: float
    peak_rss_mib: float
    read_mib: float
    written_mib: float
    disk_read_mib: float
    disk_written_mib: float
    result: Mapping[str, Any] | None = None
    details: Mapping[str, Any] | None = None
    correct: bool | None = None


@dataclass(frozen=True)
class Failure:
    """A child that gave no result, and why."""

    case: str
    contender: str
    reason: str


@dataclass
class Results:
    """All that one workload's run has found."""

    workload: str
    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def of(self, case: str, contender: str, turn: str = "warm") -> list[Sample]:
        return [s for s in self.samples if (s.case, s.contender, s.turn) == (case, contender, turn)]

    def forget(self, case: "Case") -> None:
        """Before a case is run anew."""
        again = {contender.name for contender in case.contenders}
        self.samples = [s for s in self.samples if s.case != case.name or s.contender not in again]
        self.failures = [f for f in self.failures if f.case != case.name or f.contender not in again]

    def median(self, case: str, contender: str, measure: str = "wall", turn: str = "warm") -> float | None:
        """Of correct turns only: a faster wrong result scores nothing."""
        return median([getattr(s, measure) for s in self.of(case, contender, turn) if s.correct is not False])


def median(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if not ordered:
        return None
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def chosen(case: Case, names: Sequence[str], children: int | None = None) -> Case:
    """The case with only the contenders named (none: all), and with another number of processes each."""
    contenders = [contender for contender in case.contenders if not names or contender.name in names]
    return replace(case, contenders=contenders, children=children or case.children)
