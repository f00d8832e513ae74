"""What a session does without."""

import threading
from typing import Any

from pyspark.sql import SparkSession

from lakehouse_spark.lake.session import join_session


def test_files_of_tables_are_read_without_the_defaults_of_mapreduce_and_yarn(spark: SparkSession) -> None:
    java: Any = spark._jvm
    spark.sql("CREATE NAMESPACE IF NOT EXISTS lake.lightened")
    spark.sql("CREATE TABLE lake.lightened.things (a INT) USING iceberg")
    try:
        spark.sql("INSERT INTO lake.lightened.things VALUES (1)")
        assert spark.table("lake.lightened.things").count() == 1
        table = java.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(spark._jsparkSession, "lake.lightened.things")
        for settings in (table.io().getConf(), spark._jsparkSession.sessionState().newHadoopConf()):
            assert list(settings.getValByRegex("^yarn[.]")) == []
            assert settings.size() < 500
            assert settings.get("fs.defaultFS") == "file:///"
        of_thread = java.org.apache.hadoop.fs.statistics.IOStatisticsContext.getCurrentIOStatisticsContext()
        assert of_thread.getIOStatistics().counters().isEmpty()  # of all that it read, as the table's metadata
    finally:
        spark.sql("DROP TABLE lake.lightened.things PURGE")


def test_no_stack_is_walked_to_name_what_runs(spark: SparkSession) -> None:
    names: list[tuple[str, str]] = []

    def look() -> None:
        place = spark.sparkContext._jsc.sc().getCallSite()
        names.append((place.shortForm(), place.longForm()))

    def look_elsewhere() -> None:
        join_session(spark)
        look()

    look()
    assert spark.range(1).collect() == [(0,)]  # PySpark's own name for it would take the place of ours
    look()
    thread = threading.Thread(target=look_elsewhere)
    thread.start()
    thread.join()
    assert names == [("lakehouse", "lakehouse")] * 3
