"""A lakehouse from silver up, made by hand or by chance, and its tables compared with the plain-Python reference."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pyspark.sql import Row, SparkSession
from pyspark.sql import types as T

from lakehouse_spark import catalog, verify
from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.jobs import dimension_loader, fact_loader
from lakehouse_spark.lake import change_log, dimension_members, frames, snapshots
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.lake.reconcile import settle
from lakehouse_spark.settings import Settings
from lakehouse_spark.transforms.attributes import ATTRIBUTES
from lakehouse_spark.verify import model
from tests.support import dim_oracle, gold_oracle
from tests.support.histories import STATUSES, History
from tests.support.lake import Lake, create_tables, fill_calendar, table

TABLES = (
    "_metadata.surrogate_keys", "_metadata.retired_keys", "bronze.raw_reference", "silver._rejected_records",
    "silver.trades", "silver.orderbook_snapshots", "dim.dim_exchange", "dim.dim_symbol", "dim.dim_trader",
    "dim.dim_account", "dim.dim_time", "gold.fact_trades", "gold.fact_orderbook", "gold.daily_trading_summary",
    "gold.market_overview", "gold.trade_analytics", "gold._open_lots", "gold.trader_performance",
    "gold.portfolio_positions",
)  # fmt: skip
RECORDS = T.StructType(
    [
        T.StructField("dimension", T.StringType()),
        T.StructField("attributes", ATTRIBUTES),
        T.StructField("raw_payload", T.StringType()),
        T.StructField("_kafka_topic", T.StringType()),
        T.StructField("_kafka_partition", T.IntegerType()),
        T.StructField("_kafka_offset", T.LongType()),
        T.StructField("_source_row", T.LongType()),
        T.StructField("_raw_bytes", T.BinaryType()),
    ]
)
HOURS = {
    "NYSE": (ZoneInfo("America/New_York"), time(9, 30), time(16)),
    "LSE": (ZoneInfo("Europe/London"), time(8), time(16, 30)),
}


def session(exchange: str, instant: datetime) -> str:
    zone, opens, closes = HOURS[exchange]
    local = instant.astimezone(zone)
    if local.weekday() >= 5:
        return "CLOSED"
    return "PRE_MARKET" if local.time() < opens else "REGULAR" if local.time() < closes else "AFTER_HOURS"


def settles(exchange: str, instant: datetime) -> date:
    """Two weekdays later, since the histories' days and the days after them are no holidays."""
    return gold_oracle.settlement_date(instant, HOURS[exchange][0], 2, lambda day: day.weekday() < 5)


@dataclass
class Market:
    """A lakehouse from silver up; what arrives is kept for the reference."""

    lake: Lake
    trades: dict[str, dict[str, Any]] = field(default_factory=dict)
    books: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: dict[str, list[dim_oracle.ChangeEvent]] = field(default_factory=dict)
    arrivals: int = 0

    @property
    def spark(self) -> SparkSession:
        return self.lake.spark

    def trade(self, rows: Sequence[dict[str, Any]]) -> None:
        """Enters new trades and later statuses of old ones, as silver_processor would."""
        fresh: dict[str, dict[str, Any]] = {}
        for row in rows:
            held = fresh.get(row["trade_id"]) or self.trades.get(row["trade_id"])
            if held is None or STATUSES.index(row["status"]) > STATUSES.index(held["status"]):
                fresh[row["trade_id"]] = row
        self.trades |= fresh
        self._write("silver.trades", list(fresh.values()), "trade_id", "trade_timestamp")

    def book(self, rows: Sequence[dict[str, Any]]) -> None:
        self.books |= {row["snapshot_id"]: row for row in rows}
        self._write("silver.orderbook_snapshots", rows, "snapshot_id", "snapshot_time")

    def _write(self, name: str, rows: Sequence[dict[str, Any]], key: str, day: str) -> None:
        if not rows:
            return
        target = table(name)
        base = snapshots.state(self.spark, target)
        filled = [tuple(row.get(column) for column in target.column_names) for row in rows]
        fresh = frames.of_rows(self.spark, filled, target.schema)
        held = snapshots.at(self.spark, target, base.snapshot_id).join(fresh.select(key), on=key, how="left_semi")
        settle(self.spark, target, fresh, held, base, Cursor(stamp=base.next_stamp(datetime.now(UTC))))

    def refer(self, name: str, events: Sequence[dim_oracle.ChangeEvent]) -> None:
        """Enters changes of a dimension in their order."""
        if not events:
            return
        key = DIMENSIONS[name].natural_key
        records = []
        for number, event in enumerate(events):
            kept = {n: None if v is None else str(v) for n, v in event.attributes.items()}
            told = {key: event.natural_key, "effective_date": str(event.effective_date)}
            told["is_deleted"] = str(event.is_deleted)
            if event.sequence is not None:
                told["sequence"] = str(event.sequence)
            records.append((name, {**kept, **told}, None, None, None, None, number, None))
            self.changes.setdefault(name, []).append(replace(event, arrival=self.arrivals))
            self.arrivals += 1
        frame = frames.of_rows(self.spark, records, RECORDS)
        dimension = DIMENSIONS[name]
        change_log.land(self.spark, dimension, frame, f"batch {self.arrivals}", f"{self.arrivals}")
        dimension_members.apply(self.spark, dimension)

    def load(self, *gold: str) -> None:
        """The facts and gold; or of gold these tables alone, with those that are derived together with them."""
        fact_loader.run(self.spark, self.lake.settings)
        self.lake.gold(*gold)

    def rows(self, name: str, without: Sequence[str] = ()) -> list[dict[str, Any]]:
        target = table(name)
        left_out = {target.stamp, *without}
        frame = self.spark.table(target.identifier)
        return [utc(row) for row in frame.select(*(c for c in target.column_names if c not in left_out)).collect()]


def utc(row: Row) -> dict[str, Any]:
    return {n: v.replace(tzinfo=UTC) if isinstance(v, datetime) else v for n, v in row.asDict().items()}


def market(spark: SparkSession, home: Path) -> Market:
    """Two exchanges that nobody has traded at, and the minutes of 2025."""
    zones = {"NYSE": ("XNYS", "America/New_York"), "LSE": ("XLON", "Europe/London")}
    exchanges = [
        dim_oracle.ChangeEvent(code, date(1900, 1, 1), None, 0, False, {"mic": mic, "timezone": zone})
        for code, (mic, zone) in zones.items()
    ]

    def make(own: SparkSession) -> None:
        create_tables(own, TABLES)
        Market(Lake(own, Settings())).refer("dim_exchange", exchanges)
        fill_calendar(own, [2025])

    lake = Lake.copied(spark, "127.0.0.1:9", home, "market", make)
    return Market(lake, changes={"dim_exchange": exchanges}, arrivals=len(exchanges))


def with_members(spark: SparkSession, bootstrap_servers: str, home: Path) -> Lake:
    """All tables, with an exchange, a symbol and a trader that nobody has traded, and the minutes of 2025."""

    def make(own: SparkSession) -> None:
        create_tables(own, [table.name for table in catalog.TABLES])
        found, long_ago = Market(Lake(own, Settings())), date(2000, 1, 1)
        exchange = {"mic": "XNAS", "timezone": "America/New_York", "settlement_days": 1}
        found.refer("dim_exchange", [change("NASDAQ", long_ago, **exchange)])
        found.refer("dim_symbol", [change("AAPL", long_ago, company_name="Apple")])
        found.refer("dim_trader", [change("TR1", long_ago, name="One")])
        fill_calendar(own, [2025])
        dimension_loader.run(own)

    return Lake.copied(spark, bootstrap_servers, home, "members", make)


def compare(found: Market) -> None:
    """Every table against the reference."""
    trades = sorted(found.trades.values(), key=lambda t: (t["trade_timestamp"], t["trade_id"]))
    books = list(found.books.values())
    history = History(trades, books, *(found.changes.get(n, []) for n in ("dim_symbol", "dim_trader", "dim_account")))
    symbols = dim_oracle.dimension(dim_oracle.SYMBOL, history.symbols, history.symbol_facts)
    traders = dim_oracle.dimension(dim_oracle.TRADER, history.traders, history.trader_facts)
    accounts = dim_oracle.accounts(history.accounts)

    held = {name: found.rows(f"dim.{name}") for name in ("dim_symbol", "dim_trader", "dim_account")}

    def real(rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Rows without surrogate keys; inferred members are compared through the facts that need them."""
        kept = (row for row in rows if not row.get("is_inferred"))
        return [{name: value for name, value in row.items() if not name.endswith("_key")} for row in kept]

    same_rows(real(symbols), real(held["dim_symbol"]), "symbol", "effective_date")
    same_rows(real(traders), real(held["dim_trader"]), "trader_id", "effective_date")
    same_rows(accounts, real(held["dim_account"]), "account_id")

    symbol_of = {row["symbol_key"]: (row["symbol"], row["effective_date"]) for row in held["dim_symbol"]}
    trader_of = {row["trader_key"]: (row["trader_id"], row["effective_date"]) for row in held["dim_trader"]}
    exchange_of = {row["exchange_key"]: row["exchange_code"] for row in found.rows("dim.dim_exchange")}
    facts = [
        {
            **row,
            "symbol_key": symbol_of[row["symbol_key"]],
            "trader_key": trader_of[row["trader_key"]],
            "exchange_key": exchange_of[row["exchange_key"]],
        }
        for row in found.rows("gold.fact_trades")
    ]
    same_rows(gold_oracle.fact_trades(trades, symbols, traders, settles), facts, "trade_id")
    book_facts = [{**row, "symbol_key": symbol_of[row["symbol_key"]]} for row in found.rows("gold.fact_orderbook")]
    same_rows(gold_oracle.fact_orderbook(books, symbols), book_facts, "snapshot_id")

    summaries = gold_oracle.daily_trading_summary(trades, books, symbols)
    expected = {
        "gold.daily_trading_summary": summaries,
        "gold.market_overview": gold_oracle.market_overview(trades, books, summaries),
        "gold.trade_analytics": gold_oracle.trade_analytics(trades, symbols, session),
        "gold.trader_performance": gold_oracle.trader_performance(trades, accounts, traders),
        "gold.portfolio_positions": gold_oracle.portfolio_positions(trades, accounts),
    }
    for name, rows in expected.items():
        same_rows(rows, found.rows(name), *table(name).key)


def same_rows(expected: Sequence[Any], found: Sequence[Any], *key: str) -> None:
    ours, theirs = ({tuple(row[k] for k in key): row for row in rows} for rows in (found, expected))
    assert len(ours) == len(found), f"several rows of one {key}"
    assert sorted(ours, key=repr) == sorted(theirs, key=repr)
    wrong = {k: gold_oracle.differing(theirs[k], ours[k]) for k in ours}
    assert not any(wrong.values()), {k: (v, theirs[k], ours[k]) for k, v in wrong.items() if v}


def trade(number: int, when: str, side: str, quantity: int, price: str, **other: Any) -> dict[str, Any]:
    instant = datetime.fromisoformat(f"{when}:00+00:00")
    told = {
        "trade_id": f"T{number}", "symbol": "AAA", "price": Decimal(price), "quantity": quantity, "trade_type": side,
        "total_value": Decimal(price) * quantity, "order_type": "LIMIT", "trader_id": "TR1", "exchange": "NYSE",
        "trade_timestamp": instant, "trade_date": instant.date(), "account_id": None, "status": "EXECUTED",
        "commission": None,
    }  # fmt: skip
    return {**told, **other}


FRIDAY, MONDAY, TUESDAY = date(2025, 6, 6), date(2025, 6, 9), date(2025, 6, 10)


def change(key: str, day: date, **attributes: Any) -> dim_oracle.ChangeEvent:
    return dim_oracle.ChangeEvent(key, day, None, 0, False, attributes)


MODEL_CHECKS = (
    model.dimensions_follow_from_their_log, model.versions_are_disjoint, model.previous_values_have_a_date,
    model.facts_follow_silver, model.foreign_keys_resolve, model.trades_settle_as_their_exchange_says,
    model.values_add_up, model.lots_add_up,
)  # fmt: skip
"""Of what the jobs make of trades and changes; the minutes of dim_time, nothing here touches."""


def broken(found: Market, *checks: Any) -> list[tuple[str, str, int | None]]:
    findings = verify.findings(found.spark, found.lake.settings, *(checks or MODEL_CHECKS))
    return sorted((f.check, f.table, f.violations) for f in findings if not f.holds)
