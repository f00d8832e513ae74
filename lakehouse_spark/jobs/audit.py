"""What becomes of a commit that is held back: a person publishes or discards it, and the log of maintenance says so."""

from datetime import timedelta

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import FEEDS
from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.iceberg import held, metadata
from lakehouse_spark.iceberg.held import Held
from lakehouse_spark.lake import audit, commit, dead_letters, snapshots
from lakehouse_spark.maintenance import journal
from lakehouse_spark.metadata.maintenance_log import DONE, FAILED
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import rejected_records
from lakehouse_spark.silver.feed import PLACE
from lakehouse_spark.table import Table

JOB = "audit"
_LEASE = timedelta(minutes=1)


def of(settings: Settings, table: Table) -> Held:
    """The commit to a table that is held back; raises UsageError where none is."""
    found = next(held.of([metadata.of(settings, table)]), None)
    if found is None:
        raise UsageError(f"no commit to {table.name} is held back", "What is: lakehouse audit list")
    return found


def breaking(spark: SparkSession, settings: Settings, table: Table, waits: Held) -> dict[str, DataFrame]:
    """By check that a commit breaks, the rows which do, as they would be published, and of a query its answer; of a
    check that is gone, none."""
    checked = audit.of(spark, settings.audit, table)
    staged, checks = table.on_branch(waits.branch), checked.checks
    cursor = snapshots.cursor_on(snapshots.load(spark, table).snapshot(waits.snapshot_id))
    answers = {n: checked.answer(spark, n, staged, cursor) for n in waits.broken if n in checked.queries}
    rows = snapshots.at(spark, table, waits.snapshot_id)
    written = rows.where(F.col(str(table.stamp)) == F.lit(waits.stamp))
    return answers | {name: written.where(f"NOT ({checks[name]})") for name in waits.broken if name in checks}


def discard(spark: SparkSession, settings: Settings, table: Table, by: str, because: str) -> Held:
    """Drops the commit: the table's job goes on from where it was, and makes it anew by the code and data of then."""
    waits = of(settings, table)
    run = _decided(spark, settings, waits, "discard", by, because)
    commit.discard(snapshots.load(spark, table), table, waits.branch)
    run.end(table.name, JOB, DONE, decision="discard", by=by, because=because, broken=dict(waits.broken))
    return waits


def publish(spark: SparkSession, settings: Settings, table: Table, by: str, because: str) -> Held:
    """Makes the commit current as it was staged, and closes dead letters of what it accepted.

    Raises RefusedError, leaving it held back, where the table was committed to meanwhile, as by another tool.
    """
    waits = of(settings, table)
    run = _decided(spark, settings, waits, "publish", by, because)
    if not commit.publish(snapshots.load(spark, table), waits.branch):
        run.end(table.name, JOB, FAILED, decision="publish", by=by, because=because)
        raise RefusedError(
            f"{table.name}: someone committed since {waits.branch} was staged, which cannot become current any more",
            "Discard it, and run its job again, with LAKEHOUSE_AUDIT__MODE=warn if it is to be published all the same",
        )
    _close_letters(spark, table, waits)
    run.end(table.name, JOB, DONE, decision="publish", by=by, because=because, broken=dict(waits.broken))
    return waits


def _close_letters(spark: SparkSession, table: Table, waits: Held) -> None:
    """Of records that an attempt before refused, and this commit made rows of."""
    feed = next((feed for feed in FEEDS.values() if feed.table is table), None)
    if feed is None:
        return
    letters = spark.table(rejected_records.TABLE.identifier).where(F.col("source_table") == feed.topic.table.name)
    rows = snapshots.at(spark, table, waits.snapshot_id).where(F.col(str(table.stamp)) == F.lit(waits.stamp))
    place = rejected_records.PLACE[: len(PLACE)]
    made = rows.select(*(F.col(own).alias(name) for own, name in zip(PLACE, place, strict=True)))
    accepted = letters.join(made, on=list(place), how="left_semi").select(*rejected_records.PLACE)
    dead_letters.close(spark, letters, accepted, "accepted by a later attempt")


def _decided(spark: SparkSession, settings: Settings, waits: Held, decision: str, by: str, because: str) -> journal.Run:
    """A run that has logged the decision before anything is done by it."""
    run = journal.Run(spark, settings, _LEASE)
    run.announce([waits.table], JOB, f"{decision} {waits.branch}, by {by}: {because}")
    return run
