"""Sensors of the catalog: changed schemas, lag, files that pile up, rejected records; and one of lost runs."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

import dagster as dg

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.iceberg.embedded import MissingError
from lakehouse_spark.orchestration import processes, watching
from lakehouse_spark.orchestration.assets import key
from lakehouse_spark.orchestration.checks import INVARIANTS, REJECTED_SHARE
from lakehouse_spark.orchestration.maintenance import maintain
from lakehouse_spark.settings import load

Found = dg.SensorResult | dg.SkipReason
_TIDIED_EVERY = timedelta(hours=6)
"""What is asked for again sooner waits for something else, as snapshots do that are too young to go."""

verify_all = dg.define_asset_job(
    "verify_all", dg.AssetSelection.all_asset_checks(), description="Checks every invariant against the data."
)


def _skips_where_nothing_is(
    look: Callable[[dg.SensorEvaluationContext], Found],
) -> Callable[[dg.SensorEvaluationContext], Found]:
    """A lakehouse that is not made yet has nothing to look at; whatever else fails, fails the sensor."""

    @wraps(look)
    def looked(context: dg.SensorEvaluationContext) -> Found:
        try:
            return look(context)
        except MissingError as error:
            return dg.SkipReason(str(error))

    return looked


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def lost_runs_sensor(context: dg.SensorEvaluationContext) -> Found:
    """Ends the runs whose process was killed together with the one that would have told of it: they would seem to be
    under way for ever, and keep others from beginning."""
    under_way = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
    lost = [run for run in context.instance.get_runs(under_way) if processes.is_dead(context.instance, run.run_id)]
    for run in lost:
        context.instance.report_run_failed(run, "the process of this run is gone")
    return dg.SkipReason(f"{len(lost)} runs were lost")


@dg.sensor(job=verify_all, minimum_interval_seconds=60)
@_skips_where_nothing_is
def schema_changes_sensor(context: dg.SensorEvaluationContext) -> Found:
    """Where a table's schema is another one, checks it and all that is built from it."""
    from lakehouse_spark.iceberg import schema_changes

    seen = _kept(context)
    found = schema_changes.since(load(), seen)
    cursor = json.dumps(dict(found.ids))
    if not seen or not found.changed:
        said = "no schema changed" if seen else "the schemas are looked at for the first time"
        return dg.SensorResult(skip_reason=said, cursor=cursor)
    checks = [dg.AssetCheckKey(key(of.name), each.name) for each, of in INVARIANTS if of.name in found.affected]
    now = ", ".join(f"{name} {found.ids.get(name)}" for name in found.changed)
    asked = dg.RunRequest(run_key=now, tags={"lakehouse/changed": ", ".join(found.changed)}, asset_check_keys=checks)
    return dg.SensorResult([asked], cursor=cursor)


@dg.sensor(minimum_interval_seconds=60)
@_skips_where_nothing_is
def lag_sensor(context: dg.SensorEvaluationContext) -> Found:
    """Fails, which is what Dagster alerts on, while something has waited for a table longer than it may."""
    late = watching.late(load(), datetime.now(UTC))
    if late:
        raise LakehouseError("; ".join(map(str, late)))
    return dg.SkipReason("no table is late")


@dg.sensor(job=maintain, minimum_interval_seconds=300)
@_skips_where_nothing_is
def small_files_sensor(context: dg.SensorEvaluationContext) -> Found:
    """Asks for the maintenance of tables whose snapshots or small files pile up, of each every six hours at most."""
    now, asked = datetime.now(UTC), _kept(context)
    due = [
        name
        for name in watching.untidy(load())
        if name not in asked or now - datetime.fromisoformat(asked[name]) >= _TIDIED_EVERY
    ]
    if not due:
        return dg.SkipReason("no table waits for maintenance")
    cursor = json.dumps({**asked, **dict.fromkeys(due, now.isoformat())})
    config = {"ops": {"maintain_tables": {"config": {"tables": due}}}}
    return dg.SensorResult([dg.RunRequest(run_key=cursor, run_config=config)], cursor=cursor)


@dg.sensor(minimum_interval_seconds=60)
@_skips_where_nothing_is
def rejected_share_sensor(context: dg.SensorEvaluationContext) -> Found:
    """Tells, as a check of each silver table, which share of what it judged since the last look it rejected."""
    since = _kept(context)
    fresh = [judged for judged in watching.judged(load(), since) if judged.records]
    told = [
        dg.AssetCheckEvaluation(
            asset_key=key(judged.table), check_name=REJECTED_SHARE, passed=judged.is_within_limit, metadata=judged.told
        )
        for judged in fresh
    ]
    cursor = json.dumps({**since, **{judged.table: judged.upto for judged in fresh}})
    return dg.SensorResult(skip_reason=f"{len(fresh)} tables judged records", cursor=cursor, asset_events=told)


def _kept(context: dg.SensorEvaluationContext) -> dict[str, Any]:
    """What the last look kept."""
    return json.loads(context.cursor) if context.cursor else {}


SENSORS = (lost_runs_sensor, schema_changes_sensor, lag_sensor, small_files_sensor, rejected_share_sensor)
