"""`lakehouse report` on a real lakehouse from Kafka to gold, on an empty one, and in a real browser."""

import re
import shutil
import struct
import subprocess
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import report
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.dim import dim_symbol
from lakehouse_spark.errors import UsageError
from lakehouse_spark.iceberg import inventory
from lakehouse_spark.ingest import reference_files
from lakehouse_spark.lake import commit, dimension_members, frames
from lakehouse_spark.lake.cursor import Consumed, UpstreamsCursor
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.migrations import baseline
from lakehouse_spark.report import page, reading
from lakehouse_spark.report.model import Flow, Minute, Rejects
from lakehouse_spark.settings import conf_dir
from tests.support.lake import Lake, book, enter_exchanges, table, trade
from tests.support.reports import FULL, HOSTILE

DAY = date(2025, 1, 15)
HOSTILE_TRADER = "<img src=x onerror=alert(1)>"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_an_empty_home_gets_a_page_that_says_what_to_do(spark: SparkSession, tmp_path: Path) -> None:
    lake = Lake.new(spark, "127.0.0.1:9", tmp_path / "home", ())

    written, missing = report.write(lake.spark, lake.settings)

    assert written == lake.settings.root / "report.html"
    assert missing == (
        "There is no lakehouse here yet. Run: lakehouse migrate",
        "No trades yet. Run: lakehouse run pipeline",
    )
    assert missing[0] in written.read_text(encoding="utf-8")


def test_only_a_table_that_has_something_to_do_is_behind(spark: SparkSession, tmp_path: Path) -> None:
    lake = Lake.new(spark, "127.0.0.1:9", tmp_path / "home", [each.name for each in TABLES])

    def behind() -> dict[str, list[tuple[str, int | None]]]:
        states = inventory.read(lake.settings).tables.values()
        return {state.name: [(lag.upstream, lag.rows) for lag in state.lags] for state in states if state.lags}

    baseline.seed_exchanges(lake.spark, conf_dir())
    assert behind() == {}
    symbols = tmp_path / "symbols.csv"
    symbols.write_text("symbol,sector\nAAPL,Tech\nMSFT,Tech\nKO,Drinks\n")
    reference_files.load(lake.spark, dim_symbol.DIMENSION, [str(symbols)])
    assert behind() == {"dim.dim_symbol": [("bronze.raw_reference", 3)]}
    dimension_members.apply(lake.spark, dim_symbol.DIMENSION)
    assert behind() == {}


def enter_gold(lake: Lake) -> None:
    """What gold would hold of the records below, all of silver consumed."""
    facts = [{"trade_id": f"T{number}"} for number in range(1, 6)]
    books = [{"snapshot_id": "a"}, {"snapshot_id": "b"}]
    summaries = [
        {"summary_date": DAY, "symbol": "AAPL", "trade_count": 3},
        {"summary_date": DAY - timedelta(1), "symbol": "MSFT", "trade_count": 1},
    ]
    performance = [
        {"performance_date": DAY, "trader_id": "TR1", "total_trades": 2, "realized_pnl": Decimal(120)},
        {"performance_date": DAY, "trader_id": HOSTILE_TRADER, "total_trades": 1, "realized_pnl": Decimal(0)},
        {"performance_date": DAY - timedelta(1), "trader_id": "TR1", "total_trades": 1, "realized_pnl": Decimal(0)},
    ]
    positions = [
        {"position_date": day, "trader_id": trader, "account_id": "A", "symbol": symbol, "quantity": quantity,
         "market_value": Decimal(value)}
        for day, trader, symbol, quantity, value in (
            (DAY, "TR1", "AAPL", 40, 440), (DAY, "TR1", "MSFT", 100, 2000), (DAY, HOSTILE_TRADER, "AAPL", 5, 55),
            (DAY - timedelta(1), "TR1", "MSFT", 100, 2000),
        )
    ]  # fmt: skip
    rows: dict[str, list[dict[str, Any]]] = {
        "gold.fact_trades": facts,
        "gold.fact_orderbook": books,
        "gold.daily_trading_summary": summaries,
        "gold.trader_performance": performance,
        "gold.portfolio_positions": positions,
    }
    upto = {name: Consumed(lake.state(name).stamp) for name in ("silver.trades", "silver.orderbook_snapshots")}
    for name, held in rows.items():
        target = table(name)
        frame = frames.of_rows(lake.spark, [tuple(map(row.get, target.column_names)) for row in held], target.schema)
        cursor = UpstreamsCursor(upto=upto, stamp=datetime(2025, 1, 16, tzinfo=UTC))
        commit.append(lake.spark, target, frame, lake.state(name), cursor)


def test_a_page_that_cannot_be_written_is_refused_and_leaves_nothing(spark: SparkSession, tmp_path: Path) -> None:
    lake = Lake.new(spark, "127.0.0.1:9", tmp_path / "home", ())
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match=r"cannot be written: .*; name another file with --out"):
        report.write(lake.spark, lake.settings, tmp_path / "file" / "report.html")
    with pytest.raises(UsageError, match="cannot be written"):
        report.write(lake.spark, lake.settings, tmp_path / "home")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "home"]


def test_the_report_tells_what_the_tables_hold(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    lake = Lake.new(spark, broker.bootstrap_servers, tmp_path / "home", [each.name for each in TABLES])
    enter_exchanges(lake.spark)
    lake.create_topics()
    first = trade(price=10, timestamp="2025-01-15T15:30:05Z")
    lake.produce(
        "raw_trades",
        first,
        first,
        trade(trade_id="T2", trade_type="SELL", price=12, quantity=60, timestamp="2025-01-15T15:30:50Z"),
        trade(trade_id="T3", price=11, quantity=5, timestamp="2025-01-15T15:32:00Z", trader_id=HOSTILE_TRADER),
        trade(trade_id="T4", price=99, timestamp="2025-01-15T15:33:00Z", status="CANCELLED"),
        trade(trade_id="T5", symbol="MSFT", price=20, timestamp="2025-01-14T15:00:00Z"),
        trade(trade_id="T6", symbol="<script>alert(1)</script>", price=-1),
        b"{",
    )
    lake.produce("raw_orderbook", book(), book(snapshot_time="2025-01-15T15:30:30Z", asks=[[187.55, 1]]))
    lake.bronze()
    lake.silver()

    told = reading.read(lake.spark, lake.settings)
    assert told.missing == (
        "gold.daily_trading_summary is empty. Run: lakehouse run gold_aggregator",
        "gold.trader_performance is empty. Run: lakehouse run gold_aggregator",
    )
    assert told.symbol_day is not None
    assert (told.symbol_day.symbol, told.symbol_day.day, told.symbol_day.summary) == ("AAPL", DAY, None)
    assert "AAPL on 2025-01-15" in page.render(told)

    enter_gold(lake)
    lake.produce("raw_trades", trade(trade_id="T7"), trade(trade_id="T8"))
    lake.bronze("raw_trades")
    told = reading.read(lake.spark, lake.settings)

    assert told.missing == ()
    assert told.flows == (
        Flow("raw_trades", 10, 5, 1, 2, 5, 5),
        Flow("raw_orderbook", 2, 2, 0, 0, 2, 2),
        Flow("raw_marketdata", 0, 0, 0, 0, 0, None),
    )
    assert told.flows[0].waiting == 2
    assert told.rejects == (
        Rejects("raw_trades", "invalid_price", 1),
        Rejects("raw_trades", "invalid_symbol", 1),
        Rejects("raw_trades", "malformed_json", 1),
    )
    assert told.symbol_day is not None
    assert told.symbol_day.minutes == (
        Minute(930, Decimal(12), Decimal(10), Decimal(12), 160, 2, 0.04, 2),
        Minute(932, Decimal(11), Decimal(11), Decimal(11), 5, 1),
    )
    assert told.symbol_day.summary is not None
    assert told.symbol_day.summary["trade_count"] == 3
    assert told.trader is not None
    assert told.trader.trader_id == "TR1"
    assert [(day.day, day.pnl, day.trades) for day in told.trader.days] == [
        (date(2025, 1, 14), Decimal(0), 1),
        (DAY, Decimal(120), 2),
    ]
    assert [(p.trader_id, p.symbol, p.quantity, p.value) for p in told.positions] == [
        ("TR1", "MSFT", 100, Decimal(2000)),
        ("TR1", "AAPL", 40, Decimal(440)),
        (HOSTILE_TRADER, "AAPL", 5, Decimal(55)),
    ]
    assert [p.symbol for p in told.positions_of_trader] == ["MSFT", "AAPL"]
    tables = {state.name: state for state in told.tables}
    assert {name: [(lag.upstream, lag.rows) for lag in state.lags] for name, state in tables.items() if state.lags} == {
        "silver.trades": [("bronze.raw_trades", 2)],
        "gold._open_lots": [("silver.trades", 5)],
        "gold.market_overview": [
            ("silver.trades", 5),
            ("silver.orderbook_snapshots", 2),
            ("gold.daily_trading_summary", 2),
        ],
        "gold.trade_analytics": [("silver.trades", 5)],
    }
    assert {name for name, state in tables.items() if state.follows} >= {"silver.trades", "gold.fact_trades"}
    for name in ("bronze.raw_trades", "silver.trades", "gold.fact_trades", "gold.portfolio_positions"):
        files = lake.spark.table(f"lake.{name}.files").collect()
        counted = (
            lake.spark.table(f"lake.{name}").count(),
            len(files),
            sum(file["file_size_in_bytes"] for file in files),
        )
        found = tables[name]
        assert (found.rows, found.data_files + found.delete_files, found.bytes) == counted, name
        assert found.snapshots == lake.snapshots(name)

    html = page.render(told)
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "<img" not in html

    other = reading.read(lake.spark, lake.settings, symbol="MSFT", trader=HOSTILE_TRADER)
    assert other.symbol_day is not None
    assert other.trader is not None
    assert (other.symbol_day.day, len(other.symbol_day.minutes)) == (date(2025, 1, 14), 1)
    assert [(day.day, day.pnl) for day in other.trader.days] == [(DAY, Decimal(0))]
    nothing = reading.read(lake.spark, lake.settings, symbol="ZZZ", trader="TR9", day=DAY)
    assert nothing.missing == ("No trades of ZZZ on 2025-01-15.", "No trades of trader TR9 up to 2025-01-15.")


@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH")
@pytest.mark.parametrize("name", ["full", "hostile"])
def test_a_browser_runs_the_pages_own_script_and_no_other(tmp_path: Path, name: str) -> None:
    file, picture = tmp_path / "report.html", tmp_path / "report.png"
    file.write_text(page.render(replace({"full": FULL, "hostile": HOSTILE}[name], profile=name)), encoding="utf-8")

    document = browse(tmp_path, file, "--dump-dom").stdout
    shown = browse(tmp_path, file, f"--screenshot={picture}", "--window-size=1120,900", "--enable-logging=stderr")

    assert 'data-tip="14:30 UTC\nprice 187.50, from 187.10 to 187.50' in document
    assert 'class="tip"' not in document
    assert "<title>Lakehouse report, 2025-06-06 22:00:00 UTC</title>" in document
    assert not re.search(r"CONSOLE.*(Refused|Content Security|rror)", shown.stderr), shown.stderr
    assert struct.unpack(">II", picture.read_bytes()[16:24]) == (1120, 900)


def browse(folder: Path, file: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", *quiet]
    profile = f"--user-data-dir={folder / 'profile'}"
    return subprocess.run(
        [*command, profile, *options, file.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )
