"""What a new lakehouse starts with: the exchanges and the minutes of `dim_time`."""

from collections.abc import Iterable
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession

from lakehouse_spark.dim import dim_exchange, dim_time
from lakehouse_spark.ingest import reference_files
from lakehouse_spark.lake import change_log, dimension_members, snapshots
from lakehouse_spark.table import Table

EXCHANGES = Path("reference") / "exchanges.csv"


def write_once(rows: DataFrame, table: Table, where: Column) -> bool:
    """Write `rows`, all the rows of `table` that `where` selects, in one commit; False where there are some already.

    Of several writers at once exactly one writes: the commit is refused if rows of `where` came in after the check.
    """
    spark = rows.sparkSession
    base = snapshots.load(spark, table).currentSnapshot().snapshotId()
    if _holds(spark, table, where):
        return False
    try:
        (
            rows.writeTo(table.identifier)
            .option("isolation-level", "serializable")
            .option("validate-from-snapshot-id", str(base))
            .overwrite(where)
        )
    except (PySparkException, Py4JJavaError):
        if _holds(spark, table, where):
            return False
        raise
    return True


def seed_exchanges(spark: SparkSession, conf_dir: Path) -> None:
    """Enter the reference file's exchanges into the change log, once, and derive `dim_exchange` from it."""
    if change_log.is_empty(spark, dim_exchange.DIMENSION):
        reference_files.load(spark, dim_exchange.DIMENSION, [str(conf_dir / EXCHANGES)])
    dimension_members.apply(spark, dim_exchange.DIMENSION)


def seed_time(spark: SparkSession, years: Iterable[int]) -> None:
    """Fill the UTC years that `dim_time` lacks, one commit each."""
    for year in years:
        if _holds(spark, dim_time.TABLE, dim_time.within(year)):
            continue  # here too, because reading the trading calendar takes seconds
        start, end, step = dim_time.minutes_of(year)
        sessions = spark.createDataFrame(dim_time.sessions([year]), dim_time.SESSIONS)
        rows = dim_time.build(spark.range(start, end, step, numPartitions=1), sessions)
        write_once(rows, dim_time.TABLE, dim_time.within(year))


def _holds(spark: SparkSession, table: Table, where: Column) -> bool:
    return not spark.table(table.identifier).where(where).limit(1).isEmpty()
