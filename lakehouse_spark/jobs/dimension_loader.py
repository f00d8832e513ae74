"""Reference data → dimensions: files land in the change log, and every dimension follows from it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pyspark.sql import SparkSession

from lakehouse_spark.bronze.raw_reference import MOST_BYTES
from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.errors import UsageError
from lakehouse_spark.ingest import reference_files
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import dimension_members, dimension_records

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
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Lands the files of `sources`, records of the one dimension that is named, then brings the dimensions up to date.

    Dimensions by name, all by default. Records that came by Kafka are in the log already (see bronze_writer); larger
    ones than `max_record_bytes` were not read. `again` and `ignore_unknown` are of the files (reference_files.load).
    With `rebuild`, all records are judged, and all members derived, by today's rules.
    """
    if unknown := set(dimensions) - set(DIMENSIONS):
        raise UsageError(f"{JOB}: no such dimension {', '.join(sorted(unknown))}; there are {', '.join(DIMENSIONS)}")
    if sources and len(dimensions) != 1:
        raise UsageError(f"{JOB}: --source needs one --dimension that its records are for")
    if (again or ignore_unknown) and not sources:
        raise UsageError(f"{JOB}: --again and --ignore-unknown say how to load files; name them by --source")
    dimension_records.reject_nameless(spark, max_record_bytes)
    summaries = []
    for dimension in (each for name, each in DIMENSIONS.items() if not dimensions or name in dimensions):
        began = time.monotonic()
        notes: tuple[str, ...] = ()
        if sources:
            notes = reference_files.load(spark, dimension, sources, again=again, ignore_unknown=ignore_unknown)
        done = dimension_members.apply(spark, dimension, rebuild=rebuild)
        done = replace(done, notes=(*notes, *done.notes))
        summary = Summary.of(JOB, dimension.table.name, done, began)
        report(summary)
        summaries.append(summary)
    return summaries
