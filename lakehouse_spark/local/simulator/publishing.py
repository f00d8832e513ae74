"""Records into Kafka."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.local.simulator.scenario import Record

_SETTINGS: Mapping[str, str] = {
    "enable.idempotence": "true",  # in order within a partition, once, whatever is retried
    "partitioner": "murmur2_random",  # the Java clients' placement of keys
    "linger.ms": "20",
    "batch.size": "1000000",
    "compression.type": "zstd",
    "message.max.bytes": "20000000",
    "queue.buffering.max.messages": "500000",
    "message.timeout.ms": "120000",
    "log_level": "2",  # retries are no news; a record that fails is reported below
}
_PROGRESS_EVERY = 10_000


def publish(
    records: Iterable[Record],
    bootstrap_servers: str,
    config: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Sends the records in their order and waits until the brokers have them all; the number sent.

    `config` adds to or replaces the producer's settings, `progress` is called with the number handed over so far.
    Raises LakehouseError if any record was not delivered.
    """
    failures: list[str] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            failures.append(f"{message.topic()}: {error.str()}")

    settings: dict[str, Any] = {**_SETTINGS, **(config or {}), "bootstrap.servers": bootstrap_servers}
    producer = Producer(settings)
    sent = 0
    for record in records:
        while not failures:
            try:
                producer.produce(record.topic, record.value, record.key, on_delivery=delivered)
            except BufferError:
                producer.poll(0.1)
            else:
                sent += 1
                break
        if failures:
            break
        if sent % _PROGRESS_EVERY == 0:
            producer.poll(0)
            if progress:
                progress(sent)
    if failures:
        producer.purge()
    left = producer.flush()
    if failures or left:
        raise LakehouseError(
            f"publish to {bootstrap_servers}: {max(len(failures), left)} of {sent} records were not delivered, first "
            f"{failures[0] if failures else 'unknown'}; check that the broker runs and takes these topics, then retry"
        )
    if progress:
        progress(sent)
    return sent
