"""What came out of a run: an order-free digest of its rows, computed the same way for every contender."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

Columns = Mapping[str, str]
"""Column name → the SQL expression under which it is compared, so that types of the same values agree."""


@dataclass(frozen=True)
class Result:
    """Digests by name, and what the result is made of."""

    digests: Mapping[str, str]
    files: int
    mib: float
    commits: int


def catalog(home: Path) -> SqlCatalog:
    """The embedded lakehouse of a home, read without Spark."""
    return SqlCatalog("lake", uri=f"sqlite:///{home}/catalog.db", warehouse=(home / "warehouse").as_uri())


def current_snapshots(home: Path, names: Iterable[str]) -> dict[str, int | None]:
    """Of these tables, as the catalog says now."""
    tables = catalog(home)
    return {name: tables.load_table(name).metadata.current_snapshot_id for name in names}


def of_iceberg(table: Table, digests: Mapping[str, Columns], since: int | None = None) -> Result:
    """The current rows of an Iceberg table; files and commits are those added after snapshot `since` (None: all)."""
    tasks = list(table.scan().plan_files())
    if any(task.delete_files for task in tasks):
        rows = table.scan().to_arrow()
        con = duckdb.connect()
        con.register("rows", rows)
        found = {name: digest_in(con, "rows", columns) for name, columns in digests.items()}
    else:
        found = dict(of_parquet([local(task.file.file_path) for task in tasks], digests).digests)
    commits, files, size = 0, 0, 0
    snapshot = table.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id != since:
        counts = snapshot.summary
        added = sum(int(counts[f"added-{kind}-files"] or 0) for kind in ("data", "delete")) if counts else 0
        commits += bool(added or snapshot.parent_snapshot_id)  # not the empty snapshot that a table starts with
        files, size = files + added, size + int((counts["added-files-size"] if counts else 0) or 0)
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None
    return Result(found, files, round(size / 2**20, 2), commits)


def files(table: Table) -> list[str]:
    """The paths of the table's data files; the caller knows that nothing in them is deleted."""
    return [local(task.file.file_path) for task in table.scan().plan_files()]


def local(path: str) -> str:
    """A path as DuckDB takes it: Hadoop writes file:/, others file:///."""
    return re.sub("^file:/+", "/", path)


def count(source: str) -> int:
    """Rows of anything DuckDB can read."""
    answer = duckdb.execute(f"SELECT count(*) FROM {source}").fetchone()
    return int(answer[0]) if answer else 0


def digest(source: str, columns: Columns) -> str:
    """The digest of anything DuckDB can read."""
    return digest_in(duckdb.connect(), source, columns)


def of_parquet(files: Iterable[Path | str], digests: Mapping[str, Columns], commits: int = 0) -> Result:
    """The rows of plain Parquet files."""
    paths = [str(file) for file in files]
    con = duckdb.connect()
    source = f"read_parquet({paths!r}, union_by_name = true, hive_partitioning = false)"
    found = {name: digest_in(con, source, columns) for name, columns in digests.items()} if paths else {}
    size = sum(Path(path).stat().st_size for path in paths)
    return Result(found, len(paths), round(size / 2**20, 2), commits)


def digest_in(con: duckdb.DuckDBPyConnection, source: str, columns: Columns) -> str:
    """Rows, and the sum of their hashes: equal whatever their order, different if one row is missing or twice."""
    values: Sequence[str] = [f"({expression})" for expression in columns.values()]
    answer = con.execute(f"SELECT count(*), sum(hash({', '.join(values)})::HUGEINT) FROM {source}").fetchone()
    rows, total = answer or (0, 0)
    return f"{rows}:{int(total or 0):x}"
