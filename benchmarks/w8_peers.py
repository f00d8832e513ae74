"""W8's peers and limit row: the same day's cycle in processes of their own, without Spark, and as bare steps."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks import contents, lake, w1_peers, w2_inputs, w2_peers, w4_peers, w5_peers
from benchmarks.contents import Result
from benchmarks.plan import Contender, Job
from benchmarks.w8_inputs import BOOKS, DAILY, PEER_REJECTS, SILVER
from lakehouse_spark.bronze import raw_orderbook, raw_trades
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.gold import daily_trading_summary, fact_trades
from lakehouse_spark.ingest import kafka

_LONG_AGO = "2000-01-01T00:00:00+00:00"


def rewind(job: Job) -> None:
    """No event in any table."""
    lake.rewind(Path(job.inputs["home"]), job.inputs["snapshots"]).load_table(PEER_REJECTS).delete()


def iceberg_result(job: Job, since: Mapping[str, int | None] | None = None) -> Result:
    """Silver, facts and the daily summary after the turn; what was written to all tables, or only since snapshots."""
    catalog = contents.catalog(Path(job.inputs["home"]))
    compared = {SILVER.name: {"silver": w2_inputs.DIGEST}, daily_trading_summary.TABLE.name: {"daily": DAILY}}
    made = [
        contents.of_iceberg(catalog.load_table(name), compared.get(name, {}), snapshot)
        for name, snapshot in (since or job.inputs["snapshots"]).items()
    ]
    counted = {"facts": fact_trades.TABLE.name, "books": BOOKS.name}
    return Result(
        {
            **{name: digest for found in made for name, digest in found.digests.items()},
            **{name: str(lake.total_rows([catalog.load_table(table)])) for name, table in counted.items()},
        },
        sum(found.files for found in made),
        round(sum(found.mib for found in made), 2),
        sum(found.commits for found in made),
    )


def run_python(job: Job, name: str, *arguments: str) -> str:
    """What a Python of its own prints, with the lakehouse and the broker of the job."""
    environment = {
        **os.environ,
        "LAKEHOUSE_HOME": job.inputs["home"],
        "LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS": job.inputs["servers"],
    }
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LakehouseError(f"{name} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


class JobByJob(Contender):
    name = "a spark-submit per job"
    note = "the product's jobs one after the other, each in a process of its own: every turn is a cold one"
    is_slow = True

    def prepare(self) -> None:
        rewind(self.job)

    def work(self) -> None:
        for job in ("bronze_writer", "dimension_loader", "silver_processor", "fact_loader", "gold_aggregator"):
            run_python(self.job, f"spark-submit of {job}", "-m", "lakehouse_spark.cli.submit", job)

    def result(self) -> Result:
        return iceberg_result(self.job)


class WithoutSpark(Contender):
    name = "PyIceberg + DuckDB"
    note = (
        "W1's loop for trades and books, W2's anti-join, W4's ASOF joins, daily_trading_summary in SQL; "
        "no fact_orderbook, trader_activity or other gold table"
    )

    def open(self) -> None:
        self.home = Path(self.job.inputs["home"])
        trades = {"topic": raw_trades.TABLE.short_name, "after": _LONG_AGO}
        books = {"topic": raw_orderbook.TABLE.short_name}
        self.trades = w1_peers.PyIcebergLoop(self._told(self.job.inputs["trades"], **trades))
        self.books = BookLoop(self._told(self.job.inputs["books"], **books))
        self.facts, self.gold = w4_peers.DuckDbAsof(self.job), w5_peers.DuckDbRecompute(self.job)
        for step in (self.trades, self.books, self.facts, self.gold):
            step.open()

    def _told(self, records: int, **inputs: Any) -> Job:
        return replace(self.job, params={"records": records}, inputs={**self.job.inputs, **inputs})

    def prepare(self) -> None:
        rewind(self.job)
        self.catalog = self.facts.catalog = self.gold.catalog = contents.catalog(self.home)

    def work(self) -> None:
        for loop, table in ((self.trades, raw_trades.TABLE), (self.books, raw_orderbook.TABLE)):
            loop.table = self.catalog.load_table(table.name)
            loop.work()
        bronze = contents.files(self.catalog.load_table(raw_trades.TABLE.name))
        silver = w2_peers.DuckDbAppend(self._told(0, bronze=bronze, after=_LONG_AGO))
        silver.db, silver.catalog = self.facts.db, self.catalog
        silver.work()
        self._silver_books()
        self.facts.work()
        self.gold.look()
        self.gold.put(daily_trading_summary.TABLE.name, w5_peers.DAILY_QUERY)

    def _silver_books(self) -> None:
        files = contents.files(self.catalog.load_table(raw_orderbook.TABLE.name))
        table = self.catalog.load_table(BOOKS.name)
        schema = table.schema().as_arrow()
        rows = self.facts.db.sql(_SILVER_BOOKS.format(files=files)).to_arrow_table()
        table.append(rows.select(schema.names).cast(schema))

    def result(self) -> Result:
        return iceberg_result(self.job)


class BookLoop(w1_peers.PyIcebergLoop):
    name = "PyIceberg loop of order books"

    def _rows(self, messages: list[Any]) -> Any:
        import orjson

        pa = self.pa
        values = [message.value() for message in messages]
        books = [self.loads(value) for value in values]
        instant = pa.timestamp("us", tz="UTC")
        columns = {
            **{name: pa.array([book.get(name) for book in books], pa.string()) for name in ("symbol", "exchange")},
            **{name: pa.array([orjson.dumps(book.get(name)).decode() for book in books]) for name in ("bids", "asks")},
            "snapshot_time": pa.array([book.get("snapshot_time") for book in books], pa.string()).cast(instant),
            "raw_payload": pa.array(values, pa.binary()).cast(pa.string()),
            "_ingested_at": pa.repeat(pa.scalar(datetime.now(UTC), instant), len(values)),
            "_kafka_topic": pa.repeat(self.job.inputs["topic"], len(values)),
            "_kafka_partition": pa.array([message.partition() for message in messages], pa.int32()),
            "_kafka_offset": pa.array([message.offset() for message in messages], pa.int64()),
            "_raw_bytes": pa.nulls(len(values), pa.binary()),
            "_kafka_headers": pa.nulls(len(values), pa.list_(pa.struct({"key": pa.string(), "value": pa.binary()}))),
        }
        return pa.table({name: columns[name] for name in raw_orderbook.TABLE.column_names})


class BareSteps(lake.InSpark):
    name = "limit: the bare steps"
    note = "W1's, W2's and W4's limits and a day's sums, each from plain Parquet to plain Parquet"
    is_limit = True

    def work(self) -> None:
        names = ("bronze", "books", "silver", "daily")
        bronze, books, silver, daily = (str(self.job.scratch / name) for name in names)
        self._write(w1_peers.parsed(self.records(raw_trades.TABLE.short_name)), bronze)
        snapshots = F.from_json(F.col("value").cast("string"), _BOOK_FIELDS)
        self._write(self.records(raw_orderbook.TABLE.short_name).select(snapshots.alias("b")).select("b.*"), books)
        told = self._told(after=_LONG_AGO, silver=[silver])
        self._write(w2_peers.good(w2_peers.judge_in_spark(self.spark.read.parquet(bronze), told)), silver)
        facts = w4_peers.ToParquet(told)
        facts.spark = self.spark
        facts.work()
        of_day = self.spark.read.parquet(silver).groupBy("trade_date", "symbol")
        self._write(of_day.agg(F.min("price"), F.max("price"), F.sum("quantity"), F.sum("total_value")), daily)

    def _told(self, **inputs: Any) -> Job:
        return replace(self.job, inputs={**self.job.inputs, **inputs})

    def records(self, topic: str) -> DataFrame:
        ends: Mapping[int, int] = kafka.offered(self.spark, self.settings, topic).latest
        return kafka.batch(self.spark, self.settings, topic, ends)

    def _write(self, rows: DataFrame, target: str) -> None:
        rows.write.mode("overwrite").option("compression", "zstd").parquet(target)


_BOOK_FIELDS = (
    "symbol STRING, snapshot_time TIMESTAMP, bids ARRAY<ARRAY<DECIMAL(18, 6)>>, asks ARRAY<ARRAY<DECIMAL(18, 6)>>, "
    "exchange STRING"
)
_SILVER_BOOKS = """
    WITH parsed AS (
        SELECT *, from_json(bids, '[["DECIMAL(18,6)"]]') AS b, from_json(asks, '[["DECIMAL(18,6)"]]') AS a
        FROM read_parquet({files!r})
    ),
    sorted AS (
        SELECT *, list_sort(b, 'DESC')[1:5] AS best_bids, list_sort(a, 'ASC')[1:5] AS best_asks FROM parsed
    )
    SELECT md5(concat_ws('|', symbol, exchange, strftime(snapshot_time::TIMESTAMP, '%Y-%m-%dT%H:%M:%S.%fZ')))
            AS snapshot_id,
        symbol, snapshot_time, exchange, best_bids[1][1] AS best_bid_price, best_bids[1][2]::BIGINT AS best_bid_qty,
        best_asks[1][1] AS best_ask_price, best_asks[1][2]::BIGINT AS best_ask_qty,
        best_asks[1][1] - best_bids[1][1] AS spread,
        list_sum(list_transform(best_bids, lambda level: level[2]))::BIGINT AS bid_depth_5,
        list_sum(list_transform(best_asks, lambda level: level[2]))::BIGINT AS ask_depth_5,
        now() AS _processed_at, _kafka_topic AS _source_topic, _kafka_partition AS _source_partition,
        _kafka_offset AS _source_offset
    FROM sorted WHERE best_bids[1][1] < best_asks[1][1]
    QUALIFY row_number() OVER (PARTITION BY symbol, exchange, snapshot_time ORDER BY _kafka_offset) = 1
"""
