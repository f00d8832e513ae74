"""The way into every job: options → session → the job's `run` → one line per table, and one of JSON."""

import json
import time
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from typing import NoReturn

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.errors import LakehouseError, UsageError, in_a_sentence, is_caused_by
from lakehouse_spark.jobs import (
    bronze_writer,
    dimension_loader,
    fact_loader,
    gold_aggregator,
    pipeline,
    schema_migration,
    silver_processor,
)
from lakehouse_spark.jobs.stopping import asked_by_signal
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake.session import complain, open_session
from lakehouse_spark.local import broker
from lakehouse_spark.settings import Settings, load

HELP = ("--help", "-h")
"""What asks for the list of jobs in place of one."""

_NO_TABLES = ("NoSuchTableException", "NoSuchNamespaceException", "TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND")
"""Classes and conditions of the errors of Spark and Iceberg about a lakehouse that was never migrated."""


@dataclass(frozen=True)
class Job:
    """`summary` says what it does; `run` gets the parsed options; `topics` are those it reads from Kafka."""

    summary: str
    add_options: Callable[[ArgumentParser], None]
    run: Callable[[SparkSession, Settings, Namespace], list[Summary]]
    topics: tuple[str, ...] = ()


def _bronze_options(parser: ArgumentParser) -> None:
    _table_option(parser, list(bronze_writer.TOPICS))
    parser.add_argument("--continuous", action="store_true", help="go on until stopped by SIGTERM or Ctrl-C")
    parser.add_argument("--accept-gap", action="store_true", help="go on behind records that are gone, and note it")


def _run_bronze(spark: SparkSession, settings: Settings, options: Namespace) -> list[Summary]:
    if not options.continuous:
        return bronze_writer.run(spark, settings, options.table, accept_gap=options.accept_gap)
    with asked_by_signal(spark) as stop:
        return bronze_writer.run(
            spark, settings, options.table, continuous=True, accept_gap=options.accept_gap, stop=stop, report=_say
        )


def _table_option(parser: ArgumentParser, names: Sequence[str]) -> None:
    parser.add_argument("--table", action="append", default=[], choices=names, help="may be repeated; default: all")


def _dimension_options(parser: ArgumentParser) -> None:
    names = list(DIMENSIONS)
    parser.add_argument("--dimension", action="append", default=[], choices=names, help="may be repeated; default: all")
    parser.add_argument(
        "--source", action="extend", nargs="+", default=[], metavar="PATH",
        help="csv, json, jsonl or parquet by extension; for one --dimension; default: only what is in the change log",
    )  # fmt: skip
    parser.add_argument("--again", action="store_true", help="state files anew that were loaded before")
    parser.add_argument(
        "--ignore-unknown", action="store_true", help="load files whose columns are nearly right, without those"
    )
    parser.add_argument("--rebuild", action="store_true", help="derive all that is in the change log by today's rules")


def _silver_options(parser: ArgumentParser) -> None:
    _table_option(parser, silver_processor.TABLES)
    parser.add_argument("--rebuild", action="store_true", help="judge all that bronze holds by today's rules")
    parser.add_argument(
        "--from", dest="since", type=date.fromisoformat, metavar="DATE", help="with --rebuild: leave earlier days alone"
    )


def _fact_options(parser: ArgumentParser) -> None:
    _table_option(parser, list(fact_loader.FACTS))
    _gold_options(parser)


def _gold_options(parser: ArgumentParser) -> None:
    parser.add_argument("--rebuild", action="store_true", help="derive everything again, by today's settings")


JOBS: Mapping[str, Job] = {
    "schema_migration": Job(
        "create the tables, or bring them to this release",
        lambda parser: None,
        lambda spark, settings, options: schema_migration.run(spark, settings),
    ),
    "bronze_writer": Job("Kafka to bronze", _bronze_options, _run_bronze, tuple(bronze_writer.TOPICS)),
    "silver_processor": Job(
        "bronze to silver",
        _silver_options,
        lambda spark, settings, options: silver_processor.run(
            spark, settings, options.table, rebuild=options.rebuild, since=options.since
        ),
    ),
    "dimension_loader": Job(
        "reference data to dimensions",
        _dimension_options,
        lambda spark, settings, options: dimension_loader.run(
            spark,
            options.dimension,
            options.source,
            again=options.again,
            ignore_unknown=options.ignore_unknown,
            rebuild=options.rebuild,
            max_record_bytes=settings.ingest.max_record_bytes,
        ),
    ),
    "fact_loader": Job(
        "silver to facts",
        _fact_options,
        lambda spark, settings, options: fact_loader.run(spark, settings, options.table, rebuild=options.rebuild),
    ),
    "gold_aggregator": Job(
        "silver to the five gold tables",
        _gold_options,
        lambda spark, settings, options: gold_aggregator.run(spark, settings, rebuild=options.rebuild),
    ),
    "pipeline": Job(
        "every step once, in one session",
        lambda parser: None,
        lambda spark, settings, options: pipeline.run(spark, settings),
        tuple(bronze_writer.TOPICS),
    ),
}


def main(job: str, argv: Sequence[str]) -> int:
    """Runs the job and returns its exit code; what went wrong is one sentence, the last line on stderr."""
    began = time.monotonic()
    try:
        options = parse(job, argv)
        settings = load()
        with (
            broker.serving(settings, JOBS[job].topics, complain) if JOBS[job].topics else nullcontext(settings) as here
        ):
            spark = open_session(here, job, announce=complain)
            try:
                summaries = _run(spark, here, job, options)
                for summary in summaries:
                    _say(summary)
                _say(_as_json(job, summaries, time.monotonic() - began))
            finally:
                with suppress(Py4JError, OSError):  # where the JVM is gone, that is not what failed first
                    spark.stop()
    except Exception as error:
        complain(explained(job, error, complain))
        return getattr(error, "exit_code", LakehouseError.exit_code)
    return 0


def explained(what: str, error: Exception, say: Callable[[str], None]) -> str:
    """Why `what` failed, in one sentence; where the settings ask for it, `say` gets the trace first."""
    is_debugging = False
    with suppress(LakehouseError):  # wrong settings are what is to be told then
        is_debugging = load().debug
    if is_debugging:
        say("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, LakehouseError):
        return str(error)
    return f"{what} failed: {in_a_sentence(error)}" + (
        "" if is_debugging else " (LAKEHOUSE_DEBUG=true shows the trace)"
    )


def listing(program: str) -> str:
    """The jobs, a line each."""
    width = max(map(len, JOBS))
    lines = [f"  {name:{width}}  {job.summary}" for name, job in JOBS.items()]
    return "\n".join(
        [f"usage: {program} JOB [options]", "", "jobs:", *lines, "", f"{program} JOB --help lists a job's options"]
    )


def known_job(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The job that the first argument names, and its options."""
    name = argv[0] if argv else ""
    if name in JOBS:
        return name, list(argv[1:])
    close = get_close_matches(name, JOBS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"jobs: {', '.join(JOBS)}"
    raise UsageError(f"no job {name!r}; {hint}" if name else f"no job given; {hint}")


def parse(job: str, argv: Sequence[str]) -> Namespace:
    """The job's options; raises UsageError for one it does not have."""
    known_job([job])
    parser = _Parser(prog=job, description=JOBS[job].summary, allow_abbrev=False)
    JOBS[job].add_options(parser)
    return parser.parse_args(argv)


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; `{self.prog} --help` lists its options")


def _run(spark: SparkSession, settings: Settings, job: str, options: Namespace) -> list[Summary]:
    try:
        return JOBS[job].run(spark, settings, options)
    except LakehouseError:
        raise
    except Exception as error:
        if is_caused_by(error, *_NO_TABLES):
            raise UsageError(
                f"{job}: tables are missing in {settings.warehouse}: run `lakehouse migrate` first, or name the right "
                "lakehouse in LAKEHOUSE_HOME"
            ) from error
        raise


def _as_json(job: str, summaries: Sequence[Summary], seconds: float) -> str:
    tables = [summary.as_dict() for summary in summaries]
    return json.dumps({"job": job, "tables": tables, "seconds": round(seconds, 3)})


def _say(line: object) -> None:
    print(line, flush=True)
