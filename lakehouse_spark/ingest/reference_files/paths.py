"""From what a user names to files: a path that exists is that path, whatever its characters; the rest are patterns."""

import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyarrow import fs
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakehouse_spark.errors import LakehouseError, UsageError, in_a_sentence
from lakehouse_spark.settings import S3Settings

FORMATS = {"csv": "csv", "json": "json", "jsonl": "json lines", "ndjson": "json lines", "parquet": "parquet"}
COMPRESSIONS = ("gz", "bz2", "zst")


@dataclass(frozen=True)
class File:
    """A reference file. `source` is its name in the change log; `format` and `compression` are what its extension says;
    `is_named` says whether the user named it, or a folder or pattern that holds it."""

    source: str
    path: str
    place: "Place"
    format: str
    compression: str
    is_named: bool

    @property
    def shown(self) -> str:
        return shown(self.path)

    def fetch(self, scratch: Path) -> Path:
        """The file on this machine; one from elsewhere is copied into the folder `scratch`."""
        return self.place.fetch(self.path, scratch)


class Place(Protocol):
    """Where files are: this machine, S3, or a Hadoop file system."""

    def kind(self, path: str) -> str | None:
        """'file', 'folder', 'other' (a pipe, a socket, a device, a link to nothing), None where there is nothing."""

    def parted(self, pattern: str) -> tuple[str, str]:
        """The root of the pattern, a slash at its end, and the rest."""

    def children(self, folder: str) -> list[str]: ...

    def leads_out(self, path: str) -> bool:
        """Whether it is a link to somewhere beside its folder: who may put files there must not choose what we read."""

    def source(self, path: str) -> str: ...

    def fetch(self, path: str, scratch: Path) -> Path: ...


def find(spark: SparkSession, sources: Sequence[str], s3: S3Settings) -> tuple[list[File], list[str]]:
    """The files behind the sources, each once, those of a folder or pattern by name; and what was skipped there.

    Skipped are folders in a folder, hidden files (`.…`, `_…`), those of other formats, and links out of the folder.
    Raises UsageError for a source that is missing, or without a file to load.
    """
    files: dict[str, File] = {}
    skipped: list[str] = []
    for source in sources:
        found, passed = behind(source, *_placed(spark, source, s3))
        for file in found:
            known = files.get(file.source)
            files[file.source] = file if known is None or file.is_named else known
        skipped += passed
    return list(files.values()), [shown(path) for path in dict.fromkeys(skipped)]


def shown(path: str) -> str:
    """The path on one line of valid text."""
    text = path.encode("utf-8", "backslashreplace").decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: repr(found[0])[1:-1], text)


def _placed(spark: SparkSession, source: str, s3: S3Settings) -> tuple["Place", str]:
    """Where the source is, and its path there."""
    here = Local()
    if os.path.lexists(source) or not re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:/", source):
        return here, source
    if source.lower().startswith("file:"):
        written = re.sub(r"^file:(//[^/]*(?=/))?", "", source, flags=re.IGNORECASE)
        return here, written if os.path.lexists(written) else unquote(written, errors="surrogateescape")
    if found := re.match(r"s3[an]?://", source, flags=re.IGNORECASE):
        return Buckets(s3), _AT_S3 + source[found.end() :].rstrip("/")
    return Hadoop(spark), source


def behind(source: str, place: Place, path: str) -> tuple[list[File], list[str]]:
    """Like `find`, for one source and its path at a place."""
    kind = place.kind(path)
    if kind in ("file", "other"):
        return [_file(place, path, is_named=True)], []
    matches = [path] if kind == "folder" else _matching(place, path)
    if not matches:
        raise UsageError(f"{shown(source)}: no such file or folder")
    files, skipped = [], []
    for found in _inside(place, matches):
        name = found.rpartition("/")[2]
        is_other = name.startswith((".", "_")) or _format(name) is None or place.kind(found) == "folder"
        if is_other or place.leads_out(found):
            skipped.append(found)
        else:
            files.append(_file(place, found, is_named=False))
    if not files:
        passed = f", only {', '.join(map(shown, skipped[:5]))}" if skipped else ""
        raise UsageError(f"{shown(source)}: no file to load in it{passed}; expected one of {_known()}")
    return files, skipped


def _inside(place: Place, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        yield from sorted(place.children(path)) if place.kind(path) == "folder" else [path]


def _file(place: Place, path: str, *, is_named: bool) -> File:
    if (file_format := _format(path.rpartition("/")[2])) is None:
        raise UsageError(f"{shown(path)}: the extension tells the format: expected one of {_known()}")
    if place.kind(path) != "file":
        raise UsageError(f"{shown(path)}: is no file but a pipe, a socket, a device or a link to nothing")
    source = place.source(path)
    if source.encode("utf-8", "replace").decode() != source:
        raise UsageError(f"{shown(path)}: its name is not UTF-8; rename it")
    return File(source, path, place, *file_format, is_named)


def _format(name: str) -> tuple[str, str] | None:
    """Format and compression ('' for none) by the extension."""
    parts = name.lower().split(".")
    compression = parts.pop() if parts[-1] in COMPRESSIONS else ""
    known = FORMATS.get(parts[-1]) if len(parts) > 1 else None
    return (known, compression) if known else None


def _known() -> str:
    return ", ".join(f".{name}" for name in FORMATS) + f", each also with {', '.join(f'.{c}' for c in COMPRESSIONS)}"


def _matching(place: Place, pattern: str) -> list[str]:
    """What there is by a pattern of `*`, `?`, `[…]` and `{one,other}`, none of which is a hidden name's first dot.

    The folders that it begins with are those of just these names, where there are such.
    Not by what the file systems offer: Hadoop's takes the names that it finds for patterns and schemes again.
    """
    found: dict[str, None] = {}
    root, rest = place.parted(pattern)
    while "/" in rest:
        step, _, behind_it = rest.partition("/")
        folder = f"{root.rstrip('/')}/{step}" if step else root
        if re.search(r"[*?\[{]", step) and place.kind(folder) != "folder":
            break
        root, rest = folder, behind_it
    for alternative in _alternatives(rest):
        paths = [root]
        for step in filter(None, alternative.split("/")):
            if re.search(r"[*?\[]", step):
                folders = [path for path in paths if place.kind(path) == "folder"]
                paths = [child for folder in folders for child in sorted(place.children(folder)) if _fits(child, step)]
            else:
                paths = [f"{path.rstrip('/')}/{step}" for path in paths]
        found |= dict.fromkeys(path for path in paths if place.kind(path) is not None)
    return sorted(found)


def _fits(path: str, step: str) -> bool:
    name = path.rpartition("/")[2]
    return fnmatchcase(name, step.replace("[^", "[!")) and (not name.startswith(".") or step.startswith("."))


def _alternatives(pattern: str) -> list[str]:
    """The pattern without braces, once for each of what they hold; braces within braces are not known."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if not braces:
        return [pattern]
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [before + choice + rest for choice in braces[1].split(",") for rest in _alternatives(after)]


class Local:
    """This machine's files, as Python opens them."""

    def kind(self, path: str) -> str | None:
        try:
            mode = Path(path).stat().st_mode
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return "other" if os.path.lexists(path) else None
        except OSError as error:
            raise _unreadable(path, error) from error
        return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"

    def children(self, folder: str) -> list[str]:
        try:
            return [os.path.join(folder, name) for name in os.listdir(folder)]  # noqa: PTH118, PTH208
        except OSError as error:
            raise _unreadable(folder, error) from error

    def leads_out(self, path: str) -> bool:
        return not Path(path).resolve().is_relative_to(Path(path).parent.resolve())

    def parted(self, pattern: str) -> tuple[str, str]:
        return "/", os.path.abspath(pattern)  # noqa: PTH100

    def source(self, path: str) -> str:
        return f"file:{os.path.abspath(path)}"  # noqa: PTH100

    def fetch(self, path: str, scratch: Path) -> Path:
        return Path(path)


def _unreadable(path: str, error: OSError) -> LakehouseError:
    return LakehouseError(f"{shown(path)}: cannot be read: {error.strerror or in_a_sentence(error)}")


_AT_S3 = "s3a://"
"""As the change log names a file on S3, however a user does."""


class Buckets:
    """Files on S3, as Arrow opens them."""

    def __init__(self, s3: S3Settings) -> None:
        keys = {"access_key": s3.access_key_id, "secret_key": s3.secret_access_key}
        given = {name: key.get_secret_value() for name, key in keys.items() if key}
        self._files = fs.S3FileSystem(
            region=s3.region, endpoint_override=s3.endpoint, force_virtual_addressing=not s3.path_style_access, **given
        )

    def kind(self, path: str) -> str | None:
        try:
            found = self._files.get_file_info(path.removeprefix(_AT_S3))
        except OSError as error:
            raise _unreadable(path, error) from error
        return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(found.type)

    def children(self, folder: str) -> list[str]:
        try:
            found = self._files.get_file_info(fs.FileSelector(folder.removeprefix(_AT_S3)))
        except OSError as error:
            raise _unreadable(folder, error) from error
        return [_AT_S3 + each.path for each in found]

    def leads_out(self, path: str) -> bool:
        return False

    def parted(self, pattern: str) -> tuple[str, str]:
        bucket, _, rest = pattern.removeprefix(_AT_S3).partition("/")
        return f"{_AT_S3}{bucket}/", rest

    def source(self, path: str) -> str:
        return path

    def fetch(self, path: str, scratch: Path) -> Path:
        local = scratch / "copy"
        try:
            with (
                self._files.open_input_stream(path.removeprefix(_AT_S3), compression=None) as there,
                local.open("wb") as here,
            ):
                shutil.copyfileobj(there, here, 1 << 20)
        except OSError as error:
            raise _unreadable(path, error) from error
        return local


class Hadoop:
    """Files behind another scheme that Hadoop knows. Names are never taken for patterns."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    def kind(self, path: str) -> str | None:
        try:
            status = self._system(path).getFileStatus(self._path(path))
        except _JAVAS as error:
            if "FileNotFoundException" in _class_of(error):
                return None
            raise _refusal(path, error) from error
        return "folder" if status.isDirectory() else "file"

    def children(self, folder: str) -> list[str]:
        try:
            return [status.getPath().toString() for status in self._system(folder).listStatus(self._path(folder))]
        except _JAVAS as error:
            raise _refusal(folder, error) from error

    def leads_out(self, path: str) -> bool:
        return False

    def parted(self, pattern: str) -> tuple[str, str]:
        begun = re.match(r"[^:]+:(//[^/]*)?/", pattern)
        root = begun[0] if begun else pattern
        return root, pattern.removeprefix(root)

    def source(self, path: str) -> str:
        return path

    def fetch(self, path: str, scratch: Path) -> Path:
        local = scratch / "copy"
        try:
            self._system(path).copyToLocalFile(False, self._path(path), self._path(local.as_uri()), True)
        except _JAVAS as error:
            raise _refusal(path, error) from error
        return local

    def _path(self, path: str) -> Any:
        return self._spark._jvm.org.apache.hadoop.fs.Path(path)  # type: ignore[union-attr]

    def _system(self, path: str) -> Any:
        return self._path(path).getFileSystem(self._spark._jsc.hadoopConfiguration())


_JAVAS = (Py4JJavaError, PySparkException)
_WRONG = ("UnsupportedFileSystem", "IllegalArgument", "UnknownStore")


def _class_of(error: Py4JJavaError | PySparkException) -> str:
    """Java's class of the error, Python's where PySpark made one of it."""
    return str(error.java_exception.getClass().getName() if isinstance(error, Py4JJavaError) else type(error).__name__)


def _refusal(path: str, error: Py4JJavaError | PySparkException) -> LakehouseError:
    is_wrong = any(sign in _class_of(error) for sign in _WRONG)
    return (UsageError if is_wrong else LakehouseError)(f"{shown(path)}: cannot be read: {in_a_sentence(error)}")
