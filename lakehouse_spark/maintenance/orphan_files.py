"""Files in a table's location that no metadata knows: found, then deleted, or set aside and brought back.

A file is live if the table's current metadata leads to it in any way, and nothing live is ever taken. The location is
listed first and the metadata read afterwards: writers put their files down before they commit them, so whatever is
listed and committed by then is known by then. The other way round, a commit in between would make its files look like
orphans. Files of commits that are not over yet are told by their age alone.

Metadata of other tables is not looked through: a file here that only another table names, which `add_files` makes
possible, is an orphan.
"""

import posixpath
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import chain, compress
from pathlib import Path
from typing import Any

from pyarrow import fs
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table as IcebergTable
from pyiceberg.typedef import Identifier

from lakehouse_spark.errors import LakehouseError, RefusedError, UsageError, in_a_sentence
from lakehouse_spark.iceberg import avro, pyiceberg
from lakehouse_spark.table import Table

FEW = 10
"""Fewer orphans than this are taken whatever their share: a small table soon has more of them than of live files."""
QUARANTINE = "quarantine"
"""The folder of a location that holds what was set aside."""
_ELSEWHERE = ("write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path")
_VERSION_HINT = "version-hint.text"
_MANIFEST_PATH = (500,)
_FILE_PATH = (2, 100)
_THREADS = 16
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_RUN_ID = re.compile(r"[\w-]+", re.ASCII)


@dataclass(frozen=True)
class File:
    """A file as it was listed; its path is normalized."""

    path: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Found:
    """What a look through a table's location found."""

    table: str
    uuid: str
    location: str
    older_than: datetime
    listed: int
    """All files of the location, without those set aside."""
    younger: int
    """Files that no metadata knows and that are too young to go: of commits that are not over, or orphans to be."""
    orphans: tuple[File, ...]

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.orphans)


@dataclass(frozen=True)
class Removed:
    """What became of the orphans that were found, each of them in one of five ways."""

    table: str
    gone: tuple[File, ...]
    """Deleted, or set aside."""
    live: tuple[str, ...]
    """Spared: metadata knows them now."""
    changed: tuple[str, ...]
    """Spared: they were written anew since."""
    missing: tuple[str, ...]
    """Someone else removed them."""
    failed: tuple[tuple[str, str], ...]
    """Paths that are still there, with the reason."""

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.gone)


def normalized(path: str) -> str:
    """One spelling for the same file: an absolute path for a local one, else the URI with its usual scheme.

    Names are taken literally, as Iceberg writes them: nothing is decoded, and `#` and `?` mean nothing.
    """
    uri = _URI.fullmatch(path)
    scheme, rest = (uri[1].lower(), uri[2]) if uri else ("file", path)
    rest = re.sub("/+", "/", rest)
    if scheme == "file":
        return posixpath.normpath(rest)
    return f"{'s3' if scheme in ('s3a', 's3n') else scheme}://{rest.strip('/')}"


def locations(catalog: Catalog) -> Mapping[str, tuple[str, ...]]:
    """By name of every table of the catalog, its location and the other places that it writes to."""
    found: dict[str, tuple[str, ...]] = {}
    for identifier in _tables(catalog, ()):
        name = ".".join(identifier)
        try:
            iceberg = catalog.load_table(identifier)
        except NoSuchTableError:  # dropped since it was listed
            continue
        except Exception as error:
            raise LakehouseError(f"{name}: where its files lie cannot be read: {in_a_sentence(error)}") from error
        found[name] = (iceberg.location(), *_set_places(iceberg).values())
    return found


def find(
    catalog: Catalog, table: Table, *, older_than: datetime, longest_write: timedelta, share: float,
    locations: Mapping[str, tuple[str, ...]],
) -> Found:  # fmt: skip
    """The table's orphans that were last modified before `older_than`; nothing is changed.

    Raises RefusedError where a file could be of a write that is not over, where other tables may have files in the
    location or this one has some outside, where files go by two names, and where orphans are more than `share` of the
    files of that age, unless they are fewer than FEW.
    """
    _refuse_unfinished(table, older_than, longest_write)
    first = pyiceberg.load(catalog, table)
    _refuse_shared(table, first, locations)
    location = normalized(first.location())
    aside = f"{location}/{QUARANTINE}/"
    listed = [file for file in _Files.of(first).listed(location) if not file.path.startswith(aside)]
    iceberg = pyiceberg.load(catalog, table)
    _refuse_another(table, iceberg, str(first.metadata.table_uuid), first.location())
    live = _live(table, iceberg)
    unknown = [file for file in listed if not _is_live(file.path, live)]
    orphans = tuple(file for file in unknown if file.modified < older_than)
    _refuse_second_names(table, orphans, live.difference(file.path for file in listed))
    _refuse_many(table, len(orphans), sum(file.modified < older_than for file in listed), share)
    return Found(
        table=table.name, uuid=str(iceberg.metadata.table_uuid), location=iceberg.location(), older_than=older_than,
        listed=len(listed), younger=len(unknown) - len(orphans), orphans=orphans,
    )  # fmt: skip


def remove(catalog: Catalog, table: Table, found: Found, *, quarantine: bool, run_id: str) -> Removed:
    """Deletes what was found, or sets it aside under the run's id, but for what has become live or was changed.

    A file that fails stops nothing. Directories stay. Raises RefusedError where the table is another one by now.
    """
    _check(run_id)
    iceberg = pyiceberg.load(catalog, table)
    _refuse_another(table, iceberg, found.uuid, found.location)
    live, files = _live(table, iceberg), _Files.of(iceberg)
    location = normalized(found.location)
    shelf = _shelf(location, run_id) if quarantine else None

    def take(file: File) -> _Fate | str:
        return files.take(file, shelf and shelf + file.path.removeprefix(location))

    orphans = [file for file in found.orphans if not _is_live(file.path, live)]
    with ThreadPoolExecutor(_THREADS) as pool:
        fates = dict(zip(orphans, pool.map(take, orphans), strict=True))
    return Removed(
        table=table.name,
        gone=tuple(file for file, fate in fates.items() if fate is _Fate.GONE),
        live=tuple(file.path for file in found.orphans if file not in fates),
        changed=tuple(file.path for file, fate in fates.items() if fate is _Fate.CHANGED),
        missing=tuple(file.path for file, fate in fates.items() if fate is _Fate.MISSING),
        failed=tuple((file.path, fate) for file, fate in fates.items() if isinstance(fate, str)),
    )


def restore(catalog: Catalog, table: Table, run_id: str) -> tuple[str, ...]:
    """Brings back what a run set aside; returns the paths. What a failure leaves there comes back with the next try.

    Raises UsageError where the run set nothing aside, and RefusedError, before anything is moved, where a file has been
    written in the place of one of them.
    """
    _check(run_id)
    iceberg = pyiceberg.load(catalog, table)
    files, location = _Files.of(iceberg), normalized(iceberg.location())
    shelf = _shelf(location, run_id)
    places = {file.path: location + file.path.removeprefix(shelf) for file in files.listed(shelf)}
    if not places:
        raise UsageError(f"{table.name}: nothing is set aside in {shelf}")
    with ThreadPoolExecutor(_THREADS) as pool:
        taken = list(compress(places.values(), pool.map(files.has, places.values())))
        if taken:
            raise RefusedError(
                f"{table.name}: {len(taken)} of {len(places)} files of run {run_id} exist again, such as {taken[0]}",
                f"Move those out of {shelf} that you do not need",
            )
        try:
            list(pool.map(files.move, places.keys(), places.values()))
        except Exception as error:
            raise LakehouseError(f"{table.name}: not all came back from {shelf}: {in_a_sentence(error)}") from error
    return tuple(sorted(places.values()))


class _Fate(Enum):
    GONE = "gone"
    CHANGED = "changed"
    MISSING = "missing"


@dataclass(frozen=True)
class _Files:
    """The file system that a location lies in; all paths are normalized ones."""

    system: Any
    scheme: str
    """What precedes a path of this file system in a normalized one: nothing, or `s3://`."""

    @classmethod
    def of(cls, iceberg: IcebergTable) -> "_Files":
        io, location = iceberg.io, normalized(iceberg.location())
        before, separator, path = location.rpartition("://")
        if not isinstance(io, PyArrowFileIO) or before not in ("", "s3"):
            raise UsageError(f"{location}: orphans are looked for in local folders and on S3 only")
        return cls(io.fs_by_scheme(before or "file", path.partition("/")[0]), before + separator)

    def listed(self, folder: str) -> Iterator[File]:
        """All files below a folder, but for keys with empty parts, which no normalized path spells."""
        selector = fs.FileSelector(self._path(folder), recursive=True, allow_not_found=True)
        for info in self.system.get_file_info(selector):
            if info.is_file and "//" not in info.path:
                yield File(self.scheme + info.path, info.size, info.mtime or datetime.max.replace(tzinfo=UTC))

    def has(self, path: str) -> bool:
        return bool(self._info(path).type != fs.FileType.NotFound)

    def take(self, file: File, target: str | None) -> _Fate | str:
        """Moves a file to the target, or deletes it without one, if it is still what was listed; else says why not."""
        try:
            info = self._info(file.path)
            if info.type == fs.FileType.NotFound:
                return _Fate.MISSING
            if not _is_same(info, file):
                return _Fate.CHANGED
            if target is None:
                self.system.delete_file(self._path(file.path))
            elif self.has(target):
                return f"{target} exists"
            else:
                self.move(file.path, target)
        except FileNotFoundError:
            return _Fate.MISSING
        except Exception as error:
            return in_a_sentence(error)
        return _Fate.GONE

    def move(self, path: str, target: str) -> None:
        if not self.scheme:
            self.system.create_dir(posixpath.dirname(target), recursive=True)
        self.system.move(self._path(path), self._path(target))

    def _info(self, path: str) -> Any:
        return self.system.get_file_info(self._path(path))

    def _path(self, path: str) -> str:
        return path.removeprefix(self.scheme)


def _is_same(info: Any, file: File) -> bool:
    """S3 answers in seconds when asked for one file, in fractions of them when it lists."""
    second = file.modified.replace(microsecond=0)
    return bool(info.size == file.size and info.mtime and info.mtime.replace(microsecond=0) == second)


def _live(table: Table, iceberg: IcebergTable) -> frozenset[str]:
    """Normalized paths of all that the current metadata leads to: of all snapshots, the entries of whatever status."""
    metadata, io = iceberg.metadata, iceberg.io
    lists = {snapshot.manifest_list for snapshot in metadata.snapshots}
    try:
        manifests = _named(io, lists, _MANIFEST_PATH)
        files = _named(io, manifests, _FILE_PATH)
    except Exception as error:
        happened = f"{table.name}: its manifests cannot be read, and without them no file is an orphan"
        raise LakehouseError(f"{happened}: {in_a_sentence(error)}", "Run it again if snapshots expired") from error
    logged = (entry.metadata_file for entry in metadata.metadata_log)
    statistics = (file.statistics_path for file in chain(metadata.statistics, metadata.partition_statistics))
    return frozenset(map(normalized, chain((iceberg.metadata_location,), logged, statistics, lists, manifests, files)))


def _named(io: FileIO, locations: Collection[str], path: avro.Path) -> set[str]:
    """What these files name in one of their fields."""
    return {name for each in avro.fetched(io, [*locations]) for (name,) in avro.records(*each, path)}


def _is_live(path: str, live: frozenset[str]) -> bool:
    """Hadoop puts a checksum, `.name.crc`, beside a local file: it lives as long as the file does."""
    folder, _, name = path.rpartition("/")
    if name.startswith(".") and name.endswith(".crc"):
        name = name.removeprefix(".").removesuffix(".crc")
    return path in live or f"{folder}/{name}" in live or name == _VERSION_HINT


def _tables(catalog: Catalog, namespace: Identifier) -> Iterator[Identifier]:
    """All tables below a namespace; some catalogs have no levels and list the same namespaces below any."""
    if namespace:
        yield from catalog.list_tables(namespace)
    for inner in catalog.list_namespaces(namespace):
        if len(inner) > len(namespace) and inner[: len(namespace)] == namespace:
            yield from _tables(catalog, inner)


def _set_places(iceberg: IcebergTable) -> dict[str, str]:
    return {name: iceberg.properties[name] for name in _ELSEWHERE if name in iceberg.properties}


def _shelf(location: str, run_id: str) -> str:
    return f"{location}/{QUARANTINE}/{run_id}"


def lies_in(path: str, folder: str) -> bool:
    """Whether a normalized path is a folder, or of something below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def resolved(path: str) -> str:
    """Normalized, and without symbolic links where it is local."""
    path = normalized(path)
    return str(Path(path).resolve()) if path.startswith("/") else path


def _check(run_id: str) -> None:
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(f"{run_id!r} is no id of a run: it consists of letters, digits, underscores and dashes")


def _refuse_unfinished(table: Table, older_than: datetime, longest_write: timedelta) -> None:
    if older_than > datetime.now(UTC) - longest_write:
        raise RefusedError(
            f"{table.name}: files of {older_than.isoformat(timespec='seconds')} may be of a write that is not over, "
            f"which takes up to {longest_write}",
            "Leave files alone for longer (orphan_days), or lower LAKEHOUSE_MAINTENANCE__LONGEST_WRITE_HOURS",
        )


def _refuse_shared(table: Table, iceberg: IcebergTable, locations: Mapping[str, tuple[str, ...]]) -> None:
    own = resolved(iceberg.location())
    for name, place in _set_places(iceberg).items():
        if not lies_in(resolved(place), own):
            raise RefusedError(
                f"{table.name}: {name} leads to {place}, outside the table's location, and is not looked through",
                f"Set {name} to a folder in {iceberg.location()}, or unset it",
            )
    for other, places in locations.items():
        for place in map(resolved, places) if other != table.name else ():
            if lies_in(place, own) or lies_in(own, place):
                raise RefusedError(
                    f"{table.name}: its location {own} and that of {other}, {place}, overlap, so that files of one "
                    "would look like orphans of the other",
                    "Give each a location of its own",
                )


def _refuse_another(table: Table, iceberg: IcebergTable, uuid: str, location: str) -> None:
    now = str(iceberg.metadata.table_uuid), normalized(iceberg.location())
    if now != (uuid, normalized(location)):
        raise RefusedError(
            f"{table.name}: it was table {uuid} at {location} when it was looked through, and is {now[0]} at {now[1]}",
            "Look for orphans again",
        )


def _refuse_second_names(table: Table, orphans: Iterable[File], unlisted: frozenset[str]) -> None:
    """Iceberg names no two files alike, so a live file that was not listed is what was listed by that name."""
    by_name = {posixpath.basename(path): path for path in unlisted}
    for file in orphans:
        if path := by_name.get(posixpath.basename(file.path)):
            raise RefusedError(
                f"{table.name}: {file.path} may be {path}, which is live and was not listed",
                "If both are the same file, metadata and catalog must spell its folder alike; if not, move it away",
            )


def _refuse_many(table: Table, orphans: int, old: int, share: float) -> None:
    if orphans >= FEW and orphans > share * old:
        raise RefusedError(
            f"{table.name}: {orphans:,} of {old:,} old files would be orphans, more than a share of {share:g}",
            "See that they are, then raise LAKEHOUSE_MAINTENANCE__ORPHAN_SHARE for once",
        )
