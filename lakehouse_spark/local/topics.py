"""Topics of a broker, made where they are missing."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.local.loopback import wait_for

QUIET_CLIENT: Mapping[str, Any] = {
    "log_level": 0,
    "error_cb": lambda error: None,
    "broker.address.family": "v4",
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 200,
}


def create_topics(bootstrap_servers: str, partitions: Mapping[str, int]) -> list[str]:
    """Creates the topics that do not exist yet and returns their names; all have leaders when it returns.

    An existing topic stays as it is, whatever its number of partitions. Replication is the broker's default.
    """
    client = AdminClient({**QUIET_CLIENT, "bootstrap.servers": bootstrap_servers})
    futures = client.create_topics([NewTopic(name, count) for name, count in partitions.items()], request_timeout=30)
    created = []
    for name, future in futures.items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise LakehouseError(f"topic {name}: could not be created: {error.args[0].str()}") from error
    if not wait_for(lambda: all(_is_led(client, name) for name in partitions), 30):
        raise LakehouseError(f"topics {', '.join(partitions)}: not led by any broker of {bootstrap_servers} after 30 s")
    return created


def _is_led(client: AdminClient, topic: str) -> bool:
    try:
        found = client.list_topics(topic, timeout=5).topics[topic]
    except KafkaException:
        return False
    return found.error is None and bool(found.partitions) and all(p.leader >= 0 for p in found.partitions.values())
