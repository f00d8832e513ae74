"""SCD type 1: of every attribute of a member, the last statement stands; no history."""

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def latest(
    changes: DataFrame,
    *,
    key: str,
    columns: Sequence[str],
    order: Sequence[str],
    deleted: str = "is_deleted",
    stated: Mapping[str, Column] | None = None,
) -> DataFrame:
    """The last value of each of `columns`; grain: one row per `key` with at least one change that is no delete.

    `changes` is the whole change log of its keys, in any order and with any repeats. `order` names the columns that
    put a key's changes in order, the most significant first (effective date, sequence, arrival), NULL before any
    value. A delete states nothing, so the row stays. `stated` says per column whether a change speaks of it at all;
    without it every change does, and NULL is a value like any other.
    """
    living = changes.where(~F.coalesce(F.col(deleted), F.lit(False)))
    last = (last_stated(name, order, (stated or {}).get(name)).alias(name) for name in columns)
    return living.groupBy(key).agg(*last)


def last_stated(column: str, order: Sequence[str], stated: Column | None = None) -> Column:
    """The column's value in the last change that speaks of it, as an aggregate over a key's changes."""
    place = F.struct(*order)
    return F.max_by(column, place if stated is None else F.when(stated, place))
