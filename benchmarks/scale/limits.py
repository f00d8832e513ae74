"""Where it breaks, as more comes: what grows, up to what, and which setting or change moves it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.scale.figures import MIB, simulated, value
from benchmarks.scale.model import BUCKETS, MILLION, Day, Exchange, Setup

GIB = 1024**3
_SMALLEST, _LARGEST = 0.001, 10_000.0


@dataclass(frozen=True)
class Limit:
    """`takes` so much at a multiple of the day, of what there is `most` of."""

    what: str
    takes: Callable[[float], float]
    most: float
    unit: str
    moves: str

    @property
    def at(self) -> float | None:
        """The multiple of the day at which it takes more than there is; None: at none up to ten thousand."""
        low, high = _SMALLEST, _LARGEST
        if self.takes(high) <= self.most:
            return None
        while high / low > 1.01:
            middle = (low * high) ** 0.5
            low, high = (low, middle) if self.takes(middle) > self.most else (middle, high)
        return high


def by_volume(exchange: Exchange, setup: Setup) -> list[Limit]:
    """What a day that is so many times as large meets, with as many cores and the same settings; soonest first."""
    found = [*_of_bronze(exchange, setup), *_of_the_cluster(exchange, setup), *_of_one_task(exchange, setup)]
    return sorted(found, key=lambda limit: limit.at or _LARGEST)


def _of_bronze(exchange: Exchange, setup: Setup) -> Iterator[Limit]:
    def day(factor: float) -> Day:
        return Day(exchange.times(factor), setup)

    def commits(factor: float) -> float:
        at = day(factor)
        step = at.step("bronze.raw_orderbook")
        return step.commits / at.beats * at.commit_seconds(step.table, step.commits)

    yield Limit(
        "bronze.raw_orderbook: a beat's commits, one after the other", commits, setup.beat_minutes * 60, "s",
        "`LAKEHOUSE_INGEST__MAX_OFFSETS_PER_TRIGGER`",
    )  # fmt: skip

    def metadata(factor: float) -> float:
        step = day(factor).step("bronze.raw_orderbook")
        return day(factor).metadata(step.table, step.commits) / MIB

    yield Limit(
        "bronze.raw_orderbook: the file of metadata, as large as that of W7's 60 k snapshots (a commit takes 6 s)",
        metadata, 66, "MiB",
        "fewer commits, as above; `max_snapshots` in `LAKEHOUSE_MAINTENANCE__TABLES`, and `snapshot_expiration` more "
        "often than once a day",
    )  # fmt: skip

    def planned(factor: float) -> float:
        sizes = {
            int(files): float(found["peak_rss_mib"]) for files, found in simulated()["a plan, by live files"].items()
        }
        (few, low), (many, high) = sorted(sizes.items())
        return low + (day(factor).step("bronze.raw_orderbook").files - few) * (high - low) / (many - few)

    yield Limit(
        "a plan of maintenance: memory for the files of bronze.raw_orderbook's day", planned, 3 * 1024, "MiB",
        "fewer commits, as above: each leaves a file for each partition",
    )  # fmt: skip


def _of_the_cluster(exchange: Exchange, setup: Setup) -> Iterator[Limit]:
    def day(factor: float) -> Day:
        return Day(exchange.times(factor), setup)

    def spilled(factor: float) -> float:
        return day(factor).step("silver.orderbook_snapshots").last_disk / setup.shuffle_partitions / GIB

    yield Limit(
        f"silver.orderbook_snapshots: a task's part of a shuffle, beside its {setup.core_gib:g} GiB", spilled,
        setup.core_gib, "GiB", "`LAKEHOUSE_SPARK__SHUFFLE_PARTITIONS`",
    )  # fmt: skip
    yield Limit(
        f"all: cores for the last beat, of {setup.cores}", lambda factor: day(factor).cores, setup.cores, "cores",
        "cores; a longer beat, so that the day is read less often; the changes below",
    )  # fmt: skip

    def disk(factor: float) -> float:
        return max(step.last_disk for step in day(factor).steps) / GIB

    yield Limit(
        f"silver.orderbook_snapshots: local disk of {setup.cores} cores for the last beat's look", disk,
        setup.disk_gib * setup.cores, "GiB", "more disk for each core, or more cores",
    )  # fmt: skip


def _of_one_task(exchange: Exchange, setup: Setup) -> Iterator[Limit]:
    seconds = setup.beat_minutes * 60 - value("a small beat")

    def alone(share: float, of_a_million: float) -> Callable[[float], float]:
        return lambda factor: share * exchange.trades * factor / MILLION * of_a_million

    yield Limit(
        f"gold's symbols: the heaviest one ({exchange.heaviest_symbol:.0%} of the trades), in one task",
        alone(exchange.heaviest_symbol, value("trades read for gold's symbols") / 3), seconds, "s",
        "change: sums by minute first, whose windows go over minutes",
    )  # fmt: skip
    yield Limit(
        f"lots: the heaviest holding ({exchange.heaviest_holding:.1%} of the trades), in one task",
        alone(exchange.heaviest_holding, value("trades and open lots matched")), seconds, "s",
        "change: state by holding within the day, from which a beat goes on",
    )  # fmt: skip

    def pieces(factor: float) -> float:
        at = Day(exchange.times(factor), setup)
        return at.files_of_a_beat(at.exchange.books) / at.commits_of_a_beat(at.exchange.books)

    yield Limit(
        "bronze.raw_orderbook: tasks of one commit, a file each", pieces, 100_000, "tasks",
        "`LAKEHOUSE_INGEST__MAX_OFFSETS_PER_TRIGGER`, lower again; fewer partitions",
    )  # fmt: skip

    def bucket(factor: float) -> float:
        at = Day(exchange.times(factor), setup)
        step = at.step("silver.orderbook_snapshots")
        return step.bytes_out / at.beats / BUCKETS * 3 / GIB

    yield Limit(
        f"silver.orderbook_snapshots: shuffle of one of a day's {BUCKETS} buckets, by which one task writes it", bucket,
        1.5, "GiB", "none needed: beyond it Iceberg asks Spark for more tasks (not tried)",
    )  # fmt: skip


@dataclass(frozen=True)
class Growth:
    """What a beat, or a `verify`, takes more for each day of history: CPU seconds."""

    what: str
    a_day: float
    most: float
    """CPU seconds that there are for it."""
    moves: str

    @property
    def days(self) -> float:
        return self.most / self.a_day


def by_history(exchange: Exchange, setup: Setup) -> list[Growth]:
    """What grows with what is kept, and after how many days it takes all cores for a beat, or for two hours."""
    day = Day(exchange, setup)
    beat = setup.cores * value("cores kept busy") * (setup.beat_minutes * 60 - value("a small beat"))
    night = setup.cores * value("cores kept busy") * 7_200
    held = value("held rows looked through for a key") / MILLION
    return [
        Growth(
            "silver.trades, ids that do not grow: a beat looks through the ids of all history", exchange.trades * held,
            beat, "ids that begin with the day; change: bloom filters, or an index of keys by day",
        ),
        Growth(
            f"lots ({exchange.left_open:.0%} of trades left open): a beat matches all that are open again",
            exchange.trades * exchange.left_open * value("trades and open lots matched") / MILLION, beat,
            "change: match holdings with news alone; carry lots over only where they changed",
        ),
        Growth(
            "verify of what is new, in two hours: whether new keys were there before, and lots", day.verified(1), night,
            "`lakehouse verify --table …` for the rest; change: as for ids, and lots checked from day to day",
        ),
    ]  # fmt: skip


def restated(times: int, records: int) -> tuple[int, float]:
    """Of a bar that is stated so many times with other content: bytes of its `_accepted_hashes`, and comparisons of
    hashes for so many such bars."""
    return 8 * times, records * times * times / 2
