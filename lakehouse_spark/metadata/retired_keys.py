"""`_metadata.retired_keys`: surrogate keys of rows that left their dimension."""

from lakehouse_spark.table import DIM_POLICY, Table, column
from lakehouse_spark.types import DATE, INSTANT, LONG, TEXT

TABLE = Table(
    name="_metadata.retired_keys",
    doc="Surrogate keys of rows that are gone from their dimension: one that returns has its key again.",
    columns=(
        column("table_name", TEXT, "Dimension (e.g., dim_symbol)"),
        column("surrogate_key", LONG, "The key that was issued"),
        column("natural_key", TEXT, "The member it stands for"),
        column("effective_date", DATE, "First day of the version it stands for; NULL for a dimension without versions"),
        column("_updated_at", INSTANT, "Commit stamp: when the row first left the dimension"),
    ),
    key=("table_name", "surrogate_key"),
    stamp="_updated_at",
    policy=DIM_POLICY,
)
