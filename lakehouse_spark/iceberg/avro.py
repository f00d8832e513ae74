"""Iceberg's own Avro files, which are manifests and lists of them: some fields of every record."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from io import BytesIO
from typing import Any

from pyiceberg.avro.codecs import AVRO_CODEC_KEY, KNOWN_CODECS
from pyiceberg.avro.codecs.codec import Codec
from pyiceberg.avro.decoder import new_decoder
from pyiceberg.avro.file import MAGIC, META_SCHEMA, AvroFile, AvroFileHeader
from pyiceberg.avro.reader import Reader
from pyiceberg.avro.resolver import construct_reader
from pyiceberg.io import FileIO, InputFile
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record
from pyiceberg.types import StructType
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

Path = tuple[int] | tuple[int, int]
"""The id of a field, or of one within another: (2, 100) is `data_file.file_path`."""
_AT_ONCE = 16


class _Held(InputFile):
    """A file that has been read into memory."""

    def __init__(self, location: str, content: bytes) -> None:
        super().__init__(location)
        self.content = content

    def __len__(self) -> int:
        return len(self.content)

    def exists(self) -> bool:
        return True

    def open(self, seekable: bool = True) -> BytesIO:
        return BytesIO(self.content)


class _Header(AvroFileHeader):
    def compression_codec(self) -> type[Codec] | None:
        """As PyIceberg finds it, which imports all of its tables for the name of a default."""
        name = self.meta.get(AVRO_CODEC_KEY, "null")
        if name not in KNOWN_CODECS:
            raise ValueError(f"the codec {name} is unknown")
        return KNOWN_CODECS[name]


_HEADER = construct_reader(META_SCHEMA, {-1: _Header})


class _File(AvroFile[Record]):
    """A file whose schema is looked at once: it takes longer than what most of these files hold."""

    def __enter__(self) -> "_File":
        with self.input_file.open() as stream:
            self.decoder = new_decoder(stream.read())
        self.header = _HEADER.read(self.decoder)
        self.schema, self.reader = _understood(self.header.meta["avro.schema"])
        return self


@cache
def _understood(schema: str) -> tuple[Schema, Reader]:
    found = AvroSchemaConversion().avro_to_iceberg(json.loads(schema))
    return found, construct_reader(found)


def fetched(io: FileIO, locations: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Files with their contents, in this order. Some are asked for at once, since a store takes its time to answer;
    they are not read side by side, where Python's lock would make that slower."""

    def content(location: str) -> bytes:
        with io.new_input(location).open() as stream:
            return stream.read()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for first in range(0, len(locations), _AT_ONCE):
            chosen = locations[first : first + _AT_ONCE]
            yield from zip(chosen, pool.map(content, chosen), strict=True)


def records(location: str, content: bytes, *paths: Path) -> Iterator[tuple[Any, ...]]:
    """The values of these fields, record by record; None where the file has no such field.

    Records are read as the file has them, which takes half the time that they take as PyIceberg's classes. Raises
    ValueError where the file is not whole: PyIceberg may take a cut for the end, or read on into memory beyond it.
    """
    if not content.startswith(MAGIC):
        raise ValueError(f"{location} is no Avro file")
    with _File(_Held(location, content)) as file:
        sync = file.header.sync
        if not content.endswith(sync):
            raise ValueError(f"{location} is cut off")
        places = [_positions(file.schema.as_struct(), path) for path in paths]
        for record in file:
            yield tuple([_value(record._data, *place) for place in places])
    if len(content) - file.decoder.tell() > len(sync):
        raise ValueError(f"{location} goes on after an empty block")


def _value(values: list[Any], position: int | None, inner: int | None) -> Any:
    if position is None:
        return None
    return values[position] if inner is None else values[position]._data[inner]


def _positions(struct: StructType, path: Path) -> tuple[int | None, int | None]:
    """Where a field is in a record, and in the record within it; nowhere where the file has no such field."""
    position = _position(struct, path[0])
    if position is None or len(path) == 1:
        return position, None
    inner = _position(struct.fields[position].field_type, path[1])  # type: ignore[arg-type]
    return (None, None) if inner is None else (position, inner)


def _position(struct: StructType, field_id: int) -> int | None:
    return next((position for position, field in enumerate(struct.fields) if field.field_id == field_id), None)
