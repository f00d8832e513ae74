"""What sensors see of the lakehouse: from the catalog and the tables' metadata, without Spark."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg

from lakehouse_spark.catalog import BY_NAME, FEEDS, TOPICS
from lakehouse_spark.orchestration.assets import key
from lakehouse_spark.settings import MaintenanceSettings, Settings, load

if TYPE_CHECKING:
    from lakehouse_spark.iceberg.inventory import TableState


@dataclass(frozen=True)
class Late:
    """A table for which news of its upstream table have waited so many seconds."""

    table: str
    upstream: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.table} has not consumed what came to {self.upstream} {self.seconds / 60:,.0f} minutes ago"


def late(settings: Settings, now: datetime) -> Sequence[Late]:
    """The tables whose lag is above its limit: a quiet market is not late."""
    from lakehouse_spark.iceberg import inventory  # brings PyArrow, which the definitions do without

    found = inventory.read(settings)
    waited = [(name, lag.upstream, lag.waited(now)) for name, lags in found.behind.items() for lag in lags]
    return [Late(*each) for each in waited if each[2] > settings.alerts.lag_seconds]


def ages(now: datetime) -> Sequence[dg.AssetObservation]:
    """Of each bronze table that holds anything: how long ago its newest commit was."""
    from lakehouse_spark.iceberg import metadata

    found = metadata.read(load(), [topic.table for topic in TOPICS.values()])
    stamps = {name: of.state.stamp for name, of in found.items() if of.state is not None}
    return [
        dg.AssetObservation(key(name), metadata={"seconds since the last commit": (now - stamp).total_seconds()})
        for name, stamp in stamps.items()
        if stamp is not None
    ]


def untidy(settings: Settings) -> Sequence[str]:
    """The tables with more snapshots, or more small files, than the settings allow."""
    from lakehouse_spark.iceberg import inventory

    return [name for name, state in inventory.read(settings).tables.items() if _is_untidy(state, settings.maintenance)]


def _is_untidy(state: "TableState", limits: MaintenanceSettings) -> bool:
    files = state.data_files + state.delete_files
    is_small = state.mean_bytes is not None and state.mean_bytes < BY_NAME[state.name].policy.target_file_bytes / 8
    return state.snapshots > limits.urgent_snapshots or (is_small and files > limits.urgent_small_files)


@dataclass(frozen=True)
class Judged:
    """What a silver table judged up to a stamp, and which share of that it rejected."""

    table: str
    upto: str
    records: int
    share: float
    limit: float

    @property
    def is_within_limit(self) -> bool:
        return self.share <= self.limit

    @property
    def told(self) -> Mapping[str, int | float]:
        return {"records judged": self.records, "rejected share": self.share, "limit": self.limit}


def judged(settings: Settings, since: Mapping[str, str]) -> Iterator[Judged]:
    """Of each silver table that judges records, what it judged since the stamp given for it; without one, ever."""
    from lakehouse_spark.iceberg import letters, metadata

    for name, of in metadata.read(settings, [feed.table for feed in FEEDS.values()]).items():
        if of.state is not None and of.state.stamp is not None:
            before = datetime.fromisoformat(since[name]) if name in since else None
            found = letters.judged_since(of, before)
            upto = of.state.stamp.isoformat()
            yield Judged(name, upto, found.records, found.share, settings.alerts.rejected_share)
