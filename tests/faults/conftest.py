"""What disturbs a lakehouse, and one that nothing disturbs; which lakehouse it is, each file says."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.settings import Settings
from tests.support.child import MADE, Children
from tests.support.lake import Lake


@pytest.fixture
def children(settings: Settings, lake: Lake, tmp_path: Path) -> Iterator[Children]:
    """Processes that work on the lakehouse; those that still do at the end are killed."""
    update = {"cache": settings.jar_cache, "spark": settings.spark}
    started = Children(lake.settings.model_copy(update=update), tmp_path)
    yield started
    for child in started.all:
        child.kill()


@pytest.fixture
def undisturbed(spark: SparkSession, lake: Lake, tmp_path: Path) -> Lake:
    """Another lakehouse on the same topic."""
    servers = str(lake.settings.kafka.bootstrap_servers)
    return Lake.new(spark, servers, tmp_path / "undisturbed", MADE).on_topics_of(lake)
