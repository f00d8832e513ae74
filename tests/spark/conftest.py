"""Lakehouses for the tests that need no broker: an empty one for each test, and one migrated one to read."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.migrations import migrate
from lakehouse_spark.settings import Settings
from tests.support.lake import Lake
from tests.support.lakehouses import connect

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
def sessions(spark: SparkSession, tmp_path: Path) -> Callable[[], SparkSession]:
    """Opens sessions on one lakehouse, empty at first."""
    return lambda: connect(spark, tmp_path / "home")


@pytest.fixture(scope="session")
def migrated(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> SparkSession:
    """A lakehouse migrated on 2025-06-01, to be read only."""

    def make(own: SparkSession) -> None:
        done = [migration.version for migration in migrate(own, Settings(), NOW)]
        assert done == ["V001", "V002", "V003", "V004", "V005", "V006", "V007"]

    return Lake.copied(spark, "127.0.0.1:9", tmp_path_factory.mktemp("migrated"), "migrated in June", make).spark
