"""How far each invariant is proved of each table, kept in the lakehouse.

As properties of the log of maintenance, one for each invariant: they need no snapshot. Of two verifies at once, one may
take the place of what the other kept: what is lost is proved again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.sql import SparkSession

import lakehouse_spark
from lakehouse_spark.errors import in_a_sentence
from lakehouse_spark.lake.cursor import from_text, to_text
from lakehouse_spark.lake.snapshots import load
from lakehouse_spark.metadata.maintenance_log import TABLE

_PROPERTY = "lakehouse.proved."
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
    return told(_properties(load(spark, TABLE)))


def keep(spark: SparkSession, proved: Mapping[tuple[str, str], Proof | None]) -> str | None:
    """Keeps proofs, and forgets those that are None; writes nothing where all is kept already. Says in a sentence why
    they could not be kept."""
    try:
        log = load(spark, TABLE)
        found = _properties(log)
        wanted = written(found, proved)
        update = log.updateProperties()
        for name in found.keys() - wanted.keys():
            update.remove(name)
        for name, said in wanted.items():
            update.set(name, said)
        if found != wanted:
            update.commit()
    except Exception as error:
        return f"what was proved is not kept: {in_a_sentence(error)}"
    return None


def _properties(log: Any) -> dict[str, str]:
    properties = log.properties()
    return {name: properties[name] for name in properties if name.startswith(_PROPERTY)}


def written(found: Mapping[str, str], proved: Mapping[tuple[str, str], Proof | None]) -> dict[str, str]:
    """The properties, once these proofs are among those that were found. One of what is new alone goes with the proof
    that it builds on: someone may have found meanwhile that this does not hold."""
    before = told(found)
    sound = {place: each for place, each in proved.items() if each is None or each.is_in_full or place in before}
    together = {**before, **sound}
    by_invariant: dict[str, dict[str, Any]] = {}
    for (invariant, table), each in sorted(together.items()):
        if each is not None:
            by_invariant.setdefault(invariant, {})[table] = each.as_dict()
    return {
        _PROPERTY + invariant: json.dumps({"program": program(), "tables": tables}, separators=(",", ":"))
        for invariant, tables in by_invariant.items()
    }


def told(properties: Mapping[str, str]) -> dict[tuple[str, str], Proof]:
    """The proofs that the log of maintenance has among its properties, as far as they are this program's."""
    found = {}
    for name, said in properties.items():
        try:
            kept = json.loads(said)
            if kept["program"] == program():
                for table, each in kept["tables"].items():
                    found[name.removeprefix(_PROPERTY), table] = _read(each)
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
    """A digest of all that judges: another release may derive, or check, otherwise."""
    folder = Path(lakehouse_spark.__file__).parent
    digest = hashlib.sha256(" ".join(version(name) for name in _JUDGES).encode())
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]
