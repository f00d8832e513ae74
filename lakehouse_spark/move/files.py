"""Files carried from one store to another, each proved by its SHA-256 before it counts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pyiceberg.io import FileIO

from lakehouse_spark.errors import LakehouseError

_CHUNK = 8 * 1024 * 1024


@dataclass(frozen=True)
class Stores:
    """Where files are and where they go. `by_size`: one that is there with the same size is taken for the same."""

    source: FileIO
    target: FileIO
    by_size: bool = False

    def carry(self, path: str, size: int, to: str) -> bool:
        """Copies a file unless it is there; whether it had to. Raises LakehouseError where it is gone.

        What is read back has the same SHA-256 as what was read, be it copied now or found.
        """
        if self._size(to) == size and (
            self.by_size or self._digest(self.target, to) == self._digest(self.source, path)
        ):
            return False
        written = sha256()
        with self.target.new_output(to).create(True) as out:
            for chunk in _chunks(self.source, path):
                written.update(chunk)
                out.write(chunk)
        if self._digest(self.target, to) != written.hexdigest():
            raise LakehouseError(f"{to} does not hold what was written to it", "Look at the store, then run it again")
        return True

    def write(self, to: str, content: bytes) -> None:
        """Writes a file that was made anew for its place."""
        with self.target.new_output(to).create(True) as out:
            out.write(content)

    def _size(self, path: str) -> int | None:
        file = self.target.new_input(path)
        try:
            return len(file)
        except FileNotFoundError:
            return None

    def _digest(self, io: FileIO, path: str) -> str:
        found = sha256()
        for chunk in _chunks(io, path):
            found.update(chunk)
        return found.hexdigest()


def read(io: FileIO, path: str) -> bytes:
    return b"".join(_chunks(io, path))


def gone(error: FileNotFoundError) -> LakehouseError:
    """What to say of a file that is not there any more."""
    return LakehouseError(
        f"a file is gone since its table was looked at: {error.filename or error}",
        "If maintenance is at work, let it end, then run it again. If not: lakehouse verify --full",
    )


def _chunks(io: FileIO, path: str) -> Iterator[bytes]:
    try:
        opened = io.new_input(path).open(seekable=False)
    except FileNotFoundError as error:
        raise gone(error) from error
    with opened as stream:
        yield from iter(_reading(stream), b"")


def _reading(stream: Any) -> Callable[[], bytes]:
    return lambda: bytes(stream.read(_CHUNK))
