"""The metadata of a table, written for the place that its files are in by now."""

import gzip
import json
from collections.abc import Sequence

from lakehouse_spark.move import files, relocation
from lakehouse_spark.move.files import Stores
from lakehouse_spark.move.relocation import Relocation
from lakehouse_spark.move.source import Held, side_by_side
from lakehouse_spark.move.target import Place

_ZIPPED = ".gz.metadata.json"


def write(table: Held, place: Place) -> str:
    """Writes all of it; returns where the metadata file is, by which the table can be registered."""
    move, stores = Relocation(table.place, place.location), Stores(table.io, place.io)
    contents = table.contents
    deletes = [file.path for file in contents.files if file.names_files]

    def of_deletes(path: str) -> int:
        return _put(stores, move(path), relocation.of_position_deletes(files.read(table.io, path), move))

    sizes = _sizes(move, deletes, list(side_by_side(of_deletes, deletes)))

    def of_manifest(path: str) -> int:
        return _put(stores, move(path), relocation.of_manifest(files.read(table.io, path), move, sizes))

    manifests = _sizes(move, contents.manifests, list(side_by_side(of_manifest, contents.manifests)))

    def of_list(path: str) -> int:
        return _put(stores, move(path), relocation.of_manifest_list(files.read(table.io, path), move, manifests))

    list(side_by_side(of_list, contents.lists))
    name = table.file_name
    said = json.dumps(relocation.of_metadata(table.said, move)).encode()
    file = f"{place.location}/metadata/{name}"
    stores.write(file, gzip.compress(said, mtime=0) if name.endswith(_ZIPPED) else said)
    return file


def _put(stores: Stores, path: str, content: bytes) -> int:
    stores.write(path, content)
    return len(content)


def _sizes(move: Relocation, paths: Sequence[str], sizes: Sequence[int]) -> dict[str, int]:
    return {move(path): size for path, size in zip(paths, sizes, strict=True)}
