"""Kafka as companies run it: SCRAM and OAuth over TLS, mutual TLS, rights to read some topics alone; every codec; three
brokers, of which one dies."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AclOperation
from pydantic import SecretStr
from pyspark.sql import SparkSession

from lakehouse_spark import jars
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.ingest import kafka
from lakehouse_spark.jobs import bronze_writer
from lakehouse_spark.local.topics import QUIET_CLIENT, create_topics
from lakehouse_spark.settings import KafkaSettings, Settings
from tests.support.lake import Lake, trade
from tests.support.secure_broker import PASSWORD, Issuer, SecureBroker
from tests.support.three_brokers import three_brokers

TOPIC, CLOSED, DESCRIBED = "company.trades", "company.payroll", "company.described"
SECRET = "canary-of-the-reader"
_JAAS = "org.apache.kafka.common.security"
DOORS, PARTS = ("scram", "oauth", "mutual"), ("options", "secrets")
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture(scope="module")
def issuer(spark: SparkSession) -> Iterator[Issuer]:
    with Issuer(spark, "reader", SECRET) as running:
        yield running


@pytest.fixture(scope="module")
def secure(settings: Settings, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """A broker whose reader may read one topic, and describe another one."""
    found, java = jars.ensure(["broker"], settings.jar_cache, settings.java), jars.find_java(settings.java)
    with SecureBroker(tmp_path_factory.mktemp("secure"), java, found["broker"], issuer) as running:
        running.add_user("reader", SECRET)
        producer = Producer({**QUIET_CLIENT, "bootstrap.servers": running.bootstrap_servers})
        for topic in (TOPIC, CLOSED, DESCRIBED):
            create_topics(running.bootstrap_servers, {topic: 1})
            producer.produce(topic, trade())
        assert producer.flush(30) == 0
        for who in ("reader", "CN=client"):
            running.allow(who, TOPIC, AclOperation.READ)
            running.allow(who, DESCRIBED, AclOperation.DESCRIBE)
        yield running


def through(door: str, secure: SecureBroker, issuer: Issuer, topic: str = TOPIC, secret: str = SECRET) -> KafkaSettings:
    """What a user sets to come in by this door."""
    options = secure.trust
    secrets = {"ssl.truststore.password": PASSWORD}
    if door == "scram":
        options |= {"security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512"}
        module = f'{_JAAS}.scram.ScramLoginModule required username="reader" password="{secret}";'
        secrets |= {"sasl.jaas.config": module}
    elif door == "oauth":
        options |= {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}
        options |= {
            "sasl.oauthbearer.token.endpoint.url": f"{issuer.url}/token",
            "sasl.login.callback.handler.class": f"{_JAAS}.oauthbearer.OAuthBearerLoginCallbackHandler",
        }
        module = f'{_JAAS}.oauthbearer.OAuthBearerLoginModule required clientId="reader" clientSecret="{secret}";'
        secrets |= {"sasl.jaas.config": module}
    else:
        options |= {"security.protocol": "SSL", "ssl.keystore.location": str(secure.keys / "client.p12")}
        options |= {"ssl.keystore.type": "PKCS12"}
        secrets |= {"ssl.keystore.password": PASSWORD, "ssl.key.password": PASSWORD}
    return KafkaSettings(
        bootstrap_servers=getattr(secure, door),
        topics={"raw_trades": topic},
        options=options,
        secrets={name: SecretStr(value) for name, value in secrets.items()},
    )


@pytest.fixture
def empty(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake.new(spark, "127.0.0.1:9", tmp_path / "home", ["bronze.raw_trades"])


def with_kafka(lake: Lake, given: KafkaSettings) -> Settings:
    return lake.settings.model_copy(update={"kafka": given})


@pytest.mark.parametrize("door", DOORS)
def test_a_reader_reads_its_topic(door: str, empty: Lake, secure: SecureBroker, issuer: Issuer) -> None:
    given = with_kafka(empty, through(door, secure, issuer))
    bronze_writer.run(empty.spark, given, ["raw_trades"])
    assert empty.rows("bronze.raw_trades", "_kafka_topic", "trade_id") == [(TOPIC, "T1")]
    assert bronze_writer.run(empty.spark, given, ["raw_trades"])[0].snapshot_id is None


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("topic", [CLOSED, DESCRIBED])
def test_a_reader_without_the_right_to_read_is_told_so_before_anything_begins(
    door: str, topic: str, empty: Lake, secure: SecureBroker, issuer: Issuer
) -> None:
    before = empty.snapshots("bronze.raw_trades")
    with pytest.raises(LakehouseError) as refused:
        bronze_writer.run(empty.spark, with_kafka(empty, through(door, secure, issuer, topic)), ["raw_trades"])
    assert f"may not read topic {topic!r}" in str(refused.value)
    assert empty.snapshots("bronze.raw_trades") == before


@pytest.mark.parametrize("door", ["scram", "oauth"])
def test_a_wrong_password_is_one_sentence_that_does_not_say_it(
    door: str, empty: Lake, secure: SecureBroker, issuer: Issuer
) -> None:
    given = with_kafka(empty, through(door, secure, issuer, secret="canary-of-a-stranger"))
    with pytest.raises(LakehouseError) as refused:
        kafka.offered(empty.spark, given, TOPIC)
    said = str(refused.value)
    assert said.startswith(f"Kafka at {getattr(secure, door)} refuses us: ")
    assert "canary" not in said
    assert "\n" not in said


def test_a_stranger_to_the_brokers_certificate_is_told_so(empty: Lake, secure: SecureBroker, issuer: Issuer) -> None:
    known = through("scram", secure, issuer)
    left = {part: {k: v for k, v in getattr(known, part).items() if "truststore" not in k} for part in PARTS}
    given = known.model_copy(update=left)
    with pytest.raises(LakehouseError, match="refuses us: "):
        kafka.offered(empty.spark, with_kafka(empty, given), TOPIC)


def test_batches_of_every_codec_on_fifty_partitions_land_with_their_tombstones(
    empty: Lake, secure: SecureBroker
) -> None:
    topic, servers = "company.codecs", secure.bootstrap_servers
    create_topics(servers, {topic: 50})
    for codec in CODECS:
        producer = Producer({**QUIET_CLIENT, "bootstrap.servers": servers, "compression.type": codec, "linger.ms": 50})
        for number in range(10):
            place = CODECS.index(codec) * 10 + number
            producer.produce(topic, trade(trade_id=f"{codec}-{number}"), partition=place, headers={"source": codec})
        assert producer.flush(30) == 0
    producer.produce(topic, None, key=b"gone", partition=0)
    assert producer.flush(30) == 0
    kafka_settings = KafkaSettings(bootstrap_servers=servers, topics={"raw_trades": topic}, headers=("raw_trades",))
    given = with_kafka(empty, kafka_settings)
    assert bronze_writer.run(empty.spark, given, ["raw_trades"])[0].counts == {"records": 51}
    found = empty.rows("bronze.raw_trades", "trade_id", "_kafka_partition")
    wanted = {(f"{codec}-{number}", place * 10 + number) for place, codec in enumerate(CODECS) for number in range(10)}
    assert {*found} == {*wanted, (None, 0)}
    kept = empty.spark.table("lake.bronze.raw_trades").selectExpr(
        "left(trade_id, length(trade_id) - 2)", "_kafka_headers.key", "CAST(_kafka_headers[0].value AS STRING)"
    )
    assert {(row[0], *(row[1] or ()), row[2]) for row in kept.collect()} == {
        ("none", "source", "none"), ("gzip", "source", "gzip"), ("snappy", "source", "snappy"),
        ("lz4", "source", "lz4"), ("zstd", "source", "zstd"), (None, None),
    }  # fmt: skip
    assert bronze_writer.run(empty.spark, given, ["raw_trades"])[0].snapshot_id is None


@pytest.mark.soak
def test_of_three_brokers_one_may_die_while_its_records_are_read(
    spark: SparkSession, settings: Settings, tmp_path: Path
) -> None:
    found, java = jars.ensure(["broker"], settings.jar_cache, settings.java), jars.find_java(settings.java)
    with three_brokers(tmp_path / "brokers", java, found["broker"]) as members:
        servers = ",".join(member.bootstrap_servers for member in members)
        lake = Lake.new(spark, servers, tmp_path / "home", ["bronze.raw_trades"])
        lake.create_topics(partitions=6, names=["raw_trades"])
        topic = lake.settings.topic("raw_trades")
        few = lake.settings.ingest.model_copy(update={"max_offsets_per_trigger": 60})
        lake.settings = lake.settings.model_copy(update={"ingest": few})
        told = {**QUIET_CLIENT, "bootstrap.servers": servers, "transactional.id": "desk", "acks": "all"}
        producer = Producer(told)
        producer.init_transactions(30)

        def send(*numbers: int, ends_well: bool = True) -> None:
            producer.begin_transaction()
            for number in numbers:
                producer.produce(topic, trade(trade_id=f"T{number:04}"), partition=number % 6)
            producer.commit_transaction(30) if ends_well else producer.abort_transaction(30)

        send(*range(300))
        send(*range(9000, 9012), ends_well=False)
        dead: list[Thread] = []

        def strike(summary: object) -> None:
            """Behind the first commit one dies that leads a third of the partitions, while the next batch begins."""
            if not dead:
                pid = members[2].pid
                assert pid is not None
                dead.append(Thread(target=os.kill, args=(pid, signal.SIGKILL)))
                dead[0].start()
                send(*range(300, 600))

        lake.bronze("raw_trades", report=strike)
        assert not members[2].running
        lake.bronze("raw_trades")
        assert [row[0] for row in lake.rows("bronze.raw_trades", "trade_id")] == [f"T{n:04}" for n in range(600)]
        members[2].start()
        send(*range(600, 660))
        lake.bronze("raw_trades")
        assert [row[0] for row in lake.rows("bronze.raw_trades", "trade_id")] == [f"T{n:04}" for n in range(660)]
