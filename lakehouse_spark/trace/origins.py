"""Of which rows of silver and of which members a derived row is made, table by table, and how it is made of them.

Pure. To compute a row again, a table's own `build` is given these rows and nothing else: where it gives another value
than the table holds, either the table is wrong or the trace is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cache
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import FACTS
from lakehouse_spark.dim import dim_account, dim_exchange, dim_symbol, dim_trader
from lakehouse_spark.gold import (
    daily_trading_summary,
    fact_orderbook,
    fact_trades,
    market_overview,
    open_lots,
    portfolio_positions,
    trade_analytics,
    trader_performance,
)
from lakehouse_spark.gold.fact import SETTLEMENTS
from lakehouse_spark.lake import frames
from lakehouse_spark.lake.pruning import midnight
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import orderbook_snapshots, trader_activity, trades
from lakehouse_spark.silver.trades import live
from lakehouse_spark.transforms import market_hours

Subject = Mapping[str, Any]
"""The values of a row that say of which rows it is made."""

Rows = Mapping[str, DataFrame]
"""By the name of their table, or of their dimension."""

Choice = Callable[[DataFrame], DataFrame]
"""Of rows that have the columns of a silver table, those that matter."""

_DAY = timedelta(days=1)


def all_of(rows: DataFrame) -> DataFrame:
    return rows


@dataclass(frozen=True)
class Use:
    """Rows of a silver table that a row is made of: what they are there for, and which they are.

    All of them are of a day from `since` (None: any) to `last`, have the texts `like` in these columns, and are of the
    `symbols` (None: of any): by that, files and records are left out before they are read. Where it takes a query to
    say that, or which of them are the `rows`, it is asked when it is needed.
    """

    what: str
    last: date
    first: date | Callable[[], date | None] | None = None
    like: Mapping[str, str] = field(default_factory=dict)
    symbols: DataFrame | None = None
    rows: Choice = all_of
    columns: frozenset[str] = frozenset()
    """The columns that need them; none: all."""

    @property
    def since(self) -> date | None:
        return self.first() if callable(self.first) else self.first


@dataclass(frozen=True)
class Made:
    """What a row is made of: rows of silver, by their table's name; members, by their dimension's name."""

    spark: SparkSession
    settings: Settings
    silver: Mapping[str, DataFrame]
    members: Mapping[str, DataFrame]

    @property
    def trades(self) -> DataFrame:
        return self.silver[trades.TABLE.name]

    @property
    def books(self) -> DataFrame:
        return self.silver[orderbook_snapshots.TABLE.name]

    @property
    def exchanges(self) -> list[dict[str, Any]]:
        """Its exchanges, of which there are a handful."""
        return [row.asDict() for row in self.members[dim_exchange.DIMENSION.name].collect()]


class Origin:
    """Of a derived table."""

    def subject(self, row: Subject, silver: Rows) -> Subject:
        """Of a row, and of the silver row behind it, what says of which rows it is made."""
        return row

    def members(self, subject: Subject) -> dict[str, list[str]]:
        """The natural keys of the members, by dimension; of accounts, the trader whose they are or were."""
        return {}

    def uses(self, subject: Subject, held: Rows, members: Rows) -> dict[str, list[Use]]:
        """What of silver it is made of, by table; `held` are all rows of the silver tables."""
        raise NotImplementedError

    def made(self, subject: Subject, of: Made) -> DataFrame:
        """The row made of just that, stamp left out; other rows may come with it."""
        raise NotImplementedError

    def matches(self, subject: Subject, of: Made) -> DataFrame | None:
        """Where lots are closed by trades: the shares that were opened and closed together (see lots.pieces)."""
        return None


def _of_day(day: date, what: str, *columns: str, **like: str) -> Use:
    return Use(what, day, day, like, columns=frozenset(columns))


def _before(day: date) -> Column:
    return F.col("trade_timestamp") < F.lit(midnight(day))


def _last_before(held: DataFrame, symbols: DataFrame, day: date, what: str, *columns: str, **like: str) -> Use:
    """Of each of the `symbols` the last trade that counts of before a day, and what is cancelled of after it."""
    named = symbols.select("symbol").distinct()

    @cache
    def last() -> DataFrame:
        counts = live(held).where(_before(day)).join(F.broadcast(named), on="symbol", how="left_semi")
        found = counts.groupBy("symbol").agg(F.max(trades.place()).alias("_last"))
        return named.join(found, on="symbol", how="left").localCheckpoint()

    @cache
    def first() -> date | None:
        of_all = (F.count_if(F.col("_last").isNull()), F.min(F.to_date("_last.trade_timestamp")))
        lacking, earliest = last().agg(*of_all).collect()[0]
        return None if lacking else earliest

    def rows(of: DataFrame) -> DataFrame:
        found = of.where(_before(day)).join(F.broadcast(last()), on="symbol", how="inner")
        counts = F.col("_last").isNull() | (F.col("_last") <= trades.place())
        return found.where(counts).select(*of.columns)

    return Use(what, day - _DAY, first, like, named, rows, frozenset(columns))


class Activity(Origin):
    def uses(self, subject: Subject, held: Rows, members: Rows) -> dict[str, list[Use]]:
        like = {"trader_id": subject["trader_id"], "symbol": subject["symbol"]}
        return {trades.TABLE.name: [Use("trade of the day", subject["activity_date"], subject["activity_date"], like)]}

    def made(self, subject: Subject, of: Made) -> DataFrame:
        return trader_activity.build(of.trades)


class FactOf(Origin):
    """A fact follows one row of silver."""

    def __init__(self, name: str) -> None:
        self.fact = FACTS[name]

    def subject(self, row: Subject, silver: Rows) -> Subject:
        (name,) = self.fact.table.key
        rows = silver[self.fact.source.name].where(F.col(name) == row[name])
        found = rows.select(*self.fact.references, F.to_date(self.fact.source_time).alias("_day")).first()
        return {name: row[name], **(found.asDict() if found else {})}

    def members(self, subject: Subject) -> dict[str, list[str]]:
        named = ((dimension.name, subject.get(column)) for column, dimension in self.fact.references.items())
        return {name: [member] for name, member in named if member is not None}

    def uses(self, subject: Subject, held: Rows, members: Rows) -> dict[str, list[Use]]:
        (name,) = self.fact.table.key
        if "_day" not in subject:
            return {}
        chosen = Use(
            "the event", subject["_day"], subject["_day"], rows=lambda of: of.where(F.col(name) == subject[name])
        )
        return {self.fact.source.name: [chosen]}

    def made(self, subject: Subject, of: Made) -> DataFrame:
        day = subject["_day"]
        settlements = (
            market_hours.settlements(of.exchanges, [(day, day)]) if dim_exchange.DIMENSION.name in of.members else []
        )
        looked_up = {**of.members, SETTLEMENTS: frames.of_rows(of.spark, settlements, market_hours.SETTLEMENTS)}
        return self.fact.build(of.silver[self.fact.source.name], looked_up, of.settings.gold.commission_bps)


class Summary(Origin):
    def members(self, subject: Subject) -> dict[str, list[str]]:
        return {dim_symbol.DIMENSION.name: [subject["symbol"]]}

    def uses(self, subject: Subject, held: Rows, members: Rows) -> dict[str, list[Use]]:
        day, symbol = subject["summary_date"], subject["symbol"]
        of_day = _of_day(day, "trade of the day", symbol=symbol)
        mine = held[trades.TABLE.name].where(F.col("symbol") == symbol)
        base = _last_before(mine, mine, day, "last close before", "price_change_pct", symbol=symbol)
        return {
            trades.TABLE.name: [of_day, base],
            orderbook_snapshots.TABLE.name: [_of_day(day, "order book of the day", "avg_spread", symbol=symbol)],
        }

    def made(self, subject: Subject, of: Made) -> DataFrame:
        return _summaries(of.trades, of.books, of.members[dim_symbol.DIMENSION.name])


def _summaries(traded: DataFrame, books: DataFrame, symbols: DataFrame) -> DataFrame:
    """The summaries of all days of the trades; of an earlier day there may be the last trade alone."""
    none = traded.select("symbol", F.col("trade_date").alias("summary_date"), F.col("price").alias("close_price"))
    return daily_trading_summary.build(live(traded), books, symbols, none.where(F.lit(False)))


_BREADTH = ("advancers", "decliners", "unchanged", "market_volatility_idx")


class Overview(Origin):
    def uses(self, subject: Subject, held: Rows, members: Rows) -> dict[str, list[Use]]:
        day, exchange = subject["overview_date"], subject["exchange"]
        of_day = held[trades.TABLE.name].where(~_before(day) & _before(day + _DAY))
        symbols = live(of_day).where(F.col("exchange") == exchange).select("symbol").distinct().localCheckpoint()

        def elsewhere(of: DataFrame) -> DataFrame:
            theirs = of.where(F.col("exchange") != exchange)
            return theirs.join(F.broadcast(symbols), on="symbol", how="left_semi")

        base = _last_before(held[trades.TABLE.name], symbols, day, "last close before", *_BREADTH)
        return {
            trades.TABLE.name: [
                _of_day(day, "trade on the exchange", exchange=exchange),
                Use("trade of its symbols elsewhere", day, day, rows=elsewhere, columns=frozenset(_BREADTH)),
                base,
            ],
            orderbook_snapshots.TABLE.name: [
                _of_day(day, "order book on the exchange", "avg_spread", exchange=exchange)
            ],
        }

    def made(self, subject: Subject, of: Made) -> DataFrame:
        day, nothing = subject["overview_date"], F.lit(False)
        symbols = frames.of_rows(of.spark, [], dim_symbol.TABLE.schema)
        summaries = _summaries(of.trades, of.books.where(nothing), symbols).where(F.col("summary_date") == day)
        traded = live(of.trades).where(F.col("trade_date") == day)
        return market_overview.build(traded, of.books, summaries)


class Analytics(Origin):
    def members(self, subject: Subject) -> dict[str, list[str]]:
        return {
            dim_symbol.DIMENSION.name: [subject["symbol"]],
            dim_exchange.DIMENSION.name: [subject["exchange"]],
        }

    def uses(self, subject: Subject, held: Rows, members: Rows) -> dict[str, list[Use]]:
        like = {"symbol": subject["symbol"], "exchange": subject["exchange"]}
        return {trades.TABLE.name: [_of_day(subject["analytics_date"], "trade of the day, in any session", **like)]}

    def made(self, subject: Subject, of: Made) -> DataFrame:
        day, gold = subject["analytics_date"], of.settings.gold
        nothing = dict.fromkeys(dim_exchange.TABLE.column_names)
        exchanges = of.exchanges or [{**nothing, "exchange_code": subject["exchange"]}]
        hours = frames.of_rows(of.spark, market_hours.hours(exchanges, day, day), market_hours.HOURS)
        symbols = of.members[dim_symbol.DIMENSION.name]
        return trade_analytics.build(live(of.trades), symbols, hours, gold.large_trade_quantity, gold.large_trade_value)


def default_account(accounts: DataFrame, trader: str) -> str:
    """The account that those trades of the trader are booked to which name none."""
    found = open_lots.default_accounts(accounts).where(F.col("trader_id") == trader).first()
    return str(found["account_id"]) if found else open_lots.UNKNOWN


class _OfLots(Origin):
    """What follows from the lots of a trader, by FIFO over all history."""

    def members(self, subject: Subject) -> dict[str, list[str]]:
        return {dim_account.DIMENSION.name: [subject["trader_id"]]}

    def _account(self, subject: Subject, members: Mapping[str, DataFrame]) -> Column:
        """The account that a trade of the trader is booked to."""
        default = default_account(members[dim_account.DIMENSION.name], subject["trader_id"])
        return F.coalesce("account_id", F.lit(default))

    def _pieces(self, of: Made, booked: DataFrame) -> DataFrame:
        return open_lots.pieces(frames.of_rows(of.spark, [], open_lots.TABLE.schema), booked)

    def _booked(self, of: Made, subject: Subject) -> DataFrame:
        theirs = live(of.trades).where(F.col("trader_id") == subject["trader_id"])
        return open_lots.booked(theirs, of.members[dim_account.DIMENSION.name])

    def matches(self, subject: Subject, of: Made) -> DataFrame | None:
        return self._pieces(of, self._booked(of, subject))


_OF_CLOSES = ("realized_pnl", "win_rate", "avg_hold_time_sec", "max_drawdown_pct", "sharpe_ratio")


class Performance(_OfLots):
    def members(self, subject: Subject) -> dict[str, list[str]]:
        return {**super().members(subject), dim_trader.DIMENSION.name: [subject["trader_id"]]}

    def uses(self, subject: Subject, held: Rows, members: Rows) -> dict[str, list[Use]]:
        day, trader = subject["performance_date"], subject["trader_id"]
        account = self._account(subject, members)
        theirs = held[trades.TABLE.name].where((F.col("trader_id") == trader) & _before(day + _DAY))
        of_day = live(theirs).where(~_before(day))
        traded = of_day.select(account.alias("_account"), "symbol").distinct().localCheckpoint()

        def before(of: DataFrame) -> DataFrame:
            booked = of.where(_before(day)).withColumn("_account", account)
            return booked.join(F.broadcast(traded), on=["_account", "symbol"], how="left_semi").select(*of.columns)

        like = {"trader_id": trader}
        earlier = Use(
            "trade before in what was traded on the day",
            day - _DAY,
            None,
            like,
            rows=before,
            columns=frozenset(_OF_CLOSES),
        )
        return {trades.TABLE.name: [_of_day(day, "trade of the day", **like), earlier]}

    def made(self, subject: Subject, of: Made) -> DataFrame:
        day, booked = subject["performance_date"], self._booked(of, subject)
        pieces = self._pieces(of, booked)
        of_day = booked.where(F.col("trade_date") == day)
        return trader_performance.build(of_day, pieces, of.members[dim_trader.DIMENSION.name])


_OF_PRICE = ("current_price", "market_value", "unrealized_pnl", "unrealized_pnl_pct", "weight_pct")


class Positions(_OfLots):
    def uses(self, subject: Subject, held: Rows, members: Rows) -> dict[str, list[Use]]:
        day, symbol, traded = subject["position_date"], F.col("symbol") == subject["symbol"], held[trades.TABLE.name]
        booked = _booked_until(subject, self._account(subject, members), day, "trade of the account")
        theirs = booked.rows(traded.where((F.col("trader_id") == subject["trader_id"]) & _before(day + _DAY)))
        symbols = live(theirs).select("symbol").distinct().localCheckpoint()
        mine = {"symbol": subject["symbol"]}
        own = replace(booked, what="trade of the position", like={**booked.like, **mine})
        others = replace(
            booked,
            what="trade of the account's other positions",
            rows=lambda of: booked.rows(of).where(~symbol),
            columns=frozenset({"weight_pct"}),
        )
        price = _last_before(traded, symbols.where(symbol), day + _DAY, "last price", *_OF_PRICE, **mine)
        prices = _last_before(
            traded, symbols.where(~symbol), day + _DAY, "last price of another position", "weight_pct"
        )
        return {trades.TABLE.name: [own, others, price, prices, _witness(traded, day)]}

    def made(self, subject: Subject, of: Made) -> DataFrame:
        days = _only(of.spark, subject["position_date"])
        pieces = self._pieces(of, self._booked(of, subject))
        symbol_days = live(of.trades).groupBy("symbol", F.col("trade_date").alias("summary_date"))
        closes = symbol_days.agg(F.max_by("price", trades.place()).alias("close_price"))
        return portfolio_positions.build(open_lots.build(pieces, days), closes)


class Lots(_OfLots):
    def uses(self, subject: Subject, held: Rows, members: Rows) -> dict[str, list[Use]]:
        day, account = subject["lot_date"], self._account(subject, members)
        booked = _booked_until(subject, account, day, "trade of the account in the symbol", symbol=subject["symbol"])
        return {trades.TABLE.name: [booked, _witness(held[trades.TABLE.name], day)]}

    def made(self, subject: Subject, of: Made) -> DataFrame:
        pieces = self._pieces(of, self._booked(of, subject))
        return open_lots.build(pieces, _only(of.spark, subject["lot_date"]))


def _booked_until(subject: Subject, account: Column, day: date, what: str, **like: str) -> Use:
    texts = {"trader_id": subject["trader_id"], **like}
    return Use(what, day, None, texts, rows=lambda of: of.where(account == subject["account_id"]))


def _witness(traded: DataFrame, day: date) -> Use:
    """One trade by which there is a day at all."""

    @cache
    def chosen() -> Column:
        of_day = live(traded).where(~_before(day) & _before(day + _DAY))
        found = of_day.agg(F.min(trades.place())).collect()[0][0]
        return F.lit(False) if found is None else F.col("trade_id") == found["trade_id"]

    return Use("witness that there was trading on the day", day, day, rows=lambda of: of.where(chosen()))


def _only(spark: SparkSession, day: date) -> DataFrame:
    return spark.range(1).select(F.lit(day).alias("day"))


ORIGINS: Mapping[str, Origin] = {
    trader_activity.TABLE.name: Activity(),
    fact_trades.TABLE.name: FactOf(fact_trades.TABLE.short_name),
    fact_orderbook.TABLE.name: FactOf(fact_orderbook.TABLE.short_name),
    daily_trading_summary.TABLE.name: Summary(),
    market_overview.TABLE.name: Overview(),
    trade_analytics.TABLE.name: Analytics(),
    open_lots.TABLE.name: Lots(),
    trader_performance.TABLE.name: Performance(),
    portfolio_positions.TABLE.name: Positions(),
}
"""By name of the table."""
