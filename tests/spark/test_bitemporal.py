"""Bitemporal versions: what was known at any moment of any day is what the records that had landed by then say."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.dim import bitemporal, dim_symbol, dim_trader
from lakehouse_spark.dim.dimension import Dimension
from tests.support import dim_oracle, histories
from tests.support.dim_oracle import SYMBOL, TRADER, ChangeEvent
from tests.support.scd_changes import OPEN, change, delete, drawn, event_frame, june, together

NOON = datetime(2025, 7, 1, 12, tzinfo=UTC)
ALWAYS = datetime(9999, 12, 31, tzinfo=UTC)
COMMIT = 2
"""So many changes arrive with one commit."""
SIZES = {"company_name": None, "industry": None, "market_cap_category": None, "listing_exchange": None}


def at(commit: int) -> datetime:
    return NOON + timedelta(minutes=commit)


def build(spark: SparkSession, events: Sequence[ChangeEvent], dimension: Dimension, commit: int) -> DataFrame:
    """The events, so many to a commit, in the order of their arrivals."""
    columns = {each.name: each.dataType.simpleString() for each in dimension.attributes}
    rows = event_frame(spark, events, dimension.natural_key, columns)
    landed = F.lit(NOON).cast("timestamp") + F.make_dt_interval(mins=F.floor(F.col("arrival") / commit).cast("int"))
    stated = {f"_states_{name}": F.lit(True) for name in columns}
    placed = rows.withColumns({"_ingested_at": landed, "_place": F.struct("arrival"), **stated})
    return bitemporal.build(placed, dimension)


def sectors(spark: SparkSession, *changes: Any) -> list[tuple[Any, ...]]:
    """Of symbols of which only the sector is known, each change in a commit of its own."""
    events = [
        ChangeEvent(
            each.key, june(each.day), each.sequence, arrival, bool(each.gone),
            {**SIZES, "sector": each.values[0] if each.values else None, "ipo_date": None},
        )
        for arrival, each in enumerate(changes)
    ]  # fmt: skip
    rows = build(spark, events, dim_symbol.DIMENSION, commit=1)
    found = rows.select(
        "symbol", "sector", "valid_from", "valid_to", "known_from", F.date_format("known_to", "y-MM-dd HH:mm")
    )
    return sorted((*row[:4], row[4].astimezone(UTC), row[5]) for row in found.collect())


def test_what_a_late_a_corrected_a_deleted_and_a_re_inserted_member_was_known_to_be(spark: SparkSession) -> None:
    never = "9999-12-31 00:00"
    assert sectors(
        spark,
        change("corrected", 1, "a"), change("corrected", 1, "b"),
        change("deleted", 1, "a"), delete("deleted", 5), change("deleted", 9, "a"),
        change("late", 1, "a"), change("late", 9, "b"), change("late", 5, "c"),
        change("said again", 1, "a"), change("said again", 5, "a"),
        change("there and back", 1, "a"), change("there and back", 1, "b", sequence=1),
        change("there and back", 1, "a", sequence=2),
    ) == [
        ("corrected", "a", june(1), OPEN, at(0), "2025-07-01 12:01"),
        ("corrected", "b", june(1), OPEN, at(1), never),
        ("deleted", "a", june(1), june(4), at(3), never),
        ("deleted", "a", june(1), OPEN, at(2), "2025-07-01 12:03"),
        ("deleted", "a", june(9), OPEN, at(4), never),
        ("late", "a", june(1), june(4), at(7), never),
        ("late", "a", june(1), june(8), at(6), "2025-07-01 12:07"),
        ("late", "a", june(1), OPEN, at(5), "2025-07-01 12:06"),
        ("late", "b", june(9), OPEN, at(6), never),
        ("late", "c", june(5), june(8), at(7), never),
        ("said again", "a", june(1), OPEN, at(8), never),
        ("there and back", "a", june(1), OPEN, at(10), "2025-07-01 12:11"),
        ("there and back", "a", june(1), OPEN, at(12), never),
        ("there and back", "b", june(1), OPEN, at(11), "2025-07-01 12:12"),
    ]  # fmt: skip


def test_random_histories_are_known_as_the_oracle_says_they_were(spark: SparkSession) -> None:
    symbols = together(drawn(histories.symbol_changes(), 120))
    traders = together(drawn(histories.trader_changes(), 60))
    assert _looked_at(spark, symbols, dim_symbol.DIMENSION, SYMBOL) > 500
    assert _looked_at(spark, traders, dim_trader.DIMENSION, TRADER) > 200


def _looked_at(
    spark: SparkSession, events: Sequence[ChangeEvent], dimension: Dimension, declared: dim_oracle.Dimension
) -> int:
    """How many moments and days of members were looked at, and were right."""
    key, names = dimension.natural_key, [each.name for each in dimension.attributes]
    rows = build(spark, events, dimension, COMMIT).withColumn("known_to", F.to_json(F.struct("known_to")))
    held: Mapping[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.collect():
        held[row[key]].append({**row.asDict(), "known_from": row["known_from"].astimezone(UTC)})
    looks = 0
    for member in sorted({event.natural_key for event in events}):
        own = [event for event in events if event.natural_key == member]
        commits = sorted({event.arrival // COMMIT for event in own})
        spans = [(v["known_from"], _instant(v["known_to"]), v) for v in held[member]]
        for commit in commits:
            known = [event for event in own if event.arrival // COMMIT <= commit]
            versions = {
                (v.effective_date, v.expiry_date, *(v.attributes[name] for name in names))
                for v in dim_oracle.scd2(known, declared.tracked, declared.untracked)
            }
            found = [
                (v["valid_from"], v["valid_to"], *(v[name] for name in names))
                for since, until, v in spans
                if since <= at(commit) < until
            ]
            assert (member, len(found), set(found)) == (member, len(versions), versions)
            looks += len(found)
        # No row goes on as another one.
        ends = {(until, *_shown(v, names)) for _, until, v in spans}
        assert not ends & {(since, *_shown(v, names)) for since, _, v in spans}
        assert all(since in map(at, commits) for since, _, _ in spans)
    return looks


def _shown(version: Mapping[str, Any], names: Sequence[str]) -> tuple[date, date, *tuple[Any, ...]]:
    return version["valid_from"], version["valid_to"], *(version[name] for name in names)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text.split('"')[3]).astimezone(UTC)
