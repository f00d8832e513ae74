"""What to simulate, what comes out, and what a lakehouse must make of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from lakehouse_spark.errors import UsageError

TRADES, BOOKS, BARS = TOPICS = ("raw_trades", "raw_orderbook", "raw_marketdata")

MOST_DIRT = 0.4
"""Every dirty record is modelled on a clean one of its own, so clean records must be the majority."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A feed's parameters; the same ones give the same bytes.

    `end` is the last trading day, `days` counts each exchange's own sessions up to it, `dirt` is the share of records
    that are repeats, updates, late, conflicting or wrong. `end` must lie far enough back that all its sessions are over
    (Tokyo's to New York's after-hours), or records come from the future.
    """

    events: int = 100_000
    days: int = 3
    seed: int = 7
    end: date
    symbols: int = 50
    traders: int = 40
    dirt: float = 0.03

    def __post_init__(self) -> None:
        for name, least in (("events", 0), ("days", 1), ("symbols", 1), ("traders", 1)):
            if (found := getattr(self, name)) < least:
                raise UsageError(f"simulator: {name} must be at least {least}, found {found}")
        if not 0 <= self.dirt <= MOST_DIRT:
            raise UsageError(f"simulator: dirt must be a share between 0 and {MOST_DIRT}, found {self.dirt}")

    @property
    def tag(self) -> str:
        """Begins every trade id, so that feeds of different scenarios share none."""
        return hashlib.blake2b(repr(self).encode(), digest_size=4).hexdigest()


class Record(NamedTuple):
    """One Kafka record."""

    topic: str
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True)
class TopicExpectation:
    """One topic's records: `records` = `accepted` + `duplicates` + `rejected`.

    `reasons` counts the records that carry each reason code, so its sum exceeds `rejected` where some carry several.
    """

    records: int
    accepted: int
    duplicates: int
    rejected: int
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class Expectation:
    """The known amounts of a feed, for a lakehouse that has read nothing else.

    `silver_rows` is by table name, `kinds` counts the injected dirt as `topic/kind`.
    """

    topics: Mapping[str, TopicExpectation]
    silver_rows: Mapping[str, int]
    kinds: Mapping[str, int]
