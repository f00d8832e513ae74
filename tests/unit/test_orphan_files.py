"""Orphans of real tables: nothing live is found, and what was found goes only while it stays an orphan."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.statistics import StatisticsFile
from pyiceberg.table.update import SetLocationUpdate, SetPartitionStatisticsUpdate, TableUpdate
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import NestedField, StringType

from lakehouse_spark.errors import LakehouseError, RefusedError, UsageError
from lakehouse_spark.maintenance import orphan_files
from lakehouse_spark.maintenance.orphan_files import File, Found, Removed, normalized
from lakehouse_spark.table import Policy, Table, column
from lakehouse_spark.types import TEXT

TABLE = Table(
    name="test.rows",
    doc="Rows of tests.",
    columns=(column("symbol", TEXT, "Of what"),),
    key=("symbol",),
    policy=Policy(snapshot_days=7),
)
SCHEMA = Schema(NestedField(1, "symbol", StringType()))
BY_SYMBOL = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "symbol"))
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Lakehouse:
    """A catalog, and the folder of the one table."""

    catalog: SqlCatalog
    folder: Path

    def create(self, name: str = TABLE.name, location: str | None = None, **properties: str) -> IcebergTable:
        place = f"file://{self.folder}" if location is None else location
        return self.catalog.create_table(name, SCHEMA, location=place, properties={"format-version": "2", **properties})

    def create_by_symbol(self) -> IcebergTable:
        return self.catalog.create_table(TABLE.name, SCHEMA, f"file://{self.folder}", BY_SYMBOL)

    def plant(self, *names: str, days: float = 10, text: str = "debris") -> None:
        """Files that no metadata knows, last modified so many days ago."""
        for name in names:
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            _age(file, days)

    def names(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}

    def find(self, **changed: Any) -> Found:
        """After all that is not older was made ten days old: what is not found is known."""
        for path in self.folder.rglob("*"):
            if path.is_file() and abs(path.stat().st_mtime - datetime.now(UTC).timestamp()) < 3600:
                _age(path, 10)
        given = {
            "older_than": datetime.now(UTC) - 3 * DAY,
            "longest_write": DAY,
            "share": 1.0,
            "locations": orphan_files.locations(self.catalog),
        }
        return orphan_files.find(self.catalog, TABLE, **{**given, **changed})

    def orphans(self, **changed: Any) -> list[str]:
        return sorted(file.path.removeprefix(f"{self.folder}/") for file in self.find(**changed).orphans)

    def remove(self, found: Found, *, quarantine: bool = False, run_id: str = "run-1") -> Removed:
        return orphan_files.remove(self.catalog, TABLE, found, quarantine=quarantine, run_id=run_id)

    def restore(self, run_id: str = "run-1") -> tuple[str, ...]:
        return orphan_files.restore(self.catalog, TABLE, run_id)


def _age(file: Path, days: float) -> None:
    moment = (datetime.now(UTC) - days * DAY).timestamp()
    os.utime(file, (moment, moment))


def rows(*symbols: str) -> pa.Table:
    return pa.Table.from_pylist([{"symbol": symbol} for symbol in symbols], schema=SCHEMA.as_arrow())


def add(iceberg: IcebergTable, *paths: str) -> None:
    """Commits files by their paths; nobody reads them."""
    partition = Record() if iceberg.spec() == UNPARTITIONED_PARTITION_SPEC else Record("A")
    with iceberg.refresh().transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for path in paths:
            append.append_data_file(
                DataFile.from_args(
                    content=DataFileContent.DATA,
                    file_path=path,
                    file_format=FileFormat.PARQUET,
                    partition=partition,
                    record_count=1,
                    file_size_in_bytes=1,
                )
            )


def apply(iceberg: IcebergTable, update: TableUpdate) -> None:
    """Commits what PyIceberg has no method for."""
    with iceberg.refresh().transaction() as transaction:
        transaction._apply((update,))


def only(lake: Lakehouse, pattern: str) -> Path:
    (file,) = lake.folder.glob(pattern)
    return file


@pytest.fixture
def lake(tmp_path: Path) -> Lakehouse:
    catalog = SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("test")
    return Lakehouse(catalog, tmp_path / "warehouse" / "test" / "rows")


class TestLive:
    """All files of the table are old; whatever its metadata leads to is no orphan."""

    def test_a_table_without_rows(self, lake: Lakehouse) -> None:
        lake.create()
        assert (lake.orphans(), lake.find().listed) == ([], 1)

    def test_several_snapshots_and_the_logged_metadata(self, lake: Lakehouse) -> None:
        table = lake.create()
        table.append(rows("A"))
        table.append(rows("B"))
        found = lake.find()
        # three metadata files, and of each append a data file, a manifest and a manifest list
        assert (found.listed, found.younger, found.orphans) == (9, 0, ())

    def test_rows_that_were_overwritten_and_deleted(self, lake: Lakehouse) -> None:
        table = lake.create()
        table.append(rows("A", "B"))
        table.overwrite(rows("C"))
        table.delete("symbol = 'C'")
        assert lake.orphans() == []

    def test_rows_of_a_branch(self, lake: Lakehouse) -> None:
        table = lake.create()
        table.append(rows("A"))
        head = table.current_snapshot()
        assert head
        table.manage_snapshots().create_branch(head.snapshot_id, "trial").commit()
        table.append(rows("B"), branch="trial")
        assert len(list(lake.folder.glob("data/*"))) == 2
        assert lake.orphans() == []

    @pytest.mark.parametrize("is_tagged", [True, False], ids=["tagged", "without a ref"])
    def test_rows_of_a_snapshot_that_no_branch_reaches(self, lake: Lakehouse, is_tagged: bool) -> None:
        table = lake.create()
        table.append(rows("A"))
        head = table.current_snapshot()
        assert head
        table.manage_snapshots().create_branch(head.snapshot_id, "trial").commit()
        table.append(rows("B"), branch="trial")
        trial = table.refresh().snapshot_by_name("trial")
        assert trial
        if is_tagged:
            table.manage_snapshots().create_tag(trial.snapshot_id, "kept").commit()
        table.manage_snapshots().remove_branch("trial").commit()
        assert set(table.refresh().refs()) == ({"main", "kept"} if is_tagged else {"main"})
        assert lake.orphans() == []

    def test_files_that_only_a_deleted_entry_names(self, lake: Lakehouse) -> None:
        table = lake.create()
        table.append(rows("A"))
        data = only(lake, "data/*")
        written = {f"metadata/{path.name}" for path in lake.folder.glob("metadata/*.avro")}
        first = table.current_snapshot()
        assert first
        table.delete("symbol = 'A'")
        table.refresh().maintenance.expire_snapshots().by_id(first.snapshot_id).commit()
        assert data.exists()
        assert lake.orphans() == sorted(written)

    def test_statistics(self, lake: Lakehouse) -> None:
        table = lake.create()
        table.append(rows("A"))
        head = table.current_snapshot()
        assert head
        lake.plant("metadata/table.stats", "metadata/partitions.parquet", "metadata/nobody.stats")
        common = {"snapshot-id": head.snapshot_id, "file-size-in-bytes": 6}
        of_table = {
            **common,
            "statistics-path": f"file:{lake.folder}/metadata/table.stats",
            "file-footer-size-in-bytes": 1,
            "blob-metadata": [],
        }
        of_partitions = {**common, "statistics-path": f"file:{lake.folder}/metadata/partitions.parquet"}
        table.update_statistics().set_statistics(StatisticsFile.model_validate(of_table)).commit()
        apply(table, SetPartitionStatisticsUpdate.model_validate({"partition-statistics": of_partitions}))
        assert len(table.refresh().metadata.partition_statistics) == 1
        assert lake.orphans() == ["metadata/nobody.stats"]

    def test_metadata_that_left_the_log_is_an_orphan(self, lake: Lakehouse) -> None:
        table = lake.create(**{"write.metadata.previous-versions-max": "1"})
        first = Path(table.metadata_location).name
        for symbol in ("A", "B"):
            table.append(rows(symbol))
        assert lake.orphans() == [f"metadata/{first}"]

    def test_the_version_hint(self, lake: Lakehouse) -> None:
        lake.create()
        lake.plant("metadata/version-hint.text", "metadata/.version-hint.text.crc")
        assert lake.orphans() == []

    def test_a_checksum_lives_as_long_as_its_file(self, lake: Lakehouse) -> None:
        lake.create().append(rows("A"))
        lake.plant(f"data/.{only(lake, 'data/*').name}.crc", "data/.lost.parquet.crc", "data/lost.parquet")
        assert lake.orphans() == ["data/.lost.parquet.crc", "data/lost.parquet"]

    def test_old_and_new_spellings_of_the_location(self, lake: Lakehouse) -> None:
        table = lake.create(location=f"file:{lake.folder}")
        for spelling in (f"file://{lake.folder}", f"{lake.folder}/", f"file:{lake.folder.parent}//rows/"):
            table.append(rows("A"))
            apply(table, SetLocationUpdate(location=spelling))
        table.append(rows("A"))
        lake.plant("data/lost.parquet")
        assert len(list(lake.folder.glob("data/*"))) == 5
        assert lake.orphans() == ["data/lost.parquet"]

    def test_names_are_taken_literally(self, lake: Lakehouse) -> None:
        live = ["data/symbol=A%2FB/a b%20=ü+1.parquet", "data/symbol=100%25/#1?.parquet"]
        lost = ["data/symbol=A/B/c.parquet", "data/symbol=A%2FB/a b =ü+1.parquet", "data/symbol=100%/1.parquet", "#1"]
        table = lake.create_by_symbol()
        lake.plant(*live, *lost)
        add(table, *(f"file:{lake.folder}/{name}" for name in live))
        assert lake.orphans() == sorted(lost)

    def test_partitions_as_pyiceberg_writes_them(self, lake: Lakehouse) -> None:
        lake.create_by_symbol().append(rows("A/B", "a b", "100%", "k=ü", "#?"))
        assert len(list(lake.folder.glob("data/*/*"))) == 5
        assert lake.orphans() == []

    def test_a_file_that_is_committed_while_others_are_listed(
        self, lake: Lakehouse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        table = lake.create()
        lake.plant("data/late.parquet", "data/lost.parquet")
        listed = orphan_files._Files.listed

        def commit_after_listing(files: orphan_files._Files, folder: str) -> Iterator[File]:
            found = list(listed(files, folder))
            add(table, f"file:{lake.folder}/data/late.parquet")
            return iter(found)

        monkeypatch.setattr(orphan_files._Files, "listed", commit_after_listing)
        assert lake.orphans() == ["data/lost.parquet"]

    @pytest.mark.parametrize("pattern", ["metadata/snap-*.avro", "metadata/*-m0.avro"], ids=["list", "manifest"])
    def test_without_a_manifest_that_is_whole_nothing_is_an_orphan(self, lake: Lakehouse, pattern: str) -> None:
        lake.create().append(rows("A"))
        lake.plant("data/lost.parquet")
        manifest = only(lake, pattern)
        content = manifest.read_bytes()
        sync = content[-16:]
        header_end = content.index(sync) + 16
        header, blocks = content[:header_end], content[header_end:]
        empty_block = b"\x00\x04\x03\x00" + sync
        parts = {
            "is no Avro file": (b"", b"PAR1"),
            "is cut off": (header[:-8], header + blocks[:2], content[:-16], content[:-1]),
            "goes on after an empty block": (header + empty_block + blocks,),
        }
        for message, contents in parts.items():
            for changed in contents:
                manifest.write_bytes(changed)
                with pytest.raises(LakehouseError, match=message):
                    lake.find()
        manifest.unlink()
        with pytest.raises(LakehouseError, match="No such file"):
            lake.find()
        manifest.write_bytes(content + empty_block)
        assert lake.orphans() == ["data/lost.parquet"]


class TestAge:
    def test_unknown_files_go_only_when_they_are_old(self, lake: Lakehouse) -> None:
        lake.create()
        lake.plant("data/old", days=3.01)
        lake.plant("data/young", days=2.99)
        lake.plant("data/future", days=-100)
        found = lake.find()
        assert [file.path for file in found.orphans] == [f"{lake.folder}/data/old"]
        assert (found.listed, found.younger, found.bytes) == (4, 2, 6)

    def test_files_of_a_write_that_may_not_be_over_are_refused(self, lake: Lakehouse) -> None:
        lake.create()
        lake.plant("data/old")
        with pytest.raises(RefusedError, match="may be of a write that is not over, which takes up to 4 days"):
            lake.find(longest_write=4 * DAY)
        with pytest.raises(RefusedError, match="may be of a write that is not over"):
            lake.find(older_than=datetime.now(UTC) + DAY, longest_write=timedelta(seconds=1))
        assert lake.orphans(longest_write=timedelta(days=2.9)) == ["data/old"]


class TestShare:
    def test_more_than_the_share_of_the_old_files_is_refused(self, lake: Lakehouse) -> None:
        lake.create()
        lake.plant(*(f"data/{number}" for number in range(10)))
        lake.plant(*(f"data/young{number}" for number in range(90)), days=1)
        with pytest.raises(RefusedError, match=r"10 of 11 old files would be orphans, more than a share of 0\.9"):
            lake.find(share=0.9)
        assert len(lake.orphans(share=0.91)) == 10

    def test_a_few_are_no_cause_for_alarm(self, lake: Lakehouse) -> None:
        lake.create()
        lake.plant(*(f"data/{number}" for number in range(9)))
        assert len(lake.orphans(share=0.0)) == 9

    def test_files_of_a_table_that_was_dropped_are_orphans_of_the_next_one_there(self, lake: Lakehouse) -> None:
        table = lake.create()
        for symbol in ("A", "B", "C"):
            table.append(rows(symbol))
        former = lake.names()
        lake.catalog.drop_table(TABLE.name)
        lake.create()
        with pytest.raises(RefusedError, match="13 of 14 old files"):
            lake.find(share=0.5)
        assert lake.orphans() == sorted(former)


class TestPlaces:
    """A location is the table's alone, and all of its files are there."""

    @pytest.mark.parametrize("other", ["{}", "{}/", "{}/data/inner", "file:{}/../..", "file://{}//inner"])
    def test_the_location_of_another_table_may_not_overlap(self, lake: Lakehouse, other: str) -> None:
        lake.create()
        lake.plant("data/lost")
        lake.create("test.other", other.format(lake.folder))
        with pytest.raises(RefusedError, match=r"its location .* and that of test\.other, .*, overlap"):
            lake.find()

    def test_a_neighbour_whose_name_begins_alike_does_not_overlap(self, lake: Lakehouse) -> None:
        lake.create()
        lake.plant("data/lost")
        lake.create("test.rows_2", f"file://{lake.folder}_2")
        lake.create("test.ro", f"file://{str(lake.folder)[:-2]}")
        assert lake.orphans() == ["data/lost"]

    def test_a_symbolic_link_to_the_location_overlaps(self, lake: Lakehouse) -> None:
        lake.create()
        link = lake.folder.with_name("link")
        link.symlink_to(lake.folder)
        lake.create("test.other", f"file://{link}")
        with pytest.raises(RefusedError, match=r"test\.other"):
            lake.find()

    def test_another_table_may_not_write_into_the_location(self, lake: Lakehouse) -> None:
        lake.create()
        properties = {"write.data.path": f"file:{lake.folder}/data"}
        lake.create("test.other", f"file://{lake.folder}_2", **properties)
        with pytest.raises(RefusedError, match=r"test\.other"):
            lake.find()

    @pytest.mark.parametrize(
        "name", ["write.data.path", "write.metadata.path", "write.object-storage.path", "write.folder-storage.path"]
    )
    def test_a_table_that_writes_elsewhere_is_refused(self, lake: Lakehouse, name: str) -> None:
        table = lake.create()
        lake.plant("data/lost")
        with table.transaction() as transaction:
            transaction.set_properties({name: f"{lake.folder}/below"})
        assert lake.orphans() == ["data/lost"]
        with table.transaction() as transaction:
            transaction.set_properties({name: f"{lake.folder}_2"})
        with pytest.raises(RefusedError, match=f"{name} leads to .*rows_2, outside the table's location"):
            lake.find()

    def test_a_live_file_under_a_second_name_is_refused(self, lake: Lakehouse) -> None:
        table = lake.create()
        table.append(rows("A"))
        link = lake.folder.with_name("link")
        link.symlink_to(lake.folder)
        apply(table, SetLocationUpdate(location=f"file://{link}"))
        with pytest.raises(RefusedError, match="is live and was not listed"):
            lake.find()

    def test_a_table_that_is_made_anew_while_it_is_listed_is_refused(
        self, lake: Lakehouse, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lake.create().append(rows("A"))
        listed = orphan_files._Files.listed

        def replace_after_listing(files: orphan_files._Files, folder: str) -> Iterator[File]:
            found = list(listed(files, folder))
            lake.catalog.drop_table(TABLE.name)
            lake.create()
            return iter(found)

        monkeypatch.setattr(orphan_files._Files, "listed", replace_after_listing)
        with pytest.raises(RefusedError, match="when it was looked through, and is"):
            lake.find()

    def test_only_local_folders_and_s3_are_looked_through(self, lake: Lakehouse) -> None:
        table = lake.create(**{"write.metadata.path": f"{lake.folder}/metadata"})
        apply(table, SetLocationUpdate(location="gs://bucket/rows"))
        with pytest.raises(UsageError, match="gs://bucket/rows: orphans are looked for in local folders and"):
            lake.restore()

    def test_locations_are_those_of_all_namespaces(self, lake: Lakehouse) -> None:
        lake.catalog.create_namespace("test.inner")
        lake.catalog.create_namespace("tes")
        lake.create()
        lake.create("test.inner.deep", f"file:{lake.folder}_2", **{"write.data.path": "s3://bucket/data"})
        assert orphan_files.locations(lake.catalog) == {
            "test.rows": (f"file://{lake.folder}",),
            "test.inner.deep": (f"file:{lake.folder}_2", "s3://bucket/data"),
        }

    def test_a_table_that_cannot_be_read_could_lie_anywhere(self, lake: Lakehouse) -> None:
        table = lake.create()
        Path(table.metadata_location.removeprefix("file://")).unlink()
        with pytest.raises(LakehouseError, match=r"test\.rows: where its files lie cannot be read"):
            orphan_files.locations(lake.catalog)


class TestRemoving:
    def test_orphans_are_deleted_and_folders_stay(self, lake: Lakehouse) -> None:
        lake.create().append(rows("A"))
        live = lake.names()
        lake.plant("data/symbol=A%2FB/a b.parquet", "lost")
        removed = lake.remove(lake.find())
        assert sorted(Path(file.path).name for file in removed.gone) == ["a b.parquet", "lost"]
        assert (removed.bytes, removed.live, removed.changed, removed.missing, removed.failed) == (12, (), (), (), ())
        assert lake.names() == live
        assert (lake.folder / "data" / "symbol=A%2FB").is_dir()

    def test_what_became_live_is_spared(self, lake: Lakehouse) -> None:
        table = lake.create()
        lake.plant("data/late.parquet", "data/.late.parquet.crc", "data/lost.parquet")
        found = lake.find()
        add(table, f"file:{lake.folder}/data/late.parquet")
        removed = lake.remove(found)
        assert [file.path for file in removed.gone] == [f"{lake.folder}/data/lost.parquet"]
        assert sorted(removed.live) == [f"{lake.folder}/data/{name}" for name in (".late.parquet.crc", "late.parquet")]
        assert {"data/late.parquet", "data/.late.parquet.crc"} <= lake.names()

    @pytest.mark.parametrize("quarantine", [True, False])
    def test_what_was_written_anew_is_spared(self, lake: Lakehouse, quarantine: bool) -> None:
        lake.create()
        lake.plant("touched", "longer")
        found = lake.find()
        lake.plant("touched", days=9)
        _lengthen(lake.folder / "longer")
        removed = lake.remove(found, quarantine=quarantine)
        assert removed.gone == ()
        assert sorted(removed.changed) == [f"{lake.folder}/longer", f"{lake.folder}/touched"]
        assert {"touched", "longer"} <= lake.names()

    @pytest.mark.parametrize("quarantine", [True, False])
    def test_what_is_missing_is_no_error(self, lake: Lakehouse, quarantine: bool) -> None:
        lake.create()
        lake.plant("data/lost")
        found = lake.find()
        (lake.folder / "data" / "lost").unlink()
        removed = lake.remove(found, quarantine=quarantine)
        assert (removed.gone, removed.failed, removed.missing) == ((), (), (f"{lake.folder}/data/lost",))

    def test_a_table_that_was_made_anew_since_loses_nothing(self, lake: Lakehouse) -> None:
        lake.create()
        lake.plant("data/lost")
        found = lake.find()
        lake.catalog.drop_table(TABLE.name)
        with pytest.raises(UsageError, match=r"test\.rows is missing"):
            lake.remove(found)
        lake.create()
        with pytest.raises(RefusedError, match=f"it was table {found.uuid} at"):
            lake.remove(found)
        assert "data/lost" in lake.names()

    def test_a_table_that_moved_since_loses_nothing(self, lake: Lakehouse) -> None:
        table = lake.create()
        lake.plant("data/lost")
        found = lake.find()
        apply(table, SetLocationUpdate(location=f"file://{lake.folder}_2"))
        with pytest.raises(RefusedError, match="rows_2"):
            lake.remove(found)
        assert "data/lost" in lake.names()

    def test_without_a_manifest_that_is_whole_nothing_goes(self, lake: Lakehouse) -> None:
        lake.create().append(rows("A"))
        lake.plant("data/lost")
        found = lake.find()
        only(lake, "metadata/*-m0.avro").unlink()
        with pytest.raises(LakehouseError, match="its manifests cannot be read"):
            lake.remove(found)
        assert "data/lost" in lake.names()

    def test_a_failure_stops_nothing(self, lake: Lakehouse) -> None:
        lake.create()
        lake.plant("a/blocked", "b/free", "quarantine/run-1/a")
        found = lake.find()
        removed = lake.remove(found, quarantine=True)
        assert [file.path for file in removed.gone] == [f"{lake.folder}/b/free"]
        ((path, sentence),) = removed.failed
        assert path == f"{lake.folder}/a/blocked"
        assert "Cannot create directory" in sentence
        assert {"a/blocked", "quarantine/run-1/b/free"} <= lake.names()

    @pytest.mark.parametrize("run_id", ["", "../rows", "a/b", ".", "a b", "ü"])
    def test_the_id_of_a_run_is_no_path(self, lake: Lakehouse, run_id: str) -> None:
        lake.create()
        lake.plant("data/lost")
        found = lake.find()
        with pytest.raises(UsageError, match="is no id of a run"):
            lake.remove(found, quarantine=True, run_id=run_id)
        with pytest.raises(UsageError, match="is no id of a run"):
            lake.restore(run_id)
        assert "data/lost" in lake.names()


class TestQuarantine:
    def test_what_was_set_aside_is_no_orphan_and_comes_back(self, lake: Lakehouse) -> None:
        lake.create().append(rows("A"))
        lake.plant("data/symbol=A%2FB/a b.parquet", "lost")
        before = lake.names()
        found = lake.find()
        removed = lake.remove(found, quarantine=True)
        assert removed.gone == found.orphans
        aside = {"quarantine/run-1/data/symbol=A%2FB/a b.parquet", "quarantine/run-1/lost"}
        assert lake.names() - before == aside
        again = lake.find()
        assert (again.listed, again.younger, again.orphans) == (5, 0, ())
        assert lake.restore() == (f"{lake.folder}/data/symbol=A%2FB/a b.parquet", f"{lake.folder}/lost")
        assert lake.names() == before
        assert replace(lake.find(), older_than=found.older_than) == found, "with their times"

    def test_what_was_set_aside_is_not_overwritten(self, lake: Lakehouse) -> None:
        lake.create()
        lake.plant("lost", text="first")
        lake.remove(lake.find(), quarantine=True)
        lake.plant("lost", text="second")
        removed = lake.remove(lake.find(), quarantine=True)
        assert removed.failed == ((f"{lake.folder}/lost", f"{lake.folder}/quarantine/run-1/lost exists"),)
        assert _texts(lake, "quarantine/run-1/lost", "lost") == ["first", "second"]

    def test_what_was_written_meanwhile_is_not_overwritten(self, lake: Lakehouse) -> None:
        lake.create()
        lake.plant("a", "b", text="old")
        lake.remove(lake.find(), quarantine=True)
        lake.plant("b", text="new")
        with pytest.raises(RefusedError, match=r"1 of 2 files of run run-1 exist again, such as .*/rows/b"):
            lake.restore()
        assert _texts(lake, "b", "quarantine/run-1/a", "quarantine/run-1/b") == ["new", "old", "old"]
        (lake.folder / "b").unlink()
        assert lake.restore() == (f"{lake.folder}/a", f"{lake.folder}/b")

    def test_one_run_comes_back_and_not_another(self, lake: Lakehouse) -> None:
        lake.create()
        for run_id in ("run-1", "run-12"):
            lake.plant(f"of {run_id}")
            lake.remove(lake.find(), quarantine=True, run_id=run_id)
        assert lake.restore("run-1") == (f"{lake.folder}/of run-1",)
        assert "quarantine/run-12/of run-12" in lake.names()

    def test_a_run_that_set_nothing_aside_is_told(self, lake: Lakehouse) -> None:
        lake.create()
        with pytest.raises(UsageError, match=r"nothing is set aside in .*/rows/quarantine/run-2"):
            lake.restore("run-2")


def _lengthen(file: Path) -> None:
    before = file.stat()
    file.write_text("longer than it was")
    os.utime(file, (before.st_atime, before.st_mtime))


def _texts(lake: Lakehouse, *names: str) -> list[str]:
    return [(lake.folder / name).read_text() for name in names]


_SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "/a/b": ("/a/b", "/a/b/", "//a//b", "file:/a/b", "file:///a/b", "file:///a/b/", "FILE:/a/b", "/a/./c/../b"),
    "s3://bucket/a/b": ("s3://bucket/a/b", "s3a://bucket/a/b/", "s3n://bucket//a/b", "S3://bucket/a/b"),
    "s3://bucket": ("s3://bucket", "s3a://bucket/"),
    "/a b%20/x=%2F/ü#1?": ("/a b%20/x=%2F/ü#1?", "file:/a b%20/x=%2F/ü#1?", "file:///a b%20/x=%2F/ü#1?"),
    "s3://bucket/a b%20/x=%2F/ü#1?": ("s3a://bucket/a b%20/x=%2F/ü#1?",),
    "s3://bucket/a/../b": ("s3://bucket/a/../b",),
    "/a:b/c:d": ("/a:b/c:d", "file:/a:b/c:d"),
    "hdfs://host:8020/a": ("hdfs://host:8020/a/",),
}


@pytest.mark.parametrize(
    ("spelling", "expected"), [(spelling, path) for path, spellings in _SPELLINGS.items() for spelling in spellings]
)
def test_a_file_has_one_normalized_path(spelling: str, expected: str) -> None:
    assert normalized(spelling) == expected
