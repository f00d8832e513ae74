"""Ends of a process at named points of a commit, and how many of them a run tries."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lakehouse_spark.lake import commit

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "2"))
STAGES = ("before it is staged", "between staging and fast-forward", "after the fast-forward")


class CrashError(Exception):
    """Stands for the end of the process: nobody cleans up behind it."""


def crash() -> None:
    raise CrashError


@contextmanager
def fault(table: str, stage: str, strike: Callable[[], None]) -> Iterator[None]:
    """Within it, `strike` is called where a commit to `table` has come to `stage`, once."""
    publish, forward = commit._publish, commit._fast_forwarded
    struck: list[str] = []

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
            patch.setattr(commit, "_fast_forwarded", struck_first)
        done = publish(spark, to, *rest)
        if stage == STAGES[2]:
            once()
        return done

    def struck_first(*given: Any) -> bool:
        patch.setattr(commit, "_fast_forwarded", forward)
        once()
        return forward(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "_publish", publishing)
        yield
