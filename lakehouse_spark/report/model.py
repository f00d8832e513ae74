"""What a report shows, as plain values: `reading` reads them from the tables, `page` makes a page of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from lakehouse_spark.iceberg.inventory import TableState
from lakehouse_spark.iceberg.payload_drift import Drift


@dataclass(frozen=True)
class Flow:
    """What became of the records of a topic, layer by layer; `facts` None: there is no fact table for them.

    `replayed` are those of the rejected that were accepted later.
    """

    topic: str
    bronze: int
    accepted: int
    duplicates: int
    rejected: int
    silver: int
    facts: int | None
    replayed: int = 0

    @property
    def waiting(self) -> int:
        """Bronze rows that silver has not judged yet."""
        return max(self.bronze - self.accepted - self.duplicates - self.rejected, 0)

    @property
    def updates(self) -> int:
        """Accepted records that changed a row instead of adding one: later statuses and restatements."""
        return max(self.accepted + self.replayed - self.silver, 0)


@dataclass(frozen=True)
class Rejects:
    """Rejected records of one topic with one reason, whatever became of them since."""

    topic: str
    reason: str
    records: int


@dataclass(frozen=True)
class Minute:
    """A symbol's minute: its trades that were not cancelled, and its order books; `at` counts from midnight UTC."""

    at: int
    price: Decimal | None = None
    low: Decimal | None = None
    high: Decimal | None = None
    volume: int = 0
    trades: int = 0
    spread: float | None = None
    books: int = 0


@dataclass(frozen=True)
class SymbolDay:
    """A symbol's day; `summary` is its row of gold.daily_trading_summary, None where gold has none yet."""

    symbol: str
    day: date
    minutes: tuple[Minute, ...]
    summary: Mapping[str, object] | None = None


@dataclass(frozen=True)
class TraderDay:
    """A trader's day, from gold.trader_performance."""

    day: date
    pnl: Decimal
    trades: int
    notional: Decimal | None
    win_rate: Decimal | None


@dataclass(frozen=True)
class Trader:
    """A trader's days in their order."""

    trader_id: str
    name: str | None
    days: tuple[TraderDay, ...]


@dataclass(frozen=True)
class Position:
    """An open position at the end of a day, from gold.portfolio_positions."""

    day: date
    trader_id: str
    account_id: str
    symbol: str
    quantity: int
    cost: Decimal | None
    price: Decimal | None
    value: Decimal | None
    gain: Decimal | None
    gain_pct: Decimal | None


@dataclass(frozen=True)
class TracedColumn:
    """A column of a traced row: its value, what comes out when it is made again, and its rule."""

    name: str
    value: str
    again: str
    is_equal: bool
    rule: str


@dataclass(frozen=True)
class Listed:
    """Rows behind a traced one: how many there are, and the first of them."""

    title: str
    number: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Traced:
    """Where a row of gold comes from, as `lakehouse trace` says it."""

    table: str
    key: Mapping[str, str]
    columns: tuple[TracedColumn, ...]
    lists: tuple[Listed, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The whole page; `missing` says, a sentence each, what could not be shown and what to do about it."""

    made_at: datetime
    profile: str
    tables: tuple[TableState, ...] = ()
    flows: tuple[Flow, ...] = ()
    rejects: tuple[Rejects, ...] = ()
    symbol_day: SymbolDay | None = None
    trader: Trader | None = None
    positions: tuple[Position, ...] = ()
    positions_of_trader: tuple[Position, ...] = ()
    missing: tuple[str, ...] = ()
    drifts: tuple[Drift, ...] = ()
    traces: Mapping[str, Traced] = field(default_factory=dict)
    """Of `subjects`, by their names; those that were asked for."""

    @property
    def subjects(self) -> Mapping[str, tuple[str, Mapping[str, str]]]:
        """The rows of gold whose numbers the page shows, by the section: table and key."""
        found: dict[str, tuple[str, Mapping[str, str]]] = {}
        if (of := self.symbol_day) and of.summary:
            found["symbol"] = "gold.daily_trading_summary", {"summary_date": str(of.day), "symbol": of.symbol}
        if self.trader and self.trader.days:
            key = {"performance_date": str(self.trader.days[-1].day), "trader_id": self.trader.trader_id}
            found["trader"] = "gold.trader_performance", key
        for position in self.positions[:1]:
            key = {"position_date": str(position.day), "trader_id": position.trader_id}
            key |= {"account_id": position.account_id, "symbol": position.symbol}
            found["position"] = "gold.portfolio_positions", key
        return found
