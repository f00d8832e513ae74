"""What became of the records behind rows of silver and members: which made them, which repeat them, which were refused.

Pure: whoever calls has read the tables. Records are judged again by today's rules, in the order in which they arrived;
those that were refused then, as their dead letters say, stay refused.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.dim.dimension import Dimension, with_reasons
from lakehouse_spark.lake import frames
from lakehouse_spark.lake.pruning import midnight
from lakehouse_spark.silver import judging, rejected_records
from lakehouse_spark.silver.feed import PLACE, Feed
from lakehouse_spark.silver.rejected_records import DISCARDED, OPEN, SOURCE
from lakehouse_spark.trace.origins import Use
from lakehouse_spark.transforms import dedup
from lakehouse_spark.types import INSTANT, INTEGER, LONG, TEXT

MADE, MOVED, RESTATED = "made the row", "moved its status", "restated it"
REPEATED, REFUSED = "repeats a record", "refused"

SCHEMA = T.StructType(
    [
        T.StructField("table", TEXT),
        T.StructField("source", TEXT),
        T.StructField("partition", INTEGER),
        T.StructField("position", LONG),
        T.StructField("arrived", INSTANT),
        T.StructField("key", TEXT),
        T.StructField("fate", TEXT),
        T.StructField("because", TEXT),
        T.StructField("payload", TEXT),
    ]
)
"""Of the records that a trace names: the bronze table; topic or file; Kafka's partition, NULL of a file; offset, or row
of the file; when it landed; the row or member that it is about; what became of it, and why; its text."""

_OUT_OF_CODES = r"[^A-Za-z0-9.\-]"
BLANKS = r"[\s\p{Z}\p{C}]"


def candidates(feed: Feed, bronze: DataFrame, uses: Sequence[Use]) -> DataFrame:
    """The rows of bronze that can hold a record of the uses, and others: what is left out is left out unread."""
    found = []
    for use in uses:
        rows = bronze.where(_of_days(use, feed.topic.event_time))
        for name, text in use.like.items():
            if name == "symbol":
                rows = rows.where(_code(name) == text)
            elif name in feed.topic.text_fields:
                rows = rows.where(F.contains(F.upper(F.col(name)), F.lit(text.upper())))
        if use.symbols is not None:
            of = F.broadcast(use.symbols.select(F.col("symbol").alias("_symbol")).distinct())
            rows = rows.withColumn("_symbol", _code("symbol")).join(of, on="_symbol", how="left_semi")
        found.append(rows.select(*bronze.columns))
    return reduce(DataFrame.unionByName, found).dropDuplicates(list(rejected_records.PLACE))


def _code(name: str) -> Column:
    return F.upper(F.regexp_replace(name, _OUT_OF_CODES, ""))


def _of_days(use: Use, time: str) -> Column:
    until, since = F.col(time) < F.lit(midnight(use.last + timedelta(days=1))), use.since
    return until if since is None else until & (F.col(time) >= F.lit(midnight(since)))


def with_same_keys(feed: Feed, bronze: DataFrame, around: DataFrame, *rows: DataFrame) -> DataFrame:
    """The rows of bronze `around`, and all others of their keys and of the keys of the silver `rows`, whatever their
    day: what repeats a record may have another one."""
    bare = F.regexp_replace(feed.key, BLANKS, "").alias("_bare")
    keys = reduce(DataFrame.unionByName, (each.select(bare) for each in (around, *rows))).distinct()
    same = bronze.withColumn("_bare", bare).join(keys, on="_bare", how="left_semi").select(*bronze.columns)
    return around.unionByName(same).dropDuplicates(list(rejected_records.PLACE))


def chosen(rows: DataFrame, uses: Sequence[Use], time: str) -> DataFrame:
    """The rows of silver, or judged records, that the uses name, with `_use`: what for."""
    found = []
    for use in uses:
        of_use = rows.where(_of_days(use, time))
        for name, text in use.like.items():
            of_use = of_use.where(F.col(name) == text)
        if use.symbols is not None:
            of_use = of_use.join(F.broadcast(use.symbols.select("symbol").distinct()), on="symbol", how="left_semi")
        found.append(use.rows(of_use.select(*rows.columns)).withColumn("_use", F.lit(use.what)))
    return reduce(DataFrame.unionByName, found)


def split(feed: Feed, decided: DataFrame, uses: Sequence[Use]) -> tuple[DataFrame, DataFrame]:
    """Of decided records those that matter to the uses, and those that are about the same and change nothing.

    Where a record in reach of the uses is not accepted because its key is another's, that other one matters too.
    """
    is_sound = (F.size("_reasons") == 0) | F.array_contains("_reasons", dedup.CONFLICT)
    in_reach = chosen(decided, uses, feed.event_time).drop("_use").dropDuplicates(list(SOURCE)).localCheckpoint()
    keys = in_reach.where(is_sound).select(feed.key).distinct()
    matters = F.col("_fate").isin(MADE, MOVED, RESTATED)
    of_keys = decided.join(keys, on=feed.key, how="left_semi").select(*decided.columns)
    others = of_keys.where(~matters).unionByName(in_reach.where(~matters)).dropDuplicates(list(SOURCE))
    return of_keys.where(matters), others


def decided(feed: Feed, judged: DataFrame, letters: DataFrame) -> DataFrame:
    """Judged records with `_outcome`, `_fate` and `_because`; `letters` are the dead letters of the bronze table."""
    letter = letters.where(F.col("source_table") == feed.topic.table.name).select(
        *(F.col(name).alias(own) for name, own in zip(rejected_records.PLACE, SOURCE, strict=True)),
        F.struct("status", "reasons", "resolution").alias("_letter"),
    )
    marked = judged.join(letter, on=list(SOURCE), how="left")
    status = F.col("_letter.status")
    is_refused = F.coalesce(status.isin(OPEN, DISCARDED), F.lit(False))
    in_play = marked.where(~is_refused & (F.size("_reasons") == 0))
    nothing = frames.of_rows(judged.sparkSession, [], feed.table.schema)
    outcome = judging.decide(feed, in_play, nothing, from_start=True)
    made = outcome.where(F.col(dedup.NEW)).select(F.col(feed.key).alias("_made"), _place().alias("_maker"))
    refused = marked.where(is_refused | (F.size("_reasons") > 0)).withColumn("_outcome", F.lit(dedup.REJECTED))
    both = outcome.unionByName(refused, allowMissingColumns=True)
    told = both.join(made, on=F.col(feed.key) == F.col("_made"), how="left")
    is_conflict = F.array_contains(F.coalesce("_letter.reasons", "_reasons"), dedup.CONFLICT)
    of_letter = F.concat_ws(", ", F.coalesce("_letter.reasons", "_reasons"))
    refusal = F.concat_ws(
        "; ",
        F.when(is_conflict, F.concat(of_letter, F.lit(" with "), F.col("_maker"))).otherwise(of_letter),
        F.when(status.isNotNull(), F.lower(status)),
        F.col("_letter.resolution"),
    )
    accepted = F.col("_outcome") == dedup.ACCEPTED
    fate = (
        F.when(F.col("_outcome") == dedup.REJECTED, REFUSED)
        .when(F.col("_outcome") == dedup.DUPLICATE, REPEATED)
        .when(accepted & F.col(dedup.NEW), MADE)
        .otherwise(RESTATED if feed.restates else MOVED)
    )
    because = (
        F.when(F.col("_outcome") == dedup.REJECTED, refusal)
        .when(F.col("_outcome") == dedup.DUPLICATE, F.concat(F.lit("of "), F.col("_maker")))
        .when(
            status.isNotNull(), F.concat(F.lit("after it was refused; "), F.coalesce("_letter.resolution", F.lit("")))
        )
    )
    return told.withColumns({"_fate": fate, "_because": because}).drop("_letter", "_made", "_maker")


def _place() -> Column:
    return F.concat_ws("/", *(F.col(name).cast("string") for name in PLACE))


def listed(feed: Feed, records: DataFrame, bronze: DataFrame) -> DataFrame:
    """Decided records, with the payloads that bronze holds: SCHEMA."""
    places = rejected_records.placed(records, F.col(feed.key).alias("key"), "_fate", "_because")
    rows = bronze.select(*rejected_records.PLACE, "raw_payload").join(
        places, on=list(rejected_records.PLACE), how="inner"
    )
    return rows.select(
        F.lit(feed.topic.table.name).alias("table"),
        F.col("_kafka_topic").alias("source"),
        F.col("_kafka_partition").alias("partition"),
        F.col("_kafka_offset").alias("position"),
        F.col("_ingested_at").alias("arrived"),
        "key",
        F.col("_fate").alias("fate"),
        F.col("_because").alias("because"),
        F.col("raw_payload").alias("payload"),
    )


def of_members(dimension: Dimension, log: DataFrame) -> DataFrame:
    """Records of the change log, each as far as today's rules take it: SCHEMA."""
    judged = with_reasons(log, dimension)
    is_good = F.size("_reasons") == 0
    return judged.select(
        F.lit("bronze.raw_reference").alias("table"),
        "source",
        F.col("_kafka_partition").alias("partition"),
        F.coalesce("_kafka_offset", "_source_row").alias("position"),
        F.col("_ingested_at").alias("arrived"),
        F.concat(F.lit(f"{dimension.name} "), "natural_key").alias("key"),
        F.when(is_good, F.concat(F.lit("states the member as of "), F.col("effective_date").cast("string")))
        .otherwise(REFUSED)
        .alias("fate"),
        F.when(~is_good, F.concat_ws(", ", "_reasons")).alias("because"),
        F.col("raw_payload").alias("payload"),
    )
