"""The health of real tables, as their metadata tells it."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.conversions import to_bytes
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestEntry, ManifestFile
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField, StringType, TimestamptzType

from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.lake.cursor import CURSOR
from lakehouse_spark.maintenance import health, survey
from lakehouse_spark.maintenance.health import Health, Ref
from lakehouse_spark.maintenance.plan import Circumstances, Compaction, plan
from lakehouse_spark.table import Policy, Table, column
from lakehouse_spark.types import INSTANT, LONG, TEXT

TABLE = Table(
    name="test.rows",
    doc="Rows of tests.",
    columns=(
        column("at", INSTANT, "When it happened"),
        column("symbol", TEXT, "Of what"),
        column("quantity", LONG, "How many"),
        column("_stamp", INSTANT, "Commit stamp"),
    ),
    key=("symbol",),
    policy=Policy(snapshot_days=7),
    stamp="_stamp",
)
SCHEMA = Schema(
    NestedField(1, "at", TimestamptzType()),
    NestedField(2, "symbol", StringType()),
    NestedField(3, "quantity", LongType()),
    NestedField(4, "_stamp", TimestamptzType()),
)
STAMP_ID = 4
BY_SYMBOL = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "symbol"))
BY_DAY_AND_BUCKET = PartitionSpec(
    PartitionField(1, 1000, DayTransform(), "at_day"), PartitionField(2, 1001, BucketTransform(16), "symbol_bucket")
)
FORMAT = {"format-version": "2"}
NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)
Make = Callable[..., IcebergTable]
_20_119_DAYS = 20_119
"""From 1970-01-01 to 2025-01-31."""


def test_the_thirty_first_of_january_is_day_20119() -> None:
    assert (date(2025, 1, 31) - date(1970, 1, 1)).days == _20_119_DAYS


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes the table, without a snapshot."""
    catalog = SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("test")

    def made(spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC, **properties: str) -> IcebergTable:
        named = {name.replace("_", "-"): value for name, value in properties.items()}
        return catalog.create_table("test.rows", SCHEMA, partition_spec=spec, properties={**FORMAT, **named})

    return made


def rows(*symbols: str | None, stamps: tuple[datetime | None, ...] = (NOON,)) -> pa.Table:
    """A row for each symbol and stamp."""
    found = [
        {"at": NOON, "symbol": symbol, "quantity": 1, "_stamp": stamp} for symbol in symbols for stamp in stamps
    ]  # fmt: skip
    return pa.Table.from_pylist(found, schema=SCHEMA.as_arrow())


def cursor(text: str) -> dict[str, str]:
    return {CURSOR: text}


def read(iceberg: IcebergTable, table: Table = TABLE) -> Health:
    return health.read(Metadata(table, json.loads(iceberg.refresh().metadata.model_dump_json()), iceberg.io))


def listed(of: Health) -> dict[str, list[tuple[int, int]]]:
    """By partition, each file's rows and sequence."""
    return {each.name: [(file.records, file.sequence) for file in each.files] for each in of.partitions}


def add(iceberg: IcebergTable, *files: DataFile) -> None:
    """Commits files that are nowhere: only metadata is read."""
    with iceberg.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in files:
            append.append_data_file(file)


def data(
    name: str,
    *partition: object,
    size: int = 1_000,
    records: int = 10,
    content: DataFileContent = DataFileContent.DATA,
    stamps: tuple[datetime, datetime] | None = None,
) -> DataFile:
    lower, upper = ({STAMP_ID: to_bytes(TimestamptzType(), as_micros(each))} for each in stamps or (NOON, NOON))
    return DataFile.from_args(
        content=content, file_path=name, file_format=FileFormat.PARQUET, partition=Record(*partition),
        record_count=records, file_size_in_bytes=size, lower_bounds=stamps and lower, upper_bounds=stamps and upper,
    )  # fmt: skip


def as_micros(instant: datetime) -> int:
    seconds = int(instant.replace(microsecond=0).timestamp())
    return seconds * 1_000_000 + instant.microsecond


def commit(iceberg: IcebergTable, operation: Operation) -> None:
    """Commits a snapshot of the same files, as other programs may."""
    head = iceberg.refresh().current_snapshot()
    assert head is not None
    new = IcebergSnapshot.model_validate(
        {
            "snapshot-id": head.snapshot_id + 1,
            "parent-snapshot-id": head.snapshot_id,
            "sequence-number": (head.sequence_number or 0) + 1,
            "timestamp-ms": head.timestamp_ms + 1,
            "manifest-list": head.manifest_list,
            "summary": {"operation": operation},
            "schema-id": head.schema_id,
        }
    )
    named = {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": new.snapshot_id}
    updates = (AddSnapshotUpdate(snapshot=new), SetSnapshotRefUpdate.model_validate(named))
    iceberg.catalog.commit_table(iceberg, (), updates)


def head(iceberg: IcebergTable) -> int:
    found = iceberg.refresh().current_snapshot()
    assert found is not None
    return found.snapshot_id


# Files and partitions


def test_a_table_that_was_never_written_to_has_nothing(make: Make) -> None:
    found = read(make())
    assert found == Health("test.rows", None)
    assert (found.files, found.bytes, found.history, found.manifest_target_bytes) == (0, 0, (), 8_388_608)


def test_an_unpartitioned_table_is_one_partition_of_all_its_files(make: Make) -> None:
    iceberg = make()
    iceberg.append(rows("A", "B"))
    iceberg.append(rows("C"))

    found = read(iceberg)

    assert listed(found) == {"": [(2, 1), (1, 2)]}
    (only,) = found.partitions
    assert (only.key, only.terms, only.day, only.deletes, only.sequence) == ((0, ()), (), None, 0, 2)
    on_disk = {f"file://{path}": path.stat().st_size for path in Path(iceberg.location()[7:]).rglob("*.parquet")}
    assert {each.path: each.bytes for each in only.files} == on_disk
    assert found.bytes == only.bytes == sum(on_disk.values())


def test_partitions_by_a_value_are_spelled_as_iceberg_spells_them(make: Make) -> None:
    iceberg = make(BY_SYMBOL)
    iceberg.append(rows("A", "A", "b c/d=é", "null", None))

    found = read(iceberg)

    assert [(each.name, each.terms) for each in found.partitions] == [
        ("symbol=A", (("identity", "symbol", "A"),)),
        ("symbol=b+c%2Fd%3D%C3%A9", (("identity", "symbol", "b c/d=é"),)),
        ("symbol=null", (("identity", "symbol", "null"),)),
        ("symbol=null", (("identity", "symbol", None),)),
    ]
    assert [each.key for each in found.partitions] == [(0, ("A",)), (0, ("b c/d=é",)), (0, ("null",)), (0, (None,))]
    assert [[file.records for file in each.files] for each in found.partitions] == [[2], [1], [1], [1]]
    assert {each.day for each in found.partitions} == {None}


def test_partitions_by_days_know_their_day(make: Make) -> None:
    iceberg = make(BY_DAY_AND_BUCKET)
    add(iceberg, data("a", _20_119_DAYS, 3), data("b", _20_119_DAYS, 3), data("c", _20_119_DAYS, None))
    add(iceberg, data("d", None, 3), data("e", 0, 15), data("f", -1, 15))

    found = read(iceberg)

    by_name = {each.name: each for each in found.partitions}
    assert {name: each.day for name, each in by_name.items()} == {
        "at_day=2025-01-31/symbol_bucket=3": date(2025, 1, 31),
        "at_day=2025-01-31/symbol_bucket=null": date(2025, 1, 31),
        "at_day=null/symbol_bucket=3": None,
        "at_day=1970-01-01/symbol_bucket=15": date(1970, 1, 1),
        "at_day=1969-12-31/symbol_bucket=15": date(1969, 12, 31),
    }
    first = by_name["at_day=2025-01-31/symbol_bucket=3"]
    assert first.terms == (("day", "at", _20_119_DAYS), ("bucket[16]", "symbol", 3))
    assert [file.path for file in first.files] == ["a", "b"]
    assert by_name["at_day=null/symbol_bucket=3"].terms == (("day", "at", None), ("bucket[16]", "symbol", 3))


def test_files_that_were_replaced_or_emptied_are_not_there_any_more(make: Make) -> None:
    iceberg = make(BY_SYMBOL)
    iceberg.append(rows("A", "B", "C"))
    iceberg.overwrite(rows("A", "A"), "symbol = 'A'")  # removes in one commit, adds in the next
    iceberg.delete("symbol = 'B'")
    assert listed(read(iceberg)) == {"symbol=A": [(2, 3)], "symbol=C": [(1, 1)]}

    iceberg.delete("quantity = 1")
    found = read(iceberg)
    assert (found.partitions, found.files, found.bytes) == ((), 0, 0)
    assert found.snapshot is not None
    assert len(found.history) == 5


def test_a_file_has_the_sequence_of_its_commit_though_its_manifest_was_rewritten(make: Make) -> None:
    iceberg = make(**{"commit.manifest-merge.enabled": "true", "commit.manifest.min-count-to-merge": "2"})
    for symbol in "ABC":
        iceberg.append(rows(symbol))
    found = read(iceberg)
    assert found.manifests == 1
    assert listed(found) == {"": [(1, 1), (1, 2), (1, 3)]}


def test_a_file_has_the_sequence_of_the_commit_that_wrote_it_not_that_of_its_rows(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compaction says of its files that their rows are as old as the snapshot at which it began."""
    iceberg = make()
    for symbol in "ABC":
        iceberg.append(rows(symbol))
    fetch = ManifestFile.fetch_manifest_entry

    def as_old_as_the_first(manifest: ManifestFile, io: FileIO, discard_deleted: bool = True) -> list[ManifestEntry]:
        entries = fetch(manifest, io, discard_deleted)
        for entry in entries:
            entry.sequence_number = 1
        return entries

    monkeypatch.setattr(ManifestFile, "fetch_manifest_entry", as_old_as_the_first)
    assert listed(read(iceberg)) == {"": [(1, 1), (1, 2), (1, 3)]}


def test_partitions_of_two_specs_stay_apart(make: Make) -> None:
    iceberg = make(BY_SYMBOL)
    iceberg.append(rows("A"))
    with iceberg.update_spec() as change:
        change.add_identity("quantity")
    iceberg.append(rows("A"))

    found = read(iceberg)

    assert [(each.key, each.name) for each in found.partitions] == [
        ((0, ("A",)), "symbol=A"),
        ((1, ("A", 1)), "symbol=A/quantity=1"),
    ]


def test_a_renamed_column_is_known_by_its_new_name(make: Make) -> None:
    iceberg = make(BY_SYMBOL)
    iceberg.append(rows("A"))
    with iceberg.update_schema() as change:
        change.rename_column("symbol", "ticker")
    assert read(iceberg).partitions[0].terms == (("identity", "ticker", "A"),)


def test_a_table_whose_older_partitioning_names_a_dropped_column_is_read(make: Make) -> None:
    iceberg = make(BY_SYMBOL)
    iceberg.append(rows("A"))
    with iceberg.update_spec() as spec:
        spec.remove_field("symbol")
    with iceberg.update_schema() as schema:
        schema.delete_column("symbol")
    assert read(iceberg).files == 1


def test_delete_files_count_for_their_partition(make: Make) -> None:
    iceberg = make(BY_DAY_AND_BUCKET)
    deletes = DataFileContent.POSITION_DELETES
    add(iceberg, data("a", _20_119_DAYS, 3), data("b", _20_119_DAYS, 4))
    add(iceberg, data("d1", _20_119_DAYS, 3, content=deletes))
    add(iceberg, data("d2", _20_119_DAYS, 3, content=DataFileContent.EQUALITY_DELETES))
    add(iceberg, data("d3", None, 3, content=deletes))

    found = read(iceberg)

    assert {each.name: (len(each.files), each.deletes, each.sequence) for each in found.partitions} == {
        "at_day=2025-01-31/symbol_bucket=3": (1, 2, 3),
        "at_day=2025-01-31/symbol_bucket=4": (1, 0, 1),
        "at_day=null/symbol_bucket=3": (0, 1, 4),
    }
    assert found.files == 5
    assert survey.counts(found)["files"] == 5


def test_no_file_of_data_is_opened(make: Make) -> None:
    iceberg = make(BY_SYMBOL)
    iceberg.append(rows("A", "B"))
    for path in Path(iceberg.location()[7:]).rglob("*.parquet"):
        path.unlink()
    assert listed(read(iceberg)) == {"symbol=A": [(1, 1)], "symbol=B": [(1, 1)]}


# Stamps


def stamps(of: Health) -> list[tuple[datetime | None, datetime | None]]:
    return [(file.oldest_stamp, file.newest_stamp) for each in of.partitions for file in each.files]


def test_a_file_knows_its_oldest_and_newest_stamp_to_the_microsecond(make: Make) -> None:
    iceberg = make()
    first, last = datetime(2025, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2025, 2, 1, 0, 0, 0, 1, tzinfo=UTC)
    iceberg.append(rows("A", stamps=(last, None, first)))
    assert stamps(read(iceberg)) == [(first, last)]


def test_stamps_of_any_time_are_read(make: Make) -> None:
    iceberg = make()
    early, late = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), datetime(2262, 4, 11, tzinfo=UTC)
    add(iceberg, data("a", stamps=(early, late)))
    assert stamps(read(iceberg)) == [(early, late)]


def test_where_no_stamp_is_known_there_is_none(make: Make) -> None:
    iceberg = make()
    iceberg.append(rows("A", stamps=(None,)))
    add(iceberg, data("without statistics"))
    assert stamps(read(iceberg)) == [(None, None), (None, None)]


def test_a_table_without_statistics_of_its_stamp_has_none(make: Make) -> None:
    iceberg = make(**{"write.metadata.metrics.default": "none"})
    iceberg.append(rows("A"))
    assert stamps(read(iceberg)) == [(None, None)]


def test_a_table_that_declares_no_stamp_has_none(make: Make) -> None:
    iceberg = make()
    iceberg.append(rows("A"))
    assert stamps(read(iceberg, replace(TABLE, stamp=None))) == [(None, None)]


# Snapshots, branches, tags


def test_snapshots_are_a_history_oldest_first(make: Make) -> None:
    iceberg = make()
    before = int(time.time() * 1000)
    for symbol in "ABC":
        iceberg.append(rows(symbol))

    found = read(iceberg)

    metadata = iceberg.metadata
    ids = [each.snapshot_id for each in sorted(metadata.snapshots, key=lambda each: each.sequence_number or 0)]
    assert [each.id for each in found.snapshots] == [each.id for each in found.history] == ids
    assert [each.parent for each in found.snapshots] == [None, *ids[:-1]]
    assert [each.sequence for each in found.snapshots] == [1, 2, 3]
    assert found.snapshot == ids[-1]
    millis = [each.timestamp_ms for each in metadata.snapshots]
    assert [as_micros(each.at) for each in found.snapshots] == [each * 1000 for each in millis]
    assert before <= millis[0] <= millis[-1] <= int(time.time() * 1000)
    assert found.committed[2].id == ids[1]
    assert not any(each.is_compaction or each.has_cursor for each in found.snapshots)
    assert found.cursor is None


def test_the_newest_cursor_of_the_history_is_the_tables(make: Make) -> None:
    iceberg = make()
    iceberg.append(rows("A"), snapshot_properties=cursor("one"))
    iceberg.append(rows("B"), snapshot_properties=cursor("two"))
    iceberg.append(rows("C"))
    found = read(iceberg)
    assert [each.has_cursor for each in found.snapshots] == [True, True, False]
    assert found.cursor == "two"


def test_compactions_are_told_from_other_commits(make: Make) -> None:
    iceberg = make()
    iceberg.append(rows("A"), snapshot_properties=cursor("one"))
    commit(iceberg, Operation.REPLACE)
    commit(iceberg, Operation.OVERWRITE)
    commit(iceberg, Operation.DELETE)
    found = read(iceberg)
    assert [each.is_compaction for each in found.snapshots] == [False, True, False, False]
    assert [each.sequence for each in found.history] == [1, 2, 3, 4]
    assert found.cursor == "one"


def test_a_branch_is_as_old_as_it_says_that_it_may_be_and_one_for_ever_has_no_age(make: Make) -> None:
    iceberg = make()
    iceberg.append(rows("A"))
    for name, age in {"a day": 86_400_000, "ever": 2**63 - 1, "none": None}.items():
        iceberg.manage_snapshots().create_branch(head(iceberg), name, max_ref_age_ms=age).commit()
    assert {ref.name: ref.max_age for ref in read(iceberg).refs} == {
        "a day": timedelta(days=1), "ever": None, "none": None,
    }  # fmt: skip


def test_branches_and_tags_are_told_and_lead_away_from_the_history(make: Make) -> None:
    iceberg = make()
    iceberg.append(rows("A"), snapshot_properties=cursor("main"))
    first = head(iceberg)
    iceberg.append(rows("B"))
    iceberg.manage_snapshots().create_tag(first, "month end").commit()
    iceberg.manage_snapshots().create_branch(first, "audit").commit()
    iceberg.append(rows("C"), branch="audit", snapshot_properties=cursor("audit"))

    found = read(iceberg)

    on_branch = found.snapshots[-1]
    assert found.refs == (Ref("audit", on_branch.id), Ref("month end", first, is_tag=True))
    assert [each.sequence for each in found.snapshots] == [1, 2, 3]
    assert [each.sequence for each in found.history] == [1, 2]
    assert [each.sequence for each in found.line(on_branch.id)] == [3, 1]
    assert found.cursor == "main"
    assert listed(found) == {"": [(1, 1), (1, 2)]}
    assert 3 not in found.committed


def test_after_a_rollback_what_came_later_is_on_no_branch(make: Make) -> None:
    iceberg = make()
    iceberg.append(rows("A"), snapshot_properties=cursor("one"))
    first = head(iceberg)
    iceberg.append(rows("B"), snapshot_properties=cursor("two"))
    iceberg.manage_snapshots().rollback_to_snapshot(first).commit()

    found = read(iceberg)

    assert found.snapshot == first
    assert [each.sequence for each in found.snapshots] == [1, 2]
    assert [each.sequence for each in found.history] == [1]
    assert (found.cursor, listed(found)) == ("one", {"": [(1, 1)]})


def test_a_history_begins_where_older_snapshots_expired(make: Make) -> None:
    iceberg = make()
    iceberg.append(rows("A"), snapshot_properties=cursor("one"))
    first = head(iceberg)
    for symbol in "BC":
        iceberg.append(rows(symbol))
    iceberg.maintenance.expire_snapshots().by_id(first).commit()

    found = read(iceberg)

    assert [each.sequence for each in found.history] == [2, 3]
    assert found.cursor is None
    assert listed(found) == {"": [(1, 1), (1, 2), (1, 3)]}
    assert sorted(found.committed) == [2, 3]


# Manifests


def test_manifests_are_those_of_the_current_snapshot(make: Make) -> None:
    iceberg = make()
    for symbol in "ABC":
        iceberg.append(rows(symbol))
    iceberg.delete("symbol = 'A'")

    found = read(iceberg)

    current = iceberg.current_snapshot()
    assert current is not None
    paths = [Path(each.manifest_path[7:]) for each in current.manifests(iceberg.io)]
    assert found.manifests == len(paths)
    assert found.manifest_bytes == sum(path.stat().st_size for path in paths)


def test_how_large_manifests_should_be_is_a_property_of_the_table(make: Make) -> None:
    iceberg = make(**{"commit.manifest.target-size-bytes": "1000"})
    iceberg.append(rows("A"))
    found = read(iceberg)
    assert (found.manifests, found.manifest_target_bytes) == (1, 1000)


# From a table to its plan


def test_small_commits_of_a_partition_are_due_for_compaction_until_they_are_replaced(make: Make) -> None:
    iceberg = make(BY_SYMBOL)
    for number in range(5):
        iceberg.append(rows("A", *("B" for _ in range(number % 2))), snapshot_properties=cursor(str(number)))
    now = datetime.now(UTC)
    found = plan(TABLE, TABLE.policy, read(iceberg), Circumstances(now)).actions
    assert [(action.job, [*action.parts()], action.before["files"], action.after["files"]) for action in found] == [
        ("compaction", ["symbol=A"], 7, 3)
    ]
    (action,) = found
    assert isinstance(action, Compaction)
    assert action.groups[0].partitions[0].terms == (("identity", "symbol", "A"),)

    iceberg.overwrite(rows(*["A"] * 5), "symbol = 'A'")
    assert plan(TABLE, TABLE.policy, read(iceberg), Circumstances(now)).actions == ()


def test_what_plans_count_is_what_the_table_has(make: Make) -> None:
    iceberg = make(BY_SYMBOL)
    iceberg.append(rows("A", "A", "B"))
    iceberg.manage_snapshots().create_tag(head(iceberg), "first").commit()
    iceberg.append(rows("A"))
    found = read(iceberg)
    assert survey.counts(found) == {
        "files": 3, "bytes": found.bytes, "rows": 4, "manifests": 2, "snapshots": 2, "branches": 1,
    }  # fmt: skip
