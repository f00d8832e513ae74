"""Every namespace and table, each with one snapshot to build on; the exchanges; the minutes of the configured years."""  # noqa: N999

from datetime import datetime

from pyspark.sql import SparkSession

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.lake import commit
from lakehouse_spark.migrations.seeds import seed_exchanges, seed_time
from lakehouse_spark.schema import ddl
from lakehouse_spark.settings import Settings, conf_dir


def apply(spark: SparkSession, settings: Settings, now: datetime) -> None:
    for statement in ddl.create_namespaces():
        spark.sql(statement)
    for table in TABLES:
        for statement in ddl.create_table(table):
            spark.sql(statement)
        commit.open_table(spark, table)
    seed_exchanges(spark, conf_dir())
    seed_time(spark, settings.dim_time.years or (now.year - 1, now.year))
