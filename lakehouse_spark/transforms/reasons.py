"""Every code for which a record can be rejected: what it means, who mends it and how. No rule may emit any other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIELD = "<field>"
"""Stands in a code for the name of any field that has no line of its own for it."""

SENDER, OWNER, OPERATOR = "sender", "owner of the reference data", "operator"
"""Who mends it: whoever runs what writes to Kafka, writes the reference files and feeds, or runs this lakehouse."""
SENDER_OR_OWNER = f"{SENDER}, {OWNER}"
"""Of records of either kind."""

_SENDER = "the sender of the record"
_RESEND = f"{_SENDER} corrects it and sends it again"
_CORRECT = "whoever writes the feed or file corrects it and sends or loads the record again"


@dataclass(frozen=True)
class Reason:
    """One reason code, or a pattern of them (`missing_<field>`)."""

    code: str
    meaning: str
    who: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.meaning}. To mend it, {self.remedy}."


REASONS: tuple[Reason, ...] = (
    # Of the record as a whole: such a code stands alone.
    Reason(
        "tombstone",
        "The record has a key and no value, which deletes a key of a compacted topic and says nothing here",
        SENDER_OR_OWNER,
        f"{_SENDER} states what it means in a value (a cancellation by status CANCELLED, a member of a dimension by "
        "is_deleted); else discard it",
    ),
    Reason(
        "oversized_record",
        "The record is larger than the limit, so it was kept and not read",
        f"{OPERATOR}, {SENDER}",
        "raise LAKEHOUSE_INGEST__MAX_RECORD_BYTES where such records are meant, then replay them; else "
        f"{_SENDER} sends smaller ones",
    ),
    Reason(
        "schema_registry_framing",
        "The value begins as a schema registry's serializer writes it (a zero byte, the id of a schema), not as JSON",
        f"{OPERATOR}, {SENDER_OR_OWNER}",
        "say in LAKEHOUSE_KAFKA__FORMATS what the topic's records are, then replay them: lakehouse rejected replay "
        f"--reason schema_registry_framing; else {_SENDER} writes plain JSON (its serializer without the registry) and "
        "sends it again",
    ),
    Reason(
        "unknown_schema",
        "The schema registry has no schema of the id that the record names",
        f"{OPERATOR}, {SENDER_OR_OWNER}",
        "register it, or point LAKEHOUSE_REGISTRY__URL at the registry that has it, then replay: lakehouse rejected "
        "replay --reason unknown_schema; a record of reference data is sent again once its schema is known",
    ),
    Reason(
        "invalid_payload",
        "The topic is of records that a schema registry's serializer frames, and this one is not framed, or its bytes "
        "are not what its schema says",
        SENDER_OR_OWNER,
        f"{_SENDER} writes it by the serializer that the topic's format says and sends it again; raw_payload says what "
        "was the matter",
    ),
    Reason(
        "invalid_encoding",
        "The bytes are not valid UTF-8, or a text escapes half of a surrogate pair; _raw_bytes holds them exactly",
        SENDER_OR_OWNER,
        "whoever writes the feed or file saves it as UTF-8 (not as cp1252, Latin-1 or UTF-16) and sends or loads it "
        "again",
    ),
    Reason(
        "malformed_json",
        "The value is not one JSON object by RFC 8259, or is nested too deeply",
        SENDER_OR_OWNER,
        f"{_SENDER} sends it again as one JSON object a record; a value cut off or two in one are the usual causes",
    ),
    Reason(
        "malformed_record",
        "The record of a reference file or feed cannot be read as its format says",
        OWNER,
        "whoever writes the file looks at the quotes and the number of values of that line, and loads it again",
    ),
    # Of reference records.
    Reason(
        "missing_dimension",
        "A reference record from Kafka does not say which dimension it is for",
        OWNER,
        f"{_SENDER} adds the field dimension (dim_symbol, dim_trader, dim_account or dim_exchange) and sends it again",
    ),
    Reason(
        "invalid_dimension",
        "A reference record is for a dimension that there is none of",
        OWNER,
        f"{_SENDER} names dim_symbol, dim_trader, dim_account or dim_exchange and sends it again",
    ),
    Reason(
        "invalid_effective_date",
        "The date from which the change holds is no ISO date (2025-06-30)",
        OWNER,
        _CORRECT,
    ),
    Reason(
        "invalid_sequence", "The number that orders changes of one key and date is no 64-bit integer", OWNER, _CORRECT
    ),
    Reason(
        "invalid_is_deleted",
        "The flag is none of true, t, yes, y, 1, 1.0, or false, f, no, n, 0, 0.0, in any case",
        OWNER,
        _CORRECT,
    ),
    Reason(
        "invalid_exchange_code",
        "The exchange's code cannot be one: text without control characters is expected",
        OWNER,
        _CORRECT,
    ),
    Reason(
        "invalid_timezone",
        "The time zone is no IANA name as it is written there (America/New_York, not EST5 or america/new_york)",
        OWNER,
        _CORRECT,
    ),
    Reason(
        "invalid_mic",
        "The market identifier code is none that the trading calendars know (XNYS, XLON …)",
        OWNER,
        "whoever writes the feed or file corrects it, or leaves it empty and gives open, close and timezone instead",
    ),
    Reason(
        "invalid_market_open_time",
        "The market's open is no local time HH:MM or HH:MM:SS from 00:00 to before 24:00, or it equals the close",
        OWNER,
        _CORRECT,
    ),
    Reason(
        "invalid_market_close_time",
        "The market's close is no local time HH:MM or HH:MM:SS from 00:00 to 24:00, or it equals the open",
        OWNER,
        _CORRECT,
    ),
    Reason(
        "invalid_settlement_days",
        "The number of trading days from a trade to its settlement is no integer from 0 to 30",
        OWNER,
        _CORRECT,
    ),
    # Of fields that trades, books and bars share.
    Reason(
        "future_timestamp",
        "The event's time is more than five minutes after the record arrived",
        SENDER,
        "whoever runs the sender looks at its clock and at the unit of its timestamps (milliseconds), and sends the "
        "record again",
    ),
    Reason(
        "ancient_timestamp",
        "The event's time is before the year 2000",
        SENDER,
        "whoever runs the sender looks at the unit of its timestamps (milliseconds, not seconds) and sends the record "
        "again",
    ),
    Reason(
        "unknown_exchange",
        "The exchange is not in dim_exchange",
        f"{OPERATOR}, {SENDER}",
        "load it (lakehouse run dimension_loader --dimension dim_exchange --source FILE), then replay: lakehouse "
        f"rejected replay --reason unknown_exchange; where the code is a slip, {_RESEND}",
    ),
    Reason(
        "invalid_symbol",
        "The symbol is not 1 to 15 of A-Z, 0-9, '.' and '-', beginning with a letter or digit; a to z are folded, "
        "letters beyond ASCII are not",
        SENDER_OR_OWNER,
        _CORRECT,
    ),
    Reason(
        "conflicting_duplicate",
        "A record of the same key was accepted before, with other content, and the first stands",
        SENDER,
        "whoever runs the sender finds out which is right: a trade's correction needs a trade_id of its own; else "
        "discard it",
    ),
    # Of trades.
    Reason(
        "invalid_price",
        "The price is no number, not above 0 once rounded to 6 decimals, or beyond decimal(18,6)",
        SENDER,
        _RESEND,
    ),
    Reason("invalid_quantity", "The quantity is no positive 64-bit integer (100, 100.0 and 1e2 are)", SENDER, _RESEND),
    Reason("value_overflow", "Price times quantity is beyond decimal(18,6), a trillion", SENDER, _RESEND),
    Reason("invalid_trade_type", "The trade type is neither BUY nor SELL", SENDER, _RESEND),
    Reason("invalid_order_type", "The order type is none of MARKET, LIMIT and STOP", SENDER, _RESEND),
    Reason(
        "invalid_status",
        "The status is none of EXECUTED, PARTIAL and CANCELLED (CANCELED is read as such)",
        SENDER,
        _RESEND,
    ),
    # Of books.
    Reason(
        "empty_book", "Neither side of the book holds a quantity", SENDER, f"{_RESEND}; a halted market's are discarded"
    ),
    Reason(
        "crossed_book",
        "The best bid is not below the best ask, by the exact numbers of the payload",
        SENDER,
        "whoever runs the feed looks at how its two sides are put together; the next snapshot replaces it, discard it",
    ),
    Reason(
        "invalid_level",
        "A level of the book is not [price above 0, integral quantity of 0 or more], or has more digits than are kept",
        SENDER,
        _RESEND,
    ),
    # Of bars.
    Reason(
        "inconsistent_ohlc",
        "The bar's low is above its open or close, or its high below one of them, once rounded",
        SENDER,
        f"{_RESEND}: a later bar of the same time replaces it",
    ),
    Reason("invalid_volume", "The volume is no 64-bit integer of 0 or more", SENDER, _RESEND),
    Reason(
        "invalid_interval",
        "The interval is none of 1m, 5m, 1h and 1d; 1M is a month",
        SENDER,
        _RESEND,
    ),
    # Of any other field.
    Reason(
        f"missing_{FIELD}",
        "The field is required, and absent, null, empty or blank",
        SENDER_OR_OWNER,
        "whoever writes the feed or file fills it and sends or loads the record again",
    ),
    Reason(
        f"invalid_{FIELD}",
        "The field's value is not of the field's kind: a text, a number, a date or an instant with its time",
        SENDER_OR_OWNER,
        _CORRECT,
    ),
)

_BY_CODE = {reason.code: reason for reason in REASONS}


def of(code: str) -> Reason | None:
    """The line of a code; None for one that this release does not know, as a later one may have written it."""
    kind = code.partition("_")[0]
    return _BY_CODE.get(code) or _BY_CODE.get(f"{kind}_{FIELD}")


def explained(code: str) -> str:
    """What a code means and what to do, in one line."""
    return f"{code}: {of(code) or 'a code of another release'}"


def grouped(records: Mapping[str, int]) -> list[dict[str, Any]]:
    """Numbers of records by reason code, the most frequent first, each with what its line says."""
    lines = ((code, number, of(code)) for code, number in sorted(records.items(), key=lambda each: (-each[1], each[0])))
    return [
        {
            "reason": code,
            "records": number,
            "meaning": line.meaning if line else None,
            "remedy": line.remedy if line else None,
        }
        for code, number, line in lines
    ]
