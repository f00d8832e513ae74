"""`gold._open_lots`: the lots behind every position at the end of a day, from which the next day goes on."""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.gold.scope import Scope
from lakehouse_spark.table import GOLD_POLICY, Table, column
from lakehouse_spark.transforms import lots
from lakehouse_spark.types import DATE, INSTANT, LONG, PRICE, TEXT

TABLE = Table(
    name="gold._open_lots",
    doc="Open FIFO lots, one row per lot per UTC day with trades anywhere; keeps a day's cost independent of history.",
    columns=(
        column("lot_date", DATE, "Open at the end of this day (UTC)"),
        column("trader_id", TEXT, "Trader identifier"),
        column("account_id", TEXT, "Trading account; UNKNOWN where none is known"),
        column("symbol", TEXT, "Ticker symbol"),
        column("trade_id", TEXT, "Trade that opened the lot"),
        column("opened_at", INSTANT, "When it was opened (UTC)"),
        column("side", TEXT, "BUY: held long, SELL: sold short"),
        column("price", PRICE, "Entry price"),
        column("quantity", LONG, "Shares left"),
        column("_computed_at", INSTANT, "Commit stamp: when the row was computed"),
    ),
    key=("lot_date", "trader_id", "account_id", "symbol", "trade_id"),
    partitioned_by=("days(lot_date)",),
    stamp="_computed_at",
    policy=GOLD_POLICY,
    sources=("silver.trades", "dim.dim_account", "gold.daily_trading_summary"),
    lookups=("gold.daily_trading_summary",),  # its days are those of the trades, which are followed
    checks={
        "quantity_is_positive": "quantity > 0",
    },
)

UNKNOWN = "UNKNOWN"
"""Account of a trade that names none, by a trader who has none."""


def build(pieces: DataFrame, days: DataFrame) -> DataFrame:
    """The lots open at the end of each of `days` (column `day`), stamp left out."""
    opened = lots.open_at_end_of(pieces, days).withColumnRenamed("day", "lot_date")
    return opened.select(*(name for name in TABLE.column_names if name != TABLE.stamp))


def booked(trades: DataFrame, accounts: DataFrame) -> DataFrame:
    """The trades, each with the account it is booked to: its own, else its trader's default one, else UNKNOWN."""
    defaults = default_accounts(accounts).withColumnRenamed("account_id", "_default")
    joined = trades.join(F.broadcast(defaults), on="trader_id", how="left")
    account = F.coalesce("account_id", "_default", F.lit(UNKNOWN))
    return joined.withColumn("account_id", account).drop("_default")


def default_accounts(accounts: DataFrame) -> DataFrame:
    """`trader_id` and `account_id` of each trader's earliest opened account; undated ones last, ties by account_id."""
    opened = F.col("account_open_date")
    first = F.min_by("account_id", F.struct(opened.isNull(), opened, F.col("account_id")))
    owned = accounts.where(F.col("trader_id").isNotNull())
    return owned.groupBy("trader_id").agg(first.alias("account_id"))


def moved_traders(accounts: DataFrame, changed: DataFrame, were: DataFrame, performed: DataFrame) -> DataFrame:
    """Traders (`trader_id`) in `performed` whose default account is another one than it was.

    `accounts` is dim_account now, `changed` the `account_id`s that changed since, `were` these as they were before.
    """
    columns = ("account_id", "trader_id", "account_open_date")
    same = accounts.join(changed, on="account_id", how="left_anti")
    earlier = default_accounts(same.select(*columns).unionByName(were.select(*columns)))
    now = default_accounts(accounts).withColumnRenamed("account_id", "_now")
    both = earlier.join(now, on="trader_id", how="full")
    moved = both.where(~F.col("account_id").eqNullSafe(F.col("_now"))).select("trader_id")
    return moved.join(performed.select("trader_id"), on="trader_id", how="left_semi")


def opening(held: DataFrame, scope: Scope, before: date | None) -> DataFrame:
    """The held lots from which the scope goes on: those open at the end of the last trading day outside of it, which is
    `before` for everybody, and for some traders the `eve` of their own."""
    of_others = scope.of_others(held.where(F.col("lot_date") == F.lit(before)))
    if scope.traders is None:
        return of_others
    eves = F.broadcast(scope.traders.select("trader_id", F.col("eve").alias("lot_date")))
    return of_others.unionByName(held.join(eves, on=["trader_id", "lot_date"], how="left_semi"))


def touched(traded: DataFrame, repriced: DataFrame, moved: DataFrame | None, everybody: date | None) -> DataFrame:
    """The traders with news, and the first day of theirs (`trader_id`, `since`) that these touch, if that is before the
    one from which `everybody` is touched.

    `traded` are the `trader_id`, `symbol` and `trade_date` of trades that changed; `repriced` and `moved` name traders
    with the day `since` which they are touched.
    """
    days = traded.select("trader_id", F.col("trade_date").alias("since")).unionByName(repriced)
    of_all = days if moved is None else days.unionByName(moved)
    first = of_all.groupBy("trader_id").agg(F.min("since").alias("since"))
    return first if everybody is None else first.where(F.col("since") < F.lit(everybody))


def with_eves(touched: DataFrame, days: DataFrame) -> DataFrame:
    """The traders with `eve`, the last of the trading `days` (column `day`) before `since`; NULL without any."""
    first = touched.select("since").distinct()
    earlier = first.join(F.broadcast(days), on=F.col("day") < F.col("since"), how="inner")
    eves = earlier.groupBy("since").agg(F.max("day").alias("eve"))
    return touched.join(F.broadcast(eves), on="since", how="left").select("trader_id", "since", "eve")


def pieces(opening: DataFrame, booked: DataFrame) -> DataFrame:
    """What becomes of the `opening` lots and of the trades `booked` to accounts, as of `lots.pieces`."""
    entered = booked.select(*lots.KEY, "trade_id", "trade_timestamp", "trade_type", "price", "quantity")
    return lots.pieces(lots.as_entries(opening).unionByName(entered))


def of_scope(pieces: DataFrame, days: DataFrame, scope: Scope) -> DataFrame:
    """`build` of the scope's days among all `days` (column `day`)."""
    recent = build(scope.of_others(pieces), days.where(F.col("day") >= F.lit(scope.first)))
    theirs = scope.of_traders(pieces)
    if theirs is None:
        return recent
    return recent.unionByName(scope.of(build(theirs, days.where(F.col("day") >= F.lit(scope.earliest))), "lot_date"))
