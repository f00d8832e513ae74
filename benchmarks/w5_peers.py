"""W5's peers and limit row: gold from all of silver, as one would compute it who keeps no state."""

from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import functions as F

from benchmarks import contents, lake
from benchmarks.contents import Result
from benchmarks.plan import Contender, Job
from benchmarks.w5_inputs import BOOKS, DAILY, GOLD, LAST_DAY, OVERVIEW, SILVER
from lakehouse_spark.dim import dim_exchange, dim_symbol
from lakehouse_spark.gold import daily_trading_summary, market_overview, trade_analytics
from lakehouse_spark.jobs import gold_aggregator
from lakehouse_spark.transforms import market_hours

_DIGESTS = {daily_trading_summary.TABLE.name: {"daily": DAILY}, market_overview.TABLE.name: {"overview": OVERVIEW}}


def iceberg_result(job: Job, since: Mapping[str, int | None] | None = None) -> Result:
    """Two tables' rows, and what was written to all of gold since the increment, or since these snapshots."""
    catalog = contents.catalog(Path(job.inputs["home"]))
    snapshots = since or job.inputs["snapshots"]
    made = [
        contents.of_iceberg(catalog.load_table(table.name), _DIGESTS.get(table.name, {}), snapshots[table.name])
        for table in GOLD
    ]
    return Result(
        {name: digest for found in made for name, digest in found.digests.items()},
        sum(found.files for found in made),
        round(sum(found.mib for found in made), 2),
        sum(found.commits for found in made),
    )


def current_snapshots(job: Job) -> dict[str, int | None]:
    """Of every gold table, as the catalog says now."""
    return contents.current_snapshots(Path(job.inputs["home"]), (table.name for table in GOLD))


def rewind(job: Job) -> None:
    """Gold as it was before the increment."""
    lake.rewind(Path(job.inputs["home"]), job.inputs["snapshots"])


class Rebuild(lake.InSpark):
    name = "Spark, full recompute"
    note = "gold_aggregator --rebuild: the product's own code over the whole history; writes the rows that differ"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def prepare(self) -> None:
        rewind(self.job)

    def work(self) -> None:
        gold_aggregator.run(self.spark, self.settings, rebuild=True)

    def result(self) -> Result:
        return iceberg_result(self.job)


class DuckDbRecompute(Contender):
    name = "DuckDB, full recompute of three tables"
    note = (
        "SQL over silver's files, PyIceberg overwrite; daily_trading_summary, market_overview and trade_analytics. "
        "FIFO lots and what follows from them (trader_performance, portfolio_positions) are left out"
    )

    def open(self) -> None:
        import duckdb

        self.db = duckdb.connect(config={"threads": len(self.job.cores), "memory_limit": "3GB"})
        self.db.execute("SET TimeZone = 'UTC'")

    def prepare(self) -> None:
        rewind(self.job)
        self.catalog = contents.catalog(Path(self.job.inputs["home"]))

    def work(self) -> None:
        self.look()
        self.put(daily_trading_summary.TABLE.name, DAILY_QUERY)
        self.put(market_overview.TABLE.name, _OVERVIEW)
        self._hours()
        self.put(trade_analytics.TABLE.name, _ANALYTICS)

    def look(self) -> None:
        """The tables' files, and the trades that count."""
        for name, table in (
            ("trades", SILVER), ("books", BOOKS), ("symbols", dim_symbol.TABLE), ("exchanges", dim_exchange.TABLE),
        ):  # fmt: skip
            files = contents.files(self.catalog.load_table(table.name))
            self.db.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM read_parquet({files!r})")
        self.db.execute("CREATE OR REPLACE TEMP TABLE live AS SELECT * FROM trades WHERE status <> 'CANCELLED'")

    def put(self, name: str, query: str) -> None:
        self.db.execute(f"CREATE OR REPLACE TEMP TABLE {name.partition('.')[2]} AS {query}")
        table = self.catalog.load_table(name)
        schema = table.schema().as_arrow()
        rows = self.db.sql(f"SELECT *, now() AS _computed_at FROM {name.partition('.')[2]}").to_arrow_table()
        table.overwrite(rows.select(schema.names).cast(schema))

    def _hours(self) -> None:
        """The exchanges' calendars, by the same library as the product's."""
        ((first, last),) = self.db.sql("SELECT min(trade_date), max(trade_date) FROM live").fetchall()
        told = ("exchange_code", "timezone", "market_open_time", "market_close_time", "mic")
        known = self.db.sql(
            f"SELECT {', '.join(told)} FROM exchanges WHERE exchange_code IN (SELECT exchange FROM live)"
        ).fetchall()
        exchanges = [dict(zip(told, row, strict=True)) for row in known]
        self.db.execute(
            "CREATE OR REPLACE TEMP TABLE hours (exchange VARCHAR, utc_date DATE, day_from TIMESTAMPTZ, "
            "day_to TIMESTAMPTZ, opens TIMESTAMPTZ, closes TIMESTAMPTZ)"
        )
        self.db.executemany("INSERT INTO hours VALUES (?, ?, ?, ?, ?, ?)", market_hours.hours(exchanges, first, last))

    def result(self) -> Result:
        return iceberg_result(self.job)


class ChangedDay(lake.InSpark):
    name = "limit: scan and aggregate the changed day"
    note = "one table's sums, kept nowhere"
    is_limit = True

    def work(self) -> None:
        day = self.spark.table(SILVER.identifier).where(F.col("trade_date") == F.lit(LAST_DAY).cast("date"))
        day = day.where(F.col("trade_timestamp") >= F.lit(LAST_DAY).cast("timestamp"))  # prunes partitions
        day.groupBy("symbol").agg(
            F.min("price"), F.max("price"), F.sum("quantity"), F.sum("total_value"), F.count("*")
        ).collect()  # fmt: skip


DAILY_QUERY = """
    WITH moved AS (
        SELECT *, price::DOUBLE
            / lag(price::DOUBLE) OVER (PARTITION BY symbol, trade_date ORDER BY trade_timestamp, trade_id) - 1 AS move
        FROM live
    ),
    sums AS (
        SELECT trade_date AS summary_date, symbol,
            arg_min(price, (trade_timestamp, trade_id)) AS open_price,
            arg_max(price, (trade_timestamp, trade_id)) AS close_price,
            max(price) AS high_price, min(price) AS low_price,
            (sum(total_value) / sum(quantity))::DECIMAL(18, 6) AS vwap,
            sum(quantity)::BIGINT AS total_volume, sum(total_value)::DECIMAL(18, 6) AS total_value,
            count(*) AS trade_count,
            coalesce(sum(quantity) FILTER (trade_type = 'BUY'), 0)::BIGINT AS buy_volume,
            coalesce(sum(quantity) FILTER (trade_type = 'SELL'), 0)::BIGINT AS sell_volume,
            CASE WHEN count(*) > 2 THEN stddev_samp(move)::DECIMAL(10, 6) END AS volatility
        FROM moved GROUP BY ALL
    ),
    spreads AS (
        SELECT snapshot_time::DATE AS summary_date, symbol, avg(spread)::DECIMAL(18, 6) AS avg_spread
        FROM books GROUP BY ALL
    ),
    volumes AS (SELECT trade_date, symbol, exchange, sum(quantity) AS shares FROM live GROUP BY ALL),
    busiest AS (
        SELECT trade_date AS summary_date, symbol, arg_min(exchange, (-shares, exchange)) AS busiest
        FROM volumes GROUP BY ALL
    ),
    based AS (
        SELECT *, coalesce(lag(close_price) OVER (PARTITION BY symbol ORDER BY summary_date), open_price) AS base
        FROM sums
    )
    SELECT b.* EXCLUDE (base), coalesce(s.company_name, b.symbol) AS company_name, s.sector,
        coalesce(s.listing_exchange, busiest) AS exchange, avg_spread,
        (100 * (close_price - base)::DOUBLE / base::DOUBLE)::DECIMAL(10, 4) AS price_change_pct
    FROM based AS b
    LEFT JOIN spreads USING (summary_date, symbol)
    LEFT JOIN busiest USING (summary_date, symbol)
    LEFT JOIN symbols AS s
        ON s.symbol = b.symbol AND b.summary_date BETWEEN s.effective_date AND s.expiry_date
"""
_OVERVIEW = """
    WITH sums AS (
        SELECT trade_date AS overview_date, exchange, count(*) AS total_trades, sum(quantity)::BIGINT AS total_volume,
            sum(total_value)::DECIMAL(18, 6) AS total_value,
            count(DISTINCT trader_id)::INTEGER AS active_traders
        FROM live GROUP BY ALL
    ),
    of_symbol AS (
        SELECT trade_date AS overview_date, exchange, symbol, sum(quantity)::DOUBLE AS shares FROM live GROUP BY ALL
    ),
    breadth AS (
        SELECT overview_date, o.exchange, count(*)::INTEGER AS active_symbols,
            count_if(price_change_pct > 0)::INTEGER AS advancers,
            count_if(price_change_pct < 0)::INTEGER AS decliners,
            count_if(price_change_pct = 0)::INTEGER AS unchanged,
            (sum(volatility * shares) / nullif(sum(shares) FILTER (volatility IS NOT NULL), 0))::DECIMAL(10, 6)
                AS market_volatility_idx
        FROM of_symbol AS o
        JOIN daily_trading_summary AS d ON d.summary_date = o.overview_date AND d.symbol = o.symbol
        GROUP BY ALL
    ),
    spreads AS (
        SELECT snapshot_time::DATE AS overview_date, exchange, avg(spread)::DECIMAL(18, 6) AS avg_spread
        FROM books GROUP BY ALL
    )
    SELECT * FROM sums
    JOIN breadth USING (overview_date, exchange)
    LEFT JOIN spreads USING (overview_date, exchange)
"""
_ANALYTICS = """
    WITH placed AS (
        SELECT t.*,
            CASE WHEN opens IS NULL THEN 'CLOSED' WHEN trade_timestamp < opens THEN 'PRE_MARKET'
                WHEN trade_timestamp < closes THEN 'REGULAR' ELSE 'AFTER_HOURS' END AS market_session,
            quantity >= 10000 OR total_value >= 200000 AS large,
            lag(price::DOUBLE) OVER (
                PARTITION BY symbol, t.exchange, trade_date ORDER BY trade_timestamp, trade_id
            ) AS earlier
        FROM live AS t
        LEFT JOIN hours AS h ON t.exchange = h.exchange AND t.trade_date = h.utc_date
            AND t.trade_timestamp >= h.day_from AND t.trade_timestamp < h.day_to
    ),
    sums AS (
        SELECT trade_date AS analytics_date, symbol, exchange, market_session, count(*) AS trade_count,
            sum(quantity)::BIGINT AS volume, sum(total_value)::DECIMAL(18, 6) AS notional_value,
            avg(quantity)::DECIMAL(18, 6) AS avg_trade_size,
            (sum(quantity) FILTER (trade_type = 'BUY') / sum(quantity) FILTER (trade_type = 'SELL'))::DECIMAL(10, 4)
                AS buy_sell_ratio,
            count_if(large) AS large_trade_count,
            (coalesce(sum(quantity) FILTER (large), 0) / sum(quantity))::DECIMAL(10, 4) AS large_trade_pct,
            avg(CASE WHEN trade_type = 'BUY' THEN 1 ELSE -1 END * (price::DOUBLE - earlier) / earlier)::DECIMAL(10, 6)
                AS price_impact_avg
        FROM placed GROUP BY ALL
    )
    SELECT a.*, s.sector, s.industry FROM sums AS a
    LEFT JOIN symbols AS s
        ON s.symbol = a.symbol AND a.analytics_date BETWEEN s.effective_date AND s.expiry_date
"""
