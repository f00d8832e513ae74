"""Every namespace and table, each with one snapshot to build on; the exchanges; last year and this one."""  # noqa: N999

from datetime import datetime
from pathlib import Path

from pyspark.sql import SparkSession

from lakehouse_spark import commit, ddl
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.migrations.seeds import seed_exchanges, seed_time


def apply(spark: SparkSession, now: datetime, conf_dir: Path) -> None:
    for statement in ddl.create_namespaces():
        spark.sql(statement)
    for table in TABLES:
        for statement in ddl.create_table(table):
            spark.sql(statement)
        commit.open_table(spark, table)
    seed_exchanges(spark, conf_dir)
    seed_time(spark, (now.year - 1, now.year))
