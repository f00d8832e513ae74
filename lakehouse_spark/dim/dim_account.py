"""`dim.dim_account`: trading accounts with their current and previous tier and status (SCD3)."""

from lakehouse_spark.table import DIM_RETENTION, Table, column
from lakehouse_spark.types import DATE, INSTANT, LONG, TEXT

TABLE = Table(
    name="dim.dim_account",
    doc="Trading accounts (SCD3), one row per account.",
    columns=(
        column("account_key", LONG, "Surrogate key"),
        column("account_id", TEXT, "Natural key"),
        column("trader_id", TEXT, "Owner trader ID"),
        column("current_tier", TEXT, "Current account tier"),
        column("previous_tier", TEXT, "Previous tier (NULL if never changed)"),
        column("tier_change_date", DATE, "When the current tier began (NULL if it is the first)"),
        column("current_status", TEXT, "Current status (ACTIVE/SUSPENDED/CLOSED)"),
        column("previous_status", TEXT, "Previous status (NULL if never changed)"),
        column("status_change_date", DATE, "When the current status began (NULL if it is the first)"),
        column("account_open_date", DATE, "Account creation date"),
        column("account_type", TEXT, "MARGIN / CASH / IRA"),
        column("_updated_at", INSTANT, "Commit stamp: when the row was written"),
    ),
    key=("account_id",),
    partitioned_by=("bucket(8, account_id)",),
    stamp="_updated_at",
    distribution="hash",
    retention=DIM_RETENTION,
    sources=("bronze.raw_reference",),
)
