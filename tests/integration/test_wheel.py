"""The package as it travels: built, installed into an empty environment, run in an empty folder."""

import json
import os
import subprocess
import sysconfig
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from lakehouse_spark import jars
from lakehouse_spark.settings import Settings
from tests.support import wheel

ROOT = Path(__file__).parents[2]
DATA = {
    "py.typed", "conf/local.yaml", "conf/docker.yaml", "conf/cluster.yaml", "conf/jars.lock", "conf/jars.direct",
    "conf/log4j2.properties", "conf/reference/exchanges.csv", "lake/java/bin/java", "report/templates/report.css",
    "report/templates/report.html.j2", "report/templates/report.js",
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution of this tree."""
    built = tmp_path_factory.mktemp("built")
    wheel.build(tmp_path_factory.mktemp("tree"), built)
    return built


def test_the_wheel_and_the_sources_hold_the_package_and_nothing_else(built: Path) -> None:
    (made,), (sources,) = built.glob("*.whl"), built.glob("*.tar.gz")
    in_wheel = zipfile.ZipFile(made).namelist()
    with tarfile.open(sources) as archive:
        files = [member.name for member in archive.getmembers() if member.isfile()]
        in_sources = [name.partition("/")[2] for name in files]

    for names in (in_wheel, in_sources):
        inside = {name.removeprefix("lakehouse_spark/") for name in names if name.startswith("lakehouse_spark/")}
        modules = {str(path.relative_to(ROOT / "lakehouse_spark")) for path in ROOT.glob("lakehouse_spark/**/*.py")}
        assert inside == modules | DATA
    assert {name.split("/")[0].split("-")[0] for name in in_wheel} == {"lakehouse_spark"}
    assert any(name.endswith("/licenses/LICENSE") for name in in_wheel)
    loose = {name.split("/")[0] for name in in_sources}
    written = {"PKG-INFO", "lakehouse_spark.egg-info", "setup.cfg"}
    assert loose - written == {"LICENSE", "README.md", "lakehouse_spark", "pyproject.toml"}


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel, and sees its dependencies where the tests' own are; an empty folder."""

    programs: Path
    folder: Path
    cache: Path

    def run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        java = {name: os.environ[name] for name in ("JAVA_HOME",) if name in os.environ}
        environment = {"PATH": os.environ["PATH"], "LAKEHOUSE_CACHE": str(self.cache), **java}
        environment["LAKEHOUSE_SPARK__MASTER"] = "local[2]"
        command = [str(self.programs / program), *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(built: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    jars.ensure(["spark", "broker"], settings.jar_cache, settings.java)
    environment, folder = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("folder")
    packages = wheel.install(built, environment)
    # A line of a .pth file adds a folder and none of that folder's own: so not this tree, where it is installed too.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(environment / "bin", folder, settings.jar_cache)


def test_what_is_installed_is_not_this_tree(installed: Installed) -> None:
    found = installed.run("python", "-c", "import lakehouse_spark; print(lakehouse_spark.__file__)")
    assert found.stdout.startswith(str(installed.programs.parent))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert installed.run("lakehouse", "--version").stdout == f"lakehouse-spark {version}\n"
    quiet_java = Path(found.stdout.strip()).parent / "lake" / "java" / "bin" / "java"
    assert os.access(quiet_java, os.X_OK)
    wrong = installed.run("python", "-m", "lakehouse_spark.cli.submit", "silver_procesor")
    assert (wrong.returncode, wrong.stderr) == (2, "no job 'silver_procesor'; did you mean silver_processor?\n")


def test_a_job_of_what_is_installed_starts_spark_in_an_empty_folder(installed: Installed) -> None:
    asked = installed.run("lakehouse", "run", "gold_aggregator")
    assert (asked.returncode, asked.stdout) == (2, "")
    (said,) = asked.stderr.splitlines()
    assert said.startswith("tables are missing in file://")


@pytest.mark.soak
def test_the_demo_and_a_submitted_job_run_in_an_empty_folder(installed: Installed) -> None:
    demo = installed.run("lakehouse", "demo", "--events", "300", "--days", "1", "--json")
    assert (demo.returncode, demo.stderr) == (0, "")
    outcome = json.loads(demo.stdout)
    assert (outcome["proved"], outcome["lost"], outcome["doubled"]) == (True, 0, 0)
    assert sum(flow["produced"] for flow in outcome["flows"]) == 300
    assert [path.name for path in installed.folder.iterdir()] == [".lakehouse"]

    submitted = installed.run("python", "-m", "lakehouse_spark.cli.submit", "silver_processor")
    assert (submitted.returncode, submitted.stderr) == (0, "")
    assert json.loads(submitted.stdout.splitlines()[-1])["job"] == "silver_processor"
