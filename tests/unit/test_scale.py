"""A day on paper: what it counts is what the code leaves, and what the benchmarks found."""

from dataclasses import replace

import pytest

from benchmarks.scale import simulated
from benchmarks.scale.figures import all_figures
from benchmarks.scale.limits import Limit, by_volume, restated
from benchmarks.scale.model import TUNED, Day, Exchange, Setup
from lakehouse_spark import settings
from lakehouse_spark.lake.cursor import TopicCursor, from_json


def small(trades: int, most_offsets: int = 2_000_000) -> Day:
    """A day of one beat and a topic of three partitions, as W1's."""
    exchange = Exchange(trades=trades, books=0, symbols=200, partitions=3, session_minutes=15)
    return Day(exchange, Setup(most_offsets=most_offsets))


@pytest.mark.parametrize(
    ("records", "most_offsets", "files", "commits"),
    [
        (100_000, 2_000_000, 3, 1),
        (1_000_000, 2_000_000, 6, 1),
        (5_000_000, 2_000_000, 30, 3),
        (1_000_000, 1_000, 3_000, 1_000),
    ],
    ids=["100 k", "1 M", "5 M", "1000 commits"],
)
def test_bronze_has_the_files_and_commits_that_w1_found(
    records: int, most_offsets: int, files: int, commits: int
) -> None:
    day = small(records, most_offsets)
    assert (day.files_of_a_beat(records), day.commits_of_a_beat(records)) == (files, commits)


def test_a_day_of_an_exchange_by_the_profile_leaves_half_a_million_files_of_books() -> None:
    day = Day(Exchange(), Setup())
    books = day.step("bronze.raw_orderbook")
    assert (day.beats, books.commits, books.files) == (26, 2_522, 504_400)
    assert day.snapshots("bronze.raw_orderbook", books.commits) == 3_522


def test_both_settings_leave_a_commit_a_beat_and_a_file_for_each_200_000_records_of_a_partition() -> None:
    books = Day(Exchange(), TUNED).step("bronze.raw_orderbook")
    assert (books.commits, books.files) == (26, 26_000)


def test_a_row_of_the_day_is_derived_again_with_every_beat_that_follows() -> None:
    day = Day(Exchange(), TUNED)
    assert day.read_again == 13.5
    assert day.step("silver.trader_activity").rows_in == 6_750_000_000


def test_a_batch_looks_for_its_keys_in_its_own_quarter_of_an_hour() -> None:
    day = Day(Exchange(), TUNED)
    assert day.looked_through == 0
    assert day.step("silver.orderbook_snapshots").rows_in == 5_000_000_000
    often = Day(Exchange(), replace(TUNED, beat_minutes=5))
    assert often.looked_through == 1
    assert often.step("silver.orderbook_snapshots").rows_in == 10_000_000_000
    assert often.step("gold.fact_trades").rows_in == 2_000_000_000


def test_ids_that_do_not_grow_are_looked_for_in_all_history() -> None:
    day = Day(Exchange(ids_grow=False), TUNED)
    assert day.step("silver.trades").rows_in == 500_000_000 + 26 * 90.5 * 500_000_000


def test_silver_and_facts_write_a_file_for_each_bucket_of_the_day() -> None:
    day = small(1_000_000)
    assert day.step("silver.trades").files == 16
    assert Day(Exchange(), TUNED).step("silver.orderbook_snapshots").files == 26 * 16


def test_what_the_page_calls_the_profile_is_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_PROFILE", "cluster")
    profile = settings.load()
    assert (profile.ingest.max_offsets_per_trigger, profile.spark.shuffle_partitions) == (2_000_000, 64)
    assert (Setup().most_offsets, Setup().shuffle_partitions) == (2_000_000, 64)


def test_a_cursor_names_the_offsets_of_every_partition() -> None:
    written = simulated.cursor(200).to_json()
    assert len(written) == 10_039
    read = from_json(written)
    assert isinstance(read, TopicCursor)
    assert len(read.following) == 200


def test_a_limit_is_where_more_is_taken_than_there_is() -> None:
    assert Limit("twice", lambda factor: 2 * factor, 10, "s", "").at == pytest.approx(5, rel=0.02)
    assert Limit("nothing", lambda factor: 0, 10, "s", "").at is None


def test_limits_come_soonest_first() -> None:
    reached = [limit.at for limit in by_volume(Exchange(), Setup()) if limit.at is not None]
    assert reached == sorted(reached)
    assert reached[0] < 1


def test_a_bar_that_is_stated_again_keeps_a_hash_of_each_content() -> None:
    assert restated(60, 3_900_000) == (480, 7_020_000_000)


def test_every_figure_says_where_it_is_from_and_takes_something() -> None:
    assert [name for name, figure in all_figures().items() if figure.value <= 0 or not figure.source] == []
    assert {figure.kind for figure in all_figures().values()} == {"measured", "difference", "simulated"}
