"""`dim.dim_time`: every UTC minute of the loaded years, with the NYSE's trading day and session."""

from datetime import UTC, date, datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.table import DIM_POLICY, Table, column
from lakehouse_spark.transforms import market_hours
from lakehouse_spark.types import DATE, FLAG, INSTANT, INTEGER, LONG, TEXT

TABLE = Table(
    name="dim.dim_time",
    doc="Time of day (SCD1), one row per UTC minute, 1,440 per UTC day; whole years.",
    columns=(
        column("time_key", LONG, "Surrogate key (YYYYMMDDHHMI, UTC)"),
        column("full_timestamp", INSTANT, "Start of the minute (UTC)"),
        column("date", DATE, "Calendar date (UTC)"),
        column("year", INTEGER, "Year (2024, 2025, ...)"),
        column("quarter", INTEGER, "Quarter (1-4)"),
        column("month", INTEGER, "Month (1-12)"),
        column("month_name", TEXT, "Month name (January, ...)"),
        column("week", INTEGER, "ISO week number"),
        column("day_of_month", INTEGER, "Day of month (1-31)"),
        column("day_of_week", INTEGER, "Day of week (1=Monday, 7=Sunday)"),
        column("day_name", TEXT, "Day name (Monday, ...)"),
        column("is_weekend", FLAG, "Saturday or Sunday (UTC)"),
        column("is_trading_day", FLAG, "The minute's date in New York is a session of the NYSE"),
        column("market_session", TEXT, "PRE_MARKET / REGULAR / AFTER_HOURS / CLOSED, on the NYSE"),
        column("hour", INTEGER, "Hour (0-23, UTC)"),
        column("minute", INTEGER, "Minute (0-59)"),
    ),
    key=("time_key",),
    partitioned_by=("years(date)",),
    policy=DIM_POLICY,
)


def minutes_of(year: int) -> tuple[int, int, int]:
    """The arguments of `spark.range` for the minutes of a UTC year: seconds since the epoch from, to, step."""
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()), int(datetime(year + 1, 1, 1, tzinfo=UTC).timestamp()), 60


def days_of(year: int) -> tuple[date, date]:
    """The first and the last day of a UTC year."""
    return date(year, 1, 1), date(year, 12, 31)


def time_key(instant: Column) -> Column:
    """The key of the minute an instant falls in; NULL for NULL. The session's time zone must be UTC."""
    return F.date_format(instant, "yyyyMMddHHmm").cast("bigint")


def build(minutes: DataFrame, sessions: DataFrame) -> DataFrame:
    """One row per row of `minutes` (`id`: seconds since the epoch of a UTC minute), with the NYSE's day and session.

    The trading day of a minute is that of its New York date: Friday's after-hours trading reaches into the UTC
    Saturday, and is still Friday's. Times are half-open: 16:00 in New York is AFTER_HOURS.
    """
    at = F.col("full_timestamp")
    traded = F.col("session").isNotNull()
    is_closed = ~traded | (at < F.col("pre_market")) | (at >= F.col("after_hours"))
    session = market_hours.session(at, F.col("open"), F.col("close"), is_closed=is_closed)
    instants = minutes.select(F.timestamp_seconds("id").alias("full_timestamp"))
    new_york_date = F.to_date(F.from_utc_timestamp(at, market_hours.NEW_YORK.key))
    return instants.join(F.broadcast(sessions), on=new_york_date == F.col("session"), how="left").select(
        time_key(at).alias("time_key"),
        at,
        F.to_date(at).alias("date"),
        F.year(at).alias("year"),
        F.quarter(at).alias("quarter"),
        F.month(at).alias("month"),
        F.date_format(at, "MMMM").alias("month_name"),
        F.weekofyear(at).alias("week"),
        F.dayofmonth(at).alias("day_of_month"),
        (F.weekday(at) + 1).alias("day_of_week"),
        F.date_format(at, "EEEE").alias("day_name"),
        (F.weekday(at) >= 5).alias("is_weekend"),
        traded.alias("is_trading_day"),
        session.alias("market_session"),
        F.hour(at).alias("hour"),
        F.minute(at).alias("minute"),
    )
