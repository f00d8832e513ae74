"""W4's peers and limit row: the same trades with the keys of their versions, as one would look them up at first.

When a trade settles is left to the job: none of them knows the exchanges' calendars.
"""

from pathlib import Path
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from benchmarks import contents, lake
from benchmarks.contents import Result
from benchmarks.plan import Contender, Job
from benchmarks.w4_inputs import DIGEST, FACTS, SILVER
from lakehouse_spark.dim import dim_exchange, dim_symbol, dim_trader

_FIELDS = (
    "trade_id", "price", "quantity", "total_value", "trade_type", "order_type", "status",
)  # fmt: skip


def iceberg_result(job: Job) -> Result:
    table = contents.catalog(Path(job.inputs["home"])).load_table(FACTS.name)
    return contents.of_iceberg(table, {"facts": DIGEST}, job.inputs["snapshots"][FACTS.name])


def rewind(job: Job) -> None:
    """No facts."""
    lake.rewind(Path(job.inputs["home"]), job.inputs["snapshots"])


class DuckDbAsof(Contender):
    name = "DuckDB ASOF join, append"
    note = "ASOF joins over the tables' files, PyIceberg append"

    def open(self) -> None:
        import duckdb

        self.db = duckdb.connect(config={"threads": len(self.job.cores), "memory_limit": "3GB"})
        self.db.execute("SET TimeZone = 'UTC'")

    def prepare(self) -> None:
        rewind(self.job)
        self.catalog = contents.catalog(Path(self.job.inputs["home"]))

    def work(self) -> None:
        silver = contents.files(self.catalog.load_table(SILVER.name))
        symbols, traders, exchanges = (
            f"read_parquet({contents.files(self.catalog.load_table(table.name))!r})"
            for table in (dim_symbol.TABLE, dim_trader.TABLE, dim_exchange.TABLE)
        )
        found = self.db.sql(
            f"""
            SELECT {", ".join(f"t.{name}" for name in _FIELDS)},
                CASE WHEN t.trade_date <= s.expiry_date THEN s.symbol_key END AS symbol_key,
                CASE WHEN t.trade_date <= r.expiry_date THEN r.trader_key END AS trader_key,
                strftime(t.trade_timestamp::TIMESTAMP, '%Y%m%d%H%M')::BIGINT AS time_key,
                e.exchange_key,
                coalesce(t.commission, (t.total_value * 0.0001)::DECIMAL(18, 6)) AS commission,
                NULL::DATE AS settlement_date, t.trade_timestamp AS event_timestamp,
                now() AS _loaded_at
            FROM read_parquet({silver!r}) AS t
            ASOF LEFT JOIN {symbols} AS s ON t.symbol = s.symbol AND t.trade_date >= s.effective_date
            ASOF LEFT JOIN {traders} AS r ON t.trader_id = r.trader_id AND t.trade_date >= r.effective_date
            LEFT JOIN {exchanges} AS e ON t.exchange = e.exchange_code
            """
        )
        facts = self.catalog.load_table(FACTS.name)
        schema = facts.schema().as_arrow()
        facts.append(found.to_arrow_table().select(schema.names).cast(schema))

    def result(self) -> Result:
        return iceberg_result(self.job)


class PandasAsof(Contender):
    name = "pandas merge_asof, append"
    note = "PyIceberg scan, merge_asof per dimension, the rest in pyarrow, PyIceberg append"
    is_slow = True

    def open(self) -> None:
        import pandas
        import pyarrow
        import pyarrow.compute

        self.pd, self.pa, self.pc = pandas, pyarrow, pyarrow.compute

    def prepare(self) -> None:
        rewind(self.job)
        self.catalog = contents.catalog(Path(self.job.inputs["home"]))

    def work(self) -> None:
        pa, pc = self.pa, self.pc
        trades = self.catalog.load_table(SILVER.name).scan().to_arrow()
        asked = trades.select(["symbol", "trader_id", "trade_date"])
        asked = asked.set_column(2, "day", asked["trade_date"].cast(pa.timestamp("s"))).to_pandas().sort_values("day")
        exchanges = self.catalog.load_table(dim_exchange.TABLE.name).scan().to_arrow()
        codes = dict(zip(exchanges["exchange_code"].to_pylist(), exchanges["exchange_key"].to_pylist(), strict=True))
        bps = pa.array([0.0001]).cast(pa.decimal128(5, 4))[0]
        default = pc.round(pc.multiply(trades["total_value"], bps), ndigits=6, round_mode="half_towards_infinity")
        columns = {
            **{name: trades[name] for name in _FIELDS},
            "symbol_key": self._keys(asked, dim_symbol.TABLE.name, "symbol", "symbol_key"),
            "trader_key": self._keys(asked, dim_trader.TABLE.name, "trader_id", "trader_key"),
            "time_key": pc.strftime(trades["trade_timestamp"], "%Y%m%d%H%M").cast(pa.int64()),
            "exchange_key": pa.array(trades["exchange"].to_pandas().map(codes)),
            "commission": pc.coalesce(trades["commission"], default.cast(pa.decimal128(18, 6))),
            "settlement_date": pa.nulls(len(trades), pa.date32()),
            "event_timestamp": trades["trade_timestamp"],
            "_loaded_at": pa.repeat(pa.scalar(self.pd.Timestamp.now("UTC")), len(trades)),
        }
        facts = self.catalog.load_table(FACTS.name)
        schema = facts.schema().as_arrow()
        facts.append(pa.table({name: columns[name] for name in schema.names}).cast(schema))

    def _keys(self, asked: Any, table: str, key: str, surrogate: str) -> Any:
        """The surrogate keys of the asked rows, in the order of the trades."""
        versions = self.catalog.load_table(table).scan(
            selected_fields=(key, surrogate, "effective_date", "expiry_date")
        ).to_arrow()  # fmt: skip
        for name in ("effective_date", "expiry_date"):
            place = versions.schema.get_field_index(name)
            versions = versions.set_column(place, name, versions[name].cast(self.pa.timestamp("s")))
        found = self.pd.merge_asof(
            asked.reset_index(),
            versions.to_pandas().sort_values("effective_date"),
            left_on="day", right_on="effective_date", by=key,
        ).set_index("index").sort_index()  # fmt: skip
        return self.pa.array(found[surrogate].where(found["day"] <= found["expiry_date"]), from_pandas=True)

    def result(self) -> Result:
        return iceberg_result(self.job)


class RangeJoin(lake.InSpark):
    name = "Spark range join, append"
    note = "JOIN … ON key AND trade_date BETWEEN effective_date AND expiry_date, Spark's defaults"

    def prepare(self) -> None:
        rewind(self.job)

    def work(self) -> None:
        self.spark.sql(
            f"""
            SELECT {", ".join(f"t.{name}" for name in _FIELDS)}, s.symbol_key, r.trader_key, e.exchange_key,
                CAST(date_format(t.trade_timestamp, 'yyyyMMddHHmm') AS BIGINT) AS time_key,
                coalesce(t.commission, CAST(t.total_value * 0.0001 AS DECIMAL(18, 6))) AS commission,
                CAST(NULL AS DATE) AS settlement_date, t.trade_timestamp AS event_timestamp,
                current_timestamp() AS _loaded_at
            FROM {SILVER.identifier} AS t
            LEFT JOIN {dim_symbol.TABLE.identifier} AS s
                ON t.symbol = s.symbol AND t.trade_date BETWEEN s.effective_date AND s.expiry_date
            LEFT JOIN {dim_trader.TABLE.identifier} AS r
                ON t.trader_id = r.trader_id AND t.trade_date BETWEEN r.effective_date AND r.expiry_date
            LEFT JOIN {dim_exchange.TABLE.identifier} AS e ON t.exchange = e.exchange_code
            """
        ).select(*FACTS.column_names).writeTo(FACTS.identifier).append()

    def result(self) -> Result:
        return iceberg_result(self.job)


class ToParquet(lake.InSpark):
    name = "limit: broadcast join, Parquet"
    note = "a hash join to the current version of each key, no date, no table"
    is_limit = True

    def work(self) -> None:
        def keys(table: str, *columns: str | Column) -> Any:
            versions = self.spark.read.parquet(*self.job.inputs["dims"][table])
            current = versions.where("is_current") if "is_current" in versions.columns else versions
            return F.broadcast(current.select(*columns))

        trades = self.spark.read.parquet(*self.job.inputs["silver"])
        exchanges = keys(dim_exchange.TABLE.name, F.col("exchange_code").alias("exchange"), "exchange_key")
        keyed = (
            trades.join(keys(dim_symbol.TABLE.name, "symbol", "symbol_key"), on="symbol", how="left")
            .join(keys(dim_trader.TABLE.name, "trader_id", "trader_key"), on="trader_id", how="left")
            .join(exchanges, on="exchange", how="left")
        )
        rows = keyed.select(
            *_FIELDS, "symbol_key", "trader_key", "exchange_key", "commission",
            F.date_format("trade_timestamp", "yyyyMMddHHmm").cast("bigint").alias("time_key"), "trade_timestamp",
        )  # fmt: skip
        rows.write.mode("overwrite").option("compression", "zstd").parquet(str(self.job.scratch / "rows"))
