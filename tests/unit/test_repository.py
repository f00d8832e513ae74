"""The repository as a whole: jobs, wrappers, scripts and what may stand in a tracked file."""

import ast
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_spark import jars, settings
from lakehouse_spark.cli import submit
from lakehouse_spark.errors import UsageError
from lakehouse_spark.jobs.registry import JOBS

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())
ENTRIES = sorted((ROOT / "jobs").glob("*.py"))

_REGISTRIES = r"(?i)\b(?:[\w-]+\.)*(?:maven|pypi|pythonhosted|jfrog|artifactory|sonatype|nexus)[\w-]*\.[a-z]{2,}"
_MACHINE_PATHS = r"(?<![\w.\-/*~}])/(?:work|root|Users|opt/wheels|home/(?!iceberg\b)\w+|tmp/(?!mc\b)\w+)(?:/|\b)"


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_every_job_has_an_entry_and_a_wrapper() -> None:
    assert [path.stem for path in ENTRIES] == sorted(JOBS)
    assert set(JOBS) <= {path.name for path in SCRIPTS}


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: path.name)
def test_an_entry_is_short_and_runs_the_job_it_is_named_for(path: Path) -> None:
    text = path.read_text()

    assert len(text.splitlines()) <= 10
    assert f'main(["{path.stem}", *sys.argv[1:]])' in text
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_portable_shell_that_stops_at_the_first_error(path: Path) -> None:
    assert path.read_text().startswith("#!/bin/sh -e\n# ")
    assert os.access(path, os.X_OK)
    assert subprocess.run(["sh", "-n", str(path)], check=False).returncode == 0


@pytest.mark.parametrize("job", sorted(JOBS))
def test_a_wrapper_becomes_submit_and_passes_everything_on(job: str) -> None:
    shebang, line, call = (ROOT / "scripts" / job).read_text().splitlines()

    assert (shebang, line) == ("#!/bin/sh -e", f"# scripts/submit for one job: {JOBS[job].line}.")
    assert call == f'exec "$(dirname "$0")/submit" {job} "$@"'


def test_a_wrapper_keeps_arguments_apart(tmp_path: Path) -> None:
    (tmp_path / "bronze_writer").write_text((ROOT / "scripts" / "bronze_writer").read_text())
    (tmp_path / "submit").write_text('#!/bin/sh\necho "$*|$#"\n')
    for path in tmp_path.iterdir():
        path.chmod(0o755)

    command = [str(tmp_path / "bronze_writer"), "--table", "two words"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "bronze_writer --table two words|3"


EXECUTORS = '{"spark.executor.instances": "2", "spark.executor.memory": "2g", "spark.executor.cores": "4"}'


@pytest.mark.parametrize(
    ("given", "memory", "conf"),
    [
        ({}, "2g", EXECUTORS),
        ({"LAKEHOUSE_SPARK__DRIVER_MEMORY": "9g"}, "9g", EXECUTORS),
        (
            {"LAKEHOUSE_SPARK__CONF": '{"spark.x": "y", "spark.executor.cores": "1"}'},
            "2g",
            EXECUTORS.replace('"4"}', '"1", "spark.x": "y"}'),
        ),
    ],
)
def test_submit_sizes_the_job_unless_the_environment_does(
    given: dict[str, str], memory: str, conf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[tuple[list[str], dict[str, str]]] = []

    def become(program: Path, command: list[str], environment: dict[str, str]) -> None:
        became.append((command, environment))
        sys.exit(0)

    environment = {"PATH": os.environ["PATH"], "LAKEHOUSE_HOME": str(tmp_path), **given}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "execve", become)
    monkeypatch.setattr(jars, "ensure", lambda *_, **__: {"spark": [Path("one.jar"), Path("two.jar")]})
    monkeypatch.setattr(jars, "find_java", lambda _: tmp_path / "jdk" / "bin" / "java")
    with pytest.raises(SystemExit):
        submit.main(["bronze_writer", "--table", "raw_trades"])

    ((command, environment),) = became
    assert f"spark.driver.memory={memory}" in command
    assert [f"{name}={value}" for name, value in json.loads(conf).items() if f"{name}={value}" not in command] == []
    assert command[-3:] == ["bronze_writer", "--table", "raw_trades"]
    assert (environment["LAKEHOUSE_SPARK__DRIVER_MEMORY"], environment["LAKEHOUSE_SPARK__CONF"]) == (memory, conf)


TOLD = "spark.yarn.appMasterEnv.LAKEHOUSE_SUBMITTED_WITH"


def cluster_mode(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What `submit` adds in cluster mode, in this environment alone."""
    conf = json.dumps({"spark.submit.deployMode": "cluster", "spark.yarn.dist.files": "/own"})
    given = {"LAKEHOUSE_PROFILE": "cluster", "LAKEHOUSE_SPARK__CONF": conf}
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"], **given, **environment})
    return submit.for_a_driver_elsewhere(settings.load(), os.environ)


def test_a_driver_elsewhere_has_the_settings_and_secrets_that_it_was_submitted_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted, kept, container = (tmp_path / name for name in ("my secrets", "kept", "container"))
    for folder in (mounted, kept, container, mounted / "LAKEHOUSE_OLD"):
        folder.mkdir()
    (mounted / "LAKEHOUSE_KAFKA").write_text('{"secrets": {"ssl.key.password": "hush"}}\n')
    (mounted / "lakehouse_truststore.jks").write_bytes(b"\xff")
    options = '{"options": {"group.id": "$HOME \\"`id`\\""}}'
    of_here = {
        "LAKEHOUSE_HOME": str(tmp_path), "LAKEHOUSE_SECRETS_DIR": str(mounted), "AWS_REGION": "here",
        "LAKEHOUSE_TO_S3__SECRET_ACCESS_KEY": "hush",
    }  # fmt: skip
    told = cluster_mode({"LAKEHOUSE_KAFKA": options, **of_here}, monkeypatch)

    assert told == {
        "spark.submit.deployMode": "cluster",
        "spark.yarn.dist.files": f"/own,file://{tmp_path}/my%20secrets/LAKEHOUSE_KAFKA#LAKEHOUSE_KAFKA",
        TOLD: told[TOLD],
    }
    assert re.fullmatch(r"[\w+/=]+", told[TOLD])

    (kept / "of-yarn").write_bytes((mounted / "LAKEHOUSE_KAFKA").read_bytes())
    (container / "LAKEHOUSE_KAFKA").symlink_to(kept / "of-yarn")
    monkeypatch.chdir(container)
    monkeypatch.setattr(os, "environ", {"LAKEHOUSE_SUBMITTED_WITH": told[TOLD], "LAKEHOUSE_PROFILE": "local"})
    submit.take_over(os.environ)
    assert {*os.environ} == {
        "LAKEHOUSE_PROFILE", "LAKEHOUSE_KAFKA", "LAKEHOUSE_SECRETS_DIR", "LAKEHOUSE_SPARK__CONF"
    }  # fmt: skip
    there = settings.load()
    assert (there.profile, there.kafka.options["group.id"]) == ("local", '$HOME "`id`"')
    assert there.kafka.secrets["ssl.key.password"].get_secret_value() == "hush"
    assert stat.S_IMODE(Path(os.environ["LAKEHOUSE_SECRETS_DIR"]).stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"LAKEHOUSE_CATALOG__TOKEN": "hush", "LAKEHOUSE_KAFKA__SECRETS": '{"ssl.key.password": "h"}'},
            "LAKEHOUSE_CATALOG__TOKEN, LAKEHOUSE_KAFKA__SECRETS: a secret in a variable would stand in the"
            " application's configuration; put it into a file of LAKEHOUSE_SECRETS_DIR, which travels as a file",
        ),
        (
            {"LAKEHOUSE_CONF_DIR": str(ROOT / "lakehouse_spark" / "conf")},
            "LAKEHOUSE_CONF_DIR is a folder of this machine, and stays here",
        ),
    ],
)
def test_what_cannot_go_to_a_driver_elsewhere_is_said(
    given: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError) as refused:
        cluster_mode(given, monkeypatch)
    assert str(refused.value) == f"cluster mode: {said}"


def test_a_driver_that_was_not_submitted_so_keeps_its_environment() -> None:
    environment = {"LAKEHOUSE_PROFILE": "local"}
    submit.take_over(environment)
    assert environment == {"LAKEHOUSE_PROFILE": "local"}


def test_submit_hands_options_on_and_keeps_them_apart() -> None:
    command = submit.command(["bronze_writer", "--table", "a b"], "local[2]", {"spark.jars": "a b.jar"})

    assert command == [
        "spark-submit", "--master", "local[2]", "--conf", "spark.jars=a b.jar",
        str(ROOT / "lakehouse_spark" / "cli" / "entries" / "job.py"), "bronze_writer", "--table", "a b",
    ]  # fmt: skip
    assert "--master" not in submit.command(["bronze_writer"], None, {})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no job given; jobs: schema_migration, bronze_writer"),
        (["bronze_wrtier"], "no job 'bronze_wrtier'; did you mean bronze_writer?"),
        (
            ["bronze_writer", "--table", "trades"],
            "bronze_writer: invalid value for '--table': 'trades' is none of raw_trades,",
        ),
        (
            ["silver_processor", "--continuous"],
            "silver_processor: no such option: --continuous; `scripts/submit silver",
        ),
    ],
)
def test_wrong_use_is_refused_before_a_jvm_starts(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        submit.main(argv)

    assert ended.value.code == UsageError.exit_code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(message)
    assert len(said.err.splitlines()) == 1


def test_no_tracked_file_names_a_registry_or_a_path_of_one_machine() -> None:
    this = Path(__file__)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in tracked()
        if path != this and path.suffix not in {".png", ".parquet"}
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if (match := re.search(f"{_REGISTRIES}|{_MACHINE_PATHS}", line))
    ]
    assert found == []


def test_only_the_commit_protocol_writes_to_tables() -> None:
    writes = re.compile(
        r"\b(?:writeTo|mergeInto|overwrite|overwritePartitions|insertInto|saveAsTable|createOrReplace|newAppend|newDelete|"
        r"newOverwrite|newRowDelta|newReplacePartitions)\b|\b(?:INSERT\s+(?:INTO|OVERWRITE)|MERGE\s+INTO|DELETE\s+FROM|"
        r"TRUNCATE\s+TABLE|UPDATE\s+\{?\w+)\b"
    )
    package = ROOT / "lakehouse_spark"
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if writes.search(path.read_text())}
    assert found == {"lake/commit.py"}


MADE_SQL = {
    "jobs/audit.py: where",  # a check of the settings
    "lake/alter.py: sql",  # of `schema.ddl`
    "lake/audit.py: expr",  # checks of declarations and of the settings
    "lake/audit.py: sql",  # questions of the settings
    "lake/commit.py: expr",  # a branch that we named, and a declared column
    "maintenance/compaction.py: expr",
    "maintenance/manifest_rewrite.py: sql",
    "migrations/baseline.py: sql",
    "migrations/run.py: sql",
    "query/of_spark.py: sql",  # the statement of a user's, which is looked through before
    "transforms/quality.py: expr",
}
"""Where SQL is a text that is made: of declarations, migrations and settings alone, never of what is read."""


def test_sql_is_made_in_these_places_alone() -> None:
    package, found = ROOT / "lakehouse_spark", set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            called, text = node.func.attr, node.args[0]
            is_sql = called in ("sql", "expr", "selectExpr") and not isinstance(text, ast.Constant)
            if is_sql or (called in ("where", "filter") and isinstance(text, ast.JoinedStr)):
                found.add(f"{path.relative_to(package).as_posix()}: {called}")
    of_duckdb = {each for each in found if each.startswith("query/") and "of_spark" not in each}
    assert found - of_duckdb == MADE_SQL


def test_every_python_requirement_is_pinned_and_hashed() -> None:
    for path in ROOT.glob("locks/*.txt"):
        blocks = re.split(r"\n(?=\S)", path.read_text())
        packages = [block for block in blocks if not block.startswith("#")]
        assert packages, path.name
        for block in packages:
            assert re.match(r"[\w.\-]+(\[[\w\-, ]+\])?==\S+", block), block.splitlines()[0]
            assert "--hash=sha256:" in block, block.splitlines()[0]


def test_the_installer_wants_the_java_that_spark_wants() -> None:
    text = (ROOT / "scripts" / "install").read_text()

    assert f"({'|'.join(map(str, jars.JAVA_MAJORS))})" in text
