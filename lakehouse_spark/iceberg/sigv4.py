"""A REST catalog whose requests are signed by AWS Signature Version 4: without AWS's client, where the key is given.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from pyiceberg.catalog.rest import RestCatalog
from requests import PreparedRequest, Session
from requests.adapters import HTTPAdapter

from lakehouse_spark.errors import UsageError

_ALGORITHM = "AWS4-HMAC-SHA256"
_PORT = {"http": ":80", "https": ":443"}


@dataclass(frozen=True)
class Key:
    """A key of AWS's or of who signs alike, for requests to one service in one region."""

    id: str
    secret: str
    token: str | None
    region: str
    service: str

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> "Key | None":
        """The key that properties of a catalog hold, as Iceberg names them; None where it is to be found elsewhere."""
        identity, secret = (properties.get(f"rest.{name}") for name in ("access-key-id", "secret-access-key"))
        if not (identity and secret):
            return None
        region = properties.get("rest.signing-region") or properties.get("client.region") or "us-east-1"
        service = properties.get("rest.signing-name", "execute-api")
        return cls(identity, secret, properties.get("rest.session-token"), region, service)

    def headers(self, method: str, url: str, body: bytes, now: datetime) -> dict[str, str]:
        """What a request needs beside its own headers, to be taken for signed at that time."""
        added = {
            "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}",
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            **({"x-amz-security-token": self.token} if self.token else {}),
        }
        return added | {"Authorization": self.authorization(method, url, added)}

    def authorization(self, method: str, url: str, headers: Mapping[str, str]) -> str:
        """The signature of a request, its host and these headers, of which x-amz-date and x-amz-content-sha256 are two
        (the latter: by default of no body)."""
        parts, time = urlsplit(url), headers["x-amz-date"]
        signed = sorted({"host": _host(parts), **headers}.items())
        names = ";".join(name for name, _ in signed)
        query = sorted((quote(n, "-_.~"), quote(v, "-_.~")) for n, v in parse_qsl(parts.query, keep_blank_values=True))
        request = "\n".join((
            method, quote(parts.path or "/", "/-_.~"), "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{value}" for name, value in signed), "", names,
            headers.get("x-amz-content-sha256", hashlib.sha256().hexdigest()),
        ))  # fmt: skip
        scope = f"{time[:8]}/{self.region}/{self.service}/aws4_request"
        text = "\n".join((_ALGORITHM, time, scope, hashlib.sha256(request.encode()).hexdigest()))
        key = f"AWS4{self.secret}".encode()
        for part in (*scope.split("/"), text):
            key = hmac.digest(key, part.encode(), "sha256")
        return f"{_ALGORITHM} Credential={self.id}/{scope}, SignedHeaders={names}, Signature={key.hex()}"


def _host(url: SplitResult) -> str:
    """As the header of that name has it."""
    return url.netloc.rpartition("@")[2].removesuffix(_PORT[url.scheme])


class Signing(HTTPAdapter):
    """Signs what it sends."""

    def __init__(self, key: Key) -> None:
        super().__init__()
        self._key = key

    def add_headers(self, request: PreparedRequest, **given: Any) -> None:
        body = request.body or b""
        content = body.encode() if isinstance(body, str) else body
        if not isinstance(content, bytes):
            raise TypeError(f"a body of {type(content).__name__} cannot be signed")
        request.headers.update(self._key.headers(str(request.method), str(request.url), content, datetime.now(UTC)))


class SignedCatalog(RestCatalog):
    """Signs by a key among its properties; where there is none, it leaves that to PyIceberg, and so to boto3, which
    asks AWS's own chain."""

    def _init_sigv4(self, session: Session) -> None:
        if key := Key.of(self.properties):
            session.mount(self.uri, Signing(key))
            return
        try:
            super()._init_sigv4(session)
        except ImportError:
            raise UsageError(
                "the catalog wants signed requests (sigv4), and LAKEHOUSE_CATALOG__SECRETS has no rest.access-key-id "
                "and rest.secret-access-key",
                "Give these, or install boto3, which asks AWS's own chain: pip install boto3",
            ) from None
