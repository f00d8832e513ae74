"""Many small manifests into few, in the order of the partitions."""

from pyspark.sql import SparkSession

from lakehouse_spark.table import CATALOG, Table


def carry_out(spark: SparkSession, table: Table) -> None:
    """Iceberg's own procedure: it writes no data, and its commit is one that every writer may carry its own over."""
    call = f"CALL {CATALOG}.system.rewrite_manifests(table => '{table.name}', use_caching => false)"
    spark.sql(call).collect()
