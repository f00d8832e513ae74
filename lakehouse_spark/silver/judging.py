"""Which judged records silver accepts, beside the rows that it holds, and which rows and records a second look leaves.

Pure: what these functions are given, whoever calls them has read and pruned.
"""

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.silver import rejected_records
from lakehouse_spark.silver.feed import ARRIVAL, PLACE, Feed
from lakehouse_spark.transforms import dedup


def set_aside(raw: DataFrame, letters: DataFrame) -> tuple[DataFrame, DataFrame]:
    """The rows of bronze that are still to be judged, and the places of those in it that were discarded for good."""
    place = list(rejected_records.PLACE)
    discarded = letters.where(F.col("status") == rejected_records.DISCARDED).select(*place)
    return raw.join(discarded, on=place, how="left_anti"), discarded.join(raw, on=place, how="left_semi")


def good(judged: DataFrame) -> DataFrame:
    """The judged records without a reason to reject them."""
    return judged.where(is_good())


def is_good() -> Column:
    """Whether a judged record has no reason to be rejected."""
    return F.size("_reasons") == 0


def bad(judged: DataFrame) -> DataFrame:
    return judged.where(F.size("_reasons") > 0)


def decide(feed: Feed, judged: DataFrame, held: DataFrame, *, from_start: bool) -> DataFrame:
    """Every judged record with `_outcome`, `_reasons` and `_row`; grain: one row per bronze row.

    `held` has at least the silver table's rows of the records' keys. With `from_start`, they may have been made by
    these records.
    """
    if feed.restates:
        classified = dedup.restate(
            good(judged), held, key=feed.key, content=feed.content, arrival=("_ingested_at", *PLACE),
            from_start=from_start,
        )  # fmt: skip
    else:
        classified = dedup.classify(
            good(judged), held, key=feed.key, content=feed.content, arrival=(*ARRIVAL, "_source_topic"),
            status=feed.status, steps=feed.steps, untimed=feed.untimed, from_start=from_start,
        )  # fmt: skip
    conflict = F.when(F.col("_outcome") == dedup.REJECTED, F.array(F.lit(dedup.CONFLICT))).otherwise(F.col("_reasons"))
    of_bad = bad(judged).withColumn("_outcome", F.lit(dedup.REJECTED))
    return classified.withColumn("_reasons", conflict).unionByName(of_bad, allowMissingColumns=True)


def rejected(decided: DataFrame) -> DataFrame:
    return decided.where(F.col("_outcome") == dedup.REJECTED)


def places_of_accepted(decided: DataFrame) -> DataFrame:
    """Where bronze holds the records that were not rejected."""
    return rejected_records.placed(decided.where(F.col("_outcome") != dedup.REJECTED))


def counts() -> dict[str, Column]:
    """Aggregates of decided records: by outcome, the rows they make (`rows`), and what there is to write (`inserted`,
    `updated`)."""
    outcome, row = F.col("_outcome"), F.col(dedup.ROW)
    return {
        "records": F.count("*"),
        "accepted": F.count_if(outcome == dedup.ACCEPTED),
        "duplicates": F.count_if(outcome == dedup.DUPLICATE),
        "rejected": F.count_if(outcome == dedup.REJECTED),
        "rows": F.count_if(dedup.NEW),
        "inserted": F.count_if(row == "insert"),
        "updated": F.count_if(row == "update"),
    }


def key_families(good: DataFrame, feed: Feed) -> DataFrame:
    """The range of keys, `low` to `high`, of those that occur together: of one day and with one beginning."""
    family = (F.to_date(feed.event_time).alias("day"), F.substring(feed.key, 1, 3).alias("prefix"))
    return good.groupBy(*family).agg(F.min(feed.key).alias("low"), F.max(feed.key).alias("high")).orderBy("low")


def made_by_rejected(feed: Feed, judged: DataFrame, rows: DataFrame) -> DataFrame:
    """The table's rows that a record made which is rejected now."""
    of_bad = bad(judged).select(*PLACE, F.col("_ingested_at").alias("_arrived"))
    made = rows.join(of_bad, on=list(PLACE), how="inner")
    return made.where(F.col("_arrived") <= F.col(str(feed.table.stamp)))


def is_early(feed: Feed, since: date | None) -> Column:
    """Whether a record or row is of a day before `since` (None: none is), and stays as it is."""
    return F.lit(False) if since is None else F.to_date(feed.event_time) < F.lit(since)


def with_all_of(feed: Feed, records: DataFrame, replaced: DataFrame) -> DataFrame:
    """The records (with `_early`) with all of a `replaced` row's own judged again, whatever their days: a cancellation
    has a time of its own."""
    of_row = replaced.select(feed.key, F.lit(True).alias("_of_row"))
    joined = records.join(of_row, on=feed.key, how="left")
    return joined.withColumn("_early", F.col("_early") & F.col("_of_row").isNull()).select(*records.columns)


def with_there(feed: Feed, rows: DataFrame, records: DataFrame) -> DataFrame:
    """The rows, with `_there`: whether bronze still holds the record that made them, and the one that moved them on.

    A topic made anew uses the places of the old one again. So the record in a row's place must have its key, unless
    today's rules may have given it another one: then it must have been there before the row.
    """
    key = F.col(feed.key)
    places = records.groupBy(*PLACE).agg(F.collect_set(key).alias("_keys"), F.min("_ingested_at").alias("_since"))
    marked = rows.join(places, on=list(PLACE), how="left")
    is_there = F.array_contains("_keys", key) | (F.col("_since") <= F.col(str(feed.table.stamp)))
    if feed.status:
        # A cancellation may be of a day that is gone while its trade's is not.
        of_key = records.groupBy(key.alias(feed.key)).agg(F.collect_set(feed.status).alias("_statuses"))
        marked = marked.join(of_key, on=feed.key, how="left")
        is_stated = F.coalesce(F.array_contains("_statuses", F.col(feed.status)), F.lit(False))
        is_there &= (F.col(feed.status) == feed.steps[0]) | is_stated | ~F.array_contains("_keys", key)
    marked = marked.withColumn("_there", F.coalesce(is_there, F.lit(False)))
    return marked.select(*rows.columns, "_there")


def moved_verdicts(decided: DataFrame, letters: DataFrame) -> DataFrame:
    """How many records were decided (`records`), how many are rejected that had no open letter among `letters`
    (`rejected`), and the other way round (`freed`); one row."""
    place = list(rejected_records.PLACE)
    opened = letters.where(F.col("status") == rejected_records.OPEN).select(*place, F.lit(True).alias("_was_rejected"))
    judged = rejected_records.placed(decided, "_outcome").join(opened, on=place, how="left")
    is_rejected, was_rejected = F.col("_outcome") == dedup.REJECTED, F.col("_was_rejected").isNotNull()
    return judged.agg(
        F.count("*").alias("records"),
        F.count_if(is_rejected & ~was_rejected).alias("rejected"),
        F.count_if(~is_rejected & was_rejected).alias("freed"),
    )
