"""A plain-Python reference of payload drift: what of a payload is not as its topic declares it."""

from typing import Any

from tests.support import silver_oracle
from tests.support.silver_oracle import Number, Object

KINDS = {
    "raw_trades": {
        **dict.fromkeys(
            ("trade_id", "symbol", "trade_type", "order_type", "trader_id", "exchange", "account_id", "status"),
            ("string",),
        ),
        **dict.fromkeys(("price", "quantity", "commission"), ("integer", "number")),
        "timestamp": ("string", "integer", "number"),
    },
    "raw_orderbook": {
        "symbol": ("string",),
        "exchange": ("string",),
        "snapshot_time": ("string", "integer", "number"),
        "bids": ("array",),
        "asks": ("array",),
    },
    "raw_marketdata": {
        **dict.fromkeys(("symbol", "interval", "exchange"), ("string",)),
        **dict.fromkeys(("open", "high", "low", "close", "volume", "vwap", "trade_count"), ("integer", "number")),
        "tick_time": ("string", "integer", "number"),
    },
}


def drift(topic: str, text: str) -> list[tuple[str, str]]:
    """By name and kind, once each; a name that is there twice has each of its values. Raises MalformedError where the
    text is not one JSON object."""
    parts = silver_oracle.parse(text).parts
    declared = {(name, each) for name, allowed in KINDS[topic].items() for each in (*allowed, "null")}
    return sorted({(name, _kind(value)) for name, value in zip(parts[::2], parts[1::2], strict=True)} - declared)


def _kind(value: Any) -> str:
    if isinstance(value, Number):
        return "number" if set(".eE") & set(value) else "integer"
    if value is None:
        return "null"
    return {bool: "boolean", str: "string", list: "array", Object: "object"}[type(value)]
