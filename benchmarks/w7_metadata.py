"""W7, metadata: expiry, manifests and orphans with more and more live files, a commit with more and more snapshots."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from benchmarks import contents, lake
from benchmarks.contents import Result
from benchmarks.plan import Case, Contender, Curve, Results, Verdict, Workload, by_parameter, compared
from benchmarks.w6_inputs import OF_A_FILE, RAW
from benchmarks.w7_inputs import KEPT, digest, inputs, live_files
from lakehouse_spark.jobs import maintenance
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.maintenance import snapshot_expiration, survey
from lakehouse_spark.maintenance.plan import Expiry, ManifestRewrite
from lakehouse_spark.table import CATALOG


class OnMetadata(lake.OnKept):
    """Each turn begins with the same metadata."""

    def result(self) -> Result:
        table = contents.catalog(self.home).load_table(RAW.name)
        snapshot = table.current_snapshot()
        assert snapshot is not None
        return Result({"live": digest(live_files(table)), **self.also(table)}, len(snapshot.manifests(table.io)), 0, 0)

    def also(self, table: Any) -> dict[str, str]:
        return {}


class Job(OnMetadata):
    """One of the product's jobs, at a time at which everything is due."""

    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)
    does: ClassVar[str]

    def work(self) -> dict[str, Any]:
        now = datetime.now(UTC) + timedelta(days=8)
        [done] = maintenance.run(self.spark, self.settings, jobs=(self.does,), tables=(RAW.name,), now=now)
        return {"seconds": done.seconds}


class Call(OnMetadata):
    """One of Iceberg's procedures."""

    call: ClassVar[str]

    def work(self) -> None:
        self.rows = self.spark.sql(f"CALL {CATALOG}.system.{self.call}").collect()


class KeepsFive(OnMetadata):
    def also(self, table: Any) -> dict[str, str]:
        return {"snapshots": str(len(table.metadata.snapshots))}


class OursExpiry(Job, KeepsFive):
    name = "lakehouse expiry"
    note = "the job snapshot_expiration: a hundred snapshots, planned and logged; files are manifests"
    does = Expiry.job


class ExpiryAlone(KeepsFive):
    name = "lakehouse expiry, planned before"
    note = "what the job does once it knows what is due; files are manifests"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def prepare(self) -> None:
        super().prepare()
        now = datetime.now(UTC) + timedelta(days=8)
        [plan] = survey.take(self.settings, [RAW], now, jobs=[Expiry.job]).plans
        [self.due] = (action for action in plan.actions if isinstance(action, Expiry))

    def work(self) -> None:
        snapshot_expiration.carry_out(self.spark, RAW, self.due)


class DefaultExpiry(Call, KeepsFive):
    name = "expire_snapshots"
    note = "Iceberg's procedure, of the same snapshots"
    call = f"expire_snapshots(table => '{RAW.name}', older_than => TIMESTAMP '2100-01-01', retain_last => {KEPT})"


class OursManifests(Job):
    name = "lakehouse manifests"
    note = "the job manifest_rewrite, planned and logged; files are manifests"
    does = ManifestRewrite.job


class DefaultManifests(Call):
    name = "rewrite_manifests"
    note = "Iceberg's procedure with nothing else said"
    call = f"rewrite_manifests(table => '{RAW.name}')"


class OursOrphans(Contender):
    name = "lakehouse orphans"
    note = "what orphan_cleanup --dry-run looks for, no Spark"

    def open(self) -> None:
        self.settings = lake.here(Path(self.job.inputs["home"]))

    def prepare(self) -> None:
        lake.restore(self.settings.home, self.job.inputs["current"])

    def work(self) -> None:
        actions, failures = survey.look_for_orphans(self.settings, [RAW], datetime.now(UTC))
        assert not failures, failures
        [self.action] = actions

    def result(self) -> Result:
        return Result({"orphans": digest(self.action.parts())}, 0, 0, 0)


class DefaultOrphans(Call):
    name = "remove_orphan_files"
    note = "Iceberg's procedure, dry_run, of the same age"
    call = f"remove_orphan_files(table => '{RAW.name}', dry_run => true)"

    def result(self) -> Result:
        return Result({"orphans": digest(row["orphan_file_location"] for row in self.rows)}, 0, 0, 0)


class Listing(Contender):
    name = "limit: listing, set difference"
    note = "os.walk, and the live paths from a text file"
    is_limit = True

    def work(self) -> None:
        live = set(Path(self.job.inputs["live"]).read_text().split("\n"))
        folders = os.walk(self.job.inputs["folder"])
        there = {f"{folder}/{name}" for folder, _, names in folders for name in names if not name.endswith(".crc")}
        self.found = there - live

    def result(self) -> Result:
        return Result({"orphans": digest(self.found)}, 0, 0, 0)


class OursCommit(OnMetadata):
    name = "lakehouse commit"
    note = "commit.append of 200 rows, with a cursor: three changes of the metadata"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def prepare(self) -> None:
        super().prepare()
        self.fresh = self.spark.read.parquet(*self.job.inputs["newest"])

    def work(self) -> None:
        base = snapshots.state(self.spark, RAW)
        assert base.cursor is not None
        commit.append(self.spark, RAW, self.fresh, base, base.cursor)

    def result(self) -> Result:
        head = contents.catalog(self.home).load_table(RAW.name).current_snapshot()
        assert head is not None
        return Result({"rows": str(head.summary["total-records"]) if head.summary else ""}, 0, 0, 0)


class PlainCommit(OursCommit):
    name = "Spark's append"
    note = "writeTo.append() of the same rows, no cursor, no branch: one change"
    conf = lake.PEER_CONF

    def work(self) -> None:
        self.fresh.writeTo(RAW.identifier).append()


LIVING = (
    OursExpiry, ExpiryAlone, DefaultExpiry, OursManifests, DefaultManifests, OursOrphans, DefaultOrphans, Listing,
)  # fmt: skip
COMMITTING = (OursCommit, PlainCommit)
CONTENDERS: tuple[type[Contender], ...] = (*LIVING, *COMMITTING)
_LIVE = {"1 k live files": 1_000, "10 k live files": 10_000, "100 k live files": 100_000}
_SNAPSHOTS = {"100 snapshots": 100, "1 k snapshots": 1_000, "10 k snapshots": 10_000, "60 k snapshots": 60_000}
_FEW, _MANY = "1 k live files", "100 k live files"
_CAP = "1 k snapshots"
"""BRONZE_POLICY's max_snapshots."""


def cases(size: str, runs: int) -> Sequence[Case]:
    def live(name: str) -> Case:
        return Case(name, {"records": 0, "live": _LIVE[name]}, LIVING, runs, timeout=1200, children=1)

    def kept(name: str) -> Case:
        params = {"records": OF_A_FILE, "snapshots": _SNAPSHOTS[name]}
        return Case(name, params, COMMITTING, runs, timeout=1200, children=1)

    lives, snapshots = {"tiny": (1, 1), "small": (2, 3), "default": (3, 4), "full": (3, 4)}[size]
    return [*map(live, [*_LIVE][:lives]), *map(kept, [*_SNAPSHOTS][:snapshots])]


def judge(results: Results) -> list[Verdict]:
    """BENCHMARKS.md's goals; each beside Iceberg's own is shown, at the most files that were run."""
    most = next((name for name in reversed(_LIVE) if results.of(name, OursExpiry.name)), _MANY)
    ours = (OursExpiry, ExpiryAlone)
    pairs = ((OursExpiry, DefaultExpiry), (OursManifests, DefaultManifests), (OursOrphans, DefaultOrphans))
    return [
        *(_ratio(results, (_MANY, o), (_FEW, o), f"{o.name}, {_MANY}: at most 1.3x of {_FEW}", 1.3) for o in ours),
        _ratio(results, (_CAP, OursCommit), ("100 snapshots", OursCommit), "a commit at 1 k: at most 1.3x at 100", 1.3),
        *(_ratio(results, (most, d), (most, o), f"{most}: {d.name} beside {o.name}") for o, d in pairs),
        _ratio(results, (most, OursOrphans), (most, Listing), f"{most}: {OursOrphans.name} beside the limit"),
    ]


def _ratio(
    results: Results, one: tuple[str, type[Contender]], other: tuple[str, type[Contender]], goal: str,
    most: float | None = None,
) -> Verdict:  # fmt: skip
    above, below = (results.median(case, contender.name) for case, contender in (one, other))
    return compared(goal, above, below, None if most is None else lambda times: times <= most)


WORKLOAD = Workload(
    name="W7",
    title="metadata: expiry, manifests, orphans, many snapshots",
    cases=cases,
    inputs=inputs,
    judge=judge,
    curves=(
        Curve("CPU seconds, warm", "live files", by_parameter("live", "cpu", tuple(_LIVE))),
        Curve("wall seconds, warm", "live files", by_parameter("live", "wall", tuple(_LIVE))),
        Curve("wall seconds, warm", "kept snapshots", by_parameter("snapshots", "wall", tuple(_SNAPSHOTS))),
    ),
)
