"""Each domain type once."""

from pyspark.sql import types as T

TEXT = T.StringType()
INTEGER = T.IntegerType()
LONG = T.LongType()
DOUBLE = T.DoubleType()
FLAG = T.BooleanType()
BYTES = T.BinaryType()
DATE = T.DateType()
INSTANT = T.TimestampType()
"""A moment in UTC, to the microsecond."""

PRICE = T.DecimalType(18, 6)
"""Prices, notional values and P&L, in the trading currency."""

PERCENT = T.DecimalType(10, 4)
RATIO = T.DecimalType(10, 6)
RATE = T.DecimalType(5, 4)
"""A share between 0 and 1."""

TEXTS = T.ArrayType(T.StringType())
HEADERS = T.ArrayType(T.StructType([T.StructField("key", T.StringType()), T.StructField("value", T.BinaryType())]))
"""The headers of a Kafka record in its order: a key may be there twice, a value be empty or NULL."""
