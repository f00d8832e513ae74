"""What of a table changed between two moments, row by row, and because of what: records, members, rules, rebuilds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any
from unicodedata import category

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import DIMENSIONS, FEEDS
from lakehouse_spark.dim import dim_account, dim_time
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.dim.reference_log import LOG
from lakehouse_spark.errors import UsageError
from lakehouse_spark.iceberg import metadata
from lakehouse_spark.lake import snapshots
from lakehouse_spark.lake.cursor import UpstreamCursor, UpstreamsCursor
from lakehouse_spark.lake.queries import measured
from lakehouse_spark.lake.reconcile import differences, measures
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import orderbook_snapshots, rejected_records, trades
from lakehouse_spark.silver.feed import PLACE, Feed
from lakehouse_spark.table import Table
from lakehouse_spark.trace import records
from lakehouse_spark.trace.moment import Moment
from lakehouse_spark.trace.origins import ORIGINS, Origin, Use, all_of
from lakehouse_spark.transforms import attributes
from lakehouse_spark.transforms.quality import folded

APPEARED, CHANGED, WENT = "appeared", "changed", "went"
"""What may become of a row."""
LATE, NEW, STATUS, RESTATED = "late record", "new record", "status change", "restated record"
REPLAYED, AGAIN, MEMBER, INFERRED = "replayed record", "judged again", "dimension record", "inferred for a fact"
RULES, REBUILT, CALENDAR = "newer rules", "rebuild", "calendar"
"""Why."""

_FEEDS = {feed.table.name: feed for feed in FEEDS.values()}
_BRONZE = rejected_records.PLACE[: len(PLACE)]
"""The place of a record, as bronze and dead letters name it."""
_MOST = 1_000
"""Records that are named at most as causes of one row."""
_FEW = 5_000
"""Rows of silver that are looked through without a query."""


@dataclass(frozen=True)
class Cause:
    """Of a change: `what` it is, the place of the record behind it, if there is one, and what else there is to say."""

    what: str
    record: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Change:
    """Of one row: what it was and what it is, the stamp left out (None: there was or is none), and why."""

    kind: str
    key: Mapping[str, Any]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    causes: Sequence[Cause]
    """Empty where none was found."""

    @property
    def columns(self) -> list[str]:
        """Those that differ."""
        before, after = self.before or {}, self.after or {}
        return [name for name in {**before, **after} if before.get(name) != after.get(name)]


@dataclass
class Changes:
    """Of a table: how many rows appeared, changed and went, and the first of them by their key."""

    table: Table
    numbers: Mapping[str, int]
    rows: Sequence[Change]
    notes: list[str] = field(default_factory=list)


def diff(
    spark: SparkSession,
    settings: Settings,
    table: Table,
    since: datetime,
    until: datetime | None = None,
    limit: int = 20,
) -> Changes:
    """What differs between a table as who read it then saw it, at the one moment and at the other (None: now).

    Raises UsageError for a moment that is not known any more, and for tables whose rows are not made of others.
    """
    if not table.follows and table is not dim_time.TABLE:
        raise UsageError(f"the rows of {table.name} are not made of others", "name a table of silver, dim or gold")
    if until is not None and until < since:
        raise UsageError("--until is before --since")
    known = metadata.of(settings, table)
    ends = [known.known_at(since), known.known_at(until) if until else known]
    iceberg = snapshots.load(spark, table)
    before, after = (
        snapshots.state_of(spark, table, iceberg, iceberg.snapshot(end.said["current-snapshot-id"])) for end in ends
    )
    was, now = (snapshots.at(spark, table, each.snapshot_id) for each in (before, after))
    differing = _differing(table, was, now, _written_since(table, iceberg, before, after))
    counts = dict(zip((APPEARED, CHANGED, WENT), measures().values(), strict=True))
    with measured(differing, **counts) as (rows, found):
        first = rows.orderBy(*table.key).limit(limit).collect()
    because = _Because(spark, settings, table, Moment(spark, table, before), Moment(spark, table, after), since)
    told = [because.of(row) for row in first]
    return Changes(table, {kind: found[kind] for kind in counts}, told, because.notes)


def _differing(table: Table, was: DataFrame, now: DataFrame, since: datetime | None) -> DataFrame:
    """See reconcile.differences; only rows that were written `since` are looked at (None: all)."""
    was, now = _as_today(table, was), _as_today(table, now)
    if since is not None:
        now = now.where(F.col(str(table.stamp)) > F.lit(since)).localCheckpoint()
        was = was.join(now.select(*table.key), on=list(table.key), how="left_semi").select(*was.columns)
    return differences(table, now, was)


def _written_since(table: Table, iceberg: Any, before: State, after: State) -> datetime | None:
    """The stamp behind which all rows that differ were written; None where rows may have gone."""
    return before.stamp if table.stamp and _none_went(iceberg, before, after) else None


def _as_today(table: Table, rows: DataFrame) -> DataFrame:
    """The rows with the columns that are declared today; they may be of a schema of before."""
    return rows.select(
        *(
            F.col(c.name) if c.name in rows.columns else F.lit(None).cast(c.dataType).alias(c.name)
            for c in table.columns
        )
    )


def _none_went(iceberg: Any, before: State, after: State) -> bool:
    """Whether the commits in between say so: none deleted, derived all anew, or repaired rows under an old stamp."""
    newer = None
    for snapshot in snapshots.ancestors(iceberg, iceberg.snapshot(after.snapshot_id)):
        if snapshot.snapshotId() == before.snapshot_id:
            return True
        cursor = snapshots.cursor_on(snapshot)
        if snapshot.operation() == "replace":
            continue
        if cursor is None or cursor.stamp == newer or cursor.rebuilt == cursor.stamp or cursor.counts.get("deleted"):
            return False
        newer = cursor.stamp
    return False


@dataclass(frozen=True)
class _Moved:
    """The rows of a silver table that are others than before."""

    key: str
    frame: DataFrame
    """See reconcile.differences."""
    rows: Mapping[str, Mapping[str, Any]] | None
    """The same by their key, of few (None: they are many)."""

    def named(self, uses: Sequence[Use], time: str, *, now: bool) -> list[str]:
        """The keys of those that the uses name, as they are `now`, or as they were."""
        if self.rows is None:
            return _keys(records.chosen(self._side(now), uses, time), self.key)
        found: list[str] = []
        sides = ((key, _now(row) if now else row["_was"]) for key, row in self.rows.items())
        there = {key: side for key, side in sides if side is not None}
        for use in uses:
            near = [key for key, side in there.items() if _is_near(use, side, time)]
            since = use.since if near else None
            near = [key for key in near if since is None or since <= there[key][time].date()]
            if near and (use.symbols is not None or use.rows is not all_of):
                near = _keys(records.chosen(self._side(now), [use], time), self.key)
            found += near
        return found

    def of(self, keys: Sequence[str]) -> list[Mapping[str, Any]]:
        """Those of these keys, of many the first."""
        if self.rows is not None:
            return [self.rows[key] for key in keys if key in self.rows]
        of_keys = self.frame.where(F.col(self.key).isin(*keys[:_MOST])).collect()
        return [row.asDict() for row in of_keys]

    def _side(self, now: bool) -> DataFrame:
        if now:
            return self.frame.where(~F.col("_gone")).drop("_gone", "_new", "_was")
        return self.frame.where(~F.col("_new")).select("_was.*")


def _keys(rows: DataFrame, key: str) -> list[str]:
    return [row[0] for row in rows.select(key).distinct().limit(_MOST).collect()]


def _now(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return None if row["_gone"] else row


def _is_near(use: Use, row: Mapping[str, Any], time: str) -> bool:
    """Whether a row may be one of the use, as far as it says without a query."""
    return row[time].date() <= use.last and all(row[name] == text for name, text in use.like.items())


@dataclass(frozen=True)
class _Arrived:
    """What landed in between: the places of records; by key and status, that of the first."""

    places: frozenset[str]
    statuses: Mapping[tuple[str, str], str]


@dataclass
class _Because:
    """Why rows of a table differ between two moments."""

    spark: SparkSession
    settings: Settings
    table: Table
    was: Moment
    now: Moment
    since: datetime
    _moved: dict[str, _Moved] = field(default_factory=dict)
    _landed: dict[str, _Arrived] = field(default_factory=dict)
    _news: dict[str, DataFrame | None] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        gone = dict.fromkeys([*self.was.gone, *self.now.gone])
        return [f"a snapshot of {name} that rows were made of is gone: what it holds now is taken" for name in gone]

    def of(self, row: Row) -> Change:
        columns = [name for name in self.table.column_names if name != self.table.stamp]
        before = None if row["_was"] is None else row["_was"].asDict()
        after = None if row["_gone"] else {name: row[name] for name in columns}
        kind = WENT if after is None else APPEARED if before is None else CHANGED
        causes = dict.fromkeys(self._causes(before, after))
        return Change(kind, {name: row[name] for name in self.table.key}, before, after, [*causes][:_MOST])

    def _causes(self, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Cause]:
        row = after or before or {}
        if self.table is dim_time.TABLE:
            return [Cause(CALENDAR, detail="made of exchange-calendars' XNYS")]
        if self.table.name in _FEEDS:
            feed = _FEEDS[self.table.name]
            found = self._of_silver(feed, [row[feed.key]])
        elif self.table.short_name in DIMENSIONS:
            dimension = DIMENSIONS[self.table.short_name]
            found = [*self._of_members(dimension, [row[dimension.natural_key]], by_key=True)]
            if not found and row.get("is_inferred"):
                found = [Cause(INFERRED)]
        else:
            found = [*self._of_derived(ORIGINS[self.table.name], row)]
        return found or [*self._of_rules()]

    def _of_derived(self, origin: Origin, row: Mapping[str, Any]) -> Iterator[Cause]:
        tables = {table.name: table for table in (trades.TABLE, orderbook_snapshots.TABLE)}
        used: dict[str, dict[str, None]] = {}
        for moment in (self.was, self.now):
            silver = {name: self._rows(moment, table) for name, table in tables.items()}
            subject = origin.subject(row, silver)
            named = origin.members(subject)
            members = {name: self._rows_of(moment, DIMENSIONS[name], keys) for name, keys in named.items()}
            for name, uses in origin.uses(subject, silver, members).items():
                feed = _FEEDS[name]
                found = self._all_moved(feed).named(uses, feed.event_time, now=moment is self.now)
                used.setdefault(name, {}).update(dict.fromkeys(found))
        for name, keys in named.items():
            yield from self._of_members(DIMENSIONS[name], keys)
        for name, moved in used.items():
            yield from self._of_silver(_FEEDS[name], [*moved])

    def _rows(self, moment: Moment, table: Table) -> DataFrame:
        """The rows of a silver table as they were consumed, or as they were; none where nothing of it was."""
        rows = moment.rows(table)
        return rows.where(F.lit(False)) if moment.had_none(table) else rows

    def _rows_of(self, moment: Moment, dimension: Dimension, keys: Sequence[str]) -> DataFrame:
        """The members of the keys; of accounts, those of the traders."""
        owner = "trader_id" if dimension is dim_account.DIMENSION else dimension.natural_key
        return moment.rows(dimension.table).where(F.col(owner).isin(*keys))

    def _all_moved(self, feed: Feed) -> _Moved:
        if feed.table.name not in self._moved:
            table, since = feed.table, None
            if not self.was.had_none(table) and not self.now.had_none(table):
                iceberg = snapshots.load(self.spark, table)
                since = _written_since(table, iceberg, self.was.state(table), self.now.state(table))
            was, now = self._rows(self.was, table), self._rows(self.now, table)
            frame = _differing(table, was, now, since).localCheckpoint()
            few = frame.limit(_FEW + 1).collect()
            rows = {row[feed.key]: row.asDict() for row in few} if len(few) <= _FEW else None
            self._moved[table.name] = _Moved(feed.key, frame, rows)
        return self._moved[feed.table.name]

    def _of_silver(self, feed: Feed, keys: Sequence[str]) -> list[Cause]:
        """Of rows of a silver table: which of them are others than before, by the records behind them."""
        found = self._all_moved(feed).of(keys) if keys else []
        if not found:
            return []
        arrived = self._arrived_of(feed, keys)
        return [self._of_row(feed, row["_was"], _now(row), arrived) for row in found]

    def _arrived_of(self, feed: Feed, keys: Sequence[str]) -> _Arrived:
        """Of few rows all at once."""
        moved = self._all_moved(feed)
        if moved.rows is None:
            return self._arrived(feed, moved.frame.where(F.col(feed.key).isin(*keys[:_MOST])))
        if feed.table.name not in self._landed:
            self._landed[feed.table.name] = self._arrived(feed, moved.frame)
        return self._landed[feed.table.name]

    def _arrived(self, feed: Feed, rows: DataFrame) -> _Arrived:
        """What landed in between of the rows (see reconcile.differences) or of a status under one of their keys."""
        bronze, upto = self.now.records(feed), self._upto(feed)
        landed = bronze if upto is None else bronze.where(F.col("_ingested_at") > F.lit(upto))
        key, status = F.regexp_replace(feed.key, records.BLANKS, ""), F.lit(None)
        if feed.status:
            status = F.coalesce(folded(F.get_json_object("raw_payload", f"$.{feed.status}")), F.lit("EXECUTED"))
        told = landed.select(
            _of_place(_BRONZE).alias("_place"), (key if feed.status else F.lit(None)).cast("string").alias("_key"),
            status.cast("string").alias("_status"), "_ingested_at", *_BRONZE[1:],
        )  # fmt: skip
        wanted = rows.select(key.alias("_key"), F.when(~F.col("_gone"), _of_place(PLACE)).alias("_place"))
        found = [told.join(F.broadcast(wanted.select(name).distinct()), on=name, how="left_semi").select(*told.columns)
                 for name in ("_place", "_key")]  # fmt: skip
        arrived = reduce(DataFrame.unionByName, found).orderBy("_ingested_at", *_BRONZE[1:]).collect()
        first: dict[tuple[str, str], str] = {}
        for row in arrived:
            first.setdefault((row["_key"], row["_status"]), row["_place"])
        return _Arrived(frozenset(row["_place"] for row in arrived), first)

    def _upto(self, feed: Feed) -> datetime | None:
        """How much of bronze silver had consumed before."""
        cursor = None if self.was.had_none(feed.table) else self.was.state(feed.table).cursor
        return cursor.upto if isinstance(cursor, UpstreamCursor) else None

    def _of_row(
        self, feed: Feed, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None, arrived: _Arrived
    ) -> Cause:
        key = (now or was)[feed.key]  # type: ignore[index]
        if now is None:
            return Cause(AGAIN, detail=f"{key} is no row of {feed.table.name} any more")
        if was is not None and feed.status and was[feed.status] != now[feed.status]:
            moved = arrived.statuses.get((_bare(key), now[feed.status]))
            detail = f"{key}: {was[feed.status]} → {now[feed.status]}"
            if moved:
                return Cause(STATUS, moved, detail)
            return Cause(REPLAYED if self._replayed else AGAIN, detail=detail)
        record = _place(now)
        if record not in arrived.places:
            return Cause(REPLAYED if record in self._replayed else AGAIN, record, str(key))
        if was is not None:
            return Cause(RESTATED if feed.restates else AGAIN, record, str(key))
        is_late = now[feed.event_time].replace(tzinfo=UTC) <= self.since.astimezone(UTC)
        return Cause(LATE if is_late else NEW, record, f"{key} of {now[feed.event_time]} UTC")

    @cached_property
    def _replayed(self) -> frozenset[str]:
        """The places of records that were replayed since."""
        letters = self.spark.table(rejected_records.TABLE.identifier)
        is_replayed = (F.col("status") == rejected_records.REPLAYED) & F.col("resolution").isin("inserted", "updated")
        resolved = letters.where(is_replayed & (F.col("_resolved_at") > F.lit(self.since)))
        return frozenset(row[0] for row in resolved.select(_of_place(_BRONZE)).collect())

    def _of_members(self, dimension: Dimension, keys: Sequence[str], *, by_key: bool = False) -> Iterator[Cause]:
        """The records about members that were followed in between."""
        news = self._followed_since(dimension)
        if news is None:
            return
        if dimension is dim_account.DIMENSION and not by_key:
            log = self.now.log(dimension)
            owned = log.where(attributes.text(F.col("attributes"), "trader_id").isin(*keys)).select("natural_key")
            rows = self._rows_of(self.was, dimension, keys).select(F.col(dimension.natural_key).alias("natural_key"))
            about = owned.unionByName(rows).distinct()
            news = news.join(about, on="natural_key", how="left_semi").select(*news.columns)
        else:
            news = news.where(F.col("natural_key").isin(*keys))
        for row in records.of_members(dimension, news).where(F.col("fate") != records.REFUSED).limit(_MOST).collect():
            source = row["source"] if row["partition"] is not None else f"raw_reference/{row['source']}"
            middle = "" if row["partition"] is None else f"/{row['partition']}"
            yield Cause(MEMBER, f"{source}{middle}/{row['position']}", f"{row['key']} {row['fate']}")

    def _followed_since(self, dimension: Dimension) -> DataFrame | None:
        """Of the change log; None where that is nothing."""
        if dimension.name not in self._news:
            was_made = self.was.state(self.table).cursor is not None
            log, followed = self.now.log(dimension), self.was.followed(dimension) if was_made else None
            news = log if followed is None else log.where(F.col(str(LOG.stamp)) > F.lit(followed))
            news = news.localCheckpoint()
            self._news[dimension.name] = None if news.isEmpty() else news
        return self._news[dimension.name]

    def _of_rules(self) -> Iterator[Cause]:
        """What moves rows without a record of their own: newer rules, and sources that were derived anew."""
        before, after = self.was.state(self.table), self.now.state(self.table)
        for one, other in pairwise(_rules(self.spark, self.table, before, after)):
            if one < other:
                yield Cause(RULES, detail=f"rules {one} → {other}")
        then, since = before.cursor, after.cursor
        if then is not None and since is not None and then.rebuilt != since.rebuilt:
            yield Cause(REBUILT, detail=f"of {self.table.name}, at {since.rebuilt} UTC")
        if isinstance(then, UpstreamsCursor) and isinstance(since, UpstreamsCursor):
            for name, consumed in since.upto.items():
                if name in then.upto and then.upto[name].rebuilt != consumed.rebuilt:
                    yield Cause(REBUILT, detail=f"of {name}, at {consumed.rebuilt} UTC")


def _rules(spark: SparkSession, table: Table, before: State, after: State) -> list[int]:
    """The versions of the rules by which a table was made, commit by commit, from one state to the other."""
    iceberg, found = snapshots.load(spark, table), list[int]()
    for snapshot in snapshots.ancestors(iceberg, iceberg.snapshot(after.snapshot_id)):
        if snapshot.snapshotId() == before.snapshot_id:
            break
        cursor = snapshots.cursor_on(snapshot)
        found += [] if cursor is None else [cursor.rules]
    return [before.rules or 1, *reversed(found)]


def _place(row: Mapping[str, Any]) -> str:
    return "/".join(str(row[name]) for name in PLACE)


def _of_place(names: Sequence[str]) -> Column:
    """The same of columns."""
    return F.concat_ws("/", *(F.col(name).cast("string") for name in names))


def _bare(key: str) -> str:
    """A key without blanks, as records.BLANKS has them."""
    return "".join(c for c in key if not c.isspace() and category(c)[0] not in "ZC")
