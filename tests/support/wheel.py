"""The package as it travels: built, and installed into an environment of its own."""

import re
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BUILD = """\
import sys
from setuptools import build_meta
_, folder = sys.argv
build_meta.build_wheel(folder)
build_meta.build_sdist(folder)
"""


def build(tree: Path, into: Path) -> None:
    """The wheel and the source distribution, of a copy of what they are made from."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("lakehouse_spark", "tests", "jobs", "benchmarks"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", _BUILD, str(into)], cwd=tree, check=True, capture_output=True)


def install(built: Path, environment: Path) -> Path:
    """An environment that holds the wheel alone; returns where its packages are."""
    (wheel,) = built.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    return packages


def add_dependencies(packages: Path) -> None:
    """All that `locks/runtime.txt` names, as the tests' own environment has it."""
    installed, parts = Path(sysconfig.get_path("purelib")), set[str]()
    for name in re.findall(r"^([\w.-]+)(?:\[.*?\])?==", (ROOT / "locks" / "runtime.txt").read_text(), re.MULTILINE):
        with suppress(PackageNotFoundError):  # it is of other systems
            parts |= {file.parts[0] for file in files(name) or ()}
    sources = sorted(installed / part for part in parts - {"..", "__pycache__"})
    linked = ["cp", "--archive", "--link", *map(str, sources), str(packages)]
    if subprocess.run(linked, capture_output=True, check=False).returncode:  # on another file system
        subprocess.run([each for each in linked if each != "--link"], check=True)
