"""An S3 server: SeaweedFS, which can be killed and begin again on the same ports and data."""

import base64
import json
import signal
import socket
import subprocess
import sys
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pyarrow import fs

from lakehouse_spark.local.loopback import free_port, is_open, wait_for

_SERVICES = ("master.port", "volume.port", "filer.port", "s3.port", "admin.port")
# Its Iceberg catalog takes no name that begins with an underscore: see `rest_catalog`.
_WITHOUT = {"s3.port.iceberg": 0}
_RIGHTS = {
    "lakehouse": ["Admin", "Read", "Write", "List", "Tagging"], "reader": ["Read", "List"], "catalog": ["s3tables:*"],
}  # fmt: skip


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


def _key() -> tuple[str, str]:
    return uuid.uuid4().hex[:20], uuid.uuid4().hex


@dataclass
class ObjectStore:
    """One in this folder, with a bucket `warehouse`, in which `lakehouse` may do all and `reader` may look."""

    folder: Path
    keys: dict[str, tuple[str, str]] = field(default_factory=lambda: {name: _key() for name in ("lakehouse", "reader")})
    """By name, the id of its key and what is secret of it."""
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
        return self.environment_of("lakehouse")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3.port']}"

    def environment_of(self, name: str) -> dict[str, str]:
        key, secret = self.keys[name]
        return {
            "LAKEHOUSE_CATALOG__WAREHOUSE": "s3://warehouse/",
            "LAKEHOUSE_S3__ENDPOINT": self.endpoint,
            "LAKEHOUSE_S3__ACCESS_KEY_ID": key,
            "LAKEHOUSE_S3__SECRET_ACCESS_KEY": secret,
        }

    @property
    def files(self) -> fs.S3FileSystem:
        return self._files()

    def _files(self, attempts: int = 3) -> fs.S3FileSystem:
        return self.files_of(*self.keys["lakehouse"], attempts=attempts)

    def files_of(self, key: str, secret: str, token: str | None = None, attempts: int = 3) -> fs.S3FileSystem:
        """Its files, for who has this key."""
        return fs.S3FileSystem(
            access_key=key,
            secret_key=secret,
            session_token=token,
            endpoint_override=self.endpoint,
            region="us-east-1",
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        )

    def start(self) -> None:
        """It listens before it can write, above all behind a kill."""
        self.folder.mkdir(exist_ok=True)
        identities = self.folder.with_suffix(".json")
        identities.touch(0o600)
        identities.write_text(json.dumps(self._identities))
        command = [
            str(Path(sys.executable).parent / "weed"), "mini", f"-dir={self.folder}", "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1", "-bucket=warehouse", "-webdav=false", "-admin.ui=false", "-master.telemetry=false",
            "-s3.port.lance=0", f"-s3.config={identities}",
            *(f"-{name}={port}" for name, port in {**_WITHOUT, **self.ports}.items()), *self._options(identities),
        ]  # fmt: skip
        with self.folder.with_suffix(".log").open("a") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        if not wait_for(lambda: self._process.poll() is not None or self._writes(), 60):
            self._end(signal.SIGKILL)
            raise AssertionError("the object store never answered")
        assert self._process.poll() is None, "the object store ended"

    @property
    def _identities(self) -> dict[str, Any]:
        return {"identities": [
            {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": _RIGHTS[name]}
            for name, (key, secret) in self.keys.items()
        ]}  # fmt: skip

    def _options(self, identities: Path) -> list[str]:
        return []

    def _writes(self) -> bool:
        if not is_open(self.ports["s3.port"]):
            return False
        with suppress(OSError):
            files = self._files(attempts=1)
            with files.open_output_stream("warehouse/ready") as file:
                file.write(b"ready")
            files.delete_file("warehouse/ready")
            return True
        return False

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        self._process.send_signal(how)
        self._process.wait(60)


ROLE = "arn:aws:iam::role/OfOneTable"
READ_ONLY = "raw_marketdata"
"""A table of bronze to whose files the keys that the catalog gives may not write."""


@dataclass
class VendingStore(ObjectStore):
    """One with its own Iceberg catalog before a bucket `lake`, which gives keys for the files of one table each, for a
    quarter of an hour, to who asks. The key `catalog` may do all there and nothing in the store."""

    def __post_init__(self) -> None:
        self.keys["catalog"] = _key()
        self.ports["s3.port.iceberg"] = free_port()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3.port.iceberg']}"

    @property
    def environment(self) -> dict[str, str]:
        """What puts a lakehouse there, which then has to say who it is; of the store it knows nothing."""
        return {
            "LAKEHOUSE_CATALOG__TYPE": "rest",
            "LAKEHOUSE_CATALOG__URI": self.uri,
            "LAKEHOUSE_CATALOG__WAREHOUSE": "s3://lake/",
        }

    @property
    def _identities(self) -> dict[str, Any]:
        """With the role that the catalog takes on, of which it cuts out one table."""
        trusting = {
            "Effect": "Allow", "Principal": {"Federated": "iceberg-catalog"},
            "Action": ["sts:AssumeRoleWithCredentials"],
        }  # fmt: skip
        allowed = [
            {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]},
            {"Effect": "Deny", "Action": ["s3:Put*"], "Resource": [f"arn:aws:s3:::lake/bronze/{READ_ONLY}/*"]},
        ]
        return {
            **super()._identities,
            "sts": {
                "tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "store",
                "signingKey": base64.b64encode(uuid.uuid4().bytes * 2).decode(),
            },
            "policy": {"defaultEffect": "Deny", "storeType": "memory"},
            "policies": [{"name": "Files", "document": {"Version": "2012-10-17", "Statement": allowed}}],
            "roles": [{
                "roleName": ROLE.rpartition("/")[2], "roleArn": ROLE, "attachedPolicies": ["Files"],
                "trustPolicy": {"Version": "2012-10-17", "Statement": [trusting]},
            }],
        }  # fmt: skip

    def _options(self, identities: Path) -> list[str]:
        return [
            "-tableBucket=lake", f"-s3.iam.config={identities}", f"-s3.iceberg.credentialRole={ROLE}",
            "-s3.iceberg.credentialDurationSeconds=900",
            f"-s3.externalUrl={self.endpoint}",
        ]  # fmt: skip

    def _writes(self) -> bool:
        """The bucket of tables is made last."""
        return super()._writes() and self._files().get_file_info("lake").type == fs.FileType.Directory
