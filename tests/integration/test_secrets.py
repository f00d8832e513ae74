"""Canaries in the place of every secret there is: whatever jobs write, show or start, none of them is found in it.

On an object store and a REST catalog, through commands in processes of their own. That a server is sent its own keys is
what they are for; what servers write of themselves is not looked at.
"""

import base64
import io
import json
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer
from pyarrow import fs
from pydantic import BaseModel
from pyiceberg.avro.file import AvroFile
from pyiceberg.typedef import Record

from lakehouse_spark import jars
from lakehouse_spark.catalog import TOPICS
from lakehouse_spark.iceberg import avro
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.loopback import HOST, free_port
from lakehouse_spark.local.topics import create_topics
from lakehouse_spark.settings import Settings
from tests.support import processes
from tests.support.lake import bar, book, trade
from tests.support.object_store import ObjectStore
from tests.support.receiver import Receiver, receiving
from tests.support.rest_catalog import RestCatalog
from tests.support.shell import LAKEHOUSE, Done, Shell, finished

CANARY = "c4n4ry"
"""What all of them begin with."""
KAFKA = {
    "sasl.jaas.config": 'org.apache.kafka.common.security.plain.PlainLoginModule required username="u" '
    f'password="{CANARY}-jaas";',
    "ssl.truststore.password": f"{CANARY}-truststore",
}
MOUNTED: Mapping[str, Mapping[str, Any]] = {
    "S3": {"secret_access_key": f"{CANARY}-secret-key"},
    "KAFKA": {"secrets": KAFKA},
    "CATALOG": {"secrets": {"header.X-Api-Key": f"{CANARY}-api-key"}, "credential": f"reader:{CANARY}-credential"},
    "REGISTRY": {"credential": f"reader:{CANARY}-of-the-registry"},
}
IN_ENVIRONMENT = {
    "S3__ACCESS_KEY_ID": f"{CANARY}-key-id",
    "CATALOG__TOKEN": f"{CANARY}-token",
    "REGISTRY__TOKEN": f"{CANARY}-registry-token",
    "ALERTS__WEBHOOK_URL": f"{{hook}}/{CANARY}-hook?key={CANARY}-hook-key",
    "OPENLINEAGE__URL": f"{{hook}}/{CANARY}-lineage",
    "OPENLINEAGE__API_KEY": f"{CANARY}-lineage-key",
}
STORE = {"lakehouse": (IN_ENVIRONMENT["S3__ACCESS_KEY_ID"], MOUNTED["S3"]["secret_access_key"]), "reader": ("r", "s")}


def secret_settings(part: type[BaseModel], name: str = "") -> Iterator[str]:
    """The names of all settings that are secret, as the environment has them."""
    for own, info in part.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from secret_settings(kind, f"{name}{own.upper()}__")
        elif "SecretStr" in str(kind):
            yield f"{name}{own.upper()}"


def spellings(secret: str) -> list[bytes]:
    """As it is, and however the letters of Base64 fall on it."""
    shifted = (base64.b64encode(b"\0" * by + secret.encode())[4:-4] for by in range(3))
    return [secret.encode(), secret[::-1].encode(), *shifted]


MARKS = spellings(CANARY + "-")


def hits(where: str, content: bytes) -> list[str]:
    return [f"{where}: …{bytes(content)[max(0, at - 80) : at + 60]!r}…" for mark in MARKS
            if len(mark) >= 4 and (at := content.find(mark)) >= 0]  # fmt: skip


@dataclass
class Watched:
    """A lakehouse all of whose secrets are canaries, and what its commands said and showed of themselves."""

    shell: Shell
    environment: Mapping[str, str]
    store: ObjectStore
    folder: Path
    arguments: set[tuple[str, ...]] = field(default_factory=set)
    said: list[tuple[str, str]] = field(default_factory=list)

    def run(self, *words: str, **environment: str) -> Done:
        with self._watching(), self.shell.start(LAKEHOUSE, *words, **{**self.environment, **environment}) as process:
            done = finished(process)
        self._note(words, done)
        return done

    def live(self, *words: str) -> Done:
        """Until the first beat has ended and the webhook was tried."""
        with self._watching(), self.shell.start(LAKEHOUSE, *words, **self.environment) as process:
            assert process.stdout is not None
            first = next(line for line in process.stdout if '"beat"' in line)
            process.send_signal(signal.SIGTERM)
            done = finished(process)
        self._note(words, Done(done.code, [first, *done.lines], done.complaints))
        return done

    def _note(self, words: Iterable[str], done: Done) -> None:
        self.said.append((" ".join(words), "\n".join([*done.lines, *done.complaints])))

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Keeps the command lines of all processes of this lakehouse while they run."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                self.arguments |= {each.arguments for each in processes.of(f"LAKEHOUSE_HOME={self.shell.home}")}

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def found(self) -> list[str]:
        """Every place where a canary is."""
        found = [hit for words, said in self.said for hit in hits(words, said.encode())]
        found += [hit for arguments in self.arguments for hit in hits("argv", "\0".join(arguments).encode())]
        for path in self.folder.rglob("*"):
            if path.is_file():
                found += hits(str(path), path.read_bytes())
        for name, content in self.objects():
            found += hits(name, content)
        return found

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """All that is in the bucket, unpacked."""
        files = self.store.files
        for each in files.get_file_info(fs.FileSelector("warehouse", recursive=True)):
            if each.is_file:
                with files.open_input_stream(each.path) as file:
                    yield each.path, unpacked(each.path, file.read())


def unpacked(name: str, content: bytes) -> bytes:
    if name.endswith(".parquet"):
        file = pq.ParquetFile(io.BytesIO(content))
        return repr((file.schema_arrow.metadata, file.read().to_pylist())).encode()
    if name.endswith(".avro"):
        with AvroFile[Record](avro._Held(name, content)) as file:
            return repr((file.header.meta, [*file])).encode()
    return content


def mount(folder: Path) -> None:
    folder.mkdir()
    for section, secrets in MOUNTED.items():
        (folder / f"LAKEHOUSE_{section}").write_text(json.dumps(secrets))


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    """It takes nothing, which is complained of."""
    with receiving() as receiver:
        receiver.status = 500
        yield receiver


@pytest.fixture(scope="module")
def watched(
    broker: Broker, settings: Settings, hook: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    jars.ensure(["spark", "s3"], settings.jar_cache, settings.java)
    place = tmp_path_factory.mktemp("secrets")
    written = place / "written"
    (written / "events").mkdir(parents=True)
    (written / "tmp").mkdir()
    mount(place / "mounted")
    shell = Shell(broker.bootstrap_servers, written / "home", settings.jar_cache)
    create_topics(broker.bootstrap_servers, {f"canary_{name}": 1 for name in TOPICS})
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for topic, value in (("raw_trades", trade()), ("raw_trades", b"{"), ("raw_orderbook", book()),
                         ("raw_marketdata", bar())):  # fmt: skip
        producer.produce(f"canary_{topic}", value=value)
    assert producer.flush(30) == 0
    with ObjectStore(place / "store", STORE) as store, RestCatalog.of(settings, place / "lake", store) as catalog:
        given = {name: value for name, value in catalog.environment.items() if "SECRET_ACCESS" not in name}
        environment = {
            **given,
            "LAKEHOUSE_SECRETS_DIR": str(place / "mounted"),
            **{f"LAKEHOUSE_{name}": value.format(hook=hook.base) for name, value in IN_ENVIRONMENT.items()},
            "LAKEHOUSE_ALERTS__LAG_SECONDS": "0.000001",
            "LAKEHOUSE_OPENLINEAGE__FILE": str(written / "lineage.json"),
            "LAKEHOUSE_KAFKA__TOPICS": json.dumps({name: f"canary_{name}" for name in TOPICS}),
            "LAKEHOUSE_METRICS__TEXTFILE_DIR": str(written / "metrics"),
            "LAKEHOUSE_METRICS__REFRESH_SECONDS": "1",
            "LAKEHOUSE_LOG__FORMAT": "json",
            "LAKEHOUSE_SPARK__CONF": json.dumps({
                "spark.eventLog.enabled": "true", "spark.eventLog.compress": "false",
                "spark.eventLog.dir": (written / "events").as_uri(),
            }),
            "TMPDIR": str(written / "tmp"),
        }  # fmt: skip
        yield Watched(shell, environment, store, written)


def test_there_is_a_canary_for_every_secret() -> None:
    mounted = {f"{section}__{name.upper()}" for section, names in MOUNTED.items() for name in names}
    assert {*secret_settings(Settings)} == mounted | {*IN_ENVIRONMENT}


WELL = (
    ("status",), ("status", "--json"), ("rejected", "list"), ("report",), ("doctor",), ("plan",), ("verify",),
    ("query", "SELECT count(*) FROM silver.trades", "--engine", "spark"), ("run", "maintenance"),
)  # fmt: skip


@pytest.mark.soak
def test_no_secret_is_in_what_is_written_or_shown(watched: Watched, hook: Receiver) -> None:
    well = [watched.run("migrate"), watched.run("run", "pipeline"), watched.live("run", "pipeline", "--every", "1s")]
    well += [watched.run(*words) for words in WELL]
    nobody = f"http://{HOST}:{free_port()}"
    broken = [
        {"LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS": nobody.removeprefix("http://")},
        {"LAKEHOUSE_S3__ACCESS_KEY_ID": f"{CANARY}-strangers-key-id"},
        {"LAKEHOUSE_CATALOG__URI": f"{nobody}/{CANARY}-token/"},
        {"LAKEHOUSE_CATALOG__PROPERTIES": '{"io-impl": "no.such.Class"}'},
        {"LAKEHOUSE_KAFKA__OPTIONS": '{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}'},
    ]
    failed = [watched.run("run", "bronze_writer", LAKEHOUSE_DEBUG="true", **changes) for changes in broken]
    well.append(watched.run("status"))
    unwell = [watched.run("doctor", **changes) for changes in broken[:3]]

    assert watched.found() == []
    assert [done for done in well if done.code] == []
    assert [done for done in failed if done.code not in (1, 2)] == []
    assert [done for done in unwell if done.code != 1] == []
    assert hook.paths, "the webhook and the server of lineage were never asked"
    assert any("org.apache.spark" in " ".join(arguments) for arguments in watched.arguments)
    assert {path.name for path in watched.folder.iterdir()} >= {"home", "events", "lineage.json", "metrics"}
    events = [path.read_bytes() for path in (watched.folder / "events").rglob("*") if path.is_file()]
    assert any(b"*********(redacted)" in each for each in events)


def test_what_is_looked_for_would_be_found() -> None:
    assert hits("a", f"x{CANARY}-tokeny".encode()) != []
    for before in ("", "a", "ab", "abc:"):
        assert hits("b", base64.b64encode(f"{before}{CANARY}-token".encode())) != []
    assert hits("c", b"x***y") == []
