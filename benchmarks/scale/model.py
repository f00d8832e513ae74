"""What a day takes, step by step: the code's own counts of rows, files and commits, times the figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

from benchmarks.scale.figures import MIB, snapshot_bytes, value
from lakehouse_spark.catalog import BY_NAME

MILLION, HOUR = 1_000_000, 3_600
PIECE = 200_000
"""Records that a task reads of Kafka at most, and so writes into one file (`lakehouse_spark/ingest/kafka.py`)."""
SLOT = 15
"""Minutes within which books, bars and facts are looked for (`lakehouse_spark/lake/pruning.py`)."""
BUCKETS = 16
FILE = 512 * MIB
"""Where Iceberg begins another file: its default, for the tables set none."""
SHUFFLED = 8 * MIB
"""What a task of a shuffle is worth (`lakehouse_spark/lake/session.py`)."""
CHANGES = 3
"""Of the metadata, by one commit: branch, snapshot, fast-forward."""
EXPIRIES = 1
"""A day, by the schedule of live mode."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A day's events; what is no count of events is assumed."""

    trades: int = 500_000_000
    books: int = 5_000_000_000
    symbols: int = 10_000
    bars: int = 390
    """Of each symbol, one a minute of the session."""
    partitions: int = 200
    """Of each topic."""
    session_minutes: int = 390
    holdings: int = 20_000_000
    """Pairs of a trader and a symbol with a trade on the day."""
    left_open: float = 0.01
    """Share of the trades whose lot is still open when the history's last day ends."""
    heaviest_symbol: float = 0.03
    """Its share of the trades."""
    heaviest_holding: float = 0.006
    """Share of the trades that are one trader's in one symbol: a market maker's."""
    ids_grow: bool = True
    """Whether trade ids grow with time; if not, every beat looks through those of all history."""

    def times(self, factor: float) -> "Exchange":
        """As many times the events, partitions and holdings, of the same symbols."""
        grown = {name: round(getattr(self, name) * factor) for name in ("trades", "books", "partitions", "holdings")}
        return replace(self, **{name: max(1, number) for name, number in grown.items()})


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How the lakehouse runs; by default as the profile `cluster` says."""

    beat_minutes: int = 15
    most_offsets: int = 2_000_000
    """LAKEHOUSE_INGEST__MAX_OFFSETS_PER_TRIGGER."""
    shuffle_partitions: int = 64
    """LAKEHOUSE_SPARK__SHUFFLE_PARTITIONS."""
    cores: int = 128
    core_gib: float = 1.5
    """Executor memory of a core: the jobs' own size has 6 GB for 4."""
    disk_gib: float = 25
    """Local disk of a core, for shuffles and spills."""
    history_days: int = 90


TUNED = Setup(most_offsets=200_000_000, shuffle_partitions=500)
"""What this page arrives at for a day of 1x."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What brings one table up to date over the day; `last` is the day's last beat, the longest."""

    table: str
    rows_in: float
    bytes_in: float
    rows_out: float
    bytes_out: float
    files: float
    commits: float
    cpu: float
    last_cpu: float
    disk: float = 0
    last_disk: float = 0


@dataclass(frozen=True)
class Day:
    """A day of an exchange, brought in beat by beat."""

    exchange: Exchange
    setup: Setup

    @cached_property
    def beats(self) -> int:
        return ceil(self.exchange.session_minutes / self.setup.beat_minutes)

    @property
    def read_again(self) -> float:
        """How often a row of the day is read in all, where each beat reads the day so far, itself included."""
        return (self.beats + 1) / 2

    @property
    def looked_through(self) -> float:
        """How often, where each beat looks through what its quarter of an hour had before it."""
        return self._before_the_last / 2

    @property
    def _before_the_last(self) -> int:
        return max(0, SLOT // self.setup.beat_minutes - 1)

    @cached_property
    def steps(self) -> Sequence[Step]:
        return (*self._bronze(), self._members(), *self._silver(), *self._facts(), *self._gold())

    def step(self, table: str) -> Step:
        return next(step for step in self.steps if step.table == table)

    @property
    def cpu(self) -> float:
        return sum(step.cpu for step in self.steps)

    @property
    def last_cpu(self) -> float:
        return sum(step.last_cpu for step in self.steps)

    @property
    def bars(self) -> int:
        return self.exchange.symbols * self.exchange.bars

    def feeds(self) -> Iterator[tuple[str, str, str, int]]:
        """The topics: by which figures they go (bars by those of trades), their tables, and the day's records."""
        yield "trades", "raw_trades", "trades", self.exchange.trades
        yield "books", "raw_orderbook", "orderbook_snapshots", self.exchange.books
        yield "trades", "raw_marketdata", "market_data", self.bars

    def commits_of_a_beat(self, records: int) -> int:
        return ceil(records / self.beats / self.setup.most_offsets)

    def files_of_a_beat(self, records: int) -> int:
        """A commit takes an even share of all partitions, in pieces of PIECE records, a file each."""
        full, left = divmod(records / self.beats, self.setup.most_offsets)
        return round(full) * self._files_of_a_commit(self.setup.most_offsets) + self._files_of_a_commit(left)

    def _files_of_a_commit(self, records: float) -> int:
        partitions = min(self.exchange.partitions, ceil(records))
        return partitions * ceil(records / partitions / PIECE) if partitions else 0

    def _bronze(self) -> Iterator[Step]:
        for kind, topic, _, records in self.feeds():
            cpu = records / MILLION * value(f"{kind} to bronze")
            yield Step(
                table=f"bronze.{topic}",
                rows_in=records, bytes_in=records * value(f"payload of {kind}"),
                rows_out=records, bytes_out=records * bytes_of(f"bronze.{topic}"),
                files=self.beats * self.files_of_a_beat(records), commits=self.beats * self.commits_of_a_beat(records),
                cpu=cpu, last_cpu=cpu / self.beats,
            )  # fmt: skip

    def _members(self) -> Step:
        """A load a day, as W3 measured it: it goes by members, not by events."""
        load = "10 k of a million members loaded"
        read, written, cpu = value(f"{load}, read"), value(f"{load}, written"), value(load)
        return Step(
            table="dim.dim_trader", rows_in=MILLION, bytes_in=read * MIB, rows_out=10_000, bytes_out=written * MIB,
            files=8, commits=1, cpu=cpu, last_cpu=0,
        )  # fmt: skip

    def _silver(self) -> Iterator[Step]:
        for kind, topic, name, records in self.feeds():
            # Books and bars are looked for within their times, trades within their ids; a MERGE looks at the times.
            looks = {"raw_trades": 1, "raw_orderbook": 1, "raw_marketdata": 2}[topic]
            before = self.setup.history_days + 0.5  # the day itself is half over in the mean
            older = 0 if self.exchange.ids_grow or topic != "raw_trades" else records * before
            yield self._keyed(f"silver.{name}", records, f"bronze.{topic}", f"{kind} to silver", looks, older)
        trades, groups = self.exchange.trades, self.exchange.holdings
        cpu = trades / MILLION * value("trades read for trader_activity")
        yield self._of_the_day("silver.trader_activity", trades, bytes_of("silver.trades"), groups, cpu, files=BUCKETS)

    def _keyed(
        self,
        table: str,
        rows: int,
        source: str,
        figure: str,
        looks: int,
        older: float = 0,
        shuffled: float | None = None,
    ) -> Step:
        """A batch that looks for its keys in what is held: `looks` times through what has its times, and through
        `older` rows."""
        held = value("held rows looked through for a key") / MILLION
        once, through = rows / MILLION * value(figure), looks * self.looked_through * rows + older * self.beats
        last = looks * rows * self._before_the_last / self.beats + older
        batch = value("silver's batch, written to disk") if shuffled is None else shuffled
        of_held = value("the same, written to disk")
        return Step(
            table=table,
            rows_in=rows + through, bytes_in=rows * bytes_of(source) + through * value("the same, read"),
            rows_out=rows, bytes_out=rows * bytes_of(table),
            files=self.beats * self._written(table, rows / self.beats), commits=self.beats,
            cpu=once + through * held, last_cpu=once / self.beats + last * held,
            disk=rows * batch + through * of_held, last_disk=rows / self.beats * batch + last * of_held,
        )  # fmt: skip

    def _written(self, table: str, rows: float) -> int:
        """Files of one commit: one for each bucket, or for each task of a shuffle, where those are not too large."""
        size = rows * bytes_of(table)
        if any(term.startswith("bucket") for term in BY_NAME[table].partitioned_by):
            return BUCKETS * ceil(size / BUCKETS / FILE)
        return max(1, min(self.setup.shuffle_partitions, ceil(size * 3 / SHUFFLED)))

    def _of_the_day(self, table: str, rows: float, of_a_row: float, out: float, cpu: float, *, files: int = 1) -> Step:
        """What is derived anew at each beat from the day so far; `cpu` is what the whole day costs once."""
        return Step(
            table=table,
            rows_in=rows * self.read_again, bytes_in=rows * self.read_again * of_a_row,
            rows_out=out, bytes_out=out * bytes_of("silver.trades"),
            files=self.beats * files, commits=self.beats,
            cpu=cpu * self.read_again, last_cpu=cpu,
        )  # fmt: skip

    def _facts(self) -> Iterator[Step]:
        # Whether any is held, which rows differ, and the MERGE of those whose trade moved on: books do not.
        yield self._keyed("gold.fact_trades", self.exchange.trades, "silver.trades", "trades to facts", 3, shuffled=0)
        source = "silver.orderbook_snapshots"
        size = bytes_of("gold.fact_orderbook") * 3
        yield self._keyed("gold.fact_orderbook", self.exchange.books, source, "books to facts", 1, shuffled=size)

    def _gold(self) -> Iterator[Step]:
        trades, books, symbols = self.exchange.trades, self.exchange.books, self.exchange.symbols
        third = trades / MILLION * value("trades read for gold's symbols") / 3
        quoted = books / MILLION * value("rows read and added up")
        size = bytes_of("silver.trades"), bytes_of("silver.orderbook_snapshots")
        mean = (trades * size[0] + books * size[1]) / (trades + books)
        yield self._of_the_day("gold.daily_trading_summary", trades + books, mean, symbols, third + quoted)
        yield self._of_the_day("gold.market_overview", trades + books, mean, 10, third + quoted)
        yield self._of_the_day("gold.trade_analytics", trades, size[0], symbols * 3, third)
        yield self._positions()

    def _positions(self) -> Step:
        """Lots, performance and positions: what was open the day before is matched again at each beat."""
        cost, trades, lots = value("trades and open lots matched") / MILLION, self.exchange.trades, self.lots
        matched = trades * self.read_again + lots * self.beats
        written = lots + self.exchange.holdings
        return Step(
            table="gold._open_lots, performance, positions",
            rows_in=matched, bytes_in=matched * bytes_of("silver.trades"),
            rows_out=written, bytes_out=written * bytes_of("gold.fact_trades"),
            files=self.beats * max(3, ceil(written * bytes_of("gold.fact_trades") / FILE)), commits=3 * self.beats,
            cpu=matched * cost, last_cpu=(trades + lots) * cost,
        )  # fmt: skip

    @property
    def lots(self) -> float:
        """Open at the end of the history."""
        return self.exchange.trades * self.exchange.left_open * self.setup.history_days

    # Upkeep

    @property
    def compaction(self) -> float:
        """CPU seconds to rewrite the day's files once and to compare what was with what is; arithmetic alone."""
        rows = sum(step.rows_out for step in self.steps if step.table.startswith(("bronze", "silver", "gold.fact")))
        files = sum(step.files for step in self.steps)
        return rows / MILLION * 4 * value("rows read and added up") + 2 * files * value("a file opened")

    def verified(self, days: float) -> float:
        """CPU seconds of a `verify` of what is new, after so many days: what still looks through all there is."""
        keyed = 2 * (self.exchange.trades + self.exchange.books) + self.bars + self.exchange.holdings
        looked = keyed * days / MILLION * value("held rows looked through for a key")
        return looked + self.exchange.trades * days / MILLION * value("trades read for trader_activity")

    # Metadata

    def snapshots(self, table: str, commits: float) -> float:
        """Kept at the end of a day, before the expiry of the night."""
        policy = BY_NAME[table].policy
        most = policy.max_snapshots or commits * policy.snapshot_days
        return min(most, commits * policy.snapshot_days) + commits / EXPIRIES

    def metadata(self, table: str, commits: float) -> float:
        """Bytes of the file that a commit rewrites, at the end of a day."""
        partitions = self.exchange.partitions if table.startswith("bronze") else 3
        return self.snapshots(table, commits) * snapshot_bytes(partitions)

    def metadata_written(self, table: str, commits: float) -> float:
        kept = self.snapshots(table, commits)
        return CHANGES * commits * self.metadata(table, commits) * (1 - commits / 2 / kept)

    def commit_seconds(self, table: str, commits: float) -> float:
        """Of one commit at the end of a day."""
        return value("a commit to bronze") + value("a commit, by its metadata") * self.metadata(table, commits) / MIB

    # The beat

    @property
    def cores(self) -> float:
        """That the last beat needs to be over before the next one."""
        seconds = self.setup.beat_minutes * 60 - value("a small beat")
        return self.last_cpu / seconds / value("cores kept busy")

    def last_seconds(self, cores: float) -> float:
        return value("a small beat") + self.last_cpu / cores / value("cores kept busy")


def bytes_of(table: str) -> float:
    """Of a row; bars go by trades."""
    return value(
        {"bronze.raw_marketdata": "bronze.raw_trades", "silver.market_data": "silver.trades"}.get(table, table)
    )
