"""A release after this one, as far as migrations know it: one more adds a column amid `silver.trades`, and a table. A
second one after it changes tables in every other way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse_spark import catalog, migrations, verify
from lakehouse_spark.gold import fact_trades, market_overview
from lakehouse_spark.migrations import baseline
from lakehouse_spark.migrations.migration import Migration
from lakehouse_spark.schema.operations import (
    AddColumn,
    ChangePartitioning,
    ChangeSortOrder,
    ColumnDefinition,
    CommentColumn,
    CreateTable,
    DropColumn,
    MoveColumn,
    PromoteColumn,
    RenameColumn,
    SetProperties,
)
from lakehouse_spark.schema.policy import Agreement
from lakehouse_spark.silver import feed, trades
from lakehouse_spark.table import Policy, Table, column
from lakehouse_spark.types import INSTANT, LONG, TEXT

VENUE = column("venue", TEXT, "Where the trade was made: the market's own code")
NOTES = Table(
    name="_metadata.notes",
    doc="Notes about days.",
    columns=(
        column("note_id", LONG, "Number of the note"),
        column("note", TEXT, "Its text"),
        column("_noted_at", INSTANT, "Commit stamp: when it was written"),
    ),
    key=("note_id",),
    partitioned_by=("days(_noted_at)",),
    sorted_by=("note_id",),
    stamp="_noted_at",
    distribution="range",
    properties={"commit.retry.num-retries": "9"},
    policy=Policy(snapshot_days=7),
)
NEXT = Migration(
    f"V{len(migrations.migrations()) + 1:03}",
    "venues and notes",
    (
        AddColumn(
            "silver.trades",
            ColumnDefinition("venue", "string", "Where the trade was made: the market's own code"),
            after="exchange",
        ),
        CreateTable(
            "_metadata.notes",
            "Notes about days.",
            (
                ColumnDefinition("note_id", "bigint", "Number of the note"),
                ColumnDefinition("note", "string", "Its text"),
                ColumnDefinition("_noted_at", "timestamp", "Commit stamp: when it was written"),
            ),
            partitioned_by=("days(_noted_at)",),
            sorted_by=("note_id",),
            distribution="range",
            properties=(("commit.retry.num-retries", "9"),),
        ),
    ),
)
_FACTS, _OVERVIEW = fact_trades.TABLE.name, market_overview.TABLE.name
KINDS = Migration(
    f"V{len(migrations.migrations()) + 2:03}",
    "one change of each other kind",
    (
        PromoteColumn(_OVERVIEW, "active_traders", "int", "bigint"),
        MoveColumn(_OVERVIEW, "unchanged", "decliners", "active_traders"),
        CommentColumn(_OVERVIEW, "advancers", market_overview.TABLE.schema["advancers"].metadata["comment"], "Risen"),
        AddColumn(_FACTS, ColumnDefinition("note", "string", "What was said")),
        RenameColumn(_FACTS, "note", "remark"),
        DropColumn(_FACTS, "remark"),
        ChangePartitioning(_FACTS, added=("bucket(4, symbol_key)",)),
        ChangeSortOrder(_FACTS, ("symbol_key", "time_key"), ("time_key",)),
        SetProperties(_FACTS, (("commit.retry.num-retries", "4", "9"),)),
    ),
    agreed=Agreement(2, ("the risk desk",)),
)


def _changed(table: Table) -> dict[str, Any]:
    """What a table declares otherwise once it was changed in every way."""
    if table is fact_trades.TABLE:
        properties = {**table.properties, "commit.retry.num-retries": "9"}
        spec = (*table.partitioned_by, "bucket(4, symbol_key)")
        return {"partitioned_by": spec, "sorted_by": ("time_key",), "properties": properties}
    columns = {c.name: c for c in table.columns}
    columns["active_traders"] = column("active_traders", LONG, columns["active_traders"].metadata["comment"])
    columns["advancers"] = column("advancers", columns["advancers"].dataType, "Risen")
    names = [name for name in columns if name != "unchanged"]
    names.insert(names.index("active_traders") + 1, "unchanged")
    return {"columns": tuple(columns[name] for name in names)}


@contextmanager
def later_release(*, every_kind: bool = False) -> Iterator[None]:
    """As long as the next release declares the column and the table, and gives new trades the venue XNAS; with
    `every_kind`, as long as the one after it does."""
    columns, tables = list(trades.TABLE.columns), (*catalog.TABLES, NOTES)
    columns.insert(trades.TABLE.column_names.index("exchange") + 1, VENUE)
    released, judged = migrations.migrations(), feed.judged

    def with_venue(
        records: DataFrame, rules: list[Column], table: Table, derived: dict[str, Column], event_time: str
    ) -> DataFrame:
        more: dict[str, Any] = {"venue": F.lit("XNAS")} if table is trades.TABLE else {}
        return judged(records, rules, table, {**derived, **more}, event_time)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vars(trades.TABLE), "columns", tuple(columns))
        patch.setattr(feed, "judged", with_venue)
        for module in (catalog, baseline, verify):
            patch.setattr(module, "TABLES", tables)
        patch.setattr(catalog, "BY_NAME", {table.name: table for table in tables})
        patch.setattr(migrations, "migrations", lambda: [*released, NEXT, *([KINDS] if every_kind else [])])
        for table in (fact_trades.TABLE, market_overview.TABLE) if every_kind else ():
            for name, value in _changed(table).items():
                patch.setitem(vars(table), name, value)
        yield
