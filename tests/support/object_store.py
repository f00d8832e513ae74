"""An S3 server: SeaweedFS, which can be killed and begin again on the same ports and data."""

import os
import signal
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from pyarrow import fs

from lakehouse_spark.local.loopback import is_open, wait_for

_SERVICES = ("master.port", "volume.port", "filer.port", "s3.port", "admin.port")


def free_ports(count: int) -> list[int]:
    """Ports whose number plus 10,000 is one too: SeaweedFS speaks gRPC there."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as probe, socket.socket() as beside:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            if port >= 55_000 or port in found:
                continue
            try:
                beside.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            found.append(port)
    return found


@dataclass
class ObjectStore:
    """One in this folder, with a bucket `warehouse`."""

    folder: Path
    secret: str = field(default_factory=lambda: uuid.uuid4().hex)
    ports: dict[str, int] = field(default_factory=lambda: dict(zip(_SERVICES, free_ports(len(_SERVICES)), strict=True)))

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
            "LAKEHOUSE_CATALOG__WAREHOUSE": "s3://warehouse/",
            "LAKEHOUSE_S3__ENDPOINT": f"http://127.0.0.1:{self.ports['s3.port']}",
            "LAKEHOUSE_S3__ACCESS_KEY_ID": "lakehouse",
            "LAKEHOUSE_S3__SECRET_ACCESS_KEY": self.secret,
        }

    @property
    def files(self) -> fs.S3FileSystem:
        return fs.S3FileSystem(
            access_key="lakehouse",
            secret_key=self.secret,
            endpoint_override=self.environment["LAKEHOUSE_S3__ENDPOINT"],
            region="us-east-1",
        )

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        command = [
            str(Path(sys.executable).parent / "weed"), "mini", f"-dir={self.folder}", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", "-bucket=warehouse", "-webdav=false", "-admin.ui=false", "-master.telemetry=false",
            # Its Iceberg catalog takes no name that begins with an underscore: ours is the embedded one.
            "-s3.port.lance=0", "-s3.port.iceberg=0", *(f"-{name}={port}" for name, port in self.ports.items()),
        ]  # fmt: skip
        keys = {"AWS_ACCESS_KEY_ID": "lakehouse", "AWS_SECRET_ACCESS_KEY": self.secret}
        with self.folder.with_suffix(".log").open("a") as log:
            environment = {**os.environ, **keys}
            self._process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)
        if not wait_for(lambda: self._process.poll() is not None or is_open(self.ports["s3.port"]), 60):
            self._end(signal.SIGKILL)
            raise AssertionError("the object store never answered")
        assert self._process.poll() is None, "the object store ended"

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        self._process.send_signal(how)
        self._process.wait(60)
