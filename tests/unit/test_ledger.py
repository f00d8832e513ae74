"""How far a lakehouse is, by the rows of its ledger, and what is refused of them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from lakehouse_spark.errors import RefusedError
from lakehouse_spark.lake.cursor import Cursor
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.migrations.ledger import Ledger, _history, at, of_rows
from lakehouse_spark.migrations.migration import Migration, Step

Record = dict[str, Any]
STATE = State(1, None, None)


def migration(number: int, operations: int = 1, **more: Any) -> Migration:
    steps = tuple(Step(f"step {number}.{index}", lambda _: None) for index in range(operations))
    return Migration(f"V{number:03}", f"number {number}", steps, **more)


KNOWN = [migration(1, 0), migration(2, 3), migration(3)]


def whole(number: int, checksum: str | None = None) -> Record:
    """As releases wrote it that knew no operations."""
    return {"version": f"V{number:03}", "checksum": checksum or KNOWN[number - 1].checksum}


def operation(number: int, index: int, major: int = 1) -> Record:
    found = KNOWN[number - 1]
    return {"version": found.version, "checksum": found.checksum, "operation_index": index, "major": major}


def place(*rows: Record, known: list[Migration] = KNOWN) -> tuple[str, int, int]:
    found = of_rows(STATE, rows, known)
    assert found is not None
    return found.version, found.operations, found.major


def test_a_ledger_without_rows_is_that_of_no_lakehouse() -> None:
    assert of_rows(STATE, [], KNOWN) is None


def test_a_row_without_an_operation_is_of_a_whole_version() -> None:
    assert place(whole(1)) == ("V001", 0, 1)
    assert place(whole(2), whole(1)) == ("V002", 3, 1)
    assert place(whole(1), operation(2, 1, major=2), operation(2, 2, major=2)) == ("V002", 2, 2)


def test_what_is_pending_begins_with_a_version_that_is_half_done() -> None:
    def pending(*done: Any) -> list[str]:
        return [found.version for found in Ledger(STATE, *done).pending(KNOWN)]

    assert pending() == ["V001", "V002", "V003"]
    assert pending("V001", 0) == ["V002", "V003"]
    assert pending("V002", 2) == ["V002", "V003"]
    assert pending("V002", 3) == ["V003"]
    assert pending("V003", 1) == []
    assert [Ledger(STATE, "V002", 2).done_of(found) for found in KNOWN] == [0, 2, 0]


def test_what_a_later_release_began_is_refused_though_nothing_of_it_is_recorded() -> None:
    def read(**notes: Any) -> Ledger | None:
        history = _history(KNOWN, "V003")
        said = {"version": "V003", "operations": 1, "major": 1, "history": history, **notes}
        return at(State(1, Cursor(stamp=datetime(2025, 6, 1, tzinfo=UTC), notes=said), None), KNOWN, lambda: [])

    found = read()
    assert found is not None
    assert (found.version, found.operations, found.begun) == ("V003", 1, None)
    with pytest.raises(RefusedError, match=r"V004 was begun here and is unknown to this release"):
        read(begun="V004")
    assert read(begun="V003") is not None


def test_a_checksum_of_before_counts() -> None:
    assert place(whole(1, "old"), known=[migration(1, 0, checksums_before=("old",))]) == ("V001", 0, 1)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([whole(1), whole(2, "0" * 64)], r"V002 was edited after it was applied here \(checksum 000000000000, now"),
        ([whole(1), whole(3)], r"V002 was not applied here, and V003, which comes after it, was\. Give the change the"),
        ([whole(1), operation(2, 1), operation(3, 1)], "V002 was not applied here, and V003, which comes after"),
        ([whole(2)], "V001 was not applied here, and V002, which comes after it, was"),
        (
            [whole(1), {"version": "V007", "checksum": "x"}],
            r"V007 was applied here and is unknown to this release \(newest: V003\)\. Run the release that applied it",
        ),
    ],
)
def test_another_history_than_this_releases_is_refused(rows: list[Record], reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        of_rows(STATE, rows, KNOWN)
