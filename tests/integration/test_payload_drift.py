"""Payload drift from the first record to the column that takes it in: counted once, told, and filled from bronze."""

from datetime import datetime, timedelta, tzinfo
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.bronze import raw_trades
from lakehouse_spark.iceberg import inventory, payload_drift
from lakehouse_spark.jobs import silver_processor
from lakehouse_spark.lake import alter
from lakehouse_spark.lake import payload_drift as notes
from lakehouse_spark.silver import trades
from lakehouse_spark.table import column
from lakehouse_spark.transforms import quality
from lakehouse_spark.types import TEXT
from tests.support.lake import NOON, Lake, arrive, trade

LATER = [NOON + timedelta(hours=number) for number in range(1, 9)]


def noted(lake: Lake) -> list[tuple[Any, ...]]:
    columns = ("name", "change", "json_type", "records", "readable")
    return sorted(tuple(row) for row in lake.spark.table("lake._metadata.payload_drift").select(*columns).collect())


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake.new(spark, "127.0.0.1:9", tmp_path_factory.mktemp("drift") / "home")


@pytest.fixture(scope="module")
def drifted(lake: Lake) -> list[list[tuple[Any, ...]]]:
    """The notes after each of some batches, the first of which died before its rows were written."""
    arrive(lake, trade(trade_id="A1"), trade(trade_id="A2", venue="XNAS"), trade(trade_id="A3", price="1"), b"{")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(silver_processor, "write", _die)
        with pytest.raises(RuntimeError):
            lake.silver("trades")
    after = [noted(lake)]
    arrive(lake, trade(trade_id="B1", venue="XLON"), trade(trade_id="B2", venue=7, trade_type="HOLD"), at=LATER[0])
    lake.silver("trades")
    after.append(noted(lake))
    before = lake.snapshots("_metadata.payload_drift")
    arrive(lake, trade(trade_id="C1", account_id="AC", commission=1), at=LATER[1])
    lake.silver("trades")
    assert lake.snapshots("_metadata.payload_drift") == before
    for at in LATER[2:4]:
        usual = {"status": "EXECUTED", "account_id": "AC"}
        arrive(lake, *(trade(trade_id=f"D{at.hour}.{number}", **usual) for number in range(100)), at=at)
        lake.silver("trades")
    after.append(noted(lake))
    return after


def _die(*_: object) -> None:
    raise RuntimeError("killed")


def test_an_attempt_that_died_is_counted_once_with_what_came_since(drifted: list[list[tuple[Any, ...]]]) -> None:
    assert drifted[:2] == [
        [("price", "RETYPED", "string", 1, 3), ("venue", "UNKNOWN", "string", 1, 3)],
        [
            ("price", "RETYPED", "string", 1, 5),
            ("venue", "UNKNOWN", "integer", 1, 5),
            ("venue", "UNKNOWN", "string", 2, 5),
        ],
    ]


def test_a_field_that_none_of_many_records_has_is_noted_when_it_is_first_missed(
    drifted: list[list[tuple[Any, ...]]],
) -> None:
    assert [note for note in drifted[2] if note not in drifted[1]] == [("commission", "VANISHED", "none", 0, 100)]


def test_what_drifted_is_told_without_spark_with_the_column_that_takes_it(
    lake: Lake, drifted: list[list[tuple[Any, ...]]]
) -> None:
    assert list(map(str, inventory.read(lake.settings).drifts)) == [
        "payload drift, raw_trades: price came as string, in 1 records, last by 2025-06-01 13:00 UTC",
        "payload drift, raw_trades: venue (integer or string) is not declared, in 3 records, last by 2025-06-01 13:00 "
        "UTC; column: venue string in silver.trades",
        "payload drift, raw_trades: no record of a batch had commission, by 2025-06-01 15:00 UTC",
    ]


class InAWeek(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "InAWeek":
        return super().now(tz) + timedelta(days=7, seconds=1)


def test_fifty_names_of_a_topic_are_kept_and_notes_of_a_week_ago_go(
    lake: Lake, drifted: list[list[tuple[Any, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {f"n{number:02}": number for number in range(60)}
    arrive(lake, trade(trade_id="E1", **many), trade(trade_id="E2", **{**many, "n59": 0.5}), at=LATER[4])
    lake.silver("trades")
    found = [note for note in noted(lake) if note not in drifted[2]]
    assert found[0] == ("", "OTHER", "none", 22, 2)
    assert [note[0] for note in found[1:]] == [f"n{number:02}" for number in range(49)]
    monkeypatch.setattr(notes, "datetime", InAWeek)
    arrive(lake, trade(trade_id="F1", odd=True), at=LATER[5])
    lake.silver("trades")
    assert noted(lake) == [("odd", "UNKNOWN", "boolean", 1, 1)]


def test_a_column_for_a_new_field_is_filled_from_bronze_by_a_rebuild(
    lake: Lake, drifted: list[list[tuple[Any, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (remedy,) = (
        drift.remedy
        for drift in payload_drift.summed(
            [{"topic": "raw_trades", "name": "venue", "change": "UNKNOWN", "json_type": "string", "records": 3,
              "upto": NOON}]
        )
    )  # fmt: skip
    assert remedy is not None
    alter.carry_out(lake.spark, remedy)
    venue = column("venue", TEXT, "venue of the payload")
    monkeypatch.setitem(vars(trades.TABLE), "columns", (*trades.TABLE.columns, venue))
    monkeypatch.setitem(vars(raw_trades.TOPIC), "fields", (*raw_trades.TOPIC.fields, "venue"))
    monkeypatch.setitem(vars(raw_trades.TOPIC), "text_fields", (*raw_trades.TEXT_FIELDS, "venue"))
    monkeypatch.setattr(trades, "_FIELDS", (*trades._FIELDS, quality.text("venue", required=False)))
    lake.silver("trades")
    silver_processor.run(lake.spark, lake.settings, ["trades"], rebuild=True)
    rows = lake.rows("silver.trades", "trade_id", "venue")
    assert {row["trade_id"]: row["venue"] for row in rows if row["venue"]} == {"A2": "XNAS", "B1": "XLON"}
