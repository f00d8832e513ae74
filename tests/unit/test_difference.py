"""What a table has gained since a snapshot, by its metadata alone: tables that PyIceberg wrote, and files made up."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.iceberg import difference, metadata
from lakehouse_spark.iceberg.difference import Difference
from lakehouse_spark.iceberg.live_files import LiveFile
from lakehouse_spark.iceberg.metadata import Metadata
from tests.support.home import NOTHING, RAW, SCHEMA, Home, at

MINUTE = 60_000_000
NOON = 1_748_779_200_000_000
"""2025-06-01 12:00 UTC, in microseconds."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def known(home: Home) -> Metadata:
    return metadata.read(home.settings, [BY_NAME[RAW]])[RAW]


def head(home: Home) -> int:
    return head_of(known(home))


def since(home: Home, snapshot: int) -> Difference:
    found = difference.since(known(home), snapshot)
    assert found is not None
    return found


def test_appended_files_are_gained_and_nothing_is_since_the_head(home: Home) -> None:
    home.land(RAW, at(1))
    first = head(home)
    home.land(RAW, at(5), at(9))
    home.land(RAW, at(2))
    found = since(home, first)
    assert sorted(file.records for file in found.gained) == [1, 2]
    assert (found.lifted, found.lost) == ([], [])
    assert found.range_of("_ingested_at") == (NOON + 2 * MINUTE, NOON + 9 * MINUTE)
    assert (since(home, head(home)).gained, since(home, head(home)).range_of("_ingested_at")) == ([], None)


def test_a_file_that_was_written_anew_without_a_row_is_gained_and_the_old_one_lost(home: Home) -> None:
    home.land(RAW, at(1), at(3))
    first = head(home)
    home.catalog.load_table(RAW).delete(f"_ingested_at = '{at(1).isoformat()}'")
    found = since(home, first)
    assert ([file.records for file in found.gained], [file.records for file in found.lost]) == ([1], [2])


def test_nothing_is_known_since_a_snapshot_that_is_gone_or_was_rolled_back(home: Home) -> None:
    home.land(RAW, at(1))
    first = head(home)
    home.land(RAW, at(2))
    second = head(home)
    table = home.catalog.load_table(RAW)
    table.manage_snapshots().set_current_snapshot(first).commit()
    home.land(RAW, at(3))
    assert difference.since(known(home), second) is None
    assert len(since(home, first).gained) == 1
    home.catalog.load_table(RAW).maintenance.expire_snapshots().by_id(second).commit()
    assert difference.since(known(home), second) is None


def test_a_file_that_is_added_once_more_is_gained_though_its_path_is_known(home: Home) -> None:
    home.land(RAW, at(1))
    first, (added,) = head(home), known(home).data_files
    table = home.catalog.load_table(RAW)
    with table.transaction() as change:
        merged = {"commit.manifest-merge.enabled": "true", "commit.manifest.min-count-to-merge": "1"}
        change.set_properties(merged)
        change.add_files([added.path], check_duplicate_files=False)
    assert [len(known(home).data_files), len(known(home).manifests)] == [2, 1]
    assert [file.path for file in since(home, first).gained] == [added.path]


def test_a_file_that_left_and_came_back_is_gained_for_the_deletes_before_it_hold_no_more() -> None:
    deletes = LiveFile("d.parquet", 1, 1, 2, 0, (20_240,), {}, {}, False, "a.parquet")
    found = difference.between(OF, now=[file(20_240)._replace(sequence=4), deletes], then=[file(20_240), deletes])
    assert ([each.sequence for each in found.gained], [each.sequence for each in found.lost]) == ([4], [1])
    assert found.lifted == []


def test_a_file_of_several_deletes_is_lifted_from_one_file_and_stays_for_another() -> None:
    one = LiveFile("d.puffin", 1, 1, 2, 0, (20_240,), {}, {}, False, "a.parquet")
    other = one._replace(partition=(20_241,), deletes_from="b.parquet")
    found = difference.between(OF, now=[one], then=[one, other])
    assert ([*found.gained], [*found.lost]) == ([], [])
    assert found.days("timestamp") == frozenset({date(2025, 6, 2)})


def test_the_files_of_later_commits_are_named_of_every_snapshot_that_is_kept(home: Home) -> None:
    home.land(RAW, at(1))
    before = known(home)
    home.land(RAW, at(2))
    home.catalog.load_table(RAW).delete("_ingested_at is not null")  # the head has no file at all
    found = paths(home, before) or set()
    kinds = ["data" if path.endswith(".parquet") else path.rpartition("/")[2].partition("-")[0] for path in found]
    assert kinds.count("data") == 1
    assert kinds.count("snap") == len(known(home).snapshots) - 1
    assert not found & {file.path for file in before.data_files}
    assert paths(home, known(home)) == set()


def test_the_files_of_another_table_under_the_name_are_not_named_by_numbers_of_the_first(home: Home) -> None:
    for minute in (1, 2, 3):
        home.land(RAW, at(minute))
    before = known(home)
    home.catalog.drop_table(RAW)
    home.catalog.create_table(RAW, SCHEMA, properties={"format-version": "2"})
    home.land(RAW, at(4))
    assert difference.since(known(home), head_of(before)) is None
    assert paths(home, before) is None


def test_of_a_table_without_numbers_of_its_commits_nothing_is_known(home: Home) -> None:
    home.catalog.drop_table(RAW)
    home.catalog.create_table(RAW, SCHEMA, properties={"format-version": "1"})
    home.land(RAW, at(1))
    before = known(home)
    home.land(RAW, at(2))
    assert difference.since(known(home), head_of(before)) is None
    assert paths(home, before) is None


def test_the_files_of_a_commit_that_was_rolled_back_are_named_once_more(home: Home) -> None:
    home.land(RAW, at(1))
    first = head(home)
    home.land(RAW, at(2))
    home.catalog.load_table(RAW).manage_snapshots().set_current_snapshot(first).commit()
    found = paths(home, known(home))
    assert found is not None
    assert sum(path.endswith(".parquet") for path in found) == 1


def paths(home: Home, before: Metadata) -> set[str] | None:
    """The files that came since a table was so."""
    return difference.paths(known(home), head_of(before))


def head_of(table: Metadata) -> int:
    assert table.head is not None
    return int(table.head["snapshot-id"])


def file(day: object, *, spec: int = 0, low: bytes | None = None) -> LiveFile:
    bounds = {} if low is None else {2: low}
    return LiveFile("a.parquet", 1, 1, 1, spec, (day,), bounds, bounds, True, None)


SAID: Mapping[str, Any] = {
    "current-schema-id": 0,
    "schemas": [{"schema-id": 0, "fields": [{"id": 1, "name": "timestamp"}, {"id": 2, "name": "_kafka_offset"}]}],
    "partition-specs": [
        {"spec-id": 0, "fields": [{"source-id": 1, "transform": "day"}]},
        {"spec-id": 1, "fields": [{"source-id": 1, "transform": "month"}]},
    ],
}
OF = Metadata(BY_NAME[RAW], SAID, NOTHING)


def made_up(*files: LiveFile, lifted: tuple[LiveFile, ...] = ()) -> Difference:
    return Difference(OF, files, lifted, (file(20_242),))


def test_the_days_of_gained_rows_are_those_of_files_and_of_deletes_that_are_gone() -> None:
    found = made_up(file(20_240), file(-1), file(None), lifted=(file(20_241),)).days("timestamp")
    assert found == frozenset({date(2025, 6, 1), date(1969, 12, 31), None, date(2025, 6, 2)})
    assert made_up(file(20_240)).days("timestamp", with_lost=True) == frozenset({date(2025, 6, 1), date(2025, 6, 3)})
    assert made_up().days("timestamp") == frozenset()


def test_the_days_are_not_known_of_a_file_of_another_partition_spec() -> None:
    assert made_up(file(20_240), file(665, spec=1)).days("timestamp") is None


def test_the_range_is_not_known_of_a_file_without_bounds_nor_where_rows_may_be_back() -> None:
    bounded = file(1, low=(-5).to_bytes(8, "little", signed=True))
    assert made_up(bounded).range_of("_kafka_offset") == (-5, -5)
    assert made_up(bounded, file(1)).range_of("_kafka_offset") is None
    assert made_up(bounded, lifted=(file(1),)).range_of("_kafka_offset") is None
