"""Small files into large ones, sorted as declared, with their deletes folded in; checked before they are current."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.iceberg.live_files import EPOCH
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.pruning import midnight
from lakehouse_spark.maintenance.health import Partition, Term
from lakehouse_spark.maintenance.plan import Compaction, Group
from lakehouse_spark.table import CATALOG, Policy, Table, transformed

_MOST_PARTITIONS = 100
_MOST_BYTES = 8 * 1024**3
"""Of one commit: what is done of a long compaction stays done, whatever comes after."""


def carry_out(
    spark: SparkSession, table: Table, policy: Policy, action: Compaction, *, concurrent: int
) -> commit.Rewritten:
    """Rewrites the files of the action's partitions, a commit for as many as fit into one.

    Raises LakehouseError, with the old files still current, where what was written does not hold the same rows.
    """
    sequences: tuple[int, ...] = ()
    given_up = 0
    for group in _in_commits(action.groups):

        def stage(branch: str, group: Group = group) -> None:
            _rewrite(spark, table, policy, group, branch, concurrent)

        def check(start: int, branch: str, group: Group = group) -> None:
            _check(spark, table, group, start, branch)

        done = commit.rewrite(spark, table, stage, check)
        sequences, given_up = sequences + done.sequences, given_up + done.given_up
    if any(partition.deletes for group in action.groups for partition in group.partitions):
        _actions(spark).removeDanglingDeleteFiles(snapshots.load(spark, table)).execute()
    return commit.Rewritten(sequences, given_up)


def _in_commits(groups: Sequence[Group]) -> Iterator[Group]:
    for group in groups:
        chosen: list[Partition] = []
        for partition in group.partitions:
            size = sum(each.bytes for each in chosen) + partition.bytes
            if chosen and (len(chosen) == _MOST_PARTITIONS or size > _MOST_BYTES):
                yield replace(group, partitions=tuple(chosen))
                chosen = []
            chosen.append(partition)
        yield replace(group, partitions=tuple(chosen))


def _rewrite(spark: SparkSession, table: Table, policy: Policy, group: Group, branch: str, concurrent: int) -> None:
    iceberg = snapshots.load(spark, table)
    options = {
        "target-file-size-bytes": policy.target_file_bytes,
        "min-input-files": policy.min_input_files,
        "max-concurrent-file-group-rewrites": concurrent,
        "delete-file-threshold": 1,
        "rewrite-all": str(group.is_of_older_spec).lower(),
    }
    action = _actions(spark).rewriteDataFiles(iceberg).toBranch(branch).filter(_selection(spark, table, group))
    for name, value in options.items():
        action = action.option(name, str(value))
    action = action.sort() if iceberg.sortOrder().isSorted() else action.binPack()
    action.execute()


def _actions(spark: SparkSession) -> Any:
    return getattr(spark._jvm, "org.apache.iceberg.spark.actions.SparkActions").get(spark._jsparkSession)


def _selection(spark: SparkSession, table: Table, group: Group) -> Any:
    """The group's partitions as an expression of Iceberg's."""
    expressions = snapshots.expressions(spark)

    def both(one: Any, other: Any) -> Any:
        return getattr(expressions, "and")(one, other)

    def either(one: Any, other: Any) -> Any:
        return getattr(expressions, "or")(one, other)

    whole = expressions.alwaysTrue()
    partitions = (
        reduce(both, (_iceberg_term(expressions, term) for term in partition.terms), whole)
        for partition in group.partitions
    )
    chosen = reduce(either, partitions)
    if group.arrived is not None:
        first, last = _bounds(group)
        chosen = both(chosen, expressions.greaterThanOrEqual(table.stamp, first.isoformat()))
        chosen = both(chosen, expressions.lessThan(table.stamp, last.isoformat()))
    return chosen


def _iceberg_term(expressions: Any, term: Term) -> Any:
    transform, name, value = term
    if value is None:
        return expressions.isNull(name)
    kind, _, width = transform.rstrip("]").partition("[")
    if kind == "identity":
        return expressions.equal(name, value)
    of_column = getattr(expressions, kind)(name, int(width)) if width else getattr(expressions, kind)(name)
    return expressions.equal(of_column, value)


def _check(spark: SparkSession, table: Table, group: Group, start: int, branch: str) -> None:
    """That the branch holds the rows that were there, in files that are there, and the cursor."""
    iceberg = snapshots.load(spark, table)
    head = iceberg.snapshot(branch)
    before, after = (
        _contents(snapshots.at(spark, table, snapshot).where(_predicate(table, group)))
        for snapshot in (start, head.snapshotId())
    )
    if before != after:
        raise _differs(table, branch, f"rows and their hash were {before}, and are {after}")
    for snapshot in snapshots.ancestors(iceberg, head):
        if snapshot.snapshotId() == start:
            break
        for file in snapshots.each(snapshot.addedDataFiles(iceberg.io())):
            found = iceberg.io().newInputFile(file.location())
            if not found.exists() or found.getLength() != file.fileSizeInBytes():
                raise _differs(table, branch, f"{file.location()} is not there, or not whole")
    cursors = [snapshots.newest_cursor(iceberg, iceberg.snapshot(start)), snapshots.newest_cursor(iceberg, head)]
    if cursors[0] != cursors[1]:
        raise _differs(table, branch, "the cursor is another one")


def _differs(table: Table, branch: str, how: str) -> LakehouseError:
    return LakehouseError(
        f"{table.name}: what compaction wrote is not what was there: {how}. The table is as it was; what was written "
        f"stays on the branch {branch}"
    )


def _contents(rows: DataFrame) -> tuple[int, int, int]:
    """How many rows, and two sums over the hashes of all, whatever their order."""
    hashed = F.xxhash64(*(_hashable(field) for field in rows.schema))
    found = rows.select(hashed.alias("hash")).agg(
        F.count("*"), F.coalesce(F.bit_xor("hash"), F.lit(0)), F.coalesce(F.sum(F.col("hash") % 1_000_003), F.lit(0))
    )
    number, xor, total = found.collect()[0]
    return int(number), int(xor), int(total)


def _hashable(field: T.StructField) -> Column:
    column = F.col(f"`{field.name}`")
    return F.array_sort(F.map_entries(column)) if isinstance(field.dataType, T.MapType) else column


def _predicate(table: Table, group: Group) -> Column:
    """The group's rows, by what Spark prunes partitions with."""
    chosen = reduce(or_, (_where(partition) for partition in group.partitions))
    if group.arrived is not None:
        first, last = _bounds(group)
        stamp = F.col(str(table.stamp))
        chosen &= (stamp >= F.lit(first)) & (stamp < F.lit(last))
    return chosen


def _where(partition: Partition) -> Column:
    found = F.lit(True)
    for term in partition.terms:
        found &= _spark_term(term)
    return found


def _spark_term(term: Term) -> Column:
    transform, name, value = term
    column = F.col(f"`{name}`")
    if value is None:
        return column.isNull()
    if transform == "identity":
        return column == F.lit(value)
    if transform == "day" and isinstance(value, int):
        day = EPOCH + timedelta(days=value)
        return (column >= F.lit(day)) & (column < F.lit(day + timedelta(days=1)))
    return F.expr(f"{CATALOG}.system.{transformed(transform, f'`{name}`')}") == F.lit(value)


def _bounds(group: Group) -> tuple[datetime, datetime]:
    assert group.arrived is not None
    return midnight(group.arrived), midnight(group.arrived + timedelta(days=1))
