"""`dim.dim_symbol`: every version of every traded symbol (SCD2)."""

from pyspark.sql import DataFrame

from lakehouse_spark.dim.dimension import ORDER, Dimension, stated
from lakehouse_spark.table import DIM_POLICY, Table, column
from lakehouse_spark.transforms import quality, scd_type2
from lakehouse_spark.types import DATE, FLAG, INSTANT, LONG, TEXT

TABLE = Table(
    name="dim.dim_symbol",
    doc="Symbols with full history (SCD2), one row per symbol and effective date.",
    columns=(
        column("symbol_key", LONG, "Surrogate key of the version, from 100000"),
        column("symbol", TEXT, "Natural key (e.g., AAPL)"),
        column("company_name", TEXT, "Full company name"),
        column("sector", TEXT, "GICS sector"),
        column("industry", TEXT, "GICS industry"),
        column("market_cap_category", TEXT, "MEGA / LARGE / MID / SMALL / MICRO"),
        column("listing_exchange", TEXT, "Primary listing exchange"),
        column("ipo_date", DATE, "IPO date; the last known value in every version"),
        column("effective_date", DATE, "First day the version is valid"),
        column("expiry_date", DATE, "Last day the version is valid (9999-12-31 if open)"),
        column("is_current", FLAG, "True for the active version"),
        column("_row_hash", TEXT, "MD5 of the tracked columns"),
        column("is_inferred", FLAG, "True where a fact came before its reference data"),
        column("_updated_at", INSTANT, "Commit stamp: when the row was written"),
    ),
    key=("symbol", "effective_date"),
    partitioned_by=("bucket(8, symbol)",),
    stamp="_updated_at",
    distribution="hash",
    policy=DIM_POLICY,
    sources=("bronze.raw_reference",),
    checks={
        "surrogate_key_is_known": "symbol_key IS NOT NULL",
        "ends_no_earlier_than_it_begins": "effective_date <= expiry_date",
    },
)

TRACKED = ("company_name", "sector", "industry", "market_cap_category", "listing_exchange")
UNTRACKED = ("ipo_date",)


def build(changes: DataFrame) -> DataFrame:
    """All versions of the changes' symbols, surrogate key, inferred members and stamp left out."""
    return scd_type2.versions(
        changes, key="symbol", tracked=TRACKED, untracked=UNTRACKED, order=ORDER, stated=stated(*UNTRACKED)
    )


DIMENSION = Dimension(
    table=TABLE,
    natural_key="symbol",
    surrogate_key="symbol_key",
    first_key=100_000,
    attributes=tuple(TABLE.schema[name] for name in (*TRACKED, *UNTRACKED)),
    derive=build,
    rules=(quality.symbol(),),
    untracked=UNTRACKED,
    name_columns=("company_name",),
)
