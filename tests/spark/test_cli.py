"""What the command line prints of a query's rows."""

from pyspark.sql import SparkSession

from lakehouse_spark.cli.query import with_instants_as_text


def test_instants_are_printed_in_utc_from_the_year_1_on(spark: SparkSession) -> None:
    rows = spark.sql(
        "SELECT TIMESTAMP'0001-01-01' AS at, TIMESTAMP'2025-01-15 15:30:00.5' AS at, DATE'2025-01-15', 1, NULL"
    )
    printed = with_instants_as_text(rows)
    assert printed.columns == rows.columns
    assert list(printed.collect()[0])[:2] == ["0001-01-01T00:00:00", "2025-01-15T15:30:00.500000"]
    assert list(printed.collect()[0])[3:] == [1, None]
