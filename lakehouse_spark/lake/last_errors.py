"""The last error of each job, kept in the lakehouse until the job next ends well, for `status` and whoever else looks.

Each is a property of the log of maintenance: it needs no snapshot, and there are no more of them than jobs.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from lakehouse_spark.errors import LONGEST
from lakehouse_spark.lake.cursor import from_text, to_text
from lakehouse_spark.lake.snapshots import load
from lakehouse_spark.metadata.maintenance_log import TABLE
from lakehouse_spark.settings import Settings

_PROPERTY = "lakehouse.last-error."


@dataclass(frozen=True)
class LastError:
    """Why a job last failed, in one sentence, and when."""

    job: str
    at: datetime | None
    error: str


def keep(spark: SparkSession, settings: Settings, job: str, error: str) -> None:
    """Keeps it without the secrets of the settings. What keeps it from being kept is left: the error itself is told."""
    with suppress(Exception):
        said = settings.without_secrets(error)[:LONGEST]
        kept = json.dumps({"at": to_text(datetime.now(UTC)), "error": said})
        load(spark, TABLE).updateProperties().set(_PROPERTY + job, kept).commit()


def clear(spark: SparkSession, job: str) -> None:
    """Forgets the error of a job that ended well, if there is one."""
    with suppress(Exception):
        log = load(spark, TABLE)
        if log.properties().containsKey(_PROPERTY + job):
            log.updateProperties().remove(_PROPERTY + job).commit()


def of(properties: Mapping[str, str]) -> list[LastError]:
    """The errors that the log of maintenance has among its properties, by job."""
    found = ((name.removeprefix(_PROPERTY), said) for name, said in properties.items() if name.startswith(_PROPERTY))
    return [_read(job, said) for job, said in sorted(found)]


def _read(job: str, said: str) -> LastError:
    try:
        kept = json.loads(said)
        return LastError(job, from_text(kept["at"]), str(kept["error"]))
    except (ValueError, KeyError, TypeError):  # as someone else wrote it
        return LastError(job, None, said)
