"""The processes of one Dagster, wherever in the tree they are: by a variable of their environment."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    name: str
    arguments: tuple[str, ...]

    @property
    def kind(self) -> str | None:
        """What of Dagster's it is: `daemon`, `server` of the definitions, `run`, or the `jvm` of a job."""
        line = " ".join(self.arguments)
        if self.name == "java":
            return "jvm" if "org.apache.spark.deploy.SparkSubmit" in line and "launcher.Main" not in line else None
        kinds = {"dagster._daemon": "daemon", "dagster api grpc": "server", "multiprocessing.spawn": "run"}
        return next((kind for said, kind in kinds.items() if said in line), None)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def of(environment: str) -> list[Process]:
    """Those alive that have this `NAME=value` in their environment."""
    return [*_of(environment.encode())]


def _of(environment: bytes) -> Iterator[Process]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is not ours
            if environment not in folder.joinpath("environ").read_bytes().split(b"\0"):
                continue
            arguments = folder.joinpath("cmdline").read_bytes().decode().split("\0")
            before, _, behind = folder.joinpath("stat").read_text().rpartition(") ")
            yield Process(int(folder.name), int(behind.split()[1]), before.partition("(")[2], tuple(arguments))


def below(process: Process, among: list[Process]) -> list[Process]:
    """The processes that it began, and those that these began."""
    children = [each for each in among if each.parent == process.pid]
    return [found for child in children for found in (child, *below(child, among))]
