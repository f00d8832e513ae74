"""Changes of dimensions as the SCD transforms take them, and many random histories in one frame."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from lakehouse_spark.lake import frames
from tests.support.dim_oracle import ChangeEvent

Drawn = TypeVar("Drawn")

OPEN = date(9999, 12, 31)
ORDER = ("sequence", "arrival")
_PLACE = "effective_date date, sequence int, arrival int, is_deleted boolean"


def june(day: int) -> date:
    return date(2025, 6, day)


@dataclass(frozen=True)
class Change:
    """A change of `key` on a day of June 2025, its attributes in the order of the frame's columns."""

    key: str
    day: int
    values: tuple[Any, ...]
    sequence: int | None = None
    gone: bool | None = False


def change(key: str, day: int, *values: Any, sequence: int | None = None) -> Change:
    return Change(key, day, values, sequence)


def delete(key: str, day: int, *values: Any, sequence: int | None = None) -> Change:
    return Change(key, day, values, sequence, gone=True)


def frame(spark: SparkSession, columns: str, *changes: Change) -> DataFrame:
    """The changes, arrived in the order in which they stand here; `columns` declares the key and the attributes."""
    width = columns.count(",")
    rows = [
        (each.key, *(each.values or (None,) * width), june(each.day), each.sequence, arrival, each.gone)
        for arrival, each in enumerate(changes)
    ]
    return frames.of_rows(spark, rows, f"{columns}, {_PLACE}").orderBy("arrival", ascending=False)


def drawn(strategy: st.SearchStrategy[Drawn], count: int, number: int = 0) -> list[Drawn]:
    """`count` examples, the same ones in every run: so many are one Spark job, where one by one they would be many."""
    found: list[Drawn] = []

    @seed(number)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def draw(example: Drawn) -> None:
        found.append(example)

    draw()
    return found


def prefixed(events: Iterable[ChangeEvent], prefix: str) -> list[ChangeEvent]:
    """The same history of keys of its own."""
    return [replace(event, natural_key=f"{prefix}{event.natural_key}") for event in events]


def together(histories: Iterable[Sequence[ChangeEvent]]) -> list[ChangeEvent]:
    """All histories at once, each under a prefix of its own."""
    return [event for n, events in enumerate(histories) for event in prefixed(events, f"H{n:03}-")]


def event_frame(spark: SparkSession, events: Sequence[ChangeEvent], key: str, columns: Mapping[str, str]) -> DataFrame:
    """The events as a frame; `columns` tells the types of the attributes."""
    rows = [
        (
            event.natural_key, *(event.attributes.get(name) for name in columns), event.effective_date, event.sequence,
            event.arrival, event.is_deleted,
        )
        for event in events
    ]  # fmt: skip
    declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return frames.of_rows(spark, rows, f"{key} string, {declared}, {_PLACE}")


def as_dicts(rows: DataFrame, *order: str) -> list[dict[str, Any]]:
    return sorted((row.asDict() for row in rows.collect()), key=lambda row: tuple(row[name] for name in order))
