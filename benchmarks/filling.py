"""What the workloads' inputs share: a process of its own for each JVM, and generated trades as tables hold them."""

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse_spark.bronze import raw_trades
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.silver import trades as silver_trades


def in_process(module: str, given: Mapping[str, Any]) -> Any:
    """What the module prints last; each Spark has its own jars, and so its own JVM."""
    command = [sys.executable, "-m", module, json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LakehouseError(f"{module}: the tables could not be filled:\n{(done.stdout + done.stderr)[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def silver(rows: DataFrame, stamp: datetime) -> DataFrame:
    """Rows of `trades.write`, read with `moment` as a timestamp, as silver.trades holds them."""
    named = {
        "total_value": F.col("price") * F.col("quantity"), "trade_timestamp": F.col("moment"),
        "trade_date": F.to_date("moment"), "_processed_at": F.lit(stamp).cast("timestamp"),
        "status": F.lit("EXECUTED"), "commission": F.lit(None), "_source_topic": F.lit("trades"),
        "_source_partition": F.col("place"), "_source_offset": F.col("following"),
    }  # fmt: skip
    return as_rows(rows, silver_trades.TABLE.schema, named)


def bronze(rows: DataFrame, stamp: datetime) -> DataFrame:
    """Rows of `trades.write`, read with `moment` as a timestamp, as bronze.raw_trades holds them."""
    named = {
        "timestamp": F.col("moment"), "raw_payload": F.col("payload"), "_ingested_at": F.lit(stamp).cast("timestamp"),
        "_kafka_topic": F.lit("trades"), "_kafka_partition": F.col("place"), "_kafka_offset": F.col("following"),
        "_raw_bytes": F.lit(None), "_kafka_headers": F.lit(None),
    }  # fmt: skip
    return as_rows(rows, raw_trades.TABLE.schema, named)


def with_instants(rows: DataFrame) -> DataFrame:
    """DuckDB's timestamps without a zone are meant in UTC."""
    return rows.withColumn("moment", F.col("moment").cast("timestamp"))


def as_rows(rows: DataFrame, schema: Any, named: Mapping[str, Any]) -> DataFrame:
    """The columns of `schema`: what `named` says, else the column of the same name."""
    return rows.select(*(named.get(f.name, F.col(f.name)).cast(f.dataType).alias(f.name) for f in schema))
