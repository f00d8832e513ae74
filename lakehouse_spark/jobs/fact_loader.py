"""Silver → facts: every row with the keys of the dimension versions valid on its date."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import DIMENSIONS, FACTS
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.errors import LostRaceError, UsageError
from lakehouse_spark.gold.fact import Fact
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import calendar, dimension_members, snapshots, upstream
from lakehouse_spark.lake.pruning import Days, day_predicate, days_of, keys_of, of_keys
from lakehouse_spark.lake.queries import kept
from lakehouse_spark.lake.reconcile import Done, settle
from lakehouse_spark.lake.upstream import Upstream
from lakehouse_spark.settings import Settings
from lakehouse_spark.transforms.asof import without_version

JOB = "fact_loader"

_ATTEMPTS = 5

Versions = Mapping[str, DataFrame]
"""By dimension: of one snapshot, the versions that may be valid on one of a batch's days."""


def run(
    spark: SparkSession,
    settings: Settings,
    tables: Sequence[str] = (),
    *,
    rebuild: bool = False,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Loads what changed in silver, and gives facts new keys where dimension versions changed; both tables by default.

    With `rebuild`, all facts are derived anew, and those that differ, as by another commission, are written.
    Members that facts refer to and reference data does not know yet are inferred, and dim_time is extended by whole
    years. Raises LostRaceError, leaving the table as the winner made it, if another fact_loader committed first.
    """
    if unknown := set(tables) - set(FACTS):
        raise UsageError(f"{JOB}: no such table {', '.join(sorted(unknown))}; tables: {', '.join(FACTS)}")
    summaries = []
    for name, fact in FACTS.items():
        if tables and name not in tables:
            continue
        began = time.monotonic()
        done = _load(spark, settings, fact, rebuild)
        summary = Summary.of(JOB, fact.table.name, done, began)
        report(summary)
        summaries.append(summary)
    return summaries


def _load(spark: SparkSession, settings: Settings, fact: Fact, rebuild: bool) -> Done:
    news = upstream.read(spark, [fact.table], rebuild=rebuild)
    base = news.states[fact.table.name]
    if not news.is_new or news.states[fact.source.name].stamp is None:
        return Done({})
    with _touched(fact, news) as rows, kept(fact.members(rows)) as members:
        days = days_of(members, "day")
        calendar.fill(spark, (row[0] for row in members.select(F.year("day")).distinct().collect()))
        versions = _complete(spark, fact, members, days)
        looked_up = {d.name: news.rows(d.table) for d in DIMENSIONS.values() if d.table.name in fact.table.lookups}
        fresh = fact.build(rows, {**versions, **looked_up}, settings.gold.commission_bps)
        held = snapshots.at(spark, fact.table, base.snapshot_id)
        if not news.is_whole:
            key = fact.table.key[0]
            held = held.where(day_predicate(fact.fact_time, days)).join(rows.select(key), on=key, how="left_semi")
        return settle(spark, fact.table, fresh, None if held.isEmpty() else held, base, news.cursor)


@contextmanager
def _touched(fact: Fact, news: Upstream) -> Iterator[DataFrame]:
    """The silver rows whose facts may differ: changed ones, and those dated where a dimension's versions changed."""
    if news.is_whole:
        yield news.rows(fact.source)
        return
    rows, again = news.changed(fact.source), []
    for dimension in fact.dimensions:
        with kept(news.changed_members(dimension)) as members:
            first = members.agg(F.min("from_day")).first()
            if first is None or first[0] is None:
                continue
            key = dimension.natural_key
            since = news.rows(fact.source).where(F.col(fact.source_time) >= F.lit(first[0]).cast("timestamp"))
            theirs = of_keys(since, key, members, keys_of(members, key))
            again.append(fact.touched(theirs, dimension, members).localCheckpoint())
    if not again:
        yield rows
        return
    with kept(reduce(DataFrame.unionByName, again, rows).dropDuplicates(list(fact.table.key))) as once:
        yield once


def _complete(spark: SparkSession, fact: Fact, members: DataFrame, days: Days) -> Versions:
    """The versions that the members need, all of them: those that are missing are inferred, and looked for again."""
    for _ in range(_ATTEMPTS):
        found = {dimension.name: _versions(spark, dimension, days) for dimension in fact.dimensions}
        if not sum(_infer(spark, dimension, members, found[dimension.name]) for dimension in fact.dimensions):
            return found
    raise LostRaceError(f"{fact.table.name}: others keep changing the dimensions; run the job again")


def _versions(spark: SparkSession, dimension: Dimension, days: Days) -> DataFrame:
    within = F.lit(False)
    if days:
        first, last = days[0][0], days[-1][1]
        within = (F.col("effective_date") <= F.lit(last)) & (F.col("expiry_date") >= F.lit(first))
    table = dimension.table
    return snapshots.at(spark, table, snapshots.state(spark, table).snapshot_id).where(within)


def _infer(spark: SparkSession, dimension: Dimension, members: DataFrame, versions: DataFrame) -> bool:
    """Enters the members that no version covers on their day; whether there were any."""
    key = dimension.natural_key
    missing = without_version(members, versions, key=key)
    wanted = missing.select(key, F.col("day").alias("first_day"), F.col("day").alias("last_day"))
    with kept(wanted) as unknown:
        if unknown.isEmpty():
            return False
        dimension_members.infer(spark, dimension, unknown)
        return True
