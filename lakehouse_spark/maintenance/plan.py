"""What there is to do for a table, with the reason, the effect and the cost; and what is left alone, and why. Pure."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, timedelta
from itertools import chain, takewhile
from typing import TYPE_CHECKING, Any

from lakehouse_spark.lake.cursor import HELD
from lakehouse_spark.maintenance.health import File, Health, Partition, Ref, Snapshot
from lakehouse_spark.table import Policy, Table

if TYPE_CHECKING:
    from lakehouse_spark.maintenance.orphan_files import Found

SMALL, _LARGE = 0.75, 1.8
"""Shares of the target size below and above which Iceberg takes a file up."""
_STALE = timedelta(days=1)
"""A partition that never settles is compacted once what it gathered is as old."""
_MANIFESTS = 20
"""With fewer manifests, rewriting them gains a reader nothing."""
_STAGED = re.compile(r"(?:commit|compaction)_(?:(\d{8}[Tt]\d{6})_)?[0-9a-f]{32}")
"""Branches on which writers stage; the time is when it was made."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something to do for one table: `before` and `after` are counts by name, as they should change."""

    table: str
    reason: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    reads: int = 0
    """Bytes of data that it reads, and about as many that it writes."""

    job = ""

    def as_dict(self) -> dict[str, Any]:
        common = {f.name: getattr(self, f.name) for f in fields(Action)}
        return {"job": self.job, **common, "parts": [*self.parts()]}

    def parts(self) -> Iterator[str]:
        """What of the table it takes up, for people to read."""
        return iter(())


@dataclass(frozen=True)
class Group:
    """Partitions whose files are compacted; of bronze's rows that no event time dates, the files of one day."""

    partitions: tuple[Partition, ...]
    arrived: date | None = None
    is_of_older_spec: bool = False
    """Whether the files are of another partition spec than is written by now: then all of them are taken up."""


@dataclass(frozen=True, kw_only=True)
class Compaction(Action):
    groups: tuple[Group, ...]

    job = "compaction"

    def parts(self) -> Iterator[str]:
        for group in self.groups:
            for partition in group.partitions:
                yield partition.name + (f" (arrived {group.arrived})" if group.arrived else "")


@dataclass(frozen=True, kw_only=True)
class Expiry(Action):
    before_instant: datetime
    """Snapshots of the history that are older go: always its oldest ones."""
    branches: tuple[str, ...] = ()
    """Branches to drop: left behind by writers that died, or past their age."""
    heads: tuple[int, ...] = ()
    """The snapshot at which each of them was seen: one that has another one by now stays."""
    loose: tuple[int, ...] = ()
    """Snapshots that are on no branch any more."""

    job = "snapshot_expiration"

    def parts(self) -> Iterator[str]:
        yield f"snapshots before {self.before_instant.isoformat(timespec='seconds')}"
        yield from (f"branch {name}" for name in self.branches)


@dataclass(frozen=True, kw_only=True)
class ManifestRewrite(Action):
    job = "manifest_rewrite"


@dataclass(frozen=True, kw_only=True)
class Retention(Action):
    first: date
    """The first day whose rows stay."""
    files: tuple[File, ...]
    partitions: tuple[str, ...]

    job = "bronze_retention"

    def parts(self) -> Iterator[str]:
        return iter(self.partitions)


@dataclass(frozen=True, kw_only=True)
class OrphanCleanup(Action):
    """Planned by itself, since it takes a listing of the table's location: `found` is what that showed."""

    found: "Found"

    job = "orphan_cleanup"

    def parts(self) -> Iterator[str]:
        return (file.path for file in self.found.orphans)


@dataclass(frozen=True)
class Kept:
    """What a job leaves alone, how much of it there is, and why."""

    job: str
    what: str
    number: int
    why: str


@dataclass(frozen=True)
class Plan:
    """For one table: what to do, in the order in which it is done, and what is kept."""

    table: str
    actions: tuple[Action, ...] = ()
    kept: tuple[Kept, ...] = ()

    def of(self, jobs: Iterable[str]) -> "Plan":
        """The part of it that these jobs do."""
        wanted = set(jobs)
        actions = tuple(action for action in self.actions if action.job in wanted)
        return Plan(self.table, actions, tuple(kept for kept in self.kept if kept.job in wanted))


@dataclass(frozen=True)
class Circumstances:
    """What a plan depends on beside a table's own metadata."""

    now: datetime
    longest_write: timedelta = timedelta(days=1)
    longest_held: timedelta = timedelta(days=14)
    """How long a commit is held back that nobody decides about."""
    consumed: Mapping[str, datetime | None] = field(default_factory=dict)
    """Of a table whose rows go after some days: the stamp up to which all that follow it have consumed it."""
    compacted: Mapping[str, frozenset[int]] = field(default_factory=dict)
    """By table, sequence numbers of compactions whose snapshots may be gone."""


PLANNED = (Retention.job, Compaction.job, ManifestRewrite.job, Expiry.job)
"""In the order in which they are done to a table: what goes need not be compacted, what is replaced may expire."""


def plan(table: Table, policy: Policy, health: Health, given: Circumstances) -> Plan:
    """What is due for a table; nothing for one that was never written to."""
    if health.snapshot is None:
        return Plan(table.name)
    removal, kept_rows = _retention(table, policy, health, given)
    left = health if removal is None else _without(health, removal.files)
    rewrites: list[tuple[Action | None, list[Kept]]] = [_compaction(table, policy, left, given), _manifests(health)]
    if any(HELD.fullmatch(ref.name) and not ref.is_tag for ref in health.refs):
        why = "a commit is held back, and goes on from what is there"
        rewrites = [(None, [Kept(Compaction.job, "tables", 1, why), Kept(ManifestRewrite.job, "tables", 1, why)])]
    found = [
        (removal, kept_rows),
        *rewrites,
        _expiry(policy, health, given),
    ]
    actions = tuple(action for action, _ in found if action is not None)
    return Plan(table.name, actions, tuple(kept for _, each in found for kept in each))


def orphan_cleanup(found: "Found") -> OrphanCleanup | None:
    """What there is to do about the orphans of a table; None where it has none that may go."""
    number = len(found.orphans)
    if not number:
        return None
    day = found.older_than.isoformat(sep=" ", timespec="minutes")
    younger = f"; {found.younger:,} more are younger" if found.younger else ""
    return OrphanCleanup(
        table=found.table,
        reason=f"{number:,} files of {found.bytes:,} bytes are in no metadata and older than {day}{younger}",
        before={"files there": found.listed},
        after={"files there": found.listed - number},
        found=found,
    )


# Rows


def _retention(
    table: Table, policy: Policy, health: Health, given: Circumstances
) -> tuple[Retention | None, list[Kept]]:
    if policy.row_days is None:
        return None, []
    job, first = Retention.job, (given.now - timedelta(days=policy.row_days)).date()
    consumed = given.consumed.get(table.name) if health.cursor else None
    gone: list[File] = []
    names: list[str] = []
    kept: Counter[str] = Counter()
    for partition in health.partitions:
        is_old = partition.day is not None and partition.day < first
        due = [file for file in partition.files if is_old or _arrived_before(file, first)]
        free = [file for file in due if _is_consumed(file, consumed)]
        if len(free) < len(due):
            kept["silver has not consumed all of it"] += 1
            if is_old:  # it goes whole or not at all
                continue
        if free:
            gone += free
            names.append(partition.name)
    why = [Kept(job, "partitions", number, reason) for reason, number in kept.items()]
    if not gone:
        return None, why
    records, size = sum(file.records for file in gone), sum(file.bytes for file in gone)
    before = {"files": health.files, "bytes": health.bytes, "rows": health.rows}
    after = {"files": health.files - len(gone), "bytes": health.bytes - size, "rows": health.rows - records}
    reason = f"{records:,} rows are older than {policy.row_days} days (before {first}), and consumed"
    return (
        Retention(
            table=health.table, reason=reason, before=before, after=after, reads=size, first=first,
            files=tuple(gone), partitions=tuple(names),
        ),
        why,
    )  # fmt: skip


def _without(health: Health, files: Iterable[File]) -> Health:
    gone = {file.path for file in files}
    left = (replace(p, files=tuple(f for f in p.files if f.path not in gone)) for p in health.partitions)
    return replace(health, partitions=tuple(p for p in left if p.files or p.deletes))


def _arrived_before(file: File, first: date) -> bool:
    return file.newest_stamp is not None and file.newest_stamp.date() < first


def _is_consumed(file: File, consumed: datetime | None) -> bool:
    return consumed is not None and file.newest_stamp is not None and file.newest_stamp <= consumed


# Files


def _compaction(
    table: Table, policy: Policy, health: Health, given: Circumstances
) -> tuple[Compaction | None, list[Kept]]:
    groups: list[Group] = []
    together: list[Partition] = []
    older: list[Partition] = []
    kept: Counter[str] = Counter()
    before = after = size = of_older = 0
    for partition in health.partitions:
        for group in _groups(table, policy, health, partition):
            part = group.partitions[0]
            if why := _left_alone(table, policy, health, given, part):
                kept[why] += 1
                continue
            if group.arrived is not None:
                groups.append(group)
            else:
                (older if group.is_of_older_spec else together).append(part)
            candidates = _candidates(policy, health, part)
            bytes_of = sum(file.bytes for file in candidates)
            before += len(candidates) + part.deletes
            after += max(1, math.ceil(bytes_of / policy.target_file_bytes))
            size += bytes_of
            of_older += len(candidates) if group.is_of_older_spec else 0
    if older:
        groups.insert(0, Group(tuple(older), is_of_older_spec=True))
    if together:
        groups.insert(0, Group(tuple(together)))
    why_kept = [Kept(Compaction.job, "partitions", number, reason) for reason, number in kept.items()]
    if not groups:
        return None, why_kept
    reasons = []
    if before > of_older:
        number = sum(len(group.partitions) for group in groups if not group.is_of_older_spec)
        reasons.append(f"{before - of_older:,} files in {number:,} partitions are small or have deletes to fold in")
    if of_older:
        number = sum(len(group.partitions) for group in groups if group.is_of_older_spec)
        reasons.append(f"{of_older:,} files in {number:,} partitions are of an older partition spec")
    return (
        Compaction(
            table=health.table,
            reason="; ".join(reasons),
            before={"files": health.files, "bytes": health.bytes},
            after={"files": health.files - before + after, "bytes": health.bytes},
            reads=size,
            groups=tuple(groups),
        ),
        why_kept,
    )


def _left_alone(table: Table, policy: Policy, health: Health, given: Circumstances, part: Partition) -> str | None:
    """Why a partition is not compacted; None where it is."""
    fresh = candidates = _candidates(policy, health, part)
    if part.key[0] == health.spec or not part.files:
        compacted = {f.sequence for f in part.files if _is_compaction(health, given, f.sequence)}
        fresh = [file for file in _of_wrong_size(policy, part) if file.sequence not in compacted]
        number = len(fresh) + (part.deletes if part.delete_sequence > max(compacted, default=0) else 0)
        if len(candidates) + part.deletes >= policy.min_input_files and candidates and compacted and not number:
            return "nothing changed since it was compacted"
        if min(number, len(candidates) + part.deletes) < policy.min_input_files or not candidates:
            return f"fewer than {policy.min_input_files} files to gain from"
    until = _settles(table, policy, health, part, fresh)
    return "still being written" if until and until > given.now else None


def _candidates(policy: Policy, health: Health, part: Partition) -> list[File]:
    """The files that Iceberg takes up."""
    # Which files have deletes no manifest tells: then it may be any.
    is_any = part.deletes or part.key[0] != health.spec
    return list(part.files) if is_any else _of_wrong_size(policy, part)


def _groups(table: Table, policy: Policy, health: Health, partition: Partition) -> Iterator[Group]:
    """The partition; where its rows go by when they arrived, a group for each day of arrival."""
    is_older = partition.key[0] != health.spec
    if policy.row_days is None or not _goes_by_arrival(partition):
        yield Group((partition,), is_of_older_spec=is_older)
        return
    days: dict[date | None, list[File]] = {}
    for file in partition.files:
        spans = file.oldest_stamp and file.newest_stamp and file.oldest_stamp.date() == file.newest_stamp.date()
        days.setdefault(file.newest_stamp.date() if file.newest_stamp and spans else None, []).append(file)
    for day, files in days.items():
        if day is not None:
            yield Group((_only(partition, files),), day, is_older)


def _goes_by_arrival(partition: Partition) -> bool:
    """Whether an event time is missing, or may lie after the arrival."""
    oldest = [file.oldest_stamp for file in partition.files]
    return partition.day is None or any(stamp is None or stamp.date() < partition.day for stamp in oldest)


def _only(partition: Partition, files: Sequence[File]) -> Partition:
    return replace(partition, files=tuple(files), deletes=0, delete_sequence=0)


def _of_wrong_size(policy: Policy, partition: Partition) -> list[File]:
    """Files that Iceberg takes up for their size."""
    low, high = policy.target_file_bytes * SMALL, policy.target_file_bytes * _LARGE
    return [file for file in partition.files if not low <= file.bytes <= high]


def _is_compaction(health: Health, given: Circumstances, sequence: int) -> bool:
    """By the snapshot, or, where that is gone, by the log."""
    snapshot = health.committed.get(sequence)
    return sequence in given.compacted.get(health.table, ()) if snapshot is None else snapshot.is_compaction


def _settles(
    table: Table, policy: Policy, health: Health, partition: Partition, fresh: Sequence[File]
) -> datetime | None:
    """When a partition by time will have settled if nothing more comes; None for one that is not by time, or whose
    commits are forgotten."""
    if table.day_column is None:
        return None
    written = [_written(health, file) for file in partition.files]
    deleted = health.committed.get(partition.delete_sequence)
    newest = max([*(at for at in written if at), *([deleted.at] if deleted else [])], default=None)
    if newest is None:
        return None
    gathered = [at for file in fresh if (at := _written(health, file))]
    oldest = min(gathered, default=newest) if len(gathered) == len(fresh) else None
    settled = newest + timedelta(minutes=policy.settle_minutes)
    return None if oldest is None else min(settled, oldest + _STALE)


def _written(health: Health, file: File) -> datetime | None:
    """When a file was committed; by its rows' stamp where its snapshot is gone."""
    snapshot = health.committed.get(file.sequence)
    return file.newest_stamp if snapshot is None else snapshot.at


# Manifests


def _manifests(health: Health) -> tuple[ManifestRewrite | None, list[Kept]]:
    specs: set[int] = {partition.key[0] for partition in health.partitions}
    kinds = len(specs) + bool(any(partition.deletes for partition in health.partitions))
    after = max(kinds, math.ceil(health.manifest_bytes / health.manifest_target_bytes))
    if health.manifests < max(_MANIFESTS, 4 * after):
        kept = Kept(ManifestRewrite.job, "manifests", health.manifests, "few enough, or as large as they should be")
        return None, [kept] if health.manifests else []
    reason = f"{health.manifests:,} manifests have {health.manifest_bytes:,} bytes together"
    action = ManifestRewrite(
        table=health.table, reason=reason, before={"manifests": health.manifests}, after={"manifests": after}
    )
    return action, []


# Snapshots


def _expiry(policy: Policy, health: Health, given: Circumstances) -> tuple[Expiry | None, list[Kept]]:
    history = health.history
    dead = [ref for ref in health.refs if _is_left_behind(ref, health, given) or _is_past_its_age(ref, health, given)]
    names = {ref.name for ref in dead}
    refs = [ref for ref in health.refs if ref.name not in names]
    lasting = [ref for ref in refs if ref.is_tag or ref.max_age is None]  # others hold nothing back but their own head
    why = _reasons(policy, health, lasting, given.now)
    first = next(index for index, snapshot in enumerate(history) if snapshot.id in why)
    on_branches = (snapshot for ref in lasting if not ref.is_tag for snapshot in _own(health, ref))
    cutoff = min(snapshot.at for snapshot in chain(history[first:], on_branches))
    for snapshot in history[first:]:
        why.setdefault(snapshot.id, "comes after one that is kept")
    while first and history[first - 1].at >= cutoff:  # Iceberg's cut keeps it too
        first -= 1
        why[history[first].id] = "no older than one that is kept"
    heads = {ref.snapshot: ref.name for ref in refs}
    why |= {snapshot.id: f"branch {heads[snapshot.id]}" for snapshot in history[:first] if snapshot.id in heads}
    gone = [snapshot for snapshot in history[:first] if snapshot.id not in heads]
    if policy.max_snapshots is None or not gone:  # what is loose does not go sooner for a history that is young
        cutoff = min(cutoff, given.now - timedelta(days=policy.snapshot_days))
    loose = _loose(policy, health, refs, dead, given, cutoff)
    kept = [Kept(Expiry.job, "snapshots", number, reason) for reason, number in Counter(why.values()).items()]
    if not gone and not dead and not loose:
        return None, kept
    reasons = []
    if gone:
        is_over = policy.max_snapshots is not None and len(history) > policy.max_snapshots
        limit = f", or more than {policy.max_snapshots:,} are kept" if is_over else ""
        reasons.append(f"{len(gone):,} snapshots are older than {policy.snapshot_days} days{limit}")
    if dead:
        forgotten = sum(HELD.fullmatch(ref.name) is not None for ref in dead)
        if forgotten:
            reasons.append(f"{forgotten} commits were held back for {given.longest_held.days} days, and nobody decided")
        aged = sum(_is_past_its_age(ref, health, given) for ref in dead)
        if aged:
            reasons.append(f"{aged} branches are past their age")
        if len(dead) > forgotten + aged:
            reasons.append(f"{len(dead) - forgotten - aged} branches were left behind by writers that died")
    if loose:
        reasons.append(f"{len(loose)} snapshots are on no branch")
    left_behind = _cut_from_branches(health, refs, cutoff)
    before = {"snapshots": len(health.snapshots), "branches": len(health.refs)}
    after = {"snapshots": len(health.snapshots) - len(gone) - len(loose) - left_behind, "branches": len(refs)}
    action = Expiry(
        table=health.table,
        reason="; ".join(reasons),
        before=before,
        after=after,
        before_instant=cutoff,
        branches=tuple(ref.name for ref in dead),
        heads=tuple(ref.snapshot for ref in dead),
        loose=tuple(snapshot.id for snapshot in loose),
    )
    return action, kept


def _reasons(policy: Policy, health: Health, refs: Sequence[Ref], now: datetime) -> dict[int, str]:
    """Why a snapshot of the history is kept, by its id; those that may go are missing."""
    history, why = health.history, dict[int, str]()
    for ref in refs:
        held = next((snapshot.id for snapshot in health.line(ref.snapshot) if snapshot.id in health.ids), None)
        if held is not None:
            why[held] = f"{'tag' if ref.is_tag else 'branch'} {ref.name}"
    newest = next((snapshot for snapshot in reversed(history) if snapshot.has_cursor), None)
    if newest is not None:
        why.setdefault(newest.id, "carries the newest cursor")
    for snapshot in history[-policy.min_snapshots :]:
        why.setdefault(snapshot.id, f"one of the {policy.min_snapshots} newest")
    oldest = now - timedelta(days=policy.snapshot_days)
    within = history if policy.max_snapshots is None else history[-policy.max_snapshots :]
    for snapshot in within:
        if snapshot.at >= oldest:
            why.setdefault(snapshot.id, f"younger than {policy.snapshot_days} days")
    return why


def _is_left_behind(ref: Ref, health: Health, given: Circumstances) -> bool:
    """Whether a writer staged on it, and began longer ago than any write takes, or than a commit is held back."""
    if ref.is_tag:
        return False
    if (held := HELD.fullmatch(ref.name)) and (began := _began(held[1])):
        return given.now - began > given.longest_held
    match = _STAGED.fullmatch(ref.name)
    if match is None:
        return False
    began = _began(match[1]) if match[1] else _staged(ref, health)
    return began is not None and given.now - began > given.longest_write


def _is_past_its_age(ref: Ref, health: Health, given: Circumstances) -> bool:
    """Whether a branch is older than it says that it is kept."""
    snapshot = health.by_id.get(ref.snapshot)
    return not (ref.is_tag or ref.max_age is None or snapshot is None) and given.now - snapshot.at > ref.max_age


def _began(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%dt%H%M%S").replace(tzinfo=UTC)
    except ValueError:  # a name that a user gave
        return None


def _staged(ref: Ref, health: Health) -> datetime | None:
    """Of an older release's branch, whose name says no time: when it was there at the latest. That is when something
    was staged on it, or when the snapshot it began at was followed by another; None where it may be as new as now."""
    snapshot = health.by_id.get(ref.snapshot)
    if snapshot is None:
        return None
    return health.followed.get(snapshot.id) if snapshot.id in health.ids else snapshot.at


def _loose(
    policy: Policy,
    health: Health,
    refs: Sequence[Ref],
    dead: Sequence[Ref],
    given: Circumstances,
    cutoff: datetime,
) -> list[Snapshot]:
    """Snapshots that no branch or tag leads to: those of dead writers at once, others when they are old, or older than
    what stays of the history, with which Iceberg takes them."""
    held: set[int] = set(health.ids)
    for ref in refs:
        held |= _up_to(health, ref.snapshot, held)
    staged: set[int] = set()
    for ref in dead:
        staged |= _up_to(health, ref.snapshot, held | staged)
    oldest = max(cutoff, given.now - timedelta(days=policy.snapshot_days))
    return [s for s in health.snapshots if s.id not in held and (s.id in staged or s.at < oldest)]


def _own(health: Health, ref: Ref) -> Iterator[Snapshot]:
    """The snapshots of a branch from its head down to where it leaves the history."""
    return takewhile(lambda each: each.id not in health.ids, health.line(ref.snapshot))


def _cut_from_branches(health: Health, refs: Sequence[Ref], cutoff: datetime) -> int:
    """How many snapshots of a user's branches and behind a user's tags Iceberg's cut takes.

    Of a branch, those behind the first that is older; behind a tag, which holds its own snapshot alone, all that are.
    """
    named = {ref.snapshot for ref in refs}
    on_branches, stays = set(health.ids), set(health.ids)
    for ref in (ref for ref in refs if not ref.is_tag):
        for snapshot in health.line(ref.snapshot):
            if snapshot.id in stays or (snapshot.at < cutoff and snapshot.id != ref.snapshot):
                break
            stays.add(snapshot.id)
        on_branches |= _up_to(health, ref.snapshot, on_branches)
    seen = set(on_branches)
    for ref in refs:
        seen |= _up_to(health, ref.snapshot, seen)
    return sum(i in on_branches or health.by_id[i].at < cutoff for i in seen - stays - named)


def _up_to(health: Health, start: int, known: set[int]) -> set[int]:
    """A snapshot and its ancestors, up to the first that is known already."""
    return {snapshot.id for snapshot in takewhile(lambda each: each.id not in known, health.line(start))}
