"""For tests of your own tables: what an SCD2 dimension, an intake and an incremental job must hold, and crashes.

Like chispa's, the asserts take DataFrames, and an AssertionError shows the rows that are wrong. None needs a lakehouse;
crashes need tables that are written by `lakehouse_spark.lake.commit`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any, TypeVar
from unittest.mock import patch

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.errors import HeldError
from lakehouse_spark.lake import commit
from lakehouse_spark.transforms import scd_type2

_MOST_SHOWN = 10

House = TypeVar("House")


def assert_scd2_valid(
    versions: DataFrame,
    key: str,
    *,
    effective: str = "effective_date",
    expiry: str = "expiry_date",
    current: str = "is_current",
) -> None:
    """Of each key's versions (inclusive ranges of dates, the last one open until 9999-12-31), none ends before it
    begins or overlaps the next one, and the open one alone is current. Gaps are allowed: a member may be deleted."""
    named = {effective: "effective_date", expiry: "expiry_date", current: "is_current"}
    wrong = scd_type2.with_faults(versions.withColumnsRenamed(named), key).where(F.size("_faults") > 0)
    _refuse(wrong.select(key, *named.values(), "_faults"), "versions are wrong")


def assert_accounted(
    records: DataFrame, outcomes: Mapping[str, DataFrame], on: Sequence[str] = ("topic", "partition", "offset")
) -> None:
    """Every record is in exactly one of the outcomes, once, and these hold no other: nothing is lost, nothing counted
    twice. `on` names the columns by which a record is told from others, in all of them."""
    place = list(on)
    sides = [(None, records), *outcomes.items()]
    told = (rows.select(*place, F.lit(name).cast("string").alias("_outcome")) for name, rows in sides)
    found = (
        reduce(DataFrame.unionByName, told)
        .groupBy(*place)
        .agg(
            F.count_if(F.col("_outcome").isNull()).alias("records"),
            F.array_sort(F.collect_list("_outcome")).alias("outcomes"),
        )
    )
    shown = found.where((F.col("records") != 1) | (F.size("outcomes") != 1))
    _refuse(shown, "records are not accounted for exactly once")


def assert_incremental_equals_full(
    incremental: DataFrame, full: DataFrame, *, ignore: Sequence[str] = ("_computed_at", "_loaded_at", "_processed_at")
) -> None:
    """What increments made is what one run over everything makes, row for row, in any order, repeats counted. `ignore`
    names columns in which two runs rightly differ: stamps."""
    columns = [name for name in incremental.columns if name not in ignore]
    others = [name for name in full.columns if name not in ignore]
    assert sorted(columns) == sorted(others), f"the columns differ: {columns} and {others}"
    sides = [("in increments only", incremental), ("in the full run only", full)]
    ours, theirs = (rows.select(*columns, F.lit(name).alias("_side")) for name, rows in sides)
    surplus = F.count_if(F.col("_side") == sides[0][0]) - F.count_if(F.col("_side") == sides[1][0])
    counted = ours.unionByName(theirs).groupBy(*columns).agg(surplus.alias("_surplus")).where("_surplus <> 0")
    side = F.when(F.col("_surplus") > 0, sides[0][0]).otherwise(sides[1][0])
    _refuse(counted.select(side.alias("where"), F.abs("_surplus").alias("times"), *columns), "rows differ")


def _refuse(wrong: DataFrame, what: str) -> None:
    """Raises AssertionError with the first of the rows, if there are any."""
    found = wrong.limit(_MOST_SHOWN + 1).collect()
    if found:
        shown = "\n".join(str(row.asDict(recursive=True)) for row in found[:_MOST_SHOWN])
        raise AssertionError(f"{what}:\n{shown}" + ("\n…" if len(found) > _MOST_SHOWN else ""))


# Crashes

STAGES = ("before it is staged", "between staging and fast-forward", "after the fast-forward")
"""The points of a commit at which a process may end."""
HELD_BACK = "held back"
"""One more, of a commit that breaks checks."""


class CrashError(Exception):
    """Stands for the end of the process: nobody cleans up behind it."""


def crash() -> None:
    raise CrashError


@contextmanager
def fault(table: str, stage: str, strike: Callable[[], None] = crash) -> Iterator[None]:
    """Within it, `strike` is called where a commit to `table` has come to `stage`, once: by default it raises
    CrashError; in a child process, it may kill."""
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
        with patch.object(commit, "_fast_forwarded", forwarding if stage == STAGES[1] else commit._fast_forwarded):
            try:
                done = publish(spark, to, *rest)
            except HeldError:
                if stage == HELD_BACK:
                    once()
                raise
        if stage == STAGES[2]:
            once()
        return done

    def forwarding(*given: Any) -> bool:
        once()
        return forward(*given)

    with patch.object(commit, "_publish", publishing):
        yield


def assert_recovers(
    begin: Callable[[], House],
    run: Callable[[House], object],
    content: Callable[[House], DataFrame],
    *tables: str,
) -> None:
    """A job that ends at any point of any of its commits to the tables (`namespace.name`), and is run again, leaves
    what it leaves undisturbed, and with nothing new a third run leaves that too.

    `begin` gives a lakehouse as it is before the job, a new one each time; `content` is what is compared.
    """
    undisturbed = begin()
    run(undisturbed)
    expected = content(undisturbed)
    for table in tables:
        for stage in STAGES:
            house = begin()
            with fault(table, stage):
                try:
                    run(house)
                except CrashError:
                    pass
                else:
                    raise AssertionError(f"{table}: the job made no commit that could be ended {stage}")
            for again in ("run again", "run once more"):
                run(house)
                try:
                    assert_incremental_equals_full(content(house), expected)
                except AssertionError as error:
                    raise AssertionError(f"{table}, ended {stage} and {again}: {error}") from None
