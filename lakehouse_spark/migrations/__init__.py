"""Schema migrations: modules `V001__what_it_does.py` with `OPERATIONS`, applied once each, in order.

A new lakehouse is made from the declarations and recorded with all versions at once; an older one is given what is
pending. All of it is safe to run again from any point: a crash between two steps, or before a record, repeats them.
"""

import importlib
import pkgutil
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakehouse_spark import catalog
from lakehouse_spark.errors import RefusedError
from lakehouse_spark.lake import alter, commit, snapshots
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.metadata.schema_migrations import TABLE
from lakehouse_spark.migrations import baseline
from lakehouse_spark.migrations.migration import Migration, Operation, Step
from lakehouse_spark.schema.operations import AddColumn
from lakehouse_spark.settings import Settings

_TRIES = 5
_LOST_RACE = ("UncheckedSQLException", "AlreadyExistsException", "CommitFailedException", "already exists")
"""How catalogs say that someone else made it first; SQLite's raises the first even for its own, new tables."""


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
        before = getattr(loaded, "CHECKSUMS_BEFORE", ())
        found.append(Migration(match[1], match[2].replace("_", " "), loaded.OPERATIONS, before))
    return found


def pending(spark: SparkSession) -> list[Migration]:
    """The migrations this lakehouse has not had, in order; all of them for a new one. Writes nothing.

    Raises RefusedError where an applied migration was edited since, or is unknown to this release.
    """
    return unrecorded(_recorded(spark))


def unrecorded(recorded: Mapping[str, str]) -> list[Migration]:
    """The migrations that are pending where these are recorded, by version with their checksums; as `pending`."""
    known = {migration.version: migration for migration in migrations()}
    for version, checksum in sorted(recorded.items()):
        if version not in known:
            raise RefusedError(
                f"{TABLE.name}: {version} was applied here and is unknown to this release (newest: {max(known)})",
                "Run the release that applied it, or a later one.",
            )
        if not known[version].is_recorded_as(checksum):
            raise RefusedError(
                f"{TABLE.name}: {version} was edited after it was applied here (checksum {checksum[:12]}, now "
                f"{known[version].checksum[:12]})",
                "Restore the file and write the change as a new migration.",
            )
    return [migration for migration in known.values() if migration.version not in recorded]


def migrate(spark: SparkSession, settings: Settings, now: datetime) -> list[Migration]:
    """Makes a new lakehouse, or gives an older one what is pending; returns what this run recorded.

    With nothing pending it writes nothing. Any number of runners may do so at once. One that loses a race to create
    something finds it made on its next try.
    """
    done: list[Migration] = []
    for tries_left in reversed(range(_TRIES)):
        try:
            _bring_up(spark, settings, now, done)
            break
        except (PySparkException, Py4JJavaError) as error:
            if not tries_left or not any(sign in str(error) for sign in _LOST_RACE):
                raise
    return done


def apply(spark: SparkSession, operations: Sequence[Operation]) -> None:
    """Carries the operations out in their order; what was done before is found done."""
    for operation in operations:
        if isinstance(operation, Step):
            operation.run(spark)
        else:
            alter.carry_out(spark, operation)


def _bring_up(spark: SparkSession, settings: Settings, now: datetime, done: list[Migration]) -> None:
    """Does what is left to do, and adds to `done` what it records."""
    todo = pending(spark)
    if todo == migrations():
        _create(spark, settings, now, done)
        todo = pending(spark)
    for migration in todo:
        apply(spark, migration.operations)
        done += _record(spark, [migration], now)


def _create(spark: SparkSession, settings: Settings, now: datetime, done: list[Migration]) -> None:
    was_begun = spark.catalog.tableExists(TABLE.identifier)
    baseline.create_tables(spark)
    if was_begun:  # maybe by an earlier release, whose tables lack what was declared since
        lacking = {t.name for t in catalog.TABLES if spark.table(t.identifier).schema != t.schema}
        alterations = [o for m in migrations() for o in m.operations if isinstance(o, AddColumn)]
        apply(spark, [alteration for alteration in alterations if alteration.table in lacking])
    baseline.fill(spark, settings, now)
    done += _record(spark, migrations(), now, is_baseline=True)


def _recorded(spark: SparkSession) -> Mapping[str, str]:
    """Checksum by version; none of a lakehouse that is new, or whose start was interrupted."""
    if not spark.catalog.tableExists(TABLE.identifier):
        return {}
    return {row["version"]: row["checksum"] for row in spark.table(TABLE.identifier).collect()}


def _record(
    spark: SparkSession, applied: Sequence[Migration], now: datetime, *, is_baseline: bool = False
) -> list[Migration]:
    """Records the migrations in one commit and returns those that no other runner had recorded before.

    A baseline is recorded whole, or, where anything is recorded already, not at all: that runner knows what it applied.
    """
    recorded: list[Migration] = []

    def attempt() -> None:
        nonlocal recorded
        base = snapshots.state(spark, TABLE)
        held = {row["version"] for row in snapshots.at(spark, TABLE, base.snapshot_id).select("version").collect()}
        recorded = [m for m in applied if m.version not in held and not (is_baseline and held)]
        if not recorded:
            return
        stamp = base.next_stamp(now)
        rows = [(m.version, m.description, m.checksum, stamp) for m in recorded]
        cursor = Cursor(stamp=stamp, notes={"versions": [m.version for m in recorded]})
        commit.append(spark, TABLE, spark.createDataFrame(rows, TABLE.schema).coalesce(1), base, cursor)

    commit.again_if_overtaken(attempt)
    return recorded
