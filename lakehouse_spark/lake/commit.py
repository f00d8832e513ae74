"""The commit protocol, and the only writer of tables.

Every commit is staged on a branch of its own, grown from the very snapshot its author read, and then made current by
fast-forward. Iceberg refuses the fast-forward if anyone else's commit became current in between, so a commit is a
compare-and-swap whatever it holds: new rows, a MERGE, or only progress. Data and cursor become visible together.

A staged branch that its author could not finish (kill -9) is invisible to readers of the table and expires after a day.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.errors import LostRaceError
from lakehouse_spark.lake.cursor import CURSOR, Cursor
from lakehouse_spark.lake.pruning import Bounds
from lakehouse_spark.lake.snapshots import State, ancestors, load, state
from lakehouse_spark.table import Table
from lakehouse_spark.transforms.quality import RULES_VERSION

_BRANCH_AGE_MS = 24 * 60 * 60 * 1000
_ATTEMPTS = 5
_NOT_AHEAD = "Cannot fast-forward"
_CONF = f"spark.sql.iceberg.snapshot-property.{CURSOR}"


def open_table(spark: SparkSession, table: Table) -> None:
    """Gives a new table its first, empty snapshot, so that every commit has a base to compare with."""
    iceberg = load(spark, table)
    if iceberg.currentSnapshot() is None:
        iceberg.newAppend().commit()


def append(spark: SparkSession, table: Table, rows: DataFrame, base: State, cursor: Cursor) -> State:
    """Adds rows; raises LostRaceError, leaving the table as it was, if someone else committed since `base`."""
    cursor = _ruled(cursor)

    def write(branch: str) -> None:
        writer = rows.select(*table.column_names).writeTo(f"{table.identifier}.branch_{branch}")
        writer.option(f"snapshot-property.{CURSOR}", cursor.to_json()).option("fanout-enabled", "true").append()

    return _publish(spark, table, base, cursor, write)


def merge(
    spark: SparkSession,
    table: Table,
    rows: DataFrame,
    base: State,
    cursor: Cursor,
    *,
    bounds: Bounds,
    updates: Sequence[str],
    deletes: Column | None = None,
) -> State:
    """Updates the columns `updates` of rows held under the same key, deletes where `deletes` holds, inserts the rest.

    `bounds` makes a predicate of literals on the table's columns: only its partitions are looked at. `deletes` knows
    the rows as `source`. Raises LostRaceError like `append`.
    """
    cursor = _ruled(cursor)

    def write(branch: str) -> None:
        def target(name: str) -> Column:
            return F.col(f"branch_{branch}.{name}")

        on = bounds(target)
        for name in table.key:
            on &= target(name) == F.col(f"source.{name}")
        # Not SQL over a temporary view: a view looks its tables up anew, so that the MERGE would not find the rows
        # that are kept in memory, and would compute them again from what the tables hold by then.
        merging = rows.alias("source").mergeInto(f"{table.identifier}.branch_{branch}", on)
        if deletes is not None:
            merging = merging.whenMatched(deletes).delete()
        merging = merging.whenMatched().update({name: F.col(f"source.{name}") for name in updates})
        missing = merging.whenNotMatched() if deletes is None else merging.whenNotMatched(~deletes)
        merging = missing.insert({name: F.col(f"source.{name}") for name in table.column_names})
        with _summary(spark, cursor):
            merging.merge()

    return _publish(spark, table, base, cursor, write)


def advance(spark: SparkSession, table: Table, base: State, cursor: Cursor) -> State:
    """Moves the cursor and nothing else."""
    cursor = _ruled(cursor)
    return _publish(spark, table, base, cursor, lambda branch: _stage_progress(spark, table, branch, cursor))


def update(spark: SparkSession, table: Table, base: State, changes: Mapping[str, Column], where: Column) -> State:
    """Gives the columns of the rows of `where` the values of `changes`, and hands the cursor and every stamp on.

    For repairs: what is downstream does not notice. Raises LostRaceError like `append`.
    """

    def write(branch: str) -> None:
        one = spark.range(1).select(F.lit(1).alias("_one"))
        updating = one.mergeInto(f"{table.identifier}.branch_{branch}", where).whenMatched()
        with _summary(spark, base.cursor):
            updating.update(dict(changes)).merge()

    return _publish(spark, table, base, base.cursor, write)


def outdate(spark: SparkSession, table: Table) -> None:
    """Marks a table as made by the first rules, so that its job derives it whole; rows, stamps and place stay."""

    def attempt() -> None:
        base = state(spark, table)
        if base.cursor is None or base.rules == 1:
            return
        cursor = replace(base.cursor, rules=1)
        _publish(spark, table, base, cursor, lambda branch: _stage_progress(spark, table, branch, cursor))

    again_if_overtaken(attempt)


def adopt_schema(spark: SparkSession, table: Table) -> None:
    """Gives a table whose schema changed a snapshot of that schema, since rows as of a snapshot come with its own.

    Rows, cursor and stamps stay; with nothing changed since the current snapshot, nothing is committed.
    """

    def attempt() -> None:
        iceberg = load(spark, table)
        if iceberg.currentSnapshot().schemaId() == iceberg.schema().schemaId():
            return
        base = state(spark, table)
        _publish(spark, table, base, base.cursor, lambda branch: _stage_progress(spark, table, branch, base.cursor))

    again_if_overtaken(attempt)


def _stage_progress(spark: SparkSession, table: Table, branch: str, cursor: Cursor | None) -> None:
    staged = load(spark, table).newAppend()
    if cursor is not None:
        staged.set(CURSOR, cursor.to_json())
    staged.toBranch(branch).commit()


def _ruled(cursor: Cursor) -> Cursor:
    """The cursor with today's rules: whoever commits has made the table by them, or has derived it whole before."""
    return replace(cursor, rules=RULES_VERSION)


def again_if_overtaken(attempt: Callable[[], None]) -> None:
    """For work that is idempotent and shares its table with other jobs: reads, decides and commits anew."""
    for _ in range(_ATTEMPTS):
        try:
            return attempt()
        except LostRaceError:
            continue
    return attempt()


def _publish(
    spark: SparkSession, table: Table, base: State, cursor: Cursor | None, write: Callable[[str], None]
) -> State:
    """Stages on a branch grown from `base`, then fast-forwards; a compaction in between only costs another try."""
    for _ in range(_ATTEMPTS):
        iceberg = load(spark, table)
        start = _carried_over(iceberg, table, base)
        branch = f"commit_{uuid.uuid4().hex}"
        if not _branched(iceberg, branch, start):
            continue
        try:
            write(branch)
            iceberg.refresh()
            staged = iceberg.snapshot(branch).snapshotId()
            if _fast_forwarded(iceberg, branch, staged):
                return State(staged, cursor, cursor.stamp if cursor else base.stamp)
        except BaseException:
            _drop(iceberg, branch)
            raise
        _drop(iceberg, branch)
    raise LostRaceError(f"{table.name}: {_ATTEMPTS} attempts to commit were overtaken; run the job again")


def _branched(iceberg: Any, branch: str, start: int) -> bool:
    """Whether the branch is made; it is not if anything at all was committed to the table meanwhile."""
    try:
        iceberg.manageSnapshots().createBranch(branch, start).setMaxRefAgeMs(branch, _BRANCH_AGE_MS).commit()
    except (Py4JError, PySparkException) as error:
        if not _was_overtaken(error):
            raise
        return False
    return True


def _fast_forwarded(iceberg: Any, branch: str, staged: int) -> bool:
    """Whether the staged snapshot is now current; an answer lost on the way (502, a dropped line) is looked up.

    A change of the table that left `main` alone, such as another writer's branch, only costs another try.
    """
    for _ in range(_ATTEMPTS):
        try:
            iceberg.manageSnapshots().fastForwardBranch("main", branch).removeBranch(branch).commit()
        except (Py4JError, PySparkException) as error:
            iceberg.refresh()
            if any(snapshot.snapshotId() == staged for snapshot in ancestors(iceberg, iceberg.currentSnapshot())):
                return True
            if not _was_overtaken(error):
                raise
            if _NOT_AHEAD in str(error):
                return False
        else:
            return True
    return False


def _was_overtaken(error: Exception) -> bool:
    text = str(error)
    return any(sign in text for sign in (_NOT_AHEAD, "CommitFailedException", "metadata refresh is required"))


def _carried_over(iceberg: Any, table: Table, base: State) -> int:
    """The current snapshot, if nothing but compactions happened since `base`; else the race is lost."""
    head = iceberg.currentSnapshot()
    for snapshot in ancestors(iceberg, head):
        if snapshot.snapshotId() == base.snapshot_id:
            return int(head.snapshotId())
        if snapshot.operation() != "replace":
            break
    raise LostRaceError(
        f"{table.name}: another writer committed since snapshot {base.snapshot_id} was read. Nothing of this attempt "
        "was kept; the other writer's commit stands. Run the job again to go on from there."
    )


def _drop(iceberg: Any, branch: str) -> None:
    with suppress(Exception):
        iceberg.refresh()
        iceberg.manageSnapshots().removeBranch(branch).commit()


@contextmanager
def _summary(spark: SparkSession, cursor: Cursor | None) -> Iterator[None]:
    """MERGE takes no write options; the session hands its commit the cursor, if there is one."""
    if cursor is not None:
        spark.conf.set(_CONF, cursor.to_json())
    try:
        yield
    finally:
        spark.conf.unset(_CONF)
