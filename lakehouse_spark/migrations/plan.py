"""What migrating would do to a lakehouse, and what drifted in it: from the catalog and the ledger, without Spark."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyiceberg.table.metadata import TableMetadataUtil

from lakehouse_spark import migrations
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.iceberg import embedded, found, metadata, rows
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.metadata.schema_migrations import TABLE as LEDGER
from lakehouse_spark.migrations import ledger
from lakehouse_spark.migrations.ledger import Ledger
from lakehouse_spark.migrations.migration import Migration, Operation, Step
from lakehouse_spark.migrations.run import major_after, refusals
from lakehouse_spark.schema.drift import Drift, drift
from lakehouse_spark.schema.policy import readers
from lakehouse_spark.settings import Settings
from lakehouse_spark.transforms.quality import RULES_VERSION

Left = Sequence[tuple[Migration, Sequence[Operation]]]
"""Migrations with those of their operations that are left to do."""


@dataclass(frozen=True)
class Change:
    """One operation of a migration that is pending."""

    version: str
    sentence: str
    kind: str
    """additive, breaking, or work, which changes rows and no table's shape."""
    readers: tuple[str, ...]
    """The tables that are built from the one that changes."""
    rewrites_rows: bool = False
    """Whether it takes more than a commit of metadata."""


@dataclass(frozen=True)
class Derivation:
    """A table that its next job derives whole, since its rows were made by older rules than this release has."""

    table: str
    rules: int
    rows: int


@dataclass(frozen=True)
class Plan:
    """Of one lakehouse as it is now."""

    is_new: bool
    """Whether there is nothing yet: then all tables would be made as they are declared."""
    pending: tuple[Migration, ...] = ()
    changes: tuple[Change, ...] = ()
    major: int = 1
    """The version that the tables have by then, which the next breaking change raises."""
    refused: tuple[str, ...] = ()
    """Why migrating would be refused, and what to do instead."""
    derivations: tuple[Derivation, ...] = ()
    drifts: tuple[Drift, ...] = ()
    """What would still differ from the declarations once all that is pending was applied."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "new": self.is_new,
            "pending": [
                {
                    "version": migration.version,
                    "description": migration.description,
                    "operations": [asdict(change) for change in self.changes if change.version == migration.version],
                }
                for migration in self.pending
            ],
            "refused": list(self.refused),
            "derived_whole": [asdict(derivation) for derivation in self.derivations],
            "drift": [each.as_dict() for each in self.drifts],
        }


def ledger_of(held: Metadata | None, known: Sequence[Migration]) -> Ledger | None:
    """How far a lakehouse is, by the metadata of its ledger; raises and returns None like `ledger.read`."""
    if held is None or held.state is None:
        return None
    batches = rows.batches(held, held.data_files, ("version", "checksum", "operation_index", "major"))
    return ledger.at(held.state, known, lambda: [row for batch in batches for row in batch.to_pylist()])


def take(settings: Settings) -> Plan:
    """The plan of the lakehouse that the settings name; writes nothing.

    Raises RefusedError where the ledger holds what this release does not know.
    """
    known = migrations.migrations()
    try:
        held = metadata.read(settings, TABLES)
    except embedded.MissingError:
        return Plan(is_new=True)
    place = ledger_of(held.get(LEDGER.name), known)
    if place is None:  # its start was interrupted
        return Plan(is_new=True)
    pending = place.pending(known)
    left = [(migration, migration.operations[place.done_of(migration) :]) for migration in pending]
    tables = {name: found.of(TableMetadataUtil.parse_obj({**each.said})) for name, each in held.items()}
    refused = list(refusals(place, known, tables))
    drifts = (drift(table, tables.get(table.name)) for table in TABLES)
    return Plan(
        is_new=False,
        pending=tuple(pending),
        changes=tuple(_changes(left)),
        major=major_after(place.major, pending),
        refused=tuple(refused),
        derivations=tuple(_derivations(held.values())),
        drifts=tuple(each for each in drifts if each.sentences),
    )


def _changes(left: Left) -> Iterator[Change]:
    for migration, operations in left:
        for operation in operations:
            if isinstance(operation, Step):
                yield Change(migration.version, operation.sentence, "work", (), rewrites_rows=True)
            else:
                kind = "breaking" if operation.is_breaking else "additive"
                yield Change(migration.version, operation.sentence, kind, readers(operation.table, TABLES))


def _derivations(held: Iterable[Metadata]) -> Iterator[Derivation]:
    for each in held:
        if each.table.follows and each.cursor is not None and each.cursor.rules < RULES_VERSION:
            yield Derivation(each.table.name, each.cursor.rules, each.total("records"))
