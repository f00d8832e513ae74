"""Rows of Python's as DataFrames."""

from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.conversion import LocalDataToArrowConversion
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType


def of_rows(spark: SparkSession, rows: Sequence[tuple[Any, ...]], schema: StructType | str) -> DataFrame:
    """The rows as the JVM holds them: those that Spark gets as rows of Python, a Python of their own reads, in each job
    anew."""
    kind = StructType.fromDDL(schema) if isinstance(schema, str) else schema
    assert isinstance(kind, StructType)
    table = (
        LocalDataToArrowConversion.convert([*rows], kind, use_large_var_types=False)
        if rows
        else to_arrow_schema(kind).empty_table()
    )
    return spark.createDataFrame(table, kind)
