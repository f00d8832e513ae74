"""What the tables' metadata say for the metrics, without Spark; what is the same as before is not read again."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse_spark.catalog import BY_NAME, FEEDS, TABLES, TOPICS
from lakehouse_spark.iceberg import embedded, inventory, letters, metadata, rows
from lakehouse_spark.iceberg.inventory import Lag
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.ingest.kafka import Offered
from lakehouse_spark.lake.cursor import FeedCursor, TopicCursor
from lakehouse_spark.metadata.payload_drift import CHANGES, VANISHED
from lakehouse_spark.metrics.declared import (
    BYTES,
    COMMITTED_AT,
    DRIFTED,
    FILES,
    JUDGED,
    LAG_RECORDS,
    LAG_SECONDS,
    READ_AT,
    READABLE,
    ROWS,
    SMALL_FILES,
    SNAPSHOTS,
)
from lakehouse_spark.metrics.values import Series
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import rejected_records

KAFKA = "kafka"
"""The upstream of bronze tables, as the label of a lag names it."""
_OUTCOMES = ("records", "accepted", "duplicates", "rejected")
_HOUR = timedelta(hours=1)
_LOOKS = 1_000
"""Looks at a topic that are remembered: with more, those in between would be."""


@dataclass(frozen=True)
class Reading:
    """One look at the lakehouse: the values of metrics, and, for alerts, what waits and what was rejected."""

    values: Mapping[Series, float]
    waits: Mapping[str, float]
    """By table, the seconds for which the oldest has waited of what it has not consumed."""
    judged: Mapping[str, letters.Judged]
    """By silver table, the records of the last hour."""
    reasons: Mapping[tuple[str, str], int]
    """By bronze table and reason code, the records rejected since the look before."""


@dataclass
class Ends:
    """Where a topic ended at earlier looks: by the oldest that is not consumed it is known how long something waits."""

    looks: deque[tuple[datetime, Mapping[int, int]]] = field(default_factory=deque)
    """Those of which something waits."""
    heard: datetime | None = None
    """When the broker last answered."""

    def lag(self, offered: Offered, following: Mapping[int, int], now: datetime) -> tuple[int, float]:
        """Records that wait, and for how many seconds the oldest has."""
        self.heard = now
        place = {partition: following.get(partition, first) for partition, first in offered.earliest.items()}
        if len(self.looks) < _LOOKS:
            self.looks.append((now, offered.latest))
        while self.looks and all(end <= place.get(p, 0) for p, end in self.looks[0][1].items()):
            self.looks.popleft()
        waiting = sum(max(0, end - place.get(p, 0)) for p, end in offered.latest.items())
        since = self.looks[0][0] if waiting and self.looks else now
        return waiting, (now - since).total_seconds()

    def lag_unheard(self, now: datetime) -> float | None:
        """For how many seconds something may have waited of which a broker that is silent says nothing."""
        since = self.looks[0][0] if self.looks else self.heard
        return (now - since).total_seconds() if since else None


@dataclass
class Reader:
    """Looks at one lakehouse again and again; `offered` asks Kafka for a topic, where anyone can."""

    settings: Settings
    offered: Callable[[str], Offered] | None = None
    counts_small_files: bool = True
    """To do so reads each manifest once, which is much for one look and nothing for those that follow."""
    _small: dict[str, int] = field(default_factory=dict)
    _ends: dict[str, Ends] = field(default_factory=dict)
    _letters: datetime | None = None

    def begin(self) -> None:
        """Only what is rejected from here on counts."""
        self._letters = datetime.now(UTC)
        with suppress(embedded.MissingError):  # there is no lakehouse yet
            found = metadata.read(self.settings, [rejected_records.TABLE])
            self._letters = _stamp(found.get(rejected_records.TABLE.name)) or self._letters

    def read(self, now: datetime) -> Reading:
        """Raises what keeps the catalog or the tables from being read; a silent broker only leaves its lags out."""
        found = metadata.read(self.settings, TABLES)
        told = inventory.of(found)
        values: dict[Series, float] = {(READABLE, ()): 1, (READ_AT, ()): now.timestamp()}
        for name, table in told.tables.items():
            values[ROWS, (name,)] = table.rows
            values[FILES, (name,)] = table.data_files + table.delete_files
            values[BYTES, (name,)] = table.bytes
            values[SNAPSHOTS, (name,)] = table.snapshots
            if table.stamp:
                values[COMMITTED_AT, (name,)] = table.stamp.timestamp()
        values |= {(DRIFTED, (feed.topic.name, change)): 0 for feed in FEEDS.values() for change in CHANGES}
        for drift in told.drifts:
            values[DRIFTED, (drift.topic, drift.change)] += 1 if drift.change == VANISHED else drift.records
        for name, upstream, records, seconds in (*_lags(told, now), *self._lags_behind_kafka(found, now)):
            values[LAG_SECONDS, (name, upstream)] = seconds
            if records is not None:
                values[LAG_RECORDS, (name, upstream)] = records
        for feed in FEEDS.values():
            cursor = found[feed.table.name].cursor if feed.table.name in found else None
            if isinstance(cursor, FeedCursor):
                for outcome in _OUTCOMES:
                    values[JUDGED, (feed.table.name, outcome)] = cursor.totals.get(outcome, 0)
        if self.counts_small_files:
            values |= self._small_files(found)
        waits: dict[str, float] = {}
        for (metric, labels), value in values.items():
            if metric is LAG_SECONDS:
                waits[labels[0]] = max(waits.get(labels[0], 0), value)
        silver = [found[feed.table.name] for feed in FEEDS.values() if feed.table.name in found]
        judged = {each.table.name: letters.judged_since(each, now - _HOUR) for each in silver}
        return Reading(values, waits, judged, self._rejected(found.get(rejected_records.TABLE.name)))

    def _lags_behind_kafka(
        self, found: Mapping[str, Metadata], now: datetime
    ) -> Iterator[tuple[str, str, int | None, float]]:
        offered = self.offered
        for name, topic in TOPICS.items():
            of, ends = found.get(topic.table.name), self._ends.setdefault(name, Ends())
            cursor = of.cursor if of else None
            if not isinstance(cursor, TopicCursor) or cursor.topic is None:
                continue
            records, seconds = None, ends.lag_unheard(now)
            if offered is not None:
                try:
                    records, seconds = ends.lag(offered(self.settings.topic(name)), cursor.following, now)
                except Exception:  # the jobs that need the broker tell why
                    offered = None
            if seconds is not None:
                yield topic.table.name, KAFKA, records, seconds

    def _small_files(self, found: Mapping[str, Metadata]) -> dict[Series, float]:
        from lakehouse_spark.maintenance import plan, survey  # which bring PyIceberg

        seen: dict[str, int] = {}
        counted: dict[Series, float] = {}
        for name, of in found.items():
            low = survey.policy_of(of.table, self.settings.maintenance).target_file_bytes * plan.SMALL
            live = [manifest for manifest in of.manifests if manifest.is_of_data]
            for manifest in live:
                if manifest.path not in self._small:
                    self._small[manifest.path] = sum(file.size < low for file in of.files_in([manifest]))
                seen[manifest.path] = self._small[manifest.path]
            counted[SMALL_FILES, (name,)] = sum(seen[manifest.path] for manifest in live)
        self._small = seen
        return counted

    def _rejected(self, of: Metadata | None) -> Mapping[tuple[str, str], int]:
        stamp = _stamp(of)
        if of is None or stamp is None or self._letters is None or stamp <= self._letters:
            return {}
        after, counted = self._letters, Counter[tuple[str, str]]()
        for file in rows.written_later(of, after):
            source = str(of.partition_value(file, "source_table"))
            for batch in rows.batches(of, [file], ["reasons", rejected_records.TABLE.stamp or ""]):
                stamps = batch.column(1)
                later = batch.filter(pc.greater(stamps, pa.scalar(after, stamps.type)))
                for reason, number in Counter(pc.list_flatten(later.column(0)).to_pylist()).items():
                    counted[source, reason] += number
        self._letters = stamp
        return counted


def _stamp(of: Metadata | None) -> datetime | None:
    return of.state.stamp if of is not None and of.state is not None else None


def _lags(told: inventory.Inventory, now: datetime) -> Iterator[tuple[str, str, int | None, float]]:
    """Of every table that follows others, each of these: what waits there, or that nothing does."""
    for name, table in told.tables.items():
        lags = {lag.upstream: lag for lag in table.lags}
        for upstream in BY_NAME[name].follows:
            lag = lags.get(upstream, _NONE)
            yield name, upstream, lag.rows, lag.waited(now)


_NONE = Lag("", 0, 0.0)
"""Where nothing waits."""
