"""What a commit consumed and counted, as the snapshot that it made says."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

CURSOR = "lakehouse.cursor"
"""Snapshot property that holds, as JSON, what a commit consumed and counted."""

Cursor = Mapping[str, Any]


def to_text(instant: datetime | None) -> str | None:
    """An instant as a cursor holds it."""
    return None if instant is None else instant.astimezone(UTC).isoformat(timespec="microseconds")


def from_text(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
