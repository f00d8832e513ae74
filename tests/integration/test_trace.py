"""A row is made again of the records that its trace names, of nothing else, and of all of them."""

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import trace
from lakehouse_spark.errors import UsageError
from lakehouse_spark.jobs import silver_processor
from tests.support import dim_oracle, gold_oracle, lake
from tests.support.histories import STATUSES, History, histories
from tests.support.lake import Lake, arrive, create_tables, table
from tests.support.market import Market, market, session
from tests.support.scd_changes import drawn
from tests.support.shell import Terminal

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "1"))
FEW = ("gold.daily_trading_summary", "gold.trader_performance", "gold.portfolio_positions")
"""Of which a row is traced where there is one round."""
Rows = list[dict[str, Any]]


def told(key: Mapping[str, Any]) -> dict[str, str]:
    """A row's key as a user writes it."""
    return {name: value.isoformat() if isinstance(value, datetime) else str(value) for name, value in key.items()}


def traced(found: Market, name: str, **key: Any) -> trace.Trace:
    return trace.trace(found.spark, found.lake.settings, table(name), told(key))


def used(found: trace.Trace, name: str) -> set[str]:
    """The keys of the silver rows that a trace names."""
    (key,) = table(name).key
    return {row[key] for part in found.parts if part.title == name for row in part.rows.select(key).collect()}


# Of random histories, beside the reference in plain Python


def reference(found: Market, trades: Rows, books: Rows) -> dict[str, Rows]:
    """Gold as plain Python makes it of some of the trades and books."""
    logs = [found.changes.get(name, []) for name in ("dim_symbol", "dim_trader", "dim_account")]
    history = History([*found.trades.values()], [*found.books.values()], *logs)
    symbols = dim_oracle.dimension(dim_oracle.SYMBOL, history.symbols, history.symbol_facts)
    traders = dim_oracle.dimension(dim_oracle.TRADER, history.traders, history.trader_facts)
    accounts = dim_oracle.accounts(history.accounts)
    in_order = sorted(trades, key=lambda t: (t["trade_timestamp"], t["trade_id"]))
    summaries = gold_oracle.daily_trading_summary(in_order, books, symbols)
    return {
        "gold.daily_trading_summary": summaries,
        "gold.market_overview": gold_oracle.market_overview(in_order, books, summaries),
        "gold.trade_analytics": gold_oracle.trade_analytics(in_order, symbols, session),
        "gold.trader_performance": gold_oracle.trader_performance(in_order, accounts, traders),
        "gold.portfolio_positions": gold_oracle.portfolio_positions(in_order, accounts),
    }


def of_key(rows: Rows, key: Mapping[str, Any]) -> dict[str, Any]:
    (row,) = [row for row in rows if all(row[name] == value for name, value in key.items())]
    return row


def alterations(found: Market, named: set[str]) -> Iterator[Rows]:
    """The trades without each one that is not named, and with each such one that is cancelled as if it were not."""
    for out in found.trades.values():
        if out["trade_id"] in named:
            continue
        others = [each for each in found.trades.values() if each is not out]
        yield others
        if out["status"] == STATUSES[-1]:
            yield [*others, {**out, "status": "EXECUTED"}]


@pytest.mark.parametrize("number", range(ROUNDS))
def test_of_any_history_a_trace_names_what_matters_and_nothing_else(
    spark: SparkSession, tmp_path: Path, number: int
) -> None:
    dice = Random(number)
    history = max(drawn(histories(), 30, number + 40), key=lambda each: len(each.trades) + len(each.accounts))
    found = market(spark, tmp_path / "home")
    create_tables(found.spark, ("bronze.raw_trades", "bronze.raw_orderbook"))
    found.refer("dim_symbol", history.symbols)
    found.refer("dim_trader", history.traders)
    found.refer("dim_account", history.accounts)
    found.trade(history.trades)
    found.book(history.books)
    found.load()
    trades, books = [*found.trades.values()], [*found.books.values()]
    held = reference(found, trades, books)
    for name in held if ROUNDS > 1 else FEW:
        rows = held[name]
        for row in dice.sample(rows, min(2 if ROUNDS > 1 else 1, len(rows))):
            key = {column: row[column] for column in table(name).key}
            seen = traced(found, name, **key)
            assert not seen.differing, (name, key, seen.values)
            of_trades, of_books = used(seen, "silver.trades"), used(seen, "silver.orderbook_snapshots")
            alone = [each for each in trades if each["trade_id"] in of_trades]
            beside = [each for each in books if each["snapshot_id"] in of_books]
            again = of_key(reference(found, alone, beside)[name], key)
            assert not gold_oracle.differing(row, again), (name, key, of_trades)
            for altered in alterations(found, of_trades):
                again = of_key(reference(found, altered, books)[name], key)
                assert not gold_oracle.differing(row, again), (name, key, of_trades)
            for out in books:
                if out["snapshot_id"] not in of_books:
                    others = [each for each in books if each is not out]
                    again = of_key(reference(found, trades, others)[name], key)
                    assert not gold_oracle.differing(row, again), (name, key, of_books)


# Of records, by hand


def sent(**changes: Any) -> bytes:
    return lake.trade(**{"price": 10, "timestamp": "2025-01-15T15:30:00Z", **changes})


@pytest.fixture(scope="module")
def traded(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Nine records of five trades in all layers."""
    made = Lake.migrated(spark, "127.0.0.1:9", tmp_path_factory.mktemp("traded"))
    sale: dict[str, Any] = {"trade_id": "T2", "trade_type": "SELL", "quantity": 40, "price": 12}
    sale["timestamp"] = "2025-01-15T15:31:00Z"
    arrive(
        made,
        sent(),
        sent(),
        sent(status="PARTIAL", **sale),
        sent(**sale),
        sent(trade_id="T3", price="x"),
        sent(trade_id="T4", quantity=7, price=9, timestamp="2025-01-15T15:29:00Z"),
        sent(trade_id="T4", quantity=7, price=9, timestamp="2025-01-15T15:35:00Z", status="CANCELLED"),
        sent(symbol="MSFT"),
        sent(trade_id="T5", symbol="MSFT", quantity=1, price=20),
    )
    silver_processor.run(made.spark, made.one_by_one)
    Market(made).load()
    return made


def of(made: Lake, name: str, column: str | None = None, **key: str) -> trace.Trace:
    return trace.trace(made.spark, made.settings, table(name), key, column)


def offsets(rows: Any) -> list[int]:
    return sorted(row["position"] for row in rows.select("position").collect())


def fates(rows: Any) -> dict[int, tuple[str, str | None]]:
    return {row["position"]: (row["fate"], row["because"]) for row in rows.collect()}


def test_a_summary_is_made_of_its_records(traded: Lake) -> None:
    found = of(traded, "gold.daily_trading_summary", symbol="AAPL")
    assert not found.differing
    assert not found.notes
    values = {value.name: (str(value.held), str(value.again)) for value in found.values}
    assert values["vwap"] == ("10.571429", "10.571429")  # (100 * 10 + 40 * 12) / 140
    assert values["trade_count"] == ("2", "2")
    assert fates(found.named) == {
        0: ("made the row", None),
        2: ("made the row", None),
        3: ("moved its status", None),
        5: ("made the row", None),
        6: ("moved its status", None),
    }
    assert fates(found.left_out) == {
        1: ("repeats a record", "of trades/0/0"),
        4: ("refused", "invalid_price; open"),
        7: ("refused", "conflicting_duplicate with trades/0/0; open"),
    }


def test_a_record_of_another_unit_matters_where_it_keeps_one_out(traded: Lake) -> None:
    found = of(traded, "gold.daily_trading_summary", symbol="MSFT")
    assert not found.differing
    assert offsets(found.named) == [0, 8]
    assert offsets(found.left_out) == [1, 7]


def test_a_column_is_made_of_what_it_needs(traded: Lake) -> None:
    key = {"position_date": "2025-01-15", "trader_id": "TR1", "symbol": "MSFT"}
    assert offsets(of(traded, "gold.portfolio_positions", "quantity", **key).named) == [0, 8]
    whole = of(traded, "gold.portfolio_positions", **key)
    assert not whole.differing
    assert offsets(whole.named) == [0, 2, 3, 5, 6, 8]


def test_profit_is_shown_with_the_lots_that_made_it(traded: Lake) -> None:
    found = of(traded, "gold.trader_performance", performance_date="2025-01-15", trader_id="TR1")
    assert not found.differing
    assert {value.name: str(value.again) for value in found.values}["realized_pnl"] == "80.000000"
    (lots,) = [part.rows for part in found.parts if part.title == "lots and what closed them"]
    closed = [(r["shares"], r["opened"]["trade_id"], r["closed"]["trade_id"]) for r in lots.collect() if r["closed"]]
    assert closed == [(40, "T1", "T2")]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("silver.trades", {"trade_id": "T2"}),
        ("silver.trader_activity", {"symbol": "AAPL"}),
        ("gold.fact_trades", {"trade_id": "T4"}),
        ("gold.market_overview", {"exchange": "NASDAQ"}),
        ("gold.trade_analytics", {"symbol": "AAPL", "market_session": "REGULAR"}),
        ("gold._open_lots", {"symbol": "AAPL"}),
        ("dim.dim_exchange", {"exchange_code": "NASDAQ"}),
        ("dim.dim_symbol", {"symbol": "AAPL"}),
        ("dim.dim_time", {"time_key": "202501151530"}),
    ],
)
def test_a_row_of_any_table_is_made_again(traded: Lake, name: str, key: dict[str, str]) -> None:
    assert not of(traded, name, **key).differing


def test_what_a_table_holds_wrongly_is_seen(traded: Lake, tmp_path: Path) -> None:
    wrong = traded.copy(tmp_path / "wrong")
    wrong.spark.sql("UPDATE lake.gold.daily_trading_summary SET vwap = 10.571430 WHERE symbol = 'AAPL'")
    assert of(wrong, "gold.daily_trading_summary", symbol="AAPL").differing == ["vwap"]


def test_where_bronze_is_gone_the_trace_ends_in_silver(traded: Lake, tmp_path: Path) -> None:
    gone = traded.copy(tmp_path / "gone")
    gone.spark.sql("DELETE FROM lake.bronze.raw_trades")
    found = of(gone, "gold.daily_trading_summary", symbol="AAPL")
    assert not found.differing
    assert offsets(found.named) == []
    assert found.notes == ["3 rows of silver.trades have no record in bronze any more: there the trace ends"]


def test_of_a_row_whose_own_record_is_gone_later_ones_make_no_other(traded: Lake, tmp_path: Path) -> None:
    gone = traded.copy(tmp_path / "half gone")
    gone.spark.sql("DELETE FROM lake.bronze.raw_trades WHERE _kafka_offset = 5")
    found = of(gone, "silver.trades", trade_id="T4")
    assert not found.differing
    assert found.notes == ["1 rows of silver.trades have no record in bronze any more: there the trace ends"]


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("raw_trades/0/1", "repeats a record: of trades/0/0"),
        ("raw_trades/0/4", "refused: invalid_price; open"),
        ("raw_trades/0/6", "moved its status"),
    ],
)
def test_a_record_has_a_fate(traded: Lake, place: str, sentence: str) -> None:
    assert trace.fate(traded.spark, traded.settings, place).sentence == sentence


def test_a_record_tells_every_row_that_it_touches(traded: Lake) -> None:
    found = trace.fate(traded.spark, traded.settings, "raw_trades/0/8")
    assert sorted(found.touched.select("table", "row").distinct().collect()) == [
        ("gold._open_lots", "lot_date=2025-01-15 trader_id=TR1 account_id=UNKNOWN symbol=MSFT trade_id=T5"),
        ("gold.daily_trading_summary", "summary_date=2025-01-15 symbol=MSFT"),
        ("gold.fact_trades", "trade_id=T5"),
        ("gold.market_overview", "overview_date=2025-01-15 exchange=NASDAQ"),
        ("gold.portfolio_positions", "position_date=2025-01-15 trader_id=TR1 account_id=UNKNOWN symbol=AAPL"),
        ("gold.portfolio_positions", "position_date=2025-01-15 trader_id=TR1 account_id=UNKNOWN symbol=MSFT"),
        ("gold.trade_analytics", "analytics_date=2025-01-15 symbol=MSFT exchange=NASDAQ market_session=REGULAR"),
        ("gold.trader_performance", "performance_date=2025-01-15 trader_id=TR1"),
        ("silver.trader_activity", "activity_id=0791aade81db71e6a5aee896aecb9d16"),
    ]


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("gold.daily_trading_summary", {"symbol": "IBM"}, "has no row with symbol=IBM"),
        ("gold.daily_trading_summary", {"summary_date": "2025-01-15"}, "has several rows"),
        ("gold.daily_trading_summary", {"summary_date": "soon"}, "summary_date: expected a date, got 'soon'"),
        ("gold.daily_trading_summary", {"colour": "red"}, "has no column 'colour'"),
        ("gold.daily_trading_summary", {}, "say which row, as summary_date=… symbol=…"),
        ("bronze.raw_trades", {"trade_id": "T2", "_kafka_offset": "2"}, "are not made of others"),
    ],
)
def test_a_wrong_question_is_told_so(traded: Lake, name: str, key: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        of(traded, name, **key)


def test_a_row_is_shown_as_its_table_made_it_though_silver_went_on(traded: Lake, tmp_path: Path) -> None:
    further = traded.copy(tmp_path / "further")
    arrive(further, sent(trade_id="T6", quantity=60, price=14, timestamp="2025-01-15T15:40:00Z"))
    silver_processor.run(further.spark, further.one_by_one)
    found = of(further, "gold.daily_trading_summary", symbol="AAPL")
    assert not found.differing
    assert offsets(found.named) == [0, 2, 3, 5, 6]
    assert trace.fate(further.spark, further.settings, "raw_trades/0/9").sentence == "made the row"


# The command


def test_the_command_prints_a_trace(terminal: Terminal, traded: Lake) -> None:
    code, said = terminal(traded, "trace", "gold.daily_trading_summary", "symbol=MSFT", "--column", "vwap")
    assert code == 0
    lines = said.splitlines()
    assert lines[0] == "gold.daily_trading_summary summary_date=2025-01-15 symbol=MSFT"
    assert [cell.strip() for cell in lines[3].split("\u2502")] == [
        "vwap", "20.000000", "20.000000", "equal", "Volume-weighted average price",
    ]  # fmt: skip
    assert lines[-1] == "equal when made again of these 2 records alone"
    assert "trades/0/8" in said


def test_the_numbers_of_a_report_lead_to_their_traces(terminal: Terminal, traded: Lake, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    asked = ("report", "--trace", "--symbol", "MSFT", "--out", str(page))
    assert terminal(traded, *asked)[0] == 0
    said = page.read_text(encoding="utf-8")
    assert '<a href="#trace-symbol-vwap">20.00</a>' in said
    row = said[said.index('<tr id="trace-symbol-vwap">') :]
    row = row[: row.index("</tr>")]
    assert [text for text in re.split(r"\s*<[^>]*>\s*", row) if text] == [
        "vwap", "20.000000", "20.000000", "equal", "Volume-weighted average price",
    ]  # fmt: skip
    assert "trades/0/8" in said
    assert "differs" not in said
    for name in ("symbol", "trader", "position"):
        assert f'<a href="#trace-{name}">Where these numbers come from</a>' in said
        assert f'id="trace-{name}"' in said
    assert terminal(traded, *asked[:1], *asked[2:])[0] == 0
    said = page.read_text(encoding="utf-8")
    assert "<code>lakehouse trace gold.daily_trading_summary summary_date=2025-01-15 symbol=MSFT</code>" in said
    assert "#trace-" not in said


def test_the_records_of_a_trace_are_csv(terminal: Terminal, traded: Lake) -> None:
    code, said = terminal(traded, "trace", "silver.trades", "trade_id=T2", "--csv")
    assert code == 0
    (header, *rows) = csv.reader(said.splitlines())
    assert header == [
        "table", "source", "partition", "position", "arrived", "key", "fate", "because", "payload",
    ]  # fmt: skip
    assert sorted((row[3], row[6]) for row in rows) == [("2", "made the row"), ("3", "moved its status")]


def test_a_trace_and_a_fate_are_json(terminal: Terminal, traded: Lake) -> None:
    found = json.loads(terminal(traded, "trace", "silver.trades", "trade_id=T5", "--json")[1])
    assert (found["equal"], found["records"]["number"], found["left_out"]["number"]) == (True, 1, 0)
    fate = json.loads(terminal(traded, "trace", "raw_trades/0/7", "--json")[1])
    assert fate["fate"] == "refused: conflicting_duplicate with trades/0/0; open"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("raw_trades/0/99",), "bronze holds no record raw_trades/0/99"),
        (("raw_trades/0/0", "a=b"), "a record is named by its place alone"),
        (("raw_quotes/0/0",), "there is no topic 'raw_quotes'"),
        (("raw_trades/x/0",), "'raw_trades/x/0' is no place of a record"),
        (("silver.trades", "T1"), "expected COLUMN=VALUE, got 'T1'"),
        (("silver.trades", "trade_id=T1", "--column", "colour"), "silver.trades has no column 'colour'"),
    ],
)
def test_a_wrong_command_is_one_sentence(
    terminal: Terminal, traded: Lake, given: tuple[str, ...], sentence: str
) -> None:
    code, said = terminal(traded, "trace", *given)
    assert code == 2
    assert sentence in said
