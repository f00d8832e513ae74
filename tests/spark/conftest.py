"""Lakehouses for the tests that need no broker: an empty one for each test, and one migrated one to read."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.support.lake import Lake
from tests.support.lakehouses import connect


@pytest.fixture
def sessions(spark: SparkSession, tmp_path: Path) -> Callable[[], SparkSession]:
    """Opens sessions on one lakehouse, empty at first."""
    return lambda: connect(spark, tmp_path / "home")


@pytest.fixture(scope="session")
def migrated(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> SparkSession:
    """A lakehouse migrated on 2025-06-01, to be read only."""
    return Lake.migrated(spark, "127.0.0.1:9", tmp_path_factory.mktemp("migrated")).spark
