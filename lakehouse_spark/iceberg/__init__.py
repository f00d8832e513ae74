"""Iceberg's catalog, metadata and files read without Spark: for what only looks, and has no time to start a JVM."""
