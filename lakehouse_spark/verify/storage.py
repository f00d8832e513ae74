"""The tables themselves: keys, declarations and files."""

from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse_spark.errors import UsageError
from lakehouse_spark.iceberg import difference
from lakehouse_spark.lake.queries import counts
from lakehouse_spark.schema.drift import drift
from lakehouse_spark.table import Table
from lakehouse_spark.verify.finding import Finding, repeated
from lakehouse_spark.verify.look import Look


def keys_are_unique(looks: Sequence[Look]) -> Iterator[Finding]:
    """Every table's key identifies one row."""
    keyed = [look for look in looks if look.table.key]
    found = counts({look.table.name: repeated(_with_gained_keys(look), look.table.key) for look in keyed})
    for table in (look.table for look in keyed):
        again = found[table.name]
        yield Finding(f"unique {', '.join(table.key)}", table.name, again, f"{again} keys with several rows")


def _with_gained_keys(look: Look) -> DataFrame:
    """All rows of every key that a row may have which was gained since the proof: no other can have become several."""
    table = look.table
    for column in (table.stamp, table.day_column):
        if column in table.key:
            return look.like_gained(column)
    gained = look.gained()
    if not look.is_of_new:
        return gained
    keys = gained.select(*(F.col(name).alias(f"_{name}") for name in table.key)).distinct()
    is_same = reduce(Column.__and__, (F.col(name).eqNullSafe(F.col(f"_{name}")) for name in table.key))
    return look.rows().join(keys, on=is_same, how="left_semi")


_SCANS = 5
"""Tables that one query reads through: one for all would plan for seconds, one for each would wait for its start."""


def texts_are_utf8(looks: Sequence[Look]) -> Iterator[Finding]:
    """Every string of every row is valid UTF-8, wherever it stands: only Spark can read others."""
    for first in range(0, len(looks), _SCANS):
        some = looks[first : first + _SCANS]
        broken = counts({look.table.name: look.gained().where(_holds_bad_text(look.table)) for look in some})
        for table in (look.table for look in some):
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


def declarations_hold(looks: Sequence[Look]) -> Iterator[Finding]:
    """Columns, partition specs, sort orders and properties are as declared; else, the changes that would make them so.

    Only catalogs that PyIceberg opens are checked.
    """
    from lakehouse_spark.iceberg import found, pyiceberg  # which no other command waits for

    check, tables = "as declared", [look.table for look in looks]
    try:
        catalog = pyiceberg.open_catalog(looks[0].settings)
    except UsageError as error:
        yield from (Finding(check, table.name, None, f"not checked: {error}") for table in tables)
        return
    for table in tables:
        differences = drift(table, found.read(pyiceberg.load(catalog, table))).sentences
        yield Finding(check, table.name, len(differences), "; ".join(differences) or check)


def files_exist(looks: Sequence[Look]) -> Iterator[Finding]:
    """Every file that a live snapshot references exists."""
    referenced = {look.table.name: new for look in looks if (new := _referenced_since(look)) is not None}
    referenced |= _referenced([look for look in looks if look.table.name not in referenced])
    for look in looks:
        live = {_path(path) for path in referenced[look.table.name]}
        gone = live - _there(look.pin().iceberg, live)
        detail = f"{len(live):,} files" if not gone else f"missing: {', '.join(sorted(gone)[:3])}"
        yield Finding("every referenced file exists", look.table.name, len(gone), detail)


def _referenced_since(look: Look) -> set[str] | None:
    """The files that commits wrote since the proof; None: all have to be looked for."""
    before = look.before()
    known = look.moment.metadata.get(look.table.name)
    if before is None or before.snapshot is None or known is None:
        return None
    found = difference.paths(known, before.snapshot)
    look.is_of_new = found is not None
    return found


_ASKED_FOR_ONE_BY_ONE = 100


def _there(iceberg: Any, paths: set[str]) -> set[str]:
    """Those of the paths that exist; in a bucket one listing answers for nearly all of many."""
    local = {path for path in paths if path.startswith("/") and Path(path).exists()}
    rest = {path for path in paths if not path.startswith("/")}
    listing = _each(iceberg.io().listPrefix(iceberg.location())) if len(rest) > _ASKED_FOR_ONE_BY_ONE else ()
    missing = rest.difference(_path(str(file.location())) for file in listing)
    return local | rest - {path for path in missing if not iceberg.io().newInputFile(path).exists()}


def _referenced(looks: Sequence[Look]) -> dict[str, set[str]]:
    """By table the paths of the data and delete files, manifests and manifest lists of all snapshots."""
    named = (("all_files", "file_path"), ("all_manifests", "path"), ("snapshots", "manifest_list"))
    paths = [
        look.spark.table(f"{table.identifier}.{view}").select(
            F.lit(table.name).alias("name"), F.col(path).alias("path")
        )
        for look, table in ((look, look.table) for look in looks)
        for view, path in named
    ]
    found: dict[str, set[str]] = {look.table.name: set() for look in looks}
    for row in reduce(DataFrame.union, paths).where(F.col("path").isNotNull()).collect() if paths else ():
        found[row["name"]].add(row["path"])
    return found


def _each(items: Any) -> Iterator[Any]:
    iterator = items.iterator()
    while iterator.hasNext():
        yield iterator.next()


def _path(location: str) -> str:
    """One spelling for the same file: `file:/x`, `file:///x` and `/x` are one."""
    return "/" + location.removeprefix("file:").lstrip("/") if location.startswith(("file:", "/")) else location
