"""The embedded catalog, an SQLite database: which file it is, and where it says that tables are; and local files."""

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from pyiceberg.io import FileIO, InputFile, OutputFile

from lakehouse_spark.errors import LakehouseError, UsageError, in_a_sentence
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import CATALOG

NOT_THERE = "there is no lakehouse here yet; run: lakehouse migrate"
_WITHOUT_SECRETS = re.compile(r"(\w+:)+//[\w.-]*(:\d+)?/[\w./-]*")
_EMBEDDED = "jdbc:sqlite:"


class MissingError(UsageError):
    """There is no lakehouse, or it lacks a table."""


def database(settings: Settings) -> Path:
    """The file of the catalog that the settings name, which may not be there; UsageError for any other database."""
    if not settings.catalog.uri:
        return settings.root / "catalog.db"
    place = settings.catalog.uri.partition("?")[0]
    if not place.startswith(_EMBEDDED):
        shown = place if _WITHOUT_SECRETS.fullmatch(place) else ":".join(place.split(":")[:2]) + ":…"
        raise UsageError(f"LAKEHOUSE_CATALOG__URI: only SQLite and REST catalogs are read without Spark, not {shown!r}")
    return Path(place.removeprefix(_EMBEDDED))


def locations(settings: Settings) -> Mapping[str, str]:
    """By table, where its current metadata file is; raises MissingError where no catalog is, and makes no file."""
    file = database(settings)
    if not file.is_file():
        raise MissingError(NOT_THERE)
    # Not mode=ro, in which SQLite leaves the two files behind that it makes beside a database in WAL mode.
    uri = f"file:{quote(str(file))}?mode=rw"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as catalog:
            if not catalog.execute("SELECT 1 FROM sqlite_master WHERE name = 'iceberg_tables'").fetchall():
                raise MissingError(NOT_THERE)
            tables = "SELECT table_namespace || '.' || table_name, metadata_location FROM iceberg_tables"
            return dict(catalog.execute(f"{tables} WHERE catalog_name = ?", [CATALOG]))
    except sqlite3.OperationalError as error:  # it is locked, or cannot be read now
        raise LakehouseError(f"the catalog {file} does not open: {in_a_sentence(error)}") from error
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{file} is no catalog: {in_a_sentence(error)}") from error


class LocalFiles(FileIO):
    """Files of this machine, to be read; their names are taken literally, as Iceberg writes them."""

    def new_input(self, location: str) -> InputFile:
        return _LocalFile(location)

    def new_output(self, location: str) -> OutputFile:
        raise NotImplementedError(f"{location} is only read")

    def delete(self, location: str | InputFile | OutputFile) -> None:
        raise NotImplementedError(f"{location} is only read")


class _LocalFile(InputFile):
    def __len__(self) -> int:
        return path(self.location).stat().st_size

    def exists(self) -> bool:
        return path(self.location).exists()

    def open(self, seekable: bool = True) -> BinaryIO:
        return path(self.location).open("rb")


def path(location: str) -> Path:
    """The local file at a location: `#` and `?` mean nothing in its name."""
    return Path("/" + location.removeprefix("file:").lstrip("/"))
