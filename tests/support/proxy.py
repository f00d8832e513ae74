"""What stands between a client and a server of HTTP on loopback, and makes answers get lost, late, or errors."""

import http.client
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from lakehouse_spark.local.loopback import HOST, free_port


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: bytes


@dataclass(frozen=True)
class Answer:
    """In the place of the server's; it has done what it was asked to, or never heard of it."""

    status: int
    is_done: bool = False
    body: bytes = b""


@dataclass(frozen=True)
class Cut:
    """The line is cut behind what the server did, before it is told."""


@dataclass(frozen=True)
class Late:
    """The server's answer, so much later."""

    seconds: float


Rule = Callable[[Request], Answer | Cut | Late | None]
"""What becomes of a request; None: nothing."""


def undisturbed(request: Request) -> None:
    """Each request is answered as the server does."""


class Proxy:
    """On a port of its own, before the server at another."""

    def __init__(self, server: int) -> None:
        self.server, self.port = server, free_port()
        self.rule: Rule = undisturbed

    def __enter__(self) -> Self:
        self._http = _Server((HOST, self.port), type("Handler", (_Handler,), {"proxy": self}))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients leave as they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: Proxy

    def do_GET(self) -> None:
        _pass(self, self.proxy.server, self.proxy.rule)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *said: Any) -> None:
        """Nobody reads it."""


def _pass(client: BaseHTTPRequestHandler, server: int, rule: Rule) -> None:
    """Passes one request on, and back what is answered: as the client wrote it, for it is signed."""
    body = _body(client)
    fate = rule(Request(client.command, client.path, body))
    if isinstance(fate, Answer) and not fate.is_done:
        _reply(client, fate.status, [], fate.body)
        return
    try:
        status, headers, said = _asked(client, server, body)
    except (OSError, http.client.HTTPException):  # the server is away
        client.close_connection = True
        return
    match fate:
        case Cut():
            client.close_connection = True
            return
        case Answer():
            status, headers, said = fate.status, [], fate.body
        case Late():
            time.sleep(fate.seconds)
    with suppress(OSError):
        _reply(client, status, headers, said)


def _body(client: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in client.headers.get("Transfer-Encoding", ""):
        return client.rfile.read(int(client.headers.get("Content-Length", 0)))
    chunks = []
    while size := int(client.rfile.readline().split(b";")[0], 16):
        chunks.append(client.rfile.read(size))
        client.rfile.readline()
    client.rfile.readline()
    return b"".join(chunks)


def _asked(client: BaseHTTPRequestHandler, server: int, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
    line = http.client.HTTPConnection(HOST, server, timeout=120)
    try:
        line.putrequest(client.command, client.path, skip_host=True, skip_accept_encoding=True)
        for name, value in client.headers.items():
            if name.lower() not in ("expect", "transfer-encoding", "connection", "content-length"):
                line.putheader(name, value)
        if body or client.command in ("POST", "PUT"):
            line.putheader("Content-Length", str(len(body)))
        line.endheaders(body)
        answer = line.getresponse()
        return answer.status, answer.getheaders(), answer.read()
    finally:
        line.close()


def _reply(client: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    client.send_response_only(status)
    told = {name.lower() for name, _ in headers}
    for name, value in headers:
        if name.lower() not in ("transfer-encoding", "connection"):
            client.send_header(name, value)
    if "content-length" not in told and status not in (204, 304):
        client.send_header("Content-Length", str(len(body)))
    client.end_headers()
    if client.command != "HEAD":
        client.wfile.write(body)
