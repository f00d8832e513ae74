"""SCD2: every version and the days on which it was valid, whatever the order of arrival; the gaps between them."""

from datetime import date
from typing import Any

from chispa import assert_df_equality
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.lake import frames
from lakehouse_spark.transforms import scd_type2
from tests.support import dim_oracle, histories
from tests.support.dim_oracle import SYMBOL, ChangeEvent
from tests.support.scd_changes import (
    OPEN,
    ORDER,
    Change,
    as_dicts,
    change,
    delete,
    drawn,
    event_frame,
    frame,
    june,
    together,
)

VERSION = "symbol string, sector string, effective_date date, expiry_date date, is_current boolean"
BEGINNING = date(1900, 1, 1)


def versions(spark: SparkSession, *changes: Change) -> DataFrame:
    """Versions of symbols of which only the sector is known, row hashes left out."""
    rows = frame(spark, "symbol string, sector string", *changes)
    return scd_type2.versions(rows, key="symbol", tracked=["sector"], order=ORDER).drop("_row_hash")


def expect(spark: SparkSession, found: DataFrame, *expected: tuple[Any, ...]) -> None:
    rows = frames.of_rows(spark, list(expected), VERSION)
    assert_df_equality(found, rows, ignore_row_order=True, ignore_nullable=True)


# The four examples of the specification, with dates of their own; surrogate keys: see test_dimension_loader

APPLE = ("Apple Inc", "Technology", "Consumer Electronics", "MEGA", "NASDAQ")
MICROSOFT = ("Microsoft Corp", "Technology", "Software", "MEGA", "NASDAQ")
NEWCO = ("New Company Inc", "Technology", "Software", "SMALL", "NASDAQ")


def test_a_new_a_changed_and_an_unchanged_symbol(spark: SparkSession) -> None:
    columns = (
        "symbol string, company_name string, sector string, industry string, market_cap_category string, "
        "listing_exchange string"
    )
    changed = ("Apple Inc", "Consumer Discretionary", *APPLE[2:])
    rows = frame(
        spark, columns,
        change("NEWCO", 2, *NEWCO),
        change("AAPL", 2, *APPLE), change("AAPL", 9, *changed),
        change("MSFT", 2, *MICROSOFT), change("MSFT", 9, *MICROSOFT),
    )  # fmt: skip
    found = scd_type2.versions(rows, key="symbol", tracked=SYMBOL.tracked, order=ORDER)
    expected = frames.of_rows(
        spark,
        [
            ("NEWCO", *NEWCO, june(2), OPEN, True, "f65372846518a508f4aadd847a5d5da7"),
            ("AAPL", *APPLE, june(2), june(8), False, "03b59ec0b450eaf251c9b42cd6dc7511"),
            ("AAPL", *changed, june(9), OPEN, True, "b78f6d08cccf30f3fd5ed8c784c96798"),
            ("MSFT", *MICROSOFT, june(2), OPEN, True, "4e2c0ce3946eaf83d1f2ebf903d990a1"),
        ],
        f"{columns}, effective_date date, expiry_date date, is_current boolean, _row_hash string",
    )
    assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)


def test_a_change_ends_the_version_before_it_and_a_late_one_takes_its_place(spark: SparkSession) -> None:
    found = versions(
        spark,
        change("new", 1, "a"),
        change("several", 1, "a"), change("several", 5, "b"), change("several", 6, "c"),
        change("late", 1, "a"), change("late", 9, "b"), change("late", 5, "c"),
        change("before all", 5, "a"), change("before all", 1, "b"),
        change("backwards", 9, "c"), change("backwards", 5, "b"), change("backwards", 1, "a"),
        change("there and back", 1, "a"), change("there and back", 5, "b"), change("there and back", 9, "a"),
    )  # fmt: skip
    expect(
        spark, found,
        ("new", "a", june(1), OPEN, True),
        ("several", "a", june(1), june(4), False),
        ("several", "b", june(5), june(5), False),
        ("several", "c", june(6), OPEN, True),
        ("late", "a", june(1), june(4), False),
        ("late", "c", june(5), june(8), False),
        ("late", "b", june(9), OPEN, True),
        ("before all", "b", june(1), june(4), False),
        ("before all", "a", june(5), OPEN, True),
        ("backwards", "a", june(1), june(4), False),
        ("backwards", "b", june(5), june(8), False),
        ("backwards", "c", june(9), OPEN, True),
        ("there and back", "a", june(1), june(4), False),
        ("there and back", "b", june(5), june(8), False),
        ("there and back", "a", june(9), OPEN, True),
    )  # fmt: skip


def test_what_changes_nothing_opens_no_version(spark: SparkSession) -> None:
    found = versions(
        spark,
        change("repeated", 1, "a"), change("repeated", 1, "a"), change("repeated", 5, "a"), change("repeated", 9, "a"),
        change("joined", 1, "a"), change("joined", 5, "b"), change("joined", 9, "a"), change("joined", 5, "a"),
        change("parted", 1, "a"), change("parted", 9, "a"), change("parted", 5, "b"),
        change("earlier", 5, "a"), change("earlier", 1, "a"),
    )  # fmt: skip
    expect(
        spark, found,
        ("repeated", "a", june(1), OPEN, True),
        ("joined", "a", june(1), OPEN, True),
        ("parted", "a", june(1), june(4), False),
        ("parted", "b", june(5), june(8), False),
        ("parted", "a", june(9), OPEN, True),
        ("earlier", "a", june(1), OPEN, True),
    )  # fmt: skip


def test_the_last_change_of_a_day_wins_by_sequence_then_by_arrival(spark: SparkSession) -> None:
    found = versions(
        spark,
        change("arrival", 1, "a"), change("arrival", 1, "b"), change("arrival", 1, "c"),
        change("sequence", 1, "a", sequence=2), change("sequence", 1, "b", sequence=1),
        change("same sequence", 1, "a", sequence=1), change("same sequence", 1, "b", sequence=1),
        change("none", 1, "a", sequence=-1), change("none", 1, "b"),
        change("beaten back", 1, "a"), change("beaten back", 5, "b", sequence=1),
        change("beaten back", 5, "a", sequence=2),
        change("delete later", 1, "a"), delete("delete later", 1),
        delete("delete earlier", 1), change("delete earlier", 1, "a"),
        change("delete beaten", 1, "a"), change("delete beaten", 5, "b", sequence=1), delete("delete beaten", 5),
    )  # fmt: skip
    expect(
        spark, found,
        ("arrival", "c", june(1), OPEN, True),
        ("sequence", "a", june(1), OPEN, True),
        ("same sequence", "b", june(1), OPEN, True),
        ("none", "a", june(1), OPEN, True),
        ("beaten back", "a", june(1), OPEN, True),
        ("delete earlier", "a", june(1), OPEN, True),
        ("delete beaten", "a", june(1), june(4), False),
        ("delete beaten", "b", june(5), OPEN, True),
    )  # fmt: skip


def test_a_delete_ends_the_last_version_and_a_re_insert_keeps_the_gap(spark: SparkSession) -> None:
    found = versions(
        spark,
        change("deleted", 1, "a"), delete("deleted", 5, "a"),
        change("twice", 1, "a"), delete("twice", 5), delete("twice", 9),
        change("back as it was", 1, "a"), delete("back as it was", 5), change("back as it was", 9, "a"),
        change("back changed", 1, "a"), delete("back changed", 5), change("back changed", 9, "b"),
        change("next day", 1, "a"), delete("next day", 2), change("next day", 3, "a"),
        change("late delete", 1, "a"), change("late delete", 9, "b"), delete("late delete", 5),
        change("gap filled", 1, "a"), delete("gap filled", 5), change("gap filled", 9, "a"),
        change("gap filled", 5, "a"),
        delete("never there", 1), delete("deleted first", 1), change("deleted first", 5, "a"),
    )  # fmt: skip
    expect(
        spark, found,
        ("deleted", "a", june(1), june(4), False),
        ("twice", "a", june(1), june(4), False),
        ("back as it was", "a", june(1), june(4), False),
        ("back as it was", "a", june(9), OPEN, True),
        ("back changed", "a", june(1), june(4), False),
        ("back changed", "b", june(9), OPEN, True),
        ("next day", "a", june(1), june(1), False),
        ("next day", "a", june(3), OPEN, True),
        ("late delete", "a", june(1), june(4), False),
        ("late delete", "b", june(9), OPEN, True),
        ("gap filled", "a", june(1), OPEN, True),
        ("deleted first", "a", june(5), OPEN, True),
    )  # fmt: skip


def test_null_a_value_and_the_empty_one_are_three_versions(spark: SparkSession) -> None:
    found = versions(
        spark,
        change("A", 1, None), change("A", 2, "a"), change("A", 3, None), change("A", 4, ""), change("A", 5, None),
        change("B", 1, None), change("B", 2, None),
    )  # fmt: skip
    expect(
        spark, found,
        ("A", None, june(1), june(1), False),
        ("A", "a", june(2), june(2), False),
        ("A", None, june(3), june(3), False),
        ("A", "", june(4), june(4), False),
        ("A", None, june(5), OPEN, True),
        ("B", None, june(1), OPEN, True),
    )  # fmt: skip


def test_a_row_hash_is_that_of_the_escaped_values_in_alphabetical_order(spark: SparkSession) -> None:
    rows = [
        ("b", "a", "x"), ("b|c", "a", None), ("c", "a|b", None), (None, None, "x"), ("", "", None), ("", None, None),
        (None, "", None), ("y", "x\\", None), (None, "é", None),
    ]  # fmt: skip
    given = frames.of_rows(spark, rows, "b string, a string, untracked string")
    hashed = given.select("a", "b", scd_type2.row_hash(["b", "a"]).alias("_row_hash"))
    expected = [
        ("a", "b", "d0726241020676b14aa6298ce6a18b21"),  # a|b
        ("a", "b|c", "4249ac81f049c7655fd6afcbf7d790bf"),  # a|b\|c
        ("a|b", "c", "2f4cdcb48b071961205bf7924603ac7d"),  # a\|b|c
        (None, None, "381020cb61d335cc96dc8d1b076b4719"),  # <NUL>|<NUL>
        ("", "", "b99834bc19bbad24580b3adfa04fb947"),  # |
        (None, "", "dbdd4bdfb4316daf0334c8dc0b796f80"),  # <NUL>|
        ("", None, "f135f96d09536b7efca3a78e9c103035"),  # |<NUL>
        ("x\\", "y", "3b2cf93b47327e2d41b7126c927e3dbd"),  # x\\|y
        ("é", None, "5c0365ad893fb622f1b129be1f06c445"),  # é|<NUL>
    ]
    declared = frames.of_rows(spark, expected, "a string, b string, _row_hash string")
    assert_df_equality(hashed, declared, ignore_nullable=True)


def test_an_untracked_column_opens_no_version_and_is_the_last_value_in_all(spark: SparkSession) -> None:
    rows = frame(
        spark, "symbol string, sector string, ipo string",
        change("A", 1, "a", "1980"), change("A", 5, "a", "1981"), change("A", 9, "b", "1982"),
        change("late", 5, "b", "1982"), change("late", 1, "a", "1980"),
        change("deleted", 1, "a", "1980"), delete("deleted", 5, "a", "1999"),
        change("beaten", 1, "a", "1980"), change("beaten", 1, "b", "1981", sequence=1),
        change("beaten", 1, "c", "1999"),
        change("silent", 1, "a", "1980"), change("silent", 5, "b", "silent"),
        change("to NULL", 1, "a", "1980"), change("to NULL", 5, "b", None),
    )  # fmt: skip
    found = scd_type2.versions(
        rows, key="symbol", tracked=["sector"], untracked=["ipo"], order=ORDER,
        stated={"ipo": F.coalesce(F.col("ipo") != "silent", F.lit(True))},
    )  # fmt: skip
    expected = frames.of_rows(
        spark, [
            ("A", "a", june(1), june(8), "1982"), ("A", "b", june(9), OPEN, "1982"),
            ("late", "a", june(1), june(4), "1982"), ("late", "b", june(5), OPEN, "1982"),
            ("deleted", "a", june(1), june(4), "1980"),
            ("beaten", "b", june(1), OPEN, "1981"),
            ("silent", "a", june(1), june(4), "1980"), ("silent", "b", june(5), OPEN, "1980"),
            ("to NULL", "a", june(1), june(4), None), ("to NULL", "b", june(5), OPEN, None),
        ],
        "symbol string, sector string, effective_date date, expiry_date date, ipo string",
    )  # fmt: skip
    assert_df_equality(found.drop("is_current", "_row_hash"), expected, ignore_row_order=True, ignore_nullable=True)


# Gaps


def test_a_gap_is_told_where_a_wanted_day_falls_into_it(spark: SparkSession) -> None:
    span = "symbol string, effective_date date, expiry_date date"
    valid = frames.of_rows(
        spark, [
            ("open", june(5), OPEN), ("both sides", june(5), june(9)),
            ("gaps", june(5), june(9)), ("gaps", june(10), june(12)), ("gaps", june(15), june(15)),
            ("gaps", june(17), june(20)), ("always", date(1850, 1, 1), OPEN), ("not wanted", june(5), june(9)),
        ],
        span,
    )  # fmt: skip
    wanted = frames.of_rows(
        spark, [
            ("open", june(4), june(4)), ("open", june(1), june(2)), ("open", june(5), june(30)),
            ("both sides", june(1), june(30)),
            ("gaps", june(13), june(14)), ("gaps", june(16), june(16)), ("gaps", june(12), june(12)),
            ("always", june(1), june(30)), ("unknown", june(1), june(1)), ("unknown", june(3), june(3)),
        ],
        "symbol string, first_day date, last_day date",
    )  # fmt: skip
    found = scd_type2.gaps(valid, wanted, key="symbol")
    expected = frames.of_rows(
        spark, [
            ("open", BEGINNING, june(4)), ("both sides", BEGINNING, june(4)), ("both sides", june(10), OPEN),
            ("gaps", june(13), june(14)), ("gaps", june(16), june(16)), ("unknown", BEGINNING, OPEN),
        ],
        span,
    )  # fmt: skip
    assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)


# Against the oracle


def facts_of(events: list[ChangeEvent], picks: list[tuple[int, date]]) -> list[tuple[str, date]]:
    keys = sorted({event.natural_key for event in events})
    return [(keys[number % len(keys)] if number % 7 and keys else "no-change", day) for number, day in picks]


def test_sixty_random_histories_and_their_gaps_are_what_the_oracle_says(spark: SparkSession) -> None:
    days = (date(2000, 1, 1), *histories.CHANGE_DAYS, date(2025, 6, 20), date(2026, 1, 1))
    picks = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(days)), min_size=1, max_size=4)
    pairs = drawn(st.tuples(histories.symbol_changes(), picks), 60)
    events = together([history for history, _ in pairs])
    wanted = [
        (f"H{n:03}-{key}", day)
        for n, (history, picked) in enumerate(pairs)
        for key, day in facts_of(history, picked)
    ]  # fmt: skip
    columns = {**dict.fromkeys(SYMBOL.tracked, "string"), "ipo_date": "date"}
    changes = event_frame(spark, events, "symbol", columns)
    derived = scd_type2.versions(
        changes, key="symbol", tracked=SYMBOL.tracked, untracked=SYMBOL.untracked, order=ORDER
    ).localCheckpoint()
    known = dim_oracle.dimension(SYMBOL, events)
    assert len(known) > 120
    found = as_dicts(derived.withColumn("is_inferred", F.lit(False)), "symbol", "effective_date")
    assert found == known

    expected = [
        (row["symbol"], row["effective_date"], row["expiry_date"])
        for row in dim_oracle.dimension(SYMBOL, events, wanted)
        if row["is_inferred"]
    ]
    assert len(expected) > 20
    ranges = [(key, day, day) for key, day in wanted]
    days_wanted = frames.of_rows(spark, ranges, "symbol string, first_day date, last_day date")
    assert sorted(map(tuple, scd_type2.gaps(derived, days_wanted, key="symbol").collect())) == expected
