"""JSON, as lines or as one document, by RFC 8259: record by record with its exact text, numbers with their digits."""

import json
import re
from collections.abc import Generator, Iterator
from io import BufferedReader
from itertools import chain
from json.decoder import JSONDecoder
from typing import Any, NoReturn

from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.ingest.reference_files.record import LONGEST, IsText, Record, lines, malformed, undecodable
from lakehouse_spark.transforms.payload import NOT_TEXT

_BLANK = " \t\n\r"
_IN_FRONT = re.compile(r"[\s\ufeff]*+", re.ASCII)
_BYTES_IN_FRONT = re.compile(rb"(?:\s|\xef\xbb\xbf)*+")
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"|([\[{])|([\]}])', re.DOTALL)


class _Digits(str):
    """A number as it is written."""


def _no_number(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is no number of JSON's", name, 0)


_DECODER = JSONDecoder(parse_float=_Digits, parse_int=_Digits, parse_constant=_no_number)
_scan = _DECODER.raw_decode


def read(content: BufferedReader, is_text: IsText, *, is_lines: bool) -> Iterator[Record]:
    """The records of a file: its lines, or where not `is_lines` and it begins with `[`, or with `{` but no whole object
    in its first line, the elements of one document. What is no object is malformed.

    Raises UsageError where there is nothing, LakehouseError for a document that is none and for lines none of which
    begins an object.
    """
    written = (line for line in lines(content) if _begun(line))
    first = next(written, None)
    if first is None:
        raise UsageError("holds nothing")
    start = _begun(first)
    if not is_lines and (start.startswith(b"[") or (start.startswith(b"{") and not _is_whole(start))):
        document = first + b"".join(written)
        yield from _of_document(document.decode("utf-8", "surrogateescape"), is_text)
        return
    seen = False
    for line in chain([first], written):
        seen = seen or _begun(line).startswith(b"{")
        yield _of_line(line.rstrip(b"\r\n"), is_text)
    if not seen:
        raise LakehouseError("cannot be read as JSON lines: no line begins an object")


def _begun(line: bytes) -> bytes:
    """The line without the blanks and byte order marks in front of it."""
    found = _BYTES_IN_FRONT.match(line)
    return line[found.end() :] if found else line


def _is_whole(line: bytes) -> bool:
    text = line.decode("utf-8", "surrogateescape")
    try:
        return not text[_scan(text, 0)[1] :].strip(_BLANK)
    except ValueError:
        return False
    except RecursionError:
        return True


def _of_line(raw: bytes, is_text: IsText) -> Record:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return undecodable(raw)
    if len(raw) > LONGEST:
        return malformed(text)
    payload = text.lstrip(f"\ufeff{_BLANK}").rstrip(_BLANK)
    try:
        value, end = _scan(payload, 0)
    except (ValueError, RecursionError):
        return malformed(text)
    return _record(value, text, is_text) if end == len(payload) else malformed(text)


def _of_document(text: str, is_text: IsText) -> Iterator[Record]:
    """The elements of an array, or the one object; bytes that are not UTF-8 stand as half pairs in the text."""
    found = _IN_FRONT.match(text)
    at = found.end() if found else 0
    if text[at] == "{":
        at = yield from _element(text, at, is_text)
    else:
        at = _next(text, at + 1)
        while text[at : at + 1] != "]":
            at = _next(text, (yield from _element(text, at, is_text)))
            if text[at : at + 1] == ",":
                at = _next(text, at + 1)
                if text[at : at + 1] == "]":
                    raise _no_document(text, at)
            elif text[at : at + 1] != "]":
                raise _no_document(text, at)
        at += 1
    if (rest := _next(text, at)) != len(text):
        raise _no_document(text, rest)


def _element(text: str, at: int, is_text: IsText) -> Generator[Record, None, int]:
    """Gives the element that begins there, and returns where it ends."""
    try:
        value, end = _scan(text, at)
    except json.JSONDecodeError as error:
        raise _no_document(text, max(error.pos, at)) from error
    except RecursionError:
        value, end = None, _end_of_nest(text, at)
    written = text[at:end]
    try:
        raw = written.encode()
    except UnicodeEncodeError:
        yield undecodable(written.encode("utf-8", "surrogateescape"))
    else:
        yield malformed(written) if len(raw) > LONGEST else _record(value, written, is_text)
    return end


def _end_of_nest(text: str, at: int) -> int:
    """Where the array or object that begins there ends, however deep."""
    depth = 0
    for token in _BRACKETS.finditer(text, at):
        depth += 1 if token[1] else -1 if token[2] else 0
        if not depth:
            return token.end()
    raise _no_document(text, len(text))


def _next(text: str, at: int) -> int:
    while text[at : at + 1] in _BLANK and at < len(text):
        at += 1
    return at


def _no_document(text: str, at: int) -> LakehouseError:
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    return LakehouseError(f"cannot be read as one JSON document: an error in line {line} at character {column}")


def _record(value: Any, text: str, is_text: IsText) -> Record:
    if not isinstance(value, dict):
        return malformed(text)
    try:
        attributes = {name: _text(member) for name, member in value.items()}
        if "\\u" in text:
            "".join(f"{name}{member}" for name, member in attributes.items()).encode()
    except RecursionError:
        return malformed(text)
    except UnicodeEncodeError:  # half a pair, by its escape
        return Record(None, (), text, text.encode())
    for name, member in value.items():
        if isinstance(member, bool | dict | list) and is_text(name):
            attributes[name] = NOT_TEXT
    return Record(list(attributes), list(attributes.values()), text)


def _text(value: Any) -> str | None:
    """A member as text: strings and numbers as they are, what is nested as JSON."""
    return value if value is None or isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    if isinstance(value, _Digits):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{_json(name)}:{_json(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_json, value))}]"
    return json.dumps(value, ensure_ascii=False)
