"""The open trading-data lakehouse on PySpark and Apache Iceberg."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lakehouse-spark")
except PackageNotFoundError:  # an executor that was sent the code, not the package
    __version__ = "unknown"
