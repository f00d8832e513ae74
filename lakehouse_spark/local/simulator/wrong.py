"""What silver must reject: values that break a rule, and bytes that are no JSON object."""

from collections.abc import Callable, Mapping

from lakehouse_spark.local.simulator.event import Event, Fields, payload
from lakehouse_spark.local.simulator.scenario import BARS, BOOKS, TOPICS, TRADES

Change = Mapping[str, str | Callable[[Fields], str] | None]
"""Fields to their new JSON texts; None takes the field away."""

Variant = tuple[Change, tuple[str, ...]]
"""A change, and the reasons that the record is rejected for."""

Maker = Callable[[Fields], bytes | None]
"""From valid fields to a record's value."""

REQUIRED = {
    TRADES: (
        "trade_id", "symbol", "price", "quantity", "trade_type", "order_type", "trader_id", "exchange", "timestamp",
    ),
    BOOKS: ("symbol", "snapshot_time", "bids", "asks", "exchange"),
    BARS: ("symbol", "tick_time", "open", "high", "low", "close", "volume", "interval", "exchange"),
}  # fmt: skip

NESTING = 2_000
OVERSIZE = 1_300_000
"""Beyond the default limit of 1 MiB; it compresses well enough to pass a broker's."""


def unlike(host: Event) -> Fields:
    """The host's fields under a trade id of their own, so that nothing but the fault is wrong with the record."""
    fields = dict(host.fields)
    if host.topic == TRADES:
        fields["trade_id"] = f'{fields["trade_id"][:-1]}-wrong"'
    return fields


def _each(field: str, reason: str, *texts: str) -> tuple[Variant, ...]:
    return tuple(({field: text}, (reason,)) for text in texts)


def _absent(topic: str, text: str | None, first: int) -> tuple[Variant, ...]:
    """Each required field in turn, from another `first` for each way to be missing: few records reach all."""
    fields = REQUIRED[topic][first:] + REQUIRED[topic][:first]
    return tuple(({field: text}, (f"missing_{field}",)) for field in fields)


def _with_level(level: str, side: str) -> Callable[[Fields], str]:
    return lambda fields: f"{fields[side][:-1]},{level}]"


def _beyond(field: str, factor: float) -> Callable[[Fields], str]:
    return lambda fields: f"{float(fields[field]) * factor:.4f}"


_COMMON_TIMES = (
    '"2025-01-15"', '"yesterday"', '"2025-02-30T10:00:00Z"', '"2025-01-15T25:00:00Z"', "true", '"10:00:00"',
    '["2025-01-15T10:00:00Z"]',
)  # fmt: skip
_FUTURE = ('"2099-01-01T00:00:00Z"', "4070908800000", '"2099-12-31T23:59:59.999999+14:00"')
_ANCIENT = ('"1999-12-31T23:59:59.999999Z"', "0", '"2000-01-01T00:30:00+01:00"', "-86400000")


def _common(topic: str, time: str) -> dict[str, tuple[Variant, ...]]:
    return {
        "field_absent": _absent(topic, None, 0),
        "field_null": _absent(topic, "null", 1),
        "field_empty": _absent(topic, '""', 2),
        "field_blank": _absent(topic, '"   "', 3),
        "bad_timestamp": _each(time, f"invalid_{time}", *_COMMON_TIMES),
        "future": _each(time, "future_timestamp", *_FUTURE),
        "ancient": _each(time, "ancient_timestamp", *_ANCIENT),
        "unknown_exchange": _each("exchange", "unknown_exchange", '"MARS"', '"DARKPOOL"', '"NYSE2"'),
        "bad_symbol": _each(
            "symbol", "invalid_symbol", '"AAPL$"', '"ABCDEFGHIJKLMNOP"', '".AAPL"', '"A B"', '"ÅAPL"', '"-X"',
            '["AAPL"]', '{"ticker":"AAPL"}', "true", '"\u0131BM"', '"T\ufb01"',
        ),
        "half_a_surrogate_pair": _each("symbol", "invalid_encoding", r'"T\ud800"', r'"\uDC00T"', r'"T\ud83d\ud83d"'),
    }  # fmt: skip


VALUES: Mapping[str, Mapping[str, tuple[Variant, ...]]] = {
    TRADES: {
        **_common(TRADES, "timestamp"),
        "price_not_a_number": _each(
            "price", "invalid_price", '"abc"', "true", '"12,5"', '"1.5.2"', "[101.5]", '{"amount":101.5}', '"0x1A"',
        ),
        "price_overflow": _each("price", "invalid_price", "1e30", "999999999999.9999996", '"1e400"', "-1e30"),
        "price_not_positive": _each("price", "invalid_price", "0", "-101.5", '"0.00"', "0.0000004", "-0.0"),
        "quantity_not_integral": _each(
            "quantity", "invalid_quantity", "1.5", '"ten"', "true", '"1e-1"', "[100]", '{"lots":1}',
        ),
        "quantity_overflow": _each(
            "quantity", "invalid_quantity", "9223372036854775808", "1e20", '"99999999999999999999"',
        ),
        "quantity_not_positive": _each("quantity", "invalid_quantity", "0", "-100", '"0"'),
        "value_overflow": (
            ({"price": "900000.5", "quantity": "9000000000"}, ("value_overflow",)),
            ({"price": "999999999999.999999", "quantity": "2"}, ("value_overflow",)),
            ({"quantity": "9223372036854775807"}, ("value_overflow",)),
        ),
        "text_of_wrong_type": (
            *_each("trade_id", "invalid_trade_id", '{"id":1}', "[1]", "true"),
            *_each("trader_id", "invalid_trader_id", "false", '["TR1"]'),
            *_each("exchange", "invalid_exchange", "true", '{"mic":"XNYS"}'),
            *_each("trade_type", "invalid_trade_type", '["BUY"]'),
            *_each("order_type", "invalid_order_type", "{}"),
        ),
        "not_in_enum": (
            *_each("trade_type", "invalid_trade_type", '"HOLD"', '"B"', "1"),
            *_each("order_type", "invalid_order_type", '"ICEBERG"', '"STOP LIMIT"'),
            *_each("status", "invalid_status", '"DONE"', '"PENDING"'),
        ),
        "several_reasons": (
            (
                {"price": "-1", "quantity": "0", "trade_type": '"HOLD"', "exchange": '"MARS"', "timestamp": _FUTURE[0]},
                ("future_timestamp", "invalid_price", "invalid_quantity", "invalid_trade_type", "unknown_exchange"),
            ),
            (
                {"trader_id": None, "order_type": '"ICEBERG"', "timestamp": _ANCIENT[0]},
                ("ancient_timestamp", "invalid_order_type", "missing_trader_id"),
            ),
            ({"symbol": '"AAPL$"', "price": '"abc"', "status": '"DONE"'},
             ("invalid_price", "invalid_status", "invalid_symbol")),
        ),
    },
    BOOKS: {
        **_common(BOOKS, "snapshot_time"),
        "crossed_book": (
            ({"asks": lambda fields: fields["bids"]}, ("crossed_book",)),
            ({"asks": "[[100.25,100]]", "bids": "[[99.75,500],[100.25,200]]"}, ("crossed_book",)),
            ({"asks": "[[102,100],[100,300]]", "bids": "[[101,500]]"}, ("crossed_book",)),
        ),
        "empty_book": (
            ({"bids": "[]", "asks": "[]"}, ("empty_book",)),
            ({"bids": "[[100.25,0]]", "asks": "[[100.5,0],[100.75,0]]"}, ("empty_book",)),
        ),
        "bad_level": (
            *(({"bids": _with_level(level, "bids")}, ("invalid_level",))
              for level in (
                  "[0,100]", "[-1.5,100]", '["abc",100]', "[0.01]", "[0.0100000000000000001,1]",
                  '{"price":0.01,"quantity":1}', "null",
              )),
            *(({"asks": _with_level(level, "asks")}, ("invalid_level",))
              for level in ("[999999,-5]", "[999999,1.5]", '[999999,"many"]', "[]", "7")),
        ),
        "side_of_wrong_type": (
            *_each("bids", "invalid_bids", '"none"', "5", '{"price":100,"quantity":1}', "true"),
            *_each("asks", "invalid_asks", '"none"', "5", "false"),
        ),
        "several_reasons": (
            ({"bids": "[[101,5]]", "asks": "[[100,5]]", "exchange": '"MARS"'}, ("crossed_book", "unknown_exchange")),
            ({"bids": "[]", "asks": "[]", "symbol": None, "snapshot_time": _FUTURE[0]},
             ("empty_book", "future_timestamp", "missing_symbol")),
        ),
    },
    BARS: {
        **_common(BARS, "tick_time"),
        "inconsistent_ohlc": (
            ({"low": _beyond("high", 1.01)}, ("inconsistent_ohlc",)),
            ({"high": _beyond("low", 0.99)}, ("inconsistent_ohlc",)),
            ({"close": _beyond("high", 1.5)}, ("inconsistent_ohlc",)),
            ({"open": _beyond("low", 0.5)}, ("inconsistent_ohlc",)),
        ),
        "price_not_a_number": tuple(
            ({field: text}, (f"invalid_{field}",))
            for text in ('"abc"', "true", "[1]", "1e30") for field in ("open", "high", "low", "close")
        ),
        "bad_volume": _each(
            "volume", "invalid_volume", "-1", "1.5", '"many"', "9223372036854775808", "true", "-1e3",
        ),
        "bad_interval": _each("interval", "invalid_interval", '"2m"', '"1w"', '"1M"', '"minute"', "1", "true"),
        "several_reasons": (
            ({"volume": "-1", "interval": '"2m"', "low": _beyond("high", 1.01)},
             ("inconsistent_ohlc", "invalid_interval", "invalid_volume")),
            ({"open": None, "exchange": '"MARS"', "tick_time": _ANCIENT[0]},
             ("ancient_timestamp", "missing_open", "unknown_exchange")),
        ),
    },
}  # fmt: skip


def _raw(make: Callable[[bytes], bytes]) -> Maker:
    return lambda fields: make(payload(fields))


def _only(value: bytes | None) -> Maker:
    return lambda fields: value


def _spliced(more: str) -> Maker:
    """A valid object but for what follows its last field."""
    return lambda fields: payload(fields)[:-1] + more.encode() + b"}"


BROKEN: Mapping[str, tuple[str, tuple[Maker, ...]]] = {
    "tombstone": ("tombstone", (_only(None),)),
    "bad_utf8": (
        "invalid_encoding",
        (
            _raw(lambda text: text[:-1] + b',"note":"\xff\xfe"}'),
            _raw(lambda text: text[:-1] + ',"note":"Zürich"}'.encode("latin-1")),
            _raw(lambda text: text[:-1] + b',"note":"\xc0\xaf"}'),
            _raw(lambda text: text[:-1] + b',"note":"\xed\xa0\x80"}'),
            _raw(lambda text: text + b"\xe2\x82"),
        ),
    ),
    "framed": ("schema_registry_framing", (_raw(lambda text: b"\0\0\0\0\7" + text), _only(b"\0\xff\xff\xff\xff"))),
    "truncated": ("malformed_json", (_raw(lambda text: text[: len(text) // 2]), _raw(lambda text: text[:-1]))),
    "trailing_garbage": (
        "malformed_json", (_raw(lambda text: text + b" garbage"), _raw(lambda text: text + b"}")),
    ),
    "two_objects": (
        "malformed_json",
        (_raw(lambda text: text + text), _raw(lambda text: text + b"\n" + text), _raw(lambda text: text + b"," + text)),
    ),
    "array": ("malformed_json", (_raw(lambda text: b"[" + text + b"]"), _only(b"[]"))),
    "plain_text": (
        "malformed_json",
        tuple(_only(text) for text in (b"HEARTBEAT", b"", b"   ", b"42", b'"text"', b"null")),
    ),
    "single_quotes": ("malformed_json", (_raw(lambda text: text.replace(b'"', b"'")),)),
    "not_a_number": ("malformed_json", tuple(_spliced(f',"x":{text}') for text in ("NaN", "Infinity", "-Infinity"))),
    "loose_json": (
        "malformed_json", tuple(_spliced(text) for text in (",", ',"x":0100', ",x:1", ',"x":.5', "/* note */")),
    ),
}  # fmt: skip

HUGE: Mapping[str, tuple[str, Maker]] = {
    "deep_nesting": ("malformed_json", _spliced(f',"x":{"[" * NESTING}{"]" * NESTING}')),
    "oversized": ("oversized_record", lambda fields: payload({**fields, "padding": f'"{"x" * OVERSIZE}"'})),
}
"""Once each."""

assert set(VALUES) == set(TOPICS)
