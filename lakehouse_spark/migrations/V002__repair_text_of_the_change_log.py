"""Text of reference records that is not UTF-8, and what an older reader of files made of such: refused from now on."""  # noqa: N999

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.bronze.raw_reference import TABLE as LOG
from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.migrations.migration import Step
from lakehouse_spark.silver.rejected_records import TABLE as LETTERS
from lakehouse_spark.table import Table

_TEXTS = ("dimension", "natural_key", "source", "raw_payload")


def repair(spark: SparkSession) -> None:
    """The bytes of such a record go to `_raw_bytes`, its text is repaired and its attributes are NULL, so that today's
    rules refuse it (`invalid_encoding`); the dimensions it is for are derived whole by the next dimension_loader.

    Of a CSV file's record the bytes were lost when it landed: what is kept is its text, with U+FFFD for each of them.
    """
    is_damaged = _is_not_utf8() | _is_misread()
    damaged = spark.table(LOG.identifier).where(is_damaged & F.col("dimension").isin(*DIMENSIONS))
    for (name,) in damaged.select("dimension").distinct().collect():  # first: nobody would find them once repaired
        commit.outdate(spark, DIMENSIONS[name].table)
    changes = {
        **{name: F.make_valid_utf8(name) for name in _TEXTS},
        "attributes": F.lit(None).cast(LOG.schema["attributes"].dataType),
        "_raw_bytes": _bytes(),
    }
    _repair(spark, LOG, changes, is_damaged)
    is_bad_letter = ~F.is_valid_utf8("raw_payload")
    _repair(spark, LETTERS, {"raw_payload": F.make_valid_utf8("raw_payload"), "_raw_bytes": _bytes()}, is_bad_letter)


def _is_not_utf8() -> Column:
    bad = F.lit(False)
    for name in _TEXTS:
        bad |= F.coalesce(~F.is_valid_utf8(name), F.lit(False))
    for parts in (F.map_keys("attributes"), F.map_values("attributes")):
        bad |= F.coalesce(F.exists(parts, lambda text: ~F.is_valid_utf8(text)), F.lit(False))
    return bad


def _is_misread() -> Column:
    """Whether a CSV file's record holds what its reader put for each byte that was not UTF-8."""
    return F.coalesce(
        F.col("_source_row").isNotNull()
        & F.col("_raw_bytes").isNull()
        & F.col("source").rlike(r"(?i)\.csv(\.(gz|bz2|zst))?$")
        & F.contains("raw_payload", F.lit("\ufffd")),
        F.lit(False),
    )


def _bytes() -> Column:
    return F.coalesce("_raw_bytes", F.col("raw_payload").cast("binary"))


def _repair(spark: SparkSession, table: Table, changes: dict[str, Column], where: Column) -> None:
    def attempt() -> None:
        base = snapshots.state(spark, table)
        if not snapshots.at(spark, table, base.snapshot_id).where(where).isEmpty():
            commit.update(spark, table, base, changes, where)

    commit.again_if_overtaken(attempt)


OPERATIONS = (Step("repair text of the change log", repair),)
CHECKSUMS_BEFORE = ("641f4634b940713f2394b880c44117d42c7b5ccaa72c063f34a8f73d4e0d7cc2",)
