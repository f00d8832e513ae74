"""A table as it was: undoes what was published since, in a commit like any other, and has it made anew."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pyspark.sql import SparkSession

from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.iceberg import metadata
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.reconcile import Done, settle
from lakehouse_spark.maintenance import journal
from lakehouse_spark.metadata.maintenance_log import DONE
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import Table

JOB = "rollback"
_LEASE = timedelta(minutes=1)


def rollback(spark: SparkSession, settings: Settings, table: Table, to: datetime, by: str, because: str) -> Summary:
    """Gives a table the rows and the place of its cursor that it had at a moment; what it consumed since it consumes
    again, and what is downstream is derived whole.

    Raises UsageError for a table that follows no other, and for a moment that is not known any more or of before its
    first commit; RefusedError where rules or columns of then are not those of now; LostRaceError and HeldError like any
    commit.
    """
    began = time.monotonic()
    if not table.follows:
        raise UsageError(f"{table.name} follows no other table, so that nothing would come again")
    now = metadata.of(settings, table)
    known, iceberg = now.known_at(to), snapshots.load(spark, table)
    base = snapshots.state_of(spark, table, iceberg)
    then = snapshots.state_of(spark, table, iceberg, iceberg.snapshot(known.said["current-snapshot-id"]))
    if then.snapshot_id == base.snapshot_id:
        return Summary.of(JOB, table.name, Done({}), began)
    if then.cursor is None:
        raise UsageError(f"{table.name} had not been written to at {to.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
    if then.is_outdated or known.schema_id != now.schema_id:
        what = "columns were others" if known.schema_id != now.schema_id else f"rules were others ({then.rules_moved})"
        raise RefusedError(f"{table.name}: its {what} then", "Derive it whole by those of now: --rebuild")
    commit.require_none_held(iceberg, table)
    run = journal.Run(spark, settings, _LEASE)
    run.announce([table.name], JOB, f"to {to.isoformat()}, by {by}: {because}")
    stamp = base.next_stamp(datetime.now(UTC))
    notes = {**then.cursor.notes, "rolled_back_to": to.astimezone(UTC).isoformat()}
    cursor = replace(then.cursor, stamp=stamp, rebuilt=stamp, counts={}, notes=notes)
    held, rows = (snapshots.at(spark, table, state.snapshot_id) for state in (base, then))
    done = settle(spark, table, rows, held, base, cursor)
    run.end(table.name, JOB, DONE, done.counts, by=by, because=because, to=to.isoformat())
    return Summary.of(JOB, table.name, done, began)
