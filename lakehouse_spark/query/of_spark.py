"""Statements that Spark answers: those which read the catalog's tables, and do nothing else."""

from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.dim.reference_log import LOG
from lakehouse_spark.errors import UsageError
from lakehouse_spark.lake import dimension_records
from lakehouse_spark.silver import rejected_records

_READING = frozenset((
    "Aggregate", "Distinct", "Except", "Filter", "Generate", "GlobalLimit", "Intersect", "Join", "LateralJoin",
    "LocalLimit", "LocalRelation", "Offset", "OneRowRelation", "PipeOperator", "Pivot", "Project",
    "RelationTimeTravel", "RepartitionByExpression", "Sample", "Sort", "SubqueryAlias", "Union", "UnresolvedHaving",
    "UnresolvedHint", "UnresolvedInlineTable", "UnresolvedRelation", "UnresolvedSubqueryColumnAliases",
    "UnresolvedTVFAliases", "UnresolvedTableValuedFunction", "UnresolvedWith", "Unpivot", "WithWindowDefinition",
))  # fmt: skip
"""What Spark's parser makes of questions; whatever else it knows may write or start something."""
_TELLING = ("Show", "Describe")
"""How the commands are called that only tell of tables."""
_CALLING_JAVA = ("reflect", "java_method", "try_reflect")
_CONF = {
    "spark.sql.runSQLOnFiles": "false",  # FROM csv.`/etc/passwd`
    "spark.sql.variable.substitute": "false",  # ${env:…}
}
BITEMPORAL = {f"{name}_bitemporal": dimension for name, dimension in DIMENSIONS.items() if dimension.is_versioned}
"""Views of the dimensions with versions, by their names: what was known when of which days of their members."""
OF_BITEMPORAL = (LOG.name, rejected_records.TABLE.name)
"""The tables that these are made of."""


def read(spark: SparkSession, sql: str) -> DataFrame:
    """The rows that a statement asks for, of tables and of the bitemporal views that it names; raises UsageError where
    it would write, start a program or read other files, before it did."""
    for key, value in _CONF.items():
        spark.conf.set(key, value)
    _forget_functions(spark)
    _refuse_all_but_reading(spark, sql)
    for view, dimension in BITEMPORAL.items():
        if view in sql.lower():
            dimension_records.bitemporal_versions(spark, dimension).createOrReplaceTempView(view)
    return spark.sql(sql)


def _forget_functions(spark: SparkSession) -> None:
    jvm = spark._jvm
    assert jvm is not None
    functions = spark._jsparkSession.sessionState().functionRegistry()
    for name in _CALLING_JAVA:
        functions.dropFunction(jvm.org.apache.spark.sql.catalyst.FunctionIdentifier(name))


def _refuse_all_but_reading(spark: SparkSession, sql: str) -> None:
    plan = spark._jsparkSession.sessionState().sqlParser().parsePlan(sql)
    if _name(plan) == "ExplainCommand":
        plan = plan.logicalPlan()
    if _name(plan) == "DescribeQueryCommand":
        plan = plan.plan()
    elif _name(plan).startswith(_TELLING):
        return
    for node in _nodes(plan):
        if _name(node) not in _READING:
            raise UsageError(
                f"this does more than read: {_name(node)}", "lakehouse query reads tables, and that is all"
            )


def _nodes(plan: Any) -> Iterator[Any]:
    """A plan and all that is in it, as subqueries."""
    yield plan
    for below in (plan.children(), plan.innerChildren()):
        for place in range(below.size()):
            yield from _nodes(below.apply(place))


def _name(plan: Any) -> str:
    return str(plan.getClass().getSimpleName())
