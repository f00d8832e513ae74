"""When maintenance is due: the seven schedules, as cron has them and as the clock reaches them."""

from datetime import UTC, datetime, timedelta

import pytest

from lakehouse_spark.catalog import LAYERS
from lakehouse_spark.jobs.registry import JOBS
from lakehouse_spark.maintenance.schedule import SCHEDULES, due_between, next_of

SATURDAY = datetime(2025, 6, 7, tzinfo=UTC)
BY_NAME = {schedule.name: schedule for schedule in SCHEDULES}


def test_the_schedules_are_these() -> None:
    assert [(each.name, each.cron, each.jobs, each.layers) for each in SCHEDULES] == [
        ("compact_bronze", "0 */6 * * *", ("compaction",), ("bronze",)),
        ("compact_silver", "0 */12 * * *", ("compaction",), ("silver",)),
        ("compact_gold", "0 2 * * *", ("compaction",), ("gold", "_metadata")),
        ("compact_dimensions", "0 3 * * 0", ("compaction",), ("dim",)),
        ("expire_snapshots", "0 4 * * *", ("bronze_retention", "snapshot_expiration"), LAYERS),
        ("orphan_cleanup", "0 5 * * 0", ("orphan_cleanup",), LAYERS),
        ("rewrite_manifests", "0 6 * * 0", ("manifest_rewrite",), LAYERS),
    ]


def test_every_job_and_layer_of_a_schedule_is_there_and_every_layer_is_compacted() -> None:
    assert {job for each in SCHEDULES for job in each.jobs} <= {*JOBS}
    compacted = [layer for each in SCHEDULES if each.jobs == ("compaction",) for layer in each.layers]
    assert sorted(compacted) == sorted(LAYERS)


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("compact_bronze", ["07 06", "07 12", "07 18", "08 00", "08 06"]),
        ("compact_silver", ["07 12", "08 00", "08 12"]),
        ("compact_gold", ["07 02", "08 02", "09 02"]),
        ("compact_dimensions", ["08 03", "15 03"]),
        ("rewrite_manifests", ["08 06", "15 06"]),
    ],
)
def test_the_times_follow_each_other(name: str, times: list[str]) -> None:
    now, found = SATURDAY, []
    for _ in times:
        now = BY_NAME[name].next_after(now)
        found.append(f"{now:%d %H}")
    assert found == times


def test_what_is_due_at_one_hour_is_due_once_and_in_order() -> None:
    hour = timedelta(hours=1)
    assert [each.name for each in due_between(SATURDAY, SATURDAY + 6 * hour)] == [
        "compact_gold", "expire_snapshots", "compact_bronze",
    ]  # fmt: skip
    assert [each.name for each in due_between(SATURDAY + 6 * hour, SATURDAY + 24 * hour)] == [
        "compact_bronze", "compact_silver",
    ]  # fmt: skip
    assert due_between(SATURDAY, SATURDAY + hour) == []


def test_the_next_one_is_the_first_of_all() -> None:
    at, schedule = next_of(SATURDAY + timedelta(hours=4, minutes=59))
    assert (at, schedule.name) == (SATURDAY + timedelta(hours=6), "compact_bronze")
