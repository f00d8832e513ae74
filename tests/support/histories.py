"""Small random histories as plain data: changes of dimensions, trades and order books, and the ways they may arrive.

Few keys, days and values, so that the interesting things happen often: equal neighbours, ties, deletes and re-inserts,
lots that close to the share, trades at one instant, days without trades.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from hashlib import md5
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.support.dim_oracle import SYMBOL, TRADER, ChangeEvent, Dimension

Item = TypeVar("Item")
Made = dict[str, Any]

SYMBOLS = ("AAA", "BB.B", "C-C")
TRADERS = ("TR1", "TR2", "TR3")
ACCOUNTS = ("AC1", "AC2", "AC3")
EXCHANGES = ("LSE", "NYSE")
STATUSES = ("PARTIAL", "EXECUTED", "CANCELLED")

FRIDAY = date(2025, 6, 6)
DAYS = tuple(FRIDAY + timedelta(n) for n in range(6))
"""A Friday to the Wednesday after."""

CHANGE_DAYS = (date(2024, 12, 31), FRIDAY - timedelta(1), *DAYS, date(2025, 7, 1))
TIMES = (
    time(0, 0), time(8, 0), time(13, 29, 59, 999_999), time(13, 30), time(14, 0, 0, 500_000), time(14, 0, 0, 500_001),
    time(20, 0), time(23, 59, 59, 999_999),
)  # fmt: skip
PRICES = tuple(map(Decimal, ("10.000000", "10.500000", "9.990001", "3.333333", "20.000000", "7.000000")))
QUANTITIES = (*range(1, 6), *range(1, 6), *range(1, 6), 10_000)
TEXTS = (None, "", "a", "b", "a|b", "\\", "é")


# Changes of dimensions


@st.composite
def changes(
    draw: st.DrawFn,
    keys: Sequence[str],
    texts: Sequence[str] = (),
    dates: Sequence[str] = (),
    constants: Sequence[tuple[str, tuple[Any, ...]]] = (),
    *,
    ties: bool = True,
    max_size: int = 12,
) -> list[ChangeEvent]:
    """The changes of a dimension, arrivals in the list's order; without `ties` the arrivals decide nothing.

    Attributes come from a pool of few, so that neighbours are often equal; `constants` are columns by their values.
    """
    columns = {name: st.sampled_from(TEXTS) for name in texts}
    columns |= {name: st.sampled_from((None, date(2001, 2, 3), FRIDAY)) for name in dates}
    columns |= {name: st.sampled_from(values) for name, values in constants}
    pool = draw(st.lists(st.fixed_dictionaries(columns), min_size=2, max_size=3))
    made: list[ChangeEvent] = []
    for _ in range(draw(st.integers(0, max_size))):
        event = ChangeEvent(
            natural_key=draw(_often_the_first(keys)),
            effective_date=draw(st.sampled_from(CHANGE_DAYS)),
            sequence=draw(st.sampled_from((None, None, 0, 1, 2, -1))),
            arrival=len(made),
            is_deleted=draw(st.sampled_from((False, False, False, True))),
            attributes=draw(st.sampled_from(pool)),
        )
        if ties or all(_place(event) != _place(other) for other in made):
            made.append(event)
    return made


def _often_the_first(keys: Sequence[Item]) -> st.SearchStrategy[Item]:
    return st.sampled_from((keys[0], *keys))


def _place(event: ChangeEvent) -> tuple[str, date, int | None]:
    return event.natural_key, event.effective_date, event.sequence


def scd2_changes(
    declared: Dimension, keys: Sequence[str], *, ties: bool = True
) -> st.SearchStrategy[list[ChangeEvent]]:
    """Changes of an SCD2 dimension; listing_exchange is a real one or NULL."""
    constants = [("listing_exchange", (None, *EXCHANGES))] if "listing_exchange" in declared.tracked else []
    texts = [name for name in declared.tracked if name != "listing_exchange"]
    return changes(keys, texts, declared.untracked, constants, ties=ties)


def symbol_changes(*, ties: bool = True) -> st.SearchStrategy[list[ChangeEvent]]:
    return scd2_changes(SYMBOL, SYMBOLS, ties=ties)


def trader_changes(*, ties: bool = True) -> st.SearchStrategy[list[ChangeEvent]]:
    return scd2_changes(TRADER, TRADERS, ties=ties)


def account_changes(*, ties: bool = True) -> st.SearchStrategy[list[ChangeEvent]]:
    constants = [
        ("trader_id", (*TRADERS, None)),
        ("tier", ("GOLD", "SILVER", "PLATINUM", None)),
        ("status", ("ACTIVE", "CLOSED", None)),
        ("account_type", (None, "CASH")),
    ]
    return changes(ACCOUNTS, dates=("account_open_date",), constants=constants, ties=ties)


# Trades and order books


@st.composite
def trades(draw: st.DrawFn, max_size: int = 30) -> list[Made]:
    """Rows of silver.trades without lineage, on three to six consecutive days with a weekend; ids in no order."""
    days = DAYS[: draw(st.integers(3, len(DAYS)))]
    symbols = SYMBOLS[: draw(st.integers(2, len(SYMBOLS)))]
    traders = TRADERS[: draw(st.integers(2, len(TRADERS)))]
    accounts = (None, *ACCOUNTS[: draw(st.integers(0, 2))])
    size = draw(st.integers(0, max_size))
    ids = draw(st.permutations(range(size)))
    return [draw(_trade(f"T{number:03}", days, symbols, traders, accounts)) for number in ids]


@st.composite
def _trade(
    draw: st.DrawFn,
    trade_id: str,
    days: Sequence[date],
    symbols: Sequence[str],
    traders: Sequence[str],
    accounts: Sequence[str | None],
) -> Made:
    instant = draw(_instants(days))
    price, quantity = draw(st.sampled_from(PRICES)), draw(st.sampled_from(QUANTITIES))
    return {
        "trade_id": trade_id,
        "symbol": draw(_often_the_first(symbols)),
        "price": price,
        "quantity": quantity,
        "total_value": price * quantity,
        "trade_type": draw(st.sampled_from(("BUY", "SELL"))),
        "order_type": draw(st.sampled_from(("MARKET", "LIMIT", "STOP"))),
        "trader_id": draw(_often_the_first(traders)),
        "exchange": draw(st.sampled_from(EXCHANGES)),
        "trade_timestamp": instant,
        "trade_date": instant.date(),
        "account_id": draw(st.sampled_from(accounts)),
        "status": draw(st.sampled_from(("EXECUTED", "EXECUTED", "EXECUTED", *STATUSES))),
        "commission": draw(st.sampled_from((None, Decimal("0.250000"), Decimal("0.000000")))),
    }


def _instants(days: Sequence[date]) -> st.SearchStrategy[datetime]:
    return st.builds(datetime.combine, st.sampled_from(days), st.sampled_from(TIMES), st.just(UTC))


@st.composite
def orderbooks(draw: st.DrawFn, max_size: int = 10) -> list[Made]:
    """Rows of silver.orderbook_snapshots without lineage; a side may be empty, never both."""
    places = st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(EXCHANGES), _instants(DAYS))
    return [draw(_book(*place)) for place in draw(st.lists(places, unique=True, max_size=max_size))]


@st.composite
def _book(draw: st.DrawFn, symbol: str, exchange: str, instant: datetime) -> Made:
    bid = draw(st.sampled_from((None, Decimal("9.990000"), Decimal("10.000001"))))
    least = () if bid is None else (None,)
    ask = draw(st.sampled_from((*least, Decimal("10.010000"), Decimal("10.000002"))))
    return {
        "snapshot_id": md5(f"{symbol}|{exchange}|{instant:%Y-%m-%dT%H:%M:%S.%fZ}".encode()).hexdigest(),
        "symbol": symbol,
        "snapshot_time": instant,
        "best_bid_price": bid,
        "best_bid_qty": None if bid is None else 1,
        "best_ask_price": ask,
        "best_ask_qty": None if ask is None else 2,
        "spread": None if bid is None or ask is None else ask - bid,
        "bid_depth_5": None if bid is None else draw(st.integers(1, 9)),
        "ask_depth_5": None if ask is None else draw(st.integers(2, 9)),
        "exchange": exchange,
    }


# Whole histories


@dataclass(frozen=True)
class History:
    """Everything the facts and gold are made of."""

    trades: list[Made]
    books: list[Made]
    symbols: list[ChangeEvent]
    traders: list[ChangeEvent]
    accounts: list[ChangeEvent]

    @property
    def symbol_facts(self) -> list[tuple[str, date]]:
        of_books = [(book["symbol"], book["snapshot_time"].date()) for book in self.books]
        return [*((trade["symbol"], trade["trade_date"]) for trade in self.trades), *of_books]

    @property
    def trader_facts(self) -> list[tuple[str, date]]:
        return [(trade["trader_id"], trade["trade_date"]) for trade in self.trades]


def histories() -> st.SearchStrategy[History]:
    return st.builds(History, trades(), orderbooks(), symbol_changes(), trader_changes(), account_changes())


def session(exchange: str, instant: datetime) -> str:
    """A calendar of fixed UTC hours, closed at weekends, for the pure parts of trade analytics."""
    opens, closes = {"LSE": (time(7), time(15, 30)), "NYSE": (time(13, 30), time(20))}[exchange]
    if instant.weekday() >= 5:
        return "CLOSED"
    if instant.time() < opens:
        return "PRE_MARKET"
    return "REGULAR" if instant.time() < closes else "AFTER_HOURS"


# Arrivals


@st.composite
def batches(draw: st.DrawFn, items: Sequence[Item], most: int = 4) -> list[list[Item]]:
    """The items in their order, cut into one to `most` batches, some of them perhaps empty."""
    cuts = draw(st.lists(st.integers(0, len(items)), max_size=most - 1).map(sorted))
    return [list(items[start:end]) for start, end in zip((0, *cuts), (*cuts, len(items)), strict=True)]


@st.composite
def shuffled_batches(draw: st.DrawFn, items: Sequence[Item], most: int = 4) -> list[list[Item]]:
    """The items in any order, cut into batches: late rows."""
    return draw(batches(draw(st.permutations(items)), most))


@st.composite
def reordered(draw: st.DrawFn, events: Sequence[ChangeEvent]) -> list[ChangeEvent]:
    """The changes as they arrive in another order, some of them twice."""
    repeats = draw(st.lists(st.sampled_from(events), max_size=2)) if events else []
    arriving = draw(st.permutations([*events, *repeats]))
    return [replace(event, arrival=arrival) for arrival, event in enumerate(arriving)]


@st.composite
def statements(draw: st.DrawFn, rows: Sequence[Made]) -> list[Made]:
    """Trades in any order, some stated before or after with an earlier status: the most advanced one holds."""
    stated = []
    for row in rows:
        earlier = STATUSES[: STATUSES.index(row["status"])]
        first = draw(st.lists(st.sampled_from(earlier), max_size=2)) if earlier else []
        stated += [{**row, "status": status} for status in (*first, row["status"])]
    return draw(st.permutations(stated))
