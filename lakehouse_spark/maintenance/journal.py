"""The log of maintenance: what was done to a table, and the leases by which runs know of each other.

A maintenance job holds the tables that it works on, a continuous bronze_writer those that it writes, and live mode the
lakehouse. A lease is courtesy: it keeps two runs from doing the same work. What keeps tables whole is how they commit,
so a clock that is wrong may cost a lease and nothing else. A run that died holds its tables until its lease has run
out.
"""

import json
import threading
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from lakehouse_spark.iceberg import metadata, rows
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.lake.session import join_session
from lakehouse_spark.maintenance.plan import PLANNED, Action, OrphanCleanup
from lakehouse_spark.metadata.maintenance_log import DONE, FAILED, RENEWED, STARTED, TABLE
from lakehouse_spark.settings import Settings

LAKEHOUSE = "*"
"""In place of a table: all of them, of what runs once in a lakehouse."""
_MAINTENANCE = (*PLANNED, OrphanCleanup.job)
"""Jobs of which one at a time works on a table; others may write to it meanwhile."""
_ENDED = (DONE, FAILED)
_REACH = timedelta(days=400)
LEASES = timedelta(hours=3)
"""No lease is as long."""
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


_READ = ("run_id", "table_name", "job", "status", "lease_until", "detail", "_logged_at")


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
        """By table, the failure of its latest run of any maintenance job, if that failed."""
        ended = (entry for entry in self.entries if entry.job in _MAINTENANCE and entry.status in _ENDED)
        latest = {entry.table: entry for entry in ended}
        return {table: entry for table, entry in latest.items() if entry.status == FAILED}

    def holder(self, table: str, now: datetime, jobs: Collection[str] = _MAINTENANCE) -> Entry | None:
        """The run of one of the jobs that holds a table: it neither ended nor let its lease run out."""
        of_jobs = (entry for entry in self.entries if entry.table == table and entry.job in jobs)
        latest = {(entry.run_id, entry.job): entry for entry in of_jobs}
        open_ones = (e for e in latest.values() if e.status not in _ENDED and e.lease_until and e.lease_until > now)
        return next(open_ones, None)

    def holders(self, now: datetime) -> Sequence[Entry]:
        """The runs that hold a table or the lakehouse, whatever their job: one entry for each thing that is held."""
        held = dict.fromkeys((entry.table, entry.job) for entry in self.entries)
        found = (self.holder(table, now, (job,)) for table, job in held)
        return [entry for entry in found if entry is not None]


def read(settings: Settings, reach: timedelta = _REACH) -> Journal:
    """The log as it is now, of the last months; for leases alone, LEASES reaches far enough back."""
    return of(metadata.of(settings, TABLE), reach)


def of(log: Metadata, reach: timedelta = _REACH) -> Journal:
    """The log as it was read. Renewals, of which there are most by far, are left out where they are older than any
    lease."""
    since, leased = (datetime.now(UTC) - back for back in (reach, LEASES))
    files = [f for f in log.data_files if (newest := f.newest(log.stamp_id)) is None or newest >= since]
    at, status = pc.field(str(TABLE.stamp)), pc.field("status")
    wanted = (at >= since) & ((status != RENEWED) | (at >= leased))
    found = [row for batch in rows.live_batches(log, files, _READ) for row in batch.filter(wanted).to_pylist()]
    return Journal(tuple(map(_entry, sorted(found, key=lambda row: row[str(TABLE.stamp)]))))


def _entry(row: Mapping[str, Any]) -> Entry:
    return Entry(
        run_id=row["run_id"], table=row["table_name"], job=row["job"], status=row["status"], at=row["_logged_at"],
        lease_until=row["lease_until"], detail=json.loads(row["detail"] or "{}"),
    )  # fmt: skip


@dataclass
class Run:
    """One run of a job, which logs and holds tables under an id of its own."""

    spark: SparkSession
    settings: Settings
    lease: timedelta
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _renewed: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def start(self, actions: Sequence[Action]) -> Mapping[str, Entry]:
        """Takes the leases of the actions' tables, all in one commit; returns who holds those that are held."""
        rows = [self._row(a.table, a.job, STARTED, reason=a.reason, planned=_pairs(a.after)) for a in actions]
        return self._take(rows, _MAINTENANCE)

    def hold(self, table: str, job: str, reason: str, besides: Collection[str] = ()) -> Entry | None:
        """Takes the lease of a table unless a run of the same job holds it, or one of those `besides`; returns that."""
        return self._take([self._row(table, job, STARTED, reason=reason)], (job, *besides)).get(table)

    def announce(self, tables: Sequence[str], job: str, reason: str) -> None:
        """Takes the leases of tables, whoever has one: of a run that died, too."""
        now = datetime.now(UTC)
        self._log(*(self._row(table, job, STARTED, lease_until=now + self.lease, reason=reason) for table in tables))
        self._renewed.update(dict.fromkeys(((table, job) for table in tables), now))

    def _take(self, rows: Sequence[dict[str, Any]], jobs: Collection[str]) -> Mapping[str, Entry]:
        """Logs the rows whose tables no other run of these jobs holds; returns who holds the others."""
        held: dict[str, Entry] = {}

        def attempt() -> None:
            base, now = snapshots.state(self.spark, TABLE), datetime.now(UTC)
            journal = read(self.settings, LEASES)
            found = {row["table_name"]: journal.holder(row["table_name"], now, jobs) for row in rows}
            held.clear()
            held.update({table: entry for table, entry in found.items() if entry and entry.run_id != self.id})
            free = [{**row, "lease_until": now + self.lease} for row in rows if row["table_name"] not in held]
            if free:
                self._append(base, free)
                self._renewed.update({(row["table_name"], row["job"]): now for row in free})

        commit.again_if_overtaken(attempt)
        return held

    def renew(self, job: str, *tables: str) -> None:
        """Says that the run is alive, once half of its lease is over."""
        now = datetime.now(UTC)
        due = [table for table in tables if now - self._renewed[table, job] >= self.lease / 2]
        if due:
            self._log(*(self._row(table, job, RENEWED, lease_until=now + self.lease) for table in due))
            self._renewed.update(dict.fromkeys(((table, job) for table in due), now))

    @contextmanager
    def renewing(self, job: str, *tables: str) -> Iterator[None]:
        """Inside it the leases are renewed, however long other work takes; in the end they are given back.

        What cannot be logged, as while the catalog is away, is left: the lease may run out, and nothing else happens.
        """
        ended = threading.Event()

        def renew() -> None:
            join_session(self.spark)
            while not ended.wait(self.lease.total_seconds() / 8):
                with suppress(Exception):
                    self.renew(job, *tables)

        thread = threading.Thread(target=renew, name="leases", daemon=True)
        thread.start()
        status = FAILED
        try:
            yield
            status = DONE
        finally:
            ended.set()
            thread.join()
            with suppress(Exception):
                self._log(*(self._row(table, job, status) for table in tables))

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
