"""W1, Kafka → bronze: a topic of trades into `bronze.raw_trades`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks import contents, lake, trades
from benchmarks.contents import Columns, Result
from benchmarks.harness import Case, Contender, Curve, Inputs, Results, Sample, Verdict, Workload, by_parameter
from benchmarks.kafka_connect import Worker
from lakehouse_spark import broker, kafka
from lakehouse_spark.bronze.raw_trades import TABLE
from lakehouse_spark.jobs import bronze_writer

_PYICEBERG_ROWS = 250_000
"""Messages per append of the PyIceberg loop: few large commits suit it best."""

_TEXTS = ("trade_id", "symbol", "trade_type", "order_type", "trader_id", "exchange")
_SCHEMA = "trade_id STRING, symbol STRING, price DOUBLE, quantity BIGINT, trade_type STRING, order_type STRING, " \
    "trader_id STRING, exchange STRING, timestamp TIMESTAMP"  # fmt: skip

FIELDS: Columns = {
    **{name: name for name in _TEXTS},
    "price": "price::DOUBLE",
    "quantity": "quantity::BIGINT",
    "timestamp": 'epoch_us("timestamp")',
    "_kafka_partition": "_kafka_partition::INTEGER",
    "_kafka_offset": "_kafka_offset::BIGINT",
}
"""What every contender lands; the payload too, but not from Kafka Connect."""
DIGESTS: Mapping[str, Columns] = {"fields": FIELDS, "records": {**FIELDS, "raw_payload": "raw_payload"}}
_TRUTH = {
    "timestamp": "epoch_us(moment)",
    "_kafka_partition": "place::INTEGER",
    "_kafka_offset": "following::BIGINT",
    "raw_payload": "payload",
}


class Ours(lake.InSpark):
    name = "lakehouse"
    note = "bronze_writer, one commit"
    conf: dict[str, str] = {}  # noqa: RUF012 (replaced, never changed)

    def prepare(self) -> None:
        lake.create(self.spark, TABLE)

    def work(self) -> None:
        bronze_writer.run(self.spark, self.settings, [TABLE.short_name])

    def result(self) -> Result:
        return contents.of_iceberg(contents.catalog(self.home).load_table(TABLE.name), DIGESTS)


class OursInSmallCommits(Ours):
    """How the cost of a commit grows with the commits before it."""

    name = "lakehouse, small commits"
    note = "bronze_writer, a commit per 1,000 records"

    def work(self) -> Mapping[str, Any]:
        moments = [time.monotonic()]
        bronze_writer.run(
            self.spark, self.settings, [TABLE.short_name], report=lambda _: moments.append(time.monotonic())
        )
        return {"commit_seconds": [round(b - a, 3) for a, b in pairwise(moments)]}


class SparkSink(lake.InSpark):
    name = "Spark's Iceberg sink"
    note = "from_json, writeStream.format('iceberg'), availableNow"

    def prepare(self) -> None:
        lake.create(self.spark, TABLE)
        self.checkpoint = self.job.scratch / f"checkpoint-{time.monotonic_ns()}"

    def work(self) -> None:
        from pyspark.sql import functions as F

        found = kafka.offered(self.spark, self.settings, self.settings.topic(TABLE.short_name))
        records = parsed(kafka.stream(self.spark, self.settings, found, {}))
        rows = records.select(
            *(F.col(name) if name in records.columns else F.lit(None).cast(TABLE.schema[name].dataType).alias(name)
              for name in TABLE.column_names)
        )  # fmt: skip
        writer = rows.writeStream.format("iceberg").option("fanout-enabled", "true")
        query = writer.option("checkpointLocation", f"file://{self.checkpoint}").trigger(availableNow=True)
        query.toTable(TABLE.identifier).awaitTermination()

    def result(self) -> Result:
        return contents.of_iceberg(contents.catalog(self.home).load_table(TABLE.name), DIGESTS)


class PyIcebergLoop(Contender):
    name = "PyIceberg loop"
    note = f"confluent-kafka, orjson, pyarrow; an append per {_PYICEBERG_ROWS:,} messages"

    def open(self) -> None:
        import confluent_kafka
        import orjson
        import pyarrow

        self.kafka, self.loads, self.pa = confluent_kafka, orjson.loads, pyarrow
        self.home = self.job.scratch / "home"

    def prepare(self) -> None:
        self.table = lake.create_without_spark(self.home, TABLE, by_day="timestamp")

    def work(self) -> None:
        consumer = self.kafka.Consumer(
            {
                "bootstrap.servers": self.job.inputs["servers"],
                "group.id": f"loop-{time.monotonic_ns()}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.max.bytes": 67_108_864,
                "max.partition.fetch.bytes": 16_777_216,
                "queued.max.messages.kbytes": 262_144,
            }
        )
        topic, wanted, messages = self.job.inputs["topic"], self.job.params["records"], []
        places = range(trades.PARTITIONS)
        consumer.assign([self.kafka.TopicPartition(topic, place, 0) for place in places])
        taken = 0
        while taken < wanted:
            messages += consumer.consume(min(20_000, wanted - taken), timeout=1.0)
            if len(messages) >= _PYICEBERG_ROWS or taken + len(messages) == wanted:
                self.table.append(self._rows(messages))
                taken, messages = taken + len(messages), []
        consumer.close()

    def _rows(self, messages: list[Any]) -> Any:
        pa = self.pa
        values = [message.value() for message in messages]
        trades = [self.loads(value) for value in values]
        stamp, instant = datetime.now(UTC), pa.timestamp("us", tz="UTC")
        columns = {name: pa.array([trade.get(name) for trade in trades], pa.string()) for name in _TEXTS}
        columns |= {
            "price": pa.array([trade.get("price") for trade in trades], pa.float64()),
            "quantity": pa.array([trade.get("quantity") for trade in trades], pa.int64()),
            "timestamp": pa.array([trade.get("timestamp") for trade in trades], pa.string()).cast(instant),
            "raw_payload": pa.array(values, pa.binary()).cast(pa.string()),
            "_ingested_at": pa.repeat(pa.scalar(stamp, instant), len(values)),
            "_kafka_topic": pa.repeat(self.job.inputs["topic"], len(values)),
            "_kafka_partition": pa.array([message.partition() for message in messages], pa.int32()),
            "_kafka_offset": pa.array([message.offset() for message in messages], pa.int64()),
            "_raw_bytes": pa.nulls(len(values), pa.binary()),
        }
        return pa.table({name: columns[name] for name in TABLE.column_names})

    def result(self) -> Result:
        return contents.of_iceberg(contents.catalog(self.home).load_table(TABLE.name), DIGESTS)


class KafkaConnect(Contender):
    name = "Kafka Connect sink"
    note = "iceberg-kafka-connect, standalone worker, 2 tasks; commits every 2 s; without the payload"

    def open(self) -> None:
        self.home = self.job.scratch / "home"
        self.worker = Worker(self.job.scratch / "connect", self.job.inputs["servers"])
        self.worker.start()

    def prepare(self) -> None:
        self.table = lake.create_without_spark(self.home, TABLE, by_day="timestamp")

    def work(self) -> None:
        name = self.worker.sink(self.home, self.job.inputs["topic"], self.job.inputs["control"], TABLE.name)
        while lake.total_rows([self.table.refresh()]) < self.job.params["records"]:
            self.worker.check(name)
            time.sleep(0.2)
        self.done = name

    def result(self) -> Result:
        self.worker.remove(self.done)
        return contents.of_iceberg(self.table.refresh(), {"fields": FIELDS})

    def close(self) -> None:
        self.worker.stop()


class ToParquet(lake.InSpark):
    name = "limit: read, from_json, Parquet"
    note = "no table, no commit, no partitions"
    is_limit = True

    def prepare(self) -> None:
        self.target = self.job.scratch / f"rows-{time.monotonic_ns()}"

    def work(self) -> None:
        parsed(self._records()).write.option("compression", "zstd").parquet(str(self.target))

    def _records(self) -> Any:
        ends = kafka.offered(self.spark, self.settings, self.job.inputs["topic"]).latest
        return kafka.batch(self.spark, self.settings, self.job.inputs["topic"], ends)

    def result(self) -> Result | None:
        return contents.of_parquet(self.target.glob("*.parquet"), DIGESTS)


class ToNoop(ToParquet):
    name = "limit: read, from_json"
    note = "to noop"

    def work(self) -> None:
        parsed(self._records()).write.format("noop").mode("overwrite").save()

    def result(self) -> None:
        return None


def parsed(records: Any) -> Any:
    """Kafka records with the trade's columns, as one would write it at first."""
    from pyspark.sql import functions as F

    text = F.col("value").cast("string")
    return records.select(
        F.from_json(text, _SCHEMA).alias("trade"),
        text.alias("raw_payload"),
        F.current_timestamp().alias("_ingested_at"),
        F.col("topic").alias("_kafka_topic"),
        F.col("partition").alias("_kafka_partition"),
        F.col("offset").alias("_kafka_offset"),
    ).select("trade.*", "raw_payload", "_ingested_at", "_kafka_topic", "_kafka_partition", "_kafka_offset")


ALL = (Ours, PyIcebergLoop, KafkaConnect, SparkSink, ToParquet, ToNoop)
CONTENDERS = (*ALL, OursInSmallCommits)


def cases(size: str, runs: int) -> Sequence[Case]:
    tiny = Case("20 k", {"records": 20_000}, ALL, 1, children=1)
    small = Case("100 k", {"records": 100_000}, ALL, runs)
    full = Case("1 M", {"records": 1_000_000}, ALL, runs)
    largest = Case("5 M", {"records": 5_000_000}, (Ours, ToParquet), 3, children=1)

    def commits(number: int) -> Case:
        params = {"records": number * 1000, "settings": {"ingest__max_offsets_per_trigger": 1000}}
        # The warm turn is the measured one, the cold one is as long: so one child, one turn each.
        return Case(f"{number} commits", params, (OursInSmallCommits,), 1, children=1, timeout=3000)

    return {
        "tiny": (tiny, commits(20)),
        "small": (Case("100 k", {"records": 100_000}, ALL, runs, children=1), commits(30)),
        "default": (small, full, commits(250)),
        "full": (small, full, largest, commits(1000)),
    }[size]


@contextmanager
def inputs(case: Case, folder: Path) -> Iterator[Inputs]:
    """A broker with the topic of the case, every record in a place known beforehand."""
    records = case.params["records"]
    numbers = f"SELECT range AS n, range AS i, 0 AS bad FROM range({records})"
    file = trades.write(folder / "trades.parquet", numbers, per_day=records)
    topic, control = "trades", "control"
    with broker.serving(lake.here(folder / "broker"), [topic, control]) as served:
        servers = str(served.kafka.bootstrap_servers)
        trades.publish(file, servers, topic)
        truth = {
            name: {column: _TRUTH.get(column, expression) for column, expression in columns.items()}
            for name, columns in DIGESTS.items()
        }
        connected = {
            "kafka__bootstrap_servers": servers,
            "kafka__topics": {TABLE.short_name: topic},
            **case.params.get("settings", {}),
        }
        values = {"servers": servers, "topic": topic, "control": control, "settings": connected}
        yield Inputs(values, contents.of_parquet([file], truth).digests)


def judge(results: Results) -> list[Verdict]:
    """BENCHMARKS.md's goals: at 1 M where it was run, else at the largest size that was."""
    size = next((c for c in ("1 M", "100 k", "20 k") if results.of(c, Ours.name)), "1 M")

    def ratio(other: type[Contender], measure: str, most: float, text: str) -> Verdict:
        ours, theirs = (results.median(size, c.name, measure) for c in (Ours, other))
        if not ours or not theirs:
            return Verdict(text, "not measured", None)
        return Verdict(f"{text} ({size}, warm)", f"{ours / theirs:.2f}x", ours / theirs <= most)

    goals = [
        ratio(PyIcebergLoop, "wall", 0.5, "wall time at most 0.5x the PyIceberg loop's"),
        ratio(PyIcebergLoop, "cpu", 0.8, "CPU at most 0.8x the PyIceberg loop's"),
        ratio(ToParquet, "wall", 1.3, "wall time at most 1.3x the limit's"),
        ratio(KafkaConnect, "wall", 0.25, "wall time at most 0.25x Kafka Connect's"),
    ]
    return [*goals, _commit_growth(results)]


def _commit_growth(results: Results) -> Verdict:
    sample = _longest(results)
    seconds = sample.details["commit_seconds"] if sample and sample.details else []
    if len(seconds) < 15:
        return Verdict("the last commit takes at most 1.3x the 10th", "not measured", None)
    early, late = sorted(seconds[5:15])[5], sorted(seconds[-10:])[5]
    text = f"commit {len(seconds):,} takes at most 1.3x commit 10 (medians of ten)"
    return Verdict(text, f"{late / early:.2f}x ({late:.2f} s, {early:.2f} s)", late / early <= 1.3)


def _commit_curve(workload: Workload, results: Results) -> dict[str, list[tuple[float, float]]]:
    sample = _longest(results)
    seconds = sample.details["commit_seconds"] if sample and sample.details else []
    return {OursInSmallCommits.name: list(enumerate(seconds))} if seconds else {}


def _longest(results: Results) -> Sample | None:
    """The warm turn with the most commits."""
    found = [s for s in results.samples if s.contender == OursInSmallCommits.name and s.turn == "warm" and s.details]
    return max(found, key=lambda sample: len((sample.details or {})["commit_seconds"]), default=None)


_SIZES = ("20 k", "100 k", "1 M", "5 M")

WORKLOAD = Workload(
    name="W1",
    title="Kafka → bronze",
    cases=cases,
    inputs=inputs,
    judge=judge,
    curves=(
        Curve("CPU seconds, warm", "records", by_parameter("records", "cpu", _SIZES)),
        Curve("wall seconds, warm", "records", by_parameter("records", "wall", _SIZES)),
        Curve("seconds per commit", "commits before it", _commit_curve, scale="linear"),
    ),
)
