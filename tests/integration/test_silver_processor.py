"""silver_processor on real tables: each bronze row counted once, whatever is repeated, expired, replayed or broken."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark import verify
from lakehouse_spark.bronze import raw_marketdata, raw_orderbook, raw_trades
from lakehouse_spark.catalog import BY_NAME, FEEDS
from lakehouse_spark.errors import UsageError
from lakehouse_spark.iceberg import letters
from lakehouse_spark.jobs import rejected, silver_processor
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.report import reading
from lakehouse_spark.silver import market_data, rejected_records, trades
from lakehouse_spark.silver.feed import Feed
from lakehouse_spark.transforms import dedup, quality
from lakehouse_spark.verify import ingestion, model, storage
from tests.support.lake import NOON, TABLES, TOPICS, Lake, arrive, bar, book, enter_exchanges, trade

TRADE_TABLES = (
    "bronze.raw_trades", "silver.trades", "silver.trader_activity", "silver._rejected_records", "dim.dim_exchange",
    "_metadata.payload_drift",
)  # fmt: skip

BOOK_TABLES = (
    "bronze.raw_orderbook", "silver.orderbook_snapshots", "silver._rejected_records", "dim.dim_exchange",
    "_metadata.payload_drift",
)  # fmt: skip


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    """The tables that trades pass through; their records come from `arrive`, not from a broker."""
    return Lake.new(spark, "127.0.0.1:9", tmp_path / "home", TRADE_TABLES)


def process(lake: Lake) -> dict[str, int]:
    """Runs trades and the activity behind them; the counts of the trades."""
    trades, _ = lake.silver("trades", "trader_activity")
    return trades.counts


def data_files(lake: Lake, table: str) -> set[Path]:
    folder = lake.settings.root / "warehouse" / table.replace(".", "/") / "data"
    return {path for path in folder.rglob("*") if path.is_file()}


def counts(**given: int) -> dict[str, int]:
    names = ("records", "accepted", "duplicates", "rejected", "rows", "inserted", "updated")
    return {name: given.get(name, 0) for name in names}


def held(lake: Lake) -> list[tuple[str, int, str]]:
    rows = lake.rows("silver.trades", "trade_id", "_source_offset", "status")
    return [(row["trade_id"], row["_source_offset"], row["status"]) for row in rows]


def test_records_that_come_a_second_time_are_duplicates_and_write_no_data(lake: Lake) -> None:
    values = [trade(trade_id="T1"), trade(trade_id="T2", status="PARTIAL"), trade(trade_id="T3", price=-1), b"{"]
    arrive(lake, *values)
    assert process(lake) == counts(records=4, accepted=2, rejected=2, rows=2, inserted=2)
    trades, activity = data_files(lake, "silver.trades"), data_files(lake, "silver.trader_activity")
    before = [lake.content("silver.trades"), lake.content("silver.trader_activity")]
    arrive(lake, *values)
    assert process(lake) == counts(records=4, duplicates=2, rejected=2)
    assert [lake.content("silver.trades"), lake.content("silver.trader_activity")] == before
    assert data_files(lake, "silver.trades") == trades
    assert data_files(lake, "silver.trader_activity") == activity
    assert held(lake) == [("T1", 0, "EXECUTED"), ("T2", 1, "PARTIAL")]
    assert lake.rejects("raw_trades") == [["invalid_price"], ["malformed_json"]] * 2


def test_a_run_with_nothing_new_writes_nothing(lake: Lake) -> None:
    arrive(lake, trade(), b"{")
    process(lake)
    snapshots = [lake.snapshots(table) for table in TRADE_TABLES]
    done = lake.silver("trades", "trader_activity")
    assert [(summary.counts, summary.snapshot_id) for summary in done] == [({}, None), ({}, None)]
    assert [lake.snapshots(table) for table in TRADE_TABLES] == snapshots


def test_a_batch_of_only_bad_records_moves_the_cursor(lake: Lake) -> None:
    arrive(lake, b"{", None, at=datetime(2025, 6, 1, 12, 0, 0, 7, tzinfo=UTC))
    assert process(lake) == counts(records=2, rejected=2)
    cursor = lake.cursor("silver.trades")
    assert (cursor["from"], cursor["to"]) == (None, "2025-06-01T12:00:00.000007+00:00")
    assert held(lake) == []
    arrive(lake, trade(trade_id="T1"), at=NOON + timedelta(minutes=1))
    assert process(lake) == counts(records=1, accepted=1, rows=1, inserted=1)
    assert lake.cursor("silver.trades")["from"] == "2025-06-01T12:00:00.000007+00:00"


def test_a_clock_set_back_between_two_batches_hides_no_record(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, datetime(2025, 6, 1, 12, tzinfo=UTC))
    arrive(lake, trade(trade_id="T1"), at=NOON)
    process(lake)
    set_clock(monkeypatch, datetime(2025, 6, 1, 9, tzinfo=UTC))
    arrive(lake, trade(trade_id="T2"), b"{", at=NOON - timedelta(hours=3))
    assert process(lake) == counts(records=2, accepted=1, rejected=1, rows=1, inserted=1)
    stamps = {row["trade_id"]: row["_processed_at"] for row in lake.rows("silver.trades", "trade_id", "_processed_at")}
    assert stamps == {"T1": datetime(2025, 6, 1, 12), "T2": datetime(2025, 6, 1, 12, 0, 0, 1)}
    (activity,) = lake.rows("silver.trader_activity", "total_buys")
    assert activity["total_buys"] == 2


def set_clock(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return now

    monkeypatch.setattr(silver_processor, "datetime", Clock)


def test_the_counts_of_all_batches_add_up_to_the_rows_of_bronze(lake: Lake) -> None:
    arrive(lake, trade(trade_id="T1", status="PARTIAL"), trade(trade_id="T1", status="PARTIAL"), b"{")
    assert process(lake) == counts(records=3, accepted=1, duplicates=1, rejected=1, rows=1, inserted=1)
    arrive(lake, trade(trade_id="T1", status="EXECUTED"), trade(trade_id="T2"), at=NOON + timedelta(minutes=1))
    assert process(lake) == counts(records=2, accepted=2, rows=1, inserted=1, updated=1)
    arrive(lake, trade(trade_id="T2", price=1), at=NOON + timedelta(minutes=2))
    assert process(lake) == counts(records=1, rejected=1)
    cursor = lake.cursor("silver.trades")
    assert cursor["totals"] == counts(records=6, accepted=3, duplicates=1, rejected=2, rows=2, inserted=2, updated=1)
    assert held(lake) == [("T1", 0, "EXECUTED"), ("T2", 4, "EXECUTED")]


def test_a_trade_id_that_comes_back_on_another_day_is_a_conflict(lake: Lake) -> None:
    arrive(lake, trade(trade_id="T1", timestamp="2025-01-15T15:30:00Z"))
    process(lake)
    arrive(lake, trade(trade_id="T1", timestamp="2025-03-20T15:30:00Z"), at=NOON + timedelta(minutes=1))
    assert process(lake) == counts(records=1, rejected=1)
    assert lake.rejects("raw_trades") == [["conflicting_duplicate"]]
    assert held(lake) == [("T1", 0, "EXECUTED")]


def counting_files(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each batch from here on, how many files of silver are looked into for its keys: a task opens one alone."""
    monkeypatch.setitem(snapshots.SMALL_FILES, "file-open-cost", "134217728")
    looked_into: list[int] = []
    classify = dedup.classify

    def counted(records: DataFrame, held: DataFrame, **given: Any) -> DataFrame:
        looked_into.append(held.rdd.getNumPartitions())
        return classify(records, held, **given)

    monkeypatch.setattr(dedup, "classify", counted)
    return looked_into


@pytest.mark.parametrize("days", [3, 30])
def test_the_files_looked_into_do_not_grow_with_history(lake: Lake, monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    def of_day(day: int, *numbers: int) -> list[bytes]:
        when = (datetime(2025, 1, 1, 15) + timedelta(days=day)).isoformat() + "Z"
        return [trade(trade_id=f"T{day:03}{number:03}", timestamp=when) for number in numbers]

    arrive(lake, *(value for day in range(days) for value in of_day(day, 1, 2)))
    assert process(lake)["inserted"] == 2 * days
    assert lake.spark.table("lake.silver.trades.files").count() == days
    rows = snapshots.at(lake.spark, trades.TABLE, lake.state("silver.trades").snapshot_id)
    assert rows.rdd.getNumPartitions() == 1
    looked_into = counting_files(monkeypatch)
    arrive(lake, *of_day(days, *range(10)), *of_day(1, 2), at=NOON + timedelta(minutes=1))
    assert process(lake) == counts(records=11, accepted=10, duplicates=1, rows=10, inserted=10)
    assert lake.spark.table("lake.silver.trades.files").count() == days + 1
    assert looked_into == [1]


def test_of_the_day_a_book_is_looked_for_in_files_of_its_own_time(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.new(spark, "127.0.0.1:9", tmp_path / "home", BOOK_TABLES)

    def come(minutes: int, *times: str) -> dict[str, int]:
        books = [book(snapshot_time=f"2025-01-15T{time}Z") for time in times]
        arrive(lake, *books, at=NOON + timedelta(minutes=minutes), topic=raw_orderbook.TOPIC)
        [done] = silver_processor.run(lake.spark, lake.settings, ["orderbook_snapshots"])
        return done.counts

    come(0, "09:00:00", "09:14:59.999999"), come(1, "11:00:00"), come(2, "23:59:59.999999")
    looked_into = counting_files(monkeypatch)
    assert come(3, "09:14:59.999999", "09:20:00") == counts(records=2, accepted=1, duplicates=1, rows=1, inserted=1)
    assert come(4, "23:59:59.999999", "11:00:00") == counts(records=2, duplicates=2)
    assert come(5, "15:00:00") == counts(records=1, accepted=1, rows=1, inserted=1)
    assert looked_into == [1, 2, 0]


def test_compaction_and_expiry_between_any_two_batches_change_nothing(lake: Lake) -> None:
    tables = ("bronze.raw_trades", "silver.trades", "silver.trader_activity", "silver._rejected_records")
    arrive(lake, trade(trade_id="T1", status="PARTIAL"), trade(trade_id="T2"), trade(trade_id="T2"), b"{")
    process(lake)
    before = [lake.content(table) for table in tables]
    lake.expire(*tables)
    assert lake.state("silver.trades").cursor is None
    again = process(lake)
    assert again == counts(records=4, accepted=2, duplicates=1, rejected=1, rows=2)
    assert [lake.content(table) for table in tables] == before

    lake.expire(*tables)
    arrive(lake, trade(trade_id="T1", status="EXECUTED"), trade(trade_id="T3"), b"[", at=NOON + timedelta(minutes=1))
    done = process(lake)
    assert done == counts(records=7, accepted=4, duplicates=1, rejected=2, rows=3, inserted=1, updated=1)
    assert lake.cursor("silver.trades")["totals"] == done
    assert held(lake) == [("T1", 0, "EXECUTED"), ("T2", 1, "EXECUTED"), ("T3", 5, "EXECUTED")]
    assert lake.rejects("raw_trades") == [["malformed_json"], ["malformed_json"]]
    (activity,) = lake.rows("silver.trader_activity", "total_buys")
    assert activity["total_buys"] == 3


def test_a_first_day_without_a_rebuild_is_refused_before_anything_runs(lake: Lake) -> None:
    arrive(lake, trade())
    with pytest.raises(UsageError, match="--rebuild"):
        silver_processor.run(lake.spark, lake.settings, ["trades"], since=date(2025, 1, 1))
    assert held(lake) == []


def test_an_unknown_table_is_refused_before_anything_runs(lake: Lake) -> None:
    with pytest.raises(UsageError, match="no such table trade; tables: trades, orderbook_snapshots, market_data"):
        lake.silver("trade")


PROVED = (*TABLES, "bronze.raw_reference", "dim.dim_time")


@pytest.fixture(scope="module")
def proved(spark: SparkSession, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lakehouse with some history: two batches, a replay, a discard, all snapshots expired, a third batch."""
    home = tmp_path_factory.mktemp("proved")
    lake = Lake.new(spark, broker.bootstrap_servers, home, PROVED)
    enter_exchanges(lake.spark)
    lake.create_topics()
    lake.produce("raw_trades", trade(trade_id="T1"), trade(trade_id="T1"), trade(trade_id="T2", exchange="NEW"), b"{")
    lake.produce("raw_orderbook", book(), book(), b"[]")
    lake.produce("raw_marketdata", bar(), bar(close=187.6), bar(open=-1))
    lake.bronze(*TOPICS)
    lake.silver()
    lake.spark.sql("INSERT INTO lake.dim.dim_exchange (exchange_key, exchange_code) VALUES (1000, 'NEW')")
    rejected.replay(lake.spark, lake.settings, Selection(reason="unknown_exchange"))
    assert rejected.discard(lake.spark, Selection(table="raw_orderbook"), "a test") == 1
    lake.expire(*(table for table in TABLES if table.startswith("bronze") or table.startswith("silver")))
    lake.produce("raw_trades", trade(trade_id="T3"), trade(trade_id="T2", exchange="NEW"), b"}")
    lake.bronze("raw_trades")
    lake.silver()
    return lake


@pytest.fixture
def checked(proved: Lake) -> Callable[..., list[tuple[str, int | None]]]:
    """Gives the tables that a check finds broken, with the number of violations."""

    def check(*checks: Any) -> list[tuple[str, int | None]]:
        findings = verify.findings(proved.spark, proved.settings, *checks)
        assert findings
        return [(finding.table, finding.violations) for finding in findings if not finding.holds]

    return check


CHECKED = (
    ingestion.offsets_are_there_once, ingestion.offsets_are_complete, ingestion.rows_are_accounted_for,
    ingestion.activity_follows_from_trades, storage.keys_are_unique, storage.declarations_hold, storage.files_exist,
)  # fmt: skip


def test_every_invariant_holds_after_repeats_replays_and_expiry(proved: Lake, checked: Any) -> None:
    assert checked(*CHECKED) == []
    assert held(proved) == [("T1", 0, "EXECUTED"), ("T2", 2, "EXECUTED"), ("T3", 4, "EXECUTED")]


def repeat_a_row(table: str) -> Callable[[Lake], None]:
    def insert(lake: Lake) -> None:
        lake.spark.table(f"lake.{table}").limit(1).writeTo(f"lake.{table}").append()

    return insert


def run_sql(statement: str) -> Callable[[Lake], None]:
    def run(lake: Lake) -> None:
        lake.spark.sql(statement)

    return run


BREAKS: Sequence[tuple[str, Any, str, Callable[[Lake], None], list[tuple[str, int]]]] = (
    ("a bronze row twice", ingestion.offsets_are_there_once, "bronze.raw_trades",
     repeat_a_row("bronze.raw_trades"), [("bronze.raw_trades", 1)]),
    ("a bronze row lost", ingestion.offsets_are_complete, "bronze.raw_trades",
     run_sql("DELETE FROM lake.bronze.raw_trades WHERE _kafka_offset = 1"), [("bronze.raw_trades", 1)]),
    ("a bronze row not counted", ingestion.rows_are_accounted_for, "bronze.raw_trades",
     run_sql("DELETE FROM lake.bronze.raw_trades WHERE _kafka_offset = 1"), [("silver.trades", 1)]),
    ("a silver row lost", ingestion.rows_are_accounted_for, "silver.trades",
     run_sql("DELETE FROM lake.silver.trades WHERE trade_id = 'T1'"), [("silver.trades", 1)]),
    ("a rejected record lost", ingestion.rows_are_accounted_for, "silver._rejected_records",
     run_sql("DELETE FROM lake.silver._rejected_records WHERE source_table = 'bronze.raw_marketdata'"),
     [("bronze.raw_marketdata", 1)]),
    ("a key twice", storage.keys_are_unique, "silver.trades",
     repeat_a_row("silver.trades"), [("silver.trades", 1)]),
    ("wrong sums", ingestion.activity_follows_from_trades, "silver.trader_activity",
     run_sql("UPDATE lake.silver.trader_activity SET total_buys = total_buys + 1"), [("silver.trader_activity", 2)]),
    ("minutes missing, and days of a year that was begun", model.days_have_1440_minutes, "dim.dim_time",
     run_sql("INSERT INTO lake.dim.dim_time (date) VALUES (DATE '2025-01-01')"), [("dim.dim_time", 365)]),
)  # fmt: skip


@pytest.mark.parametrize(("check", "table", "damage", "found"), [b[1:] for b in BREAKS], ids=[b[0] for b in BREAKS])
def test_verify_finds(
    proved: Lake, checked: Any, check: Any, table: str, damage: Callable[[Lake], None], found: list[tuple[str, int]]
) -> None:
    before = snapshots.load(proved.spark, BY_NAME[table]).currentSnapshot().snapshotId()
    damage(proved)
    assert checked(check) == found
    proved.spark.sql(f"CALL lake.system.rollback_to_snapshot('{table}', {before})")
    assert checked(check) == []


def test_verify_finds_a_property_that_is_not_as_declared(proved: Lake, checked: Any) -> None:
    alter = "ALTER TABLE lake.silver.trades SET TBLPROPERTIES ('write.parquet.compression-codec' = '{}')"
    proved.spark.sql(alter.format("gzip"))
    assert checked(storage.declarations_hold) == [("silver.trades", 1)]
    proved.spark.sql(alter.format("zstd"))
    assert checked(storage.declarations_hold) == []


def test_verify_finds_a_schema_that_is_not_as_declared(proved: Lake, checked: Any) -> None:
    proved.spark.sql("ALTER TABLE lake.silver.market_data ADD COLUMN extra STRING")
    assert checked(storage.declarations_hold) == [("silver.market_data", 1)]
    proved.spark.sql("ALTER TABLE lake.silver.market_data DROP COLUMN extra")
    assert checked(storage.declarations_hold) == []


def test_verify_finds_a_file_that_is_gone(proved: Lake, checked: Any, tmp_path: Path) -> None:
    row = proved.spark.table("lake.silver.market_data.files").select("file_path").first()
    assert row is not None
    path = Path("/" + row["file_path"].removeprefix("file:").lstrip("/"))
    aside = path.rename(tmp_path / path.name)
    assert checked(storage.files_exist) == [("silver.market_data", 1)]
    aside.rename(path)
    assert checked(storage.files_exist) == []


def test_verify_says_so_where_the_broker_does_not_answer(proved: Lake, checked: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lakehouse_spark.ingest.kafka._TIMEOUT_MS", 15_000)
        kafka = proved.settings.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:9"})
        settings = proved.settings.model_copy(update={"kafka": kafka})
        findings = verify.findings(proved.spark, settings, ingestion.offsets_are_complete)
    assert {finding.table: (finding.violations, finding.holds) for finding in findings} == {
        "bronze.raw_trades": (None, False),
        "bronze.raw_orderbook": (None, False),
        "bronze.raw_marketdata": (None, False),
        "bronze.raw_reference": (0, True),  # nothing was ever read from it
    }
    assert findings[0].detail.startswith("not checked: Kafka at 127.0.0.1:9 does not answer")


def test_a_record_refused_for_its_exchange_is_accepted_by_a_replay_once_the_exchange_is_known(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = Lake.new(spark, "127.0.0.1:9", tmp_path / "home", TABLES)
    arrive(lake, trade(trade_id="T1", exchange="NEW"), trade(trade_id="T2", exchange="OTHER"), b"{")
    process(lake)
    assert lake.rejects("raw_trades") == [["unknown_exchange"], ["unknown_exchange"], ["malformed_json"]]
    lake.spark.sql("INSERT INTO lake.dim.dim_exchange (exchange_key, exchange_code) VALUES (1000, 'NEW')")

    everything = Selection(table="raw_trades")
    done = {summary.table: summary.counts for summary in rejected.replay(lake.spark, lake.settings, everything)}
    assert done["bronze.raw_trades"] == {"records": 3, "replayed": 1, "rejected again": 2}
    (flow, *_) = reading.read(lake.spark, lake.settings).flows
    assert (flow.accepted, flow.replayed, flow.silver, flow.updates) == (0, 1, 1, 0)
    assert held(lake) == [("T1", 0, "EXECUTED")]
    assert unaccounted(lake) == []
    (activity,) = lake.rows("silver.trader_activity", "total_buys")
    assert activity["total_buys"] == 1
    assert fates(lake) == [("REPLAYED", 2, "inserted"), ("OPEN", 2, None), ("OPEN", 2, None)]

    before = [lake.content(table) for table in ("silver.trades", "silver.trader_activity")]
    done = {summary.table: summary.counts for summary in rejected.replay(lake.spark, lake.settings, everything)}
    assert done["bronze.raw_trades"] == {"records": 2, "replayed": 0, "rejected again": 2}
    assert [lake.content(table) for table in ("silver.trades", "silver.trader_activity")] == before
    assert fates(lake) == [("REPLAYED", 2, "inserted"), ("OPEN", 3, None), ("OPEN", 3, None)]

    for act in (
        lambda: rejected.replay(lake.spark, lake.settings, Selection(ids=["nobody"])),
        lambda: rejected.discard(lake.spark, Selection(ids=["nobody"]), "line noise"),
    ):
        with pytest.raises(UsageError, match="no rejected record has the id nobody"):
            act()
    with pytest.raises(UsageError, match="no such status 'OPENED': one of OPEN, REPLAYED, DISCARDED"):
        letters.read(lake.settings, Selection(status="OPENED")).oldest()
    assert rejected.discard(lake.spark, Selection(reason="malformed_json"), "line noise") == 1
    assert rejected.discard(lake.spark, Selection(reason="malformed_json"), "line noise") == 0
    assert fates(lake) == [("REPLAYED", 2, "inserted"), ("OPEN", 3, None), ("DISCARDED", 3, "line noise")]
    seen_without_spark = letters.read(lake.settings, Selection()).oldest(10, ["status", "attempts", "resolution"])
    assert [tuple(letter.values()) for letter in seen_without_spark] == fates(lake)


def test_a_rebuild_judges_all_that_bronze_holds_by_todays_rules(lake: Lake) -> None:
    arrive(lake, trade(trade_id="T1"), trade(trade_id="T2", exchange="NEW"), trade(trade_id="T1"), b"{")
    # a rebuild gives T4 to the first of these: another trader's, on another day
    first = trade(trade_id="T4", exchange="NEW", trader_id="TR4", timestamp="2025-01-14T15:00:00Z")
    second = trade(trade_id="T4", trader_id="TR5", timestamp="2025-01-15T15:00:00Z")
    arrive(lake, trade(trade_id="T3", status="CANCELLED"), first, second, at=NOON + timedelta(minutes=1))
    process(lake)
    assert held(lake) == [("T1", 0, "EXECUTED"), ("T3", 4, "CANCELLED"), ("T4", 6, "EXECUTED")]
    know(lake, "NEW")
    lake.spark.sql("UPDATE lake.silver.trades SET price = 1, trade_id = 'T0' WHERE trade_id = 'T1'")

    (summary,) = silver_processor.run(lake.spark, lake.settings, ["trades"], rebuild=True)
    assert summary.counts == {"inserted": 2, "updated": 1, "deleted": 1}
    assert held(lake) == [("T1", 0, "EXECUTED"), ("T2", 1, "EXECUTED"), ("T3", 4, "CANCELLED"), ("T4", 5, "EXECUTED")]
    replayed = ("REPLAYED", 1, "rebuilt")
    assert fates(lake) == [replayed, ("OPEN", 1, None), replayed, ("OPEN", 1, None)]
    lake.silver("trader_activity")  # an ordinary run behind a rebuild
    rows = lake.rows("silver.trader_activity", "trader_id", "total_buys", order="trader_id")
    assert [(row["trader_id"], row["total_buys"]) for row in rows] == [("TR1", 2), ("TR4", 1)]
    totals = lake.cursor("silver.trades")["totals"]
    assert [totals[name] for name in ("records", "accepted", "duplicates", "rejected", "rows")] == [7, 4, 1, 2, 4]
    lake.spark.sql("DELETE FROM lake.bronze.raw_trades WHERE _kafka_offset = 3")  # its letter stays
    again = silver_processor.run(lake.spark, lake.settings, ("trades", "trader_activity"), rebuild=True)
    assert [summary.counts for summary in again] == [{"inserted": 0, "updated": 0, "deleted": 0}] * 2
    assert fates(lake) == [replayed, ("OPEN", 1, None), replayed, ("OPEN", 1, None)]


def test_a_rebuild_keeps_a_row_whose_place_another_record_has_since_the_topic_was_made_anew(lake: Lake) -> None:
    arrive(lake, trade(trade_id="T1"), trade(trade_id="T2"))
    process(lake)
    lake.spark.sql("DELETE FROM lake.bronze.raw_trades WHERE _kafka_offset = 0")  # as retention does
    base = snapshots.state(lake.spark, raw_trades.TABLE)
    assert base.stamp is not None
    anew = TopicCursor(stamp=base.stamp, topic="trades", topic_id="another", following={0: 0})
    commit.advance(lake.spark, raw_trades.TABLE, base, anew)
    arrive(lake, trade(trade_id="T9"), at=datetime.now(UTC))
    process(lake)
    for _ in range(2):
        (summary,) = silver_processor.run(lake.spark, lake.settings, ["trades"], rebuild=True)
        assert summary.counts == {"inserted": 0, "updated": 0, "deleted": 0}
    assert sorted(held(lake)) == [("T1", 0, "EXECUTED"), ("T2", 1, "EXECUTED"), ("T9", 0, "EXECUTED")]


def test_what_is_downstream_notices_a_rebuild_whose_cursor_was_lost(lake: Lake) -> None:
    know(lake, "NEW")
    arrive(lake, trade(trade_id="T1"), trade(trade_id="T2", exchange="NEW", trader_id="TR2"))
    process(lake)
    lake.spark.sql("DELETE FROM lake.dim.dim_exchange WHERE exchange_code = 'NEW'")
    (summary,) = silver_processor.run(lake.spark, lake.settings, ["trades"], rebuild=True)
    assert summary.counts == {"inserted": 0, "updated": 0, "deleted": 1}
    lake.expire("silver.trades")
    process(lake)
    assert [row["trader_id"] for row in lake.rows("silver.trader_activity", "trader_id")] == ["TR1"]


def test_what_real_feeds_send_has_its_right_fate(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    lake = Lake.new(spark, broker.bootstrap_servers, tmp_path / "home", TABLES)
    lake.create_topics()
    frame = b"\0\0\0\0\x2a"
    fates: dict[bytes, list[str]] = {
        trade(trade_id="5 MB", note="x" * 5_000_000): ["oversized_record"],
        frame + trade(trade_id="framed"): ["schema_registry_framing"],
        b"\0\0\0\xff\xfe" + trade(trade_id="framed"): ["schema_registry_framing"],
        b"\xef\xbb\xbf" + trade(trade_id="marked"): [],
        trade(trade_id="T\ud800"): ["invalid_encoding"],
        trade(trade_id="T\ude00"): ["invalid_encoding"],
        trade(trade_id="note", note="\ud800"): [],
        trade(trade_id="T\u00fc").replace(b"\\u00fc", b"\xfc"): ["invalid_encoding"],
        trade(trade_id="dotless", symbol="\u0131BM"): ["invalid_symbol"],
        trade(trade_id="ligature", symbol="T\ufb01"): ["invalid_symbol"],
        trade(trade_id="T1"): [],
        trade(trade_id="T1", status="Canceled", timestamp="2025-01-18T09:00:00Z"): [],
        trade(trade_id="T2"): [],
        trade(trade_id="T2", timestamp="2025-01-18T09:00:00Z"): ["conflicting_duplicate"],
    }
    lake.ingest("raw_trades", *fates)
    assert lake.rejects("raw_trades") == [reasons for reasons in fates.values() if reasons]
    rows = lake.rows("silver.trades", "trade_id", "status", "trade_date")
    assert [tuple(row) for row in rows] == [
        ("T1", "CANCELLED", date(2025, 1, 15)), ("T2", "EXECUTED", date(2025, 1, 15)),
        ("marked", "EXECUTED", date(2025, 1, 15)), ("note", "EXECUTED", date(2025, 1, 15)),
    ]  # fmt: skip
    bronze = lake.rows("bronze.raw_trades", "trade_id", "raw_payload", "_raw_bytes", order="_kafka_offset")
    assert [row["_raw_bytes"] or row["raw_payload"].encode() for row in bronze] == list(fates)
    assert [row["trade_id"] for row in bronze] == [
        None, None, None, "marked", None, None, "note", "T\ufffd", "dotless", "ligature", "T1", "T1", "T2", "T2",
    ]  # fmt: skip

    lake.ingest("raw_orderbook", book(bids=[["0.00000812", 3]], asks=[["0.00000813", 4]]), book(bids=[["\ud800", 1]]))
    assert lake.rejects("raw_orderbook") == [["invalid_encoding"]]
    rows = lake.rows("silver.orderbook_snapshots", "best_bid_qty", "best_ask_qty", "spread")
    assert [tuple(row) for row in rows] == [(3, 4, 0)]
    assert [row["bids"] for row in lake.rows("bronze.raw_orderbook", "bids", order="_kafka_offset")][1:] == [None]
    lake.ingest("raw_marketdata", bar(), bar(interval="1M", volume=1), bar(interval="1H"), bar(interval="1D"))
    assert lake.rejects("raw_marketdata") == [["invalid_interval"]]
    rows = lake.rows("silver.market_data", "interval", "volume")
    assert [tuple(row) for row in rows] == [("1d", 12000), ("1h", 12000), ("1m", 12000)]


def test_a_cancellation_of_another_day_finds_its_trade_whatever_reads_it(lake: Lake) -> None:
    know(lake, "NEW")
    early, late, day = "2025-01-10T15:00:00Z", "2025-02-10T15:00:00Z", date(2025, 1, 10)
    arrive(
        lake, trade(trade_id="T1", timestamp=early), trade(trade_id="T2", timestamp=late, trader_id="TR2"),
        trade(trade_id="T3", timestamp=early, exchange="NEW", trader_id="TR3"),
        trade(trade_id="T4", timestamp=early, trader_id="TR4"),
    )  # fmt: skip
    process(lake)
    forget(lake, "NEW")
    cancelled = {"status": "CANCELLED"}
    arrive(
        lake, trade(trade_id="T1", timestamp=late, **cancelled),
        trade(trade_id="T2", timestamp=early, trader_id="TR2", **cancelled),
        trade(trade_id="T3", timestamp=late, exchange="NEW", trader_id="TR3", **cancelled),
        at=NOON + timedelta(minutes=1),
    )  # fmt: skip
    assert process(lake) == counts(records=3, accepted=2, rejected=1, updated=2)
    know(lake, "NEW")
    rejected.replay(lake.spark, lake.settings, Selection(table="raw_trades"))
    arrive(lake, trade(trade_id="T2", timestamp=late, trader_id="TR2"), at=NOON + timedelta(minutes=2))
    assert process(lake) == counts(records=1, duplicates=1)

    def assert_as_it_was() -> None:
        rows = lake.rows("silver.trades", "trade_id", "status", "trade_date", "_source_offset")
        assert [tuple(row) for row in rows] == [
            ("T1", "CANCELLED", day, 0), ("T2", "CANCELLED", date(2025, 2, 10), 1), ("T3", "CANCELLED", day, 2),
            ("T4", "EXECUTED", day, 3),
        ]  # fmt: skip
        assert [row["trader_id"] for row in lake.rows("silver.trader_activity", "trader_id")] == ["TR4"]

    assert_as_it_was()
    for since in (None, date(2025, 2, 1)):
        (summary,) = silver_processor.run(lake.spark, lake.settings, ["trades"], rebuild=True, since=since)
        assert summary.counts == {"inserted": 0, "updated": 0, "deleted": 0}
        assert_as_it_was()
        assert unaccounted(lake) == []
    lake.expire("silver.trades")
    process(lake)
    assert_as_it_was()
    assert unaccounted(lake) == []
    lake.spark.sql("DELETE FROM lake.bronze.raw_trades WHERE _kafka_offset = 5")  # T2's cancellation, as retention does
    silver_processor.run(lake.spark, lake.settings, ["trades"], rebuild=True)
    assert_as_it_was()


def test_a_table_that_older_rules_made_is_derived_whole_by_todays(spark: SparkSession, tmp_path: Path) -> None:
    lake = Lake.new(spark, "127.0.0.1:9", tmp_path / "home", TABLES)
    cancelled = trade(trade_id="T1", status="CANCELLED", timestamp="2025-01-18T09:00:00Z")
    records = [
        trade(trade_id="T1"), cancelled, trade(trade_id="T2", symbol="\u0131BM", trader_id="TR2"),
        trade(trade_id="T\ud800", trader_id="TR3"), trade(trade_id="T4"), b"{", trade(trade_id="T5", trader_id="TR5"),
    ]  # fmt: skip
    with older_rules():
        arrive(lake, *records)
        arrive(lake, bar(), bar(interval="1M", volume=1), topic=raw_marketdata.TOPIC)
        lake.silver()
    assert [name for name, _, _ in held(lake)] == ["T1", "T2", "T4", "T5", "T?"]
    assert lake.rejects("raw_trades") == [["conflicting_duplicate"], ["malformed_json"]]
    assert rejected.discard(lake.spark, Selection(reason="malformed_json"), "a test") == 1
    lake.spark.sql("DELETE FROM lake.bronze.raw_trades WHERE _kafka_offset = 6")  # as retention does
    arrive(lake, trade(trade_id="T6", exchange="?"), trade(trade_id="T7"), at=NOON + timedelta(minutes=1))

    # from a day on, because that must not leave the earlier ones as older rules made them
    ran = silver_processor.run(lake.spark, lake.settings, rebuild=True, since=date(2025, 6, 1))
    done = {summary.table: summary for summary in ran}
    assert done["silver.trades"].counts == {"inserted": 1, "updated": 1, "deleted": 2}
    assert done["silver.trades"].notes == ("rules 1 → 2: judged 5 records again, 2 are refused now and 1 no longer",)
    assert done["silver.market_data"].notes == (
        "rules 1 → 2: judged 2 records again, 1 are refused now and 0 no longer",
    )
    assert done["silver.trader_activity"].notes == ("rules 1 → 2: derived whole",)
    assert held(lake) == [("T1", 0, "CANCELLED"), ("T4", 4, "EXECUTED"), ("T5", 6, "EXECUTED"), ("T7", 8, "EXECUTED")]
    assert [row["trader_id"] for row in lake.rows("silver.trader_activity", "trader_id")] == ["TR1", "TR5"]
    assert [row["volume"] for row in lake.rows("silver.market_data", "volume")] == [12000]
    assert lake.rejects("raw_marketdata") == [["invalid_interval"]]
    letters = lake.rows(
        "silver._rejected_records", "_kafka_offset", "status", "rules_version", "reasons", order="_kafka_offset"
    )
    assert [tuple(row) for row in letters if row["reasons"] != ["invalid_interval"]] == [
        (1, "REPLAYED", "2", ["conflicting_duplicate"]), (2, "OPEN", "2", ["invalid_symbol"]),
        (3, "OPEN", "2", ["invalid_encoding"]), (5, "DISCARDED", "1", ["malformed_json"]),
        (7, "OPEN", "2", ["unknown_exchange"]),
    ]  # fmt: skip
    assert unaccounted(lake) == []
    cursors = [lake.cursor(f"silver.{name}") for name in ("trades", "market_data", "trader_activity")]
    assert [cursor["rules"] for cursor in cursors] == [2, 2, 2]
    assert cursors[0]["rebuilt"] == cursors[0]["stamp"] == cursors[2]["rebuilt"]
    snapshots = [lake.snapshots(f"silver.{name}") for name in silver_processor.TABLES]
    assert [summary.snapshot_id for summary in lake.silver()] == [None] * 4
    assert [lake.snapshots(f"silver.{name}") for name in silver_processor.TABLES] == snapshots


def test_a_cursor_that_is_lost_before_newer_rules_come_leaves_no_row_that_they_refuse(
    spark: SparkSession, tmp_path: Path
) -> None:
    lake = Lake.new(spark, "127.0.0.1:9", tmp_path / "home", TABLES)
    with older_rules():
        arrive(lake, trade(trade_id="T1"), trade(trade_id="T2", symbol="\u0131BM", trader_id="TR2"))
        arrive(lake, bar(), bar(interval="1M", volume=1), topic=raw_marketdata.TOPIC)
        lake.silver()
    assert held(lake) == [("T1", 0, "EXECUTED"), ("T2", 1, "EXECUTED")]
    lake.expire("silver.trades", "silver.market_data")
    said = {summary.table: summary.notes for summary in lake.silver()}
    why = "its cursor was lost, and older rules made rows of it"
    note = f"{why}: judged 2 records again, 1 are refused now and 0 no longer"
    assert (said["silver.trades"], said["silver.market_data"]) == ((note,), (note,))
    assert held(lake) == [("T1", 0, "EXECUTED")]
    assert [row["trader_id"] for row in lake.rows("silver.trader_activity", "trader_id")] == ["TR1"]
    assert [row["volume"] for row in lake.rows("silver.market_data", "volume")] == [12000]
    assert lake.rejects("raw_trades") == [["invalid_symbol"]]
    assert unaccounted(lake) == []
    assert [summary.snapshot_id for summary in lake.silver()] == [None] * 4


@contextmanager
def older_rules() -> Iterator[None]:
    """As long as codes were folded by Unicode, a question mark stood for half a character, M was a minute, and a
    cancellation had no time of its own; cursors said nothing of rules."""
    todays = quality.unreadable

    def unreadable(*given: Any, is_lone: Column, is_object: Column) -> Column:
        return todays(*given, is_lone=F.lit(False), is_object=is_object)

    def lower(field: quality.Field) -> quality.Field:
        return replace(field, value=F.lower) if field.name == "interval" else field

    older: dict[str, Feed] = {**FEEDS, "trades": replace(trades.FEED, untimed=None)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "unreadable", unreadable)
        patch.setattr(quality, "folded", F.upper)
        patch.setattr(market_data, "_FIELDS", tuple(map(lower, market_data._FIELDS)))
        patch.setattr(silver_processor, "FEEDS", older)
        patch.setattr(rejected_records, "RULES_VERSION", 1)
        patch.setattr(commit, "_ruled", lambda cursor: cursor)
        yield


def unaccounted(lake: Lake) -> list[tuple[str, str]]:
    tables = (trades.TABLE, trades.FEED.topic.table)
    findings = verify.findings(lake.spark, lake.settings, ingestion.rows_are_accounted_for, tables=tables)
    return [(finding.check, finding.detail) for finding in findings if not finding.holds]


def know(lake: Lake, *exchanges: str) -> None:
    for number, code in enumerate(exchanges, 1000):
        lake.spark.sql(f"INSERT INTO lake.dim.dim_exchange (exchange_key, exchange_code) VALUES ({number}, '{code}')")


def forget(lake: Lake, exchange: str) -> None:
    lake.spark.sql(f"DELETE FROM lake.dim.dim_exchange WHERE exchange_code = '{exchange}'")


def test_a_rebuild_from_a_day_leaves_what_was_decided_of_earlier_ones(lake: Lake) -> None:
    early, late = "2025-01-10T15:00:00Z", "2025-02-10T15:00:00Z"
    arrive(lake, trade(trade_id="T1", exchange="NEW", timestamp=early), trade(trade_id="T2", timestamp=early))
    arrive(lake, trade(trade_id="T3", exchange="NEW", timestamp=late), trade(trade_id="T2", timestamp=early), b"{")
    process(lake)
    know(lake, "NEW")

    def rebuild(since: date | None) -> dict[str, int]:
        (summary,) = silver_processor.run(lake.spark, lake.settings, ["trades"], rebuild=True, since=since)
        totals = lake.cursor("silver.trades")["totals"]
        assert unaccounted(lake) == []
        assert summary.counts["deleted"] == 0
        return {name: totals[name] for name in ("records", "accepted", "duplicates", "rejected", "rows")}

    found = rebuild(date(2025, 2, 1))
    assert found == {"records": 5, "accepted": 2, "duplicates": 1, "rejected": 2, "rows": 2}
    assert held(lake) == [("T2", 1, "EXECUTED"), ("T3", 2, "EXECUTED")]
    assert fates(lake) == [("OPEN", 1, None), ("REPLAYED", 1, "rebuilt"), ("OPEN", 1, None)]
    found = rebuild(None)
    assert found == {"records": 5, "accepted": 3, "duplicates": 1, "rejected": 1, "rows": 3}
    assert held(lake) == [("T1", 0, "EXECUTED"), ("T2", 1, "EXECUTED"), ("T3", 2, "EXECUTED")]
    assert fates(lake) == [("REPLAYED", 1, "rebuilt"), ("REPLAYED", 1, "rebuilt"), ("OPEN", 1, None)]


def test_what_a_dead_attempt_refused_and_a_later_one_accepts_is_no_longer_open(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(lake, trade(trade_id="T1", exchange="NEW"), b"{")
    with monkeypatch.context() as patch:
        patch.setattr(silver_processor, "write", lambda *given: 1 / 0)  # between the letters and silver
        with pytest.raises(ZeroDivisionError):
            process(lake)
    assert fates(lake) == [("OPEN", 1, None), ("OPEN", 1, None)]
    know(lake, "NEW")
    assert process(lake) == counts(records=2, accepted=1, rejected=1, rows=1, inserted=1)
    assert fates(lake) == [("REPLAYED", 1, "accepted by a later attempt"), ("OPEN", 1, None)]
    assert unaccounted(lake) == []


def test_verify_and_a_later_attempt_bear_with_the_letters_of_a_dead_one(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(lake, trade(trade_id="T1"))
    process(lake)
    arrive(lake, trade(trade_id="T1", price=1, exchange="NEW"), b"{", at=NOON + timedelta(minutes=1))
    with monkeypatch.context() as patch:
        patch.setattr(silver_processor, "write", lambda *given: 1 / 0)  # between the letters and silver
        with pytest.raises(ZeroDivisionError):
            process(lake)
    assert lake.rejects("raw_trades") == [["unknown_exchange"], ["malformed_json"]]
    assert unaccounted(lake) == []
    know(lake, "NEW")
    assert process(lake) == counts(records=2, rejected=2)
    assert lake.rejects("raw_trades") == [["conflicting_duplicate"], ["malformed_json"]]
    assert fates(lake) == [("OPEN", 1, None)] * 2
    assert unaccounted(lake) == []


def test_a_lost_cursor_gives_no_row_to_a_record_that_was_refused_before_it(lake: Lake) -> None:
    refused = trade(trade_id="T1", exchange="NEW", status="CANCELLED", timestamp="2025-01-14T15:00:00Z")
    arrive(
        lake, refused, trade(trade_id="T1"), trade(trade_id="T2", exchange="NEW"), trade(trade_id="T3", exchange="NEW")
    )
    process(lake)
    assert rejected.discard(lake.spark, Selection(ids=[letters_of(lake)[2]]), "a test") == 1
    assert held(lake) == [("T1", 1, "EXECUTED")]
    know(lake, "NEW")
    lake.expire("silver.trades")
    assert process(lake) == counts(records=4, accepted=2, rejected=2, rows=2, inserted=1)
    assert held(lake) == [("T1", 1, "EXECUTED"), ("T3", 3, "EXECUTED")]
    assert lake.rejects("raw_trades") == [["conflicting_duplicate"], ["unknown_exchange"], ["unknown_exchange"]]
    accepted = ("REPLAYED", 1, "accepted by a later attempt")
    assert fates(lake) == [("OPEN", 1, None), ("DISCARDED", 1, "a test"), accepted]
    assert unaccounted(lake) == []


def letters_of(lake: Lake) -> dict[int, str]:
    """The ids of the letters by the offset of their record."""
    rows = lake.rows("silver._rejected_records", "_kafka_offset", "rejected_id")
    return {row["_kafka_offset"]: row["rejected_id"] for row in rows}


def fates(lake: Lake) -> list[tuple[str, int, str | None]]:
    rows = lake.rows(
        "silver._rejected_records", "status", "attempts", "resolution", "_kafka_offset", order="_kafka_offset"
    )
    return [(row["status"], row["attempts"], row["resolution"]) for row in rows]
