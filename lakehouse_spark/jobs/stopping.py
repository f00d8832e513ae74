"""How a job that would go on for ever is asked to end: by SIGTERM or Ctrl-C."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

from lakehouse_spark.lake.session import is_submitted


@contextmanager
def asked_by_signal(spark: SparkSession) -> Iterator[threading.Event]:
    """Inside it, the first SIGTERM or SIGINT sets the event instead of ending the process; the second ends it at once.

    Under spark-submit the signal reaches the JVM, which then calls back.
    """
    asked = threading.Event()

    def ask(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    if is_submitted():
        _listen_in_jvm(spark, asked)
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
        if self._asked.is_set():
            os._exit(130)  # no exception of this thread would end the process
        self._asked.set()

    class Java:
        implements = ("sun.misc.SignalHandler",)
