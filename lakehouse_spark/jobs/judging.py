"""What silver's judging asks of the data itself: how far a batch's keys reach."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.lake import audit, payload_drift
from lakehouse_spark.lake.audit import Verdict
from lakehouse_spark.lake.pruning import MOST_RANGES, around, slot
from lakehouse_spark.lake.queries import measured
from lakehouse_spark.settings import AuditSettings
from lakehouse_spark.silver import judging
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.transforms import dedup, drift


def decide(
    feed: Feed, judged: DataFrame, rows: DataFrame, *, from_start: bool, slots: Sequence[int] | None = None
) -> DataFrame:
    """`judging.decide`, of which the `rows` of the silver table are looked at only where the batch's own keys and
    `slots` can be; they are asked for where they are not known."""
    held = rows.where(_within_reach(feed, judged, slots))
    return judging.decide(feed, judged, held, from_start=from_start)


@dataclass(frozen=True)
class Decided:
    """Judged records as decided beside the rows of the silver table, good until the context ends."""

    records: DataFrame
    counts: dict[str, int]
    """judging.counts of them."""
    drifted: payload_drift.Found
    """What of their payloads is not as declared."""
    verdict: Verdict
    """Of the audit, on the rows that they make."""


@contextmanager
def decided(
    feed: Feed, judged: DataFrame, rows: DataFrame, audits: AuditSettings, *, from_start: bool
) -> Iterator[Decided]:
    """The judged records, decided beside the `rows` of the silver table."""
    with measured(judged, slots=_slots_of_good(feed), **drift.measures()) as (records, seen):
        found = payload_drift.Found(seen["readable"], seen["has"] or 0, seen["drifted"], records)
        judged = records.drop(*drift.COLUMNS)
        outcomes = decide(feed, judged, rows, from_start=from_start, slots=seen["slots"])
        checked, measures = audit.of(records.sparkSession, audits, feed.table), judging.counts()
        checks = checked.measures(F.col(dedup.ROW).isNotNull() & F.col(dedup.STANDS).isNull())
        with measured(outcomes, **measures, **checks) as (once, counted):
            counts = {name: counted[name] for name in measures}
            verdict = checked.verdict(records.sparkSession, counted.asDict(), counts["updated"])
            yield Decided(once, counts, found, verdict)


def _slots_of_good(feed: Feed) -> Column:
    return F.collect_set(F.when(judging.is_good(), slot(feed.event_time)))


def _within_reach(feed: Feed, judged: DataFrame, slots: Sequence[int] | None) -> Column:
    """A literal predicate that holds for every row of the table under one of the batch's keys.

    Keys that contain the event's time cannot lie outside the batch's slots. A trade_id may: it is looked for by the
    ranges of ids that occur together, day by day, and the statistics of the files tell which ones can hold it.
    """
    if not feed.key_repeats_across_days:
        slots = judged.agg(_slots_of_good(feed)).collect()[0][0] if slots is None else slots
        return around(feed.event_time, slots)(F.col)
    reach = F.lit(False)
    for low, high in _key_ranges(judging.good(judged), feed):
        reach = reach | F.col(feed.key).between(low, high)
    return reach


def _key_ranges(good: DataFrame, feed: Feed) -> list[tuple[str, str]]:
    found = judging.key_families(good, feed).limit(MOST_RANGES + 1).collect()
    if len(found) > MOST_RANGES:
        found = good.agg(F.min(feed.key).alias("low"), F.max(feed.key).alias("high")).collect()
    merged: list[tuple[str, str]] = []
    for low, high in ((row["low"], row["high"]) for row in found if row["low"] is not None):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged
