"""Which tables have another schema than when someone last looked, and what has to be verified for it; without Spark."""

from collections.abc import Mapping
from dataclasses import dataclass

from lakehouse_spark.catalog import TABLES, with_downstream
from lakehouse_spark.iceberg import metadata
from lakehouse_spark.settings import Settings


@dataclass(frozen=True)
class SchemaChanges:
    """What a sensor acts on: `lakehouse verify` takes the names in `affected`, and `ids` is kept for the next look."""

    ids: Mapping[str, int]
    """Iceberg's id of each table's schema now."""
    changed: tuple[str, ...]
    """The tables whose schema is another one, or that came or went."""
    affected: tuple[str, ...]
    """These tables and all that are built from them, each after its sources."""


def since(settings: Settings, seen: Mapping[str, int]) -> SchemaChanges:
    """What changed since the ids were seen; metadata is read, no data. Raises MissingError where no lakehouse is."""
    ids = {name: found.schema_id for name, found in metadata.read(settings, TABLES).items()}
    changed = tuple(table.name for table in TABLES if ids.get(table.name) != seen.get(table.name))
    return SchemaChanges(ids, changed, with_downstream(changed))
