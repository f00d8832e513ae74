"""A standalone Kafka Connect worker with Iceberg's sink: one JVM, told what to do over REST on loopback."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks import peer_jars
from lakehouse_spark import jars
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.settings import load

_START_SECONDS = 90
# offset.flush.interval.ms: on a topic that has gone quiet the worker wakes its tasks only this often, and only awake do
# they answer the coordinator of a commit. With the default minute, 20,000 records take two.
_WORKER = """\
bootstrap.servers={servers}
listeners=http://127.0.0.1:{port}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
value.converter.schemas.enable=false
offset.storage.file.filename={folder}/offsets
plugin.discovery=service_load
offset.flush.interval.ms=1000
consumer.isolation.level=read_committed
consumer.max.poll.records=20000
consumer.fetch.max.bytes=67108864
consumer.max.partition.fetch.bytes=16777216
consumer.metadata.max.age.ms=10000
"""


class Worker:
    """The worker's process; its connectors come and go by REST."""

    def __init__(self, folder: Path, servers: str) -> None:
        self._folder = folder
        self._servers = servers

    def start(self) -> None:
        """Returns when the worker answers."""
        self._folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}/connectors"
        properties = self._folder / "worker.properties"
        properties.write_text(_WORKER.format(servers=self._servers, port=port, folder=self._folder))
        java = str(jars.find_java(load().java))
        options = [f"-Xmx{load().spark.driver_memory}", "-XX:+UseParallelGC", "-Duser.timezone=UTC"]
        path = os.pathsep.join(map(str, peer_jars.connect()))
        main = ["-cp", path, "org.apache.kafka.connect.cli.ConnectStandalone", str(properties)]
        with (self._folder / "worker.log").open("wb") as log:
            self._process = subprocess.Popen([java, *options, *main], stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._ask("GET", "")
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise LakehouseError(f"Kafka Connect does not start:\n{self._log()}") from None
                time.sleep(0.1)

    def sink(self, home: Path, topic: str, control: str, table: str) -> str:
        """Starts a sink from the beginning of the topic into the table; its name."""
        name = f"sink-{time.monotonic_ns()}"
        config = {
            "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
            "tasks.max": "2",
            "topics": topic,
            "iceberg.tables": table,
            "iceberg.catalog": "lake",
            "iceberg.catalog.type": "jdbc",
            "iceberg.catalog.uri": f"jdbc:sqlite:{home}/catalog.db?busy_timeout=30000",
            "iceberg.catalog.warehouse": (home / "warehouse").as_uri(),
            "iceberg.catalog.jdbc.schema-version": "V1",
            "iceberg.control.topic": control,
            "iceberg.control.commit.interval-ms": "2000",
            "transforms": "place",
            "transforms.place.type": "org.apache.kafka.connect.transforms.InsertField$Value",
            "transforms.place.topic.field": "_kafka_topic",
            "transforms.place.partition.field": "_kafka_partition",
            "transforms.place.offset.field": "_kafka_offset",
        }
        self._ask("POST", "", {"name": name, "config": config})
        return name

    def check(self, name: str) -> None:
        """Raises if the worker or a task of the sink died."""
        if self._process.poll() is not None:
            raise LakehouseError(f"Kafka Connect ended:\n{self._log()}")
        try:
            status = self._ask("GET", f"/{name}/status")
        except urllib.error.HTTPError:
            return  # not known yet
        for task in status["tasks"]:
            if task["state"] == "FAILED":
                raise LakehouseError(f"Kafka Connect: {task.get('trace', '')[:2000]}")

    def remove(self, name: str) -> None:
        self._ask("DELETE", f"/{name}")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def _log(self) -> str:
        return "\n".join((self._folder / "worker.log").read_text(errors="replace").splitlines()[-15:])
