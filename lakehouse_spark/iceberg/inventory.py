"""The tables that are there, with sizes, stamps and what waits for them: from metadata, without Spark."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lakehouse_spark.catalog import BY_NAME, TABLES
from lakehouse_spark.dim.reference_log import LOG
from lakehouse_spark.iceberg import metadata, payload_drift, rows
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.iceberg.payload_drift import Drift
from lakehouse_spark.iceberg.rows import Count
from lakehouse_spark.lake import last_errors, progress
from lakehouse_spark.lake.cursor import CURSOR, from_json
from lakehouse_spark.lake.last_errors import LastError
from lakehouse_spark.lake.progress import Source
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.metadata import maintenance_log
from lakehouse_spark.metadata import payload_drift as drift_notes
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import Table

_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Lag:
    """How far a table is behind one of its upstream tables; `seconds` None: it has consumed nothing of it yet.

    `rows` None: a dimension, whose changes are not counted. Where they are not exact, there are at most so many.
    """

    upstream: str
    rows: int | None
    seconds: float | None
    is_exact: bool = True
    since: datetime | None = field(default=None, compare=False)
    """When the first commit was made of those that it has not consumed, as far as these are known."""

    def waited(self, now: datetime) -> float:
        """The seconds for which that commit has waited; 0 where none is known."""
        return max(0.0, (now - self.since).total_seconds()) if self.since else 0.0


@dataclass(frozen=True)
class TableState:
    """A table as Iceberg's metadata describe it; `bytes` are those of data and delete files, `stamp` is the newest
    commit's. One that `follows` others keeps a cursor on them, and `lags` names those that hold more. Where `rows` are
    not exact, there are at most so many: some delete file may be of rows in several files."""

    name: str
    rows: int
    data_files: int
    bytes: int
    delete_files: int
    snapshots: int
    stamp: datetime | None = None
    follows: bool = False
    lags: tuple[Lag, ...] = ()
    is_exact: bool = True

    @property
    def mean_bytes(self) -> int | None:
        files = self.data_files + self.delete_files
        return self.bytes // files if files else None


@dataclass(frozen=True)
class Inventory:
    """The tables that are there as they were at one moment, and their states: of those with a stamp that hold any."""

    tables: Mapping[str, TableState]
    states: Mapping[str, State]
    errors: Sequence[LastError] = ()
    """Of jobs that have not ended well since."""
    drifts: Sequence[Drift] = ()
    """Fields of payloads that were not as declared."""

    @property
    def absent(self) -> Sequence[str]:
        """The names of declared tables that are not there."""
        return [table.name for table in TABLES if table.name not in self.tables]

    @property
    def behind(self) -> Mapping[str, Sequence[Lag]]:
        """By table, the sources that hold more than it has consumed; tables that have all are missing."""
        return {name: table.lags for name, table in self.tables.items() if table.lags}

    def has(self, table: Table) -> bool:
        return table.name in self.tables and self.tables[table.name].rows > 0


def read(settings: Settings) -> Inventory:
    """Every table that is there; raises MissingError where there is no lakehouse, and writes nothing."""
    return of(metadata.read(settings, TABLES))


def of(found: Mapping[str, Metadata]) -> Inventory:
    """The tables by their metadata."""
    states = {name: each.state for name, each in found.items() if each.table.stamp and each.state is not None}
    counted = {name: rows.count(each) for name, each in found.items()}
    log, notes = (found.get(table.name) for table in (maintenance_log.TABLE, drift_notes.TABLE))
    return Inventory(
        {name: _state_of(each, counted[name], _followed(each.table, states, counted), found, states.get(name))
         for name, each in found.items()},
        states,
        last_errors.of(log.said.get("properties") or {}) if log else (),
        payload_drift.of(notes) if notes else (),
    )  # fmt: skip


def _state_of(
    of: Metadata, counted: Count, followed: Sequence[Source], found: Mapping[str, Metadata], state: State | None
) -> TableState:
    lags = (_lag(of.table, source, found[source.name]) for source in followed if source.has_moved)
    return TableState(
        name=of.table.name,
        rows=counted.rows,
        data_files=of.total("data-files"),
        bytes=of.total("files-size"),
        delete_files=of.total("delete-files"),
        snapshots=len(of.snapshots),
        stamp=state.stamp if state else None,
        follows=bool(followed),
        lags=tuple(lag for lag in lags if lag.rows != 0),  # a commit without rows moves the stamp, and that is all
        is_exact=counted.is_exact,
    )


def _followed(table: Table, states: Mapping[str, State], counted: Mapping[str, Count]) -> list[Source]:
    """The sources that the table follows; before its first run, those of them that hold rows to begin with."""
    found = progress.of([table], states)
    if found.is_begun:
        return list(found.sources.values())
    # Members alone make no row.
    return [source for name, source in found.sources.items() if not _is_dimension(name) and counted[name].rows]


def _lag(table: Table, source: Source, of: Metadata) -> Lag:
    """How much of a source that has moved the table has not consumed; of the change log, of its own dimension."""
    newest, consumed = source.offers.stamp, source.consumed.stamp
    seconds = (newest - consumed).total_seconds() if newest and consumed else None
    since = _first_later(of, consumed)
    if _is_dimension(source.name):
        return Lag(source.name, None, seconds, since=since)
    only = ("dimension", table.short_name) if source.name == LOG.name else None
    waiting = rows.count_later(of, consumed, only=only)
    return Lag(source.name, waiting.rows, seconds, waiting.is_exact, since)


def _first_later(of: Metadata, consumed: datetime | None) -> datetime | None:
    """The stamp of the oldest commit that is known whose place is later than what is consumed."""
    written = [snapshot["summary"][CURSOR] for snapshot in of.history() if CURSOR in snapshot["summary"]][::-1]

    def place(said: str) -> datetime:
        cursor = from_json(said)
        return progress.offered(of.table.name, cursor, cursor.stamp).stamp or _BEFORE_ALL

    before = bisect_right(written, consumed or _BEFORE_ALL, key=place)
    return from_json(written[before]).stamp if before < len(written) else None


def _is_dimension(name: str) -> bool:
    return BY_NAME[name].namespace == "dim"
