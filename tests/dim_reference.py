"""The semantics of the dimensions once more, in plain Python: an oracle for the Spark code, written without it.

From change events it says what every version, row and inferred member holds, with nothing but hashlib, dates and loops.
What SEMANTICS.md leaves open and what is taken here:

1. Order of a key's changes: (effective date, sequence, arrival), a NULL sequence before any number. SCD3 too, whose
   bullet names only the date and arrival: "`sequence` decides ties on a date" is said of every feed.
2. SCD2's winner of a date is chosen among changes and deletes alike. A delete that beats a change on the date of a new
   key leaves no version; one that beats a change of a living key ends the version of the day before.
3. Untracked attributes: the value of the key's latest change that is no delete, also where a delete beat it on its date
   or came after it; NULL is a value. Every real version carries it, closed ones and those before a delete gap too.
4. Inferred members have NULL untracked attributes ("attributes NULL except the natural key" is the narrower rule), the
   row hash of what they hold, and are current where they are open-ended.
5. A gap without facts has no inferred member, even where there was one before a late change split it: only then is the
   dimension a function of the changes and the facts, whatever their order. A gap with facts has one member over all of
   it. It is never merged with a real version, whatever its hash.
6. A gap before the first version starts on 1900-01-01; a fact before that date, which silver refuses, is an error here.
7. SCD1: the whole row of the last change that is no delete; NULL is a value. A key with nothing but deletes has no row.
8. SCD3: every change is a statement, also one that loses on its date; deletes state nothing. `X_change_date` is the
   date of the last run's first statement. Other attributes: as in SCD1, NULL is a value.
9. A value text that is the character U+0000 itself cannot be told from NULL.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

OPEN_END = date(9999, 12, 31)
FIRST_DAY = date(1900, 1, 1)
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class ChangeEvent:
    """One record of the change log; `arrival` is its place in the total order of arrivals."""

    natural_key: str
    effective_date: date
    sequence: int | None
    arrival: int
    is_deleted: bool
    attributes: Mapping[str, Any]

    @property
    def order(self) -> tuple[date, bool, int, int]:
        return self.effective_date, self.sequence is not None, self.sequence or 0, self.arrival


@dataclass(frozen=True)
class Version:
    natural_key: str
    effective_date: date
    expiry_date: date
    is_current: bool
    attributes: Mapping[str, Any]
    row_hash: str
    is_inferred: bool = False

    def covers(self, day: date) -> bool:
        return self.effective_date <= day <= self.expiry_date


@dataclass(frozen=True)
class Dimension:
    """An SCD2 dimension: its natural key, the columns it follows, those it does not, and the one that is its name."""

    key: str
    tracked: tuple[str, ...]
    untracked: tuple[str, ...]
    name: str


SYMBOL = Dimension(
    key="symbol",
    tracked=("company_name", "sector", "industry", "market_cap_category", "listing_exchange"),
    untracked=("ipo_date",),
    name="company_name",
)
TRADER = Dimension(
    key="trader_id",
    tracked=("name", "account_type", "risk_category", "trading_tier"),
    untracked=("registration_date",),
    name="name",
)
EXCHANGE_COLUMNS = (
    "exchange_name", "timezone", "country", "currency", "market_open_time", "market_close_time", "mic",
)  # fmt: skip
ACCOUNT_COLUMNS = ("trader_id", "account_open_date", "account_type")


# Row hashes


def row_hash(attributes: Mapping[str, Any], tracked: Iterable[str]) -> str:
    """MD5 of the tracked columns in alphabetical order; a column that is not there is NULL."""
    return hashlib.md5("|".join(_hashed(attributes.get(name)) for name in sorted(tracked)).encode()).hexdigest()


def _hashed(value: Any) -> str:
    return "\0" if value is None else value_text(value).replace("\\", "\\\\").replace("|", "\\|")


def value_text(value: Any) -> str:
    """A value as Spark's ANSI cast to string writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str | int):
        return str(value)
    raise TypeError(f"value text: expected str, int, bool, Decimal or date, got {value!r}")


# SCD2


def scd2(events: Iterable[ChangeEvent], tracked: Sequence[str], untracked: Sequence[str] = ()) -> list[Version]:
    """All versions, by natural key and effective date."""
    return [
        version
        for _, history in sorted(_by_key(events).items())
        for version in _versions(history, tracked, _last_values(history, untracked))
    ]


def _by_key(events: Iterable[ChangeEvent]) -> dict[str, list[ChangeEvent]]:
    """The changes of each key, in order."""
    histories: dict[str, list[ChangeEvent]] = {}
    for event in sorted(events, key=lambda event: event.order):
        histories.setdefault(event.natural_key, []).append(event)
    return histories


def _versions(history: list[ChangeEvent], tracked: Sequence[str], untracked: dict[str, Any]) -> list[Version]:
    winners = {event.effective_date: event for event in history}
    closed: list[Version] = []
    running: Version | None = None
    for day, event in winners.items():
        found = None if event.is_deleted else row_hash(event.attributes, tracked)
        if running is not None and found == running.row_hash:
            continue
        if running is not None:
            closed.append(replace(running, expiry_date=day - ONE_DAY, is_current=False))
        if found is None:
            running = None
        else:
            values = {name: event.attributes.get(name) for name in tracked} | untracked
            running = Version(event.natural_key, day, OPEN_END, True, values, found)
    return closed if running is None else [*closed, running]


def _last_values(history: list[ChangeEvent], names: Iterable[str]) -> dict[str, Any]:
    stated = [event.attributes for event in history if not event.is_deleted]
    return {name: stated[-1].get(name) for name in names} if stated else {}


# SCD1 and SCD3: rows by natural key


def scd1(events: Iterable[ChangeEvent], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The attributes of every key that was ever stated."""
    rows = {key: _last_values(history, columns) for key, history in sorted(_by_key(events).items())}
    return {key: row for key, row in rows.items() if row}


def scd3(
    events: Iterable[ChangeEvent],
    pairs: Sequence[str] = ("tier", "status"),
    others: Sequence[str] = ACCOUNT_COLUMNS,
) -> dict[str, dict[str, Any]]:
    """The current and previous value of each pair and the other attributes, of every key that was ever stated."""
    rows = {}
    for key, history in sorted(_by_key(events).items()):
        stated = [event for event in history if not event.is_deleted]
        if stated:
            rows[key] = _last_values(stated, others)
            for name in pairs:
                rows[key] |= _pair(name, stated)
    return rows


def _pair(name: str, stated: list[ChangeEvent]) -> dict[str, Any]:
    runs: list[tuple[Any, date]] = []
    for event in stated:
        value = event.attributes.get(name)
        if value is not None and (not runs or runs[-1][0] != value):
            runs.append((value, event.effective_date))
    return {
        f"current_{name}": runs[-1][0] if runs else None,
        f"previous_{name}": runs[-2][0] if len(runs) > 1 else None,
        f"{name}_change_date": runs[-1][1] if len(runs) > 1 else None,
    }


# Inferred members


def inferred(
    versions: Iterable[Version],
    facts: Iterable[tuple[str, date]],
    tracked: Sequence[str],
    untracked: Sequence[str] = (),
    name: str | None = None,
) -> list[Version]:
    """The versions with a member for every gap that a fact (natural key, date) falls into; `name` holds the key."""
    made = list(versions)
    for key, day in sorted(set(facts)):
        of_key = [version for version in made if version.natural_key == key]
        if not any(version.covers(day) for version in of_key):
            made.append(_inferred(key, day, of_key, tracked, untracked, name))
    return sorted(made, key=lambda version: (version.natural_key, version.effective_date))


def _inferred(
    key: str, day: date, of_key: list[Version], tracked: Sequence[str], untracked: Sequence[str], name: str | None
) -> Version:
    starts = max((v.expiry_date + ONE_DAY for v in of_key if v.expiry_date < day), default=FIRST_DAY)
    ends = min((v.effective_date - ONE_DAY for v in of_key if v.effective_date > day), default=OPEN_END)
    if day < starts:
        raise ValueError(f"fact of {key!r}: expected a date from {starts}, got {day}")
    values = {column: key if column == name else None for column in (*tracked, *untracked)}
    return Version(key, starts, ends, ends == OPEN_END, values, row_hash(values, tracked), is_inferred=True)


# Tables


def dimension(
    declared: Dimension, events: Iterable[ChangeEvent], facts: Iterable[tuple[str, date]] = ()
) -> list[dict[str, Any]]:
    """The rows of dim_symbol or dim_trader, without surrogate keys and stamps."""
    versions = scd2(events, declared.tracked, declared.untracked)
    versions = inferred(versions, facts, declared.tracked, declared.untracked, declared.name)
    return [
        {
            declared.key: version.natural_key,
            **version.attributes,
            "effective_date": version.effective_date,
            "expiry_date": version.expiry_date,
            "is_current": version.is_current,
            "_row_hash": version.row_hash,
            "is_inferred": version.is_inferred,
        }
        for version in versions
    ]


def accounts(events: Iterable[ChangeEvent]) -> list[dict[str, Any]]:
    """The rows of dim_account, without surrogate keys and stamps."""
    return [{"account_id": key, **row} for key, row in scd3(events).items()]


def exchanges(events: Iterable[ChangeEvent]) -> list[dict[str, Any]]:
    """The rows of dim_exchange that the log states, without surrogate keys and stamps."""
    return [{"exchange_code": key, **row} for key, row in scd1(events, EXCHANGE_COLUMNS).items()]
