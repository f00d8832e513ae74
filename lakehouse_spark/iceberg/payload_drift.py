"""What drifted in payloads, topic by topic, and what would take it in: read without Spark."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse_spark.catalog import FEEDS
from lakehouse_spark.iceberg import rows
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.lake.payload_drift import KEPT_DAYS
from lakehouse_spark.metadata.payload_drift import OTHER, RETYPED, UNKNOWN, VANISHED
from lakehouse_spark.schema.operations import AddColumn, ColumnDefinition

_TYPES = {"string": "string", "boolean": "boolean", "integer": "bigint", "number": "double"}
_COLUMNS = ("topic", "name", "change", "json_type", "records", "upto", "_noted_at")


@dataclass(frozen=True)
class Drift:
    """A field that was not as declared, in so many records of the batches that are noted, and what it held there; the
    `name` is empty for unknown fields beyond the names that are kept."""

    topic: str
    name: str
    change: str
    json_types: tuple[str, ...]
    records: int
    last: datetime

    @property
    def remedy(self) -> AddColumn | None:
        """The operation that gives an unknown field a column in silver; None where its name or values fit none."""
        types = {*self.json_types} - {"null"}
        if (
            self.change != UNKNOWN
            or not re.fullmatch("[a-z][a-z0-9_]*", self.name)
            or not types
            or not types <= {*_TYPES}
        ):
            return None
        kind = _TYPES[types.pop()] if len(types) == 1 else "double" if types == {"integer", "number"} else "string"
        table = next(feed.table for feed in FEEDS.values() if feed.topic.name == self.topic)
        if self.name in table.column_names:
            return None
        return AddColumn(table.name, ColumnDefinition(self.name, kind, f"{self.name} of the payload"))

    def __str__(self) -> str:
        """A sentence, with what would take the field in."""
        seen = f"{self.records:,} records, last by {self.last:%Y-%m-%d %H:%M} UTC"
        kinds = " or ".join(self.json_types)
        name = self.name if re.fullmatch(r"[\w.-]+", self.name) else json.dumps(self.name)
        said = {
            UNKNOWN: f"{name} ({kinds}) is not declared, in {seen}",
            RETYPED: f"{name} came as {kinds}, in {seen}",
            VANISHED: f"no record of a batch had {name}, by {self.last:%Y-%m-%d %H:%M} UTC",
            OTHER: f"{self.records:,} fields of further names are not declared either",
        }[self.change]
        remedy = self.remedy
        column = f"; column: {remedy.column.name} {remedy.column.type} in {remedy.table}" if remedy else ""
        return f"payload drift, {self.topic}: {said}{column}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "topic": self.topic, "name": self.name, "change": self.change, "json_types": list(self.json_types),
            "records": self.records, "last": self.last.isoformat(),
            "operation": str(self.remedy) if self.remedy else None,
        }  # fmt: skip


def of(found: Metadata) -> list[Drift]:
    """What the table noted lately, by topic, change and name."""
    after = datetime.now(UTC) - timedelta(days=KEPT_DAYS)
    later = rows.batches(found, rows.written_later(found, after), _COLUMNS)
    return summed(row for batch in later for row in batch.to_pylist() if row["_noted_at"] > after)


def summed(noted: Iterable[dict[str, Any]]) -> list[Drift]:
    """The notes of batches, as one for each field."""
    by_field: dict[tuple[str, str, str], Drift] = {}
    for row in noted:
        key = row["topic"], row["change"], row["name"]
        so_far = by_field.get(key, Drift(row["topic"], row["name"], row["change"], (), 0, row["upto"]))
        by_field[key] = Drift(
            so_far.topic, so_far.name, so_far.change, tuple(sorted({*so_far.json_types, row["json_type"]})),
            so_far.records + row["records"], max(so_far.last, row["upto"]),
        )  # fmt: skip
    return [by_field[key] for key in sorted(by_field)]
