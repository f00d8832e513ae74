"""The values of the metrics in this process, and how Prometheus gets them: over HTTP, or from a file between runs."""

import fcntl
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from lakehouse_spark.errors import UsageError
from lakehouse_spark.metrics.declared import METRICS, OF_WORK, Metric
from lakehouse_spark.settings import MetricsSettings

Series = tuple[Metric, tuple[str, ...]]
"""A metric with a value for each of its labels."""
TEXTFILE = "lakehouse.prom"


class Values(Collector):
    """What each series is at now; any thread may change it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[Series, float] = {}
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        with self._lock:
            self._values[_series(metric, labels)] = value

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        with self._lock:
            series = _series(metric, labels)
            self._values[series] = self._values.get(series, 0) + amount

    def replace(self, metrics: Iterable[Metric], values: Mapping[Series, float]) -> None:
        """Of these metrics, there are these series and no others any more."""
        of_these = {*metrics}
        with self._lock:
            kept = {series: value for series, value in self._values.items() if series[0] not in of_these}
            self._values = {**kept, **values}

    def snapshot(self) -> Mapping[Series, float]:
        with self._lock:
            return dict(self._values)

    def collect(self) -> Iterator[Family]:
        values = self.snapshot()
        for metric in METRICS.values():
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=metric.labels)
            for (of, labels), value in values.items():
                if of is metric:
                    family.add_metric(labels, value)
            if family.samples:
                yield family

    def carry_on(self, before: Mapping[Series, float]) -> None:
        """Goes on from the values of an earlier process: work adds up, and what this one does not know stays."""
        with self._lock:
            for series, value in before.items():
                if series[0].kind == "counter" and series[0] in OF_WORK:
                    self._values[series] = self._values.get(series, 0) + value
                else:
                    self._values.setdefault(series, value)


def _series(metric: Metric, labels: tuple[str, ...]) -> Series:
    assert len(labels) == len(metric.labels), metric.name
    return metric, labels


def serve(values: Values, settings: MetricsSettings) -> WSGIServer:
    """Answers at the port of the settings until it is shut down; UsageError where that cannot be had."""
    assert settings.port is not None
    try:
        server, _ = start_http_server(settings.port, settings.address, values.registry)
    except OSError as error:
        raise UsageError(
            f"metrics: {settings.address}:{settings.port} cannot be listened on: {error.strerror}",
            "Name another port in LAKEHOUSE_METRICS__PORT",
        ) from None
    return server


def write(values: Values, folder: Path) -> Path:
    """Replaces the textfile in the folder, which goes on from what it said before; one run after another does."""
    file = folder.expanduser() / TEXTFILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with _alone(file.with_name(f".{TEXTFILE}.lock")):
        values.carry_on(_read(file))
        write_to_textfile(str(file), values.registry)
        file.chmod(0o644)  # for node-exporter, which is another user
    return file


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _read(file: Path) -> dict[Series, float]:
    """The values of the metrics that this release has; none where the file is missing or no textfile."""
    try:
        families = [*text_string_to_metric_families(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        return {}
    found: dict[Series, float] = {}
    for sample in (sample for family in families for sample in family.samples):
        metric = METRICS.get(sample.name)
        if metric is not None and {*metric.labels} == {*sample.labels}:
            found[metric, tuple(sample.labels[name] for name in metric.labels)] = sample.value
    return found
