"""A Spark session with Delta Lake in place of Iceberg: the same memory, Java options and compression.

Run as a module it makes a Delta table of Parquet files.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from benchmarks import contents, lake, peer_jars
from benchmarks.contents import Columns, Result
from lakehouse_spark.lake import session

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


def copy(files: Sequence[str], target: str, by: Sequence[str]) -> None:
    """The rows of Parquet files as a Delta table, partitioned by the columns `by`."""
    spark = open_session()
    spark.read.parquet(*files).write.format("delta").partitionBy(*by).save(target)
    spark.stop()


def fork(source: Path, target: Path) -> None:
    """The same table elsewhere, sharing its files: Delta never changes one."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=os.link)


def result(spark: SparkSession, table: Path, source: Path, digests: Mapping[str, Columns]) -> Result:
    """The rows of a fork; files and commits are those it has and `source` has not."""
    before = {path.name for path in source.rglob("*") if path.is_file()}
    rows = spark.read.format("delta").load(str(table))
    files = [Path(contents.local(file)) for file in rows.inputFiles()]
    made = contents.of_parquet(files, digests)
    new = [file for file in files if file.name not in before]
    commits = [file for file in (table / "_delta_log").glob("*.json") if file.name not in before]
    size = sum(file.stat().st_size for file in new) / 2**20
    return Result(made.digests, len(new), round(size, 2), len(commits))


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    copy(told["files"], told["target"], told["by"])
    print(json.dumps(told["target"]))
