"""What differs between declarations and tables, and what would mend it."""

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_spark.schema.drift import Drift, Found, after, drift
from lakehouse_spark.schema.operations import (
    FIRST,
    AddColumn,
    ChangePartitioning,
    ChangeSortOrder,
    ColumnDefinition,
    CommentColumn,
    CreateTable,
    DropColumn,
    MakeOptional,
    MoveColumn,
    Operation,
    PromoteColumn,
    RenameColumn,
    SetProperties,
    creation,
)
from lakehouse_spark.table import Policy, Table, column
from lakehouse_spark.types import INSTANT, LONG, PRICE, TEXT

NAME = "silver.bars"
AT = ColumnDefinition("at", "timestamp", "When (UTC)")
SYMBOL = ColumnDefinition("symbol", "string", "Of what")
OPEN = ColumnDefinition("open", "decimal(18,6)", "Open price")
VOLUME = ColumnDefinition("volume", "bigint", "Shares")
DECLARED = Table(
    name=NAME,
    doc="Bars.",
    columns=(
        column("at", INSTANT, "When (UTC)"),
        column("symbol", TEXT, "Of what"),
        column("open", PRICE, "Open price"),
        column("volume", LONG, "Shares"),
    ),
    key=("at",),
    policy=Policy(snapshot_days=7),
    partitioned_by=("days(at)", "bucket(16, symbol)"),
    sorted_by=("symbol", "at"),
    distribution="hash",
    properties={"read.split.target-size": "1"},
)
FOUND = Found(
    columns=(AT, SYMBOL, OPEN, VOLUME),
    partitioned_by=("days(at)", "bucket(16, symbol)"),
    sorted_by=("symbol", "at"),
    properties={
        "comment": "Bars.",
        "format-version": "2",
        "write.format.default": "parquet",
        "write.parquet.compression-codec": "zstd",
        "write.parquet.dict-encoding.enabled": "true",
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "10",
        "commit.retry.num-retries": "4",
        "commit.retry.min-wait-ms": "100",
        "read.split.target-size": "1",
        "write.distribution-mode": "hash",
        "owner": "someone",
    },
    dropped=frozenset({"close"}),
)


def found(*columns: ColumnDefinition, **changes: Any) -> Found:
    return replace(FOUND, columns=columns or FOUND.columns, **changes)


def test_a_table_as_declared_does_not_drift_whatever_else_it_has() -> None:
    assert drift(DECLARED, FOUND) == Drift(NAME)
    assert drift(DECLARED, FOUND).sentences == ()


def test_a_table_that_is_missing_is_created_as_declared() -> None:
    created = CreateTable(
        NAME,
        "Bars.",
        (AT, SYMBOL, OPEN, VOLUME),
        partitioned_by=("days(at)", "bucket(16, symbol)"),
        sorted_by=("symbol", "at"),
        distribution="hash",
        properties=(("read.split.target-size", "1"),),
    )
    assert drift(DECLARED, None) == Drift(NAME, (created,))


CLOSE = ColumnDefinition("close", "decimal(18,6)", "Close price")
PROPERTIES = {name: value for name, value in FOUND.properties.items() if name != "commit.retry.num-retries"}


@pytest.mark.parametrize(
    ("table", "operations"),
    [
        (found(SYMBOL, OPEN, VOLUME), [AddColumn(NAME, AT, after=FIRST)]),
        (found(AT, OPEN, VOLUME), [AddColumn(NAME, SYMBOL, after="at")]),
        (found(AT, SYMBOL), [AddColumn(NAME, OPEN), AddColumn(NAME, VOLUME)]),
        (found(AT, SYMBOL, OPEN, CLOSE, VOLUME), [DropColumn(NAME, "close")]),
        (found(AT, SYMBOL, OPEN, replace(VOLUME, name="shares")), [RenameColumn(NAME, "shares", "volume")]),
        (found(AT, SYMBOL, OPEN, replace(VOLUME, type="int")), [PromoteColumn(NAME, "volume", "int", "bigint")]),
        (found(required=frozenset({"at"})), [MakeOptional(NAME, "at")]),
        (found(AT, SYMBOL, OPEN, replace(VOLUME, comment="")), [CommentColumn(NAME, "volume", "", "Shares")]),
        (found(VOLUME, AT, SYMBOL, OPEN), [MoveColumn(NAME, "volume", old=FIRST, new="open")]),
        (found(SYMBOL, OPEN, VOLUME, AT), [MoveColumn(NAME, "at", old="volume", new=FIRST)]),
        (found(partitioned_by=("days(at)",)), [ChangePartitioning(NAME, added=("bucket(16, symbol)",))]),
        (
            found(partitioned_by=("days(at)", "bucket(8, symbol)")),
            [ChangePartitioning(NAME, added=("bucket(16, symbol)",), removed=("bucket(8, symbol)",))],
        ),
        (
            found(sorted_by=("symbol", "at DESC NULLS LAST")),
            [ChangeSortOrder(NAME, ("symbol", "at DESC NULLS LAST"), ("symbol", "at"), "hash")],
        ),
        (
            found(properties={**PROPERTIES, "comment": "Old bars.", "format-version": "1"}),
            [
                SetProperties(
                    NAME,
                    (
                        ("comment", "Old bars.", "Bars."),
                        ("format-version", "1", "2"),
                        ("commit.retry.num-retries", None, "4"),
                    ),
                )
            ],
        ),
    ],
)  # fmt: skip
def test_each_difference_is_mended_by_an_operation(table: Found, operations: list[Operation]) -> None:
    assert drift(DECLARED, table) == Drift(NAME, tuple(operations))
    assert drift(DECLARED, reduce(after, operations, table)) == Drift(NAME)


@pytest.mark.parametrize(
    "operation",
    [
        AddColumn(NAME, OPEN),
        RenameColumn(NAME, "shares", "volume"),
        PromoteColumn(NAME, "volume", "int", "bigint"),
        DropColumn(NAME, "close"),
        MoveColumn(NAME, "open", old="at", new="symbol"),
        CommentColumn(NAME, "volume", "", "Shares"),
        MakeOptional(NAME, "volume"),
        ChangePartitioning(NAME, added=("bucket(16, symbol)",), removed=("hours(at)",)),
        ChangeSortOrder(NAME, (), ("symbol", "at"), "hash"),
        SetProperties(NAME, (("comment", None, "Bars."), ("gone", "x", None))),
        creation(DECLARED),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_an_operation_that_was_carried_out_already_changes_nothing(operation: Operation) -> None:
    table = replace(FOUND, partition_columns=frozenset({"at", "symbol"}))
    assert after(table, operation) == table


def test_a_table_is_as_its_operations_leave_it() -> None:
    operations: list[Operation] = [
        creation(DECLARED),
        DropColumn(NAME, "volume"),
        ChangePartitioning(NAME, added=("open",), removed=("days(at)",)),
        ChangeSortOrder(NAME, ("symbol", "at"), ("open DESC NULLS LAST",), "range"),
        SetProperties(NAME, (("read.split.target-size", "1", None), ("owner", None, "someone"))),
        RenameColumn(NAME, "open", "opened"),
    ]
    made: Found | None = None
    for operation in operations:
        made = after(made, operation)
    assert made == Found(
        columns=(AT, SYMBOL, replace(OPEN, name="opened")),
        partitioned_by=("bucket(16, symbol)", "opened"),
        sorted_by=("opened DESC NULLS LAST",),
        properties={
            "comment": "Bars.",
            "format-version": "2",
            "write.format.default": "parquet",
            "write.parquet.compression-codec": "zstd",
            "write.parquet.dict-encoding.enabled": "true",
            "write.metadata.delete-after-commit.enabled": "true",
            "write.metadata.previous-versions-max": "10",
            "commit.retry.num-retries": "4",
            "commit.retry.min-wait-ms": "100",
            "write.distribution-mode": "range",
            "owner": "someone",
        },
        dropped=frozenset({"volume"}),
        partition_columns=frozenset({"at", "symbol", "opened"}),
    )


def test_what_is_not_there_cannot_be_altered() -> None:
    with pytest.raises(ValueError, match=r"^silver\.bars is missing: silver\.bars\.x is dropped, and only"):
        after(None, DropColumn(NAME, "x"))
    with pytest.raises(ValueError, match=r"^silver\.bars has no column x: silver\.bars\.x is widened from int to"):
        after(FOUND, PromoteColumn(NAME, "x", "int", "bigint"))


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            found(AT, SYMBOL, OPEN, replace(VOLUME, type="string")),
            "silver.bars.volume is string, declared bigint, and Iceberg cannot turn one into the other: declare the "
            "type that it has, or another column",
        ),
        (
            found(AT, SYMBOL, replace(OPEN, type="decimal(20,6)"), VOLUME),
            "silver.bars.open is decimal(20,6), declared decimal(18,6), and Iceberg cannot turn one into the other: "
            "declare the type that it has, or another column",
        ),
        (
            found(partitioned_by=("bucket(16, symbol)", "days(at)")),
            "silver.bars is partitioned by days(at), bucket(16, symbol), and new transforms come last: declare them "
            "as bucket(16, symbol), days(at)",
        ),
        (
            found(properties={**FOUND.properties, "format-version": "3"}),
            "silver.bars has format-version 3, declared 2, and there is no way back: declare 3",
        ),
    ],
)
def test_what_no_operation_can_mend_says_what_to_do_instead(table: Found, sentence: str) -> None:
    assert drift(DECLARED, table) == Drift(NAME, (), (sentence,))


def test_a_partition_field_that_is_added_out_of_order_is_said_as_well() -> None:
    assert drift(DECLARED, found(partitioned_by=("bucket(16, symbol)",))) == Drift(
        NAME,
        (ChangePartitioning(NAME, added=("days(at)",)),),
        (
            "silver.bars is partitioned by days(at), bucket(16, symbol), and new transforms come last: declare them "
            "as bucket(16, symbol), days(at)",
        ),
    )


def test_a_renamed_column_takes_partitions_and_sort_order_along() -> None:
    ticker = replace(SYMBOL, name="days")
    table = found(
        AT, ticker, OPEN, VOLUME, required=frozenset({"days"}),
        partitioned_by=("days(at)", "bucket(16, days)"), sorted_by=("days", "at"),
    )  # fmt: skip
    renamed, optional = RenameColumn(NAME, "days", "symbol"), MakeOptional(NAME, "symbol")
    assert drift(DECLARED, table) == Drift(NAME, (renamed, optional))
    later_first = replace(table, sorted_by=("bucket(4, days) ASC NULLS LAST", "days DESC NULLS FIRST"))
    assert drift(DECLARED, later_first).operations[-1] == ChangeSortOrder(
        NAME, ("bucket(4, symbol) ASC NULLS LAST", "symbol DESC NULLS FIRST"), ("symbol", "at"), "hash"
    )


def test_a_column_that_the_table_was_ever_partitioned_by_stays() -> None:
    table = found(AT, SYMBOL, OPEN, VOLUME, CLOSE, partition_columns=frozenset({"at", "symbol", "close"}))
    stays = (
        "silver.bars.close cannot be dropped: the table is partitioned by it, or was, and could not be read any more; "
        "declare it"
    )
    assert drift(DECLARED, table) == Drift(NAME, (), (stays,))
    shares = replace(table, columns=(AT, SYMBOL, OPEN, replace(VOLUME, name="shares"), CLOSE))
    assert drift(DECLARED, shares) == Drift(NAME, (RenameColumn(NAME, "shares", "volume"),), (stays,))


def test_columns_that_are_alike_are_not_taken_for_renamed() -> None:
    shares, lots = replace(VOLUME, name="shares"), replace(VOLUME, name="lots")
    assert drift(DECLARED, found(AT, SYMBOL, OPEN, shares, lots)) == Drift(
        NAME, (AddColumn(NAME, VOLUME, after="open"), DropColumn(NAME, "shares"), DropColumn(NAME, "lots"))
    )
    commented = replace(shares, comment="Number of shares")
    assert drift(DECLARED, found(AT, SYMBOL, OPEN, commented)) == Drift(
        NAME, (AddColumn(NAME, VOLUME, after="open"), DropColumn(NAME, "shares"))
    )


def test_a_column_is_dropped_once_nothing_is_sorted_by_it() -> None:
    assert drift(DECLARED, found(AT, SYMBOL, OPEN, VOLUME, CLOSE, sorted_by=("close",))).sentences == (
        "silver.bars is sorted by symbol, at, until now by close, in files written from now on",
        "silver.bars.close is dropped, and only time travel still shows its values",
    )


def names_after(names: Iterable[str], operations: Iterable[Operation]) -> list[str]:
    """The columns of a table after the operations, as Iceberg carries them out."""
    order = list(names)
    for operation in operations:
        match operation:
            case AddColumn(column=new, after=after):
                assert new.name not in order
                place = len(order) if after is None else order.index(after) + 1 if after else 0
                order.insert(place, new.name)
            case MoveColumn(column=name, old=old, new=after):
                assert old == (order[order.index(name) - 1] if order.index(name) else FIRST)
                order.remove(name)
                order.insert(order.index(after) + 1 if after else 0, name)
            case DropColumn(column=name):
                order.remove(name)
    return order


columns = st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True)


@given(columns, columns)
def test_columns_in_any_order_come_to_stand_as_declared(there: list[str], declared: list[str]) -> None:
    table = replace(
        DECLARED, columns=tuple(column(name, LONG, name) for name in declared), key=(), partitioned_by=(), sorted_by=()
    )
    held = Found(tuple(ColumnDefinition(name, "bigint", name) for name in there), properties=FOUND.properties)
    operations = drift(table, held).operations
    assert names_after(there, operations) == declared
    moved = [operation for operation in operations if isinstance(operation, MoveColumn)]
    assert len(moved) < len({*there} & {*declared}) or not moved


@given(st.permutations("abcdef"), st.sampled_from("abcdef"), st.integers(0, 5))
def test_one_column_out_of_place_is_one_move(order: list[str], name: str, place: int) -> None:
    there = [other for other in order if other != name]
    there.insert(place, name)
    table = replace(
        DECLARED, columns=tuple(column(name, LONG, name) for name in order), key=(), partitioned_by=(), sorted_by=()
    )
    held = Found(tuple(ColumnDefinition(name, "bigint", name) for name in there), properties=FOUND.properties)
    assert len(drift(table, held).operations) <= 1
