"""Small lakehouses that earlier releases wrote, each an archive named for its commit; see `make.py`."""

import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro


def unpack(commit: str, home: Path) -> None:
    """Puts the lakehouse that the code of `commit` wrote into `home`: Iceberg's absolute paths become those there."""
    with tarfile.open(Path(__file__).parent / f"{commit}.tar.xz") as archive:
        for member in archive:
            file, content = home / member.name, archive.extractfile(member)
            assert content is not None, f"{member.name} is no file"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.read())
    with sqlite3.connect(home / "catalog.db") as catalog:
        (location,) = catalog.execute("SELECT metadata_location FROM iceberg_tables").fetchone()
        was, now = location.partition("/warehouse/")[0].removeprefix("file:"), str(home)
        was = "/" + was.lstrip("/")
        for column in ("metadata_location", "previous_metadata_location"):
            catalog.execute(f"UPDATE iceberg_tables SET {column} = replace({column}, ?, ?)", (was, now))
        catalog.execute(
            "UPDATE iceberg_namespace_properties SET property_value = replace(property_value, ?, ?)", (was, now)
        )
    for file in (home / "warehouse").rglob("*.json"):
        file.write_text(file.read_text().replace(was, now))
    manifests = [file for file in (home / "warehouse").rglob("*.avro") if not file.name.startswith("snap-")]
    for file in manifests:
        _rewrite(file, lambda text: text.replace(was, now), {})
    lengths = {str(file): file.stat().st_size for file in manifests}
    for file in (home / "warehouse").rglob("snap-*.avro"):
        _rewrite(file, lambda text: text.replace(was, now), lengths)


def _rewrite(file: Path, moved: Callable[[str], str], lengths: dict[str, int]) -> None:
    """Rewrites an Avro file with every text moved; a manifest list also has its manifests' lengths."""
    with file.open("rb") as stream:
        reader = fastavro.reader(stream)
        schema, metadata = reader.writer_schema, reader.metadata
        records = [_moved(record, moved) for record in reader]
    for record in records:
        if "manifest_path" in record:
            record["manifest_length"] = lengths["/" + record["manifest_path"].removeprefix("file:").lstrip("/")]
    kept = {name: value for name, value in metadata.items() if not name.startswith("avro.")}
    with file.open("wb") as stream:
        fastavro.writer(stream, schema, records, codec="deflate", metadata=kept)


def _moved(value: Any, moved: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return moved(value)
    if isinstance(value, dict):
        return {name: _moved(part, moved) for name, part in value.items()}
    if isinstance(value, list):
        return [_moved(part, moved) for part in value]
    return value
