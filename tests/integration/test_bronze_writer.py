"""bronze_writer against a real broker: every record once, whatever happens to topic, broker, scratch and snapshots."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions
from pyspark.sql import SparkSession

from lakehouse_spark import migrations, verify
from lakehouse_spark.bronze import raw_orderbook, raw_trades
from lakehouse_spark.errors import LakehouseError, RefusedError, UsageError
from lakehouse_spark.ingest import kafka
from lakehouse_spark.jobs import bronze_writer, maintenance, rejected, silver_processor
from lakehouse_spark.lake import commit
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.metadata import maintenance_log
from lakehouse_spark.schema.operations import AddColumn, ColumnDefinition, RenameColumn
from lakehouse_spark.settings import IngestSettings, KafkaSettings, MaintenanceSettings, PolicySettings
from lakehouse_spark.table import Table
from lakehouse_spark.verify import ingestion, storage
from tests.support.lake import TABLES, Headers, Lake, book, trade

TABLE = raw_trades.TABLE
QUIET = {"log_level": 0, "error_cb": lambda error: None}


@pytest.fixture
def lake(spark: SparkSession, broker: Broker, tmp_path: Path) -> Lake:
    """`bronze.raw_trades` alone, empty, with a topic of one partition."""
    made = Lake.new(spark, broker.bootstrap_servers, tmp_path / "home", [TABLE.name])
    made.create_topics(names=["raw_trades"])
    return made


def topic(lake: Lake) -> str:
    return lake.settings.topic("raw_trades")


def admin(lake: Lake) -> AdminClient:
    return AdminClient({**QUIET, "bootstrap.servers": lake.settings.kafka.bootstrap_servers})


def limit(lake: Lake, **ingest: int) -> None:
    lake.settings = lake.settings.model_copy(update={"ingest": IngestSettings(**ingest)})


def offsets(lake: Lake) -> list[tuple[int, int]]:
    """Partition and offset of every row, as often as it is there."""
    rows = lake.rows(TABLE.name, "_kafka_partition", "_kafka_offset")
    return sorted((row["_kafka_partition"], row["_kafka_offset"]) for row in rows)


def ids(lake: Lake) -> list[str]:
    """Trade ids in the order of arrival."""
    rows = lake.rows(TABLE.name, "trade_id", "_ingested_at", "_kafka_partition", "_kafka_offset", order="_ingested_at")
    return [row["trade_id"] for row in sorted(rows, key=lambda row: tuple(row[1:]))]


def files(lake: Lake) -> set[Path]:
    return {path for path in lake.settings.root.joinpath("warehouse").rglob("*") if path.is_file()}


def trades(*names: str) -> list[bytes]:
    return [trade(trade_id=name) for name in names]


def delete_records(lake: Lake, before: int) -> None:
    client = admin(lake)  # its answers die with it
    (future,) = client.delete_records([TopicPartition(topic(lake), 0, before)]).values()
    assert future.result(30).low_watermark == before


def recreate_topic(lake: Lake) -> None:
    client, name = admin(lake), topic(lake)
    client.delete_topics([name])[name].result(30)
    until(lambda: name not in client.list_topics(timeout=5).topics)
    lake.create_topics(names=["raw_trades"])


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def compact_and_expire(lake: Lake) -> None:
    """Leaves one snapshot, a compaction's, which has no cursor."""
    lake.expire(TABLE.name)
    assert lake.state(TABLE.name).cursor is None


def broken(lake: Lake) -> list[str]:
    """What verify finds wrong with the offsets."""
    checks = (ingestion.offsets_are_there_once, ingestion.offsets_are_complete)
    found = verify.findings(lake.spark, lake.settings, *checks, tables=[TABLE])
    return [finding.detail for finding in found if not finding.holds]


def test_a_run_with_nothing_new_writes_nothing(lake: Lake) -> None:
    lake.produce("raw_trades", *trades("T1", "T2", "T3"))
    (first,) = lake.bronze("raw_trades", "raw_trades")  # named twice, read once
    assert (first.counts, first.snapshot_id) == ({"records": 3}, lake.state(TABLE.name).snapshot_id)
    before = files(lake)
    (second,) = lake.bronze("raw_trades")
    assert (second.counts, second.snapshot_id) == ({"records": 0}, None)
    assert files(lake) == before
    assert lake.snapshots(TABLE.name) == 2
    assert offsets(lake) == [(0, 0), (0, 1), (0, 2)]


def test_every_micro_batch_is_a_commit_with_a_later_stamp(lake: Lake) -> None:
    limit(lake, max_offsets_per_trigger=2)
    lake.produce("raw_trades", *trades("T1", "T2", "T3", "T4", "T5"))
    reported: list[int] = []
    (done,) = lake.bronze("raw_trades", report=lambda summary: reported.append(summary.counts["records"]))
    assert (reported, done.counts) == ([2, 2, 1], {"records": 5})
    assert ids(lake) == ["T1", "T2", "T3", "T4", "T5"]
    assert len({row["_ingested_at"] for row in lake.rows(TABLE.name, "_ingested_at")}) == 3
    cursor = lake.cursor(TABLE.name)
    assert (cursor["from"], cursor["to"]) == ({"0": 4}, {"0": 5})


def test_a_partition_added_later_is_read_from_its_beginning(lake: Lake) -> None:
    lake.produce("raw_trades", *trades("T1"))
    lake.bronze("raw_trades")
    client, name = admin(lake), topic(lake)
    client.create_partitions([NewPartitions(name, 2)])[name].result(30)
    until(lambda: all(p.leader >= 0 for p in client.list_topics(name, timeout=5).topics[name].partitions.values()))
    until(lambda: len(client.list_topics(name, timeout=5).topics[name].partitions) == 2)
    assert broken(lake) == []
    lake.produce("raw_trades", *trades("T2", "T3"), partition=1)
    lake.produce("raw_trades", *trades("T4"))
    lake.bronze("raw_trades")
    assert offsets(lake) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert lake.cursor(TABLE.name)["to"] == {"0": 2, "1": 2}


@pytest.mark.parametrize("most", [200_000, 2])
def test_records_of_aborted_transactions_never_appear(lake: Lake, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Nor where the topic is read in pieces that begin or end with them, or hold nothing else."""
    monkeypatch.setattr(kafka, "_PIECE", most)
    producer = transactional(lake)
    for names, end in (
        (["aborted 1", "aborted 2"], producer.abort_transaction),
        (["T1"], producer.commit_transaction),
        (["aborted 3"], producer.abort_transaction),
    ):
        producer.begin_transaction()
        for value in trades(*names):
            producer.produce(topic(lake), value, partition=0)
        producer.flush(30)
        end()
    lake.bronze("raw_trades")
    assert ids(lake) == ["T1"]
    # 0 and 1 aborted, 2 the marker, 3 = T1, 4 its marker, 5 aborted, 6 its marker
    assert offsets(lake) == [(0, 3)]
    assert lake.cursor(TABLE.name)["to"] == {"0": 7}
    (again,) = lake.bronze("raw_trades")
    assert again.snapshot_id is None


def test_an_open_transaction_is_waited_for(lake: Lake) -> None:
    producer = transactional(lake)
    producer.begin_transaction()
    producer.produce(topic(lake), trade(trade_id="T1"), partition=0)
    producer.flush(30)
    lake.produce("raw_trades", *trades("T2"))
    lake.bronze("raw_trades")
    assert ids(lake) == []
    producer.commit_transaction()
    lake.bronze("raw_trades")
    assert ids(lake) == ["T1", "T2"]


def transactional(lake: Lake) -> Producer:
    servers = lake.settings.kafka.bootstrap_servers
    producer = Producer({**QUIET, "bootstrap.servers": servers, "transactional.id": topic(lake)})
    producer.init_transactions(60)
    return producer


def test_a_retention_gap_is_refused_until_it_is_accepted(lake: Lake) -> None:
    lake.produce("raw_trades", *trades("T0", "T1"))
    lake.bronze("raw_trades")
    lake.produce("raw_trades", *trades("T2", "T3", "T4", "T5"))
    delete_records(lake, before=4)
    with pytest.raises(RefusedError) as refused:
        lake.bronze("raw_trades")
    assert refused.value.exit_code == 3
    assert f"bronze.raw_trades: 2 offsets of topic {topic(lake)}, partition 0, from 2 to 3, were removed" in str(
        refused.value
    )
    assert "lakehouse run bronze_writer --table raw_trades --accept-gap" in str(refused.value)
    assert ids(lake) == ["T0", "T1"]

    lake.bronze("raw_trades", accept_gap=True)
    assert ids(lake) == ["T0", "T1", "T4", "T5"]
    (gap,) = lake.cursor(TABLE.name)["gaps"]
    assert "2 offsets" in gap["accepted"]
    assert gap["was"] == {"0": 2}

    lake.produce("raw_trades", *trades("T6"))
    lake.bronze("raw_trades")
    assert ids(lake) == ["T0", "T1", "T4", "T5", "T6"]
    assert "gaps" not in lake.cursor(TABLE.name)


def test_a_gap_with_nothing_behind_it_is_recorded_once_accepted(lake: Lake) -> None:
    lake.produce("raw_trades", *trades("T0"))
    lake.bronze("raw_trades")
    lake.produce("raw_trades", *trades("T1", "T2"))
    delete_records(lake, before=3)
    with pytest.raises(RefusedError, match="from 1 to 2, were removed"):
        lake.bronze("raw_trades")
    lake.bronze("raw_trades", accept_gap=True)
    cursor = lake.cursor(TABLE.name)
    assert (cursor["to"], len(cursor["gaps"])) == ({"0": 3}, 1)
    (again,) = lake.bronze("raw_trades")
    assert again.snapshot_id is None
    assert ids(lake) == ["T0"]


def test_a_first_run_begins_with_what_retention_has_left(lake: Lake) -> None:
    lake.produce("raw_trades", *trades("T0", "T1", "T2"))
    delete_records(lake, before=1)
    lake.bronze("raw_trades")
    assert ids(lake) == ["T1", "T2"]


def test_a_recreated_topic_is_refused_until_it_is_accepted_even_where_it_is_longer(lake: Lake) -> None:
    lake.produce("raw_trades", *trades("old 0", "old 1"))
    lake.bronze("raw_trades")
    recreate_topic(lake)
    lake.produce("raw_trades", *trades("new 0", "new 1", "new 2"))
    with pytest.raises(RefusedError, match="was deleted and created again") as refused:
        lake.bronze("raw_trades")
    assert refused.value.exit_code == 3
    assert ids(lake) == ["old 0", "old 1"]
    lake.bronze("raw_trades", accept_gap=True)
    assert ids(lake) == ["old 0", "old 1", "new 0", "new 1", "new 2"]
    (again,) = lake.bronze("raw_trades")
    assert again.snapshot_id is None


def test_a_recreated_topic_is_read_on_from_its_own_offsets_after_its_cursor_expired(lake: Lake) -> None:
    lake.produce("raw_trades", *trades("old 0", "old 1", "old 2", "old 3"))
    lake.bronze("raw_trades")
    recreate_topic(lake)
    lake.produce("raw_trades", *trades("new 0"))
    lake.bronze("raw_trades", accept_gap=True)
    lake.produce("raw_trades", *trades("new 1"))
    lake.bronze("raw_trades")
    compact_and_expire(lake)
    assert broken(lake) == []
    lake.produce("raw_trades", *trades("new 2", "new 3", "new 4"))
    lake.bronze("raw_trades")
    assert ids(lake) == ["old 0", "old 1", "old 2", "old 3", "new 0", "new 1", "new 2", "new 3", "new 4"]
    assert broken(lake) == []
    lake.spark.sql(f"DELETE FROM lake.{TABLE.name} WHERE trade_id = 'new 1'")  # old 1 has the same offset
    assert broken(lake) == ["1 lost"]


def test_a_topic_that_is_made_anew_during_a_run_is_not_read_on(lake: Lake) -> None:
    limit(lake, max_offsets_per_trigger=1)
    lake.produce("raw_trades", *trades("old 0", "old 1"))

    def recreate(summary: object) -> None:
        recreate_topic(lake)
        lake.produce("raw_trades", *trades("new 0", "new 1", "new 2"))

    with pytest.raises(RefusedError, match="was deleted and created again"):
        lake.bronze("raw_trades", report=recreate)
    assert ids(lake) == ["old 0"]


def test_a_truncated_topic_is_refused(lake: Lake) -> None:
    lake.produce("raw_trades", *trades("T0", "T1"))
    lake.bronze("raw_trades")
    state = lake.state(TABLE.name)
    assert isinstance(state.cursor, TopicCursor)
    further = replace(state.cursor, following={0: 10}, stamp=state.next_stamp(datetime.now(UTC)))
    commit.advance(lake.spark, TABLE, state, further)
    with pytest.raises(RefusedError, match=r"partition 0, ends at 2, before the next offset to read, 10: it was trunc"):
        lake.bronze("raw_trades")


def test_whatever_a_record_holds_its_bytes_are_kept(lake: Lake) -> None:
    limit(lake, max_record_bytes=400)
    large = trade(trade_id="large", note="x" * 400)
    lake.produce("raw_trades", b'{"trade_id": "\xff\xfe"}', None, large, b"", b"[1, 2]", *trades("T5"))
    lake.bronze("raw_trades")
    rows = lake.rows(TABLE.name, "_kafka_offset", "trade_id", "raw_payload", "_raw_bytes")
    assert [tuple(row) for row in rows] == [
        (0, "��", '{"trade_id": "��"}', b'{"trade_id": "\xff\xfe"}'),
        (1, None, None, None),
        (2, None, large.decode(), None),
        (3, None, "", None),
        (4, None, "[1, 2]", None),
        (5, "T5", trades("T5")[0].decode(), None),
    ]


def send(lake: Lake, table: str, *records: tuple[bytes | None, Headers | None]) -> None:
    """Records with their headers, in order."""
    for value, headers in records:
        lake.produce(table, value, headers=headers)


def headers(lake: Lake, table: str = TABLE.name) -> list[list[tuple[str, bytes | None]] | None]:
    rows = lake.rows(table, "_kafka_headers", order="_kafka_offset")
    return [None if row[0] is None else [(key, value) for key, value in row[0]] for row in rows]


def test_headers_are_kept_where_they_are_asked_for_and_nothing_depends_on_them(
    spark: SparkSession, broker: Broker, tmp_path: Path
) -> None:
    lake = Lake.new(spark, broker.bootstrap_servers, tmp_path / "all", (*TABLES, maintenance_log.TABLE.name))
    lake.create_topics()
    sent: list[tuple[str, bytes | None]] = [
        ("trace", b"two"), ("trace", b"one"), ("empty", b""), ("null", None), ("Größe", b"\xff\x00"),
        ("", b"of no key"),
    ]  # fmt: skip
    plain, wrong = trade(trade_id="T1"), trade(trade_id="T2", price=-1)
    asked = lake.keeping_headers("raw_trades")
    send(lake, "raw_trades", (plain, sent), (plain, None), (None, [("why", b"gone")]), (wrong, [("a", b"1")]))
    send(lake, "raw_orderbook", (book(), sent))
    asked.bronze("raw_trades", "raw_orderbook")
    kept = [sent, None, [("why", b"gone")], [("a", b"1")]]
    assert headers(lake) == kept
    assert headers(lake, "bronze.raw_orderbook") == [None]

    asked.silver("trades")
    assert [row[0] for row in lake.rows("silver.trades", "trade_id")] == ["T1"]
    assert lake.rejects("raw_trades") == [["tombstone"], ["invalid_price"]]
    assert lake.cursor("silver.trades")["totals"]["duplicates"] == 1
    before = lake.content(TABLE.name), lake.content("silver.trades")
    rejected.replay(asked.spark, asked.settings, Selection(reason="invalid_price"))
    silver_processor.run(asked.spark, asked.settings, ["trades"], rebuild=True)
    assert [summary.snapshot_id for summary in asked.bronze("raw_trades")] == [None]
    assert (lake.content(TABLE.name), lake.content("silver.trades")) == before

    send(lake, "raw_trades", (trade(trade_id="T3"), [("a", b"1")]))  # no longer asked for
    lake.bronze("raw_trades")
    assert headers(lake) == [*kept, None]
    eager = PolicySettings(settle_minutes=0, min_input_files=2)
    settings = lake.settings.model_copy(update={"maintenance": MaintenanceSettings(layers={"bronze": eager})})
    (done,) = maintenance.run(lake.spark, settings, jobs=("compaction",), tables=(TABLE.name,))
    assert (done.before["files"], done.counts["files"]) == (3, 2)  # that of records without a day stays alone
    assert headers(lake) == [*kept, None]

    checks = (ingestion.offsets_are_complete, storage.texts_are_utf8, storage.declarations_hold)
    found = verify.findings(lake.spark, lake.settings, *checks, tables=[TABLE])
    assert [finding.detail for finding in found] == ["0 lost", "all strings are UTF-8", "as declared"]


def test_headers_of_no_such_table_are_refused_before_anything_is_read(lake: Lake) -> None:
    with pytest.raises(UsageError) as refused:
        lake.keeping_headers("trades", "raw_reference", "raw_trades").bronze("raw_trades")
    assert str(refused.value) == (
        "LAKEHOUSE_KAFKA__HEADERS: no headers are kept in raw_reference, trades; tables: raw_trades, raw_orderbook, "
        "raw_marketdata"
    )


def test_a_lakehouse_of_before_headers_goes_on_and_its_rows_have_none(lake: Lake) -> None:
    send(lake, "raw_trades", (trade(trade_id="T0"), [("a", b"0")]))
    lake.bronze("raw_trades")
    lake.spark.sql(f"ALTER TABLE {TABLE.identifier} DROP COLUMN _kafka_headers")
    before = files(lake)
    (adding,) = [each for each in migrations.migrations() if each.version == "V008"]
    migrations.apply(lake.spark, [each for each in adding.operations if each.table == TABLE.name])
    assert not [path for path in files(lake) - before if path.suffix == ".parquet"]  # nothing is rewritten
    assert lake.spark.table(TABLE.identifier).schema == TABLE.schema
    send(lake, "raw_trades", (trade(trade_id="T1"), [("a", b"1")]))
    lake.keeping_headers("raw_trades").bronze("raw_trades")
    assert (ids(lake), headers(lake)) == (["T0", "T1"], [None, [("a", b"1")]])


def test_a_record_of_several_megabytes_is_kept_unparsed(lake: Lake) -> None:
    huge = trade(trade_id="huge", note="x" * 3_000_000)
    lake.produce("raw_trades", huge, *trades("T1"))
    lake.bronze("raw_trades")
    rows = lake.rows(TABLE.name, "_kafka_offset", "trade_id", "raw_payload")
    assert [row["trade_id"] for row in rows] == [None, "T1"]
    assert rows[0]["raw_payload"] == huge.decode()


def test_a_scratch_folder_lost_or_replaced_by_an_older_one_loses_and_doubles_nothing(
    lake: Lake, tmp_path: Path
) -> None:
    limit(lake, max_offsets_per_trigger=2)
    older, scratch = tmp_path / "older", lake.settings.scratch
    lake.produce("raw_trades", *trades("T0", "T1", "T2"))
    lake.bronze("raw_trades", report=lambda summary: shutil.copytree(scratch, older, dirs_exist_ok=True))
    assert list(older.rglob("offsets/0"))
    assert list(scratch.iterdir()) == []
    shutil.rmtree(scratch)
    lake.produce("raw_trades", *trades("T3"))
    lake.bronze("raw_trades")
    shutil.rmtree(scratch)
    shutil.copytree(older, scratch)
    lake.produce("raw_trades", *trades("T4"))
    lake.bronze("raw_trades")
    assert ids(lake) == ["T0", "T1", "T2", "T3", "T4"]


def test_a_scratch_folder_removed_while_the_stream_runs_loses_and_doubles_nothing(lake: Lake) -> None:
    limit(lake, max_offsets_per_trigger=2)
    lake.produce("raw_trades", *trades("T0", "T1", "T2", "T3", "T4"))
    with pytest.raises(LakehouseError, match=r"^bronze.raw_trades: "):
        lake.bronze("raw_trades", report=lambda summary: shutil.rmtree(lake.settings.scratch))
    lake.bronze("raw_trades")
    assert ids(lake) == ["T0", "T1", "T2", "T3", "T4"]


def test_compaction_and_expiry_between_any_two_batches_change_nothing(lake: Lake) -> None:
    lake.produce("raw_trades", *trades("T0", "T1"))
    lake.bronze("raw_trades")
    compact_and_expire(lake)
    (nothing,) = lake.bronze("raw_trades")
    assert nothing.snapshot_id is None
    lake.produce("raw_trades", *trades("T2"))
    lake.bronze("raw_trades")
    cursor = lake.cursor(TABLE.name)
    assert (cursor["from"], cursor["to"]) == ({"0": 2}, {"0": 3})
    compact_and_expire(lake)
    lake.produce("raw_trades", *trades("T3", "T4"))
    lake.bronze("raw_trades")
    assert ids(lake) == ["T0", "T1", "T2", "T3", "T4"]


def test_a_compaction_between_two_micro_batches_of_one_run_changes_nothing(lake: Lake) -> None:
    limit(lake, max_offsets_per_trigger=1)
    lake.produce("raw_trades", *trades("T0", "T1", "T2"))

    def compact(summary: object) -> None:
        options = "map('rewrite-all', 'true')"
        lake.spark.sql(f"CALL lake.system.rewrite_data_files(table => '{TABLE.name}', options => {options})").collect()

    (done,) = lake.bronze("raw_trades", report=compact)
    assert done.counts == {"records": 3}
    assert ids(lake) == ["T0", "T1", "T2"]


def test_after_the_broker_was_killed_a_later_run_completes(
    spark: SparkSession, own_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.new(spark, own_broker.bootstrap_servers, tmp_path / "home", [TABLE.name])
    lake.create_topics(names=["raw_trades"])
    limit(lake, max_offsets_per_trigger=2)
    lake.produce("raw_trades", *trades("T0", "T1", "T2", "T3", "T4"))
    killed: list[int] = []

    def kill(summary: object) -> None:
        if not killed:
            pid = own_broker.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
            own_broker.start()  # its predecessor's streams find it under the same port

    lake.bronze("raw_trades", report=kill)
    assert ids(lake) == ["T0", "T1", "T2", "T3", "T4"]

    pid = own_broker.pid
    assert pid not in (None, *killed)
    os.kill(pid or 0, signal.SIGKILL)
    until(lambda: not own_broker.running)
    monkeypatch.setattr(kafka, "_TIMEOUT_MS", 15_000)
    began = time.monotonic()
    with pytest.raises(LakehouseError, match=r"^Kafka at 127.0.0.1:\d+ does not answer for topic") as unanswered:
        lake.bronze("raw_trades")
    assert unanswered.value.exit_code == 1
    assert time.monotonic() - began < 60
    own_broker.start()
    lake.produce("raw_trades", *trades("T5"))
    lake.bronze("raw_trades")
    assert ids(lake) == ["T0", "T1", "T2", "T3", "T4", "T5"]


def test_a_topic_that_does_not_exist_is_named(lake: Lake) -> None:
    given = KafkaSettings(bootstrap_servers=lake.settings.kafka.bootstrap_servers, topics={"raw_trades": "nowhere"})
    lake.settings = lake.settings.model_copy(update={"kafka": given})
    with pytest.raises(UsageError, match=r"topic 'nowhere' does not exist on 127\.0\.0\.1:") as wrong:
        lake.bronze("raw_trades")
    assert wrong.value.exit_code == 2


def test_an_unknown_table_is_refused_before_anything_runs(lake: Lake) -> None:
    with pytest.raises(UsageError, match="no such table raw_trade; tables: raw_trades, raw_orderbook, raw_marketdata"):
        lake.bronze("raw_trade")


BOOKS = raw_orderbook.TABLE


@pytest.fixture
def two(spark: SparkSession, broker: Broker, tmp_path: Path) -> Lake:
    """Trades and books, each with a topic of one partition and four records, read one at a time."""
    made = Lake.new(spark, broker.bootstrap_servers, tmp_path / "home", [TABLE.name, BOOKS.name])
    made.create_topics(names=["raw_trades", "raw_orderbook"])
    made.produce("raw_trades", *trades("T0", "T1", "T2", "T3"))
    made.produce("raw_orderbook", book(), book(), book(), book())
    limit(made, max_offsets_per_trigger=1)
    return made


def failing(monkeypatch: pytest.MonkeyPatch, fail: Callable[[SparkSession], None]) -> None:
    """The second commit of trades fails so."""
    append, before = commit.append, []

    def strike(spark: SparkSession, table: Table, *rest: Any) -> Any:
        if table.name == TABLE.name:
            before.append(table.name)
            if len(before) == 2:
                fail(spark)
        return append(spark, table, *rest)

    monkeypatch.setattr(commit, "append", strike)


def fail_at_length(spark: SparkSession) -> None:
    raise LakehouseError("x" * 20_000)


def fail_in_java(spark: SparkSession) -> None:
    spark._jvm.java.util.Objects.requireNonNull(None)  # type: ignore[union-attr]


def fail_in_a_task(spark: SparkSession) -> None:
    spark.range(1).selectExpr("raise_error(repeat('out of order\n', 2000))").collect()


@pytest.mark.parametrize(
    ("fail", "sentence"),
    [
        (fail_at_length, "x" * 20_000),
        (
            fail_in_java,
            "bronze.raw_trades: the stream failed: java.lang.NullPointerException (An error occurred while calling "
            "z:java.util.Objects.requireNonNull.)",
        ),
        (fail_in_a_task, "bronze.raw_trades: the stream failed: [USER_RAISED_EXCEPTION] out of order"),
    ],
)
def test_the_first_failure_is_told_and_the_stream_beside_it_ends_whole(
    two: Lake,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    fail: Callable[[SparkSession], None],
    sentence: str,
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, fail)
        with pytest.raises(LakehouseError) as failed:
            two.bronze("raw_trades", "raw_orderbook")
    assert (str(failed.value), failed.value.exit_code) == (sentence, 1)
    assert two.spark.streams.active == []
    assert capfd.readouterr().err == ""  # neither traces nor an overflown stack
    held = [row["_kafka_offset"] for row in two.rows(BOOKS.name, "_kafka_offset")]
    assert held == list(range(len(held)))
    assert two.cursor(BOOKS.name)["to"] == {"0": len(held)} if held else two.state(BOOKS.name).cursor is None
    assert ids(two) == ["T0"]
    two.bronze("raw_trades", "raw_orderbook")
    assert ids(two) == ["T0", "T1", "T2", "T3"]
    assert [row["_kafka_offset"] for row in two.rows(BOOKS.name, "_kafka_offset")] == [0, 1, 2, 3]


def test_a_continuous_run_ends_by_its_first_failure_even_where_the_end_of_the_others_fails(
    two: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def strike(spark: SparkSession, table: Table, *rest: Any) -> Any:
        if table.name == BOOKS.name:
            assert failed.wait(60)
            raise LakehouseError("the later one")
        failed.set()
        raise LakehouseError("the first one")

    monkeypatch.setattr(commit, "append", strike)
    with pytest.raises(LakehouseError, match=r"^the first one$"):
        two.bronze("raw_orderbook", "raw_trades", continuous=True)
    assert two.spark.streams.active == []


def test_a_continuous_run_that_is_told_to_stop_ends_behind_its_micro_batches(
    two: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, stop = commit.append, threading.Event()

    def tell(spark: SparkSession, table: Table, *rest: Any) -> Any:
        stop.set()
        return append(spark, table, *rest)

    monkeypatch.setattr(commit, "append", tell)
    done = {summary.table: summary.counts for summary in two.bronze("raw_trades", continuous=True, stop=stop)}
    assert done == {TABLE.name: {"records": 1}}
    assert ids(two) == ["T0"]


def test_a_micro_batch_that_outlasts_the_patience_is_cut_off_without_an_error(
    two: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, stop = commit.append, threading.Event()

    def dawdle(spark: SparkSession, *rest: Any) -> Any:
        stop.set()
        spark.range(2).selectExpr("java_method('java.lang.Thread', 'sleep', 30000L + id)").collect()
        return append(spark, *rest)

    monkeypatch.setattr(bronze_writer, "_PATIENCE_SECONDS", 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(commit, "append", dawdle)
        began = time.monotonic()
        (done,) = two.bronze("raw_trades", continuous=True, stop=stop)
    assert (done.counts, done.snapshot_id) == ({"records": 0}, None)
    assert time.monotonic() - began < 25
    two.bronze("raw_trades")
    assert ids(two) == ["T0", "T1", "T2", "T3"]


@pytest.mark.parametrize(
    "operation",
    [
        AddColumn(TABLE.name, ColumnDefinition("venue", "string", "Venue"), after="exchange"),
        RenameColumn(TABLE.name, "symbol", "ticker"),
    ],
    ids=["additive", "breaking"],
)
def test_a_continuous_run_whose_table_is_migrated_stops_or_goes_on_and_loses_nothing(
    lake: Lake, operation: AddColumn | RenameColumn
) -> None:
    limit(lake, trigger_seconds=1)
    lake.produce("raw_trades", *trades("T0", "T1"))
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lake.bronze, "raw_trades", continuous=True, stop=stop)
        until(lambda: ids(lake) == ["T0", "T1"])
        migrations.apply(lake.spark, [operation])
        lake.produce("raw_trades", *trades("T2", "T3"))
        until(lambda: running.done() or ids(lake)[2:] == ["T2", "T3"])
        stop.set()
        error = running.exception(60)
    assert error is None or (isinstance(error, RefusedError) and error.exit_code == 3)
    migrations.apply(lake.spark, [operation.inverse])
    lake.bronze("raw_trades")
    assert ids(lake) == ["T0", "T1", "T2", "T3"]


@pytest.mark.soak
def test_a_broker_that_dies_under_two_streams_is_one_sentence(
    spark: SparkSession, own_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.new(spark, own_broker.bootstrap_servers, tmp_path / "home", [TABLE.name, BOOKS.name])
    lake.create_topics(names=["raw_trades", "raw_orderbook"])
    limit(lake, max_offsets_per_trigger=1)
    lake.produce("raw_trades", *trades("T0", "T1", "T2"))
    lake.produce("raw_orderbook", book(), book(), book())

    def kill(summary: object) -> None:
        if own_broker.running:
            os.kill(own_broker.pid or 0, signal.SIGKILL)
            until(lambda: not own_broker.running)

    monkeypatch.setattr(kafka, "_TIMEOUT_MS", 15_000)
    silent = r"Kafka at 127\.0\.0\.1:\d+ does not answer for topic"
    reading = r"bronze\.raw_(trades|orderbook): the stream failed: org\.apache\.kafka\."
    with pytest.raises(LakehouseError, match=rf"^({silent}|{reading})[^\n]+\Z") as gone:
        lake.bronze("raw_trades", "raw_orderbook", report=kill)
    assert gone.value.exit_code == 1
    assert lake.spark.streams.active == []
