"""In the child: one contender's life, and what each turn of it costs over the whole tree of processes."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from benchmarks.contents import Result
from benchmarks.plan import Contender, Job

MIB = 2**20


def live(contender: type[Contender], job: Job) -> None:
    """One contender's life: open, a cold turn, warm turns, close."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job.cores)  # before any thread or child is born
    contestant = contender(job)
    with _Phase(job, "open") as phase:
        contestant.open()
    phase.write()
    for turn in ("cold", *["warm"] * job.warm):
        contestant.prepare()
        with _Phase(job, turn) as phase:
            phase.details = contestant.work()
        phase.result = contestant.result()
        phase.write()
    contestant.close()


class _Phase:
    """Costs between entering and leaving; one line of the marks."""

    def __init__(self, job: Job, turn: str) -> None:
        self._marks = job.scratch / "marks.jsonl"
        self._turn = turn
        self.details: Mapping[str, Any] | None = None
        self.result: Result | None = None

    def __enter__(self) -> "_Phase":
        self._began, self._before = time.monotonic(), _spent(os.getpid())
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._ended = time.monotonic()
        after = _spent(os.getpid())
        self._cost = {name: after[name] - self._before[name] for name in after}
        self._cost["wall"] = self._ended - self._began

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
    for process in tree(pid):
        try:
            times = process.cpu_times()
            total["cpu"] += times.user + times.system + times.children_user + times.children_system
            counters = _io(process.pid)
        except (psutil.NoSuchProcess, OSError):
            continue
        total["read_mib"] += counters.get("rchar", 0) / MIB
        total["written_mib"] += counters.get("wchar", 0) / MIB
        total["disk_read_mib"] += counters.get("read_bytes", 0) / MIB
        total["disk_written_mib"] += counters.get("write_bytes", 0) / MIB
    return total


def _io(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}


def tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
