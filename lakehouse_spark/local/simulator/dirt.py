"""Dirt in known amounts: each kind knows how to make its record and what must become of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from lakehouse_spark.local.simulator import event, wrong
from lakehouse_spark.local.simulator.event import DAY, HOUR, MILLI, MINUTE, SECOND, Event, Fields
from lakehouse_spark.local.simulator.scenario import BARS, BOOKS, TOPICS, TRADES

CONFLICT = ("conflicting_duplicate",)


class Outcome(Enum):
    """What silver makes of a record."""

    NEW_ROW = "accepted as a row"
    UPDATE = "accepted into its row"
    CANCEL = "accepted into its row, which leaves the aggregates"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Dirty:
    """One dirty record and its fate. `late` is the valid event itself where it is a new row."""

    value: bytes | None
    outcome: Outcome
    reasons: tuple[str, ...] = ()
    delay: int = 0
    keyed: bool = True
    late: Event | None = None


@dataclass
class Hand:
    """What makers share: the dice, how often the kind was made before, and the keys of late bars."""

    dice: Random
    turn: int = 0
    taken: set[tuple[str, str, int]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of dirt for one topic, modelled on a clean event ('host') of a record key of its own.

    `weight` is its share among the topic's dirt (0: a single record), `status` what the host's must be ('': any).
    """

    topic: str
    name: str
    weight: int
    make: Callable[[Event, Hand], Dirty]
    status: str = ""


def _later(dice: Random) -> int:
    """A follow-up's delay: mostly seconds, sometimes hours, seldom a day. It never overtakes its original."""
    luck = dice.random()
    if luck < 0.75:
        return MILLI + int(dice.random() * 30 * SECOND)
    if luck < 0.95:
        return MINUTE + int(dice.random() * 2 * HOUR)
    return DAY + int(dice.random() * HOUR)


def _follow_up(
    change: Callable[[Event, Hand], Fields], outcome: Outcome, reasons: tuple[str, ...] = ()
) -> Callable[[Event, Hand], Dirty]:
    def make(host: Event, hand: Hand) -> Dirty:
        return Dirty(event.payload(change(host, hand)), outcome, reasons, delay=_later(hand.dice))

    return make


def _same(host: Event, hand: Hand) -> Fields:
    return host.fields


def _rewritten(host: Event, hand: Hand) -> Fields:
    return event.SAME_CONTENT[hand.turn % len(event.SAME_CONTENT)](host, hand.dice)


def _status(status: str) -> Callable[[Event, Hand], Fields]:
    return lambda host, hand: {**host.fields, "status": f'"{status}"'}


def _other_price(host: Event, hand: Hand) -> Fields:
    return {**host.fields, "price": f"{float(host.fields['price']) * 1.01 + 0.01:.4f}"}


def _other_quantity(host: Event, hand: Hand) -> Fields:
    return {**host.fields, "quantity": str(int(host.fields["quantity"]) + 1)}


def _other_day(host: Event, hand: Hand) -> Fields:
    return {**host.fields, "timestamp": f'"{event.iso(host.at - (1 + hand.turn % 3) * DAY)}"'}


def _canceled(host: Event, hand: Hand) -> Fields:
    """As the other spelling has it."""
    return {**host.fields, "status": ('"Canceled"', '"CANCELED"')[hand.turn % 2]}


def _cancelled_at_other_time(host: Event, hand: Hand) -> Fields:
    """A cancellation with its own time, some days from the trade's."""
    at = host.at + (hand.turn % 5 - 4) * DAY + MILLI
    return {**host.fields, "status": '"CANCELLED"', "timestamp": f'"{event.iso(at)}"'}


def _executed_at_other_time(host: Event, hand: Hand) -> Fields:
    return {**_other_day(host, hand), "status": '"EXECUTED"'}


def _cancelled_at_other_price(host: Event, hand: Hand) -> Fields:
    return {**_other_price(host, hand), "status": '"CANCELLED"'}


def _other_best_bid(host: Event, hand: Hand) -> Fields:
    bids = json.loads(host.fields["bids"])
    bids[0][1] += 1
    return {**host.fields, "bids": json.dumps(bids)}


def _other_sixth_level(host: Event, hand: Hand) -> Fields:
    """More at a price below the five best bids, which no column of a snapshot shows."""
    return {**host.fields, "bids": f"{host.fields['bids'][:-1]},[0.001,{hand.turn + 1}]]"}


def _restated(host: Event, hand: Hand) -> Fields:
    fields = {**host.fields, "volume": str(int(host.fields["volume"]) + 100)}
    if hand.turn % 2:
        fields["high"] = f"{float(host.fields['high']) * 1.01 + 0.01:.4f}"
    return fields


def _late(host: Event, hand: Hand) -> Dirty:
    """A record like the host's, from one of its exchange's sessions before. Its microseconds are odd: see market."""
    at = host.at - host.earlier
    fields = dict(host.fields)
    if host.topic == TRADES:
        fields["trade_id"] = f'{fields["trade_id"][:-1]}-late"'
    if host.topic == BARS:
        interval, length = (("5m", 5 * MINUTE), ("1h", HOUR), ("1d", DAY))[hand.turn % 3]
        at -= at % length
        while (key := (fields["symbol"] + fields["exchange"], interval, at)) in hand.taken:
            interval, at = "5m", at - 5 * MINUTE
        hand.taken.add(key)
        fields["interval"] = f'"{interval}"'
    else:
        at += 1
    fields[event.TIME_FIELD[host.topic]] = f'"{event.iso(at)}"'
    late = Event(host.topic, host.number, host.key, host.symbol, at, host.arrival, fields, host.trader, host.active)
    return Dirty(event.payload(fields), Outcome.NEW_ROW, delay=_later(hand.dice), late=late)


def _rejected(variants: Sequence[wrong.Variant]) -> Callable[[Event, Hand], Dirty]:
    def make(host: Event, hand: Hand) -> Dirty:
        changes, reasons = variants[hand.turn % len(variants)]
        fields = wrong.unlike(host)
        for name, text in changes.items():
            made = text(fields) if callable(text) else text
            if made is None:
                fields.pop(name, None)
            else:
                fields[name] = made
        return Dirty(event.payload(fields), Outcome.REJECTED, reasons)

    return make


def _broken(reason: str, variants: Sequence[wrong.Maker]) -> Callable[[Event, Hand], Dirty]:
    def make(host: Event, hand: Hand) -> Dirty:
        value = variants[hand.turn % len(variants)](wrong.unlike(host))
        return Dirty(value, Outcome.REJECTED, (reason,), keyed=value is None or value.startswith(b"{"))

    return make


_REPEATS = (("repeat", 40, _same), ("rewritten_repeat", 12, _rewritten))

KINDS = (
    Kind(TRADES, "partial_to_executed", 20, _follow_up(_status("EXECUTED"), Outcome.UPDATE), "PARTIAL"),
    Kind(TRADES, "partial_to_cancelled", 10, _follow_up(_status("CANCELLED"), Outcome.CANCEL), "PARTIAL"),
    Kind(TRADES, "executed_to_cancelled", 25, _follow_up(_status("CANCELLED"), Outcome.CANCEL), "EXECUTED"),
    Kind(TRADES, "executed_to_partial", 8, _follow_up(_status("PARTIAL"), Outcome.DUPLICATE), "EXECUTED"),
    Kind(TRADES, "cancelled_to_executed", 4, _follow_up(_status("EXECUTED"), Outcome.DUPLICATE), "CANCELLED"),
    Kind(TRADES, "canceled", 4, _follow_up(_canceled, Outcome.CANCEL), "EXECUTED"),
    Kind(TRADES, "cancelled_at_other_time", 8, _follow_up(_cancelled_at_other_time, Outcome.CANCEL), "EXECUTED"),
    Kind(TRADES, "cancelled_then_dated", 2, _follow_up(_executed_at_other_time, Outcome.DUPLICATE), "CANCELLED"),
    Kind(TRADES, "conflicting_price", 8, _follow_up(_other_price, Outcome.REJECTED, CONFLICT)),
    Kind(TRADES, "conflicting_quantity", 8, _follow_up(_other_quantity, Outcome.REJECTED, CONFLICT)),
    Kind(TRADES, "conflicting_day", 8, _follow_up(_other_day, Outcome.REJECTED, CONFLICT), "EXECUTED"),
    Kind(
        TRADES, "conflicting_cancellation", 4,
        _follow_up(_cancelled_at_other_price, Outcome.REJECTED, CONFLICT), "EXECUTED",
    ),
    Kind(BOOKS, "conflicting_book", 8, _follow_up(_other_best_bid, Outcome.REJECTED, CONFLICT)),
    Kind(BOOKS, "repeat_below_depth_5", 4, _follow_up(_other_sixth_level, Outcome.DUPLICATE)),
    Kind(BARS, "restated_bar", 25, _follow_up(_restated, Outcome.UPDATE)),
    *(Kind(topic, name, weight, _follow_up(change, Outcome.DUPLICATE))
      for topic in TOPICS for name, weight, change in _REPEATS),
    *(Kind(topic, "late", 40, _late) for topic in TOPICS),
    *(Kind(topic, name, 3, _broken(reason, variants))
      for topic in TOPICS for name, (reason, variants) in wrong.BROKEN.items()),
    *(Kind(TRADES, name, 0, _broken(reason, (make,))) for name, (reason, make) in wrong.HUGE.items()),
    *(Kind(topic, name, 3, _rejected(variants))
      for topic in TOPICS for name, variants in wrong.VALUES[topic].items()),
)  # fmt: skip


def amounts(topic: str, total: int) -> dict[Kind, int]:
    """The topic's dirt by kind: each at least once if there is enough for that, the rest by weight."""
    kinds = [kind for kind in KINDS if kind.topic == topic]
    if total < len(kinds):
        return dict.fromkeys(sorted(kinds, key=lambda kind: -kind.weight)[:total], 1)
    weights, given, so_far, spare = sum(kind.weight for kind in kinds), 0, 0, total - len(kinds)
    found = {}
    for kind in kinds:
        so_far += kind.weight
        found[kind] = 1 + spare * so_far // weights - given
        given = spare * so_far // weights
    return found
