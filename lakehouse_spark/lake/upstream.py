"""What the sources of a table hold beyond what it has consumed of them, as a job reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.lake import commit, dimension_records, progress, snapshots
from lakehouse_spark.lake.cursor import UpstreamsCursor
from lakehouse_spark.lake.progress import Progress
from lakehouse_spark.table import Table


@dataclass(frozen=True)
class Upstream:
    """The declared sources of a table, or of several that are derived together, read at one moment."""

    spark: SparkSession
    tables: Sequence[Table]
    states: Mapping[str, snapshots.State]
    """Of the tables and of the sources that they follow."""
    progress: Progress
    rebuild: bool = False
    """Whether everything is derived whatever is new."""

    @property
    def is_new(self) -> bool:
        """Whether there is anything to do."""
        return self.rebuild or self.progress.is_behind

    @property
    def is_whole(self) -> bool:
        """Whether everything has to be derived: on demand, or for a reason of its own."""
        return self.rebuild or self.progress.is_whole

    @property
    def cursor(self) -> UpstreamsCursor:
        """What a commit that starts now, to any of the tables, says it has consumed."""
        now = datetime.now(UTC)
        stamp = max(self.states[table.name].next_stamp(now) for table in self.tables)
        upto = {name: source.offers for name, source in self.progress.sources.items()}
        return UpstreamsCursor(stamp=stamp, upto=upto)

    def consumed(self, table: Table) -> datetime | None:
        """The stamp up to which a source is consumed."""
        return self.progress.sources[table.name].consumed.stamp

    def has_moved(self, source: Table) -> bool:
        """Whether the source holds more than is consumed."""
        return self.progress.sources[source.name].has_moved

    def rows(self, table: Table) -> DataFrame:
        """A source's rows as of the moment of reading; of one that is only looked up, as they are now."""
        if not any(table.name in each.sources for each in self.tables):
            raise ValueError(f"{', '.join(each.name for each in self.tables)}: sources do not name {table.name}")
        if table.name not in self.states:
            return self.spark.table(table.identifier)
        return snapshots.at(self.spark, table, self.states[table.name].snapshot_id)

    def changed(self, table: Table) -> DataFrame:
        """A source's rows that were added or changed since; all of them for the first time."""
        if not self.has_moved(table):
            return self.rows(table).where(F.lit(False))
        return snapshots.changes(self.spark, table, self.states[table.name], self.consumed(table))

    def changed_members(self, dimension: Dimension) -> DataFrame:
        """Members with changes since, and the first day these can have touched: natural key, `from_day`."""
        source = self.progress.sources[dimension.table.name]
        return dimension_records.changed_members(self.spark, dimension, source.consumed.stamp, source.offers.stamp)


def read(
    spark: SparkSession,
    tables: Sequence[Table],
    *,
    states: Mapping[str, snapshots.State] | None = None,
    rebuild: bool = False,
) -> Upstream:
    """What the sources that the tables declare hold beyond their cursors; of several tables, the one that is behind.

    `states` are those of tables that were read already. Raises HeldError where a commit to one of the tables is held
    back.
    """
    known = dict(states or {})
    found: dict[str, snapshots.State] = {}
    for table in tables:
        iceberg = snapshots.load(spark, table)
        commit.require_none_held(iceberg, table)
        found[table.name] = snapshots.state_of(spark, table, iceberg)
    for name in dict.fromkeys([*(each.name for each in tables), *(n for each in tables for n in each.follows)]):
        found[name] = found.get(name) or known.get(name) or snapshots.state(spark, BY_NAME[name])
    return Upstream(spark, tables, found, progress.of(tables, found), rebuild)
