"""A lakehouse on servers: those of the tests, or those that LAKEHOUSE_TEST_… names as LAKEHOUSE_… would."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.catalog import LAYERS, TABLES
from lakehouse_spark.iceberg import pyiceberg
from lakehouse_spark.lake import session
from lakehouse_spark.settings import Settings, load
from lakehouse_spark.table import CATALOG

_PREFIX = "LAKEHOUSE_TEST_"


@contextmanager
def named_by_the_environment() -> Iterator[dict[str, str]]:
    """The variables as they would name the lakehouse, which no other test sees."""
    given = {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}
    with pytest.MonkeyPatch.context() as patch:
        for name in given:
            patch.delenv(name)
        yield {f"LAKEHOUSE_{name.removeprefix(_PREFIX)}": value for name, value in given.items()}


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings of a process that has these variables too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return load()


def connect(spark: SparkSession, settings: Settings) -> SparkSession:
    """A session of its own on the lakehouse that the settings name."""
    own = spark.newSession()
    for name, value in session.spark_conf(settings).items():
        if name.startswith(f"spark.sql.catalog.{CATALOG}"):
            own.conf.set(name, value)
    own.sql(f"SHOW NAMESPACES IN {CATALOG}")  # opens it by this conf: Iceberg would, by that of the active session
    return own


@contextmanager
def emptied(settings: Settings) -> Iterator[None]:
    """Leaves a lakehouse on someone's servers behind as it was found, which has to be empty."""
    catalog = pyiceberg.open_catalog(settings)
    found = {name for (name, *_) in catalog.list_namespaces()} & {*LAYERS}
    assert not found, f"{settings.catalog.uri}: has namespaces {found}: the tests want a catalog without"
    yield
    for table in TABLES:
        if catalog.table_exists(table.name):
            catalog.purge_table(table.name)
    for name in LAYERS:
        if catalog.namespace_exists(name):
            catalog.drop_namespace(name)
