"""A lakehouse of a few tables in a folder, which PyIceberg writes: for what looks at one without Spark."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import NestedField, StringType, TimestamptzType

from lakehouse_spark.iceberg import inventory
from lakehouse_spark.iceberg.inventory import TableState
from lakehouse_spark.lake.cursor import CURSOR, Cursor, TopicCursor, UpstreamCursor
from lakehouse_spark.settings import Settings

NOTHING: Any = None
"""In place of a session, which none of this needs."""
RAW, SILVER, LOG, SYMBOLS = "bronze.raw_trades", "silver.trades", "bronze.raw_reference", "dim.dim_symbol"
SCHEMA = Schema(
    NestedField(1, "dimension", StringType()),
    NestedField(2, "_ingested_at", TimestamptzType()),
    NestedField(3, "_processed_at", TimestamptzType()),
    NestedField(4, "_updated_at", TimestamptzType()),
)
BY_DIMENSION = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "dimension"))


def at(minute: int) -> datetime:
    return datetime(2025, 6, 1, 12, minute, tzinfo=UTC)


class Home:
    """A lakehouse of a few tables in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.catalog = SqlCatalog("lake", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
        for name in (RAW, SILVER, LOG, SYMBOLS):
            self.catalog.create_namespace_if_not_exists(name.split(".")[0])
            spec = BY_DIMENSION if name == LOG else UNPARTITIONED_PARTITION_SPEC
            self.catalog.create_table(name, SCHEMA, partition_spec=spec, properties={"format-version": "2"})

    @property
    def settings(self) -> Settings:
        return Settings(home=self.folder)

    def land(self, table: str, *stamps: datetime, cursor: Cursor | None = None, dimension: str = "dim_symbol") -> None:
        """A commit with a row for each stamp."""
        row = {"dimension": dimension}
        rows = [{**row, **dict.fromkeys(("_ingested_at", "_processed_at", "_updated_at"), each)} for each in stamps]
        said = {CURSOR: cursor.to_json()} if cursor else {}
        found = pa.Table.from_pylist(rows, schema=SCHEMA.as_arrow())
        self.catalog.load_table(table).append(found, snapshot_properties=said)

    def read(self) -> dict[str, TableState]:
        return dict(inventory.read(self.settings).tables)

    @property
    def names(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


def topic(stamp: datetime) -> TopicCursor:
    return TopicCursor(stamp=stamp, topic="trades", topic_id="id", following={0: 1})


def follows(source: str, stamp: datetime, upto: datetime | None) -> UpstreamCursor:
    return UpstreamCursor(stamp=stamp, source=source, after=None, upto=upto)
