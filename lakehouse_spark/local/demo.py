"""`lakehouse demo`: a simulated market through a real broker into the tables, and the proof that all of it arrived."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse_spark import verify
from lakehouse_spark.catalog import FEEDS, TABLES
from lakehouse_spark.jobs import pipeline
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import snapshots
from lakehouse_spark.lake.cursor import FeedCursor
from lakehouse_spark.local import simulator
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.silver.rejected_records import TABLE as REJECTED

_MODEL = ("dim", "gold")
_OUTCOMES = ("accepted", "duplicates", "rejected")


@dataclass(frozen=True)
class Flow:
    """What became of one topic's records, layer by layer; `rows` is what the silver table holds in the end."""

    topic: str
    produced: int
    bronze: int
    accepted: int
    duplicates: int
    rejected: int
    rows: int
    reasons: Mapping[str, int]

    @property
    def lost(self) -> int:
        """Records that are in Kafka and not in bronze, or in bronze and not accounted for in silver."""
        counted = self.accepted + self.duplicates + self.rejected
        return max(self.produced - self.bronze, 0) + max(self.bronze - counted, 0)

    @property
    def doubled(self) -> int:
        counted = self.accepted + self.duplicates + self.rejected
        return max(self.bronze - self.produced, 0) + max(counted - self.bronze, 0)


@dataclass(frozen=True)
class Outcome:
    """The whole demo: a flow per topic, what contradicts the simulator's books, the invariants, and rows per table."""

    flows: list[Flow]
    surprises: list[str]
    findings: list[verify.Finding]
    rows: Mapping[str, int]

    @property
    def proved(self) -> bool:
        sound = not any(flow.lost or flow.doubled for flow in self.flows)
        return sound and not self.surprises and all(finding.holds for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {
            "proved": self.proved,
            "lost": sum(flow.lost for flow in self.flows),
            "doubled": sum(flow.doubled for flow in self.flows),
            "flows": [asdict(flow) for flow in self.flows],
            "surprises": self.surprises,
            "findings": [finding.as_dict() for finding in self.findings],
            "rows": dict(self.rows),
        }


def last_trading_days_end(today: date) -> date:
    """A day all of whose sessions, Tokyo's to New York's after-hours, are over."""
    return today - timedelta(days=2)


def publish(settings: Settings, feed: simulator.Feed, progress: Callable[[int], None]) -> None:
    """Sends the reference records and the whole feed to the topics of these settings."""
    everything = chain(simulator.changes(feed.scenario), feed)
    records = (record._replace(topic=settings.topic(record.topic)) for record in everything)
    simulator.publish(records, str(settings.kafka.bootstrap_servers), settings.kafka_options(), progress)


def run(
    spark: SparkSession,
    settings: Settings,
    feed: simulator.Feed,
    *,
    report: Callable[[Summary | verify.Finding], None] = lambda step: None,
) -> Outcome:
    """Runs the pipeline over a feed that was published before, and proves the result.

    In a lakehouse that holds records already, the flows count what this run added.
    """
    before = _totals(spark)
    pipeline.run(spark, settings, report=report)
    after = _totals(spark)
    flows = [_flow(spark, silver, feed.expected, before, after) for silver in FEEDS.values()]
    fresh = all(before[silver.topic.name]["records"] == 0 for silver in FEEDS.values())
    surprises = list(_surprises(flows, feed.expected)) if fresh else []
    rows = {table.name: snapshots.row_count(spark, table) for table in TABLES if table.namespace in _MODEL}
    return Outcome(flows, surprises, verify.run(spark, settings, report=report), rows)


def _totals(spark: SparkSession) -> dict[str, dict[str, Any]]:
    """Per topic what bronze and silver have counted so far."""
    zero = {"bronze": 0, "records": 0, "accepted": 0, "duplicates": 0, "rejected": 0, "reasons": {}}
    if not all(spark.catalog.tableExists(table.identifier) for table in TABLES):
        return {feed.topic.name: zero for feed in FEEDS.values()}
    found = {}
    for feed in FEEDS.values():
        cursor = snapshots.state(spark, feed.table).cursor_as(FeedCursor)
        bronze = snapshots.row_count(spark, feed.topic.table)
        found[feed.topic.name] = {**zero, "bronze": bronze, **(cursor.totals if cursor else {})}
        found[feed.topic.name]["reasons"] = _reasons(spark, feed)
    return found


def _reasons(spark: SparkSession, feed: Feed) -> dict[str, int]:
    """Rejected records per reason code; a record with several counts under each."""
    letters = spark.table(REJECTED.identifier).where(F.col("source_table") == feed.topic.table.name)
    counted = letters.select(F.explode("reasons").alias("reason")).groupBy("reason").count().orderBy("reason").collect()
    return {row["reason"]: row["count"] for row in counted}


def _flow(
    spark: SparkSession,
    feed: Feed,
    expected: simulator.Expectation,
    before: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]],
) -> Flow:
    topic = feed.topic.name
    was, now = before[topic], after[topic]
    reasons = {code: number - was["reasons"].get(code, 0) for code, number in now["reasons"].items()}
    return Flow(
        topic=topic,
        produced=expected.topics[topic].records,
        bronze=now["bronze"] - was["bronze"],
        **{name: now[name] - was[name] for name in _OUTCOMES},
        rows=snapshots.row_count(spark, feed.table),
        reasons={code: number for code, number in reasons.items() if number},
    )


def _surprises(flows: list[Flow], expected: simulator.Expectation) -> Iterator[str]:
    """Where the tables and the simulator's own books disagree."""
    for flow in flows:
        books = expected.topics[flow.topic]
        for name in _OUTCOMES:
            if getattr(flow, name) != getattr(books, name):
                yield f"{flow.topic}: {getattr(flow, name):,} {name}, simulated {getattr(books, name):,}"
        for code in sorted({*flow.reasons, *books.reasons}):
            if flow.reasons.get(code, 0) != books.reasons.get(code, 0):
                yield f"{flow.topic}: {flow.reasons.get(code, 0):,} {code}, simulated {books.reasons.get(code, 0):,}"
        table = next(feed.table.name for feed in FEEDS.values() if feed.topic.name == flow.topic)
        if table in expected.silver_rows and flow.rows != expected.silver_rows[table]:
            yield f"{table}: {flow.rows:,} rows, simulated {expected.silver_rows[table]:,}"


def scenario(events: int, days: int, seed: int, now: datetime | None = None) -> simulator.Scenario:
    """The demo's scenario; the same arguments on the same day give the same records."""
    today = (now or datetime.now(UTC)).date()
    return simulator.Scenario(events=events, days=days, seed=seed, end=last_trading_days_end(today))
