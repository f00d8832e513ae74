"""Tables as their catalog holds them, read without Spark."""

from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER, NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.table.update.schema import UpdateSchema
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    UUIDType,
)
from pyspark.sql import types as T

from lakehouse_spark import migrations
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.errors import UsageError
from lakehouse_spark.iceberg import found, pyiceberg
from lakehouse_spark.schema.drift import Found, drift
from lakehouse_spark.schema.operations import (
    FIRST,
    AddColumn,
    ChangePartitioning,
    ChangeSortOrder,
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
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import Policy, Table, column
from lakehouse_spark.types import DATE, INSTANT, TEXT
from tests.support import lakehouses

SCHEMA = Schema(
    NestedField(1, "at", TimestamptzType(), required=True, doc="When (UTC)"),
    NestedField(2, "symbol", StringType(), doc="Of what"),
    NestedField(3, "price", DecimalType(18, 6)),
)


@pytest.fixture
def catalog(tmp_path: Path) -> SqlCatalog:
    made = SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    made.create_namespace("test")
    return made


def make(
    catalog: SqlCatalog,
    spec: PartitionSpec = UNPARTITIONED_PARTITION_SPEC,
    order: SortOrder = UNSORTED_SORT_ORDER,
    **properties: str,
) -> IcebergTable:
    return catalog.create_table("test.rows", SCHEMA, None, spec, order, {"format-version": "2", **properties})


def test_columns_come_with_type_comment_and_order_and_properties_with_the_format_version(catalog: SqlCatalog) -> None:
    assert found.read(make(catalog, comment="Rows.")) == Found(
        columns=(
            ColumnDefinition("at", "timestamp", "When (UTC)"),
            ColumnDefinition("symbol", "string", "Of what"),
            ColumnDefinition("price", "decimal(18,6)", ""),
        ),
        required=frozenset({"at"}),
        properties={"comment": "Rows.", "format-version": "2"},
    )


def test_partitions_and_sort_order_are_in_the_words_of_declarations(catalog: SqlCatalog) -> None:
    spec = PartitionSpec(
        PartitionField(1, 1000, DayTransform(), "at_day"),
        PartitionField(2, 1001, BucketTransform(16), "shard"),
        PartitionField(2, 1002, TruncateTransform(2), "symbol_trunc"),
        PartitionField(2, 1003, IdentityTransform(), "symbol"),
        PartitionField(1, 1004, VoidTransform(), "at_hour"),
    )
    order = SortOrder(
        SortField(2, IdentityTransform()),
        SortField(1, IdentityTransform(), SortDirection.DESC, NullOrder.NULLS_LAST),
        SortField(2, BucketTransform(4), SortDirection.ASC, NullOrder.NULLS_LAST),
    )

    read = found.read(make(catalog, spec, order))

    assert read.partitioned_by == ("days(at)", "bucket(16, symbol)", "truncate(2, symbol)", "symbol")
    assert read.partition_columns == {"at", "symbol"}
    assert read.partition_names == {"at_day", "shard", "symbol_trunc", "symbol", "at_hour"}
    assert read.sorted_by == ("symbol", "at DESC NULLS LAST", "bucket(4, symbol) ASC NULLS LAST")


@pytest.mark.parametrize(
    ("by", "declared"),
    [(YearTransform(), "years(at)"), (MonthTransform(), "months(at)"), (HourTransform(), "hours(at)")],
)
def test_parts_of_time_are_plural(catalog: SqlCatalog, by: Transform[Any, Any], declared: str) -> None:
    assert found.read(make(catalog, PartitionSpec(PartitionField(1, 1000, by, "part")))).partitioned_by == (declared,)


def test_a_table_is_read_as_it_is_after_every_kind_of_change(catalog: SqlCatalog) -> None:
    iceberg = make(catalog, PartitionSpec(PartitionField(1, 1000, DayTransform(), "at_day")))
    with iceberg.update_schema() as schema:
        schema.rename_column("symbol", "ticker").make_column_optional("at").update_column("price", DecimalType(20, 6))
        schema.add_column("quantity", IntegerType(), "Shares").move_first("quantity")
    with iceberg.update_spec() as spec:
        spec.add_field("ticker", BucketTransform(16)).remove_field("at_day")
    with iceberg.transaction() as transaction:
        transaction.set_properties(owner="someone")

    assert found.read(iceberg) == Found(
        columns=(
            ColumnDefinition("quantity", "int", "Shares"),
            ColumnDefinition("at", "timestamp", "When (UTC)"),
            ColumnDefinition("ticker", "string", "Of what"),
            ColumnDefinition("price", "decimal(20,6)", ""),
        ),
        partitioned_by=("bucket(16, ticker)",),
        properties={"format-version": "2", "owner": "someone"},
        partition_columns=frozenset({"at", "ticker"}),
        partition_names=frozenset({"at_day", "ticker_bucket_16"}),
    )


def test_dropped_names_are_remembered_and_renamed_ones_are_not_among_them(catalog: SqlCatalog) -> None:
    iceberg = make(catalog)
    with iceberg.update_schema() as schema:
        schema.rename_column("symbol", "ticker").delete_column("price")
    with iceberg.update_schema() as schema:
        schema.add_column("symbol", StringType())

    read = found.read(iceberg)

    assert [column.name for column in read.columns] == ["at", "ticker", "symbol"]
    assert read.dropped == {"price"}


@pytest.mark.parametrize(
    ("kind", "sql"),
    [
        (BooleanType(), "boolean"),
        (IntegerType(), "int"),
        (LongType(), "bigint"),
        (FloatType(), "float"),
        (DoubleType(), "double"),
        (DateType(), "date"),
        (TimestamptzType(), "timestamp"),
        (TimestampType(), "timestamp_ntz"),
        (StringType(), "string"),
        (UUIDType(), "string"),
        (BinaryType(), "binary"),
        (FixedType(16), "binary"),
        (DecimalType(10, 4), "decimal(10,4)"),
        (ListType(1, StringType(), element_required=False), "array<string>"),
        (ListType(1, StringType(), element_required=True), "array<string not null>"),
        (MapType(1, StringType(), 2, LongType(), value_required=False), "map<string,bigint>"),
        (
            StructType(
                NestedField(1, "price", DecimalType(18, 6)), NestedField(2, "sizes", ListType(3, LongType(), False))
            ),
            "struct<price:decimal(18,6),sizes:array<bigint>>",
        ),
    ],
    ids=str,
)
def test_types_are_spelled_as_spark_does(kind: IcebergType, sql: str) -> None:
    assert found.sql_type(kind) == sql


def test_a_lakehouse_of_the_first_release_lacks_what_was_added_since_and_nothing_else(tmp_path: Path) -> None:
    lakehouses.unpack("7e782d6", tmp_path)
    catalog = pyiceberg.open_catalog(Settings(home=tmp_path))
    missing, changes = [], {}
    for table in TABLES:
        try:
            read = found.read(pyiceberg.load(catalog, table))
        except UsageError:
            missing.append(table.name)
        else:
            changes[table.name] = drift(table, read)
    assert missing == ["_metadata.maintenance_log", "_metadata.payload_drift"]
    ledger = changes.pop("_metadata.schema_migrations")
    *gained, said = migrations.migrations()[3].operations
    checksum = migrations.migrations()[5].operations[2]
    assert (ledger.operations, ledger.unmendable) == ((*gained, checksum, said), ())
    headers = "_kafka_headers (array<struct<key:string,value:binary>>) at the end, NULL in the rows it has"
    assert [sentence for changed in changes.values() for sentence in changed.sentences] == [
        f"bronze.raw_trades gains {headers}",
        f"bronze.raw_orderbook gains {headers}",
        f"bronze.raw_marketdata gains {headers}",
        "dim.dim_exchange gains settlement_days (int) after mic, NULL in the rows it has",
        "gold.fact_trades gains settlement_date (date) after status, NULL in the rows it has",
    ]


BARS = Table(
    name="test.rows",
    doc="Rows.",
    columns=(
        column("day", DATE, "Which day"),
        column("at", INSTANT, "When it was (UTC)"),
        column("ticker", TEXT, "Of what"),
        column("price", T.DecimalType(20, 6), "Price in the trading currency"),
    ),
    key=("ticker",),
    policy=Policy(snapshot_days=7),
    partitioned_by=("bucket(16, ticker)", "days(at)"),
    sorted_by=("ticker", "at"),
    distribution="hash",
)


def carry_out(iceberg: IcebergTable, operation: Operation) -> None:
    """An operation as PyIceberg does it."""
    match operation:
        case AddColumn(column=new, after=after):
            with iceberg.update_schema() as schema:
                schema.add_column(new.name, {"date": DateType()}[new.type], new.comment)
                if after is not None:
                    place(schema, new.name, after)
        case RenameColumn(old=old, new=name):
            with iceberg.update_schema() as schema:
                schema.rename_column(old, name)
        case PromoteColumn(column=name):
            with iceberg.update_schema() as schema:
                schema.update_column(name, DecimalType(20, 6))
        case DropColumn(column=name):
            with iceberg.update_schema() as schema:
                schema.delete_column(name)
        case MoveColumn(column=name, new=after):
            with iceberg.update_schema() as schema:
                place(schema, name, after)
        case CommentColumn(column=name, new=comment):
            with iceberg.update_schema() as schema:
                schema.update_column(name, doc=comment)
        case MakeOptional(column=name):
            with iceberg.update_schema() as schema:
                schema.make_column_optional(name)
        case ChangePartitioning():
            with iceberg.update_spec() as spec:
                spec.add_field("at", DayTransform()).remove_field("at_hour")
        case ChangeSortOrder(new=names):
            with iceberg.update_sort_order() as order:
                for name in names:
                    order.asc(name, IdentityTransform(), NullOrder.NULLS_FIRST)
        case SetProperties(changes=changes):
            with iceberg.transaction() as transaction:
                transaction.set_properties({name: value for name, _, value in changes if value is not None})
        case _:
            raise NotImplementedError


def place(schema: UpdateSchema, name: str, after: str) -> None:
    if after == FIRST:
        schema.move_first(name)
    else:
        schema.move_after(name, after)


def test_the_operations_of_a_drift_make_a_table_what_is_declared(catalog: SqlCatalog) -> None:
    schema = Schema(
        NestedField(1, "price", DecimalType(18, 6), doc="Price"),
        NestedField(2, "at", TimestamptzType(), required=True, doc="When it was (UTC)"),
        NestedField(3, "symbol", StringType(), doc="Of what"),
        NestedField(4, "half", StringType(), doc="Which half"),
    )
    spec = PartitionSpec(
        PartitionField(3, 1000, BucketTransform(16), "shard"), PartitionField(2, 1001, HourTransform(), "at_hour")
    )
    order = SortOrder(SortField(4, IdentityTransform()))
    iceberg = catalog.create_table("test.rows", schema, None, spec, order, {"format-version": "2"})

    drifted = drift(BARS, found.read(iceberg))
    for operation in drifted.operations:
        carry_out(iceberg, operation)

    assert [type(operation).__name__ for operation in drifted.operations] == [
        "RenameColumn", "AddColumn", "MoveColumn", "MakeOptional", "PromoteColumn", "CommentColumn",
        "ChangePartitioning", "ChangeSortOrder", "DropColumn", "SetProperties",
    ]  # fmt: skip
    assert drifted.unmendable == ()
    assert drift(BARS, found.read(iceberg)).sentences == ()
    assert found.read(iceberg).dropped == {"half"}
