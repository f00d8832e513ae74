"""A session on the lakehouse that the settings name."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

from lakehouse_spark.catalog import TOPICS
from lakehouse_spark.lake.session import open_session
from lakehouse_spark.local import broker
from lakehouse_spark.settings import Settings, load


@contextmanager
def opened(
    name: str, settings: Settings | None = None, *, with_kafka: bool = False
) -> Iterator[tuple[SparkSession, Settings]]:
    settings = settings or load()
    if with_kafka and (settings.root / "kafka").exists():
        with broker.serving(settings, TOPICS) as connected:
            yield open_session(connected, name), connected
    else:
        yield open_session(settings, name), settings
