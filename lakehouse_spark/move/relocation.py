"""What a table's files say once they stand in another place: paths lead there, and nothing else of them differs.

Iceberg's metadata names files by where they are, and so do files of position deletes. Files of rows name none.
"""

import json
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from io import BytesIO
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse_spark.iceberg.copies import PLACE
from lakehouse_spark.maintenance.orphan_files import normalized

Json = Mapping[str, Any]
POSITION_DELETES = 1
"""The content of a file, as a manifest says it."""
FILE_PATH = 2147483546
"""The id of the column of position deletes that says in which file."""
_SYNC = 16
_OF_THE_FILE = ("avro.schema", "avro.codec")


@dataclass(frozen=True)
class Relocation:
    """From one location of a table to another."""

    source: str
    target: str

    def __call__(self, path: str) -> str:
        """Where a file will be."""
        return f"{self.target}/{self.within(path)}"

    def within(self, path: str) -> str:
        """The place of a file in either location; of one outside the table's, a place of its own in the new one."""
        spelled, own = normalized(path), f"{normalized(self.source)}/"
        if spelled.startswith(own):
            return spelled.removeprefix(own)
        return f"outside/{sha256(spelled.encode()).hexdigest()[:16]}/{posixpath.basename(spelled)}"


def of_metadata(said: Json, move: Relocation) -> dict[str, Any]:
    """A metadata file. Those of before are not in its log: no snapshot needs them, and they stay where they are."""
    moved = {**said, "location": move.target, "metadata-log": []}
    moved["properties"] = kept_properties(said)
    for many, path in (
        ("snapshots", "manifest-list"), ("statistics", "statistics-path"), ("partition-statistics", "statistics-path"),
    ):  # fmt: skip
        if many in said:
            moved[many] = [{**each, path: move(each[path])} for each in said[many]]
    return moved


def kept_properties(said: Json) -> dict[str, str]:
    """Those that do not say where the table writes."""
    return {name: value for name, value in said.get("properties", {}).items() if not PLACE.fullmatch(name)}


def of_manifest_list(content: bytes, move: Relocation, sizes: Mapping[str, int]) -> bytes:
    """A list of manifests; `sizes` are those that the manifests have by their new paths."""

    def change(entry: dict[str, Any]) -> None:
        entry["manifest_path"] = move(entry["manifest_path"])
        entry["manifest_length"] = sizes[entry["manifest_path"]]

    return _rewritten(content, change)


def of_manifest(content: bytes, move: Relocation, sizes: Mapping[str, int]) -> bytes:
    """A manifest; `sizes` are those that files of position deletes have by their new paths."""
    return _rewritten(content, partial(_move_entry, move=move, sizes=sizes))


def of_position_deletes(content: bytes, move: Relocation) -> bytes:
    """A Parquet file of position deletes, its rows in the order that Iceberg wants."""
    file = pq.ParquetFile(pa.BufferReader(content))
    deletes = file.read()
    column = deletes.schema.get_field_index("file_path")
    paths = deletes.column(column).combine_chunks().dictionary_encode()
    moved = pa.DictionaryArray.from_arrays(paths.indices, [move(path) for path in paths.dictionary.to_pylist()])
    deletes = deletes.set_column(column, deletes.schema.field(column), moved.cast(pa.string()))
    out = BytesIO()
    with pq.ParquetWriter(out, deletes.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(deletes.sort_by([("file_path", "ascending"), ("pos", "ascending")]))
        writer.add_key_value_metadata(file.metadata.metadata or {})
    return out.getvalue()


def _move_entry(entry: dict[str, Any], move: Relocation, sizes: Mapping[str, int]) -> None:
    file = entry["data_file"]
    file["file_path"] = move(file["file_path"])
    if file.get("referenced_data_file"):
        file["referenced_data_file"] = move(file["referenced_data_file"])
    if file.get("content") == POSITION_DELETES:
        # One that has been dropped was not moved: whoever reads that entry wants its name alone.
        file["file_size_in_bytes"] = sizes.get(file["file_path"], file["file_size_in_bytes"])
        if "split_offsets" in file:
            file["split_offsets"] = None
        for bounds in ("lower_bounds", "upper_bounds"):
            if file.get(bounds):
                file[bounds] = [*_moved_bounds(file[bounds], move)]


def _moved_bounds(bounds: list[dict[str, Any]], move: Relocation) -> Iterator[dict[str, Any]]:
    """Without one of the paths that is cut off: there is no telling where it leads."""
    for bound in bounds:
        if bound["key"] != FILE_PATH:
            yield bound
            continue
        path = bound["value"].decode(errors="replace")
        if normalized(path).startswith(f"{normalized(move.source)}/"):
            yield {**bound, "value": move(path).encode()}


def _rewritten(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """An Avro file whose records are changed; its schema and what else it says of itself stay to the letter.

    Values are taken as they are stored: a day beyond the year 9999 is a number to Avro, and no date to Python. The same
    file comes out the same.
    """
    blocks: Any = fastavro.block_reader(BytesIO(content))
    schema = json.loads(blocks.metadata["avro.schema"])
    stored = fastavro.parse_schema(_without_logical_types(schema))
    said = {name: value for name, value in blocks.metadata.items() if name not in _OF_THE_FILE}

    def changed() -> Iterator[dict[str, Any]]:
        for block in blocks:
            for _ in range(block.num_records):
                record: dict[str, Any] = fastavro.schemaless_reader(block.bytes_, stored, None)  # type: ignore[assignment]
                change(record)
                yield record

    out = BytesIO()
    fastavro.writer(out, schema, changed(), codec="deflate", metadata=said, sync_marker=content[-_SYNC:])
    return out.getvalue()


def _without_logical_types(schema: Any) -> Any:
    match schema:
        case dict():
            return {name: _without_logical_types(of) for name, of in schema.items() if name != "logicalType"}
        case list():
            return [*map(_without_logical_types, schema)]
        case _:
            return schema
