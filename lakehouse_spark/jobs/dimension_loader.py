"""Reference data → dimensions: files land in the change log, and every dimension follows from it."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from pyspark.sql import SparkSession

from lakehouse_spark.bronze.raw_reference import MOST_BYTES
from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.errors import UsageError
from lakehouse_spark.ingest import reference_files
from lakehouse_spark.jobs import steps
from lakehouse_spark.jobs.steps import Step
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import dimension_members, dimension_records
from lakehouse_spark.settings import AuditSettings, S3Settings

JOB = "dimension_loader"


def run(
    spark: SparkSession,
    dimensions: Sequence[str] = (),
    sources: Sequence[str] = (),
    *,
    again: bool = False,
    ignore_unknown: bool = False,
    rebuild: bool = False,
    max_record_bytes: int = MOST_BYTES,
    audits: AuditSettings | None = None,
    s3: S3Settings | None = None,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Lands the files of `sources`, records of the one dimension that is named, then brings the dimensions up to date.

    Dimensions by name, all by default. Records that came by Kafka are in the log already (see bronze_writer); larger
    ones than `max_record_bytes` were not read. `again` and `ignore_unknown` are of the files (reference_files.load).
    With `rebuild`, all records are judged, and all members derived, by today's rules. Members are checked as the
    `audits` say; files on S3 are reached as `s3` says.
    """
    due = steps_of(
        spark, dimensions, sources,
        again=again, ignore_unknown=ignore_unknown, rebuild=rebuild, max_record_bytes=max_record_bytes, audits=audits,
        s3=s3,
    )  # fmt: skip
    return steps.run(spark, due, report, at_once=1)


def steps_of(
    spark: SparkSession,
    dimensions: Sequence[str] = (),
    sources: Sequence[str] = (),
    *,
    again: bool = False,
    ignore_unknown: bool = False,
    rebuild: bool = False,
    max_record_bytes: int = MOST_BYTES,
    audits: AuditSettings | None = None,
    s3: S3Settings | None = None,
) -> list[Step]:
    """What `run` does, a step for each dimension; the log's records of no dimension are rejected at once."""
    if unknown := set(dimensions) - set(DIMENSIONS):
        raise UsageError(f"{JOB}: no such dimension {', '.join(sorted(unknown))}; there are {', '.join(DIMENSIONS)}")
    if sources and len(dimensions) != 1:
        raise UsageError(f"{JOB}: --source needs one --dimension that its records are for")
    if (again or ignore_unknown) and not sources:
        raise UsageError(f"{JOB}: --again and --ignore-unknown say how to load files; name them by --source")
    dimension_records.reject_nameless(spark, max_record_bytes)

    def brought_up(dimension: Dimension) -> Iterator[Summary]:
        began = time.monotonic()
        notes: tuple[str, ...] = ()
        if sources:
            notes = reference_files.load(spark, dimension, sources, again=again, ignore_unknown=ignore_unknown, s3=s3)
        done = dimension_members.apply(spark, dimension, rebuild=rebuild, audits=audits)
        done = replace(done, notes=(*notes, *done.notes))
        yield Summary.of(JOB, dimension.table.name, done, began)

    chosen = [each for name, each in DIMENSIONS.items() if not dimensions or name in dimensions]
    return [Step((each.table,), partial(brought_up, each)) for each in chosen]
