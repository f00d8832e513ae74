"""Pending migrations tried out on a copy of all tables' metadata.

The copied tables read the lakehouse's files, and write theirs into a folder. Of the lakehouse's, Iceberg deletes none:
expiry is off (`gc.enabled`), and the metadata files of before, which it drops in time, are not in a copy's history.
"""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table as IcebergTable
from pyspark.sql import SparkSession

from lakehouse_spark import migrations, verify
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.iceberg import embedded, pyiceberg
from lakehouse_spark.jobs import pipeline
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import session
from lakehouse_spark.migrations.migration import Migration
from lakehouse_spark.schema.ddl import NAMESPACES
from lakehouse_spark.settings import CatalogSettings, Settings
from lakehouse_spark.table import CATALOG

_PLACE = re.compile(r"write\..*path")
"""Properties that say where files go."""


@dataclass(frozen=True)
class Outcome:
    """What came of a rehearsal."""

    applied: tuple[Migration, ...]
    summaries: tuple[Summary, ...]
    findings: tuple[verify.Finding, ...]

    @property
    def holds(self) -> bool:
        return not any(finding.violations for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {
            "holds": self.holds,
            "applied": [{"version": each.version, "description": each.description} for each in self.applied],
            "tables": [summary.as_dict() for summary in self.summaries],
            "findings": [finding.as_dict() for finding in self.findings],
        }


def stage(settings: Settings, folder: Path) -> Settings:
    """Copies the metadata of every table into the folder; the settings of the lakehouse that it makes there.

    Raises UsageError where there is no lakehouse.
    """
    properties = {k: v for k, v in settings.catalog.properties.items() if k.startswith(("s3.", "client."))}
    if session.has_tables_at_s3(settings):
        properties["io-impl"] = session.ANYWHERE
    spark = settings.spark.model_copy(
        update={
            "master": settings.spark.master if session.is_local(settings) else "local[*]",  # who else sees the folder?
            "conf": {k: v for k, v in settings.spark.conf.items() if not k.startswith("spark.sql.catalog.")},
        }
    )
    catalog = CatalogSettings(properties=properties)
    staged = settings.model_copy(update={"home": folder, "catalog": catalog, "spark": spark})
    original = pyiceberg.open_catalog(settings)
    folder.mkdir(parents=True, exist_ok=True)
    copy = SqlCatalog(CATALOG, uri=f"sqlite:///{staged.root}/catalog.db", warehouse=staged.warehouse)
    names = [name for namespace in NAMESPACES for name in _tables(original, namespace)]
    # Sources last: what is committed meanwhile is then what a table waits for, and nothing that it could not know.
    order = [tuple(table.name.split(".")) for table in TABLES]
    for name in sorted(names, key=lambda name: -order.index(name) if name in order else 1):
        copy.create_namespace_if_not_exists(name[:-1])
        copy.register_table(name, _copied(original.load_table(name), staged, name))
    return staged


def _tables(catalog: Catalog, namespace: str) -> list[tuple[str, ...]]:
    return catalog.list_tables(namespace) if catalog.namespace_exists(namespace) else []


def _copied(iceberg: IcebergTable, staged: Settings, name: tuple[str, ...]) -> str:
    """Where a table's metadata now stands as that of a table in the folder, with all snapshots."""
    location = f"{staged.warehouse}/{'/'.join(name)}"
    held = iceberg.metadata
    kept = {key: value for key, value in held.properties.items() if not _PLACE.fullmatch(key)}
    metadata = held.model_copy(
        update={"location": location, "properties": {**kept, "gc.enabled": "false"}, "metadata_log": []}
    )
    file = f"{location}/metadata/00000-{uuid.uuid4()}.metadata.json"
    path = embedded.path(file)
    path.parent.mkdir(parents=True)
    path.write_text(metadata.model_dump_json(), encoding="utf-8")
    return file


def run(
    spark: SparkSession,
    staged: Settings,
    *,
    report: Callable[[Summary | verify.Finding], None] = lambda step: None,
) -> Outcome:
    """Migrates the copy, brings every layer behind bronze up to what bronze holds, and verifies what came of it.

    Raises RefusedError where a migration is refused.
    """
    applied = migrations.migrate(spark, staged, datetime.now(UTC))
    summaries = pipeline.derive(spark, staged, report=report)
    return Outcome(tuple(applied), tuple(summaries), tuple(verify.run(spark, staged, report=report)))
