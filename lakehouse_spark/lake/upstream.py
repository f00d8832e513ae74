"""How far a table has consumed each of the tables it is built from, and what they hold beyond that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.lake import dimension_records, snapshots
from lakehouse_spark.lake.cursor import from_text, to_text
from lakehouse_spark.table import Table


@dataclass(frozen=True)
class Upstream:
    """The upstream tables of one table, read at one moment.

    A dimension is followed by the change log it was derived from: a version that vanished leaves no row with a stamp.
    """

    spark: SparkSession
    states: Mapping[str, snapshots.State]
    upto: Mapping[str, str | None]
    before: Mapping[str, str | None]
    rebuild: bool = False
    """Whether everything is derived whatever is new: on demand, or because older rules made the table."""

    @property
    def is_new(self) -> bool:
        """Whether there is anything to do."""
        return self.rebuild or any(self.upto[name] != self.before.get(name) for name in self.upto)

    @property
    def is_whole(self) -> bool:
        """Whether everything has to be derived: for the first time, by other rules, or because what is upstream was."""
        return (
            self.rebuild
            or not self.before
            or any(self.upto[name] != self.before.get(name) for name in self.upto if name.endswith(_REBUILT))
        )

    @property
    def cursor(self) -> dict[str, Any]:
        return {"upto": dict(self.upto)}

    def rows(self, table: Table) -> DataFrame:
        return snapshots.at(self.spark, table, self.states[table.name].snapshot_id)

    def changed(self, table: Table) -> DataFrame:
        """The table's rows that were added or changed since; all of them for the first time."""
        if self.upto[table.name] == self.before.get(table.name):
            return self.rows(table).where(F.lit(False))
        return snapshots.changes(self.spark, table, self.states[table.name], from_text(self.before.get(table.name)))

    def changed_members(self, dimension: Dimension) -> DataFrame:
        """Members with changes since, and the first day these can have touched: natural key, `from_day`."""
        name = dimension.table.name
        return dimension_records.changed_members(
            self.spark, dimension, _instant(self.before.get(name)), _instant(self.upto[name])
        )


_REBUILT = " rebuilt"


def read(
    spark: SparkSession,
    bases: Sequence[snapshots.State],
    tables: Sequence[Table],
    dimensions: Sequence[Dimension] = (),
    *,
    states: Mapping[str, snapshots.State] | None = None,
    rebuild: bool = False,
) -> Upstream:
    """What the tables and dimensions hold beyond the cursors of `bases` (of several, the one that is behind)."""
    found = {table.name: (states or {}).get(table.name) or snapshots.state(spark, table) for table in tables}
    found |= {d.table.name: (states or {}).get(d.table.name) or snapshots.state(spark, d.table) for d in dimensions}
    upto: dict[str, str | None] = {}
    for table in tables:
        upto[table.name] = to_text(found[table.name].stamp)
        upto[table.name + _REBUILT] = (found[table.name].cursor or {}).get("rebuilt")
    for dimension in dimensions:
        cursor = found[dimension.table.name].cursor or {}
        upto[dimension.table.name], upto[dimension.table.name + _REBUILT] = cursor.get("to"), cursor.get("rebuilt")
    consumed = [(base.cursor or {}).get("upto") or {} for base in bases]
    before = {} if not all(consumed) else {name: _least([c.get(name) for c in consumed]) for name in upto}
    return Upstream(spark, found, upto, before, rebuild or any(base.is_outdated for base in bases))


def _least(stamps: Sequence[str | None]) -> str | None:
    return None if None in stamps else min(stamp for stamp in stamps if stamp is not None)


def _instant(text: str | None) -> datetime | None:
    return from_text(text)
