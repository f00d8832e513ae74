"""`dim.dim_account`: trading accounts with their current and previous tier and status (SCD3)."""

from pyspark.sql import DataFrame

from lakehouse_spark.dim.dimension import ORDER, Dimension, stated
from lakehouse_spark.table import DIM_POLICY, Table, column
from lakehouse_spark.transforms import scd_type3
from lakehouse_spark.transforms.scd_type3 import Pair
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
    policy=DIM_POLICY,
    sources=("bronze.raw_reference",),
    checks={
        "surrogate_key_is_known": "account_key IS NOT NULL",
    },
)

PAIRS = (
    Pair("tier", "current_tier", "previous_tier", "tier_change_date"),
    Pair("status", "current_status", "previous_status", "status_change_date"),
)
_OTHERS = ("trader_id", "account_open_date", "account_type")


def build(changes: DataFrame) -> DataFrame:
    """The changes' accounts as they are now, surrogate key and stamp left out; a deleted account stays."""
    return scd_type3.latest(
        changes,
        key="account_id",
        pairs=PAIRS,
        columns=_OTHERS,
        order=("effective_date", *ORDER),
        stated=stated(*_OTHERS),
    )


DIMENSION = Dimension(
    table=TABLE,
    natural_key="account_id",
    surrogate_key="account_key",
    first_key=300_000,
    attributes=(*(column(pair.column, TEXT, "") for pair in PAIRS), *(TABLE.schema[name] for name in _OTHERS)),
    derive=build,
    aliases={pair.current: pair.column for pair in PAIRS},
)
