"""The way into the dead-letter table: a refused record is kept before anything else is written, and once."""

from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark import commit
from lakehouse_spark.batch import days_of, in_days, kept, settle, within_days
from lakehouse_spark.silver.rejected_records import PLACE, TABLE


def keep(
    spark: SparkSession, letters: DataFrame, source_table: str, after: datetime | None, upto: commit.State
) -> None:
    """Writes the letters, refused among rows of `source_table` stamped later than `after`, that are not there yet."""

    def write() -> None:
        base = commit.state(spark, TABLE)
        known = commit.at(spark, TABLE, base.snapshot_id).where(_of_batch(source_table, after))
        with kept(letters.join(known, on=list(TABLE.key), how="left_anti")) as missing:
            if missing.isEmpty():
                return
            stamp = base.next_stamp(datetime.now(UTC))
            cursor = {"source": source_table, "read": commit.to_text(upto.stamp), "stamp": commit.to_text(stamp)}
            stamped = missing.withColumn(str(TABLE.stamp), F.lit(stamp).cast("timestamp"))
            commit.append(spark, TABLE, stamped, base, cursor)

    commit.again_if_overtaken(write)


def _of_batch(source_table: str, after: datetime | None) -> Column:
    """The letters of the rows that a bronze table was given later than `after` (None: of all)."""
    since = F.lit(True) if after is None else F.col("_ingested_at") > F.lit(after)
    return (F.col("source_table") == source_table) & since


def withdraw(spark: SparkSession, accepted: DataFrame, source_table: str, after: datetime | None) -> None:
    """Closes the open letters of `accepted` records (PLACE), which bronze was given later than `after`.

    There are some where an earlier attempt at this batch refused them, under the rules of its time, and then died.
    """
    letters = spark.table(TABLE.identifier).where(_of_batch(source_table, after))
    close(spark, letters, accepted, "accepted by a later attempt")


def open_again(spark: SparkSession, refused: DataFrame, letters: DataFrame) -> None:
    """Brings `letters` up to a judgement by which their records are `refused`: new ones are added, closed ones open.

    Discarded ones stay closed. Those of records that are good now are for `close`, once their rows are written.
    """
    key = list(TABLE.key)

    def write() -> None:
        base = commit.state(spark, TABLE)
        known = letters.where(F.col("status") != "DISCARDED")
        held = known.join(refused.select(*key), on=key, how="left_semi")
        told = known.select(*key, F.col("attempts").alias("_attempts"))
        again = refused.join(told, on=key, how="left").withColumn("attempts", F.coalesce("_attempts", "attempts"))
        fresh = again.select(*(name for name in TABLE.column_names if name != TABLE.stamp))
        settle(spark, TABLE, fresh, held, base, {"judged": "again"}, bounds=in_days("_ingested_at"))

    commit.again_if_overtaken(write)


def close(spark: SparkSession, letters: DataFrame, accepted: DataFrame, resolution: str) -> None:
    """Marks the open ones among the letters of `accepted` records (PLACE) as REPLAYED, with how that came."""
    now = datetime.now(UTC)
    replayed = {"status": "REPLAYED", "resolution": resolution}
    good = letters.where(F.col("status") == "OPEN").join(accepted, on=list(PLACE), how="left_semi")
    closed = good.withColumns({name: F.lit(value) for name, value in replayed.items()})
    with kept(closed.withColumn("_resolved_at", F.lit(now).cast("timestamp"))) as rows:
        if not rows.isEmpty():
            resolve(spark, rows, now)


def resolve(spark: SparkSession, letters: DataFrame, now: datetime) -> None:
    """Writes the new fate of open letters; what others did to the dead-letter table meanwhile stands."""
    fate = ["status", "reasons", "resolution", "attempts", "rules_version", "_resolved_at"]
    days = days_of(letters, "_ingested_at")

    def attempt() -> None:
        base = commit.state(spark, TABLE)
        cursor = {"resolved": True, "stamp": commit.to_text(base.next_stamp(now))}
        bounds = within_days("_ingested_at", days)
        held = commit.at(spark, TABLE, base.snapshot_id).where(bounds(F.col) & (F.col("status") == "OPEN"))
        rows = letters.join(held.select(*TABLE.key), on=list(TABLE.key), how="left_semi")
        commit.merge(spark, TABLE, rows.select(*TABLE.column_names), base, cursor, bounds=bounds, updates=fate)

    commit.again_if_overtaken(attempt)
