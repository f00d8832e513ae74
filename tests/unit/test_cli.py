"""What a user reads of commands and jobs, and of their failures, before any JVM is there."""

import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from docs import generate
from lakehouse_spark import cli, migrations
from lakehouse_spark.catalog import LAYERS, TABLES
from lakehouse_spark.cli import commands, run, submit
from lakehouse_spark.cli.failures import explained
from lakehouse_spark.cli.run import parse
from lakehouse_spark.errors import LakehouseError, LostRaceError, RefusedError, UsageError
from lakehouse_spark.iceberg import inventory
from lakehouse_spark.iceberg.inventory import Inventory, Lag, TableState
from lakehouse_spark.jobs import live, maintenance, registry
from lakehouse_spark.jobs.job import Job, Size
from lakehouse_spark.jobs.registry import JOBS
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit, last_errors, log, rights, session
from lakehouse_spark.lake.commit import Commit
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.settings import LogSettings, Settings
from lakehouse_spark.table import Table
from tests.support.home import SCHEMA, Home

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
LISTED = [
    "schema_migration     create the tables, or bring them to this release",
    "bronze_writer        Kafka to bronze",
    "silver_processor     bronze to silver",
    "dimension_loader     reference data to dimensions",
    "fact_loader          silver to facts",
    "gold_aggregator      silver to the five gold tables",
    "pipeline             every step once, in one session",
    "compaction           small files into large ones",
    "snapshot_expiration  drop snapshots that need not be kept",
    "orphan_cleanup       drop files that no snapshot knows",
    "manifest_rewrite     many manifests into few",
    "bronze_retention     drop rows of bronze that are old and consumed",
    "maintenance          all maintenance that is due, in one session",
]


def lakehouse(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["lakehouse", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int | None)
    return ended.value.code or 0


@pytest.fixture(autouse=True)
def terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def plain(text: str) -> str:
    """Without the colours that some CI servers ask for."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def listed(help_page: str) -> list[str]:
    """The lines of the page's last box."""
    box = help_page[help_page.rindex("╭") :].splitlines()[1:-1]
    return [line.strip("│ ") for line in box if line.startswith("│")]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["-h"], 0), ([], 2)], ids=["--help", "-h", "without a job"]
)
def test_run_lists_the_jobs(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lakehouse("run", *arguments, monkeypatch=monkeypatch) == code
    said = capsys.readouterr()
    page = plain(said.out)
    assert "Usage: lakehouse run [OPTIONS] JOB [OPTIONS]" in page
    assert listed(page) == LISTED
    assert said.err == ""


def test_a_job_lists_its_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert lakehouse("run", "silver_processor", "--help", monkeypatch=monkeypatch) == 0
    assert [" ".join(line.split()) for line in listed(plain(capsys.readouterr().out))] == [
        "--table TABLE trades, orderbook_snapshots, market_data,",
        "trader_activity; may be repeated; default: all",
        "--rebuild <bool> judge all that bronze holds by today's rules",
        "--from DATE with --rebuild: leave earlier days alone",
        "--help -h <bool> Show this message and exit.",
    ]


def test_submit_lists_the_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        submit.main(["--help"])
    assert ended.value.code == 0
    said = plain(capsys.readouterr().out)
    assert "Usage: scripts/submit [OPTIONS] JOB [OPTIONS]" in said
    assert listed(said) == LISTED


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["statsu"], "no command 'statsu'; did you mean status?"),
        (["rejected", "shw"], "no command 'shw'; did you mean show?"),
        (["run", "bronze_wrtier"], "no job 'bronze_wrtier'; did you mean bronze_writer?"),
        (
            ["run", "vacuum"],
            "no job 'vacuum'; jobs: schema_migration, bronze_writer, silver_processor, dimension_loader, fact_loader, "
            "gold_aggregator, pipeline, compaction, snapshot_expiration, orphan_cleanup, manifest_rewrite, "
            "bronze_retention, maintenance",
        ),
        (["status", "--nope"], "status: no such option: --nope; `lakehouse status --help` lists its options"),
        (
            ["run", "fact_loader", "--from", "2025-01-31"],
            "fact_loader: no such option: --from; `lakehouse run fact_loader --help` lists its options",
        ),
        (
            ["run", "bronze_writer", "--table", "trades"],
            "bronze_writer: invalid value for '--table': 'trades' is none of raw_trades, raw_orderbook, "
            "raw_marketdata, raw_reference; `lakehouse run bronze_writer --help` lists its options",
        ),
        (
            ["run", "silver_processor", "--from", "20xx"],
            "silver_processor: invalid value for '--from': '20xx' is no date like 2025-01-31; "
            "`lakehouse run silver_processor --help` lists its options",
        ),
        (["run", "silver_processor", "--table"], "option '--table' requires an argument"),
        (
            ["run", "pipeline", "--every", "15"],
            "pipeline: invalid value for '--every': '15' is no span of time like 30s, 15m or 1h; "
            "`lakehouse run pipeline --help` lists its options",
        ),
        (
            ["live", "--table", "dim_time"],
            "live: invalid value for '--table': dim.dim_time follows from others and is not brought up to date by "
            "itself; `lakehouse live --help` lists its options",
        ),
    ],
    ids=" ".join,
)
def test_wrong_use_is_one_sentence_and_exit_code_2(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lakehouse(*arguments, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()) == ("", [f"usage: {sentence}"])


def test_options_may_be_repeated_and_take_several_values() -> None:
    job, options = parse(["silver_processor", "--table", "trades", "--table", "market_data"], "lakehouse run")
    assert job.name == "silver_processor"
    assert options == {"tables": ["trades", "market_data"], "rebuild": False, "since": None}
    given = ["--source", "a.csv", "b c.csv", "--again", "--source", "d.csv", "--dimension", "dim_symbol"]
    _, options = parse(["dimension_loader", *given], "lakehouse run")
    assert (options["sources"], options["again"]) == (["a.csv", "b c.csv", "d.csv"], True)
    assert options["dimensions"] == ["dim_symbol"]


@pytest.mark.parametrize("name", JOBS)
def test_a_job_declares_the_parameters_of_its_run(name: str) -> None:
    special: dict[str, Callable[..., object]] = {"orphan_cleanup": maintenance.clean, "pipeline": live.run}
    run_of_module = special.get(name) or getattr(registry, name, maintenance).run
    declared = {option.parameter for option in JOBS[name].options} - {"as_json"}  # of the door alone
    assert declared <= set(inspect.signature(run_of_module).parameters)


HEAVY = (
    "pandas",
    "sqlalchemy",
    "pyiceberg.table",
    "duckdb",
    "sqlglot",
    "jinja2",
    "confluent_kafka",
    "lakehouse_spark.local",
)
"""What only looks has no time for: all of it together takes seconds."""


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], ["pyspark", "pyarrow", "pyiceberg", *HEAVY]),
        (["--version"], ["pyspark", "pyarrow", "pyiceberg", *HEAVY]),
        (["status"], HEAVY),
        (["rejected", "list"], HEAVY),
        (["audit", "list"], HEAVY),
        (["plan"], ["jinja2", "confluent_kafka", "lakehouse_spark.local"]),
    ],
)
def test_who_only_looks_waits_for_no_more_than_that_takes(
    arguments: list[str], heavy: list[str], tmp_path: Path
) -> None:
    script = (
        "import json, sys\nfrom lakehouse_spark import cli\n"
        "try: cli.main()\nfinally: sys.stdout.write(chr(10) + json.dumps([*sys.modules]))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True,
        env={**os.environ, "LAKEHOUSE_HOME": str(tmp_path / "none"), "JAVA_HOME": "/none"},
    )  # fmt: skip
    assert ran.returncode == (0 if arguments[0].startswith("-") else 2), ran.stderr
    assert {*heavy} & {*json.loads(ran.stdout.splitlines()[-1])} == set()
    assert [*tmp_path.iterdir()] == []


def test_status_says_which_of_its_numbers_are_upper_bounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp = datetime(2025, 6, 1, 12, tzinfo=UTC)
    tables = {table.name: TableState(table.name, 0, 0, 0, 0, 1) for table in TABLES}
    lags = (Lag("bronze.raw_trades", 1_200, 60.0, is_exact=False), Lag("dim.dim_symbol", None, None))
    tables["silver.trades"] = TableState(
        "silver.trades", 5_000, 2, 100, 1, 3, stamp, follows=True, lags=lags, is_exact=False
    )
    tables["gold.fact_trades"] = TableState("gold.fact_trades", 7_000, 1, 100, 0, 2, stamp, follows=True)
    monkeypatch.setattr(inventory, "read", lambda settings: Inventory(tables, {}))

    assert lakehouse("status", monkeypatch=monkeypatch) == 0
    rows = {line.split()[0]: " ".join(line.split()) for line in capsys.readouterr().out.splitlines() if line}
    assert rows["silver.trades"] == (
        "silver.trades │ at most 5,000 │ 3 │ 3 │ 2025-06-01 12:00:00 │ at most 1,200 rows (bronze.raw_trades, "
        "dim.dim_symbol)"
    )
    assert rows["gold.fact_trades"] == "gold.fact_trades │ 7,000 │ 1 │ 2 │ 2025-06-01 12:00:00 │ 0 rows"

    assert lakehouse("status", "--json", monkeypatch=monkeypatch) == 0
    told = {row.pop("table"): row for row in json.loads(capsys.readouterr().out)}
    assert told["silver.trades"] == {
        "rows": 5_000, "files": 3, "snapshots": 3, "stamp": "2025-06-01T12:00:00.000000+00:00", "behind": 1_200,
        "waits_for": ["bronze.raw_trades", "dim.dim_symbol"], "rows_are": "at most", "behind_is": "at most",
        "drift": [],
    }  # fmt: skip
    assert (told["gold.fact_trades"]["rows_are"], told["gold.fact_trades"]["behind_is"]) == ("exact", "exact")
    assert told["bronze.raw_trades"]["behind"] is None

    del tables["gold.fact_trades"]
    assert lakehouse("status", monkeypatch=monkeypatch) == 3
    missing = "refused: tables are missing: gold.fact_trades. What to do: lakehouse doctor"
    assert capsys.readouterr().err.splitlines() == [missing]


def test_the_layers_that_plan_lists_are_those_of_the_catalog() -> None:
    [line] = [line for words, _, options in generate.tree() if words == "lakehouse plan" for line in options[:1]]
    assert line[1].partition(";")[0].split(", ") == [*LAYERS]


def test_every_job_but_those_that_migrate_first_refuses_a_lakehouse_of_another_release(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise RefusedError("older")

    def allow_nothing(spark: object, settings: Settings, table: Table) -> None:
        raise LakehouseError(f"{table.name}: not allowed")

    monkeypatch.setattr(migrations, "require_current", refuse)
    monkeypatch.setattr(rights, "require_writing", allow_nothing)
    for name in JOBS.keys() - {"schema_migration", "pipeline"}:
        with pytest.raises(RefusedError, match="older"):
            JOBS[name].run(None, Settings())
    for name, table in (("schema_migration", "_metadata.schema_migrations"), ("pipeline", "bronze.raw_trades")):
        with pytest.raises(LakehouseError, match=f"^{table}: not allowed"):
            JOBS[name].run(None, Settings())


@pytest.mark.parametrize(
    ("job", "options", "table"),
    [
        ("bronze_writer", {"tables": ["raw_orderbook"]}, "bronze.raw_orderbook"),
        ("silver_processor", {"tables": ["market_data", "trades"]}, "silver.market_data"),
        ("silver_processor", {"tables": []}, "silver.trades"),
        ("dimension_loader", {"dimensions": ["dim_account"], "sources": ["a.csv"]}, "dim.dim_account"),
        ("pipeline", {"tables": ["gold.fact_trades"]}, "gold.fact_trades"),
        ("compaction", {"tables": ["silver.trades"], "layers": []}, "silver.trades"),
        ("compaction", {"layers": ["gold"]}, "_metadata.maintenance_log"),
    ],
)
def test_a_job_asks_for_the_right_to_write_a_table_that_it_writes(
    job: str, options: dict[str, object], table: str
) -> None:
    assert JOBS[job].first_written(options).name == table


def test_a_job_that_only_tells_asks_for_no_right(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(migrations, "require_current", lambda *_: None)
    monkeypatch.setattr(rights, "require_writing", lambda *given: asked.append(given))
    run = registry._guarded(replace(job_that(lambda *_, **__: []), options=JOBS["compaction"].options)).run
    run(None, Settings(), dry_run=True)
    assert asked == []
    run(None, Settings(), dry_run=False)
    assert len(asked) == 1


class _Session:
    def __init__(self) -> None:
        self.is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True


def job_that(work: Callable[..., list[Summary]]) -> Job:
    return Job("some_job", "works", Size("1g", executors=1, executor_memory="1g", executor_cores=1), work)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Session:
    opened = _Session()
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    monkeypatch.setattr(run, "open_session", lambda *_, **__: opened)
    return opened


def test_a_job_prints_a_line_per_table_and_one_of_json(opened: _Session, capsys: pytest.CaptureFixture[str]) -> None:
    def work(spark: object, settings: Settings, *, rebuild: bool) -> list[Summary]:
        assert (spark, rebuild) == (opened, True)
        return [Summary("some_job", "silver.trades", {"rows": 1200}, 7, 0.5), Summary("some_job", "gold.facts")]

    assert run.execute(job_that(work), {"rebuild": True}) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[:-1] == [
        "some_job: silver.trades: 1,200 rows in 0.5 s", "some_job: gold.facts: nothing new",
    ]  # fmt: skip
    document = json.loads(said.out.splitlines()[-1])
    assert (document["job"], [table["table"] for table in document["tables"]]) == (
        "some_job", ["silver.trades", "gold.facts"],
    )  # fmt: skip
    assert (said.err, opened.is_stopped) == ("", True)


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (RefusedError("the topic is gone", "Do this"), 3, "the topic is gone. Do this"),
        (UsageError("no such day"), 2, "no such day"),
        (ValueError("oh"), 1, "some_job failed: ValueError: oh (LAKEHOUSE_DEBUG=true shows the trace)"),
    ],
)
def test_a_job_that_fails_says_why_and_has_its_exit_code(
    error: Exception, code: int, sentence: str, opened: _Session, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(spark: object, settings: Settings) -> list[Summary]:
        raise error

    assert run.execute(job_that(work), {}) == code
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines(), opened.is_stopped) == ("", [sentence], True)


def test_lines_are_json_objects_where_the_settings_ask_for_it(
    opened: _Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(spark: object, settings: Settings) -> list[Summary]:
        cursor = TopicCursor(stamp=NOON, topic="trades", topic_id="id", following={0: 7})
        for listen in commit.LISTENERS:
            listen(Commit("bronze.raw_trades", State(7, cursor, NOON), tries=1, seconds={"write": 0.25}))
            listen(Commit("bronze.raw_orderbook", is_lost=True))
        return [Summary("some_job", "bronze.raw_trades", {"records": 1200}, 7, 0.5)]

    monkeypatch.setenv("LAKEHOUSE_LOG__FORMAT", "json")
    assert run.execute(job_that(work), {}) == 0
    said = capsys.readouterr()
    first, last = map(json.loads, said.out.splitlines())
    assert first.pop("at").endswith("+00:00")
    assert first == {
        "level": "info", "job": "some_job", "table": "bronze.raw_trades", "snapshot": 7, "counts": {"records": 1200},
        "seconds": 0.5, "message": "some_job: bronze.raw_trades: 1,200 records in 0.5 s",
    }  # fmt: skip
    assert {*last} == {"job", "tables", "seconds"}
    [committed] = map(json.loads, said.err.splitlines())
    assert (committed["job"], committed["table"], committed["snapshot"]) == ("some_job", "bronze.raw_trades", 7)
    assert committed["cursor"]["to"] == {"0": 7}
    assert (committed["seconds"], committed["message"], commit.LISTENERS) == ({"write": 0.25}, "committed", [])

    def fail(spark: object, settings: Settings) -> list[Summary]:
        raise RefusedError("the topic is gone", "Do this")

    assert run.execute(job_that(fail), {}) == 3
    [refused] = map(json.loads, capsys.readouterr().err.splitlines())
    assert (refused["level"], refused["job"], refused["message"]) == (
        "error", "some_job", "the topic is gone. Do this",
    )  # fmt: skip
    monkeypatch.undo()
    log.use(LogSettings(), "")


def test_the_lakehouse_keeps_why_a_job_failed_until_it_ends_well(
    opened: _Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[str, ...]] = []
    monkeypatch.setattr(last_errors, "keep", lambda spark, settings, job, error: kept.append((job, error)))
    monkeypatch.setattr(last_errors, "clear", lambda spark, job: kept.append((job,)))
    outcomes: list[Exception | None] = [ValueError("oh"), UsageError("no such day"), LostRaceError("lost"), None]

    def work(spark: object, settings: Settings) -> list[Summary]:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome
        return []

    assert [run.execute(job_that(work), {}) for _ in range(4)] == [1, 2, 3, 0]
    assert kept == [("some_job", "ValueError: oh"), ("some_job", "lost"), ("some_job",)]


def test_a_run_that_leaves_the_tables_alone_says_nothing_of_how_the_job_goes(
    opened: _Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[object] = []
    monkeypatch.setattr(last_errors, "keep", lambda *said: kept.append(said))
    monkeypatch.setattr(last_errors, "clear", lambda *said: kept.append(said))
    outcomes: list[Exception | None] = [LostRaceError("lost"), None]

    def work(spark: object, settings: Settings, **options: object) -> list[Summary]:
        if outcome := outcomes.pop(0):
            raise outcome
        return []

    aside = replace(job_that(work), options=JOBS["gold_aggregator"].options)
    assert [run.execute(aside, {"into": "then", "rebuild": False}) for _ in range(2)] == [3, 0]
    assert kept == []
    assert JOBS["maintenance"].leaves_tables({"dry_run": True})
    assert not JOBS["gold_aggregator"].leaves_tables({"rebuild": True, "into": None})


def test_what_fails_while_an_error_is_kept_hides_no_error(opened: _Session) -> None:
    last_errors.keep(None, Settings(), "some_job", "oh")  # type: ignore[arg-type]
    last_errors.clear(None, "some_job")  # type: ignore[arg-type]


def test_status_shows_what_failed_last(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {
        "lakehouse.last-error.pipeline": '{"at": "2025-06-01T12:00:00.000000+00:00", "error": "[oh] a: b"}',
        "lakehouse.last-error.compaction": "as someone else wrote it",
        "write.format.default": "parquet",
    }
    home.catalog.create_namespace("_metadata")
    home.catalog.create_table("_metadata.maintenance_log", SCHEMA, properties={"format-version": "2", **kept})
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home.folder))
    assert lakehouse("status", "--errors", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.splitlines() == [
        "compaction failed: as someone else wrote it", "pipeline failed at 2025-06-01 12:00:00 UTC: [oh] a: b",
    ]  # fmt: skip
    assert lakehouse("status", "--errors", "--json", monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"job": "compaction", "at": None, "error": "as someone else wrote it"},
        {"job": "pipeline", "at": "2025-06-01T12:00:00.000000+00:00", "error": "[oh] a: b"},
    ]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_what_spark_submit_runs_refuses_wrong_use_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["fact_loader", "--nope"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "", "fact_loader: no such option: --nope; `lakehouse run fact_loader --help` lists its options\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [
        ("lakehouse run s", ["schema_migration", "silver_processor", "snapshot_expiration"]),
        ("lakehouse run silver_processor --table t", ["trades", "trader_activity"]),
        ("lakehouse run dimension_loader --dimension dim_s", ["dim_symbol"]),
        ("lakehouse run fact_loader --r", ["--rebuild"]),
        ("lakehouse rejected list --table raw_t", ["raw_trades"]),
        ("lakehouse rejected list --reason crossed_", ["crossed_book"]),
        ("lakehouse rejected list --status R", ["REPLAYED"]),
    ],
)
def test_the_shell_completes(
    typed: str, proposed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = typed.split(" ")
    for name, value in {
        "_LAKEHOUSE_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert lakehouse(monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.split() == proposed


def test_ctrl_c_ends_a_command_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "load", interrupted)
    assert lakehouse("demo", monkeypatch=monkeypatch) == 130
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_the_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lakehouse("--version", monkeypatch=monkeypatch) == 0
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    version = tomllib.loads(project)["project"]["version"]
    assert capsys.readouterr().out == f"lakehouse-spark {version}\n"


@pytest.fixture
def java(tmp_path: Path) -> dict[str, str]:
    """The environment in which Spark starts a Java that prints its arguments, a line each, and what is in variables."""
    program = tmp_path / "jdk" / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" "variables: $JAVA_TOOL_OPTIONS$JDK_JAVA_OPTIONS$_JAVA_OPTIONS"\n'
    )
    program.chmod(0o755)
    return {"PATH": os.environ["PATH"], "LAKEHOUSE_JAVA_HOME": str(tmp_path / "jdk")}


def started(java: dict[str, str], *arguments: str) -> list[str]:
    shim = Path(session.__file__).parent / "java" / "bin" / "java"
    return subprocess.run([shim, *arguments], env=java, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_java_of_spark_is_started_without_its_chatter(java: dict[str, str]) -> None:
    given = [
        "-cp",
        "a b:*",
        "--add-modules=jdk.incubator.vector",
        "org.apache.spark.deploy.SparkSubmit",
        "job.py",
        "",
        "*",
    ]
    kept = ["-cp", "a b:*", "org.apache.spark.deploy.SparkSubmit", "job.py", "", "*", "variables: "]
    assert started(java, *given) == kept
    variables = {"JAVA_TOOL_OPTIONS": "-Xa -Xb", "JDK_JAVA_OPTIONS": "-Xc", "_JAVA_OPTIONS": "-Xz"}
    assert started(java | variables, *given) == [
        "-Xa", "-Xb", "-Xc", "-cp", "a b:*", "-Xz", "org.apache.spark.deploy.SparkSubmit", "job.py", "", "*",
        "variables: ",
    ]  # fmt: skip
    quoted = {"JAVA_TOOL_OPTIONS": "-Da='b c'"}
    assert started(java | quoted, *given) == [*kept[:-1], "variables: -Da='b c'"]


def test_who_asks_for_everything_gets_the_plain_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse_spark.jars.find_java", lambda _: tmp_path / "bin" / "java")
    quiet, loud = (session.launch_environment(Settings(debug=debug)) for debug in (False, True))
    assert (quiet["JAVA_HOME"], quiet["LAKEHOUSE_JAVA_HOME"]) == (
        str(Path(session.__file__).parent / "java"), str(tmp_path),
    )  # fmt: skip
    assert loud["JAVA_HOME"] == str(tmp_path)


def test_what_starts_spark_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "of the user")
    monkeypatch.delenv("LAKEHOUSE_JAVA_HOME", raising=False)
    with session._environment({"JAVA_HOME": "quiet", "LAKEHOUSE_JAVA_HOME": "of the user"}):
        assert (os.environ["JAVA_HOME"], os.environ["LAKEHOUSE_JAVA_HOME"]) == ("quiet", "of the user")
    assert os.environ["JAVA_HOME"] == "of the user"
    assert "LAKEHOUSE_JAVA_HOME" not in os.environ


def test_an_error_nobody_foresaw_is_a_sentence_and_its_trace_there_for_the_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    error = FileNotFoundError(2, "No such file or directory", "/no/where")
    assert explained("pipeline", error, said.append) == (
        "pipeline failed: No such file or directory: /no/where (LAKEHOUSE_DEBUG=true shows the trace)"
    )
    assert said == []
    monkeypatch.setenv("LAKEHOUSE_DEBUG", "true")
    try:
        raise error
    except OSError:
        sentence = explained("pipeline", error, said.append)
    assert sentence == "pipeline failed: No such file or directory: /no/where"
    assert said[0].startswith("Traceback (most recent call last):\n")


def test_an_error_that_says_what_to_do_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_PROFILE", "no such profile")  # settings that do not load are no obstacle
    assert explained("pipeline", RefusedError("the topic is gone", "Do this"), print) == "the topic is gone. Do this"


def test_neither_an_error_nor_its_trace_repeats_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_CATALOG__TOKEN", "t0ken")
    monkeypatch.setenv("LAKEHOUSE_CATALOG__URI", "jdbc:postgresql://db.example/lake?user=lake&password=pa55&ssl=true")
    monkeypatch.setenv("LAKEHOUSE_DEBUG", "true")
    said: list[str] = []
    error = ValueError(
        "no driver for jdbc:postgresql://db.example/lake?user=lake&password=pa55&ssl=true, nor for t0ken"
    )
    error.add_note("t0ken")
    told = "no driver for jdbc:postgresql://db.example/lake?user=lake&password=***&ssl=true, nor for ***"
    assert explained("job", error, said.append) == f"job failed: ValueError: {told}; also failed: ***"
    assert said == [f"ValueError: {told}\n***"]
    assert explained("job", RefusedError("t0ken is old"), said.append) == "*** is old"


def test_what_failed_beside_an_error_is_told_with_it() -> None:
    refused, broken = RefusedError("trades: someone was faster"), ValueError("no")
    for error in (refused, broken):
        error.add_note("books: the disk is full")
    assert explained("job", refused, print) == "trades: someone was faster; also failed: books: the disk is full"
    assert explained("job", broken, print) == (
        "job failed: ValueError: no; also failed: books: the disk is full (LAKEHOUSE_DEBUG=true shows the trace)"
    )
