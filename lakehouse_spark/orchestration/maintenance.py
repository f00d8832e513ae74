"""The declared schedules of maintenance, as jobs and schedules of Dagster; and maintenance of some tables at once."""

import dagster as dg

from lakehouse_spark.maintenance.schedule import SCHEDULES, Schedule
from lakehouse_spark.orchestration import processes

POOL = "maintenance"


class Named(dg.Config):
    """The tables that are maintained."""

    tables: list[str]


def _carry_out(context: dg.OpExecutionContext, job: str, *options: str) -> None:
    """What was done to a table is an observation of its asset."""
    for observation in processes.observed_by(context, processes.submit(job, *options)):
        context.log_event(observation)


def _of(schedule: Schedule) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    layers = [part for layer in schedule.layers for part in ("--layer", layer)]
    said = f"{' and '.join(schedule.jobs)} of {', '.join(schedule.layers)}"

    @dg.op(name=f"run_{schedule.name}", description=said, pool=POOL)
    def work(context: dg.OpExecutionContext) -> None:
        for job in schedule.jobs:
            _carry_out(context, job, *layers)

    @dg.job(name=schedule.name, description=said)
    def job() -> None:
        work()

    by_the_clock = dg.ScheduleDefinition(
        name=f"{schedule.name}_schedule", job=job, cron_schedule=schedule.cron, execution_timezone="UTC"
    )
    return job, by_the_clock


@dg.op(pool=POOL)
def maintain_tables(context: dg.OpExecutionContext, config: Named) -> None:
    """Does all maintenance that is due of the named tables."""
    _carry_out(context, "maintenance", *processes.of_tables(config.tables))


@dg.job
def maintain() -> None:
    """What a sensor asks for where snapshots or small files pile up between the schedules."""
    maintain_tables()


_MADE = tuple(map(_of, SCHEDULES))
JOBS = (*(job for job, _ in _MADE), maintain)
BY_THE_CLOCK = tuple(schedule for _, schedule in _MADE)
