"""Members of a dimension beside those that good records make: inferred ones, and ones with rejected records alone."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.bronze.raw_reference import UNREADABLE
from lakehouse_spark.dim.dimension import Dimension, with_reasons
from lakehouse_spark.transforms import scd_type2
from lakehouse_spark.types import TEXTS


def with_inferred(dimension: Dimension, versions: DataFrame, held: DataFrame, wanted: DataFrame | None) -> DataFrame:
    """The versions, and inferred members in the gaps where one of the `held` rows began before or that hold a `wanted`
    day (natural key, `first_day`, `last_day`)."""
    key = dimension.natural_key
    first = F.col("effective_date")  # the rest of a range that real versions split is inferred where facts need it
    asked = held.where("is_inferred").select(key, first.alias("first_day"), first.alias("last_day"))
    if wanted is not None:
        asked = asked.unionByName(wanted.select(key, "first_day", "last_day"))
    gaps = scd_type2.gaps(versions, asked, key=key)
    attributes = {
        a.name: F.col(key) if a.name in dimension.name_columns else F.lit(None).cast(a.dataType)
        for a in dimension.attributes
    }
    inferred = gaps.withColumns(attributes)
    tracked = [a.name for a in dimension.attributes if a.name not in dimension.untracked]
    inferred = inferred.withColumns(
        {
            "is_current": F.col("expiry_date") == F.lit(scd_type2.OPEN_END),
            "_row_hash": scd_type2.row_hash(tracked),
            "is_inferred": F.lit(True),
        }
    )
    return versions.withColumn("is_inferred", F.lit(False)).unionByName(inferred)


def less_what_breaks(dimension: Dimension, members: DataFrame, log: DataFrame) -> DataFrame:
    """Rows of members all of whose records (in `log`) are rejected, less the values that break a rule, or less all of
    them where a record of the member cannot be read."""
    key = dimension.natural_key
    reasons = with_reasons(log, dimension).select(F.col("natural_key").alias(key), F.explode("_reasons").alias("_code"))
    broken = reasons.groupBy(key).agg(F.collect_set("_code").alias("_broken"))
    marked = members.join(broken, on=key, how="left")
    marked = marked.withColumn("_broken", F.coalesce("_broken", F.array().cast(TEXTS)))

    def value(name: str) -> Column:
        offending = F.array(*map(F.lit, (f"invalid_{dimension.aliases.get(name, name)}", *UNREADABLE)))
        return F.when(~F.arrays_overlap("_broken", offending), F.col(name)).alias(name)

    return marked.select(key, *(value(name) for name in members.columns if name != key))


def rejected(dimension: Dimension, derived: DataFrame, held: DataFrame) -> DataFrame:
    """The held rows of members that no good record makes."""
    key = dimension.natural_key
    return held.join(derived.select(key), on=key, how="left_anti")


def with_rejected(dimension: Dimension, derived: DataFrame, held: DataFrame, log: DataFrame) -> DataFrame:
    """The derived rows of a dimension without versions, and the held ones of members that no good record makes any
    more, less what breaks a rule."""
    lacking = rejected(dimension, derived, held).select(*derived.columns)
    return derived.unionByName(less_what_breaks(dimension, lacking, log))


def unknown_names(dimension: Dimension) -> Column:
    """Names in a Kafka record that no column has; NULL for a file's, whose columns are looked at before it lands."""
    known = F.array(*map(F.lit, ("dimension", *dimension.feed_columns)))
    return F.when(F.col("_kafka_topic").isNotNull(), F.array_except(F.map_keys("attributes"), known))
