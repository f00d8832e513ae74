"""Two times of a member: the days on which a version is valid, and since when and until when this was known."""

from datetime import UTC, datetime

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_spark.dim.dimension import Dimension

OPEN_END = datetime(9999, 12, 31, tzinfo=UTC)
"""Until when is known what no later record has changed."""


def build(changes: DataFrame, dimension: Dimension) -> DataFrame:
    """Every version that a dimension with versions (SCD2) would ever have had, from the changes of whole members.

    Grain: one row per natural key, `valid_from` and `known_from`.

    Of a member, each commit to the log in which it has a change is a moment at which something else may be known of all
    its days. A row holds the natural key, the attributes, `valid_from` and `valid_to` (days, both included; 9999-12-31
    while open), and `known_from` (the commit stamp) and `known_to` (that of the commit which changed it, not included;
    9999-12-31 while nothing has). The rows grow with the square of the changes of one member at worst.
    """
    key, landed = dimension.natural_key, F.col("_ingested_at")
    following = F.lead("known_from").over(Window.partitionBy(key).orderBy("known_from"))
    moments = changes.select(key, landed.alias("known_from")).distinct()
    moments = moments.withColumn("known_to", F.coalesce(following, F.lit(OPEN_END).cast("timestamp")))
    # The member as it is known from one moment to the next is derived like a member of its own.
    known = changes.join(moments, on=key).where(landed <= F.col("known_from"))
    versions = dimension.derive(known.withColumn(key, F.struct(key, "known_from", "known_to")))
    row = (key, *(attribute.name for attribute in dimension.attributes), "valid_from", "valid_to")
    renamed = versions.withColumnsRenamed({"effective_date": "valid_from", "expiry_date": "valid_to"})
    rows = renamed.withColumn("_known", F.col(key)).select(
        f"{key}.{key}", *row[1:], "_known.known_from", "_known.known_to"
    )
    in_order = Window.partitionBy(*row).orderBy("known_from")
    is_other = ~F.lag("known_to").over(in_order).eqNullSafe(F.col("known_from"))
    numbered = rows.withColumn("_other", is_other.cast("int")).withColumn("_run", F.sum("_other").over(in_order))
    known_while = numbered.groupBy(*row, "_run").agg(
        F.min("known_from").alias("known_from"), F.max("known_to").alias("known_to")
    )
    return known_while.drop("_run")
