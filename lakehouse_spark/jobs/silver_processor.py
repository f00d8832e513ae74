"""Bronze → silver: judge, deduplicate, reject or accept; every bronze row is accounted for in the same commit."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import BY_NAME, FEEDS
from lakehouse_spark.dim import dim_exchange
from lakehouse_spark.errors import UsageError
from lakehouse_spark.jobs import steps
from lakehouse_spark.jobs.judging import decided
from lakehouse_spark.jobs.rejudging import rejudge
from lakehouse_spark.jobs.steps import Step
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit, dead_letters, payload_drift, snapshots, upstream
from lakehouse_spark.lake.commit import Checked
from lakehouse_spark.lake.cursor import FeedCursor, UpstreamCursor, rows_removed
from lakehouse_spark.lake.pruning import around, time_set, unit_predicate, unit_set, units
from lakehouse_spark.lake.queries import measured
from lakehouse_spark.lake.reconcile import Done, settle
from lakehouse_spark.settings import AuditSettings, Settings
from lakehouse_spark.silver import judging, rejected_records, trader_activity, trades
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.transforms import dedup

JOB = "silver_processor"
_SEEN = "fields"
"""In the cursor: the fields that payloads had, so that it is noticed when none has one any more."""
TABLES = (*FEEDS, trader_activity.TABLE.short_name)


def run(
    spark: SparkSession,
    settings: Settings,
    tables: Sequence[str] = (),
    *,
    rebuild: bool = False,
    since: date | None = None,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Processes what bronze holds beyond each silver table's cursor; tables by name, all four by default.

    With `rebuild`, judges all that bronze holds by today's rules and writes what differs, in one commit per table;
    `since` leaves the rows of earlier days as they are.
    Raises LostRaceError, leaving silver as the winner made it, if another silver_processor committed first.
    """
    due = steps_of(spark, settings, tables, rebuild=rebuild, since=since)
    return steps.run(spark, due, report, at_once=settings.spark.tables_at_once)


def steps_of(
    spark: SparkSession,
    settings: Settings,
    tables: Sequence[str] = (),
    *,
    rebuild: bool = False,
    since: date | None = None,
) -> list[Step]:
    """What `run` does, a step for each table."""
    if unknown := set(tables) - set(TABLES):
        raise UsageError(f"silver_processor: no such table {', '.join(sorted(unknown))}; tables: {', '.join(TABLES)}")
    if since is not None and not rebuild:
        raise UsageError("silver_processor: --from says how far back a rebuild goes: give --rebuild too")

    def brought_up(name: str) -> Iterator[Summary]:
        began = time.monotonic()
        if name not in FEEDS:
            done = derive_activity(spark, settings.audit, rebuild=rebuild)
        elif rebuild:
            done = rederive(spark, settings, FEEDS[name], since)
        else:
            done = process(spark, settings, FEEDS[name])
        yield Summary.of(JOB, f"silver.{name}", done, began)

    chosen = [name for name in TABLES if not tables or name in tables]
    return [Step((BY_NAME[f"silver.{name}"],), partial(brought_up, name)) for name in chosen]


def process(spark: SparkSession, settings: Settings, feed: Feed) -> Done:
    """One batch: everything the bronze table was given since the last commit of the silver table.

    A table that older rules made is derived whole instead, by today's: what they judged otherwise is judged again.
    """
    news = upstream.read(spark, [feed.table])
    base, arrived = (news.states[table.name] for table in (feed.table, feed.topic.table))
    if base.is_outdated:
        return rejudge(spark, settings, feed, base)
    if not news.is_new:
        return Done({})
    after = news.consumed(feed.topic.table)
    source, read = feed.topic.table.name, snapshots.state(spark, rejected_records.TABLE)
    letters = dead_letters.of_batch(spark, read, source, after)  # of an attempt that died, or of all if the cursor did
    raw, left_out = news.changed(feed.topic.table), 0
    if letters is not None:
        raw, discarded = judging.set_aside(raw, letters)
        left_out = discarded.count()
    exchanges = news.rows(dim_exchange.TABLE)
    judged = feed.judge(raw, exchanges, settings.ingest.max_record_bytes)
    held = snapshots.at(spark, feed.table, base.snapshot_id)
    if base.is_lost and not judging.made_by_rejected(feed, judged, held).isEmpty():
        # The lost cursor would have named older rules.
        return rejudge(spark, settings, feed, base)
    with decided(feed, judged, held, settings.audit, from_start=after is None) as found:
        records, counts = found.records, found.counts
        last = base.cursor_as(FeedCursor)
        seen = last.notes.get(_SEEN, ()) if last else ()
        fields = payload_drift.note(spark, feed.topic, found.drifted, after, arrived, seen)
        if counts["rejected"]:
            rejected = rejected_records.build(judging.rejected(records), raw, source)
            dead_letters.keep(spark, rejected, source, after, arrived)
        counts |= {name: counts[name] + left_out for name in ("records", "rejected")}
        cursor = replace(_cursor(source, base, after, arrived, counts), notes={_SEEN: fields})
        state = write(spark, feed, records, base, cursor, counts, found.verdict.checked)
        done = Done(counts, state.snapshot_id, warnings=tuple(found.verdict.warnings))
        if letters is not None:
            dead_letters.close(spark, letters, judging.places_of_accepted(records), "accepted by a later attempt")
        return done


def rederive(spark: SparkSession, settings: Settings, feed: Feed, since: date | None) -> Done:
    """What is new, then all that bronze holds by today's rules (`rejudge`); a table that older rules made is derived
    whole, whatever `since` says, because its earlier days are due too."""
    was_outdated = snapshots.state(spark, feed.table).is_outdated
    done = process(spark, settings, feed)
    if was_outdated:
        return done
    again = rejudge(spark, settings, feed, snapshots.state(spark, feed.table), since)
    return replace(again, warnings=(*done.warnings, *again.warnings))


def derive_activity(spark: SparkSession, audits: AuditSettings, *, rebuild: bool = False) -> Done:
    """Recomputes the trader activity of the groups whose trades changed since the last commit, or of all."""
    table, source = trader_activity.TABLE, trades.TABLE
    news = upstream.read(spark, [table], rebuild=rebuild)
    base, held_trades = (news.states[each.name] for each in (table, source))
    if not news.is_new or held_trades.stamp is None:
        return Done({})
    cursor = UpstreamCursor(
        stamp=base.next_stamp(datetime.now(UTC)),
        source=source.name,
        after=None if news.is_whole else news.consumed(source),
        upto=held_trades.stamp,
        rebuilt=held_trades.cursor.rebuilt if held_trades.cursor else None,
    )
    if news.is_whole:
        held = snapshots.at(spark, table, base.snapshot_id)
        return settle(spark, table, trader_activity.build(news.rows(source)), held, base, cursor, audits)
    groups = news.changed(source).select("trader_id", "symbol", F.col("trade_date").alias("activity_date")).distinct()
    with measured(groups, units=unit_set("activity_date", "symbol")) as (touched, found):
        wanted = units(found["units"])
        all_trades = news.rows(source).where(unit_predicate("trade_timestamp", "symbol", wanted))
        keys = touched.withColumnRenamed("activity_date", "trade_date")
        of_groups = all_trades.join(keys, on=["trader_id", "symbol", "trade_date"], how="left_semi")
        held = snapshots.at(spark, table, base.snapshot_id).where(unit_predicate("activity_date", "symbol", wanted))
        of_touched = held.join(touched, on=list(trader_activity.GROUP), how="left_semi")
        return settle(spark, table, trader_activity.build(of_groups), of_touched, base, cursor, audits)


def write(
    spark: SparkSession,
    feed: Feed,
    decided: DataFrame,
    base: snapshots.State,
    cursor: FeedCursor,
    counts: Mapping[str, int],
    checked: Checked,
) -> snapshots.State:
    """One commit: new rows appended, changed rows merged, or only the cursor moved; held back where it is `checked` and
    breaks something."""
    table = feed.table
    if not counts["inserted"] and not counts["updated"]:
        return commit.advance(spark, table, base, cursor)
    stamp = F.lit(cursor.stamp).cast("timestamp")
    rows = dedup.to_write(decided).withColumn(str(table.stamp), stamp)
    if not counts["updated"]:
        return commit.append(spark, table, rows, base, cursor, checked)
    times = rows.agg(time_set(feed.event_time)).collect()[0][0]
    return commit.merge(
        spark, table, rows.select(*table.column_names), base, cursor,
        bounds=around(feed.event_time, times),
        updates=[*feed.changing, str(table.stamp)],
        checked=checked,
    )  # fmt: skip


def _cursor(
    source: str, base: snapshots.State, after: datetime | None, arrived: snapshots.State, counts: Mapping[str, int]
) -> FeedCursor:
    """What this commit consumed, its counts, and their totals since the first commit."""
    stamp, last = base.next_stamp(datetime.now(UTC)), base.cursor_as(FeedCursor)
    totals = last.totals if last else {}
    # A lost cursor also loses whether what is downstream knew of a rebuild.
    rebuilt = stamp if base.is_lost else last.rebuilt if last else None
    return FeedCursor(
        stamp=stamp,
        rebuilt=rebuilt,
        source=source,
        after=after,
        upto=arrived.stamp,
        since=last.since if last else stamp,
        removed_before=last.removed_before if last else rows_removed(arrived.cursor),
        rejected_before=last.rejected_before if last else 0,
        counts=counts,
        totals={**totals, **{name: totals.get(name, 0) + number for name, number in counts.items()}},
    )
