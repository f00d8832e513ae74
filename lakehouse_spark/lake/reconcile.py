"""From the rows a table holds to those it should: what differs, in one commit."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.lake import audit, commit
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.lake.pruning import Bounds, around, keys_of, time_set
from lakehouse_spark.lake.queries import measured
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.settings import AuditSettings
from lakehouse_spark.table import Table


@dataclass(frozen=True)
class Done:
    """What one table's run counted, the snapshot it committed, if any, and sentences a user should read of it."""

    counts: dict[str, int]
    snapshot_id: int | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """Checks that the commit breaks, which is published all the same."""


def differences(table: Table, fresh: DataFrame, held: DataFrame | None) -> DataFrame:
    """What turns `held` into `fresh`, rows of the same keys: grain one row per key that is new, changed or gone.

    The table's columns but the stamp, `_new` where no row was held, `_gone` where none is left (then as held), and
    `_was`, the row held.
    """
    columns = _typed(tuple(c for c in table.columns if c.name != table.stamp))
    row = F.struct(*columns)
    if held is None:  # nothing to join with, so nothing to shuffle
        no_row = F.when(F.lit(False), row)
        return fresh.select(*columns, F.lit(False).alias("_gone"), F.lit(True).alias("_new"), no_row.alias("_was"))
    ours, theirs = fresh.select(*table.key, row.alias("_fresh")), held.select(*table.key, row.alias("_held"))
    joined = ours.join(theirs, on=list(table.key), how="full").where(~F.col("_fresh").eqNullSafe(F.col("_held")))
    gone = F.col("_fresh").isNull()
    return joined.select(
        F.coalesce("_fresh", "_held").alias("_row"),
        gone.alias("_gone"),
        F.col("_held").isNull().alias("_new"),
        F.col("_held").alias("_was"),
    ).select("_row.*", "_gone", "_new", "_was")


@cache
def _typed(columns: tuple[T.StructField, ...]) -> tuple[Column, ...]:
    return tuple(F.col(c.name).cast(c.dataType.simpleString()).alias(c.name) for c in columns)


def measures() -> dict[str, Column]:
    """Aggregates of differences: how many rows are to be inserted, updated and deleted."""
    return {
        "inserted": F.count_if("_new"),
        "updated": F.count_if(~F.col("_new") & ~F.col("_gone")),
        "deleted": F.count_if("_gone"),
    }


def settle(
    spark: SparkSession,
    table: Table,
    fresh: DataFrame,
    held: DataFrame | None,
    base: State,
    cursor: Cursor,
    audits: AuditSettings | None = None,
) -> Done:
    """Turns the `held` rows of a table (None: no rows) into `fresh` ones in one commit that also moves the cursor.

    Rows carry the cursor's stamp; where it has no counts of its own, the rows are counted. Only rows that differ are
    written; where none does, the cursor alone moves; where that stands still too, nothing is
    committed, unless older rules made the rows. What is written is checked as the `audits` say (None: not at all).
    Raises LostRaceError and HeldError like `append`.
    """
    checked = audit.of(spark, audits, table)
    counted, checks = measures(), checked.measures(~F.col("_gone"))
    with measured(differences(table, fresh, held), **counted, **checks, times=_times(table)) as (rows, found):
        counts = {name: found[name] for name in counted}
        verdict = checked.verdict(spark, found.asDict(), counts["updated"] + counts["deleted"])
        consumed = base.cursor.place if base.cursor else None
        if not any(counts.values()) and cursor.place == consumed and not base.is_outdated:
            return Done(counts)
        cursor = replace(cursor, counts=cursor.counts or counts)
        stamped = rows.withColumn(str(table.stamp), F.lit(cursor.stamp).cast("timestamp"))
        if not any(counts.values()):
            state = commit.advance(spark, table, base, cursor)
        elif not counts["updated"] and not counts["deleted"]:
            state = commit.append(spark, table, stamped, base, cursor, verdict.checked)
        else:
            state = commit.merge(
                spark, table, stamped, base, cursor,
                bounds=_bounds(table, rows, found["times"]),
                updates=[name for name in table.column_names if name not in table.key],
                deletes=F.col("source._gone"),
                checked=verdict.checked,
            )  # fmt: skip
    notes = (f"{base.rules_moved}: derived whole",) if base.is_outdated else ()
    return Done(counts, state.snapshot_id, notes, tuple(verdict.warnings))


def _times(table: Table) -> Column:
    """The times of differing rows as they will be and as they are, as an aggregate: a row may move to another day."""
    day = table.day_column
    if day is None:
        return F.lit(None)
    return F.array_union(time_set(day), time_set(f"_was.{day}"))


def _bounds(table: Table, rows: DataFrame, times: Iterable[Any] | None) -> Bounds:
    """Literals that prune partitions and files to those of differing rows: their times, or their keys if they are
    few."""
    if table.day_column is not None:
        return around(table.day_column, times or ())
    key = table.key[0]
    found = keys_of(rows, key)
    return lambda column: F.lit(True) if found is None else column(key).isin(*found)
