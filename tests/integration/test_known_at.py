"""What was known at a moment: what an observer wrote down then, through compaction and expiry, by both engines."""

from datetime import datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.errors import UsageError
from lakehouse_spark.iceberg import copies
from lakehouse_spark.jobs import silver_processor
from lakehouse_spark.query import embedded
from tests.support.lake import Lake, arrive, moment, trade
from tests.support.lakehouses import connect

TRADES = "SELECT trade_id, status FROM silver.trades"
Seen = list[tuple[str, str]]


class Observer:
    """Writes down what the trades are, again and again."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.notes: list[tuple[datetime, Seen]] = []

    def look(self) -> None:
        rows = self.lake.spark.table("lake.silver.trades").select("trade_id", "status").collect()
        self.notes.append((moment(), sorted(map(tuple, rows))))

    def bring(self, *values: bytes) -> None:
        arrive(self.lake, *values)
        silver_processor.run(self.lake.spark, self.lake.settings, ["trades"])
        self.look()


def of_duckdb(lake: Lake, at: datetime) -> Seen:
    return sorted(map(tuple, embedded.answer(lake.settings, TRADES, 100, at).rows))


def of_spark(lake: Lake, at: datetime, folder: Path) -> tuple[Seen, list[str]]:
    copies.as_known(lake.settings, folder, at)
    rows = connect(lake.spark, folder).table("lake.silver.trades")
    return sorted(map(tuple, rows.select("trade_id", "status").collect())), rows.columns


def test_what_an_observer_wrote_down_is_what_is_known_of_that_moment(spark: SparkSession, tmp_path: Path) -> None:
    lake = Lake.new(spark, "127.0.0.1:9", tmp_path / "home")
    before = moment()
    observer = Observer(lake)
    observer.look()
    observer.bring(trade(status="PARTIAL"), trade(trade_id="T2"))
    observer.bring(trade(), trade(trade_id="T3"))
    lake.spark.sql(
        "CALL lake.system.rewrite_data_files(table => 'silver.trades', options => map('rewrite-all', 'true'))"
    )
    observer.look()
    columns = lake.spark.table("lake.silver.trades").columns
    lake.spark.sql("ALTER TABLE lake.silver.trades ADD COLUMN venue string")
    observer.bring(trade(trade_id="T4"))
    assert [seen for _, seen in observer.notes] == [
        [],
        [("T1", "PARTIAL"), ("T2", "EXECUTED")],
        [("T1", "EXECUTED"), ("T2", "EXECUTED"), ("T3", "EXECUTED")],
        [("T1", "EXECUTED"), ("T2", "EXECUTED"), ("T3", "EXECUTED")],
        [("T1", "EXECUTED"), ("T2", "EXECUTED"), ("T3", "EXECUTED"), ("T4", "EXECUTED")],
    ]
    for number, (at, seen) in enumerate(observer.notes):
        assert of_duckdb(lake, at) == seen
        found, known = of_spark(lake, at, tmp_path / f"as known {number}")
        assert found == seen
        assert known == (columns if number < 4 else [*columns, "venue"])

    older = observer.notes[1][0].strftime("%Y-%m-%d %H:%M:%S.%f")
    expire = f"CALL lake.system.expire_snapshots(table => 'silver.trades', older_than => TIMESTAMP '{older}')"
    lake.spark.sql(expire).collect()
    for number, (at, seen) in enumerate(observer.notes[2:]):
        assert of_duckdb(lake, at) == seen
        assert of_spark(lake, at, tmp_path / f"still known {number}")[0] == seen
    for at in (before, observer.notes[0][0], observer.notes[1][0]):
        with pytest.raises(UsageError, match=r"silver\.trades is not known as it was at"):
            of_duckdb(lake, at)
        _, unknown = copies.as_known(lake.settings, tmp_path / f"not known at {at:%f}", at)
        assert "what was before has expired, or it was made then" in str(unknown["silver.trades"])
