"""How far each invariant is proved of each table, kept in the lakehouse.

As properties of the log of maintenance, one for each invariant: they need no snapshot. Of two verifies at once, one may
take the place of what the other kept: what is lost is proved again. What one of them found broken stays with the other,
in a property of its own: a proof says which one stood there when its look began, and without that it is none.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

import lakehouse_spark
from lakehouse_spark.errors import in_a_sentence
from lakehouse_spark.lake.cursor import from_text, to_text
from lakehouse_spark.lake.snapshots import load
from lakehouse_spark.metadata.maintenance_log import TABLE

_PROPERTY = "lakehouse.proved."
_BROKEN = "lakehouse.broken."
"""Followed by an invariant and a table: when this was found broken, the last time."""
_JUDGES = ("exchange-calendars", "pyspark")
"""Packages of others by which checks judge."""


class Held(NamedTuple):
    """What a table held: its snapshot, and Iceberg's ids of its schema and of its last commit anywhere."""

    snapshot: int | None
    schema: int
    sequence: int


@dataclass(frozen=True)
class Proof:
    """One invariant of one table: it holds of what was `read`."""

    at: datetime
    """When that was read."""
    in_full: datetime
    """When all of it was last looked at, and not only what was new."""
    checks: tuple[str, ...]
    """The findings by which it is proved."""
    read: Mapping[str, Held]

    @property
    def is_in_full(self) -> bool:
        return self.in_full == self.at

    def as_dict(self) -> dict[str, Any]:
        return {
            "at": to_text(self.at), "in_full": to_text(self.in_full), "checks": self.checks,
            "read": {name: list(held) for name, held in sorted(self.read.items())},
        }  # fmt: skip


Proofs = Mapping[tuple[str, str], Proof]
"""By the invariant and the table."""


def kept(spark: SparkSession) -> Proofs:
    """What is proved by this very program."""
    return told(properties(spark))


def properties(spark: SparkSession) -> Mapping[str, str]:
    """What verifies have kept up to now."""
    return _properties(load(spark, TABLE))


def keep(spark: SparkSession, proved: Mapping[tuple[str, str], Proof | None], began: Mapping[str, str]) -> str | None:
    """Keeps what a look proved that began with these properties, and forgets what is None; writes nothing where all is
    kept already. Says in a sentence why it could not be kept."""
    try:
        log = load(spark, TABLE)
        found = _properties(log)
        changes = changed(found, written(found, proved, began, datetime.now(UTC)))
        update = log.updateProperties()
        for name, said in changes.items():
            if said is None:
                update.remove(name)
            else:
                update.set(name, said)
        if changes:
            update.commit()
    except Exception as error:
        return f"what was proved is not kept: {in_a_sentence(error)}"
    return None


def _properties(log: Any) -> dict[str, str]:
    properties = log.properties()
    return {name: properties[name] for name in properties if name.startswith((_PROPERTY, _BROKEN))}


def written(
    found: Mapping[str, str], proved: Mapping[tuple[str, str], Proof | None], began: Mapping[str, str], now: datetime
) -> dict[str, str]:
    """The properties, once these proofs are among those that were found; None: found broken.

    Left out is what was found broken meanwhile. One of what is new alone goes with the proof that it builds on.
    """
    before = told(found)
    together = {place: each for place, each in before.items() if proved.get(place, each) is not None}
    for place, each in proved.items():
        is_as_it_was = found.get(_broken(*place)) == began.get(_broken(*place))
        if each is not None and is_as_it_was and (each.is_in_full or place in before):
            together[place] = each
    by_invariant: dict[str, dict[str, Any]] = {}
    for (invariant, table), each in sorted(together.items()):
        after = found.get(_broken(invariant, table))
        by_invariant.setdefault(invariant, {})[table] = each.as_dict() | ({"after": after} if after else {})
    known = {name: said for name, said in found.items() if name.startswith(_BROKEN)}
    broken = {_broken(*place): str(to_text(now)) for place, each in proved.items() if each is None}
    return (
        known
        | broken
        | {
            _PROPERTY + invariant: json.dumps({"program": program(), "tables": tables}, separators=(",", ":"))
            for invariant, tables in by_invariant.items()
        }
    )


def changed(found: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str | None]:
    """What has to be written, None where it goes, and no more: what stays as it was found may be another by now."""
    gone = dict.fromkeys(found.keys() - wanted.keys())
    return {**gone, **{name: said for name, said in wanted.items() if found.get(name) != said}}


def _broken(invariant: str, table: str) -> str:
    return f"{_BROKEN}{invariant}.{table}"


def told(properties: Mapping[str, str]) -> dict[tuple[str, str], Proof]:
    """The proofs that the log of maintenance has among its properties, as far as they are this program's, and of what
    was not found broken since their look began."""
    found = {}
    for name, said in properties.items():
        invariant = name.removeprefix(_PROPERTY)
        try:
            kept = json.loads(said)
            if kept["program"] == program():
                for table, each in kept["tables"].items():
                    if each.get("after") == properties.get(_broken(invariant, table)):
                        found[invariant, table] = _read(each)
        except (ValueError, KeyError, TypeError, AttributeError):  # as someone else wrote it
            continue
    return found


def _read(said: Mapping[str, Any]) -> Proof:
    at, in_full = from_text(said["at"]), from_text(said["in_full"])
    if at is None or in_full is None:
        raise ValueError("a proof has a time")
    return Proof(at, in_full, tuple(said["checks"]), {name: Held(*held) for name, held in said["read"].items()})


@cache
def program() -> str:
    """A digest of all that judges: another release may derive, or check, otherwise. Out of an archive, where its files
    are not read, it is another one every time: nothing is known of what that proved."""
    folder = Path(lakehouse_spark.__file__).parent
    files = sorted(folder.rglob("*.py"))
    if not files:
        return token_hex(8)
    digest = hashlib.sha256(" ".join(version(name) for name in _JUDGES).encode())
    for file in files:
        digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]
