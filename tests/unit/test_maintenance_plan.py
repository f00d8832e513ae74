"""What maintenance plans: for each job what is due, what is left alone and why, and that nothing is due twice."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from types import FrameType
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lakehouse_spark.maintenance import survey
from lakehouse_spark.maintenance.health import File, Health, Partition, Ref, Snapshot
from lakehouse_spark.maintenance.plan import (
    Action,
    Circumstances,
    Compaction,
    Expiry,
    Kept,
    ManifestRewrite,
    Plan,
    Retention,
    plan,
)
from lakehouse_spark.table import Policy, Table, column
from lakehouse_spark.types import INSTANT, TEXT

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
TODAY = NOW.date()
MB = 1024 * 1024
LONG_AGO = timedelta(days=3)

NAME = "test.rows"
POLICY = Policy(snapshot_days=7)
BRONZE = Policy(snapshot_days=7, max_snapshots=1_000, row_days=90)
FIRST_DAY = date(2026, 8, 29)
"""The first of the ninety days before TODAY."""


def declared(*partitioned_by: str) -> Table:
    columns = (column("at", INSTANT, "When"), column("symbol", TEXT, "Which"), column("_stamp", INSTANT, "Commit"))
    return Table(
        name=NAME, doc="Rows.", columns=columns, key=("symbol",), policy=POLICY,
        partitioned_by=partitioned_by, stamp="_stamp",
    )  # fmt: skip


BY_DAYS = declared("days(at)")
BY_BUCKETS = declared("bucket(4, symbol)")
WHOLE = declared()

_number = count()


def ago(**units: float) -> datetime:
    return NOW - timedelta(**units)


def day(ordinal: int) -> date:
    """A day before TODAY."""
    return TODAY - timedelta(days=ordinal)


def file(megabytes: float = 1, *, sequence: int = 1, stamp: datetime | None = None, records: int = 10) -> File:
    """A file of one commit, whose rows have that commit's stamp."""
    return File(f"{next(_number)}.parquet", int(megabytes * MB), records, sequence, stamp, stamp)


def files(number: int, megabytes: float = 1, *, sequence: int = 1, stamp: datetime | None = None) -> tuple[File, ...]:
    return tuple(file(megabytes, sequence=sequence, stamp=stamp) for _ in range(number))


def partition(
    value: date | int | None, held: Iterable[File], *, deletes: int = 0, delete_sequence: int = 0, spec: int = 0
) -> Partition:
    """Of a table by days where the value is one; else of one by buckets. None: of rows without an event time."""
    found = value if isinstance(value, date) else None
    return Partition(
        (spec, (value,)), f"part={value}", tuple(held), deletes, delete_sequence, (("identity", "at", value),), found
    )


def snapshots(
    *ats: datetime, cursors: Iterable[int] = (), compactions: Iterable[int] = ()
) -> tuple[Snapshot, ...]:  # fmt: skip
    """A history, oldest first, whose snapshots are numbered from 1, as are their sequences."""
    with_cursor, replaced = {*cursors}, {*compactions}
    return tuple(
        Snapshot(n, n - 1 or None, n, at, n in replaced, n in with_cursor) for n, at in enumerate(ats, start=1)
    )


def health(*partitions: Partition, history: tuple[Snapshot, ...] = (), **others: Any) -> Health:
    """A table whose newest snapshot is current; by default one of long ago."""
    history = history or snapshots(NOW - LONG_AGO)
    return Health(NAME, **{"snapshot": history[-1].id, **others}, snapshots=history, partitions=partitions)


def planned(
    of: Health, table: Table = BY_DAYS, policy: Policy = POLICY, *, given: Circumstances | None = None, **changed: Any
) -> Plan:
    return plan(table, replace(policy, **changed), of, given or Circumstances(NOW))


def consumed(upto: datetime | None) -> Circumstances:
    return Circumstances(NOW, consumed={NAME: upto})


def compaction(found: Plan) -> Compaction | None:
    return next((action for action in found.actions if isinstance(action, Compaction)), None)


def expiry(found: Plan) -> Expiry | None:
    return next((action for action in found.actions if isinstance(action, Expiry)), None)


def retention(found: Plan) -> Retention | None:
    return next((action for action in found.actions if isinstance(action, Retention)), None)


def rewrite(found: Plan) -> ManifestRewrite | None:
    return next((action for action in found.actions if isinstance(action, ManifestRewrite)), None)


def some(action: Any) -> Any:
    assert action is not None
    return action


def kept(found: Plan, job: type[Action]) -> dict[str, int]:
    """How much a job leaves alone, by the reason."""
    return {each.why: each.number for each in found.kept if each.job == job.job}


def taken_up(found: Plan) -> list[str]:
    """What compaction takes up, sorted."""
    action = compaction(found)
    return [] if action is None else sorted(action.parts())


# Compaction


STILL_BEING_WRITTEN = {"still being written": 1}
TOO_FEW = {"fewer than 5 files to gain from": 1}
UNCHANGED = {"nothing changed since it was compacted": 1}


def test_five_small_files_of_a_partition_become_one() -> None:
    found = planned(health(partition(day(3), files(5, 2)), partition(day(4), files(1, 300))))

    action = some(compaction(found))
    assert action.before == {"files": 6, "bytes": 310 * MB}
    assert action.after == {"files": 2, "bytes": 310 * MB}
    assert action.reads == 10 * MB
    assert [[each.day for each in group.partitions] for group in action.groups] == [[day(3)]]
    assert action.reason == "5 files in 1 partitions are small or have deletes to fold in"
    assert kept(found, Compaction) == TOO_FEW


def test_four_small_files_are_left_alone() -> None:
    found = planned(health(partition(day(3), files(4))))
    assert compaction(found) is None
    assert kept(found, Compaction) == TOO_FEW


@pytest.mark.parametrize(
    ("size", "is_due"),
    [
        (192 * MB - 1, True),  # below 75 % of 256 MB
        (192 * MB, False),
        (256 * MB, False),
        (483_183_820, False),  # the last whole byte below 180 %
        (483_183_821, True),
    ],
)
def test_files_near_the_target_are_left_alone(size: int, is_due: bool) -> None:
    held = tuple(replace(each, bytes=size) for each in files(5))
    assert (compaction(planned(health(partition(day(3), held)))) is not None) is is_due


def test_the_target_and_the_number_of_files_are_the_policys() -> None:
    table = health(partition(day(3), files(3, 10)))
    assert taken_up(planned(table)) == []
    assert taken_up(planned(table, min_input_files=3)) == ["part=2026-11-24"]
    assert taken_up(planned(table, min_input_files=3, target_file_bytes=12 * MB)) == []
    assert some(compaction(planned(table, min_input_files=3, target_file_bytes=20 * MB))).after["files"] == 2


def test_small_files_are_counted_partition_by_partition() -> None:
    spread = [partition(day(n), files(4)) for n in range(3, 103)]
    found = planned(health(*spread))
    assert compaction(found) is None
    assert kept(found, Compaction) == {"fewer than 5 files to gain from": 100}


def test_a_file_of_an_older_partition_spec_is_rewritten_whatever_its_size() -> None:
    of_before = (partition(day(3), files(1, 256)), partition(day(4), files(2, 1)))
    found = planned(
        health(*of_before, partition(day(3), files(5), spec=1), partition(day(5), files(1), spec=1), spec=1)
    )

    action = some(compaction(found))
    assert [(group.is_of_older_spec, [p.name for p in group.partitions]) for group in action.groups] == [
        (False, [f"part={day(3)}"]),
        (True, [f"part={day(3)}", f"part={day(4)}"]),
    ]
    assert action.reason == (
        "5 files in 1 partitions are small or have deletes to fold in; "
        "3 files in 2 partitions are of an older partition spec"
    )
    assert action.reads == 263 * MB
    assert kept(found, Compaction) == TOO_FEW


def test_files_of_an_older_partition_spec_that_were_compacted_are_rewritten_all_the_same() -> None:
    history = snapshots(ago(days=9), ago(days=8), compactions=[2])
    of_before = partition(day(3), files(1, 256, sequence=2))
    assert compaction(planned(health(of_before, history=history))) is None
    found = planned(health(of_before, history=history, spec=1))
    assert some(compaction(found)).reason == "1 files in 1 partitions are of an older partition spec"


def test_a_partition_of_an_older_spec_that_is_still_written_to_is_left_alone() -> None:
    history = snapshots(ago(minutes=30))
    found = planned(health(partition(day(0), files(1)), history=history, spec=1))
    assert compaction(found) is None
    assert kept(found, Compaction) == STILL_BEING_WRITTEN


def test_large_files_beside_the_small_ones_are_not_read() -> None:
    found = some(compaction(planned(health(partition(day(3), files(6, 1) + files(3, 256))))))
    assert found.reads == 6 * MB
    assert found.before == {"files": 9, "bytes": 774 * MB}
    assert found.after == {"files": 4, "bytes": 774 * MB}


def test_delete_files_are_folded_into_files_of_any_size() -> None:
    found = some(compaction(planned(health(partition(7, files(2, 250), deletes=5, delete_sequence=1)), BY_BUCKETS)))
    assert found.reads == 500 * MB
    assert found.before == {"files": 7, "bytes": 500 * MB}
    assert found.after == {"files": 2, "bytes": 500 * MB}


def test_one_delete_of_one_file_is_not_worth_a_rewrite() -> None:
    found = planned(health(partition(7, files(1, 250), deletes=1, delete_sequence=1)), BY_BUCKETS)
    assert compaction(found) is None
    assert kept(found, Compaction) == TOO_FEW


def test_deletes_without_any_file_are_no_work() -> None:
    assert planned(health(partition(7, (), deletes=9, delete_sequence=1)), BY_BUCKETS).actions == ()


def test_partitions_of_days_are_taken_up_together() -> None:
    found = planned(health(*(partition(day(n), arrivals(6, n)) for n in (3, 4, 5))), policy=BRONZE)
    (group,) = some(compaction(found)).groups
    assert [each.day for each in group.partitions] == [day(3), day(4), day(5)]
    assert group.arrived is None
    assert some(compaction(found)).reason.startswith("18 files in 3 partitions")


def test_an_unpartitioned_table_is_one_partition() -> None:
    found = planned(health(Partition((0, ()), "", files(5))), WHOLE)
    assert some(compaction(found)).before["files"] == 5


# Compaction: what is still being written


def written(*ats: datetime, number: int = 6) -> Health:
    """A partition of today with as many small files, one commit each, of these times and then of the last again."""
    history = snapshots(*ats, *[ats[-1]] * (number - len(ats)))
    return health(partition(TODAY, (file(sequence=n + 1) for n in range(number))), history=history)


def test_a_day_that_was_written_to_within_the_hour_is_still_being_written() -> None:
    found = planned(written(ago(hours=5), ago(minutes=59)))
    assert compaction(found) is None
    assert kept(found, Compaction) == STILL_BEING_WRITTEN


def test_a_day_without_news_for_an_hour_has_settled() -> None:
    assert taken_up(planned(written(ago(hours=5), ago(minutes=60)))) == ["part=2026-11-27"]


def test_a_day_that_never_settles_is_compacted_once_a_day() -> None:
    assert taken_up(planned(written(ago(hours=23, minutes=59), ago(minutes=1)))) == []
    assert taken_up(planned(written(ago(hours=24), ago(minutes=1)))) == ["part=2026-11-27"]


def test_the_time_to_settle_is_the_policys() -> None:
    table = written(ago(minutes=20))
    assert taken_up(planned(table)) == []
    assert taken_up(planned(table, settle_minutes=15)) == ["part=2026-11-27"]
    assert taken_up(planned(written(NOW), settle_minutes=0)) == ["part=2026-11-27"]


def test_a_commit_of_a_clock_that_runs_ahead_is_still_being_written() -> None:
    assert kept(planned(written(NOW + timedelta(hours=2))), Compaction) == STILL_BEING_WRITTEN


def test_a_table_without_days_needs_no_time_to_settle() -> None:
    table = health(partition(3, files(5)), history=snapshots(ago(seconds=1)))
    assert taken_up(planned(table, BY_BUCKETS)) == ["part=3"]


def test_a_day_whose_commits_are_all_forgotten_has_settled() -> None:
    table = health(partition(TODAY, files(5, sequence=1)), history=(Snapshot(9, 8, 9, ago(minutes=1), False, True),))
    assert taken_up(planned(table)) == ["part=2026-11-27"]


def test_a_day_is_still_being_written_though_its_first_commits_are_forgotten() -> None:
    """A stream that commits every ten seconds keeps the snapshots of some three hours."""
    held = [*files(900, sequence=1, stamp=ago(hours=3)), *files(5, sequence=2, stamp=ago(seconds=10))]
    history = tuple(replace(each, parent=each.id - 1) for each in snapshots(ago(hours=3), ago(seconds=10)))[1:]
    found = planned(health(partition(TODAY, held), history=history), policy=BRONZE)
    assert compaction(found) is None
    assert kept(found, Compaction) == STILL_BEING_WRITTEN


def test_what_nothing_says_the_time_of_is_taken_for_old() -> None:
    """Of a commit that is forgotten, to a table whose rows have no stamps."""
    held = files(1, sequence=1) + files(5, sequence=2)
    history = (Snapshot(2, 1, 2, ago(minutes=1), False, False),)
    assert taken_up(planned(health(partition(TODAY, held), history=history))) == ["part=2026-11-27"]


def test_a_day_whose_rows_were_just_updated_is_still_being_written() -> None:
    history = snapshots(ago(hours=4), ago(minutes=1))
    table = health(partition(TODAY, files(5, sequence=1), deletes=1, delete_sequence=2), history=history)
    assert kept(planned(table), Compaction) == STILL_BEING_WRITTEN


def test_what_was_gathered_is_not_what_was_there_before() -> None:
    """Late rows arrive for a day that was put in order long ago: they are a few minutes old, not days."""
    history = snapshots(ago(days=6), ago(days=5), ago(minutes=3), compactions=[2])
    held = [file(256, sequence=2), *files(6, sequence=3)]
    found = planned(health(partition(day(7), held), history=history))
    assert kept(found, Compaction) == STILL_BEING_WRITTEN


# Compaction: what was compacted already


def test_what_compaction_left_is_not_compacted_again() -> None:
    history = snapshots(ago(days=2), ago(days=1), compactions=[2])
    found = planned(health(partition(day(3), files(9, sequence=2)), history=history))
    assert compaction(found) is None
    assert kept(found, Compaction) == UNCHANGED


def test_what_compaction_left_is_compacted_with_what_came_since() -> None:
    history = snapshots(ago(days=2), ago(days=1), ago(hours=9), compactions=[2])
    found = planned(health(partition(day(3), files(2, sequence=2) + files(5, sequence=3)), history=history))
    assert some(compaction(found)).before["files"] == 7


def test_the_log_remembers_compactions_whose_snapshots_expired() -> None:
    table = health(partition(day(3), files(9, sequence=2)), history=(Snapshot(7, 6, 7, ago(days=1), False, True),))
    remembered = Circumstances(NOW, compacted={NAME: frozenset({2})})
    assert kept(planned(table, given=remembered), Compaction) == UNCHANGED
    of_another_commit = Circumstances(NOW, compacted={NAME: frozenset({3})})
    of_another_table = Circumstances(NOW, compacted={"test.others": frozenset({2})})
    for given_otherwise in (of_another_commit, of_another_table):
        assert taken_up(planned(table, given=given_otherwise)) == ["part=2026-11-24"]


def test_deletes_that_came_after_a_compaction_are_folded_in() -> None:
    history = snapshots(ago(days=2), ago(days=1), compactions=[1])
    held = partition(7, files(3, 250, sequence=1), deletes=5, delete_sequence=2)
    assert taken_up(planned(health(held, history=history), BY_BUCKETS)) == ["part=7"]


def test_a_snapshot_that_is_known_is_believed_more_than_the_log() -> None:
    table = health(partition(day(3), files(9, sequence=1)))
    of_its_predecessor = Circumstances(NOW, compacted={NAME: frozenset({1})})
    assert taken_up(planned(table, given=of_its_predecessor)) == ["part=2026-11-24"]


def test_files_that_arrived_during_a_compaction_are_compacted_next() -> None:
    """The compaction's commit is the newest, and the forty files before it are none of those that it replaced."""
    history = snapshots(ago(days=2), *[ago(hours=9)] * 40, ago(hours=8), compactions=[42])
    held = [file(200, sequence=42), *(file(sequence=n) for n in range(2, 42))]
    assert some(compaction(planned(health(partition(day(3), held), history=history)))).before["files"] == 41


def test_deletes_that_linger_after_a_compaction_are_not_folded_in_twice() -> None:
    """Iceberg keeps those that are of the very snapshot at which the compaction began."""
    history = snapshots(ago(days=2), ago(days=1), compactions=[2])
    found = planned(
        health(partition(7, files(3, sequence=2), deletes=5, delete_sequence=1), history=history), BY_BUCKETS
    )
    assert compaction(found) is None
    assert kept(found, Compaction) == UNCHANGED


def test_what_compaction_left_waits_for_as_many_new_files() -> None:
    history = snapshots(ago(days=2), ago(days=1), compactions=[1])
    for number, is_due in ((4, False), (5, True)):
        held = files(1, sequence=1) + files(number, sequence=2)
        assert (compaction(planned(health(partition(day(3), held), history=history))) is not None) is is_due


def test_a_few_new_files_are_not_said_to_be_no_change() -> None:
    history = snapshots(ago(days=2), ago(days=1), compactions=[1])
    found = planned(health(partition(day(3), files(1, sequence=1) + files(4, sequence=2)), history=history))
    assert {*kept(found, Compaction)} - {*UNCHANGED}


def test_what_was_never_compacted_is_not_said_to_have_been() -> None:
    found = planned(health(partition(7, files(3, 256), deletes=2, delete_sequence=1)), BY_BUCKETS)
    assert not {*kept(found, Compaction)} & {*UNCHANGED}


# Compaction: rows that are dated by their arrival


def stamps(*days_ago: int) -> list[datetime]:
    return [ago(days=number) for number in days_ago]


def arrivals(number: int, days_ago: int, *, sequence: int = 1) -> tuple[File, ...]:
    return files(number, sequence=sequence, stamp=ago(days=days_ago))


def days_of(found: Plan) -> list[tuple[date | None, int]]:
    """The groups of a compaction: the day of arrival, and how many files."""
    return [(g.arrived, sum(len(p.files) for p in g.partitions)) for g in some(compaction(found)).groups]


def test_rows_without_an_event_time_are_compacted_by_day_of_arrival() -> None:
    table = health(partition(None, arrivals(5, 4) + arrivals(7, 3) + arrivals(4, 2)))
    found = planned(table, policy=BRONZE)
    assert days_of(found) == [(day(4), 5), (day(3), 7)]
    assert kept(found, Compaction) == TOO_FEW
    assert taken_up(found) == ["part=None (arrived 2026-11-23)", "part=None (arrived 2026-11-24)"]
    assert some(compaction(found)).after == {"files": 6, "bytes": 16 * MB}


def test_a_day_with_rows_dated_after_their_arrival_is_compacted_by_day_of_arrival() -> None:
    table = health(partition(day(3), arrivals(5, 4) + arrivals(6, 3)), partition(day(2), arrivals(5, 2)))
    assert days_of(planned(table, policy=BRONZE)) == [(None, 5), (day(4), 5), (day(3), 6)]


def test_late_rows_of_a_day_may_be_mixed_over_days_of_arrival() -> None:
    table = health(partition(day(5), arrivals(3, 4) + arrivals(3, 3)))
    assert days_of(planned(table, policy=BRONZE)) == [(None, 6)]


def test_a_file_of_several_days_of_arrival_is_left_alone_where_these_matter() -> None:
    spanning = tuple(replace(each, oldest_stamp=ago(days=9)) for each in arrivals(6, 4))
    unknown = files(6)
    assert planned(health(partition(None, spanning + unknown)), policy=BRONZE).actions == ()
    assert days_of(planned(health(partition(None, (*spanning, *unknown, *arrivals(5, 4)))), policy=BRONZE)) == [
        (day(4), 5)
    ]


def test_midnight_divides_the_days_of_arrival() -> None:
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    before = files(5, stamp=midnight - timedelta(microseconds=1))
    after = files(5, stamp=midnight)
    assert days_of(planned(health(partition(None, before + after)), policy=BRONZE)) == [
        (date(2026, 11, 24), 5),
        (date(2026, 11, 25), 5),
    ]


def test_rows_that_stay_for_ever_may_be_mixed_over_days_of_arrival() -> None:
    table = health(partition(None, arrivals(3, 4) + arrivals(3, 3)))
    assert days_of(planned(table, policy=replace(BRONZE, row_days=None))) == [(None, 6)]


# Retention of bronze rows


def bronze(*partitions: Partition, cursor: str | None = "{}") -> Health:
    return health(*partitions, cursor=cursor, history=snapshots(NOW - LONG_AGO, cursors=[1]))


def lost(of: Health, upto: datetime | None = NOW) -> Retention | None:
    return retention(planned(of, policy=BRONZE, given=consumed(upto)))


def test_days_older_than_ninety_go_whole() -> None:
    gone = partition(date(2026, 8, 28), files(3, 2, stamp=ago(days=91)))
    stays = partition(FIRST_DAY, files(2, stamp=ago(days=90)))

    action = some(lost(bronze(gone, stays)))

    assert action.first == FIRST_DAY
    assert action.files == gone.files
    assert action.partitions == ("part=2026-08-28",)
    assert action.before == {"files": 5, "bytes": 8 * MB, "rows": 50}
    assert action.after == {"files": 2, "bytes": 2 * MB, "rows": 20}
    assert action.reason == "30 rows are older than 90 days (before 2026-08-29), and consumed"


def test_the_clock_of_the_day_does_not_matter() -> None:
    table = bronze(partition(FIRST_DAY, files(1, stamp=ago(days=90))))
    for now in (datetime(2026, 11, 27, tzinfo=UTC), datetime(2026, 11, 27, 23, 59, 59, tzinfo=UTC)):
        assert plan(BY_DAYS, BRONZE, table, replace(consumed(NOW), now=now)).actions == ()
    tomorrow = datetime(2026, 11, 28, tzinfo=UTC)
    assert retention(plan(BY_DAYS, BRONZE, table, replace(consumed(NOW), now=tomorrow))) is not None


def test_rows_for_ever_stay_for_ever() -> None:
    table = bronze(partition(date(2001, 1, 1), files(3, stamp=ago(days=9_000))))
    assert retention(planned(table, policy=replace(BRONZE, row_days=None), given=consumed(NOW))) is None


def test_an_old_day_goes_however_young_its_arrivals_once_they_are_consumed() -> None:
    late = partition(date(2026, 5, 1), arrivals(2, 200) + arrivals(3, 1))
    assert some(lost(bronze(late))).files == late.files


def test_an_old_day_stays_whole_until_all_of_it_is_consumed() -> None:
    late = partition(date(2026, 5, 1), arrivals(2, 200) + arrivals(3, 1))
    found = planned(bronze(late), policy=BRONZE, given=consumed(ago(days=2)))
    assert retention(found) is None
    assert kept(found, Retention) == {"silver has not consumed all of it": 1}


def test_rows_are_consumed_up_to_the_very_stamp() -> None:
    stamp = datetime(2026, 5, 1, 12, 0, 0, 1, tzinfo=UTC)
    table = bronze(partition(date(2026, 5, 1), files(1, stamp=stamp)))
    assert lost(table, stamp - timedelta(microseconds=1)) is None
    assert lost(table, stamp) is not None


def test_nothing_goes_while_a_follower_has_consumed_nothing() -> None:
    table = bronze(partition(date(2026, 5, 1), arrivals(2, 200)), partition(None, arrivals(2, 200)))
    assert lost(table, None) is None
    assert retention(planned(table, policy=BRONZE)) is None


def test_nothing_goes_from_a_table_without_a_cursor() -> None:
    table = bronze(partition(date(2026, 5, 1), arrivals(2, 200)), cursor=None)
    found = planned(table, policy=BRONZE, given=consumed(NOW))
    assert retention(found) is None
    assert kept(found, Retention) == {"silver has not consumed all of it": 1}


def test_files_without_stamps_stay() -> None:
    assert lost(bronze(partition(date(2026, 5, 1), files(3)), partition(None, files(3)))) is None


def test_rows_without_an_event_time_go_by_whole_files_that_arrived_long_ago() -> None:
    last_of_the_day_before = datetime(2026, 8, 28, 23, 59, 59, 999_999, tzinfo=UTC)
    old = files(2, stamp=last_of_the_day_before)
    young = files(2, stamp=datetime(2026, 8, 29, tzinfo=UTC))
    spanning = replace(file(stamp=datetime(2026, 8, 29, tzinfo=UTC)), oldest_stamp=ago(days=200))
    action = some(lost(bronze(partition(None, (*old, *young, spanning)))))
    assert action.files == old
    assert action.partitions == ("part=None",)


def test_rows_dated_after_their_arrival_go_by_whole_files_that_arrived_long_ago() -> None:
    future = partition(date(2029, 1, 1), arrivals(2, 200) + arrivals(1, 3))
    assert some(lost(bronze(future))).files == future.files[:2]


def test_of_rows_without_an_event_time_those_that_are_consumed_go_first() -> None:
    table = bronze(partition(None, arrivals(1, 200) + arrivals(1, 150)))
    found = planned(table, policy=BRONZE, given=consumed(ago(days=180)))
    assert [each.newest_stamp for each in some(retention(found)).files] == [ago(days=200)]
    assert kept(found, Retention) == {"silver has not consumed all of it": 1}


def test_what_goes_is_not_compacted_first() -> None:
    gone, stays = partition(date(2026, 5, 1), arrivals(9, 200)), partition(day(3), arrivals(6, 3))
    found = planned(bronze(gone, stays), policy=BRONZE, given=consumed(NOW))
    assert [action.job for action in found.actions] == ["bronze_retention", "compaction"]
    assert taken_up(found) == ["part=2026-11-24"]
    assert some(compaction(found)).before == {"files": 6, "bytes": 6 * MB}


def test_retention_counts_files_as_they_are_counted_after_it() -> None:
    table = bronze(partition(date(2026, 5, 1), arrivals(1, 200)), partition(day(2), arrivals(1, 2), deletes=1))
    action = some(lost(table))
    assert action.before["files"] == survey.counts(table)["files"]


# Manifests


def manifests(number: int, megabytes: float, *partitions: Partition, **others: Any) -> Health:
    held = partitions or (partition(day(3), files(1, 256)),)
    return health(*held, manifests=number, manifest_bytes=int(megabytes * MB), **others)


def test_many_small_manifests_become_one() -> None:
    action = some(rewrite(planned(manifests(20, 1))))
    assert action.before == {"manifests": 20}
    assert action.after == {"manifests": 1}
    assert action.reason == "20 manifests have 1,048,576 bytes together"


def test_fewer_than_twenty_manifests_are_left_alone() -> None:
    found = planned(manifests(19, 1))
    assert rewrite(found) is None
    assert kept(found, ManifestRewrite) == {"few enough, or as large as they should be": 19}


def test_manifests_that_are_as_large_as_they_should_be_are_left_alone() -> None:
    assert rewrite(planned(manifests(100, 800))) is None
    assert rewrite(planned(manifests(100, 201))) is None  # 26 are left, and a quarter of 100 would pay
    assert some(rewrite(planned(manifests(100, 200)))).after == {"manifests": 25}


def test_the_size_of_manifests_is_the_tables() -> None:
    assert some(rewrite(planned(manifests(100, 10, manifest_target_bytes=MB)))).after == {"manifests": 10}


def test_manifests_of_deletes_and_of_other_specs_stay_apart() -> None:
    held = (
        partition(1, files(1, 256), deletes=1),
        partition(2, files(1, 256), spec=1),
    )
    assert some(rewrite(planned(manifests(40, 1, *held), BY_BUCKETS))).after == {"manifests": 3}


def test_a_table_without_manifests_says_nothing_of_them() -> None:
    assert kept(planned(health()), ManifestRewrite) == {}


# Snapshots


def expired(of: Health, action: Expiry) -> Health:
    """What Iceberg leaves of a table: branches are dropped, then loose snapshots, then expireOlderThan(before_instant)
    with retainLast(1) goes along each branch from its head until it meets an older snapshot; what no branch leads to
    goes by its age."""
    refs = tuple(ref for ref in of.refs if ref.name not in action.branches)
    there = {each.id: each for each in of.snapshots if each.id not in action.loose}

    def line(start: int | None) -> list[Snapshot]:
        found = []
        while start is not None and start in there:
            found.append(there[start])
            start = there[start].parent
        return found

    lines = [line(start) for start in (of.snapshot, *(ref.snapshot for ref in refs if not ref.is_tag))]
    tagged = {ref.snapshot for ref in refs if ref.is_tag}
    stays = {*tagged}
    for branch in lines:
        for position, each in enumerate(branch):
            if position and each.at < action.before_instant:
                break
            stays.add(each.id)
    led_to = tagged | {each.id for branch in lines for each in branch}
    stays |= {each.id for each in there.values() if each.id not in led_to and each.at >= action.before_instant}
    return replace(of, refs=refs, snapshots=tuple(each for each in of.snapshots if each.id in stays))


def stays(of: Health, policy: Policy = POLICY, **changed: Any) -> list[int]:
    """The ids of the snapshots that are left once a plan is carried out."""
    action = expiry(planned(of, policy=policy, **changed))
    return [each.id for each in (of if action is None else expired(of, action)).snapshots]


def daily(number: int, **others: Any) -> tuple[Snapshot, ...]:
    """A snapshot a day, the newest of now; the one of `n` days ago is the `number - n`th."""
    return snapshots(*(ago(days=number - 1 - n) for n in range(number)), **others)


def test_snapshots_older_than_the_policy_go() -> None:
    table = health(history=daily(20))
    found = planned(table)
    action = some(expiry(found))
    assert action.before_instant == ago(days=7)
    assert action.before == {"snapshots": 20, "branches": 0}
    assert action.after == {"snapshots": 8, "branches": 0}
    assert action.reason == "12 snapshots are older than 7 days"
    assert stays(table) == [13, 14, 15, 16, 17, 18, 19, 20]
    assert kept(found, Expiry) == {"one of the 5 newest": 5, "younger than 7 days": 3}


def test_the_newest_snapshots_stay_however_old_they_are() -> None:
    history = snapshots(*(ago(days=n) for n in range(40, 30, -1)))
    found = planned(health(history=history))
    assert stays(health(history=history)) == [6, 7, 8, 9, 10]
    assert kept(found, Expiry) == {"one of the 5 newest": 5}


def test_at_most_so_many_snapshots_stay_however_young_they_are() -> None:
    history = snapshots(*(ago(seconds=10 * n) for n in range(1_500, 0, -1)))
    found = planned(health(history=history), policy=BRONZE)
    assert stays(health(history=history), BRONZE) == [*range(501, 1_501)]
    assert some(expiry(found)).reason == "500 snapshots are older than 7 days, or more than 1,000 are kept"
    assert expiry(planned(health(history=history))) is None  # where there is no limit


def test_the_limits_work_side_by_side() -> None:
    assert stays(health(history=daily(20)), max_snapshots=6) == [15, 16, 17, 18, 19, 20]
    assert stays(health(history=daily(20)), max_snapshots=15) == [13, 14, 15, 16, 17, 18, 19, 20]
    assert stays(health(history=daily(20)), max_snapshots=2) == [16, 17, 18, 19, 20]
    assert stays(health(history=daily(20)), max_snapshots=2, min_snapshots=1) == [19, 20]
    assert stays(health(history=daily(20)), snapshot_days=0, min_snapshots=1) == [20]


def test_the_newest_cursor_and_all_that_came_after_it_stay() -> None:
    table = health(history=daily(20, cursors=[2, 4], compactions=range(5, 21)))
    found = planned(table)
    assert stays(table) == [*range(4, 21)]
    assert kept(found, Expiry) == {
        "carries the newest cursor": 1,
        "comes after one that is kept": 8,
        "younger than 7 days": 3,
        "one of the 5 newest": 5,
    }


@pytest.mark.parametrize("is_tag", [True, False])
def test_what_a_user_named_stays_and_all_that_came_after_it(is_tag: bool) -> None:
    table = health(history=daily(20, cursors=[20]), refs=(Ref("audit", 3, is_tag),))
    assert stays(table) == [*range(3, 21)]
    assert kept(planned(table), Expiry)["tag audit" if is_tag else "branch audit"] == 1


def test_a_branch_keeps_the_snapshot_that_it_began_at() -> None:
    own = (Snapshot(101, 4, 101, ago(days=1), False, False), Snapshot(102, 101, 102, NOW, False, False))
    table = health(history=daily(20), refs=(Ref("experiment", 102),))
    table = replace(table, snapshots=(*table.snapshots, *own), snapshot=20)
    assert stays(table) == [*range(4, 21), 101, 102]
    assert kept(planned(table), Expiry)["branch experiment"] == 1


def test_a_branch_whose_beginning_is_forgotten_holds_nothing_back() -> None:
    own = Snapshot(101, 100, 101, ago(days=1), False, False)
    table = replace(health(history=daily(20), refs=(Ref("old", 101),)), snapshots=(*daily(20), own))
    assert stays(table) == [*range(13, 21), 101]


STAGED = "commit_20261126T115959_" + "a" * 32
"""Made a second more than a day ago."""


@pytest.mark.parametrize(
    ("name", "is_left_behind"),
    [
        ("commit_20261126t115959_" + "a" * 32, True),
        ("commit_20261126T115959_" + "a" * 32, True),  # of an older release
        ("compaction_20261126T115959_" + "0" * 32, True),
        ("commit_20261126T120000_" + "a" * 32, False),  # exactly a day
        ("compaction_20261127T115959_" + "a" * 32, False),
        ("commit_20991231T000000_" + "a" * 32, False),  # of a clock that runs ahead
        ("commit_20261126T115959_" + "a" * 31, False),
        ("commit_20261126T115959_" + "A" * 32, False),
        ("my_commit_20261126T115959_" + "a" * 32, False),
        ("commit_20261126T115959_" + "a" * 32 + "\n", False),
        ("commit", False),
        ("audit", False),
    ],
)
def test_a_staging_branch_is_dropped_once_no_write_takes_so_long(name: str, is_left_behind: bool) -> None:
    own = Snapshot(101, 20, 101, ago(minutes=1), False, False)
    table = replace(health(history=daily(20), refs=(Ref(name, 101),)), snapshots=(*daily(20), own))
    action = some(expiry(planned(table)))
    assert action.branches == ((name,) if is_left_behind else ())
    assert action.loose == ((101,) if is_left_behind else ())
    assert action.after == {"snapshots": 8 if is_left_behind else 9, "branches": 0 if is_left_behind else 1}


def test_a_staging_branch_of_an_older_release_goes_by_what_was_staged_on_it() -> None:
    dead, live = "commit_" + "a" * 32, "commit_" + "b" * 32
    own = (Snapshot(101, 8, 101, ago(days=2), False, False), Snapshot(102, 10, 102, ago(hours=2), False, False))
    table = health(history=snapshots(*[ago(days=3)] * 9, ago(hours=3)), refs=(Ref(dead, 101), Ref(live, 102)))
    table = replace(table, snapshots=(*table.snapshots, *own), snapshot=10)
    action = some(expiry(planned(table)))
    assert (action.branches, action.loose) == ((dead,), (101,))
    assert action.reason == "1 branches were left behind by writers that died; 1 snapshots are on no branch"


def test_a_staging_branch_of_an_older_release_on_the_current_snapshot_may_be_young() -> None:
    """It says no time, and nothing was staged on it yet: the snapshot that it begins at tells nothing of its age."""
    assert expiry(planned(health(history=snapshots(ago(days=3)), refs=(Ref("commit_" + "a" * 32, 1),)))) is None


@pytest.mark.parametrize(("followed", "is_left_behind"), [(ago(hours=2), False), (ago(days=2), True)])
def test_a_staging_branch_of_an_older_release_began_before_its_snapshot_was_followed(
    followed: datetime, is_left_behind: bool
) -> None:
    table = health(history=snapshots(ago(days=3), followed), refs=(Ref("commit_" + "a" * 32, 1),))
    assert (expiry(planned(table)) is not None) is is_left_behind


def test_a_tag_with_the_name_of_a_staging_branch_stays() -> None:
    assert expiry(planned(health(refs=(Ref(STAGED, 1, is_tag=True),)))) is None


def test_a_branch_named_by_a_time_that_is_none_is_a_users() -> None:
    assert expiry(planned(health(refs=(Ref("commit_20261399T000000_" + "a" * 32, 1),)))) is None


def test_a_dead_writers_branch_holds_nothing_back() -> None:
    table = health(history=daily(20), refs=(Ref(STAGED, 2),))
    assert stays(table) == [13, 14, 15, 16, 17, 18, 19, 20]
    assert some(expiry(planned(table))).reason == (
        "12 snapshots are older than 7 days; 1 branches were left behind by writers that died"
    )


def test_how_long_a_write_takes_is_given() -> None:
    table = health(refs=(Ref(STAGED, 1),))
    assert expiry(planned(table, given=Circumstances(NOW, timedelta(days=2)))) is None
    assert some(expiry(planned(table, given=Circumstances(NOW, timedelta(hours=1))))).branches == (STAGED,)


@pytest.mark.parametrize("held", [f"audit_20261112{t}120000_{'a' * 32}" for t in "tT"])  # T: of an older release
def test_a_commit_that_is_held_back_stays_until_nobody_can_mean_to_decide_any_more(held: str) -> None:
    table = health(refs=(Ref(held, 1), Ref("audit_" + "b" * 32, 1)))  # the other one is a user's
    action = some(expiry(planned(table)))
    assert action.branches == (held,)
    assert action.reason == "1 commits were held back for 14 days, and nobody decided"
    assert expiry(planned(table, given=Circumstances(NOW, longest_held=timedelta(days=16)))) is None


def test_a_branch_with_an_age_holds_nothing_back_and_goes_when_it_is_past_it() -> None:
    own = Snapshot(101, 4, 101, ago(days=12), False, False)
    table = health(history=daily(20), refs=(Ref("restated", 101, max_age=timedelta(days=13)),))
    table = replace(table, snapshots=(*table.snapshots, own), snapshot=20)
    assert stays(table) == [*range(13, 21), 101]
    assert some(expiry(planned(table))).branches == ()
    old = replace(table, refs=(Ref("restated", 101, max_age=timedelta(days=11)),))
    action = some(expiry(planned(old)))
    assert (action.branches, action.loose) == (("restated",), (101,))
    assert action.reason == (
        "12 snapshots are older than 7 days; 1 branches are past their age; 1 snapshots are on no branch"
    )


def test_a_branch_with_an_age_keeps_the_snapshot_at_which_it_stands() -> None:
    table = health(history=daily(20), refs=(Ref("then", 5, max_age=timedelta(days=300)),))
    assert stays(table) == [5, *range(13, 21)]
    assert kept(planned(table), Expiry)["branch then"] == 1
    assert some(expiry(planned(table))).after == {"snapshots": 9, "branches": 1}


def test_a_tag_with_an_age_is_icebergs_to_drop() -> None:
    table = health(history=daily(20), refs=(Ref("month_end", 3, is_tag=True, max_age=timedelta(days=1)),))
    assert stays(table) == [*range(3, 21)]


def test_snapshots_on_no_branch_go_by_their_age() -> None:
    loose = (Snapshot(101, 1, 101, ago(days=8), False, False), Snapshot(102, 1, 102, ago(days=6), False, False))
    current = snapshots(ago(days=9))
    table = replace(health(history=current), snapshots=(*current, *loose))
    action = some(expiry(planned(table)))
    assert action.loose == (101,)
    assert action.reason == "1 snapshots are on no branch"
    assert action.after == {"snapshots": 2, "branches": 0}
    assert stays(table) == [1, 102]


def test_snapshots_on_no_branch_stay_for_their_time_though_the_history_is_younger() -> None:
    """Such as those of a table that was replaced as a whole, an hour ago."""
    old = snapshots(*(ago(days=n) for n in (6, 5, 4, 3, 2)))
    new = Snapshot(50, None, 50, ago(hours=1), False, True)
    table = replace(health(history=old), snapshots=(*old, new), snapshot=50)
    assert expiry(planned(table)) is None
    assert stays(table) == [1, 2, 3, 4, 5, 50]


def test_snapshots_that_were_rolled_back_stay_for_their_time_though_old_ones_go() -> None:
    """By age alone, nothing that goes is younger than the policy says: the cut need not lie above that."""
    rolled_back = Snapshot(101, 1, 101, ago(days=3), False, False)
    history = snapshots(ago(days=10), ago(days=9), *[ago(hours=1)] * 5)
    assert stays(replace(health(history=history), snapshots=(*history, rolled_back))) == [3, 4, 5, 6, 7, 101]


def test_a_snapshot_that_another_branch_leads_to_outlives_a_dead_writer() -> None:
    own = (Snapshot(101, 1, 101, ago(days=2), False, False), Snapshot(102, 101, 102, ago(days=2), False, False))
    table = health(refs=(Ref(STAGED, 102), Ref("copy", 101)))
    table = replace(table, snapshots=(*table.snapshots, *own), snapshot=1)
    action = some(expiry(planned(table)))
    assert (action.branches, action.loose) == ((STAGED,), (102,))


# Snapshots of clocks that went back


def test_a_snapshot_that_looks_old_is_kept_with_those_before_it() -> None:
    """The clock of the newest but one ran eight days behind."""
    history = snapshots(ago(hours=3), ago(hours=2), ago(days=8), ago(hours=1))
    assert stays(health(history=history), min_snapshots=1) == [1, 2, 3, 4]


def test_the_cut_lies_below_all_that_is_kept() -> None:
    history = snapshots(ago(days=9), ago(days=9, minutes=1), ago(days=8), cursors=[2])
    assert stays(health(history=history), min_snapshots=1) == [1, 2, 3]
    assert expiry(planned(health(history=history), min_snapshots=1)) is None


def test_what_iceberg_cannot_reach_is_planned_to_stay() -> None:
    history = snapshots(ago(days=20), ago(days=10), ago(days=10, minutes=1), NOW, cursors=[3])
    action = some(expiry(planned(health(history=history), min_snapshots=1)))
    assert action.after["snapshots"] == 3
    assert stays(health(history=history), min_snapshots=1) == [2, 3, 4]


def test_what_goes_is_counted_though_a_clock_went_back() -> None:
    """Iceberg stops at the first snapshot that is too old: all that lie behind it go, whatever their time."""
    history = snapshots(ago(days=10), ago(days=12), ago(days=11), cursors=[3])
    table = health(history=history)
    assert stays(table, min_snapshots=1) == [3]
    assert some(expiry(planned(table, min_snapshots=1))).after["snapshots"] == 1


def test_what_only_the_cut_keeps_has_a_reason() -> None:
    history = snapshots(ago(days=20), ago(days=10), ago(days=10, minutes=1), NOW, cursors=[3])
    found = planned(health(history=history), min_snapshots=1)
    assert sum(kept(found, Expiry).values()) == 3


def test_loose_snapshots_that_the_cut_takes_are_counted() -> None:
    """Such as those that a user rolled back a day ago: of a busy stream, a thousand snapshots are some hours."""
    loose = Snapshot(101, None, 101, ago(days=1), False, False)
    history = snapshots(*(ago(minutes=n) for n in range(20, 0, -1)))
    table = replace(health(history=history), snapshots=(loose, *history))
    assert stays(table, max_snapshots=10) == [*range(11, 21)]
    assert some(expiry(planned(table, max_snapshots=10))).after["snapshots"] == 10


def test_a_branch_stays_whole_though_its_clock_ran_behind() -> None:
    """Without the snapshot between, nothing would say any more at which one the branch began."""
    table = BRANCH_OF_A_SLOW_CLOCK.health
    assert stays(table, min_snapshots=1) == [2, 3, 101, 102]
    assert [each.id for each in BRANCH_OF_A_SLOW_CLOCK.left.line(102)] == [102, 101, 2]


# Snapshots: any history


@dataclass(frozen=True)
class Case:
    """A table with a history of any kind, and what it is planned by."""

    health: Health
    policy: Policy
    given: Circumstances

    @property
    def action(self) -> Expiry | None:
        return expiry(plan(WHOLE, self.policy, self.health, self.given))

    @property
    def left(self) -> Health:
        return self.health if self.action is None else expired(self.health, self.action)


STEPS = (-60, -60, -30, -1, 0, 1, 10, 3_600, 86_400, 86_400 * 3)
"""Seconds from one commit to the next: Iceberg allows a clock to be a minute behind."""
DEAD = ("commit_20200101T000000_" + "a" * 32, "compaction_20200101T000000_" + "b" * 32)
OF_OLDER_RELEASE = "commit_" + "c" * 32
NAMES = ("audit", "commit_20990101T000000_" + "d" * 32, OF_OLDER_RELEASE, *DEAD)


@st.composite
def cases(draw: st.DrawFn, steps: Sequence[int] = STEPS, most_forgotten: int = 3) -> Case:
    """The oldest snapshots may be forgotten, though later ones have them as parents."""
    start, at = datetime(2026, 9, 1, tzinfo=UTC), timedelta()
    found: list[Snapshot] = []
    length = draw(st.integers(1, 14))
    for number in range(1, length + 1):
        at += timedelta(seconds=draw(st.sampled_from(steps)))
        found.append(Snapshot(number, number - 1 or None, number, start + at, draw(st.booleans()), draw(st.booleans())))
    latest = max(each.at for each in found)
    refs: list[Ref] = []
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3)):
        parent = found[draw(st.integers(0, length - 1))]
        for _ in range(draw(st.integers(0, 2))):
            later = parent.at + timedelta(seconds=draw(st.sampled_from(steps)))
            parent = Snapshot(len(found) + 1, parent.id, len(found) + 1, later, False, draw(st.booleans()))
            found.append(parent)
        if draw(st.booleans()):
            refs.append(Ref(name, parent.id, is_tag=name == "audit" and draw(st.booleans())))
    forgotten = draw(st.integers(0, min(most_forgotten, length - 1)))
    policy = Policy(
        snapshot_days=draw(st.integers(0, 6)),
        min_snapshots=draw(st.integers(1, 6)),
        max_snapshots=draw(st.none() | st.integers(1, 8)),
    )
    there = tuple(each for each in found if each.id > forgotten)
    known = tuple(ref for ref in refs if ref.snapshot > forgotten)
    now = latest + timedelta(seconds=draw(st.sampled_from((0, 60, 86_400 * 2))))
    return Case(Health(NAME, length, there, known), policy, Circumstances(now))


def must_stay(case: Case) -> set[int]:
    """The snapshots of the history that the policy holds, each found by a rule of its own."""
    history, policy = case.health.history, case.policy
    found = {each.id for each in history[-policy.min_snapshots :]}
    found |= {[each.id for each in history if each.has_cursor][-1]} if any(s.has_cursor for s in history) else set()
    number = policy.max_snapshots or len(history)
    youngest = case.given.now - timedelta(days=policy.snapshot_days)
    found |= {each.id for each in history[-number:] if each.at >= youngest}
    for ref in case.health.refs:
        if not is_dead(case, ref):
            line = [each.id for each in case.health.line(ref.snapshot) if each in history]
            found |= {*line[:1]}
    return found


def is_dead(case: Case, ref: Ref) -> bool:
    """Whether a branch is a writer's of a day ago or more.

    That of an older release is as old as what was staged on it, or as the commit that overtook it.
    """
    if ref.name != OF_OLDER_RELEASE:
        return ref.name in DEAD
    ids = [each.id for each in case.health.history]
    if ref.snapshot == ids[-1]:
        return False
    since = ids[ids.index(ref.snapshot) + 1] if ref.snapshot in ids else ref.snapshot
    return case.health.by_id[since].at < case.given.now - timedelta(days=1)


CLOCK_WENT_BACK = Case(
    Health(NAME, 3, snapshots(ago(days=10), ago(days=12), ago(days=11), cursors=[3])),
    Policy(snapshot_days=7, min_snapshots=1),
    Circumstances(NOW),
)
HELD_BY_THE_CUT = Case(
    Health(NAME, 2, snapshots(ago(days=10), ago(days=11))), Policy(snapshot_days=7, min_snapshots=1), Circumstances(NOW)
)
ROLLED_BACK = Case(
    Health(NAME, 2, (*snapshots(ago(hours=3), ago(hours=1)), Snapshot(9, 1, 9, ago(hours=2), False, False))),
    Policy(snapshot_days=7, min_snapshots=1, max_snapshots=1),
    Circumstances(NOW),
)
BRANCH_OF_A_SLOW_CLOCK = Case(
    Health(
        NAME,
        3,
        (
            *snapshots(ago(days=20), ago(days=10), NOW, cursors=[3]),
            Snapshot(101, 2, 101, ago(days=10, seconds=30), False, False),
            Snapshot(102, 101, 102, ago(days=10, seconds=45), False, False),
        ),
        (Ref("audit", 102),),
    ),
    Policy(snapshot_days=7, min_snapshots=1),
    Circumstances(NOW),
)
PROPERTY = settings(max_examples=100, deadline=None)


@PROPERTY
@given(cases())
def test_of_any_history_only_the_oldest_snapshots_go(case: Case) -> None:
    before, after = case.health.history, case.left.history
    assert after == before[len(before) - len(after) :]
    assert len(after) >= min(case.policy.min_snapshots, len(before))
    assert must_stay(case) <= {each.id for each in after}


@PROPERTY
@given(cases(steps=[step for step in STEPS if step > 0], most_forgotten=0))
def test_of_a_history_in_order_all_goes_that_nothing_holds(case: Case) -> None:
    first = min(must_stay(case))
    assert [each.id for each in case.left.history] == [each.id for each in case.health.history if each.id >= first]


@PROPERTY
@given(cases())
def test_whatever_a_branch_or_a_tag_names_stays(case: Case) -> None:
    dropped = () if case.action is None else case.action.branches
    assert case.left.refs == tuple(ref for ref in case.health.refs if ref.name not in dropped)
    assert {ref.snapshot for ref in case.left.refs} <= {each.id for each in case.left.snapshots}
    assert {*dropped} <= {ref.name for ref in case.health.refs if is_dead(case, ref)}


@PROPERTY
@example(CLOCK_WENT_BACK)
@example(ROLLED_BACK)
@given(cases())
def test_of_any_history_as_many_stay_as_were_planned(case: Case) -> None:
    if case.action is not None:
        assert len(case.left.snapshots) == case.action.after["snapshots"]
        assert len(case.left.refs) == case.action.after["branches"]
        assert len(case.left.snapshots) < len(case.health.snapshots) or case.action.branches


@PROPERTY
@example(HELD_BY_THE_CUT)
@given(cases())
def test_of_any_history_every_snapshot_that_stays_has_a_reason(case: Case) -> None:
    found = plan(WHOLE, case.policy, case.health, case.given)
    assert sum(kept(found, Expiry).values()) == len(case.left.history)


@PROPERTY
@example(BRANCH_OF_A_SLOW_CLOCK)
@given(cases())
def test_of_any_history_nothing_more_is_due_once_it_was_done(case: Case) -> None:
    """A tag beside the history keeps its snapshot and not the way to it: what that held back may go one run later."""
    ids = {each.id for each in case.health.history}
    assume(all(ref.snapshot in ids for ref in case.health.refs if ref.is_tag))
    assert expiry(plan(WHOLE, case.policy, case.left, case.given)) is None


# Nothing is due twice


def carried_out(of: Health, action: Action, policy: Policy, *, pieces: int | None = None) -> Health:
    """A table after one action; `pieces` is how many files compaction makes of a group, by default as few as it can."""
    match action:
        case Retention():
            gone = {each.path for each in action.files}
            return with_files(of, {p.key: tuple(f for f in p.files if f.path not in gone) for p in of.partitions})
        case Compaction():
            return compacted(of, action, policy, pieces)
        case ManifestRewrite():
            return replace(committed(of, is_compaction=True), manifests=action.after["manifests"])
        case Expiry():
            return expired(of, action)
    raise AssertionError(action)


def with_files(of: Health, held: Mapping[Any, tuple[File, ...]]) -> Health:
    found = (replace(each, files=held.get(each.key, each.files)) for each in of.partitions)
    return replace(committed(of), partitions=tuple(each for each in found if each.files or each.deletes))


def committed(of: Health, *, is_compaction: bool = False) -> Health:
    """With one more snapshot, of NOW."""
    number = max(each.id for each in of.snapshots) + 1
    new = Snapshot(number, of.snapshot, number, NOW, is_compaction, False)
    return replace(of, snapshot=number, snapshots=(*of.snapshots, new))


def compacted(of: Health, action: Compaction, policy: Policy, pieces: int | None) -> Health:
    """Iceberg takes up files far from the target and, where there are deletes, all; rows and bytes stay."""
    left = committed(of, is_compaction=True)
    held = {each.key: each for each in of.partitions}
    for part in (part for group in action.groups for part in group.partitions):
        low, high = policy.target_file_bytes * 0.75, policy.target_file_bytes * 1.8
        old = [each for each in part.files if part.deletes or not low <= each.bytes <= high]
        gone = {each.path for each in old}
        number = pieces or -(-sum(each.bytes for each in old) // policy.target_file_bytes)
        kept_files = (each for each in held[part.key].files if each.path not in gone)
        new = divided(old, number, left.history[-1].sequence)
        held[part.key] = replace(held[part.key], files=(*kept_files, *new), deletes=0, delete_sequence=0)
    return replace(left, partitions=tuple(held.values()))


def divided(old: Sequence[File], number: int, sequence: int) -> Iterator[File]:
    """The same rows and bytes in so many files, the first of which has what does not divide."""
    size, rows = sum(each.bytes for each in old), sum(each.records for each in old)
    for position in range(number):
        own_size, own_rows = size // number, rows // number
        if not position:
            own_size, own_rows = size - own_size * (number - 1), rows - own_rows * (number - 1)
        yield replace(old[-1], path=f"{next(_number)}.parquet", bytes=own_size, records=own_rows, sequence=sequence)


JOBS = (Retention, Compaction, ManifestRewrite, Expiry)
ALL_DUE = Health(
    NAME,
    20,
    daily(20, cursors=[10, 12]),
    refs=(Ref(STAGED, 20),),
    cursor="{}",
    manifests=50,
    manifest_bytes=MB,
    partitions=(
        partition(None, arrivals(3, 200) + arrivals(6, 4) + arrivals(6, 3)),
        partition(date(2026, 5, 1), arrivals(9, 200)),
        partition(day(4), arrivals(9, 4) + files(2, 300, stamp=ago(days=4))),
        partition(day(3), arrivals(9, 3)),
    ),
)


def test_all_that_is_due_is_planned_in_the_order_in_which_it_is_done() -> None:
    found = planned(ALL_DUE, policy=BRONZE, given=consumed(NOW))
    assert [action.job for action in found.actions] == [
        "bronze_retention", "compaction", "manifest_rewrite", "snapshot_expiration",
    ]  # fmt: skip
    assert [action.job for action in found.of(["snapshot_expiration", "compaction"]).actions] == [
        "compaction", "snapshot_expiration",
    ]  # fmt: skip
    assert {each.job for each in found.of(["snapshot_expiration"]).kept} == {"snapshot_expiration"}


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("pieces", [None, 9])
def test_what_a_job_did_is_as_planned_and_not_due_again(job: type[Action], pieces: int | None) -> None:
    given = consumed(NOW)
    for action in planned(ALL_DUE, policy=BRONZE, given=given).of([job.job]).actions:
        left = carried_out(ALL_DUE, action, BRONZE, pieces=pieces)
        assert planned(left, policy=BRONZE, given=given).of([job.job]).actions == ()
        if job is not Compaction:
            assert {name: survey.counts(left)[name] for name in action.after} == action.after


def test_nothing_is_due_after_two_runs_of_everything() -> None:
    """The first run's own snapshots may be one too many."""
    left = ALL_DUE
    for _ in range(2):
        for action in planned(left, policy=BRONZE, given=consumed(NOW)).actions:
            left = carried_out(left, action, BRONZE)
    assert planned(left, policy=BRONZE, given=consumed(NOW)).actions == ()


def test_what_was_compacted_is_not_due_again_once_its_snapshot_expired() -> None:
    of_a_week_ago = replace(ALL_DUE, partitions=(partition(7, files(30, 100)),))
    (action,) = planned(of_a_week_ago, BY_BUCKETS).of([Compaction.job]).actions
    left = carried_out(of_a_week_ago, action, POLICY, pieces=20)
    sequence = left.history[-1].sequence
    forgotten = replace(left, snapshots=snapshots(*[NOW] * 30)[25:], snapshot=30)
    logged = Circumstances(NOW, compacted={NAME: frozenset({sequence})})
    assert kept(planned(forgotten, BY_BUCKETS, given=logged), Compaction) == UNCHANGED


@st.composite
def tables(draw: st.DrawFn) -> tuple[Health, Policy]:
    """Files of any size and age, in few partitions; either of bronze or with deletes."""
    history = snapshots(
        *(ago(hours=draw(st.sampled_from((0, 1, 20, 30, 200)))) for _ in range(6)),
        compactions=draw(st.sets(st.integers(1, 6))),
        cursors=draw(st.sets(st.integers(1, 6))),
    )
    is_bronze = draw(st.booleans())
    values = draw(st.lists(st.sampled_from((None, day(200), day(4), TODAY, day(-9))), unique=True, max_size=4))
    found = []
    for value in values:
        sizes = draw(st.lists(st.sampled_from((1, 191, 192, 256, 460, 461, 900)), min_size=1, max_size=12))
        held = (
            file(size, sequence=draw(st.integers(1, 6)), stamp=ago(days=draw(st.sampled_from((200, 95, 5, 4, 0)))))
            for size in sizes
        )
        deletes = 0 if is_bronze else draw(st.integers(0, 6))
        found.append(partition(value, held, deletes=deletes, delete_sequence=deletes and draw(st.integers(1, 6))))
    number = draw(st.integers(1, 200))
    table = Health(
        NAME, 6, history, cursor=draw(st.sampled_from(("{}", None))), manifests=number,
        manifest_bytes=number * draw(st.sampled_from((7_000, MB, 8 * MB))), partitions=tuple(found),
    )  # fmt: skip
    return table, BRONZE if is_bronze else POLICY


@PROPERTY
@given(tables(), st.sampled_from((BY_DAYS, BY_BUCKETS)), st.sampled_from((None, ago(days=100), NOW)))
def test_of_any_table_each_job_leaves_nothing_to_do_and_what_it_planned(
    made: tuple[Health, Policy], table: Table, upto: datetime | None
) -> None:
    before, policy = made
    given = consumed(upto)
    for action in plan(table, policy, before, given).actions:
        if isinstance(action, Compaction):  # it counts what retention leaves
            before = replace(before, partitions=plain(before, policy, table, given))
        assert action.before == {name: survey.counts(before)[name] for name in action.before}
        after = carried_out(before, action, policy)
        assert action.after == {name: survey.counts(after)[name] for name in action.after}
        assert plan(table, policy, after, given).of([action.job]).actions == ()


def plain(of: Health, policy: Policy, table: Table, given: Circumstances) -> tuple[Partition, ...]:
    """The partitions once retention was carried out, if it is due."""
    action = retention(plan(table, policy, of, given))
    return of.partitions if action is None else carried_out(of, action, policy).partitions


# Small tables and large ones


def test_a_table_that_was_never_written_to_needs_nothing() -> None:
    assert planned(Health(NAME, None)) == Plan(NAME)
    staged = Snapshot(1, None, 1, ago(days=30), False, False)
    assert planned(Health(NAME, None, (staged,), (Ref("audit", 1),))) == Plan(NAME)


@pytest.mark.parametrize("policy", [POLICY, BRONZE, replace(BRONZE, snapshot_days=0, min_snapshots=1)])
def test_a_table_of_one_snapshot_without_files_keeps_it(policy: Policy) -> None:
    found = planned(health(history=snapshots(ago(days=900))), policy=policy)
    assert found == Plan(
        NAME, (), (Kept("snapshot_expiration", "snapshots", 1, f"one of the {policy.min_snapshots} newest"),)
    )


def test_a_partition_of_five_thousand_files_is_one_piece_of_work() -> None:
    action = some(compaction(planned(health(partition(day(3), arrivals(5_000, 3))), policy=BRONZE)))
    assert action.before == {"files": 5_000, "bytes": 5_000 * MB}
    assert action.after == {"files": 20, "bytes": 5_000 * MB}
    assert len(action.groups) == 1


def test_five_thousand_partitions_of_a_file_each_are_left_alone() -> None:
    found = planned(health(*(partition(day(n), files(1)) for n in range(5_000))))
    assert found.actions == ()
    assert kept(found, Compaction) == {"fewer than 5 files to gain from": 5_000}


def test_five_thousand_old_partitions_go_at_once() -> None:
    old = [partition(day(n), arrivals(1, n)) for n in range(91, 5_091)]
    action = some(lost(bronze(*old, partition(day(1), arrivals(1, 1)))))
    assert (len(action.files), len(action.partitions)) == (5_000, 5_000)
    assert action.after == {"files": 1, "bytes": MB, "rows": 10}


def of_files(number: int) -> Health:
    return bronze(partition(day(3), arrivals(number, 3)), partition(None, arrivals(number, 4) + arrivals(number, 200)))


def of_partitions(number: int) -> Health:
    return bronze(*(partition(day(n), arrivals(1 + n % 9, n)) for n in range(number)))


def of_snapshots(number: int) -> Health:
    ats = [ago(minutes=number - n) for n in range(number)]
    return health(history=snapshots(*ats, cursors=range(1, number, 2)))


def of_dead_branches(number: int) -> Health:
    return health(refs=tuple(Ref(f"commit_20200101T000000_{n:032x}", 1) for n in range(number)))


def of_tags(number: int) -> Health:
    """A tag on each snapshot of a long history."""
    return health(history=daily(number), refs=tuple(Ref(f"day {n}", n + 1, True) for n in range(number)))


def of_loose_snapshots(number: int) -> Health:
    loose = tuple(Snapshot(100 + n, 1, 1 + n, ago(days=9), False, False) for n in range(number))
    return replace(health(), snapshots=(*snapshots(NOW - LONG_AGO), *loose))


@pytest.mark.parametrize(
    "made",
    [
        of_files,
        of_partitions,
        of_snapshots,
        of_loose_snapshots,
        of_dead_branches,
        of_tags,
    ],
)
def test_ten_times_as_much_is_at_most_some_ten_times_the_work(made: Callable[[int], Health]) -> None:
    assert calls(made(1_000)) < 12 * calls(made(100))


def calls(of: Health) -> int:
    """How many calls a plan takes, of Python's functions and of built-in ones."""
    found = 0

    def counted(frame: FrameType, event: str, argument: object) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        planned(of, policy=BRONZE, given=consumed(NOW))
    finally:
        sys.setprofile(before)
    return found


# As machines read it


def test_a_plan_is_json() -> None:
    found = planned(ALL_DUE, policy=BRONZE, given=consumed(NOW))
    said = json.loads(json.dumps([action.as_dict() for action in found.actions]))
    assert [action["job"] for action in said] == [
        "bronze_retention", "compaction", "manifest_rewrite", "snapshot_expiration",
    ]  # fmt: skip
    assert {*said[0]} == {"job", "table", "reason", "before", "after", "reads", "parts"}
    assert said[0]["parts"] == ["part=None", "part=2026-05-01"]
    assert said[2] == {
        "job": "manifest_rewrite", "table": NAME, "reason": "50 manifests have 1,048,576 bytes together",
        "before": {"manifests": 50}, "after": {"manifests": 1}, "reads": 0, "parts": [],
    }  # fmt: skip
    assert said[3]["parts"] == ["snapshots before 2026-11-19T12:00:00+00:00", f"branch {STAGED}"]
