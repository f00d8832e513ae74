"""What was known at a moment: what an observer wrote down then, through compaction and expiry, by both engines.

And what gold would have been, and what was known when of a member.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark.errors import LakehouseError, RefusedError, UsageError
from lakehouse_spark.iceberg import copies
from lakehouse_spark.jobs import gold_aggregator, maintenance, rejected, silver_processor
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.query import embedded, of_spark
from tests.support.lake import Lake, arrive, moment, table, trade
from tests.support.lakehouses import connect
from tests.support.market import Market, change

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


def staged(lake: Lake, at: datetime, folder: Path) -> tuple[Seen, list[str]]:
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
        found, known = staged(lake, at, tmp_path / f"as known {number}")
        assert found == seen
        assert known == (columns if number < 4 else [*columns, "venue"])

    older = observer.notes[1][0].strftime("%Y-%m-%d %H:%M:%S.%f")
    expire = f"CALL lake.system.expire_snapshots(table => 'silver.trades', older_than => TIMESTAMP '{older}')"
    lake.spark.sql(expire).collect()
    for number, (at, seen) in enumerate(observer.notes[2:]):
        assert of_duckdb(lake, at) == seen
        assert staged(lake, at, tmp_path / f"still known {number}")[0] == seen
    for at in (before, observer.notes[0][0], observer.notes[1][0]):
        with pytest.raises(UsageError, match=r"silver\.trades is not known as it was at"):
            of_duckdb(lake, at)
        _, unknown = copies.as_known(lake.settings, tmp_path / f"not known at {at:%f}", at)
        assert "what was before has expired, or it was made then" in str(unknown["silver.trades"])


# Gold as it would have been

GOLD = tuple(made.name for tables, _ in gold_aggregator.STEPS for made in tables)
Contents = dict[str, list[tuple[Any, ...]]]
APPLE = "SELECT company_name, known_to > now() FROM dim_symbol_bitemporal WHERE symbol = 'AAPL' ORDER BY known_from"


def contents(lake: Lake, branch: str = "main") -> Contents:
    """The rows of the gold tables on a branch, stamps left out."""
    found = {}
    for name in GOLD:
        rows = of_spark.read(lake.spark, f"SELECT * FROM lake.{name} VERSION AS OF '{branch}'")
        found[name] = sorted(map(tuple, rows.drop(str(table(name).stamp)).collect()), key=repr)
    return found


def as_known(lake: Lake, at: datetime, into: str) -> list[dict[str, int]]:
    done = gold_aggregator.run(lake.spark, lake.settings, as_known_at=at, into=into)
    assert [summary.table for summary in done] == [*GOLD]
    return [summary.counts for summary in done]


def sent(**changes: Any) -> bytes:
    return trade(**{"price": 10, "timestamp": "2025-01-15T15:30:00Z", **changes})


def beat(lake: Lake) -> None:
    """Trades and gold; the records of members are applied as they come."""
    silver_processor.run(lake.spark, lake.settings, ["trades"])
    gold_aggregator.run(lake.spark, lake.settings)


@pytest.fixture(scope="module")
def told(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Mapping[datetime, Contents]]:
    """Two beats, and what gold was behind each: the second brings other words on what the first had."""
    lake = Lake.migrated(spark, "127.0.0.1:9", tmp_path_factory.mktemp("known") / "home")
    market, seen = Market(lake), {}
    market.refer("dim_symbol", [change("AAPL", date(2000, 1, 1), company_name="Apple", listing_exchange="NASDAQ")])
    arrive(
        lake,
        sent(),
        sent(trade_id="T2", trade_type="SELL", price=12, quantity=40),
        sent(trade_id="T3", exchange="NEWX"),
    )
    beat(lake)
    seen[moment()] = contents(lake)
    market.refer("dim_symbol", [change("AAPL", date(2000, 1, 1), company_name="Apple Inc.", sector="Technology")])
    market.refer("dim_account", [change("AC1", date(2025, 1, 1), trader_id="TR1")])
    market.refer("dim_exchange", [change("NEWX", date(2000, 1, 1))])
    rejected.replay(lake.spark, lake.settings, Selection("bronze.raw_trades"))
    late = sent(trade_id="T4", price=9, timestamp="2025-01-14T15:30:00Z")
    arrive(
        lake,
        late,
        sent(trade_id="T2", trade_type="SELL", price=12, quantity=40, status="CANCELLED"),
        at=datetime.now(UTC),
    )
    beat(lake)
    seen[moment()] = contents(lake)
    return lake, seen


def test_gold_is_derived_as_it_would_have_been_and_nobody_else_sees_it(
    told: tuple[Lake, Mapping[datetime, Contents]],
) -> None:
    lake, seen = told
    (first, before), (second, after) = seen.items()
    assert all(before[name] != after[name] for name in GOLD)
    counts = as_known(lake, first, "then")
    assert contents(lake, "then") == before
    assert counts == [{"rows": len(before[name])} for name in GOLD]
    as_known(lake, second, "then")  # the same name again
    assert contents(lake, "then") == contents(lake) == after


def test_it_does_not_matter_that_snapshots_of_then_are_gone(
    told: tuple[Lake, Mapping[datetime, Contents]], tmp_path: Path
) -> None:
    begun, seen = told
    lake, (first, before) = begun.copy(tmp_path / "home"), next(iter(seen.items()))
    for name in ("bronze.raw_trades", "bronze.raw_reference", *GOLD):
        expire = f"CALL lake.system.expire_snapshots(table => '{name}', older_than => TIMESTAMP '2999-01-01')"
        lake.spark.sql(expire).collect()
    with pytest.raises(UsageError):
        embedded.answer(lake.settings, "SELECT count(*) FROM bronze.raw_trades", 1, first)
    as_known(lake, first, "then")
    assert contents(lake, "then") == before

    # Its branch holds no history back, outlives that, and goes when it is old.
    table_ = table("gold.daily_trading_summary")
    base = snapshots.state(lake.spark, table_)
    assert base.cursor is not None
    commit.advance(lake.spark, table_, base, base.cursor)
    expire = f"CALL lake.system.expire_snapshots(table => '{table_.name}', older_than => TIMESTAMP '2999-01-01')"
    lake.spark.sql(expire).collect()
    assert contents(lake, "then")[table_.name] == before[table_.name]
    later = datetime.now(UTC) + timedelta(days=31)
    (done,) = maintenance.run(lake.spark, lake.settings, tables=[table_.name], jobs=("snapshot_expiration",), now=later)
    assert (done.before["branches"], done.counts["branches"]) == (1, 0)


@pytest.mark.parametrize(
    ("into", "error"),
    [("main", UsageError), ("audit_x", UsageError), ("1st", UsageError), ("a b", UsageError), ("mine", RefusedError)],
)
def test_a_branch_of_anybody_elses_is_left_alone(
    told: tuple[Lake, Mapping[datetime, Contents]], into: str, error: type[LakehouseError]
) -> None:
    lake, seen = told
    if into == "mine":
        lake.spark.sql("ALTER TABLE lake.gold.portfolio_positions CREATE BRANCH IF NOT EXISTS mine")
    with pytest.raises(error):
        as_known(lake, next(iter(seen)), into)
    assert into == "main" or into not in snapshots.load(lake.spark, table("gold.daily_trading_summary")).refs()


@pytest.mark.parametrize("given", [{"into": "then"}, {"as_known_at": datetime(2026, 1, 1, tzinfo=UTC)}])
def test_of_when_and_where_to_are_said_together(
    told: tuple[Lake, Mapping[datetime, Contents]], given: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="give both"):
        gold_aggregator.run(told[0].spark, told[0].settings, **given)


def test_a_moment_that_is_still_to_come_is_refused(told: tuple[Lake, Mapping[datetime, Contents]]) -> None:
    with pytest.raises(UsageError, match="is still to come"):
        as_known(told[0], datetime(2999, 1, 1, tzinfo=UTC), "then")


def test_where_retention_removed_bronze_gold_is_not_derived_of_the_rest(
    told: tuple[Lake, Mapping[datetime, Contents]], tmp_path: Path
) -> None:
    lake, bronze = told[0].copy(tmp_path / "home"), table("bronze.raw_trades")
    base = snapshots.state(lake.spark, bronze)
    cursor = base.cursor_as(TopicCursor)
    assert cursor is not None
    commit.advance(lake.spark, bronze, base, replace(cursor, removed={"id": {0: 1_200}}))
    with pytest.raises(RefusedError, match=r"bronze\.raw_trades: retention has removed 1,200 rows"):
        as_known(lake, next(iter(told[1])), "removed")
    assert "removed" not in snapshots.load(lake.spark, table("gold.daily_trading_summary")).refs()


# What was known when of a member


def test_a_query_says_what_was_known_when_of_a_symbol(told: tuple[Lake, Mapping[datetime, Contents]]) -> None:
    lake, _ = told
    rows = of_spark.read(lake.spark, APPLE)
    assert sorted(map(tuple, rows.collect())) == [("Apple", False), ("Apple Inc.", True)]
    assert rows.columns[0] == "company_name"
    found = of_spark.read(lake.spark, "SELECT * FROM dim_symbol_bitemporal")
    assert found.columns == [
        "symbol", "company_name", "sector", "industry", "market_cap_category", "listing_exchange", "ipo_date",
        "valid_from", "valid_to", "known_from", "known_to",
    ]  # fmt: skip
