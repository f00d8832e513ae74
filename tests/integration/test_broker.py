"""The embedded broker, real: its jars come from the cache (LAKEHOUSE_CACHE, else the user's)."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.jars import ensure, find_java
from lakehouse_spark.local import loopback
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.topics import create_topics

QUIET = {"log_level": 0, "error_cb": lambda error: None}


@pytest.fixture(scope="module")
def java() -> Path:
    return find_java(os.environ.get("JAVA_HOME"))


@pytest.fixture(scope="module")
def broker_jars() -> list[Path]:
    cache = os.environ.get("LAKEHOUSE_CACHE") or Path.home() / ".cache" / "lakehouse-spark"
    return ensure(["broker"], Path(cache), os.environ.get("JAVA_HOME"))["broker"]


@pytest.fixture
def broker(tmp_path: Path, java: Path, broker_jars: list[Path]) -> Iterator[Broker]:
    found = Broker(tmp_path / "a home, with = signs", java, broker_jars)
    yield found
    found.stop()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


def produce(bootstrap_servers: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({**QUIET, "bootstrap.servers": bootstrap_servers, "message.max.bytes": 20_000_000})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def consume(bootstrap_servers: str, topic: str, count: int) -> list[bytes]:
    options = {**QUIET, "bootstrap.servers": bootstrap_servers, "group.id": "test", "auto.offset.reset": "earliest"}
    consumer = Consumer(options)
    consumer.subscribe([topic])
    found: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(count, timeout=0.5):
            assert message.error() is None
            found.append(message.value())
    consumer.close()
    return found


def kill(broker: Broker) -> int:
    pid = broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


def test_what_is_produced_is_consumed_also_after_a_kill_and_a_restart_on_the_same_port(broker: Broker) -> None:
    servers = broker.start()
    assert create_topics(servers, {"trades": 1, "orders": 3}) == ["trades", "orders"]
    assert create_topics(servers, {"trades": 1, "orders": 3, "quotes": 2}) == ["quotes"]
    produce(servers, "trades", [b"one", b"two"])

    killed = kill(broker)
    assert broker.start() == servers
    assert broker.pid not in (None, killed)
    produce(servers, "trades", [b"three", b"x" * 15_000_000])

    assert consume(servers, "trades", 4) == [b"one", b"two", b"three", b"x" * 15_000_000]
    topics = AdminClient({**QUIET, "bootstrap.servers": servers}).list_topics(timeout=10).topics
    assert {name: len(topics[name].partitions) for name in ("trades", "orders", "quotes")} == {
        "trades": 1,
        "orders": 3,
        "quotes": 2,
    }


def test_handles_share_one_broker_and_only_the_one_that_started_it_ends_it_on_leaving(
    broker: Broker, tmp_path: Path, java: Path, broker_jars: list[Path]
) -> None:
    other = Broker(broker.folder.parent, java, broker_jars)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda handle: handle.start(), (broker, other))
    assert first == second == broker.bootstrap_servers
    pid = broker.pid

    with Broker(broker.folder.parent, java, broker_jars) as guest:
        assert guest.pid == pid
    assert broker.pid == pid

    other.stop()
    assert not broker.running
    with pytest.raises(LakehouseError, match="start it first"):
        _ = broker.bootstrap_servers

    with broker:
        assert broker.bootstrap_servers == first
    assert not broker.running


def test_a_broker_that_others_use_ends_with_the_last_of_them_when_the_one_that_started_it_has_left(
    broker: Broker, java: Path, broker_jars: list[Path]
) -> None:
    first, second, third = (Broker(broker.folder.parent, java, broker_jars) for _ in range(3))
    for each in (first, second, third):
        each.start()
    pid = broker.pid

    for each in (first, third):
        each.__exit__(None, None, None)
        assert broker.pid == pid
    second.__exit__(None, None, None)
    assert not broker.running


def test_the_process_of_a_stranger_is_never_taken_for_the_broker(
    broker: Broker, stranger: subprocess.Popen[bytes]
) -> None:
    broker.folder.mkdir(parents=True)
    state = {"token": "lakehouse-broker-of-another-day", "port": 20_000, "controller_port": 20_001}
    (broker.folder / "state.json").write_text(json.dumps(state))
    (broker.folder / "broker.pid").write_text(f"{stranger.pid}\n")

    assert not broker.running
    broker.stop()
    assert stranger.poll() is None


def test_a_recycled_pid_survives_restart_and_stop(broker: Broker, stranger: subprocess.Popen[bytes]) -> None:
    servers = broker.start()
    kill(broker)
    (broker.folder / "broker.pid").write_text(f"{stranger.pid}\n")

    assert not broker.running
    assert broker.start() == servers
    assert broker.pid != stranger.pid
    broker.stop()
    assert not broker.running
    assert stranger.poll() is None


def test_a_broker_without_a_command_line_for_a_moment_runs(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while the shell becomes Java, on a busy machine."""
    broker.start()
    read, asked = loopback._read, []

    def late(path: str) -> str:
        if not path.endswith("/cmdline"):
            return read(path)
        asked.append(path)
        return read(path) if len(asked) > 3 else ""

    monkeypatch.setattr(loopback, "_read", late)

    assert broker.running
    assert len(asked) == 4


def test_a_dead_broker_that_nobody_reaped_does_not_run(broker: Broker, stranger: subprocess.Popen[bytes]) -> None:
    broker.folder.mkdir(parents=True)
    state = {"token": "sleep", "port": 20_000, "controller_port": 20_001}
    (broker.folder / "state.json").write_text(json.dumps(state))
    (broker.folder / "broker.pid").write_text(f"{stranger.pid}\n")
    assert broker.running
    stranger.kill()
    os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)

    assert not broker.running


def test_a_stopped_broker_that_is_stopped_again_is_no_error(broker: Broker) -> None:
    broker.stop()
    broker.stop()


def test_a_broker_that_cannot_start_shows_the_end_of_its_log(broker: Broker) -> None:
    broker.start()
    broker.stop()
    (broker.folder / "data" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=other\n")

    with pytest.raises(LakehouseError, match=r"(?s)ended while it started.*Stored node id 7"):
        broker.start()


def test_a_storage_that_cannot_be_formatted_is_tried_again_next_time(
    broker: Broker, tmp_path: Path, java: Path
) -> None:
    with pytest.raises(LakehouseError, match="could not be formatted"):
        Broker(broker.folder.parent, java, []).start()

    assert broker.start() == broker.bootstrap_servers
