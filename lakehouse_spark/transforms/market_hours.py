"""When exchanges trade, in which session of its exchange's day a moment is, and when a trade of then settles.

An exchange trades by its calendar (exchange-calendars), by the hours that dim_exchange gives it, or always.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, lru_cache
from threading import Lock
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.types import DATE, INSTANT, TEXT

HOURS = T.StructType(
    [
        T.StructField("exchange_code", TEXT),
        T.StructField("utc_date", DATE),
        T.StructField("day_from", INSTANT),
        T.StructField("day_to", INSTANT),
        T.StructField("opens", INSTANT),
        T.StructField("closes", INSTANT),
    ]
)
"""An exchange's trading days: one row per local day and UTC date it touches; `day_to` and `closes` are exclusive.

A day whose session opens on the evening before begins then, and ends the day before it."""

SETTLEMENTS = T.StructType(
    [
        T.StructField("exchange_code", TEXT),
        T.StructField("utc_date", DATE),
        T.StructField("traded_from", INSTANT),
        T.StructField("traded_to", INSTANT),
        T.StructField("settlement_date", DATE),
    ]
)
"""When trades settle: one row per exchange, UTC date, and trading day that a trade of then counts to; `traded_to` is
exclusive, and together the rows of an exchange leave no moment of their dates out."""

EXCHANGE_COLUMNS = (
    "exchange_code", "timezone", "market_open_time", "market_close_time", "mic", "settlement_days",
)  # fmt: skip
"""The columns of dim_exchange by which it trades and its trades settle."""

SETTLEMENT_DAYS = 2
"""The sessions from trade to settlement at an exchange that states no number of its own."""

NYSE_SESSIONS = T.StructType(
    [
        T.StructField("session", DATE),
        T.StructField("pre_market", INSTANT),
        T.StructField("open", INSTANT),
        T.StructField("close", INSTANT),
        T.StructField("after_hours", INSTANT),
    ]
)
"""The NYSE's trading days by their date in New York: pre-market trading begins at 04:00, after-hours trading ends at
20:00, and the close is the regular or the early one."""

NEW_YORK = ZoneInfo("America/New_York")
_NYSE, _PRE_MARKET_OPENS, _AFTER_HOURS_CLOSES = "XNYS", time(4), time(20)

Hours = tuple[str, date, datetime, datetime, datetime, datetime]
Settlement = tuple[str, date, datetime, datetime, date | None]
Session = tuple[date, datetime, datetime]
"""A trading day, and the instants between which it is REGULAR."""

_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)
_SAME_DAYS = {"IEXG": "XNYS", "XNSE": "XBOM"}
"""Exchanges that have no calendar of their own and trade when another does."""

CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9])?|24:00(?::00)?"
"""A local time as HH:MM or HH:MM:SS; 24:00 is the midnight after it."""

TIME_ZONES = frozenset(available_timezones() - {"localtime", "Factory"})
"""The names of the IANA time zones."""


def mics() -> frozenset[str]:
    """What names a calendar, in upper case: market identifier codes, and the other names that the calendars have."""
    return frozenset({*_calendars(), *_SAME_DAYS})


def hours(exchanges: Iterable[Any], first: date, last: date) -> list[Hours]:
    """Rows of HOURS for the UTC days from `first` to `last`.

    An exchange (a row of dim_exchange) whose `mic` names a calendar follows it, holidays and early closes included.
    Any other, and on days that its calendar does not know, trades by its hours if `market_open_time`,
    `market_close_time` and `timezone` are known. One without them is always open. A value that breaks the rules of
    dim_exchange, in a row that older ones made, is as good as none.
    """
    rows = []
    for exchange in exchanges:
        zone = _zone(exchange)
        # East of Greenwich the last UTC day ends on the local day after it, on which the next one's session may open.
        sessions = sorted(_sessions(exchange, zone, first - _DAY, last + 2 * _DAY))
        for (day, opens, closes), ends in zip(sessions, _ends(sessions, zone), strict=True):
            begins = min(_at(day, time(), zone), opens)
            for utc_day in _utc_days(begins, ends):
                rows.append((exchange["exchange_code"], utc_day, begins, ends, opens, closes))
    return rows


def settlements(exchanges: Iterable[Any], days: Sequence[tuple[date, date]]) -> list[Settlement]:
    """Rows of SETTLEMENTS for the UTC days in the ranges `days`, which do not overlap.

    A trade counts to its exchange's trading day, by the local clock and by `hours`; what is traded on a closed day, to
    the next one. From there it settles `settlement_days` trading days later, SETTLEMENT_DAYS where that is not known.
    """
    wanted = {first + n * _DAY for first, last in days for n in range((last - first).days + 1)}
    if not wanted:
        return []
    # The calendars are asked once for all of the days: to make them for many years takes hardly longer than for one.
    made = (_settlements_of(exchange, min(wanted), max(wanted)) for exchange in exchanges)
    return [row for rows in made for row in rows if row[1] in wanted]


def _settlements_of(exchange: Any, first: date, last: date) -> Iterator[Settlement]:
    zone, later = _zone(exchange), exchange["settlement_days"]
    later = SETTLEMENT_DAYS if later is None else later
    until = last
    sessions: list[Session] = []
    # The last UTC day may reach into the session after the local day after it; some markets were closed for weeks.
    while sum(day > last + _DAY for day, _, _ in sessions) <= later:
        until += 2 * _WEEK
        sessions = sorted(_sessions(exchange, zone, first - _DAY, until))
    calendar = _calendar(exchange["mic"])
    known_until = date.max if calendar is None else _known(calendar)[1]
    begins = midnight = datetime.combine(first, time(), UTC)
    for ends, (settles, _, _) in zip(_ends(sessions, zone), sessions[later:], strict=False):
        for utc_day in _utc_days(begins, ends):
            if utc_day <= last:
                yield exchange["exchange_code"], utc_day, begins, ends, settles if settles <= known_until else None
        begins = max(midnight, ends)


def _ends(sessions: Sequence[Session], zone: ZoneInfo) -> Iterator[datetime]:
    """When each of consecutive trading days ends: at local midnight, or as the next one's session opens before that."""
    for number, (day, _, _) in enumerate(sessions, start=1):
        midnight = _at(day + _DAY, time(), zone)
        yield midnight if number == len(sessions) else min(midnight, sessions[number][1])


def _utc_days(begins: datetime, ends: datetime) -> Iterator[date]:
    """The UTC dates from an instant to before another."""
    day = begins.date()
    while day <= (ends - timedelta(microseconds=1)).date():
        yield day
        day += _DAY


def _sessions(exchange: Any, zone: ZoneInfo, first: date, last: date) -> Iterator[Session]:
    calendar = _calendar(exchange["mic"])
    since, until = (date.max, date.min) if calendar is None else (first, last)
    if calendar is not None:
        years = date(first.year, 1, 1), date(last.year, 12, 31)  # whole ones, which the next batch asks for too
        try:
            schedule = _schedule(calendar, *years)
        except ValueError:  # it does not know all of these days
            since, until = _known(calendar)
            # a week more on either side: a calendar takes no range of a single day
            begins, ends = max(years[0] - _WEEK, since), min(years[1] + _WEEK, until)
            schedule = _schedule(calendar, begins, ends) if begins < ends else ()
        yield from (session for session in schedule if first <= session[0] <= last)
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        if not since <= day <= until and (session := _session(exchange, zone, day)) is not None:
            yield session


def _session(exchange: Any, zone: ZoneInfo, day: date) -> Session | None:
    """The session of a day by the exchange's hours, None on a weekend; without hours, the whole day.

    A close before the open is on the day after it, and is the day's whose session it closes.
    """
    opens, closes = _clock(exchange["market_open_time"]), _clock(exchange["market_close_time"])
    if opens is None or closes is None or opens == closes or exchange["timezone"] not in TIME_ZONES:
        return day, _at(day, time(), zone), _at(day + _DAY, time(), zone)
    if day.weekday() >= 5 and (opens, closes) != (timedelta(), _DAY):
        return None
    opened_on = day - _DAY if closes < opens else day
    return day, _local(opened_on, opens, zone), _local(day, closes, zone)


@cache
def _calendars() -> Mapping[str, str]:
    """The names of the calendars, by themselves in upper case."""
    from exchange_calendars import get_calendar_names  # with pandas, for which who only looks would wait a second

    return {name.upper(): name for name in get_calendar_names(include_aliases=True)}


_ONE_AT_A_TIME = Lock()
"""Held while a calendar is made: pandas then sets the filters of warnings aside and puts them back, for all threads."""


def _trading(calendar: str, **between: str) -> Any:
    from exchange_calendars import get_calendar

    with _ONE_AT_A_TIME:
        return get_calendar(calendar, **between)


def _calendar(mic: str | None) -> str | None:
    """The name of the exchange's calendar; None where there is none."""
    code = (mic or "").upper()
    return _calendars().get(_SAME_DAYS.get(code, code))


@lru_cache
def _known(calendar: str) -> tuple[date, date]:
    """The days that the calendar knows: some begin late, and some end with this year."""
    found = _trading(calendar)
    since, until = found.bound_min(), found.bound_max()
    return date.min if since is None else since.date(), date.max if until is None else until.date()


@lru_cache
def _schedule(calendar: str, first: date, last: date) -> tuple[Session, ...]:
    """The calendar's sessions; a second and more of work for some, so they are kept."""
    from exchange_calendars.errors import NoSessionsError

    try:
        schedule = _trading(calendar, start=first.isoformat(), end=last.isoformat()).schedule
    except NoSessionsError:
        return ()
    return tuple(
        (session.date(), opens.to_pydatetime(), closes.to_pydatetime())
        for session, opens, closes in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
    )


def _zone(exchange: Any) -> ZoneInfo:
    """The exchange's time zone, else its calendar's; without either its days are those of UTC."""
    if exchange["timezone"] in TIME_ZONES:
        return ZoneInfo(exchange["timezone"])
    calendar = _calendar(exchange["mic"])
    return ZoneInfo("UTC" if calendar is None else str(_trading(calendar).tz))


def _clock(text: str | None) -> timedelta | None:
    """A local time, as what has passed since midnight: 24:00 is a day."""
    if not re.fullmatch(CLOCK, text or ""):
        return None
    parts = [int(part) for part in str(text).split(":")]
    return timedelta(hours=parts[0], minutes=parts[1], seconds=sum(parts[2:]))


def _local(day: date, clock: timedelta, zone: ZoneInfo) -> datetime:
    return _at(day + _DAY, time(), zone) if clock == _DAY else _at(day, (datetime.min + clock).time(), zone)


def _at(day: date, clock: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock, zone).astimezone(UTC)


def nyse_sessions(years: Sequence[int]) -> list[tuple[date, datetime, datetime, datetime, datetime]]:
    """Rows of NYSE_SESSIONS: all that may reach into the UTC `years`, with holidays and early closes."""
    return [
        (day, _at(day, _PRE_MARKET_OPENS, NEW_YORK), opens, closes, _at(day, _AFTER_HOURS_CLOSES, NEW_YORK))
        for day, opens, closes in _schedule(_NYSE, date(min(years) - 1, 12, 31), date(max(years), 12, 31))
    ]


def session(at: Column, opens: Column, closes: Column, *, is_closed: Column) -> Column:
    """The market session of an instant: CLOSED where that is said, else PRE_MARKET before `opens`, REGULAR up to before
    `closes`, AFTER_HOURS from then on."""
    return (
        F.when(is_closed, "CLOSED").when(at < opens, "PRE_MARKET").when(at < closes, "REGULAR").otherwise("AFTER_HOURS")
    )


def with_session(trades: DataFrame, hours: DataFrame) -> DataFrame:
    """Adds `market_session` to trades (`exchange`, `trade_date`, `trade_timestamp`).

    REGULAR from open to before close, lunch breaks included; PRE_MARKET before and AFTER_HOURS from the close, to the
    ends of the exchange's local day; CLOSED on days that `hours` (HOURS) does not have.
    """
    at, opens = F.col("trade_timestamp"), F.col("opens")
    on = (
        (F.col("exchange") == F.col("exchange_code"))
        & (F.col("trade_date") == F.col("utc_date"))
        & (at >= F.col("day_from"))
        & (at < F.col("day_to"))
    )
    named = session(at, opens, F.col("closes"), is_closed=opens.isNull())
    joined = trades.join(F.broadcast(hours), on=on, how="left").withColumn("market_session", named)
    return joined.drop(*HOURS.names)


def with_settlement_date(trades: DataFrame, settlements: DataFrame) -> DataFrame:
    """Adds `settlement_date` to trades (`exchange`, `trade_date`, `trade_timestamp`): the one that `settlements`
    (SETTLEMENTS) has for their exchange and instant; NULL for an exchange that it lacks."""
    at = F.col("trade_timestamp")
    on = (
        (F.col("exchange") == F.col("exchange_code"))
        & (F.col("trade_date") == F.col("utc_date"))
        & (at >= F.col("traded_from"))
        & (at < F.col("traded_to"))
    )
    joined = trades.join(F.broadcast(settlements), on=on, how="left")
    return joined.drop("exchange_code", "utc_date", "traded_from", "traded_to")
