"""CSV as RFC 4180 has it, record by record with its exact bytes, and quotes that it does not foresee.

Fields are separated by commas; one that begins with a quote ends at the next single one, and a quote in it is doubled.
A quote elsewhere is itself. Lines of blanks alone are no records; an empty field is NULL.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader

from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.ingest.reference_files.record import LONGEST, Record, lines, malformed, undecodable

_REST_OF_QUOTED = re.compile(rb'(?:[^"]++|"")*+"')
_QUOTED = re.compile(r'"((?:[^"]++|"")*+)"[ \t]*+(?=,|\Z)')
_OTHER = re.compile(r'(?:"(?:[^"]++|"")*+")?+[^,]*+')


def header(content: BufferedReader) -> tuple[list[str], Iterator[bytes]]:
    """The names in the first record, `_c<place>` for an empty one, and the records behind it as bytes."""
    records = _records(lines(content))
    first = next(records, b"")
    try:
        names = fields(first.decode())
    except UnicodeDecodeError as error:
        raise UsageError("its header is not UTF-8; save it as UTF-8") from error
    if not first:
        raise UsageError("holds nothing, not even a header")
    if names is None:
        raise UsageError("its header has a quote that ends within a name")
    return [name if name and name.strip() else f"_c{place}" for place, name in enumerate(names)], records


def read(names: Sequence[str], records: Iterable[bytes]) -> Iterator[Record]:
    """The records; one that has not as many fields as the header is malformed."""
    for raw in records:
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            yield undecodable(raw)
            continue
        values = fields(text) if len(raw) <= LONGEST else None
        if values is None or len(values) != len(names):
            yield malformed(text)
        else:
            yield Record(names, values, text)


def fields(text: str) -> list[str | None] | None:
    """A record's fields; None where what begins with a quote spans lines and goes on behind its end: then a quote is
    amiss, and the lines may be records of their own."""
    if '"' not in text:
        return [field or None for field in text.split(",")]
    found: list[str | None] = []
    at = 0
    while True:
        if quoted := _QUOTED.match(text, at):
            field, at = quoted[1].replace('""', '"'), quoted.end()
        else:
            other = _OTHER.match(text, at)
            assert other is not None  # it matches nothing as well
            field, at = other[0], other.end()
            if field.startswith('"') and "\n" in field:
                return None
        found.append(field or None)
        if at == len(text):
            return found
        at += 1


def _records(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of each record, those of its line end left out."""
    parts: list[bytes] = []
    began = 0
    for number, line in enumerate(lines, 1):
        if not parts:
            if b'"' not in line:
                if record := _without_end(line):
                    yield record
                continue
            began = number
        is_open = _stays_open(line, bool(parts))
        parts.append(line)
        if not is_open:
            yield _without_end(b"".join(parts))
            parts.clear()
    if parts:
        raise LakehouseError(f"a quote that opens in the record of line {began} is never closed")


def _without_end(record: bytes) -> bytes:
    return record.rstrip(b"\r\n") if record.strip() else b""


def _stays_open(line: bytes, is_quoted: bool) -> bool:
    """Whether a quoted field is open at the line's end; `is_quoted`: whether one is at its beginning."""
    at = 0
    while True:
        if not is_quoted and line.startswith(b'"', at):
            is_quoted, at = True, at + 1
        if is_quoted:
            closed = _REST_OF_QUOTED.match(line, at)
            if closed is None:
                return True
            at = closed.end()
        at = line.find(b",", at) + 1
        if not at:
            return False
        is_quoted = False
