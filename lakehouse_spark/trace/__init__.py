"""Where one number comes from: its rule, the rows and records behind it, and the value made again of just these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.catalog import DIMENSIONS, FEEDS
from lakehouse_spark.dim import dim_account, dim_time, members
from lakehouse_spark.dim.dimension import Dimension, changes
from lakehouse_spark.errors import UsageError
from lakehouse_spark.lake import frames
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import orderbook_snapshots, trades
from lakehouse_spark.silver.feed import PLACE, Feed
from lakehouse_spark.table import Table
from lakehouse_spark.trace import records
from lakehouse_spark.trace.fate import fate as fate
from lakehouse_spark.trace.moment import Moment
from lakehouse_spark.trace.origins import ORIGINS, Made, Origin, Subject, Use
from lakehouse_spark.transforms import attributes, dedup, market_hours

_MOST_NAMED = 10
_FEEDS = {feed.table.name: feed for feed in FEEDS.values()}


@dataclass(frozen=True)
class Value:
    """A column of the traced row: what the table holds, what its rule is, and what comes out again."""

    name: str
    rule: str
    held: Any
    again: Any

    @property
    def is_equal(self) -> bool:
        return bool(self.held == self.again)


@dataclass(frozen=True)
class Part:
    """Rows behind the traced one, under a title."""

    title: str
    rows: DataFrame


@dataclass
class Trace:
    """What is behind a row."""

    table: Table
    key: Subject
    values: Sequence[Value]
    """Empty where nothing could be computed."""
    parts: Sequence[Part]
    """Rows of silver with what they are there for, members, and lots with what closed them."""
    named: DataFrame
    """The records that matter (records.SCHEMA): on these alone the row would be the same."""
    left_out: DataFrame
    """Records that are about the same and change nothing: repeated, or refused."""
    notes: list[str] = field(default_factory=list)

    @property
    def differing(self) -> list[str]:
        """The columns of which another value comes out."""
        return [value.name for value in self.values if not value.is_equal]


def trace(
    spark: SparkSession, settings: Settings, table: Table, key: Mapping[str, str], column: str | None = None
) -> Trace:
    """Traces the one row of a derived table that has these values; with `column`, that column alone.

    Raises UsageError where no row or several have them, and for tables whose rows are not made of others.
    """
    if column is not None and column not in table.column_names:
        raise UsageError(f"{table.name} has no column {column!r}", f"its columns: {', '.join(table.column_names)}")
    moment = Moment(spark, table)
    held = _row(moment.rows(table), table, key)
    named = {name: held[name] for name in table.key}
    tracer = _Tracer(spark, settings, moment, column)
    if table.name in ORIGINS:
        return tracer.derived(table, held, named, ORIGINS[table.name])
    if table.name in _FEEDS:
        return tracer.judged(_FEEDS[table.name], held, named)
    if table.short_name in DIMENSIONS:
        return tracer.member(DIMENSIONS[table.short_name], held, named)
    if table is dim_time.TABLE:
        return tracer.minute(held, named)
    raise UsageError(
        f"the rows of {table.name} are not made of others",
        "trace a record by its place, as raw_trades/0/12345, or a table of silver, dim or gold",
    )


def _row(rows: DataFrame, table: Table, key: Mapping[str, str]) -> Row:
    """The one row with these values."""
    if unknown := sorted({*key} - {*table.column_names}):
        raise UsageError(f"{table.name} has no column {unknown[0]!r}", f"its key: {', '.join(table.key)}")
    if not key:
        raise UsageError(f"{table.name}: say which row, as {' '.join(f'{name}=…' for name in table.key)}")
    for name, text in key.items():
        rows = rows.where(F.col(name).eqNullSafe(F.lit(_typed(table, name, text))))
    found = rows.limit(_MOST_NAMED + 1).collect()
    said = " ".join(f"{name}={text}" for name, text in key.items())
    if not found:
        raise UsageError(f"{table.name} has no row with {said}", f'look: lakehouse query "SELECT * FROM {table.name}"')
    if len(found) > 1:
        named = "; ".join(" ".join(f"{name}={row[name]}" for name in table.key) for row in found[:_MOST_NAMED])
        more = "; …" if len(found) > _MOST_NAMED else ""
        raise UsageError(f"{table.name} has several rows with {said}", f"say which of: {named}{more}")
    return found[0]


def _typed(table: Table, name: str, text: str) -> Any:
    kind = table.schema[name].dataType
    try:
        if isinstance(kind, T.DateType):
            return date.fromisoformat(text)
        if isinstance(kind, T.TimestampType):
            at = datetime.fromisoformat(text)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
        if isinstance(kind, T.IntegerType | T.LongType):
            return int(text)
        if isinstance(kind, T.DecimalType):
            return Decimal(text)
        if isinstance(kind, T.BooleanType):
            return {"true": True, "false": False}[text.lower()]
    except (ValueError, ArithmeticError, KeyError):
        raise UsageError(f"{name}: expected a {kind.simpleString()}, got {text!r}") from None
    return text


@dataclass
class _Tracer:
    spark: SparkSession
    settings: Settings
    moment: Moment
    column: str | None

    def derived(self, table: Table, held: Row, key: Subject, origin: Origin) -> Trace:
        silver = {
            name: self.moment.rows(_FEEDS[name].table) for name in (trades.TABLE.name, orderbook_snapshots.TABLE.name)
        }
        subject = origin.subject(held.asDict(), silver)
        found = {name: self._members(DIMENSIONS[name], keys) for name, keys in origin.members(subject).items()}
        of_members = {name: rows for name, (rows, _) in found.items()}
        uses = origin.uses(subject, silver, of_members)
        uses = {name: [use for use in each if self._needs(use)] for name, each in uses.items()}
        judged = {name: self._judged(_FEEDS[name], silver[name], each) for name, each in uses.items() if each}
        nothing = {name: rows.where(F.lit(False)) for name, rows in silver.items()}
        made = Made(self.spark, self.settings, {**nothing, **{n: each.rows for n, each in judged.items()}}, of_members)
        again = self._only(origin.made(subject, made), table, key) if judged else None
        parts = [Part(name, each.used) for name, each in judged.items()]
        parts += [Part(DIMENSIONS[name].table.name, rows) for name, rows in of_members.items()]
        if (matches := origin.matches(subject, made) if judged else None) is not None:
            parts.append(Part("lots and what closed them", matches))
        logs = [records.of_members(DIMENSIONS[name], log) for name, (_, log) in found.items()]
        return self._told(table, key, held, again, parts, [*judged.values()], logs)

    def judged(self, feed: Feed, held: Row, key: Subject) -> Trace:
        day = held[feed.event_time].date()
        like = {name: held[name] for name in (feed.key,) if name in feed.topic.text_fields}
        use = Use("the row", day, day, like, rows=lambda of: of.where(F.col(feed.key) == held[feed.key]))
        judged = self._judged(feed, self.moment.rows(feed.table), [use])
        again = self._only(judged.rows, feed.table, key)
        return self._told(feed.table, key, held, again, [], [judged], [])

    def member(self, dimension: Dimension, held: Row, key: Subject) -> Trace:
        rows, log = self._members(dimension, [held[dimension.natural_key]], by_key=True)
        again = self._only(rows, dimension.table, key)
        parts = [Part(dimension.table.name, rows)]
        return self._told(dimension.table, key, held, again, parts, [], [records.of_members(dimension, log)])

    def minute(self, held: Row, key: Subject) -> Trace:
        at = int(held["full_timestamp"].replace(tzinfo=UTC).timestamp())
        sessions = frames.of_rows(
            self.spark, market_hours.nyse_sessions([held["full_timestamp"].year]), market_hours.NYSE_SESSIONS
        )
        rows = dim_time.build(self.spark.range(at, at + 1), sessions)
        told = self._told(dim_time.TABLE, key, held, self._only(rows, dim_time.TABLE, key), [], [], [])
        told.notes.append("made of the calendar alone: exchange-calendars' XNYS")
        return told

    def _needs(self, use: Use) -> bool:
        return self.column is None or not use.columns or self.column in use.columns

    def _members(
        self, dimension: Dimension, keys: Sequence[str], *, by_key: bool = False
    ) -> tuple[DataFrame, DataFrame]:
        """The members as their records in the change log make them, and these; of accounts all that these traders ever
        had."""
        log, natural = self.moment.log(dimension), dimension.natural_key
        table = self.spark.table(dimension.table.identifier)
        if dimension is dim_account.DIMENSION and not by_key:
            owner = attributes.text(F.col("attributes"), "trader_id")
            owned = log.where(owner.isin(*keys)).select("natural_key").distinct()
            log = log.join(owned, on="natural_key", how="left_semi").select(*log.columns).localCheckpoint()
            named = log.select(F.col("natural_key").alias(natural)).distinct()
            there = table.join(named, on=natural, how="left_semi").select(*table.columns)
        else:
            log = log.where(F.col("natural_key").isin(*keys)).localCheckpoint()
            there = table.where(F.col(natural).isin(*keys))
        rows = dimension.derive(changes(log, dimension))
        if dimension.is_versioned:
            rows = members.with_inferred(dimension, rows, there, None)
        else:
            rows = members.with_rejected(dimension, rows, there, log)
        identity = list(dimension.table.key)
        numbered = rows.join(there.select(*identity, dimension.surrogate_key), on=identity, how="left")
        columns = [name for name in dimension.table.column_names if name != dimension.table.stamp]
        return numbered.select(*columns).localCheckpoint(), log

    def _judged(self, feed: Feed, held: DataFrame, uses: Sequence[Use]) -> "_Judged":
        """The records behind the rows of silver that the uses name, and these rows as their records make them."""
        bronze = self.moment.records(feed)
        used = records.chosen(held, uses, feed.event_time).localCheckpoint()
        around = records.candidates(feed, bronze, uses)
        if feed.key_repeats_across_days:
            around = records.with_same_keys(feed, bronze, around, used)
        around = around.localCheckpoint()
        decided = self.moment.decided(self.settings, feed, around)
        columns = [name for name in feed.table.column_names if name != feed.table.stamp]
        made = dedup.to_write(decided.where(F.col(dedup.ROW).isNotNull())).select(*columns)
        # Of a row whose own record is gone, later ones of its key may be left: they would make another.
        without = used.join(decided.select(*PLACE).distinct(), on=list(PLACE), how="left_anti")
        gone = without.select(*columns).dropDuplicates([feed.key])
        there = records.chosen(made, uses, feed.event_time).drop("_use").dropDuplicates([feed.key])
        rows = there.join(gone.select(feed.key), on=feed.key, how="left_anti").select(*columns)
        rows = rows.unionByName(gone).localCheckpoint()
        return _Judged(feed, decided, around, rows, used, gone.count(), uses)

    def _only(self, rows: DataFrame, table: Table, key: Subject) -> Row | None:
        for name, value in key.items():
            rows = rows.where(F.col(name).eqNullSafe(F.lit(value)))
        found = rows.limit(2).collect()
        return found[0] if len(found) == 1 else None

    def _told(
        self,
        table: Table,
        key: Subject,
        held: Row,
        again: Row | None,
        parts: Sequence[Part],
        judged: Sequence["_Judged"],
        logs: Sequence[DataFrame],
    ) -> Trace:
        asked = [c for c in table.columns if c.name != table.stamp and self.column in (None, c.name)]
        computed = again.asDict() if again is not None else {}
        values = [Value(c.name, c.metadata["comment"], held[c.name], computed.get(c.name)) for c in asked]
        named, left_out = [*logs], []
        for each in judged:
            mattering, others = each.split()
            named.append(mattering)
            left_out.append(others)
        notes = [each.note for each in judged if each.note]
        notes += [
            f"the snapshot of {name} that this row was made of is gone: what it holds now is shown"
            for name in self.moment.gone
        ]
        if again is None:
            notes.append("no such row comes out")
        nothing = frames.of_rows(self.spark, [], records.SCHEMA)
        return Trace(
            table, key, values, parts, reduce(DataFrame.unionByName, named, nothing).localCheckpoint(),
            reduce(DataFrame.unionByName, left_out, nothing).localCheckpoint(), notes,
        )  # fmt: skip


@dataclass(frozen=True)
class _Judged:
    """Records behind rows of a silver table."""

    feed: Feed
    decided: DataFrame
    bronze: DataFrame
    rows: DataFrame
    """The rows as their records make them; ones without a record in bronze as they are held."""
    used: DataFrame
    """The held rows, with `_use`."""
    gone: int
    """How many have no record in bronze."""
    uses: Sequence[Use]

    @property
    def note(self) -> str:
        if not self.gone:
            return ""
        return f"{self.gone:,} rows of {self.feed.table.name} have no record in bronze any more: there the trace ends"

    def split(self) -> tuple[DataFrame, DataFrame]:
        """The records that matter, and those that are about the same and do not: see records.SCHEMA."""
        mattering, others = records.split(self.feed, self.decided, self.uses)
        return records.listed(self.feed, mattering, self.bronze), records.listed(self.feed, others, self.bronze)
