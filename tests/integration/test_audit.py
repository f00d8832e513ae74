"""A commit that breaks a check of its table is held back until a person decides; nobody ever reads it before."""

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark import verify
from lakehouse_spark.errors import HeldError, RefusedError, UsageError
from lakehouse_spark.gold import daily_trading_summary
from lakehouse_spark.iceberg import held, metadata
from lakehouse_spark.jobs import (
    audit,
    fact_loader,
    gold_aggregator,
    maintenance,
    rejected,
    silver_processor,
)
from lakehouse_spark.jobs.beat import Beats
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.maintenance import journal
from lakehouse_spark.settings import (
    AuditSettings,
    MaintenanceSettings,
    PolicySettings,
    SparkSettings,
)
from lakehouse_spark.testing import CrashError
from lakehouse_spark.verify import ingestion
from tests.support.child import Child
from tests.support.executions import counted
from tests.support.lake import Lake, arrive, table, trade
from tests.support.market import Market, change, with_members
from tests.support.shell import Terminal

SUMMARY, TRADES = daily_trading_summary.TABLE, table("silver.trades")
BROKEN = "low_is_lowest"


@pytest.fixture(scope="module")
def begun(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two commits of every layer: of a trade in AAPL, and of one in MSFT."""
    lake = with_members(spark, "127.0.0.1:9", tmp_path_factory.mktemp("audit") / "home")
    for news in (trade(), trade(trade_id="T2", symbol="MSFT", price=400)):
        arrive(lake, news)
        bring_all_up(lake)
    return lake


@pytest.fixture
def lake(begun: Lake, tmp_path: Path) -> Lake:
    return begun.copy(tmp_path / "home")


@pytest.fixture(scope="module")
def held_once(begun: Lake, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = begun.copy(tmp_path_factory.mktemp("held") / "home")
    arrive(lake, trade(trade_id="T3", price=100))
    with a_bug(), pytest.raises(HeldError, match=f"{SUMMARY.name}: a commit is held back on branch audit_"):
        bring_all_up(lake)
    return lake


@pytest.fixture
def holding(held_once: Lake, tmp_path: Path) -> Lake:
    """With a trade below the others, which a bug turned into a low that is above the high."""
    return held_once.copy(tmp_path / "home")


def bring_up(lake: Lake) -> list[Summary]:
    """Trades and their summary."""
    return lake.silver("trades") + lake.gold(SUMMARY.name)


def bring_all_up(lake: Lake) -> list[Summary]:
    """Silver to gold; one table that fails ends no other that does not follow it."""
    done = lake.silver("trades", "trader_activity")
    return done + fact_loader.run(lake.spark, lake.settings, ["fact_trades"]) + lake.gold()


def with_audit(lake: Lake, **given: Any) -> Lake:
    return Lake(lake.spark, lake.settings.model_copy(update={"audit": AuditSettings(**given)}))


@contextmanager
def built(changed: Callable[[DataFrame], DataFrame]) -> Iterator[None]:
    """Summaries as they are built, and then changed."""
    build = daily_trading_summary.build
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(daily_trading_summary, "build", lambda *given: changed(build(*given)))
        yield


def a_bug() -> AbstractContextManager[None]:
    """Lows that are above their highs."""
    return built(lambda rows: rows.withColumn("low_price", F.col("high_price") + 1))


def lows(lake: Lake) -> dict[str, int]:
    return {row["symbol"]: int(row["low_price"]) for row in lake.rows(SUMMARY.name, "symbol", "low_price")}


def waiting(lake: Lake) -> list[tuple[str, Mapping[str, int]]]:
    found = held.of(metadata.read(lake.settings, [SUMMARY, TRADES, table("dim.dim_symbol")]).values())
    return [(each.table, each.broken) for each in found]


# It waits


def test_a_wrong_batch_is_held_back_and_the_next_good_one_goes_on_once_it_is_discarded(holding: Lake) -> None:
    assert lows(holding) == {"AAPL": 187, "MSFT": 400}
    assert waiting(holding) == [(SUMMARY.name, {BROKEN: 1})]
    analysed = holding.rows("gold.trade_analytics", "symbol", "trade_count", order="symbol")
    assert [tuple(row) for row in analysed] == [("AAPL", 2), ("MSFT", 1)]  # the bug is not theirs

    with counted(holding.spark) as counter, pytest.raises(HeldError) as again:
        gold_aggregator.run(holding.spark, holding.settings)
    assert not counter.spent().executions  # what waits for a person is not computed again and again
    assert (again.value.exit_code, "it breaks low_is_lowest (1)" in str(again.value)) == (3, True)

    waits = audit.of(holding.settings, SUMMARY)
    rows = audit.breaking(holding.spark, holding.settings, SUMMARY, waits)
    assert [(row["symbol"], row["low_price"] > row["high_price"]) for row in rows[BROKEN].collect()] == [("AAPL", True)]

    audit.discard(holding.spark, holding.settings, SUMMARY, "kim", "a wrong release")
    arrive(holding, trade(trade_id="T4", price=90))
    bring_all_up(holding)
    assert (lows(holding), waiting(holding)) == ({"AAPL": 90, "MSFT": 400}, [])
    assert [finding for finding in verify.run(holding.spark, holding.settings) if finding.violations] == []
    entry = [each for each in journal.read(holding.settings).entries if each.job == "audit"][-1]
    said = {"decision": "discard", "by": "kim", "because": "a wrong release", "broken": {BROKEN: 1}}
    assert (entry.table, entry.status, entry.detail) == (SUMMARY.name, "DONE", said)


def test_a_commit_that_is_published_becomes_current_as_it_was_staged(holding: Lake) -> None:
    staged = audit.of(holding.settings, SUMMARY).snapshot_id
    audit.publish(holding.spark, holding.settings, SUMMARY, "kim", "agreed with the desk")
    state = snapshots.state(holding.spark, SUMMARY)
    assert state.cursor is not None
    assert (state.snapshot_id, state.cursor.notes) == (staged, {"broken": {BROKEN: 1}})
    assert (lows(holding), waiting(holding)) == ({"AAPL": 188, "MSFT": 400}, [])
    gold_aggregator.run(holding.spark, holding.settings)  # what follows it goes on
    overview = holding.rows("gold.market_overview", "total_trades")
    assert [row[0] for row in overview] == [3]
    with pytest.raises(UsageError, match=r"no commit to gold\.daily_trading_summary is held back"):
        audit.publish(holding.spark, holding.settings, SUMMARY, "kim", "again")


def test_compaction_leaves_a_table_alone_of_which_a_commit_is_held_back(holding: Lake) -> None:
    policy = PolicySettings(min_input_files=2, settle_minutes=0)
    settings = holding.settings.model_copy(update={"maintenance": MaintenanceSettings(tables={SUMMARY.name: policy})})
    (done,) = maintenance.run(holding.spark, settings, tables=[SUMMARY.name], jobs=("compaction",))
    assert (done.counts, done.snapshot_id) == ({}, None)
    audit.discard(holding.spark, holding.settings, SUMMARY, "kim", "a wrong release")
    (done,) = maintenance.run(holding.spark, settings, tables=[SUMMARY.name], jobs=("compaction",))
    assert done.counts["files"] == 1


def test_one_that_cannot_become_current_any_more_stays_held_back(holding: Lake) -> None:
    holding.spark.sql(
        f"CALL lake.system.rewrite_data_files(table => '{SUMMARY.name}', options => map('rewrite-all', 'true'))"
    )
    with pytest.raises(RefusedError, match=f"{SUMMARY.name}: someone committed since audit_"):
        audit.publish(holding.spark, holding.settings, SUMMARY, "kim", "agreed with the desk")
    assert waiting(holding) == [(SUMMARY.name, {BROKEN: 1})]
    assert [each.status for each in journal.read(holding.settings).entries if each.job == "audit"] == [
        "STARTED",
        "FAILED",
    ]


def test_a_tag_or_branch_of_a_users_holds_nothing_back(lake: Lake) -> None:
    lake.spark.sql(f"ALTER TABLE {SUMMARY.identifier} CREATE TAG audit_2026")
    lake.spark.sql(f"ALTER TABLE {SUMMARY.identifier} CREATE BRANCH audit_of_may")
    arrive(lake, trade(trade_id="T3", price=100))
    bring_up(lake)
    assert (lows(lake), waiting(lake)) == ({"AAPL": 100, "MSFT": 400}, [])


def test_a_dead_letter_of_an_attempt_before_is_closed_with_what_is_published(lake: Lake) -> None:
    strict = with_audit(lake, tables={TRADES.name: {"checks": {"price_is_sane": "price < 1000"}}})
    arrive(lake, trade(trade_id="T3", price=5000), trade(trade_id="T4", exchange="NEWX"))
    with pytest.raises(HeldError):
        bring_up(strict)
    assert lake.rejects("raw_trades") == [["unknown_exchange"]]
    audit.discard(lake.spark, lake.settings, TRADES, "kim", "its exchange was missing")
    Market(lake, arrivals=9).refer("dim_exchange", [change("NEWX", date(2000, 1, 1))])
    with pytest.raises(HeldError):
        bring_up(strict)
    audit.publish(lake.spark, lake.settings, TRADES, "kim", "a real price")
    (letter,) = lake.rows("silver._rejected_records", "status", "resolution")
    assert tuple(letter) == ("REPLAYED", "accepted by a later attempt")
    accounted = verify.findings(lake.spark, lake.settings, ingestion.rows_are_accounted_for)
    assert [finding for finding in accounted if finding.violations] == []


def test_a_beat_goes_on_with_the_other_tables(holding: Lake) -> None:
    arrive(holding, trade(trade_id="T4", symbol="MSFT", price=401))
    beat = Beats(holding.spark, holding.settings, timedelta(minutes=15), {*bring_up_tables()}, Event(), no_word).run(1)
    assert {*beat.failed} == {SUMMARY.name}
    assert {*beat.left} >= {"gold.market_overview", "gold._open_lots"}
    assert {"silver.trades", "gold.fact_trades", "gold.trade_analytics"} <= {*beat.well}


def no_word(summary: Summary) -> None:
    """Nobody listens."""


def bring_up_tables() -> list[str]:
    gold = [made.name for tables, _ in gold_aggregator.STEPS for made in tables]
    return ["silver.trades", "silver.trader_activity", "gold.fact_trades", *gold]


def test_one_that_is_forgotten_is_dropped_and_that_is_said(holding: Lake) -> None:
    keep = holding.settings.model_copy(update={"audit": AuditSettings(keep_days=1e-9)})
    (done,) = maintenance.run(holding.spark, keep, tables=[SUMMARY.name], jobs=("snapshot_expiration",))
    assert (done.before["branches"], done.counts["branches"], waiting(holding)) == (1, 0, [])
    bring_up(holding)
    assert lows(holding) == {"AAPL": 100, "MSFT": 400}


# What is checked


def test_where_it_is_only_told_the_commit_is_published(lake: Lake) -> None:
    arrive(lake, trade(trade_id="T3", price=100))
    with a_bug():
        done = bring_up(with_audit(lake, mode="warn"))
    (notes,) = [summary.notes for summary in done if summary.table == SUMMARY.name]
    assert notes == (f"published although it breaks {BROKEN} (1)",)
    assert lows(lake) == {"AAPL": 188, "MSFT": 400}


def test_where_nothing_is_checked_nothing_is_told(lake: Lake) -> None:
    arrive(lake, trade(trade_id="T3", price=100))
    with a_bug():
        done = bring_up(with_audit(lake, mode="warn", tables={SUMMARY.name: {"mode": "off"}}))
    assert [summary.notes for summary in done if summary.table == SUMMARY.name] == [()]


def test_checks_of_ones_own_hold_back_silver_before_anything_follows_it(lake: Lake) -> None:
    strict = with_audit(lake, tables={TRADES.name: {"checks": {"price_is_sane": "price < 1000"}}})
    arrive(lake, trade(trade_id="T3", price=5000), trade(trade_id="T4", price=None), trade(trade_id="T5", price=200))
    with pytest.raises(HeldError, match=r"it breaks price_is_sane \(1\)"):
        bring_up(strict)
    assert [row[0] for row in lake.rows(TRADES.name, "trade_id")] == ["T1", "T2"]
    waits = audit.of(lake.settings, TRADES)
    assert {name: waits.counts[name] for name in ("accepted", "rejected")} == {"accepted": 2, "rejected": 1}
    with pytest.raises(HeldError):
        rejected.replay(lake.spark, lake.settings, Selection())
    audit.publish(lake.spark, lake.settings, TRADES, "kim", "a real price")
    bring_up(strict)  # it is there, and is not checked again
    assert lows(lake) == {"AAPL": 187, "MSFT": 400}
    assert lake.spark.table(TRADES.identifier).count() == 4
    accounted = verify.findings(lake.spark, lake.settings, ingestion.rows_are_accounted_for)
    assert [finding for finding in accounted if finding.violations] == []


def test_a_dimension_is_held_back_too_and_facts_wait_for_what_they_would_infer(lake: Lake) -> None:
    symbols = table("dim.dim_symbol")
    strict = with_audit(lake, tables={symbols.name: {"checks": {"has_a_name": "company_name <> symbol"}}})
    arrive(lake, trade(trade_id="T3", symbol="NEW"))
    with pytest.raises(HeldError, match=r"dim.dim_symbol: .* it breaks has_a_name \(1\)"):
        bring_all_up(strict)
    assert waiting(lake) == [(symbols.name, {"has_a_name": 1})]
    assert lake.spark.table("lake.gold.fact_trades").count() == 2
    audit.discard(lake.spark, lake.settings, symbols, "kim", "inferred members are fine")
    bring_all_up(lake)
    assert lake.spark.table("lake.gold.fact_trades").count() == 3


def test_a_commit_changes_no_more_than_its_share(lake: Lake) -> None:
    few = with_audit(lake, tables={SUMMARY.name: {"most_changed": 0.4}})
    arrive(lake, trade(trade_id="T3", symbol="NEW"))
    bring_up(few)  # what is new is no change
    arrive(lake, trade(trade_id="T4", price=100))
    bring_up(few)  # one of three rows
    arrive(lake, trade(trade_id="T5", price=99), trade(trade_id="T6", symbol="MSFT"))
    with pytest.raises(HeldError, match=r"it breaks changes_are_few \(2\)"):
        bring_up(few)


def test_a_query_sees_the_table_as_it_would_be(lake: Lake) -> None:
    once = "SELECT symbol, count(*) AS times FROM {staged} GROUP BY symbol, summary_date HAVING count(*) > 1"
    strict = with_audit(lake, tables={SUMMARY.name: {"queries": {"key_is_there_once": once}}})
    bring_up(strict)
    arrive(lake, trade(trade_id="T3", symbol="NEW"))
    with built(lambda rows: rows.unionByName(rows)), pytest.raises(HeldError, match=r"breaks key_is_there_once \(1\)"):
        bring_up(strict)
    assert (lows(lake), waiting(lake)) == ({"AAPL": 187, "MSFT": 400}, [(SUMMARY.name, {"key_is_there_once": 1})])
    breaking = audit.breaking(lake.spark, strict.settings, SUMMARY, audit.of(lake.settings, SUMMARY))
    assert {name: [tuple(row) for row in rows.collect()] for name, rows in breaking.items()} == {
        "key_is_there_once": [("NEW", 2)]
    }
    audit.discard(lake.spark, lake.settings, SUMMARY, "kim", "doubled")
    bring_up(strict)
    assert lake.rows(SUMMARY.name, "symbol", order="symbol") == [("AAPL",), ("MSFT",), ("NEW",)]


def test_a_query_sees_sources_as_they_were_consumed(lake: Lake) -> None:
    adds_up = """SELECT symbol, stored.shares, traded.shares
        FROM (SELECT symbol, sum(total_volume) AS shares FROM {staged} GROUP BY symbol) AS stored
        FULL JOIN (SELECT symbol, sum(quantity) AS shares FROM {silver.trades} GROUP BY symbol) AS traded USING (symbol)
        WHERE NOT stored.shares <=> traded.shares -- as of the same moment"""
    strict = with_audit(lake, tables={SUMMARY.name: {"queries": {"adds_up": adds_up}}})

    def overtaken(rows: DataFrame) -> DataFrame:
        arrive(lake, trade(trade_id="T4"))
        silver_processor.run(lake.spark, lake.settings, ["trades"])
        return rows

    arrive(lake, trade(trade_id="T3"))
    with built(overtaken):
        bring_up(strict)
    volumes = lake.rows(SUMMARY.name, "symbol", "total_volume", order="symbol")
    assert [tuple(row) for row in volumes] == [("AAPL", 200), ("MSFT", 100)]

    off_by_one = F.col("total_volume") + 1
    with built(lambda rows: rows.withColumn("total_volume", off_by_one)):
        with pytest.raises(HeldError, match=r"it breaks volume_is_bought_and_sold \(1\), adds_up \(1\)"):
            bring_up(strict)
        told = with_audit(lake, mode="warn", tables={SUMMARY.name: {"queries": {"adds_up": adds_up}}})
        audit.discard(lake.spark, lake.settings, SUMMARY, "kim", "off by one")
        notes = [summary.notes for summary in bring_up(told) if summary.table == SUMMARY.name]
    says = "published although it breaks"
    assert notes == [(f"{says} volume_is_bought_and_sold (1)", f"{says} adds_up (1)")]


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"gold.sumary": {}}, "nothing is checked of gold.sumary"),
        ({"bronze.raw_trades": {}}, "nothing is checked of bronze.raw_trades"),
        (
            {SUMMARY.name: {"checks": {"a": "low > 1"}}},
            "check a of gold.daily_trading_summary is no condition on a row",
        ),
        ({SUMMARY.name: {"checks": {"a": "_computed_at > now()"}}}, "check a of .* is no condition on a row"),
        ({SUMMARY.name: {"checks": {"a": "symbol IN (SELECT 'AAPL')"}}}, "check a of .* is no condition on a row"),
        ({SUMMARY.name: {"checks": {"a": "low_price"}}}, "check a of .* is no condition on a row"),
        ({SUMMARY.name: {"checks": {"a": "count(*) > 1"}}}, "check a of .* is no condition on a row"),
        ({SUMMARY.name: {"checks": {"a": "low_price >"}}}, "check a of .* is no condition on a row"),
        ({SUMMARY.name: {"checks": {"has_trades": "true"}}}, "has a check has_trades of its own"),
        ({SUMMARY.name: {"checks": {"a": "true"}, "queries": {"a": "SELECT 1"}}}, "has a check a of its own"),
        (
            {SUMMARY.name: {"queries": {"a": "SELECT * FROM {dim.dim_time}"}}},
            "query a of .* {dim.dim_time} is no source",
        ),
        ({SUMMARY.name: {"queries": {"a": "DELETE FROM {staged}"}}}, "query a of .* has no answer"),
        ({SUMMARY.name: {"queries": {"a": "SELECT low FROM {staged}"}}}, "query a of .* has no answer"),
    ],
)
def test_wrong_checks_are_wrong_use(begun: Lake, tables: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        gold_aggregator.run(begun.spark, with_audit(begun, tables=tables).settings, rebuild=True)


# Ends in between


@pytest.mark.parametrize("moment", ["before it is held back", "once it is held back"])
def test_a_writer_that_dies_leaves_the_commit_held_back_or_nothing(lake: Lake, moment: str) -> None:
    hold = commit._held_back

    def dies(*given: Any) -> str:
        if moment == "once it is held back":
            hold(*given)
        raise CrashError

    arrive(lake, trade(trade_id="T3", price=100))
    with a_bug(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "_held_back", dies)
        patch.setattr(commit, "drop", lambda *given: None)  # nobody cleans up behind a process that is killed
        with pytest.raises((CrashError, HeldError)):
            bring_up(lake)
    assert lows(lake) == {"AAPL": 187, "MSFT": 400}
    is_held = moment == "once it is held back"
    assert waiting(lake) == ([(SUMMARY.name, {BROKEN: 1})] if is_held else [])
    if is_held:
        audit.discard(lake.spark, lake.settings, SUMMARY, "kim", "a wrong release")
    bring_up(lake)
    assert lows(lake) == {"AAPL": 100, "MSFT": 400}


@pytest.mark.parametrize("decision", ["publish", "discard"])
def test_a_decision_that_is_cut_short_is_taken_or_not(holding: Lake, decision: str) -> None:
    decide: Callable[..., Any] = getattr(audit, decision)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.Run, "end", lambda *given, **said: (_ for _ in ()).throw(CrashError()))
        with pytest.raises(CrashError):
            decide(holding.spark, holding.settings, SUMMARY, "kim", "because")
    entry = [each for each in journal.read(holding.settings).entries if each.job == "audit"][-1]
    assert entry.status == "STARTED"
    assert waiting(holding) == []
    assert lows(holding)["AAPL"] == (188 if decision == "publish" else 187)
    bring_up(holding)


def test_a_process_that_is_killed_while_it_holds_back_leaves_readers_what_they_had(lake: Lake, tmp_path: Path) -> None:
    strict = with_audit(lake, tables={TRADES.name: {"checks": {"price_is_sane": "price < 1000"}}})
    arrive(lake, trade(trade_id="T3", price=5000))
    settings = strict.settings.model_copy(update={"spark": SparkSettings(master="local[1]", driver_memory="1g")})
    child = Child(settings, tmp_path / "child")
    try:
        child.tell("silver", strike="kill", table=TRADES.name, stage="held back")
        assert child.answer() is None
        assert child.process.wait(30) == -signal.SIGKILL
    finally:
        child.kill()
    assert [row[0] for row in lake.rows(TRADES.name, "trade_id")] == ["T1", "T2"]
    assert waiting(lake) == [(TRADES.name, {"price_is_sane": 1})]
    audit.publish(lake.spark, lake.settings, TRADES, "kim", "a real price")
    bring_up(lake)
    assert lows(lake) == {"AAPL": 187, "MSFT": 400}


# At the terminal


def test_the_commands_list_show_and_decide(holding: Lake, monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> None:
    monkeypatch.setattr("lakehouse_spark.cli.audit.load", lambda: holding.settings)
    say = partial(terminal, holding, "audit")
    code, said = say("list", "--json")
    (listed,) = json.loads(said)
    assert (code, listed["table"], listed["broken"]) == (0, SUMMARY.name, {BROKEN: 1})
    assert datetime.fromisoformat(listed["held_since"]) <= datetime.now(UTC)
    code, said = say("list")
    assert (code, f"{BROKEN} 1" in said) == (0, True)

    code, said = say("show", SUMMARY.name, "--json")
    shown = json.loads(said)
    assert (code, [row["symbol"] for row in shown["rows"][BROKEN]]) == (0, ["AAPL"])
    assert shown["checks"][BROKEN].startswith("low_price <= least(open_price")
    code, said = say("show", SUMMARY.short_name)
    assert (code, "AAPL" in said) == (0, True)

    code, said = say("discard", SUMMARY.name)
    assert (code, "say why: --because" in said) == (2, True)
    code, said = say("publish", SUMMARY.name, "--because", "agreed", "--by", "kim")
    assert (code, said.startswith("published audit_")) == (0, True)
    assert say("list") == (0, "no commit is held back\n")
    code, said = say("show", SUMMARY.name)
    assert (code, "no commit to gold.daily_trading_summary is held back" in said) == (2, True)
