"""One asset per table, with its declared sources upstream; one spark-submit brings a selection of them up to date."""

from collections.abc import Iterator, Sequence

import dagster as dg
from dagster import AssetExecutionContext

from lakehouse_spark.catalog import BY_NAME, FACTS, TABLES
from lakehouse_spark.orchestration import processes
from lakehouse_spark.orchestration.processes import Materialized
from lakehouse_spark.settings import load
from lakehouse_spark.table import Table

OWNER = "team:lakehouse"
FIRST_DAY = "2024-01-01"
BEATS = "beats"
"""The pool of what brings tables up to date."""
REBUILD = "lakehouse/rebuild"
"""A run with this tag derives its gold tables anew, as a backfill does."""

DAYS = dg.DailyPartitionsDefinition(FIRST_DAY, end_offset=1)
"""Days of trading, today's among them."""

_BESIDE = {"_metadata", "silver._rejected_records", "dim.dim_time"}
"""Tables, or all of a layer, that the jobs of others write beside their own."""
DERIVED = tuple(table.name for table in TABLES if _BESIDE.isdisjoint({table.name, table.namespace}))
"""What a beat brings up to date."""
DAILY = tuple(name for name in DERIVED if BY_NAME[name].namespace == "gold" and BY_NAME[name].short_name not in FACTS)
"""The gold tables, which are by the day: facts are one row per row of silver."""


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey(name.split("."))


def name_of(asset: dg.AssetKey) -> str:
    return ".".join(asset.path)


def _spec(table: Table) -> dg.AssetSpec:
    columns = [
        dg.TableColumn(column.name, column.dataType.simpleString(), column.metadata["comment"])
        for column in table.columns
    ]
    return dg.AssetSpec(
        key(table.name),
        deps=[key(source) for source in table.sources],
        description=table.doc,
        group_name=table.namespace,
        owners=[OWNER],
        kinds={"iceberg", "spark"},
        metadata={
            "dagster/table_name": table.name,
            "dagster/column_schema": dg.TableSchema(columns=columns),
            "key": ", ".join(table.key),
            "partitioned by": ", ".join(table.partitioned_by),
        },
        partitions_def=DAYS if table.name in DAILY else None,
        skippable=table.name in DERIVED,
    )


@dg.multi_asset(
    name="beat",
    specs=[_spec(BY_NAME[name]) for name in DERIVED],
    can_subset=True,
    pool=BEATS,
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def beat(context: AssetExecutionContext) -> Iterator[Materialized]:
    """Brings the selected tables up to date in one session. In a backfill, gold tables are derived anew: by
    `gold_aggregator --rebuild`, which knows no days and writes only the rows that differ, those of all days."""
    chosen = [name for name in DERIVED if key(name) in context.selected_asset_keys]
    anew = [name for name in chosen if name in DAILY] if _is_rebuild(context) else []
    fresh = [name for name in chosen if name not in anew]
    commands = []
    if fresh:
        commands.append(processes.submit("pipeline", *processes.of_tables(fresh)))
    if anew:
        commands.append(processes.submit("gold_aggregator", "--rebuild"))
    for command in commands:
        for result in processes.reported_by(context, command):
            if result.asset_key in context.selected_asset_keys:
                yield _with_row_count(result)


def _is_rebuild(context: AssetExecutionContext) -> bool:
    return any(tag in context.run.tags for tag in (REBUILD, "dagster/backfill"))


def _with_row_count(result: Materialized) -> Materialized:
    """With the rows that the table holds now, by its metadata."""
    from lakehouse_spark.iceberg import metadata, rows  # bring PyArrow, which the definitions do without

    assert result.asset_key is not None
    name = name_of(result.asset_key)
    held = rows.count(metadata.read(load(), [BY_NAME[name]])[name])
    counted = {"dagster/row_count": held.rows} if held.is_exact else {"rows at most": held.rows}
    return result._replace(metadata={**(result.metadata or {}), **counted})


BESIDE: Sequence[dg.AssetSpec] = [_spec(table) for table in TABLES if table.name not in DERIVED]
"""Tables that are shown, and not brought up to date by themselves."""
