"""Reference data from CSV, JSON and Parquet files, on this machine, S3 or behind a Hadoop scheme, into the change log.

The driver reads them by steps of its own: Spark's readers lose the bytes of a record, take names for patterns, and
give what is wrong with a file as a trace.
"""

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.ingest.reference_files.looking import Looked, look
from lakehouse_spark.ingest.reference_files.paths import find
from lakehouse_spark.lake import change_log
from lakehouse_spark.settings import S3Settings
from lakehouse_spark.types import INTEGER, LONG, TEXT

_MOST_ALIKE = 3
"""Files that are named one by one where the same is to be said of several."""


def load(
    spark: SparkSession,
    dimension: Dimension,
    sources: Sequence[str],
    *,
    again: bool = False,
    ignore_unknown: bool = False,
    s3: S3Settings | None = None,
) -> tuple[str, ...]:
    """Lands the files' records in their order, one commit a file, and returns what a user should read of it.

    A source is a file, a folder or a pattern. Columns go by name: the dimension's attributes, and optionally
    `effective_date`, `sequence` and `is_deleted`; others are kept in the log. A file that was loaded before lands
    nothing, unless `again`. All files are looked at before one lands: raises UsageError for one that is missing, of no
    known format, not UTF-8, without a column for the natural key or with a name that is nearly right (unless
    `ignore_unknown`), and LakehouseError for one that cannot be read.
    """
    files, skipped = find(spark, sources, s3 or S3Settings())
    looked = [look(file, dimension, ignore_unknown=ignore_unknown) for file in files]
    notes = _Notes()
    if skipped:
        notes.add("skipped", ", ".join(skipped[:20]) + (", …" if skipped[20:] else ""), "skipped, no files to load")
    for each in looked:
        for note in each.notes:
            notes.add(note, each.file.shown, note)
        if each.records.num_rows:
            _land(spark, dimension, each, notes, again=again)
    return notes.said()


def _land(spark: SparkSession, dimension: Dimension, looked: Looked, notes: "_Notes", *, again: bool) -> None:
    source, digest = looked.file.source, looked.digest
    stamp = change_log.land(spark, dimension, _rows(spark, dimension, looked), source, digest, again=again)
    if stamp is None:
        before = change_log.landed_at(spark, dimension, source, digest)
        when = f", at {before:%Y-%m-%d %H:%M:%S} UTC" if before else ""
        text = f"was loaded before{when}, and is not loaded now; to state it again, give --again"
        notes.add("before", looked.file.shown, text)
    elif not looked.is_dated:
        text = f"has no effective dates: its records are of {stamp:%Y-%m-%d}, the day of this load"
        notes.add("undated", looked.file.shown, text)


def _rows(spark: SparkSession, dimension: Dimension, looked: Looked) -> DataFrame:
    """The file's records as `raw_reference.build` takes them, but for the source; grain: one row per record."""
    return spark.createDataFrame(looked.records).select(
        F.lit(dimension.name).alias("dimension"),
        "attributes",
        "raw_payload",
        F.lit(None).cast(TEXT).alias("_kafka_topic"),
        F.lit(None).cast(INTEGER).alias("_kafka_partition"),
        F.lit(None).cast(LONG).alias("_kafka_offset"),
        "_source_row",
        "_raw_bytes",
    )


class _Notes:
    """Sentences about files, by what they say: of many alike, a few and the number of the rest."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[str]] = {}

    def add(self, kind: str, file: str, text: str) -> None:
        self._kinds.setdefault(kind, []).append(f"{file}: {text}")

    def said(self) -> tuple[str, ...]:
        said: list[str] = []
        for sentences in self._kinds.values():
            said += sentences[:_MOST_ALIKE]
            if more := len(sentences) - _MOST_ALIKE:
                said += [f"the same of {more} more files"] if more > 0 else []
        return tuple(said)
