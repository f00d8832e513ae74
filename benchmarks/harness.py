"""One contender, one child process: what it costs, phase by phase, over its whole tree of processes.

The child measures itself (CPU and bytes are exact at the marks), the parent samples its memory. The broker is nobody's
child here, so it is never counted.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import psutil

from benchmarks.contents import Result

_SAMPLE_SECONDS = 0.1
_MIB = 1024 * 1024
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


# ---- in the parent


def chosen(case: Case, names: Sequence[str]) -> Case:
    """The case with only the contenders named; all where none is."""
    return replace(case, contenders=[c for c in case.contenders if not names or c.name in names])


def run(
    workload: Workload, case: Case, folder: Path, results: Results, lock: Path | None, say: Callable[[str], None]
) -> None:
    """All children of a case, interleaved; each one's samples are added to `results`."""
    with workload.inputs(case, folder) as inputs:
        for number, contender in enumerate(_interleaved(case)):
            warm = max(1, -(-case.runs // case.children))
            job = Job(
                workload=workload.name,
                contender=contender.name,
                params=case.params,
                inputs=inputs.values,
                folder=str(folder / f"{number}"),
                warm=warm,
                cores=tuple(sorted(os.sched_getaffinity(0)))[:2],
            )
            with _locked(lock):
                found = _run_child(job, case, inputs.expected)
            shutil.rmtree(job.folder, ignore_errors=True)
            if isinstance(found, Failure):
                results.failures.append(found)
                say(f"{case.name}  {contender.name}: FAILED: {found.reason}")
                continue
            results.samples += found
            for sample in found:
                right = {True: "", False: "  WRONG RESULT", None: ""}[sample.correct]
                say(f"{case.name}  {contender.name}  {sample.turn}: {sample.wall:.2f} s, CPU {sample.cpu:.2f} s{right}")


def _interleaved(case: Case) -> Iterator[type[Contender]]:
    """A B C, C B A, A B C …"""
    for number in range(case.children):
        yield from case.contenders if number % 2 == 0 else reversed(case.contenders)


def _run_child(job: Job, case: Case, expected: Mapping[str, str]) -> list[Sample] | Failure:
    job.scratch.mkdir(parents=True)
    marks, log = job.scratch / "marks.jsonl", job.scratch / "child.log"
    (job.scratch / "job.json").write_text(json.dumps(asdict(job)))
    command = [sys.executable, "-m", "benchmarks.child", str(job.scratch / "job.json")]
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    memory = _watch(child, case.timeout)
    if memory is None:
        return Failure(case.name, job.contender, f"not done after {case.timeout:.0f} s")
    if child.returncode:
        lines = log.read_text(errors="replace").strip().splitlines()
        return Failure(case.name, job.contender, " | ".join(lines[-3:])[-500:] or f"exit code {child.returncode}")
    return _samples(job, case, [json.loads(line) for line in marks.read_text().splitlines()], memory, expected)


def _watch(child: "subprocess.Popen[bytes]", timeout: float) -> list[tuple[float, float]] | None:
    """(time, MiB held by the tree) until the child ends; None if it was ended for taking too long."""
    memory: list[tuple[float, float]] = []
    deadline = time.monotonic() + timeout
    try:
        while child.poll() is None:
            memory.append((time.monotonic(), sum(_rss(p) for p in _tree(child.pid)) / _MIB))
            if time.monotonic() > deadline:
                return None
            time.sleep(_SAMPLE_SECONDS)
    finally:
        for process in _tree(child.pid):  # what a child that failed left running
            process.kill()
        child.wait()
        _end_group(child.pid)
    return memory


def _end_group(leader: int) -> None:
    """Orphans of the child are still of its process group."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def _samples(
    job: Job, case: Case, marks: list[dict[str, Any]], memory: list[tuple[float, float]], expected: Mapping[str, str]
) -> list[Sample]:
    samples, opened = [], next(mark for mark in marks if mark["turn"] == "open")
    for mark in marks:
        if mark["turn"] == "open":
            continue
        cost = dict(mark["cost"])
        if mark["turn"] == "cold":  # from the start of the process, without preparing the tables
            cost = {name: value + opened["cost"][name] for name, value in cost.items()}
        peak = max((mib for at, mib in memory if mark["began"] <= at <= mark["ended"]), default=0.0)
        result = mark["result"]
        samples.append(
            Sample(
                case=case.name,
                contender=job.contender,
                turn=mark["turn"],
                peak_rss_mib=round(peak, 1),
                result=result,
                details=mark["details"],
                correct=None if result is None else all(expected.get(k) == v for k, v in result["digests"].items()),
                **{name: round(value, 3) for name, value in cost.items()},
            )
        )
    return samples


@contextmanager
def _locked(lock: Path | None) -> Iterator[None]:
    """On a machine shared with other measurements, one run at a time."""
    with lock.open("a") if lock else nullcontext() as handle:
        if handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# ---- in the child


def live(contender: type[Contender], job: Job) -> None:
    """One contender's life: open, a cold turn, warm turns, close."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job.cores)  # before any thread or child is born
    contestant = contender(job)
    with _Phase(job, "open", since_start=True):
        contestant.open()
    for turn in ("cold", *["warm"] * job.warm):
        contestant.prepare()
        with _Phase(job, turn) as phase:
            phase.details = contestant.work()
        phase.result = contestant.result()
        phase.write()
    contestant.close()


class _Phase:
    """Costs between entering and leaving; one line of the marks."""

    def __init__(self, job: Job, turn: str, *, since_start: bool = False) -> None:
        self._marks = job.scratch / "marks.jsonl"
        self._turn = turn
        self._since_start = since_start
        self.details: Mapping[str, Any] | None = None
        self.result: Result | None = None

    def __enter__(self) -> "_Phase":
        self._began, self._before = time.monotonic(), _spent(os.getpid())
        if self._since_start:  # the interpreter's own start counts too
            self._began -= time.time() - psutil.Process().create_time()
            self._before = dict.fromkeys(self._before, 0.0)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._ended = time.monotonic()
        after = _spent(os.getpid())
        self._cost = {name: after[name] - self._before[name] for name in after}
        self._cost["wall"] = self._ended - self._began
        if self._since_start:
            self.write()

    def write(self) -> None:
        line = {
            "turn": self._turn,
            "began": self._began,
            "ended": self._ended,
            "cost": self._cost,
            "details": self.details,
            "result": asdict(self.result) if self.result else None,
        }
        with self._marks.open("a") as marks:
            marks.write(json.dumps(line) + "\n")


def _spent(pid: int) -> dict[str, float]:
    """What the living tree has used so far, with the children it has already buried."""
    total = dict.fromkeys(("cpu", "read_mib", "written_mib", "disk_read_mib", "disk_written_mib"), 0.0)
    for process in _tree(pid):
        try:
            times = process.cpu_times()
            total["cpu"] += times.user + times.system + times.children_user + times.children_system
            counters = _io(process.pid)
        except (psutil.NoSuchProcess, OSError):
            continue
        total["read_mib"] += counters.get("rchar", 0) / _MIB
        total["written_mib"] += counters.get("wchar", 0) / _MIB
        total["disk_read_mib"] += counters.get("read_bytes", 0) / _MIB
        total["disk_written_mib"] += counters.get("write_bytes", 0) / _MIB
    return total


def _io(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
