"""A lakehouse in another place: what is there, what is refused, and what an interruption leaves. A small one, in
folders; `tests/integration/test_move.py` goes to servers and back, with jobs in between."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.table import Table as IcebergTable
from typer.testing import CliRunner

from lakehouse_spark import cli
from lakehouse_spark.errors import LakehouseError, RefusedError, UsageError
from lakehouse_spark.iceberg import avro, metadata, pyiceberg
from lakehouse_spark.maintenance.journal import Entry, Journal
from lakehouse_spark.move import Move, relocation, source
from lakehouse_spark.move.files import Stores
from lakehouse_spark.move.relocation import Relocation
from lakehouse_spark.move.target import Target
from lakehouse_spark.settings import CatalogSettings, Settings
from tests.support.lakehouses import copy, unpack, unpack_few

TABLES, FILES = 5, 23
"""Of the lakehouse of few tables."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("small") / "home"
    unpack_few(home)
    return home


@pytest.fixture
def home(small: Path, tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    copy(small, tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there"


def quiet(sentence: str) -> None:
    """Nobody wants to know."""


def move(home: Path, there: Path, **options: bool) -> Move:
    return Move(Settings(home=home), Settings(home=there), **options)


def moved(home: Path, there: Path, **options: bool) -> tuple[int, int]:
    """How many files were copied and tables registered."""
    done = move(home, there, **options).run(quiet)
    return done.copied, done.registered


def tables(home: Path) -> dict[str, IcebergTable]:
    catalog = pyiceberg.open_catalog(Settings(home=home))
    found = [name for space in catalog.list_namespaces() for name in catalog.list_tables(space)]
    return {".".join(name): catalog.load_table(name) for name in found}


def rows(table: IcebergTable) -> list[str]:
    """Texts as their bytes: what came by Kafka need not be UTF-8."""
    found = table.scan().to_arrow()
    plain = [found[n].cast(pa.binary()) if pa.types.is_string(found[n].type) else found[n] for n in found.column_names]
    return sorted(map(repr, pa.table(plain, found.column_names).to_pylist()))


def hashes(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): sha256(file.read_bytes()).hexdigest() for file in files}


def texts(home: Path) -> Iterator[str]:
    """All that metadata says, the manifests' records among it."""
    for file in (home / "warehouse").rglob("metadata/*"):
        if file.suffix == ".avro":
            with file.open("rb") as stream:
                reader = fastavro.reader(stream)
                yield repr([*reader, reader.metadata])
        else:
            yield file.read_text()


def test_every_table_has_its_rows_and_its_history_there(tmp_path: Path, there: Path) -> None:
    home = tmp_path / "whole"
    unpack("7e782d6", home)
    trades = tables(home)["silver.trades"]
    first, last = (entry.snapshot_id for entry in trades.metadata.snapshot_log)
    trades.manage_snapshots().create_tag(first, "first").create_branch(last, "audit_x").commit()

    assert moved(home, there) == (72, 25)

    before, after = tables(home), tables(there)
    assert len(after) == 25
    for name, table in before.items():
        assert rows(after[name]) == rows(table)
        assert [(s.snapshot_id, s.parent_snapshot_id, s.timestamp_ms, s.summary) for s in after[name].snapshots()] == [
            (s.snapshot_id, s.parent_snapshot_id, s.timestamp_ms, s.summary) for s in table.snapshots()
        ]
        assert after[name].metadata.refs == table.metadata.refs
        assert after[name].metadata.snapshot_log == table.metadata.snapshot_log
        assert after[name].location() == f"file://{there}/warehouse/{name.replace('.', '/')}"
    assert {*after["silver.trades"].refs()} == {"main", "first", "audit_x"}
    assert after["silver.trades"].scan(snapshot_id=first).to_arrow() == trades.scan(snapshot_id=first).to_arrow()


def test_nothing_there_names_the_place_of_before_and_nothing_here_is_touched(home: Path, there: Path) -> None:
    before = hashes(home)
    moved(home, there)
    assert hashes(home) == before
    assert [text for text in texts(there) if f"{home}/warehouse" in text] == []


def test_a_place_may_have_any_name(home: Path, tmp_path: Path) -> None:
    there = tmp_path / "50% of #1 é {a}[b]"
    moved(home, there)
    assert {name: rows(table) for name, table in tables(there).items()} == {
        name: rows(table) for name, table in tables(home).items()
    }


def test_a_dry_run_says_how_much_there_is_and_makes_nothing(home: Path, there: Path) -> None:
    plan = move(home, there).plan()
    trades = next(table for table in plan.tables if table.table == "silver.trades")
    assert (len(plan.tables), plan.files, trades.snapshots, trades.files) == (TABLES, FILES, 2, 3)
    assert plan.bytes == sum(file.stat().st_size for file in (home / "warehouse").rglob("data/**/*.parquet"))
    assert not there.exists()


def test_a_move_that_was_interrupted_while_it_copied_is_run_again(
    home: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry, carried = Stores.carry, list[str]()

    def failing(self: Stores, path: str, size: int, to: str) -> bool:
        if len(carried) >= 10:
            raise OSError("the cable is out")
        carried.append(path)
        return carry(self, path, size, to)

    with monkeypatch.context() as patch:
        patch.setattr(Stores, "carry", failing)
        with pytest.raises(LakehouseError, match="the move stopped: the cable is out"):
            moved(home, there)
    assert tables(there) == {}
    assert moved(home, there) == (FILES - 10, TABLES)
    assert moved(home, there) == (0, 0)


def test_a_move_that_was_interrupted_while_tables_appeared_is_run_again(
    home: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register, registered = Target.register, list[str]()

    def failing(self: Target, name: str, *rest: Any) -> None:
        if len(registered) == 2:
            raise OSError("the cable is out")
        registered.append(name)
        register(self, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Target, "register", failing)
        with pytest.raises(LakehouseError, match="the move stopped: the cable is out"):
            moved(home, there)
    assert {*tables(there)} == {*registered}
    assert registered[0] == "_metadata.schema_migrations", "without it, who migrates would make the tables"
    assert moved(home, there) == (0, TABLES - 2)
    assert rows(tables(there)["silver.trades"]) == rows(tables(home)["silver.trades"])


def test_a_half_written_file_is_written_again(home: Path, there: Path) -> None:
    moved(home, there)
    whole, other = sorted(there.rglob("silver/trades/data/**/*.parquet"))[:2]
    whole.write_bytes(whole.read_bytes()[:-1])
    other.write_bytes(bytes(other.stat().st_size))
    assert moved(home, there, by_size=True) == (1, 0)
    assert moved(home, there) == (1, 0)
    assert rows(tables(there)["silver.trades"]) == rows(tables(home)["silver.trades"])


def test_a_file_that_arrives_otherwise_than_it_was_sent_ends_the_move(
    home: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = Stores._digest
    monkeypatch.setattr(Stores, "_digest", lambda self, io, path: digest(self, io, path)[::-1])
    with pytest.raises(LakehouseError, match="does not hold what was written to it"):
        moved(home, there)
    assert tables(there) == {}


def test_metadata_that_says_something_else_there_ends_the_move(
    home: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_manifest = relocation.of_manifest

    def losing(content: bytes, move: Relocation, sizes: Any) -> bytes:
        return of_manifest(content, Relocation(move.source, f"{move.target}/elsewhere"), sizes)

    monkeypatch.setattr(relocation, "of_manifest", losing)
    with pytest.raises(LakehouseError, match="the target does not hold what was moved"):
        moved(home, there)


def test_a_target_with_tables_of_its_own_is_refused(home: Path, there: Path) -> None:
    catalog = pyiceberg.make_catalog(Settings(home=there))
    catalog.create_namespace("gold")
    catalog.create_table("gold.mine", pa.schema([("a", pa.int64())]))
    with pytest.raises(RefusedError, match=r"the target holds gold\.mine already"):
        moved(home, there)
    with pytest.raises(RefusedError, match=r"the target holds gold\.mine already"):
        move(home, there).plan()


def test_a_target_that_was_worked_on_since_is_refused(home: Path, there: Path) -> None:
    moved(home, there)
    with tables(there)["silver.trades"].transaction() as transaction:
        transaction.set_properties({"a": "b"})
    with pytest.raises(
        RefusedError, match=r"the target holds silver\.trades already.*was written to since it was moved"
    ):
        moved(home, there)


def test_a_target_that_nobody_wrote_to_is_brought_up_to_date(home: Path, there: Path) -> None:
    moved(home, there)
    trades = tables(home)["silver.trades"]
    trades.append(trades.scan(limit=1).to_arrow())
    assert moved(home, there) == (1, 1)
    assert len(rows(tables(there)["silver.trades"])) == 13


def test_a_later_backup_is_not_replaced_by_an_older_one(home: Path, there: Path, tmp_path: Path) -> None:
    moved(home, tmp_path / "monday")
    with tables(home)["silver.trades"].transaction() as transaction:
        transaction.set_properties({"a": "b"})
    moved(home, tmp_path / "tuesday")
    with pytest.raises(RefusedError, match=r"the target holds a later silver\.trades than the source"):
        moved(tmp_path / "monday", tmp_path / "tuesday")
    assert moved(tmp_path / "tuesday", tmp_path / "monday") == (0, 1)


def test_the_same_lakehouse_is_no_target(home: Path) -> None:
    with pytest.raises(UsageError, match="source and target are the same lakehouse"):
        moved(home, home)


def test_files_are_not_shared_by_two_catalogs(home: Path, there: Path) -> None:
    place = Settings(home=there, catalog=CatalogSettings(warehouse=f"file://{home}/warehouse"))
    with pytest.raises(UsageError, match="would be moved to where it is"):
        Move(Settings(home=home), place).plan()
    assert not there.exists()


def test_where_no_lakehouse_is_none_is_moved(there: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no lakehouse here yet"):
        moved(tmp_path / "nowhere", there)
    assert not there.exists()


def commit_meanwhile(home: Path) -> Any:
    """What says something to the move's listener writes to a table first."""

    def say(sentence: str) -> None:
        if sentence == "writing their metadata":
            trades = tables(home)["silver.trades"]
            trades.append(trades.scan(limit=1).to_arrow())

    return say


def test_a_commit_meanwhile_keeps_all_tables_from_appearing(home: Path, there: Path) -> None:
    with pytest.raises(RefusedError, match=r"silver\.trades was written to while the lakehouse was being moved"):
        move(home, there).run(commit_meanwhile(home))
    assert tables(there) == {}
    assert moved(home, there) == (1, TABLES)


def test_a_commit_while_tables_appear_is_told_and_the_next_move_brings_it(
    home: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register = Target.register

    def registering(self: Target, name: str, *rest: Any) -> None:
        if name == "silver.trades":
            commit_meanwhile(home)("writing their metadata")
        register(self, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Target, "register", registering)
        with pytest.raises(
            RefusedError, match=r"silver\.trades was written to .*; the target holds it as it was before"
        ):
            moved(home, there)
    assert moved(home, there) == (1, 1)
    assert len(rows(tables(there)["silver.trades"])) == 13


def test_a_backup_has_nothing_of_a_commit_meanwhile(home: Path, there: Path) -> None:
    move(home, there, beside_writers=True).run(commit_meanwhile(home))
    assert (len(rows(tables(there)["silver.trades"])), len(rows(tables(home)["silver.trades"]))) == (12, 13)


def test_tables_are_taken_as_they_were_at_one_moment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places, looks = metadata.places, list[int]()

    def looked_at(settings: Settings) -> Any:
        found = places(settings)
        looks.append(len(found))
        if len(looks) <= 2:
            with tables(home)["silver.trades"].transaction() as transaction:
                transaction.set_properties({"commit": f"{len(looks)}"})
        return found

    monkeypatch.setattr(metadata, "places", looked_at)
    assert source.read(Settings(home=home))["silver.trades"].said["properties"]["commit"] == "2"
    assert looks == [TABLES] * 4


def test_a_file_that_is_gone_is_one_sentence(home: Path, there: Path) -> None:
    next(home.rglob("silver/trades/data/**/*.parquet")).unlink()
    with pytest.raises(LakehouseError, match=r"a file is gone since its table was looked at: .*parquet"):
        moved(home, there)
    assert tables(there) == {}


def test_deletes_that_cannot_be_moved_are_refused(home: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = avro.records

    def puffin(location: str, content: bytes, *paths: Any) -> Iterator[tuple[Any, ...]]:
        for record in records(location, content, *paths):
            yield (1, 1, record[2], "PUFFIN", record[4]) if len(record) == 5 else record

    monkeypatch.setattr(avro, "records", puffin)
    with pytest.raises(RefusedError, match=r"deletes in a file of PUFFIN cannot be moved.*lakehouse run compaction"):
        moved(home, there)


def test_who_holds_anything_is_found_whatever_the_job() -> None:
    now = datetime(2025, 6, 1, 12, tzinfo=UTC)
    until = now + timedelta(minutes=5)

    def entry(run: str, table: str, job: str, status: str = "STARTED", lease: datetime = until) -> Entry:
        return Entry(run, table, job, status, now, lease)

    log = Journal((
        entry("a", "*", "live"),
        entry("b", "bronze.raw_trades", "bronze_writer"),
        entry("c", "silver.trades", "compaction"), entry("c", "silver.trades", "compaction", "DONE"),
        entry("d", "gold.fact_trades", "compaction", lease=now - timedelta(minutes=1)),
    ))  # fmt: skip
    assert [(held.run_id, held.table) for held in log.holders(now)] == [("a", "*"), ("b", "bronze.raw_trades")]


HERE = Relocation("file:/lake/silver/trades", "s3://bucket/lake/silver/trades")


@pytest.mark.parametrize(
    ("path", "moved"),
    [
        ("file:/lake/silver/trades/data/a=1%2F2/b.parquet", "s3://bucket/lake/silver/trades/data/a=1%2F2/b.parquet"),
        ("file:///lake/silver/trades/metadata/x.avro", "s3://bucket/lake/silver/trades/metadata/x.avro"),
        ("/lake/silver/trades/data/b#c?.parquet", "s3://bucket/lake/silver/trades/data/b#c?.parquet"),
        (
            "file:/lake/silver/trades2/data/b.parquet",
            "s3://bucket/lake/silver/trades/outside/776d76ddaf2c1557/b.parquet",
        ),
    ],
)
def test_a_path_keeps_its_place_in_the_table(path: str, moved: str) -> None:
    assert HERE(path) == moved


def test_both_names_of_s3_are_one() -> None:
    back = Relocation("s3a://bucket/lake/t", "file:///lake/t")
    assert back("s3://bucket/lake/t/data/a.parquet") == "file:///lake/t/data/a.parquet"


def test_position_deletes_say_where_the_rows_are_now() -> None:
    fields = [
        pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"}),
    ]
    names = [f"file:/lake/silver/trades/data/{name}.parquet" for name in ("a", "a", "b")]
    out = pa.BufferOutputStream()
    with pq.ParquetWriter(out, pa.schema(fields), store_schema=False) as writer:
        writer.write_table(pa.table([names, [3, 7, 0]], schema=pa.schema(fields)))
        writer.add_key_value_metadata({"delete-type": "position"})

    moved = pq.ParquetFile(pa.BufferReader(relocation.of_position_deletes(out.getvalue().to_pybytes(), HERE)))

    root = "s3://bucket/lake/silver/trades/data"
    assert moved.read().to_pydict() == {
        "file_path": [f"{root}/a.parquet", f"{root}/a.parquet", f"{root}/b.parquet"], "pos": [3, 7, 0]
    }  # fmt: skip
    assert moved.metadata.metadata == {b"delete-type": b"position"}
    columns = [moved.schema_arrow.field(name) for name in ("file_path", "pos")]
    assert [(field.nullable, field.metadata[b"PARQUET:field_id"]) for field in columns] == [
        (False, b"2147483546"), (False, b"2147483545")
    ]  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, home: Path, *words: str, **variables: str) -> tuple[int, str, str]:
    for name in [name for name in os.environ if name.startswith("LAKEHOUSE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    for name, value in variables.items():
        monkeypatch.setenv(f"LAKEHOUSE_{name}", value)
    done = CliRunner().invoke(cli.app, ["move", *words])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_says_what_to_set_and_no_secret(home: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, _ = run(
        monkeypatch, home, "--to-home", str(there), TO_S3__SECRET_ACCESS_KEY="canary", TO_S3__ACCESS_KEY_ID="id"
    )
    assert code == 0
    assert "canary" not in said
    assert said.splitlines()[-1] == (
        f"to work in the new place, set LAKEHOUSE_HOME={there}, LAKEHOUSE_S3__ACCESS_KEY_ID (as "
        "LAKEHOUSE_TO_S3__ACCESS_KEY_ID is), LAKEHOUSE_S3__SECRET_ACCESS_KEY (as LAKEHOUSE_TO_S3__SECRET_ACCESS_KEY "
        "is); then: lakehouse verify --full"
    )


def test_a_place_has_to_be_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    for name in [name for name in os.environ if name.startswith("LAKEHOUSE_TO_")]:
        monkeypatch.delenv(name)
    with pytest.raises(UsageError, match="say where the lakehouse is to go: --to-home FOLDER"):
        cli.app(["move"], standalone_mode=False)


def test_the_command_answers_in_json(home: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said, _ = run(monkeypatch, home, "--json", TO_HOME=str(there))
    answer = json.loads(said)
    assert (code, answer["copied"], answer["registered"], answer["verified"]) == (0, FILES, TABLES, True)
    assert answer["tables"][0] == {
        "table": "_metadata.schema_migrations", "snapshots": 2, "files": 1, "bytes": answer["tables"][0]["bytes"],
        "is_there": False,
    }  # fmt: skip
