"""When exchanges trade: their calendars (exchange-calendars), or the hours that dim_exchange gives them."""

import warnings
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import exchange_calendars

Hours = tuple[str, date, datetime, datetime, datetime, datetime]


def hours(exchanges: Iterable[Any], first: date, last: date) -> list[Hours]:
    """Rows of `sessions.HOURS` for the UTC days from `first` to `last`.

    An exchange (a row of dim_exchange) whose `mic` names a calendar follows it, holidays and early closes included; any
    other trades from market_open_time to market_close_time on weekdays, and one without those never.
    """
    rows = []
    for exchange in exchanges:
        zone = _zone(exchange["timezone"])
        for day, opens, closes in _sessions(exchange, zone, first - timedelta(days=1), last + timedelta(days=1)):
            begins, ends = (_at(d, time(), zone) for d in (day, day + timedelta(days=1)))
            utc_day = begins.date()
            while utc_day <= (ends - timedelta(microseconds=1)).date():
                rows.append((exchange["exchange_code"], utc_day, begins, ends, opens, closes))
                utc_day += timedelta(days=1)
    return rows


def _sessions(exchange: Any, zone: ZoneInfo, first: date, last: date) -> Iterator[tuple[date, datetime, datetime]]:
    schedule = _schedule(exchange["mic"], first, last)
    if schedule is not None:
        yield from schedule
        return
    opens, closes = _clock(exchange["market_open_time"]), _clock(exchange["market_close_time"])
    if opens is None or closes is None:
        return
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        if day.weekday() < 5:
            yield day, _at(day, opens, zone), _at(day, closes, zone)


def _schedule(mic: str | None, first: date, last: date) -> list[tuple[date, datetime, datetime]] | None:
    """The calendar's sessions; None where there is no such calendar, or it does not reach over these days."""
    if mic is None or mic not in exchange_calendars.get_calendar_names(include_aliases=True):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # exchange-calendars 4.13 on pandas 3.1
            calendar = exchange_calendars.get_calendar(mic, start=first.isoformat(), end=last.isoformat())
            schedule = calendar.schedule
    except exchange_calendars.errors.NoSessionsError:
        return []
    except ValueError:
        return None
    return [
        (session.date(), opens.to_pydatetime(), closes.to_pydatetime())
        for session, opens, closes in zip(schedule.index, schedule["open"], schedule["close"], strict=True)
    ]


def _zone(name: str | None) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ValueError, OSError, KeyError):
        return ZoneInfo("UTC")


def _clock(text: str | None) -> time | None:
    try:
        return time.fromisoformat(text) if text else None
    except ValueError:
        return None


def _at(day: date, clock: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock, zone).astimezone(UTC)
