"""Any legal changes of a table, with rows in between: what Spark and PyIceberg read is what plain Python expects."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyspark.sql import SparkSession

from lakehouse_spark.iceberg import metadata
from lakehouse_spark.lake import alter, snapshots
from lakehouse_spark.maintenance import compaction, health
from lakehouse_spark.maintenance.plan import Circumstances, Compaction, Plan, plan
from lakehouse_spark.migrations import apply
from lakehouse_spark.schema.operations import (
    FIRST,
    AddColumn,
    ChangePartitioning,
    ChangeSortOrder,
    ColumnDefinition,
    CommentColumn,
    CreateTable,
    DropColumn,
    MoveColumn,
    Operation,
    PromoteColumn,
    RenameColumn,
)
from lakehouse_spark.settings import Settings
from lakehouse_spark.table import Policy, Table, column
from lakehouse_spark.types import INSTANT, LONG, TEXT
from tests.support.lakehouses import connect

WIDER = {"int": "bigint", "float": "double", "decimal(9,2)": "decimal(18,2)"}
TYPES = (*WIDER, "bigint", "string")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operations") / "home"


@pytest.fixture(scope="module")
def own(spark: SparkSession, home: Path) -> SparkSession:
    return connect(spark, home)


@dataclass(eq=False)
class Column:
    """One column for as long as it lives, whatever it is called by then."""

    name: str
    type: str


@dataclass
class Model:
    """The table as it should be: its columns in order, and its rows by column."""

    table: str
    columns: list[Column]
    rows: list[dict[Column, Any]] = field(default_factory=list)
    partitioned_by: list[tuple[str, Column]] = field(default_factory=list)
    sorted_by: tuple[Column, ...] = ()
    stay: list[Column] = field(default_factory=list)
    """The columns that the table was ever partitioned by."""
    taken: set[str] = field(default_factory=set)
    """The names of columns that were dropped, and of partitions by a column's values, which Iceberg keeps apart."""

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def expected(self) -> list[tuple[Any, ...]]:
        return [tuple(row.get(column) for column in self.columns) for row in self.rows]

    def of(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def insert(self, spark: SparkSession, rng: random.Random) -> None:
        """Two rows of a commit of their own."""
        values = []
        for _ in range(2):
            row = {column: value(rng, column.type) for column in self.columns}
            row[self.of("id")] = len(self.rows)
            self.rows.append(row)
            texts = (f"CAST({literal(row[column])} AS {column.type})" for column in self.columns)
            values.append(f"({', '.join(texts)})")
        spark.sql(f"INSERT INTO lake.{self.table} VALUES {', '.join(values)}")

    def some_operation(self, rng: random.Random) -> Operation:
        """One that is legal now, and is carried out on the model."""
        choices = [self._added, self._renamed, self._promoted, self._dropped, self._moved, self._partitioned,
                   self._sorted, self._described]  # fmt: skip
        while True:
            operation = rng.choice(choices)(rng)
            if operation is not None:
                return operation

    def _name(self, rng: random.Random) -> str:
        """One that is free, maybe since a column was renamed; never that of a dropped one."""
        return rng.choice([name for name in "abcdefghijklmnopqrstuvwxyz" if name not in {*self.names, *self.taken}])

    def _added(self, rng: random.Random) -> Operation:
        new, after = Column(self._name(rng), rng.choice(TYPES)), rng.choice([None, FIRST, *self.names])
        place = len(self.columns) if after is None else self.names.index(after) + 1 if after else 0
        self.columns.insert(place, new)
        return AddColumn(self.table, ColumnDefinition(new.name, new.type, "It's new"), after)

    def _renamed(self, rng: random.Random) -> Operation | None:
        renamed, new = rng.choice(self.columns), self._name(rng)
        if renamed.name == "id":
            return None
        old, renamed.name = renamed.name, new
        return RenameColumn(self.table, old, new)

    def _promoted(self, rng: random.Random) -> Operation | None:
        narrow = [column for column in self.columns if column.type in WIDER and column not in self.stay]
        if not narrow:
            return None
        promoted = rng.choice(narrow)
        old, promoted.type = promoted.type, WIDER[promoted.type]
        return PromoteColumn(self.table, promoted.name, old, promoted.type)

    def _dropped(self, rng: random.Random) -> Operation | None:
        kept = [*self.sorted_by, *self.stay]
        free = [column for column in self.columns if column.name != "id" and column not in kept]
        if len(free) < 3:
            return None
        gone = rng.choice(free)
        self.columns.remove(gone)
        self.taken.add(gone.name)
        return DropColumn(self.table, gone.name)

    def _moved(self, rng: random.Random) -> Operation | None:
        moved = rng.choice(self.columns)
        place = self.columns.index(moved)
        was = self.names[place - 1] if place else FIRST
        after = rng.choice([FIRST, *(name for name in self.names if name != moved.name)])
        if after == was:
            return None
        self.columns.remove(moved)
        self.columns.insert(self.names.index(after) + 1 if after else 0, moved)
        return MoveColumn(self.table, moved.name, was, after)

    def _partitioned(self, rng: random.Random) -> Operation | None:
        if self.partitioned_by and rng.random() < 0.5:
            term, by = gone = rng.choice(self.partitioned_by)
            self.partitioned_by.remove(gone)
            return ChangePartitioning(self.table, removed=(term.format(by.name),))
        fit = [column for column in self.columns if column.type in ("bigint", "string")]
        fit = [column for column in fit if column not in [by for _, by in self.partitioned_by]]
        if not fit:
            return None
        by, term = rng.choice(fit), rng.choice(["bucket(4, {})", "truncate(1, {})", "{}"])
        self.partitioned_by.append((term, by))
        self.stay.append(by)
        self.taken.add(by.name)
        return ChangePartitioning(self.table, added=(term.format(by.name),))

    def _sorted(self, rng: random.Random) -> Operation | None:
        old, new = self.sorted_by, tuple(rng.sample(self.columns, rng.randint(0, 2)))
        self.sorted_by = new
        was, becomes = (tuple(column.name for column in columns) for columns in (old, new))
        return None if old == new else ChangeSortOrder(self.table, was, becomes)

    def _described(self, rng: random.Random) -> Operation:
        return CommentColumn(self.table, rng.choice(self.names), "", rng.choice(["Mine", "It's \\ odd", ""]))


def value(rng: random.Random, kind: str) -> Any:
    number = rng.randint(-999, 999)
    if rng.random() < 0.2:
        return None
    if kind == "string":
        return rng.choice(["", "é", "it's", f"s{number}"])
    if kind.startswith("decimal"):
        return Decimal(number).scaleb(-2)
    return number / 4 if kind in ("float", "double") else number


def literal(held: Any) -> str:
    if held is None:
        return "NULL"
    return '"' + held + '"' if isinstance(held, str) else f"'{held}'"


def read_by_spark(spark: SparkSession, model: Model) -> tuple[list[str], list[tuple[Any, ...]]]:
    rows = spark.table(f"lake.{model.table}")
    return rows.columns, [tuple(row) for row in rows.orderBy("id").collect()]


def read_by_pyiceberg(home: Path, model: Model) -> tuple[list[str], list[tuple[Any, ...]]]:
    catalog = SqlCatalog("lake", uri=f"sqlite:///{home}/catalog.db")
    rows = catalog.load_table(model.table).scan().to_arrow().sort_by("id")
    return rows.column_names, [tuple(row[name] for name in rows.column_names) for row in rows.to_pylist()]


def go_through(spark: SparkSession, home: Path, seed: int, operations: int) -> None:
    rng = random.Random(seed)
    columns = [Column("id", "bigint"), Column("a", "int"), Column("b", "string"), Column("c", "decimal(9,2)")]
    model = Model(f"test.random_{seed}", columns)
    definitions = tuple(ColumnDefinition(each.name, each.type, each.name) for each in columns)
    apply(spark, [CreateTable(model.table, "Anything.", definitions)])
    model.insert(spark, rng)
    told: list[str] = []
    past: list[tuple[int, list[str], list[tuple[Any, ...]]]] = []
    table = alter.named(model.table)
    for number in range(operations):
        operation = model.some_operation(rng)
        told.append(operation.sentence)
        apply(spark, [operation])
        if rng.random() < 0.4:
            model.insert(spark, rng)
        if number % 5 == 4:
            past.append((snapshots.state(spark, table).snapshot_id, model.names, model.expected))
    assert read_by_spark(spark, model) == (model.names, model.expected), told
    assert read_by_pyiceberg(home, model) == (model.names, model.expected), told
    for snapshot_id, names, expected in past:
        then = snapshots.at(spark, table, snapshot_id)
        assert (then.columns, [tuple(row) for row in then.orderBy("id").collect()]) == (names, expected), told


def test_any_sequence_of_operations_keeps_every_value_under_its_column(own: SparkSession, home: Path) -> None:
    go_through(own, home, seed=1, operations=12)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 32))
def test_any_sequence_of_operations_keeps_every_value(own: SparkSession, home: Path, seed: int) -> None:
    go_through(own, home, seed, operations=25)


# A quantity that is renamed and widened, and a table by days that is bucketed by symbol too


FILLS = Table(
    name="test.fills",
    doc="Fills.",
    columns=(
        column("ts", INSTANT, "When"),
        column("symbol", TEXT, "Of what"),
        column("quantity", LONG, "Shares"),
    ),
    key=(),
    policy=Policy(snapshot_days=7, settle_minutes=0),
    partitioned_by=("days(ts)", "bucket(16, symbol)"),
)
MADE = CreateTable(
    FILLS.name,
    "Fills.",
    (
        ColumnDefinition("ts", "timestamp", "When"),
        ColumnDefinition("symbol", "string", "Of what"),
        ColumnDefinition("qty", "int", "Shares"),
    ),
    partitioned_by=("days(ts)",),
)


def insert(spark: SparkSession, *rows: tuple[int, str, int]) -> None:
    listed = ", ".join(f"(TIMESTAMP'2025-01-{day} 10:00:00', '{symbol}', {shares})" for day, symbol, shares in rows)
    spark.sql(f"INSERT INTO lake.{FILLS.name} VALUES {listed}")


def fills(spark: SparkSession, snapshot_id: int | None = None) -> tuple[list[str], list[tuple[Any, ...]]]:
    rows = spark.table(FILLS.identifier) if snapshot_id is None else snapshots.at(spark, FILLS, snapshot_id)
    shares = rows.columns[-1]
    found = rows.selectExpr("day(ts)", "symbol", shares).orderBy("day(ts)", "symbol").collect()
    return [f"{name} {kind}" for name, kind in rows.dtypes], [tuple(row) for row in found]


def survey(home: Path) -> Plan:
    now_there = metadata.of(Settings(home=home), FILLS)
    return plan(FILLS, FILLS.policy, health.read(now_there), Circumstances(datetime.now(UTC)))


def test_what_the_specification_evolves_is_read_as_it_was_and_as_it_is(own: SparkSession, home: Path) -> None:
    apply(own, [MADE])
    insert(own, (15, "AAPL", 100), (15, "MSFT", 200), (16, "AAPL", 300))
    before, first = fills(own), snapshots.state(own, FILLS).snapshot_id

    apply(own, [RenameColumn(FILLS.name, "qty", "quantity")])
    renamed, second = fills(own), snapshots.state(own, FILLS).snapshot_id
    apply(own, [PromoteColumn(FILLS.name, "quantity", "int", "bigint")])
    insert(own, (16, "GOOG", 3_000_000_000))
    apply(own, [ChangePartitioning(FILLS.name, added=("bucket(16, symbol)",))])
    insert(own, (16, "IBM", 500), (17, "AAPL", 600))

    old = [(15, "AAPL", 100), (15, "MSFT", 200), (16, "AAPL", 300)]
    new = [*old, (16, "GOOG", 3_000_000_000), (16, "IBM", 500), (17, "AAPL", 600)]
    wide = ["ts timestamp", "symbol string", "quantity bigint"]
    assert fills(own) == (wide, new)
    assert by_spec(own) == {0: 3, 1: 2}

    (action,) = survey(home).actions
    assert isinstance(action, Compaction)
    assert action.reason == "3 files in 2 partitions are of an older partition spec"
    compaction.carry_out(own, FILLS, FILLS.policy, action, concurrent=1)

    assert by_spec(own) == {1: 6}  # a file for each symbol of a day
    assert fills(own) == (wide, new)
    assert survey(home).actions == ()
    assert before == (["ts timestamp", "symbol string", "qty int"], old)
    assert fills(own, first) == before
    assert renamed == (["ts timestamp", "symbol string", "quantity int"], old)
    assert fills(own, second) == renamed


def by_spec(spark: SparkSession) -> dict[int, int]:
    """How many files there are of each partition spec."""
    found = spark.table(f"{FILLS.identifier}.files").groupBy("spec_id").count().collect()
    return {row["spec_id"]: row["count"] for row in found}
