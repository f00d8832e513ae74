"""When a trade settles: each date against a literal, from a calendar, from hours alone, and from neither."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Lock
from typing import Any

import exchange_calendars
import pytest

from lakehouse_spark.transforms import market_hours

NYSE = {"mic": "XNYS", "timezone": "America/New_York", "settlement_days": 1}
LSE = {"mic": "XLON", "timezone": "Europe/London", "settlement_days": 2}
TOKYO = {"mic": "XTKS", "timezone": "Asia/Tokyo", "settlement_days": 2}
HOURS_ONLY = {"timezone": "America/New_York", "market_open_time": "09:30", "market_close_time": "16:00"}
NIGHT = {"timezone": "America/Chicago", "market_open_time": "17:00", "market_close_time": "16:00", "settlement_days": 1}
ROUND_THE_CLOCK = {"timezone": "UTC", "market_open_time": "00:00", "market_close_time": "24:00"}
COLUMNS = ("mic", "timezone", "market_open_time", "market_close_time", "settlement_days")


def exchange(**stated: Any) -> dict[str, Any]:
    return {"exchange_code": "X", **dict.fromkeys(COLUMNS), **stated}


def settles(listed: dict[str, Any], when: str) -> str:
    """The settlement date of a trade at a UTC minute."""
    instant = datetime.fromisoformat(f"{when}:00+00:00")
    day = instant.date()
    rows = market_hours.settlements([exchange(**listed)], [(day, day)])
    (settled,) = {row[4] for row in rows if row[1] == day and row[2] <= instant < row[3]}
    return str(settled)


@pytest.mark.parametrize(
    ("listed", "when", "expected"),
    [
        (NYSE, "2025-06-06T15:00", "2025-06-09"),  # a Friday
        ({**NYSE, "settlement_days": 2}, "2025-06-06T15:00", "2025-06-10"),
        ({**NYSE, "settlement_days": None}, "2025-06-06T15:00", "2025-06-10"),
        ({**NYSE, "settlement_days": 0}, "2025-06-06T15:00", "2025-06-06"),
        (NYSE, "2025-06-07T15:00", "2025-06-10"),  # a Saturday's counts to Monday
        ({**NYSE, "settlement_days": 0}, "2025-06-08T15:00", "2025-06-09"),
        (NYSE, "2025-07-04T15:00", "2025-07-08"),  # Independence Day, a Friday, counts to Monday
        (NYSE, "2025-07-03T15:00", "2025-07-07"),  # the eve of it, with an early close
        (NYSE, "2025-07-03T21:00", "2025-07-07"),  # after that close it is still the local day
        (NYSE, "2025-06-10T03:59", "2025-06-10"),  # 23:59 on Monday in New York
        (NYSE, "2025-06-10T04:00", "2025-06-11"),
        (NYSE, "2025-01-14T04:59", "2025-01-14"),  # in winter the day begins an hour later
        (NYSE, "2025-01-14T05:00", "2025-01-15"),
        (NYSE, "2025-03-10T03:59", "2025-03-11"),  # the Sunday on which summer time began counts to Monday
        (NYSE, "2025-03-11T03:59", "2025-03-11"),
        (LSE, "2025-03-28T16:00", "2025-04-01"),  # over the weekend on which British summer time began
        (LSE, "2025-04-17T15:00", "2025-04-23"),  # Maundy Thursday: over Good Friday and Easter Monday
        (TOKYO, "2025-06-08T14:59", "2025-06-11"),  # 23:59 on Sunday in Tokyo counts to Monday
        (TOKYO, "2025-06-08T15:00", "2025-06-11"),
        (TOKYO, "2025-06-09T15:00", "2025-06-12"),  # Tuesday in Tokyo
        (TOKYO, "2025-12-30T03:00", "2026-01-06"),  # over the turn of the year
        (HOURS_ONLY, "2025-07-03T15:00", "2025-07-07"),  # without a calendar the 4th is a Friday like any other
        (HOURS_ONLY, "2025-07-05T15:00", "2025-07-09"),
        (NIGHT, "2025-06-06T22:30", "2025-06-09"),  # Friday evening, when no session opens
        (NIGHT, "2025-06-08T22:30", "2025-06-10"),  # Sunday evening, when Monday's opens
        (NIGHT, "2025-06-09T22:30", "2025-06-11"),
        (ROUND_THE_CLOCK, "2025-06-06T23:59", "2025-06-08"),  # a coin settles on a Sunday too
        ({**ROUND_THE_CLOCK, "settlement_days": 0}, "2025-06-08T00:00", "2025-06-08"),
        ({}, "2025-06-06T15:00", "2025-06-08"),  # nothing is known of it: always open, by the UTC day
        ({"mic": "ASEX", "timezone": "Europe/Athens"}, "2015-06-26T12:00", "2015-08-04"),  # Athens closed for weeks
        ({"mic": "IEXG", "timezone": "America/New_York"}, "2025-07-03T15:00", "2025-07-08"),  # a calendar it shares
        ({"timezone": "EST/EDT", "market_open_time": "09:30", "market_close_time": "16:00"}, "2025-06-07T12:00",
         "2025-06-09"),
    ],
)  # fmt: skip
def test_a_trade_settles_trading_days_after_the_local_day_it_counts_to(
    listed: dict[str, Any], when: str, expected: str
) -> None:
    assert settles(listed, when) == expected


def test_every_moment_of_the_days_asked_for_has_one_settlement_date() -> None:
    first, last = date(2025, 3, 3), date(2025, 4, 30)
    for listed in (NYSE, LSE, TOKYO, HOURS_ONLY, NIGHT, ROUND_THE_CLOCK, {}):
        rows = sorted(market_hours.settlements([exchange(**listed)], [(first, last)]))
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            reached = midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
            of_day = [(max(row[2], midnight), row[3], row[4]) for row in rows if row[1] == day]
            settled = [row[2] for row in of_day if row[2] is not None]
            assert len(settled) == len(of_day)
            assert settled == sorted(settled)
            for begins, ends, _ in of_day:
                assert begins == reached
                reached = ends
            assert reached >= midnight + timedelta(days=1)


def test_days_far_apart_are_asked_for_one_by_one_and_come_out_as_in_one_range() -> None:
    days = [date(2025, 1, 3), date(2025, 6, 7), date(2025, 7, 4)]
    apart = market_hours.settlements([exchange(**NYSE)], [(day, day) for day in days])
    whole = market_hours.settlements([exchange(**NYSE)], [(days[0], days[-1])])
    assert {(row[1], row[3], row[4]) for row in apart} == {(r[1], r[3], r[4]) for r in whole if r[1] in days}
    assert len(apart) == len(set(apart)) == 6


def test_what_settles_after_the_last_day_that_a_calendar_knows_has_no_date() -> None:
    shanghai = exchange(exchange_code="SSE", mic="XSHG", timezone="Asia/Shanghai", settlement_days=1)
    until = market_hours._known("XSHG")[1]
    rows = market_hours.settlements([shanghai], [(until - timedelta(days=14), until)])
    *_, before, last = sorted({row[4] for row in rows if row[4] is not None})
    assert before < last <= until
    assert max(rows, key=lambda row: row[2])[4] is None


def test_days_far_apart_are_asked_for_at_once_and_alone() -> None:
    days = [(date(2005, 6, 6), date(2005, 6, 6)), (date(2025, 6, 6), date(2025, 6, 6))]
    rows = market_hours.settlements([exchange(**LSE)], days)
    assert sorted({row[1] for row in rows}) == [date(2005, 6, 6), date(2025, 6, 6)]
    assert market_hours.settlements([exchange(**LSE)], []) == []


def test_tables_side_by_side_make_their_calendars_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While pandas makes one, it changes the filters of warnings for all threads."""
    made, at_work = exchange_calendars.get_calendar, Lock()

    def get_calendar(*args: Any, **between: Any) -> Any:
        assert at_work.acquire(blocking=False)
        try:
            return made(*args, **between)
        finally:
            at_work.release()

    monkeypatch.setattr(exchange_calendars, "get_calendar", get_calendar)
    years = range(1990, 1998)  # no other test asks for them
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda year: market_hours.nyse_sessions([year]), years))
    assert [len(sessions) for sessions in found[-2:]] == [254, 254]  # 1996, and 1997 with the day before it
