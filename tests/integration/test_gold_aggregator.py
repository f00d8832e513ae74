"""Facts and gold from random histories in random batches: equal to a rebuild, and to the plain-Python reference."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark import verify
from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.gold import open_lots
from lakehouse_spark.gold.scope import Scope
from lakehouse_spark.jobs import dimension_loader, fact_loader, gold_aggregator
from lakehouse_spark.lake import commit, dimension_members, frames, snapshots
from lakehouse_spark.lake.cursor import Cursor, UpstreamsCursor, to_text
from lakehouse_spark.verify import model
from tests.support import dim_oracle
from tests.support.histories import STATUSES, History, histories
from tests.support.lake import compiled, older_rules, refusing, table
from tests.support.market import (
    FRIDAY,
    MODEL_CHECKS,
    MONDAY,
    TABLES,
    TUESDAY,
    Market,
    broken,
    change,
    compare,
    market,
    trade,
)
from tests.support.scd_changes import drawn


def size(history: History) -> int:
    rows = len(history.trades) + len(history.books)
    return rows + len(history.symbols) + len(history.traders) + len(history.accounts)


def unblank(events: Sequence[dim_oracle.ChangeEvent]) -> list[dim_oracle.ChangeEvent]:
    """Blank texts made NULL, as feeds have them."""
    return [replace(e, attributes={n: v if v != "" else None for n, v in e.attributes.items()}) for e in events]


def cut(items: Sequence[Any], dice: Random, batches: int) -> list[list[Any]]:
    made: list[list[Any]] = [[] for _ in range(batches)]
    for item in items:
        made[dice.randrange(batches)].append(item)
    return made


ROUNDS = range(int(os.environ.get("SOAK_ROUNDS", "1")))
BATCHES = 3 if len(ROUNDS) > 1 else 2


@pytest.mark.parametrize("number", ROUNDS)
def test_any_history_in_any_batches_ends_as_the_reference_and_a_rebuild_say(
    spark: SparkSession, tmp_path: Path, number: int
) -> None:
    dice = Random(number)
    history = sorted(drawn(histories(), 60, number), key=size)[-1 - number % 5]
    found = market(spark, tmp_path / "home")
    stated = []
    for row in history.trades:
        before = STATUSES[: STATUSES.index(row["status"])]
        first = dice.sample(before, dice.randrange(len(before) + 1))
        stated += [{**row, "status": status} for status in (*first, row["status"])]
    dice.shuffle(stated)
    references = [unblank(log) for log in (history.symbols, history.traders, history.accounts)]
    arriving: list[Sequence[Any]] = [stated, history.books, *references]
    parts = [cut(items, dice, BATCHES) for items in arriving]
    for trades, books, symbols, traders, accounts in zip(*parts, strict=True):
        found.refer("dim_symbol", symbols)
        found.refer("dim_trader", traders)
        found.refer("dim_account", accounts)
        found.trade(trades)
        found.book(books)
        found.load()
    compare(found)
    rebuilt = gold_aggregator.run(found.spark, found.lake.settings, rebuild=True)
    assert [summary.counts for summary in rebuilt] == [{"inserted": 0, "updated": 0, "deleted": 0}] * 6
    assert all(summary.snapshot_id is None for summary in gold_aggregator.run(found.spark, found.lake.settings))
    assert all(summary.snapshot_id is None for summary in fact_loader.run(found.spark, found.lake.settings))


# One market by hand: a short sale closed over two days, a cancelled opening, a position carried over a weekend


@pytest.fixture(scope="module")
def worked(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Market:
    found = market(spark, tmp_path_factory.mktemp("worked"))
    found.refer("dim_account", [change("AC1", date(2020, 1, 1), trader_id="TR1", tier="GOLD", status="ACTIVE")])
    found.refer("dim_symbol", [change("AAA", date(2020, 1, 1), company_name="A", listing_exchange="LSE")])
    found.trade(
        [
            trade(1, "2025-06-06T14:00", "SELL", 100, "10"),
            trade(2, "2025-06-09T14:00", "BUY", 60, "9"),
            trade(3, "2025-06-10T14:00", "BUY", 40, "11"),
            trade(4, "2025-06-06T15:00", "BUY", 50, "10", status="CANCELLED"),
            trade(
                5, "2025-06-06T15:00", "BUY", 10, "20", trader_id="TR2", symbol="BBB", account_id="X", exchange="LSE"
            ),
        ]
    )
    found.load()
    return found


def positions(found: Market) -> list[tuple[Any, ...]]:
    names = ("position_date", "trader_id", "account_id", "symbol", "quantity", "avg_cost_basis", "unrealized_pnl")
    return sorted(tuple(row[name] for name in names) for row in found.rows("gold.portfolio_positions"))


def performance(found: Market) -> list[tuple[Any, ...]]:
    names = ("performance_date", "realized_pnl", "win_rate", "avg_hold_time_sec", "max_drawdown_pct", "sharpe_ratio")
    rows = (row for row in found.rows("gold.trader_performance") if row["trader_id"] == "TR1")
    return sorted(tuple(row[name] for name in names) for row in rows)


def test_lots_close_first_in_first_out_and_positions_are_carried(worked: Market) -> None:
    assert positions(worked) == [
        (FRIDAY, "TR1", "AC1", "AAA", -100, Decimal("10.000000"), Decimal("0.000000")),
        (FRIDAY, "TR2", "X", "BBB", 10, Decimal("20.000000"), Decimal("0.000000")),
        (MONDAY, "TR1", "AC1", "AAA", -40, Decimal("10.000000"), Decimal("40.000000")),
        (MONDAY, "TR2", "X", "BBB", 10, Decimal("20.000000"), Decimal("0.000000")),
        (TUESDAY, "TR2", "X", "BBB", 10, Decimal("20.000000"), Decimal("0.000000")),
    ]
    day = 24 * 60 * 60
    assert performance(worked) == [
        (FRIDAY, Decimal("0.000000"), None, None, None, None),
        (MONDAY, Decimal("60.000000"), Decimal("1.0000"), 3 * day, Decimal("0.0000"), None),
        (TUESDAY, Decimal("-40.000000"), Decimal("0.0000"), 4 * day, Decimal("9.0909"), None),
    ]
    changes = {
        (r["symbol"], r["summary_date"]): r["price_change_pct"] for r in worked.rows("gold.daily_trading_summary")
    }
    assert changes == {
        ("AAA", FRIDAY): Decimal("0.0000"), ("BBB", FRIDAY): Decimal("0.0000"),
        ("AAA", MONDAY): Decimal("-10.0000"), ("AAA", TUESDAY): Decimal("22.2222"),
    }  # fmt: skip


BREAKS = (
    ("dim.dim_symbol", "UPDATE lake.dim.dim_symbol SET sector = 'other' WHERE symbol = 'AAA'"),
    ("dim.dim_trader", "UPDATE lake.dim.dim_trader SET expiry_date = DATE '1899-12-31'"),
    ("dim.dim_account", "UPDATE lake.dim.dim_account SET previous_tier = 'BASIC'"),
    ("dim.dim_exchange", "INSERT INTO lake.dim.dim_exchange (exchange_key, exchange_code) VALUES (99, 'NONE')"),
    ("gold.fact_trades", "DELETE FROM lake.gold.fact_trades WHERE trade_id = 'T1'"),
    ("gold.fact_trades", "UPDATE lake.gold.fact_trades SET exchange_key = NULL WHERE trade_id = 'T2'"),
    ("gold.fact_trades", "UPDATE lake.gold.fact_trades SET settlement_date = DATE '2025-06-13' WHERE trade_id = 'T3'"),
    ("gold.market_overview", "UPDATE lake.gold.market_overview SET total_value = total_value + 0.01"),
    ("gold._open_lots", "DELETE FROM lake.gold._open_lots WHERE symbol = 'BBB' AND lot_date = DATE '2025-06-10'"),
    ("gold.portfolio_positions", "UPDATE lake.gold.portfolio_positions SET quantity = 9 WHERE quantity = 10"),
    ("dim.dim_time", "DELETE FROM lake.dim.dim_time WHERE date = DATE '2025-03-01'"),
    ("dim.dim_time", "DELETE FROM lake.dim.dim_time WHERE time_key = 202512312359"),
)


def test_verify_finds_what_is_broken_in_dimensions_facts_and_gold(worked: Market) -> None:
    before = {name: snapshots.load(worked.spark, table(name)).currentSnapshot().snapshotId() for name, _ in BREAKS}
    for _, statement in BREAKS:
        worked.spark.sql(statement)
    assert broken(worked, *MODEL_CHECKS, model.days_have_1440_minutes) == [
        ("1,440 minutes a day", "dim.dim_time", 2),
        ("a previous value has a change date", "dim.dim_account", 1),
        ("exchange_key resolves", "gold.fact_trades", 1),
        ("one current version, disjoint ranges", "dim.dim_trader", 2),
        ("one fact per silver row", "gold.fact_trades", 1),
        ("open shares = bought - sold", "gold._open_lots", 1),
        ("open shares = bought - sold", "gold.portfolio_positions", 6),  # three days, as held and as they should be
        ("rows follow from the change log", "dim.dim_account", 2),
        ("rows follow from the change log", "dim.dim_exchange", 1),
        ("rows follow from the change log", "dim.dim_symbol", 2),
        ("settlement date by the exchange's calendar", "gold.fact_trades", 1),
        ("total value as in silver.trades", "gold.fact_trades", 1),
        ("total value as in silver.trades", "gold.market_overview", 1),
        ("trader_key resolves", "gold.fact_trades", 4),
    ]
    for name, snapshot in before.items():
        worked.spark.sql(f"CALL lake.system.rollback_to_snapshot('{name}', {snapshot})")
    assert broken(worked, *MODEL_CHECKS, model.days_have_1440_minutes) == []


def test_pyiceberg_reads_every_table_as_spark_does(worked: Market) -> None:
    catalog = worked.lake.pyiceberg()
    for name in TABLES:
        rows = catalog.load_table(name).scan().to_arrow()
        assert rows.num_rows == worked.spark.table(f"lake.{name}").count(), name
        rows.validate(full=True)  # strings that are not UTF-8 would come to light here


def test_a_late_trade_changes_exactly_the_rows_that_follow_from_it(
    worked: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes: list[tuple[date | None, list[tuple[Any, ...]]]] = []
    go_on = open_lots.opening

    def opening(held: DataFrame, scope: Scope, before: date | None) -> DataFrame:
        scopes.append((scope.first, [] if scope.traders is None else sorted(map(tuple, scope.traders.collect()))))
        return go_on(held, scope, before)

    monkeypatch.setattr(open_lots, "opening", opening)
    worked.trade([trade(6, "2025-06-06T16:00", "BUY", 100, "8")])
    (facts, _) = fact_loader.run(worked.spark, worked.lake.settings)
    assert facts.counts == {"inserted": 1, "updated": 0, "deleted": 0}
    summaries = gold_aggregator.run(worked.spark, worked.lake.settings)
    assert {summary.table: tuple(summary.counts.values()) for summary in summaries} == {
        "gold.daily_trading_summary": (0, 2, 0),  # Friday, and Monday by its base
        "gold.market_overview": (0, 2, 0),
        "gold.trade_analytics": (0, 1, 0),
        "gold._open_lots": (3, 0, 2),  # the short is closed on Friday, Monday's and Tuesday's trades open longs
        "gold.trader_performance": (0, 3, 0),
        "gold.portfolio_positions": (1, 1, 1),
    }
    assert (TUESDAY, "TR1", "AC1", "AAA", 100, Decimal("9.800000"), Decimal("120.000000")) in positions(worked)
    assert scopes == [(None, [("TR1", FRIDAY, None)])]  # and nobody else, on whatever day


def test_reference_data_that_comes_late_replaces_the_inferred_member_from_its_date_on(worked: Market) -> None:
    keys = {row["trade_id"]: row["symbol_key"] for row in worked.rows("gold.fact_trades")}
    worked.refer("dim_symbol", [change("BBB", FRIDAY, company_name="B"), change("AAA", MONDAY, company_name="A2")])
    worked.load()
    members = {row["symbol_key"]: row for row in worked.rows("dim.dim_symbol")}
    rekeyed = {row["trade_id"]: row["symbol_key"] for row in worked.rows("gold.fact_trades")}
    moved = {trade_id for trade_id, key in rekeyed.items() if key != keys[trade_id]}
    assert moved == {"T2", "T3", "T5"}
    assert members[rekeyed["T5"]]["is_inferred"] is False
    assert (members[keys["T5"]]["is_inferred"], members[keys["T5"]]["expiry_date"]) == (True, date(2025, 6, 5))
    names = {(r["symbol"], r["summary_date"]): r["company_name"] for r in worked.rows("gold.daily_trading_summary")}
    assert names == {("AAA", FRIDAY): "A", ("BBB", FRIDAY): "B", ("AAA", MONDAY): "A2", ("AAA", TUESDAY): "A2"}
    before = snapshots.state(worked.spark, table("dim.dim_symbol")).snapshot_id
    worked.spark.sql("UPDATE lake.dim.dim_symbol SET expiry_date = DATE '2025-05-01' WHERE is_inferred")
    gap = ("one current version, disjoint ranges", "dim.dim_symbol", 1)
    assert broken(worked, model.versions_are_disjoint) == [gap]
    worked.spark.sql(f"CALL lake.system.rollback_to_snapshot('dim.dim_symbol', {before})")


def test_a_sum_beyond_its_column_is_no_violation_and_a_first_account_moves_nobody_without_trades(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = market(spark, tmp_path)
    huge = {"price": Decimal(900_000), "quantity": 1_000_000, "total_value": Decimal(900_000_000_000)}
    found.trade(
        [{**trade(number, "2025-06-06T14:00", "BUY", 1, "1", trader_id=f"TR{number}"), **huge} for number in (1, 2)]
    )
    found.trade([trade(3, "2025-06-09T14:00", "BUY", 1, "10")])
    found.load()
    totals = {row["summary_date"]: row["total_value"] for row in found.rows("gold.daily_trading_summary")}
    assert totals == {FRIDAY: None, MONDAY: Decimal("10.000000")}
    assert broken(found) == []

    moved: list[str] = []
    find = open_lots.moved_traders

    def seen(*given: Any) -> DataFrame:
        traders = find(*given)
        moved.extend(row["trader_id"] for row in traders.collect())
        return traders

    monkeypatch.setattr(open_lots, "moved_traders", seen)
    found.refer("dim_account", [change(f"A{trader}", FRIDAY, trader_id=trader) for trader in ("TR1", "TR9")])
    found.load("gold._open_lots")
    assert moved == ["TR1"]
    assert {row["account_id"] for row in found.rows("gold._open_lots")} == {"ATR1", "UNKNOWN"}


def test_a_short_session_a_clock_change_two_exchanges_and_two_accounts(worked: Market) -> None:
    mine = {"symbol": "CCC", "trader_id": "TR3"}
    p, q = {**mine, "account_id": "P"}, {**mine, "account_id": "Q"}
    worked.trade(
        [
            trade(10, "2025-07-03T16:59", "BUY", 100, "10", **p),  # New York closes at one, the eve of a holiday
            trade(11, "2025-07-03T17:00", "SELL", 40, "12", **p),
            trade(12, "2025-07-03T15:29", "BUY", 10, "11", **q, exchange="LSE"),
            trade(13, "2025-10-31T13:45", "BUY", 5, "11", **q),
            trade(14, "2025-11-02T05:30", "BUY", 1, "11", **q),  # half past one in New York, both of them
            trade(15, "2025-11-02T06:30", "BUY", 1, "11", **q),
            trade(16, "2025-11-03T13:45", "SELL", 5, "13", **q),
        ]
    )
    worked.load()
    eve, friday, sunday, monday = date(2025, 7, 3), date(2025, 10, 31), date(2025, 11, 2), date(2025, 11, 3)

    def values(name: str, *columns: str) -> list[tuple[Any, ...]]:
        rows = (row for row in worked.rows(name) if mine.items() & row.items())
        return sorted(tuple(row[column] for column in columns) for row in rows)

    names: tuple[str, ...] = ("analytics_date", "exchange", "market_session", "trade_count", "volume")
    assert values("gold.trade_analytics", *names) == [
        (eve, "LSE", "REGULAR", 1, 10),
        (eve, "NYSE", "AFTER_HOURS", 1, 40),
        (eve, "NYSE", "REGULAR", 1, 100),
        (friday, "NYSE", "REGULAR", 1, 5),
        (sunday, "NYSE", "CLOSED", 2, 2),
        (monday, "NYSE", "PRE_MARKET", 1, 5),
    ]
    facts = {row["trade_id"]: row["time_key"] for row in worked.rows("gold.fact_trades")}
    minutes = worked.spark.table("lake.dim.dim_time").where(F.col("time_key").isin(*facts.values()))
    sessions = {row["time_key"]: row["market_session"] for row in minutes.collect()}
    assert [(facts[f"T{number}"], sessions[facts[f"T{number}"]]) for number in (10, 11, 13, 14, 15, 16)] == [
        (202507031659, "REGULAR"), (202507031700, "AFTER_HOURS"), (202510311345, "REGULAR"),
        (202511020530, "CLOSED"), (202511020630, "CLOSED"), (202511031345, "PRE_MARKET"),
    ]  # fmt: skip
    names = ("summary_date", "trade_count", "total_volume", "open_price", "close_price")
    assert values("gold.daily_trading_summary", *names)[0] == (eve, 3, 150, Decimal("11.000000"), Decimal("12.000000"))
    names = ("position_date", "account_id", "quantity", "avg_cost_basis", "unrealized_pnl")
    ten, eleven = Decimal("10.000000"), Decimal("11.000000")
    assert values("gold.portfolio_positions", *names) == [
        (eve, "P", 60, ten, Decimal("120.000000")),
        (eve, "Q", 10, eleven, Decimal("10.000000")),
        (friday, "P", 60, ten, Decimal("60.000000")),
        (friday, "Q", 15, eleven, Decimal("0.000000")),
        (sunday, "P", 60, ten, Decimal("60.000000")),
        (sunday, "Q", 17, eleven, Decimal("0.000000")),
        (monday, "P", 60, ten, Decimal("180.000000")),
        (monday, "Q", 12, eleven, Decimal("24.000000")),
    ]
    names = ("performance_date", "total_trades", "realized_pnl", "avg_hold_time_sec")
    assert values("gold.trader_performance", *names) == [
        (eve, 3, Decimal("80.000000"), 60),
        (friday, 1, Decimal("0.000000"), None),
        (sunday, 2, Decimal("0.000000"), None),
        (monday, 1, Decimal("10.000000"), 123 * 24 * 60 * 60 - 104 * 60),
    ]


EXCHANGES = """exchange_code,exchange_name,timezone,country,currency,market_open_time,market_close_time,mic
CRYPTO,Coin venue,UTC,KY,USD,00:00,24:00,
GLOBEX,Futures night,America/Chicago,US,USD,17:00,16:00,
AMPM,Am pm,America/New_York,US,USD,9:30 AM,4:00 PM,
BADTZ,Bad zone,EST/EDT,US,USD,09:30,16:00,
XNAS,MIC as code,America/New_York,US,USD,,,
NSE,India,Asia/Kolkata,IN,INR,09:15,15:30,XNSE
ALLDAY,247,UTC,,USD,,,24/7
SECS,With seconds,America/New_York,US,USD,09:30:00,16:00:00,
CME,CME by mic,America/Chicago,US,USD,17:00,16:00,CMES
LOWMIC,lower,America/New_York,US,USD,,,xnys
"""


def test_exchanges_trade_by_their_calendars_by_their_hours_or_always(worked: Market, tmp_path: Path) -> None:
    (tmp_path / "ex.csv").write_text(EXCHANGES)
    (done,) = dimension_loader.run(worked.spark, ["dim_exchange"], [str(tmp_path / "ex.csv")])
    assert (done.counts["records"], done.counts["rejected"], done.counts["inserted"]) == (10, 2, 8)
    letters = worked.spark.table("lake.silver._rejected_records").where(f"contains(_kafka_topic, '{tmp_path}')")
    assert [row["reasons"] for row in letters.orderBy("_kafka_offset").collect()] == [
        ["invalid_market_close_time", "invalid_market_open_time"], ["invalid_timezone"],
    ]  # fmt: skip
    held = {row["exchange_code"]: row for row in worked.rows("dim.dim_exchange")}
    assert held["LOWMIC"]["mic"] == "XNYS"
    saturday, sunday, night, noon = "2025-01-04T20:00", "2025-01-05T23:30", "2025-01-10T22:30", "2025-01-02T17:00"
    expected = {
        ("CRYPTO", saturday): "REGULAR", ("XNAS", saturday): "REGULAR", ("ALLDAY", saturday): "REGULAR",
        ("GLOBEX", sunday): "REGULAR", ("GLOBEX", night): "AFTER_HOURS", ("CME", sunday): "REGULAR",
        ("SECS", noon): "REGULAR", ("SECS", saturday): "CLOSED", ("LOWMIC", noon): "REGULAR",
        ("LOWMIC", saturday): "CLOSED", ("NSE", "2025-01-02T05:00"): "REGULAR",
        ("NSE", "2025-01-03T17:00"): "AFTER_HOURS",
    }  # fmt: skip
    worked.trade(
        [
            trade(100 + n, when, "BUY", 1, "10", symbol="EXC", trader_id="TR8", exchange=code)
            for n, (code, when) in enumerate(expected)
        ]
    )
    worked.load("gold.trade_analytics")
    found = {
        (row["exchange"], row["analytics_date"]): row["market_session"]
        for row in worked.rows("gold.trade_analytics")
        if row["symbol"] == "EXC"
    }
    assert found == {(code, date.fromisoformat(when[:10])): session for (code, when), session in expected.items()}


# What the plan asks of facts and dimensions as a whole, of all that the tests before this have loaded; that nothing
# of it is broken is asked once, in the end


@pytest.mark.parametrize(
    ("key", "dimension"),
    [
        ("symbol_key", "dim.dim_symbol"),
        ("trader_key", "dim.dim_trader"),
        ("time_key", "dim.dim_time"),
        ("exchange_key", "dim.dim_exchange"),
    ],
)
def test_every_key_of_a_fact_is_there_and_in_its_dimension(worked: Market, key: str, dimension: str) -> None:
    keys = {row[key] for row in worked.rows("gold.fact_trades")}
    assert keys
    assert None not in keys
    members = worked.spark.table(f"lake.{dimension}").where(F.col(key).isin(*keys))
    assert sorted(row[key] for row in members.select(key).collect()) == sorted(keys)


@pytest.mark.parametrize(("dimension", "key"), [("dim.dim_symbol", "symbol"), ("dim.dim_trader", "trader_id")])
def test_a_member_has_one_current_version_and_no_day_without_one(worked: Market, dimension: str, key: str) -> None:
    members: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(worked.rows(dimension), key=lambda row: row["effective_date"]):
        members.setdefault(row[key], []).append(row)
    assert members
    for versions in members.values():
        assert [version["is_current"] for version in versions] == [False] * (len(versions) - 1) + [True]
        assert all(
            one["expiry_date"] + timedelta(days=1) == next_["effective_date"] for one, next_ in pairwise(versions)
        )


def test_every_day_of_dim_time_has_1440_minutes(worked: Market) -> None:
    with compiled(worked.spark):
        days = worked.spark.table("lake.dim.dim_time").groupBy("date").count().collect()
    assert len(days) == 365
    assert {row["count"] for row in days} == {1440}


def test_a_previous_value_of_an_account_has_a_change_date(worked: Market) -> None:
    worked.refer("dim_account", [change("AC1", date(2025, 6, 1), tier="PLATINUM", status="ACTIVE")])
    (row,) = worked.rows("dim.dim_account")
    assert (row["previous_tier"], row["tier_change_date"]) == ("GOLD", date(2025, 6, 1))
    assert (row["previous_status"], row["status_change_date"]) == (None, None)


def test_what_waits_is_not_broken_and_news_that_change_no_row_are_consumed(worked: Market) -> None:
    def names() -> set[str]:
        return {row["company_name"] for row in worked.rows("gold.daily_trading_summary") if row["symbol"] == "BBB"}

    with refusing("company_name", "Refused"):
        early = change("AAA", date(2025, 6, 4), company_name="A1")  # of all of AAA's facts
        worked.refer("dim_symbol", [early, change("BBB", FRIDAY, company_name="Refused")])
        worked.refer("dim_account", [change("AC0", FRIDAY, trader_id="TR1", account_open_date="1999-01-01")])
        assert broken(worked, model.foreign_keys_resolve, model.lots_add_up) == []
        worked.load()
    assert names() == {"B"}

    # a batch of duplicates moves the stamp of silver; a replayed reference record moves no stamp at all
    state = snapshots.state(worked.spark, table("silver.trades"))
    moved = commit.advance(worked.spark, table("silver.trades"), state, Cursor(stamp=datetime.now(UTC)))
    members = frames.of_rows(worked.spark, [("BBB",)], "symbol string")
    dimension_members.rederive(worked.spark, DIMENSIONS["dim_symbol"], members)
    worked.load()
    assert names() == {"Refused"}
    derived = {name for name in TABLES if name.startswith("gold.")} - {"gold.fact_orderbook"}
    upto = {name: worked.lake.cursor(name)["upto"]["silver.trades"] for name in TABLES if name in derived}
    assert upto == dict.fromkeys(upto, to_text(moved.stamp))

    before = {name: worked.lake.snapshots(name) for name in TABLES}
    worked.load()
    assert {name: worked.lake.snapshots(name) for name in TABLES} == before


def test_a_source_that_older_cursors_do_not_name_is_consumed_up_to_their_stamps(worked: Market) -> None:
    """As after an upgrade, by which tables declare one source more than they followed before."""
    added = {
        "gold.fact_trades": "dim.dim_trader", "gold.daily_trading_summary": "dim.dim_symbol",
        "gold.trader_performance": "silver.trades",
    }  # fmt: skip
    for name, source in added.items():
        state = snapshots.state(worked.spark, table(name))
        assert isinstance(state.cursor, UpstreamsCursor)
        upto = {named: consumed for named, consumed in state.cursor.upto.items() if named != source}
        older = replace(state.cursor, upto=upto, stamp=state.next_stamp(datetime.now(UTC)))
        commit.advance(worked.spark, table(name), state, older)
    before = {name: worked.lake.snapshots(name) for name in TABLES}
    worked.load()
    before["gold.market_overview"] += 1  # it follows the summary, whose stamp the commit above has moved
    assert {name: worked.lake.snapshots(name) for name in TABLES} == before

    worked.refer("dim_symbol", [change("BBB", FRIDAY, company_name="Renamed")])
    worked.trade([trade(150, "2025-06-07T14:00", "BUY", 1, "10", trader_id="TR2", symbol="BBB")])
    worked.load()
    said = {row["company_name"] for row in worked.rows("gold.daily_trading_summary") if row["symbol"] == "BBB"}
    assert said == {"Renamed"}
    traded = {row["performance_date"] for row in worked.rows("gold.trader_performance") if row["trader_id"] == "TR2"}
    assert traded == {FRIDAY, date(2025, 6, 7)}
    for name, source in added.items():
        assert source in worked.lake.cursor(name)["upto"]


def test_newer_rules_reach_what_older_ones_made(worked: Market, tmp_path: Path) -> None:
    """A version goes and its fact has an inferred member; a key that facts refer to stays, and verify names it."""
    dimension_members.apply(worked.spark, DIMENSIONS["dim_symbol"], rebuild=True)  # letters that others left open
    with older_rules():
        worked.refer("dim_symbol", [change("OLD", FRIDAY, company_name="Old Inc", ipo_date="soon")])
        broken_hours = {"timezone": "EST/EDT", "market_open_time": "9:30 AM", "exchange_name": "Old Exchange"}
        worked.refer("dim_exchange", [change("OLDX", FRIDAY, **broken_hours)])
        worked.trade([trade(200, "2025-06-07T14:00", "BUY", 1, "10", symbol="OLD", exchange="OLDX")])
        worked.load()
    held = {row["exchange_code"]: row for row in worked.rows("dim.dim_exchange")}
    assert (held["OLDX"]["timezone"], held["OLDX"]["market_open_time"]) == ("EST/EDT", "9:30 AM")
    assert broken(worked) == []  # what older rules made waits for its loader
    done = {
        summary.table: summary
        for summary in (
            *dimension_loader.run(worked.spark),
            *fact_loader.run(worked.spark, worked.lake.settings),
            *gold_aggregator.run(worked.spark, worked.lake.settings),
        )
    }
    assert done["dim.dim_symbol"].notes == (
        "rules 1 → 2: derived whole: 1 rows changed, 1 records refused now, 0 accepted now",
    )
    assert done["dim.dim_exchange"].notes == (
        "rules 1 → 2: derived whole: 1 rows changed, 1 records refused now, 0 accepted now",
    )
    for name in ("gold.fact_trades", "gold.trade_analytics", "gold.portfolio_positions"):
        assert done[name].notes == ("rules 1 → 2: derived whole",)
    kept = {row["exchange_code"]: row for row in worked.rows("dim.dim_exchange")}["OLDX"]
    assert kept == {**held["OLDX"], "timezone": None, "market_open_time": None}
    (member,) = (row for row in worked.rows("dim.dim_symbol") if row["symbol"] == "OLD")
    assert (member["company_name"], member["is_inferred"]) == ("OLD", True)
    (fact,) = (row for row in worked.rows("gold.fact_trades") if row["trade_id"] == "T200")
    assert (fact["symbol_key"], fact["exchange_key"]) == (member["symbol_key"], kept["exchange_key"])
    (group,) = (row for row in worked.rows("gold.trade_analytics") if row["symbol"] == "OLD")
    assert group["market_session"] == "REGULAR"
    letters = worked.spark.table("lake.silver._rejected_records")
    reasons = [row["reasons"] for row in letters.where("status = 'OPEN'").collect()]
    assert ["invalid_ipo_date"] in reasons
    assert ["invalid_market_open_time", "invalid_timezone"] in reasons
    findings = {
        (found.check, found.table): found
        for found in verify.findings(worked.spark, worked.lake.settings, model.dimensions_follow_from_their_log)
    }
    named = findings["rows follow from the change log", "dim.dim_exchange"]
    assert named.detail == "0 rows differ; rows kept without what breaks a rule, all records refused: OLDX"
    assert [found.violations for found in findings.values()] == [0] * len(findings)

    before = {name: worked.lake.snapshots(name) for name in TABLES}
    dimension_loader.run(worked.spark)
    worked.load()
    assert {name: worked.lake.snapshots(name) for name in TABLES} == before
    dimension_members.apply(worked.spark, DIMENSIONS["dim_exchange"], rebuild=True)
    assert {name: worked.lake.snapshots(name) for name in TABLES} == before
    worked.refer("dim_exchange", [change("OLDX", FRIDAY, timezone="Asia/Tokyo")])
    mended = {row["exchange_code"]: row for row in worked.rows("dim.dim_exchange")}["OLDX"]
    assert (mended["timezone"], mended["exchange_key"]) == ("Asia/Tokyo", kept["exchange_key"])
    assert broken(worked) == []
