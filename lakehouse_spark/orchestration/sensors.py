"""Sensors that look at the catalog: schemas that changed, lag, files that pile up, too many dead letters."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any

import dagster as dg

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.iceberg.embedded import MissingError
from lakehouse_spark.orchestration import watching
from lakehouse_spark.orchestration.assets import key
from lakehouse_spark.orchestration.checks import INVARIANTS
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
    checks = [dg.AssetCheckKey(key(t.name), check.__name__) for check, t in INVARIANTS if t.name in found.affected]
    asked = dg.RunRequest(run_key=cursor, tags={"lakehouse/changed": ", ".join(found.changed)}, asset_check_keys=checks)
    return dg.SensorResult([asked], cursor=cursor)


@dg.sensor(minimum_interval_seconds=60)
@_skips_where_nothing_is
def lag_sensor(context: dg.SensorEvaluationContext) -> Found:
    """Fails, which is what Dagster alerts on, while a table is further behind than it may be."""
    late = watching.late(load())
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
    """Fails where more than a share of what a silver table judged since the last look was rejected."""
    settings, since = load(), _kept(context)
    judged = list(watching.rejected_shares(settings, since))
    # Kept before it fails, for a failure leaves a sensor's cursor where it was: each batch alerts once.
    context.update_cursor(json.dumps({**since, **{name: stamp for name, stamp, _, _ in judged}}))
    above = [
        f"{name} rejected {share:.1%} of {records:,} records"
        for name, _, records, share in judged
        if share > settings.watch.rejected_share
    ]
    if above:
        raise LakehouseError("; ".join(above), "What and why: lakehouse rejected list")
    return dg.SkipReason("what was judged since the last look is within the limit")


def _kept(context: dg.SensorEvaluationContext) -> dict[str, Any]:
    """What the last look kept."""
    return json.loads(context.cursor) if context.cursor else {}


SENSORS = (schema_changes_sensor, lag_sensor, small_files_sensor, rejected_share_sensor)
