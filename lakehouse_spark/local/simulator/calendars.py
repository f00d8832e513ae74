"""When exchanges trade: sessions of the exchanges' own calendars, in minutes since 1970."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

MICS = {"NYSE": "XNYS", "NASDAQ": "XNYS", "LSE": "XLON", "XETRA": "XETR", "TSE": "XTKS", "HKEX": "XHKG"}

_NEW_YORK = ZoneInfo("America/New_York")
_OUTSIDE_SHARE = 0.025
"""Share of the regular session's activity before the open, and again after the close."""

_AVERAGE = 1200


@dataclass(frozen=True, slots=True)
class Session:
    """One exchange's trading day: pre-market from `starts`, regular from `opens` to `closes`, then until `ends`."""

    starts: int
    opens: int
    closes: int
    ends: int
    lunch: range

    def intensities(self) -> Iterator[tuple[int, int]]:
        """Each minute with trading and its relative intensity: a U over the regular session, little around it."""
        regular = self.closes - self.opens
        outside = _AVERAGE * _OUTSIDE_SHARE * regular
        for minute in range(self.starts, self.ends):
            if minute < self.opens:
                yield minute, int(outside / (self.opens - self.starts))
            elif minute >= self.closes:
                yield minute, int(outside / (self.ends - self.closes))
            elif minute not in self.lunch:
                yield minute, _AVERAGE // 2 + int(1.5 * _AVERAGE * (2 * (minute - self.opens) / regular - 1) ** 2)


@cache
def sessions(exchange: str, end: date, count: int) -> tuple[Session, ...]:
    """The exchange's last `count` sessions up to and including `end`."""
    import exchange_calendars  # two seconds of pandas, for nobody but the simulator

    first = end - timedelta(days=2 * count + 30)
    calendar = exchange_calendars.get_calendar(MICS[exchange], start=first.isoformat(), end=end.isoformat())
    found = []
    for day in calendar.sessions[-count:]:
        opens, closes = (_minute(at) for at in calendar.session_open_close(day))
        lunch = range(0)
        if calendar.session_has_break(day):
            lunch = range(*(_minute(at) for at in calendar.session_break_start_end(day)))
        if MICS[exchange] == "XNYS":
            starts, ends = (_minute(datetime.combine(day.date(), time(at), _NEW_YORK)) for at in (4, 20))
        else:
            starts, ends = opens - 60, closes + 60
        found.append(Session(starts, opens, closes, ends, lunch))
    return tuple(found)


def _minute(at: datetime) -> int:
    return int(at.timestamp()) // 60
