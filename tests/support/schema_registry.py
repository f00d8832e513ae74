"""A stand-in for a schema registry on loopback: the part of Confluent's REST interface that reading needs, with its
codes and bodies; and records as the serializers of its clients frame them."""

import io
import json
import ssl
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fastavro


class Registry(ThreadingHTTPServer):
    """Answers with the schemas that it was given; with `status` alone, where that is not 200."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Answering)
        self.schemas: dict[int, dict[str, Any]] = {}
        self.subjects: dict[tuple[str, int], int] = {}
        self.status = 200
        self.authorization: str | None = None
        self.asked: list[str] = []
        self.was_asked = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(
        self,
        identity: int,
        schema: object,
        references: Sequence[Mapping[str, Any]] = (),
        *,
        subject: str = "",
        kind: str = "AVRO",
    ) -> None:
        """Registers a schema, as the next version of a subject where one is named."""
        held = {"schema": json.dumps(schema), "references": list(references)}
        if kind != "AVRO":  # Confluent's leaves it out of Avro's
            held["schemaType"] = kind
        self.schemas[identity] = {name: value for name, value in held.items() if value}
        if subject:
            version = 1 + max((version for name, version in self.subjects if name == subject), default=0)
            self.subjects[subject, version] = identity


class _Answering(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        status, body = self._answer(self.path.strip("/").split("/"))
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())
        self.server.was_asked.set()

    def _answer(self, path: list[str]) -> tuple[int, dict[str, Any]]:
        server = self.server
        if server.status != 200:
            return server.status, {"error_code": server.status, "message": "as the test wants it"}
        if server.authorization is not None and self.headers["Authorization"] != server.authorization:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        match path:
            case ["schemas", "ids", identity]:
                if int(identity) in server.schemas:
                    return 200, server.schemas[int(identity)]
                return 404, {"error_code": 40403, "message": f"Schema {identity} not found"}
            case ["subjects", subject, "versions", version]:
                found = server.subjects.get((unquote(subject), int(version)))
                if found is None:
                    return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
                named = {"subject": unquote(subject), "version": int(version), "id": found}
                return 200, {**named, **server.schemas[found]}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def log_message(self, *given: object) -> None:
        pass


@contextmanager
def serving(port: int = 0, *, certificate: Path | None = None) -> Iterator[Registry]:
    """A registry on this port of loopback; with a certificate and its key in one file, over TLS."""
    with Registry(port) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def framed(identity: int, payload: bytes) -> bytes:
    return struct.pack(">bI", 0, identity) + payload


def avro(identity: int, schema: object, record: Mapping[str, Any], types: Sequence[object] = ()) -> bytes:
    """A record in Avro, framed; `types` are those that the schema refers to."""
    named: dict[str, Any] = {}
    for each in types:
        fastavro.parse_schema(each, named_schemas=named)  # type: ignore[arg-type]
    parsed = fastavro.parse_schema(schema, named_schemas=named)  # type: ignore[arg-type]
    written = io.BytesIO()
    fastavro.schemaless_writer(written, parsed, dict(record))
    return framed(identity, written.getvalue())
