"""Rows of Python's as DataFrames."""

from datetime import UTC, date, datetime
from decimal import Decimal

from pyspark.sql import SparkSession

from lakehouse_spark.lake import frames

KINDS = "t string, n long, p decimal(18,6), d date, at timestamp, b binary, m map<string,string>, a array<int>"
AT = datetime(2025, 6, 1, 12, 0, 0, 7, tzinfo=UTC)
ROWS = [
    ("é|", 2**62, Decimal("0.000001"), date(1900, 1, 1), AT, b"\x00\xff", {"a": None, "b": ""}, [1, 2]),
    (None, None, None, None, None, None, None, None),
]


def test_rows_are_as_they_were_given_and_no_python_reads_them(spark: SparkSession) -> None:
    made = frames.of_rows(spark, ROWS, KINDS)
    assert made.dtypes == spark.createDataFrame([], KINDS).dtypes
    first, second = made.withColumn("at", made["at"].cast("string")).collect()
    assert tuple(first) == (*ROWS[0][:4], "2025-06-01 12:00:00.000007", *ROWS[0][5:])
    assert tuple(second) == ROWS[1]
    assert str(made._jdf.queryExecution().analyzed().getClass().getSimpleName()) == "LocalRelation"


def test_no_rows_have_their_columns_too(spark: SparkSession) -> None:
    none = frames.of_rows(spark, [], KINDS)
    assert (none.columns, none.collect()) == (["t", "n", "p", "d", "at", "b", "m", "a"], [])
