"""The simulated feed: the same bytes for the same seed, exact amounts, valid where it claims to be."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.local.simulator import (
    Feed,
    Record,
    Scenario,
    accounts,
    expected,
    publish,
    records,
    symbols,
    traders,
)
from lakehouse_spark.local.simulator.dirt import KINDS

END = date(2025, 11, 20)
SMALL = Scenario(events=2_000, days=2, seed=7, end=END)


def sha256(feed: Iterable[Record]) -> str:
    digest = hashlib.sha256()
    for topic, key, value in feed:
        digest.update(repr((topic, key, value)).encode())
    return digest.hexdigest()


def documents(feed: Iterable[Record], topic: str) -> list[dict[str, str]]:
    return [json.loads(value, parse_int=str, parse_float=str) for name, _, value in feed if name == topic and value]


@pytest.fixture(scope="module")
def default_feed() -> Feed:
    feed = Feed(Scenario(end=END))
    assert sum(1 for _ in feed) == 100_000
    return feed


def test_the_same_seed_gives_the_same_bytes_for_ever() -> None:
    assert sha256(records(SMALL)) == "54bb1fce9cb64b79a010e400103c840723e96ff1d4aa70e408cd029bccac2b28"


def test_reading_a_feed_twice_gives_the_same_records_and_amounts() -> None:
    feed = Feed(SMALL)
    first, amounts = sha256(feed), (feed.expected, expected(SMALL))
    assert sha256(feed) == first
    assert amounts == (feed.expected, feed.expected)


def test_another_seed_gives_other_trades() -> None:
    ids = [{trade["trade_id"] for trade in documents(records(s), "raw_trades")} for s in (clean(0), clean(1))]
    assert ids[0].isdisjoint(ids[1])


def test_topics_get_sixty_twenty_five_and_fifteen_percent(default_feed: Feed) -> None:
    topics = default_feed.expected.topics
    assert {name: found.records for name, found in topics.items()} == {
        "raw_trades": 60_000,
        "raw_orderbook": 25_000,
        "raw_marketdata": 15_000,
    }


def test_the_default_size_has_every_kind_of_dirt_and_three_percent_of_it(default_feed: Feed) -> None:
    kinds = default_feed.expected.kinds
    assert set(kinds) == {f"{kind.topic}/{kind.name}" for kind in KINDS}
    assert min(kinds.values()) >= 1
    assert sum(kinds.values()) == 3_000
    assert (kinds["raw_trades/oversized"], kinds["raw_trades/deep_nesting"]) == (1, 1)


def test_the_default_size_has_every_reason(default_feed: Feed) -> None:
    common = {
        "tombstone", "schema_registry_framing", "invalid_encoding", "malformed_json", "unknown_exchange",
        "invalid_symbol", "missing_symbol",
        "missing_exchange", "future_timestamp", "ancient_timestamp",
    }  # fmt: skip
    reasons = {topic: set(found.reasons) for topic, found in default_feed.expected.topics.items()}
    assert reasons == {
        "raw_trades": common | {
            "missing_trade_id", "missing_price", "missing_quantity", "missing_trade_type", "missing_order_type",
            "missing_trader_id", "missing_timestamp", "invalid_trade_id", "invalid_price", "invalid_quantity",
            "invalid_trade_type", "invalid_order_type", "invalid_status", "invalid_trader_id", "invalid_timestamp",
            "invalid_exchange", "value_overflow", "conflicting_duplicate", "oversized_record",
        },
        "raw_orderbook": common | {
            "missing_snapshot_time", "missing_bids", "missing_asks", "invalid_snapshot_time", "invalid_bids",
            "invalid_asks", "invalid_level", "crossed_book", "empty_book", "conflicting_duplicate",
        },
        "raw_marketdata": common | {
            "missing_tick_time", "missing_open", "missing_high", "missing_low", "missing_close", "missing_volume",
            "missing_interval", "invalid_tick_time", "invalid_open", "invalid_high", "invalid_low", "invalid_close",
            "invalid_volume", "invalid_interval", "inconsistent_ohlc",
        },
    }  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    events=st.integers(0, 1_500),
    symbol_count=st.integers(1, 70),
    trader_count=st.integers(1, 50),
    dirt=st.sampled_from((0.0, 0.03, 0.4)),
)
def test_the_amounts_add_up_for_any_scenario(
    seed: int, events: int, symbol_count: int, trader_count: int, dirt: float
) -> None:
    feed = Feed(
        Scenario(events=events, days=1, seed=seed, end=END, symbols=symbol_count, traders=trader_count, dirt=dirt)
    )
    seen = Counter(record.topic for record in feed)
    assert seen.total() == events
    for topic, found in feed.expected.topics.items():
        assert found.records == seen[topic] == found.accepted + found.duplicates + found.rejected
        assert found.rejected <= sum(found.reasons.values())
    rows = feed.expected.silver_rows
    assert rows["silver._rejected_records"] == sum(found.rejected for found in feed.expected.topics.values())
    assert rows["silver.trader_activity"] <= rows["silver.trades"]
    assert sum(feed.expected.kinds.values()) <= round(events * dirt)


def clean(seed: int) -> Scenario:
    return Scenario(events=3_000, days=1, seed=seed, end=END, dirt=0)


def test_without_dirt_every_record_is_a_row() -> None:
    feed = Feed(clean(3))
    assert all(isinstance(json.loads(record.value or b""), dict) for record in feed)
    assert feed.expected.silver_rows["silver.trades"] == 1_800
    assert feed.expected.silver_rows["silver.orderbook_snapshots"] == 750
    assert feed.expected.silver_rows["silver.market_data"] == 450
    assert feed.expected.silver_rows["silver._rejected_records"] == 0
    assert [found.accepted for found in feed.expected.topics.values()] == [1_800, 750, 450]
    assert feed.expected.kinds == {}


def test_clean_trades_have_ids_of_their_own_and_known_traders_and_accounts() -> None:
    trades = documents(records(clean(3)), "raw_trades")
    owners = {account.account_id: account.trader_id for account in accounts(clean(3))}
    assert len({trade["trade_id"] for trade in trades}) == 1_800
    assert {trade["trader_id"].strip() for trade in trades} <= {trader.trader_id for trader in traders(clean(3))}
    assert all(owners[trade["account_id"]] == trade["trader_id"].strip() for trade in trades if trade.get("account_id"))


def test_trades_lie_within_the_bar_of_their_minute() -> None:
    busy = Scenario(events=20_000, days=1, end=END, symbols=5, dirt=0)
    bars = {
        (bar["symbol"], bar["tick_time"][:16]): (float(bar["low"]), float(bar["high"]))
        for bar in documents(records(busy), "raw_marketdata")
        if "T" in bar["tick_time"] and bar["tick_time"].endswith("00Z")
    }
    within = [
        low - 1e-6 <= float(trade["price"]) <= high + 1e-6
        for trade in documents(records(busy), "raw_trades")
        for low, high in [bars.get((trade["symbol"], trade["timestamp"][:16]), (0.0, 0.0))]
        if high and trade["timestamp"].endswith("Z")
    ]
    assert len(within) > 500
    assert all(within)


def test_events_happen_on_trading_days_of_their_exchange() -> None:
    thanksgiving = Scenario(events=2_000, days=1, seed=1, end=date(2025, 11, 27), dirt=0)  # New York is closed
    days = {
        (book["exchange"], book["snapshot_time"][:10])
        for book in documents(records(thanksgiving), "raw_orderbook")
        if book["snapshot_time"].endswith("Z") and book["exchange"] in ("NYSE", "XETRA")
    }
    assert days == {("NYSE", "2025-11-26"), ("NYSE", "2025-11-27"), ("XETRA", "2025-11-27")}  # 20:00 is 01:00 UTC


def test_records_have_the_key_of_their_symbol_and_repeats_follow_in_its_partition() -> None:
    keys = {symbol.symbol for symbol in symbols(SMALL)}
    trade_keys: dict[str, set[bytes | None]] = {}
    for topic, key, value in records(SMALL):
        assert key is None or key.decode() in keys
        if topic == "raw_trades" and value and value.startswith(b'{"trade_id":"'):
            trade_keys.setdefault(value.split(b'"')[3].decode(), set()).add(key)
    assert {len(found) for found in trade_keys.values()} == {1}


def test_a_follow_up_comes_after_its_original() -> None:
    seen: dict[str, list[str]] = {}
    for trade in valid_trades(SMALL):
        if isinstance(trade.get("trade_id"), str) and trade.get("status") in ("EXECUTED", "PARTIAL", "CANCELLED"):
            seen.setdefault(trade["trade_id"], []).append(trade["status"])
    moves = Counter(move for statuses in seen.values() for move in pairwise(statuses))
    kinds = expected(SMALL).kinds
    assert moves["PARTIAL", "CANCELLED"] == kinds["raw_trades/partial_to_cancelled"] >= 1
    assert moves["CANCELLED", "EXECUTED"] == kinds.get("raw_trades/cancelled_to_executed", 0)
    assert moves["CANCELLED", "PARTIAL"] == 0


def valid_trades(scenario: Scenario) -> list[dict[str, str]]:
    found = []
    for topic, _, value in records(scenario):
        if topic == "raw_trades":
            try:
                document = json.loads(value or b"")
            except ValueError:
                continue
            if isinstance(document, dict):
                found.append(document)
    return found


def test_only_the_intended_records_come_from_the_future() -> None:
    stamps = [trade.get("timestamp") for trade in valid_trades(SMALL)]
    years = Counter(
        datetime.fromisoformat(stamp).astimezone(UTC).year
        for stamp in stamps
        if isinstance(stamp, str) and len(stamp) == len("2025-11-20T14:30:00.000000Z") and "25:00" not in stamp
    )
    assert set(years) <= {1999, 2025, 2099}


def test_the_amounts_are_refused_before_the_feed_was_read() -> None:
    with pytest.raises(LakehouseError, match="read to its end"):
        _ = Feed(SMALL).expected


@pytest.mark.parametrize("wrong", [{"events": -1}, {"days": 0}, {"symbols": 0}, {"traders": 0}, {"dirt": 0.5}])
def test_impossible_scenarios_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Scenario(end=END, **wrong)


def test_publishing_delivers_every_record() -> None:
    counts: list[int] = []
    sent = publish(records(SMALL), "", {"test.mock.num.brokers": "1", "log_level": "0"}, counts.append)
    assert (sent, counts) == (2_000, [2_000])


def test_publishing_fails_when_no_broker_takes_the_records() -> None:
    feed = [Record("raw_trades", b"AAPL", b"{}")]
    with pytest.raises(LakehouseError, match=r"1 of 1 records were not delivered"):
        publish(feed, "127.0.0.1:1", {"message.timeout.ms": "300", "log_level": "0"})
