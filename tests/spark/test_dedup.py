"""Repeats: which record counts, however the records are cut into batches and however often they are read."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import combinations_with_replacement, permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from tests.support import in_memory, silver_oracle
from tests.support.lake import bar, book, trade
from tests.support.silver_oracle import ACCEPTED, DUPLICATE, REJECTED, Record

MAKE = {"raw_trades": trade, "raw_orderbook": book, "raw_marketdata": bar}
NAMED_BY = {"raw_trades": "trade_id", "raw_orderbook": "symbol", "raw_marketdata": "symbol"}
CONFLICT = "conflicting_duplicate"

Changes = Mapping[str, Any]


def batches(*values: Iterable[bytes | None]) -> list[list[Record]]:
    """Each group of values as a batch of its own, one second after the other."""
    made: list[list[Record]] = []
    for number, group in enumerate(values):
        first = sum(len(batch) for batch in made)
        made.append(in_memory.records_of(group, stamp=in_memory.STAMP + timedelta(seconds=number), first=first))
    return made


def run(spark: SparkSession, topic: str, parts: Sequence[Sequence[Record]]) -> in_memory.Table:
    table = in_memory.Table(topic)
    for number, part in enumerate(parts):
        table.apply(spark, part, from_start=number == 0)
    return table


def played(
    spark: SparkSession, topic: str, histories: Sequence[Sequence[Changes]], *columns: str
) -> Iterator[tuple[set[tuple[str, ...]], set[tuple[Any, ...]]]]:
    """Each history's outcomes, and its row: the record that made it and the columns; over all cuts into 3 batches.

    A history is the records of one key, as changes of a valid one. Each cut is played under a key of its own, so that
    three jobs play them all; a set of more than one element is a cut that made a difference.
    """
    parts: list[list[tuple[str, int, bytes]]] = [[], [], []]
    for number, history in enumerate(histories):
        for way, cut in enumerate(combinations_with_replacement(range(3), len(history))):
            for step, changes in enumerate(history):
                name = f"H{number}.{way}"
                parts[cut[step]].append((name, step, MAKE[topic](**{NAMED_BY[topic]: name, **changes})))
    told = [(name, step) for part in parts for name, step, _ in part]
    table = run(spark, topic, batches(*([value for _, _, value in part] for part in parts)))
    outcomes: dict[str, list[str]] = {}
    for (_, offset), (outcome, reasons) in sorted(table.outcomes.items()):
        outcomes.setdefault(told[offset][0], []).append(" ".join(reasons) if outcome == REJECTED else outcome)
    rows: dict[str, set[tuple[Any, ...]]] = {}
    for row in table.rows.values():
        name, step = told[row["_source_offset"]]
        rows.setdefault(name.split(".")[0], set()).add((step, *(row[column] for column in columns)))
    for number in range(len(histories)):
        mine = {tuple(found) for name, found in outcomes.items() if name.split(".")[0] == f"H{number}"}
        yield mine, rows.get(f"H{number}", set())


STATUS_STORIES = {
    ("PARTIAL", "EXECUTED", "CANCELLED"): ((ACCEPTED, ACCEPTED, ACCEPTED), "CANCELLED"),
    ("PARTIAL", "CANCELLED", "EXECUTED"): ((ACCEPTED, ACCEPTED, DUPLICATE), "CANCELLED"),
    ("EXECUTED", "PARTIAL", "CANCELLED"): ((ACCEPTED, DUPLICATE, ACCEPTED), "CANCELLED"),
    ("EXECUTED", "EXECUTED", "PARTIAL"): ((ACCEPTED, DUPLICATE, DUPLICATE), "EXECUTED"),
    ("CANCELLED", "PARTIAL", "EXECUTED"): ((ACCEPTED, DUPLICATE, DUPLICATE), "CANCELLED"),
    ("PARTIAL", "PARTIAL", "EXECUTED"): ((ACCEPTED, DUPLICATE, ACCEPTED), "EXECUTED"),
}


def test_a_status_only_moves_forward_and_the_first_record_stays_the_rows_own(spark: SparkSession) -> None:
    histories = [[{"status": status} for status in story] for story in STATUS_STORIES]
    found = list(played(spark, "raw_trades", histories, "status"))
    assert found == [({outcomes}, {(0, last)}) for outcomes, last in STATUS_STORIES.values()]


CONFLICTS: tuple[Changes, ...] = (
    {"symbol": "MSFT"}, {"price": 187.500001}, {"quantity": 99}, {"trade_type": "SELL"}, {"order_type": "STOP"},
    {"trader_id": "TR2"}, {"exchange": "NYSE"}, {"timestamp": "2025-01-15T15:30:00.000001Z"}, {"account_id": "A1"},
    {"commission": 0}, {"price": 188, "status": "CANCELLED"},
)  # fmt: skip
SAME: tuple[Changes, ...] = (
    {}, {"price": "187.5000004"}, {"price": "18750e-2"}, {"quantity": "1e2"}, {"symbol": " aapl"},
    {"trade_type": "buy"}, {"timestamp": "2025-01-15T16:30:00+01:00"}, {"timestamp": 1736955000000},
    {"status": "executed"}, {"status": None}, {"account_id": ""}, {"commission": None}, {"venue": "X"},
    {"status": "PARTIAL"},
)  # fmt: skip


def test_every_business_column_but_the_status_tells_a_conflict_from_a_duplicate(spark: SparkSession) -> None:
    histories: list[list[Changes]] = [[{}, changes] for changes in (*CONFLICTS, *SAME)]
    found = list(played(spark, "raw_trades", histories, "status", "quantity", "account_id"))
    row = {(0, "EXECUTED", 100, None)}
    assert found == [({(ACCEPTED, CONFLICT)}, row)] * len(CONFLICTS) + [({(ACCEPTED, DUPLICATE)}, row)] * len(SAME)


T1, T2, T3 = (f"2025-01-{day}T15:30:00Z" for day in (15, 16, 14))
P, E, C = STATUSES = ("PARTIAL", "EXECUTED", "CANCELLED")
TIMED_STORIES: dict[tuple[tuple[str, str], ...], tuple[tuple[str, ...], str, date]] = {
    ((E, T1), (C, T2)): ((ACCEPTED, ACCEPTED), C, date(2025, 1, 15)),
    ((E, T1), (C, T2), (E, T3)): ((ACCEPTED, ACCEPTED, DUPLICATE), C, date(2025, 1, 15)),
    ((C, T2), (E, T1), (C, T3), (P, T2)): ((ACCEPTED, DUPLICATE, DUPLICATE, DUPLICATE), C, date(2025, 1, 16)),
    ((P, T1), (E, T2), (C, T3)): ((ACCEPTED, CONFLICT, ACCEPTED), C, date(2025, 1, 15)),
    ((P, T1), (E, T2), (E, T1), (C, T3)): ((ACCEPTED, CONFLICT, ACCEPTED, ACCEPTED), C, date(2025, 1, 15)),
    ((E, T1), (P, T2), (C, T2), (P, T2)): ((ACCEPTED, CONFLICT, ACCEPTED, DUPLICATE), C, date(2025, 1, 15)),
}


def test_a_cancellation_has_a_time_of_its_own_and_the_row_keeps_the_first_one(spark: SparkSession) -> None:
    histories = [[{"status": status, "timestamp": time} for status, time in story] for story in TIMED_STORIES]
    found = list(played(spark, "raw_trades", histories, "status", "trade_date"))
    assert found == [({outcomes}, {(0, last, day)}) for outcomes, last, day in TIMED_STORIES.values()]


def test_statuses_with_times_in_any_order_and_any_cut_end_where_the_oracle_does(spark: SparkSession) -> None:
    statuses = [*permutations(STATUSES), (C, P, C), (C, E, C), (E, C, E), (E, E, C), (P, C, P)]
    times = [(T1, T1, T2), (T1, T2, T1), (T2, T1, T1), (T1, T2, T3)]
    histories = [
        [{"status": status, "timestamp": time} for status, time in zip(story, at, strict=True)]
        for story in statuses
        for at in times
    ]
    wanted = []
    for history in histories:
        said = silver_oracle.silver(
            "raw_trades", in_memory.records_of(trade(**changes) for changes in history), in_memory.EXCHANGES
        )
        (row,) = said.rows.values()
        outcomes = tuple(" ".join(reasons) or outcome for outcome, reasons in said.outcomes.values())
        wanted.append(({outcomes}, {(row["_source_offset"], row["status"], row["trade_date"])}))
    assert list(played(spark, "raw_trades", histories, "status", "trade_date")) == wanted


def test_a_refused_record_neither_makes_nor_changes_a_row(spark: SparkSession) -> None:
    history: list[Changes] = [
        {"price": 0}, {}, {"price": 0}, {"quantity": 7, "status": "CANCELLED"}, {"exchange": "?"}, {},
        {"status": "CANCELLED"},
    ]  # fmt: skip
    outcomes = ("invalid_price", ACCEPTED, "invalid_price", CONFLICT, "unknown_exchange", DUPLICATE, ACCEPTED)
    found = list(played(spark, "raw_trades", [history, [{"price": 0}]], "status", "quantity"))
    assert found == [({outcomes}, {(1, "CANCELLED", 100)}), ({("invalid_price",)}, set())]


def test_an_order_book_is_never_restated(spark: SparkSession) -> None:
    history: list[Changes] = [{}, {"bids": [[187.4, 1]]}, {}, {"bids": [[187.49, 50], [187.49, 250]]}, {"bids": []}]
    same_top: list[Changes] = [{}, {"bids": [["187.490", "1e2"], [187.48, 200], [187.3, 0]]}]
    found = list(played(spark, "raw_orderbook", [history, same_top], "best_bid_qty"))
    outcomes = (ACCEPTED, CONFLICT, DUPLICATE, CONFLICT, CONFLICT)
    assert found == [({outcomes}, {(0, 100)}), ({(ACCEPTED, DUPLICATE)}, {(0, 100)})]


def test_the_latest_new_content_of_a_bar_wins_and_an_old_one_never_returns(spark: SparkSession) -> None:
    histories: list[list[Changes]] = [
        [{}, {"volume": 1}, {}, {"vwap": ...}, {"volume": 1}, {"vwap": ""}],
        [{}, {"trade_count": 0}, {"trade_count": ...}, {"volume": -1}],
        [{"vwap": 0, "trade_count": ...}, {"vwap": ..., "trade_count": 0}],
    ]
    found = list(played(spark, "raw_marketdata", histories, "volume", "vwap", "trade_count"))
    assert found == [
        (
            {(ACCEPTED, ACCEPTED, DUPLICATE, ACCEPTED, DUPLICATE, DUPLICATE)},
            {(3, 12000, None, 17)},
        ),
        ({(ACCEPTED, ACCEPTED, ACCEPTED, "invalid_volume")}, {(2, 12000, silver_oracle.to_decimal("187.3"), None)}),
        ({(ACCEPTED, ACCEPTED)}, {(1, 12000, None, 0)}),
    ]


def test_arrival_is_the_stamp_then_the_partition_then_the_offset(spark: SparkSession) -> None:
    early, late = in_memory.STAMP, in_memory.STAMP + timedelta(microseconds=1)

    def placed(value: bytes, stamp: datetime, partition: int, offset: int) -> Record:
        return Record(value, offset, stamp, partition)

    first = [
        placed(trade(price=2), early, 1, 0),
        placed(trade(price=1), early, 0, 7),
        placed(trade(price=3), early, 0, 8),
    ]
    second = [placed(trade(price=4), late, 0, 1), placed(trade(price=1, status="CANCELLED"), late, 3, 0)]
    for parts in ([first, second], [first + second]):
        table = run(spark, "raw_trades", parts)
        assert table.outcomes == {
            (0, 7): (ACCEPTED, []),
            (0, 8): (REJECTED, [CONFLICT]),
            (1, 0): (REJECTED, [CONFLICT]),
            (0, 1): (REJECTED, [CONFLICT]),
            (3, 0): (ACCEPTED, []),
        }
        (row,) = table.rows.values()
        assert (row["_source_partition"], row["_source_offset"], row["status"]) == (0, 7, "CANCELLED")


def test_a_bar_that_is_accepted_late_replaces_nothing_and_is_remembered(spark: SparkSession) -> None:
    """As when a refused bar is replayed after a later one: its own repeat is no restatement."""
    late, last = (in_memory.STAMP + timedelta(seconds=n) for n in (1, 2))
    table = in_memory.Table("raw_marketdata")
    table.apply(spark, [Record(bar(volume=2), 1, late)])
    table.apply(spark, [Record(bar(volume=1), 0, in_memory.STAMP)], from_start=True)
    (row,) = table.rows.values()
    assert (row["volume"], row["_source_offset"], row["_ingested_at"]) == (2, 1, late.replace(tzinfo=None))
    table.apply(spark, [Record(bar(volume=1), 2, last)])
    assert [table.outcomes[0, offset] for offset in range(3)] == [(ACCEPTED, []), (ACCEPTED, []), (DUPLICATE, [])]
    (row,) = table.rows.values()
    assert row["volume"] == 2


def test_another_record_in_the_place_of_the_rows_own_is_judged_by_the_row(spark: SparkSession) -> None:
    """A topic that was made anew counts its offsets from the beginning."""
    table = in_memory.Table("raw_trades")
    table.apply(spark, [Record(trade(price=10), 0, in_memory.STAMP)])
    later = Record(trade(price=11, status="CANCELLED"), 0, in_memory.STAMP + timedelta(seconds=1))
    table.apply(spark, [later], from_start=True)
    assert table.outcomes == {(0, 0): (REJECTED, [CONFLICT])}
    (row,) = table.rows.values()
    assert (row["price"], row["status"]) == (10, "EXECUTED")


def test_the_rows_own_record_comes_first_where_all_are_read_again(spark: SparkSession) -> None:
    """Others of its key that arrived before it were refused then, and are good now."""
    stamp = in_memory.STAMP
    trades = in_memory.Table("raw_trades")
    trades.apply(spark, [Record(trade(price=2), 2, stamp)])
    values = (trade(price=1, status="CANCELLED"), trade(price=2, status="PARTIAL"), trade(price=2))
    trades.apply(spark, [Record(value, offset, stamp) for offset, value in enumerate(values)], from_start=True)
    assert trades.outcomes == {(0, 0): (REJECTED, [CONFLICT]), (0, 1): (DUPLICATE, []), (0, 2): (ACCEPTED, [])}
    (row,) = trades.rows.values()
    assert (row["price"], row["status"], row["_source_offset"]) == (2, "EXECUTED", 2)

    bars = in_memory.Table("raw_marketdata")
    bars.apply(spark, [Record(bar(volume=2), 1, stamp)])
    bars.apply(spark, [Record(bar(volume=1), 0, stamp), Record(bar(volume=2), 1, stamp)], from_start=True)
    bars.apply(spark, [Record(bar(volume=1), 2, stamp + timedelta(seconds=1))])
    assert [bars.outcomes[0, offset] for offset in range(3)] == [(ACCEPTED, []), (ACCEPTED, []), (DUPLICATE, [])]
    (row,) = bars.rows.values()
    assert (row["volume"], row["_source_offset"]) == (2, 1)


STORY = {
    "raw_trades": [
        trade(status="PARTIAL"), trade(price=1), trade(), trade(status="PARTIAL"), trade(status="CANCELLED"),
        trade(trade_id="T2"), trade(trade_id="T2", price=0), trade(trade_id="T3"),
        trade(trade_id="T3", status="CANCELLED", timestamp=T2), trade(trade_id="T3", timestamp=T2),
    ],
    "raw_orderbook": [book(), book(bids=[]), book(), book(exchange="LSE"), book(asks=[])],
    "raw_marketdata": [bar(), bar(volume=1), bar(), bar(volume=2), bar(volume=1), bar(exchange="LSE"), bar(volume=-1)],
}  # fmt: skip


@pytest.mark.parametrize("topic", STORY)
def test_records_read_or_sent_again_change_no_row(spark: SparkSession, topic: str) -> None:
    first, second = batches(STORY[topic], STORY[topic])
    table = run(spark, topic, [first])

    from_start = in_memory.Table(topic, rows={key: dict(row) for key, row in table.rows.items()})
    from_start.apply(spark, first, from_start=True)
    assert from_start.outcomes == table.outcomes
    assert from_start.rows == table.rows

    sent_again = in_memory.Table(topic, rows={key: dict(row) for key, row in table.rows.items()})
    sent_again.apply(spark, second)
    assert sent_again.rows == table.rows
    assert sent_again.counts[ACCEPTED] == 0
    assert sent_again.counts[REJECTED] == table.counts[REJECTED]

    both_from_start = in_memory.Table(topic, rows={key: dict(row) for key, row in table.rows.items()})
    both_from_start.apply(spark, first + second, from_start=True)
    assert both_from_start.rows == table.rows
    assert both_from_start.counts[ACCEPTED] == table.counts[ACCEPTED]


# Any cut into batches

VARIANTS = {
    "raw_trades": lambda key, variant: trade(
        trade_id=f"T{key}",
        price=(1, 1, 1, 2)[variant % 4],
        status=STATUSES[variant % 3],
        timestamp=(T1, T2)[variant % 2],
    ),
    "raw_orderbook": lambda key, variant: book(
        snapshot_time=f"2025-01-15T15:{key:02}:00Z", bids=([[187, 1]], [[187, 1]], [], [[186, 1]])[variant % 4]
    ),
    "raw_marketdata": lambda key, variant: bar(
        tick_time=f"2025-01-15T15:{key:02}:00Z", volume=(0, 1, 2, -1)[variant % 4], vwap=(None, 1)[variant % 2]
    ),
}


@pytest.mark.parametrize("topic", STORY)
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
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
        parts[batch].append(Record(value, following[partition], in_memory.STAMP + timedelta(seconds=batch), partition))
        following[partition] += 1
    everything = [record for part in parts for record in part]
    wanted = silver_oracle.silver(topic, everything, in_memory.EXCHANGES)

    table = run(spark, topic, [part for part in parts if part])
    assert table.outcomes == wanted.outcomes
    assert table.counts == wanted.counts
    compared = {"status", "trade_date", "volume", "best_bid_price", "_source_partition", "_source_offset"}
    found = {key: {name: row[name] for name in compared & set(wanted.rows[key])} for key, row in table.rows.items()}
    assert found == {key: {name: row[name] for name in compared & set(row)} for key, row in wanted.rows.items()}
