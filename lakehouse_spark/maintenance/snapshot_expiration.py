"""Snapshots that are no longer kept, always the oldest of the history, and branches that nobody waits for."""

from pyspark.sql import SparkSession

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.maintenance.plan import Expiry
from lakehouse_spark.table import Table


def carry_out(spark: SparkSession, table: Table, action: Expiry) -> None:
    """Drops the branches, then expires what the action names, with the files that no other snapshot has.

    Iceberg's core does it rather than its Spark procedure: on a history without branches it looks only at what expires
    and at the manifest lists of what stays, not at every live file.
    """
    iceberg = snapshots.load(spark, table)
    for branch, head in zip(action.branches, action.heads, strict=True):
        commit.drop(iceberg, branch, head)
    commit.forget(iceberg, action.loose)
    iceberg.refresh()
    before = snapshots.newest_cursor(iceberg, iceberg.currentSnapshot())
    cutoff = int(action.before_instant.timestamp() * 1000)
    iceberg.expireSnapshots().expireOlderThan(cutoff).retainLast(1).commit()
    iceberg.refresh()
    # Writers go on meanwhile: it may be a later one.
    if before is not None and snapshots.newest_cursor(iceberg, iceberg.currentSnapshot()) is None:
        raise LakehouseError(f"{table.name}: the newest cursor is gone with the snapshots that expired")
