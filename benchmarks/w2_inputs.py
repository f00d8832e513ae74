"""What W2 starts from: bronze with a history and a new batch, and a silver that holds the history.

Run as a module it fills the tables, in a process whose JVM ends with it.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import contents, lake, spark_delta, trades
from benchmarks.contents import Columns
from benchmarks.filling import bronze, in_process, silver, with_instants
from benchmarks.plan import Case, Inputs
from lakehouse_spark.bronze import raw_reference, raw_trades
from lakehouse_spark.dim import dim_exchange
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import FeedCursor, TopicCursor
from lakehouse_spark.lake.session import open_session
from lakehouse_spark.metadata import retired_keys, surrogate_keys
from lakehouse_spark.migrations import baseline
from lakehouse_spark.settings import conf_dir
from lakehouse_spark.silver import rejected_records, trader_activity
from lakehouse_spark.silver import trades as silver_trades

SILVER = silver_trades.TABLE
PEER_REJECTS = "silver.rejects_of_peers"
_EXCHANGES = (raw_reference.TABLE, surrogate_keys.TABLE, retired_keys.TABLE, dim_exchange.TABLE)

DIGEST: Columns = {
    **{n: n for n in ("trade_id", "symbol", "trade_type", "order_type", "trader_id", "exchange", "account_id")},
    "price": "price::DECIMAL(18, 6)",
    "quantity": "quantity::BIGINT",
    "total_value": "total_value::DECIMAL(18, 6)",
    "trade_timestamp": "epoch_us(trade_timestamp)",
    "status": "status",
    "_source_partition": "_source_partition::INTEGER",
    "_source_offset": "_source_offset::BIGINT",
}
TRUTH = {
    **DIGEST,
    "total_value": "(price * quantity)::DECIMAL(18, 6)",
    "trade_timestamp": "epoch_us(moment)",
    "status": "'EXECUTED'",
    "_source_partition": "place::INTEGER",
    "_source_offset": "following::BIGINT",
}


@contextmanager
def inputs(case: Case, folder: Path) -> Iterator[Inputs]:
    """Day by day a history of `history` batches, then the batch: `repeats` of it repeat trades of the history, one in
    a hundred of the others breaks a rule. A full replay repeats the last day, record by record.
    """
    size, days, repeats = case.params["records"], case.params["history"], case.params["repeats"]
    before = size * days
    history = f"SELECT range AS n, range AS i, 0 AS bad FROM range({before})"
    repeated = f"n % 100 < {round(100 * repeats)}"
    old = f"n - {size}" if repeats == 1 else f"(hash(n) % {before})::BIGINT"
    batch = (
        f"SELECT n, CASE WHEN {repeated} THEN {old} ELSE n END AS i,"
        f" CASE WHEN NOT {repeated} AND n % 100 = 99 THEN 1 + (n // 100) % 4 ELSE 0 END AS bad"
        f" FROM (SELECT range AS n FROM range({before}, {before + size}))"
    )
    made = {"per_day": size, "uuid": bool(case.params.get("uuid"))}
    old_file = trades.write(folder / "history.parquet", history, **made)
    new_file = trades.write(folder / "batch.parquet", batch, **made)
    first = "QUALIFY row_number() OVER (PARTITION BY trade_id ORDER BY n) = 1"  # the one of its trade that silver keeps
    truth = f"(SELECT * FROM read_parquet(['{old_file}', '{new_file}']) WHERE bad = 0 {first})"
    rejected = contents.count(f"(SELECT * FROM '{new_file}' WHERE bad <> 0)")
    values = in_process("benchmarks.w2_inputs", {"folder": str(folder), "days": days, "records": size})
    if any(contender.name == spark_delta.NAME for contender in case.contenders):
        held = contents.files(contents.catalog(folder / "home").load_table(SILVER.name))
        told = {"files": held, "target": str(folder / "delta"), "by": ["trade_date"]}
        values["delta"] = in_process("benchmarks.spark_delta", told)
    yield Inputs(values, {"silver": contents.digest(truth, TRUTH), "rejected": str(rejected)})


def fill(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fills a home; what contenders are told of it."""
    folder = Path(given["folder"])
    home = folder / "home"
    settings = lake.here(home, spark__conf=lake.PEER_CONF)
    spark = open_session(settings, "benchmark inputs")
    lake.create(spark, raw_trades.TABLE, SILVER, rejected_records.TABLE, trader_activity.TABLE, *_EXCHANGES)
    spark.sql(f"CREATE TABLE lake.{PEER_REJECTS} (raw_payload STRING, reason STRING) USING iceberg")
    baseline.seed_exchanges(spark, conf_dir())
    first = datetime.fromisoformat(trades.FIRST_DAY).replace(tzinfo=UTC)
    old, new = (first + timedelta(days=given["days"] + more) for more in (1, 2))
    history, batch = (
        with_instants(spark.read.parquet(str(folder / f"{name}.parquet"))) for name in ("history", "batch")
    )
    for rows, stamp in ((history, old), (batch, new)):
        base = snapshots.state(spark, raw_trades.TABLE)
        cursor = TopicCursor(stamp=stamp, topic="trades", topic_id="none")
        commit.append(spark, raw_trades.TABLE, bronze(rows, stamp), base, cursor)
    base = snapshots.state(spark, SILVER)
    counts = dict.fromkeys(("records", "accepted", "rows", "inserted"), given["days"] * given["records"])
    judged = FeedCursor(
        stamp=old, source=raw_trades.TABLE.name, after=None, upto=old, since=old, counts=counts, totals=counts
    )
    commit.append(spark, SILVER, silver(history, old), base, judged)
    spark.stop()
    catalog = contents.catalog(home)
    names = (SILVER.name, rejected_records.TABLE.name)
    return {
        "home": str(home),
        "after": old.isoformat(),
        "snapshots": contents.current_snapshots(home, names),
        "bronze": contents.files(catalog.load_table(raw_trades.TABLE.name)),
    }


if __name__ == "__main__":
    print(json.dumps(fill(json.loads(sys.argv[1]))))
