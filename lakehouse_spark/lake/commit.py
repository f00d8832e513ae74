"""The commit protocol, and the only writer of tables.

Every commit is staged on a branch of its own, grown from the very snapshot its author read, and then made current by
fast-forward. Iceberg refuses the fast-forward if anyone else's commit became current in between, so a commit is a
compare-and-swap whatever it holds: new rows, a MERGE, or only progress. Data and cursor become visible together.

A staged branch that its author could not finish (kill -9) is invisible to readers of the table. Its name says when it
was made, so that maintenance drops it once no write can take so long; an author that lives on only tries again.

A commit that breaks checks of its table, by its rows or by a look at what was staged, is not made current: its branch
gets another name, and until a person has decided what becomes of it, nobody commits to the table but maintenance.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.errors import HeldError, LostRaceError, RefusedError, is_caused_by
from lakehouse_spark.lake.cursor import BROKEN, CURSOR, HELD, Cursor, from_json
from lakehouse_spark.lake.pruning import Bounds
from lakehouse_spark.lake.snapshots import State, ancestors, each, load, state
from lakehouse_spark.table import Table
from lakehouse_spark.transforms.quality import RULES_VERSION

Result = TypeVar("Result")

_ATTEMPTS = 5
_NOT_AHEAD = "Cannot fast-forward"
_AGAIN = "lakehouse.rewrites"
"""Snapshot property of a compaction that was done again: the staged snapshot."""
_MERGING = threading.Lock()
_CONF = f"spark.sql.iceberg.snapshot-property.{CURSOR}"

BRANCH_AGE = timedelta(days=30)
"""How long a branch that `branch` made is kept after that."""

Broken = Mapping[str, int]
"""By name of the check, how many rows break it."""
NOTHING: Broken = MappingProxyType({})


@dataclass(frozen=True)
class Checked:
    """What a commit breaks."""

    broken: Broken = field(default_factory=dict)
    """As its rows told before it was staged."""
    look: Callable[[str, Cursor], Broken] | None = None
    """What else, as the staged snapshot tells, by the name under which it is read, and its cursor."""


UNCHECKED = Checked()


@dataclass(frozen=True)
class Rewritten:
    """What came of rewriting files: the sequence numbers of the commits that did, and how many were given up."""

    sequences: tuple[int, ...] = ()
    given_up: int = 0


@dataclass
class Commit:
    """What became of one commit, and what it took; `state` None: there was none, and it `is_lost` to another writer or
    failed."""

    table: str
    state: State | None = None
    is_lost: bool = False
    tries: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """By phase: `branch`, `write` and `publish`, all tries together."""
    added: Mapping[str, int] = field(default_factory=dict)
    """As Iceberg counted: `data-files`, `files-size` in bytes, `records`."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began


LISTENERS: list[Callable[[Commit], None]] = []
"""They hear of every commit of this process, in its thread; what they raise is left."""


@contextmanager
def heard_by(listen: Callable[[Commit], None]) -> Iterator[None]:
    """As long as one more of the LISTENERS is there."""
    LISTENERS.append(listen)
    try:
        yield
    finally:
        LISTENERS.remove(listen)


def open_table(spark: SparkSession, table: Table) -> None:
    """Gives a new table its first, empty snapshot, so that every commit has a base to compare with."""
    iceberg = load(spark, table)
    if iceberg.currentSnapshot() is None:
        iceberg.newAppend().commit()


def append(
    spark: SparkSession, table: Table, rows: DataFrame, base: State, cursor: Cursor, checked: Checked = UNCHECKED
) -> State:
    """Adds rows; raises LostRaceError, leaving the table as it was, if someone else committed since `base`.

    Raises HeldError, leaving readers what they had, where it is `checked` and breaks something, and where a commit is
    held back already.
    """

    def write(branch: str, cursor: Cursor | None) -> None:
        writer = rows.select(*table.column_names).writeTo(table.on_branch(branch))
        assert cursor is not None
        writer.option(f"snapshot-property.{CURSOR}", cursor.to_json()).option("fanout-enabled", "true").append()

    return _publish(spark, table, base, _ruled(cursor), write, checked)


def merge(
    spark: SparkSession,
    table: Table,
    rows: DataFrame,
    base: State,
    cursor: Cursor,
    *,
    bounds: Bounds,
    updates: Sequence[str],
    deletes: Column | None = None,
    checked: Checked = UNCHECKED,
) -> State:
    """Updates the columns `updates` of rows held under the same key, deletes where `deletes` holds, inserts the rest.

    `bounds` makes a predicate of literals on the table's columns: only its partitions are looked at. `deletes` knows
    the rows as `source`. Raises LostRaceError and HeldError like `append`.
    """

    def write(branch: str, cursor: Cursor | None) -> None:
        def target(name: str) -> Column:
            return F.expr(f"`branch_{branch}`.`{name}`")  # no F.col, of which each is remembered: this one is not again

        on = bounds(target)
        for name in table.key:
            on &= target(name) == F.col(f"source.{name}")
        # Not SQL over a temporary view: a view looks its tables up anew, so that the MERGE would not find the rows
        # that are kept in memory, and would compute them again from what the tables hold by then.
        merging = rows.alias("source").mergeInto(table.on_branch(branch), on)
        if deletes is not None:
            merging = merging.whenMatched(deletes).delete()
        merging = merging.whenMatched().update({name: F.col(f"source.{name}") for name in updates})
        missing = merging.whenNotMatched() if deletes is None else merging.whenNotMatched(~deletes)
        merging = missing.insert({name: F.col(f"source.{name}") for name in table.column_names})
        with _summary(spark, cursor):
            merging.merge()

    return _publish(spark, table, base, _ruled(cursor), write, checked)


def advance(spark: SparkSession, table: Table, base: State, cursor: Cursor) -> State:
    """Moves the cursor and nothing else; raises HeldError where a commit is held back."""
    return _publish(spark, table, base, _ruled(cursor), _progress(spark, table), UNCHECKED)


def remove_files(
    spark: SparkSession, table: Table, paths: Iterable[str], base: State, cursor: Cursor, *, within: Any
) -> State:
    """Removes whole data files with all of their rows; `within` is an expression of Iceberg's that finds them.

    Raises LostRaceError like `append`, and RefusedError where one of them was not live when `base` was read.
    """
    wanted = set(paths)

    def write(branch: str, handed_on: Cursor | None) -> None:
        if handed_on is not cursor:
            raise LostRaceError(f"{table.name}: rows were removed since snapshot {base.snapshot_id} was read")
        iceberg = load(spark, table)
        staged = iceberg.newDelete()
        staged.validateFilesExist()
        found = set()
        with closing(iceberg.newScan().useSnapshot(base.snapshot_id).filter(within).planFiles()) as tasks:
            for task in each(tasks):
                file = task.file()
                if file.location() in wanted:
                    # Never by its path: Python would reach a method of the same name that is not public, and that
                    # deletes the file itself, now, whatever becomes of the commit.
                    staged.deleteFile(file)
                    found.add(file.location())
        if found != wanted:
            raise RefusedError(f"{table.name}: {len(wanted - found)} files to remove are not there any more")
        staged.set(CURSOR, cursor.to_json())
        staged.toBranch(branch).commit()

    return _publish(spark, table, base, cursor, write)


def rewrite(
    spark: SparkSession, table: Table, stage: Callable[[str], None], check: Callable[[int, str], None]
) -> Rewritten:
    """Makes files current that `stage` wrote, on a branch, in place of others with the same rows.

    `check` is given the snapshot that the branch began at and the branch, and raises where these differ: then the
    branch stays for people to look at, and nothing else has changed. Where others committed meanwhile, each of the
    branch's snapshots is done again on top of theirs; one that replaces files which they changed is given up.
    """
    iceberg = load(spark, table)
    with _begun(iceberg, table, "compaction") as (branch, start):
        stage(branch)
    iceberg.refresh()
    staged = [s for s in ancestors(iceberg, iceberg.snapshot(branch)) if s.sequenceNumber() > start.sequenceNumber()]
    if not staged:
        drop(iceberg, branch)
        return Rewritten()
    check(start.snapshotId(), branch)
    if _fast_forwarded(iceberg, branch, staged[0].snapshotId()):
        return Rewritten(tuple(int(snapshot.sequenceNumber()) for snapshot in staged))
    done = [_replaced_again(spark, iceberg, snapshot, start) for snapshot in reversed(staged)]
    drop(iceberg, branch)
    forget(iceberg, [snapshot.snapshotId() for snapshot in staged])
    return Rewritten(tuple(sequence for sequence in done if sequence), done.count(None))


def _replaced_again(spark: SparkSession, iceberg: Any, staged: Any, start: Any) -> int | None:
    """The sequence number of a commit that replaces the same files on top of the current snapshot; None where that is
    not possible any more."""
    jvm, io = spark._jvm, iceberg.io()
    assert jvm is not None
    removed, added = jvm.java.util.HashSet(), jvm.java.util.HashSet()
    for file in each(staged.removedDataFiles(io)):
        removed.add(file)
    for file in each(staged.addedDataFiles(io)):
        added.add(file)
    try:
        again = iceberg.newRewrite().validateFromSnapshot(start.snapshotId())
        again.rewriteFiles(removed, added, start.sequenceNumber()).set(_AGAIN, str(staged.snapshotId())).commit()
    except (Py4JError, PySparkException) as error:
        if not is_caused_by(error, "ValidationException", "CommitFailedException"):
            raise
        iceberg.refresh()
        return None
    iceberg.refresh()
    own = str(staged.snapshotId())
    done = (s for s in ancestors(iceberg, iceberg.currentSnapshot()) if s.summary().get(_AGAIN) == own)
    return next((int(snapshot.sequenceNumber()) for snapshot in done), None)


def forget(iceberg: Any, snapshot_ids: Sequence[int]) -> None:
    """Removes snapshots that are on no branch, with those of their files that no other snapshot has."""
    iceberg.refresh()
    there = [i for i in snapshot_ids if iceberg.snapshot(i) is not None]
    if there:
        expiry = iceberg.expireSnapshots().expireOlderThan(1)
        for snapshot_id in there:
            expiry = expiry.expireSnapshotId(snapshot_id)
        expiry.commit()


def update(spark: SparkSession, table: Table, base: State, changes: Mapping[str, Column], where: Column) -> State:
    """Gives the columns of the rows of `where` the values of `changes`, and hands the cursor and every stamp on.

    For repairs: what is downstream does not notice. Raises LostRaceError like `append`.
    """

    def write(branch: str, cursor: Cursor | None) -> None:
        one = spark.range(1).select(F.lit(1).alias("_one"))
        updating = one.mergeInto(table.on_branch(branch), where).whenMatched()
        with _summary(spark, cursor):
            updating.update(dict(changes)).merge()

    return _publish(spark, table, base, base.cursor, write)


def branch(spark: SparkSession, table: Table, name: str, rows: DataFrame, properties: Mapping[str, str]) -> int:
    """Gives a branch beside `main` these rows and no others, and returns its snapshot; it is dropped after BRANCH_AGE.

    The `properties` are its snapshot's. Raises RefusedError where a branch or tag of the name is there, and
    LostRaceError where others keep changing the table.
    """
    iceberg = load(spark, table)
    with _begun(iceberg, table, "commit") as (staged, _):
        writer = rows.select(*table.column_names).writeTo(table.on_branch(staged))
        for key, value in properties.items():
            writer = writer.option(f"snapshot-property.{key}", value)
        writer.option("fanout-enabled", "true").overwrite(F.lit(True))
        iceberg.refresh()
        snapshot_id, age = iceberg.snapshot(staged).snapshotId(), int(BRANCH_AGE.total_seconds() * 1000)
        for _ in range(_ATTEMPTS):
            try:
                iceberg.manageSnapshots().renameBranch(staged, name).setMaxRefAgeMs(name, age).commit()
            except (Py4JError, PySparkException) as error:
                iceberg.refresh()
                if name in iceberg.refs() and iceberg.snapshot(name).snapshotId() == snapshot_id:
                    return int(snapshot_id)
                if name in iceberg.refs():
                    raise _is_taken(table, name) from None
                if not _was_overtaken(error):
                    raise
            else:
                return int(snapshot_id)
        raise _overtaken(table)


def require_own(spark: SparkSession, table: Table, name: str, key: str) -> None:
    """Raises RefusedError where a branch or tag of this name is there whose snapshot has no such property."""
    iceberg = load(spark, table)
    refs = iceberg.refs()
    if name in refs and not (refs[name].isBranch() and iceberg.snapshot(name).summary().get(key)):
        raise _is_taken(table, name)


def drop_own(spark: SparkSession, table: Table, name: str) -> None:
    """Removes a branch with its snapshot and the files that no other one has, if it is there."""
    iceberg = load(spark, table)
    if name not in iceberg.refs():
        return
    head = iceberg.snapshot(name).snapshotId()
    drop(iceberg, name, head)
    with suppress(Py4JError, PySparkException):  # as where somebody has named the snapshot since
        forget(iceberg, [head])


def _is_taken(table: Table, name: str) -> RefusedError:
    return RefusedError(f"{table.name}: {name} is there already, and is no such branch", "Choose another name")


def outdate(spark: SparkSession, table: Table) -> None:
    """Marks a table as made by the first rules, so that its job derives it whole; rows, stamps and place stay."""

    def attempt() -> None:
        base = state(spark, table)
        if base.cursor is None or base.rules == 1:
            return
        _publish(spark, table, base, replace(base.cursor, rules=1), _progress(spark, table))

    again_if_overtaken(attempt)


def adopt_schema(spark: SparkSession, table: Table) -> None:
    """Gives a table whose schema changed a snapshot of that schema, since rows as of a snapshot come with its own.

    Rows, cursor and stamps stay; with nothing changed since the current snapshot, or none, nothing is committed.
    """

    def attempt() -> None:
        iceberg = load(spark, table)
        head = iceberg.currentSnapshot()
        if head is None or head.schemaId() == iceberg.schema().schemaId():
            return
        base = state(spark, table)
        _publish(spark, table, base, base.cursor, _progress(spark, table))

    again_if_overtaken(attempt)


def _progress(spark: SparkSession, table: Table) -> Callable[[str, Cursor | None], None]:
    """Stages the cursor and no rows."""

    def write(branch: str, cursor: Cursor | None) -> None:
        staged = load(spark, table).newAppend()
        if cursor is not None:
            staged.set(CURSOR, cursor.to_json())
        staged.toBranch(branch).commit()

    return write


def _ruled(cursor: Cursor) -> Cursor:
    """The cursor with today's rules: whoever commits has made the table by them, or has derived it whole before."""
    return replace(cursor, rules=RULES_VERSION)


def again_if_overtaken(attempt: Callable[[], Result]) -> Result:
    """For work that is idempotent and shares its table with other jobs: reads, decides and commits anew."""
    for _ in range(_ATTEMPTS):
        try:
            return attempt()
        except LostRaceError:
            continue
    return attempt()


def _publish(
    spark: SparkSession,
    table: Table,
    base: State,
    cursor: Cursor | None,
    write: Callable[[str, Cursor | None], None],
    checked: Checked | None = None,
) -> State:
    """Stages on a branch grown from `base`, then fast-forwards, or holds back what breaks checks (`checked` None: what
    is committed says nothing new, and passes a commit that is held back); the LISTENERS hear what came of it."""
    done = Commit(table.name)
    try:
        done.state = _published(spark, table, base, cursor, write, checked, done)
        return done.state
    except LostRaceError:
        done.is_lost = True
        raise
    finally:
        for listen in LISTENERS:
            with suppress(Exception):
                listen(done)


def _published(
    spark: SparkSession,
    table: Table,
    base: State,
    cursor: Cursor | None,
    write: Callable[[str, Cursor | None], None],
    checked: Checked | None,
    done: Commit,
) -> State:
    """The state behind the commit; maintenance in between only costs another try, and so does what only a look at the
    staged snapshot finds: its cursor has to say what it breaks."""
    broken, look = (checked.broken, checked.look) if checked else (NOTHING, None)
    for done.tries in range(1, _ATTEMPTS + 1):
        branch = staging_branch("commit")
        with done.phase("branch"):
            iceberg = load(spark, table)
            if checked is not None:
                require_none_held(iceberg, table)
            start, newest = _carried_over(iceberg, table, base)
            if cursor is not None and newest is not base.cursor:
                cursor = cursor.with_all_of(newest)
            cursor = _telling(cursor, broken)
            if not branched(iceberg, branch, start):
                continue
        try:
            with done.phase("write"):
                _stage(iceberg, branch, start, partial(write, branch, cursor))
                found = look(table.on_branch(branch), cursor) if look and cursor else NOTHING
            if found:
                broken, look = {**broken, **found}, None
                drop(iceberg, branch)
                continue
            with done.phase("publish"):
                iceberg.refresh()
                snapshot = iceberg.snapshot(branch)
                staged = snapshot.snapshotId()
                done.added = _added(snapshot) if LISTENERS else {}
                if broken:
                    name = _held_back(iceberg, branch)
                elif _fast_forwarded(iceberg, branch, staged):
                    return State(staged, cursor, cursor.stamp if cursor else base.stamp)
        except BaseException as error:
            if isinstance(error, Exception) and _was_dropped(iceberg, branch):
                continue
            drop(iceberg, branch)
            if _was_numbered_before(error):
                continue
            raise
        if broken:
            raise _waits(table, name, broken)
        drop(iceberg, branch)
    raise _overtaken(table)


def _telling(cursor: Cursor | None, broken: Broken) -> Cursor | None:
    """The cursor that says what its commit breaks, and nothing of what another one broke."""
    if cursor is None or (not broken and BROKEN not in cursor.notes):
        return cursor
    notes = {name: note for name, note in cursor.notes.items() if name != BROKEN}
    return replace(cursor, notes={**notes, BROKEN: dict(broken)} if broken else notes)


def held(iceberg: Any) -> str | None:
    """The branch on which a commit is held back, if one is; of several, which only a race can leave, the first."""
    refs = iceberg.refs()
    names = [] if refs.size() == 1 else map(str, each(refs.keySet()))  # main alone: as nearly always
    return min((name for name in names if HELD.fullmatch(name) and refs[name].isBranch()), default=None)


def require_none_held(iceberg: Any, table: Table) -> None:
    """Raises HeldError where a commit is held back."""
    name = held(iceberg)
    if name is not None:
        written = iceberg.snapshot(name).summary().get(CURSOR)
        raise _waits(table, name, {} if written is None else from_json(written).notes.get(BROKEN, {}))


def publish(iceberg: Any, branch: str) -> bool:
    """Makes a commit current that was held back; it is not, and stays, where another commit came in between."""
    return _fast_forwarded(iceberg, branch, iceberg.snapshot(branch).snapshotId())


def _held_back(iceberg: Any, branch: str) -> str:
    """The other name that a staged branch gets; an answer lost on the way is looked up."""
    name = f"audit_{branch.partition('_')[2]}"
    for _ in range(_ATTEMPTS):
        try:
            iceberg.manageSnapshots().renameBranch(branch, name).commit()
        except (Py4JError, PySparkException) as error:
            iceberg.refresh()
            if name in iceberg.refs():
                break
            if not _was_overtaken(error):
                raise
        else:
            break
    else:
        raise LostRaceError(f"{branch}: {_ATTEMPTS} attempts to hold it back were overtaken; run the job again")
    return name


def _waits(table: Table, branch: str, broken: Broken) -> HeldError:
    said = ", ".join(f"{check} ({number:,})" for check, number in broken.items())
    return HeldError(
        f"{table.name}: a commit is held back on branch {branch}, and readers see what was there before; it breaks "
        f"{said or 'a check'}",
        f"Look: lakehouse audit show {table.name}; then publish or discard it",
    )


def _stage(iceberg: Any, branch: str, start: int, write: Callable[[], None]) -> None:
    """Has a commit made on a branch that nobody else knows; an answer lost on the way is looked up."""
    try:
        write()
    except (Py4JError, PySparkException) as error:
        if not is_caused_by(error, "CommitStateUnknownException", "RESTException"):
            raise
        iceberg.refresh()
        if branch not in iceberg.refs() or iceberg.snapshot(branch).snapshotId() == start:
            raise


def _added(snapshot: Any) -> dict[str, int]:
    summary = snapshot.summary()
    return {counted: int(summary.get(f"added-{counted}") or 0) for counted in ("data-files", "files-size", "records")}


def _overtaken(table: Table) -> LostRaceError:
    return LostRaceError(f"{table.name}: {_ATTEMPTS} attempts to commit were overtaken; run the job again")


def staging_branch(purpose: str) -> str:
    """A name for a new branch, of the time at which it is made and of nobody else's.

    Spark asks the catalog whether a table is named so before it takes it for a branch, and some catalogs refuse to look
    for a name with capitals.
    """
    return f"{purpose}_{datetime.now(UTC):%Y%m%dt%H%M%S}_{uuid.uuid4().hex}"


@contextmanager
def _begun(iceberg: Any, table: Table, purpose: str) -> Iterator[tuple[str, Any]]:
    """A new branch and the current snapshot, at which it begins; work that fails leaves no branch."""
    branch = staging_branch(purpose)
    for _ in range(_ATTEMPTS):
        iceberg.refresh()
        start = iceberg.currentSnapshot()
        if branched(iceberg, branch, start.snapshotId()):
            break
    else:
        raise _overtaken(table)
    try:
        yield branch, start
    except BaseException as error:
        drop(iceberg, branch)
        if _was_numbered_before(error):
            raise LostRaceError(f"{table.name}: another writer staged a commit meanwhile; run the job again") from error
        raise


def branched(iceberg: Any, branch: str, start: int) -> bool:
    """Whether the branch is made; it is not if anything at all was committed to the table meanwhile.

    An answer lost on the way is looked up.
    """
    try:
        iceberg.manageSnapshots().createBranch(branch, start).commit()
    except (Py4JError, PySparkException) as error:
        iceberg.refresh()
        if branch in iceberg.refs():
            return True
        if not _was_overtaken(error):
            raise
        return False
    return True


def _fast_forwarded(iceberg: Any, branch: str, staged: int) -> bool:
    """Whether the staged snapshot is now current; an answer lost on the way (502, a dropped line) is looked up.

    A change of the table that left `main` alone, such as another writer's branch, only costs another try.
    """
    for _ in range(_ATTEMPTS):
        try:
            iceberg.manageSnapshots().fastForwardBranch("main", branch).removeBranch(branch).commit()
        except (Py4JError, PySparkException) as error:
            iceberg.refresh()
            if any(snapshot.snapshotId() == staged for snapshot in ancestors(iceberg, iceberg.currentSnapshot())):
                return True
            if not _was_overtaken(error):
                raise
            if _NOT_AHEAD in str(error):
                return False
        else:
            return True
    return False


def _was_overtaken(error: Exception) -> bool:
    text = str(error)
    return any(sign in text for sign in (_NOT_AHEAD, "CommitFailedException", "metadata refresh is required"))


def _was_numbered_before(error: BaseException) -> bool:
    """Whether a catalog refused a snapshot for its number, which another writer's took that was staged since."""
    with suppress(Exception):  # of an error of Java's, the JVM is asked for the text
        return "older than last sequence number" in str(error)
    return False


def _carried_over(iceberg: Any, table: Table, base: State) -> tuple[int, Cursor | None]:
    """The current snapshot and the newest cursor, if nothing but maintenance happened since `base`: files replaced, or
    removed with the cursor handed on; else the race is lost."""
    head, newest = iceberg.currentSnapshot(), base.cursor
    for snapshot in ancestors(iceberg, head):
        if snapshot.snapshotId() == base.snapshot_id:
            return int(head.snapshotId()), newest
        if snapshot.operation() == "replace":
            continue
        written = snapshot.summary().get(CURSOR)
        handed_on = None if written is None else from_json(written)
        if handed_on is None or base.cursor is None or snapshot.operation() != "delete":
            break
        if not handed_on.says_the_same(base.cursor):
            break
        newest = handed_on if newest is base.cursor else newest
    raise LostRaceError(
        f"{table.name}: another writer committed since snapshot {base.snapshot_id} was read. Nothing of this attempt "
        "was kept; the other writer's commit stands. Run the job again to go on from there."
    )


def _was_dropped(iceberg: Any, branch: str) -> bool:
    """Whether someone took the branch for that of a dead writer, as a clock that runs ahead makes maintenance do."""
    with suppress(Exception):
        iceberg.refresh()
        return branch not in iceberg.refs()
    return False


def drop(iceberg: Any, branch: str, head: int | None = None) -> None:
    """Removes a branch, if it is there, and at this `head` (None: at any)."""
    with suppress(Exception):
        iceberg.refresh()
        if head is None or iceberg.snapshot(branch).snapshotId() == head:
            iceberg.manageSnapshots().removeBranch(branch).commit()


def discard(iceberg: Any, table: Table, branch: str) -> None:
    """Removes the branch of a commit that is held back; raises LostRaceError where that does not come to pass."""
    for _ in range(_ATTEMPTS):
        drop(iceberg, branch)
        iceberg.refresh()
        if branch not in iceberg.refs():
            return
    raise LostRaceError(f"{table.name}: {branch} is there still after {_ATTEMPTS} attempts to remove it; try again")


@contextmanager
def _summary(spark: SparkSession, cursor: Cursor | None) -> Iterator[None]:
    """MERGE takes no write options; the session hands its commit the cursor, if there is one.

    So one MERGE of a session goes after another. Appends have the cursor as an option, which wins.
    """
    with _MERGING:
        if cursor is not None:
            spark.conf.set(_CONF, cursor.to_json())
        try:
            yield
        finally:
            spark.conf.unset(_CONF)
