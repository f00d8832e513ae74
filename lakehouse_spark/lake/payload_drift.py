"""Notes of payload drift: kept before the batch's own commit, so that an attempt that dies writes them over."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.bronze.topic import Topic
from lakehouse_spark.lake import commit, snapshots
from lakehouse_spark.lake.cursor import Cursor, to_text
from lakehouse_spark.lake.reconcile import settle
from lakehouse_spark.metadata.payload_drift import MOST_NAMES, OTHER, RETYPED, TABLE, UNKNOWN, VANISHED
from lakehouse_spark.transforms import drift

ENOUGH_RECORDS = 100
"""A field that none of so many records has, though earlier ones had it, is told to have vanished."""
KEPT_DAYS = 7
"""Older notes are looked at no more, and go with the first of a topic's notes of a day."""
_START, _NONE = "start", "none"
_KINDS = 7
"""Of values that JSON has, as `drift` tells them apart."""
_ROW = pa.schema(
    [
        *((name, pa.string()) for name in ("topic", "batch", "name", "change", "json_type")),
        *((name, pa.int64()) for name in ("records", "readable")),
        ("upto", pa.timestamp("us", tz="UTC")),
    ]
)


@dataclass(frozen=True)
class Found:
    """What a batch held: its records that are JSON objects, which fields any of them has (`has`, by `drift.present`),
    and how many fields are not as declared, in which of the `records`."""

    readable: int
    has: int
    drifted: int
    records: DataFrame


def note(
    spark: SparkSession,
    topic: Topic,
    found: Found,
    after: datetime | None,
    upto: snapshots.State,
    seen: Collection[str] = (),
) -> list[str]:
    """Keeps what is not as declared in the batch of rows stamped later than `after`; nothing, where all is.

    `seen` are the fields that earlier records had; the result are those of which to notice that they vanish from here
    on. Notes of an earlier attempt at the batch, which may have ended before, go with its own; where it begins with the
    first row, so do all of the topic.
    """
    present, is_enough = drift.present(found.has, topic.fields), found.readable >= ENOUGH_RECORDS
    absent = [name for name in topic.fields if name in seen and name not in present] if is_enough else []
    if found.drifted or absent:
        _keep(spark, topic, found, absent, after, upto)
    return sorted(present if is_enough else {*present, *seen})


def _keep(
    spark: SparkSession,
    topic: Topic,
    found: Found,
    absent: Sequence[str],
    after: datetime | None,
    upto: snapshots.State,
) -> None:
    batch = _START if after is None else str(to_text(after))
    counted = _counted(topic, found) if found.drifted else []
    now = datetime.now(UTC)
    oldest = now - timedelta(days=KEPT_DAYS)

    def attempt() -> None:
        base = snapshots.state(spark, TABLE)
        held = snapshots.at(spark, TABLE, base.snapshot_id).where(F.col("topic") == topic.name)
        is_held = snapshots.has_files(spark, TABLE, base, ("topic", "=", topic.name))
        again = F.lit(after is None) | F.col("batch").eqNullSafe(F.lit(batch))
        is_old = F.col("_noted_at") < F.lit(oldest)
        found_of = (
            F.max("_noted_at").alias("at"),
            F.bool_or(again).alias("again"),
            F.bool_or(~again & ~is_old).alias("stays"),
        )
        noted = held.groupBy("name", "change").agg(*found_of).collect() if is_held else []
        is_first_of_day = max((row["at"].astimezone(UTC).date() for row in noted), default=None) != now.date()
        goes = again | is_old if is_first_of_day else again
        known = {row["name"] for row in noted if row["change"] == UNKNOWN and row["stays"]}
        whole = {"topic": topic.name, "batch": batch, "readable": found.readable, "upto": upto.stamp}
        rows = [{**row, **whole} for row in _rows(topic, counted, found.drifted, known, absent)]
        fresh = spark.createDataFrame(pa.Table.from_pylist(rows, schema=_ROW)).coalesce(1)
        cursor = Cursor(stamp=base.next_stamp(now), notes={"topic": topic.name, "batch": batch})
        is_due = is_first_of_day or any(row["again"] for row in noted)
        settle(spark, TABLE, fresh, held.where(goes) if is_held and is_due else None, base, cursor)

    commit.again_if_overtaken(attempt)


def _counted(topic: Topic, found: Found) -> list[tuple[str, str, int]]:
    """The batch's fields by name and kind: all declared ones, and of others those of most records."""
    declared = F.col("name").isin(*topic.fields)
    fields = drift.fields_of(found.records).orderBy(~declared, F.desc("records"), "name", "json_type")
    most = fields.limit((MOST_NAMES + len(topic.fields)) * _KINDS)
    return [(row["name"], row["json_type"], row["records"]) for row in most.collect()]


def _rows(
    topic: Topic, counted: Sequence[tuple[str, str, int]], drifted: int, known: set[str], absent: Sequence[str]
) -> list[dict[str, Any]]:
    """The notes of a batch: fields by name and kind, unknown ones of the names that are `known` and of as many new ones
    as there is room for; the rest together; and the fields that no record has."""
    names, rows, rest = set(known), [], drifted
    for name, json_type, records in counted:
        if name not in topic.fields and name not in names:
            if len(names) >= MOST_NAMES:
                continue
            names.add(name)
        rest -= records
        change = RETYPED if name in topic.fields else UNKNOWN
        rows.append({"name": name, "change": change, "json_type": json_type, "records": records})
    if rest:
        rows.append({"name": "", "change": OTHER, "json_type": _NONE, "records": rest})
    return rows + [{"name": name, "change": VANISHED, "json_type": _NONE, "records": 0} for name in absent]
