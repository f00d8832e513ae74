"""Days and slots as the ranges that a predicate holds, and days with their keys."""

from datetime import UTC, date, datetime, timedelta

from lakehouse_spark.lake.pruning import ranges, spans, units

FRIDAY = date(2025, 2, 28)


def test_days_that_follow_each_other_are_one_range_whatever_their_order() -> None:
    days = [date(2025, 3, 2), FRIDAY, date(2025, 3, 1), date(2025, 3, 4)]
    assert ranges(days) == [(FRIDAY, date(2025, 3, 2)), (date(2025, 3, 4), date(2025, 3, 4))]


def test_no_day_is_no_range() -> None:
    assert ranges([]) == []


def test_more_ranges_than_a_predicate_holds_become_one() -> None:
    every_other = [FRIDAY + timedelta(days=2 * number) for number in range(65)]
    assert len(ranges(every_other[:64])) == 64
    assert ranges(every_other) == [(FRIDAY, date(2025, 7, 6))]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NOON = 4 * 24 * 20_147 + 4 * 12
"""The slot that begins at noon of 2025-02-28."""


def test_slots_that_follow_each_other_are_one_span_whatever_their_order() -> None:
    assert spans([NOON + 2, NOON, NOON + 1, NOON - 4]) == [
        (at("2025-02-28 11:00"), at("2025-02-28 11:15")),
        (at("2025-02-28 12:00"), at("2025-02-28 12:45")),
    ]


def test_no_slot_is_no_span_and_one_before_1970_is_one() -> None:
    assert spans([]) == []
    assert spans([-1]) == [(at("1969-12-31 23:45"), at("1970-01-01"))]


def test_of_more_spans_than_a_predicate_holds_the_nearest_become_one() -> None:
    daily = [NOON + 96 * number for number in range(16)]
    assert len(spans(daily)) == 16
    merged = spans([*daily, NOON + 2])
    assert merged[0] == (at("2025-02-28 12:00"), at("2025-02-28 12:45"))
    assert merged[1:] == spans(daily[1:])


def found(*days: tuple[date, int]) -> list[tuple[date, str]]:
    """So many keys on each of the days."""
    return [(day, f"K{number}") for day, count in days for number in reversed(range(count))]


def test_a_day_keeps_its_keys_where_they_are_few() -> None:
    later = FRIDAY + timedelta(days=1)
    assert units(found((later, 9), (FRIDAY, 2))) == {FRIDAY: ["K0", "K1"], later: []}


def test_where_many_days_have_few_keys_no_keys_are_kept() -> None:
    every = [(FRIDAY + timedelta(days=number), 1) for number in range(65)]
    assert [*units(found(*every[:64])).values()] == [["K0"]] * 64
    assert [*units(found(*every)).values()] == [()] * 65
