"""When exchanges trade: their calendars (exchange-calendars), or the hours that dim_exchange gives them."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from itertools import zip_longest
from typing import Any
from zoneinfo import ZoneInfo

import exchange_calendars

Hours = tuple[str, date, datetime, datetime, datetime, datetime]

_WEEK = timedelta(days=7)
_SAME_DAYS = {"IEXG": "XNYS"}
"""Exchanges that have no calendar of their own and trade when another does."""


def hours(exchanges: Iterable[Any], first: date, last: date) -> list[Hours]:
    """Rows of `sessions.HOURS` for the UTC days from `first` to `last`.

    An exchange (a row of dim_exchange) whose `mic` names a calendar follows it, holidays and early closes included; any
    other trades from market_open_time to market_close_time on weekdays, and one without those never.
    """
    rows = []
    for exchange in exchanges:
        zone = _zone(exchange)
        sessions = sorted(_sessions(exchange, zone, first - timedelta(days=1), last + timedelta(days=1)))
        for (day, opens, closes), following in zip_longest(sessions, sessions[1:]):
            begins, ends = (_at(d, time(), zone) for d in (day, day + timedelta(days=1)))
            begins = min(begins, opens)  # a session may open on the evening before, and end that day
            ends = ends if following is None else min(ends, following[1])
            utc_day = begins.date()
            while utc_day <= (ends - timedelta(microseconds=1)).date():
                rows.append((exchange["exchange_code"], utc_day, begins, ends, opens, closes))
                utc_day += timedelta(days=1)
    return rows


def _sessions(exchange: Any, zone: ZoneInfo, first: date, last: date) -> Iterator[tuple[date, datetime, datetime]]:
    calendar = _calendar(exchange["mic"])
    since, until = (date.max, date.min) if calendar is None else (first, last)
    if calendar is not None:
        try:
            schedule = _schedule(calendar, first, last)
        except ValueError:  # it does not know all of these days
            since, until = _known(calendar)
            # a week more on either side: a calendar takes no range of a single day
            begins, ends = max(first - _WEEK, since), min(last + _WEEK, until)
            schedule = _schedule(calendar, begins, ends) if begins < ends else []
        yield from (session for session in schedule if first <= session[0] <= last)
    opens, closes = _clock(exchange["market_open_time"]), _clock(exchange["market_close_time"])
    if opens is None or closes is None:
        return
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        if day.weekday() < 5 and not since <= day <= until:
            yield day, _at(day, opens, zone), _at(day, closes, zone)


def _calendar(mic: str | None) -> str | None:
    """The name of the exchange's calendar; None where there is none."""
    name = _SAME_DAYS.get(mic or "", mic)
    return name if name in exchange_calendars.get_calendar_names(include_aliases=True) else None


def _known(calendar: str) -> tuple[date, date]:
    """The days that the calendar knows: some begin late, and some end with this year."""
    found = exchange_calendars.get_calendar(calendar)
    since, until = found.bound_min(), found.bound_max()
    return date.min if since is None else since.date(), date.max if until is None else until.date()


def _schedule(calendar: str, first: date, last: date) -> list[tuple[date, datetime, datetime]]:
    try:
        schedule = exchange_calendars.get_calendar(calendar, start=first.isoformat(), end=last.isoformat()).schedule
    except exchange_calendars.errors.NoSessionsError:
        return []
    return [
        (session.date(), opens.to_pydatetime(), closes.to_pydatetime())
        for session, opens, closes in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
    ]


def _zone(exchange: Any) -> ZoneInfo:
    """The exchange's time zone; its calendar's where it names none that there is."""
    with suppress(ValueError, OSError, KeyError):
        if exchange["timezone"]:
            return ZoneInfo(exchange["timezone"])
    calendar = _calendar(exchange["mic"])
    return ZoneInfo("UTC" if calendar is None else str(exchange_calendars.get_calendar(calendar).tz))


def _clock(text: str | None) -> time | None:
    padded = f"0{text}" if text and text[1:2] == ":" else text
    try:
        return time.fromisoformat(padded) if padded else None
    except ValueError:
        return None


def _at(day: date, clock: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock, zone).astimezone(UTC)
