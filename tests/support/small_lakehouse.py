"""A lakehouse of a ledger and one table, in the time of two tables, with migrations of its own.

As a program it migrates and kills itself with its JVM at the n-th point: `python -m tests.support.small_lakehouse
SETTINGS N`.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import migrations
from lakehouse_spark.lake import alter, commit, session
from lakehouse_spark.metadata.schema_migrations import TABLE as LEDGER
from lakehouse_spark.migrations import baseline, ledger, migrate
from lakehouse_spark.migrations.migration import Migration, Operation
from lakehouse_spark.schema import ddl
from lakehouse_spark.schema.operations import AddColumn, ColumnDefinition, CreateTable, RenameColumn
from lakehouse_spark.settings import Settings

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
THINGS = CreateTable(
    "test.things", "Things.", (ColumnDefinition("a", "bigint", "A"), ColumnDefinition("c", "int", "C"))
)
FIRST = Migration("V001", "first", ())
RENAMED = Migration(
    "V002",
    "a for b",
    (
        RenameColumn("test.things", "a", "b"),
        AddColumn("test.things", ColumnDefinition("a", "bigint", "Another A")),
        AddColumn("test.things", ColumnDefinition("d", "string", "D")),
    ),
)


def version(number: int, *operations: Operation, **more: Any) -> Migration:
    return Migration(f"V{number:03}", f"number {number}", operations, **more)


@contextmanager
def release(*known: Migration) -> Iterator[None]:
    """As long as a release has these migrations; a new lakehouse of it is the ledger and `test.things`."""

    def create(spark: SparkSession) -> None:
        for statement in (*ddl.create_namespaces(), *ddl.create_table(LEDGER)):
            spark.sql(statement)
        commit.open_table(spark, LEDGER)
        alter.carry_out(spark, THINGS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "migrations", lambda: list(known))
        patch.setattr(baseline, "create_tables", create)
        patch.setattr(baseline, "fill", lambda *_: None)
        yield


def make(spark: SparkSession) -> None:
    """The lakehouse with two rows, by a release that knows no change."""
    with release(FIRST):
        assert migrate(spark, Settings(), NOW) == [FIRST]
    spark.sql("INSERT INTO lake.test.things VALUES (1, 10), (2, 20)")


@contextmanager
def struck(at: int, strike: Callable[[], None]) -> Iterator[list[str]]:
    """Strikes at the n-th point: before and after each statement, snapshot and commit of a migration; names them."""
    passed: list[str] = []

    def point(name: str) -> None:
        passed.append(name)
        if len(passed) == at:
            strike()

    def wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*given: Any, **more: Any) -> Any:
            point(f"before {name}")
            done = function(*given, **more)
            point(f"after {name}")
            return done

        return around

    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (alter, "carry_out"), (commit, "adopt_schema"), (ledger, "hold"), (ledger, "record"),
            (commit, "branched"), (commit, "_fast_forwarded"),
        ):  # fmt: skip
            patch.setattr(module, name, wrapped(name, getattr(module, name)))
        yield passed


def main(settings: str, at: int) -> None:
    here = Settings.model_validate_json(settings)
    spark = session.open_session(here, "killed")
    ledger.LEASE = timedelta(seconds=1)
    with release(FIRST, RENAMED), struck(at, lambda: os.killpg(os.getpgrp(), signal.SIGKILL)):
        migrate(spark, here, NOW)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
