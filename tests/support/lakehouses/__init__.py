"""Lakehouses in other places than they were made in: those of earlier releases, each an archive named for its commit
(see `make_7e782d6.py`), and copies."""

import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import fastavro
from pyspark.sql import SparkSession

from lakehouse_spark.settings import Settings


def unpack(commit: str, home: Path) -> None:
    """Puts the lakehouse that the code of `commit` wrote into `home`: Iceberg's absolute paths become those there."""
    with tarfile.open(Path(__file__).parent / f"{commit}.tar.xz") as archive:
        for member in archive:
            file, content = home / member.name, archive.extractfile(member)
            assert content is not None, f"{member.name} is no file"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.read())
    with closing(sqlite3.connect(home / "catalog.db")) as catalog:
        (location,) = catalog.execute("SELECT metadata_location FROM iceberg_tables").fetchone()
    _relocate(home, "/" + location.partition("/warehouse/")[0].removeprefix("file:").lstrip("/"))


FEW = (
    "_metadata.schema_migrations",
    "bronze.raw_reference",
    "silver.trades",
    "dim.dim_account",
    "gold.market_overview",
)
"""Tables of the lakehouse of 7e782d6 with 23 files in all; one of them is empty."""


def unpack_few(home: Path) -> None:
    """The lakehouse of 7e782d6 with these tables alone."""
    unpack("7e782d6", home)
    with closing(sqlite3.connect(home / "catalog.db")) as catalog, catalog:
        rows = catalog.execute("SELECT table_namespace || '.' || table_name FROM iceberg_tables").fetchall()
        for name in {name for (name,) in rows} - {*FEW}:
            catalog.execute("DELETE FROM iceberg_tables WHERE table_namespace || '.' || table_name = ?", [name])
            shutil.rmtree(home / "warehouse" / name.replace(".", "/"))


def copy(source: Path, home: Path) -> None:
    """Puts a copy of the lakehouse in `source`, in which nobody writes or has deleted anything, into `home`."""
    if (source / "warehouse").exists():
        shutil.copytree(source / "warehouse", home / "warehouse", ignore=shutil.ignore_patterns("*.crc"))
    with (
        closing(sqlite3.connect(source / "catalog.db")) as catalog,
        closing(sqlite3.connect(home / "catalog.db")) as copied,
    ):
        catalog.backup(copied)
    _relocate(home, str(source))


def connect(spark: SparkSession, home: Path) -> SparkSession:
    """A session of its own on the lakehouse in this folder, which may be new."""
    home.mkdir(parents=True, exist_ok=True)
    settings = Settings(home=home)
    own = spark.newSession()
    own.conf.set("spark.sql.catalog.lake.uri", f"{settings.catalog_uri}&synchronous=OFF")  # no test cuts the power
    own.conf.set("spark.sql.catalog.lake.warehouse", settings.warehouse)
    own.sql("SHOW NAMESPACES IN lake")  # opens the catalog by this conf: Iceberg would, by that of the active session
    return own


def _relocate(home: Path, was: str) -> None:
    """Gives every absolute path in the lakehouse of the folder `was`, now in `home`, its new beginning."""
    now = str(home)
    with closing(sqlite3.connect(home / "catalog.db")) as catalog, catalog:
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
