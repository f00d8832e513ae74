"""What a commit is checked for before it is published: the rows it writes, and how much of the table it changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.errors import UsageError, in_a_sentence
from lakehouse_spark.lake import frames
from lakehouse_spark.lake.commit import NOTHING, Broken
from lakehouse_spark.lake.snapshots import load
from lakehouse_spark.settings import AuditSettings
from lakehouse_spark.table import Table

CHANGES = "changes_are_few"
"""The check of how much a commit changes of what was there."""
_BROKEN = "broken "
"""What the names of the measures begin with."""


@dataclass(frozen=True)
class Verdict:
    """On a commit: the checks for which it is `held` back, and how many rows break each; else what a user reads of
    those that it breaks, and is published all the same."""

    held: Broken
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """Of one table, for one commit: `checks` are conditions in SQL on a row, by their name."""

    table: Table
    checks: Mapping[str, str]
    most_changed: float | None = None
    """The share of a table's rows that a commit may change or delete."""
    is_enforced: bool = True
    """Whether a commit that breaks a check is held back; else that is only told."""

    def measures(self, is_written: Column) -> dict[str, Column]:
        """Aggregates of rows with the table's columns but the stamp: how many of those written break each check."""
        return {_BROKEN + name: F.count_if(is_written & ~_holds(sql)) for name, sql in self.checks.items()}

    def verdict(self, spark: SparkSession, found: Mapping[str, Any], changed: int) -> Verdict:
        """What becomes of a commit; `found` are the measures, `changed` is how many rows it updates and deletes."""
        broken = {name: found[_BROKEN + name] for name in self.checks if found[_BROKEN + name]}
        if self.most_changed is not None and changed > self.most_changed * _rows(spark, self.table):
            broken[CHANGES] = changed
        if self.is_enforced or not broken:
            return Verdict(broken)
        said = ", ".join(f"{name} ({number:,})" for name, number in broken.items())
        return Verdict(NOTHING, (f"published although it breaks {said}",))


def of(spark: SparkSession, settings: AuditSettings | None, table: Table) -> Audit:
    """What a commit to the table is checked for; of no settings, and where they say so, nothing.

    Raises UsageError where the settings name a table or column that is not there, or a check that is no condition.
    """
    if settings is None:
        return Audit(table, {})
    if unknown := {*settings.tables} - {each.name for each in TABLES if each.checks}:
        raise UsageError(f"LAKEHOUSE_AUDIT__TABLES: nothing is checked of {', '.join(sorted(unknown))}")
    own = settings.tables.get(table.name)
    mode = own.mode if own and own.mode else settings.mode
    if mode == "off":
        return Audit(table, {})
    given = own.checks if own else {}
    for name, sql in given.items():
        _require_condition(spark, table, name, sql)
    return Audit(table, {**table.all_checks, **given}, own.most_changed if own else None, mode == "enforce")


def _require_condition(spark: SparkSession, table: Table, name: str, sql: str) -> None:
    if name == CHANGES or name in table.all_checks:
        raise UsageError(f"LAKEHOUSE_AUDIT__TABLES: {table.name} has a check {name} of its own")
    columns = T.StructType([each for each in table.columns if each.name != table.stamp])
    try:
        frames.of_rows(spark, [], columns).where(F.expr(sql)).agg(F.count_if(_holds(sql)))
    except PySparkException as error:
        why = in_a_sentence(error).split(";", maxsplit=1)[0]
        raise UsageError(
            f"LAKEHOUSE_AUDIT__TABLES: check {name} of {table.name} is no condition on a row: {why}"
        ) from None


@cache
def _holds(sql: str) -> Column:
    """As SQL's own constraints: NULL is not false."""
    return F.coalesce(F.expr(sql), F.lit(True))


def _rows(spark: SparkSession, table: Table) -> int:
    """As the current snapshot's summary tells."""
    summary = load(spark, table).currentSnapshot().summary()
    return int(summary.get("total-records") or 0) - int(summary.get("total-position-deletes") or 0)
