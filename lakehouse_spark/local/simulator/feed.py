"""The whole feed: clean events and dirt in arrival order, with the books kept on what must become of them."""

from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush
from random import Random

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.local.simulator.dirt import Hand, Kind, Outcome, amounts
from lakehouse_spark.local.simulator.event import DAY, MINUTE, Event, payload
from lakehouse_spark.local.simulator.market import Market
from lakehouse_spark.local.simulator.scenario import (
    BARS,
    BOOKS,
    TOPICS,
    TRADES,
    Expectation,
    Record,
    Scenario,
    TopicExpectation,
)

_SILVER = {TRADES: "silver.trades", BOOKS: "silver.orderbook_snapshots", BARS: "silver.market_data"}


class Feed:
    """A scenario's records in arrival order; `expected` once they have been read to the end.

    Every iteration gives the same records. A follow-up has its original's key and comes after it, so that its fate is
    the same for any number of partitions.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._expected: Expectation | None = None

    @property
    def expected(self) -> Expectation:
        if self._expected is None:
            raise LakehouseError("simulator: the amounts are known when the feed has been read to its end; iterate it")
        return self._expected

    def __iter__(self) -> Iterator[Record]:
        scenario = self.scenario
        market = Market(scenario)
        dice = Random(f"{scenario.seed} dirt")
        clean, kinds = _plan(scenario, market.most_bars, dice)
        hosts = {topic: {number: kind.status for number, kind in kinds[topic].items()} for topic in TOPICS}
        books, hand, turns = _Books(), Hand(dice), Counter[Kind]()
        waiting: list[tuple[int, int, Record]] = []
        order = 0
        for minute, batch in market.minutes(clean[TRADES], clean[BOOKS], clean[BARS], hosts):
            while waiting and waiting[0][0] < minute * MINUTE:
                yield heappop(waiting)[2]
            for event in batch:
                order += 2
                record = Record(event.topic, event.key, payload(event.fields))
                heappush(waiting, (event.arrival, order, record))
                books.accept(event)
                if kind := kinds[event.topic].get(event.number):
                    hand.turn = turns[kind]
                    turns[kind] += 1
                    dirty = kind.make(event, hand)
                    record = Record(event.topic, event.key if dirty.keyed else None, dirty.value)
                    heappush(waiting, (event.arrival + dirty.delay, order + 1, record))
                    books.enter(event, kind, dirty.outcome, dirty.reasons, dirty.late)
        while waiting:
            yield heappop(waiting)[2]
        self._expected = books.closed()


def _plan(scenario: Scenario, most_bars: int, dice: Random) -> tuple[dict[str, int], dict[str, dict[int, Kind]]]:
    """The clean events per topic, and which of them have which dirt: 60 % trades, 25 % books, 15 % bars of each.

    Bars that do not exist (see Market.most_bars) become trades.
    """
    dirty = round(scenario.events * scenario.dirt)
    tidy = scenario.events - dirty
    clean = {BOOKS: tidy * 25 // 100, BARS: min(tidy * 15 // 100, most_bars)}
    dirt = {BOOKS: min(dirty * 25 // 100, clean[BOOKS]), BARS: min(dirty * 15 // 100, clean[BARS])}
    rest = scenario.events - sum(clean.values()) - sum(dirt.values())
    dirt[TRADES] = min(dirty - sum(dirt.values()), rest // 2)
    clean[TRADES] = rest - dirt[TRADES]
    kinds: dict[str, dict[int, Kind]] = {}
    for topic in TOPICS:
        drawn = [kind for kind, count in amounts(topic, dirt[topic]).items() for _ in range(count)]
        kinds[topic] = dict(zip(dice.sample(range(clean[topic]), len(drawn)), drawn, strict=True))
    return clean, kinds


class _Books:
    """The running account: what each record must become, entered as it is made."""

    def __init__(self) -> None:
        self._rows: Counter[str] = Counter()
        self._outcomes: Counter[tuple[str, Outcome]] = Counter()
        self._reasons: dict[str, Counter[str]] = {topic: Counter() for topic in TOPICS}
        self._kinds: Counter[str] = Counter()
        self._activity: Counter[tuple[int, int, int]] = Counter()

    def accept(self, event: Event) -> None:
        self._rows[event.topic] += 1
        if event.topic == TRADES and event.active:
            self._activity[event.trader, event.symbol, event.at // DAY] += 1

    def enter(self, host: Event, kind: Kind, outcome: Outcome, reasons: tuple[str, ...], late: Event | None) -> None:
        self._kinds[f"{kind.topic}/{kind.name}"] += 1
        if late:
            self.accept(late)
            return
        self._outcomes[kind.topic, outcome] += 1
        self._reasons[kind.topic].update(reasons)
        if outcome is Outcome.CANCEL:
            self._activity[host.trader, host.symbol, host.at // DAY] -= 1

    def closed(self) -> Expectation:
        topics = {topic: self._topic(topic) for topic in TOPICS}
        rows = {table: self._rows[topic] for topic, table in _SILVER.items()}
        rows["silver.trader_activity"] = sum(count > 0 for count in self._activity.values())
        rows["silver._rejected_records"] = sum(found.rejected for found in topics.values())
        return Expectation(topics, rows, dict(sorted(self._kinds.items())))

    def _topic(self, topic: str) -> TopicExpectation:
        accepted = self._rows[topic] + self._outcomes[topic, Outcome.UPDATE] + self._outcomes[topic, Outcome.CANCEL]
        duplicates, rejected = self._outcomes[topic, Outcome.DUPLICATE], self._outcomes[topic, Outcome.REJECTED]
        return TopicExpectation(
            records=accepted + duplicates + rejected,
            accepted=accepted,
            duplicates=duplicates,
            rejected=rejected,
            reasons=dict(sorted(self._reasons[topic].items())),
        )
