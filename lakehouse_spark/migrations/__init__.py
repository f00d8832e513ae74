"""Schema migrations: modules `V001__what_it_does.py` with `OPERATIONS`, applied once each, in order.

A new lakehouse is made from the declarations and recorded with all versions at once; an older one is given what is
pending, operation by operation. All of it is safe to run again from any point: a crash between an operation and its
record repeats that one, which is then found done.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable
from datetime import datetime

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.migrations import ledger
from lakehouse_spark.migrations.migration import Migration
from lakehouse_spark.migrations.run import Run, apply, refuse_what_breaks
from lakehouse_spark.settings import Settings

__all__ = ["apply", "migrate", "migrations", "no_tables", "pending", "require_current"]

_TRIES = 5
_LOST_RACE = ("UncheckedSQLException", "AlreadyExistsException", "CommitFailedException", "already exists")
"""How catalogs say that someone else made it first; SQLite's raises the first even for its own, new tables."""


def migrations() -> list[Migration]:
    """All migrations of this release in the order of their versions, which leave out no number."""
    found: list[Migration] = []
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        match = re.fullmatch(r"(V\d{3})__(\w+)", module)
        if not match:
            continue
        due = f"V{len(found) + 1:03}"
        if match[1] != due:
            raise ValueError(f"migrations: {module} is where {due} is due, each number names one file")
        loaded = importlib.import_module(f"{__name__}.{module}")
        before, agreed = getattr(loaded, "CHECKSUMS_BEFORE", ()), getattr(loaded, "AGREED", None)
        found.append(Migration(match[1], match[2].replace("_", " "), loaded.OPERATIONS, before, agreed))
    return found


def pending(spark: SparkSession) -> list[Migration]:
    """The migrations this lakehouse has not had, in order; all of them for a new one. Writes nothing.

    Raises RefusedError like `migrate`.
    """
    known = migrations()
    found = ledger.read(spark, known)
    if found is None:
        return known
    refuse_what_breaks(spark, found, known)
    return found.pending(known)


def require_current(spark: SparkSession, settings: Settings) -> None:
    """For who is about to use the tables: runs no query where this release, or a later one, migrated last.

    Raises UsageError where there is no lakehouse, and RefusedError of one that is older or newer than this release.
    """
    known = migrations()
    found = ledger.read(spark, known)
    if found is None:
        raise no_tables(settings)
    if todo := found.pending(known):
        raise RefusedError(
            f"the lakehouse is older than this release, whose {todo[0].version} ({todo[0].description}) it has not had",
            "Run: lakehouse migrate",
        )


def no_tables(settings: Settings) -> UsageError:
    """What to say where tables are missing."""
    return UsageError(
        f"tables are missing in {settings.warehouse}: run `lakehouse migrate` first, or name the right lakehouse in "
        "LAKEHOUSE_HOME"
    )


def migrate(
    spark: SparkSession, settings: Settings, now: datetime, *, say: Callable[[str], None] = lambda sentence: None
) -> list[Migration]:
    """Makes a new lakehouse, or gives an older one what is pending; returns what this run completed.

    With nothing pending it writes nothing. Of runs at the same time, one does the work and the others wait for it; any
    number may make a new lakehouse. Raises RefusedError, before anything is changed, where a migration is not allowed
    (`schema.policy`) or not to be had here (`ledger.read`).
    """
    run = Run(spark, settings, now, say, migrations())
    for tries_left in reversed(range(_TRIES)):
        try:
            run.bring_up()
            break
        except (PySparkException, Py4JJavaError) as error:
            if not tries_left or not any(sign in str(error) for sign in _LOST_RACE):
                raise
    return run.done
