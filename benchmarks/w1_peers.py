"""W1's peers and limit rows: the same topic, read and parsed as one would write it at first."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks import contents, lake, trades
from benchmarks.contents import Columns, Result
from benchmarks.kafka_connect import Worker
from benchmarks.plan import Contender
from lakehouse_spark.bronze.raw_trades import TABLE
from lakehouse_spark.ingest import kafka

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


class SparkSink(lake.InSpark):
    name = "Spark's Iceberg sink"
    note = "from_json, writeStream.format('iceberg'), availableNow"

    def prepare(self) -> None:
        lake.create(self.spark, TABLE)
        self.checkpoint = self.job.scratch / f"checkpoint-{time.monotonic_ns()}"

    def work(self) -> None:
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
            "_kafka_headers": pa.nulls(len(values), pa.list_(pa.struct({"key": pa.string(), "value": pa.binary()}))),
        }
        return pa.table({name: columns[name] for name in TABLE.column_names})

    def result(self) -> Result:
        return contents.of_iceberg(contents.catalog(self.home).load_table(TABLE.name), DIGESTS)


class KafkaConnect(Contender):
    name = "Kafka Connect sink"
    is_slow = True
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

    def _records(self) -> DataFrame:
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


def parsed(records: DataFrame) -> DataFrame:
    """Kafka records with the trade's columns, as one would write it at first."""
    text = F.col("value").cast("string")
    return records.select(
        F.from_json(text, _SCHEMA).alias("trade"),
        text.alias("raw_payload"),
        F.current_timestamp().alias("_ingested_at"),
        F.col("topic").alias("_kafka_topic"),
        F.col("partition").alias("_kafka_partition"),
        F.col("offset").alias("_kafka_offset"),
    ).select("trade.*", "raw_payload", "_ingested_at", "_kafka_topic", "_kafka_partition", "_kafka_offset")
