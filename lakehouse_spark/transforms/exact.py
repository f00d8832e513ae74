"""Sums and quotients of decimals and counts: exact or in double, rounded HALF_UP once, NULL beyond the type."""

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.types import PRICE

_COUNT = T.DecimalType(38, 0)
_SUM = T.DecimalType(38, 6)  # divided by a count, it has six digits at once: more would be rounded twice


def total(values: Column, kind: T.DataType = PRICE) -> Column:
    """The sum, as an aggregate."""
    return F.try_sum(values).try_cast(kind)


def mean(values: Column) -> Column:
    """The exact mean of the values that are there, as an aggregate; NULL without any."""
    return quotient(F.try_sum(values), F.count(values))


def quotient(numerator: Column, denominator: Column) -> Column:
    """A sum of at most six decimal places by a count or a number of shares, to six places; NULL where the denominator
    is zero or missing."""
    return F.try_divide(numerator.try_cast(_SUM), F.nullif(denominator.cast(_COUNT), F.lit(0))).try_cast(PRICE)


def ratio(numerator: Column, denominator: Column, kind: T.DecimalType) -> Column:
    """A quotient in double; NULL where the denominator is zero or missing."""
    divided = F.try_divide(numerator.cast("double"), denominator.cast("double"))
    return rounded(divided, kind)


def percent(part: Column, whole: Column, kind: T.DecimalType) -> Column:
    """Like `ratio`, in percent."""
    hundredfold = F.coalesce(F.try_multiply(F.lit(100), part).cast("double"), part.cast("double") * 100)
    return ratio(hundredfold, whole, kind)


def rounded(value: Column, kind: T.DecimalType) -> Column:
    """A double as a decimal; NULL for NaN and what does not fit."""
    return F.when(~F.isnan(value), value).try_cast(kind)
