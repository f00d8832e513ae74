"""The tables themselves: keys, declarations and files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from lakehouse_spark import commit
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import Table
from lakehouse_spark.verify.finding import Finding, repeated


def keys_are_unique(spark: SparkSession, settings: Settings) -> Iterator[Finding]:
    """Every table's key identifies one row."""
    for table in TABLES:
        if not table.key:
            continue
        again = repeated(spark.table(table.identifier), table.key)
        yield Finding(f"unique {', '.join(table.key)}", table.name, again, f"{again} keys with several rows")


def declarations_hold(spark: SparkSession, settings: Settings) -> Iterator[Finding]:
    """Schemas, partition specs, sort orders and properties are as declared."""
    for table in TABLES:
        differences = list(_differences(spark, table))
        yield Finding("as declared", table.name, len(differences), "; ".join(differences) or "as declared")


def _differences(spark: SparkSession, table: Table) -> Iterator[str]:
    if spark.table(table.identifier).schema != table.schema:
        yield "the schema differs"
    iceberg = commit.load(spark, table)
    held = {str(name): str(value) for name, value in dict(iceberg.properties()).items()}
    held["format-version"] = str(iceberg.operations().current().formatVersion())
    for name, value in table.all_properties.items():
        if held.get(name) != value:
            yield f"property {name} is {held.get(name)!r}, declared {value!r}"
    schema = iceberg.schema()
    partitioning = [
        _transform(str(part.transform()), schema.findColumnName(part.sourceId())) for part in iceberg.spec().fields()
    ]
    if partitioning != list(table.partitioned_by):
        yield f"partitioned by {partitioning}, declared {list(table.partitioned_by)}"
    order = [schema.findColumnName(part.sourceId()) for part in iceberg.sortOrder().fields()]
    if order != list(table.sorted_by):
        yield f"sorted by {order}, declared {list(table.sorted_by)}"


def _transform(transform: str, column: str) -> str:
    """Iceberg's `bucket[16]` of symbol as a declaration writes it: `bucket(16, symbol)`."""
    if transform == "identity":
        return column
    name, _, argument = transform.rstrip("]").partition("[")
    return f"{name}({argument}, {column})" if argument else f"{name}s({column})"


def files_exist(spark: SparkSession, settings: Settings) -> Iterator[Finding]:
    """Every file that a live snapshot references exists."""
    for table in TABLES:
        live = {_path(path) for path in _referenced(spark, table)}
        gone = live - _there(commit.load(spark, table), live)
        detail = f"{len(live):,} files" if not gone else f"missing: {', '.join(sorted(gone)[:3])}"
        yield Finding("every referenced file exists", table.name, len(gone), detail)


def _there(iceberg: Any, paths: set[str]) -> set[str]:
    """Those of the paths that exist; in a bucket one listing answers for nearly all."""
    local = {path for path in paths if path.startswith("/") and Path(path).exists()}
    rest = {path for path in paths if not path.startswith("/")}
    listing = _each(iceberg.io().listPrefix(iceberg.location())) if rest else ()
    missing = rest.difference(_path(str(file.location())) for file in listing)
    return local | rest - {path for path in missing if not iceberg.io().newInputFile(path).exists()}


def _referenced(spark: SparkSession, table: Table) -> set[str]:
    """Paths of the data and delete files, manifests and manifest lists of all snapshots."""
    named = (("all_files", "file_path"), ("all_manifests", "path"), ("snapshots", "manifest_list"))
    files, manifests, lists = (spark.table(f"{table.identifier}.{view}").select(column) for view, column in named)
    return {row[0] for row in files.union(manifests).union(lists).collect() if row[0]}


def _each(items: Any) -> Iterator[Any]:
    iterator = items.iterator()
    while iterator.hasNext():
        yield iterator.next()


def _path(location: str) -> str:
    """One spelling for the same file: `file:/x`, `file:///x` and `/x` are one."""
    return "/" + location.removeprefix("file:").lstrip("/") if location.startswith(("file:", "/")) else location
