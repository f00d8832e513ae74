"""All that the product tells Dagster, and a schedule of tests alone: its beat of every layer, every minute."""

import dagster as dg

from lakehouse_spark.orchestration import definitions


@dg.schedule(job=definitions.every_layer, cron_schedule="* * * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def every_minute(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    asked = definitions.every_15_minutes(context)
    assert isinstance(asked, dg.RunRequest | dg.SkipReason)
    return asked


defs = dg.Definitions.merge(definitions.defs, dg.Definitions(schedules=[every_minute]))
