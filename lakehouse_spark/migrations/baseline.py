"""What a new lakehouse starts with: the tables as declared, the exchanges, and the minutes of some years."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pyspark.sql import SparkSession

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.dim import dim_exchange
from lakehouse_spark.ingest import reference_files
from lakehouse_spark.lake import calendar, change_log, commit, dimension_members
from lakehouse_spark.schema import ddl
from lakehouse_spark.settings import Settings, conf_dir
from lakehouse_spark.table import Table

EXCHANGES = Path("reference") / "exchanges.csv"


def create_tables(spark: SparkSession, tables: Sequence[Table] | None = None) -> None:
    """Every namespace, and these tables, by default all, each with one snapshot to build on; what is there stays."""
    for statement in ddl.create_namespaces():
        spark.sql(statement)
    for table in TABLES if tables is None else tables:
        for statement in ddl.create_table(table):
            spark.sql(statement)
        commit.open_table(spark, table)


def fill(spark: SparkSession, settings: Settings, now: datetime) -> None:
    """The exchanges, and the years that the settings name: by default last year and this one, in UTC."""
    seed_exchanges(spark, conf_dir())
    calendar.fill(spark, settings.dim_time.years or (now.year - 1, now.year))


def seed_exchanges(spark: SparkSession, conf_dir: Path) -> None:
    """Enters the reference file's exchanges into the change log, once, and derives `dim_exchange` from it."""
    if change_log.is_empty(spark, dim_exchange.DIMENSION):
        reference_files.load(spark, dim_exchange.DIMENSION, [str(conf_dir / EXCHANGES)])
    dimension_members.apply(spark, dim_exchange.DIMENSION)
