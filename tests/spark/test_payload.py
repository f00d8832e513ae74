"""What a payload's text becomes: every notation of a number, a time and a text, and nothing that is no JSON object."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal

import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from lakehouse_spark.bronze import raw_trades
from tests.support import in_memory
from tests.support.lake import BOOK, TRADE, trade

MALFORMED = ["malformed_json"]


def with_token(field: str, token: str) -> str:
    """A valid trade whose field has this token of JSON for a value."""
    rest = {name: value for name, value in TRADE.items() if name != field}
    return json.dumps(rest)[:-1] + f', "{field}": {token}' + "}"


Payload = bytes | str | None
_ALL: dict[Payload, int] = {}
"""Every payload of this module by its offset: they are all read in one job."""


def offered(payloads: Iterable[Payload]) -> list[Payload]:
    listed = list(payloads)
    for payload in listed:
        _ALL.setdefault(payload, len(_ALL))
    return listed


Read = Callable[[Iterable[Payload]], list[Row]]


def _read(rows: DataFrame, offset: str) -> Read:
    found = {row[offset]: row for row in rows.collect()}
    return lambda payloads: [found[_ALL[payload]] for payload in payloads]


@pytest.fixture(scope="module")
def bronze(spark: SparkSession) -> Read:
    """The bronze rows of offered payloads; the instant as `micros`, since Python cannot hold them all."""
    rows = in_memory.bronze(spark, "raw_trades", in_memory.records_of(_ALL))
    return _read(rows.selectExpr("*", "unix_micros(timestamp) AS micros").drop("timestamp"), "_kafka_offset")


@pytest.fixture(scope="module")
def silver(spark: SparkSession) -> Read:
    """The judged rows of offered payloads."""
    rows = in_memory.judged(spark, "raw_trades", in_memory.records_of(_ALL))
    return _read(rows.drop("trade_timestamp", "trade_date", "_event_time"), "_source_offset")


DECIMALS = {
    "187.5": "187.500000",
    "187.50": "187.500000",
    "1e2": "100.000000",
    "1E+2": "100.000000",
    "12345e-3": "12.345000",
    "1e0002": "100.000000",
    "-0.0": "0.000000",
    "-3.25": "-3.250000",
    "0.0000005": "0.000001",
    "0.00000049999999999999999": "0.000000",
    "1.0000005": "1.000001",
    "1.0000004999999999999999999": "1.000000",
    "-1.0000005": "-1.000001",
    "187.1234565": "187.123457",
    "187.12345649999999999999": "187.123456",
    "0.1234565000000000000000001": "0.123457",
    "0.1234564999999999999999999": "0.123456",
    "4503599627370.4975": None,
    "123456789012.345678": "123456789012.345678",
    "123456789012.3456785": "123456789012.345679",
    "123456789012345678e-6": "123456789012.345678",
    "123456789012345678901234567890e-20": "1234567890.123457",
    "0.000123456789012345678e9": "123456.789012",
    "999999999999.999999": "999999999999.999999",
    "999999999999.9999994999999999": "999999999999.999999",
    "999999999999.9999995": None,
    "1000000000000": None,
    "-999999999999.9999995": None,
    "1" + "0" * 60: None,
    "1" + "0" * 40 + "e-38": "100.000000",
    "0." + "0" * 900 + "1": "0.000000",
    "0." + "3" * 900: "0.333333",
    "1e-400": "0.000000",
    "1e-999": "0.000000",
    "1e400": None,
    "1e999": None,
    "1e-1000": None,
    "1e-999999999": None,
    "1e999999999": None,
    "0e5": "0.000000",
}


DECIMAL_TOKENS = [*DECIMALS, *(f'"{token}"' for token in DECIMALS), *(f'" {token}\u00a0"' for token in DECIMALS)]
DECIMAL_PAYLOADS = offered(with_token("commission", token) for token in DECIMAL_TOKENS)


def test_a_decimal_is_the_payloads_own_digits_rounded_half_up_once(silver: Read) -> None:
    found = [row["commission"] for row in silver(DECIMAL_PAYLOADS)]
    expected = [None if value is None else Decimal(value) for value in DECIMALS.values()] * 3
    assert dict(zip(DECIMAL_TOKENS, found, strict=True)) == dict(zip(DECIMAL_TOKENS, expected, strict=True))


BESIDE = offered(
    with_token("note", note)[:-1] + ', "price": 123456789012.34567851}'
    for note in ("1e0001", '"3f5e12345"', '", 7e1234"', '"x\\"5~\\""', "[1e999999999]", "[true, {}]")
)


def test_digits_are_exact_whatever_else_the_payload_holds(silver: Read) -> None:
    assert [row["price"] for row in silver(BESIDE)] == [Decimal("123456789012.345679")] * 6


INTEGERS = {
    "100": 100,
    "-7": -7,
    "0": 0,
    "-0": 0,
    "-0.0": 0,
    "100.0": 100,
    "100.000000000000000000000000": 100,
    "1e2": 100,
    "1E+2": 100,
    "1.5e1": 15,
    "10000e-2": 100,
    "100.5e1": 1005,
    "0e-999": 0,
    "0.001e3": 1,
    "9007199254740993": 9007199254740993,
    "9007199254740993.0": 9007199254740993,
    "900719925474099.3e1": 9007199254740993,
    "9223372036854775807": 9223372036854775807,
    "922337203685477580.7e1": 9223372036854775807,
    "-9223372036854775808": -9223372036854775808,
    "1" + "0" * 40 + "e-38": 100,
    "9223372036854775808": None,
    "9223372036854775808e0": None,
    "-9223372036854775809": None,
    "1e19": None,
    "1e400": None,
    "1e999999999": None,
    "100.5": None,
    "1e-2": None,
    "100.00000000000000001": None,
    "1.0000000000000000000000001": None,
    "1e-400": None,
    "1e-999": None,
    "1e-999999999": None,
}


INTEGER_TOKENS = [*INTEGERS, *(f'"{token}"' for token in INTEGERS)]
INTEGER_PAYLOADS = offered(with_token("quantity", token) for token in INTEGER_TOKENS)


def test_an_integer_may_be_written_in_any_notation_but_has_no_fraction(bronze: Read, silver: Read) -> None:
    expected = dict(zip(INTEGER_TOKENS, [*INTEGERS.values()] * 2, strict=True))
    for read in (bronze, silver):
        found = [row["quantity"] for row in read(INTEGER_PAYLOADS)]
        assert dict(zip(INTEGER_TOKENS, found, strict=True)) == expected


DOUBLES = {
    "187.5": 187.5, "0.1": 0.1, "1e2": 100.0, '"1e2"': 100.0, '" 7 "': 7.0, "-0.5": -0.5, "8.41E21": 8.41e21,
    "2.0e-3": 0.002, "123456789012345678e-6": 123456789012.345678, "1e-400": 0.0, "1e400": None, '"1e400"': None,
    "-1e400": None, '"Infinity"': None, '"NaN"': None, '"1f"': None, '"0x1p3"': None, '"1,000"': None, "true": None,
    "[1]": None, '""': None, "null": None,
}  # fmt: skip
DOUBLE_PAYLOADS = offered(with_token("price", token) for token in DOUBLES)


def test_a_bronze_double_is_the_nearest_one_and_never_infinite(bronze: Read) -> None:
    found = [row["price"] for row in bronze(DOUBLE_PAYLOADS)]
    assert dict(zip(DOUBLES, found, strict=True)) == DOUBLES


NO_NUMBERS = (
    "true", "false", "[1]", "{}", '"+1"', '"01"', '".5"', '"1."', '"1e"', '"0x10"', '"1_000"', '"1,5"', '"NaN"',
    '"1 2"', '"1.5f"',
    '"-"', '"\u0661"', '"--1"', '"1' + "0" * 1000 + '"',
)  # fmt: skip


NO_PRICES = offered(with_token("price", token) for token in NO_NUMBERS)
NO_QUANTITIES = offered(with_token("quantity", token) for token in NO_NUMBERS)


def test_what_is_no_json_number_is_invalid_even_within_quotes(silver: Read) -> None:
    assert [row["_reasons"] for row in silver(NO_PRICES)] == [["invalid_price"]] * len(NO_NUMBERS)
    assert [row["_reasons"] for row in silver(NO_QUANTITIES)] == [["invalid_quantity"]] * len(NO_NUMBERS)


INSTANTS = {
    '"2025-01-15T15:30:00Z"': "2025-01-15 15:30:00",
    '"2025-01-15t15:30:00z"': "2025-01-15 15:30:00",
    '"2025-01-15 15:30:00"': "2025-01-15 15:30:00",
    '"2025-01-15T15:30"': "2025-01-15 15:30:00",
    '" 2025-01-15T15:30:00Z\u00a0"': "2025-01-15 15:30:00",
    '"2025-01-15T15:30:00.1Z"': "2025-01-15 15:30:00.100000",
    '"2025-01-15T15:30:00,25Z"': "2025-01-15 15:30:00.250000",
    '"2025-01-15T15:30:00.123456999Z"': "2025-01-15 15:30:00.123456",
    '"2025-01-15T15:30:00.9999999999999+00:00"': "2025-01-15 15:30:00.999999",
    '"2025-01-15T15:30:00+01:00"': "2025-01-15 14:30:00",
    '"2025-01-15T15:30:00-0530"': "2025-01-15 21:00:00",
    '"2025-01-15T15:30:00+05"': "2025-01-15 10:30:00",
    '"2025-01-15T15:30:00 +05:45"': "2025-01-15 09:45:00",
    '"2025-01-15T15:30:00-00:00"': "2025-01-15 15:30:00",
    '"2025-01-15T23:30:00-18:00"': "2025-01-16 17:30:00",
    '"2025-03-30T02:30:00+01:00"': "2025-03-30 01:30:00",
    '"2025-03-30T02:30:00"': "2025-03-30 02:30:00",
    '"2025-11-02T01:30:00-05:00"': "2025-11-02 06:30:00",
    '"2024-02-29T23:59:59.999999Z"': "2024-02-29 23:59:59.999999",
    '"1969-12-31T23:59:59.9999999Z"': "1969-12-31 23:59:59.999999",
    '"9999-12-31T23:59:59.999999Z"': "9999-12-31 23:59:59.999999",
    "1736955000000": "2025-01-15 15:30:00",
    '"1736955000123"': "2025-01-15 15:30:00.123000",
    "1736955000000.0": "2025-01-15 15:30:00",
    "1.736955e12": "2025-01-15 15:30:00",
    "-1": "1969-12-31 23:59:59.999000",
    "1736955000000.5": None,
    "1736955000000.00000001": None,
    "253402300800000": None,
    "1e400": None,
    "true": None,
    "[1736955000000]": None,
    '"2025-01-15"': None,
    '"15:30:00Z"': None,
    '"2025-01-15T24:00:00Z"': None,
    '"2025-01-15T15:30:60Z"': None,
    '"2025-01-15T15:60:00Z"': None,
    '"2025-02-29T00:00:00Z"': None,
    '"2025-13-01T00:00:00Z"': None,
    '"2025-1-15T15:30:00Z"': None,
    '"2025-01-15T15:30.5Z"': None,
    '"2025-01-15T15:30:00.Z"': None,
    '"2025-01-15T15:30:00+19:00"': None,
    '"2025-01-15T15:30:00+05:60"': None,
    '"2025-01-15T15:30:00+5"': None,
    '"2025-01-15T15:30:00 UTC"': None,
    '"2025-01-15T15:30:00 America/New_York"': None,
    '"2025-01-15  15:30:00Z"': None,
    '"0000-12-31T00:00:00Z"': None,
    '"0001-01-01T00:00:00+00:01"': None,
    '"9999-12-31T23:59:59-00:01"': None,
    '"10000-01-01T00:00:00Z"': None,
    '"now"': None,
    '"epoch"': None,
}


INSTANT_PAYLOADS = offered(with_token("timestamp", token) for token in INSTANTS)


def test_an_instant_is_iso_8601_or_epoch_milliseconds_cut_to_microseconds(bronze: Read) -> None:
    found = [row["micros"] for row in bronze(INSTANT_PAYLOADS)]
    assert dict(zip(INSTANTS, found, strict=True)) == {token: _micros(text) for token, text in INSTANTS.items()}


def _micros(text: str | None) -> int | None:
    if text is None:
        return None
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


TEXTS = {
    '"T1"': "T1",
    '"  T1\\t"': "  T1\t",
    "1.10": "1.10",
    "1e2": "1e2",
    "1.0": "1.0",
    "-0": "-0",
    "0": "0",
    "100": "100",
    "12345678901234567890.12345": "12345678901234567890.12345",
    "1e400": "1e400",
    "1E-999999999": "1E-999999999",
    '"1.10"': "1.10",
    '"true"': "true",
    '"null"': "null",
    '"[1]"': "[1]",
    '"{}"': "{}",
    '"~T1"': "~T1",
    '"5~"': "5~",
    r'"\"Infinity\""': '"Infinity"',
    r'"a\\\"b\u00e9"': 'a\\"b\u00e9',
    r'"\ud83d\ude00"': "\U0001f600",
    r'"\\ud800x"': r"\ud800x",
    r'"\\\ud83d\ude00"': "\\\U0001f600",
    "true": None,
    "false": None,
    "[1.5]": None,
    '["T1"]': None,
    "{}": None,
    '{"trade_id": 1.5}': None,
    "null": None,
    '""': None,
    '" \\t\\n\u00a0"': None,
}


TEXT_PAYLOADS = offered(with_token("trade_id", token) for token in TEXTS)


def test_a_text_is_a_string_or_a_number_as_written(bronze: Read, silver: Read) -> None:
    found = [row["trade_id"] for row in bronze(TEXT_PAYLOADS)]
    assert dict(zip(TEXTS, found, strict=True)) == TEXTS
    trimmed = {token: text and text.strip() for token, text in TEXTS.items()}
    in_silver = silver(TEXT_PAYLOADS)
    assert dict(zip(TEXTS, [row["trade_id"] for row in in_silver], strict=True)) == trimmed
    reasons = dict(zip(TEXTS, [row["_reasons"] for row in in_silver], strict=True))
    assert reasons["true"] == reasons["{}"] == reasons["[1.5]"] == ["invalid_trade_id"]
    assert reasons["null"] == reasons['""'] == reasons['" \\t\\n\u00a0"'] == ["missing_trade_id"]
    assert {token for token, found in reasons.items() if not found} == {token for token, text in TEXTS.items() if text}


NAMES = {
    '"trade_id": "a", "trade_id": 1.10': "1.10",
    '"trade_id": 1.10, "trade_id": "a"': "a",
    '"trade_id": "a", "trade_id": null': None,
    '"trade_id": "a", "trade_id": true': None,
    '"x": {"trade_id": 7.0}, "trade_id": 1.10': "1.10",
    '"x": [{"trade_id": 7.0}], "trade_id": 1.10': "1.10",
    '"trade\\u005fid": 1.10': "1.10",
    '"x": "\\"trade_id\\": 7.0", "trade_id": 1.10': "1.10",
    '"Trade_Id": "a"': None,
    '"TRADE_ID": "b", "trade_id": "a"': "a",
}
NAMELESS = json.dumps({name: value for name, value in TRADE.items() if name != "trade_id"})[:-1]
NAME_PAYLOADS = offered(f"{NAMELESS}, {fields}" + "}" for fields in NAMES)


def test_names_count_at_the_top_alone_and_the_last_of_equal_ones_wins(bronze: Read) -> None:
    found = [row["trade_id"] for row in bronze(NAME_PAYLOADS)]
    assert dict(zip(NAMES, found, strict=True)) == NAMES


WHOLE = json.dumps(TRADE)
HEAD = WHOLE[:-1]
GOOD = offered(
    (WHOLE, f" \t\r\n{WHOLE}\n ", f'{HEAD}, "x": [{{"a": 1}}, {{"b": 2}}]' + "}", f'{HEAD}, "x": "}}] "' + "}")
)
AROUND = (
    "", " ", "null", "5", '"x"', "true", "[]", f"[{WHOLE}]", f"{WHOLE}{WHOLE}", f"{WHOLE},{WHOLE}", f"{WHOLE},",
    f"{WHOLE}x", WHOLE + "}", f"{WHOLE}]", WHOLE + "] }", WHOLE + "], {}", WHOLE + "]garbage}", WHOLE + '], "x": {}',
    "\u00a0" + WHOLE, WHOLE + "\x0c", WHOLE + "\x00", f"{WHOLE}// x", f"/* x */{WHOLE}",
    f"# x\n{WHOLE}", WHOLE.replace(",", ";", 1), WHOLE.replace(":", "=", 1), "{" + WHOLE + "}", HEAD,
)  # fmt: skip
WITHIN = (
    "", '"x"', '"x": 01', '"x": .5', '"x": +1', '"x": 1.', '"x": NaN', '"x": -Infinity', "'x': 1", "\"x\": 'y'", "x: 1",
    '"x": tru', '"x": "a\tb"', '"x": "a\x00b"', r'"x": "\q"', r'"x": "\u12g4"', r'"account_id": "\q"',
    '"account_id": [1:, 2]', '"account_id": "A\t, "y": 1', '"account_id": {"a" 1}', '"commission": [1, 2}', '"x": 1 2',
    '"account_id": [1 2], "payload": {}', '"account_id": "A\t, "payload": {}', '"trade_id": [1 2]', '"price": [NaN]',
    r'"trade_id": "\q"', '"symbol": {"a" 1}', '"quantity": [' + "7" * 1001 + "]",
)  # fmt: skip
BAD = offered((*AROUND, *(f"{HEAD}, {fields}" + "}" for fields in WITHIN)))


def test_only_exactly_one_json_object_is_one(bronze: Read, silver: Read) -> None:
    assert [row["_reasons"] for row in silver(GOOD)] == [[]] * len(GOOD)
    refused = {payload: row["_reasons"] for payload, row in zip(BAD, silver(BAD), strict=True)}
    assert refused == dict.fromkeys(BAD, MALFORMED)
    assert [row["raw_payload"] for row in bronze(BAD)] == BAD
    assert {row["symbol"] for row in bronze(BAD)} == {row["price"] for row in bronze(BAD)} == {None}


LEVELS = {
    '"bids": [[187.49, 1]]': [],
    '"bids": [[187.49, ' + "7" * 1000 + "]]": ["invalid_level"],
    '"bids": [[187.49, ' + "7" * 1001 + "]]": MALFORMED,
    '"bids": [[187.49, 1]], "bids": [[187.49, ' + "7" * 1001 + "]]": MALFORMED,
    '"bids": [[187.49, 1]], "bids": [[187.49 1]]': MALFORMED,
    '"bids": [[187.49, 1]], "bids": [NaN]': MALFORMED,
    '"bids": [[187.49, 1]], "bids": [[187.49, 1}]': MALFORMED,
    '"bids": [[187.49, 1]], "bids": [], "payload": {}': [],
    '"bids": [1 2], "payload": {}': MALFORMED,
}


def test_an_error_in_an_array_is_one_whatever_stands_beside_it(spark: SparkSession) -> None:
    """The parser would leave out that array alone: the levels of one before it would count, or none."""
    rest = json.dumps({name: value for name, value in BOOK.items() if name != "bids"})[:-1]
    records = in_memory.records_of(f"{rest}, {fields}" + "}" for fields in LEVELS)
    rows = in_memory.judged(spark, "raw_orderbook", records).orderBy("_source_offset").collect()
    assert dict(zip(LEVELS, [row["_reasons"] for row in rows], strict=True)) == LEVELS


BYTES = offered(
    (
        b'{"symbol": "A\xff"}',
        b"\xc0\xaf",
        b'{"symbol": "\xed\xa0\x80"}',
        b"\xe2\x82",
        b'{"symbol": "\xe2\x82\xac"}',
        None,
    )
)
REPAIRED = [
    '{"symbol": "A\ufffd"}', "\ufffd\ufffd", '{"symbol": "\ufffd\ufffd\ufffd"}', "\ufffd", '{"symbol": "\u20ac"}', None,
]  # fmt: skip


def test_bytes_that_are_no_utf_8_are_kept_beside_the_repaired_text(bronze: Read, silver: Read) -> None:
    rows = bronze(BYTES)
    assert [row["raw_payload"] for row in rows] == REPAIRED
    kept = [None if row["_raw_bytes"] is None else bytes(row["_raw_bytes"]) for row in rows]
    assert kept == [*BYTES[:4], None, None]
    assert [row["symbol"] for row in rows] == ["A\ufffd", None, "\ufffd\ufffd\ufffd", None, "\u20ac", None]
    assert [row["_reasons"] for row in silver(BYTES)][:4] == [["invalid_encoding"]] * 4
    assert silver(BYTES)[5]["_reasons"] == ["tombstone"]


LONE: dict[str, tuple[str | None, list[str]]] = {
    r'"trade_id": "T\ud800"': (None, ["invalid_encoding"]),
    r'"trade_id": "\uDFFFT"': (None, ["invalid_encoding"]),
    r'"trade_id": "T\\\udC00"': (None, ["invalid_encoding"]),
    r'"trade_id": "\ude00\ud83d"': (None, ["invalid_encoding"]),
    r'"trade_id": "\ud83d\ud83d\ude00"': (None, ["invalid_encoding"]),
    r'"trade_id": "\ud83d\\ude00"': (None, ["invalid_encoding"]),
    r'"trade_id": {"a": "\ud800"}': (None, ["invalid_encoding"]),
    r'"trade_id": {"\ud800": 1}': (None, ["invalid_encoding"]),
    r'"trade_id": "a", "trade_id": "\ud800"': (None, ["invalid_encoding"]),
    r'"trade_id": "\ud800", "trade_id": "a"': ("a", []),
    r'"trade_id": "a", "trade_id\ud800": "b"': ("a", []),
    r'"trade_id": "a", "\ud800": {"\udfff": ["\ud800"]}': ("a", []),
    r'"trade_id": "a", "commission": "1\ud800"': ("a", ["invalid_encoding"]),
    r'"trade_id": "a", "account_id": "\udbff"': ("a", ["invalid_encoding"]),
    r'"trade_id": "a", "note": "\ud800", "commission": 1.00000000000000000001': ("a", []),
}
LONE_PAYLOADS = offered(f"{NAMELESS}, {fields}" + "}" for fields in LONE)


def test_half_a_character_is_no_text_and_refuses_the_record_whose_field_holds_it(bronze: Read, silver: Read) -> None:
    """The parser would make a question mark of it: T\\ud800 and T\\udfff were one trade."""
    found = [row["trade_id"] for row in bronze(LONE_PAYLOADS)]
    reasons = [row["_reasons"] for row in silver(LONE_PAYLOADS)]
    assert dict(zip(LONE, zip(found, reasons, strict=True), strict=True)) == LONE


MARK, FRAME = "\ufeff", b"\0\0\0\0\x01"
FRONT: dict[bytes, list[str]] = {
    (MARK + WHOLE).encode(): [],
    (MARK + " " + WHOLE).encode(): [],
    (MARK + MARK + WHOLE).encode(): MALFORMED,
    (" " + MARK + WHOLE).encode(): MALFORMED,
    MARK.encode(): MALFORMED,
    (MARK + "  ").encode(): MALFORMED,
    (MARK + HEAD).encode(): MALFORMED,
    FRAME + WHOLE.encode(): ["schema_registry_framing"],
    b"\0\0\0\xfe\xff" + WHOLE.encode(): ["schema_registry_framing"],
    FRAME: ["schema_registry_framing"],
    FRAME[:4]: MALFORMED,
    b"\0\xff\xff\xff": ["invalid_encoding"],
    b"\x01" + FRAME: MALFORMED,
}
FRONT_PAYLOADS = offered(FRONT)


def test_a_byte_order_mark_is_ignored_and_a_frame_is_named(bronze: Read, silver: Read) -> None:
    assert dict(zip(FRONT, [row["_reasons"] for row in silver(FRONT_PAYLOADS)], strict=True)) == FRONT
    rows = bronze(FRONT_PAYLOADS)
    assert [row["trade_id"] for row in rows] == ["T1" if reasons == [] else None for reasons in FRONT.values()]
    assert rows[0]["raw_payload"] == MARK + WHOLE


def nested(depth: int) -> str:
    """A valid trade, `depth` levels deep."""
    return with_token("note", "[" * (depth - 1) + "]" * (depth - 1))


HOSTILE: dict[str, tuple[str, list[str]]] = {
    "deep": (nested(999), []),
    "too deep": (nested(1000), MALFORMED),
    "an abyss": (nested(300_000), MALFORMED),
    "an open abyss": ("[" * 1_000_000, MALFORMED),
    "a deep price": (with_token("price", "[" * 900 + "]" * 900), ["invalid_price"]),
    "a long unknown text": (with_token("note", '"' + "x" * 900_000 + '"'), []),
    "a long text of digits": (with_token("note", '"' + "7" * 900_000 + '"'), []),
    "a long price of digits": (with_token("price", '"' + "7" * 900_000 + '"'), ["invalid_price"]),
    "a long price of digits and points": (with_token("price", '"' + "7." * 450_000 + '"'), ["invalid_price"]),
    "a bare number of 900,000 digits": (with_token("price", "7" * 900_000), MALFORMED),
    "a bare number of 1,001 digits": (with_token("price", "7" * 1001), MALFORMED),
    "a bare number of 1,000 digits": (with_token("price", "-" + "7" * 1000), ["invalid_price"]),
    "many quotes": (with_token("note", '"' + '\\"' * 400_000 + '"'), []),
    "many open quotes": (with_token("note", '"' + '\\"' * 400_000), MALFORMED),
    "many braces": ("{" * 900_000, MALFORMED),
    "many closed arrays": ("}]" * 450_000, MALFORMED),
    "many fields": (with_token("note", json.dumps({f"f{n}": n for n in range(50_000)})), []),
    "many equal names": ("{" + '"price": 1.5,' * 50_000 + json.dumps(TRADE)[1:], []),
    "many long numbers": (with_token("note", "[" + "1.234567890123456789," * 40_000 + "1]"), []),
    "blanks": (" " * 900_000, MALFORMED),
    "a blank timestamp": (with_token("timestamp", '"' + " " * 900_000 + '"'), ["missing_timestamp"]),
    "a timestamp of digits": (with_token("timestamp", '"2025-01-15T15:30:00.' + "1" * 900_000 + 'Z"'), []),
    "a huge exponent": (with_token("price", "1e999999999"), ["invalid_price"]),
    "a tiny exponent": (with_token("price", "1e-999999999"), ["invalid_price"]),
    "a tiny exponent in quotes": (with_token("quantity", '"1e-999999999"'), ["invalid_quantity"]),
    "a huge exponent elsewhere": (with_token("note", "[1e999999999, 1e-999999999]"), []),
    "nul": ("\x00", MALFORMED),
    "an escaped nul": (with_token("note", '"\\u0000"'), []),
    "half a character": (with_token("note", '"\\ud800"'), []),
    "more than is read": (with_token("note", '"' + "x" * 1_048_576 + '"'), ["oversized_record"]),
    "ten million digits": (with_token("note", "7" * 10_000_000), ["oversized_record"]),
    "many escaped halves": (with_token("note", '"' + "\\ud800" * 150_000 + '"'), []),
    "many escaped pairs": (with_token("note", '"' + "\\ud83d\\ude00" * 80_000 + '"'), []),
    "many backslashes and half a character": (
        with_token("trader_id", '"' + "\\" * 800_000 + '\\ud800"'),
        ["invalid_encoding"],
    ),
}
HOSTILE_PAYLOADS = offered(payload for payload, _ in HOSTILE.values())


def test_what_the_parser_cannot_take_is_refused_and_stops_nobody(silver: Read) -> None:
    found = dict(zip(HOSTILE, [row["_reasons"] for row in silver(HOSTILE_PAYLOADS)], strict=True))
    assert found == {name: reasons for name, (_, reasons) in HOSTILE.items()}


def test_a_record_is_read_up_to_the_limit_and_not_beyond(spark: SparkSession) -> None:
    digits = "7" * 2_000_000
    quoted, bare = with_token("price", f'"{digits}"'), with_token("price", digits)
    damaged = quoted.encode().replace(b"7", b"\xff", 1)  # its text, once repaired, is two bytes longer
    records = in_memory.records_of(
        (quoted, bare, quoted + " ", quoted.replace("7", "\u00e9", 1), damaged, damaged + b" ")
    )
    rows = in_memory.judged(spark, "raw_trades", records, max_bytes=len(quoted)).orderBy("_source_offset").collect()
    assert [row["_reasons"] for row in rows] == [
        ["invalid_price"], MALFORMED, ["oversized_record"], ["oversized_record"], ["invalid_encoding"],
        ["oversized_record"],
    ]  # fmt: skip


def test_the_stamp_of_a_batch_is_no_part_of_the_code_that_reads_its_payloads(spark: SparkSession) -> None:
    """That code is large: written into it, the stamp would have it made and compiled anew for every batch."""
    rows = in_memory.bronze(spark, "raw_trades", in_memory.records_of(["{}"]))
    plan = rows._jdf.queryExecution().executedPlan().toString()
    steps = plan.split("Project [")
    assert ["makeValid" in step for step in steps if "AS _ingested_at" in step] == [True]
    assert not [step for step in steps if "makeValid" in step and ("from_json" in step or "RLIKE" in step)]


def test_usual_payloads_are_known_to_be_plain(spark: SparkSession) -> None:
    """Java reads the pattern as Python does (tests/unit/test_plain_payloads), and to the very end."""
    texts = [trade(), trade(commission=None, status=0), trade() + b"\n", b'{"price": 1e5}', b'{"price": 1.5}']
    rows = in_memory.bronze(spark, "raw_trades", in_memory.records_of(texts))
    read = raw_trades.TOPIC.with_fields(rows, 1_000_000).orderBy("_kafka_offset").select("_is_plain").collect()
    assert [row["_is_plain"] for row in read] == [True, False, False, False, True]
