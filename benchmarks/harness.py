"""Runs contenders, each in a child process of its own, interleaved A B B A.

The child measures itself (measure.py: CPU and bytes are exact at the marks), the parent here samples its memory. The
broker is nobody's child, so it is never counted.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks import measure
from benchmarks.plan import Case, Contender, Failure, Job, Results, Sample, Workload

_SAMPLE_SECONDS = 0.1


def run(
    workload: Workload, case: Case, folder: Path, results: Results, lock: Path | None, say: Callable[[str], None]
) -> None:
    """All children of a case, interleaved; each one's samples are added to `results`."""
    with ExitStack() as stack:
        with _locked(lock):
            inputs = stack.enter_context(workload.inputs(case, folder))
        for number, contender in enumerate(_interleaved(case)):
            warm = 1 if contender.is_slow else max(1, -(-case.runs // case.children))
            job = Job(
                workload=workload.name,
                contender=contender.name,
                params=case.params,
                inputs=inputs.values,
                folder=str(folder / f"{number}"),
                warm=warm,
                cores=tuple(sorted(os.sched_getaffinity(0)))[:2],
            )
            with _locked(lock), workload.beside(inputs.values, job.scratch) as more:
                found = _run_child(replace(job, inputs={**inputs.values, **more}), case, inputs.expected)
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
        present = [contender for contender in case.contenders if number == 0 or not contender.is_slow]
        yield from present if number % 2 == 0 else reversed(present)


def _run_child(job: Job, case: Case, expected: Mapping[str, str]) -> list[Sample] | Failure:
    job.scratch.mkdir(parents=True, exist_ok=True)
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
            memory.append((time.monotonic(), sum(measure.rss(p) for p in measure.tree(child.pid)) / measure.MIB))
            if time.monotonic() > deadline:
                return None
            time.sleep(_SAMPLE_SECONDS)
    finally:
        for process in measure.tree(child.pid):  # what a child that failed left running
            with suppress(psutil.NoSuchProcess):
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
        if mark["turn"] == "cold":  # with what was opened, without preparing the tables
            cost = {name: value + opened["cost"][name] for name, value in cost.items()}
        # A turn may be shorter than the time between two samples: then the nearest one.
        nearest = min(memory, key=lambda sample: abs(sample[0] - mark["began"]), default=(0.0, 0.0))[1]
        peak = max((mib for at, mib in memory if mark["began"] <= at <= mark["ended"]), default=nearest)
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
