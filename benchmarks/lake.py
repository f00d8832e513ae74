"""The lakehouse as contenders see it: settings, sessions, empty tables, and the same tables made without Spark."""

import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table as IcebergTable
from pyiceberg.transforms import DayTransform
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from benchmarks import contents
from benchmarks.plan import Contender, Job
from lakehouse_spark import settings
from lakehouse_spark.lake import commit
from lakehouse_spark.lake.session import open_session
from lakehouse_spark.schema import ddl
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import Table

PEER_CONF = {"spark.sql.codegen.wholeStage": "true", "spark.sql.optimizer.excludedRules": ""}
"""Peers keep Spark's own default where ours differs on purpose."""

_KEPT = "kept"

ZSTD_LEVEL = 3
"""What Spark and Iceberg write with; PyIceberg and pyarrow are told the same."""


def here(home: Path, **changes: Any) -> Settings:
    """This machine's settings for one home; `changes` replace whole sections or single ones (`kafka__topics`)."""
    found = settings.load().model_copy(update={"home": home})
    for name, value in changes.items():
        section, _, option = name.partition("__")
        changed = getattr(found, section).model_copy(update={option: value})
        found = found.model_copy(update={section: changed})
    return found


def create(spark: SparkSession, *tables: Table) -> None:
    """The tables anew and empty, as a migration makes them."""
    for statement in ddl.create_namespaces():
        spark.sql(statement)
    for table in tables:
        spark.sql(f"DROP TABLE IF EXISTS {table.identifier} PURGE")
        for statement in ddl.create_table(table):
            spark.sql(statement)
        commit.open_table(spark, table)


def create_without_spark(home: Path, table: Table, by_day: str) -> IcebergTable:
    """The same columns and properties, partitioned by the days of `by_day`, through PyIceberg."""
    home.mkdir(parents=True, exist_ok=True)
    catalog = contents.catalog(home)
    catalog.create_namespace_if_not_exists(table.namespace)
    if catalog.table_exists(table.name):
        catalog.drop_table(table.name)
        shutil.rmtree(home / "warehouse" / table.namespace, ignore_errors=True)
    properties = {**table.all_properties, "write.parquet.compression-level": str(ZSTD_LEVEL)}
    made = catalog.create_table(table.name, schema=to_arrow_schema(table.schema), properties=properties)
    with made.update_spec() as spec:
        spec.add_field(by_day, DayTransform(), f"{by_day}_day")
    return catalog.load_table(table.name)


def rewind(home: Path, snapshots: dict[str, int]) -> SqlCatalog:
    """Puts tables back to the snapshot they had when the inputs were made."""
    catalog = contents.catalog(home)
    for name, snapshot_id in snapshots.items():
        table = catalog.load_table(name)
        current = table.current_snapshot()
        if current is not None and current.snapshot_id != snapshot_id:
            table.manage_snapshots().rollback_to_snapshot(snapshot_id).commit()
    return catalog


def keep(home: Path) -> dict[str, str]:
    """Sets a copy of all metadata aside, for turns that replace or remove some of it; which of it is current."""
    shutil.copytree(home / "warehouse", home / _KEPT, ignore=shutil.ignore_patterns("data"))
    with closing(sqlite3.connect(home / "catalog.db")) as database:
        found = database.execute("SELECT table_namespace || '.' || table_name, metadata_location FROM iceberg_tables")
        return dict(found.fetchall())


def restore(home: Path, current: Mapping[str, str]) -> None:
    """Puts all metadata back to what was kept. The data must all be there still; what came since stays, unknown."""
    for kept in (home / _KEPT).glob("*/*/metadata"):
        place = home / "warehouse" / kept.relative_to(home / _KEPT)
        shutil.rmtree(place)
        shutil.copytree(kept, place)
    point(home, current)


def point(home: Path, current: Mapping[str, str]) -> None:
    """Makes metadata files current that the catalog does not know of."""
    with closing(sqlite3.connect(home / "catalog.db", timeout=30)) as database, database:
        for name, location in current.items():
            change = "UPDATE iceberg_tables SET metadata_location = ? WHERE table_namespace || '.' || table_name = ?"
            database.execute(change, (location, name))


class InSpark(Contender):
    """A contender in a warm session of its own: the product's, or with `conf` on top."""

    conf: dict[str, str] = PEER_CONF
    accelerator: str | None = None

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.home = Path(job.inputs["home"]) if "home" in job.inputs else job.scratch / "home"
        spark = {"spark__conf": self.conf, "spark__accelerator": self.accelerator}
        self.settings = here(self.home, **spark, **job.inputs.get("settings", {}))

    def open(self) -> None:
        self.spark = open_session(self.settings, f"benchmark {self.name}")

    def close(self) -> None:
        self.spark.stop()


class OnKept(InSpark):
    """One whose turns begin with the metadata that was kept."""

    def prepare(self) -> None:
        restore(self.home, self.job.inputs["current"])


def total_rows(tables: Iterable[IcebergTable]) -> int:
    """Rows as the newest snapshots count them."""
    snapshots = (table.current_snapshot() for table in tables)
    return sum(int(s.summary["total-records"] or 0) for s in snapshots if s is not None and s.summary)
