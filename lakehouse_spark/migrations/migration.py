"""What a migration is: operations that never change once released, held to that by the checksum of their text."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar

from pyspark.sql import SparkSession

from lakehouse_spark.schema import operations
from lakehouse_spark.schema.policy import Agreement


@dataclass(frozen=True)
class Step:
    """Work that no other operation can say, safe to run again from any point.

    It counts by its name alone: its code may follow the code that it calls.
    """

    name: str
    run: Callable[[SparkSession], None] = field(compare=False)

    table: ClassVar[None] = None
    is_breaking: ClassVar[bool] = False

    @property
    def sentence(self) -> str:
        return self.name


Operation = operations.Operation | Step


@dataclass(frozen=True)
class Migration:
    """The operations of one version, in their order.

    `checksums_before` are those that lakehouses hold of it from when a checksum was that of a migration's source. What
    breaks readers needs their agreement, `agreed`.
    """

    version: str
    description: str
    operations: tuple[Operation, ...]
    checksums_before: tuple[str, ...] = ()
    agreed: Agreement | None = None

    @property
    def checksum(self) -> str:
        """SHA-256 of the operations as JSON: it depends on what they say, not on where modules are."""
        text = json.dumps(_as_json(self.operations), separators=(",", ":"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def is_recorded_as(self, checksum: str) -> bool:
        """Whether a lakehouse with this checksum was given these operations."""
        return checksum in (self.checksum, *self.checksums_before)


def _as_json(value: Any) -> Any:
    """An operation as its class and the fields that are not at their default, so that a class may gain fields."""
    if isinstance(value, tuple):
        return [_as_json(part) for part in value]
    if not is_dataclass(value):
        return value
    given = {f.name: getattr(value, f.name) for f in fields(value) if f.compare}
    defaults = {f.name: f.default for f in fields(value)}
    return {type(value).__name__: {name: _as_json(v) for name, v in given.items() if v != defaults[name]}}
