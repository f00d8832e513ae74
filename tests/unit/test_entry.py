"""What a user reads of the jobs and of their failures, before any JVM is there."""

import sys

import pytest

from lakehouse_spark import cli
from lakehouse_spark.cli import entry, submit
from lakehouse_spark.errors import RefusedError

JOBS = [
    "jobs:",
    "  schema_migration  create the tables, or bring them to this release",
    "  bronze_writer     Kafka to bronze",
    "  silver_processor  bronze to silver",
    "  dimension_loader  reference data to dimensions",
    "  fact_loader       silver to facts",
    "  gold_aggregator   silver to the five gold tables",
    "  pipeline          every step once, in one session",
]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["-h"], 0), ([], 2)], ids=["--help", "-h", "without a job"]
)
def test_run_lists_the_jobs(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lakehouse", "run", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "usage: lakehouse run JOB [options]", "", *JOBS, "", "lakehouse run JOB --help lists a job's options",
    ]  # fmt: skip
    assert said.err == ""


def test_a_job_lists_its_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["lakehouse", "run", "silver_processor", "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert "--rebuild" in capsys.readouterr().out


def test_submit_lists_the_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        submit.main(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.splitlines()[:3] == ["usage: scripts/submit JOB [options]", "", "jobs:"]


def test_an_error_nobody_foresaw_is_a_sentence_and_its_trace_there_for_the_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    error = FileNotFoundError(2, "No such file or directory", "/no/where")
    assert entry.explained("pipeline", error, said.append) == (
        "pipeline failed: No such file or directory: /no/where (LAKEHOUSE_DEBUG=true shows the trace)"
    )
    assert said == []
    monkeypatch.setenv("LAKEHOUSE_DEBUG", "true")
    try:
        raise error
    except OSError:
        sentence = entry.explained("pipeline", error, said.append)
    assert sentence == "pipeline failed: No such file or directory: /no/where"
    assert said[0].startswith("Traceback (most recent call last):\n")


def test_an_error_that_says_what_to_do_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_PROFILE", "no such profile")  # settings that do not load are no obstacle
    assert (
        entry.explained("pipeline", RefusedError("the topic is gone", "Do this"), print) == "the topic is gone. Do this"
    )
