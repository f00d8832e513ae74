"""The ledger of migrations: which operations a lakehouse has had, and which run is at work on the next one.

How far it is stands in its newest cursor too, so that asking runs no query; ledgers of earlier releases are read row by
row. A run holds the ledger by a lease, so that others wait. That no operation is recorded twice or out of order is due
to the commit protocol: a lease that runs out too early costs an operation done twice, which each of them bears.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.errors import RefusedError
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import Cursor, from_text, to_text
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.metadata.schema_migrations import TABLE
from lakehouse_spark.migrations.migration import Migration

LEASE = timedelta(minutes=1)
"""How long a run that says nothing more is waited for; one that is at work says so before each operation."""


@dataclass(frozen=True)
class Ledger:
    """How far a lakehouse is: of `version`, the newest that was begun, `operations` are done."""

    state: State
    version: str = ""
    operations: int = 0
    major: int = 1
    run: str | None = None
    """The run that is at work, and until when others wait for it."""
    until: datetime | None = None
    begun: str | None = None
    """A migration after `version` whose first operation may be done, and is not recorded."""

    def done_of(self, migration: Migration) -> int:
        """How many of a migration's operations are done."""
        if migration.version == self.version:
            return self.operations
        return len(migration.operations) if migration.version < self.version else 0

    def pending(self, known: Sequence[Migration]) -> list[Migration]:
        """The migrations that are not done, in order; of the first, some operations may be."""
        return [m for m in known if m.version > self.version or self.done_of(m) < len(m.operations)]

    def is_held_by_another(self, run: str) -> bool:
        return self.run not in (None, run) and self.until is not None and self.until > datetime.now(UTC)


def read(spark: SparkSession, known: Sequence[Migration]) -> Ledger | None:
    """How far the lakehouse is; None of one that is new, or whose start was interrupted.

    Raises RefusedError where what was applied is not what this release would have applied: a migration that is unknown
    here or was edited since, and one that is missing before another.
    """
    if not spark.catalog.tableExists(TABLE.identifier) or snapshots.load(spark, TABLE).currentSnapshot() is None:
        return None
    state = snapshots.state(spark, TABLE)
    return at(state, known, lambda: [row.asDict() for row in snapshots.at(spark, TABLE, state.snapshot_id).collect()])


def at(state: State, known: Sequence[Migration], rows: Callable[[], Sequence[Mapping[str, Any]]]) -> Ledger | None:
    """As `read`, of a ledger in this state; its rows are asked for only where the cursor does not tell."""
    said = state.cursor.notes if state.cursor else {}
    if "version" in said and said["history"] == _history(known, said["version"]):
        ledger = Ledger(state, said["version"], said["operations"], said["major"])
    elif (scanned := of_rows(state, rows(), known)) is not None:  # or a checksum of before, which counts as today's
        ledger = scanned
    else:
        return None
    begun = said.get("begun")
    if begun is not None and begun not in {migration.version for migration in known}:
        raise _unknown(begun, known, is_begun=True)
    return replace(ledger, run=said.get("run"), until=from_text(said.get("until")), begun=begun)


def hold(spark: SparkSession, ledger: Ledger, known: Sequence[Migration], run: str) -> Ledger:
    """The ledger, held by the run, which says what it begins: releases that do not know it keep away from then on.

    Raises LostRaceError where anything was committed to it since it was read.
    """
    now, following = datetime.now(UTC), ledger.pending(known)[0].version
    begun = None if following == ledger.version else following
    if (ledger.run, ledger.begun) == (run, begun) and ledger.until is not None and ledger.until - now > LEASE / 2:
        return ledger
    held = replace(ledger, run=run, until=now + LEASE, begun=begun)
    return replace(held, state=_advance(spark, held, known))


def give_back(spark: SparkSession, ledger: Ledger, known: Sequence[Migration]) -> None:
    """Lets other runs go on at once; raises LostRaceError like `hold`."""
    _advance(spark, replace(ledger, run=None, until=None), known)


def record(
    spark: SparkSession, ledger: Ledger, known: Sequence[Migration], rows: Sequence[Mapping[str, Any]], now: datetime
) -> Ledger:
    """Adds rows, with the place that they make; raises LostRaceError like `hold`."""
    stamp = ledger.state.next_stamp(now)
    stamped = [{**row, TABLE.stamp: stamp} for row in rows]
    cursor = Cursor(stamp=stamp, notes=_notes(ledger, known))
    return replace(ledger, state=commit.append(spark, TABLE, _frame(spark, stamped), ledger.state, cursor))


def _advance(spark: SparkSession, ledger: Ledger, known: Sequence[Migration]) -> State:
    stamp = ledger.state.stamp or datetime.now(UTC)  # no rows come, so it is still the newest one's
    return commit.advance(spark, TABLE, ledger.state, Cursor(stamp=stamp, notes=_notes(ledger, known)))


def _notes(ledger: Ledger, known: Sequence[Migration]) -> dict[str, Any]:
    place = {
        "version": ledger.version, "operations": ledger.operations, "major": ledger.major,
        "history": _history(known, ledger.version),
    }  # fmt: skip
    if ledger.begun is not None:
        place["begun"] = ledger.begun
    return place if ledger.run is None else {**place, "run": ledger.run, "until": to_text(ledger.until)}


def _history(known: Sequence[Migration], version: str) -> str | None:
    """A checksum of all migrations up to a version, whatever their number; None where that is unknown."""
    upto = [m for m in known if m.version <= version]
    if not upto or upto[-1].version != version:
        return None
    return hashlib.sha256(" ".join(f"{m.version} {m.checksum}" for m in upto).encode()).hexdigest()


def _frame(spark: SparkSession, rows: Sequence[Mapping[str, Any]]) -> DataFrame:
    """The rows in one file, made by the JVM alone: `createDataFrame` would start a Python beside it."""
    structs = [
        F.struct(*(F.lit(row.get(c.name)).cast(c.dataType).alias(c.name) for c in TABLE.columns)) for row in rows
    ]
    return spark.range(1, numPartitions=1).select(F.inline(F.array(*structs)))


def of_rows(state: State, rows: Sequence[Mapping[str, Any]], known: Sequence[Migration]) -> Ledger | None:
    """The ledger as its rows tell, of which one without an operation is of a whole version; raises like `read`."""
    recorded: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        recorded[row["version"]].append(row)
    if not recorded:
        return None
    by_version = {migration.version: migration for migration in known}
    done = {}
    for version, operations in sorted(recorded.items()):
        if version not in by_version:
            raise _unknown(version, known)
        migration = by_version[version]
        if edited := [o["checksum"] for o in operations if not migration.is_recorded_as(o["checksum"])]:
            raise RefusedError(
                f"{TABLE.name}: {version} was edited after it was applied here (checksum {edited[0][:12]}, now "
                f"{migration.checksum[:12]})",
                "Restore the file and write the change as a new migration.",
            )
        is_whole = any(o.get("operation_index") is None for o in operations)
        done[version] = len(migration.operations) if is_whole else len(operations)
    newest = max(done)
    for migration in known:
        if migration.version < newest and done.get(migration.version, -1) < len(migration.operations):
            raise RefusedError(
                f"{TABLE.name}: {migration.version} was not applied here, and {newest}, which comes after it, was",
                "Give the change the number after the newest migration.",
            )
    majors = [o.get("major") or 1 for operations in recorded.values() for o in operations]
    return Ledger(state, newest, done[newest], max(majors))


def _unknown(version: str, known: Sequence[Migration], *, is_begun: bool = False) -> RefusedError:
    was, did = ("begun", "began") if is_begun else ("applied", "applied")
    return RefusedError(
        f"{TABLE.name}: {version} was {was} here and is unknown to this release (newest: {known[-1].version})",
        f"Run the release that {did} it, or a later one.",
    )
