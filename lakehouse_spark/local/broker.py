"""The embedded broker: a real Kafka in KRaft mode, one JVM on loopback, its data under the lakehouse's home."""

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from lakehouse_spark import jars
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.local.loopback import HOST, POLL_SECONDS, command_line, free_port, is_free, is_open, wait_for
from lakehouse_spark.local.topics import QUIET_CLIENT, create_topics
from lakehouse_spark.settings import Settings

START_SECONDS = 60.0
STOP_SECONDS = 15.0
_PARTITIONS = 3
_JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Djava.io.tmpdir=tmp",
    "-Dlog4j2.configurationFile=log4j2.properties",
)
# Paths are relative to the broker's folder, its working directory: no home, however named, needs escaping.
# After a kill the controller waits one session until it takes the same broker back: 3 s instead of Kafka's 9.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=data
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
message.max.bytes=20971520
log.retention.ms=-1
log.retention.bytes=-1
log.cleaner.dedupe.buffer.size=8388608
"""
_LOGGING = """\
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSS} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""
# The broker is no child of ours: it outlives us, and leaves no zombie when it dies. The shell, which cannot be
# interrupted between the two, records its pid.
_LAUNCH = '"$@" </dev/null >broker.log 2>&1 & echo $! >broker.pid'


@dataclass(frozen=True)
class _State:
    """How to find the broker again. `token` stands in its command line: a pid proves nothing, it may be another's."""

    token: str
    port: int
    controller_port: int


class Broker:
    """The broker of one home. Objects are handles: any process's handle finds, reuses or stops the same broker."""

    def __init__(self, home: Path, java: Path, jars: Sequence[Path]) -> None:
        self.folder = home.absolute() / "kafka"
        self.log = self.folder / "broker.log"
        self._java = java.absolute()
        self._jars = [jar.absolute() for jar in jars]
        self._started_here = False
        self._use: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the broker unless it was already there. While others use it, it is left to the last of them to stop."""
        with self._exclusive():
            if self._started_here:
                self._is_left.touch()
                self._started_here = False
            if self._is_left.exists() and self._nobody_else_uses_it():
                self._stop()
            self._end_use()

    @property
    def pid(self) -> int | None:
        """The broker's process id; None unless a process runs that is provably this broker."""
        state = self._read_state()
        with suppress(OSError, ValueError):
            pid = int((self.folder / "broker.pid").read_text(encoding="ascii"))
            if state and state.token in command_line(pid):
                return pid
        return None

    @property
    def running(self) -> bool:
        return self.pid is not None

    @property
    def bootstrap_servers(self) -> str:
        state = self._read_state()
        if state is None or not self.running:
            raise LakehouseError(f"broker: none runs in {self.folder}; start it first")
        return f"{HOST}:{state.port}"

    def start(self) -> str:
        """Returns the bootstrap servers of a broker that answers: the one that runs, else a new one on the same data.

        A restart takes the port of the last run if it is still free, so that clients find the broker again.
        """
        with self._exclusive():
            self._begin_use()
            state = self._read_state()
            if state and self.running and self._answers(state):
                return self.bootstrap_servers
            if not self.running:  # also one that was killed a moment ago and still looked alive
                self._format()
                state = self._launch(state)
                self._started_here = True
                if self._answers(state):
                    return self.bootstrap_servers
            self._end_use()
            raise self._failure()

    def stop(self) -> None:
        """Ends the broker: asks, waits, then kills. Never touches a process that is not provably this broker."""
        with self._exclusive():
            self._stop()
            self._end_use()
            self._started_here = False

    def _stop(self) -> None:
        for how, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            pid = self.pid
            if pid is None:
                break
            with suppress(ProcessLookupError):
                os.kill(pid, how)
            if wait_for(lambda: not self.running, seconds):
                break
        else:
            raise LakehouseError(f"broker: process {self.pid} does not end; see {self.log}")
        (self.folder / "broker.pid").unlink(missing_ok=True)

    @property
    def _is_left(self) -> Path:
        """A file that is there once the one that started the broker has left while others used it."""
        return self.folder / "left"

    def _begin_use(self) -> None:
        """Shares the lock of a file with all that use the broker; the system takes it from those that die."""
        if self._use is None:
            self._use = os.open(self.folder / "users", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._use, fcntl.LOCK_SH)

    def _end_use(self) -> None:
        if self._use is not None:
            os.close(self._use)
            self._use = None

    def _nobody_else_uses_it(self) -> bool:
        if self._use is None:
            return False
        try:
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _launch(self, last: _State | None) -> _State:
        # A process that just died gives up its command line, which `running` reads, before its sockets.
        kept = last is not None and wait_for(lambda: is_free(last.port), 2)
        port = last.port if last and kept else free_port()
        state = _State(f"lakehouse-broker-{uuid.uuid4()}", port, free_port(besides=port))
        self._configure(self.folder, state)
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)  # native libraries that a killed broker left
        (self.folder / "tmp").mkdir()
        self._is_left.unlink(missing_ok=True)
        if self.log.exists():
            self.log.replace(self.folder / "broker.log.1")
        _write_whole(self.folder / "state.json", json.dumps(asdict(state)))
        java = [*self._command(f"-Dlakehouse.broker={state.token}"), "kafka.Kafka", "server.properties"]
        subprocess.run(["/bin/sh", "-c", _LAUNCH, "sh", *java], cwd=self.folder, start_new_session=True, check=True)
        return state

    def _format(self) -> None:
        """Makes the data folder once, in whole: formatted aside, then renamed."""
        if (self.folder / "data").exists():
            return
        aside = self.folder / "formatting"
        shutil.rmtree(aside, ignore_errors=True)
        (aside / "tmp").mkdir(parents=True)
        self._configure(aside, _State("", 1, 2))
        tool = ["kafka.tools.StorageTool", "format", "-t", _new_cluster_id(), "-c", "server.properties"]
        done = subprocess.run(
            [*self._command(), *tool], cwd=aside, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise LakehouseError(f"broker: its storage could not be formatted:\n{_tail(done.stdout + done.stderr)}")
        (aside / "data").rename(self.folder / "data")
        shutil.rmtree(aside)

    def _command(self, *options: str) -> list[str]:
        return [str(self._java), *options, *_JVM, "-cp", os.pathsep.join(map(str, self._jars))]

    def _configure(self, folder: Path, state: _State) -> None:
        properties = _PROPERTIES.format(host=HOST, port=state.port, controller_port=state.controller_port)
        _write_whole(folder / "server.properties", properties)
        _write_whole(folder / "log4j2.properties", _LOGGING)

    def _answers(self, state: _State) -> bool:
        """Waits until the broker serves metadata; False if it ends before or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        port = state.port
        # A client that meets a closed port backs off, so first the port itself is asked.
        wait_for(lambda: not self.running or is_open(port), START_SECONDS)
        client = AdminClient({**QUIET_CLIENT, "bootstrap.servers": f"{HOST}:{port}"})
        while self.running and time.monotonic() < deadline:
            with suppress(KafkaException):
                if any(broker.port == port for broker in client.list_topics(timeout=1).brokers.values()):
                    return True
            time.sleep(POLL_SECONDS)
        return False

    def _failure(self) -> LakehouseError:
        what = f"does not answer after {START_SECONDS:.0f} s" if self.running else "ended while it started"
        log = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return LakehouseError(f"broker: {what} ({self.folder}). The end of its log:\n{_tail(log)}")

    def _read_state(self) -> _State | None:
        try:
            return _State(**json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One process starts or stops the broker at a time; the system releases the lock of one that dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


@contextmanager
def serving(
    settings: Settings, topics: Iterable[str], announce: Callable[[str], None] = lambda message: None
) -> Iterator[Settings]:
    """Settings with a broker to talk to: the configured one, else, in the local profile, the embedded one of this home
    with the topics of these bronze tables; it is stopped in the end if it was started here."""
    if settings.kafka.bootstrap_servers or settings.profile != "local":
        yield settings
        return
    java = jars.find_java(settings.java)
    found = jars.ensure(["broker"], settings.jar_cache, settings.java, announce=announce)
    with Broker(settings.root, java, found["broker"]) as embedded:
        servers = embedded.bootstrap_servers
        create_topics(servers, {settings.topic(table): _PARTITIONS for table in topics})
        connected = settings.kafka.model_copy(update={"bootstrap_servers": servers})
        yield settings.model_copy(update={"kafka": connected})


def _new_cluster_id() -> str:
    """Kafka's form of a UUID; it must not look like an option."""
    while True:
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not name.startswith("-"):
            return name


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-20:]) or "(empty)"


def _write_whole(path: Path, text: str) -> None:
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
