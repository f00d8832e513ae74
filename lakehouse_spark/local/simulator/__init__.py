"""A seeded market and its Kafka feed, dirt in known amounts included."""

from collections.abc import Iterator

from lakehouse_spark.local.simulator.changes import changes
from lakehouse_spark.local.simulator.feed import Feed
from lakehouse_spark.local.simulator.publishing import publish
from lakehouse_spark.local.simulator.reference import Account, Symbol, Trader, accounts, symbols, traders
from lakehouse_spark.local.simulator.scenario import TOPICS, Expectation, Record, Scenario, TopicExpectation

__all__ = [
    "TOPICS", "Account", "Expectation", "Feed", "Record", "Scenario", "Symbol", "TopicExpectation", "Trader",
    "accounts", "changes", "expected", "publish", "records", "symbols", "traders",
]  # fmt: skip


def records(scenario: Scenario) -> Iterator[Record]:
    """The scenario's records in arrival order, exactly `scenario.events` of them."""
    return iter(Feed(scenario))


def expected(scenario: Scenario) -> Expectation:
    """What a lakehouse that reads the records and nothing else must hold. Generates them: see Feed for doing both."""
    feed = Feed(scenario)
    for _ in feed:
        pass
    return feed.expected
