"""Maintenance: each job does what the planner says is due, table by table, under a lease, and logs it."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pyiceberg.catalog import Catalog
from pyspark.sql import SparkSession

from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.errors import LakehouseError, RefusedError, UsageError, in_a_sentence
from lakehouse_spark.iceberg import pyiceberg
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import snapshots
from lakehouse_spark.maintenance import (
    bronze_retention,
    compaction,
    journal,
    manifest_rewrite,
    orphan_files,
    snapshot_expiration,
    survey,
)
from lakehouse_spark.maintenance.plan import (
    PLANNED,
    Action,
    Compaction,
    Expiry,
    ManifestRewrite,
    OrphanCleanup,
    Plan,
    Retention,
)
from lakehouse_spark.metadata.maintenance_log import DONE, FAILED
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import Table


def run(
    spark: SparkSession,
    settings: Settings,
    *,
    jobs: Sequence[str] = PLANNED,
    layers: Sequence[str] = (),
    tables: Sequence[str] = (),
    dry_run: bool = False,
    now: datetime | None = None,
    stop: threading.Event | None = None,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Does what is due of these jobs for the tables that are named or in the layers; `dry_run` only says what.

    A table that another run holds is left to it, and one whose work fails does not stop the others; then the job raises
    RefusedError or LakehouseError at its end. Once `stop` is set, no further table is begun.
    """
    plans = survey.take(settings, survey.chosen(layers, tables), now or datetime.now(UTC), jobs=jobs).plans
    name = jobs[0] if len(jobs) == 1 else "maintenance"
    if dry_run:
        return _told(report, [summary for plan in plans for summary in _as_summaries(plan, name)])
    actions = [action for plan in plans for action in plan.actions]
    if not actions:
        return _told(report, [Summary(name, plan.table) for plan in plans])
    own = journal.Run(spark, settings, timedelta(minutes=settings.maintenance.lease_minutes))
    held = own.start(actions)
    done: list[Summary] = []
    failures: list[LakehouseError] = []
    for plan in plans:
        if plan.table in held and plan.actions:
            failures.append(_held_by(plan.table, held[plan.table]))
            continue
        if stop is not None and stop.is_set():
            failures += _failed(own, plan.actions, LakehouseError(f"{plan.table}: asked to end before it began"))
            continue
        done += _told(report, _carried_out(spark, settings, own, name, plan, failures))
    if failures:
        raise _all_of(failures)
    return done


def clean(
    spark: SparkSession,
    settings: Settings,
    *,
    layers: Sequence[str] = (),
    tables: Sequence[str] = (),
    dry_run: bool = False,
    quarantine: bool = False,
    restore: str | None = None,
    report: Callable[[Summary], None] = lambda summary: None,
) -> list[Summary]:
    """Removes, or sets aside, the files that no metadata knows; `restore` names a run whose files are brought back.

    Tables that are refused, held by another run, or in which a file cannot be removed, do not stop the others; then the
    job raises RefusedError or LakehouseError at its end.
    """
    catalog = pyiceberg.open_catalog(settings)
    chosen = survey.chosen(layers, tables)
    if restore is not None:
        return _told(report, _restored(catalog, chosen, restore))
    actions, failures = survey.look_for_orphans(settings, chosen, datetime.now(UTC))
    done: list[Summary] = []
    if dry_run:
        done += _told(report, (_planned(action) for action in actions))
    else:
        own = journal.Run(spark, settings, timedelta(minutes=settings.maintenance.lease_minutes))
        held = own.start(actions) if actions else {}
        failures += [_held_by(table, entry) for table, entry in held.items()]
        free = [action for action in actions if action.table not in held]
        done += _told(report, _cleaned(catalog, own, free, failures, quarantine=quarantine))
        own.looked([t.name for t in chosen if t.name not in {a.table for a in actions}], OrphanCleanup.job)
    if failures:
        raise _all_of(failures)
    return done or _told(report, [Summary(OrphanCleanup.job, table.name) for table in chosen])


def _cleaned(
    catalog: Catalog,
    own: journal.Run,
    actions: Iterable[OrphanCleanup],
    failures: list[LakehouseError],
    *,
    quarantine: bool,
) -> Iterable[Summary]:
    """Does each action, one summary for each that went well; the others are added to the failures."""
    for action in actions:
        began, table = time.monotonic(), BY_NAME[action.table]
        try:
            own.renew(action.job, table.name)
            removed = orphan_files.remove(catalog, table, action.found, quarantine=quarantine, run_id=own.id)
            counts = {"files there": action.before["files there"] - len(removed.gone)}
            own.end(
                table.name, action.job, FAILED if removed.failed else DONE, counts,
                quarantined=quarantine, gone=[file.path for file in removed.gone], failed=dict(removed.failed),
            )  # fmt: skip
        except Exception as error:
            failures += _failed(own, [action], error)
            continue
        if removed.failed:
            path, why = removed.failed[0]
            failures.append(LakehouseError(f"{table.name}: {len(removed.failed)} orphans stay; {path}: {why}"))
        where = f"; set aside as {own.id}, which --restore brings back" if quarantine else ""
        spared = len(removed.live) + len(removed.changed)
        yield Summary(
            job=action.job,
            table=table.name,
            counts=counts,
            snapshot_id=None,
            seconds=round(time.monotonic() - began, 3),
            notes=(action.reason + where, *([f"{spared} of them were spared: they are in use now"] if spared else [])),
            before=dict(action.before),
            planned=dict(action.after),
        )


def _restored(catalog: Catalog, tables: Sequence[Table], run_id: str) -> Iterable[Summary]:
    """What a run set aside is back: one summary for each table of which it did."""
    found = False
    for table in tables:
        try:
            paths = orphan_files.restore(catalog, table, run_id)
        except UsageError:  # the run set nothing of this table aside
            continue
        found = True
        yield Summary(OrphanCleanup.job, table.name, notes=(f"brought {len(paths):,} files back",))
    if not found:
        raise UsageError(f"no table has files that the run {run_id!r} set aside")


def _told(report: Callable[[Summary], None], summaries: Iterable[Summary]) -> list[Summary]:
    told = []
    for summary in summaries:
        report(summary)
        told.append(summary)
    return told


def _as_summaries(plan: Plan, job: str) -> list[Summary]:
    """A plan as a job tells it that does nothing yet."""
    why = tuple(f"kept {kept.number:,} {kept.what}: {kept.why}" for kept in plan.kept)
    if not plan.actions:
        return [Summary(job, plan.table, notes=why)]
    told = [_planned(action) for action in plan.actions]
    return told if not why else [*told, Summary(job, plan.table, notes=why)]


def _planned(action: Action) -> Summary:
    return Summary(
        action.job, action.table, before=dict(action.before), planned=dict(action.after), notes=(action.reason,)
    )


def _carried_out(
    spark: SparkSession,
    settings: Settings,
    own: journal.Run,
    name: str,
    plan: Plan,
    failures: list[LakehouseError],
) -> Iterable[Summary]:
    """Does a table's actions in their order; a failure ends the table, and is added to the others."""
    if not plan.actions:
        yield Summary(name, plan.table)
    for number, action in enumerate(plan.actions):
        began = time.monotonic()
        try:
            own.renew(action.job, plan.table)
            detail = _do(spark, settings, action)
            counts = survey.counts_after(settings, action)
            own.end(plan.table, action.job, DONE, counts, **detail)
        except Exception as error:
            failures += _failed(own, plan.actions[number:], error)
            return
        yield Summary(
            job=action.job,
            table=plan.table,
            counts=counts,
            snapshot_id=snapshots.state(spark, BY_NAME[plan.table]).snapshot_id,
            seconds=round(time.monotonic() - began, 3),
            notes=(action.reason,),
            before=dict(action.before),
            planned=dict(action.after),
        )


def _do(spark: SparkSession, settings: Settings, action: Action) -> Mapping[str, object]:
    """Carries out one action; what there is to remember of it, for the log."""
    table = BY_NAME[action.table]
    policy = survey.policy_of(table, settings.maintenance)
    match action:
        case Retention():
            bronze_retention.carry_out(spark, table, action)
        case Compaction():
            concurrent = settings.maintenance.concurrent_rewrites
            done = compaction.carry_out(spark, table, policy, action, concurrent=concurrent)
            return {"sequences": done.sequences, "given_up": done.given_up}
        case ManifestRewrite():
            manifest_rewrite.carry_out(spark, table)
        case Expiry():
            snapshot_expiration.carry_out(spark, table, action)
    return {}


def _failed(own: journal.Run, actions: Sequence[Action], error: Exception) -> list[LakehouseError]:
    """Logs that these actions of a table failed, the first by an error; what there is to tell of it."""
    if not actions:
        return []
    table, job = actions[0].table, actions[0].job
    told = [_translated(table, job, error)]
    try:
        for action in actions:
            own.end(table, action.job, FAILED, error=in_a_sentence(error))
    except Exception as unlogged:  # such as of a disk that is full: the table is held until the lease runs out
        told.append(LakehouseError(f"{table}: that it failed is not in the log: {in_a_sentence(unlogged)}"))
    return told


def _held_by(table: str, entry: journal.Entry) -> RefusedError:
    until = f"{entry.lease_until:%Y-%m-%d %H:%M:%S} UTC" if entry.lease_until else "it ends"
    return RefusedError(
        f"{table}: held until {until} by the {entry.job} of the run {entry.run_id}",
        "Wait for it, or for its lease to run out",
    )


def _translated(table: str, job: str, error: Exception) -> LakehouseError:
    if isinstance(error, LakehouseError):
        return error
    return LakehouseError(f"{job}: {table}: {in_a_sentence(error)}")


def _all_of(failures: Sequence[LakehouseError]) -> LakehouseError:
    """One error for all of them: refused only where each of them is."""
    if len(failures) == 1:
        return failures[0]
    kind = RefusedError if all(isinstance(failure, RefusedError) for failure in failures) else LakehouseError
    return kind("; ".join(map(str, failures)))
