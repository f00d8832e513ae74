"""The bronze streams as one long run, which a sensor asks for again when it has died: sooner at first, then later."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.orchestration import processes, watching

DEATHS_TOLERATED = 3
"""After as many in a row the sensor fails while it waits, which is what Dagster alerts on."""
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=15)
_LOOKED_AT = 20
"""The latest runs; by so many deaths the pause has long been the longest."""


@dg.op
def read_topics(context: dg.OpExecutionContext) -> None:
    """Reads Kafka into bronze until it is cancelled, which finishes the commit under way."""
    processes.run(context, processes.submit("bronze_writer", "--continuous"))


@dg.job
def bronze_streams() -> None:
    """Beats leave the bronze tables to it, by a lease, while it runs."""
    read_topics()


def pause_after(deaths: int) -> timedelta:
    """How long a stream that died so many times in a row is left alone: twice as long each time, within limits."""
    return timedelta(0) if not deaths else min(_FIRST_PAUSE * 2 ** min(deaths - 1, 10), _LONGEST_PAUSE)


@dg.sensor(job=bronze_streams, minimum_interval_seconds=30)
def bronze_streams_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Asks for the streams where they do not run, and observes how old bronze is."""
    runs = context.instance.get_run_records(dg.RunsFilter(job_name=bronze_streams.name), limit=_LOOKED_AT)
    observed = _observed()
    if runs and not runs[0].dagster_run.is_finished:
        return dg.SensorResult(skip_reason="the streams run", asset_events=observed)
    deaths = deaths_of([record.dagster_run.status for record in runs])
    ended = datetime.fromtimestamp(runs[0].end_time or 0, UTC) if runs else datetime.min.replace(tzinfo=UTC)
    again = ended + pause_after(deaths)
    if datetime.now(UTC) >= again:
        # The key is that of the death: two looks at the same one ask once.
        asked = dg.RunRequest(run_key=runs[0].dagster_run.run_id if runs else "first")
        return dg.SensorResult([asked], asset_events=observed)
    waits = f"the streams died {deaths} times in a row; they are asked for again at {again:%Y-%m-%d %H:%M:%S} UTC"
    if deaths >= DEATHS_TOLERATED:
        raise dg.Failure(waits)
    return dg.SensorResult(skip_reason=waits, asset_events=observed)


def deaths_of(statuses: Sequence[dg.DagsterRunStatus]) -> int:
    """How many of the latest runs failed, one after the other; newest first."""
    return next((n for n, status in enumerate(statuses) if status != dg.DagsterRunStatus.FAILURE), len(statuses))


def _observed() -> Sequence[dg.AssetObservation]:
    try:
        return watching.ages(datetime.now(UTC))
    except LakehouseError:  # where there is no lakehouse yet, the streams make none: a beat does
        return ()
