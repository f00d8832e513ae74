"""`_metadata.schema_migrations`: which operations of which migrations this lakehouse has had.

A new lakehouse starts with all versions of its release. What a checksum is taken of, `migrations.migration` says.
"""

from lakehouse_spark.table import DIM_POLICY, Table, column
from lakehouse_spark.types import DOUBLE, INSTANT, INTEGER, LONG, TEXT

TABLE = Table(
    name="_metadata.schema_migrations",
    doc="Applied schema migrations, one row per operation, or, in a new lakehouse, per version.",
    columns=(
        column("version", TEXT, "Version (e.g., V001)"),
        column("description", TEXT, "What it did, from its file name"),
        column("checksum", TEXT, "SHA-256 of its operations, as they were applied"),
        column("applied_at", INSTANT, "Commit stamp: when it was recorded"),
        column("operation_index", INTEGER, "Which of its operations, from 1; NULL: all of them"),
        column("operation", TEXT, "What the operation did, in a sentence"),
        column("class", TEXT, "additive or breaking: whether it may break who reads the table"),
        column("table_name", TEXT, "The table that it changed; NULL of a step of code"),
        column("seconds", DOUBLE, "How long it took"),
        column("snapshot_before", LONG, "The table's current snapshot before it"),
        column("snapshot_after", LONG, "The table's current snapshot after it"),
        column("schema_before", INTEGER, "Iceberg's id of the table's schema before it"),
        column("schema_after", INTEGER, "Iceberg's id of the table's schema after it"),
        column("major", INTEGER, "Major version of the lakehouse, raised by what breaks its readers; NULL: 1"),
    ),
    key=("version", "operation_index"),
    stamp="applied_at",
    policy=DIM_POLICY,
)
