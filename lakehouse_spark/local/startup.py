"""The start-up archive: a JVM keeps the classes of a lakehouse's work, so that later ones find them made.

Java calls it class data sharing (JEP 350): `-XX:ArchiveClassesAtExit` writes it, `-XX:SharedArchiveFile` reads it, and
one that does not fit the JVM or its jars is passed over.
"""

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from pyspark import SparkContext

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.lake import session
from lakehouse_spark.migrations import baseline
from lakehouse_spark.settings import CatalogSettings, Settings, conf_dir

_OF_EXCHANGES = (
    "bronze.raw_reference", "silver._rejected_records", "dim.dim_exchange", "_metadata.surrogate_keys",
    "_metadata.retired_keys",
)  # fmt: skip


def make_archive(settings: Settings, announce: Callable[[str], None]) -> Path:
    """Makes an empty lakehouse with its exchanges somewhere else and archives what that took: some 200 MB.

    In a process that has no session yet. Raises UsageError where Spark does not run in one JVM on this machine.
    """
    if not session.is_local(settings):
        raise UsageError(
            "warm-up: a start-up archive is for Spark in one JVM, "
            f"LAKEHOUSE_SPARK__MASTER is {settings.spark.master}; expected local[…]"
        )
    archive = session.startup_archive(settings, session.class_path(settings, announce))
    archive.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=archive.parent) as folder:
        made = Path(folder) / archive.name
        options = "spark.driver.extraJavaOptions"
        archiving = (
            f'{session.launch_conf(settings, archived=False)[options]} -XX:ArchiveClassesAtExit="{made}" -Xlog:cds*=off'
        )
        spark_settings = settings.spark.model_copy(update={"conf": {**settings.spark.conf, options: archiving}})
        elsewhere = settings.model_copy(
            update={"home": Path(folder), "catalog": CatalogSettings(), "spark": spark_settings}
        )
        spark = session.open_session(elsewhere, "warm-up", announce=announce)
        baseline.create_tables(spark, [table for table in TABLES if table.name in _OF_EXCHANGES])
        baseline.seed_exchanges(spark, conf_dir())
        spark.stop()
        java = SparkContext._gateway.proc  # type: ignore[union-attr]
        java.stdin.close()  # by which it knows that it is no longer needed
        if java.wait() or not made.exists():
            raise LakehouseError(f"warm-up: Java {java.args[0]} made no archive, and goes on without one")
        with made.open("rb") as file:
            os.fsync(file.fileno())  # a torn one would end each JVM that begins with it
        made.replace(archive)
    return archive
