"""The tables as they stood for a row: what the table that holds it had consumed of them."""

from datetime import datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.dim import dim_exchange
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.dim.reference_log import LOG, of_dimension
from lakehouse_spark.ingest import decoding
from lakehouse_spark.lake import dimension_records, snapshots
from lakehouse_spark.lake.cursor import UpstreamCursor, UpstreamsCursor
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import rejected_records
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.table import Table
from lakehouse_spark.trace import records


class Moment:
    """What a table had consumed when it made the rows that it holds.

    Of a source of which the snapshot of then is gone, what it holds now is taken; `gone` names these.
    """

    def __init__(self, spark: SparkSession, table: Table, state: snapshots.State | None = None) -> None:
        """Of the rows that the table holds now, or held as of a `state`."""
        self._spark, self._table = spark, table
        self._states: dict[str, snapshots.State] = {table.name: state or snapshots.state(spark, table)}
        self.gone: list[str] = []

    def state(self, table: Table) -> snapshots.State:
        """The table as it was consumed."""
        if table.name not in self._states:
            self._states[table.name] = self._consumed(table)
        return self._states[table.name]

    def had_none(self, table: Table) -> bool:
        """Whether nothing of it was consumed yet."""
        own = self.state(self._table).cursor
        consumed = isinstance(own, UpstreamsCursor) and table.name in own.upto and own.upto[table.name].stamp is None
        return own is None or consumed

    def rows(self, table: Table) -> DataFrame:
        return snapshots.at(self._spark, table, self.state(table).snapshot_id)

    def records(self, feed: Feed) -> DataFrame:
        """The bronze rows that a silver table had judged."""
        cursor = self.state(feed.table).cursor
        rows, upto = self._spark.table(feed.topic.table.identifier), None
        if isinstance(cursor, UpstreamCursor):
            upto = cursor.upto
        return rows.where(F.lit(False) if upto is None else F.col("_ingested_at") <= F.lit(upto))

    def decided(self, settings: Settings, feed: Feed, bronze: DataFrame) -> DataFrame:
        """These rows of bronze judged again, by today's rules and exchanges (see records.decided)."""
        exchanges = self._spark.table(dim_exchange.TABLE.identifier)
        records_of = decoding.again(settings, feed.topic.name, bronze)
        judged = feed.judge(records_of, exchanges, settings.ingest.max_record_bytes).localCheckpoint()
        return records.decided(feed, judged, self._spark.table(rejected_records.TABLE.identifier)).localCheckpoint()

    def log(self, dimension: Dimension) -> DataFrame:
        """The records of the change log that a dimension had followed, those left out that were discarded for good."""
        rows, upto = self._spark.table(LOG.identifier).where(of_dimension(dimension)), self.followed(dimension)
        seen = rows.where(F.lit(False) if upto is None else F.col(str(LOG.stamp)) <= F.lit(upto))
        return dimension_records.records(self._spark, dimension, seen)

    def followed(self, dimension: Dimension) -> datetime | None:
        """How far the dimension had followed the log, as the table consumed it."""
        own = self._states[self._table.name].cursor
        if isinstance(own, UpstreamsCursor) and dimension.table.name in own.upto:
            return own.upto[dimension.table.name].stamp
        cursor = self.state(dimension.table).cursor
        return cursor.upto if isinstance(cursor, UpstreamCursor) else None

    def _consumed(self, table: Table) -> snapshots.State:
        now, own = snapshots.state(self._spark, table), self._states[self._table.name].cursor
        if table.short_name in DIMENSIONS and isinstance(own, UpstreamsCursor):
            return self._followed_member(table, now, own)
        stamp = own.consumed(table.name) if own else None
        if stamp is None or now.stamp is None or now.stamp <= stamp:
            return now
        return self._or_now(snapshots.as_of(self._spark, table, stamp), now, table)

    def _followed_member(self, table: Table, now: snapshots.State, own: UpstreamsCursor) -> snapshots.State:
        """A dimension as it was by then: it is followed by its place in the change log, and facts infer members
        without moving that."""
        if now.cursor is None:
            return now
        place = self.followed(DIMENSIONS[table.short_name])
        return self._or_now(snapshots.as_of(self._spark, table, own.stamp, place), now, table)

    def _or_now(self, then: snapshots.State | None, now: snapshots.State, table: Table) -> snapshots.State:
        if then is None:
            self.gone.append(table.name)
        return then or now
