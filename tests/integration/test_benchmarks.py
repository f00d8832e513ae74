"""The benchmarks: each workload is declared soundly; what is ours of it runs at its tiniest, and comes out right."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
MODULES = sorted(path for path in BENCHMARKS.glob("w*.py") if re.search("^WORKLOAD = ", path.read_text(), re.MULTILINE))
NAMES = sorted((path.stem.partition("_")[0].upper() for path in MODULES), key=lambda name: int(name[1:]))


@pytest.fixture
def workloads() -> Any:
    """The workloads by name, where what they measure with is installed: `make test` does without."""
    for needed in ("duckdb", "matplotlib", "orjson", "psutil", "delta"):
        pytest.importorskip(needed, reason=f"the benchmarks need {needed}: run scripts/install bench")
    from benchmarks.workloads import WORKLOADS

    return WORKLOADS


def test_every_workload_is_in_the_list_and_on_the_page() -> None:
    tree = ast.parse((BENCHMARKS / "workloads.py").read_text())
    imported = [name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names]
    on_the_page = re.findall(r"^\| (W\d+): .* \| ", (BENCHMARKS / "README.md").read_text(), re.MULTILINE)

    assert {path.stem for path in MODULES} <= set(imported)
    assert on_the_page == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_workload_has_cases_of_every_size_and_each_name_stands_for_one(name: str, workloads: Any) -> None:
    from benchmarks.plan import SIZES, Results

    entry = workloads[name]
    known: dict[str, Any] = {}
    for size in SIZES:
        cases = entry.workload.cases(size, 1)
        assert cases
        for case in cases:
            assert known.setdefault(case.name, case.params) == case.params
            assert case.params["records"] >= 0
            assert {contender.name: contender for contender in case.contenders}.items() <= entry.contenders.items()
    assert {verdict.met for verdict in entry.workload.judge(Results(name))} == {None}


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_what_is_ours_of_a_workload_runs_and_comes_out_right(name: str, workloads: Any, tmp_path: Path) -> None:
    cases = workloads[name].workload.cases("tiny", 1)
    ours = {each.name for case in cases for each in case.contenders if each.name.startswith("lakehouse")}
    chosen = [option for contender in sorted(ours) for option in ("--only", contender)]
    command = [sys.executable, "-m", "benchmarks", name, "--size", "tiny", "--runs", "1", "--results", str(tmp_path)]
    done = subprocess.run([*command, *chosen], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["failures"] == []
    assert {sample["contender"] for sample in found["samples"]} == ours
    assert {sample["turn"] for sample in found["samples"]} == {"cold", "warm"}
    assert [sample for sample in found["samples"] if sample["correct"] is False] == []
    assert any(sample["correct"] for sample in found["samples"])
