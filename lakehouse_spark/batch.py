"""What the batches of all jobs share: rows computed once, literal bounds, and the step from held to fresh rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.storagelevel import StorageLevel

from lakehouse_spark import commit
from lakehouse_spark.table import Table

MOST_RANGES = 64
"""Literal ranges a predicate may hold; beyond that one range covers all."""

MOST_KEYS = 500
"""Literal keys a predicate may hold; beyond that the keys are joined."""


Days = Sequence[tuple[date, date]]
"""Inclusive ranges of days, in order."""


@dataclass(frozen=True)
class Done:
    """What one table's run counted, the snapshot it committed, if any, and sentences a user should read of it."""

    counts: dict[str, int]
    snapshot_id: int | None = None
    notes: tuple[str, ...] = ()


def days_of(rows: DataFrame, column: str) -> Days:
    """The days of the rows as ranges of consecutive days; one range where they are many."""
    return ranges(rows.agg(F.collect_set(F.to_date(column))).collect()[0][0])


def ranges(days: Iterable[date]) -> Days:
    """Days as ranges of consecutive ones; one range where they are many."""
    found: list[tuple[date, date]] = []
    for day in sorted(days):
        if found and day == found[-1][1] + timedelta(days=1):
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found if len(found) <= MOST_RANGES else [(found[0][0], found[-1][1])]


def within_days(name: str, days: Days) -> commit.Bounds:
    """The days as literals that prune partitions; for columns of instants and, named `…_date`, of dates."""

    def midnight(day: date) -> Column:
        return F.lit(day if name.endswith("_date") else datetime(day.year, day.month, day.day, tzinfo=UTC))

    def bounds(column: Callable[[str], Column]) -> Column:
        inside = F.lit(False)
        for low, high in days:
            inside |= (column(name) >= midnight(low)) & (column(name) < midnight(high + timedelta(days=1)))
        return inside

    return bounds


def day_predicate(name: str, days: Days) -> Column:
    return within_days(name, days)(F.col)


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


def keys_of(rows: DataFrame, key: str) -> list[str] | None:
    """The rows' keys where they are few enough to be written into a predicate, else None."""
    found = [row[0] for row in rows.select(key).distinct().limit(MOST_KEYS + 1).collect()]
    return found if len(found) <= MOST_KEYS else None


def of_keys(rows: DataFrame, key: str, keys: DataFrame, literal: Sequence[str] | None) -> DataFrame:
    """The rows of these keys; `literal`, where there is one, prunes files and partitions."""
    chosen = rows if literal is None else rows.where(F.col(key).isin(*literal))
    return chosen.join(keys.select(key).distinct(), on=key, how="left_semi")


def differences(table: Table, fresh: DataFrame, held: DataFrame | None) -> DataFrame:
    """What turns `held` into `fresh`, rows of the same keys: grain one row per key that is new, changed or gone.

    The table's columns but the stamp, `_new` where no row was held, `_gone` where none is left (then as held), and
    `_was`, the row held.
    """
    values = [c for c in table.columns if c.name != table.stamp]
    columns = [F.col(c.name).cast(c.dataType).alias(c.name) for c in values]
    if held is None:  # nothing to join with, so nothing to shuffle
        no_row = F.lit(None).cast(T.StructType(values))
        return fresh.select(*columns, F.lit(False).alias("_gone"), F.lit(True).alias("_new"), no_row.alias("_was"))
    row = F.struct(*columns)
    ours, theirs = fresh.select(*table.key, row.alias("_fresh")), held.select(*table.key, row.alias("_held"))
    joined = ours.join(theirs, on=list(table.key), how="full").where(~F.col("_fresh").eqNullSafe(F.col("_held")))
    gone = F.col("_fresh").isNull()
    return joined.select(
        F.coalesce("_fresh", "_held").alias("_row"),
        gone.alias("_gone"),
        F.col("_held").isNull().alias("_new"),
        F.col("_held").alias("_was"),
    ).select("_row.*", "_gone", "_new", "_was")


def settle(
    spark: SparkSession,
    table: Table,
    fresh: DataFrame,
    held: DataFrame | None,
    base: commit.State,
    cursor: Mapping[str, Any],
) -> Done:
    """Turns the `held` rows of a table (None: no rows) into `fresh` ones in one commit that also moves the cursor.

    Only rows that differ are written; where none does, the cursor alone moves; where that stands still too, nothing is
    committed, unless older rules made the rows. Raises LostRaceError like `append`.
    """
    names = ("inserted", "updated", "deleted")
    with kept(differences(table, fresh, held)) as rows:
        *numbers, days = rows.agg(
            F.count_if("_new"), F.count_if(~F.col("_new") & ~F.col("_gone")), F.count_if("_gone"), _days(table)
        ).collect()[0]
        counts = dict(zip(names, numbers, strict=True))
        stamp = commit.from_text(cursor.get("stamp")) or base.next_stamp(datetime.now(UTC))
        told = {"counts": counts, **cursor, "stamp": commit.to_text(stamp)}
        stamped = rows.withColumn(str(table.stamp), F.lit(stamp).cast("timestamp"))
        if not any(counts.values()) and _same_place(cursor, base.cursor) and not base.is_outdated:
            return Done(counts)
        if not any(counts.values()):
            state = commit.advance(spark, table, base, told)
        elif not counts["updated"] and not counts["deleted"]:
            state = commit.append(spark, table, stamped, base, told)
        else:
            state = commit.merge(
                spark, table, stamped, base, told,
                bounds=_bounds(table, rows, days),
                updates=[name for name in table.column_names if name not in table.key],
                deletes=F.col("source._gone"),
            )  # fmt: skip
    notes = (f"{base.rules_moved}: derived whole",) if base.is_outdated else ()
    return Done(counts, state.snapshot_id, notes)


def _days(table: Table) -> Column:
    """The days of differing rows as they will be and as they are, as an aggregate: a row may move to another day."""
    day = table.day_column
    if day is None:
        return F.lit(None)
    return F.array_union(*(F.collect_set(F.to_date(column)) for column in (day, f"_was.{day}")))


def _bounds(table: Table, rows: DataFrame, days: Iterable[date] | None) -> commit.Bounds:
    """Literals that prune the partitions to those of differing rows: their days, or their keys if they are few."""
    if table.day_column is not None:
        return within_days(table.day_column, ranges(days or ()))
    key = table.key[0]
    found = keys_of(rows, key)
    return lambda column: F.lit(True) if found is None else column(key).isin(*found)


def _same_place(cursor: Mapping[str, Any], last: Mapping[str, Any] | None) -> bool:
    return all(cursor.get(name) == (last or {}).get(name) for name in ("from", "to", "upto"))
