"""Literal predicates that let a read or a MERGE look at few partitions and files: days, slots of a day and keys."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

Bounds = Callable[[Callable[[str], Column]], Column]
"""Makes a predicate of the columns it is given by name, those of a table or of one side of a MERGE."""

MOST_RANGES = 64
"""Literal ranges a predicate may hold; beyond that one range covers all."""

_MOST_SPANS = 16
"""Ranges of slots a predicate may hold: unlike days, which are partitions, they are compared row by row."""

MOST_KEYS = 500
"""Literal keys a predicate may hold; beyond that the keys are joined."""

_FEW_KEYS = 8
"""With more keys than half of a table's 16 buckets, most of its files hold one of them."""


Days = Sequence[tuple[date, date]]
"""Inclusive ranges of days, in order."""

Spans = Sequence[tuple[datetime, datetime]]
"""Ranges of instants, from the first of each to before the second, in order."""


def day_set(column: str | Column) -> Column:
    """The days of the rows, as an aggregate."""
    return F.collect_set(F.to_date(column))


def days_of(rows: DataFrame, column: str) -> Days:
    """The days of the rows as ranges of consecutive days; one range where they are many."""
    return ranges(rows.agg(day_set(column)).collect()[0][0])


def ranges(days: Iterable[date]) -> Days:
    """Days as ranges of consecutive ones; one range where they are many."""
    found: list[tuple[date, date]] = []
    for day in sorted(days):
        if found and day == found[-1][1] + timedelta(days=1):
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return found if len(found) <= MOST_RANGES else [(found[0][0], found[-1][1])]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLOT = timedelta(minutes=15)
"""As long as a beat of live mode: then a batch looks at nobody's times but its own."""


def time_set(column: str) -> Column:
    """The times of the rows as an aggregate that `around` takes: days of a column of dates, named `…_date`, slots
    of one of instants."""
    return day_set(column) if _is_of_dates(column) else F.collect_set(slot(column))


def slot(column: str) -> Column:
    """Which quarter of an hour since 1970 it is."""
    return F.floor(F.unix_seconds(column) / _SLOT.total_seconds())


def around(name: str, times: Iterable[Any]) -> Bounds:
    """The times as literals that prune partitions and files: no row of one of them is outside."""
    if _is_of_dates(name):
        return within_days(name, ranges(times))
    slots = list(times)
    days = within_days(name, ranges({(_EPOCH + slot * _SLOT).date() for slot in slots}))
    near = _within(name, spans(slots))
    return lambda column: days(column) & near(column)


def spans(slots: Iterable[int]) -> Spans:
    """Slots as ranges; where these would be many, those that are nearest to each other are one."""
    ordered = sorted(slots)
    widest = sorted(range(1, len(ordered)), key=lambda n: ordered[n - 1] - ordered[n])[: _MOST_SPANS - 1]
    cuts = [0, *sorted(n for n in widest if ordered[n] - ordered[n - 1] > 1), len(ordered)] if ordered else []
    return [(_EPOCH + ordered[low] * _SLOT, _EPOCH + (ordered[high - 1] + 1) * _SLOT) for low, high in pairwise(cuts)]


def _is_of_dates(name: str) -> bool:
    return name.endswith("_date")


def _within(name: str, wanted: Iterable[tuple[Any, Any]]) -> Bounds:
    """From the first of each to before the second."""

    def bounds(column: Callable[[str], Column]) -> Column:
        inside = F.lit(False)
        for low, high in wanted:
            inside |= (column(name) >= F.lit(low)) & (column(name) < F.lit(high))
        return inside

    return bounds


def midnight(day: date) -> datetime:
    """When a UTC day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def within_days(name: str, days: Days) -> Bounds:
    """The days as literals that prune partitions; for columns of instants and, named `…_date`, of dates."""
    start: Callable[[date], date] = (lambda day: day) if _is_of_dates(name) else midnight
    return _within(name, [(start(low), start(high + timedelta(days=1))) for low, high in days])


def day_predicate(name: str, days: Days) -> Column:
    return within_days(name, days)(F.col)


Units = Mapping[date, Sequence[str]]
"""Days with the keys that are meant on each; none: all of them."""


def unit_set(day: str, key: str) -> Column:
    """The days and keys of the rows, as an aggregate that `units` takes."""
    return F.collect_set(F.struct(F.col(day).alias("day"), F.col(key).alias("key")))


def units(found: Iterable[tuple[date, str]]) -> Units:
    """Days with their keys, of days that have few; where there are many such days, the keys of none."""
    keys: dict[date, list[str]] = defaultdict(list)
    for day, key in found:
        keys[day].append(key)
    few = {day: sorted(of_day) if len(of_day) <= _FEW_KEYS else [] for day, of_day in sorted(keys.items())}
    return few if sum(map(bool, few.values())) <= MOST_RANGES else dict.fromkeys(few, ())


def unit_predicate(name: str, key: str, wanted: Units) -> Column:
    """The days and keys as literals: where a table is partitioned by both, files of other keys stay closed."""
    inside = day_predicate(name, ranges(day for day, keys in wanted.items() if not keys))
    for day, keys in wanted.items():
        if keys:
            inside |= day_predicate(name, [(day, day)]) & F.col(key).isin(*keys)
    return inside


def keys_of(rows: DataFrame, key: str) -> list[str] | None:
    """The rows' keys where they are few enough to be written into a predicate, else None."""
    found = [row[0] for row in rows.select(key).distinct().limit(MOST_KEYS + 1).collect()]
    return found if len(found) <= MOST_KEYS else None


def of_keys(rows: DataFrame, key: str, keys: DataFrame, literal: Sequence[str] | None) -> DataFrame:
    """The rows of these keys; `literal`, where there is one, prunes files and partitions."""
    chosen = rows if literal is None else rows.where(F.col(key).isin(*literal))
    return chosen.join(keys.select(key).distinct(), on=key, how="left_semi")
