"""Days as the ranges that a predicate holds."""

from datetime import date, timedelta

from lakehouse_spark.lake.pruning import ranges

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
