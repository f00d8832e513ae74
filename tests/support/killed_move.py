"""A move that is killed at one of its steps, by kill -9, with half a file written where it was at one.

`python -m tests.support.killed_move HOME TARGET STEP`
"""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse_spark.move import Move
from lakehouse_spark.move.files import Stores
from lakehouse_spark.move.target import Target
from lakehouse_spark.settings import Settings
from tests.support.shell import ROOT

COPY, WRITE, APPEAR = "carry", "write", "register"
"""The three kinds of steps, in the order in which they come."""


def steps(home: Path, there: Path) -> list[str]:
    """What a whole move does, step by step."""
    done: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for place, name in ((Stores, COPY), (Stores, WRITE), (Target, APPEAR)):
            whole = getattr(place, name)

            def counted(self: object, *given: object, whole=whole, name=name) -> object:  # type: ignore[no-untyped-def]
                done.append(name)
                return whole(self, *given)

            patch.setattr(place, name, counted)
        _run(home, there)
    return done


def killed(home: Path, there: Path, step: int) -> None:
    """A process that moves until it is killed at the step."""
    command = [sys.executable, "-m", "tests.support.killed_move", str(home), str(there), str(step)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def _run(home: Path, there: Path) -> None:
    Move(Settings(home=home), Settings(home=there)).run(lambda sentence: None)


def _half(path: str, content: bytes) -> None:
    file = Path(path.removeprefix("file://"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content[: len(content) // 2])


def main(home: str, there: str, step: str) -> None:
    counter, carry, write, register = itertools.count(), Stores.carry, Stores.write, Target.register

    def is_struck() -> bool:
        return next(counter) == int(step)

    def end() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def carrying(self: Stores, path: str, size: int, to: str) -> bool:
        if is_struck():
            _half(to, Path("/" + path.removeprefix("file:").lstrip("/")).read_bytes())
            end()
        return carry(self, path, size, to)

    def writing(self: Stores, to: str, content: bytes) -> None:
        if is_struck():
            _half(to, content)
            end()
        write(self, to, content)

    def registering(self: Target, *given: object) -> None:
        register(self, *given)  # type: ignore[arg-type]
        if is_struck():
            end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stores, COPY, carrying)
        patch.setattr(Stores, WRITE, writing)
        patch.setattr(Target, APPEAR, registering)
        _run(Path(home), Path(there))


if __name__ == "__main__":
    main(*sys.argv[1:])
