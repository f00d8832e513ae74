"""A user's shell: the commands and scripts, on a lakehouse of its own, and what its processes say."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from tests.support.lake import TOPICS

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"
LAKEHOUSE = (sys.executable, "-c", "from lakehouse_spark.cli import main; main()")
"""The command, as the tests' own Python runs it."""


Terminal = Callable[..., tuple[int, str]]
"""Runs a command on a lakehouse in this process, in its session: how it ended, and what it said."""


@dataclass(frozen=True)
class Done:
    """How a job ended and what it said."""

    code: int
    lines: list[str]
    complaints: list[str]

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.lines[-1])
        return report

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        tables = self.report["tables"]
        assert isinstance(tables, list)
        return {table["table"]: table["counts"] for table in tables if table["snapshot_id"]}


@dataclass(frozen=True)
class Shell:
    """A user's shell with the settings of one lakehouse."""

    bootstrap_servers: str
    home: Path
    cache: Path

    @property
    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "PYSPARK_"))}
        return {
            **own,
            "PATH": f"{Path(sys.executable).parent}:{own['PATH']}",
            "PYTHONPATH": str(ROOT),
            "LAKEHOUSE_HOME": str(self.home),
            "LAKEHOUSE_CACHE": str(self.cache),
            "LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "LAKEHOUSE_KAFKA__TOPICS": json.dumps({name: f"submit_{name}" for name in TOPICS}),
            "LAKEHOUSE_DIM_TIME__YEARS": "[2025]",
            "LAKEHOUSE_INGEST__TRIGGER_SECONDS": "1",
            "LAKEHOUSE_SPARK__MASTER": "local[2]",
            "LAKEHOUSE_SPARK__DRIVER_MEMORY": "1g",
        }

    def start(self, script: str | Sequence[str], *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        command = [str(SCRIPTS / script)] if isinstance(script, str) else script
        return subprocess.Popen(
            [*command, *arguments],
            env={**self.environment, **environment},
            cwd=self.home.parent,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, script: str | Sequence[str], *arguments: str, **environment: str) -> Done:
        with self.start(script, *arguments, **environment) as process:
            return finished(process)

    def produce(self, topic: str, *values: bytes) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap_servers})
        for value in values:
            producer.produce(f"submit_{topic}", value=value)
        assert producer.flush(30) == 0


def finished(process: "subprocess.Popen[str]", seconds: float = 180) -> Done:
    said, complained = process.communicate(timeout=seconds)
    return Done(process.returncode, said.splitlines(), complained.splitlines())


def scraped(port: int, *until: str, seconds: float = 60) -> list[str]:
    """What the endpoint answers once it has these lines."""
    deadline, lines = time.monotonic() + seconds, list[str]()
    while True:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        if {*until} <= {*lines}:
            return lines
        assert time.monotonic() < deadline, lines
        time.sleep(0.1)
