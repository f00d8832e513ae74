"""A real HTTP server on loopback, which takes what is posted to it, or does not."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """It answers with `status` once it `may_answer`, and keeps what it took with 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.posted: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.has_taken = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"{self.base}/hook?key=hush-hush"


class _Taking(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        posted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.paths.append(self.path)
        self.server.headers.append(dict(self.headers))
        self.server.has_taken.set()
        self.server.may_answer.wait(30)
        if self.server.status == 200:
            self.server.posted.append(posted)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *given: object) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.may_answer.set()
        server.shutdown()
        thread.join()
