"""Operations as values: what they say, whom they break, what undoes them, and how Spark is told."""

import pytest

from lakehouse_spark.schema import ddl
from lakehouse_spark.schema.operations import (
    FIRST,
    AddColumn,
    Alteration,
    ChangePartitioning,
    ChangeSortOrder,
    ColumnDefinition,
    CommentColumn,
    CreateTable,
    DropColumn,
    MakeOptional,
    MoveColumn,
    PromoteColumn,
    RenameColumn,
    SetProperties,
    is_promotion,
)

TABLE = "silver.trades"
VENUE = ColumnDefinition("venue", "string", "The trader's venue")
ALTER = "ALTER TABLE lake.silver.trades "

SAID: list[tuple[Alteration, str, list[str]]] = [
    (
        AddColumn(TABLE, VENUE),
        "silver.trades gains venue (string) at the end, NULL in the rows it has",
        [r"ADD COLUMN `venue` string COMMENT 'The trader\'s venue'"],
    ),
    (
        AddColumn(TABLE, VENUE, after=FIRST),
        "silver.trades gains venue (string) before all others, NULL in the rows it has",
        [r"ADD COLUMN `venue` string COMMENT 'The trader\'s venue' FIRST"],
    ),
    (
        AddColumn(TABLE, VENUE, after="exchange"),
        "silver.trades gains venue (string) after exchange, NULL in the rows it has",
        [r"ADD COLUMN `venue` string COMMENT 'The trader\'s venue' AFTER `exchange`"],
    ),
    (
        RenameColumn(TABLE, "qty", "quantity"),
        "silver.trades.qty is renamed to quantity and keeps its values",
        ["RENAME COLUMN `qty` TO `quantity`"],
    ),
    (
        PromoteColumn(TABLE, "quantity", "int", "bigint"),
        "silver.trades.quantity is widened from int to bigint",
        ["ALTER COLUMN `quantity` TYPE bigint"],
    ),
    (
        DropColumn(TABLE, "qty"),
        "silver.trades.qty is dropped, and only time travel still shows its values",
        ["DROP COLUMN `qty`"],
    ),
    (
        MoveColumn(TABLE, "qty", old=FIRST, new="price"),
        "silver.trades.qty moves to stand after price, until now before all others",
        ["ALTER COLUMN `qty` AFTER `price`"],
    ),
    (
        MoveColumn(TABLE, "qty", old="price", new=FIRST),
        "silver.trades.qty moves to stand before all others, until now after price",
        ["ALTER COLUMN `qty` FIRST"],
    ),
    (
        CommentColumn(TABLE, "qty", old="", new="Shares, as the trader's own"),
        """silver.trades.qty is described as "Shares, as the trader's own", until now as ''""",
        [r"ALTER COLUMN `qty` COMMENT 'Shares, as the trader\'s own'"],
    ),
    (
        MakeOptional(TABLE, "qty"),
        "silver.trades.qty may be NULL from now on",
        ["ALTER COLUMN `qty` DROP NOT NULL"],
    ),
    (
        ChangePartitioning(TABLE, added=("bucket(16, symbol)",)),
        "silver.trades is partitioned by bucket(16, symbol) too, in files written from now on",
        ["ADD PARTITION FIELD bucket(16, `symbol`)"],
    ),
    (
        ChangePartitioning(TABLE, added=("hours(at)", "exchange"), removed=("days(at)", "truncate(2, symbol)")),
        "silver.trades is partitioned by hours(at), exchange too and no longer by days(at), truncate(2, symbol), "
        "in files written from now on",
        [
            "ADD PARTITION FIELD hours(`at`)",
            "ADD PARTITION FIELD `exchange`",
            "DROP PARTITION FIELD days(`at`)",
            "DROP PARTITION FIELD truncate(2, `symbol`)",
        ],
    ),
    (
        ChangeSortOrder(TABLE, old=(), new=("symbol", "price DESC NULLS LAST", "bucket(16, desc) ASC NULLS LAST")),
        "silver.trades is sorted by symbol, price DESC NULLS LAST, bucket(16, desc) ASC NULLS LAST, until now by "
        "nothing, in files written from now on",
        ["WRITE LOCALLY ORDERED BY `symbol`, `price` DESC NULLS LAST, bucket(16, `desc`) ASC NULLS LAST"],
    ),
    (
        ChangeSortOrder(TABLE, old=("symbol",), new=("price",), distribution="hash"),
        "silver.trades is sorted by price, until now by symbol, in files written from now on",
        ["WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY `price`"],
    ),
    (
        SetProperties(TABLE, (("a", None, "it's"), ("b", "2", None), ("c", "3", "4"))),
        """silver.trades sets a to "it's" (until now nothing), b to nothing (until now '2'), """
        "c to '4' (until now '3')",
        [r"SET TBLPROPERTIES ('a' = 'it\'s', 'c' = '4')", "UNSET TBLPROPERTIES ('b')"],
    ),
]


@pytest.mark.parametrize(("operation", "sentence", "clauses"), SAID, ids=lambda value: type(value).__name__)
def test_an_operation_says_what_it_does_in_a_sentence_and_in_sql(
    operation: Alteration, sentence: str, clauses: list[str]
) -> None:
    assert operation.sentence == sentence
    assert ddl.statements(operation) == [ALTER + clause for clause in clauses]


@pytest.mark.parametrize(
    ("distribution", "clauses"),
    [
        ("none", ["WRITE UNORDERED"]),
        ("hash", ["WRITE DISTRIBUTED BY PARTITION"]),
        ("range", ["WRITE UNORDERED", "SET TBLPROPERTIES ('write.distribution-mode' = 'range')"]),
    ],
)
def test_the_end_of_a_sort_order_leaves_the_distribution_as_it_is(distribution: str, clauses: list[str]) -> None:
    unsorted = ChangeSortOrder(TABLE, old=("symbol",), new=(), distribution=distribution)
    assert ddl.statements(unsorted) == [ALTER + clause for clause in clauses]
    assert unsorted.sentence == "silver.trades is sorted by nothing, until now by symbol, in files written from now on"


def test_a_new_table_names_its_columns() -> None:
    created = CreateTable("_metadata.notes", "Notes.", (ColumnDefinition("note", "string", "A note"), VENUE))
    assert created.sentence == "_metadata.notes is created, with the columns note, venue"
    assert (created.is_breaking, created.inverse) == (False, None)


ADDITIVE: list[Alteration] = [
    AddColumn(TABLE, VENUE),
    PromoteColumn(TABLE, "qty", "int", "bigint"),
    MoveColumn(TABLE, "qty", FIRST, "price"),
    CommentColumn(TABLE, "qty", "", "Shares"),
    MakeOptional(TABLE, "qty"),
    ChangePartitioning(TABLE, added=("bucket(16, symbol)",)),
    ChangePartitioning(TABLE, added=("hours(at)",), removed=("days(at)",)),
    ChangePartitioning(TABLE, added=("bucket(32, symbol)",), removed=("bucket(16, symbol)", "symbol")),
    ChangeSortOrder(TABLE, ("symbol",), ()),
    SetProperties(TABLE, (("read.split.target-size", "1", "2"),)),
]
BREAKING: list[Alteration] = [
    RenameColumn(TABLE, "qty", "quantity"),
    DropColumn(TABLE, "qty"),
    ChangePartitioning(TABLE, removed=("bucket(16, symbol)",)),
    ChangePartitioning(TABLE, added=("days(at)",), removed=("days(until)",)),
    SetProperties(TABLE, (("a", "1", "2"), ("format-version", "2", "3"))),
]


def test_what_takes_away_a_name_values_pruning_or_readers_breaks_and_nothing_else_does() -> None:
    assert [operation.sentence for operation in ADDITIVE if operation.is_breaking] == []
    assert [operation.sentence for operation in BREAKING if not operation.is_breaking] == []


@pytest.mark.parametrize(
    ("operation", "inverse"),
    [
        (AddColumn(TABLE, VENUE, after="exchange"), DropColumn(TABLE, "venue")),
        (RenameColumn(TABLE, "qty", "quantity"), RenameColumn(TABLE, "quantity", "qty")),
        (MoveColumn(TABLE, "qty", FIRST, "price"), MoveColumn(TABLE, "qty", "price", FIRST)),
        (CommentColumn(TABLE, "qty", "", "Shares"), CommentColumn(TABLE, "qty", "Shares", "")),
        (
            ChangePartitioning(TABLE, added=("hours(at)",), removed=("days(at)",)),
            ChangePartitioning(TABLE, added=("days(at)",), removed=("hours(at)",)),
        ),
        (
            ChangeSortOrder(TABLE, ("symbol",), (), distribution="hash"),
            ChangeSortOrder(TABLE, (), ("symbol",), distribution="hash"),
        ),
        (
            SetProperties(TABLE, (("a", None, "1"), ("b", "2", "3"))),
            SetProperties(TABLE, (("a", "1", None), ("b", "3", "2"))),
        ),
        (PromoteColumn(TABLE, "qty", "int", "bigint"), None),
        (DropColumn(TABLE, "qty"), None),
        (MakeOptional(TABLE, "qty"), None),
        (SetProperties(TABLE, (("format-version", "2", "3"),)), None),
    ],
)
def test_what_can_be_undone_knows_by_what(operation: Alteration, inverse: Alteration | None) -> None:
    assert operation.inverse == inverse


@pytest.mark.parametrize(
    ("old", "new"),
    [("int", "bigint"), ("float", "double"), ("decimal(10,4)", "decimal(11,4)"), ("decimal(9,0)", "decimal(38,0)")],
)
def test_what_iceberg_can_widen_is_a_promotion(old: str, new: str) -> None:
    assert is_promotion(old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bigint", "int"), ("double", "float"), ("int", "double"), ("int", "string"), ("int", "int"),
        ("date", "timestamp"), ("decimal(10,4)", "decimal(10,4)"), ("decimal(10,4)", "decimal(9,4)"),
        ("decimal(10,4)", "decimal(18,6)"), ("decimal(10,4)", "decimal(18,2)"), ("decimal(9,0)", "decimal(39,0)"),
        ("array<int>", "array<bigint>"),
        ("int", "decimal(10,0)"),
    ],
)  # fmt: skip
def test_nothing_else_is_and_cannot_be_said(old: str, new: str) -> None:
    assert not is_promotion(old, new)
    with pytest.raises(ValueError, match=r"silver\.trades\.qty: Iceberg promotes int to bigint, .* got "):
        PromoteColumn(TABLE, "qty", old, new)
