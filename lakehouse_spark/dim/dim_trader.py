"""`dim.dim_trader`: every version of every trader (SCD2)."""

from pyspark.sql import DataFrame

from lakehouse_spark.dim.dimension import ORDER, Dimension, stated
from lakehouse_spark.table import DIM_POLICY, Table, column
from lakehouse_spark.transforms import scd_type2
from lakehouse_spark.types import DATE, FLAG, INSTANT, LONG, TEXT

TABLE = Table(
    name="dim.dim_trader",
    doc="Traders with full history (SCD2), one row per trader and effective date.",
    columns=(
        column("trader_key", LONG, "Surrogate key of the version, from 200000"),
        column("trader_id", TEXT, "Natural key"),
        column("name", TEXT, "Trader full name"),
        column("account_type", TEXT, "INDIVIDUAL / INSTITUTIONAL / ALGORITHMIC"),
        column("risk_category", TEXT, "LOW / MEDIUM / HIGH"),
        column("trading_tier", TEXT, "BRONZE / SILVER / GOLD / PLATINUM"),
        column("registration_date", DATE, "Registration date; the last known value in every version"),
        column("effective_date", DATE, "First day the version is valid"),
        column("expiry_date", DATE, "Last day the version is valid (9999-12-31 if open)"),
        column("is_current", FLAG, "True for the active version"),
        column("_row_hash", TEXT, "MD5 of the tracked columns"),
        column("is_inferred", FLAG, "True where a fact came before its reference data"),
        column("_updated_at", INSTANT, "Commit stamp: when the row was written"),
    ),
    key=("trader_id", "effective_date"),
    partitioned_by=("bucket(8, trader_id)",),
    stamp="_updated_at",
    distribution="hash",
    policy=DIM_POLICY,
    sources=("bronze.raw_reference",),
    checks={
        "surrogate_key_is_known": "trader_key IS NOT NULL",
        "ends_no_earlier_than_it_begins": "effective_date <= expiry_date",
    },
)

TRACKED = ("name", "account_type", "risk_category", "trading_tier")
UNTRACKED = ("registration_date",)


def build(changes: DataFrame) -> DataFrame:
    """All versions of the changes' traders, surrogate key, inferred members and stamp left out."""
    return scd_type2.versions(
        changes, key="trader_id", tracked=TRACKED, untracked=UNTRACKED, order=ORDER, stated=stated(*UNTRACKED)
    )


DIMENSION = Dimension(
    table=TABLE,
    natural_key="trader_id",
    surrogate_key="trader_key",
    first_key=200_000,
    attributes=tuple(TABLE.schema[name] for name in (*TRACKED, *UNTRACKED)),
    derive=build,
    untracked=UNTRACKED,
    name_columns=("name",),
)
