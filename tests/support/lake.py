"""A lakehouse of one test: its own catalog and warehouse, its own topics on the shared broker."""

import csv
import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from pyiceberg.catalog.sql import SqlCatalog
from pyspark.sql import Column, Row, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark import migrations
from lakehouse_spark.bronze import raw_trades
from lakehouse_spark.bronze.topic import Topic
from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.dim import dimension
from lakehouse_spark.jobs import bronze_writer, dimension_loader, fact_loader, gold_aggregator, silver_processor, steps
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import calendar, commit, frames, snapshots
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.local import topics
from lakehouse_spark.schema import ddl
from lakehouse_spark.settings import KafkaSettings, Settings, conf_dir
from lakehouse_spark.table import Table
from tests.support.lakehouses import connect, copy

Headers = Sequence[tuple[str, bytes | None]]

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)

TOPICS = ("raw_trades", "raw_orderbook", "raw_marketdata")
ALL_TOPICS = (*TOPICS, "raw_reference")
TABLES = (
    "bronze.raw_trades", "bronze.raw_orderbook", "bronze.raw_marketdata", "silver.trades",
    "silver.orderbook_snapshots", "silver.market_data", "silver.trader_activity", "silver._rejected_records",
    "dim.dim_exchange", "_metadata.payload_drift",
)  # fmt: skip

TRADE: dict[str, Any] = {
    "trade_id": "T1", "symbol": "AAPL", "price": 187.5, "quantity": 100, "trade_type": "BUY", "order_type": "LIMIT",
    "trader_id": "TR1", "exchange": "NASDAQ", "timestamp": "2025-01-15T15:30:00Z",
}  # fmt: skip
BOOK: dict[str, Any] = {
    "symbol": "AAPL", "snapshot_time": "2025-01-15T15:30:00Z", "bids": [[187.49, 100], [187.48, 200]],
    "asks": [[187.51, 150], [187.52, 50]], "exchange": "NASDAQ",
}  # fmt: skip
BAR: dict[str, Any] = {
    "symbol": "AAPL", "tick_time": "2025-01-15T15:30:00Z", "open": 187.0, "high": 188.0, "low": 186.5, "close": 187.5,
    "volume": 12000, "interval": "1m", "exchange": "NASDAQ", "vwap": 187.3, "trade_count": 17,
}  # fmt: skip


_RECORD = "value binary, topic string, partition int, offset long"


def trade(**changes: Any) -> bytes:
    """A valid trade with changes; a field set to `...` is left out."""
    return _record(TRADE, changes)


def book(**changes: Any) -> bytes:
    return _record(BOOK, changes)


def bar(**changes: Any) -> bytes:
    return _record(BAR, changes)


def _record(base: Mapping[str, Any], changes: Mapping[str, Any]) -> bytes:
    return json.dumps({k: v for k, v in {**base, **changes}.items() if v is not ...}).encode()


@dataclass
class Lake:
    spark: SparkSession
    settings: Settings

    @classmethod
    def new(
        cls,
        spark: SparkSession,
        bootstrap_servers: str,
        home: Path,
        tables: Sequence[str] = TABLES,
        begin: Callable[["Lake"], None] | None = None,
    ) -> "Lake":
        """Just these tables, empty, and where reference records have no table, the exchanges; then what `begin` does,
        once for all lakehouses that begin so, and without a broker."""

        def make(own: SparkSession) -> None:
            create_tables(own, tables)
            if "dim.dim_exchange" in tables and "bronze.raw_reference" not in tables:
                enter_exchanges(own)
            if begin:
                begin(cls(own, Settings()))

        name = " ".join((*tables, f"{begin.__module__}.{begin.__qualname__}" if begin else ""))
        return cls.copied(spark, bootstrap_servers, home, name, make)

    @classmethod
    def migrated(cls, spark: SparkSession, bootstrap_servers: str, home: Path) -> "Lake":
        """As `lakehouse migrate` made it on 2025-06-01, with the minutes of that year and the one before."""

        def make(own: SparkSession) -> None:
            with compiled_calendar():
                migrations.migrate(own, Settings(), NOON)

        return cls.copied(spark, bootstrap_servers, home, "migrated", make)

    @classmethod
    def copied(
        cls, spark: SparkSession, bootstrap_servers: str, home: Path, name: str, make: Callable[[SparkSession], None]
    ) -> "Lake":
        """A copy of the lakehouse that `make` fills, the first time that any process of this run of the tests asks for
        its name."""
        prefix = f"t{uuid.uuid4().hex[:8]}"
        topics = {name: f"{prefix}_{name}" for name in ALL_TOPICS}
        kafka = KafkaSettings(bootstrap_servers=bootstrap_servers, topics=topics)
        original = _originals(spark) / hashlib.md5(name.encode()).hexdigest()
        with original.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not original.exists():
                make(connect(spark, original))
        return cls(spark, Settings(home=original, kafka=kafka)).copy(home)

    def copy(self, home: Path) -> "Lake":
        """The same in another place, on the same topics."""
        home.mkdir(parents=True, exist_ok=True)
        copy(self.settings.root, home)
        return Lake(connect(self.spark, home), self.settings.model_copy(update={"home": home}))

    @property
    def one_by_one(self) -> Settings:
        """Settings by which a job brings one table after the other up to date."""
        spark = self.settings.spark.model_copy(update={"tables_at_once": 1})
        return self.settings.model_copy(update={"spark": spark})

    def create_topics(self, partitions: int = 1, names: Sequence[str] = TOPICS) -> None:
        wanted = {self.settings.topic(name): partitions for name in names}
        topics.create_topics(str(self.settings.kafka.bootstrap_servers), wanted)

    def on_topics_of(self, other: "Lake") -> "Lake":
        """The same, which takes in what the other one does."""
        return Lake(self.spark, self.settings.model_copy(update={"kafka": other.settings.kafka}))

    def keeping_headers(self, *tables: str) -> "Lake":
        """The same, but for bronze: in these tables it keeps the headers of Kafka."""
        kafka = self.settings.kafka.model_copy(update={"headers": tables})
        return Lake(self.spark, self.settings.model_copy(update={"kafka": kafka}))

    def produce(self, topic: str, *values: bytes | None, partition: int = 0, headers: Headers | None = None) -> None:
        """Appends the records, in order, to one partition, each with these headers."""
        producer = Producer(
            {"bootstrap.servers": self.settings.kafka.bootstrap_servers, "message.max.bytes": 20_000_000}
        )
        for value in values:
            producer.produce(self.settings.topic(topic), value=value, partition=partition, headers=headers)
        assert producer.flush(30) == 0

    def bronze(self, *tables: str, **options: Any) -> list[Summary]:
        return bronze_writer.run(self.spark, self.settings, tables, **options)

    def silver(self, *tables: str) -> list[Summary]:
        return silver_processor.run(self.spark, self.settings, tables)

    def gold(self, *tables: str) -> list[Summary]:
        """All of gold but the facts; or these tables alone, with those that are derived together with them."""
        if not tables:
            return gold_aggregator.run(self.spark, self.settings)
        due = gold_aggregator.steps_of(self.spark, self.settings)
        chosen = [step for step in due if any(table.name in tables for table in step.tables)]
        return steps.run(self.spark, chosen, lambda summary: None, at_once=self.settings.spark.tables_at_once)

    def ingest(self, topic: str, *values: bytes | None, partition: int = 0) -> None:
        """Produces the records and runs bronze_writer and silver_processor for them."""
        silver = {"raw_trades": "trades", "raw_orderbook": "orderbook_snapshots", "raw_marketdata": "market_data"}
        self.produce(topic, *values, partition=partition)
        self.bronze(topic)
        self.silver(silver[topic])

    def rows(self, table: str, *columns: str, order: str | None = None) -> list[Row]:
        frame = self.spark.table(f"lake.{table}")
        frame = frame.select(*columns) if columns else frame
        return frame.orderBy(order or frame.columns[0]).collect()

    def rejects(self, topic: str) -> list[list[str]]:
        """Reasons of the rejected records, in arrival order."""
        frame = self.spark.table("lake.silver._rejected_records").where(F.col("source_table") == f"bronze.{topic}")
        return [row["reasons"] for row in frame.orderBy("_kafka_partition", "_kafka_offset").collect()]

    def snapshots(self, table: str) -> int:
        """How many snapshots the table has; runs no query."""
        spark3_util = getattr(self.spark._jvm, "org.apache.iceberg.spark.Spark3Util")
        iceberg = spark3_util.loadIcebergTable(self.spark._jsparkSession, f"lake.{table}")
        return len(list(snapshots.each(iceberg.snapshots())))

    def expire(self, *tables: str) -> None:
        """Compacts, then expires every snapshot but the last: of a table with rows, no cursor is left."""
        later = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%d %H:%M:%S.%f")
        for table in tables:
            options = "map('rewrite-all', 'true')"
            self.spark.sql(f"CALL lake.system.rewrite_data_files(table => '{table}', options => {options})").collect()
            self.spark.sql(
                f"CALL lake.system.expire_snapshots(table => '{table}', retain_last => 1, "
                f"older_than => TIMESTAMP '{later}')"
            ).collect()
            assert self.snapshots(table) == 1

    def pyiceberg(self) -> SqlCatalog:
        """The same catalog, as other tools open it."""
        return SqlCatalog("lake", uri=f"sqlite:///{self.settings.root / 'catalog.db'}")

    def state(self, table: str) -> State:
        return snapshots.state(self.spark, BY_NAME[table])

    def cursor(self, table: str) -> dict[str, Any]:
        """The newest cursor, as any reader of the snapshot's summary sees it."""
        cursor = self.state(table).cursor
        assert cursor is not None
        said: dict[str, Any] = json.loads(cursor.to_json())
        return said

    def content(self, table: str) -> list[Row]:
        """All rows without what legitimately differs between two runs: stamps."""
        stamps = {"_ingested_at", "_processed_at", "_rejected_at"}
        columns = [name for name in BY_NAME[table].column_names if name not in stamps]
        return sorted(self.spark.table(f"lake.{table}").select(*columns).collect(), key=repr)


def _originals(spark: SparkSession) -> Path:
    """Where all processes of this run keep what they copy."""
    home = Path(str(spark.conf.get("spark.sql.catalog.lake.warehouse")).removeprefix("file://")).parent
    folder = home.parents[1 if "PYTEST_XDIST_WORKER" in os.environ else 0] / "originals"
    folder.mkdir(exist_ok=True)
    return folder


def arrive(lake: Lake, *values: bytes | None, at: datetime = NOON, topic: Topic = raw_trades.TOPIC) -> None:
    """One bronze commit of the records, on the offsets that follow."""
    table, name = topic.table, topic.name.removeprefix("raw_")
    state = snapshots.state(lake.spark, table)
    last = state.cursor_as(TopicCursor)
    first = last.following[0] if last else lake.spark.table(table.identifier).count()
    records = [(value, name, 0, offset) for offset, value in enumerate(values, first)]
    stamp = state.next_stamp(at)
    rows = topic.build(frames.of_rows(lake.spark, records, _RECORD).coalesce(1), stamp, 1_000_000)
    cursor = TopicCursor(stamp=stamp, topic=name, topic_id="id", following={0: first + len(values)})
    commit.append(lake.spark, table, rows, state, cursor)


def bring_up(lake: Lake, *values: bytes, gold: Sequence[str] = ()) -> None:
    """Every layer up to date, or of gold but the facts these tables alone, after a bronze commit of trades, if any."""
    if values:
        arrive(lake, *values)
    dimension_loader.run(lake.spark)
    silver_processor.run(lake.spark, lake.settings)
    fact_loader.run(lake.spark, lake.settings)
    lake.gold(*gold)


def moment() -> datetime:
    """Of no commit's millisecond."""
    time.sleep(0.005)
    now = datetime.now(UTC)
    time.sleep(0.005)
    return now


def create_tables(spark: SparkSession, names: Sequence[str]) -> None:
    for statement in ddl.create_namespaces():
        spark.sql(statement)
    for name in names:
        for statement in ddl.create_table(BY_NAME[name]):
            spark.sql(statement)
        commit.open_table(spark, BY_NAME[name])


@contextmanager
def compiled(spark: SparkSession) -> Iterator[None]:
    """As long as what Spark runs is compiled, as users have it: it pays from a year's half a million minutes on."""
    mode = "spark.sql.codegen.factoryMode"
    spark.conf.set(mode, "FALLBACK")
    yield
    spark.conf.unset(mode)


def fill_calendar(spark: SparkSession, years: Iterable[int]) -> None:
    with compiled(spark):
        calendar.fill(spark, years)


@contextmanager
def compiled_calendar() -> Iterator[None]:
    """As long as a lakehouse that is migrated gets its minutes from compiled code."""
    fill = calendar.fill

    def filled(spark: SparkSession, years: Iterable[int]) -> None:
        with compiled(spark):
            fill(spark, years)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calendar, "fill", filled)
        yield


def enter_exchanges(spark: SparkSession) -> None:
    """The reference file's exchanges, without the change log they come from in a migrated lakehouse."""
    with (conf_dir() / "reference" / "exchanges.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    exchanges = BY_NAME["dim.dim_exchange"]
    columns = [name for name in exchanges.column_names if name not in ("exchange_key", "_updated_at")]
    now = datetime(2025, 1, 1, tzinfo=UTC)
    typed = [{**line, "settlement_days": int(line["settlement_days"])} for line in lines]
    rows = [(key, *(line[name] for name in columns), now) for key, line in enumerate(typed, start=1)]
    frames.of_rows(spark, rows, exchanges.schema).coalesce(1).writeTo(exchanges.identifier).append()


@contextmanager
def refusing(attribute: str, value: str, reason: str = "no") -> Iterator[None]:
    """As long as an older rule refused reference records with this value of an attribute."""
    todays = dimension.reasons

    def strict(declared: dimension.Dimension) -> Column:
        is_refused = F.col("attributes")[attribute].eqNullSafe(value)
        return F.when(is_refused, F.array(F.lit(reason))).otherwise(todays(declared))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dimension, "reasons", strict)
        yield


@contextmanager
def older_rules() -> Iterator[None]:
    """As long as rules before today's refused no reference record at all, and said so in the cursors."""

    def lenient(declared: dimension.Dimension) -> Column:
        return F.array().cast("array<string>")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "RULES_VERSION", 1)
        patch.setattr(dimension, "reasons", lenient)
        yield


def table(name: str) -> Table:
    return BY_NAME[name]
