"""The log of maintenance: what was done to a table, and the lease by which one run at a time does it.

A lease is courtesy: it keeps two runs from doing the same work. What keeps tables whole is how they commit, so a clock
that is wrong may cost a lease and nothing else. A run that died holds its tables until its lease has run out.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyspark.sql import SparkSession

from lakehouse_spark.lake import commit, pyiceberg, snapshots
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.maintenance.plan import Action
from lakehouse_spark.metadata.maintenance_log import DONE, FAILED, RENEWED, STARTED, TABLE

_ENDED = (DONE, FAILED)
_REACH = timedelta(days=400)
_ROW = pa.schema(
    [
        *((name, pa.string()) for name in ("run_id", "table_name", "job", "status")),
        ("lease_until", pa.timestamp("us", tz="UTC")),
        ("reason", pa.string()),
        *((name, pa.map_(pa.string(), pa.int64())) for name in ("planned", "done")),
        ("detail", pa.string()),
        ("_logged_at", pa.timestamp("us", tz="UTC")),
    ]
)


@dataclass(frozen=True)
class Entry:
    """One row of the log."""

    run_id: str
    table: str
    job: str
    status: str
    at: datetime
    lease_until: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Journal:
    """The log as it was read, oldest entry first."""

    entries: tuple[Entry, ...] = ()

    def compacted(self) -> dict[str, frozenset[int]]:
        """By table, the sequence numbers of what compaction committed."""
        found: dict[str, set[int]] = {}
        for entry in self.entries:
            found.setdefault(entry.table, set()).update(entry.detail.get("sequences", ()))
        return {table: frozenset(numbers) for table, numbers in found.items()}

    def last_done(self, job: str) -> dict[str, datetime]:
        """By table, when a job last ended well."""
        return {entry.table: entry.at for entry in self.entries if (entry.job, entry.status) == (job, DONE)}

    def last_failure(self) -> dict[str, Entry]:
        """By table, the failure of its latest run of any job, if that failed."""
        latest = {entry.table: entry for entry in self.entries if entry.status in _ENDED}
        return {table: entry for table, entry in latest.items() if entry.status == FAILED}

    def holder(self, table: str, now: datetime) -> Entry | None:
        """The run that holds a table: the latest one that neither ended nor let its lease run out."""
        latest = {(entry.run_id, entry.job): entry for entry in self.entries if entry.table == table}
        open_ones = (e for e in latest.values() if e.status not in _ENDED and e.lease_until and e.lease_until > now)
        return next(open_ones, None)


def read(catalog: Catalog) -> Journal:
    """The log of the last months, as it is now."""
    columns = ("run_id", "table_name", "job", "status", "lease_until", "detail", "_logged_at")
    since = f"{TABLE.stamp} >= '{(datetime.now(UTC) - _REACH).isoformat()}'"
    rows = pyiceberg.load(catalog, TABLE).scan(since, selected_fields=columns).to_arrow()
    return Journal(tuple(_entry(row) for row in rows.sort_by(str(TABLE.stamp)).to_pylist()))


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        run_id=row["run_id"], table=row["table_name"], job=row["job"], status=row["status"], at=row["_logged_at"],
        lease_until=row["lease_until"], detail=json.loads(row["detail"] or "{}"),
    )  # fmt: skip


@dataclass
class Run:
    """One run of a maintenance job, which logs and holds tables under an id of its own."""

    spark: SparkSession
    catalog: Catalog
    lease: timedelta
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _renewed: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def start(self, actions: Sequence[Action]) -> Mapping[str, Entry]:
        """Takes the leases of the actions' tables, all in one commit; returns who holds those that are held."""
        held: dict[str, Entry] = {}

        def attempt() -> None:
            base, now = snapshots.state(self.spark, TABLE), datetime.now(UTC)
            journal = read(self.catalog)
            found = {action.table: journal.holder(action.table, now) for action in actions}
            held.clear()
            held.update({table: entry for table, entry in found.items() if entry and entry.run_id != self.id})
            free = [action for action in actions if action.table not in held]
            until = now + self.lease
            rows = [
                self._row(a.table, a.job, STARTED, lease_until=until, reason=a.reason, planned=_pairs(a.after))
                for a in free
            ]
            if rows:
                self._append(base, rows)
                self._renewed.update({(action.table, action.job): now for action in free})

        commit.again_if_overtaken(attempt)
        return held

    def renew(self, table: str, job: str) -> None:
        """Says that the run is alive, once half of its lease is over."""
        now = datetime.now(UTC)
        if now - self._renewed[table, job] < self.lease / 2:
            return
        self._log(self._row(table, job, RENEWED, lease_until=now + self.lease))
        self._renewed[table, job] = now

    def end(self, table: str, job: str, status: str, done: Mapping[str, int] | None = None, **detail: Any) -> None:
        """Logs what came of it, and gives the lease back."""
        said = json.dumps(detail) if detail else None
        self._log(self._row(table, job, status, done=_pairs(done), detail=said))

    def looked(self, tables: Sequence[str], job: str) -> None:
        """Logs, in one commit, that a job found nothing to do in these tables."""
        rows = [self._row(table, job, DONE, done=_pairs({})) for table in tables]
        if rows:
            self._log(*rows)

    def _row(self, table: str, job: str, status: str, **given: Any) -> dict[str, Any]:
        return {"run_id": self.id, "table_name": table, "job": job, "status": status, **given}

    def _log(self, *rows: dict[str, Any]) -> None:
        commit.again_if_overtaken(lambda: self._append(snapshots.state(self.spark, TABLE), rows))

    def _append(self, base: snapshots.State, rows: Sequence[dict[str, Any]]) -> None:
        stamp = base.next_stamp(datetime.now(UTC))
        table = pa.Table.from_pylist([{**row, TABLE.stamp: stamp} for row in rows], schema=_ROW)
        notes = {"run": self.id, "logged": sorted({row["status"] for row in rows})}
        logged = self.spark.createDataFrame(table).coalesce(1)
        commit.append(self.spark, TABLE, logged, base, Cursor(stamp=stamp, notes=notes))


def _pairs(counts: Mapping[str, int] | None) -> Sequence[tuple[str, int]] | None:
    return None if counts is None else list(counts.items())
