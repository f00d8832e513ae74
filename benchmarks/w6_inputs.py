"""What W6 starts from: bronze as a stream leaves it, a small file for ten seconds of a day.

Run as a module it fills the tables, in a process whose JVM ends with it; W7 starts from the same ones.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import functions as F

from benchmarks import contents, lake, metadata_only, trades
from benchmarks.contents import Columns
from benchmarks.filling import bronze, in_process, with_instants
from benchmarks.plan import Case, Inputs
from lakehouse_spark.bronze import raw_trades
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.jobs import maintenance
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.lake.session import open_session
from lakehouse_spark.maintenance.plan import Compaction
from lakehouse_spark.metadata import maintenance_log

RAW = raw_trades.TABLE
OF_A_FILE = 200
"""Rows: twenty trades a second."""

_COMMITS = 10
"""So many bring a day's files: how many files there are matters here, not how many commits."""
_NAMES = ("trade_id", "symbol", "trade_type", "order_type", "trader_id", "exchange", "raw_payload")
DIGEST: Columns = {
    **{name: name for name in _NAMES},
    "price": "price::DOUBLE",
    "quantity": "quantity::BIGINT",
    "timestamp": "epoch_us(timestamp)",
    "_kafka_partition": "_kafka_partition::INTEGER",
    "_kafka_offset": "_kafka_offset::BIGINT",
}
_TRUTH: Columns = {
    **DIGEST,
    "raw_payload": "payload",
    "timestamp": "epoch_us(moment)",
    "_kafka_partition": "place::INTEGER",
    "_kafka_offset": "following::BIGINT",
}


def later() -> datetime:
    """A time at which what was just written has settled."""
    return datetime.now(UTC) + timedelta(hours=2)


@contextmanager
def inputs(case: Case, folder: Path) -> Iterator[Inputs]:
    """`days` of `files` small files each. With `fresh`, all is compacted, then so many more come to the newest day.

    With `named`, so many files more stand in the metadata and nowhere else.
    """
    values, expected = start(folder, **{name: case.params.get(name, 0) for name in ("days", "files", "fresh")})
    home = Path(values["home"])
    if named := case.params.get("named"):
        metadata_only.add_files(contents.catalog(home).load_table(RAW.name), RAW, named)
        expected = {"files": str(named + 1)}
    yield Inputs({**values, "current": lake.keep(home)}, expected)


def start(folder: Path, *, days: int, files: int, fresh: int) -> tuple[dict[str, Any], dict[str, str]]:
    """A home with what maintenance needs of the tables; what contenders are told, and the digests of rows."""
    per_day, before = files * OF_A_FILE, days * files * OF_A_FILE
    trade = f"CASE WHEN range < {before} THEN range ELSE {before - per_day} + range % {per_day} END"
    numbers = f"SELECT range AS n, {trade} AS i, 0 AS bad FROM range({before + fresh * OF_A_FILE})"
    file = trades.write(folder / "trades.parquet", numbers, per_day=per_day)
    given = {"folder": str(folder), "days": days, "files": files, "fresh": fresh}
    newest = f"(SELECT * FROM '{file}' WHERE n >= {before - per_day})"
    expected = {
        "rows": contents.digest(f"'{file}'", _TRUTH),
        "rows of the newest day": contents.digest(newest, _TRUTH),
        "by symbol": contents.digest(f"(SELECT symbol, sum(quantity) AS total FROM {newest} GROUP BY ALL)", BY_SYMBOL),
        "files": str(days),
    }
    return in_process("benchmarks.w6_inputs", given), expected


BY_SYMBOL: Columns = {"symbol": "symbol", "total": "total::BIGINT"}


def fill(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fills a home; what contenders are told of it."""
    folder, days, files, fresh = Path(given["folder"]), given["days"], given["files"], given["fresh"]
    settings = lake.here(folder / "home")
    spark = open_session(settings, "benchmark inputs")
    lake.create(spark, RAW, maintenance_log.TABLE, *(table for table in TABLES if RAW.name in table.follows))
    rows = with_instants(spark.read.parquet(str(folder / "trades.parquet")))
    last = datetime.fromisoformat(trades.FIRST_DAY).replace(tzinfo=UTC) + timedelta(days=days - 1)
    before = days * files * OF_A_FILE

    def land(first: int, upto: int, files: int, stamp: datetime) -> None:
        small = bronze(rows.where(F.col("n").between(first, upto - 1)), stamp).repartition(files)
        following = dict.fromkeys(range(trades.PARTITIONS), upto // trades.PARTITIONS)
        began = dict.fromkeys(range(trades.PARTITIONS), first // trades.PARTITIONS)
        cursor = TopicCursor(
            stamp=stamp, topic="trades", topic_id="GY3oSmCkTSGDGSHCW3nYeA", began=began, following=following
        )
        commit.append(spark, RAW, small, snapshots.state(spark, RAW), cursor)

    evening = last + timedelta(hours=22)
    commits = min(_COMMITS, files) if days == 1 else 1
    for number in range(commits):
        first, upto = (before * each // commits for each in (number, number + 1))
        land(first, upto, files // commits, evening + timedelta(seconds=10 * number))
    if fresh:
        maintenance.run(spark, settings, jobs=(Compaction.job,), tables=(RAW.name,), now=later())
        land(before, before + fresh * OF_A_FILE, fresh, evening + timedelta(hours=1))
    spark.stop()
    table = contents.catalog(settings.home).load_table(RAW.name)
    return {
        "home": str(settings.home),
        "snapshot": table.metadata.current_snapshot_id,
        "day": f"{last:%Y-%m-%d}",
        "newest": [file for file in contents.files(table) if f"timestamp_day={last:%Y-%m-%d}" in file],
    }


if __name__ == "__main__":
    print(json.dumps(fill(json.loads(sys.argv[1]))))
