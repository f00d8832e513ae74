"""The way into the dead-letter table: a refused record is kept before anything else is written, and once."""

from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark import commit
from lakehouse_spark.batch import kept
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
