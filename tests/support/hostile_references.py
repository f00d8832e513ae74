"""Reference records nobody should send, the same for the same seed: a feed's own values and names, bent and broken."""

import json
import random
from collections.abc import Sequence
from typing import Any

from tests.support import hostile_records
from tests.support.hostile_records import BASES

FLAGS = (
    "1", "1.0", "true", "T", "Yes", "y", "TRUE", "0", "0.0", "False", "f", "NO", "n", "nan", "NaN", "", " yes ", "2",
    "on", "1e0", "01", "ye\u017f", "\uff59", None, True, False, 1, 0,
)  # fmt: skip
DAYS = (
    "2025-06-01", "2026-01-05 00:00:00", "2026-01-05T00:00:00Z", "2026-01-05T00:00:00.000+00:00", "2025-02-30",
    "2026-01-05T00:00:01", "20260105", "0000-01-01", "NaT", "nan", "", " 2025-06-02 ", "yesterday", None, 20250601,
)  # fmt: skip
NUMBERS = ("1", "2.0", "1e2", "+3", "007", "1.5", "first", "NaN", "9223372036854775808", "", None, 5, 5.5)
SETTLEMENT_DAYS = (*NUMBERS, "0", "30", "31", "-1")
HOURS = (
    "09:30", "09:30:00", "9:30", "9:30 AM", "16:00", "16:00:59", "17:00", "00:00", "24:00", "24:00:00", "24:01",
    "25:00", "00:00:00", " 10:00 ", "", None, 930, "0\u0661:00",
)  # fmt: skip
TIME_ZONES = (
    "America/New_York",
    "UTC",
    "Asia/Kolkata",
    "EST/EDT",
    "america/new_york",
    "Europe/Berlin ",
    "EST",
    "",
    None,
)
MICS = ("XNYS", "xnys", "XNSE", "24/7", "us_futures", "CMES", "IEXG", "XXXX", "x\u0274ys", "", None, True)
CODES = (
    "NYSE",
    "nasdaq",
    " lse ",
    "\u0131BM",
    "A B",
    "N\u00dc",
    "\u017fSE",
    "BRK.B",
    "-A",
    "ABCDEFGHIJKLMNOP",
    "",
    None,
    7,
)

FEEDS: dict[str, dict[str, Sequence[Any]]] = {
    "dim_symbol": {
        "symbol": (*CODES, "AAPL", "MSFT", "GOOG", "T"), "company_name": ("Apple", None), "sector": ("Tech",),
        "industry": ("Software",), "market_cap_category": ("MEGA",), "listing_exchange": ("NYSE",), "ipo_date": DAYS,
    },
    "dim_trader": {
        "trader_id": ("T1", "t1", " T2 ", "\u0131", "", None, 5), "name": ("Ann", "NaN"), "account_type": ("CASH",),
        "risk_category": ("LOW",), "trading_tier": ("GOLD",), "registration_date": DAYS,
    },
    "dim_account": {
        "account_id": ("A1", "A2"), "trader_id": ("T1", None), "tier": ("GOLD", "SILVER"), "status": ("ACTIVE",),
        "account_open_date": DAYS, "account_type": ("CASH", "MARGIN"),
    },
    "dim_exchange": {
        "exchange_code": (*CODES, "NYSE", "LSE", "X"), "exchange_name": ("Big Board",), "timezone": TIME_ZONES,
        "country": ("US",), "currency": ("USD",), "market_open_time": HOURS, "market_close_time": HOURS, "mic": MICS,
        "settlement_days": SETTLEMENT_DAYS,
    },
}  # fmt: skip
PLACING = {"effective_date": DAYS, "sequence": NUMBERS, "is_deleted": FLAGS}
ALIASES = {"tier": "current_tier", "status": "Current Status"}
OTHERS = ("desk", "compnay_name", "symbol_", "Dimension")

BASES.update({name: {"dimension": name, **dict.fromkeys(columns, "x")} for name, columns in FEEDS.items()})


def hostile_references(count: int, seed: int) -> list[bytes | None]:
    """`count` records of the reference topic: whole ones, bent ones and rubble."""
    chance = random.Random(seed)
    return [_reference(chance) for _ in range(count)]


def _reference(chance: random.Random) -> bytes | None:
    dimension = chance.choice(list(FEEDS))
    value = _record(chance, dimension)
    match chance.randrange(30):
        case 0:
            return None
        case 1:
            return chance.choice((b"\0\0\0\0\x01", b"\0\0\0\xfe\xff", b"\0")) + value
        case 2:
            return chance.choice(("\ufeff", "\ufeff ", "\ufeff\ufeff")).encode() + value
        case 3 | 4:
            return hostile_records._changed(chance, value)
        case 5:
            return hostile_records._any_json(chance, dimension, 3).encode(errors="surrogatepass")
        case 6:
            return chance.choice((chance.randbytes(chance.randrange(9)), value + b" " * 3000))
        case _:
            return value


def _record(chance: random.Random, dimension: str) -> bytes:
    columns = {**FEEDS[dimension], **PLACING}
    chosen = [name for name in columns if name in list(FEEDS[dimension])[:1] or chance.random() < 0.6]
    pairs = [(_spelled(chance, name), _value(chance, columns[name])) for name in chosen]
    pairs.insert(chance.randrange(len(pairs) + 1), (chance.choice(("dimension", "dimension", " DIMENSION")), dimension))
    if chance.random() < 0.2:
        pairs.append((chance.choice(OTHERS), chance.choice(("FX", True, ["a", 1.50, {"b": None}], {}))))
    fields = [(json.dumps(name), json.dumps(value, ensure_ascii=chance.random() < 0.3)) for name, value in pairs]
    for _ in range(chance.choice((0, 0, 0, 1, 2))):
        fields = hostile_records._bent(chance, fields)
    text = "{" + ", ".join(f"{name}: {value}" for name, value in fields) + "}"
    return (hostile_records._broken(chance, text) if chance.random() < 0.05 else text).encode(errors="surrogatepass")


def _value(chance: random.Random, values: Sequence[Any]) -> Any:
    """The first one is good, and most records should be."""
    return values[0] if chance.random() < 0.6 else chance.choice(values)


def _spelled(chance: random.Random, name: str) -> str:
    name = ALIASES[name] if name in ALIASES and chance.random() < 0.3 else name
    match chance.randrange(12):
        case 0:
            return name.replace("_", " ").title()
        case 1:
            return name.replace("_", "-")
        case 2:
            return f" {name.upper()}\u00a0"
        case 3:
            return name.replace("_", "")
        case _:
            return name
