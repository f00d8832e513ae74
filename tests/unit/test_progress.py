"""How far behind a table is: a function of declarations and states, without a session."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from unittest.mock import Mock

import pytest

from lakehouse_spark.catalog import BY_NAME, TABLES
from lakehouse_spark.lake import progress
from lakehouse_spark.lake.cursor import Consumed, Cursor, FeedCursor, UpstreamCursor, UpstreamsCursor
from lakehouse_spark.lake.progress import Progress
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.lake.upstream import Upstream
from lakehouse_spark.transforms.quality import RULES_VERSION

FACTS, TRADES, SYMBOLS, TRADERS = "gold.fact_trades", "silver.trades", "dim.dim_symbol", "dim.dim_trader"
LOTS, PERFORMANCE, POSITIONS = "gold._open_lots", "gold.trader_performance", "gold.portfolio_positions"


def at(hour: int) -> datetime:
    return datetime(2025, 6, 1, hour, tzinfo=UTC)


def silver(hour: int, rebuilt: int | None = None) -> State:
    cursor = FeedCursor(
        stamp=at(hour), rules=RULES_VERSION, rebuilt=None if rebuilt is None else at(rebuilt),
        source="bronze.raw_trades", after=None, upto=at(0), since=at(0), totals={},
    )  # fmt: skip
    return State(1, cursor, at(hour))


def members(hour: int, place: int, rebuilt: int | None = None) -> State:
    """A dimension committed at an hour, whose place in the change log is another."""
    cursor = UpstreamCursor(
        stamp=at(hour), rules=RULES_VERSION, rebuilt=None if rebuilt is None else at(rebuilt),
        source="bronze.raw_reference", after=None, upto=at(place),
    )  # fmt: skip
    return State(1, cursor, at(hour))


def built(hour: int, **upto: Consumed) -> State:
    names = {"trades": TRADES, "symbols": SYMBOLS, "traders": TRADERS, "accounts": "dim.dim_account"}
    consumed = {names[short]: found for short, found in upto.items()}
    return State(1, UpstreamsCursor(stamp=at(hour), rules=RULES_VERSION, upto=consumed), at(hour))


NOTHING = State(1, None, None)
UP_TO_DATE: Mapping[str, State] = {
    TRADES: silver(5),
    SYMBOLS: members(4, 2),
    TRADERS: members(4, 3),
    FACTS: built(6, trades=Consumed(at(5)), symbols=Consumed(at(2)), traders=Consumed(at(3))),
}


def facts(**changes: State) -> Progress:
    names = {"trades": TRADES, "symbols": SYMBOLS, "traders": TRADERS, "facts": FACTS}
    return progress.of([BY_NAME[FACTS]], {**UP_TO_DATE, **{names[short]: state for short, state in changes.items()}})


def waiting(found: Progress) -> list[str]:
    return [name for name, source in found.sources.items() if source.waits]


def test_a_table_that_has_consumed_all_is_not_behind() -> None:
    found = facts()
    assert (found.is_behind, found.is_whole, waiting(found)) == (False, False, [])
    assert list(found.sources) == [TRADES, SYMBOLS, TRADERS]  # what is only looked up, dim_exchange, is not followed


def test_a_source_with_a_newer_stamp_waits() -> None:
    found = facts(trades=silver(7))
    assert (found.is_behind, found.is_whole, waiting(found)) == (True, False, [TRADES])
    assert found.waits_for(BY_NAME[TRADES])
    assert not found.waits_for(BY_NAME[SYMBOLS])
    assert not found.waits_for(BY_NAME["dim.dim_exchange"])


def test_a_dimension_waits_by_its_place_in_the_change_log_and_not_by_its_stamp() -> None:
    assert waiting(facts(symbols=members(9, 2))) == []
    assert waiting(facts(symbols=members(4, 3))) == [SYMBOLS]


def test_a_source_whose_history_changed_has_everything_derived() -> None:
    found = facts(symbols=members(7, 2, rebuilt=7))
    assert (found.is_behind, found.is_whole, waiting(found)) == (True, True, [SYMBOLS])
    assert not found.sources[SYMBOLS].has_moved


@pytest.mark.parametrize("lost", [NOTHING, State(1, None, at(6))], ids=["never run", "lost its cursor"])
def test_a_table_without_a_cursor_is_derived_whole(lost: State) -> None:
    found = facts(facts=lost)
    assert (found.is_begun, found.is_behind, found.is_whole) == (False, True, True)
    assert waiting(found) == [TRADES, SYMBOLS, TRADERS]


def test_nothing_upstream_is_nothing_to_do() -> None:
    found = facts(trades=NOTHING, symbols=NOTHING, traders=NOTHING, facts=NOTHING)
    assert (found.is_behind, waiting(found)) == (False, [])


def test_older_rules_are_behind_though_no_source_waits() -> None:
    cursor = UP_TO_DATE[FACTS].cursor
    assert cursor is not None
    found = facts(facts=State(1, replace(cursor, rules=RULES_VERSION - 1), at(6)))
    assert (found.is_behind, found.is_whole, waiting(found)) == (True, True, [])


def test_a_source_that_lost_its_rows_or_its_cursor_gives_no_work() -> None:
    assert waiting(facts(trades=NOTHING)) == []
    assert waiting(facts(symbols=State(1, None, at(4)))) == []


BEFORE_TRADERS = built(6, trades=Consumed(at(5)), symbols=Consumed(at(2)))
"""Facts whose cursor was written before they followed dim_trader."""


def test_a_source_declared_after_the_cursor_is_consumed_up_to_the_cursors_stamp() -> None:
    found = facts(facts=BEFORE_TRADERS)
    assert (found.is_behind, found.is_whole) == (False, False)
    assert found.sources[TRADERS].consumed == Consumed(at(3))
    earlier = facts(facts=BEFORE_TRADERS, traders=members(6, 3, rebuilt=6))
    assert (earlier.is_behind, earlier.is_whole) == (False, False)


def test_a_source_declared_after_the_cursor_waits_once_it_moves() -> None:
    moved = facts(facts=BEFORE_TRADERS, traders=members(7, 3))
    assert (waiting(moved), moved.is_whole) == ([TRADERS], False)
    assert moved.sources[TRADERS].consumed == Consumed(None)  # where in the change log it was then is not known
    rebuilt = facts(facts=BEFORE_TRADERS, traders=members(7, 3, rebuilt=7))
    assert (waiting(rebuilt), rebuilt.is_whole) == ([TRADERS], True)
    before_trades = built(6, symbols=Consumed(at(2)), traders=Consumed(at(3)))
    later = facts(facts=before_trades, trades=silver(7))
    assert (waiting(later), later.is_whole) == ([TRADES], False)
    assert later.sources[TRADES].consumed == Consumed(at(6))


def test_tables_derived_together_are_as_far_as_the_one_that_is_behind() -> None:
    tables = [BY_NAME[name] for name in (LOTS, PERFORMANCE, POSITIONS)]
    ahead = built(6, trades=Consumed(at(5), at(5)), accounts=Consumed(at(2)), traders=Consumed(at(3)))
    behind = built(4, trades=Consumed(at(3), at(2)), accounts=Consumed(at(2)), traders=Consumed(at(3)))
    states = {
        TRADES: silver(5, rebuilt=5), "dim.dim_account": members(4, 2), TRADERS: members(4, 3),
        LOTS: ahead, PERFORMANCE: ahead, POSITIONS: behind,
    }  # fmt: skip
    found = progress.of(tables, states)
    assert list(found.sources) == [TRADES, "dim.dim_account", TRADERS]
    assert found.sources[TRADES].consumed == Consumed(at(3), at(2))
    assert found.is_whole
    assert not progress.of(tables, {**states, POSITIONS: ahead}).is_behind
    none = progress.of(tables, {**states, POSITIONS: NOTHING})
    assert (none.is_begun, none.sources[TRADES].consumed) == (False, Consumed())


def test_a_table_that_follows_one_other_has_its_place_in_it() -> None:
    log, dimension = State(1, None, at(5)), BY_NAME[SYMBOLS]
    found = progress.of([dimension], {"bronze.raw_reference": log, SYMBOLS: members(6, 5, rebuilt=6)})
    assert (found.is_behind, found.is_whole) == (False, False)
    assert waiting(progress.of([dimension], {"bronze.raw_reference": log, SYMBOLS: members(6, 4)})) == [
        "bronze.raw_reference"
    ]
    activity = UpstreamCursor(stamp=at(6), rules=RULES_VERSION, rebuilt=at(3), source=TRADES, after=None, upto=at(5))
    states = {"silver.trader_activity": State(1, activity, at(6)), TRADES: silver(5, rebuilt=3)}
    assert not progress.of([BY_NAME["silver.trader_activity"]], states).is_behind
    states[TRADES] = silver(5, rebuilt=5)
    assert progress.of([BY_NAME["silver.trader_activity"]], states).is_whole


def test_tables_that_are_not_there_are_behind_nothing() -> None:
    for table in TABLES:
        assert not progress.of([table], {}).is_behind
        assert progress.of([table], {}).sources == {}


def test_only_tables_that_consume_by_stamps_follow_any() -> None:
    assert {table.name for table in TABLES if not table.follows} == {
        "_metadata.schema_migrations", "_metadata.surrogate_keys", "_metadata.retired_keys",
        "_metadata.maintenance_log", "bronze.raw_trades", "bronze.raw_orderbook", "bronze.raw_marketdata",
        "bronze.raw_reference", "dim.dim_time", "_metadata.payload_drift", "silver._rejected_records",
    }  # fmt: skip


def test_a_control_tables_cursor_is_never_behind() -> None:
    letters = State(1, Cursor(stamp=at(1), rules=RULES_VERSION), at(1))
    found = progress.of([BY_NAME["silver._rejected_records"]], {"silver._rejected_records": letters, TRADES: silver(9)})
    assert (found.is_behind, found.sources) == (False, {})


def news(found: Progress, states: Mapping[str, State] = UP_TO_DATE, *, rebuild: bool = False) -> Upstream:
    return Upstream(Mock(), [BY_NAME[FACTS]], states, found, rebuild)


def test_a_commit_consumes_what_there_was_when_it_was_read_and_is_stamped_later_than_any_before() -> None:
    ahead = built(6, trades=Consumed(at(5)), symbols=Consumed(at(2)), traders=Consumed(at(3)))
    ahead = replace(ahead, stamp=datetime(2999, 1, 1, tzinfo=UTC))  # by a clock that ran ahead
    states = {**UP_TO_DATE, TRADES: silver(7, rebuilt=7), FACTS: ahead}
    cursor = news(progress.of([BY_NAME[FACTS]], states), states).cursor
    assert cursor.stamp == datetime(2999, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert cursor.upto == {TRADES: Consumed(at(7), at(7)), SYMBOLS: Consumed(at(2)), TRADERS: Consumed(at(3))}


def test_a_rebuild_is_new_and_whole_whatever_waits() -> None:
    assert (news(facts()).is_new, news(facts()).is_whole) == (False, False)
    assert (news(facts(), rebuild=True).is_new, news(facts(), rebuild=True).is_whole) == (True, True)
    moved = news(facts(trades=silver(7)))
    assert (moved.is_new, moved.is_whole, moved.consumed(BY_NAME[TRADES])) == (True, False, at(5))
    assert (moved.has_moved(BY_NAME[TRADES]), moved.has_moved(BY_NAME[SYMBOLS])) == (True, False)


def test_a_table_that_is_no_declared_source_is_not_read() -> None:
    with pytest.raises(ValueError, match=r"^gold.fact_trades: sources do not name silver.market_data$"):
        news(facts()).rows(BY_NAME["silver.market_data"])
