"""Market sessions by an exchange's local clock and calendar."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.types import DATE, INSTANT, TEXT

HOURS = T.StructType(
    [
        T.StructField("exchange_code", TEXT),
        T.StructField("utc_date", DATE),
        T.StructField("day_from", INSTANT),
        T.StructField("day_to", INSTANT),
        T.StructField("opens", INSTANT),
        T.StructField("closes", INSTANT),
    ]
)
"""An exchange's trading days: one row per local day and UTC date it touches; `day_to` and `closes` are exclusive.

A day whose session opens on the evening before begins then, and ends the day before it."""


def with_session(trades: DataFrame, hours: DataFrame) -> DataFrame:
    """Adds `market_session` to trades (`exchange`, `trade_date`, `trade_timestamp`).

    REGULAR from open to before close, lunch breaks included; PRE_MARKET before and AFTER_HOURS from the close, to the
    ends of the exchange's local day; CLOSED on days that `hours` (HOURS) does not have.
    """
    at = F.col("trade_timestamp")
    on = (
        (F.col("exchange") == F.col("exchange_code"))
        & (F.col("trade_date") == F.col("utc_date"))
        & (at >= F.col("day_from"))
        & (at < F.col("day_to"))
    )
    session = (
        F.when(F.col("opens").isNull(), "CLOSED")
        .when(at < F.col("opens"), "PRE_MARKET")
        .when(at < F.col("closes"), "REGULAR")
        .otherwise("AFTER_HOURS")
    )
    joined = trades.join(F.broadcast(hours), on=on, how="left").withColumn("market_session", session)
    return joined.drop(*HOURS.names)
