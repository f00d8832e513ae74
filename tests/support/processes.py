"""Processes, wherever in the tree they are: by a variable of their environment; and servers that tests start."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType


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


class Servers:
    """Servers in a folder of a cluster's own, which end with the block; what they start is known by a variable."""

    _MARK = "TESTS_CLUSTER"

    def __init__(self, folder: Path, java_home: Path) -> None:
        self.folder, self._java_home = folder, java_home
        self._servers: list[subprocess.Popen[bytes]] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in reversed(self._servers):
            server.terminate()
        for server in self._servers:
            server.wait(60)

    def _environment(self, home: Path) -> dict[str, str]:
        own = {"HOME": str(home), "JAVA_HOME": str(self._java_home), self._MARK: str(self.folder)}
        return {"PATH": os.environ["PATH"], **own}

    def _begin(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        """A server that works in this folder, and says there what it does."""
        with (folder / "log").open("wb") as log:
            self._servers.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log))

    def _log(self, name: str) -> str:
        return (self.folder / name / "log").read_text(errors="replace")

    def _of(self, name: str) -> Iterator[Process]:
        """The JVMs of this class that are alive."""
        return (each for each in of(f"{self._MARK}={self.folder}") if each.name == "java" and name in each.arguments)
