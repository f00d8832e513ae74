"""Repeats: which record counts, however the records are cut into batches and however often they are read."""

import random
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import pure
import pytest
import reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lake import bar, book, trade
from pyspark.sql import SparkSession
from reference import ACCEPTED, DUPLICATE, REJECTED, Record

TOPICS = ("raw_trades", "raw_orderbook", "raw_marketdata")


def batches(*values: Iterable[bytes | None]) -> list[list[Record]]:
    """Each group of values as a batch of its own, one second after the other."""
    made, offset = [], 0
    for number, group in enumerate(values):
        made.append(pure.records_of(group, stamp=pure.STAMP + timedelta(seconds=number), first=offset))
        offset += len(made[-1])
    return made


def run(spark: SparkSession, topic: str, parts: Sequence[Sequence[Record]], *, from_start: bool = False) -> pure.Table:
    table = pure.Table(topic)
    for number, part in enumerate(parts):
        table.apply(spark, part, from_start=from_start or number == 0)
    return table


def said(table: pure.Table) -> list[str]:
    """What became of the records, in the order of their offsets; a rejected one by its reasons."""
    return [
        " ".join(reasons) if outcome == REJECTED else outcome
        for (_, _), (outcome, reasons) in sorted(table.outcomes.items())
    ]


def held(table: pure.Table, *names: str) -> dict[str, tuple[Any, ...]]:
    return {key: tuple(row[name] for name in names) for key, row in table.rows.items()}


CONFLICT = "conflicting_duplicate"

STATUS_STORIES = {
    ("PARTIAL", "EXECUTED", "CANCELLED"): ([ACCEPTED] * 3, "CANCELLED"),
    ("PARTIAL", "CANCELLED", "EXECUTED"): ([ACCEPTED, ACCEPTED, DUPLICATE], "CANCELLED"),
    ("EXECUTED", "PARTIAL", "CANCELLED"): ([ACCEPTED, DUPLICATE, ACCEPTED], "CANCELLED"),
    ("EXECUTED", "EXECUTED", "PARTIAL"): ([ACCEPTED, DUPLICATE, DUPLICATE], "EXECUTED"),
    ("CANCELLED", "PARTIAL", "EXECUTED"): ([ACCEPTED, DUPLICATE, DUPLICATE], "CANCELLED"),
    ("PARTIAL", "PARTIAL", "EXECUTED"): ([ACCEPTED, DUPLICATE, ACCEPTED], "EXECUTED"),
}


@pytest.mark.parametrize("cut", [(3,), (1, 1, 1), (1, 2), (2, 1)])
def test_a_status_only_moves_forward(spark: SparkSession, cut: tuple[int, ...]) -> None:
    rounds = [[trade(trade_id="-".join(story), status=story[n]) for story in STATUS_STORIES] for n in range(3)]
    groups, at = [], 0
    for size in cut:
        groups.append([value for part in rounds[at : at + size] for value in part])
        at += size
    table = run(spark, "raw_trades", batches(*groups))
    outcomes = said(table)
    stories = len(STATUS_STORIES)
    assert [outcomes[n::stories] for n in range(stories)] == [wanted for wanted, _ in STATUS_STORIES.values()]
    assert held(table, "status", "_source_offset") == {
        "-".join(story): (last, number) for number, (story, (_, last)) in enumerate(STATUS_STORIES.items())
    }


CONFLICTS = (
    {"symbol": "MSFT"}, {"price": 187.500001}, {"quantity": 99}, {"trade_type": "SELL"}, {"order_type": "STOP"},
    {"trader_id": "TR2"}, {"exchange": "NYSE"}, {"timestamp": "2025-01-15T15:30:00.000001Z"}, {"account_id": "A1"},
    {"commission": 0}, {"price": 188, "status": "CANCELLED"},
)  # fmt: skip
SAME = (
    {}, {"price": "187.5000004"}, {"price": "18750e-2"}, {"quantity": "1e2"}, {"symbol": " aapl"},
    {"trade_type": "buy"}, {"timestamp": "2025-01-15T16:30:00+01:00"},
    {"timestamp": 1736955000000}, {"status": "executed"}, {"status": None},
    {"account_id": ""}, {"commission": None}, {"venue": "X"}, {"status": "PARTIAL"},
)  # fmt: skip


@pytest.mark.parametrize("together", [True, False])
def test_every_business_column_but_the_status_tells_a_conflict_from_a_duplicate(
    spark: SparkSession, together: bool
) -> None:
    changes = (*CONFLICTS, *SAME)
    first = [trade(trade_id=f"T{n}") for n in range(len(changes))]
    second = [trade(trade_id=f"T{n}", **change) for n, change in enumerate(changes)]
    table = run(spark, "raw_trades", batches([*first, *second]) if together else batches(first, second))
    outcomes = said(table)
    assert set(outcomes[: len(changes)]) == {ACCEPTED}
    found = {str(change): outcome for change, outcome in zip(changes, outcomes[len(changes) :], strict=True)}
    assert found == {str(c): CONFLICT for c in CONFLICTS} | {str(c): DUPLICATE for c in SAME}
    assert set(held(table, "status", "price", "symbol").values()) == {("EXECUTED", first_price(), "AAPL")}


def first_price() -> Any:
    return reference.to_decimal("187.5")


def test_a_refused_record_neither_makes_nor_changes_a_row(spark: SparkSession) -> None:
    values = [
        trade(price=0), trade(), trade(price=0), trade(quantity=7, status="CANCELLED"), trade(exchange="?"), trade(),
        trade(status="CANCELLED"),
    ]  # fmt: skip
    wanted = [
        "invalid_price", ACCEPTED, "invalid_price", CONFLICT, "unknown_exchange", DUPLICATE, ACCEPTED,
    ]  # fmt: skip
    for parts in (batches(values), batches(values[:1], values[1:4], values[4:])):
        table = run(spark, "raw_trades", parts)
        assert said(table) == wanted
        assert held(table, "status", "quantity", "_source_offset") == {"T1": ("CANCELLED", 100, 1)}


def test_an_order_book_is_never_restated_and_a_bar_always(spark: SparkSession) -> None:
    books = [book(), book(bids=[[187.4, 1]]), book(), book(bids=[[187.49, 50], [187.49, 250]]), book(exchange="NYSE")]
    for parts in (batches(books), batches(*([value] for value in books))):
        table = run(spark, "raw_orderbook", parts)
        assert said(table) == [ACCEPTED, CONFLICT, DUPLICATE, CONFLICT, ACCEPTED]
        assert sorted(held(table, "_source_offset").values()) == [(0,), (4,)]

    bars = [
        bar(),
        bar(volume=1),
        bar(),
        bar(vwap=...),
        bar(volume=1),
        bar(trade_count=...),
        bar(interval="5m"),
        bar(vwap=""),
    ]
    for parts in (batches(bars), batches(bars[:3], bars[3:]), batches(*([value] for value in bars))):
        table = run(spark, "raw_marketdata", parts)
        wanted = [ACCEPTED, ACCEPTED, DUPLICATE, ACCEPTED, DUPLICATE, ACCEPTED, ACCEPTED, DUPLICATE]
        assert said(table) == wanted
        assert sorted(held(table, "interval", "volume", "trade_count", "_source_offset").values(), key=str) == [
            ("1m", 12000, None, 5),
            ("5m", 12000, 17, 6),
        ]


def test_arrival_is_the_stamp_then_the_partition_then_the_offset(spark: SparkSession) -> None:
    early, late = pure.STAMP, pure.STAMP + timedelta(microseconds=1)

    def placed(value: bytes, stamp: Any, partition: int, offset: int) -> Record:
        return Record(value, offset, stamp, partition)

    first = [
        placed(trade(price=2), early, 1, 0),
        placed(trade(price=1), early, 0, 7),
        placed(trade(price=3), early, 0, 8),
    ]
    second = [placed(trade(price=4), late, 0, 1), placed(trade(price=1, status="CANCELLED"), late, 3, 0)]
    table = run(spark, "raw_trades", [first, second])
    assert table.outcomes == {
        (0, 7): (ACCEPTED, []),
        (0, 8): (REJECTED, [CONFLICT]),
        (1, 0): (REJECTED, [CONFLICT]),
        (0, 1): (REJECTED, [CONFLICT]),
        (3, 0): (ACCEPTED, []),
    }
    assert held(table, "_source_partition", "_source_offset", "status") == {"T1": (0, 7, "CANCELLED")}


STORY = {
    "raw_trades": [
        trade(status="PARTIAL"), trade(price=1), trade(), trade(status="PARTIAL"), trade(status="CANCELLED"),
        trade(trade_id="T2"), trade(trade_id="T2", price=0), trade(trade_id="T3"),
    ],
    "raw_orderbook": [book(), book(bids=[]), book(), book(exchange="LSE"), book(asks=[])],
    "raw_marketdata": [bar(), bar(volume=1), bar(), bar(volume=2), bar(volume=1), bar(exchange="LSE"), bar(volume=-1)],
}  # fmt: skip


@pytest.mark.parametrize("topic", TOPICS)
def test_reading_the_same_records_again_from_the_start_says_the_same_and_writes_nothing(
    spark: SparkSession, topic: str
) -> None:
    (records,) = batches(STORY[topic])
    table = run(spark, topic, [records])
    again = pure.Table(topic, rows={key: dict(row) for key, row in table.rows.items()})
    again.apply(spark, records, from_start=True)
    assert again.outcomes == table.outcomes
    assert again.rows == table.rows


@pytest.mark.parametrize("topic", TOPICS)
def test_the_same_payloads_sent_twice_change_no_row(spark: SparkSession, topic: str) -> None:
    first, second = batches(STORY[topic], STORY[topic])
    once, twice = run(spark, topic, [first]), run(spark, topic, [first, second])
    assert twice.rows == once.rows
    assert twice.counts[ACCEPTED] == once.counts[ACCEPTED]
    assert {outcome for (_, offset), (outcome, _) in twice.outcomes.items() if offset >= len(first)} <= {
        DUPLICATE,
        REJECTED,
    }


# Any cut into batches

VARIANTS = {
    "raw_trades": lambda key, variant: trade(
        trade_id=f"T{key}", price=(1, 1, 1, 2)[variant % 4], status=("PARTIAL", "EXECUTED", "CANCELLED")[variant % 3]
    ),
    "raw_orderbook": lambda key, variant: book(
        snapshot_time=f"2025-01-15T15:{key:02}:00Z", bids=([[187, 1]], [[187, 1]], [], [[186, 1]])[variant % 4]
    ),
    "raw_marketdata": lambda key, variant: bar(
        tick_time=f"2025-01-15T15:{key:02}:00Z", volume=(0, 1, 2, -1)[variant % 4], vwap=(None, 1)[variant % 2]
    ),
}


@pytest.mark.parametrize("topic", TOPICS)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_any_cut_into_batches_ends_where_the_oracle_does(
    spark: SparkSession, topic: str, seed: int, cuts: list[int]
) -> None:
    """60 keys, five records each; every cut is a batch: its stamp, two partitions, and offsets that go on."""
    chance = random.Random(seed)
    values = [VARIANTS[topic](key, chance.randrange(12)) for key in range(60) for _ in range(5)]
    chance.shuffle(values)
    numbers = [chance.randrange(sum(cuts)) for _ in values]
    edges = [sum(cuts[: n + 1]) for n in range(len(cuts))]
    parts: list[list[Record]] = [[] for _ in cuts]
    following = [0, 0]
    for value, number in sorted(zip(values, numbers, strict=True), key=lambda pair: pair[1]):
        batch = next(n for n, edge in enumerate(edges) if number < edge)
        partition = chance.randrange(2)
        parts[batch].append(Record(value, following[partition], pure.STAMP + timedelta(seconds=batch), partition))
        following[partition] += 1
    everything = [record for part in parts for record in part]
    wanted = reference.silver(topic, everything, pure.EXCHANGES)

    table = run(spark, topic, [part for part in parts if part])
    assert table.outcomes == wanted.outcomes
    assert table.counts == wanted.counts
    compared = {"status", "volume", "best_bid_price", "_source_partition", "_source_offset"}
    found = {key: {name: row[name] for name in compared & set(wanted.rows[key])} for key, row in table.rows.items()}
    assert found == {key: {name: row[name] for name in compared & set(row)} for key, row in wanted.rows.items()}
