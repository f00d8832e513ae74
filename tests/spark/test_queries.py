import re

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.lake import queries
from lakehouse_spark.lake.queries import kept, measured
from lakehouse_spark.lake.snapshots import each
from tests.support.executions import counted


def test_rows_are_measured_while_they_are_kept(spark: SparkSession) -> None:
    rows = spark.range(10, numPartitions=3).withColumn("half", F.col("id") / 2)
    measures = {"count": F.count("*"), "odd": F.count_if(F.col("id") % 2 == 1), "most": F.max("half")}

    with counted(spark) as counter, measured(rows, **measures) as (once, found):
        assert found.asDict() == {"count": 10, "odd": 5, "most": 4.5}
        assert len(counter.spent().executions) == 1
        assert once.count() == 10


def test_of_no_rows_there_is_nothing_to_measure(spark: SparkSession) -> None:
    none = spark.range(3).where(F.lit(False))

    with measured(none, count=F.count("*"), ids=F.collect_set("id"), first=F.min("id")) as (rows, found):
        assert found.asDict() == {"count": 0, "ids": [], "first": None}
        assert rows.collect() == []


def test_the_end_of_a_collection_of_javas_is_no_exception(spark: SparkSession) -> None:
    jvm = spark._jvm
    assert jvm is not None
    with counted(spark) as counter:
        letters = jvm.java.util.List.of("a", "b")
        assert [*each(letters)] == ["a", "b"]
        assert counter.spent().thrown == ()
        assert [*letters] == ["a", "b"]  # as Python does it
        assert len(counter.spent().thrown) == 1


def test_kept_rows_are_computed_once(spark: SparkSession) -> None:
    drawn = spark.range(5).withColumn("drawn", F.expr("uuid()"))

    with kept(drawn) as rows:
        assert rows.collect() == rows.collect()
    with measured(drawn, drawn=F.collect_set("drawn")) as (rows, found):
        assert sorted(row["drawn"] for row in rows.collect()) == sorted(found["drawn"])


def test_where_tasks_are_tried_again_the_stored_rows_are_measured(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "_TRIES_ONCE", re.compile("no master at all"))

    with measured(spark.range(10), count=F.count("*"), ids=F.collect_set(F.col("id") % 2)) as (once, found):
        assert (found["count"], sorted(found["ids"]), once.count()) == (10, [0, 1], 10)


@pytest.mark.parametrize(
    ("master", "tries_once"),
    [
        ("local", True),
        ("local[*]", True),
        ("local[2]", True),
        ("local[2,3]", False),
        ("local-cluster[1,1,1024]", False),
        ("spark://host:7077", False),
        ("yarn", False),
        ("k8s://https://host", False),
    ],
)
def test_a_task_is_tried_once_on_one_machine_alone(master: str, tries_once: bool) -> None:
    assert bool(queries._TRIES_ONCE.fullmatch(master)) is tries_once
