"""What `lakehouse doctor` looks at: all that can be seen of a lakehouse, and of where it runs, without Spark."""

import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from lakehouse_spark import jars, migrations
from lakehouse_spark.catalog import REFERENCE_TOPIC, TABLES, TOPICS
from lakehouse_spark.errors import RefusedError, in_a_sentence
from lakehouse_spark.iceberg import embedded, held, metadata
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.ingest import schema_registry
from lakehouse_spark.local.topics import QUIET_CLIENT
from lakehouse_spark.maintenance import survey
from lakehouse_spark.maintenance.plan import Expiry
from lakehouse_spark.metadata import schema_migrations
from lakehouse_spark.migrations import plan
from lakehouse_spark.settings import Settings

OK, WARN, FAIL = "ok", "warn", "fail"

_GIGABYTE = 1_000_000_000
_SCARCE, _TOO_LITTLE = 10 * _GIGABYTE, _GIGABYTE
"""Free bytes below which a disk soon is, and now is, in the way of work."""
_CLOCKS_DIFFER = timedelta(minutes=1)
_SECONDS = 5
"""How long a broker may take to answer."""
_START_KAFKA = "Start it, or name the right one in LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS."


class Check(NamedTuple):
    """One thing that was looked at: how it is, what was found, and what to do unless it is well."""

    name: str
    verdict: str
    found: str
    advice: str = ""


def examine(settings: Settings, now: datetime) -> list[Check]:
    """Looks at everything and writes nothing; what cannot be looked at does not keep the rest from it."""
    checks = [
        *_tried("java", lambda: _java(settings)),
        *_tried("disk", lambda: _disk(settings)),
        *_tried("warehouse", lambda: _warehouse(settings)),
        *_tried("kafka", lambda: _kafka(settings)),
        *_tried("registry", lambda: _registry(settings)),
    ]
    try:
        tables = metadata.read(settings, TABLES)
    except embedded.MissingError as error:
        return [*checks, Check("catalog", WARN, error.happened)]
    except Exception as error:
        advice = "Look at LAKEHOUSE_CATALOG__… and LAKEHOUSE_S3__…."
        return [*checks, Check("catalog", FAIL, in_a_sentence(error), advice)]
    checks.append(Check("catalog", OK, f"opens, and {len(tables)} tables are there"))
    checks += _tried("schema", lambda: _schema(tables))
    if missing := [table.name for table in TABLES if table.name not in tables]:
        advice = "Run: lakehouse migrate" if checks[-1].verdict != OK else "Run: lakehouse migrate --draft NAME"
        return [*checks, Check("tables", FAIL, f"missing: {', '.join(missing)}", advice)]
    return [
        *checks,
        *_tried("clock", lambda: _clock(tables, now)),
        *_tried("audit", lambda: _audit(tables)),
        *_tried("maintenance", lambda: _maintenance(settings, now)),
    ]


def _tried(name: str, look: Callable[[], Iterable[Check]]) -> list[Check]:
    try:
        return [*look()]
    except Exception as error:
        return [Check(name, FAIL, in_a_sentence(error))]


def _java(settings: Settings) -> Iterator[Check]:
    yield Check("java", OK, f"{jars.find_java(settings.java)} is of a version that Spark runs on")


def _disk(settings: Settings) -> Iterator[Check]:
    place = _existing(settings.root)
    free = shutil.disk_usage(place).free
    verdict = FAIL if free < _TOO_LITTLE else WARN if free < _SCARCE else OK
    advice = "" if verdict == OK else "Make room, or name another place in LAKEHOUSE_HOME."
    yield Check("disk", verdict, f"{free / _GIGABYTE:,.1f} GB are free at {place}", advice)


def _warehouse(settings: Settings) -> Iterator[Check]:
    if not settings.warehouse.startswith(("file:", "/")):
        return  # that it can be reached, the catalog's tables tell
    place = _existing(embedded.path(settings.warehouse))
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        yield Check("warehouse", OK, f"{place} can be written to")
    else:
        advice = "Name another place in LAKEHOUSE_HOME."
        yield Check("warehouse", FAIL, f"{place} is no folder that can be written to", advice)


def _existing(place: Path) -> Path:
    """The place, or what is there of the way to it."""
    return next(each for each in (place, *place.parents) if each.exists())


def _kafka(settings: Settings) -> Iterator[Check]:
    servers = settings.kafka.bootstrap_servers
    if not servers:
        advice = "Set LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS; `lakehouse demo` starts a broker of its own."
        yield Check("kafka", WARN, "no broker is configured", advice)
    elif settings.kafka.options or settings.kafka.secrets:  # which are those of Java's clients
        yield _reached(servers)
    else:
        yield from _topics(settings, servers)


def _registry(settings: Settings) -> Iterator[Check]:
    if settings.kafka.has_avro:
        yield Check("registry", OK, f"{schema_registry.look(settings)} answers")


def _reached(servers: str) -> Check:
    host, _, port = servers.split(",")[0].strip().rpartition(":")
    try:
        with closing(socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS)):
            return Check("kafka", OK, f"{host}:{port} can be reached; topics are not looked at with options of Kafka's")
    except (OSError, ValueError) as error:
        return Check("kafka", FAIL, f"{servers} cannot be reached: {in_a_sentence(error)}", _START_KAFKA)


def _topics(settings: Settings, servers: str) -> Iterator[Check]:
    try:
        found = AdminClient({**QUIET_CLIENT, "bootstrap.servers": servers}).list_topics(timeout=_SECONDS).topics
    except KafkaException as error:
        yield Check("kafka", FAIL, f"{servers} does not answer: {error.args[0].str()}", _START_KAFKA)
        return
    yield Check("kafka", OK, f"{servers} answers")
    needed = {settings.topic(name) for name in TOPICS if name != REFERENCE_TOPIC.name}  # reference files do without
    if missing := sorted(needed - {*found}):
        advice = "Create them, or name the right ones in LAKEHOUSE_KAFKA__TOPICS."
        yield Check("topics", FAIL, f"missing: {', '.join(missing)}", advice)
    else:
        yield Check("topics", OK, f"{', '.join(sorted(needed))} are there")


def _schema(tables: Mapping[str, Metadata]) -> Iterator[Check]:
    known = migrations.migrations()
    try:
        place = plan.ledger_of(tables.get(schema_migrations.TABLE.name), known)
    except RefusedError as refusal:
        yield Check("schema", FAIL, refusal.happened, refusal.advice)
        return
    if pending := place.pending(known) if place else known:
        found = f"pending: {', '.join(migration.version for migration in pending)}"
        yield Check("schema", FAIL, found, "Run: lakehouse migrate")
    else:
        yield Check("schema", OK, f"{known[-1].version}, which is this release's")


def _clock(tables: Mapping[str, Metadata], now: datetime) -> Iterator[Check]:
    stamps = {name: table.state.stamp for name, table in tables.items() if table.state and table.state.stamp}
    newest = max(stamps, key=lambda name: stamps[name], default=None)
    if newest is None:
        yield Check("clock", OK, "no commit has a stamp yet")
    elif stamps[newest] > now + _CLOCKS_DIFFER:
        found = f"{newest} has a stamp {stamps[newest] - now} ahead of this machine's clock"
        yield Check("clock", WARN, found, "Set the clocks: stamps go on from the newest, and ages are wrong meanwhile.")
    else:
        yield Check("clock", OK, f"the newest stamp is of {stamps[newest]:%Y-%m-%d %H:%M:%S} UTC ({newest})")


def _audit(tables: Mapping[str, Metadata]) -> Iterator[Check]:
    waiting = [each.table for each in held.of(tables.values())]
    if waiting:
        found = f"commits are held back that break checks: {', '.join(waiting)}"
        yield Check("audit", WARN, found, "Look: lakehouse audit list; then publish or discard each.")
    else:
        yield Check("audit", OK, "no commit is held back")


def _maintenance(settings: Settings, now: datetime) -> Iterator[Check]:
    found = survey.take(settings, TABLES, now, jobs=[Expiry.job])
    expiries = (action for plan in found.plans for action in plan.actions if isinstance(action, Expiry))
    left = [f"{expiry.table} ({len(expiry.branches)})" for expiry in expiries if expiry.branches]
    if left:
        yield Check(
            "branches", WARN, f"some are due to go: {', '.join(left)}", "Run: lakehouse run snapshot_expiration"
        )
    else:
        yield Check("branches", OK, "none is left behind")
    holders = {plan.table: found.journal.holder(plan.table, now) for plan in found.plans}
    for table, entry in holders.items():
        if entry is not None:
            until = f"{entry.lease_until:%Y-%m-%d %H:%M} UTC"
            advice = "Wait for it; if it died, its lease runs out then."
            yield Check("leases", WARN, f"a run of {entry.job} holds {table} until {until}", advice)
    if not any(holders.values()):
        yield Check("leases", OK, "maintenance holds no table")
