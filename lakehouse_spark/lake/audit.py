"""What a commit is checked for before it is published: the rows it writes, how much of the table it changes, and what
the table answers as it would be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.catalog import BY_NAME, DIMENSIONS, TABLES
from lakehouse_spark.errors import UsageError, in_a_sentence
from lakehouse_spark.lake import frames
from lakehouse_spark.lake.commit import NOTHING, Broken, Checked
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.lake.snapshots import as_of, load
from lakehouse_spark.settings import AuditSettings
from lakehouse_spark.table import Table

CHANGES = "changes_are_few"
"""The check of how much a commit changes of what was there."""
_BROKEN = "broken "
"""What the names of the measures begin with."""
_STAGED = "staged"
_DIMENSIONS = {dimension.table for dimension in DIMENSIONS.values()}
"""Which members are inferred in while they are looked up, so that they are read as they are."""
_NAMED = re.compile(r"\{([^{}]*)\}")
"""Where a query names the table as it would be, or a source of it."""


@dataclass(frozen=True)
class Verdict:
    """On a commit: what it is `checked` for, and may be held back; and what a user reads of checks that it breaks, and
    is published all the same, which is known once it is."""

    checked: Checked
    warnings: list[str]


@dataclass(frozen=True)
class Audit:
    """Of one table, for one commit: `checks` are conditions in SQL on a row, by their name, and `queries` answer with
    what breaks them."""

    table: Table
    checks: Mapping[str, str] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
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
        warnings: list[str] = []

        def held(broken: Broken) -> Broken:
            if self.is_enforced or not broken:
                return broken
            said = ", ".join(f"{name} ({number:,})" for name, number in broken.items())
            warnings.append(f"published although it breaks {said}")
            return NOTHING

        look = (lambda staged, cursor: held(self._answers(spark, staged, cursor))) if self.queries else None
        return Verdict(Checked(held(broken), look), warnings)

    def answer(self, spark: SparkSession, name: str, staged: str, cursor: Cursor | None) -> DataFrame:
        """A query's answer, where the table reads as `staged`, and its sources as the cursor consumed them."""
        sql = _NAMED.sub(partial(self._named, spark, staged, cursor), self.queries[name])
        return spark.sql(f"SELECT * FROM ({sql}\n)")  # so that nothing but a query is one

    def _answers(self, spark: SparkSession, staged: str, cursor: Cursor) -> Broken:
        counted = {name: self.answer(spark, name, staged, cursor).count() for name in self.queries}
        return {name: rows for name, rows in counted.items() if rows}

    def _named(self, spark: SparkSession, staged: str, cursor: Cursor | None, found: re.Match[str]) -> str:
        name = found[1]
        if name == _STAGED:
            return staged
        if name not in self.table.sources:
            sources = ", ".join(self.table.sources)
            raise UsageError(f"{{{name}}} is no source of {self.table.name}, whose sources are: {sources}")
        source = BY_NAME[name]
        stamp = cursor.consumed(name) if cursor and source not in _DIMENSIONS else None
        consumed = as_of(spark, source, stamp) if stamp else None
        return f"{source.identifier} VERSION AS OF {consumed.snapshot_id}" if consumed else source.identifier


def of(spark: SparkSession, settings: AuditSettings | None, table: Table) -> Audit:
    """What a commit to the table is checked for; of no settings, and where they say so, nothing.

    Raises UsageError where the settings name a table or column that is not there, or a check that is no condition.
    """
    if settings is None:
        return Audit(table)
    if unknown := {*settings.tables} - {each.name for each in TABLES if each.checks}:
        raise UsageError(f"LAKEHOUSE_AUDIT__TABLES: nothing is checked of {', '.join(sorted(unknown))}")
    own = settings.tables.get(table.name)
    mode = own.mode if own and own.mode else settings.mode
    if mode == "off":
        return Audit(table)
    if own is None:
        return Audit(table, table.all_checks, is_enforced=mode == "enforce")
    if taken := ({*own.checks, *own.queries} & {CHANGES, *table.all_checks}) or {*own.checks} & {*own.queries}:
        raise UsageError(f"LAKEHOUSE_AUDIT__TABLES: {table.name} has a check {min(taken)} of its own")
    for name, sql in own.checks.items():
        _require_condition(spark, table, name, sql)
    checked = Audit(table, {**table.all_checks, **own.checks}, own.queries, own.most_changed, mode == "enforce")
    for name in own.queries:
        _require_query(spark, checked, name)
    return checked


def _require_query(spark: SparkSession, checked: Audit, name: str) -> None:
    try:
        checked.answer(spark, name, checked.table.identifier, None)
    except (PySparkException, UsageError) as error:
        why = in_a_sentence(error).split(";", maxsplit=1)[0]
        raise UsageError(
            f"LAKEHOUSE_AUDIT__TABLES: query {name} of {checked.table.name} has no answer: {why}"
        ) from None


def _require_condition(spark: SparkSession, table: Table, name: str, sql: str) -> None:
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
