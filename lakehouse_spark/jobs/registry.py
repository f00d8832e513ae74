"""Every job, declared once: each door builds its commands, help, completion and sizes from these."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import cache, partial
from typing import Any

from pyspark.sql import SparkSession

from lakehouse_spark import catalog, migrations
from lakehouse_spark.catalog import DIMENSIONS, FACTS, LAYERS, TOPICS
from lakehouse_spark.jobs import (
    beat,
    bronze_writer,
    dimension_loader,
    fact_loader,
    gold_aggregator,
    pipeline,
    schema_migration,
    silver_processor,
)
from lakehouse_spark.jobs.job import Job, Option, Size
from lakehouse_spark.jobs.stopping import asked_by_signal
from lakehouse_spark.jobs.summary import Summary, tell
from lakehouse_spark.lake import last_errors, rights
from lakehouse_spark.lake.cursor import instant
from lakehouse_spark.settings import Settings


def _some_of(flag: str, parameter: str, metavar: str, names: Iterable[str]) -> Option:
    choices = tuple(names)
    return Option(
        flag, parameter, f"{', '.join(choices)}; may be repeated; default: all", metavar, choices, repeats=True
    )


def _tables(names: Iterable[str]) -> Option:
    return _some_of("--table", "tables", "TABLE", names)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no date like 2025-01-31") from None


def span(text: str) -> timedelta:
    """The span of time that 30s, 15m or 1h stands for."""
    units = {"s": "seconds", "m": "minutes", "h": "hours"}
    found = re.fullmatch(r"([1-9]\d{0,4})([smh])", text)
    if found is None:
        raise ValueError(f"{text!r} is no span of time like 30s, 15m or 1h")
    return timedelta(**{units[found[2]]: int(found[1])})


def live_table(text: str) -> str:
    """The full name of a table that a beat brings up to date."""
    name = catalog.table(text).name
    if name not in beat.TABLES:
        raise ValueError(f"{name} follows from others and is not brought up to date by itself")
    return name


def _rebuild(line: str) -> Option:
    return Option("--rebuild", "rebuild", line)


def _write_bronze(spark: SparkSession, settings: Settings, *, continuous: bool, **options: Any) -> list[Summary]:
    if not continuous:
        return bronze_writer.run(spark, settings, **options)
    from lakehouse_spark.maintenance import journal  # brings PyIceberg, which no other job waits for

    tables = options.pop("tables", ()) or bronze_writer.there(spark, settings)
    held = [TOPICS[name].table.name for name in tables]
    own = journal.Run(spark, settings, timedelta(minutes=settings.live.lease_minutes))
    own.announce(held, bronze_writer.JOB, "written continuously")
    heard = options.pop("report", lambda summary: None)
    forget = cache(partial(last_errors.clear, spark, bronze_writer.JOB))  # with the first commit, not by its end

    def report(summary: Summary) -> None:
        tell(summary)
        heard(summary)
        forget()

    with asked_by_signal(spark) as stop, own.renewing(bronze_writer.JOB, *held):
        return bronze_writer.run(spark, settings, tables, continuous=True, stop=stop, report=report, **options)


def _run_pipeline(
    spark: SparkSession,
    settings: Settings,
    *,
    every: timedelta | None = None,
    tables: Sequence[str] = (),
    **options: Any,
) -> list[Summary]:
    if every is None:
        if tables:
            return pipeline.run_some(spark, settings, tables, **options)
        return pipeline.run(spark, settings, **options)
    from lakehouse_spark.jobs import live

    with asked_by_signal(spark) as stop:
        return live.run(spark, settings, every=every, tables=tables, stop=stop, **options)


def _load_dimensions(spark: SparkSession, settings: Settings, **options: Any) -> list[Summary]:
    return dimension_loader.run(
        spark, max_record_bytes=settings.ingest.max_record_bytes, audits=settings.audit, s3=settings.s3, **options
    )


def _maintain(spark: SparkSession, settings: Settings, **options: Any) -> list[Summary]:
    from lakehouse_spark.jobs import maintenance  # brings PyIceberg, which no other job waits for

    return maintenance.run(spark, settings, **options)


def _clean(spark: SparkSession, settings: Settings, **options: Any) -> list[Summary]:
    from lakehouse_spark.jobs import maintenance

    return maintenance.clean(spark, settings, **options)


_OF_MAINTENANCE = (
    _some_of("--layer", "layers", "LAYER", LAYERS),
    Option(
        "--table",
        "tables",
        "a table, with its layer (silver.trades) or without; may be repeated; default: all",
        metavar="TABLE",
        parse=lambda text: catalog.table(text).name,
        repeats=True,
    ),
    Option("--dry-run", "dry_run", "say what is due and why, and change nothing", leaves_tables=True),
    Option("--json", "as_json", "print only the line of JSON"),
)
_REWRITING = Size("3g", executors=2, executor_memory="6g", executor_cores=4)  # files are sorted, and read to be checked
_LISTING = Size("1g", executors=1, executor_memory="1g", executor_cores=1)  # metadata and listings, on the driver


def _maintains(name: str, line: str, size: Size) -> Job:
    """A job that does what is due of its own kind."""
    return Job(name, line, size, partial(_maintain, jobs=(name,)), _OF_MAINTENANCE)


_JOINING = Size("3g", executors=2, executor_memory="6g", executor_cores=4)
"""Of jobs that keep a batch, or the days that changed, in memory while they join and merge."""

_JOBS = (
    Job(
        "schema_migration",
        "create the tables, or bring them to this release",
        Size("1g", executors=1, executor_memory="1g", executor_cores=1),  # metadata only, and the minutes of dim_time
        schema_migration.run,
        migrates=True,
        writes="_metadata.schema_migrations",
    ),
    Job(
        "bronze_writer",
        "Kafka to bronze",
        Size("2g", executors=2, executor_memory="2g", executor_cores=4),  # records pass through: cores, little memory
        _write_bronze,
        (
            _tables(TOPICS),
            Option("--continuous", "continuous", "go on until stopped by SIGTERM or Ctrl-C"),
            Option("--accept-gap", "accept_gap", "go on behind records that are gone, and note it"),
        ),
        tuple(TOPICS),
        writes="bronze.raw_trades",
    ),
    Job(
        "silver_processor",
        "bronze to silver",
        _JOINING,
        silver_processor.run,
        (
            _tables(silver_processor.TABLES),
            _rebuild("judge all that bronze holds by today's rules"),
            Option("--from", "since", "with --rebuild: leave earlier days alone", metavar="DATE", parse=_day),
        ),
        writes="silver.trades",
    ),
    Job(
        "dimension_loader",
        "reference data to dimensions",
        Size("2g", executors=1, executor_memory="4g", executor_cores=2),  # small tables, read and merged by key
        _load_dimensions,
        (
            _some_of("--dimension", "dimensions", "DIMENSION", DIMENSIONS),
            Option(
                "--source",
                "sources",
                "csv, json, jsonl or parquet by extension; for one --dimension; several may follow; default: only what "
                "is in the change log",
                metavar="PATH...",
                repeats=True,
                takes_several=True,
            ),
            Option("--again", "again", "state files anew that were loaded before"),
            Option("--ignore-unknown", "ignore_unknown", "load files whose columns are nearly right, without those"),
            _rebuild("derive all that is in the change log by today's rules"),
        ),
        writes="dim.dim_symbol",
    ),
    Job(
        "fact_loader",
        "silver to facts",
        _JOINING,
        fact_loader.run,
        (_tables(FACTS), _rebuild("derive everything again, by today's settings")),
        writes="gold.fact_trades",
    ),
    Job(
        "gold_aggregator",
        "silver to the five gold tables",
        _JOINING,
        gold_aggregator.run,
        (
            _rebuild("derive everything again, by today's settings"),
            Option(
                "--as-known-at",
                "as_known_at",
                "derive everything from bronze and the change log as they stood then; needs --into",
                metavar="INSTANT",
                parse=instant,
            ),
            Option(
                "--into",
                "into",
                "with --as-known-at: the branch that gets the rows",
                metavar="BRANCH",
                leaves_tables=True,
            ),
        ),
        writes="gold.daily_trading_summary",
    ),
    Job(
        "pipeline",
        "every step once, in one session",
        _JOINING,
        _run_pipeline,
        (
            Option("--every", "every", "live mode: again and again, 30s, 15m or 1h apart", "SPAN", parse=span),
            Option(
                "--table",
                "tables",
                "a table to bring up to date, with its layer or without; may be repeated; default: all",
                metavar="TABLE",
                parse=live_table,
                repeats=True,
            ),
        ),
        tuple(TOPICS),
        migrates=True,
        writes="bronze.raw_trades",
    ),
    _maintains("compaction", "small files into large ones", _REWRITING),
    _maintains("snapshot_expiration", "drop snapshots that need not be kept", _LISTING),
    Job(
        "orphan_cleanup",
        "drop files that no snapshot knows",
        _LISTING,
        _clean,
        (
            *_OF_MAINTENANCE,
            Option("--quarantine", "quarantine", "set the files aside in place of deleting them"),
            Option("--restore", "restore", "bring back what a run set aside, by its id", metavar="RUN"),
        ),
    ),
    _maintains("manifest_rewrite", "many manifests into few", _LISTING),
    _maintains("bronze_retention", "drop rows of bronze that are old and consumed", _REWRITING),
    Job("maintenance", "all maintenance that is due, in one session", _REWRITING, _maintain, _OF_MAINTENANCE),
)


def _guarded(job: Job) -> Job:
    """The job, which refuses a lakehouse of another release, unless it migrates, and one where it may not write."""

    def run(spark: SparkSession, settings: Settings, **options: Any) -> list[Summary]:
        if not job.migrates:
            migrations.require_current(spark, settings)
        if not job.leaves_tables(options):
            rights.require_writing(spark, settings, job.first_written(options))
        return job.run(spark, settings, **options)

    return replace(job, run=run)


JOBS: Mapping[str, Job] = {job.name: _guarded(job) for job in _JOBS}
"""By name, in the order of the help."""
