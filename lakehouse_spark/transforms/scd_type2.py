"""SCD type 2: every version of a member with the days on which it was valid, from a change log in any order."""

from collections.abc import Mapping, Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_spark.transforms.scd_type1 import last_stated

OPEN_END = date(9999, 12, 31)
"""Expiry date of a version that nothing follows."""

BEGINNING = date(1900, 1, 1)
"""Effective date of a member known only from facts before its first version."""


def versions(
    changes: DataFrame,
    *,
    key: str,
    tracked: Sequence[str],
    order: Sequence[str],
    untracked: Sequence[str] = (),
    effective: str = "effective_date",
    deleted: str = "is_deleted",
    stated: Mapping[str, Column] | None = None,
) -> DataFrame:
    """All versions of all members; grain: one row per `key` and effective date.

    `changes` is the whole change log of its keys, in any order and with any repeats. `order` names the columns that
    decide between changes of one key and date, the last one wins (sequence, arrival; NULL before any value). Changes
    that leave the `tracked` columns as they were open no version; NULL and '' differ. A delete ends the version before
    it, a later change opens a new one, and the days between have none. `untracked` columns are type 1: every version
    carries the last value of all (`stated` as in `scd_type1.latest`).

    Returns `key`, the tracked and untracked columns, `effective_date`, `expiry_date` (inclusive; 9999-12-31 while
    open), `is_current` and `_row_hash`.
    """
    of_key = Window.partitionBy(key)
    by_date = of_key.orderBy(effective)
    last_of_date = F.row_number().over(
        Window.partitionBy(key, effective).orderBy(*(F.desc_nulls_last(name) for name in order))
    )
    decisive = changes.withColumns({"_nth": last_of_date, "_row_hash": row_hash(tracked)}).where(F.col("_nth") == 1)
    gone = F.coalesce(F.col(deleted), F.lit(False))
    before = F.lag(F.struct(gone.alias("gone"), "_row_hash")).over(by_date)
    differs = F.col("_before.gone") | (F.col("_before._row_hash") != F.col("_row_hash"))
    opens = ~gone & (F.col("_before").isNull() | differs)
    ends = gone & ~F.col("_before.gone")
    turning = decisive.withColumn("_before", before).where(opens | F.coalesce(ends, F.lit(False)))
    following = F.lead(effective).over(by_date)
    ranged = turning.withColumn("_following", following).where(~gone)
    valid = ranged.select(
        key,
        *tracked,
        F.col(effective).alias("effective_date"),
        F.coalesce(F.date_sub("_following", 1), F.lit(OPEN_END)).alias("expiry_date"),
        F.col("_following").isNull().alias("is_current"),
        "_row_hash",
    )
    if not untracked:
        return valid
    place = (effective, *order)
    last = (
        changes.where(~gone)
        .groupBy(key)
        .agg(*(last_stated(name, place, (stated or {}).get(name)).alias(name) for name in untracked))
    )
    return valid.join(last, on=key, how="left")


def row_hash(tracked: Sequence[str]) -> Column:
    r"""MD5 of the tracked columns, in alphabetical order, joined with `|`; NULL is U+0000, `\` and `|` are escaped."""
    texts = (F.regexp_replace(F.col(name).cast("string"), r"([\\|])", r"\\$1") for name in sorted(tracked))
    return F.md5(F.concat_ws("|", *(F.coalesce(text, F.lit("\u0000")) for text in texts)).cast("binary"))


def gaps(valid: DataFrame, wanted: DataFrame, *, key: str) -> DataFrame:
    """The gaps between the versions of `valid` that hold a wanted day: `key`, `effective_date`, `expiry_date`.

    A gap reaches from the day after a version's expiry (1900-01-01 before the first) to the day before the next version
    (9999-12-31 after the last). `wanted` has `key` and inclusive ranges of days, `first_day` and `last_day`.
    """
    eve = F.date_sub(F.lit(BEGINNING), 1)
    before_all = wanted.select(key, eve.alias("effective_date"), eve.alias("expiry_date")).distinct()
    ends = valid.select(key, "effective_date", "expiry_date").unionByName(before_all)
    by_date = Window.partitionBy(key).orderBy("expiry_date")
    between = ends.select(
        key,
        F.when(F.col("expiry_date") < F.lit(OPEN_END), F.date_add("expiry_date", 1)).alias("gap_from"),
        F.coalesce(F.date_sub(F.lead("effective_date").over(by_date), 1), F.lit(OPEN_END)).alias("gap_to"),
    ).where(F.col("gap_from") <= F.col("gap_to"))
    touches = (F.col("first_day") <= F.col("gap_to")) & (F.col("last_day") >= F.col("gap_from"))
    asked = wanted.select(F.col(key).alias("_key"), "first_day", "last_day")
    held = between.join(asked, on=(F.col(key) == F.col("_key")) & touches, how="left_semi")
    return held.select(key, F.col("gap_from").alias("effective_date"), F.col("gap_to").alias("expiry_date"))


def with_faults(versions: DataFrame, key: str) -> DataFrame:
    """The versions with `_faults`, what is wrong with each: see the texts; empty for good ones."""
    following = F.lead("effective_date").over(Window.partitionBy(key).orderBy("effective_date", "expiry_date"))
    is_open = F.col("expiry_date") == F.lit(OPEN_END)
    faults = {
        "a date is missing": F.col("effective_date").isNull() | F.col("expiry_date").isNull(),
        "ends before it begins": F.col("effective_date") > F.col("expiry_date"),
        "overlaps the next one": F.col("_following") <= F.col("expiry_date"),
        "is current, and ends": F.col("is_current") & ~is_open,
        "is open, and not current": is_open & ~F.coalesce("is_current", F.lit(False)),
    }
    named = F.array(*(F.when(is_so, F.lit(what)) for what, is_so in faults.items()))
    return versions.withColumn("_following", following).withColumn("_faults", F.array_compact(named)).drop("_following")
