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
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import exchange_calendars

from tests.support.silver_oracle import MalformedError, Record, decoded, is_lone, parse, to_long

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
    "settlement_days",
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


# Records of the change log's topic, one by one


@dataclass(frozen=True)
class Feed:
    """The columns of a dimension's feed by their kind, the natural key first, and other names that some have."""

    columns: Mapping[str, str]
    aliases: Mapping[str, str]

    @property
    def key(self) -> str:
        return next(iter(self.columns))


PLACING = {"effective_date": "date", "sequence": "integer", "is_deleted": "flag"}
FEEDS = {
    "dim_symbol": Feed({"symbol": "symbol", **dict.fromkeys(SYMBOL.tracked, "text"), "ipo_date": "date"}, {}),
    "dim_trader": Feed(dict.fromkeys(("trader_id", *TRADER.tracked), "text") | {"registration_date": "date"}, {}),
    "dim_account": Feed(
        {
            **dict.fromkeys(("account_id", "tier", "status", "trader_id"), "text"),
            "account_open_date": "date",
            "account_type": "text",
        },
        {"currenttier": "tier", "currentstatus": "status"},
    ),
    "dim_exchange": Feed(
        {
            "exchange_code": "exchange_code", "exchange_name": "text", "timezone": "timezone", "country": "text",
            "currency": "text", "market_open_time": "hours", "market_close_time": "hours", "mic": "mic",
            "settlement_days": "settlement",
        },
        {},
    ),
}  # fmt: skip

_BLANKS = " \t\n\r\f\v\u00a0"
_DATE = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]00:00(?::00(?:\.0+)?)?(?:Z|\+00:00)?)?")
_HOURS = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?")
_WHOLE = re.compile(r"([+-]?[0-9]{1,19})(?:\.0+)?")
_SHARED_CALENDARS = {"IEXG", "XNSE"}
_MICS = {name.upper() for name in exchange_calendars.get_calendar_names(include_aliases=True)} | _SHARED_CALENDARS
_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True)
class Referred:
    """What a record says: the dimension it names, why it is refused, or its columns' values (those it has)."""

    dimension: str | None
    reasons: Sequence[str]
    values: Mapping[str, Any]


def refer(record: Record, max_bytes: int) -> Referred:
    """A record of the topic, judged by itself; a record without a date is of the day on which it arrived."""
    value = record.value
    if value is None:
        return Referred(None, ["tombstone"], {})
    if len(value) > max_bytes:
        return Referred(None, ["oversized_record"], {})
    if value[:1] == b"\0" and len(value) >= 5:
        return Referred(None, ["schema_registry_framing"], {})
    text, raw_bytes = decoded(value)
    if raw_bytes is not None or text is None:
        return Referred(None, ["invalid_encoding"], {})
    try:
        read = parse(text)
    except MalformedError:
        return Referred(None, ["malformed_json"], {})
    if is_lone(read):
        return Referred(None, ["invalid_encoding"], {})
    named = {}
    for name, member in zip(read.parts[::2], read.parts[1::2], strict=True):
        named["dimension" if _fold(name) == "dimension" else name.strip(_BLANKS).lower()] = member
    dimension = _stated(named.get("dimension"))
    if dimension is None:
        return Referred(None, ["missing_dimension"], {})
    if not isinstance(dimension, str) or dimension not in FEEDS:
        return Referred(None, ["invalid_dimension"], {})
    return _of_feed(FEEDS[dimension], dimension, named, record)


def _of_feed(feed: Feed, dimension: str, named: Mapping[str, Any], record: Record) -> Referred:
    kinds = {**feed.columns, **PLACING}
    names = {**{_fold(name): name for name in kinds}, **feed.aliases}
    stated = {names.get(_fold(name), name): value for name, value in named.items()}
    values: dict[str, Any] = {}
    reasons = []
    for name, kind in kinds.items():
        written = _stated(stated.get(name))
        if kind in ("date", "integer", "flag", "settlement"):
            written = str(written).lower() if isinstance(written, bool) else written
            if isinstance(written, str) and written.lower() in ("nan", "nat") and kind != "flag":
                written = None
        if written is None:
            if name == feed.key:
                reasons.append(f"missing_{name}")
            elif name in stated:
                values[name] = None
            continue
        try:
            values[name] = _KINDS[kind](written)
        except ValueError:
            reasons.append(f"invalid_{name}")
    opens, closes = (_of_day(_stated(stated.get(f"market_{way}_time"))) for way in ("open", "close"))
    if dimension == "dim_exchange" and opens is not None and opens == closes:
        reasons += ["invalid_market_open_time", "invalid_market_close_time"]
    if dimension == "dim_exchange" and opens == 24 * 60 * 60:
        reasons.append("invalid_market_open_time")
    values["effective_date"] = values.get("effective_date") or record.ingested_at.date()
    values["is_deleted"] = values.get("is_deleted") or False
    return Referred(dimension, sorted(set(reasons)), values)


def _fold(name: str) -> str:
    """Names are compared in lower case, without blanks, hyphens and underscores."""
    kept = "".join(character for character in name if character not in f"{_BLANKS}-_")
    return "".join(character.lower() if character.isascii() else character for character in kept)


def _stated(value: Any) -> Any:
    """A text trimmed; None for null and blanks; anything else as it is."""
    if not isinstance(value, str):
        return value
    return value.strip(_BLANKS) or None


def _text(value: Any) -> str:
    if not isinstance(value, str) or value == "\0":
        raise ValueError(value)
    return str(value)


def _code(pattern: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        code = _text(value).translate(_UPPER)
        if not re.fullmatch(pattern, code):
            raise ValueError(value)
        return code

    return read


def _day(value: Any) -> date:
    found = _DATE.fullmatch(_text(value))
    if not found:
        raise ValueError(value)
    return date.fromisoformat(found[1])


def _integer(value: Any) -> int:
    found = _WHOLE.fullmatch(_text(value))
    number = int(found[1]) if found else to_long(value)
    if number is None or not -(2**63) <= number < 2**63:
        raise ValueError(value)
    return number


def _settlement(value: Any) -> int:
    days = _integer(value)
    if days not in range(31):
        raise ValueError(value)
    return days


def _flag(value: Any) -> bool:
    text = _text(value)
    lower = text.lower() if text.isascii() else text
    if lower in ("1", "1.0", "true", "t", "yes", "y"):
        return True
    if lower in ("0", "0.0", "false", "f", "no", "n", "nan"):
        return False
    raise ValueError(value)


def _of_day(value: Any) -> int | None:
    """The seconds since midnight of a local time up to 24:00."""
    found = _HOURS.fullmatch(value) if isinstance(value, str) and value.isascii() else None
    if not found:
        return None
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    total = (hours * 60 + minutes) * 60 + seconds
    return total if minutes < 60 and seconds < 60 and total <= 24 * 60 * 60 else None


def _hours(value: Any) -> str:
    if _of_day(value) is None:
        raise ValueError(value)
    return _text(value)


def _one_of(known: Container[str], read: Callable[[Any], str] = _text) -> Callable[[Any], str]:
    def one(value: Any) -> str:
        text = read(value)
        if text not in known:
            raise ValueError(value)
        return text

    return one


_KINDS: Mapping[str, Callable[[Any], Any]] = {
    "text": _text,
    "symbol": _code(r"[A-Z0-9][A-Z0-9.\-]{0,14}"),
    "exchange_code": _code(r"[ -~]+"),
    "mic": _one_of(_MICS, _code(r"(?s:.*)")),
    "timezone": _one_of(available_timezones() - {"localtime", "Factory"}),
    "hours": _hours,
    "date": _day,
    "integer": _integer,
    "settlement": _settlement,
    "flag": _flag,
}


# Sessions of an exchange


def session(exchange: Mapping[str, str | None], instant: datetime) -> str:
    """The session by an exchange's hours, one without a calendar: REGULAR at any time where they are not all known."""
    opens, closes = (_of_day(exchange[f"market_{way}_time"]) for way in ("open", "close"))
    if opens is None or closes is None or opens == closes or not exchange["timezone"]:
        return "REGULAR"
    local = instant.astimezone(ZoneInfo(exchange["timezone"]))
    clock = (local.hour * 60 + local.minute) * 60 + local.second
    if (opens, closes) == (0, 24 * 60 * 60):
        return "REGULAR"
    today, tomorrow = local.weekday() < 5, (local.weekday() + 1) % 7 < 5
    if closes > opens:
        before = clock < opens
        return "CLOSED" if not today else "PRE_MARKET" if before else "REGULAR" if clock < closes else "AFTER_HOURS"
    if tomorrow and clock >= opens:
        return "REGULAR"
    return "CLOSED" if not today else "REGULAR" if clock < closes else "AFTER_HOURS"
