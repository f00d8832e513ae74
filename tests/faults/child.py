"""A process that runs jobs on command and dies, stops or waits at a named point of a commit.

Commands come as lines of JSON on stdin, answers go as lines of JSON to a file; see `Child` in test_kill.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.jobs import dimension_loader
from lakehouse_spark.lake import commit
from lakehouse_spark.lake.session import open_session
from lakehouse_spark.settings import Settings
from tests.support.lake import Lake, trade

TABLES = ("bronze.raw_trades", "silver._rejected_records", "silver.trades", "silver.trader_activity")
"""In the order in which a chain commits to them."""
STAGES = ("before it is staged", "between staging and fast-forward", "after the fast-forward")


@contextmanager
def fault(table: str, stage: str, strike: Callable[[], None]) -> Iterator[None]:
    """Within it, `strike` is called where a commit to `table` has come to `stage`, once."""
    publish, forward, struck = commit._publish, commit._fast_forwarded, []

    def once() -> None:
        if not struck:
            struck.append(stage)
            strike()

    def publishing(spark: Any, to: Any, *rest: Any) -> Any:
        if to.name != table:
            return publish(spark, to, *rest)
        if stage == STAGES[0]:
            once()
        if stage == STAGES[1]:
            commit._fast_forwarded = struck_first
        done = publish(spark, to, *rest)
        if stage == STAGES[2]:
            once()
        return done

    def struck_first(*given: Any) -> bool:
        commit._fast_forwarded = forward
        once()
        return forward(*given)

    commit._publish = publishing
    try:
        yield
    finally:
        commit._publish, commit._fast_forwarded = publish, forward


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
    }
    if "strike" not in command:
        jobs[command["job"]]()
        return
    with fault(command["table"], command["stage"], _strike(command)):
        jobs[command["job"]]()


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
