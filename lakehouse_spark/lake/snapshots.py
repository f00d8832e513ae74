"""What a table holds as of one of its snapshots: its state, its rows, its sizes; reads, and writes nothing."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.lake.cursor import CURSOR, Cursor, UpstreamCursor, from_json, from_text
from lakehouse_spark.table import Table
from lakehouse_spark.transforms.quality import RULES_VERSION

Shape = TypeVar("Shape", bound=Cursor)

Condition = tuple[str, str, str | date | datetime]
"""A column, a comparison (one of =, >, >=, <=), and what the column is compared with."""

_COMPARISONS = {"=": "equal", ">": "greaterThan", ">=": "greaterThanOrEqual", "<=": "lessThanOrEqual"}


@dataclass(frozen=True)
class State:
    """A table as its author read it: the snapshot, the newest cursor and the newest stamp behind it."""

    snapshot_id: int
    cursor: Cursor | None
    stamp: datetime | None

    def cursor_as(self, shape: type[Shape]) -> Shape | None:
        """The cursor, which has to be of this shape, if there is one."""
        if self.cursor is None or isinstance(self.cursor, shape):
            return self.cursor
        raise LakehouseError(
            f"snapshot {self.snapshot_id}: expected a {shape.__name__}, found the cursor {self.cursor.to_json()}; "
            "another program wrote it. Roll the table back to the snapshot before"
        )

    @property
    def is_lost(self) -> bool:
        """Whether there are rows, and no cursor that says what they were made from."""
        return self.cursor is None and self.stamp is not None

    @property
    def rules(self) -> int | None:
        """The version of the rules by which the rows were made; None without a cursor."""
        return None if self.cursor is None else self.cursor.rules

    @property
    def is_outdated(self) -> bool:
        """Whether older rules than today's made the rows, so that the table has to be derived whole."""
        return self.rules is not None and self.rules < RULES_VERSION

    @property
    def rules_moved(self) -> str:
        """The versions of the rules, then and now, as a user reads them."""
        return f"rules {self.rules} → {RULES_VERSION}"

    def next_stamp(self, now: datetime) -> datetime:
        """The time, or a microsecond after the last stamp where the clock runs behind it."""
        return now if self.stamp is None else max(now, self.stamp + timedelta(microseconds=1))


def state(spark: SparkSession, table: Table) -> State:
    """The table's current snapshot with the newest surviving cursor.

    Where no snapshot with a cursor survives, the cursor is None and the stamp is read from the rows; it is None where
    these have none.
    """
    return state_of(spark, table, load(spark, table))


def state_of(spark: SparkSession, table: Table, iceberg: Any, head: Any = None) -> State:
    """The same of a table that was loaded, as of its snapshot `head` (None: the current one)."""
    head = head or iceberg.currentSnapshot()
    written = newest_cursor(iceberg, head)
    if written is not None:
        cursor = from_json(written)
        return State(head.snapshotId(), cursor, cursor.stamp)
    is_empty = head.summary().get("total-records") == "0"
    stamp = None if is_empty or not table.stamp else newest(at(spark, table, head.snapshotId()), table.stamp)
    return State(head.snapshotId(), None, stamp)


def as_of(spark: SparkSession, table: Table, stamp: datetime, place: datetime | None = None) -> State | None:
    """The table as the newest commit up to a stamp left it; of a table that follows another, of those that consumed no
    more of that than up to `place`. None where that snapshot is gone."""
    iceberg = load(spark, table)
    for snapshot in ancestors(iceberg, iceberg.currentSnapshot()):
        written = snapshot.summary().get(CURSOR)
        cursor = None if written is None else from_json(written)
        is_further = place is not None and isinstance(cursor, UpstreamCursor) and (cursor.upto or place) > place
        if cursor is not None and cursor.stamp <= stamp and not is_further:
            return State(snapshot.snapshotId(), cursor, cursor.stamp)
    return None


def cursor_on(snapshot: Any) -> Cursor | None:
    """The cursor that a snapshot carries itself."""
    written = snapshot.summary().get(CURSOR)
    return None if written is None else from_json(written)


def newest_cursor(iceberg: Any, head: Any) -> str | None:
    """The newest cursor on a snapshot or its ancestors, as it is written there."""
    found = (snapshot.summary().get(CURSOR) for snapshot in ancestors(iceberg, head))
    return next((written for written in found if written is not None), None)


def newest(rows: DataFrame, column: str) -> datetime | None:
    """The latest instant of a column, None without any."""
    found = rows.agg(F.date_format(F.max(column), "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX")).first()
    return from_text(found[0] if found else None)


def added_records(spark: SparkSession, table: Table, committed: State) -> int:
    """How many rows a commit added, as Iceberg counted them."""
    summary = load(spark, table).snapshot(committed.snapshot_id).summary()
    return int(summary.get("added-records") or 0)


def row_count(spark: SparkSession, table: Table) -> int:
    """The table's rows, as the current snapshot's summary tells; they are counted where there are deletes."""
    head = load(spark, table).currentSnapshot()
    summary = {} if head is None else head.summary()
    if int(summary.get("total-delete-files") or 0):
        return spark.table(table.identifier).count()
    return int(summary.get("total-records") or 0)


def has_files(spark: SparkSession, table: Table, upto: State, *conditions: Condition) -> bool:
    """Whether any file that was there when `upto` was read may hold a row of all `conditions`; runs no query.

    By the manifests alone: exact where they are of what the table is partitioned by, and files leave with their last
    row; else a file that holds none may answer too.
    """
    scan = load(spark, table).newScan().useSnapshot(upto.snapshot_id)
    for column, comparison, value in conditions:
        literal = value if isinstance(value, str) else value.isoformat()
        scan = scan.filter(getattr(expressions(spark), _COMPARISONS[comparison])(column, literal))
    with closing(scan.planFiles()) as files:
        return bool(files.iterator().hasNext())


def later_than(column: str, after: datetime | None) -> tuple[Condition, ...]:
    """That an instant is later (None: any is), for `has_files`."""
    return () if after is None else ((column, ">", after),)


SMALL_FILES = {
    # What opening a file counts for, in bytes of reading. By Iceberg's own four megabytes a task takes four small
    # files, and a task costs more than these.
    "file-open-cost": str(256 * 1024),
    # For how many rows there is room as a file is opened: most files of a batch have fewer than Iceberg's 5,000.
    "batch-size": "1024",
}
"""How tables are read of which a batch leaves many of them."""


def at(spark: SparkSession, table: Table, snapshot_id: int) -> DataFrame:
    """The table's rows as of one snapshot."""
    return spark.read.options(versionAsOf=str(snapshot_id), **SMALL_FILES).table(table.identifier)


def changes(spark: SparkSession, table: Table, upto: State, after: datetime | None) -> DataFrame:
    """Rows stamped later than `after` (None: all) that were there when `upto` was read; files prune by the stamp."""
    rows = at(spark, table, upto.snapshot_id)
    return rows if after is None else rows.where(F.col(str(table.stamp)) > F.lit(after))


def expressions(spark: SparkSession) -> Any:
    """Iceberg's class of expressions."""
    return getattr(spark._jvm, "org.apache.iceberg.expressions.Expressions")


def each(iterable: Any) -> Iterator[Any]:
    """What an Iterable of Java's holds.

    Never by Python's own `for`, nor by str, list or min of it: these learn of its end by an exception of Java's, which
    takes tens of milliseconds to come across.
    """
    iterator = iterable.iterator()
    while iterator.hasNext():
        yield iterator.next()


def ancestors(iceberg: Any, snapshot: Any) -> Iterator[Any]:
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parentId()
        snapshot = None if parent is None else iceberg.snapshot(parent)


def load(spark: SparkSession, table: Table) -> Any:
    """The table through Iceberg's own API, as the catalog holds it now."""
    # As one name: each dot would be a question to the JVM, and this one is asked a lot.
    spark3_util = getattr(spark._jvm, "org.apache.iceberg.spark.Spark3Util")
    return spark3_util.loadIcebergTable(spark._jsparkSession, table.identifier)
