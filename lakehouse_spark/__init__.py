"""The open trading-data lakehouse on PySpark and Apache Iceberg."""

__version__ = "0.1.0"
