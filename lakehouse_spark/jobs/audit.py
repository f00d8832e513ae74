"""What becomes of a commit that is held back: a person publishes or discards it, and the log of maintenance says so."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import DIMENSIONS, FACTS
from lakehouse_spark.errors import RefusedError, UsageError
from lakehouse_spark.iceberg import held, metadata
from lakehouse_spark.iceberg.held import Held
from lakehouse_spark.jobs import dimension_loader, fact_loader, gold_aggregator, silver_processor
from lakehouse_spark.jobs.steps import Step
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import audit, commit, snapshots
from lakehouse_spark.maintenance import journal
from lakehouse_spark.metadata.maintenance_log import DONE
from lakehouse_spark.settings import Settings, TableAuditSettings
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
    """By check that a commit breaks, the rows which do, as they would be published; of a check that is gone, none."""
    checks = audit.of(spark, settings.audit, table).checks
    rows = snapshots.at(spark, table, waits.snapshot_id)
    written = rows.where(F.col(str(table.stamp)) == F.lit(waits.stamp))
    return {name: written.where(f"NOT ({checks[name]})") for name in waits.broken if name in checks}


def discard(spark: SparkSession, settings: Settings, table: Table, by: str, because: str) -> Held:
    """Drops the commit: the table's job goes on from where it was, and makes it anew by the code and data of then."""
    waits = of(settings, table)
    run = _decided(spark, settings, waits, "discard", by, because)
    commit.drop(snapshots.load(spark, table), waits.branch)
    run.end(table.name, JOB, DONE, decision="discard", by=by, because=because, broken=dict(waits.broken))
    return waits


def publish(spark: SparkSession, settings: Settings, table: Table, by: str, because: str) -> tuple[Held, list[Summary]]:
    """Makes the commit current as it was staged.

    Where compaction came in between, it is dropped, and the table's job runs again with the checks of this table told
    only; the summaries are those of that run.
    """
    waits = of(settings, table)
    run = _decided(spark, settings, waits, "publish", by, because)
    iceberg, summaries = snapshots.load(spark, table), list[Summary]()
    if not commit.publish(iceberg, waits.branch):
        commit.drop(iceberg, waits.branch)
        summaries = _run_again(spark, settings, table)
    run.end(table.name, JOB, DONE, decision="publish", by=by, because=because, broken=dict(waits.broken))
    return waits, summaries


def _decided(spark: SparkSession, settings: Settings, waits: Held, decision: str, by: str, because: str) -> journal.Run:
    """A run that has logged the decision before anything is done by it."""
    run = journal.Run(spark, settings, _LEASE)
    run.announce([waits.table], JOB, f"{decision} {waits.branch}, by {by}: {because}")
    return run


def _run_again(spark: SparkSession, settings: Settings, table: Table) -> list[Summary]:
    own = settings.audit.tables.get(table.name, TableAuditSettings()).model_copy(update={"mode": "warn"})
    audits = settings.audit.model_copy(update={"tables": {**settings.audit.tables, table.name: own}})
    lenient = settings.model_copy(update={"audit": audits})
    steps: dict[str, Callable[..., list[Step]]] = {
        **{d.table.name: partial(_of_dimension, d.name) for d in DIMENSIONS.values()},
        **{f"silver.{name}": partial(silver_processor.steps_of, tables=[name]) for name in silver_processor.TABLES},
        **{fact.table.name: partial(fact_loader.steps_of, tables=[name]) for name, fact in FACTS.items()},
        **{made.name: gold_aggregator.steps_of for tables, _ in gold_aggregator.STEPS for made in tables},
    }
    if table.name not in steps:
        raise RefusedError(f"{table.name} is written by no job that could make the commit again")
    due = [step for step in steps[table.name](spark, lenient) if table in step.tables]
    return [summary for step in due for summary in step.work()]


def _of_dimension(name: str, spark: SparkSession, settings: Settings) -> list[Step]:
    return dimension_loader.steps_of(
        spark, [name], max_record_bytes=settings.ingest.max_record_bytes, audits=settings.audit
    )
