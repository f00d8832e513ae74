"""A process that runs jobs on command and dies, stops or waits at a named point of a commit.

Commands come as lines of JSON on stdin, answers go as lines of JSON to a file; `Child` is the handle on one.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from lakehouse_spark.errors import LakehouseError, RefusedError
from lakehouse_spark.jobs import dimension_loader, live, maintenance
from lakehouse_spark.lake.session import open_session
from lakehouse_spark.settings import Settings
from lakehouse_spark.testing import fault
from tests.support.lake import Lake, trade

TABLES = ("bronze.raw_trades", "silver._rejected_records", "silver.trades", "silver.trader_activity")
"""In the order in which a chain commits to them."""
MADE = (*TABLES, "dim.dim_exchange", "_metadata.payload_drift")
"""What a chain needs."""
START_SECONDS, JOB_SECONDS = 180.0, 180.0


def round_of(number: int) -> list[bytes]:
    """Six records: two trades, the first one's next status, a repeat, a conflict and one that is no JSON."""
    first, second = f"T{number:04}a", f"T{number:04}b"
    return [
        trade(trade_id=first, status="PARTIAL"),
        trade(trade_id=second, trader_id=f"TR{number % 3}"),
        trade(trade_id=first, status="EXECUTED"),
        trade(trade_id=second, trader_id=f"TR{number % 3}"),
        trade(trade_id=second, price=1),
        b"{",
    ]


def chain(lake: Lake) -> None:
    lake.bronze("raw_trades")
    lake.silver("trades", "trader_activity")


def meet(folder: Path, here: str, there: str) -> None:
    """Goes on once the other one has come here too."""
    folder.joinpath(here).touch()
    deadline = time.monotonic() + 120
    while not folder.joinpath(there).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{there} never came")
        time.sleep(0.002)


def _endless(lake: Lake, number: int) -> None:
    while True:
        lake.produce("raw_trades", *round_of(number))
        chain(lake)
        number += 1


def _maintain(lake: Lake) -> None:
    while True:
        with suppress(RefusedError):  # a job was quicker
            maintenance.run(lake.spark, lake.settings, tables=(*TABLES, "_metadata.maintenance_log"))


def _live(lake: Lake, tables: Sequence[str]) -> None:
    live.run(lake.spark, lake.settings, every=timedelta(seconds=1), tables=tables)


def _strike(command: dict[str, Any]) -> Callable[[], None]:
    return {
        "kill": lambda: os.killpg(os.getpgrp(), signal.SIGKILL),
        "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        "meet": lambda: meet(Path(command["folder"]), "child", "parent"),
    }[command["strike"]]


def _obey(lake: Lake, command: dict[str, Any]) -> None:
    jobs: dict[str, Callable[[], Any]] = {
        "bronze": lambda: lake.bronze("raw_trades"),
        "silver": lambda: lake.silver("trades", "trader_activity"),
        "chain": lambda: chain(lake),
        "dimension": lambda: dimension_loader.run(lake.spark, ["dim_symbol"], command["sources"]),
        "endless": lambda: _endless(lake, command["number"]),
        "maintain": lambda: _maintain(lake),
        "live": lambda: _live(lake, command["tables"]),
    }
    if "strike" not in command:
        jobs[command["job"]]()
        return
    with fault(command["table"], command["stage"], _strike(command)):
        jobs[command["job"]]()


class Child:
    """A process of its own, with a JVM of its own, on the same lakehouse."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._answers, self.log, self._read = folder / "answers", folder / "log", 0
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.child", settings.model_dump_json(), self._answers],
                stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, start_new_session=True,
                cwd=Path(__file__).parents[2],
            )  # fmt: skip
        assert self.answer(START_SECONDS) == "ready"

    def tell(self, job: str, **more: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"job": job, **more}) + "\n")
        self.process.stdin.flush()

    def answer(self, seconds: float = JOB_SECONDS) -> Any:
        """The next answer; None if the process ends without one."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self.process.poll() is not None
            lines = self._answers.read_text().splitlines(keepends=True) if self._answers.exists() else []
            if len(lines) > self._read and lines[self._read].endswith("\n"):
                self._read += 1
                return json.loads(lines[self._read - 1])
            if ended:
                return None
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def await_stop(self) -> None:
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert self.process.poll() is None, self.log.read_text()[-3000:]

    def kill(self) -> None:
        """Python and its JVM at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        if self.process.stdin is not None:
            self.process.stdin.close()


class Children:
    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._folder = settings, folder
        self.all: list[Child] = []

    def start(self) -> Child:
        child = Child(self._settings, self._folder / f"child {len(self.all)}")
        self.all.append(child)
        return child


def main() -> None:
    settings = Settings.model_validate_json(sys.argv[1])
    spark = open_session(settings, "child")
    lake = Lake(spark, settings)
    with Path(sys.argv[2]).open("a", buffering=1) as answers:
        print(json.dumps("ready"), file=answers)
        for line in sys.stdin:
            exit_code, error = 0, ""
            try:
                _obey(lake, json.loads(line))
            except LakehouseError as refused:
                exit_code, error = refused.exit_code, type(refused).__name__
            print(json.dumps([exit_code, error]), file=answers)


if __name__ == "__main__":
    main()
