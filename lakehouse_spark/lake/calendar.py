"""`dim_time` grows by whole UTC years: each is written once, whoever asks for it at the same time."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import reduce

from pyspark.sql import DataFrame, SparkSession

from lakehouse_spark.dim import dim_time
from lakehouse_spark.lake import commit, frames, snapshots
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.transforms import market_hours


def fill(spark: SparkSession, years: Iterable[int]) -> None:
    """Appends the minutes of those UTC years that `dim_time` lacks, in one commit; with none to append, runs no query.

    A year of which any day is there counts as filled. The cursor holds the stamp, which no row carries, and the years.
    """
    wanted = sorted(set(years))

    def attempt() -> None:
        base = snapshots.state(spark, dim_time.TABLE)
        missing = [year for year in wanted if not _holds(spark, base, year)]
        if missing:
            cursor = Cursor(stamp=base.next_stamp(datetime.now(UTC)), notes={"years": missing})
            commit.append(spark, dim_time.TABLE, _minutes(spark, missing), base, cursor)

    commit.again_if_overtaken(attempt)


def _holds(spark: SparkSession, base: State, year: int) -> bool:
    first, last = dim_time.days_of(year)
    return snapshots.has_files(spark, dim_time.TABLE, base, ("date", ">=", first), ("date", "<=", last))


def _minutes(spark: SparkSession, years: Sequence[int]) -> DataFrame:
    """The years' rows; grain: one row per minute, one partition per year."""
    ranges = [dim_time.minutes_of(year) for year in years]
    minutes = [spark.range(start, end, step, numPartitions=1) for start, end, step in ranges]
    sessions = frames.of_rows(spark, market_hours.nyse_sessions(years), market_hours.NYSE_SESSIONS)
    return dim_time.build(reduce(DataFrame.union, minutes), sessions)
