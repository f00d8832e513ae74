"""SCD type 3: the current value of an attribute, the one before it, and when it changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_spark.transforms.scd_type1 import last_stated


@dataclass(frozen=True)
class Pair:
    """An attribute of the change log and the three columns that it becomes."""

    column: str
    current: str
    previous: str
    changed_on: str


def latest(
    changes: DataFrame,
    *,
    key: str,
    pairs: Sequence[Pair],
    order: Sequence[str],
    columns: Sequence[str] = (),
    effective: str = "effective_date",
    deleted: str = "is_deleted",
    stated: Mapping[str, Column] | None = None,
) -> DataFrame:
    """Current, previous and change date of each pair, the last value of the other `columns`; one row per `key`.

    `changes` is the whole change log of its keys, in any order and with any repeats; `order` as in `scd_type1.latest`.
    Equal values that follow each other are one, and NULL says nothing. The change date is the `effective` date on
    which the current value began, NULL where it is the first one. A delete states nothing, so the row stays.
    """
    in_order = Window.partitionBy(key).orderBy(*order)
    before = in_order.rowsBetween(Window.unboundedPreceding, -1)
    place = F.struct(*order)
    living = changes.where(~F.coalesce(F.col(deleted), F.lit(False)))
    runs, found = {}, []
    for pair in pairs:
        value, previous = F.col(pair.column), F.last(pair.column, ignorenulls=True).over(before)
        starts = value.isNotNull() & ~value.eqNullSafe(previous)
        runs[f"_run_{pair.column}"] = F.when(
            starts, F.struct(value.alias("value"), previous.alias("previous"), F.col(effective).alias("since"))
        )
        found.append(F.max_by(f"_run_{pair.column}", F.when(F.col(f"_run_{pair.column}").isNotNull(), place)))
    last = (
        living.withColumns(runs)
        .groupBy(key)
        .agg(
            *(run.alias(f"_run_{pair.column}") for run, pair in zip(found, pairs, strict=True)),
            *(last_stated(name, order, (stated or {}).get(name)).alias(name) for name in columns),
        )
    )
    pair_columns: list[Column] = []
    for pair in pairs:
        run = F.col(f"_run_{pair.column}")
        changed_on = F.when(run["previous"].isNotNull(), run["since"])
        pair_columns += [
            run["value"].alias(pair.current),
            run["previous"].alias(pair.previous),
            changed_on.alias(pair.changed_on),
        ]
    return last.select(key, *pair_columns, *columns)
