"""What a check of an invariant found."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

FULL, NEW, NOTHING_NEW = "full", "new", "nothing new"


@dataclass(frozen=True)
class Finding:
    """One invariant of one table: `violations` counts what breaks it (None: it could not be checked).

    `invariant` is the name of the check in `verify.CHECKS` that found it.
    """

    check: str
    table: str
    violations: int | None
    detail: str
    invariant: str = ""
    waits: bool = False
    """It holds for now, since what it compares has yet to catch up: that proves nothing."""
    checked: str = FULL
    """How much was looked at: FULL, NEW or NOTHING_NEW, where all of it was proved before."""
    proved_in_full: datetime | None = None
    """When all of it was last looked at and held; None: never, or not since it was broken."""

    @property
    def holds(self) -> bool:
        return self.violations == 0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


def repeated(rows: DataFrame, key: Sequence[str]) -> DataFrame:
    """The keys that have several rows."""
    return rows.groupBy(*key).count().where(F.col("count") > 1)


def differing(ours: DataFrame, theirs: DataFrame) -> int:
    """How many rows only one of the two has, repeats counted; columns go by position."""
    ours, theirs = ours.withColumn("_side", F.lit(1)), theirs.withColumn("_side", F.lit(-1))
    columns = ours.columns[:-1]
    surplus = ours.union(theirs).groupBy(*columns).agg(F.abs(F.sum("_side")).alias("surplus"))
    found = surplus.agg(F.coalesce(F.sum("surplus"), F.lit(0))).first()
    return int(found[0]) if found else 0
