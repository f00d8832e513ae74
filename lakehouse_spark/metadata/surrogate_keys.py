"""`_metadata.surrogate_keys`: the last surrogate key issued to each dimension."""

from lakehouse_spark.table import DIM_POLICY, Table, column
from lakehouse_spark.types import INSTANT, LONG, TEXT

TABLE = Table(
    name="_metadata.surrogate_keys",
    doc="Surrogate keys issued, one row per dimension: a range is reserved here before it is used, gaps are allowed.",
    columns=(
        column("table_name", TEXT, "Dimension (e.g., dim_symbol)"),
        column("last_issued_key", LONG, "The largest key ever reserved"),
        column("_updated_at", INSTANT, "Commit stamp: when the range was reserved"),
    ),
    key=("table_name",),
    stamp="_updated_at",
    policy=DIM_POLICY,
)
