"""The reference feed: who the symbols, traders and accounts are, and what changes about them, some of it late."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import date, timedelta
from random import Random
from typing import Any

from lakehouse_spark.local.simulator.reference import accounts, symbols, traders
from lakehouse_spark.local.simulator.scenario import Record, Scenario

REFERENCE = "raw_reference"

_DROPPED = ("currency", "exchanges", "price", "tick", "decimals", "lot")
_CAPS = ("MEGA", "LARGE", "MID", "SMALL", "MICRO")
_TIERS = ("BRONZE", "SILVER", "GOLD", "PLATINUM")
_UNKNOWN_EVERY = 25
"""Every so many-th symbol is traded before its reference data arrives, and never gets any."""


def changes(scenario: Scenario) -> Iterator[Record]:
    """The records in arrival order: everyone's first version, then changes in no order of their effective dates.

    Two records are bad: one without its key, one with a date that does not exist.
    """
    dice = Random(f"{scenario.seed} changes")
    days = [scenario.end - timedelta(days=number) for number in range(2 * scenario.days + 10)]
    known = {
        "dim_symbol": [_symbol(asdict(s)) for n, s in enumerate(symbols(scenario), 1) if n % _UNKNOWN_EVERY],
        "dim_trader": [_dated(asdict(trader), "registration_date") for trader in traders(scenario)],
        "dim_account": [_dated(asdict(account), "account_open_date") for account in accounts(scenario)],
    }
    for dimension, members in known.items():
        for member in members:
            yield _record(dimension, member)
    for dimension, members in known.items():
        for member in dice.sample(members, min(len(members), max(len(members) // 5, 2))):
            for day in sorted(dice.sample(days, dice.choice((1, 1, 2))), reverse=dice.random() < 0.5):
                yield _record(dimension, _changed(dimension, member, day, dice))
    yield _record("dim_symbol", {"company_name": "A company without a symbol"})
    yield _record("dim_trader", {"trader_id": "TR99999", "name": "Nobody", "effective_date": "2026-02-30"})


def _symbol(symbol: Mapping[str, Any]) -> dict[str, Any]:
    return _dated({name: value for name, value in symbol.items() if name not in _DROPPED}, "ipo_date")


def _dated(member: dict[str, Any], since: str) -> dict[str, Any]:
    return {**member, "effective_date": member[since]}


def _changed(dimension: str, member: Mapping[str, Any], day: date, dice: Random) -> dict[str, Any]:
    news: dict[str, Any] = {
        "dim_symbol": {"market_cap_category": dice.choice(_CAPS)},
        "dim_trader": {"trading_tier": dice.choice(_TIERS), "risk_category": dice.choice(("LOW", "MEDIUM", "HIGH"))},
        "dim_account": {"tier": dice.choice(("BASIC", "STANDARD", "PREMIUM")), "status": "ACTIVE"},
    }[dimension]
    return {**member, **news, "effective_date": day}


def _record(dimension: str, member: Mapping[str, Any]) -> Record:
    key = str(member.get("symbol") or member.get("account_id") or member.get("trader_id") or "")
    value = json.dumps({"dimension": dimension, **member}, default=str).encode()
    return Record(REFERENCE, key.encode() or None, value)
