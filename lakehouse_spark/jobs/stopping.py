"""How a job that would go on for ever ends: SIGTERM or Ctrl-C, after the micro-batch under way."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from lakehouse_spark.session import is_submitted

_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 60.0


@contextmanager
def stop_on_signal(spark: SparkSession) -> Iterator[None]:
    """Inside it, SIGTERM and SIGINT end the session's streams instead of the process.

    Under spark-submit the signal reaches the JVM, which then calls back. A micro-batch that takes too long is cut off:
    it leaves no commit, so the next run takes it again.
    """
    asked, left = threading.Event(), threading.Event()
    previous = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    if is_submitted():
        _listen_in_jvm(spark, asked)
    threading.Thread(target=_stop_when_asked, args=(spark, asked, left), daemon=True).start()
    try:
        yield
    finally:
        left.set()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _stop_when_asked(spark: SparkSession, asked: threading.Event, left: threading.Event) -> None:
    asked.wait()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not left.is_set():  # a stream may only now be starting
        for query in spark.streams.active:
            if not _is_busy(query) or time.monotonic() > deadline:
                query.stop()
        left.wait(_POLL_SECONDS)


def _is_busy(query: StreamingQuery) -> bool:
    return bool(query.status["isTriggerActive"])


def _listen_in_jvm(spark: SparkSession, asked: threading.Event) -> None:
    ensure_callback_server_started(spark.sparkContext._gateway)  # type: ignore[no-untyped-call]
    signals = spark.sparkContext._jvm.sun.misc.Signal  # type: ignore[union-attr]
    for name in ("TERM", "INT"):
        signals.handle(signals(name), _Handler(asked))


class _Handler:
    """A sun.misc.SignalHandler."""

    def __init__(self, asked: threading.Event) -> None:
        self._asked = asked

    def handle(self, received: object) -> None:
        self._asked.set()

    class Java:
        implements = ("sun.misc.SignalHandler",)
