"""A Spark session with Delta Lake in place of Iceberg: the same memory, Java options and compression.

Run as a module it makes a Delta table of Parquet files.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from benchmarks import lake, peer_jars
from lakehouse_spark import session

NAME = "delta-spark MERGE"


def open_session() -> SparkSession:
    """Must be the first session of its process: the jars are the JVM's."""
    settings = lake.here(Path("unused"))
    os.environ.update(session.launch_environment(settings))
    conf = {
        **session.launch_conf(settings),
        "spark.jars": ",".join(map(str, peer_jars.delta())),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(settings.spark.shuffle_partitions),
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.appName("benchmark delta")
    for key, value in conf.items():
        builder = builder.config(key, value)
    spark = builder.master(str(settings.spark.master)).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def copy(files: Sequence[str], target: str) -> None:
    """The rows of Parquet files as a Delta table, partitioned by day."""
    spark = open_session()
    spark.read.parquet(*files).write.format("delta").partitionBy("trade_date").save(target)
    spark.stop()


def fork(source: Path, target: Path) -> None:
    """The same table elsewhere, sharing its files: Delta never changes one."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=os.link)


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    copy(told["files"], told["target"])
    print(json.dumps(told["target"]))
