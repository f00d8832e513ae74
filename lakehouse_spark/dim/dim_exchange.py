"""`dim.dim_exchange`: the exchanges trades may name (SCD1), seeded from a reference file."""

from pyspark.sql import DataFrame

from lakehouse_spark.dim.dimension import ORDER, Dimension, stated
from lakehouse_spark.table import DIM_RETENTION, Table, column
from lakehouse_spark.transforms import scd_type1
from lakehouse_spark.types import INSTANT, LONG, TEXT

TABLE = Table(
    name="dim.dim_exchange",
    doc="Exchanges (SCD1), one row per exchange code.",
    columns=(
        column("exchange_key", LONG, "Surrogate key"),
        column("exchange_code", TEXT, "Natural key (e.g., NYSE, NASDAQ)"),
        column("exchange_name", TEXT, "Full name"),
        column("timezone", TEXT, "IANA timezone (e.g., America/New_York)"),
        column("country", TEXT, "Country code (US, UK, JP)"),
        column("currency", TEXT, "Primary trading currency (ISO 4217)"),
        column("market_open_time", TEXT, "Regular market open, local time (HH:MM)"),
        column("market_close_time", TEXT, "Regular market close, local time (HH:MM)"),
        column("mic", TEXT, "ISO 10383 market identifier code, which names the exchange's trading calendar"),
        column("_updated_at", INSTANT, "Commit stamp: when the row was written"),
    ),
    key=("exchange_code",),
    stamp="_updated_at",
    retention=DIM_RETENTION,
    sources=("bronze.raw_reference",),
)

_ATTRIBUTES = tuple(c for c in TABLE.columns if c.name not in ("exchange_key", "exchange_code", "_updated_at"))


def build(changes: DataFrame) -> DataFrame:
    """The changes' exchanges as they are now, surrogate key and stamp left out; a deleted exchange stays."""
    names = [a.name for a in _ATTRIBUTES]
    return scd_type1.latest(
        changes, key="exchange_code", columns=names, order=("effective_date", *ORDER), stated=stated(*names)
    )


DIMENSION = Dimension(
    table=TABLE,
    natural_key="exchange_code",
    surrogate_key="exchange_key",
    first_key=1,
    attributes=_ATTRIBUTES,
    derive=build,
    upper_case=True,
)
