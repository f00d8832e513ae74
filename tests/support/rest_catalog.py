"""An Iceberg REST catalog: Iceberg's own server, a JVM on loopback, which can be killed and begin again at the same
address on the same data. Run as a module it derives the lock of its jars anew.

SeaweedFS has one too, which takes no name that begins with an underscore, and so not our `_metadata`.
"""

import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from py4j.java_gateway import GatewayParameters, JavaGateway

from lakehouse_spark import jars
from lakehouse_spark.local.loopback import HOST, free_port
from lakehouse_spark.settings import Settings, load
from tests.support.object_store import ObjectStore

_HERE = Path(__file__).parent
_LOCK = _HERE / "jars.lock"
_JVM = (
    "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Djava.io.tmpdir=.",
    "-Duser.timezone=UTC",
)  # fmt: skip
# By default, clients of S3 try for a minute before they give a store up.
_IMPATIENT = {"s3.retry.num-retries": "1", "s3.retry.min-wait-ms": "100", "s3.retry.max-wait-ms": "200"}


def jars_of(group: str, settings: Settings) -> list[Path]:
    return jars.ensure([group], settings.jar_cache, settings.java, lock=_LOCK)[group]


@dataclass
class RestCatalog:
    """One on an SQLite file in this folder; the tables' files are in a folder of its name in the store's bucket."""

    folder: Path
    java: Path
    class_path: Sequence[Path]
    store: ObjectStore
    port: int = field(default_factory=free_port)

    @classmethod
    def of(cls, settings: Settings, folder: Path, store: ObjectStore) -> "RestCatalog":
        return cls(folder, jars.find_java(settings.java), jars_of("catalog", settings), store)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(signal.SIGTERM)

    @property
    def environment(self) -> dict[str, str]:
        """What puts a lakehouse there."""
        return {
            **self.store.environment,
            "LAKEHOUSE_CATALOG__TYPE": "rest",
            "LAKEHOUSE_CATALOG__URI": f"http://{HOST}:{self.port}",
            "LAKEHOUSE_CATALOG__WAREHOUSE": self._warehouse,
            "LAKEHOUSE_CATALOG__PROPERTIES": json.dumps(_IMPATIENT),
        }

    @property
    def _warehouse(self) -> str:
        return f"s3://warehouse/{self.folder.name}"

    def start(self) -> None:
        """Python tells the JVM what to serve: as a program of its own the server would listen to the whole network."""
        self.folder.mkdir(exist_ok=True)
        (py4j,) = jars.SPARK_JARS.glob("py4j-*.jar")
        class_path = os.pathsep.join(map(str, [py4j, *self.class_path]))
        with self.folder.joinpath("log").open("a") as log:
            self._process = subprocess.Popen(
                [str(self.java), *_JVM, "-cp", class_path, "py4j.GatewayServer", "--die-on-broken-pipe",
                 "--enable-auth", "0"],
                cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        port, token = (self._process.stdout.readline().strip() for _ in range(2))
        assert token, f"the catalog ended: {self.folder / 'log'}"
        reached = GatewayParameters(address=HOST, port=int(port), auth_token=token, auto_convert=True)
        self._gateway = JavaGateway(gateway_parameters=reached)
        self._serve()

    def _serve(self) -> None:
        java: Any = self._gateway.jvm
        iceberg, jetty = java.org.apache.iceberg, java.org.eclipse.jetty
        catalog = iceberg.CatalogUtil.buildIcebergCatalog("lake", self._properties, None)
        servlet = iceberg.rest.RESTCatalogServlet(iceberg.rest.RESTCatalogAdapter(catalog))
        context = jetty.servlet.ServletContextHandler()
        context.addServlet(jetty.servlet.ServletHolder(servlet), "/*")
        server = jetty.server.Server(java.java.net.InetSocketAddress(HOST, self.port))
        server.setHandler(context)
        server.start()

    @property
    def _properties(self) -> dict[str, str]:
        given = self.store.environment
        return {
            "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
            "uri": f"jdbc:sqlite:{self.folder / 'catalog.db'}?journal_mode=WAL&busy_timeout=30000",
            "jdbc.schema-version": "V1",
            "warehouse": self._warehouse,
            "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "client.region": "us-east-1",
            "s3.endpoint": given["LAKEHOUSE_S3__ENDPOINT"],
            "s3.path-style-access": "true",
            "s3.access-key-id": given["LAKEHOUSE_S3__ACCESS_KEY_ID"],
            "s3.secret-access-key": given["LAKEHOUSE_S3__SECRET_ACCESS_KEY"],
            **_IMPATIENT,
        }

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        self._process.send_signal(how)
        self._process.wait(60)
        self._gateway.close()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


if __name__ == "__main__":
    jars.relock(jars.find_java(load().java), _HERE / "jars.direct", _LOCK, own_jvm=["catalog"])
