"""What a run found: a table on the screen, JSON, growth plots, and a page per workload."""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.plan import Curve, Failure, Results, Sample, Workload, median

matplotlib.use("svg")
from matplotlib import pyplot

RESULTS = Path(__file__).resolve().parent / "results"
_MEASURES: Sequence[tuple[str, Callable[[Sample], float]]] = (
    ("peak RSS MiB", lambda s: s.peak_rss_mib),
    ("read MiB", lambda s: s.read_mib),
    ("written MiB", lambda s: s.written_mib),
)
_HEADINGS = ("contender", "runs", "CPU s", "CPU s / M rows", "wall s", "cold wall s", "cold CPU s")
_PACKAGES = ("pyspark", "pyiceberg", "duckdb", "delta-spark", "confluent-kafka", "orjson", "pyarrow")


def load(workload: Workload, folder: Path) -> Results:
    """The results of earlier runs; empty where there are none."""
    file = folder / f"{workload.name}.json"
    results = Results(workload.name)
    if file.is_file():
        found = json.loads(file.read_text())
        results.samples = [Sample(**sample) for sample in found["samples"]]
        results.failures = [Failure(**failure) for failure in found["failures"]]
    return results


def write(workload: Workload, results: Results, folder: Path, console: Console) -> None:
    """`W1.json`, `W1.md`, a `W1-….svg` per curve, and the same tables on the screen."""
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = [asdict(verdict) for verdict in workload.judge(results)]
    plain: dict[str, Any] = {
        "workload": workload.name,
        "machine": machine(),
        "verdicts": verdicts,
        "samples": [asdict(sample) for sample in results.samples],
        "failures": [asdict(failure) for failure in results.failures],
    }
    (folder / f"{workload.name}.json").write_text(json.dumps(plain, indent=1) + "\n")
    lines = [f"# {workload.name}: {workload.title}", "", *_about(plain["machine"]), "", *_legend(workload, results), ""]
    for case in dict.fromkeys(sample.case for sample in results.samples):
        headings, rows = table(workload, results, case)
        _show(console, f"{workload.name} {case}", headings, rows)
        lines += [f"## {case}", "", *_markdown(headings, rows), ""]
    if results.failures:
        lines += ["## No result", "", *(f"- {f.case}, {f.contender}: {f.reason}" for f in results.failures), ""]
    _show(console, f"{workload.name} goals", *_goals(verdicts))
    lines += ["## Goals", "", *_markdown(*_goals(verdicts)), ""]
    for number, curve in enumerate(workload.curves, start=1):
        name = f"{workload.name}-{number}.svg"
        if _plot(workload, results, curve, folder / name):
            lines += [f"![{curve.title}]({name})", ""]
    (folder / f"{workload.name}.md").write_text("\n".join(lines))


def table(workload: Workload, results: Results, case: str) -> tuple[list[str], list[list[str]]]:
    """One row per contender, medians and, in brackets, the spread of the warm turns; the limit rows last."""
    millions = _rows(workload, case) / 1e6
    headings = [*_HEADINGS, *(name for name, _ in _MEASURES), "files", "commits", "result"]
    rows = []
    for name in dict.fromkeys(sample.contender for sample in results.samples if sample.case == case):
        warm, cold = results.of(case, name), results.of(case, name, "cold")
        cpu = median([s.cpu for s in warm]) or 0.0
        made = warm[-1].result if warm else None
        right = {sample.correct for sample in (*warm, *cold)}
        rows.append(
            [
                name,
                str(len(warm)),
                _spread([s.cpu for s in warm]),
                f"{cpu / millions:.1f}" if millions else "-",
                _spread([s.wall for s in warm]),
                _spread([s.wall for s in cold]),
                _spread([s.cpu for s in cold]),
                *(f"{median([measure(s) for s in warm]) or 0:,.0f}" for _, measure in _MEASURES),
                str(made["files"]) if made else "-",
                str(made["commits"]) if made else "-",
                "WRONG" if False in right else "right" if True in right else "not kept",
            ]
        )
    rows.sort(key=lambda row: row[0].startswith("limit"))
    return headings, rows


def machine() -> dict[str, Any]:
    """What the absolute figures depend on."""
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr.splitlines()
    return {
        "day": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "java": java[0] if java else "unknown",
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _rows(workload: Workload, case: str) -> int:
    return next((int(known.params["records"]) for known in workload.all_cases() if known.name == case), 0)


def _about(machine: dict[str, Any]) -> Iterator[str]:
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    yield (
        f"{machine['day']}, two of {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}, {machine['java']}; {packages}."
    )
    yield (
        "Medians of warm turns, lowest-highest in brackets. Cold is opening (session, JVM, server) and the first turn. "
        "Bytes are those of system calls, page cache and sockets included. The broker is left out."
    )


def _legend(workload: Workload, results: Results) -> Iterator[str]:
    notes = {contender.name: contender.note for case in workload.all_cases() for contender in case.contenders}
    measured = {sample.contender for sample in results.samples}
    yield from (f"- **{name}**: {note}" for name, note in notes.items() if name in measured)


def _goals(verdicts: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    words = {True: "met", False: "MISSED", None: "-"}
    return ["goal", "found", ""], [[v["goal"], v["found"], words[v["met"]]] for v in verdicts]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    middle = f"{median(values):.2f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.1f}-{max(values):.1f})"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(headings) + " |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _show(console: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        shown.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)


def _plot(workload: Workload, results: Results, curve: Curve, file: Path) -> bool:
    """Whether there was growth to draw: more than one point of somebody's."""
    lines = curve.points(workload, results)
    if not any(len(points) > 1 for points in lines.values()):
        file.unlink(missing_ok=True)
        return False
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for name, points in lines.items():
        style = "--" if name.startswith("limit") else "-"
        axes.plot([x for x, _ in points], [y for _, y in points], style, marker="o", markersize=3, label=name)
    axes.set_xlabel(curve.over)
    axes.set_ylabel(curve.title)
    axes.set_xscale(curve.scale)
    axes.set_yscale(curve.scale)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    return True
