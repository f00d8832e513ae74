"""What W4 starts from: a silver.trades of some days, and dimensions of which every key has a number of versions.

Run as a module it fills the tables, in a process whose JVM ends with it.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from pyspark.sql import functions as F

from benchmarks import contents, lake, trades
from benchmarks.contents import Columns
from benchmarks.filling import as_rows, in_process, silver, with_instants
from benchmarks.plan import Case, Inputs
from lakehouse_spark.bronze import raw_reference
from lakehouse_spark.dim import dim_exchange, dim_symbol, dim_time, dim_trader
from lakehouse_spark.dim.dimension import Dimension
from lakehouse_spark.gold import fact_trades
from lakehouse_spark.lake import calendar, commit, snapshots
from lakehouse_spark.lake.cursor import UpstreamCursor
from lakehouse_spark.lake.session import open_session
from lakehouse_spark.metadata import retired_keys, surrogate_keys
from lakehouse_spark.migrations import baseline
from lakehouse_spark.settings import conf_dir
from lakehouse_spark.silver import rejected_records
from lakehouse_spark.silver import trades as silver_trades

SILVER, FACTS = silver_trades.TABLE, fact_trades.TABLE
DAYS = 5
"""Days the trades lie on; every key changes on most of them, once it has versions enough."""

_SYMBOLS, _TRADERS = 200, 5_000
_TABLES = (
    SILVER, FACTS, dim_symbol.TABLE, dim_trader.TABLE, dim_time.TABLE, raw_reference.TABLE, surrogate_keys.TABLE,
    retired_keys.TABLE, dim_exchange.TABLE, rejected_records.TABLE,
)  # fmt: skip

DIGEST: Columns = {
    **{name: name for name in ("trade_id", "symbol_key", "trader_key", "time_key", "trade_type", "order_type")},
    "exchange_key": "exchange_key::BIGINT",
    "price": "price::DECIMAL(18, 6)",
    "quantity": "quantity::BIGINT",
    "total_value": "total_value::DECIMAL(18, 6)",
    "commission": "commission::DECIMAL(18, 6)",
    "status": "status",
    "event_timestamp": "epoch_us(event_timestamp)",
}

# A key's last version begins on one of the last three days, the ones before it a day earlier each, and the first holds
# since ever. `number` is the key's, `place` the version's, both from 0.
_VERSIONS = """
    SELECT number, place, concat($prefix, lpad(number::VARCHAR, $width, '0')) AS key,
        $first + number * $versions + place AS surrogate,
        CASE WHEN place = 0 THEN DATE '1900-01-01' ELSE begins(number, place) END AS effective_date,
        CASE WHEN place = $versions - 1 THEN DATE '9999-12-31' ELSE begins(number, place + 1) - 1 END AS expiry_date
    FROM (SELECT range AS number FROM range($keys)), (SELECT range AS place FROM range($versions))
"""


@contextmanager
def inputs(case: Case, folder: Path) -> Iterator[Inputs]:
    """The trades of all days in silver, no fact yet."""
    size, versions = case.params["records"], case.params["versions"]
    numbers = f"SELECT range AS n, range AS i, 0 AS bad FROM range({size})"
    file = trades.write(folder / "trades.parquet", numbers, per_day=size // DAYS)
    _write_versions(folder / "dim_symbol.parquet", "SYM", 3, _SYMBOLS, dim_symbol.DIMENSION.first_key, versions)
    _write_versions(folder / "dim_trader.parquet", "TRD-", 5, _TRADERS, dim_trader.DIMENSION.first_key, versions)
    values = in_process("benchmarks.w4_inputs", {"folder": str(folder)})
    yield Inputs(values, {"facts": _truth(file, versions, values["dims"][dim_exchange.TABLE.name])})


def _write_versions(file: Path, prefix: str, width: int, keys: int, first: int, versions: int) -> None:
    con = duckdb.connect()
    latest = f"DATE '{trades.FIRST_DAY}' + {DAYS - 1}"
    con.execute(
        f"CREATE MACRO begins(number, place) AS ({latest} - (number % 3)::INTEGER - ({versions} - 1 - place)::INTEGER)"
    )
    told = {"prefix": prefix, "width": width, "keys": keys, "first": first, "versions": versions}
    con.execute(f"COPY ({_VERSIONS}) TO '{file}' (FORMAT parquet)", told)


def _truth(file: Path, versions: int, exchanges: list[str]) -> str:
    """The facts by arithmetic on a key's number and the day's, without any join to versions."""

    def key(number: str, dimension: Dimension) -> str:
        place = f"least(greatest({versions} + day_number + {number} % 3 - {DAYS}, 0), {versions} - 1)"
        return f"({dimension.first_key} + {number} * {versions} + {place})::BIGINT"

    found = f"""(
        SELECT *, datediff('day', DATE '{trades.FIRST_DAY}', moment::DATE) AS day_number,
            substr(symbol, 4)::BIGINT AS symbol_number, substr(trader_id, 5)::BIGINT AS trader_number
        FROM '{file}' JOIN read_parquet({exchanges!r}) ON exchange = exchange_code
    )"""
    return contents.digest(
        found,
        {
            **DIGEST,
            "symbol_key": key("symbol_number", dim_symbol.DIMENSION),
            "trader_key": key("trader_number", dim_trader.DIMENSION),
            "time_key": "strftime(moment, '%Y%m%d%H%M')::BIGINT",
            "total_value": "(price * quantity)::DECIMAL(18, 6)",
            "commission": "(price * quantity * 0.0001)::DECIMAL(18, 6)",
            "status": "'EXECUTED'",
            "event_timestamp": "epoch_us(moment)",
        },
    )


def fill(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fills a home; what contenders are told of it."""
    folder = Path(given["folder"])
    home = folder / "home"
    spark = open_session(lake.here(home, spark__conf=lake.PEER_CONF), "benchmark inputs")
    lake.create(spark, *_TABLES)
    baseline.seed_exchanges(spark, conf_dir())
    stamp = datetime.fromisoformat(trades.FIRST_DAY).replace(tzinfo=UTC) + timedelta(days=DAYS)
    calendar.fill(spark, [stamp.year])
    told = UpstreamCursor(stamp=stamp, source="bronze.raw_reference", after=None, upto=stamp)
    for dimension in (dim_symbol.DIMENSION, dim_trader.DIMENSION):
        versions = spark.read.parquet(str(folder / f"{dimension.name}.parquet"))
        named = {
            dimension.surrogate_key: F.col("surrogate"), dimension.natural_key: F.col("key"),
            **{a.name: F.concat(F.lit(f"{a.name} "), "place") for a in dimension.attributes},
            **{name: F.lit("2000-01-01") for name in dimension.untracked},
            "is_current": F.col("expiry_date") == F.lit("9999-12-31").cast("date"),
            "_row_hash": F.md5(F.col("place").cast("string").cast("binary")), "is_inferred": F.lit(False),
            "_updated_at": F.lit(stamp),
        }  # fmt: skip
        base = snapshots.state(spark, dimension.table)
        commit.append(spark, dimension.table, as_rows(versions, dimension.table.schema, named), base, told)
    rows = silver(with_instants(spark.read.parquet(str(folder / "trades.parquet"))), stamp)
    commit.append(spark, SILVER, rows, snapshots.state(spark, SILVER), replace(told, source="bronze.raw_trades"))
    spark.stop()
    catalog = contents.catalog(home)
    dims = (dim_symbol.TABLE.name, dim_trader.TABLE.name, dim_exchange.TABLE.name)
    return {
        "home": str(home),
        "snapshots": contents.current_snapshots(home, [FACTS.name]),
        "silver": contents.files(catalog.load_table(SILVER.name)),
        "dims": {name: contents.files(catalog.load_table(name)) for name in dims},
    }


if __name__ == "__main__":
    print(json.dumps(fill(json.loads(sys.argv[1]))))
