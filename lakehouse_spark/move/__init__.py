"""A lakehouse taken to another place: files are copied, metadata is written anew with paths that lead there, and the
tables are registered in the catalog of that place. No row is read, and the source stays as it is.

Snapshot ids stay, and with them cursors, branches, tags and what was known at a moment: jobs go on there where they
stood. Files come first, all of all tables, then metadata, and tables appear last: what is interrupted is run again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lakehouse_spark import catalog
from lakehouse_spark.errors import LakehouseError, RefusedError, in_a_sentence
from lakehouse_spark.iceberg import metadata
from lakehouse_spark.maintenance import journal
from lakehouse_spark.metadata import maintenance_log, schema_migrations
from lakehouse_spark.move import check, source, writing
from lakehouse_spark.move.files import Stores
from lakehouse_spark.move.relocation import Relocation
from lakehouse_spark.move.source import File, Held, side_by_side
from lakehouse_spark.move.target import Place, Target
from lakehouse_spark.settings import Settings

_AGAIN = "Run it again: what is there is not copied again"


@dataclass(frozen=True)
class TablePlan:
    """A table that is to be moved, and how much of it there is."""

    table: str
    snapshots: int
    files: int
    bytes: int
    is_there: bool
    """An earlier move left it as it is now."""


@dataclass(frozen=True)
class Plan:
    """What a move would do."""

    source: str
    target: str
    tables: tuple[TablePlan, ...]

    @property
    def files(self) -> int:
        return sum(table.files for table in self.tables)

    @property
    def bytes(self) -> int:
        return sum(table.bytes for table in self.tables)

    def as_dict(self) -> dict[str, Any]:
        tables = [
            {
                "table": each.table, "snapshots": each.snapshots, "files": each.files, "bytes": each.bytes,
                "is_there": each.is_there,
            }
            for each in self.tables
        ]  # fmt: skip
        return {
            "source": self.source, "target": self.target, "files": self.files, "bytes": self.bytes, "tables": tables
        }  # fmt: skip


@dataclass(frozen=True)
class Moved:
    """What a move did; the target holds what the plan says, which is verified."""

    plan: Plan
    copied: int
    """Files of which the target had no whole copy."""
    registered: int
    """Tables that appeared, or took the place of what an earlier move left."""

    def as_dict(self) -> dict[str, Any]:
        return {**self.plan.as_dict(), "copied": self.copied, "registered": self.registered, "verified": True}


@dataclass(frozen=True, eq=False)
class Move:
    """One lakehouse on its way to another place."""

    here: Settings
    there: Settings
    beside_writers: bool = False
    """For a backup: what others commit meanwhile is not in it."""
    by_size: bool = False
    """What is there with the same size is not read again."""

    def plan(self) -> Plan:
        """Raises RefusedError where a writer is at work, or the target holds what this move may not touch."""
        tables = self._read()
        return self._plan(tables, Target(self.there).look(tables))

    def run(self, say: Callable[[str], None]) -> Moved:
        """Moves, and verifies. Raises RefusedError like `plan`, and where a table was written to meanwhile: unless that
        was when they appeared, no table appears then."""
        try:
            return self._run(say)
        except LakehouseError:
            raise
        except Exception as error:
            raise LakehouseError(f"the move stopped: {in_a_sentence(error)}", _AGAIN) from error

    def _run(self, say: Callable[[str], None]) -> Moved:
        tables = self._read()
        target = Target(self.there)
        found = target.look(tables)
        plan = self._plan(tables, found)
        places = target.places(tables, found)
        say(f"copying {plan.files:,} files of {len(tables)} tables to {plan.target}")
        copied = self._copy(tables, places, _Tenths(plan.bytes, say))
        new = [each.table for each in plan.tables if not each.is_there]
        say("writing their metadata")
        written = {name: writing.write(tables[name], places[name]) for name in new}
        self._refuse_changes(tables, "no table appeared in the target")
        for name in sorted(new, key=_appears):
            target.register(name, written[name], found.get(name))
        say("comparing every snapshot there with what it was made of")
        check.compare(tables, target.held(), places)
        self._refuse_changes(tables, "the target holds it as it was before")
        return Moved(plan, copied, len(new))

    def _read(self) -> dict[str, Held]:
        tables = source.read(self.here)
        if not self.beside_writers:
            _refuse_writers(tables)
        return tables

    def _plan(self, tables: Mapping[str, Held], found: Mapping[str, Held]) -> Plan:
        def planned(table: Held) -> TablePlan:
            there, of = found.get(table.name), table.contents.files
            is_there = there is not None and there.file_name == table.file_name
            return TablePlan(table.name, len(table.snapshots), len(of), sum(file.size for file in of), is_there)

        plans = side_by_side(planned, (tables[name] for name in sorted(tables, key=_appears)))
        return Plan(self.here.warehouse, self.there.warehouse, tuple(plans))

    def _copy(self, tables: Mapping[str, Held], places: Mapping[str, Place], done: "_Tenths") -> int:
        moves = {name: Relocation(tables[name].place, places[name].location) for name in tables}
        stores = {name: Stores(tables[name].io, places[name].io, self.by_size) for name in tables}

        def carry(file: File) -> tuple[bool, int]:
            move, between = moves[file.table], stores[file.table]
            is_new = not file.names_files and between.carry(file.path, file.size, move(file.path))
            return is_new, file.size

        copied = 0
        for is_new, size in side_by_side(carry, (file for each in tables.values() for file in each.contents.files)):
            copied += is_new
            done.add(size)
        return copied

    def _refuse_changes(self, tables: Mapping[str, Held], so: str) -> None:
        if self.beside_writers:
            return
        now = {name: location for name, (_, location) in metadata.places(self.here).items()}
        changed = [name for name in {**tables, **now} if name not in tables or now.get(name) != tables[name].location]
        if changed:
            raise RefusedError(
                f"{', '.join(sorted(changed))} was written to while the lakehouse was being moved; {so}",
                f"Stop what writes. {_AGAIN}",
            )


@dataclass
class _Tenths:
    """Tells of each tenth of the bytes."""

    total: int
    say: Callable[[str], None]
    carried: int = 0

    def add(self, size: int) -> None:
        before, self.carried = self.carried, self.carried + size
        tenths = self.carried * 10 // max(self.total, 1)
        if tenths > before * 10 // max(self.total, 1):
            self.say(f"{tenths * 10} % of {self.total / 1e6:,.1f} MB are there")


def _refuse_writers(tables: Mapping[str, Held]) -> None:
    log = tables.get(maintenance_log.TABLE.name)
    if log is None:
        return
    known = metadata.Metadata(maintenance_log.TABLE, log.said, log.io)
    for holder in journal.of(known, journal.LEASES).holders(datetime.now(UTC)):
        what = "the lakehouse" if holder.table == journal.LAKEHOUSE else holder.table
        raise RefusedError(
            f"{holder.job} holds {what}, as run {holder.run_id}, until {holder.lease_until:%Y-%m-%d %H:%M:%S} UTC",
            "Let it end, or end live mode with: lakehouse live --drain",
        )


def _appears(name: str) -> tuple[int, str]:
    """The ledger appears first: to who migrates, a lakehouse without it is a new one, and its tables would be made."""
    if name == schema_migrations.TABLE.name:
        return -1, name
    order = [table.name for table in catalog.TABLES]
    return (order.index(name) if name in order else len(order)), name
