"""The way into every job: options → session → the job's `run` → one line per table, and one of JSON."""

import json
import time
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from typing import NoReturn

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakehouse_spark import broker
from lakehouse_spark.change_log import DIMENSIONS
from lakehouse_spark.errors import LakehouseError, UsageError, in_a_sentence
from lakehouse_spark.jobs import (
    bronze_writer,
    dimension_loader,
    fact_loader,
    gold_aggregator,
    pipeline,
    schema_migration,
    silver_processor,
)
from lakehouse_spark.jobs.stopping import stop_on_signal
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.session import complain, open_session
from lakehouse_spark.settings import Settings, load

_NO_TABLES = ("NoSuchTableException", "NoSuchNamespaceException", "TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND")


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
    with stop_on_signal(spark):
        return bronze_writer.run(
            spark, settings, options.table, continuous=True, accept_gap=options.accept_gap, report=_say
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
    """Runs the job and returns its exit code; an error its author foresaw is one sentence on stderr."""
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
                spark.stop()
    except LakehouseError as error:
        complain(error)
        return error.exit_code
    except (PySparkException, Py4JError, OSError) as error:
        complain(traceback.format_exc())
        complain(f"{job} failed: {in_a_sentence(error)}")
        return 1
    return 0


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
        if any(sign in str(error) for sign in _NO_TABLES):
            raise UsageError(
                f"{job}: tables are missing in {settings.warehouse}: run schema_migration first, or name the right "
                "lakehouse in LAKEHOUSE_HOME"
            ) from error
        raise


def _as_json(job: str, summaries: Sequence[Summary], seconds: float) -> str:
    tables = [summary.as_dict() for summary in summaries]
    return json.dumps({"job": job, "tables": tables, "seconds": round(seconds, 3)})


def _say(line: object) -> None:
    print(line, flush=True)
