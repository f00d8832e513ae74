"""Every operation as Spark and Iceberg carry it out, on a table with rows that is declared nowhere."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.iceberg import found, pyiceberg
from lakehouse_spark.lake import alter, snapshots
from lakehouse_spark.migrations import apply
from lakehouse_spark.schema.drift import Found
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
)
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import DISTRIBUTION
from tests.support.lakehouses import connect

NAME = "test.things"
THINGS = CreateTable(
    NAME,
    "Things.",
    (
        ColumnDefinition("id", "int", "Number"),
        ColumnDefinition("price", "decimal(18,6)", "Price"),
        ColumnDefinition("ts", "timestamp", "When"),
        ColumnDefinition("symbol", "string", "Symbol"),
    ),
    partitioned_by=("days(ts)", "bucket(16, symbol)"),
    sorted_by=("symbol",),
)
TABLE = alter.named(NAME)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("alter") / "home"


@pytest.fixture(scope="module")
def own(spark: SparkSession, home: Path) -> SparkSession:
    return connect(spark, home)


@pytest.fixture
def things(own: SparkSession) -> Iterator[SparkSession]:
    """Two rows."""
    apply(own, [THINGS])
    rows = "(1, 1.5BD, TIMESTAMP'2025-01-15 10:00:00', 'AAPL'), (2, 2.5BD, TIMESTAMP'2025-01-16 10:00:00', 'MSFT')"
    own.sql(f"INSERT INTO lake.{NAME} VALUES {rows}")
    yield own
    own.sql(f"DROP TABLE lake.{NAME}")


@pytest.fixture
def look(home: Path) -> Callable[[], Found]:
    """The table as PyIceberg reads it."""
    return lambda: found.read(pyiceberg.load(pyiceberg.open_catalog(Settings(home=home)), TABLE))


def metadata(spark: SparkSession) -> str:
    return str(snapshots.load(spark, TABLE).operations().current().metadataFileLocation())


def applied(spark: SparkSession, *operations: Operation) -> None:
    """Once with an effect, and a second time with none; rows as of the current snapshot have the new schema."""
    before = metadata(spark)
    apply(spark, operations)
    after = metadata(spark)
    assert after != before
    for operation in operations:
        apply(spark, [operation])
    assert metadata(spark) == after
    head = snapshots.load(spark, TABLE).currentSnapshot().snapshotId()
    assert snapshots.at(spark, TABLE, head).schema == spark.table(TABLE.identifier).schema


def rows(spark: SparkSession, *names: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in spark.table(TABLE.identifier).select(*names).orderBy("id").collect()]


def test_columns_are_added_renamed_promoted_moved_described_and_dropped(things: SparkSession) -> None:
    first = snapshots.load(things, TABLE).currentSnapshot().snapshotId()
    applied(
        things, AddColumn(NAME, ColumnDefinition("note", "string", "Shall we drop tag\tX, write\nordered by Y?"), FIRST)
    )
    applied(things, RenameColumn(NAME, "price", "amount"))
    applied(
        things,
        PromoteColumn(NAME, "id", "int", "bigint"),
        PromoteColumn(NAME, "amount", "decimal(18,6)", "decimal(38,6)"),
    )
    applied(things, MoveColumn(NAME, "id", "note", FIRST))
    applied(things, CommentColumn(NAME, "ts", "When", r"It's when: create branch \ ADD PARTITION FIELD"))
    columns = [
        (c.name, c.dataType.simpleString(), c.metadata["comment"]) for c in things.table(TABLE.identifier).schema
    ]
    assert columns == [
        ("id", "bigint", "Number"),
        ("note", "string", "Shall we drop tag\tX, write\nordered by Y?"),
        ("amount", "decimal(38,6)", "Price"),
        ("ts", "timestamp", r"It's when: create branch \ ADD PARTITION FIELD"),
        ("symbol", "string", "Symbol"),
    ]
    assert [(i, n, str(a)) for i, n, a in rows(things, "id", "note", "amount")] == [
        (1, None, "1.500000"),
        (2, None, "2.500000"),
    ]
    applied(things, CommentColumn(NAME, "ts", "", ""), DropColumn(NAME, "note"))
    assert things.table(TABLE.identifier).columns == ["id", "amount", "ts", "symbol"]
    before = snapshots.at(things, TABLE, first)
    assert before.columns == ["id", "price", "ts", "symbol"]
    assert before.agg(F.sum("price").cast("string")).first() == ("4.000000",)


def test_a_column_that_takes_the_name_of_another_has_its_values(things: SparkSession) -> None:
    swapped = ColumnDefinition("price", "decimal(18,6)", "Price")
    apply(things, [RenameColumn(NAME, "price", "old_price"), AddColumn(NAME, swapped)])
    assert [(str(old), new) for old, new in rows(things, "old_price", "price")] == [
        ("1.500000", None),
        ("2.500000", None),
    ]


def test_a_column_that_had_to_have_a_value_may_be_null(things: SparkSession) -> None:
    iceberg = snapshots.load(things, TABLE)
    iceberg.updateSchema().allowIncompatibleChanges().requireColumn("id").commit()
    assert not things.table(TABLE.identifier).schema["id"].nullable
    applied(things, MakeOptional(NAME, "id"))
    assert things.table(TABLE.identifier).schema["id"].nullable


def test_partition_transforms_are_added_and_removed_each_where_it_is_left_to_do(
    things: SparkSession, look: Callable[[], Found]
) -> None:
    change = ChangePartitioning(
        NAME, added=("bucket(8, symbol)", "months(ts)"), removed=("days(ts)", "bucket(16, symbol)")
    )
    things.sql(f"ALTER TABLE lake.{NAME} ADD PARTITION FIELD bucket(8, symbol)")  # where a run was killed
    applied(things, change)
    assert look().partitioned_by == ("bucket(8, symbol)", "months(ts)")
    applied(things, change.inverse)
    assert look().partitioned_by == ("days(ts)", "bucket(16, symbol)")
    applied(things, ChangePartitioning(NAME, added=("truncate(4, symbol)", "id")))
    assert look().partitioned_by == ("days(ts)", "bucket(16, symbol)", "truncate(4, symbol)", "id")
    assert rows(things, "id", "symbol") == [(1, "AAPL"), (2, "MSFT")]


@pytest.mark.parametrize("mode", ["none", "hash", "range"])
def test_a_sort_order_comes_and_goes_with_the_distribution_mode_that_is_meant(
    things: SparkSession, look: Callable[[], Found], mode: str
) -> None:
    apply(things, [SetProperties(NAME, ((DISTRIBUTION, "none", mode),))])
    applied(things, ChangeSortOrder(NAME, ("symbol",), ("price DESC NULLS LAST", "bucket(4, symbol)"), mode))
    assert look().sorted_by == ("price DESC NULLS LAST", "bucket(4, symbol)")
    assert look().properties[DISTRIBUTION] == mode
    applied(things, ChangeSortOrder(NAME, ("price DESC NULLS LAST", "bucket(4, symbol)"), (), mode))
    assert look().sorted_by == ()
    assert look().properties[DISTRIBUTION] == mode


def test_properties_the_description_and_the_format_version_are_set_and_unset(
    things: SparkSession, look: Callable[[], Found]
) -> None:
    applied(things, SetProperties(NAME, (("a", None, "it's"), ("comment", "Things.", "Drop tag?"))))
    assert {name: look().properties.get(name) for name in ("a", "comment")} == {"a": "it's", "comment": "Drop tag?"}
    applied(things, SetProperties(NAME, (("a", "it's", None), ("format-version", "2", "3"))))
    assert {name: look().properties.get(name) for name in ("a", "format-version")} == {"a": None, "format-version": "3"}


def test_a_table_without_a_snapshot_is_altered_too(own: SparkSession) -> None:
    own.sql("CREATE TABLE lake.test.empty (id INT) USING iceberg")
    apply(own, [AddColumn("test.empty", ColumnDefinition("note", "string", "Note"))])
    assert own.table("lake.test.empty").columns == ["id", "note"]
