"""How lines are said while work goes on: as text for people or, where the settings ask for it, as JSON objects."""

import json
from datetime import UTC, datetime
from typing import Any

from lakehouse_spark.errors import hidden
from lakehouse_spark.settings import LogSettings

INFO, ERROR = "info", "error"


class _Use:
    """How this process says things, and of which job."""

    is_json = False
    job = ""


def use(settings: LogSettings, job: str) -> None:
    """From here on, this process says what it says as the settings want it, of this job."""
    _Use.is_json, _Use.job = settings.format == "json", job


def is_json() -> bool:
    return _Use.is_json


def line(said: object, level: str = INFO, **known: Any) -> str:
    """A line to print: the text alone, or an object with what is `known` of it (job, table, snapshot, cursor …);
    of secrets it says none."""
    said = hidden(str(said))
    if not _Use.is_json:
        return said
    there = {name: value for name, value in {"job": _Use.job or None, **known}.items() if value is not None}
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"at": now, "level": level, **there, "message": said}, default=str)
