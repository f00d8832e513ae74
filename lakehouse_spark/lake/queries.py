"""Fewer queries: rows that are computed once, and many counts in one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel


@contextmanager
def kept(rows: DataFrame) -> Iterator[DataFrame]:
    """The rows computed once, however often they are looked at, and whatever is written meanwhile.

    Not `persist`, whose plans hold the plans of all that they were made of: nested, they take longer to plan than to
    run. Away from this machine there are two copies, so that no lost executor ends the job.
    """
    is_local = (rows.sparkSession.sparkContext.master or "").startswith("local")
    kept = rows.localCheckpoint(
        eager=False, storageLevel=StorageLevel.MEMORY_AND_DISK if is_local else StorageLevel.MEMORY_AND_DISK_2
    )
    try:
        yield kept
    finally:
        kept._jdf.queryExecution().logical().rdd().unpersist(False)


def counts(frames: Mapping[str, DataFrame]) -> dict[str, int]:
    """The number of rows of each, by its name, in one query."""
    counted = [
        rows.agg(F.count("*").alias("rows")).select(F.lit(k).alias("name"), "rows") for k, rows in frames.items()
    ]
    return {row["name"]: row["rows"] for row in reduce(DataFrame.unionByName, counted).collect()} if counted else {}
