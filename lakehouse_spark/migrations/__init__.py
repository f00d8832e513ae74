"""Schema migrations: modules `V001__what_it_does.py` with `apply(spark, settings, now)`, run once each, in order.

Each must be safe to run again from any point: a crash between its steps, or before it is recorded, repeats it.
"""

import hashlib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.errors import RefusedError
from lakehouse_spark.lake import commit
from lakehouse_spark.metadata.schema_migrations import TABLE
from lakehouse_spark.migrations.seeds import write_once
from lakehouse_spark.schema import ddl
from lakehouse_spark.settings import Settings

_TRIES = 5
_LOST_RACE = ("UncheckedSQLException", "AlreadyExistsException", "CommitFailedException")
"""How catalogs say that someone else made it first; SQLite's raises the first even for its own, new tables."""


@dataclass(frozen=True)
class Migration:
    """`version` and `description` from the file's name, `checksum` the SHA-256 of its source."""

    version: str
    description: str
    checksum: str
    apply: Callable[[SparkSession, Settings, datetime], None]


def migrations() -> list[Migration]:
    """All migrations of this release in the order of their versions."""
    found: list[Migration] = []
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        match = re.fullmatch(r"(V\d{3})__(\w+)", module)
        if not match:
            continue
        if found and found[-1].version == match[1]:
            raise ValueError(f"migrations: {match[1]} names two files, {module} is one of them")
        loaded = importlib.import_module(f"{__name__}.{module}")
        checksum = hashlib.sha256(inspect.getsource(loaded).encode()).hexdigest()
        found.append(Migration(match[1], match[2].replace("_", " "), checksum, loaded.apply))
    return found


def pending(spark: SparkSession) -> list[Migration]:
    """The migrations this lakehouse has not had, in order; writes nothing.

    Raises RefusedError where an applied migration was edited since, or is unknown to this release.
    """
    known = {migration.version: migration for migration in migrations()}
    applied = _applied(spark)
    for version, checksum in sorted(applied.items()):
        if version not in known:
            raise RefusedError(
                f"{TABLE.name}: {version} was applied here and is unknown to this release (newest: {max(known)}); "
                "run the release that applied it, or a later one"
            )
        if known[version].checksum != checksum:
            raise RefusedError(
                f"{TABLE.name}: {version} was edited after it was applied here (checksum {checksum[:12]}, now "
                f"{known[version].checksum[:12]}); restore the file and write the change as a new migration"
            )
    return [migration for migration in known.values() if migration.version not in applied]


def migrate(spark: SparkSession, settings: Settings, now: datetime) -> list[Migration]:
    """Apply what is pending and return what this run recorded; with nothing pending, write nothing.

    Any number of runners may do so at once. One that loses a race to create something finds it made on its next try.
    """
    done: list[Migration] = []
    for tries_left in reversed(range(_TRIES)):
        try:
            _apply_pending(spark, settings, now, done)
            break
        except (PySparkException, Py4JJavaError) as error:
            if not tries_left or not any(sign in str(error) for sign in _LOST_RACE):
                raise
    return done


def _apply_pending(spark: SparkSession, settings: Settings, now: datetime, done: list[Migration]) -> None:
    """Apply each pending migration and add it to `done` once recorded."""
    todo = pending(spark)
    if not todo:
        return
    for statement in (ddl.create_namespace(TABLE.namespace), *ddl.create_table(TABLE)):
        spark.sql(statement)
    commit.open_table(spark, TABLE)
    for migration in todo:
        migration.apply(spark, settings, now)
        if _record(spark, migration, now):
            done.append(migration)


def _applied(spark: SparkSession) -> dict[str, str]:
    """Checksum by version."""
    if not spark.catalog.tableExists(TABLE.identifier):
        return {}
    return {row["version"]: row["checksum"] for row in spark.table(TABLE.identifier).collect()}


def _record(spark: SparkSession, migration: Migration, now: datetime) -> bool:
    """Record the migration at a stamp after every earlier one; False where another runner already did."""
    row = (migration.version, migration.description, migration.checksum, now)
    last = spark.table(TABLE.identifier).agg(F.max("applied_at").alias("last"))
    after_last = F.greatest(F.col("applied_at"), F.col("last") + F.expr("INTERVAL 1 MICROSECOND"))
    rows = spark.createDataFrame([row], TABLE.schema).crossJoin(last).withColumn("applied_at", after_last).drop("last")
    return write_once(rows, TABLE, F.col("version") == migration.version)
