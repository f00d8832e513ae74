"""Dead letters as they are looked at without Spark."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse_spark import cli
from lakehouse_spark.errors import UsageError
from lakehouse_spark.iceberg import letters, rows
from lakehouse_spark.iceberg.embedded import LocalFiles
from lakehouse_spark.iceberg.letters import Letters
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.lake.cursor import CURSOR, FeedCursor
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import trades
from lakehouse_spark.silver.rejected_records import TABLE

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
_INSTANT, _KINDS = pa.timestamp("us", tz="UTC"), {
    "_kafka_partition": pa.int32(), "_kafka_offset": pa.int64(), "reasons": pa.list_(pa.string()),
    "_raw_bytes": pa.binary(), "attempts": pa.int32(),
}  # fmt: skip
SCHEMA = pa.schema(
    [
        (name, _INSTANT if name.endswith(("_at", "_time")) else _KINDS.get(name, pa.string()))
        for name in TABLE.column_names
    ]
)
Keep = Callable[..., None]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """Adds letters, a file for each bronze table."""
    catalog = SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("silver")
    table = catalog.create_table(TABLE.name, SCHEMA, properties={"format-version": "2"})
    with table.update_spec() as spec:
        spec.add_identity("source_table")

    def keep(*given: Mapping[str, Any]) -> None:
        catalog.load_table(TABLE.name).append(pa.Table.from_pylist([*map(dict, given)], schema=SCHEMA))

    return keep


def letter(name: str, minute: int, *reasons: str, topic: str = "raw_trades", **changes: Any) -> dict[str, Any]:
    return {
        "rejected_id": name, "source_table": f"bronze.{topic}", "_kafka_topic": topic, "_kafka_partition": 0,
        "_kafka_offset": minute, "event_time": NOON, "reasons": [*reasons], "raw_payload": f"payload of {name}",
        "status": "OPEN", "attempts": 1, "_rejected_at": NOON + timedelta(minutes=minute), **changes,
    }  # fmt: skip


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Letters]:
    return lambda *args, **named: letters.read(Settings(home=tmp_path), Selection(*args, **named))


def names(found: Letters, limit: int | None = None) -> list[str]:
    return [row["rejected_id"] for row in found.oldest(limit, ["rejected_id"])]


def test_letters_come_oldest_first_and_no_more_than_asked_for(keep: Keep, read: Callable[..., Letters]) -> None:
    keep(letter("d", 4, "x"), letter("b", 2, "x"))
    keep(letter("c", 3, "x"), letter("a", 1, "x"), letter("b2", 2, "x", _kafka_offset=3))
    assert names(read()) == ["a", "b", "b2", "c", "d"]
    assert names(read(), 3) == ["a", "b", "b2"]
    keep(letter("of a file", 2, "x", _kafka_partition=None, _kafka_offset=9))
    assert names(read(), 3) == ["a", "of a file", "b"]


def test_letters_are_selected_by_table_reason_status_and_id(keep: Keep, read: Callable[..., Letters]) -> None:
    keep(letter("a", 1, "x", "y"), letter("b", 2, "y", status="REPLAYED"), letter("c", 3, "y", topic="raw_orderbook"))
    assert names(read("raw_orderbook")) == names(read("bronze.raw_orderbook")) == ["c"]
    assert names(read(reason="y")) == ["a", "b", "c"]
    assert names(read(reason="x")) == ["a"]
    assert names(read(status="replayed")) == ["b"]
    assert names(read("raw_trades", reason="y", status="OPEN")) == ["a"]
    assert names(read(ids=["c", "a", "z"])) == ["a", "c"]
    assert names(read(reason="none")) == []
    with pytest.raises(UsageError, match=r"^no such status 'OPENED': one of OPEN, REPLAYED, DISCARDED$"):
        read(status="OPENED").oldest()
    with pytest.raises(UsageError, match="no such bronze table 'trades'"):
        read("trades").oldest()


def test_a_letter_with_several_reasons_counts_for_each(keep: Keep, read: Callable[..., Letters]) -> None:
    assert read().by_reason() == (0, {})
    keep(letter("a", 1, "x", "y"), letter("b", 2, "y"), letter("c", 3, topic="raw_orderbook"))
    assert read().by_reason() == (3, {"x": 1, "y": 2})
    assert read(reason="x").by_reason() == (1, {"x": 1, "y": 1})


def test_a_letter_is_shown_whole_with_instants_of_any_year(keep: Keep, read: Callable[..., Letters]) -> None:
    first_year = datetime(1, 1, 1, tzinfo=UTC)
    keep(letter("a", 1, "x", event_time=first_year, _raw_bytes=b"\xff", _ingested_at=NOON.replace(microsecond=500_000)))
    assert read(ids=["a"]).oldest() == [
        {
            "rejected_id": "a", "source_table": "bronze.raw_trades", "_kafka_topic": "raw_trades",
            "_kafka_partition": 0, "_kafka_offset": 1, "event_time": "0001-01-01T00:00:00", "reasons": ["x"],
            "raw_payload": "payload of a", "_raw_bytes": b"\xff", "rules_version": None, "status": "OPEN",
            "attempts": 1, "resolution": None, "_rejected_at": "2025-06-01T12:01:00", "_resolved_at": None,
            "_ingested_at": "2025-06-01T12:00:00.500000",
        }
    ]  # fmt: skip


def test_files_in_which_no_asked_for_letter_can_be_are_left_alone(
    keep: Keep, read: Callable[..., Letters], monkeypatch: pytest.MonkeyPatch
) -> None:
    for minute in range(1, 6):
        keep(letter(f"t{minute}", minute, "x"))
    opened: list[tuple[str, ...]] = []
    batches = rows.batches

    def noting(of: Any, files: Any, columns: Any) -> Any:
        opened.append(tuple(columns))
        return batches(of, files, columns)

    monkeypatch.setattr(rows, "batches", noting)
    assert names(read(), 2) == ["t1", "t2"]
    assert len(opened) == 2
    opened.clear()
    assert names(read("raw_orderbook")) == []
    assert opened == []
    assert [row["raw_payload"] for row in read(ids=["t4"]).oldest()] == ["payload of t4"]
    assert sum("raw_payload" in columns for columns in opened) == 1


def test_a_plain_list_waits_for_no_pandas(keep: Keep, tmp_path: Path) -> None:
    keep(letter("a", 1, "x"), letter("b", 2, "y"))
    script = "import sys\nfrom lakehouse_spark import cli\ntry: cli.main()\nfinally: print('pandas' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", script, "rejected", "list"], capture_output=True, text=True,
        env={**os.environ, "LAKEHOUSE_HOME": str(tmp_path), "JAVA_HOME": "/none"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-2:] == ["2 of 2 records", "False"]


def test_the_commands_print_what_is_read(
    keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(letter("a", 1, "invalid_price"), letter("b", 2, "invalid_price", "tombstone", _raw_bytes=b"\xff"))
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))

    def say(*arguments: str) -> tuple[Any, str]:
        monkeypatch.setattr(sys, "argv", ["lakehouse", "rejected", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    code, said = say("list", "--limit", "1", "--json")
    assert (code or 0, json.loads(said)) == (
        0,
        [
            {
                "rejected_id": "a", "source_table": "bronze.raw_trades", "_kafka_partition": 0, "_kafka_offset": 1,
                "event_time": "2025-06-01T12:00:00", "reasons": ["invalid_price"], "status": "OPEN", "attempts": 1,
                "resolution": None,
            }
        ],
    )  # fmt: skip
    code, said = say("list", "--limit", "1")
    assert [line[:18] for line in said.splitlines()[:2]] == ["2x invalid_price: ", "1x tombstone: The "]
    assert said.splitlines()[-1] == "1 of 2 records"
    _, said = say("list", "--reason", "tombstone", "--by-reason", "--json")
    assert [(group["reason"], group["records"]) for group in json.loads(said)] == [
        ("invalid_price", 1),
        ("tombstone", 1),
    ]
    _, said = say("show", "b")
    assert {"_raw_bytes: ff", "raw_payload: payload of b", "reasons: invalid_price, tombstone"} <= {*said.splitlines()}
    code, said = say("show", "c")
    assert (code, said) == (2, "usage: no rejected record has the id 'c'; see: lakehouse rejected list\n")


# What was judged


def judged(*totals: tuple[int, int, int], since: int = 1) -> Metadata:
    """A silver table with a commit for each minute, records and rejected ones in all."""
    snapshots = [
        {"snapshot-id": minute, "parent-snapshot-id": number, "sequence-number": minute, "summary": {CURSOR: FeedCursor(
            stamp=at(minute), source="bronze.raw_trades", after=None, upto=at(minute), since=at(since),
            totals={"records": records, "rejected": rejected},
        ).to_json()}}
        for number, (minute, records, rejected) in zip((0, *(minute for minute, *_ in totals)), totals, strict=False)
    ]  # fmt: skip
    said = {"snapshots": snapshots, "current-snapshot-id": totals[-1][0] if totals else None}
    return Metadata(trades.TABLE, said, LocalFiles())


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def test_the_share_of_rejected_records_is_that_of_what_was_judged_since() -> None:
    silver = judged((1, 100, 1), (2, 200, 2), (3, 300, 27))
    assert letters.judged_since(silver, None) == (300, 27)
    assert letters.judged_since(silver, at(2)) == (100, 25)
    assert letters.judged_since(silver, at(2)).share == 0.25
    assert letters.judged_since(silver, at(3)) == (0, 0)
    assert letters.judged_since(silver, at(3)).share == 0
    assert letters.judged_since(silver, at(0)) == (300, 27)
    assert letters.judged_since(judged(), None) == (0, 0)


def test_what_a_rebuild_judged_again_was_judged_since() -> None:
    before, again = judged((1, 100, 1)), judged((2, 40, 4), since=2)
    both = [*before.snapshots, {**again.snapshots[0], "parent-snapshot-id": 1}]
    silver = Metadata(trades.TABLE, {"snapshots": both, "current-snapshot-id": 2}, LocalFiles())
    assert letters.judged_since(silver, at(1)) == (40, 4)
