"""The lakehouse that a move makes: where its tables will be, what is there already, and how they appear in it."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField

from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.iceberg import metadata, pyiceberg
from lakehouse_spark.iceberg.embedded import MissingError
from lakehouse_spark.maintenance.orphan_files import lies_in, resolved
from lakehouse_spark.move import source
from lakehouse_spark.move.source import Held
from lakehouse_spark.settings import Settings

_ANY = Schema(NestedField(1, "any", LongType(), required=False))


@dataclass(frozen=True)
class Place:
    """A table's location, and what writes there."""

    location: str
    io: FileIO


@dataclass(frozen=True, eq=False)
class Target:
    settings: Settings

    @cached_property
    def catalog(self) -> Catalog:
        """Made where it is an embedded one that is not there yet."""
        return pyiceberg.make_catalog(self.settings)

    def held(self) -> dict[str, Held]:
        """The tables that are there; makes nothing."""
        try:
            return source.of(metadata.places(self.settings))
        except MissingError:
            return {}

    def look(self, tables: Mapping[str, Held]) -> dict[str, Held]:
        """The tables that are there: of an earlier move of this lakehouse, and nobody has written to them since.

        Makes nothing. Raises RefusedError where there are others, and UsageError where the target is the source.
        """
        found = self.held()
        for name, there in found.items():
            _refuse_another(name, tables.get(name), there)
        if self.is_embedded:
            self._refuse_overlaps(tables, {name: self._place(name, found.get(name)) for name in tables})
        return found

    def places(self, tables: Mapping[str, Held], found: Mapping[str, Held]) -> dict[str, Place]:
        """By table, where it is to be; namespaces that are missing are made. Raises UsageError for the source's."""
        for name in dict.fromkeys(name.partition(".")[0] for name in tables):
            self.catalog.create_namespace_if_not_exists(name)
        places = {name: self._place(name, found.get(name)) for name in tables}
        self._refuse_overlaps(tables, places)
        return places

    @property
    def is_embedded(self) -> bool:
        return self.settings.catalog.type == "jdbc"

    def _place(self, name: str, found: Held | None) -> Place:
        if self.is_embedded:
            location = f"{self.settings.warehouse.rstrip('/')}/{name.replace('.', '/')}"
            return Place(found.place if found else location, pyiceberg.file_io(self.settings))
        if found is not None:
            return Place(found.place, found.io)
        assert isinstance(self.catalog, RestCatalog)
        # A table that is staged is not made: the server says where it would be, and lends its keys to the files.
        staged = self.catalog.create_table_transaction(name, _ANY)._table
        return Place(staged.location().rstrip("/"), staged.io)

    def _refuse_overlaps(self, tables: Mapping[str, Held], places: Mapping[str, Place]) -> None:
        for name, place in places.items():
            here, there = resolved(tables[name].place), resolved(place.location)
            overlap = lies_in(here, there) or lies_in(there, here)
            if overlap and (here.startswith("/") or _is_of_one_store(tables[name].io, place.io)):
                raise UsageError(
                    f"{name} would be moved to where it is, {place.location}",
                    "Name another place in LAKEHOUSE_TO_CATALOG__WAREHOUSE or LAKEHOUSE_TO_HOME",
                )

    def register(self, name: str, file: str, found: Held | None) -> None:
        """Makes a table appear as its metadata file says, in place of what an earlier move left, whose files stay."""
        if found is not None:
            self.catalog.drop_table(name)
        try:
            self.catalog.register_table(name, file)
        except Exception:  # the answer may be lost where the work was done
            if not self._is_registered(name, file):
                raise

    def _is_registered(self, name: str, file: str) -> bool:
        with suppress(Exception):
            return self.catalog.load_table(name).metadata_location == file
        return False


def _refuse_another(name: str, here: Held | None, there: Held) -> None:
    if here is not None and here.location == there.location:
        raise UsageError(
            f"source and target are the same lakehouse: both hold {name} at {here.place}",
            "Name another place in LAKEHOUSE_TO_…",
        )
    if here is None or here.uuid != there.uuid or not there.is_untouched:
        raise RefusedError(
            f"the target holds {name} already, at {there.place}: it is another table, or was written to since it was "
            "moved",
            "Name a place without tables of ours in LAKEHOUSE_TO_…",
        )
    if there.changed > here.changed:
        raise RefusedError(
            f"the target holds a later {name} than the source, at {there.place}",
            "To go back to an older one, name another place in LAKEHOUSE_TO_…",
        )


def _is_of_one_store(one: FileIO, other: FileIO) -> bool:
    """Two stores may have buckets of one name."""
    return one.properties.get("s3.endpoint") == other.properties.get("s3.endpoint")
