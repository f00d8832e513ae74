"""How checks read the lakehouse: every table as it was at one moment, so that what they prove can be named."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property, reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.iceberg import difference, metadata
from lakehouse_spark.iceberg.difference import Difference
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.lake import progress, pruning, snapshots
from lakehouse_spark.lake.progress import Progress
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import rejected_records
from lakehouse_spark.table import Table
from lakehouse_spark.types import INSTANT
from lakehouse_spark.verify.proof import Held, Proof


@dataclass(frozen=True)
class Pin:
    """A table as it was loaded, once."""

    spark: SparkSession
    table: Table
    iceberg: Any

    @cached_property
    def held(self) -> Held:
        current = self.iceberg.operations().current()
        head = self.iceberg.currentSnapshot()
        snapshot = None if head is None else int(head.snapshotId())
        return Held(snapshot, int(current.currentSchemaId()), int(current.lastSequenceNumber()))

    @cached_property
    def state(self) -> snapshots.State:
        return snapshots.state_of(self.spark, self.table, self.iceberg)

    def rows(self) -> DataFrame:
        snapshot = self.held.snapshot
        if snapshot is None:
            return self.spark.table(self.table.identifier)
        return snapshots.at(self.spark, self.table, snapshot)


@dataclass(frozen=True)
class Moment:
    """The tables that are there, each as it was read, who follows before whom it follows: whatever moves meanwhile,
    what a table has consumed is in the tables that it consumed it from."""

    spark: SparkSession
    settings: Settings
    at: datetime
    pins: Mapping[str, Pin]

    @classmethod
    def now(cls, spark: SparkSession, settings: Settings, tables: Sequence[Table]) -> "Moment":
        at = datetime.now(UTC)
        there = [table for table in sources_last(tables) if spark.catalog.tableExists(table.identifier)]
        pins = {table.name: Pin(spark, table, snapshots.load(spark, table)) for table in there}
        return cls(spark, settings, at, pins)

    def is_still(self, read: Mapping[str, Held]) -> bool:
        """Whether these tables are as they were when they were read."""
        return all(name in self.pins and self.pins[name].held == held for name, held in read.items())

    @cached_property
    def metadata(self) -> Mapping[str, Metadata]:
        """What is known of the tables without Spark, each as it was pinned; nothing of a catalog that only Spark opens,
        and of a table that has lost its pin, or whose columns have other names since."""
        try:
            found = metadata.read(self.settings, [pin.table for pin in self.pins.values()])
        except LakehouseError:
            return {}
        held = {name: self.pins[name].held for name in found}
        pinned = {name: each.at(held[name].snapshot) for name, each in found.items()}
        return {name: each for name, each in pinned.items() if each and each.schema_id == held[name].schema}


def sources_last(tables: Sequence[Table]) -> list[Table]:
    """Dead letters are written before who counts them commits, though they stand behind it in the catalog."""
    letters = [table for table in tables if table is rejected_records.TABLE]
    others = [table for table in reversed(tables) if table is not rejected_records.TABLE]
    place = next((n for n, table in enumerate(others) if table.namespace == "bronze"), len(others))
    return [*others[:place], *letters, *others[place:]]


@dataclass
class Look:
    """What a check reads for one table that it is about. Whatever it reads is noted, and is what its proof is of."""

    moment: Moment
    table: Table
    proof: Proof | None = None
    """Up to where it is proved already, where a look at what is new may do."""
    read: dict[str, Held] = field(default_factory=dict)
    is_of_new: bool = False
    """Whether it looked at what is new alone."""
    _news: dict[Table, Difference | None] = field(default_factory=dict)

    @property
    def spark(self) -> SparkSession:
        return self.moment.spark

    @property
    def settings(self) -> Settings:
        return self.moment.settings

    def pin(self, table: Table | None = None) -> Pin:
        pin = self.moment.pins[(table or self.table).name]
        self.read[pin.table.name] = pin.held
        return pin

    def rows(self, table: Table | None = None) -> DataFrame:
        """A table's rows, by default of that which the check is about."""
        return self.pin(table).rows()

    def state(self, table: Table | None = None) -> snapshots.State:
        return self.pin(table).state

    @cached_property
    def progress(self) -> Progress:
        """How far the table has consumed what it follows."""
        followed = [BY_NAME[name] for name in self.table.follows if name in self.moment.pins]
        return progress.of([self.table], {each.name: self.state(each) for each in (self.table, *followed)})

    def before(self, table: Table | None = None) -> Held | None:
        """A table as it was at the proof, where its schema is still the same."""
        now, proved = self.pin(table).held, self.proof.read.get((table or self.table).name) if self.proof else None
        return proved if proved and proved.schema == now.schema else None

    def are_as_proved(self, tables: Iterable[Table]) -> bool:
        """Whether tables are still as they were at the proof."""
        return all(self.before(table) == self.pin(table).held for table in tables)

    def news(self, table: Table | None = None) -> Difference | None:
        """How a table differs from what it was at the proof; None: all of it has to be looked at."""
        table = table or self.table
        if table not in self._news:
            before = self.before(table)
            snapshot = before.snapshot if before else None
            known = None if snapshot is None else self.moment.metadata.get(table.name)
            self._news[table] = difference.since(known, snapshot) if known and snapshot is not None else None
        return self._news[table]

    def gained(self) -> DataFrame:
        """The rows that may have been gained since the proof, in few files; all rows where it is not known which."""
        columns = [column for column in (self.table.day_column, self.table.stamp) if column]
        conditions = [each for each in map(self._may_be_gained, columns) if each is not None]
        return self._rows_of_new(reduce(Column.__and__, conditions) if conditions else None)

    def like_gained(self, column: str) -> DataFrame:
        """All rows that may have the same value in a column as one that was gained since the proof; all there are where
        these values are not known."""
        return self._rows_of_new(self._may_be_gained(column))

    def _rows_of_new(self, condition: Column | None) -> DataFrame:
        self.is_of_new |= condition is not None
        return self.rows() if condition is None else self.rows().where(condition)

    def _may_be_gained(self, column: str) -> Column | None:
        """Whether a row with this value in a column may have been gained: within days, if the table is partitioned by
        those of the column, else between the least and the greatest that was gained. None: the files do not tell."""
        news = self.news()
        if news is None:
            return None
        if not (news.gained or news.lifted):
            return F.lit(False)
        if column == self.table.day_column:
            days = news.days(column)
            return None if days is None else _within(column, days)
        found = news.range_of(column)
        if found is None:
            return None
        is_instant = self.table.schema[column].dataType == INSTANT
        least, greatest = (F.timestamp_micros(F.lit(bound)) if is_instant else F.lit(bound) for bound in found)
        return F.col(column).between(least, greatest) | F.col(column).isNull()

    def of_days_changed(self, *tables: Table) -> list[DataFrame]:
        """The rows of some tables of the days in which any of them gained or lost rows since the proof, each by the
        column whose days it is partitioned by; all rows where it is not known which."""
        days = set[date | None]()
        for table in tables:
            news, column = self.news(table), table.day_column
            found = news.days(column, with_lost=True) if news and column else None
            if found is None:
                return [self.rows(table) for table in tables]
            days |= found
        self.is_of_new = True
        return [self.rows(table).where(_within(str(table.day_column), days)) for table in tables]


def _within(column: str, days: Set[date | None]) -> Column:
    """Whether an instant or a date is of these days, by literals that prune."""
    inside = pruning.day_predicate(column, pruning.ranges(day for day in days if day is not None))
    return inside | F.col(column).isNull() if None in days else inside
