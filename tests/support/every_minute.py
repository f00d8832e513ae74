"""A beat of two tables every minute, for Dagster's daemon to run: the product's assets by a schedule of tests alone."""

import dagster as dg

from lakehouse_spark.orchestration import assets

TABLES = ("silver.trader_activity", "gold.market_overview")

two_tables = dg.define_asset_job("two_tables", dg.AssetSelection.assets(*map(assets.key, TABLES)))


@dg.schedule(job=two_tables, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def every_minute(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    return dg.RunRequest(partition_key=f"{context.scheduled_execution_time:%Y-%m-%d}")


defs = dg.Definitions([assets.beat, *assets.BESIDE], jobs=[two_tables], schedules=[every_minute])
