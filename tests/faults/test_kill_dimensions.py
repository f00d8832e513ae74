"""A dimension_loader that dies at any commit of a load: the load that follows ends as if nothing had happened."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.jobs import dimension_loader
from lakehouse_spark.testing import STAGES, CrashError, crash, fault
from tests.support.child import Children
from tests.support.faults import ROUNDS
from tests.support.lake import Lake

TABLES = ("bronze.raw_reference", "silver._rejected_records", "_metadata.surrogate_keys", "dim.dim_symbol")
"""In the order in which a load commits to them."""
POINTS = [(table, stage) for table in TABLES for stage in STAGES]
CHOSEN = POINTS if ROUNDS >= 20 else [
    ("bronze.raw_reference", "after the fast-forward"),
    ("_metadata.surrogate_keys", "after the fast-forward"),
    ("dim.dim_symbol", "between staging and fast-forward"),
]  # fmt: skip


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake.new(spark, "127.0.0.1:9", tmp_path / "home", (*TABLES, "_metadata.retired_keys"))


@pytest.fixture
def undisturbed(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake.new(spark, "127.0.0.1:9", tmp_path / "undisturbed", (*TABLES, "_metadata.retired_keys"))


def file_of(folder: Path, number: int) -> str:
    """A new symbol, a change of the first one, and a record to refuse."""
    path = folder / f"{number}.csv"
    path.write_text(
        f"symbol,sector,effective_date\nS{number},a,2025-06-01\nS0,v{number},2025-07-{number + 1:02}\n,b,\n"
    )
    return str(path)


def load(lake: Lake, sources: list[str]) -> dict[str, int]:
    (summary,) = dimension_loader.run(lake.spark, ["dim_symbol"], sources)
    return summary.counts


def contents(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    """What must not depend on how often the loader died."""
    columns = {
        "bronze.raw_reference": ("source", "_source_row", "natural_key", "raw_payload"),
        "silver._rejected_records": ("_kafka_topic", "_kafka_offset", "reasons", "attempts"),
        "dim.dim_symbol": ("symbol", "effective_date", "expiry_date", "sector", "is_current", "_row_hash"),
    }
    return {table: sorted(map(tuple, lake.rows(table, *names))) for table, names in columns.items()}


def assert_as_if_nothing_had_happened(lake: Lake, undisturbed: Lake, sources: list[str]) -> None:
    load(lake, sources)
    before = [lake.snapshots(table) for table in TABLES]
    assert load(lake, sources) == {}
    assert [lake.snapshots(table) for table in TABLES] == before
    load(undisturbed, sources)
    assert contents(lake) == contents(undisturbed)
    assert len(contents(lake)["dim.dim_symbol"]) == 2 * len(sources)
    issued = [row["symbol_key"] for row in lake.rows("dim.dim_symbol", "symbol_key")]
    (last,) = lake.rows("_metadata.surrogate_keys")
    assert len(set(issued)) == len(issued)
    assert last["last_issued_key"] >= max(issued)
    assert sorted(row["symbol_key"] for row in undisturbed.rows("dim.dim_symbol", "symbol_key")) == [
        100_000 + number for number in range(2 * len(sources))
    ]


def strike_everywhere(lake: Lake, folder: Path, strike: Callable[[str, str, list[str]], None]) -> list[str]:
    """Each round adds a file and dies while it loads it and what the round before left undone."""
    sources: list[str] = []
    keys: dict[Any, int] = {}
    for number, (table, stage) in enumerate(CHOSEN):
        sources.append(file_of(folder, number))
        before = lake.state(table).snapshot_id
        strike(table, stage, sources)
        assert (lake.state(table).snapshot_id != before) == (stage == "after the fast-forward"), (table, stage)
        rows = lake.rows("dim.dim_symbol", "symbol", "effective_date", "symbol_key")
        now = {(row["symbol"], row["effective_date"]): row["symbol_key"] for row in rows}
        assert keys.items() <= now.items()
        keys = now
    return sources


def test_a_load_that_dies_at_any_commit_leaves_nothing_to_repair(
    lake: Lake, undisturbed: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse_spark.lake.commit.drop", lambda *given: None)

    def strike(table: str, stage: str, sources: list[str]) -> None:
        with pytest.raises(CrashError), fault(table, stage, crash):
            load(lake, sources)

    assert_as_if_nothing_had_happened(lake, undisturbed, strike_everywhere(lake, tmp_path, strike))


@pytest.mark.soak
def test_kill_9_at_any_commit_of_a_load_leaves_nothing_to_repair(
    lake: Lake, undisturbed: Lake, children: Children, tmp_path: Path
) -> None:
    def strike(table: str, stage: str, sources: list[str]) -> None:
        child = children.start()
        child.tell("dimension", table=table, stage=stage, strike="kill", sources=sources)
        assert child.answer() is None
        assert child.process.returncode == -signal.SIGKILL

    assert_as_if_nothing_had_happened(lake, undisturbed, strike_everywhere(lake, tmp_path, strike))
