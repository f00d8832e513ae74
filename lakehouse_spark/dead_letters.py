"""The way into the dead-letter table: a refused record is kept before anything else is written, and once."""

from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark import commit
from lakehouse_spark.batch import in_days, kept, settle
from lakehouse_spark.silver.rejected_records import TABLE


def keep(
    spark: SparkSession, letters: DataFrame, source_table: str, after: datetime | None, upto: commit.State
) -> None:
    """Writes the letters, refused among rows of `source_table` stamped later than `after`, that are not there yet."""
    since = F.lit(True) if after is None else F.col("_ingested_at") > F.lit(after)

    def write() -> None:
        base = commit.state(spark, TABLE)
        known = commit.at(spark, TABLE, base.snapshot_id).where((F.col("source_table") == source_table) & since)
        with kept(letters.join(known, on=list(TABLE.key), how="left_anti")) as missing:
            if missing.isEmpty():
                return
            stamp = base.next_stamp(datetime.now(UTC))
            cursor = {"source": source_table, "upto": commit.to_text(upto.stamp), "stamp": commit.to_text(stamp)}
            stamped = missing.withColumn(str(TABLE.stamp), F.lit(stamp).cast("timestamp"))
            commit.append(spark, TABLE, stamped, base, cursor)

    commit.again_if_overtaken(write)


def judge_again(spark: SparkSession, refused: DataFrame, letters: DataFrame) -> None:
    """Brings a bronze table's letters up to a new judgement of all its records: `refused` are the letters of today.

    New ones are added, those that are refused no longer close as REPLAYED, and closed ones that are refused again open.
    Discarded ones stay closed.
    """
    key = list(TABLE.key)

    def write() -> None:
        base = commit.state(spark, TABLE)
        known = letters.where(F.col("status") != "DISCARDED")
        told = known.select(*key, F.col("attempts").alias("_attempts"))
        again = refused.join(told, on=key, how="left").withColumn("attempts", F.coalesce("_attempts", "attempts"))
        accepted = known.join(refused.select(*key), on=key, how="left_anti").withColumns(
            {
                "resolution": F.when(F.col("status") == "REPLAYED", F.col("resolution")).otherwise("rebuilt"),
                "_resolved_at": F.coalesce("_resolved_at", F.lit(datetime.now(UTC)).cast("timestamp")),
                "status": F.lit("REPLAYED"),
            }
        )
        names = [name for name in TABLE.column_names if name != TABLE.stamp]
        fresh = again.select(*names).unionByName(accepted.select(*names))
        settle(spark, TABLE, fresh, known, base, {"rebuilt": True}, bounds=in_days("_ingested_at"))

    commit.again_if_overtaken(write)
