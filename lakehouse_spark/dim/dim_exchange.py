"""`dim.dim_exchange`: the exchanges trades may name (SCD1), seeded from a reference file."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.dim.dimension import ORDER, Dimension, stated
from lakehouse_spark.table import DIM_POLICY, Table, column
from lakehouse_spark.transforms import quality, scd_type1
from lakehouse_spark.transforms.attributes import text, whole
from lakehouse_spark.transforms.market_hours import CLOCK, TIME_ZONES, mics
from lakehouse_spark.transforms.quality import Field
from lakehouse_spark.types import INSTANT, INTEGER, LONG, TEXT

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
        column("settlement_days", INTEGER, "Trading days from a trade to its settlement (T+2: 2); not stated, 2 count"),
        column("_updated_at", INSTANT, "Commit stamp: when the row was written"),
    ),
    key=("exchange_code",),
    stamp="_updated_at",
    policy=DIM_POLICY,
    sources=("bronze.raw_reference",),
    checks={
        "surrogate_key_is_known": "exchange_key IS NOT NULL",
    },
)

_ATTRIBUTES = tuple(c for c in TABLE.columns if c.name not in ("exchange_key", "exchange_code", "_updated_at"))


def build(changes: DataFrame) -> DataFrame:
    """The changes' exchanges as they are now, surrogate key and stamp left out; a deleted exchange stays."""
    names = [a.name for a in _ATTRIBUTES]
    return scd_type1.latest(
        changes, key="exchange_code", columns=names, order=("effective_date", *ORDER), stated=stated(*names)
    )


_CODE = r"^[ -~]+\z"
_HOURS = rf"^(?:{CLOCK})\z"
_MOST_SETTLEMENT_DAYS = 30


def _hours(name: str, other: str) -> Field:
    """A local time, HH:MM or HH:MM:SS; broken too where a record states two equal ones."""
    return (
        quality.text(name, required=False)
        .unless(lambda hours: ~hours.rlike(_HOURS), f"invalid_{name}")
        .unless(lambda hours: _to_seconds(hours) == _to_seconds(text(F.col("attributes"), other)), f"invalid_{name}")
    )


def _to_seconds(hours: Column) -> Column:
    """The text with seconds, by which equal times are equal texts."""
    return F.when(F.length(hours) == 5, F.concat(hours, F.lit(":00"))).otherwise(hours)


def _is_no_mic(name: Column) -> Column:
    return _is_none_of(mics())(name)


def _is_none_of(names: Iterable[str]) -> Callable[[Column], Column]:
    listed = "\n".join(sorted(names))  # one literal: hundreds of them would take longer than all the rest
    return lambda name: ~F.array_contains(F.split(F.lit(listed), "\n"), name)


DIMENSION = Dimension(
    table=TABLE,
    natural_key="exchange_code",
    surrogate_key="exchange_key",
    first_key=1,
    attributes=_ATTRIBUTES,
    derive=build,
    rules=(
        quality.code("exchange_code").unless(lambda code: ~code.rlike(_CODE), "invalid_exchange_code"),
        quality.text("timezone", required=False).unless(_is_none_of(TIME_ZONES), "invalid_timezone"),
        _hours("market_open_time", "market_close_time").unless(
            lambda hours: hours.startswith("24"), "invalid_market_open_time"
        ),
        _hours("market_close_time", "market_open_time"),
        replace(quality.code("mic"), required=False).unless(_is_no_mic, "invalid_mic"),
        Field("settlement_days", whole, required=False).unless(
            lambda days: ~days.between(0, _MOST_SETTLEMENT_DAYS), "invalid_settlement_days"
        ),
    ),
)
