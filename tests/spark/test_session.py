"""What a session does without."""

from pyspark.sql import SparkSession


def test_files_of_tables_are_read_without_the_defaults_of_mapreduce_and_yarn(spark: SparkSession) -> None:
    spark.sql("CREATE NAMESPACE IF NOT EXISTS lake.lightened")
    spark.sql("CREATE TABLE lake.lightened.things (a INT) USING iceberg")
    try:
        spark.sql("INSERT INTO lake.lightened.things VALUES (1)")
        assert spark.table("lake.lightened.things").count() == 1
        spark3_util = getattr(spark._jvm, "org.apache.iceberg.spark.Spark3Util")
        table = spark3_util.loadIcebergTable(spark._jsparkSession, "lake.lightened.things")
        for settings in (table.io().getConf(), spark._jsparkSession.sessionState().newHadoopConf()):
            assert list(settings.getValByRegex("^yarn[.]")) == []
            assert settings.size() < 500
            assert settings.get("fs.defaultFS") == "file:///"
    finally:
        spark.sql("DROP TABLE lake.lightened.things PURGE")
