"""What W5 starts from: days of silver with gold built of them, and what is new in silver since: fifteen minutes more
in the last day, or a trade of thirty days ago that is cancelled.

Run as a module it fills the tables, in a process whose JVM ends with it.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks import contents, lake, trades
from benchmarks.contents import Columns
from benchmarks.filling import as_rows, in_process, silver, with_instants
from benchmarks.plan import Case, Inputs
from lakehouse_spark.bronze import raw_reference
from lakehouse_spark.dim import dim_account, dim_exchange, dim_symbol, dim_trader
from lakehouse_spark.gold import (
    daily_trading_summary,
    market_overview,
    open_lots,
    portfolio_positions,
    trade_analytics,
    trader_performance,
)
from lakehouse_spark.jobs import gold_aggregator
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import UpstreamCursor
from lakehouse_spark.lake.pruning import around, time_set
from lakehouse_spark.lake.session import open_session
from lakehouse_spark.metadata import retired_keys, surrogate_keys
from lakehouse_spark.migrations import baseline
from lakehouse_spark.settings import conf_dir
from lakehouse_spark.silver import orderbook_snapshots, rejected_records
from lakehouse_spark.silver import trades as silver_trades
from lakehouse_spark.table import Table

SILVER, BOOKS = silver_trades.TABLE, orderbook_snapshots.TABLE
GOLD = (
    daily_trading_summary.TABLE, market_overview.TABLE, trade_analytics.TABLE, open_lots.TABLE,
    trader_performance.TABLE, portfolio_positions.TABLE,
)  # fmt: skip
_DIMENSIONS = (dim_symbol.DIMENSION, dim_trader.DIMENSION, dim_account.DIMENSION)
_TABLES = (
    SILVER, BOOKS, *GOLD, *(dimension.table for dimension in _DIMENSIONS), raw_reference.TABLE, surrogate_keys.TABLE,
    retired_keys.TABLE, dim_exchange.TABLE, rejected_records.TABLE,
)  # fmt: skip

LAST_DAY = "2025-03-06"
"""A Thursday; histories of any length end here, so that the increment is the same for all."""

TRADES, SNAPSHOTS = 200, 40
"""Of fifteen minutes: a 26th of a session."""

CANCELLED = "T20250204-000002"
"""Thirty days before the last: it opened what another trade closed on the day after, so that its trader is short of it
on every day since."""

_SYMBOLS, _TRADERS, _QUARTERS = 40, 200, 26

# Trades come in pairs, of one trader in one symbol: one opens, the other closes as many shares, half of them the day
# after. So what is held at the end of a day does not grow with the days. Their times within a session are a permutation
# of its slots; `late` are those of the last fifteen minutes of the last day.
_TRADES = f"""
    WITH placed AS (
        SELECT DATE '{LAST_DAY}' - back::INTEGER AS day, s, s // 2 AS pair, s % 2 = 1 AS closes,
            (s * 1597) % $per_day AS slot,
            back = 0 AND (s * 1597) % $per_day >= $per_day - $per_day // {_QUARTERS} AS late
        FROM (SELECT range AS back FROM range($days)), (SELECT range AS s FROM range($per_day))
    ),
    paired AS (SELECT *, CASE WHEN closes AND pair % 2 = 1 THEN day - 1 ELSE day END AS opened FROM placed),
    drawn AS (
        SELECT *, (hash(opened, pair, 1) % {_SYMBOLS})::INTEGER AS number,
            (hash(opened, pair, 2) % {_TRADERS})::INTEGER AS who,
            (hash(opened, pair, 3) % 2 = 0) <> closes AS buys
        FROM paired
    )
    SELECT concat('T', strftime(day, '%Y%m%d'), '-', lpad(s::VARCHAR, 6, '0')) AS trade_id,
        concat('SYM', lpad(number::VARCHAR, 3, '0')) AS symbol,
        ((2000 + 700 * number + hash(day, s, 4) % 500) / 100)::DECIMAL(18, 2) AS price,
        (1 + hash(opened, pair, 5) % 5000)::BIGINT AS quantity,
        CASE WHEN buys THEN 'BUY' ELSE 'SELL' END AS trade_type,
        (['MARKET', 'LIMIT', 'STOP'])[1 + (hash(day, s, 6) % 3)::INTEGER] AS order_type,
        concat('TRD-', lpad(who::VARCHAR, 5, '0')) AS trader_id,
        concat('ACC-', lpad(who::VARCHAR, 5, '0'), '-1') AS account_id,
        ({list(trades.VENUES)!r})[1 + (number + (hash(day, s, 7) % 2)::INTEGER) % {len(trades.VENUES)}] AS exchange,
        day + to_microseconds((52200000000 + (slot * 23400000000) // $per_day + hash(day, s, 8) % 1000000)::BIGINT)
            AS moment,
        (s % 3)::INTEGER AS place, ((59 - datediff('day', day, DATE '{LAST_DAY}')) * $per_day + s)::BIGINT AS following,
        late
    FROM drawn
"""
_SNAPSHOTS = f"""
    WITH placed AS (
        SELECT DATE '{LAST_DAY}' - back::INTEGER AS day, s, (hash(back, s, 11) % {_SYMBOLS})::INTEGER AS number
        FROM (SELECT range AS back FROM range($days)), (SELECT range AS s FROM range($per_day))
    ),
    drawn AS (
        SELECT *, ((2000 + 700 * number + hash(day, s, 12) % 500) / 100)::DECIMAL(18, 2) AS bid,
            ((1 + hash(day, s, 13) % 9) / 100)::DECIMAL(18, 2) AS spread,
            day + to_microseconds((52200000000 + (s * 23400000000) // $per_day + hash(day, s, 14) % 1000000)::BIGINT)
                AS moment
        FROM placed
    )
    SELECT md5(concat(day, '|', s)) AS snapshot_id, concat('SYM', lpad(number::VARCHAR, 3, '0')) AS symbol, moment,
        bid AS best_bid_price, 100::BIGINT AS best_bid_qty, (bid + spread)::DECIMAL(18, 2) AS best_ask_price,
        100::BIGINT AS best_ask_qty, spread, 500::BIGINT AS bid_depth_5, 500::BIGINT AS ask_depth_5,
        ({list(trades.VENUES)!r})[1 + number % {len(trades.VENUES)}] AS exchange,
        (s % 3)::INTEGER AS place, s AS following,
        day = DATE '{LAST_DAY}' AND s >= $per_day - $per_day // {_QUARTERS} AS late
    FROM drawn
"""

DAILY: Columns = {
    **{name: name for name in ("summary_date", "symbol", "company_name", "sector", "exchange")},
    **{
        name: f"{name}::DECIMAL(18, 6)"
        for name in ("open_price", "close_price", "high_price", "low_price", "vwap", "total_value", "avg_spread")
    },
    **{name: f"{name}::BIGINT" for name in ("total_volume", "trade_count", "buy_volume", "sell_volume")},
    "price_change_pct": "price_change_pct::DECIMAL(10, 4)",
}
"""All but the volatility, whose last digit hangs on the order in which doubles are added."""

OVERVIEW: Columns = {
    **{name: name for name in ("overview_date", "exchange")},
    **{name: f"{name}::DECIMAL(18, 6)" for name in ("total_value", "avg_spread")},
    **{
        name: f"{name}::BIGINT"
        for name in (
            "total_trades", "total_volume", "active_symbols", "active_traders", "advancers", "decliners", "unchanged",
        )
    },
}  # fmt: skip

# In whole cents and millionths, so that every division is exact and rounded once, half up.
_DAILY_TRUTH = f"""
    WITH sums AS (
        SELECT moment::DATE AS summary_date, symbol, any_value(substr(symbol, 4)::INTEGER) AS number,
            min_by(price, (moment, trade_id)) AS open_price, max_by(price, (moment, trade_id)) AS close_price,
            max(price) AS high_price, min(price) AS low_price,
            sum((price * 100)::HUGEINT * quantity)::HUGEINT AS cents, sum(quantity)::HUGEINT AS total_volume,
            count(*) AS trade_count, sum(CASE WHEN trade_type = 'BUY' THEN quantity ELSE 0 END) AS buy_volume,
            sum(CASE WHEN trade_type = 'SELL' THEN quantity ELSE 0 END) AS sell_volume
        FROM '{{trades}}' GROUP BY ALL
    ),
    spreads AS (
        SELECT moment::DATE AS summary_date, symbol, sum((spread * 1000000)::HUGEINT)::HUGEINT AS millionths,
            count(*) AS books
        FROM '{{books}}' GROUP BY ALL
    ),
    based AS (
        SELECT *, (close_price * 100)::HUGEINT AS last_cents,
            (coalesce(lag(close_price) OVER (PARTITION BY symbol ORDER BY summary_date), open_price) * 100)::HUGEINT
                AS base
        FROM sums LEFT JOIN spreads USING (summary_date, symbol)
    )
    SELECT summary_date, symbol, concat('Company ', number) AS company_name, concat('Sector ', number % 7) AS sector,
        ({list(trades.VENUES)!r})[1 + number % {len(trades.VENUES)}] AS exchange,
        open_price, close_price, high_price, low_price,
        ((2 * cents * 10000 + total_volume) // (2 * total_volume))::DECIMAL(38, 0) AS vwap_millionths,
        cents AS value_cents, total_volume, trade_count, buy_volume, sell_volume,
        ((2 * millionths + books) // (2 * books))::DECIMAL(38, 0) AS spread_millionths,
        sign(last_cents - base) * ((2 * abs(last_cents - base) * 1000000 + base) // (2 * base)) AS change
    FROM based
"""
_OVERVIEW_TRUTH = """
    WITH of_symbol AS (
        SELECT moment::DATE AS overview_date, exchange, symbol, count(*) AS trades, sum(quantity) AS shares,
            sum(price * quantity) AS notional
        FROM '{trades}' GROUP BY ALL
    ),
    sums AS (
        SELECT overview_date, o.exchange, sum(trades) AS total_trades, sum(shares) AS total_volume,
            sum(notional) AS total_value, count(*) AS active_symbols, count_if(change > 0) AS advancers,
            count_if(change < 0) AS decliners, count_if(change = 0) AS unchanged
        FROM of_symbol AS o JOIN daily AS d ON d.summary_date = o.overview_date AND d.symbol = o.symbol
        GROUP BY ALL
    ),
    traders AS (
        SELECT moment::DATE AS overview_date, exchange, count(DISTINCT trader_id) AS active_traders
        FROM '{trades}' GROUP BY ALL
    ),
    spreads AS (
        SELECT moment::DATE AS overview_date, exchange, sum((spread * 1000000)::HUGEINT)::HUGEINT AS millionths,
            count(*) AS books
        FROM '{books}' GROUP BY ALL
    )
    SELECT *, ((2 * millionths + books) // (2 * books))::DECIMAL(38, 0) AS spread_millionths
    FROM sums JOIN traders USING (overview_date, exchange) LEFT JOIN spreads USING (overview_date, exchange)
"""


@contextmanager
def inputs(case: Case, folder: Path) -> Iterator[Inputs]:
    """Gold knows the history; what is new is in silver only."""
    cancels = "cancelled" in case.params
    files = {}
    for name, query, each in (("trades", _TRADES, TRADES), ("books", _SNAPSHOTS, SNAPSHOTS)):
        files[name] = folder / f"{name}.parquet"
        told = {"days": case.params["days"], "per_day": each * _QUARTERS}
        rows = f"SELECT * FROM ({query}) WHERE NOT late" if cancels else query
        duckdb.execute(f"COPY ({rows} ORDER BY moment) TO '{files[name]}' (FORMAT parquet)", told)
    values = in_process("benchmarks.w5_inputs", {"folder": str(folder), "cancels": cancels})
    if cancels:
        counted = folder / "counted.parquet"
        duckdb.execute(f"COPY (FROM '{files['trades']}' WHERE trade_id <> '{CANCELLED}') TO '{counted}'")
        files["trades"] = counted
    yield Inputs(values, _truth(files))


def _truth(files: Mapping[str, Path]) -> dict[str, str]:
    con = duckdb.connect()
    con.execute(f"CREATE TABLE daily AS {_DAILY_TRUTH.format(**files)}")
    con.execute(f"CREATE TABLE overview AS {_OVERVIEW_TRUTH.format(**files)}")
    millionth, cent = "0.000001::DECIMAL(7, 6)", "0.01::DECIMAL(3, 2)"
    daily = {
        **DAILY,
        "vwap": f"(vwap_millionths::DECIMAL(25, 0) * {millionth})::DECIMAL(18, 6)",
        "total_value": f"(value_cents::DECIMAL(25, 0) * {cent})::DECIMAL(18, 6)",
        "avg_spread": f"(spread_millionths::DECIMAL(25, 0) * {millionth})::DECIMAL(18, 6)",
        "price_change_pct": "(change::DECIMAL(20, 0) * 0.0001::DECIMAL(5, 4))::DECIMAL(10, 4)",
    }
    overview = {**OVERVIEW, "avg_spread": daily["avg_spread"]}
    return {
        "daily": contents.digest_in(con, "daily", daily),
        "overview": contents.digest_in(con, "overview", overview),
    }


def fill(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fills a home; what contenders are told of it."""
    folder = Path(given["folder"])
    home = folder / "home"
    settings = lake.here(home)
    spark = open_session(settings, "benchmark inputs")
    lake.create(spark, *_TABLES)
    baseline.seed_exchanges(spark, conf_dir())
    before = datetime.fromisoformat(LAST_DAY).replace(tzinfo=UTC) + timedelta(hours=20, minutes=45)
    _fill_dimensions(spark, before)
    now = before + timedelta(minutes=15)

    def bring(stamp: datetime, *, late: bool) -> None:
        for table, name, build in ((SILVER, "trades", silver), (BOOKS, "books", _books)):
            rows = with_instants(spark.read.parquet(str(folder / f"{name}.parquet")))
            _append(spark, table, build(rows.where(F.col("late") == late), stamp), stamp)

    bring(before, late=False)
    gold_aggregator.run(spark, settings)
    known = contents.current_snapshots(home, (table.name for table in GOLD))
    if given["cancels"]:
        _cancel(spark, now)
    else:
        bring(now, late=True)
    spark.stop()
    return {"home": str(home), "snapshots": known}


def _cancel(spark: SparkSession, stamp: datetime) -> None:
    held = spark.table(SILVER.identifier).where(F.col("trade_id") == CANCELLED)
    times = held.agg(time_set("trade_timestamp")).collect()[0][0]
    base = snapshots.state(spark, SILVER)
    commit.merge(
        spark, SILVER, held.withColumns({"status": F.lit("CANCELLED"), "_processed_at": F.lit(stamp)}), base,
        UpstreamCursor(stamp=stamp, source=SILVER.sources[0], after=base.stamp, upto=stamp),
        bounds=around("trade_timestamp", times), updates=["status", "_processed_at"],
    )  # fmt: skip


def _fill_dimensions(spark: SparkSession, stamp: datetime) -> None:
    """One version of each symbol and trader, one account each."""
    since = {
        "effective_date": F.lit("1900-01-01"), "expiry_date": F.lit("9999-12-31"), "is_current": F.lit(True),
        "_row_hash": F.md5(F.col("id").cast("string").cast("binary")), "is_inferred": F.lit(False),
        "_updated_at": F.lit(stamp),
    }  # fmt: skip
    number = F.col("id").cast("string")
    trader = F.concat(F.lit("TRD-"), F.lpad(number, 5, "0"))
    venues = F.array(*map(F.lit, trades.VENUES))
    told = (
        (dim_symbol.DIMENSION, {
            "symbol": F.concat(F.lit("SYM"), F.lpad(number, 3, "0")),
            "company_name": F.concat(F.lit("Company "), number),
            "sector": F.concat(F.lit("Sector "), (F.col("id") % 7).cast("string")), "industry": F.lit("Any"),
            "listing_exchange": F.get(venues, (F.col("id") % len(trades.VENUES)).cast("int")),
        }),
        (dim_trader.DIMENSION, {"trader_id": trader, "name": F.concat(F.lit("Trader "), number)}),
        (dim_account.DIMENSION, {
            "account_id": F.concat(F.lit("ACC-"), F.lpad(number, 5, "0"), F.lit("-1")), "trader_id": trader,
        }),
    )  # fmt: skip
    for dimension, named in told:
        rows = spark.range(_SYMBOLS if dimension is dim_symbol.DIMENSION else _TRADERS)
        empty = {name: F.lit(None) for name in dimension.table.column_names}
        key = {dimension.surrogate_key: F.col("id") + dimension.first_key}
        schema = dimension.table.schema
        _append(spark, dimension.table, as_rows(rows, schema, {**empty, **since, **key, **named}), stamp)


def _books(rows: DataFrame, stamp: datetime) -> DataFrame:
    named = {
        "snapshot_time": F.col("moment"), "_processed_at": F.lit(stamp), "_source_topic": F.lit("books"),
        "_source_partition": F.col("place"), "_source_offset": F.col("following"),
    }  # fmt: skip
    return as_rows(rows, BOOKS.schema, named)


def _append(spark: SparkSession, table: Table, rows: DataFrame, stamp: datetime) -> None:
    told = UpstreamCursor(stamp=stamp, source=table.sources[0], after=None, upto=stamp)
    commit.append(spark, table, rows, snapshots.state(spark, table), told)


if __name__ == "__main__":
    print(json.dumps(fill(json.loads(sys.argv[1]))))
