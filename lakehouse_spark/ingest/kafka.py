"""The only Kafka source: what a topic offers, whether a cursor still fits it, and the stream from there on."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.catalog import FEEDS
from lakehouse_spark.errors import LakehouseError, RefusedError, UsageError, in_a_sentence, is_caused_by
from lakehouse_spark.lake.snapshots import each
from lakehouse_spark.settings import Settings

_PACKAGE = "org.apache.kafka.clients.admin"
_TIMEOUT_MS = 30_000
_EARLIEST = -2
_REFUSALS = (
    "AuthorizationException", "LoginException", "SSLHandshakeException", "SaslAuthenticationException",
    "SslAuthenticationException",
)  # fmt: skip

_FETCH = {
    "kafka.isolation.level": "read_committed",
    # A task that has read its records asks for the partition's end, and that answer waits behind this one.
    "kafka.fetch.max.wait.ms": "20",
    "kafka.max.poll.records": "20000",
    "kafka.fetch.max.bytes": "67108864",
    "kafka.max.partition.fetch.bytes": "16777216",
    "kafka.metadata.max.age.ms": "10000",
}

_PIECE = 200_000
"""Records a task reads at most: a large batch keeps all cores busy, however few partitions its topic has."""

Offsets = Mapping[int, int]
"""Partition → next offset to read."""


@dataclass(frozen=True)
class Offered:
    """What a topic holds now: its id, and per partition the first offset kept and the end of what is committed."""

    topic: str
    topic_id: str
    earliest: Offsets
    latest: Offsets


def bootstrap_servers(settings: Settings) -> str:
    if not settings.kafka.bootstrap_servers:
        raise UsageError(
            "no Kafka broker is configured: set LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS, or let `lakehouse demo` start one"
        )
    return settings.kafka.bootstrap_servers


def check_settings(settings: Settings) -> None:
    """Raises UsageError where headers are asked for that no table keeps."""
    tables = [feed.topic.name for feed in FEEDS.values()]
    if unknown := set(settings.kafka.headers) - set(tables):
        named = ", ".join(sorted(unknown))
        raise UsageError(f"LAKEHOUSE_KAFKA__HEADERS: no headers are kept in {named}; tables: {', '.join(tables)}")


def exists(spark: SparkSession, settings: Settings, topic: str) -> bool:
    """Whether the broker has such a topic, and lets us see it."""
    with _admin(spark, settings) as admin:
        try:
            return topic in admin.listTopics().names().get()
        except (Py4JJavaError, PySparkException) as error:
            raise _silent(settings, error) from None


def offered(spark: SparkSession, settings: Settings, topic: str) -> Offered:
    """Asks the broker; UsageError if the topic does not exist, LakehouseError if the broker does not answer, does not
    let us in, or does not let us read the topic."""
    with _admin(spark, settings) as admin:
        try:
            found, may_read = _describe(spark._jvm, admin, topic)
        except (Py4JJavaError, PySparkException) as error:
            if is_caused_by(error, "TopicAuthorizationException"):
                raise _closed(settings, topic) from None
            if is_caused_by(error, "UnknownTopicOrPartitionException"):
                raise UsageError(
                    f"topic {topic!r} does not exist on {bootstrap_servers(settings)}: create it, or name the right "
                    "one in LAKEHOUSE_KAFKA__TOPICS"
                ) from None
            raise _silent(settings, error, f" for topic {topic!r}") from None
        if not may_read:
            raise _closed(settings, topic)
        return found


@contextmanager
def _admin(spark: SparkSession, settings: Settings) -> Iterator[Any]:
    jvm: Any = spark._jvm
    properties = jvm.java.util.HashMap()
    options = {"bootstrap.servers": bootstrap_servers(settings), **settings.kafka_options()}
    for name, value in {**options, "default.api.timeout.ms": str(_TIMEOUT_MS), "request.timeout.ms": "15000"}.items():
        properties[name] = value
    try:
        admin = getattr(jvm, f"{_PACKAGE}.AdminClient").create(properties)
    except (Py4JJavaError, PySparkException) as error:
        if is_caused_by(error, *_REFUSALS):  # as by who gives the tokens
            raise _silent(settings, error) from None
        raise UsageError(f"Kafka options are refused: {in_a_sentence(error)}") from None
    try:
        yield admin
    finally:
        admin.close()


def _silent(settings: Settings, error: Exception, asked: str = "") -> LakehouseError:
    where, why = f"Kafka at {bootstrap_servers(settings)}", in_a_sentence(error)
    if is_caused_by(error, *_REFUSALS):
        return LakehouseError(
            f"{where} refuses us: {why}", "Look at LAKEHOUSE_KAFKA__OPTIONS and LAKEHOUSE_KAFKA__SECRETS"
        )
    return LakehouseError(f"{where} does not answer{asked}: {why}")


def _closed(settings: Settings, topic: str) -> LakehouseError:
    return LakehouseError(
        f"we may not read topic {topic!r} on {bootstrap_servers(settings)}", "Let its operator grant READ on it"
    )


def _describe(jvm: Any, admin: Any, topic: str) -> tuple[Offered, bool]:
    """What the topic offers, and whether its records may be read: to describe it is another right."""
    asked_too = getattr(jvm, f"{_PACKAGE}.DescribeTopicsOptions")().includeAuthorizedOperations(True)
    described = admin.describeTopics(jvm.java.util.List.of(topic), asked_too).allTopicNames().get()[topic]
    allowed = described.authorizedOperations()  # None or nothing at all of a broker that does not tell
    may_read = not allowed or any(operation.name() == "READ" for operation in each(allowed))
    partitions = [info.partition() for info in each(described.partitions())]
    isolation = jvm.org.apache.kafka.common.IsolationLevel.READ_COMMITTED
    options = getattr(jvm, f"{_PACKAGE}.ListOffsetsOptions")(isolation)

    def ends(spec: Any) -> dict[int, int]:
        asked = jvm.java.util.HashMap()
        for partition in partitions:
            asked[jvm.org.apache.kafka.common.TopicPartition(topic, partition)] = spec
        answer = admin.listOffsets(asked, options).all().get()
        return {entry.getKey().partition(): entry.getValue().offset() for entry in each(answer.entrySet())}

    spec = getattr(jvm, f"{_PACKAGE}.OffsetSpec")
    found = Offered(topic, described.topicId().toString(), ends(spec.earliest()), ends(spec.latest()))
    return found, may_read


def check(table: str, cursor: Offsets, topic_id: str | None, found: Offered) -> None:
    """Raises RefusedError where reading on from the cursor would lose or repeat records unseen."""
    advice = (
        f"To accept this and go on, run: lakehouse run bronze_writer --table {table.partition('.')[2]} --accept-gap"
    )
    if topic_id is not None and topic_id != found.topic_id:
        raise RefusedError(
            f"{table}: topic {found.topic} was deleted and created again (id {found.topic_id}, the table was filled "
            f"from {topic_id}); its offsets mean other records now",
            f"{advice} (reads the new topic from its beginning)",
        )
    for partition, following in sorted(cursor.items()):
        first, end = found.earliest.get(partition), found.latest.get(partition)
        if first is None or end is None:
            raise RefusedError(f"{table}: partition {partition} of topic {found.topic} is gone", advice)
        if first > following:
            raise RefusedError(
                f"{table}: {first - following} offsets of topic {found.topic}, partition {partition}, from {following} "
                f"to {first - 1}, were removed by retention before they were read",
                advice,
            )
        if end < following:
            raise RefusedError(
                f"{table}: topic {found.topic}, partition {partition}, ends at {end}, before the next offset to read, "
                f"{following}: it was truncated",
                advice,
            )


def starting_offsets(found: Offered, cursor: Offsets) -> str:
    """Spark's startingOffsets: the cursor, and the earliest offset of partitions that are new."""
    return _as_option(found.topic, {p: cursor.get(p, _EARLIEST) for p in sorted(found.earliest)})


def stream(
    spark: SparkSession, settings: Settings, found: Offered, cursor: Offsets, *, headers: bool = False
) -> DataFrame:
    """The topic's records from the cursor on, transactions read committed; with their `headers`, NULL where a record
    has none."""
    reader = spark.readStream.format("kafka").options(**_options(settings))
    return (
        reader.option("subscribe", found.topic)
        .option("startingOffsets", starting_offsets(found, cursor))
        .option("maxOffsetsPerTrigger", str(settings.ingest.max_offsets_per_trigger))
        .option("maxRecordsPerPartition", str(_PIECE))
        .option("includeHeaders", str(headers).lower())
        .option("failOnDataLoss", "true")
        .load()
    )


def within(cursor: Offsets, ends: Offsets) -> Column:
    """Whether a record's offset is at or above the cursor and below the end of the batch."""
    inside = F.lit(False)
    for partition, end in ends.items():
        low = cursor.get(partition, 0)
        inside |= (F.col("partition") == partition) & (F.col("offset") >= low) & (F.col("offset") < end)
    return inside


def batch(
    spark: SparkSession, settings: Settings, topic: str, ends: Offsets, starts: Offsets | None = None
) -> DataFrame:
    """All records the topic still has below `ends`, from `starts` on, which are of the same partitions."""
    reader = spark.read.format("kafka").options(**_options(settings))
    return (
        reader.option("subscribe", topic)
        .option("startingOffsets", "earliest" if starts is None else _as_option(topic, starts))
        .option("endingOffsets", _as_option(topic, ends))
        .option("failOnDataLoss", "false")
        .load()
    )


def _as_option(topic: str, offsets: Offsets) -> str:
    return json.dumps({topic: {str(p): offset for p, offset in offsets.items()}})


def _options(settings: Settings) -> dict[str, str]:
    given = {f"kafka.{name}": value for name, value in settings.kafka_options().items()}
    return {**_FETCH, **given, "kafka.bootstrap.servers": bootstrap_servers(settings)}
