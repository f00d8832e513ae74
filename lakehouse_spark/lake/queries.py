"""Fewer queries: rows that are computed once, what is found on the way, and many counts in one."""

import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import reduce

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

_MEASURES = "measures"
_TRIES_ONCE = re.compile(r"local(\[[\d*]+\])?")
"""Masters under which the first task that fails ends the job."""


@contextmanager
def kept(rows: DataFrame, *, eager: bool = False) -> Iterator[DataFrame]:
    """The rows computed once, however often they are looked at, and whatever is written meanwhile.

    Not `persist`, whose plans hold the plans of all that they were made of: nested, they take longer to plan than to
    run. Away from this machine there are two copies, so that no lost executor ends the job.
    """
    is_local = (rows.sparkSession.sparkContext.master or "").startswith("local")
    kept = rows.localCheckpoint(
        eager=eager, storageLevel=StorageLevel.MEMORY_AND_DISK if is_local else StorageLevel.MEMORY_AND_DISK_2
    )
    try:
        yield kept
    finally:
        kept._jdf.queryExecution().logical().rdd().unpersist(False)


@contextmanager
def measured(rows: DataFrame, /, **measures: Column) -> Iterator[tuple[DataFrame, Row]]:
    """The rows kept, and aggregates of all of them by name, none of them DISTINCT.

    On one machine these cost no query of their own: they are read from the plan that ran, since Spark's Observation
    waits for an event, for ever where a full queue dropped it. Where a task may be tried again they are asked for: the
    other attempt takes rows that are stored already from there, and counts none of them.
    """
    aggregates = [measure.alias(name) for name, measure in measures.items()]
    if not _TRIES_ONCE.fullmatch(rows.sparkSession.sparkContext.master or ""):
        with kept(rows) as once:
            yield once, once.agg(*aggregates).collect()[0]
        return
    observed = rows.observe(_MEASURES, *aggregates)
    with kept(observed, eager=True) as once:
        found = observed._jdf.queryExecution().observedMetrics().apply(_MEASURES)
        to_python = getattr(rows.sparkSession._jvm, "org.apache.spark.sql.api.python.PythonSQLUtils").toPyRow
        yield once, pickle.loads(to_python(found))


def counts(frames: Mapping[str, DataFrame]) -> dict[str, int]:
    """The number of rows of each, by its name, in one query."""
    counted = [
        rows.agg(F.count("*").alias("rows")).select(F.lit(k).alias("name"), "rows") for k, rows in frames.items()
    ]
    return {row["name"]: row["rows"] for row in reduce(DataFrame.unionByName, counted).collect()} if counted else {}
