"""What sensors see of the lakehouse: from the catalog and the tables' metadata, without Spark."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg

from lakehouse_spark.catalog import BY_NAME, FEEDS, TOPICS
from lakehouse_spark.orchestration.assets import key
from lakehouse_spark.settings import Settings, WatchSettings, load

if TYPE_CHECKING:
    from lakehouse_spark.iceberg.inventory import TableState


@dataclass(frozen=True)
class Late:
    """A table whose upstream table holds news of so many seconds that it has not consumed; None: it has nothing yet."""

    table: str
    upstream: str
    seconds: float | None

    def __str__(self) -> str:
        behind = "has consumed nothing" if self.seconds is None else f"is {self.seconds / 60:,.0f} minutes behind"
        return f"{self.table} {behind} of {self.upstream}"


def late(settings: Settings) -> Sequence[Late]:
    """The tables whose lag is above its limit. It is between what is held and what is consumed: a quiet market is not
    late."""
    from lakehouse_spark.iceberg import inventory  # brings PyArrow, which the definitions do without

    found = inventory.read(settings)
    limit = settings.watch.lag_minutes * 60
    return [
        Late(name, lag.upstream, lag.seconds)
        for name, lags in found.behind.items()
        for lag in lags
        if lag.seconds is None or lag.seconds > limit
    ]


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

    return [name for name, state in inventory.read(settings).tables.items() if _is_untidy(state, settings.watch)]


def _is_untidy(state: "TableState", limits: WatchSettings) -> bool:
    files = state.data_files + state.delete_files
    is_small = state.mean_bytes is not None and state.mean_bytes < BY_NAME[state.name].policy.target_file_bytes / 8
    return state.snapshots > limits.snapshots or (is_small and files > limits.small_files)


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
            yield Judged(name, upto, found.records, found.share, settings.watch.rejected_share)
