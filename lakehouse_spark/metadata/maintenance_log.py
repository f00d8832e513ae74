"""`_metadata.maintenance_log`: what maintenance did and why, and who holds a table while it does."""

from dataclasses import replace

from pyspark.sql import types as T

from lakehouse_spark.table import DIM_POLICY, Table, column
from lakehouse_spark.types import INSTANT, TEXT

_NUMBERS = T.MapType(T.StringType(), T.LongType())

STARTED, RENEWED, DONE, FAILED = "STARTED", "RENEWED", "DONE", "FAILED"

TABLE = Table(
    name="_metadata.maintenance_log",
    doc="What maintenance did to tables, and who holds one by a lease: rows are added as runs begin, go on and end.",
    columns=(
        column("run_id", TEXT, "The run of a job, one for all tables of it"),
        column("table_name", TEXT, "The table that was maintained, or is held by a lease; * is all of them"),
        column("job", TEXT, "The job of maintenance; live, drain or bronze_writer where it is a lease alone"),
        column("status", TEXT, "STARTED, RENEWED, DONE or FAILED; until the last two the run holds the table"),
        column("lease_until", INSTANT, "When a run that says nothing more is taken for dead; NULL once it has ended"),
        column("reason", TEXT, "Why it was due"),
        column("planned", _NUMBERS, "What was planned, by what was counted (files, bytes, snapshots, manifests, rows)"),
        column("done", _NUMBERS, "What was found afterwards, by the same names; NULL until it ended"),
        column("detail", TEXT, "What else there is to tell, as JSON: partitions, files that went, the error"),
        column("_logged_at", INSTANT, "Commit stamp: when it was logged"),
    ),
    key=("run_id", "table_name", "job", "status", "_logged_at"),
    partitioned_by=("months(_logged_at)",),
    stamp="_logged_at",
    policy=replace(DIM_POLICY, max_snapshots=1_000),  # a lease is renewed all the time
)
