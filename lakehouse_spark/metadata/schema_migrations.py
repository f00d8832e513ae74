"""`_metadata.schema_migrations`: which migrations this lakehouse has had.

A new lakehouse starts with all versions of its release. What a checksum is taken of, `migrations.migration` says.
"""

from lakehouse_spark.table import DIM_POLICY, Table, column
from lakehouse_spark.types import INSTANT, TEXT

TABLE = Table(
    name="_metadata.schema_migrations",
    doc="Applied schema migrations, one row per version.",
    columns=(
        column("version", TEXT, "Version (e.g., V001)"),
        column("description", TEXT, "What it did, from its file name"),
        column("checksum", TEXT, "SHA-256 of its source when it was applied"),
        column("applied_at", INSTANT, "Commit stamp: when it was recorded"),
    ),
    key=("version",),
    stamp="applied_at",
    policy=DIM_POLICY,
)
