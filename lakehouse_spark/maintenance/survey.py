"""The plans of a lakehouse's tables: reads their metadata, the log and the settings, and hands them to the planner."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from lakehouse_spark.catalog import BY_NAME, LAYERS, TABLES
from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.iceberg import metadata
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.lake.cursor import UpstreamCursor, UpstreamsCursor, to_text
from lakehouse_spark.maintenance import health, journal
from lakehouse_spark.maintenance.health import Health
from lakehouse_spark.maintenance.journal import Journal
from lakehouse_spark.maintenance.plan import (
    PLANNED,
    Action,
    Circumstances,
    Expiry,
    OrphanCleanup,
    Plan,
    orphan_cleanup,
    plan,
)
from lakehouse_spark.metadata import maintenance_log
from lakehouse_spark.settings import MaintenanceSettings, Settings
from lakehouse_spark.table import Policy, Table


@dataclass(frozen=True)
class Survey:
    """What there is to do at one moment, table by table, and the log as it was then."""

    plans: tuple[Plan, ...]
    journal: Journal
    now: datetime
    refused: tuple[str, ...] = ()
    """Why files that no metadata knows were not looked for in a table, or cannot go."""

    def with_orphans(self, actions: Sequence[OrphanCleanup], refused: Sequence[LakehouseError]) -> "Survey":
        """With what a look through the tables' folders found."""
        found = {action.table: action for action in actions}
        plans = (
            replace(plan, actions=(*plan.actions, found[plan.table])) if plan.table in found else plan
            for plan in self.plans
        )
        return replace(self, plans=tuple(plans), refused=tuple(map(str, refused)))

    @property
    def looked_for_orphans(self) -> Mapping[str, datetime]:
        """By table, when orphan_cleanup last went through its folder; tables without such a run are missing."""
        last = self.journal.last_done(OrphanCleanup.job)
        return {plan.table: last[plan.table] for plan in self.plans if plan.table in last}

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "at": self.now.isoformat(timespec="seconds"),
            "refused": list(self.refused),
            "tables": [
                {
                    "table": plan.table,
                    "looked_for_orphans": to_text(self.looked_for_orphans.get(plan.table)),
                    "actions": [action.as_dict() for action in plan.actions],
                    "kept": [asdict(kept) for kept in plan.kept],
                }
                for plan in self.plans
            ],
        }


def take(settings: Settings, tables: Sequence[Table], now: datetime, *, jobs: Sequence[str] = PLANNED) -> Survey:
    """What there is to do of these jobs for these tables; metadata is read, no data.

    Expiry alone is planned without a look at the files: it costs no more where many are live.
    """
    policies = {table.name: policy_of(table, settings.maintenance) for table in tables}
    losing = [table for table in tables if policies[table.name].row_days is not None]
    following = [table for table in TABLES if any(each.name in table.follows for each in losing)]
    found = metadata.those(settings, [*{t.name: t for t in (maintenance_log.TABLE, *tables, *following)}.values()])
    log = journal.of(found[maintenance_log.TABLE.name])
    consumed = {table.name: _consumed(table, found) for table in losing}
    longest = timedelta(hours=settings.maintenance.longest_write_hours)
    held = timedelta(days=settings.audit.keep_days)
    given = Circumstances(now, longest, held, consumed, log.compacted())
    with_files = {*jobs} != {Expiry.job}
    healths = (health.read(found[table.name], with_files=with_files) for table in tables)
    plans = (plan(t, policies[t.name], of, given).of(jobs) for t, of in zip(tables, healths, strict=True))
    return Survey(tuple(plans), log, now)


def look_for_orphans(
    settings: Settings, tables: Sequence[Table], now: datetime
) -> tuple[list[OrphanCleanup], list[LakehouseError]]:
    """What to do about files that no metadata knows, after a look through each table's location; and the tables that
    are refused, or cannot be looked through."""
    from lakehouse_spark.iceberg import pyiceberg
    from lakehouse_spark.maintenance import orphan_files  # bring PyIceberg's catalogs, which no plan without them needs

    catalog = pyiceberg.open_catalog(settings)
    places = orphan_files.locations(catalog)
    found: list[OrphanCleanup] = []
    failures: list[LakehouseError] = []
    for table in tables:
        days = policy_of(table, settings.maintenance).orphan_days
        try:
            action = orphan_cleanup(
                orphan_files.find(
                    catalog, table, older_than=now - timedelta(days=days), share=settings.maintenance.orphan_share,
                    longest_write=timedelta(hours=settings.maintenance.longest_write_hours), locations=places,
                )
            )  # fmt: skip
        except LakehouseError as error:
            failures.append(error)
            continue
        found += [action] if action else []
    return found, failures


def policy_of(table: Table, settings: MaintenanceSettings) -> Policy:
    """The declared policy with what the settings change of its layer's, then of the table's.

    Rows that are declared to stay for ever do.
    """
    unknown = {*settings.layers} - {*LAYERS} or {*settings.tables} - {*BY_NAME}
    if unknown:
        raise UsageError(f"LAKEHOUSE_MAINTENANCE: there is no layer or table {', '.join(sorted(unknown))}")
    policy = table.policy
    for changed in (settings.layers.get(table.namespace), settings.tables.get(table.name)):
        if changed is not None:
            policy = replace(policy, **changed.model_dump(exclude_none=True))
    if table.policy.row_days is None:  # such as those of the change log, from which dimensions are rebuilt
        policy = replace(policy, row_days=None)
    return policy


def chosen(layers: Sequence[str], tables: Sequence[str]) -> list[Table]:
    """The tables that are named, and those of the layers that are; all, where nothing is."""
    named = {*tables}
    if not layers and not tables:
        return list(TABLES)
    return [table for table in TABLES if table.namespace in layers or {table.name, table.short_name} & named]


def _consumed(table: Table, found: Mapping[str, Metadata]) -> datetime | None:
    """The stamp up to which all tables that follow this one have consumed it; None: one has consumed nothing."""
    stamps: list[datetime | None] = [_place(found[t.name], table) for t in TABLES if table.name in t.follows]
    return None if None in stamps else min((stamp for stamp in stamps if stamp is not None), default=None)


def _place(follower: Metadata, table: Table) -> datetime | None:
    """As its cursor says. Where that does not name the table, nothing counts as consumed, though `progress` counts what
    there was by then: what goes by this goes for ever."""
    cursor = follower.cursor
    if isinstance(cursor, UpstreamCursor) and cursor.source == table.name:
        return cursor.upto
    if isinstance(cursor, UpstreamsCursor) and table.name in cursor.upto:
        return cursor.upto[table.name].stamp
    return None


def counts_after(settings: Settings, action: Action) -> dict[str, int]:
    """What an action said that it would change, as it is now."""
    of_files = action.after.keys() & {"files", "bytes", "rows"}
    found = counts(health.read(metadata.of(settings, BY_NAME[action.table]), with_files=bool(of_files)))
    return {name: found[name] for name in action.after}


def counts(now: Health) -> Mapping[str, int]:
    """What plans count, of a table as it is."""
    return {
        "files": now.files,
        "bytes": now.bytes,
        "rows": now.rows,
        "manifests": now.manifests,
        "snapshots": len(now.snapshots),
        "branches": len(now.refs),
    }
