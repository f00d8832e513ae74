"""`verify` goes on from what it proved before: what is new is looked at, what is as it was costs nothing."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import verify
from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.jobs import fact_loader, gold_aggregator, silver_processor
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.settings import Settings
from lakehouse_spark.verify import FULL, NEW, NOTHING_NEW, Finding, Verified, proof
from lakehouse_spark.verify.look import Moment
from tests.support.executions import counted
from tests.support.lake import TOPICS, Lake, bar, book, create_tables, trade
from tests.support.market import with_members

BROKEN_TEXT = "CAST(X'E9' AS STRING)"
LOG, NOTES = "_metadata.maintenance_log", "_metadata.payload_drift"


@pytest.fixture(scope="module")
def lake(spark: SparkSession, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Every layer, of trades on two days, a book and a bar, as the broker has them."""
    lake = with_members(spark, broker.bootstrap_servers, tmp_path_factory.mktemp("proved"))
    lake.create_topics()
    lake.produce("raw_trades", trade(trade_id="T1", timestamp="2025-01-14T15:30:00Z"), trade(trade_id="T2"))
    lake.produce("raw_orderbook", book())
    lake.produce("raw_marketdata", bar())
    work(lake)
    assert {each.checked for each in findings(lake)} == {FULL}
    return lake


def work(lake: Lake) -> None:
    lake.bronze(*TOPICS)
    for job in (silver_processor, fact_loader, gold_aggregator):
        job.run(lake.spark, lake.settings)


def verified(lake: Lake, *tables: str, in_full: bool = False) -> Verified:
    return verify.go_on(lake.spark, lake.settings, [BY_NAME[name] for name in tables], in_full=in_full)


def findings(lake: Lake, *tables: str, in_full: bool = False) -> list[Finding]:
    """What is found, once what is proved is kept."""
    found, complaint = verified(lake, *tables, in_full=in_full)
    assert complaint is None
    return [*found]


def broken(found: list[Finding]) -> list[tuple[str, str, int | None, str]]:
    return sorted((f.invariant, f.table, f.violations, f.checked) for f in found if not f.holds)


@pytest.fixture
def proved(lake: Lake) -> Lake:
    assert broken(findings(lake)) == []
    return lake


def head(lake: Lake, table: str) -> int:
    return int(snapshots.load(lake.spark, BY_NAME[table]).currentSnapshot().snapshotId())


def roll_back(lake: Lake, heads: Mapping[str, int]) -> None:
    for name, snapshot in heads.items():
        lake.spark.sql(f"CALL lake.system.rollback_to_snapshot('{name}', {snapshot})")


@contextmanager
def undone(lake: Lake, *tables: str) -> Iterator[None]:
    """As long as the tables have commits that do not stay."""
    heads = {name: head(lake, name) for name in tables}
    try:
        yield
    finally:
        roll_back(lake, heads)


def test_with_nothing_new_no_table_is_read_and_nothing_is_written(proved: Lake) -> None:
    before = {*proved.settings.root.rglob("*")}
    with counted(proved.spark) as counter:
        found = findings(proved)
        spent = counter.spent()

    assert (spent.executions, spent.jobs) == ((), 0)
    assert {each.invariant for each in found if each.checked != NOTHING_NEW} == {
        "offsets_are_complete", "declarations_hold",
    }  # fmt: skip
    assert {*proved.settings.root.rglob("*")} == before
    assert len(found) == 148
    assert len({(each.invariant, each.table, each.check) for each in found}) == 148


def lose_a_book(lake: Lake) -> None:
    """A commit says that it has read a record that it did not keep."""
    lake.produce("raw_orderbook", book(symbol="MSFT"))
    table = BY_NAME["bronze.raw_orderbook"]
    state = snapshots.state(lake.spark, table)
    cursor = state.cursor_as(TopicCursor)
    assert cursor is not None
    stamp = state.next_stamp(datetime.now(UTC))
    commit.advance(lake.spark, table, state, replace(cursor, stamp=stamp, following={0: cursor.following[0] + 1}))


def run_sql(statement: str) -> Callable[[Lake], None]:
    def run(lake: Lake) -> None:
        lake.spark.sql(statement)

    return run


def copy_of(table: str, where: str = "true", **changes: str) -> Callable[[Lake], None]:
    """Adds the rows once more, some columns changed."""

    def insert(lake: Lake) -> None:
        columns = ", ".join(f"{changes.get(name, f'`{name}`')} AS `{name}`" for name in BY_NAME[table].column_names)
        lake.spark.sql(f"INSERT INTO lake.{table} SELECT {columns} FROM lake.{table} WHERE {where} LIMIT 1")

    return insert


DAMAGES: tuple[tuple[str, Callable[[Lake], None]], ...] = (
    ("bronze.raw_trades", copy_of("bronze.raw_trades")),
    ("bronze.raw_orderbook", lose_a_book),
    ("bronze.raw_marketdata", run_sql("DELETE FROM lake.bronze.raw_marketdata WHERE _kafka_offset = 0")),
    ("silver.trades", copy_of("silver.trades", "trade_id = 'T1'", trade_timestamp="trade_timestamp + INTERVAL 2 DAYS")),
    ("silver.market_data", copy_of("silver.market_data", market_data_id="'M'", interval=BROKEN_TEXT)),
    ("gold.daily_trading_summary", copy_of("gold.daily_trading_summary")),
    ("gold.fact_trades", run_sql("UPDATE lake.gold.fact_trades SET trader_key = NULL WHERE trade_id = 'T2'")),
    (
        "gold.fact_trades",
        run_sql("UPDATE lake.gold.fact_trades SET settlement_date = DATE(event_timestamp) WHERE trade_id = 'T1'"),
    ),
)


def test_damage_in_a_new_commit_is_found_and_leaves_no_proof(proved: Lake) -> None:
    with undone(proved, *dict.fromkeys(name for name, _ in DAMAGES)):
        for _, damage in DAMAGES:
            damage(proved)
        found = findings(proved)
        kept = proof.kept(proved.spark)
    assert broken(found) == [
        ("activity_follows_from_trades", "silver.trader_activity", 1, NEW),
        ("facts_follow_silver", "gold.fact_trades", 1, NEW),
        ("foreign_keys_resolve", "gold.fact_trades", 1, NEW),
        ("keys_are_unique", "bronze.raw_trades", 1, NEW),
        ("keys_are_unique", "gold.daily_trading_summary", 1, NEW),
        ("keys_are_unique", "silver.trades", 1, NEW),
        ("lots_add_up", "gold._open_lots", 4, FULL),
        ("lots_add_up", "gold.portfolio_positions", 4, FULL),
        ("offsets_are_complete", "bronze.raw_marketdata", 1, FULL),
        ("offsets_are_complete", "bronze.raw_orderbook", 1, NEW),
        ("offsets_are_there_once", "bronze.raw_trades", 1, NEW),
        ("rows_are_accounted_for", "silver.market_data", 1, NEW),
        ("rows_are_accounted_for", "silver.market_data", 1, NEW),
        ("rows_are_accounted_for", "silver.trades", 1, NEW),
        ("rows_are_accounted_for", "silver.trades", 1, NEW),
        ("texts_are_utf8", "silver.market_data", 1, NEW),
        ("trades_settle_as_their_exchange_says", "gold.fact_trades", 1, NEW),
        ("values_add_up", "gold.daily_trading_summary", 1, NEW),
        ("values_add_up", "gold.fact_trades", 1, NEW),
        ("values_add_up", "gold.market_overview", 1, NEW),
        ("values_add_up", "gold.trade_analytics", 1, NEW),
    ]
    assert {(each.invariant, each.table) for each in found if not each.holds}.isdisjoint(kept)
    assert ("texts_are_utf8", "bronze.raw_trades") in kept
    assert broken(findings(proved)) == []


def note(lake: Lake) -> Path:
    """The file of a row that was there for a moment: only `files_exist` looks at it."""
    with undone(lake, NOTES):
        before = set(lake.rows(f"{NOTES}.files", "file_path"))
        lake.spark.sql(f"INSERT INTO lake.{NOTES} (topic) VALUES ('gone')")
        ((location,),) = set(lake.rows(f"{NOTES}.files", "file_path")) - before
    return Path("/" + location.removeprefix("file:").lstrip("/"))


def test_a_new_file_that_is_gone_is_missed_and_an_old_one_only_in_full(proved: Lake, tmp_path: Path) -> None:
    path = note(proved)
    aside = path.rename(tmp_path / path.name)
    assert broken(findings(proved, NOTES)) == [("files_exist", NOTES, 1, NEW)]
    aside.rename(path)
    assert broken(findings(proved, NOTES)) == []

    aside = path.rename(tmp_path / path.name)
    assert broken(findings(proved, NOTES)) == []
    assert broken(findings(proved, NOTES, in_full=True)) == [("files_exist", NOTES, 1, FULL)]
    assert broken(findings(proved, NOTES)) == [("files_exist", NOTES, 1, FULL)]
    aside.rename(path)
    assert broken(findings(proved, NOTES)) == []


def test_without_the_snapshot_that_was_proved_all_is_checked(proved: Lake) -> None:
    name = "gold.trade_analytics"
    copy_of(name, market_session="'NEVER'", analytics_date="DATE '2025-03-03'", symbol=BROKEN_TEXT)(proved)
    proved.expire(name)
    assert ("texts_are_utf8", name, 1, FULL) in broken(findings(proved, name))
    proved.spark.sql(f"DELETE FROM lake.{name} WHERE market_session = 'NEVER'")
    assert broken(findings(proved, name)) == []


def test_what_a_table_holds_by_another_schema_is_not_proved(proved: Lake) -> None:
    name = "gold.market_overview"
    proved.spark.sql(f"ALTER TABLE lake.{name} ADD COLUMN more STRING")
    assert {each.checked for each in findings(proved, name)} == {FULL}
    proved.spark.sql(f"ALTER TABLE lake.{name} DROP COLUMN more")


def test_what_is_committed_meanwhile_is_not_what_is_proved(proved: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "gold.market_overview"
    take, before = verify._moment, head(proved, name)

    def overtaken(spark: SparkSession, settings: Settings) -> Moment:
        moment = take(spark, settings)
        copy_of(name)(proved)
        return moment

    with undone(proved, name):
        monkeypatch.setattr(verify, "_moment", overtaken)
        assert broken(findings(proved, name, in_full=True)) == []
        assert proof.kept(proved.spark)["keys_are_unique", name].read[name].snapshot == before
        monkeypatch.undo()
        assert ("keys_are_unique", name, 1, NEW) in broken(findings(proved, name))


def test_what_waits_is_proved_no_further_until_it_has_caught_up(proved: Lake) -> None:
    name, follows = "gold.fact_trades", ("facts_follow_silver", "gold.fact_trades")
    before = proof.kept(proved.spark)[follows]
    proved.ingest("raw_trades", trade(trade_id="T3", timestamp="2025-01-16T15:30:00Z"))
    (found,) = (each for each in findings(proved, name) if each.invariant == follows[0])
    assert (found.holds, found.waits, found.proved_in_full) == (True, True, before.in_full)
    assert proof.kept(proved.spark)[follows] == before

    work(proved)
    all_found = findings(proved)
    now = proof.kept(proved.spark)[follows]
    assert broken(all_found) == []
    assert now.at > before.at
    assert now.in_full == before.in_full
    of_new = {(each.invariant, each.table) for each in all_found if each.checked == NEW}
    assert of_new > {
        ("offsets_are_there_once", "bronze.raw_trades"), ("offsets_are_complete", "bronze.raw_trades"),
        ("rows_are_accounted_for", "silver.trades"), ("activity_follows_from_trades", "silver.trader_activity"),
        ("texts_are_utf8", "silver.trades"), ("keys_are_unique", "silver.trades"), ("files_exist", "silver.trades"),
        ("values_add_up", "gold.fact_trades"), follows,
    }  # fmt: skip


def test_without_the_right_to_write_all_is_checked_and_nothing_is_kept(proved: Lake) -> None:
    before = proof.kept(proved.spark)
    with closing(sqlite3.connect(proved.settings.root / "catalog.db")) as catalog, undone(proved, NOTES):
        proved.spark.sql(f"INSERT INTO lake.{NOTES} (topic) VALUES ('new')")
        refuse = (
            "BEFORE UPDATE ON iceberg_tables BEGIN SELECT RAISE(ABORT, 'attempt to write a readonly database'); END"
        )
        catalog.execute(f"CREATE TRIGGER read_only {refuse}")
        try:
            found, complaint = verified(proved)
        finally:
            catalog.execute("DROP TRIGGER read_only")
    assert broken([*found]) == []
    assert complaint is not None
    assert complaint.startswith("what was proved is not kept: ")
    assert proof.kept(proved.spark) == before


def test_files_of_a_table_that_was_made_anew_are_looked_for_though_its_commits_count_from_one(
    proved: Lake, tmp_path: Path
) -> None:
    for _ in range(3):
        note(proved)
    assert broken(findings(proved, NOTES)) == []
    proved.spark.sql(f"DROP TABLE lake.{NOTES}")
    create_tables(proved.spark, [NOTES])
    path = note(proved)

    aside = path.rename(tmp_path / path.name)
    assert broken(findings(proved, NOTES)) == [("files_exist", NOTES, 1, FULL)]
    aside.rename(path)
    assert broken(findings(proved, NOTES)) == []


def hand_on(lake: Lake, table: str, following: int = 0, **changes: Any) -> None:
    """A commit without rows whose cursor says something else, and that so many records more are read."""
    state = lake.state(table)
    cursor = state.cursor_as(TopicCursor)
    assert cursor is not None
    now = replace(cursor, stamp=state.next_stamp(datetime.now(UTC)), following={0: cursor.following[0] + following})
    commit.advance(lake.spark, BY_NAME[table], state, replace(now, **changes))


def test_rows_of_a_topic_before_it_was_made_anew_are_looked_at_once_they_count_again(proved: Lake) -> None:
    name, once = "bronze.raw_marketdata", "offsets_are_there_once"
    with undone(proved, name):
        copy_of(name, _ingested_at="_ingested_at - INTERVAL 1 MICROSECOND")(proved)
        hand_on(proved, name, epoch=datetime.now(UTC))
        assert once not in {each[0] for each in broken(findings(proved, name))}
        hand_on(proved, name, epoch=None)
        assert (once, name, 1, FULL) in broken(findings(proved, name))


def test_what_kafka_did_not_hold_yet_is_not_proved_to_be_stored(proved: Lake) -> None:
    name, complete = "bronze.raw_orderbook", "offsets_are_complete"
    with undone(proved, name):
        hand_on(proved, name, following=1)
        (found,) = (each for each in findings(proved, name) if each.invariant == complete)
        assert (found.holds, found.waits, found.detail) == (True, True, "0 lost, Kafka ends before the cursor")
        proved.produce("raw_orderbook", book(symbol="NVDA"))
        assert (complete, name, 1, NEW) in broken(findings(proved, name))


@pytest.mark.parametrize("place", [(verify, "_all_found"), (proof, "written")], ids=["it checks", "it keeps"])
def test_what_another_finds_broken_while_one_verifies_is_not_proved_by_this(
    proved: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[ModuleType, str]
) -> None:
    path = note(proved)
    assert broken(findings(proved, NOTES)) == []
    module, name = place
    real = getattr(module, name)

    def overtaken(*given: Any) -> Any:
        found = real(*given)
        monkeypatch.undo()
        path.rename(tmp_path / path.name)
        assert broken(findings(proved, NOTES, in_full=True)) == [("files_exist", NOTES, 1, FULL)]
        return found

    monkeypatch.setattr(module, name, overtaken)
    assert broken(findings(proved, NOTES, in_full=True)) == []
    assert broken(findings(proved, NOTES)) == [("files_exist", NOTES, 1, FULL)]
    (tmp_path / path.name).rename(path)
    assert broken(findings(proved, NOTES)) == []
    assert {each.checked for each in findings(proved, NOTES) if each.invariant == "files_exist"} == {NOTHING_NEW}
