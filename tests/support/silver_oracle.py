"""The semantics of bronze and silver once more, in plain Python: an oracle for the Spark code, written without it.

From records in arrival order it says what every column holds, what becomes of every record and why, with nothing but
json, decimal, datetime and loops. Where SEMANTICS.md is silent the decisions stand beside the rule they fill.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from typing import Any

MAX_RECORD_BYTES = 1_048_576
DEEPEST = 999
LONGEST_NUMBER = 1000

ACCEPTED, DUPLICATE, REJECTED = "accepted", "duplicate", "rejected"
STATUSES = ("PARTIAL", "EXECUTED", "CANCELLED")

_EXACT = Context(prec=4200, rounding=ROUND_HALF_UP)
_MICRO = Decimal("0.000001")
_MOST = Decimal("999999999999.999999")
_WHITESPACE = " \t\n\r\f\v\u00a0"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?0*[0-9]{1,3})?")
_INSTANT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r" ?(?:([Zz])|([+-])([0-9]{2})(?::?([0-9]{2}))?)?"
)
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9.\-]{0,14}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MalformedError(Exception):
    """The payload is not one JSON object."""


class Number(str):
    """A JSON number's own characters."""


class Object(dict[str, Any]):
    """A JSON object, the last of equal names; and all it holds, names and values, in `parts`."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.parts = [part for pair in pairs for part in pair]


@dataclass(frozen=True)
class Record:
    value: bytes | None
    offset: int
    ingested_at: datetime
    partition: int = 0
    topic: str = "topic"

    @property
    def arrival(self) -> tuple[datetime, int, int]:
        return self.ingested_at, self.partition, self.offset


# Payloads


def parse(text: str) -> Object:
    """The one JSON object of RFC 8259 that the text is; the last of equal names wins. Raises MalformedError.

    One byte order mark in front is ignored.
    """
    text = text.removeprefix("\ufeff")
    if _depth(text) > DEEPEST:
        raise MalformedError
    try:
        found = json.loads(
            text, parse_int=_number, parse_float=_number, parse_constant=_refuse, object_pairs_hook=Object
        )
    except (ValueError, RecursionError) as error:
        raise MalformedError from error
    if not isinstance(found, Object):
        raise MalformedError
    return found


def _number(text: str) -> Number:
    if sum(map(str.isdigit, text)) > LONGEST_NUMBER:
        raise MalformedError  # the parser reads no longer one
    return Number(text)


def _refuse(constant: str) -> None:
    raise MalformedError


def _depth(text: str) -> int:
    deepest = depth = 0
    quoted = escaped = False
    for character in text:
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def is_lone(value: Any) -> bool:
    """Whether half of a surrogate pair, which is no character, is anywhere in the value."""
    if isinstance(value, Object):
        return any(map(is_lone, value.parts))
    if isinstance(value, list):
        return any(map(is_lone, value))
    return isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip(_WHITESPACE) == "")


# Values: None where there is none


def to_text(value: Any) -> str | None:
    """A JSON string, or a number as written; a lone NUL is no text, nor is one with half of a surrogate pair."""
    is_text = isinstance(value, str) and not is_missing(value) and value != "\0" and not is_lone(value)
    return str(value) if is_text else None


def to_number(value: Any) -> Decimal | None:
    if not isinstance(value, str):
        return None
    written = value.strip(_WHITESPACE)
    if len(written) > LONGEST_NUMBER or not _NUMBER.fullmatch(written):
        return None
    return Decimal(written)


def to_double(value: Any) -> float | None:
    number = to_number(value)
    if number is None:
        return None
    nearest = float(number)
    return None if nearest in (float("inf"), float("-inf")) else nearest


def to_decimal(value: Any) -> Decimal | None:
    """Rounded HALF_UP to six places; None beyond decimal(18,6)."""
    number = to_number(value)
    return None if number is None else fitting(number)


def to_exact(value: Any) -> Decimal | None:
    """The number itself; None with more than 18 decimals or beyond 38 digits of which 18 are decimals."""
    number = to_number(value)
    if number is None or (number and not -18 <= number.adjusted() < 20):
        return None
    with localcontext(_EXACT):
        return number if number == number.quantize(Decimal("1e-18")) else None


def fitting(number: Decimal) -> Decimal | None:
    if number and number.adjusted() > 20:
        return None
    with localcontext(_EXACT):
        rounded = number.quantize(_MICRO)
        return rounded + 0 if abs(rounded) <= _MOST else None


def to_long(value: Any) -> int | None:
    number = to_number(value)
    if number is None:
        return None
    with localcontext(_EXACT):
        if number != number.to_integral_value() or not -(2**63) <= number < 2**63:
            return None
        return int(number)


def to_instant(value: Any) -> datetime | None:
    """ISO-8601 or integral epoch milliseconds, within the years 1 to 9999."""
    if not isinstance(value, str):
        return None
    found = _INSTANT.fullmatch(value.strip(_WHITESPACE))
    if not found:
        return _from_millis(to_long(value))
    year, month, day, hour, minute, second, fraction, _, sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if int(minutes or 0) > 59 or offset > timedelta(hours=18):
        return None
    micros = int(((fraction or "") + "000000")[:6])
    try:
        local = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0), micros, tzinfo=UTC)
        return local + offset if sign == "-" else local - offset
    except (ValueError, OverflowError):
        return None


def _from_millis(millis: int | None) -> datetime | None:
    try:
        return None if millis is None else _EPOCH + timedelta(milliseconds=millis)
    except OverflowError:
        return None


# Bronze


def bronze(topic: str, record: Record, max_bytes: int = MAX_RECORD_BYTES) -> dict[str, Any]:
    """The typed columns of the record's row, with `raw_payload` and `_raw_bytes`; arrays as parsed JSON."""
    text, raw_bytes = decoded(record.value)
    fields: dict[str, Any] = {}
    if record.value is not None and text is not None and len(record.value) <= max_bytes:
        try:
            fields = parse(text)
        except MalformedError:
            fields = {}
    typed = {name: kind(fields.get(name)) for name, kind in BRONZE[topic].items()}
    return {**typed, "raw_payload": text, "_raw_bytes": raw_bytes}


def decoded(value: bytes | None) -> tuple[str | None, bytes | None]:
    """The record's text, and its exact bytes where they are not valid UTF-8."""
    if value is None:
        return None, None
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return value.decode(errors="replace"), value


def _array(value: Any) -> Any:
    return value if isinstance(value, list) and not is_lone(value) else None


BRONZE = {
    "raw_trades": {
        "trade_id": to_text, "symbol": to_text, "price": to_double, "quantity": to_long, "trade_type": to_text,
        "order_type": to_text, "trader_id": to_text, "exchange": to_text, "timestamp": to_instant,
    },
    "raw_orderbook": {
        "symbol": to_text, "snapshot_time": to_instant, "bids": _array, "asks": _array, "exchange": to_text,
    },
    "raw_marketdata": {
        "symbol": to_text, "tick_time": to_instant, "open": to_double, "high": to_double, "low": to_double,
        "close": to_double, "volume": to_long, "vwap": to_double, "interval": to_text, "exchange": to_text,
    },
}  # fmt: skip


FIELDS = {
    "raw_trades": (*BRONZE["raw_trades"], "account_id", "status", "commission"),
    "raw_orderbook": tuple(BRONZE["raw_orderbook"]),
    "raw_marketdata": (*BRONZE["raw_marketdata"], "trade_count"),
}


# Silver: one record


@dataclass
class Judged:
    """A record's silver values and the reasons against it, in alphabetical order."""

    values: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    event_time: datetime | None = None


def folded(code: str) -> str:
    """ASCII a to z in upper case, and nothing else changed."""
    return "".join(chr(ord(letter) - 32) if "a" <= letter <= "z" else letter for letter in code)


class _Fields:
    """Reads fields and collects the first reason against each."""

    def __init__(self, record: Record, exchanges: Iterable[str], fields: Mapping[str, Any]) -> None:
        self.record, self.exchanges, self.fields = record, set(map(folded, exchanges)), fields
        self.reasons: dict[str, str] = {}

    def read(self, name: str, kind: Any, *, required: bool = True) -> Any:
        written = self.fields.get(name)
        if is_missing(written):
            if required:
                self.reasons[name] = f"missing_{name}"
            return None
        value = kind(written)
        if value is None:
            self.reasons[name] = f"invalid_{name}"
        return value

    def refuse(self, name: str, reason: str) -> None:
        self.reasons.setdefault(name, reason)

    def text(self, name: str, *, required: bool = True) -> str | None:
        value = self.read(name, to_text, required=required)
        return None if value is None else value.strip(_WHITESPACE)

    def upper(self, name: str, allowed: Sequence[str] = (), default: str | None = None) -> str | None:
        value = self.text(name, required=default is None)
        value = default if value is None else folded(value)
        value = "CANCELLED" if name == "status" and value == "CANCELED" else value
        if value is not None and allowed and value not in allowed:
            self.refuse(name, f"invalid_{name}")
        return value

    def symbol(self) -> str | None:
        value = self.upper("symbol")
        if value is not None and not _SYMBOL.fullmatch(value):
            self.refuse("symbol", "invalid_symbol")
        return value

    def exchange(self) -> str | None:
        value = self.upper("exchange")
        if value is not None and value not in self.exchanges:
            self.refuse("exchange", "unknown_exchange")
        return value

    def event_time(self, name: str) -> datetime | None:
        value: datetime | None = self.read(name, to_instant)
        if value is not None and value - self.record.ingested_at > timedelta(minutes=5):
            self.refuse(name, "future_timestamp")
        if value is not None and value < datetime(2000, 1, 1, tzinfo=UTC):
            self.refuse(name, "ancient_timestamp")
        return value


def judge(topic: str, record: Record, exchanges: Iterable[str], max_bytes: int = MAX_RECORD_BYTES) -> Judged:
    """The record by itself, repeats not looked at."""
    text, raw_bytes = decoded(record.value)
    if record.value is None or text is None:
        return Judged(reasons=["tombstone"])
    if len(record.value) > max_bytes:
        return Judged(reasons=["oversized_record"])
    if record.value[:1] == b"\0" and len(record.value) >= 5:
        return Judged(reasons=["schema_registry_framing"])
    if raw_bytes is not None:
        return Judged(reasons=["invalid_encoding"])
    try:
        read = parse(text)
    except MalformedError:
        return Judged(reasons=["malformed_json"])
    if any(is_lone(read[name]) for name in FIELDS[topic] if name in read):
        return Judged(reasons=["invalid_encoding"])
    fields = _Fields(record, exchanges, read)
    values, event_time = _JUDGES[topic](fields)
    return Judged(values, sorted(set(fields.reasons.values())), event_time)


def _trade(fields: _Fields) -> tuple[dict[str, Any], datetime | None]:
    values: dict[str, Any] = {"trade_id": fields.text("trade_id"), "symbol": fields.symbol()}
    price = fields.read("price", to_decimal)
    if price is not None and price <= 0:
        fields.refuse("price", "invalid_price")
    quantity = fields.read("quantity", to_long)
    if quantity is not None and quantity <= 0:
        fields.refuse("quantity", "invalid_quantity")
    total_value = None
    if "price" not in fields.reasons and "quantity" not in fields.reasons:
        with localcontext(_EXACT):
            total_value = fitting(price * quantity)
        if total_value is None:
            fields.refuse("total_value", "value_overflow")
    instant = fields.event_time("timestamp")
    values |= {
        "price": price,
        "quantity": quantity,
        "total_value": total_value,
        "trade_type": fields.upper("trade_type", ("BUY", "SELL")),
        "order_type": fields.upper("order_type", ("MARKET", "LIMIT", "STOP")),
        "trader_id": fields.text("trader_id"),
        "exchange": fields.exchange(),
        "trade_timestamp": instant,
        "trade_date": instant and instant.date(),
        "account_id": fields.text("account_id", required=False),
        "status": fields.upper("status", STATUSES, default="EXECUTED"),
        "commission": fields.read("commission", to_decimal, required=False),
    }
    return values, instant


def _book(fields: _Fields) -> tuple[dict[str, Any], datetime | None]:
    symbol, exchange, instant = fields.symbol(), fields.exchange(), fields.event_time("snapshot_time")
    bids, bid_depth = _side(fields, "bids", descending=True)
    asks, ask_depth = _side(fields, "asks", descending=False)
    bid, bid_quantity = bids[0] if bids else (None, None)
    ask, ask_quantity = asks[0] if asks else (None, None)
    best_bid, best_ask = bid and fitting(bid), ask and fitting(ask)
    if not {"bids", "asks", "levels"} & set(fields.reasons):
        if not bids and not asks:
            fields.refuse("book", "empty_book")
        if bid is not None and ask is not None and bid >= ask:  # as the payload writes them
            fields.refuse("book", "crossed_book")
    values = {
        "snapshot_id": md5(symbol, exchange, instant_text(instant)) if symbol and exchange and instant else None,
        "symbol": symbol,
        "snapshot_time": instant,
        "best_bid_price": best_bid,
        "best_bid_qty": bid_quantity,
        "best_ask_price": best_ask,
        "best_ask_qty": ask_quantity,
        "spread": None if best_bid is None or best_ask is None else best_ask - best_bid,
        "bid_depth_5": bid_depth,
        "ask_depth_5": ask_depth,
        "exchange": exchange,
    }
    return values, instant


def _side(fields: _Fields, name: str, *, descending: bool) -> tuple[list[tuple[Decimal, int]], int | None]:
    """The side's levels with their exact prices, best first and equal prices in the payload's order, and the depth of
    the first five."""
    levels = []
    for level in fields.read(name, _array) or []:
        pair = level if isinstance(level, list) and len(level) == 2 else (None, None)
        price, quantity = to_exact(pair[0]), to_long(pair[1])
        rounded = None if price is None else fitting(price)
        if price is None or rounded is None or rounded <= 0 or quantity is None or quantity < 0:
            fields.refuse("levels", "invalid_level")
        elif quantity:
            levels.append((price, quantity))
    best = sorted(levels, key=lambda level: -level[0] if descending else level[0])
    depth = sum(quantity for _, quantity in best[:5])
    if depth >= 2**63:
        fields.refuse("levels", "invalid_level")  # silent in SEMANTICS: the depth would not fit its column
    return best, depth if best else None


def _bar(fields: _Fields) -> tuple[dict[str, Any], datetime | None]:
    symbol, exchange, instant = fields.symbol(), fields.exchange(), fields.event_time("tick_time")
    interval = fields.text("interval")
    interval = interval and interval.replace("H", "h").replace("D", "d")
    if interval and interval not in ("1m", "5m", "1h", "1d"):
        fields.refuse("interval", "invalid_interval")
    prices = {name: fields.read(name, to_decimal) for name in ("open", "high", "low", "close")}
    # Silent in SEMANTICS: looked at only where all four prices are there.
    known = {name: price for name, price in prices.items() if price is not None}
    if len(known) == 4:
        ends = known["open"], known["close"]
        if known["low"] > min(ends) or known["high"] < max(ends):
            fields.refuse("ohlc", "inconsistent_ohlc")
    volume = fields.read("volume", to_long)
    if volume is not None and volume < 0:
        fields.refuse("volume", "invalid_volume")
    values = {
        "market_data_id": (
            md5(symbol, exchange, interval, instant_text(instant))
            if symbol and exchange and interval and instant
            else None
        ),
        "symbol": symbol,
        "tick_time": instant,
        "interval": interval,
        **prices,
        "volume": volume,
        "vwap": fields.read("vwap", to_decimal, required=False),
        "trade_count": fields.read("trade_count", to_long, required=False),
        "exchange": exchange,
    }
    return values, instant


_JUDGES = {"raw_trades": _trade, "raw_orderbook": _book, "raw_marketdata": _bar}


def md5(*parts: str) -> str:
    return hashlib.md5("|".join(parts).encode()).hexdigest()


def instant_text(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# Silver: many records

KEYS = {"raw_trades": "trade_id", "raw_orderbook": "snapshot_id", "raw_marketdata": "market_data_id"}


@dataclass
class Silver:
    """The table by key, the outcome of each record by (partition, offset), and how often each came."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[tuple[int, int], tuple[str, list[str]]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        found = [outcome for outcome, _ in self.outcomes.values()]
        return {outcome: found.count(outcome) for outcome in (ACCEPTED, DUPLICATE, REJECTED)}


def silver(
    topic: str, records: Iterable[Record], exchanges: Iterable[str], max_bytes: int = MAX_RECORD_BYTES
) -> Silver:
    """All records of a topic, one after the other in arrival order."""
    exchanges = tuple(exchanges)
    made = Silver()
    contents: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(records, key=lambda record: record.arrival):
        judged = judge(topic, record, exchanges, max_bytes)
        outcome, reasons = REJECTED, judged.reasons
        if not reasons:
            outcome = _place(topic, record, judged.values, made.rows, contents)
            reasons = ["conflicting_duplicate"] if outcome == REJECTED else []
        made.outcomes[record.partition, record.offset] = (outcome, reasons)
    return made


def _place(
    topic: str, record: Record, values: dict[str, Any], rows: dict[str, Any], contents: dict[str, list[dict[str, Any]]]
) -> str:
    key = values[KEYS[topic]]
    content = {name: value for name, value in values.items() if name not in (KEYS[topic], "status")}
    row = {
        **values,
        "_source_topic": record.topic,
        "_source_partition": record.partition,
        "_source_offset": record.offset,
    }
    if topic == "raw_trades":
        return _place_trade(values, row, rows)
    seen = contents.setdefault(key, [])
    if content in seen:
        return DUPLICATE
    if seen and topic == "raw_orderbook":
        return REJECTED
    seen.append(content)
    rows[key] = row
    return ACCEPTED


def _place_trade(values: Mapping[str, Any], row: dict[str, Any], rows: dict[str, Any]) -> str:
    """A trade's status only moves forward; a cancellation's time is its own and no part of the trade."""
    held = rows.setdefault(values["trade_id"], row)
    if held is row:
        return ACCEPTED
    own = {"status"} if "CANCELLED" not in (values["status"], held["status"]) else _TIMED
    if any(values[name] != held[name] for name in values if name not in own):
        return REJECTED
    if STATUSES.index(values["status"]) <= STATUSES.index(held["status"]):
        return DUPLICATE
    held["status"] = values["status"]
    return ACCEPTED


_TIMED = {"status", "trade_timestamp", "trade_date"}


def trader_activity(trades: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Activity by its id, cancelled trades left out."""
    groups: dict[tuple[str, str, date], list[Mapping[str, Any]]] = {}
    for trade in trades:
        if trade["status"] != "CANCELLED":
            groups.setdefault((trade["trader_id"], trade["symbol"], trade["trade_date"]), []).append(trade)
    made = {}
    for (trader_id, symbol, day), members in groups.items():
        buys = [trade for trade in members if trade["trade_type"] == "BUY"]
        sells = [trade for trade in members if trade["trade_type"] == "SELL"]
        bought, sold = (sum(trade["quantity"] for trade in side) for side in (buys, sells))
        key = md5(trader_id, symbol, day.isoformat())
        with localcontext(_EXACT):
            made[key] = {
                "activity_id": key,
                "trader_id": trader_id,
                "activity_date": day,
                "symbol": symbol,
                "total_buys": len(buys),
                "total_sells": len(sells),
                "buy_volume": bought,
                "sell_volume": sold,
                "buy_value": sum((trade["total_value"] for trade in buys), Decimal(0)),
                "sell_value": sum((trade["total_value"] for trade in sells), Decimal(0)),
                "net_position": bought - sold,
                "avg_trade_size": fitting(Decimal(bought + sold) / Decimal(len(members))),
            }
    return made
