"""Changes that are refused, and what the refusals say."""

import pytest

from lakehouse_spark import catalog
from lakehouse_spark.schema.drift import Found
from lakehouse_spark.schema.operations import (
    AddColumn,
    ChangePartitioning,
    ColumnDefinition,
    CommentColumn,
    DropColumn,
    MakeOptional,
    MoveColumn,
    Operation,
    PromoteColumn,
    RenameColumn,
    SetProperties,
)
from lakehouse_spark.schema.policy import Agreement, readers, refusals
from lakehouse_spark.table import Policy, Table, column
from lakehouse_spark.types import LONG

READ, UNREAD = "silver.trades", "gold.summary"


def table(name: str, *sources: str, lookups: tuple[str, ...] = ()) -> Table:
    columns, policy = (column("id", LONG, "Number"),), Policy(snapshot_days=7)
    return Table(name, "Rows.", columns, ("id",), policy, sources=sources, lookups=lookups)


TABLES = (
    table(READ),
    table("gold.facts", READ),
    table(UNREAD, READ, "gold.facts", lookups=(READ,)),
)
NEXT = Agreement(2, ("gold.facts", UNREAD, "the risk desk"))


def refused(*operations: Operation, agreement: Agreement | None = None, **found: Found) -> list[str]:
    """Of these operations on the tables as they are found, silver_trades being silver.trades."""
    held = {name.replace("_", ".", 1): table for name, table in found.items()}
    return refusals(operations, major=1, found=held, agreement=agreement, tables=TABLES)


def added(name: str, to: str = READ) -> AddColumn:
    return AddColumn(to, ColumnDefinition(name, "bigint", "Shares"))


def test_every_table_that_is_built_from_a_table_counts_as_its_reader() -> None:
    assert readers(READ, TABLES) == ("gold.facts", UNREAD)
    assert readers("gold.facts", TABLES) == (UNREAD,)
    assert readers(UNREAD, TABLES) == ()
    assert readers("dim.dim_account", catalog.TABLES) == (
        "gold._open_lots",
        "gold.trader_performance",
        "gold.portfolio_positions",
    )


def test_what_breaks_nobody_is_not_refused() -> None:
    harmless = (
        added("venue"),
        PromoteColumn(READ, "qty", "int", "bigint"),
        MoveColumn(READ, "qty", "", "price"),
        CommentColumn(READ, "qty", "", "Shares"),
        MakeOptional(READ, "qty"),
        ChangePartitioning(READ, added=("bucket(16, symbol)",)),
    )
    assert refused(*harmless) == []


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (
            DropColumn(READ, "qty"),
            "silver.trades.qty is dropped, and only time travel still shows its values; gold.facts, gold.summary may "
            "rely on how it was: declare major version 2 with the consumers that agreed, or leave qty, with a comment "
            "that nothing fills it any more",
        ),
        (
            RenameColumn(READ, "qty", "quantity"),
            "silver.trades.qty is renamed to quantity and keeps its values; gold.facts, gold.summary may rely on "
            "how it was: declare major version 2 with the consumers that agreed, or add quantity and fill both",
        ),
        (
            ChangePartitioning(READ, removed=("days(at)",)),
            "silver.trades is partitioned no longer by days(at), in files written from now on; gold.facts, "
            "gold.summary may rely on how it was: declare major version 2 with the consumers that agreed, or go on "
            "partitioning by these columns",
        ),
        (
            SetProperties(UNREAD, (("format-version", "2", "3"),)),
            "gold.summary sets format-version to '3' (until now '2'); whoever reads it may rely on how it was: "
            "declare major version 2 with the consumers that agreed, or leave it as it is",
        ),
    ],
)
def test_what_breaks_is_refused_until_its_readers_agreed(operation: Operation, reason: str) -> None:
    assert refused(operation) == [reason]
    assert refused(operation, agreement=NEXT) == []


def test_only_a_rename_is_free_where_no_declared_table_reads() -> None:
    assert refused(RenameColumn(UNREAD, "qty", "quantity")) == []
    assert len(refused(DropColumn(UNREAD, "qty"))) == 1


def test_readers_that_did_not_agree_are_named() -> None:
    assert refused(DropColumn(READ, "qty"), agreement=Agreement(2, ("gold.facts",))) == [
        "silver.trades.qty is dropped, and only time travel still shows its values; gold.summary may rely on how it "
        "was, and did not agree: see that they can do without, and name them among the consumers"
    ]


@pytest.mark.parametrize("major", [1, 3])
def test_a_major_version_is_the_next_one(major: int) -> None:
    assert refused(added("venue"), agreement=Agreement(major, ("the risk desk",))) == [
        f"major version {major} is declared, and the one after 1 is 2: declare that"
    ]


def test_an_agreement_is_one_with_somebody() -> None:
    with pytest.raises(ValueError, match="major version 2: an agreement names the consumers that agreed"):
        Agreement(2, ())


REUSED = (
    "silver.trades had another column qty that was dropped, and snapshots of before hold its values: choose a name "
    "that was never used"
)


@pytest.mark.parametrize(
    ("operations", "before"),
    [
        ((added("qty"),), frozenset({"qty"})),
        ((RenameColumn(READ, "shares", "qty"),), frozenset({"qty"})),
        ((DropColumn(READ, "qty"), added("qty")), frozenset()),
        ((DropColumn(READ, "qty"), RenameColumn(READ, "shares", "qty")), frozenset()),
        ((RenameColumn(READ, "qty", "quantity"), DropColumn(READ, "quantity"), added("qty")), frozenset()),
        (
            (RenameColumn(READ, "a", "qty"), RenameColumn(READ, "qty", "b"), DropColumn(READ, "b"), added("qty")),
            frozenset(),
        ),
    ],
)
def test_the_name_of_a_dropped_column_stays_taken_whoever_agreed(
    operations: tuple[Operation, ...], before: frozenset[str]
) -> None:
    assert refused(*operations, agreement=NEXT, silver_trades=Found((), dropped=before)) == [REUSED]


@pytest.mark.parametrize(
    "operations",
    [
        (RenameColumn(READ, "qty", "quantity"), added("qty")),
        (RenameColumn(READ, "qty", "quantity"), RenameColumn(READ, "quantity", "qty")),
        (RenameColumn(READ, "qty", "quantity"), added("qty"), DropColumn(READ, "quantity"), added("shares")),
        (DropColumn(READ, "qty"), added("qty", to=UNREAD)),
        (added("qty"), DropColumn(READ, "shares")),
    ],
)
def test_a_renamed_column_leaves_its_name_free(operations: tuple[Operation, ...]) -> None:
    assert refused(*operations, agreement=NEXT, gold_summary=Found((), dropped=frozenset({"close"}))) == []


@pytest.mark.parametrize(
    ("operations", "name"),
    [
        ((DropColumn(READ, "half"),), "half"),
        ((RenameColumn(READ, "half", "part"), DropColumn(READ, "part")), "part"),
        ((ChangePartitioning(READ, added=("bucket(4, qty)",)), DropColumn(READ, "qty")), "qty"),
    ],
)
def test_a_column_that_the_table_was_ever_partitioned_by_stays_whoever_agreed(
    operations: tuple[Operation, ...], name: str
) -> None:
    table = Found((), partition_columns=frozenset({"half"}))
    assert refused(*operations, agreement=NEXT, silver_trades=table) == [
        f"silver.trades.{name} cannot be dropped: the table is partitioned by it, or was, and could not be read any "
        f"more; leave {name}, with a comment that nothing fills it any more"
    ]


@pytest.mark.parametrize(
    ("operations", "name"),
    [
        ((added("symbol_bucket"),), "symbol_bucket"),
        ((RenameColumn(READ, "half", "part"), added("half")), "half"),
        ((RenameColumn(READ, "note", "symbol_bucket"),), "symbol_bucket"),
        ((ChangePartitioning(READ, added=("qty",)), RenameColumn(READ, "qty", "shares"), added("qty")), "qty"),
    ],
)
def test_no_column_is_given_the_name_of_a_partition_field(operations: tuple[Operation, ...], name: str) -> None:
    """Iceberg would refuse it half way through the migration (iceberg#11762)."""
    table = Found((), partition_names=frozenset({"half", "symbol_bucket"}))
    assert refused(*operations, agreement=NEXT, silver_trades=table) == [
        f"silver.trades has, or had, a partition field {name}, and Iceberg gives no column that name: choose another"
    ]


def test_a_column_that_named_a_partition_field_may_have_its_name_back() -> None:
    table = Found((), partition_names=frozenset({"half"}))
    there_and_back = RenameColumn(READ, "half", "part"), RenameColumn(READ, "part", "half")
    assert refused(*there_and_back, agreement=NEXT, silver_trades=table) == []


def test_what_was_carried_out_before_counts_and_is_not_refused_again() -> None:
    before = (ChangePartitioning(READ, added=("qty",)), DropColumn(READ, "half"))
    reasons = refusals(
        (DropColumn(READ, "qty"), added("half")),
        major=1,
        found={READ: Found((), partition_columns=frozenset({"half"}))},
        tables=TABLES,
        agreement=NEXT,
        before=before,
    )
    assert [reason.partition(":")[0] for reason in reasons] == [
        "silver.trades.qty cannot be dropped",
        "silver.trades had another column half that was dropped, and snapshots of before hold its values",
    ]
