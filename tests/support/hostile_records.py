"""Payloads nobody should send, the same ones for the same seed: records bent by a grammar of nasty things, records with
some bytes changed, JSON of any shape and bytes of no shape.
"""

import json
import random
from collections.abc import Sequence
from typing import Any

from tests.support.lake import BAR, BOOK, TRADE

BASES: dict[str, dict[str, Any]] = {
    "raw_trades": {**TRADE, "account_id": "A1", "status": "EXECUTED", "commission": 0.25},
    "raw_orderbook": BOOK,
    "raw_marketdata": BAR,
}

NUMBERS = (
    "0", "-0", "-0.0", "1", "100", "100.0", "1e2", "1E+2", "1.5", "1e-2", "-1", "-1e-3", "10000e-2", "123.456e1",
    "1.0000005", "1.0000004999999999999999999", "0.0000005", "0.00000049999999999999999", "1e-7", "1e-400", "1e400",
    "1e-999", "1e999", "1e-1000", "1e-999999999", "1e999999999", "1e0002", "100.00000000000000001", "9007199254740993",
    "9007199254740993.0", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "9223372036854775807.0",
    "922337203685477580.7e1", "999999999999.9999994", "999999999999.9999995", "999999999999.999999", "1000000000000",
    "123456789012345678e-6", "123456789012.3456785", "187.12345649999999999999", "0.1234565000000000000000001",
    "12345678901234567890123456789012345678901234567890", "0." + "0" * 60 + "1",
    "1" + "0" * 60, "1" + "0" * 40 + "e-38",
    "4503599627370497.5", "8.41E21", "2.0e-3", "1.1e1", "1.10", "187.10", "3.7e5", "100e-2", "1736955000000",
    "1.7369550e12",
    "1736955000000.5", "9" * 400, "0." + "3" * 900, "0e5", "0.0e-999", "1.0000000000000000001", "1000000e-6",
)  # fmt: skip
BAD_NUMBERS = (
    "01",
    "+1",
    ".5",
    "1.",
    "1e",
    "0x10",
    "1_000",
    "NaN",
    "Infinity",
    "-Infinity",
    "-",
    "1.2.3",
    "--1",
    "1 2",
)
STRINGS = (
    r'"T\ud83d"', r'"T\\ud800"', r'"T\\\ud800"', r'"\uDC00\uD800"', r'"\ud83d\ud83d\ude00"', r'"\uD83D\uDE00\udfffx"',
    '"\ufeffA"',
    '"Canceled"', '"CANCELED"', '" canceled "', '"CANCELLED"', '"\u0131BM"', '"T\ufb01"', '"\u212a"', '"1D"', '"5M"',
    '""', '" "', r'"\t\n"', '"\u00a0"', '"\u2003"', r'"\u0000"', r'"\ud800"', r'"\ud83d\ude00"', '"AAPL"', '" aapl "',
    '"\u00a0nyse\u00a0"', '"brk.b"', '"BRK-B"', '"-A"', '"ABCDEFGHIJKLMNO"', '"ABCDEFGHIJKLMNOP"', '"A B"', '"AAPL\\n"',
    '"\u00e9"', '"\u0131"', '"buy"', '" Sell "', '"\u017fell"', '"HOLD"', '"limit"', '"Stop "', '"executed"',
    '"PARTIAL"',
    '"cancelled"', '"DONE"', '"1M"', '" 1H"', '"2m"', '"lse"', '"XXXX"', '"true"', '"null"', '"[1]"', '"[[1,2]]"',
    '" [[187.5,1]] "', '"{}"', r'"\"Infinity\""', '"1.5e3"', r'"a\"b"', r'"\\"', '"~x"', '"5~"',
    '"x, 12345678901234567.5"',
    '"7e1234"', '"NaN"', '"Infinity"', '"1,000"', '"1.5 "', '" 100"', '"+1"', '"1d"', '"1f"', '"0x1p3"', '"\u0661"',
)  # fmt: skip
INSTANTS = (
    "2025-01-15T15:30:00Z", "2025-01-15T15:30:00", "2025-01-15 15:30:00", "2025-01-15T15:30Z", "2025-01-15t15:30:00z",
    "2025-01-15T15:30:00.1Z", "2025-01-15T15:30:00.1234567Z", "2025-01-15T15:30:00.999999999Z",
    "2025-01-15T15:30:00,5+01:00", "2025-01-15T15:30:00+0530", "2025-01-15T15:30:00-05", "2025-01-15T15:30:00 +05:45",
    "2025-01-15T15:30:00-00:00", "2025-01-15T15:30:00+18:00", "2025-01-15T15:30:00+18:01", "2025-01-15T15:30:00+24:00",
    "2025-01-15T15:30:00+05:60", "2025-01-15T15:30:00+5", "2025-01-15T24:00:00Z", "2025-01-15T15:30:60Z",
    "2025-01-15T15:60:00Z", "2025-02-29T00:00:00Z", "2024-02-29T23:59:59.999999Z", "2025-13-01T00:00:00Z",
    "2025-01-15", "2025-1-5T1:2:3Z", "2025-01-15T15Z", "2025-01-15T15:30:00.Z", "2025-01-15T15:30.5Z",
    "20250115T153000Z",
    "2025-01-15T15:30:00 UTC", "2025-01-15T15:30:00[UTC]", "2025-01-15T15:30:00 America/New_York", "15:30:00",
    "2000-01-01T00:00:00Z", "1999-12-31T23:59:59.999999Z", "1999-12-31T23:59:59-00:01", "2000-01-01T00:00:00+00:01",
    "0001-01-03T00:00:00Z", "0001-01-01T00:00:00+00:01", "0000-12-31T00:00:00Z", "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-00:01", "10000-01-01T00:00:00Z", "+2025-01-15T15:30:00Z", "-2025-01-15T15:30:00Z",
    "2025-06-02T12:05:00.250000Z", "2025-06-02T12:05:00.250001Z", "2025-06-02T12:05:00.2500009Z",
    "2025-03-30T02:30:00+01:00",
    "2025-01-15T15:30:00Z ", " 2025-01-15T15:30:00Z", "2025-01-15T15:30:00Z\u00a0", "2025-01-15  15:30:00Z", "epoch",
    "now",
    "1736955000000", "1736955000000.0", "-1", "2025", "1748865900250", "1748865900251", "253402300800000", "1e12",
    "2025-01-15T15:30:00\u2212" "05:00", "\u0662025-01-15T15:30:00Z",
)  # fmt: skip
OTHERS = (
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[1]",
    '{"a":1}',
    '["AAPL"]',
    "[1.10]",
    '[{"a":1}]',
    '"x"',
    "tru",
    "nul",
    "'x'",
)
LEVELS = (
    "[]", "[[]]", "[null]", "[[187.5]]", "[[187.5,1,2]]", "[[187.5,1]]", '[["187.5","1"]]', "[[187.5,0]]", "[[0,5]]",
    "[[-1,5]]", "[[187.5,-1]]", "[[187.5,1.5]]", "[[187.5,1e2]]", "[[187.5,1.0]]", "[[null,1]]", "[[187.5,null]]",
    '[["",1]]', "[[true,1]]", '["187.5"]', '["[187.5,1]"]', "[187.5,1]", '{"a":[1,2]}', '[{"price":187.5}]',
    "[[187.5,1],1]",
    "[[[187.5],[1]]]", "[[187.49,1],[187.50,2],[187.48,3],[187.50,4],[187.47,5],[187.46,6],[187.45,7],[187.44,8]]",
    "[[0.0000004,5]]", "[[0.0000005,5]]", "[[999999999999.9999995,5]]", "[[187.5,9223372036854775807]]",
    "[[187.5,1e-400]]",
    "[[187.5,9223372036854775807],[187.4,1]]", "[[187.5,9223372036854775808]]", "[[187.48999949999999999999,7]]",
    "[[123456789012345678e-6,3]]", "[[187.5,100.00000000000000001]]", '[["~187.5",1]]', '[["187.5~","1"]]',
    '[["187.4812345678901234567"," 12 "],[187.12345678901234567,1]]', '"[[187.5,1]]"', '""', '" "', "null", "true", "5",
    '"none"', "[[187.51,1]]", "[[187.52,0],[187.48,1]]", "[[187.50,1],[187.50,1]]", "[ [ 187.5 , 1 ] , [ 187.4,2 ] ]",
)  # fmt: skip


def hostile_records(topic: str, count: int, seed: int) -> list[bytes | None]:
    """`count` records for the topic: whole ones, bent ones and rubble, many of them under the same few keys."""
    chance = random.Random(seed)
    return [_record(chance, topic) for _ in range(count)]


def _record(chance: random.Random, topic: str) -> bytes | None:
    value = _bent_record(chance, topic)
    match chance.randrange(40):
        case 0:
            return None
        case 1:
            return chance.choice((b"\0\0\0\0\x01", b"\0\0\0\xfe\xff", b"\0")) + value
        case 2 | 3:
            return chance.choice(("\ufeff", "\ufeff", "\ufeff ", "\ufeff\ufeff", " \ufeff")).encode() + value
        case 4 | 5 | 6 | 7:
            return _changed(chance, value)
        case 8:
            return _any_json(chance, topic, 3).encode(errors="surrogatepass")
        case 9:
            return chance.randbytes(chance.randrange(9))
        case _:
            return value


def _bent_record(chance: random.Random, topic: str) -> bytes:
    fields = [(json.dumps(name), json.dumps(value)) for name, value in BASES[topic].items()]
    fields = [_own_key(chance, topic, name, value) for name, value in fields]
    if topic == "raw_trades" and chance.random() < 0.3:
        fields = _moved_on(chance, fields)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        fields = _bent(chance, fields)
    colon, comma = chance.choice(((":", ","), (": ", ", "), (" :\n", "\t, "), (":", ",\r\n  ")))
    text = "{" + comma.join(name + colon + value for name, value in fields) + "}"
    return (_broken(chance, text) if chance.random() < 0.12 else text).encode(errors="surrogatepass")


def _moved_on(chance: random.Random, fields: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Another status, and perhaps a time of its own."""
    status = chance.choice(("PARTIAL", "EXECUTED", "CANCELLED", "CANCELLED", "canceled"))
    day = chance.choice((15, 15, 14, 16))
    moved = {'"status"': f'"{status}"', '"timestamp"': f'"2025-01-{day}T15:30:00Z"'}
    return [(name, moved.get(name, value)) for name, value in fields]


def _changed(chance: random.Random, value: bytes) -> bytes:
    """The record with a few bytes lost, doubled, put in or made other ones."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(len(value) + 1)
        after = place + chance.choice((0, 1, 1, 2, 5))
        between = chance.choice((b"", value[place:after] * 2, chance.choice(_BYTES), chance.randbytes(1)))
        value = value[:place] + between + value[after:]
    return value


_BYTES = (
    b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\0", b"\\", b'"', b"\\u",
    b"\\ud8", b"\\ud800", b"\\udFFF", b"\\\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b"-", b"e9", b".", b" ", b"\n",
    b"null", b"\xc4\xb1", b"\xc5\xbf", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80",
)  # fmt: skip


def _any_json(chance: random.Random, topic: str, depth: int) -> str:
    """Any JSON, its names mostly the topic's."""
    kind = chance.randrange(6)
    if depth and kind < 3:
        names = [*(json.dumps(name) for name in BASES[topic]), *STRINGS[:12]]
        pairs = [(chance.choice(names), _any_json(chance, topic, depth - 1)) for _ in range(chance.randrange(9))]
        return "{" + ",".join(name + ":" + value for name, value in pairs) + "}"
    if depth and kind == 3:
        return "[" + ",".join(_any_json(chance, topic, depth - 1) for _ in range(chance.randrange(4))) + "]"
    return chance.choice((*STRINGS, *NUMBERS, *OTHERS))


def _own_key(chance: random.Random, topic: str, name: str, value: str) -> tuple[str, str]:
    if name == '"trade_id"':
        value = f'"T{chance.randrange(120)}"'
    if name in ('"snapshot_time"', '"tick_time"'):
        value = f'"2025-01-15T15:{chance.randrange(60):02}:0{chance.randrange(4)}Z"'
    return name, value


def _bent(chance: random.Random, fields: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    bent = list(fields)
    place = chance.randrange(len(bent)) if bent else 0
    name, value = bent[place] if bent else ('"symbol"', '"A"')
    match chance.randrange(15):
        case 0:
            del bent[place : place + 1]
        case 1:
            bent.insert(chance.randrange(len(bent) + 1), (name, _value(chance, name)))
        case 2:
            bent.insert(0, ('"extra"', "{" + name + ":" + _value(chance, name) + "}"))
        case 3:
            bent[place : place + 1] = [(name[:2].replace(name[1], f"\\u{ord(name[1]):04x}") + name[2:], value)]
        case 4:
            bent[place : place + 1] = [(name.upper(), value)]
        case 5:
            chance.shuffle(bent)
        case 6:
            bent.append((json.dumps("note " + name), chance.choice((*STRINGS, *NUMBERS, *OTHERS))))
        case 7:
            bent[place : place + 1] = [(name, json.dumps(value.strip('"') + " "))]
        case 8:
            bent.append((name[:-1] + chance.choice((r"\ud800", r"\ud83d\ude00", r"\\ud800")) + '"', value))
        case _:
            bent[place : place + 1] = [(name, _value(chance, name))]
    return bent


def _value(chance: random.Random, name: str) -> str:
    if name in ('"bids"', '"asks"') and chance.random() < 0.85:
        return chance.choice(LEVELS)
    kind = chance.random()
    if name in ('"timestamp"', '"snapshot_time"', '"tick_time"') and kind < 0.75:
        return json.dumps(chance.choice(INSTANTS), ensure_ascii=False)
    likely = name in (
        '"price"',
        '"quantity"',
        '"commission"',
        *(f'"{n}"' for n in ("open", "high", "low", "close", "volume", "vwap", "trade_count")),
    )
    if kind < (0.45 if likely else 0.2):
        return chance.choice(NUMBERS)
    if kind < (0.7 if likely else 0.3):
        return json.dumps(chance.choice((*NUMBERS, *BAD_NUMBERS)))
    if kind < 0.75 and likely:
        return chance.choice(BAD_NUMBERS)
    return chance.choice((*STRINGS, *STRINGS, *OTHERS, *INSTANTS[:0], *NUMBERS[:12]))


def _broken(chance: random.Random, text: str) -> str:
    place = chance.randrange(len(text) + 1)
    match chance.randrange(7):
        case 0:
            return text[:place]
        case 1:
            return text[:place] + chance.choice(",:{}[]\"'\\\x00\t\x7f\ufeff0ae-") + text[place:]
        case 2:
            tails = (
                "}",
                "]",
                "] }",
                "],{}",
                ",{}",
                "{}",
                " ",
                "\n",
                "\x0c",
                "\x00",
                "]garbage}",
                "//",
                "]}",
                '],"x":{}',
                "0",
            )
            return text + chance.choice(tails)
        case 3:
            return chance.choice((" ", "\n", "\ufeff", "\x0b", "[", "{", "null", "//\n", "\u00a0", "#")) + text
        case 4:
            return "[" + text + "]"
        case 5:
            return chance.choice(
                ("", " ", "null", "[]", "{}", "5", '"x"', "true", "{]", "}{", "[{}]", '{"a"}', '{"symbol":}')
            )
        case _:
            return text[:place] + text[place + 1 :]
