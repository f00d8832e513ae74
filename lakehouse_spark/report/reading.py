"""What a report tells, read from the tables: sums and small results only, and as few Spark queries as that takes.

Sizes, stamps and counts of the flow come from Iceberg's own metadata and from cursors, which cost no query.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lakehouse_spark.catalog import FACTS, FEEDS
from lakehouse_spark.gold import (
    daily_trading_summary,
    portfolio_positions,
    trader_performance,
)
from lakehouse_spark.iceberg import inventory
from lakehouse_spark.iceberg.inventory import Inventory
from lakehouse_spark.lake import snapshots
from lakehouse_spark.lake.cursor import FeedCursor
from lakehouse_spark.lake.pruning import day_predicate
from lakehouse_spark.report.model import (
    Flow,
    Minute,
    Position,
    Rejects,
    Report,
    SymbolDay,
    Trader,
    TraderDay,
)
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import orderbook_snapshots, rejected_records, trades
from lakehouse_spark.table import Table

_FACTS = {fact.source.name: fact.table.name for fact in FACTS.values()}
_LATEST_DAYS = 7
_STRAGGLERS = 0.1
"""A day with a smaller share of the trades of the busiest of the latest days holds stragglers, and is not chosen."""
_MOST_POSITIONS = 10
_MOST_DAYS = 1000


def read(
    spark: SparkSession,
    settings: Settings,
    *,
    symbol: str | None = None,
    trader: str | None = None,
    day: date | None = None,
    now: datetime | None = None,
) -> Report:
    """The report of a lakehouse in whatever state it is; writes nothing.

    The day is by default the newest one with more than stragglers, the symbol and the trader the most traded and the
    most active one of that day. P&L and positions are as of `day` where it is given, else as of now.
    """
    lake = Lakehouse(spark, inventory.read(settings))
    chosen = _choice(lake, symbol, day)
    shown_trader = _trader(lake, trader, on=chosen[1] if chosen else None, upto=day)
    theirs = shown_trader.trader_id if shown_trader else None
    positions = _positions(lake, theirs, upto=day)
    return Report(
        made_at=now or datetime.now(UTC),
        profile=settings.profile,
        tables=tuple(lake.inventory.tables.values()),
        flows=_flows(lake),
        rejects=_rejects(lake),
        symbol_day=_symbol_day(lake, *chosen) if chosen else None,
        trader=shown_trader,
        positions=tuple(p for rank, _, p in positions if rank <= _MOST_POSITIONS),
        positions_of_trader=tuple(p for _, rank, p in positions if p.trader_id == theirs and rank <= _MOST_POSITIONS),
        missing=tuple(lake.missing),
        drifts=tuple(lake.inventory.drifts),
    )


class Lakehouse:
    """The tables as they were when the report began; what cannot be shown is said in `missing`."""

    def __init__(self, spark: SparkSession, found: Inventory) -> None:
        self.spark, self.inventory = spark, found
        self.missing: list[str] = []
        if not found.tables:
            self.missing.append("There is no lakehouse here yet. Run: lakehouse migrate")
        elif found.absent:
            self.missing.append(f"Tables are missing: {', '.join(found.absent)}. Run: lakehouse migrate")

    def has(self, table: Table) -> bool:
        return self.inventory.has(table)

    def rows(self, table: Table) -> DataFrame:
        state = self.inventory.states.get(table.name)
        if state is None:
            return self.spark.table(table.identifier)
        return snapshots.at(self.spark, table, state.snapshot_id)


# The flow


def _flows(lake: Lakehouse) -> tuple[Flow, ...]:
    flows, tables = [], lake.inventory.tables
    for feed in FEEDS.values():
        source, silver = feed.topic.table.name, feed.table.name
        if source not in tables:
            continue
        state = lake.inventory.states.get(silver)
        cursor = state.cursor_as(FeedCursor) if state else None
        totals = cursor.totals if cursor else {}
        facts = _FACTS.get(silver)
        flows.append(
            Flow(
                topic=feed.topic.name,
                bronze=tables[source].rows,
                **{name: int(totals.get(name, 0)) for name in ("accepted", "duplicates", "rejected")},
                silver=tables[silver].rows if silver in tables else 0,
                facts=tables[facts].rows if facts is not None and facts in tables else None,
                replayed=int(totals.get("replayed", 0)),
            )
        )
    return tuple(flows)


def _rejects(lake: Lakehouse) -> tuple[Rejects, ...]:
    if not lake.has(rejected_records.TABLE):
        return ()
    topic, reason = F.col("source_table").alias("topic"), F.explode("reasons").alias("reason")
    letters = lake.rows(rejected_records.TABLE).select(topic, reason)
    counted = letters.groupBy("topic", "reason").agg(F.count("*").alias("records")).collect()
    found = (Rejects(row["topic"].removeprefix("bronze."), row["reason"], row["records"]) for row in counted)
    return tuple(sorted(found, key=lambda row: (-row.records, row.topic, row.reason)))


# A symbol's day


def _choice(lake: Lakehouse, symbol: str | None, day: date | None) -> tuple[str, date] | None:
    """The symbol and day to show, of gold's summaries or, where gold has none, of silver's trades."""
    if not lake.has(trades.TABLE):
        lake.missing.append("No trades yet. Run: lakehouse run pipeline")
        return None
    table = daily_trading_summary.TABLE
    if lake.has(table):
        days = lake.rows(table).select(F.col("summary_date").alias("day"), "symbol", "trade_count")
    else:
        lake.missing.append(f"{table.name} is empty. Run: lakehouse run gold_aggregator")
        traded = _live(lake).groupBy(F.col("trade_date").alias("day"), "symbol")
        days = traded.agg(F.count("*").alias("trade_count"))
    if symbol is not None:
        days = days.where(F.col("symbol") == symbol)
    if day is not None:
        days = days.where(F.col("day") == F.lit(day))
    latest = days.groupBy("day").agg(
        F.sum("trade_count").alias("trades"), F.max_by("symbol", F.struct("trade_count", "symbol")).alias("symbol")
    )
    found = latest.orderBy(F.desc("day")).limit(_LATEST_DAYS).collect()
    if not found:
        asked = (f" of {symbol}" if symbol else "") + (f" on {day}" if day else "")
        lake.missing.append(f"No trades{asked}." if asked else "All trades are cancelled.")
        return None
    busiest = max(row["trades"] for row in found)
    shown = next(row for row in found if row["trades"] >= busiest * _STRAGGLERS)
    return shown["symbol"], shown["day"]


def _symbol_day(lake: Lakehouse, symbol: str, day: date) -> SymbolDay:
    """The day minute by minute: at most 1,440 small rows, by one query; and its summary."""
    traded = _live(lake).where((F.col("symbol") == symbol) & day_predicate("trade_timestamp", [(day, day)]))
    minutes = traded.groupBy(_minute("trade_timestamp")).agg(
        F.max_by("price", F.struct("trade_timestamp", "trade_id")).alias("price"),
        F.min("price").alias("low"),
        F.max("price").alias("high"),
        F.try_sum("quantity").alias("volume"),
        F.count("*").alias("trades"),
    )
    if lake.has(orderbook_snapshots.TABLE):
        books = lake.rows(orderbook_snapshots.TABLE).where(F.col("symbol") == symbol)
        spreads = books.where(day_predicate("snapshot_time", [(day, day)])).groupBy(_minute("snapshot_time"))
        of_books = spreads.agg(F.avg(F.col("spread").cast("double")).alias("spread"), F.count("spread").alias("books"))
        minutes = minutes.unionByName(of_books, allowMissingColumns=True)
    by_minute: dict[int, dict[str, Any]] = {}
    for row in minutes.collect():
        by_minute.setdefault(row["at"], {}).update({k: v for k, v in row.asDict().items() if v is not None})
    summary = None
    if lake.has(daily_trading_summary.TABLE):
        table = lake.rows(daily_trading_summary.TABLE)
        rows = table.where((F.col("summary_date") == F.lit(day)) & (F.col("symbol") == symbol)).collect()
        summary = rows[0].asDict() if rows else None
    return SymbolDay(symbol, day, tuple(Minute(**by_minute[at]) for at in sorted(by_minute)), summary)


def _live(lake: Lakehouse) -> DataFrame:
    return trades.live(lake.rows(trades.TABLE))


def _minute(column: str) -> Column:
    """Minutes since midnight UTC; a number, since instants are collected in the zone of the machine."""
    return (F.hour(column) * 60 + F.minute(column)).alias("at")


# Traders


def _trader(lake: Lakehouse, trader: str | None, *, on: date | None, upto: date | None) -> Trader | None:
    """The days of one trader, by one query: of the one asked for, else of the most active one `on` a day."""
    table = trader_performance.TABLE
    if not lake.has(table):
        if lake.has(trades.TABLE):
            lake.missing.append(f"{table.name} is empty. Run: lakehouse run gold_aggregator")
        return None
    rows = lake.rows(table)
    if upto is not None:
        rows = rows.where(F.col("performance_date") <= F.lit(upto))
    if trader is None:
        of_day = rows if on is None else rows.where(F.col("performance_date") <= F.lit(on))
        order = (F.desc("performance_date"), F.desc("total_trades"), "trader_id")
        rows = rows.join(
            F.broadcast(of_day.orderBy(*order).limit(1).select("trader_id")), on="trader_id", how="left_semi"
        )
    else:
        rows = rows.where(F.col("trader_id") == trader)
    found = rows.orderBy(F.desc("performance_date")).limit(_MOST_DAYS).collect()
    if not found:
        until = f" up to {upto}" if upto else ""
        lake.missing.append(f"No trades of {f'trader {trader}' if trader else 'any trader'}{until}.")
        return None
    if len(found) == _MOST_DAYS:
        lake.missing.append(f"Trader {found[0]['trader_id']}: the latest {_MOST_DAYS:,} days only.")
    days = [
        TraderDay(
            row["performance_date"], row["realized_pnl"], row["total_trades"], row["total_notional"], row["win_rate"]
        )
        for row in reversed(found)
    ]
    return Trader(found[0]["trader_id"], found[0]["trader_name"], tuple(days))


def _positions(lake: Lakehouse, trader: str | None, *, upto: date | None) -> Sequence[tuple[int, int, Position]]:
    """The largest positions of the newest day up to one, with their ranks among all and among their trader's."""
    table = portfolio_positions.TABLE
    if not lake.has(table):
        return []
    held = lake.rows(table)
    if upto is not None:
        held = held.where(F.col("position_date") <= F.lit(upto))
    newest = held.agg(F.max("position_date").alias("position_date"))
    held = held.join(F.broadcast(newest), on="position_date", how="left_semi")
    by_size = (F.abs("market_value").desc_nulls_last(), "symbol", "trader_id", "account_id")
    ranked = held.withColumns(
        {
            "_rank": F.row_number().over(Window.partitionBy(F.lit(1)).orderBy(*by_size)),
            "_own": F.row_number().over(Window.partitionBy("trader_id").orderBy(*by_size)),
        }
    )
    wanted = F.col("_rank") <= _MOST_POSITIONS
    if trader is not None:
        wanted |= (F.col("_own") <= _MOST_POSITIONS) & (F.col("trader_id") == trader)
    return [(row["_rank"], row["_own"], _position(row)) for row in ranked.where(wanted).orderBy("_rank").collect()]


def _position(row: Any) -> Position:
    return Position(
        row["position_date"], row["trader_id"], row["account_id"], row["symbol"], row["quantity"],
        row["avg_cost_basis"], row["current_price"], row["market_value"], row["unrealized_pnl"],
        row["unrealized_pnl_pct"],
    )  # fmt: skip
