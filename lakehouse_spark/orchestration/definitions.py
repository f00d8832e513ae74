"""All that Dagster loads."""

from datetime import timedelta

import dagster as dg

from lakehouse_spark.orchestration import assets, checks, maintenance, sensors, streams
from lakehouse_spark.orchestration.assets import DERIVED, key
from lakehouse_spark.orchestration.executor import executor

_TABLES = dg.AssetSelection.assets(*map(key, DERIVED))

every_layer = dg.define_asset_job(
    "every_layer", _TABLES.without_checks(), description="Brings every layer up to date, in one session."
)
end_of_day = dg.define_asset_job(
    "end_of_day", _TABLES, description="Brings every layer up to date, then checks every invariant."
)


@dg.schedule(job=every_layer, cron_schedule="*/15 * * * *", execution_timezone="UTC")
def every_15_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """A beat; while one is under way the next is skipped, which does all that this one would have done."""
    unfinished = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    if context.instance.get_run_records(dg.RunsFilter(job_name=every_layer.name, statuses=unfinished), limit=1):
        return dg.SkipReason("the beat before is under way")
    return dg.RunRequest(partition_key=f"{context.scheduled_execution_time:%Y-%m-%d}")


@dg.schedule(job=end_of_day, cron_schedule="30 1 * * *", execution_timezone="UTC")
def end_of_day_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Of the day before: its last session, New York's after-hours, ends at one in the morning at the latest."""
    return dg.RunRequest(partition_key=f"{context.scheduled_execution_time - timedelta(days=1):%Y-%m-%d}")


prove_in_full_schedule = dg.ScheduleDefinition(
    name="prove_in_full_schedule",
    job=sensors.verify_all,
    cron_schedule="0 7 * * 0",
    execution_timezone="UTC",
    tags={checks.FULL: "true"},
    description="Checks all there is: damage to what was proved before is not new.",
)

defs = dg.Definitions(
    assets=[assets.beat, *assets.BESIDE],
    asset_checks=[checks.verify, checks.look_at_letters],
    jobs=[every_layer, end_of_day, sensors.verify_all, *maintenance.JOBS, streams.bronze_streams],
    schedules=[every_15_minutes, end_of_day_schedule, prove_in_full_schedule, *maintenance.BY_THE_CLOCK],
    executor=executor,
    sensors=[streams.bronze_streams_sensor, *sensors.SENSORS],
)
