"""W2's peers and limit rows: the same batch, judged as one would write it at first."""

import json
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks import contents, lake, spark_delta, trades
from benchmarks.contents import Result
from benchmarks.plan import Contender, Job
from benchmarks.w2_inputs import DIGEST, PEER_REJECTS, SILVER
from lakehouse_spark.bronze import raw_trades

_SCHEMA = (
    "trade_id STRING, symbol STRING, price DECIMAL(18, 6), quantity BIGINT, trade_type STRING, order_type STRING, "
    "trader_id STRING, exchange STRING, timestamp TIMESTAMP, account_id STRING, status STRING, "
    "commission DECIMAL(18, 6)"
)


def iceberg_result(job: Job, rejects: str) -> Result:
    """Silver's rows after the turn, and how many records were refused."""
    catalog = contents.catalog(Path(job.inputs["home"]))
    made = contents.of_iceberg(
        catalog.load_table(SILVER.name), {"silver": DIGEST}, job.inputs["snapshots"][SILVER.name]
    )
    rejected = lake.total_rows([catalog.load_table(rejects)])
    return replace(made, digests={**made.digests, "rejected": str(rejected)})


def rewind(job: Job) -> None:
    """Silver as it was; what peers refused is thrown away."""
    catalog = lake.rewind(Path(job.inputs["home"]), job.inputs["snapshots"])
    catalog.load_table(PEER_REJECTS).delete()


class PlainMerge(lake.InSpark):
    name = "Spark MERGE, no bounds"
    note = "from_json, persist, MERGE INTO … ON trade_id, into Iceberg"

    def prepare(self) -> None:
        rewind(self.job)

    def work(self) -> None:
        judged = judge_in_spark(self.spark.table(raw_trades.TABLE.identifier), self.job).persist()
        good(judged).createOrReplaceTempView("batch")
        self.spark.sql(
            f"MERGE INTO {SILVER.identifier} AS t USING batch AS s ON t.trade_id = s.trade_id "
            "WHEN NOT MATCHED THEN INSERT *"
        )
        refused(judged).writeTo(f"lake.{PEER_REJECTS}").append()
        judged.unpersist()

    def result(self) -> Result:
        return iceberg_result(self.job, PEER_REJECTS)


class DeltaMerge(Contender):
    name = spark_delta.NAME
    note = "the same statement on a Delta table partitioned by day"

    def open(self) -> None:
        self.spark = spark_delta.open_session()
        self.silver, self.rejects = self.job.scratch / "silver", self.job.scratch / "rejects"

    def prepare(self) -> None:
        spark_delta.fork(Path(self.job.inputs["delta"]), self.silver)
        shutil.rmtree(self.rejects, ignore_errors=True)

    def work(self) -> None:
        judged = judge_in_spark(self.spark.read.parquet(*self.job.inputs["bronze"]), self.job).persist()
        good(judged).createOrReplaceTempView("batch")
        self.spark.sql(
            f"MERGE INTO delta.`{self.silver}` AS t USING batch AS s ON t.trade_id = s.trade_id "
            "WHEN NOT MATCHED THEN INSERT *"
        )
        refused(judged).write.format("delta").save(str(self.rejects))
        judged.unpersist()

    def result(self) -> Result:
        made = spark_delta.result(self.spark, self.silver, Path(self.job.inputs["delta"]), {"silver": DIGEST})
        rejected = self.spark.read.format("delta").load(str(self.rejects)).count()
        return replace(made, digests={**made.digests, "rejected": str(rejected)})

    def close(self) -> None:
        self.spark.stop()


class DuckDbAppend(Contender):
    name = "DuckDB anti-join, append"
    note = "json_transform, anti join over silver's files, PyIceberg append"

    def open(self) -> None:
        import duckdb

        self.db = duckdb.connect(config={"threads": len(self.job.cores), "memory_limit": "3GB"})
        self.db.execute("SET TimeZone = 'UTC'")

    def prepare(self) -> None:
        rewind(self.job)
        self.catalog = contents.catalog(Path(self.job.inputs["home"]))

    def work(self) -> None:
        silver = self.catalog.load_table(SILVER.name)
        files = contents.files(silver)
        held = f"read_parquet({files!r})" if files else "(SELECT '' AS trade_id WHERE false)"
        self.db.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE judged AS
            WITH parsed AS (
                SELECT raw_payload, _kafka_topic, _kafka_partition, _kafka_offset,
                    unnest(json_transform(raw_payload, '{json.dumps(_DUCKDB_FIELDS)}'))
                FROM read_parquet({list(self.job.inputs["bronze"])!r})
                WHERE _ingested_at > TIMESTAMPTZ '{self.job.inputs["after"]}'
            ),
            tidy AS (
                SELECT * REPLACE (upper(trim(symbol)) AS symbol, upper(trim(trade_type)) AS trade_type,
                    upper(trim(order_type)) AS order_type, upper(trim(exchange)) AS exchange)
                FROM parsed
            )
            SELECT *, {_DUCKDB_REASON} AS reason FROM tidy
            """
        )
        columns = ", ".join(f'{_DUCKDB_SILVER.get(name, name)} AS "{name}"' for name in SILVER.column_names)
        fresh = self.db.sql(
            f"""
            SELECT {columns} FROM judged
            WHERE reason IS NULL AND trade_id NOT IN (SELECT trade_id FROM {held})
            QUALIFY row_number() OVER (PARTITION BY trade_id ORDER BY _kafka_partition, _kafka_offset) = 1
            """
        )
        rows = fresh.to_arrow_table()
        if len(rows):
            silver.append(rows.cast(silver.schema().as_arrow()))
        rejects = self.catalog.load_table(PEER_REJECTS)
        bad = self.db.sql("SELECT raw_payload, reason FROM judged WHERE reason IS NOT NULL").to_arrow_table()
        rejects.append(bad.cast(rejects.schema().as_arrow()))

    def result(self) -> Result:
        return iceberg_result(self.job, PEER_REJECTS)


class PyIcebergUpsert(Contender):
    name = "PyIceberg upsert"
    note = "orjson, pyarrow, upsert by trade_id, insert only"
    is_slow = True

    def open(self) -> None:
        import orjson
        import pyarrow

        self.loads, self.pa = orjson.loads, pyarrow

    def prepare(self) -> None:
        rewind(self.job)
        self.catalog = contents.catalog(Path(self.job.inputs["home"]))

    def work(self) -> None:
        bronze = self.catalog.load_table(raw_trades.TABLE.name)
        raw = bronze.scan(
            row_filter=f"_ingested_at > '{self.job.inputs['after']}'",
            selected_fields=("raw_payload", "_kafka_topic", "_kafka_partition", "_kafka_offset"),
        ).to_arrow()
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for row in raw.to_pylist():
            trade = self.loads(row["raw_payload"])
            (bad if _breaks_a_rule(trade) else good).append({**row, **trade})
        unique = {row["trade_id"]: row for row in reversed(good)}
        silver, rejects = self.catalog.load_table(SILVER.name), self.catalog.load_table(PEER_REJECTS)
        silver.upsert(self._rows(list(unique.values())), join_cols=["trade_id"], when_matched_update_all=False)
        refused = [{"raw_payload": row["raw_payload"], "reason": "broken"} for row in bad]
        rejects.append(self.pa.Table.from_pylist(refused, rejects.schema().as_arrow()))

    def _rows(self, rows: list[dict[str, Any]]) -> Any:
        pa = self.pa
        schema = self.catalog.load_table(SILVER.name).schema().as_arrow()
        import pyarrow.compute as pc

        def column(name: str, kind: Any = None) -> Any:
            return pa.array([row.get(name) for row in rows], kind)

        price = column("price", pa.float64()).cast(pa.decimal128(18, 6))
        quantity = column("quantity", pa.int64())
        instant = column("timestamp").cast(pa.timestamp("us", tz="UTC"))
        values = {
            **{name: column(name) for name in ("trade_id", "symbol", "trade_type", "order_type", "trader_id")},
            "exchange": column("exchange"),
            "account_id": column("account_id"),
            "price": price,
            "quantity": quantity,
            "total_value": pc.multiply(price, quantity.cast(pa.decimal128(19, 0))).cast(pa.decimal128(18, 6)),
            "trade_timestamp": instant,
            "trade_date": instant.cast(pa.date32()),
            "_source_topic": column("_kafka_topic"),
            "_source_partition": column("_kafka_partition", pa.int32()),
            "_source_offset": column("_kafka_offset", pa.int64()),
            "_processed_at": pa.repeat(pa.scalar(datetime.fromisoformat(self.job.inputs["after"])), len(rows)),
            "status": pa.array([row.get("status") or "EXECUTED" for row in rows]),
            "commission": pa.nulls(len(rows)),
        }
        return pa.table({field.name: values[field.name] for field in schema}).cast(schema)

    def result(self) -> Result:
        return iceberg_result(self.job, PEER_REJECTS)


class ToParquet(lake.InSpark):
    name = "limit: parse, Parquet"
    note = "no history, no repeats, no table"
    is_limit = True

    def work(self) -> None:
        judged = judge_in_spark(self.spark.read.parquet(*self.job.inputs["bronze"]), self.job)
        good(judged).write.mode("overwrite").option("compression", "zstd").parquet(str(self.job.scratch / "rows"))


class ToNoop(ToParquet):
    name = "limit: parse"
    note = "to noop"

    def work(self) -> None:
        judged = judge_in_spark(self.spark.read.parquet(*self.job.inputs["bronze"]), self.job)
        judged.write.format("noop").mode("overwrite").save()


def judge_in_spark(bronze: DataFrame, job: Job) -> DataFrame:
    """Parse and rules as one would write them at first: silver's columns, the payload, and `reason` (NULL: good)."""
    after = F.lit(datetime.fromisoformat(job.inputs["after"])).cast("timestamp")
    parsed = bronze.where(F.col("_ingested_at") > after).select(
        F.from_json("raw_payload", _SCHEMA).alias("t"),
        "raw_payload",
        "_kafka_topic",
        "_kafka_partition",
        "_kafka_offset",
    )
    upper = ("symbol", "trade_type", "order_type", "exchange")
    tidy = parsed.select("t.*", *(name for name in parsed.columns if name != "t")).withColumns(
        {name: F.upper(F.trim(name)) for name in upper}
    )
    required = ("trade_id", "symbol", "price", "quantity", "trade_type", "order_type", "trader_id", "timestamp")
    reason = F.coalesce(
        *(F.when(F.col(name).isNull(), F.lit(f"invalid_{name}")) for name in required),
        F.when(F.col("price") <= 0, F.lit("invalid_price")),
        F.when(F.col("quantity") <= 0, F.lit("invalid_quantity")),
        F.when(~F.col("trade_type").isin("BUY", "SELL"), F.lit("invalid_trade_type")),
        F.when(~F.col("order_type").isin("MARKET", "LIMIT", "STOP"), F.lit("invalid_order_type")),
        F.when(F.col("exchange").isNull() | ~F.col("exchange").isin(*trades.VENUES), F.lit("unknown_exchange")),
    )
    return tidy.withColumn("reason", reason)


def good(judged: DataFrame) -> DataFrame:
    """Silver's rows, one per trade."""
    named = {
        "total_value": (F.col("price") * F.col("quantity")).cast("decimal(18,6)"),
        "trade_timestamp": F.col("timestamp"),
        "trade_date": F.to_date("timestamp"),
        "_processed_at": F.current_timestamp(),
        "status": F.coalesce("status", F.lit("EXECUTED")),
        "_source_topic": F.col("_kafka_topic"),
        "_source_partition": F.col("_kafka_partition"),
        "_source_offset": F.col("_kafka_offset"),
    }
    sound = judged.where(F.col("reason").isNull()).dropDuplicates(["trade_id"])
    return sound.select(*(named.get(name, F.col(name)).alias(name) for name in SILVER.column_names))


def refused(judged: DataFrame) -> DataFrame:
    return judged.where(F.col("reason").isNotNull()).select("raw_payload", "reason")


def _breaks_a_rule(trade: dict[str, Any]) -> bool:
    return not (
        trade.get("trade_id")
        and trade.get("symbol")
        and (trade.get("price") or 0) > 0
        and (trade.get("quantity") or 0) > 0
        and trade.get("trade_type") in ("BUY", "SELL")
        and trade.get("order_type") in ("MARKET", "LIMIT", "STOP")
        and trade.get("trader_id")
        and trade.get("exchange") in trades.VENUES
        and trade.get("timestamp")
    )


_DUCKDB_FIELDS = {
    **dict.fromkeys(("trade_id", "symbol", "trade_type", "order_type", "trader_id", "exchange"), "VARCHAR"),
    **{"price": "DECIMAL(18,6)", "quantity": "BIGINT", "timestamp": "TIMESTAMPTZ", "account_id": "VARCHAR"},
    **{"status": "VARCHAR", "commission": "DECIMAL(18,6)"},
}
_DUCKDB_REASON = f"""
    CASE WHEN trade_id IS NULL OR symbol IS NULL OR trader_id IS NULL OR "timestamp" IS NULL THEN 'missing'
        WHEN price IS NULL OR price <= 0 THEN 'invalid_price'
        WHEN quantity IS NULL OR quantity <= 0 THEN 'invalid_quantity'
        WHEN trade_type IS NULL OR trade_type NOT IN ('BUY', 'SELL') THEN 'invalid_trade_type'
        WHEN order_type IS NULL OR order_type NOT IN ('MARKET', 'LIMIT', 'STOP') THEN 'invalid_order_type'
        WHEN exchange IS NULL OR exchange NOT IN {trades.VENUES!r} THEN 'unknown_exchange' END
"""
_DUCKDB_SILVER = {
    "total_value": "(price * quantity)::DECIMAL(18,6)",
    "trade_timestamp": '"timestamp"',
    "trade_date": '"timestamp"::DATE',
    "_processed_at": "now()",
    "status": "coalesce(status, 'EXECUTED')",
    "_source_topic": "_kafka_topic",
    "_source_partition": "_kafka_partition",
    "_source_offset": "_kafka_offset",
}
