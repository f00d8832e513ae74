"""OpenLineage: an event for each commit, with what the table is made of and what it looks like, to a file or by HTTP.

What goes into a table is what declarations say. Of columns they say where silver's come from in bronze, and the keys of
facts in the dimensions; of the others nothing is claimed.
"""

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakehouse_spark import __version__
from lakehouse_spark.catalog import BY_NAME, FACTS, FEEDS, TOPICS
from lakehouse_spark.errors import UsageError
from lakehouse_spark.lake import commit
from lakehouse_spark.lake.commit import Commit
from lakehouse_spark.lake.log import ERROR
from lakehouse_spark.lake.session import complain
from lakehouse_spark.settings import Settings
from lakehouse_spark.silver.feed import PLACE
from lakehouse_spark.table import Table

if TYPE_CHECKING:  # it is an extra
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

JOBS = "lakehouse-spark"
"""The namespace of the jobs, each of which is named for the table that it brings up to date."""
_WAITING = 1_000
"""Events that wait at most: with more, the newest are left out."""
_SECONDS = 5.0
"""How long a server may take for an event, and the end of a job for those that wait."""
_FROM_BRONZE = {
    **dict(zip(PLACE, ("_kafka_topic", "_kafka_partition", "_kafka_offset"), strict=True)),
    "_ingested_at": "_ingested_at",
}

Column = tuple[str, str]
"""A table and a column of it."""


@contextmanager
def telling(settings: Settings) -> Iterator[None]:
    """Tells of every commit made inside it, as far as the settings ask for it, from a thread of its own."""
    if not (settings.openlineage.file or settings.openlineage.url):
        yield
        return
    teller = _Teller(settings)
    with closing(teller), commit.heard_by(teller.committed):
        yield


def columns_of(table: Table) -> Mapping[str, Column]:
    """Of which column another is made, as far as declarations say so."""
    for feed in FEEDS.values():
        if feed.table is table:
            sources = {name: _FROM_BRONZE.get(name, "raw_payload") for name in table.column_names}
            known = (name for name in sources if name in _FROM_BRONZE or not name.startswith("_"))
            return {name: (feed.topic.table.name, sources[name]) for name in known}
    for fact in FACTS.values():
        if fact.table is table:
            keys = {each.surrogate_key: each.table.name for each in fact.references.values()}
            return {key: (of, key) for key, of in keys.items() if key in table.column_names}
    return {}


def event_of(done: Commit, settings: Settings) -> "RunEvent":
    """What a commit did, as OpenLineage says it."""
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
    from openlineage.client.uuid import generate_new_uuid

    table = BY_NAME[done.table]
    return RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        run=Run(runId=str(generate_new_uuid())),
        job=Job(namespace=JOBS, name=table.name),
        eventType=RunState.COMPLETE,
        producer=f"lakehouse-spark/{__version__}",
        inputs=[*_inputs(table, settings)],
        outputs=[_output(done, table, settings)],
    )


def _inputs(table: Table, settings: Settings) -> "Iterator[InputDataset]":
    from openlineage.client.event_v2 import InputDataset

    for name, topic in TOPICS.items():
        if topic.table is table:
            servers = settings.kafka.bootstrap_servers or ""
            yield InputDataset(namespace=f"kafka://{servers.partition(',')[0]}", name=settings.topic(name))
    for source in table.sources:
        yield InputDataset(namespace=_namespace(settings), name=source)


def _output(done: Commit, table: Table, settings: Settings) -> "OutputDataset":
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import (
        column_lineage_dataset,
        dataset_version_dataset,
        output_statistics_output_dataset,
        schema_dataset,
    )

    namespace = _namespace(settings)
    columns = [
        schema_dataset.SchemaDatasetFacetFields(c.name, c.dataType.simpleString(), c.metadata.get("comment"))
        for c in table.columns
    ]
    facets: dict[str, Any] = {"schema": schema_dataset.SchemaDatasetFacet(fields=columns)}
    if done.state is not None:
        version = str(done.state.snapshot_id)
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=version)
    if made_of := columns_of(table):
        fields = {
            name: column_lineage_dataset.Fields(
                inputFields=[column_lineage_dataset.InputField(namespace=namespace, name=of, field=column)]
            )
            for name, (of, column) in made_of.items()
        }
        facets["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields)
    added = done.added
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=added.get("records"), size=added.get("files-size"), fileCount=added.get("data-files")
    )
    of_output: dict[str, Any] = {"outputStatistics": statistics}
    return OutputDataset(namespace=namespace, name=table.name, facets=facets, outputFacets=of_output)


def _namespace(settings: Settings) -> str:
    return settings.warehouse.rstrip("/")


class _Teller:
    """Hands events on, one after the other; a commit never waits for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._clients = settings, _clients(settings)
        self._events: queue.Queue[Commit | None] = queue.Queue(_WAITING)
        self._has_complained = False
        self._thread = threading.Thread(target=self._tell, name="lineage", daemon=True)
        self._thread.start()

    def committed(self, done: Commit) -> None:
        if done.state is not None and done.table in BY_NAME:
            with suppress(queue.Full):
                self._events.put_nowait(done)

    def close(self) -> None:
        with suppress(queue.Full):
            self._events.put(None, timeout=_SECONDS)
        self._thread.join(_SECONDS)

    def _tell(self) -> None:
        while (done := self._events.get()) is not None:
            for client in self._clients:
                try:
                    client.emit(event_of(done, self._settings))
                except Exception as error:  # whose words may hold the address, and what is secret of it
                    if not self._has_complained:
                        complain(f"lineage: an event was not taken, and is left out: {type(error).__name__}", ERROR)
                    self._has_complained = True


def _clients(settings: Settings) -> "list[OpenLineageClient]":
    try:
        from openlineage.client import OpenLineageClient
        from openlineage.client.transport.file import FileConfig, FileTransport
        from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider
    except ImportError:
        raise UsageError(
            "LAKEHOUSE_OPENLINEAGE__…: the client of OpenLineage is not installed",
            "Install it: pip install 'lakehouse-spark[openlineage]'",
        ) from None
    asked, found = settings.openlineage, []
    if asked.file:
        file = asked.file.expanduser()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        except OSError as error:
            raise UsageError(f"LAKEHOUSE_OPENLINEAGE__FILE: {file} cannot be written: {error.strerror}") from None
        found.append(OpenLineageClient(transport=FileTransport(FileConfig(str(file), append=True))))
    if asked.url:
        key = {"apiKey": asked.api_key.get_secret_value()} if asked.api_key else {}
        http = HttpConfig(
            url=asked.url.get_secret_value(), timeout=_SECONDS, retry={"total": 0},
            auth=ApiKeyTokenProvider(key) if key else TokenProvider({}),
        )  # fmt: skip
        found.append(OpenLineageClient(transport=HttpTransport(http)))
    return found
