"""What a commit consumed and counted, as the snapshot that it made says: JSON in the snapshot's summary.

Any reader of Iceberg finds it there, so the JSON is a public contract: keys keep their meaning, and may be added. An
instant is ISO 8601 in UTC with microseconds. Where a field's JSON key is not its name, its docstring begins with it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

CURSOR = "lakehouse.cursor"
"""Snapshot property that holds the cursor."""
BROKEN = "broken"
"""In the notes of a commit that was held back, and may have been published since: the checks that it breaks, and how
many rows do."""
HELD = re.compile(r"audit_(\d{8}[Tt]\d{6})_[0-9a-f]{32}")
"""The names of branches on which commits are held back; the time is when they were begun."""

_REBUILT = " rebuilt"
"""Follows the name of a table in the JSON's `upto`, where that table's `rebuilt` stands."""


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """What every commit says. Of control tables and dead letters, it is all: they follow nothing."""

    stamp: datetime
    """The commit's own stamp, later than all of the table's before it; the rows it wrote carry the same."""
    rules: int = 1
    """Version of the rules that the table is made by; not in the JSON of the first version."""
    rebuilt: datetime | None = None
    """Stamp of the last commit at which history changed, so that what is downstream is derived whole; None: never."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What this commit counted, by name: rows inserted, updated and deleted; of silver, records by outcome too."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Everything else in the JSON, each under its own key: what was done to a control table, for people to read
    (`{"reserved": "dim_trader"}`), of the ledger of migrations how far it is, of silver the `fields` that payloads had,
    and fields of a later release, which are handed on."""

    @property
    def place(self) -> object:
        """How far it has consumed what it follows; None where that is nothing."""
        return None

    def consumed(self, source: str) -> datetime | None:
        """The stamp up to which it has consumed a source; None where it does not say."""
        return None

    def says_the_same(self, other: "Cursor") -> bool:
        """Whether a commit that built on one of them may as well build on the other: no rows came in between."""
        return self._progress == other._progress

    @property
    def _progress(self) -> object:
        return self.stamp, self.place, self.rebuilt, self.rules

    def with_all_of(self, newest: "Cursor | None") -> "Cursor":
        """With what the table's newest cursor says and no commit but maintenance changes."""
        return self

    def to_json(self) -> str:
        return json.dumps({**self.notes, **self._fields()}, separators=(",", ":"), sort_keys=True)

    def _fields(self) -> dict[str, Any]:
        rules = None if self.rules == 1 else self.rules
        optional = {"rules": rules, "rebuilt": to_text(self.rebuilt), "counts": dict(self.counts)}
        return {"stamp": to_text(self.stamp), **{name: value for name, value in optional.items() if value}}


@dataclass(frozen=True)
class Gap:
    """Records that Kafka no longer had when they were due, and that a user accepted as lost."""

    accepted: str
    """What was missing, in a sentence."""
    was: Mapping[int, int]
    """The next offset to read, by partition, as it was before the gap."""


@dataclass(frozen=True, kw_only=True)
class TopicCursor(Cursor):
    """Of a bronze table: how far its topic was read. The change log also says which file the commit landed."""

    topic: str | None = None
    """Name of the topic in Kafka; None where no record was read from one, as in a change log of files alone."""
    topic_id: str | None = None
    """Kafka's id of the topic, another one when it is deleted and created again."""
    began: Mapping[int, int] = field(default_factory=dict)
    """`from`: the first offset of this commit, by partition."""
    following: Mapping[int, int] = field(default_factory=dict)
    """`to`: the next offset to read, by partition."""
    epoch: datetime | None = None
    """Rows stamped later are of the topic as it is now; None: all are, for it was never made anew."""
    gaps: tuple[Gap, ...] = ()
    """Gaps that were accepted with this commit."""
    source: str | None = None
    """The file whose records this commit landed in the change log; None where it read the topic."""
    removed: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """How many rows retention has removed in all, by the topic's id and by partition; under "" those of a topic that
    was deleted and created again since."""

    @property
    def place(self) -> object:
        return self.following

    def with_all_of(self, newest: Cursor | None) -> Cursor:
        return replace(self, removed=newest.removed) if isinstance(newest, TopicCursor) else self

    def _fields(self) -> dict[str, Any]:
        said = super()._fields()
        if self.topic is not None:
            said |= {"topic": self.topic, "topic_id": self.topic_id}
            said |= {"from": _with_text_keys(self.began), "to": _with_text_keys(self.following)}
        gaps = [{"accepted": gap.accepted, "was": _with_text_keys(gap.was)} for gap in self.gaps]
        removed = {topic: _with_text_keys(rows) for topic, rows in sorted(self.removed.items())}
        optional = {"epoch": to_text(self.epoch), "gaps": gaps, "source": self.source, "removed": removed}
        return said | {name: value for name, value in optional.items() if value}


@dataclass(frozen=True, kw_only=True)
class UpstreamCursor(Cursor):
    """Of a table that follows one other by its stamps: of a dimension, its place in the change log.

    Trader activity hands the `rebuilt` of the trades on as its own.
    """

    source: str
    """The table that is followed."""
    after: datetime | None
    """`from`: rows of the source up to this stamp were consumed before; None: this commit consumed all there were."""
    upto: datetime | None
    """`to`: rows of the source up to this stamp are consumed; None: none are, yet."""

    @property
    def place(self) -> object:
        return None if self.after is None and self.upto is None else (self.after, self.upto)

    def consumed(self, source: str) -> datetime | None:
        return self.upto if source == self.source else None

    def _fields(self) -> dict[str, Any]:
        place = {"source": self.source, "from": to_text(self.after), "to": to_text(self.upto)}
        return {"rebuilt": None, **super()._fields(), **place}


@dataclass(frozen=True, kw_only=True)
class FeedCursor(UpstreamCursor):
    """Of a silver table that judges the records of a bronze table: with it, every bronze row is accounted for."""

    since: datetime
    """Stamp of the commit from which on `totals` are counted."""
    totals: Mapping[str, int]
    """The `counts` of all commits since then, added up. Rejected records that were accepted later are in `replayed`
    and stay in `rejected`."""
    removed_before: int = 0
    """How many rows retention had removed from the source before `since`; not in the JSON where it is none."""
    rejected_before: int = 0
    """Rejected records among those, which stay in the dead-letter table; not in the JSON where it is none."""

    def _fields(self) -> dict[str, Any]:
        said = super()._fields() | {"since": to_text(self.since), "totals": dict(self.totals)}
        before = {"removed_before": self.removed_before, "rejected_before": self.rejected_before}
        said |= {name: number for name, number in before.items() if number}
        return {name: value for name, value in said.items() if name != "rebuilt" or value}


@dataclass(frozen=True)
class Consumed:
    """How much of a source a table has consumed, or how much there is of it to consume."""

    stamp: datetime | None = None
    """Its newest stamp; of a dimension, how far it has followed the change log. None: nothing."""
    rebuilt: datetime | None = None
    """Its `rebuilt` at that time."""


@dataclass(frozen=True, kw_only=True)
class UpstreamsCursor(Cursor):
    """Of a table that is built from several others."""

    upto: Mapping[str, Consumed]
    """By name of the source, what of it is consumed. In JSON the stamp stands under the name, and `rebuilt` under
    `<name> rebuilt`. A source that is missing was declared after this commit: it is consumed up to `stamp`."""

    @property
    def place(self) -> object:
        return self.upto

    def consumed(self, source: str) -> datetime | None:
        return self.upto[source].stamp if source in self.upto else None

    def _fields(self) -> dict[str, Any]:
        stamps = {name: to_text(consumed.stamp) for name, consumed in self.upto.items()}
        rebuilt = {name + _REBUILT: to_text(consumed.rebuilt) for name, consumed in self.upto.items()}
        return {**super()._fields(), "upto": stamps | rebuilt}


def rows_removed(cursor: Cursor | None) -> int:
    """How many rows retention has removed in all from the table that has this cursor."""
    removed = cursor.removed if isinstance(cursor, TopicCursor) else {}
    return sum(rows for partitions in removed.values() for rows in partitions.values())


def from_json(text: str) -> Cursor:
    """The cursor that a summary holds; its keys tell which one it is."""
    said = json.loads(text)
    common: dict[str, Any] = {
        "stamp": from_text(said.pop("stamp")), "rules": said.pop("rules", 1),
        "rebuilt": from_text(said.pop("rebuilt", None)), "counts": said.pop("counts", {}),
    }  # fmt: skip
    match said:
        case {"upto": dict(upto)}:
            del said["upto"]
            names = [name for name in upto if not name.endswith(_REBUILT)]
            consumed = {n: Consumed(from_text(upto[n]), from_text(upto.get(n + _REBUILT))) for n in names}
            return UpstreamsCursor(**common, upto=consumed, notes=said)
        case {"source": _, "to": _, "totals": totals, "since": since}:
            before = {name: said.pop(name, 0) for name in ("removed_before", "rejected_before")}
            place, notes = _place(said)
            return FeedCursor(**common, **place, since=_instant(since), totals=totals, **before, notes=notes)
        case {"topic": _}:
            return _of_topic(common, said)
        case {"source": _, "to": _}:
            place, notes = _place(said)
            return UpstreamCursor(**common, **place, notes=notes)
        case {"source": _} if "read" not in said:  # a file, in a change log that has read no topic yet
            return _of_topic(common, said)
    return Cursor(**common, notes=said)


def _of_topic(common: Mapping[str, Any], said: dict[str, Any]) -> TopicCursor:
    gaps = tuple(Gap(gap["accepted"], _with_int_keys(gap["was"])) for gap in said.pop("gaps", ()))
    named = {name: said.pop(name, None) for name in ("topic", "topic_id", "source")}
    began, following = (_with_int_keys(said.pop(key, {})) for key in ("from", "to"))
    epoch = from_text(said.pop("epoch", None))
    removed = {topic: _with_int_keys(rows) for topic, rows in said.pop("removed", {}).items()}
    return TopicCursor(
        **common, **named, began=began, following=following, epoch=epoch, gaps=gaps, removed=removed, notes=said
    )


def _place(said: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of an UpstreamCursor, and the rest."""
    place = {"source": said["source"], "after": from_text(said.get("from")), "upto": from_text(said["to"])}
    others = {*said} - {"source", "from", "to", "since", "totals"}
    return place, {name: said[name] for name in others}


def to_text(instant: datetime | None) -> str | None:
    """An instant as a cursor's JSON holds it."""
    return None if instant is None else instant.astimezone(UTC).isoformat(timespec="microseconds")


def from_text(text: str | None) -> datetime | None:
    return None if text is None else _instant(text)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def instant(text: str) -> datetime:
    """An instant as people write it, in UTC where it says no other zone; raises ValueError for what is none."""
    try:
        found = _instant(text)
    except ValueError:
        raise ValueError(f"{text!r} is no instant like 2026-03-02T14:30:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _with_text_keys(offsets: Mapping[int, int]) -> dict[str, int]:
    return {str(partition): offset for partition, offset in sorted(offsets.items())}


def _with_int_keys(offsets: Mapping[str, int]) -> dict[int, int]:
    return {int(partition): offset for partition, offset in offsets.items()}
