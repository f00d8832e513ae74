"""A run of the migrations: it holds the ledger, carries out one operation after the other, and records each."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakehouse_spark import catalog
from lakehouse_spark.errors import LostRaceError, RefusedError, in_a_sentence
from lakehouse_spark.lake import alter, commit, snapshots
from lakehouse_spark.metadata.schema_migrations import TABLE
from lakehouse_spark.migrations import baseline, ledger
from lakehouse_spark.migrations.ledger import Ledger
from lakehouse_spark.migrations.migration import Migration, Operation, Step
from lakehouse_spark.schema import ddl, operations, policy
from lakehouse_spark.schema.drift import Found, after, drift
from lakehouse_spark.settings import Settings

_POLL_SECONDS = 0.5
"""Between two looks whether another run is done."""


def apply(spark: SparkSession, changes: Sequence[Operation]) -> None:
    """Carries the operations out in their order; what was done before is found done."""
    for operation in changes:
        if isinstance(operation, Step):
            operation.run(spark)
        else:
            alter.carry_out(spark, operation)


@dataclass
class Run:
    """A run of all that is pending; `done` are the migrations that it completed."""

    spark: SparkSession
    settings: Settings
    now: datetime
    say: Callable[[str], None]
    known: Sequence[Migration]
    done: list[Migration] = field(default_factory=list)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    is_waiting: bool = False

    def bring_up(self) -> None:
        found = self._read() or self._create()
        refuse_what_breaks(self.spark, found, self.known)
        try:
            while found.pending(self.known):
                if found.is_held_by_another(self.id):
                    self._say_that_it_waits()
                    time.sleep(_POLL_SECONDS)
                else:
                    with suppress(LostRaceError):  # another run was quicker: look again
                        self._take_next(found)
                found = self._reread()
        except BaseException:
            with suppress(Exception):
                if (found := self._reread()).run == self.id:
                    ledger.give_back(self.spark, found, self.known)
            raise

    def _say_that_it_waits(self) -> None:
        if not self.is_waiting:
            self.say("another run is at work on the migrations: waiting for it; had it died, for a minute")
        self.is_waiting = True

    def _read(self) -> Ledger | None:
        return ledger.read(self.spark, self.known)

    def _reread(self) -> Ledger:
        found = self._read()
        assert found is not None, "nobody takes the ledger away"
        return found

    def _create(self) -> Ledger:
        """A new lakehouse, of the declarations, recorded with all versions in one commit; or what another run made."""
        was_begun = any(self.spark.catalog.tableExists(table.identifier) for table in catalog.TABLES)
        baseline.create_tables(self.spark)
        if was_begun:  # maybe by an earlier release, whose tables lack what was declared since
            for table in catalog.TABLES:
                if self.spark.table(table.identifier).schema != table.schema:
                    changes = drift(table, _found(self.spark, table.name)).operations
                    apply(self.spark, [o for o in changes if not isinstance(o, operations.DropColumn)])
        baseline.fill(self.spark, self.settings, self.now)
        if was_begun:  # maybe filled by it too, by what it knew
            apply(self.spark, [o for migration in self.known for o in migration.operations if isinstance(o, Step)])

        def attempt() -> Ledger:
            state = snapshots.state(self.spark, TABLE)  # before the look: whoever records after it overtakes this
            if found := self._read():
                return found
            newest = self.known[-1]
            made = Ledger(state, newest.version, len(newest.operations), major_after(1, self.known))
            rows = [_row(migration, made.major) for migration in self.known]
            made = ledger.record(self.spark, made, self.known, rows, self.now)
            self.done += self.known
            return made

        return commit.again_if_overtaken(attempt)

    def _take_next(self, found: Ledger) -> None:
        """Carries out the next operation and records it, unless another run did meanwhile."""
        todo = found.pending(self.known)
        held = ledger.hold(self.spark, found, self.known, self.id)
        self._make_room(todo)
        migration, done = todo[0], held.done_of(todo[0])
        row = _row(migration, major_after(held.major, [migration]))
        is_whole = done + 1 >= len(migration.operations)
        if migration.operations:
            row |= self._carry_out(migration, done)
        newest = self._reread()
        if (newest.run, newest.version, newest.operations) != (self.id, held.version, held.operations):
            return
        done = min(done + 1, len(migration.operations))
        place = replace(newest, version=migration.version, operations=done, major=row["major"], begun=None)
        if is_whole and len(todo) == 1:
            place = replace(place, run=None, until=None)
        ledger.record(self.spark, place, self.known, [row], self.now)
        self.done += [migration] if is_whole else []

    def _make_room(self, todo: Sequence[Migration]) -> None:
        """The ledger's own columns come before all else, for what is done next is recorded in them."""
        if {*TABLE.column_names} - {*self.spark.table(TABLE.identifier).columns}:
            changes = (o for m in todo for o in m.operations if not isinstance(o, Step) and o.table == TABLE.name)
            alter.carry_out(self.spark, *changes)

    def _carry_out(self, migration: Migration, index: int) -> dict[str, Any]:
        """What there is to record of it."""
        operation = migration.operations[index]
        began, before = time.monotonic(), alter.place(self.spark, operation.table)
        apply(self.spark, [operation])
        if index + 1 == len(migration.operations) and migration.agreed:
            self._leave_views(migration, migration.agreed.major - 1)
        after = alter.place(self.spark, operation.table)
        return {
            "operation_index": index + 1,
            "operation": operation.sentence,
            "class": "breaking" if operation.is_breaking else "additive",
            "table_name": operation.table,
            "seconds": round(time.monotonic() - began, 3),
            "snapshot_before": before.snapshot_id, "snapshot_after": after.snapshot_id,
            "schema_before": before.schema_id, "schema_after": after.schema_id,
        }  # fmt: skip

    def _leave_views(self, migration: Migration, major: int) -> None:
        """For who reads by the names of before: a view per table with renamed columns, where the catalog has views."""
        changes = [operation for operation in migration.operations if not isinstance(operation, Step)]
        for table in dict.fromkeys(o.table for o in changes if isinstance(o, operations.RenameColumn)):
            name = f"{table}_v{major}"
            columns = self.spark.table(alter.named(table).identifier).columns
            try:
                self.spark.sql(ddl.view_of_before(name, table, columns, changes))
            except (PySparkException, Py4JJavaError) as error:
                self.say(f"{name}: there is no view with the names of before, {in_a_sentence(error)}")


def _row(migration: Migration, major: int) -> dict[str, Any]:
    return {
        "version": migration.version, "description": migration.description, "checksum": migration.checksum,
        "major": major,
    }  # fmt: skip


def major_after(before: int, applied: Sequence[Migration]) -> int:
    """The major version of a lakehouse after these migrations."""
    return max([before, *(migration.agreed.major for migration in applied if migration.agreed)])


def refuse_what_breaks(spark: SparkSession, found: Ledger, known: Sequence[Migration]) -> None:
    """Raises RefusedError where a migration that is not begun may not be carried out."""
    named = {o.table for m in found.pending(known) for o in m.operations if o.table is not None}
    held = {name: table for name in sorted(named) if (table := _found(spark, name))}
    for sentence in refusals(found, known, held):
        raise RefusedError(sentence)


def refusals(found: Ledger, known: Sequence[Migration], held: dict[str, Found]) -> Iterator[str]:
    """Why migrations may not be carried out, or cannot be, a sentence each.

    `held` are the tables, by name, and then what the rest of the operations makes of them. What was begun was allowed.
    """
    start, before = dict(held), list[operations.Operation]()
    major = found.major
    for migration in found.pending(known):
        begun, reasons = found.done_of(migration), list[str]()
        left = [o for o in migration.operations[begun:] if not isinstance(o, Step)]
        if not begun:
            reasons += policy.refusals(
                left, major=major, found=start, tables=catalog.TABLES, agreement=migration.agreed, before=before
            )
        for operation in left:
            try:
                held[operation.table] = after(held.get(operation.table), operation)
            except ValueError as error:
                reasons.append(str(error))
        if reasons:
            yield f"{migration.version} ({migration.description}): {'; '.join(reasons)}"
        before += left
        major = major_after(major, [migration])


def _found(spark: SparkSession, table: str) -> Found | None:
    """A table as the session's catalog holds it, None where it is missing."""
    from pyiceberg.table.metadata import TableMetadataUtil  # which nobody waits for who alters nothing

    from lakehouse_spark.iceberg.found import of

    if not spark.catalog.tableExists(alter.named(table).identifier):
        return None
    parser = getattr(spark._jvm, "org.apache.iceberg.TableMetadataParser")
    text = parser.toJson(snapshots.load(spark, alter.named(table)).operations().current())
    return of(TableMetadataUtil.parse_raw(text))
