"""How far a table has consumed what it is built from, and whether it has to be derived whole: the one answer.

Pure: it follows from declarations and the states of the tables, whoever has read these. Jobs, status, report and verify
ask it; those that go on to read rows do so through `upstream`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lakehouse_spark.lake.cursor import Consumed, Cursor, UpstreamCursor, UpstreamsCursor
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.table import Table


@dataclass(frozen=True)
class Source:
    """A table that others follow: what there is of it to consume, and what they have consumed."""

    name: str
    offers: Consumed
    consumed: Consumed

    @property
    def has_moved(self) -> bool:
        """Whether there is more of it than is consumed."""
        newest, seen = self.offers.stamp, self.consumed.stamp
        return newest is not None and (seen is None or newest > seen)

    @property
    def is_rebuilt(self) -> bool:
        """Whether its history changed since it was consumed."""
        return self.offers.rebuilt not in (None, self.consumed.rebuilt)

    @property
    def waits(self) -> bool:
        return self.has_moved or self.is_rebuilt


@dataclass(frozen=True)
class Progress:
    """Of one table, or of several that are derived together: their states, and the sources that they follow."""

    states: tuple[State, ...]
    sources: Mapping[str, Source]

    @property
    def is_behind(self) -> bool:
        """Whether a source waits, or today's rules do."""
        return self.is_outdated or any(source.waits for source in self.sources.values())

    @property
    def is_whole(self) -> bool:
        """Whether everything has to be derived: for the first time, after the cursor was lost, by other rules, or
        because the history of a source changed."""
        return not self.is_begun or self.is_outdated or any(source.is_rebuilt for source in self.sources.values())

    @property
    def is_outdated(self) -> bool:
        return any(state.is_outdated for state in self.states)

    @property
    def is_begun(self) -> bool:
        """Whether it has a cursor, and so has consumed something before."""
        return bool(self.states) and all(state.cursor is not None for state in self.states)

    def waits_for(self, source: Table) -> bool:
        """Whether a source holds what is not consumed; False for one that is not followed."""
        return source.name in self.sources and self.sources[source.name].waits


def of(tables: Sequence[Table], states: Mapping[str, State]) -> Progress:
    """The progress of tables that are derived together: of each source, what the one that is behind has consumed.

    `states` by name; a source without one, such as a table that was not made yet, offers nothing.
    """
    bases = tuple(states[table.name] for table in tables if table.name in states)
    names = dict.fromkeys(name for table in tables for name in table.follows)
    return Progress(bases, {name: _source(name, states[name], bases) for name in names if name in states})


def _source(name: str, state: State, bases: Iterable[State]) -> Source:
    offers = offered(name, state.cursor, state.stamp)
    return Source(name, offers, _least([_consumed(base.cursor, name, state, offers) for base in bases]))


def offered(name: str, cursor: Cursor | None, stamp: datetime | None) -> Consumed:
    """What a commit of a table offers, by its cursor and its stamp. A dimension is followed by its place in the change
    log: a version that vanished leaves no row with a stamp."""
    rebuilt = cursor.rebuilt if cursor else None
    if not _is_dimension(name):
        return Consumed(stamp, rebuilt)
    return Consumed(cursor.upto if isinstance(cursor, UpstreamCursor) else None, rebuilt)


def _consumed(cursor: Cursor | None, name: str, state: State, offers: Consumed) -> Consumed:
    """What a cursor says of one source, whose state is `state`."""
    if cursor is None:
        return Consumed()
    if isinstance(cursor, UpstreamsCursor) and name in cursor.upto:
        return cursor.upto[name]
    if isinstance(cursor, UpstreamCursor) and name == cursor.source:
        return Consumed(cursor.upto, cursor.rebuilt)
    # Declared after the cursor was written: what there was by then is consumed.
    rebuilt = offers.rebuilt if offers.rebuilt is None or offers.rebuilt <= cursor.stamp else None
    if state.stamp is None or state.stamp <= cursor.stamp:
        return Consumed(offers.stamp, rebuilt)
    return Consumed(None if _is_dimension(name) else cursor.stamp, rebuilt)  # a dimension's place at that time is lost


def _is_dimension(name: str) -> bool:
    return name.startswith("dim.")


def _least(consumed: Sequence[Consumed]) -> Consumed:
    return Consumed(_earliest([each.stamp for each in consumed]), _earliest([each.rebuilt for each in consumed]))


def _earliest(instants: Sequence[datetime | None]) -> datetime | None:
    """The earliest; None, which is before all, if there is one or nothing else."""
    return None if None in instants else min((instant for instant in instants if instant is not None), default=None)
