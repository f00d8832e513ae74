"""One market event as the JSON texts of its fields, and the notations a valid record may be written in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from random import Random

from lakehouse_spark.local.simulator.scenario import BARS, BOOKS, TRADES

Fields = dict[str, str]
"""Field names to their values as JSON texts."""

MILLI, SECOND, MINUTE, HOUR = 1_000, 1_000_000, 60_000_000, 3_600_000_000
"""In microseconds, like every instant of the simulator."""

DAY = 24 * HOUR

TIME_FIELD = {TRADES: "timestamp", BOOKS: "snapshot_time", BARS: "tick_time"}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS = ("price", "quantity", "commission", "open", "high", "low", "close", "volume", "vwap", "trade_count")
_TEXTS = ("symbol", "exchange", "trade_type", "order_type", "status", "trader_id", "interval")
_ZONES = tuple(timezone(timedelta(minutes=minutes)) for minutes in (540, 120, -300, 330))


@dataclass(slots=True)
class Event:
    """A valid record: `number` counts the events of its topic, `key` is its symbol, `at` and `arrival` are instants.

    `trader` and `symbol` are positions in the scenario's lists (trader -1: not a trade). `earlier` is how far back
    one of the exchange's previous sessions lies, set where dirt will be modelled on the event.
    """

    topic: str
    number: int
    key: bytes
    symbol: int
    at: int
    arrival: int
    fields: Fields
    trader: int = -1
    active: bool = True
    earlier: int = 0


def payload(fields: Fields) -> bytes:
    return ("{" + ",".join([f'"{name}":{text}' for name, text in fields.items()]) + "}").encode()


def iso(at: int) -> str:
    return (_EPOCH + timedelta(microseconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def quoted_numbers(event: Event, dice: Random) -> Fields:
    return {name: f'"{text}"' if name in _NUMBERS else text for name, text in event.fields.items()}


def exponents(event: Event, dice: Random) -> Fields:
    """100 as 1e2, 101.25 as 10125e-2, 7 as 7.0."""
    return {name: _exponent(text) if name in _NUMBERS else text for name, text in event.fields.items()}


def _exponent(text: str) -> str:
    whole, _, decimals = text.partition(".")
    if decimals:
        return f"{int(whole + decimals)}e-{len(decimals)}"
    return f"{whole[:-2]}E+2" if whole.endswith("00") and len(whole) > 2 else f"{whole}.0"


def more_digits(event: Event, dice: Random) -> Fields:
    """Nanoseconds, which are cut, and prices beyond six decimals, which round to what they were."""
    fields = dict(event.fields)
    time = TIME_FIELD[event.topic]
    point = "" if "." in fields[time] else ".000000"
    fields[time] = fields[time].replace('Z"', f'{point}{dice.randrange(1000):03d}Z"')
    for name in ("price", "open", "high", "low", "close"):
        if name in fields and "." in fields[name]:
            fields[name] = f"{fields[name]:0<{fields[name].index('.') + 7}}4"
    return fields


def offset(event: Event, dice: Random) -> Fields:
    local = (_EPOCH + timedelta(microseconds=event.at)).astimezone(dice.choice(_ZONES))
    return {**event.fields, TIME_FIELD[event.topic]: f'"{local.isoformat(timespec="microseconds")}"'}


def no_offset(event: Event, dice: Random) -> Fields:
    time = TIME_FIELD[event.topic]
    return {**event.fields, time: event.fields[time].replace("Z", "")}


def lower_case(event: Event, dice: Random) -> Fields:
    """Upper-case fields in lower case, and hours and days the other way round; 1M would be a month."""
    fields = dict(event.fields)
    for name in ("symbol", "exchange", "trade_type", "order_type", "status"):
        if name in fields:
            fields[name] = fields[name].lower()
    if "interval" in fields:
        fields["interval"] = fields["interval"].replace("h", "H").replace("d", "D")
    return fields


def padded(event: Event, dice: Random) -> Fields:
    return {name: f'"  {text[1:-1]} "' if name in _TEXTS else text for name, text in event.fields.items()}


def unknown_fields(event: Event, dice: Random) -> Fields:
    return {"schema": "2", **event.fields, "note": '"a \\"quoted\\" naïve note"', "route": '{"hops":["A",1,null]}'}


def escapes(event: Event, dice: Random) -> Fields:
    """White space between tokens and \\u escapes within texts."""
    symbol = event.fields["symbol"]
    fields = {name: f" {text}\n " for name, text in event.fields.items()}
    return {**fields, "symbol": f'\t"\\u{ord(symbol[1]):04x}{symbol[2:]}'}


def bare_symbol(event: Event, dice: Random) -> Fields:
    """Tokyo's numeric symbols as JSON numbers."""
    symbol = event.fields["symbol"][1:-1]
    return {**event.fields, "symbol": symbol} if symbol.isdigit() and symbol[0] != "0" else event.fields


def worst_first(event: Event, dice: Random) -> Fields:
    """A book's levels in another order, plus one without quantity, which is ignored."""
    if event.topic != BOOKS:
        return quoted_numbers(event, dice)
    levels = event.fields["bids"][2:-2].split("],[")
    return {**event.fields, "bids": f'[["0.01","0"],[{"],[".join(reversed(levels))}]]'}


SAME_CONTENT: tuple[Callable[[Event, Random], Fields], ...] = (
    quoted_numbers, exponents, more_digits, offset, no_offset, lower_case, padded, unknown_fields, escapes, bare_symbol,
    worst_first,
)  # fmt: skip
"""The same record, written differently."""


def epoch_millis(event: Event, dice: Random) -> Fields:
    return {**event.fields, TIME_FIELD[event.topic]: str(event.at // MILLI)}


def null_options(event: Event, dice: Random) -> Fields:
    fields = dict(event.fields)
    for name, empty in (("account_id", '""'), ("commission", "null"), ("vwap", "null"), ("trade_count", '"  "')):
        if name in fields:
            fields[name] = empty
    return fields


def one_sided(event: Event, dice: Random) -> Fields:
    return {**event.fields, dice.choice(("bids", "asks")): "[]"} if event.topic == BOOKS else epoch_millis(event, dice)


NOTATIONS = (*SAME_CONTENT, epoch_millis, null_options, one_sided)
"""All that makes a valid record look unusual."""
