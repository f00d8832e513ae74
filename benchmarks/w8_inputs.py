"""What W8 starts from: a day's trades and order books in Kafka, and a lakehouse that has only its reference data.

Run as a module it makes the tables, in a process whose JVM ends with it.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
from pyspark.sql import SparkSession

from benchmarks import contents, lake, trades, w2_inputs
from benchmarks.contents import Columns
from benchmarks.filling import in_process
from benchmarks.plan import Case, Inputs
from lakehouse_spark import migrations
from lakehouse_spark.bronze import raw_orderbook, raw_trades
from lakehouse_spark.catalog import TABLES, TOPICS
from lakehouse_spark.dim import dim_exchange, dim_symbol, dim_trader
from lakehouse_spark.jobs import dimension_loader
from lakehouse_spark.lake import calendar
from lakehouse_spark.lake.session import open_session
from lakehouse_spark.local import broker
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver import orderbook_snapshots
from lakehouse_spark.silver import trades as silver_trades

SILVER, BOOKS = silver_trades.TABLE, orderbook_snapshots.TABLE
PEER_REJECTS = w2_inputs.PEER_REJECTS

BOOK_PAYLOAD = """
    concat('{"symbol":"', symbol, '","snapshot_time":"', strftime(moment, '%Y-%m-%dT%H:%M:%S.%fZ'),
        '","bids":[[', bid, ',100],[', bid - 0.01, ',200]],"asks":[[', bid + spread, ',100],[', bid + spread + 0.01,
        ',200]],"exchange":"', exchange, '"}')
"""

# One book for four trades; the spread is known to the truth as `spread`.
_SNAPSHOTS = f"""
    WITH drawn AS (
        SELECT range AS n, concat('SYM', lpad((hash(range, 21) % 200)::VARCHAR, 3, '0')) AS symbol,
            ((1000 + hash(range, 22) % 90000) / 100)::DECIMAL(18, 2) AS bid,
            ((1 + hash(range, 23) % 9) / 100)::DECIMAL(18, 2) AS spread,
            ({list(trades.VENUES)!r})[1 + (hash(range, 24) % {len(trades.VENUES)})::INTEGER] AS exchange,
            TIMESTAMP '{trades.FIRST_DAY}' + to_microseconds(52200000000 + (range * 23400000000) // $books) AS moment
        FROM range($books)
    )
    SELECT n, symbol, spread, exchange, moment, n % {trades.PARTITIONS} AS place, n // {trades.PARTITIONS} AS following,
        {BOOK_PAYLOAD} AS payload
    FROM drawn ORDER BY n
"""

DAILY: Columns = {
    "summary_date": "summary_date",
    "symbol": "symbol",
    "company_name": "company_name",
    **{
        name: f"{name}::DECIMAL(18, 6)"
        for name in ("open_price", "close_price", "high_price", "low_price", "total_value")
    },
    **{name: f"{name}::BIGINT" for name in ("total_volume", "trade_count")},
}


@contextmanager
def inputs(case: Case, folder: Path) -> Iterator[Inputs]:
    """Four of five events are trades, one in a hundred of them breaks a rule."""
    books = case.params["records"] // 5
    made = case.params["records"] - books
    bad = "CASE WHEN range % 100 = 99 THEN 1 + (range // 100) % 4 ELSE 0 END"
    numbers = f"SELECT range AS n, range AS i, {bad} AS bad FROM range({made})"
    trade_file = trades.write(folder / "trades.parquet", numbers, per_day=made)
    book_file = folder / "books.parquet"
    duckdb.execute(f"COPY ({_SNAPSHOTS}) TO '{book_file}' (FORMAT parquet, COMPRESSION zstd)", {"books": books})
    write_reference(folder)
    values = in_process("benchmarks.w8_inputs", {"folder": str(folder)})
    with broker.serving(lake.here(folder / "broker"), TOPICS) as served:
        servers = str(served.kafka.bootstrap_servers)
        trades.publish(trade_file, servers, raw_trades.TABLE.short_name)
        trades.publish(book_file, servers, raw_orderbook.TABLE.short_name)
        connected = {"kafka__bootstrap_servers": servers}
        yield Inputs(
            {**values, "servers": servers, "settings": connected, "trades": made, "books": books},
            truth(duckdb.connect(), f"(SELECT * FROM '{trade_file}' WHERE bad = 0)", books),
        )


def write_reference(folder: Path) -> None:
    """Every symbol and trader, one version each."""
    for name, keys, columns in (
        ("dim_symbol", 200, "concat('SYM', lpad(n, 3, '0')) AS symbol, concat('Company ', n) AS company_name"),
        ("dim_trader", 5000, "concat('TRD-', lpad(n, 5, '0')) AS trader_id, concat('Trader ', n) AS name"),
    ):
        numbers = f"(SELECT range::VARCHAR AS n FROM range({keys}))"
        rows = f"SELECT {columns}, DATE '2000-01-01' AS effective_date FROM {numbers}"
        duckdb.execute(f"COPY ({rows}) TO '{folder / f'{name}.csv'}' (HEADER)")


def truth(con: duckdb.DuckDBPyConnection, good: str, books: int) -> dict[str, str]:
    """What the trades of `good` and so many order books come to."""
    daily = f"""(
        SELECT moment::DATE AS summary_date, symbol, concat('Company ', substr(symbol, 4)::INTEGER) AS company_name,
            min_by(price, (moment, trade_id)) AS open_price, max_by(price, (moment, trade_id)) AS close_price,
            max(price) AS high_price, min(price) AS low_price, sum(price * quantity) AS total_value,
            sum(quantity) AS total_volume, count(*) AS trade_count
        FROM {good} GROUP BY ALL
    )"""
    silver = contents.digest_in(con, good, w2_inputs.TRUTH)
    return {
        "silver": silver,
        "facts": silver.partition(":")[0],
        "books": str(books),
        "daily": contents.digest_in(con, daily, DAILY),
    }


def fill(given: Mapping[str, Any]) -> dict[str, Any]:
    """Migrates a home and loads its reference data; what contenders are told of it."""
    folder = Path(given["folder"])
    settings = lake.here(folder / "home")
    spark = open_session(settings, "benchmark inputs")
    start(spark, settings, folder)
    spark.sql(f"CREATE TABLE lake.{PEER_REJECTS} (raw_payload STRING, reason STRING) USING iceberg")
    spark.stop()
    return described(settings.home)


def start(spark: SparkSession, settings: Settings, folder: Path) -> None:
    """The tables, the calendar, and the reference data that `write_reference` left in the folder."""
    migrations.migrate(spark, settings, datetime.now(UTC))
    calendar.fill(spark, [date.fromisoformat(trades.FIRST_DAY).year])
    for name in ("dim_symbol", "dim_trader"):
        dimension_loader.run(spark, [name], [str(folder / f"{name}.csv")])


def described(home: Path) -> dict[str, Any]:
    """A home's snapshots, and the files of its dimensions."""
    catalog = contents.catalog(home)
    dims = (dim_symbol.TABLE.name, dim_trader.TABLE.name, dim_exchange.TABLE.name)
    return {
        "home": str(home),
        "snapshots": snapshots(home),
        "dims": {name: contents.files(catalog.load_table(name)) for name in dims},
    }


def snapshots(home: Path) -> dict[str, int | None]:
    """Of every table, as the catalog says now."""
    return contents.current_snapshots(home, (table.name for table in TABLES))


if __name__ == "__main__":
    print(json.dumps(fill(json.loads(sys.argv[1]))))
