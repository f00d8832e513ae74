"""What W3 starts from: a change log with a batch of new changes, and a dim_symbol that knows all but those.

Run as a module it fills the tables, in a process whose JVM ends with it.
"""

import itertools
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks import contents, lake, trades
from benchmarks.contents import Columns
from benchmarks.filling import in_process
from benchmarks.plan import Case, Inputs
from lakehouse_spark.bronze import raw_reference
from lakehouse_spark.dim import dim_symbol, reference_log
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.lake import commit, dimension_members, snapshots
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.lake.session import open_session
from lakehouse_spark.metadata import retired_keys, surrogate_keys
from lakehouse_spark.silver import rejected_records

DIM = dim_symbol.TABLE
LOG = raw_reference.TABLE
WRITTEN = (DIM, surrogate_keys.TABLE, retired_keys.TABLE, rejected_records.TABLE)
"""What a turn may write to, and the next one finds as it was."""

DELTA = "mack's pattern, delta-spark"

TRACKED = dim_symbol.TRACKED
ATTRIBUTES = (*TRACKED, *dim_symbol.UNTRACKED)
FEED = ("symbol", *ATTRIBUTES, "effective_date", "sequence")

DIGEST: Columns = {
    **{name: name for name in ("symbol", *TRACKED)},
    **{name: f"{name}::DATE" for name in ("ipo_date", "effective_date", "expiry_date")},
    "is_current": "is_current",
}

_SECTORS = (
    *("Energy", "Materials", "Industrials", "Utilities", "Health Care", "Financials", "Consumer Discretionary"),
    *("Consumer Staples", "Information Technology", "Communication Services", "Real Estate"),
)
_BUCKETS = 8

# Of each change: `n` is its arrival, `i` its symbol, `v` what it says (changes of equal `i` and `v` say the same).
_CHANGES = f"""
    SELECT n::BIGINT AS n, concat('S', lpad(i::VARCHAR, 7, '0')) AS symbol,
        concat('Company ', i, ' plc') AS company_name,
        ({list(_SECTORS)!r})[1 + ((hash(i, $seed, 1) % {len(_SECTORS)})::INTEGER + v) % {len(_SECTORS)}] AS sector,
        concat('Industry ', hash(i, $seed, 2) % 60) AS industry,
        (['MEGA', 'LARGE', 'MID', 'SMALL', 'MICRO'])[1 + (hash(i, $seed, 3) % 5)::INTEGER] AS market_cap_category,
        ({list(trades.VENUES)!r})[1 + (hash(i, $seed, 4) % {len(trades.VENUES)})::INTEGER] AS listing_exchange,
        DATE '1980-01-01' + (hash(i, $seed, 5) % 15000)::INTEGER AS ipo_date,
        effective_date::DATE AS effective_date, sequence::BIGINT AS sequence
    FROM ({{numbers}}) ORDER BY n
"""
_FIRST = "DATE '2024-01-02' + (i % 200)::INTEGER"
_NEWEST = "CASE WHEN i % 4 = 0 THEN 1 ELSE 0 END"
_JUNE = "DATE '2025-06-02'"

STORIES: Mapping[str, Sequence[tuple[object, str, int]]] = {
    "two in order": ((2, _JUNE, 1), (3, f"{_JUNE} + 10", 2)),
    "two in reverse": ((3, f"{_JUNE} + 10", 2), (2, _JUNE, 1)),
    "three of one date": ((2, _JUNE, 3), (3, _JUNE, 1), (4, _JUNE, 2)),
    "there and back": ((2, _JUNE, 1), (_NEWEST, f"{_JUNE} + 5", 2)),
    "late": ((5, "DATE '2024-08-15'", 1),),
    "correction of the first": ((6, _FIRST, 2),),
    "repeat of the first": ((0, _FIRST, 1),),
    "no news": ((_NEWEST, _JUNE, 1),),
}
"""What out-of-order batches tell of a member, one story each: (what is said, effective date, sequence) by arrival."""

_VERSIONS = """
    (WITH decisive AS (
        SELECT *, row({tracked}) AS says FROM read_parquet({files})
        QUALIFY row_number() OVER (PARTITION BY symbol, effective_date ORDER BY sequence DESC, n DESC) = 1
    ),
    turning AS (
        SELECT * FROM decisive
        QUALIFY lag(says) OVER (PARTITION BY symbol ORDER BY effective_date) IS DISTINCT FROM says
    )
    SELECT * EXCLUDE (says), following IS NULL AS is_current,
        coalesce(following - 1, DATE '9999-12-31') AS expiry_date
    FROM (SELECT *, lead(effective_date) OVER (PARTITION BY symbol ORDER BY effective_date) AS following FROM turning))
"""


@contextmanager
def inputs(case: Case, folder: Path) -> Iterator[Inputs]:
    """A log of one change per member, and a second for every fourth, of 2024; then changes of `records` members.

    In order: one each, of June 2025, every tenth of a symbol not seen before. Out of order: a story each. Clustered: in
    order, of members in one of the dimension's partitions.
    """
    members, changed, order = case.params["members"], case.params["records"], case.params["order"]
    numbers = f"FROM (SELECT range AS i FROM range({members}))"
    known = (
        f"SELECT i AS n, i, 0 AS v, {_FIRST} AS effective_date, 1 AS sequence {numbers} UNION ALL "
        f"SELECT {members} + i, i, 1, DATE '2024-10-01' + (i % 60)::INTEGER, 1 {numbers} WHERE i % 4 = 0"
    )
    picked = _in_one_bucket(members, changed) if order == "clustered" else _scattered(members, changed)
    old, new = folder / "known.parquet", folder / "batch.parquet"
    _write(old, known, [])
    _write(new, _told(2 * members) if order == "out of order" else _moved(members, order != "clustered"), picked)
    before, after = _versions(old), _versions(old, new)
    columns = ", ".join(DIGEST)
    differing = f"(SELECT {columns} FROM {after} EXCEPT SELECT {columns} FROM {before})"
    expected = {"dim": contents.digest(after, DIGEST), "changed": contents.digest(differing, DIGEST)}
    values = in_process("benchmarks.w3_inputs", {"folder": str(folder)})
    if any(contender.name == DELTA for contender in case.contenders):
        told = {"files": values["dim"], "target": str(folder / "delta"), "by": []}
        values["delta"] = in_process("benchmarks.spark_delta", told)
    yield Inputs(values, expected)


def _scattered(members: int, count: int) -> list[int]:
    return random.Random(trades.SEED).sample(range(members), count)


def _in_one_bucket(members: int, count: int) -> list[int]:
    """The first members of the first partition."""
    bucket_of = BucketTransform(_BUCKETS).transform(StringType())
    found = list(itertools.islice((i for i in range(members) if bucket_of(f"S{i:07d}") == 0), count))
    if len(found) < count:
        raise LakehouseError(f"W3: {count} clustered changes, but one bucket holds {len(found)} of {members} members")
    return found


def _moved(members: int, with_new: bool) -> str:
    """One change for each picked member; with `with_new` every tenth is of a new symbol instead."""
    i = f"CASE WHEN j % 10 = 9 THEN {members} + j ELSE i END" if with_new else "i"
    return (
        f"SELECT {2 * members} + j AS n, {i} AS i, 2 AS v, {_JUNE} + j % 5 AS effective_date, 1 AS sequence FROM picked"
    )


def _told(first: int) -> str:
    """Each picked member's story; `first` comes before the first arrival."""
    told = [
        f"SELECT j, {nth} AS nth, i, {v} AS v, {day} AS effective_date, {sequence} AS sequence"
        f" FROM picked WHERE j % {len(STORIES)} = {number}"
        for number, story in enumerate(STORIES.values())
        for nth, (v, day, sequence) in enumerate(story)
    ]
    return f"SELECT *, {first} + row_number() OVER (ORDER BY j, nth) AS n FROM ({' UNION ALL '.join(told)})"


def _write(file: Path, numbers: str, picked: Sequence[int]) -> None:
    con = duckdb.connect()
    con.register("picked", pa.table({"j": pa.array(range(len(picked)), pa.int32()), "i": pa.array(picked, pa.int32())}))
    changes = _CHANGES.format(numbers=numbers)
    con.execute(f"COPY ({changes}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)", {"seed": trades.SEED})


def _versions(*files: Path) -> str:
    """The dimension that the changes make, in SQL of its own: no code is shared with any contender."""
    return _VERSIONS.format(tracked=", ".join(TRACKED), files=[str(file) for file in files])


def fill(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fills a home; what contenders are told of it."""
    folder = Path(given["folder"])
    home = folder / "home"
    spark = open_session(lake.here(home, spark__conf=lake.PEER_CONF), "benchmark inputs")
    lake.create(spark, LOG, *WRITTEN)
    stamps = []
    for name in ("known", "batch"):
        base = snapshots.state(spark, LOG)
        stamps.append(base.next_stamp(datetime.now(UTC)))
        cursor = TopicCursor(stamp=stamps[-1], topic="reference", topic_id="none")
        records = _records(spark.read.parquet(str(folder / f"{name}.parquet")))
        commit.append(spark, LOG, reference_log.build(records, [dim_symbol.DIMENSION], stamps[-1]), base, cursor)
        if name == "known":
            dimension_members.apply(spark, dim_symbol.DIMENSION)
    spark.stop()
    catalog = contents.catalog(home)
    return {
        "home": str(home),
        "after": stamps[0].isoformat(),
        "snapshots": contents.current_snapshots(home, (table.name for table in WRITTEN)),
        "log": contents.files(catalog.load_table(LOG.name)),
        "dim": contents.files(catalog.load_table(DIM.name)),
        "batch": str(folder / "batch.parquet"),
    }


def _records(changes: DataFrame) -> DataFrame:
    """Changes as records of the Kafka topic."""
    fields = {name: F.col(name).cast("string") for name in FEED}
    return changes.select(
        F.lit(dim_symbol.DIMENSION.name).alias("dimension"),
        F.create_map(*(part for name, value in fields.items() for part in (F.lit(name), value))).alias("attributes"),
        F.lit("reference").alias("source"),
        F.to_json(F.struct(*(value.alias(name) for name, value in fields.items()))).alias("raw_payload"),
        F.lit("reference").alias("_kafka_topic"),
        F.lit(0).alias("_kafka_partition"),
        F.col("n").alias("_kafka_offset"),
        *(F.lit(None).cast(LOG.schema[name].dataType).alias(name) for name in ("_source_row", "_source_digest")),
        F.lit(None).cast("binary").alias("_raw_bytes"),
    )


if __name__ == "__main__":
    print(json.dumps(fill(json.loads(sys.argv[1]))))
