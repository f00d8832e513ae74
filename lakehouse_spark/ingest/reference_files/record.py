"""A record as every reader gives it, and the bytes of a file behind whatever compresses them."""

import bz2
import gzip
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, NamedTuple

import pyarrow as pa

from lakehouse_spark.errors import LakehouseError, UsageError

LONGEST = 16_777_216
"""Bytes of a record that are read; a longer one is kept and rejected."""

_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"
}  # fmt: skip
_OTHERS = {
    b"\x1f\x8b": "compressed: name it .gz",
    b"BZh": "compressed: name it .bz2",
    b"\x28\xb5\x2f\xfd": "compressed: name it .zst",
    b"PAR1": "Parquet: name it .parquet",
    b"PK\x03\x04": "a zip archive, as Excel's workbooks are: save it as CSV",
    b"%PDF": "a PDF",
}
_BOM = b"\xef\xbb\xbf"


IsText = Callable[[str], bool]
"""Whether a name is that of a column of text: of JSON's values, such a one takes strings and numbers alone."""


class Record(NamedTuple):
    """The `values` of the attributes `names`, as the file has them; None where the record is malformed or not UTF-8.

    `payload` is its text, repaired where `raw` holds the exact bytes because they are not UTF-8 (or, in JSON, escape
    half a pair).
    """

    names: Sequence[str] | None
    values: Sequence[str | None]
    payload: str
    raw: bytes | None = None


def malformed(payload: str) -> Record:
    return Record(None, (), payload)


def undecodable(raw: bytes) -> Record:
    """A record that is not UTF-8."""
    return Record(None, (), raw.decode("utf-8", "replace"), raw)


def decompressed(file: IO[bytes], compression: str) -> io.BufferedReader:
    """What the file holds, its compression undone."""
    raw: Any = file
    if compression == "gz":
        raw = gzip.GzipFile(fileobj=file)
    elif compression == "bz2":
        raw = bz2.BZ2File(file)
    elif compression == "zst":
        raw = pa.CompressedInputStream(file, "zstd")
    return io.BufferedReader(raw, 1 << 20)


def text(content: io.BufferedReader) -> io.BufferedReader:
    """The content, its byte order mark passed over.

    Raises UsageError for text in another encoding than UTF-8 and LakehouseError for what is no text at all.
    """
    head = content.peek(1024)[:1024]
    _refuse_other_than_utf8(head)
    if head.startswith(_BOM):
        content.read(len(_BOM))
    return content


def _refuse_other_than_utf8(head: bytes) -> None:
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            raise UsageError(f"is {encoding}; save it as UTF-8")
    for part in (head[:8], head):  # what stands in front is ASCII, whatever the letters behind it
        if len(part) >= 4 and max(part[0::2].count(0), part[1::2].count(0)) > 0.4 * (len(part) // 2):
            raise UsageError(f"is {'UTF-32' if part.count(0) > len(part) // 2 else 'UTF-16'}; save it as UTF-8")
    for magic, advice in _OTHERS.items():
        if head.startswith(magic):
            raise LakehouseError(f"is {advice}")


def lines(content: io.BufferedReader) -> Iterable[bytes]:
    """The lines, ends included: by line feeds, or by carriage returns where the first line ends in one alone.

    Two before a line feed are what Windows makes of CRLF once more, and end one line.
    """
    head = content.peek(65536)
    first = re.search(rb"\r(?!\r*+(?:\n|\Z))|\n", head)
    return _ended_by(b"\r", content) if first and first[0] == b"\r" else content


def _ended_by(end: bytes, content: io.BufferedReader) -> Iterator[bytes]:
    rest = b""
    while chunk := content.read(1 << 20):
        *whole, rest = (rest + chunk).split(end)
        yield from (line + end for line in whole)
    if rest:
        yield rest
