"""The tables themselves: keys, declarations and files."""

from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.errors import UsageError
from lakehouse_spark.lake import snapshots
from lakehouse_spark.lake.queries import counts
from lakehouse_spark.schema.drift import drift
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import Table
from lakehouse_spark.verify.finding import Finding, repeated


def keys_are_unique(spark: SparkSession, settings: Settings, tables: Sequence[Table] = ()) -> Iterator[Finding]:
    """Every table's key identifies one row."""
    keyed = [table for table in tables or TABLES if table.key]
    found = counts({table.name: repeated(spark.table(table.identifier), table.key) for table in keyed})
    for table in keyed:
        again = found[table.name]
        yield Finding(f"unique {', '.join(table.key)}", table.name, again, f"{again} keys with several rows")


_SCANS = 5
"""Tables that one query reads through: one for all would plan for seconds, one for each would wait for its start."""


def texts_are_utf8(spark: SparkSession, settings: Settings, tables: Sequence[Table] = ()) -> Iterator[Finding]:
    """Every string of every row is valid UTF-8, wherever it stands: only Spark can read others."""
    looked_at = tables or TABLES
    for first in range(0, len(looked_at), _SCANS):
        some = looked_at[first : first + _SCANS]
        broken = counts({table.name: spark.table(table.identifier).where(_holds_bad_text(table)) for table in some})
        for table in some:
            number = broken[table.name]
            detail = "all strings are UTF-8" if not number else f"{number:,} rows hold a string that is not UTF-8"
            yield Finding("text is valid UTF-8", table.name, number, detail)


def _holds_bad_text(table: Table) -> Column:
    return reduce(Column.__or__, (_is_bad_text(F.col(c.name), c.dataType) for c in table.columns), F.lit(False))


def _is_bad_text(value: Column, kind: T.DataType) -> Column:
    """Whether a value holds a string that is not UTF-8, at any depth; False for NULL."""
    match kind:
        case T.StringType():
            bad = ~F.is_valid_utf8(value)
        case T.ArrayType():
            bad = F.exists(value, lambda part: _is_bad_text(part, kind.elementType))
        case T.MapType():
            keys = _is_bad_text(F.map_keys(value), T.ArrayType(kind.keyType))
            bad = keys | _is_bad_text(F.map_values(value), T.ArrayType(kind.valueType))
        case T.StructType():
            bad = reduce(Column.__or__, (_is_bad_text(value[f.name], f.dataType) for f in kind.fields), F.lit(False))
        case _:
            return F.lit(False)
    return F.coalesce(bad, F.lit(False))


def declarations_hold(spark: SparkSession, settings: Settings, tables: Sequence[Table] = ()) -> Iterator[Finding]:
    """Columns, partition specs, sort orders and properties are as declared; else, the changes that would make them so.

    Only catalogs that PyIceberg opens are checked.
    """
    from lakehouse_spark.iceberg import found, pyiceberg  # which no other command waits for

    check = "as declared"
    try:
        catalog = pyiceberg.open_catalog(settings)
    except UsageError as error:
        yield from (Finding(check, table.name, None, f"not checked: {error}") for table in tables or TABLES)
        return
    for table in tables or TABLES:
        differences = drift(table, found.read(pyiceberg.load(catalog, table))).sentences
        yield Finding(check, table.name, len(differences), "; ".join(differences) or check)


def files_exist(spark: SparkSession, settings: Settings, tables: Sequence[Table] = ()) -> Iterator[Finding]:
    """Every file that a live snapshot references exists."""
    referenced = _referenced(spark, tables or TABLES)
    for table in tables or TABLES:
        live = {_path(path) for path in referenced[table.name]}
        gone = live - _there(snapshots.load(spark, table), live)
        detail = f"{len(live):,} files" if not gone else f"missing: {', '.join(sorted(gone)[:3])}"
        yield Finding("every referenced file exists", table.name, len(gone), detail)


def _there(iceberg: Any, paths: set[str]) -> set[str]:
    """Those of the paths that exist; in a bucket one listing answers for nearly all."""
    local = {path for path in paths if path.startswith("/") and Path(path).exists()}
    rest = {path for path in paths if not path.startswith("/")}
    listing = _each(iceberg.io().listPrefix(iceberg.location())) if rest else ()
    missing = rest.difference(_path(str(file.location())) for file in listing)
    return local | rest - {path for path in missing if not iceberg.io().newInputFile(path).exists()}


def _referenced(spark: SparkSession, tables: Sequence[Table]) -> dict[str, set[str]]:
    """By table the paths of the data and delete files, manifests and manifest lists of all snapshots."""
    named = (("all_files", "file_path"), ("all_manifests", "path"), ("snapshots", "manifest_list"))
    paths = [
        spark.table(f"{table.identifier}.{view}").select(F.lit(table.name).alias("name"), F.col(path).alias("path"))
        for table in tables
        for view, path in named
    ]
    found: dict[str, set[str]] = {table.name: set() for table in tables}
    for row in reduce(DataFrame.union, paths).where(F.col("path").isNotNull()).collect():
        found[row["name"]].add(row["path"])
    return found


def _each(items: Any) -> Iterator[Any]:
    iterator = items.iterator()
    while iterator.hasNext():
        yield iterator.next()


def _path(location: str) -> str:
    """One spelling for the same file: `file:/x`, `file:///x` and `/x` are one."""
    return "/" + location.removeprefix("file:").lstrip("/") if location.startswith(("file:", "/")) else location
