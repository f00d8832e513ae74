"""Which records of a batch silver accepts, beside the rows that it holds, and how they count."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.lake.pruning import MOST_RANGES, day_predicate, days_of
from lakehouse_spark.silver import rejected_records
from lakehouse_spark.silver.feed import ARRIVAL, Feed
from lakehouse_spark.transforms import dedup

PLACE = ("_source_topic", "_source_partition", "_source_offset")
"""Where the record that made a row of silver has its place in the topic."""


def set_aside(raw: DataFrame, letters: DataFrame) -> tuple[DataFrame, DataFrame]:
    """The rows of bronze that are still to be judged, and the places of those in it that were discarded for good."""
    place = list(rejected_records.PLACE)
    discarded = letters.where(F.col("status") == "DISCARDED").select(*place)
    return raw.join(discarded, on=place, how="left_anti"), discarded.join(raw, on=place, how="left_semi")


def decide(feed: Feed, judged: DataFrame, rows: DataFrame, *, from_start: bool) -> DataFrame:
    """Every judged record with `_outcome`, `_reasons` and `_row`; grain: one row per bronze row.

    `rows` of the silver table are looked at only where the batch's own keys and days can be. With `from_start`, they
    may have been made by records of this batch.
    """
    good = judged.where(F.size("_reasons") == 0)
    held = rows.where(_within_reach(feed, good))
    if feed.restates:
        classified = dedup.restate(
            good, held, key=feed.key, content=feed.content, arrival=("_ingested_at", *PLACE), from_start=from_start
        )
    else:
        classified = dedup.classify(
            good, held, key=feed.key, content=feed.content, arrival=(*ARRIVAL, "_source_topic"), status=feed.status,
            steps=feed.steps, untimed=feed.untimed, from_start=from_start,
        )  # fmt: skip
    conflict = F.when(F.col("_outcome") == dedup.REJECTED, F.array(F.lit(dedup.CONFLICT))).otherwise(F.col("_reasons"))
    bad = judged.where(F.size("_reasons") > 0).withColumn("_outcome", F.lit(dedup.REJECTED))
    return classified.withColumn("_reasons", conflict).unionByName(bad, allowMissingColumns=True)


def places_of_accepted(decided: DataFrame) -> DataFrame:
    """Where bronze holds the records that were not rejected."""
    return rejected_records.placed(decided.where(F.col("_outcome") != dedup.REJECTED))


def count(decided: DataFrame) -> dict[str, int]:
    """Records by outcome, the rows they make (`rows`), and what there is to write (`inserted`, `updated`)."""
    outcome = F.col("_outcome")
    names = {"accepted": dedup.ACCEPTED, "duplicates": dedup.DUPLICATE, "rejected": dedup.REJECTED}
    counted = decided.agg(
        F.count("*").alias("records"),
        *(F.count_if(outcome == value).alias(name) for name, value in names.items()),
        F.count_if(dedup.NEW).alias("rows"),
        F.count_if(F.col(dedup.ROW) == "insert").alias("inserted"),
        F.count_if(F.col(dedup.ROW) == "update").alias("updated"),
    ).collect()[0]
    return {name: int(counted[name]) for name in ("records", *names, "rows", "inserted", "updated")}


def _within_reach(feed: Feed, good: DataFrame) -> Column:
    """A literal predicate that holds for every row of the table under one of the batch's keys.

    Keys that contain the event's time cannot lie outside the batch's days. A trade_id may: it is looked for by the
    ranges of ids that occur together, day by day, and the statistics of the files tell which ones can hold it.
    """
    if not feed.key_repeats_across_days:
        return day_predicate(feed.event_time, days_of(good, feed.event_time))
    ranges = _key_ranges(good, feed.key, feed.event_time)
    reach = F.lit(False)
    for low, high in ranges:
        reach = reach | F.col(feed.key).between(low, high)
    return reach


def _key_ranges(good: DataFrame, key: str, event_time: str) -> list[tuple[str, str]]:
    bounds = (F.min(key).alias("low"), F.max(key).alias("high"))
    family = (F.to_date(event_time).alias("day"), F.substring(key, 1, 3).alias("prefix"))
    found = good.groupBy(*family).agg(*bounds).orderBy("low").limit(MOST_RANGES + 1).collect()
    if len(found) > MOST_RANGES:
        found = good.agg(*bounds).collect()
    merged: list[tuple[str, str]] = []
    for low, high in ((row["low"], row["high"]) for row in found if row["low"] is not None):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged
