"""The jars that only peers need, locked like the project's own; run as a module it derives the lock anew."""

from pathlib import Path

from lakehouse_spark import jars
from lakehouse_spark.settings import load

_HERE = Path(__file__).resolve().parent
_LOCK = _HERE / "jars.lock"
# Kafka Connect's Iceberg sink wants a Hadoop beside it; PySpark brings one.
_HADOOP = ("hadoop-client-api-*.jar", "hadoop-client-runtime-*.jar")


def delta() -> list[Path]:
    """What joins Spark's class path for Delta tables."""
    return _ensure("delta")


def connect() -> list[Path]:
    """The class path of a Kafka Connect worker with the Iceberg sink on an SQLite catalog."""
    sqlite = [path for path in _ensure("spark", jars.LOCK) if "sqlite" in path.name]
    hadoop = [path for pattern in _HADOOP for path in jars.SPARK_JARS.glob(pattern)]
    return [*_ensure("broker"), *sqlite, *hadoop]


def _ensure(group: str, lock: Path = _LOCK) -> list[Path]:
    settings = load()
    return jars.ensure([group], settings.jar_cache, settings.java, lock=lock, announce=print)[group]


if __name__ == "__main__":
    jars.relock(jars.find_java(load().java), _HERE / "jars.direct", _LOCK)
