"""fact_loader on real tables: every fact has its keys, whatever comes late, goes meanwhile or is refused."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.dim import dim_time
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.jobs import fact_loader, rejected
from lakehouse_spark.lake import dimension_members, snapshots
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.lake.reconcile import settle
from lakehouse_spark.settings import AuditSettings
from lakehouse_spark.verify import model
from tests.support.lake import refusing, table
from tests.support.market import FRIDAY, MONDAY, TUESDAY, Market, broken, change, market, trade

FACT_CHECKS = (
    model.facts_follow_silver, model.foreign_keys_resolve, model.trades_settle_as_their_exchange_says,
)  # fmt: skip


def load_facts(found: Market) -> None:
    """Without gold."""
    fact_loader.run(found.spark, found.lake.settings)


def test_facts_look_at_the_versions_of_their_days_however_many_there_are(spark: SparkSession, tmp_path: Path) -> None:
    found = market(spark, tmp_path)
    changes = [change("AAA", FRIDAY + timedelta(days=day), company_name=str(day)) for day in range(-30, 30)]
    found.refer("dim_symbol", changes)

    def begun(*days: tuple[date, date]) -> list[date]:
        rows = fact_loader._versions(found.spark, DIMENSIONS["dim_symbol"], days).collect()
        return sorted(row["effective_date"] for row in rows)

    assert begun((FRIDAY, FRIDAY)) == [FRIDAY]
    assert begun((date(2020, 1, 1), date(2020, 1, 2))) == []
    assert begun((FRIDAY, FRIDAY), (MONDAY, TUESDAY)) == [FRIDAY + timedelta(days=day) for day in range(5)]
    assert begun((date(2030, 1, 1), date(2030, 1, 1))) == [FRIDAY + timedelta(days=29)]
    assert begun() == []


def test_dim_time_is_extended_by_the_years_that_hold_a_fact_and_no_others(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, minutes_of = market(spark, tmp_path / "home"), dim_time.minutes_of
    monkeypatch.setattr(dim_time, "minutes_of", lambda year: (*minutes_of(year)[:2], 24 * 60 * 60))  # one a day
    days = [date(2008, 3, 3), *(date(2024, 1, 1) + timedelta(days=number) for number in range(0, 140, 2))]
    found.trade([trade(number, f"{day}T15:00", "BUY", 1, "10") for number, day in enumerate(days)])
    fact_loader.run(found.spark, found.lake.settings)
    added = found.spark.table("lake.dim.dim_time").where("date < DATE '2025-01-01' OR date > DATE '2025-12-31'")
    years = added.groupBy("year").count().orderBy("year").collect()
    assert [tuple(row) for row in years] == [(2008, 366), (2024, 366)]


def test_a_rebuild_of_facts_applies_another_commission(spark: SparkSession, tmp_path: Path) -> None:
    found = market(spark, tmp_path)
    found.trade([trade(1, "2025-06-06T14:00", "BUY", 100, "10"), trade(2, "2025-06-06T15:00", "BUY", 100, "10")])
    found.trade([trade(3, "2025-06-06T16:00", "BUY", 100, "10", commission=Decimal("7.000000"))])
    load_facts(found)
    settings = found.lake.settings
    dearer = settings.model_copy(update={"gold": settings.gold.model_copy(update={"commission_bps": Decimal("2.5")})})
    for updated in (2, 0):
        (done, _) = fact_loader.run(found.spark, dearer, rebuild=True)
        assert done.counts == {"inserted": 0, "updated": updated, "deleted": 0}
    commissions = {row["trade_id"]: row["commission"] for row in found.rows("gold.fact_trades")}
    assert commissions == {"T1": Decimal("0.250000"), "T2": Decimal("0.250000"), "T3": Decimal("7.000000")}


def test_facts_follow_a_rebuild_of_silver_that_leaves_their_days(spark: SparkSession, tmp_path: Path) -> None:
    found, silver = market(spark, tmp_path), table("silver.trades")
    found.trade([trade(1, "2025-06-06T14:00", "BUY", 100, "10"), trade(2, "2025-06-06T15:00", "BUY", 100, "10")])
    load_facts(found)

    def rebuild(rows: DataFrame) -> dict[str, int]:
        base = snapshots.state(found.spark, silver)
        stamp = base.next_stamp(datetime.now(UTC))
        settle(
            found.spark, silver, rows, found.spark.table(silver.identifier), base, Cursor(stamp=stamp, rebuilt=stamp)
        )
        (done, _) = fact_loader.run(found.spark, found.lake.settings)
        return done.counts

    later = found.spark.table(silver.identifier).withColumns(
        {"trade_timestamp": F.expr("trade_timestamp + INTERVAL 3 DAYS"), "trade_date": F.expr("trade_date + 3")}
    )
    assert rebuild(later) == {"inserted": 0, "updated": 2, "deleted": 0}
    days = {row["trade_id"]: row["event_timestamp"].date() for row in found.rows("gold.fact_trades")}
    assert days == {"T1": MONDAY, "T2": MONDAY}

    assert rebuild(later.where(F.lit(False))) == {"inserted": 0, "updated": 0, "deleted": 2}
    assert found.rows("gold.fact_trades") == []


def settled(found: Market) -> dict[str, str]:
    return {row["trade_id"]: str(row["settlement_date"]) for row in found.rows("gold.fact_trades")}


def test_an_exchange_that_settles_sooner_changes_its_facts_and_no_others(spark: SparkSession, tmp_path: Path) -> None:
    found = market(spark, tmp_path)
    found.refer("dim_exchange", [change("COIN", date(2025, 1, 1), settlement_days=1)])
    found.trade(
        [
            trade(1, "2025-06-06T14:00", "BUY", 1, "10"),
            trade(2, "2025-07-04T14:00", "BUY", 1, "10"),  # a holiday in New York
            trade(3, "2025-06-10T01:00", "BUY", 1, "10"),  # Monday evening in New York
            trade(4, "2025-06-10T01:00", "BUY", 1, "10", exchange="LSE"),
            trade(5, "2025-06-07T14:00", "BUY", 1, "10", exchange="COIN", status="CANCELLED"),
        ]
    )
    load_facts(found)
    before = {
        "T1": "2025-06-10", "T2": "2025-07-09", "T3": "2025-06-11", "T4": "2025-06-12", "T5": "2025-06-08",
    }  # fmt: skip
    assert settled(found) == before
    assert broken(found, *FACT_CHECKS) == []

    found.refer("dim_exchange", [change("NYSE", date(2025, 6, 9), settlement_days=1)])
    assert broken(found, *FACT_CHECKS) == []  # it waits for fact_loader, and is not wrong
    (done, _) = fact_loader.run(found.spark, found.lake.settings)
    assert done.counts == {"inserted": 0, "updated": 3, "deleted": 0}
    after = {**before, "T1": "2025-06-09", "T2": "2025-07-08", "T3": "2025-06-10"}  # trades of any day: it has no past
    assert settled(found) == after
    (done, _) = fact_loader.run(found.spark, found.lake.settings, rebuild=True)
    assert done.counts == {"inserted": 0, "updated": 0, "deleted": 0}

    found.refer("dim_exchange", [change("LSE", MONDAY, currency="GBP"), change("COIN", MONDAY, settlement_days=0)])
    found.trade([trade(6, "2025-06-09T14:00", "BUY", 1, "10", exchange="COIN")])
    (done, _) = fact_loader.run(found.spark, found.lake.settings)
    assert done.counts == {"inserted": 1, "updated": 1, "deleted": 0}
    assert settled(found) == {**after, "T5": "2025-06-07", "T6": "2025-06-09"}
    snapshots_before = found.lake.snapshots("gold.fact_trades")
    fact_loader.run(found.spark, found.lake.settings)
    assert found.lake.snapshots("gold.fact_trades") == snapshots_before


def test_no_fact_is_without_a_key_though_its_version_goes_while_it_is_loaded(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = market(spark, tmp_path)
    born = change("AAA", date(2025, 1, 1), company_name="A")
    found.refer("dim_symbol", [born])
    found.trade([trade(1, "2025-06-06T14:00", "BUY", 1, "10")])
    infer = dimension_members.infer

    def meanwhile(spark: SparkSession, dimension: Dimension, wanted: DataFrame, audits: AuditSettings) -> None:
        if dimension.name == "dim_trader":  # the symbols were looked at already
            found.refer("dim_symbol", [replace(born, effective_date=date(2025, 6, 1), is_deleted=True)])
        infer(spark, dimension, wanted, audits)

    monkeypatch.setattr(dimension_members, "infer", meanwhile)
    fact_loader.run(found.spark, found.lake.settings, ["fact_trades"])
    (fact,) = found.rows("gold.fact_trades")
    (member,) = (row for row in found.rows("dim.dim_symbol") if row["symbol_key"] == fact["symbol_key"])
    assert (member["effective_date"], member["is_inferred"]) == (date(2025, 6, 1), True)


def test_a_dimension_whose_cursor_is_lost_keeps_its_versions_when_a_member_is_inferred(
    spark: SparkSession, tmp_path: Path
) -> None:
    found = market(spark, tmp_path)
    found.refer("dim_symbol", [change("AAA", MONDAY, company_name="A")])
    found.trade([trade(1, "2025-06-09T14:00", "BUY", 1, "10")])
    found.load("gold.daily_trading_summary")
    found.lake.expire("dim.dim_symbol")
    found.trade([trade(2, "2025-06-06T14:00", "BUY", 1, "10")])
    fact_loader.run(found.spark, found.lake.settings, ["fact_trades"])
    assert names_of(found)[0] == {"T1": "A", "T2": "AAA"}
    found.load("gold.daily_trading_summary")
    assert names_of(found)[1] == {MONDAY: "A", FRIDAY: "AAA"}


def names_of(found: Market) -> tuple[dict[str, str], dict[date, str]]:
    """The symbol's name by trade, through the facts' keys, and by day, in the daily summaries."""
    keys = {row["symbol_key"]: row["company_name"] for row in found.rows("dim.dim_symbol")}
    facts = {row["trade_id"]: keys[row["symbol_key"]] for row in found.rows("gold.fact_trades")}
    return facts, {row["summary_date"]: row["company_name"] for row in found.rows("gold.daily_trading_summary")}


def test_a_record_that_todays_rules_accept_reaches_the_facts_and_gold_of_its_days(
    spark: SparkSession, tmp_path: Path
) -> None:
    found = market(spark, tmp_path)
    found.trade([trade(1, "2025-06-06T14:00", "BUY", 1, "10"), trade(2, "2025-06-10T14:00", "BUY", 1, "10")])
    with refusing("company_name", "Refused"):
        found.refer("dim_symbol", [change("AAA", FRIDAY, company_name="Refused")])
        found.refer("dim_account", [change("AC1", FRIDAY, trader_id="TR1", company_name="Refused")])
        found.load("gold.daily_trading_summary", "gold.portfolio_positions")
    found.refer("dim_symbol", [change("AAA", TUESDAY, company_name="A2")])
    found.refer("dim_account", [change("AC1", TUESDAY, trader_id="TR1", tier="GOLD")])
    found.load("gold.daily_trading_summary", "gold.portfolio_positions")
    assert names_of(found) == ({"T1": "Refused", "T2": "A2"}, {FRIDAY: "Refused", TUESDAY: "A2"})
    assert {row["account_id"] for row in found.rows("gold.portfolio_positions")} == {"AC1"}
    assert broken(found, model.dimensions_follow_from_their_log, *FACT_CHECKS) == []


def test_a_discarded_record_enters_no_dimension_whatever_the_rules_say_later(
    spark: SparkSession, tmp_path: Path
) -> None:
    found = market(spark, tmp_path)
    found.trade([trade(1, "2025-06-06T14:00", "BUY", 1, "10"), trade(2, "2025-06-10T14:00", "BUY", 1, "10")])
    with refusing("company_name", "Refused"):
        found.refer("dim_symbol", [change("AAA", FRIDAY, company_name="Refused")])
    assert rejected.discard(found.spark, Selection(reason="no"), "a test") == 1
    found.load("gold.daily_trading_summary")
    assert broken(found, model.dimensions_follow_from_their_log, *FACT_CHECKS) == []
    found.refer("dim_symbol", [change("AAA", TUESDAY, company_name="A2")])
    found.load("gold.daily_trading_summary")
    assert names_of(found) == ({"T1": "AAA", "T2": "A2"}, {FRIDAY: "AAA", TUESDAY: "A2"})
    assert broken(found, model.dimensions_follow_from_their_log, *FACT_CHECKS) == []
