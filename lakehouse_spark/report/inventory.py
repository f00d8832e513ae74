"""The tables that are there, with sizes, stamps and what waits for them: from metadata, and two queries at most."""

from dataclasses import dataclass, field, replace
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import BY_NAME, TABLES
from lakehouse_spark.dim.reference_log import LOG
from lakehouse_spark.lake import progress, snapshots
from lakehouse_spark.lake.progress import Source
from lakehouse_spark.lake.queries import counts
from lakehouse_spark.report.model import Lag, TableState
from lakehouse_spark.table import Table


@dataclass
class Lakehouse:
    """The tables that are there, with their states; what is not there is said in `missing`."""

    spark: SparkSession
    tables: dict[str, TableState] = field(default_factory=dict)
    states: dict[str, snapshots.State] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def has(self, table: Table) -> bool:
        return table.name in self.tables and self.tables[table.name].rows > 0

    def rows(self, table: Table) -> DataFrame:
        """The table as it was when the report began."""
        state = self.states.get(table.name)
        if state is None:
            return self.spark.table(table.identifier)
        return snapshots.at(self.spark, table, state.snapshot_id)


def tables(spark: SparkSession) -> tuple[TableState, ...]:
    """The state of every table that is there, from metadata and at most two queries; writes nothing."""
    return with_lags(opened(spark))


def opened(spark: SparkSession) -> Lakehouse:
    lake = Lakehouse(spark)
    absent = []
    for table in TABLES:
        if not spark.catalog.tableExists(table.identifier):
            absent.append(table.name)
            continue
        iceberg = snapshots.load(spark, table)
        if table.stamp and iceberg.currentSnapshot() is not None:
            lake.states[table.name] = snapshots.state(spark, table)
            iceberg.refresh()
        lake.tables[table.name] = _state_of(iceberg, table, lake.states.get(table.name))
    if absent and not lake.tables:
        lake.missing.append("There is no lakehouse here yet. Run: lakehouse migrate")
    elif absent:
        lake.missing.append(f"Tables are missing: {', '.join(absent)}. Run: lakehouse migrate")
    _count_merged(lake)
    return lake


def _state_of(iceberg: Any, table: Table, state: snapshots.State | None) -> TableState:
    head = iceberg.currentSnapshot() if state is None else iceberg.snapshot(state.snapshot_id)
    summary = dict(head.summary()) if head is not None else {}

    def total(name: str) -> int:
        return int(summary.get(f"total-{name}") or 0)

    return TableState(
        name=table.name,
        rows=total("records"),
        data_files=total("data-files"),
        bytes=total("files-size"),
        delete_files=total("delete-files"),
        snapshots=int(iceberg.operations().current().snapshots().size()),
        stamp=state.stamp if state else None,
    )


def _count_merged(lake: Lakehouse) -> None:
    """Counts the rows of tables with delete files, whose metadata tell only how many rows were written: one query."""
    names = [name for name, state in lake.tables.items() if state.delete_files]
    for name, rows in counts({name: lake.rows(BY_NAME[name]) for name in names}).items():
        lake.tables[name] = replace(lake.tables[name], rows=rows)


def with_lags(lake: Lakehouse) -> tuple[TableState, ...]:
    """The tables, each with the sources that hold more than it has consumed: one query where any may."""
    followed = {name: _followed(lake, BY_NAME[name]) for name in lake.tables}
    behind = [(name, source) for name, sources in followed.items() for source in sources if source.has_moved]
    rows = counts(
        {
            f"{name} {source.name}": _waiting(lake, name, source)
            for name, source in behind
            if BY_NAME[source.name].namespace != "dim"
        }
    )
    lags: dict[str, list[Lag]] = {}
    for name, source in behind:
        number = rows.get(f"{name} {source.name}")
        if number != 0:  # a commit without rows moves the stamp and leaves nothing to do
            newest, consumed = source.offers.stamp, source.consumed.stamp
            seconds = (newest - consumed).total_seconds() if newest and consumed else None
            lags.setdefault(name, []).append(Lag(source.name, number, seconds))
    return tuple(
        replace(state, follows=bool(followed[name]), lags=tuple(lags.get(name, ())))
        for name, state in lake.tables.items()
    )


def _followed(lake: Lakehouse, table: Table) -> list[Source]:
    """The sources that the table follows; before its first run, those of them that hold rows to begin with."""
    found = progress.of([table], lake.states)
    if found.is_begun:
        return list(found.sources.values())
    tables = (BY_NAME[name] for name in found.sources)  # members alone make no row
    return [found.sources[each.name] for each in tables if each.namespace != "dim" and lake.has(each)]


def _waiting(lake: Lakehouse, name: str, source: Source) -> DataFrame:
    """The source's rows that a table has not consumed; of the change log, those of its own dimension."""
    table, consumed = BY_NAME[source.name], source.consumed.stamp
    rows = lake.rows(table) if consumed is None else lake.rows(table).where(F.col(str(table.stamp)) > F.lit(consumed))
    return rows.where(F.col("dimension") == BY_NAME[name].short_name) if table is LOG else rows
