"""Copies of all tables' metadata, which stand for a lakehouse of its own over the same files.

The copied tables read the lakehouse's files, and write theirs into a folder. Of the lakehouse's, Iceberg deletes none:
expiry is off (`gc.enabled`), and the metadata files of before, which it drops in time, are not in a copy's history.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRef, SnapshotRefType

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.errors import UsageError
from lakehouse_spark.iceberg import embedded, metadata, pyiceberg
from lakehouse_spark.lake import session
from lakehouse_spark.schema.ddl import NAMESPACES
from lakehouse_spark.settings import CatalogSettings, Settings
from lakehouse_spark.table import CATALOG

PLACE = re.compile(r"write\..*path")
"""Properties that say where files go."""


Change = Callable[[str, TableMetadata], TableMetadata | None]
"""A table, by its name, as its copy is to be; None: there is to be none."""


def stage(settings: Settings, folder: Path) -> Settings:
    """Copies the metadata of every table into the folder; the settings of the lakehouse that it makes there.

    Raises UsageError where there is no lakehouse.
    """
    return _staged(settings, folder, lambda name, held: held)


def as_known(settings: Settings, folder: Path, moment: datetime) -> tuple[Settings, Mapping[str, UsageError]]:
    """The same with tables as who read them at a moment saw them; those that are not known as they were are left out,
    and returned with the reason."""
    unknown: dict[str, UsageError] = {}

    def seen(name: str, held: TableMetadata) -> TableMetadata | None:
        try:
            return _seen(name, held, moment)
        except UsageError as error:
            unknown[name] = error
            return None

    return _staged(settings, folder, seen), unknown


def _staged(settings: Settings, folder: Path, change: Change) -> Settings:
    properties = {k: v for k, v in settings.catalog.properties.items() if k.startswith(("s3.", "client."))}
    if session.has_tables_at_s3(settings):
        properties["io-impl"] = session.ANYWHERE
    spark = settings.spark.model_copy(
        update={
            "master": settings.spark.master if session.is_local(settings) else "local[*]",  # who else sees the folder?
            "conf": {k: v for k, v in settings.spark.conf.items() if not k.startswith("spark.sql.catalog.")},
        }
    )
    secrets = {k: v for k, v in settings.catalog.secrets.items() if k.startswith(("s3.", "client."))}
    catalog = CatalogSettings(properties=properties, secrets=secrets)
    staged = settings.model_copy(update={"home": folder, "catalog": catalog, "spark": spark})
    original = pyiceberg.open_catalog(settings)
    folder.mkdir(parents=True, exist_ok=True)
    copy = SqlCatalog(CATALOG, uri=f"sqlite:///{staged.root}/catalog.db", warehouse=staged.warehouse)
    names = [name for namespace in NAMESPACES for name in _tables(original, namespace)]
    # Sources last: what is committed meanwhile is then what a table waits for, and nothing that it could not know.
    order = [tuple(table.name.split(".")) for table in TABLES]
    for name in sorted(names, key=lambda name: -order.index(name) if name in order else 1):
        copy.create_namespace_if_not_exists(name[:-1])
        wanted = change(".".join(name), original.load_table(name).metadata)
        if wanted is not None:
            copy.register_table(name, _copied(wanted, staged, name))
    return staged


def _tables(catalog: Catalog, namespace: str) -> list[tuple[str, ...]]:
    return catalog.list_tables(namespace) if catalog.namespace_exists(namespace) else []


def _seen(name: str, held: TableMetadata, moment: datetime) -> TableMetadata:
    """A table with the snapshot that was current at a moment, and its columns of then."""
    log = ((entry.timestamp_ms, entry.snapshot_id) for entry in held.snapshot_log)
    current = held.snapshot_by_id(metadata.current_at(name, log, moment))
    assert current is not None, "the log holds no snapshot that is gone"
    schema = held.current_schema_id if current.schema_id is None else current.schema_id
    main = SnapshotRef.model_validate({"snapshot-id": current.snapshot_id, "type": SnapshotRefType.BRANCH})
    return held.model_copy(
        update={
            "current_snapshot_id": current.snapshot_id, "current_schema_id": schema, "refs": {MAIN_BRANCH: main},
            "snapshot_log": [],
        }
    )  # fmt: skip


def _copied(held: TableMetadata, staged: Settings, name: tuple[str, ...]) -> str:
    """Where a table's metadata now stands as that of a table in the folder, with all snapshots."""
    location = f"{staged.warehouse}/{'/'.join(name)}"
    kept = {key: value for key, value in held.properties.items() if not PLACE.fullmatch(key)}
    copied = held.model_copy(
        update={"location": location, "properties": {**kept, "gc.enabled": "false"}, "metadata_log": []}
    )
    file = f"{location}/metadata/00000-{uuid.uuid4()}.metadata.json"
    path = embedded.path(file)
    path.parent.mkdir(parents=True)
    path.write_text(copied.model_dump_json(), encoding="utf-8")
    return file
