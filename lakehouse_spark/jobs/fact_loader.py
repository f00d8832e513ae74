"""Silver → facts: every row with the keys of the dimension versions valid on its date."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial, reduce

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import FACTS
from lakehouse_spark.dim import dim_exchange
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.errors import LostRaceError, UsageError
from lakehouse_spark.gold.fact import SETTLEMENTS, Fact
from lakehouse_spark.jobs import steps
from lakehouse_spark.jobs.steps import Step
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import calendar, dimension_members, frames, snapshots, upstream
from lakehouse_spark.lake.pruning import Days, Spans, around, day_set, keys_of, of_keys, ranges, slot, spans
from lakehouse_spark.lake.queries import kept, measured
from lakehouse_spark.lake.reconcile import Done, settle
from lakehouse_spark.lake.upstream import Upstream
from lakehouse_spark.settings import AuditSettings, Settings
from lakehouse_spark.transforms import market_hours
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
    due = steps_of(spark, settings, tables, rebuild=rebuild)
    return steps.run(spark, due, report, at_once=settings.spark.tables_at_once)


def steps_of(
    spark: SparkSession, settings: Settings, tables: Sequence[str] = (), *, rebuild: bool = False
) -> list[Step]:
    """What `run` does, a step for each table."""
    if unknown := set(tables) - set(FACTS):
        raise UsageError(f"{JOB}: no such table {', '.join(sorted(unknown))}; tables: {', '.join(FACTS)}")
    chosen = [fact for name, fact in FACTS.items() if not tables or name in tables]
    return [Step((fact.table,), partial(_loaded, spark, settings, fact, rebuild)) for fact in chosen]


def _loaded(spark: SparkSession, settings: Settings, fact: Fact, rebuild: bool) -> Iterator[Summary]:
    began = time.monotonic()
    yield Summary.of(JOB, fact.table.name, _load(spark, settings, fact, rebuild), began)


def _load(spark: SparkSession, settings: Settings, fact: Fact, rebuild: bool) -> Done:
    news = upstream.read(spark, [fact.table], rebuild=rebuild)
    base = news.states[fact.table.name]
    if not news.is_new or news.states[fact.source.name].stamp is None:
        return Done({})
    with _touched(fact, news) as rows, _members(fact, news, rows) as (members, found):
        days = ranges(found["days"])
        calendar.fill(spark, {day.year for day in found["days"]})
        looked_up = {**_complete(spark, fact, members, days, settings.audit), **_looked_up(fact, news, found, days)}
        fresh = fact.build(rows, looked_up, settings.gold.commission_bps)
        held, times = snapshots.at(spark, fact.table, base.snapshot_id), None
        if not news.is_whole:
            key, slots = fact.table.key[0], {slot for low, high in found["slots"] for slot in range(low, high + 1)}
            held = held.where(around(fact.fact_time, slots)(F.col)).join(rows.select(key), on=key, how="left_semi")
            times = spans(slots)
        is_held = _has_facts(spark, fact, base, times) and not held.isEmpty()
        return settle(spark, fact.table, fresh, held if is_held else None, base, news.cursor, settings.audit)


def _has_facts(spark: SparkSession, fact: Fact, base: snapshots.State, times: Spans | None) -> bool:
    """Whether there may be facts from the first of the times to the last (None: any at all); runs no query."""
    if times is None:
        return snapshots.has_files(spark, fact.table, base)
    if not times:
        return False
    since, until = times[0][0], times[-1][1]
    return snapshots.has_files(spark, fact.table, base, (fact.fact_time, ">=", since), (fact.fact_time, "<=", until))


@contextmanager
def _touched(fact: Fact, news: Upstream) -> Iterator[DataFrame]:
    """The silver rows whose facts may differ: changed ones, and those dated where a dimension's versions changed."""
    if news.is_whole:
        yield news.rows(fact.source)
        return
    rows, again = news.changed(fact.source), []
    for reference, dimension in fact.references.items():
        if not news.has_moved(dimension.table):
            continue
        changed = news.changed_members(dimension).withColumnRenamed(dimension.natural_key, reference)
        with measured(changed, first=F.min("from_day")) as (members, found):
            if found["first"] is None:
                continue
            since = news.rows(fact.source).where(F.col(fact.source_time) >= F.lit(found["first"]).cast("timestamp"))
            theirs = of_keys(since, reference, members, keys_of(members, reference))
            again.append(fact.touched(theirs, reference, members).localCheckpoint())
    if not again:
        yield rows
        return
    with kept(reduce(DataFrame.unionByName, again, rows).dropDuplicates(list(fact.table.key))) as once:
        yield once


def _members(fact: Fact, news: Upstream, rows: DataFrame) -> AbstractContextManager[tuple[DataFrame, Row]]:
    """What the rows refer to and when, their `days`, of news the first and last `slots` of each on a day, and, of facts
    that refer to them, the `exchanges` they name."""
    members, measures = fact.members(rows), {"days": day_set("day")}
    if not news.is_whole:
        measures["slots"] = F.collect_set(F.struct(slot("first"), slot("last")))
    for reference, dimension in fact.references.items():
        if dimension is dim_exchange.DIMENSION:
            known = F.broadcast(news.rows(dimension.table).select(*market_hours.EXCHANGE_COLUMNS))
            members = members.join(known, F.col(reference) == F.col(dimension.natural_key), how="left")
            measures["exchanges"] = F.collect_set(F.struct(*market_hours.EXCHANGE_COLUMNS))
    return measured(members, **measures)


def _looked_up(fact: Fact, news: Upstream, found: Row, days: Days) -> dict[str, DataFrame]:
    """The dimensions without versions that the facts refer to; with the exchanges, when trades of the days settle."""
    looked_up = {d.name: news.rows(d.table) for d in fact.references.values() if not d.is_versioned}
    if "exchanges" in found:
        exchanges = [exchange for exchange in found["exchanges"] if exchange["exchange_code"] is not None]
        settlements = market_hours.settlements(exchanges, days)
        looked_up[SETTLEMENTS] = frames.of_rows(news.spark, settlements, market_hours.SETTLEMENTS)
    return looked_up


def _complete(spark: SparkSession, fact: Fact, members: DataFrame, days: Days, audits: AuditSettings) -> Versions:
    """The versions that the members need, all of them: those that are missing are inferred, and looked for again."""
    for _ in range(_ATTEMPTS):
        found = {dimension.name: _versions(spark, dimension, days) for dimension in fact.versioned}
        if not _infer(spark, fact.versioned, members, found, audits):
            return found
    raise LostRaceError(f"{fact.table.name}: others keep changing the dimensions; run the job again")


def _versions(spark: SparkSession, dimension: Dimension, days: Days) -> DataFrame:
    within = F.lit(False)
    if days:
        first, last = days[0][0], days[-1][1]
        within = (F.col("effective_date") <= F.lit(last)) & (F.col("expiry_date") >= F.lit(first))
    table = dimension.table
    return snapshots.at(spark, table, snapshots.state(spark, table).snapshot_id).where(within)


def _infer(
    spark: SparkSession, dimensions: Sequence[Dimension], members: DataFrame, versions: Versions, audits: AuditSettings
) -> bool:
    """Enters the members that no version covers on their day; whether there were any."""
    missing = [
        without_version(members, versions[each.name], key=each.natural_key).select(
            F.lit(each.name).alias("dimension"), F.col(each.natural_key).alias("natural_key"), "day"
        )
        for each in dimensions
    ]
    of = {each.name: F.col("dimension") == each.name for each in dimensions}
    counts = {name: F.count_if(is_of) for name, is_of in of.items()}
    with measured(reduce(DataFrame.unionByName, missing), **counts) as (unknown, found):
        for each in dimensions:
            if found[each.name]:
                theirs = unknown.where(of[each.name]).withColumnRenamed("natural_key", each.natural_key)
                days = {name: F.col("day") for name in ("first_day", "last_day")}
                wanted = theirs.withColumns(days).select(each.natural_key, *days)
                dimension_members.infer(spark, each, wanted, audits)
        return any(found)
