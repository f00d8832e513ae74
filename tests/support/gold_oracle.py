"""The semantics of facts and gold once more, in plain Python: an oracle for the Spark code, written without it.

From rows of silver and of the dimensions (dicts by column name) it says what every column holds, with nothing but
fractions, decimals, datetimes and loops. Surrogate keys stand as (natural key, effective date of the version), the
exchange's as its code; stamps are left out. What SEMANTICS.md leaves open and what is taken here:

1. A day, symbol, trader or exchange with nothing but cancelled trades has no row, and makes no day of positions; nor
   has one with nothing but order-book rows. PARTIAL trades count with their whole quantity.
2. Rounding: columns of the price type and `avg_hold_time_sec` are exact, also where they divide (vwap, avg_spread,
   avg_cost_basis, avg_trade_size, mid_price, commission). The others with decimals are doubles: DOUBLE_COLUMNS.
3. A double that does not fit its column is NULL; an exact amount that does not fit is an error here.
4. daily_trading_summary: `avg_spread` is over all exchanges, NULL spreads left out. A real version without
   listing_exchange also yields to the exchange with the largest volume.
5. FIFO: the account of a trade that names none is chosen by today's dim_account for all of history, whatever the
   account's status; a trade may also name an account that dim_account does not know or that is another trader's.
6. trader_performance: a closing trade's pnl is the sum over everything it closes. Its trades are those of all accounts
   and symbols in one order. Without closing trades realized_pnl is 0 and the other four are NULL, drawdown included.
   The cumulative pnl starts anew each day. In `r`, entry price * shares is the sum over the lots closed. Whether the
   deviation is zero is decided on exact fractions: doubles of equal returns may differ in the last bit.
7. portfolio_positions: `current_price` is the last on any exchange. unrealized_pnl and its pct take the exact cost, not
   the rounded avg_cost_basis.
8. market_overview: a symbol without stored price_change_pct is in none of the three counts.
9. trade_analytics: a trade's predecessor may lie in another session; the impact counts in the trade's own. The limits
   of large trades are inclusive. The day is the UTC date, whatever the exchange's.
10. dim rows are looked up on the UTC date; a missing version is an error here (inferred members leave none).
11. settlement_date: the number of days is today's, for trades of any day (dim_exchange keeps no history).
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import pairwise
from math import fsum, sqrt
from typing import Any

Row = Mapping[str, Any]
Made = dict[str, Any]
Session = Callable[[str, datetime], str]
Settles = Callable[[str, datetime], date]

DOUBLE_COLUMNS = {
    "price_change_pct": (10, 4),
    "volatility": (10, 6),
    "win_rate": (5, 4),
    "max_drawdown_pct": (10, 4),
    "sharpe_ratio": (10, 6),
    "unrealized_pnl_pct": (10, 4),
    "weight_pct": (10, 4),
    "market_volatility_idx": (10, 6),
    "buy_sell_ratio": (10, 4),
    "large_trade_pct": (10, 4),
    "price_impact_avg": (10, 6),
}
"""Precision and scale of the columns computed in double, where the last place depends on the order of operations."""

STAMPS = ("_computed_at", "_loaded_at")
UNKNOWN = "UNKNOWN"
LARGE_QUANTITY = 10_000
LARGE_VALUE = Decimal(200_000)


# Comparing


def same(expected: Row, found: Row) -> bool:
    """Whether two rows hold the same, stamps aside; a double-computed column may be off by one in its last place."""
    return not differing(expected, found)


def differing(expected: Row, found: Row) -> list[str]:
    """The columns in which two rows differ."""
    names = sorted({*expected, *found} - {*STAMPS})
    return [name for name in names if not _equal(name, expected.get(name, ...), found.get(name, ...))]


def _equal(name: str, expected: Any, found: Any) -> bool:
    if name not in DOUBLE_COLUMNS or not (isinstance(expected, Decimal) and isinstance(found, Decimal)):
        return bool(expected == found)
    return abs(expected - found) <= Decimal(1).scaleb(-DOUBLE_COLUMNS[name][1])


# Numbers


def half_up(value: Fraction | Decimal | int, scale: int) -> Decimal:
    """Rounded exactly, ties away from zero."""
    units = abs(Fraction(value)) * 10**scale + Fraction(1, 2)
    rounded = units.numerator // units.denominator
    return Decimal(-rounded if value < 0 else rounded).scaleb(-scale)


def amount(value: Fraction | Decimal | int) -> Decimal:
    """A decimal(18,6)."""
    rounded = half_up(value, 6)
    if abs(rounded) >= 10**12:
        raise OverflowError(f"amount: expected one within decimal(18,6), got {rounded}")
    return rounded


def ratio(column: str, value: float | None) -> Decimal | None:
    """A double rounded to its column; None where it does not fit."""
    precision, scale = DOUBLE_COLUMNS[column]
    if value is None or abs(value) > 10.0 ** (precision - scale):
        return None
    rounded = Decimal(repr(value)).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP) + 0
    return rounded if abs(rounded) < 10 ** (precision - scale) else None


def divided(numerator: Fraction | Decimal | int, denominator: Fraction | Decimal | int) -> float | None:
    return float(numerator) / float(denominator) if denominator else None


def mean(values: Sequence[float]) -> float | None:
    return fsum(values) / len(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """The sample standard deviation; None under two values."""
    if len(values) < 2:
        return None
    center = fsum(values) / len(values)
    return sqrt(fsum((value - center) ** 2 for value in values) / (len(values) - 1))


def total(values: Iterable[Decimal | Fraction | int]) -> Fraction:
    return sum((Fraction(value) for value in values), Fraction(0))


def average(values: Sequence[Decimal]) -> Decimal | None:
    """The exact mean; None of nothing."""
    return amount(total(values) / len(values)) if values else None


# Rows


def ordered(trades: Iterable[Row]) -> list[Row]:
    return sorted(trades, key=lambda trade: (trade["trade_timestamp"], trade["trade_id"]))


def live(trades: Iterable[Row]) -> list[Row]:
    """The trades that count, in order: all but the cancelled."""
    return ordered(trade for trade in trades if trade["status"] != "CANCELLED")


def grouped(rows: Iterable[Row], *columns: str) -> dict[tuple[Any, ...], list[Row]]:
    """Groups by the columns' values, in the order of those values; the rows of a group stay in their order."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in columns), []).append(row)
    return dict(sorted(groups.items()))


def volume(trades: Iterable[Row], trade_type: str | None = None) -> int:
    return sum(trade["quantity"] for trade in trades if trade_type in (None, trade["trade_type"]))


def as_of(dimension: Iterable[Row], column: str, key: str, day: date) -> Row:
    """The version of a natural key that is valid on a day."""
    valid = [row for row in dimension if row[column] == key and row["effective_date"] <= day <= row["expiry_date"]]
    if len(valid) != 1:
        raise LookupError(f"{column} {key!r} on {day}: expected one version, found {len(valid)}")
    return valid[0]


def time_key(instant: datetime) -> int:
    return int(instant.strftime("%Y%m%d%H%M"))


# Facts


def fact_trades(
    trades: Iterable[Row],
    symbols: Iterable[Row],
    traders: Iterable[Row],
    settles: Settles,
    commission_bps: Decimal = Decimal(1),
) -> list[Made]:
    symbols, traders = list(symbols), list(traders)
    return [
        {
            "trade_id": trade["trade_id"],
            "symbol_key": _identity(symbols, "symbol", trade["symbol"], trade["trade_date"]),
            "trader_key": _identity(traders, "trader_id", trade["trader_id"], trade["trade_date"]),
            "time_key": time_key(trade["trade_timestamp"]),
            "exchange_key": trade["exchange"],
            "price": trade["price"],
            "quantity": trade["quantity"],
            "total_value": trade["total_value"],
            "commission": _commission(trade, commission_bps),
            "trade_type": trade["trade_type"],
            "order_type": trade["order_type"],
            "status": trade["status"],
            "settlement_date": settles(trade["exchange"], trade["trade_timestamp"]),
            "event_timestamp": trade["trade_timestamp"],
        }
        for trade in sorted(trades, key=lambda trade: trade["trade_id"])
    ]


def _identity(dimension: Iterable[Row], column: str, key: str, day: date) -> tuple[str, date]:
    return key, as_of(dimension, column, key, day)["effective_date"]


def settlement_date(instant: datetime, zone: tzinfo, days: int, is_open: Callable[[date], bool]) -> date:
    """So many open days after the local day of the trade, which is the next open one where that is none."""
    day = instant.astimezone(zone).date()
    left = days
    while left or not is_open(day):
        left -= is_open(day)
        day += timedelta(days=1)
    return day


def _commission(trade: Row, bps: Decimal) -> Decimal:
    stated = trade["commission"]
    return amount(Fraction(trade["total_value"]) * Fraction(bps) / 10_000 if stated is None else stated)


def fact_orderbook(books: Iterable[Row], symbols: Iterable[Row]) -> list[Made]:
    symbols = list(symbols)
    made = []
    for book in sorted(books, key=lambda book: book["snapshot_id"]):
        bid, ask, instant = book["best_bid_price"], book["best_ask_price"], book["snapshot_time"]
        made.append(
            {
                "snapshot_id": book["snapshot_id"],
                "symbol_key": _identity(symbols, "symbol", book["symbol"], instant.date()),
                "time_key": time_key(instant),
                "bid_price": bid,
                "ask_price": ask,
                "spread": book["spread"],
                "bid_depth": book["bid_depth_5"],
                "ask_depth": book["ask_depth_5"],
                "mid_price": None if bid is None or ask is None else amount(total((bid, ask)) / 2),
                "snapshot_timestamp": instant,
            }
        )
    return made


# gold.daily_trading_summary


def daily_trading_summary(trades: Iterable[Row], books: Iterable[Row], symbols: Iterable[Row]) -> list[Made]:
    books, symbols = list(books), list(symbols)
    closes: dict[str, Decimal] = {}
    made = []
    for (day, symbol), members in grouped(live(trades), "trade_date", "symbol").items():
        version = as_of(symbols, "symbol", symbol, day)
        spreads = _spreads(book for book in books if book["symbol"] == symbol and book["snapshot_time"].date() == day)
        prices = [trade["price"] for trade in members]
        base = closes.get(symbol, prices[0])
        value = total(trade["total_value"] for trade in members)
        made.append(
            {
                "summary_date": day,
                "symbol": symbol,
                "company_name": version["company_name"],
                "sector": version["sector"],
                "exchange": version["listing_exchange"] or _largest_exchange(members),
                "open_price": prices[0],
                "close_price": prices[-1],
                "high_price": max(prices),
                "low_price": min(prices),
                "vwap": amount(total(Fraction(t["price"]) * t["quantity"] for t in members) / volume(members)),
                "total_volume": volume(members),
                "total_value": amount(value),
                "trade_count": len(members),
                "buy_volume": volume(members, "BUY"),
                "sell_volume": volume(members, "SELL"),
                "avg_spread": average(spreads),
                "price_change_pct": ratio("price_change_pct", 100 * float(prices[-1] - base) / float(base)),
                "volatility": ratio("volatility", _volatility(prices)),
            }
        )
        closes[symbol] = prices[-1]
    return made


def _spreads(books: Iterable[Row]) -> list[Decimal]:
    return [book["spread"] for book in books if book["spread"] is not None]


def _largest_exchange(trades: Iterable[Row]) -> str:
    volumes: dict[str, int] = {
        exchange: volume(members) for (exchange,), members in grouped(trades, "exchange").items()
    }
    return min(volumes, key=lambda exchange: (-volumes[exchange], exchange))


def _volatility(prices: Sequence[Decimal]) -> float | None:
    """Under three trades there are not two returns."""
    return deviation([float(price) / float(before) - 1 for before, price in pairwise(prices)])


# FIFO lots


@dataclass
class Lot:
    """Shares of a trade that are still open."""

    trade: Row
    shares: int

    @property
    def cost(self) -> Fraction:
        return Fraction(self.trade["price"]) * self.shares


@dataclass(frozen=True)
class Match:
    """Shares that one trade opened and a later one closed."""

    opening: Row
    closing: Row
    shares: int

    @property
    def pnl(self) -> Fraction:
        gain = Fraction(self.closing["price"]) - Fraction(self.opening["price"])
        return (gain if self.opening["trade_type"] == "BUY" else -gain) * self.shares

    @property
    def cost(self) -> Fraction:
        return Fraction(self.opening["price"]) * self.shares

    @property
    def held(self) -> Fraction:
        """Seconds from open to close."""
        return Fraction(
            (self.closing["trade_timestamp"] - self.opening["trade_timestamp"]) // timedelta(0, 0, 1), 10**6
        )


def fifo(trades: Iterable[Row]) -> tuple[list[Match], list[Lot]]:
    """What the trades of one trader, account and symbol close, in the order of closing, and what stays open."""
    matches: list[Match] = []
    lots: deque[Lot] = deque()
    for trade in live(trades):
        left = trade["quantity"]
        while left and lots and lots[0].trade["trade_type"] != trade["trade_type"]:
            shares = min(left, lots[0].shares)
            matches.append(Match(lots[0].trade, trade, shares))
            left -= shares
            lots[0].shares -= shares
            if not lots[0].shares:
                lots.popleft()
        if left:
            lots.append(Lot(trade, left))
    return matches, list(lots)


def resolved(trades: Iterable[Row], accounts: Iterable[Row]) -> list[Row]:
    """The live trades in order, each with the account it is booked to."""
    accounts = list(accounts)
    return [{**t, "account_id": t["account_id"] or default_account(t["trader_id"], accounts)} for t in live(trades)]


def default_account(trader_id: str, accounts: Iterable[Row]) -> str:
    """The trader's account that was opened first."""
    owned = [account for account in accounts if account["trader_id"] == trader_id]
    return str(min(owned, key=_opened)["account_id"]) if owned else UNKNOWN


def _opened(account: Row) -> tuple[bool, date, str]:
    opened = account["account_open_date"]
    return opened is None, opened or date.max, account["account_id"]


# gold.trader_performance


def trader_performance(trades: Iterable[Row], accounts: Iterable[Row], traders: Iterable[Row]) -> list[Made]:
    booked, traders = resolved(trades, accounts), list(traders)
    closed: dict[str, list[Match]] = {}
    for members in grouped(booked, "trader_id", "account_id", "symbol").values():
        for match in fifo(members)[0]:
            closed.setdefault(match.closing["trade_id"], []).append(match)
    made = []
    for (day, trader_id), members in grouped(booked, "trade_date", "trader_id").items():
        version = as_of(traders, "trader_id", trader_id, day)
        notional = total(trade["total_value"] for trade in members)
        made.append(
            {
                "performance_date": day,
                "trader_id": trader_id,
                "trader_name": version["name"],
                "account_type": version["account_type"],
                "risk_category": version["risk_category"],
                "total_trades": len(members),
                "total_volume": volume(members),
                "total_notional": amount(notional),
                **_closes([closed[trade["trade_id"]] for trade in members if trade["trade_id"] in closed], notional),
                "distinct_symbols": len({trade["symbol"] for trade in members}),
            }
        )
    return made


def _closes(closing: Sequence[Sequence[Match]], notional: Fraction) -> Made:
    """The columns about a day's closing trades, each given by what it closes, in order."""
    pnls = [total(match.pnl for match in matches) for matches in closing]
    costs = [total(match.cost for match in matches) for matches in closing]
    return {
        "realized_pnl": amount(total(pnls)),
        "win_rate": ratio("win_rate", divided(sum(pnl > 0 for pnl in pnls), len(pnls))),
        "avg_hold_time_sec": _hold_time([match for matches in closing for match in matches]),
        "max_drawdown_pct": ratio("max_drawdown_pct", 100 * float(_drawdown(pnls)) / float(notional) if pnls else None),
        "sharpe_ratio": ratio("sharpe_ratio", _sharpe(pnls, costs)),
    }


def _hold_time(matches: Sequence[Match]) -> int | None:
    shares = sum(match.shares for match in matches)
    return int(half_up(total(match.held * match.shares for match in matches) / shares, 0)) if shares else None


def _drawdown(pnls: Iterable[Fraction]) -> Fraction:
    cumulative = peak = deepest = Fraction(0)
    for pnl in pnls:
        cumulative += pnl
        peak = max(peak, cumulative)
        deepest = max(deepest, peak - cumulative)
    return deepest


def _sharpe(pnls: Sequence[Fraction], costs: Sequence[Fraction]) -> float | None:
    if len({pnl / cost for pnl, cost in zip(pnls, costs, strict=True)}) < 2:
        return None
    returns = [float(pnl) / float(cost) for pnl, cost in zip(pnls, costs, strict=True)]
    center, spread = mean(returns), deviation(returns)
    return center / spread if center is not None and spread else None


# gold.portfolio_positions


def portfolio_positions(trades: Iterable[Row], accounts: Iterable[Row]) -> list[Made]:
    booked = resolved(trades, accounts)
    return [row for (day,) in grouped(booked, "trade_date") for row in _positions(day, booked)]


def _positions(day: date, booked: Iterable[Row]) -> list[Made]:
    """Every open position at the end of a day."""
    so_far = [trade for trade in booked if trade["trade_date"] <= day]
    last_price = {trade["symbol"]: trade["price"] for trade in so_far}
    made = []
    for (trader_id, account_id, symbol), members in grouped(so_far, "trader_id", "account_id", "symbol").items():
        lots = fifo(members)[1]
        if lots:
            place = {"position_date": day, "trader_id": trader_id, "account_id": account_id, "symbol": symbol}
            made.append(place | _valued(lots, last_price[symbol]))
    for row in made:
        whole = total(abs(r["market_value"]) for r in made if _portfolio(r) == _portfolio(row))
        row["weight_pct"] = ratio("weight_pct", 100 * float(abs(row["market_value"])) / float(whole))
    return made


def _portfolio(row: Row) -> tuple[str, str]:
    return row["trader_id"], row["account_id"]


def _valued(lots: Sequence[Lot], price: Decimal) -> Made:
    """Open lots, which are all of one side, at a price."""
    shares = sum(lot.shares for lot in lots)
    sign = 1 if lots[0].trade["trade_type"] == "BUY" else -1
    cost, value = total(lot.cost for lot in lots), Fraction(price) * shares
    return {
        "quantity": sign * shares,
        "avg_cost_basis": amount(cost / shares),
        "current_price": price,
        "market_value": amount(sign * value),
        "unrealized_pnl": amount(sign * (value - cost)),
        "unrealized_pnl_pct": ratio("unrealized_pnl_pct", 100 * float(sign * (value - cost)) / float(cost)),
    }


# gold.market_overview


def market_overview(trades: Iterable[Row], books: Iterable[Row], summaries: Iterable[Row]) -> list[Made]:
    """From the stored rows of daily_trading_summary, `summaries`."""
    books = list(books)
    stored = {(row["summary_date"], row["symbol"]): row for row in summaries}
    made = []
    for (day, exchange), members in grouped(live(trades), "trade_date", "exchange").items():
        of_day = [b for b in books if b["exchange"] == exchange and b["snapshot_time"].date() == day]
        by_symbol = {symbol: rows for (symbol,), rows in grouped(members, "symbol").items()}
        changes = [stored[day, symbol]["price_change_pct"] for symbol in by_symbol]
        weighted = [(stored[day, symbol]["volatility"], volume(rows)) for symbol, rows in by_symbol.items()]
        made.append(
            {
                "overview_date": day,
                "exchange": exchange,
                "total_trades": len(members),
                "total_volume": volume(members),
                "total_value": amount(total(trade["total_value"] for trade in members)),
                "active_symbols": len(by_symbol),
                "active_traders": len({trade["trader_id"] for trade in members}),
                "advancers": sum(change is not None and change > 0 for change in changes),
                "decliners": sum(change is not None and change < 0 for change in changes),
                "unchanged": sum(change is not None and change == 0 for change in changes),
                "avg_spread": average(_spreads(of_day)),
                "market_volatility_idx": ratio("market_volatility_idx", _weighted_mean(weighted)),
            }
        )
    return made


def _weighted_mean(weighted: Iterable[tuple[Decimal | None, int]]) -> float | None:
    known = [(Fraction(value), weight) for value, weight in weighted if value is not None]
    return divided(total(value * weight for value, weight in known), sum(weight for _, weight in known))


# gold.trade_analytics


def trade_analytics(
    trades: Iterable[Row],
    symbols: Iterable[Row],
    session: Session,
    large_quantity: int = LARGE_QUANTITY,
    large_value: Decimal = LARGE_VALUE,
) -> list[Made]:
    symbols = list(symbols)
    placed: list[Row] = []
    for members in grouped(live(trades), "trade_date", "symbol", "exchange").values():
        befores = [None, *members][:-1]
        for before, trade in zip(befores, members, strict=True):
            own = session(trade["exchange"], trade["trade_timestamp"])
            placed.append({**trade, "session": own, "impact": None if before is None else _impact(before, trade)})
    made = []
    for (day, symbol, exchange, own), members in grouped(placed, "trade_date", "symbol", "exchange", "session").items():
        version = as_of(symbols, "symbol", symbol, day)
        large = [t for t in members if t["quantity"] >= large_quantity or t["total_value"] >= large_value]
        impacts = [trade["impact"] for trade in members if trade["impact"] is not None]
        made.append(
            {
                "analytics_date": day,
                "symbol": symbol,
                "sector": version["sector"],
                "industry": version["industry"],
                "exchange": exchange,
                "market_session": own,
                "trade_count": len(members),
                "volume": volume(members),
                "notional_value": amount(total(trade["total_value"] for trade in members)),
                "avg_trade_size": amount(Fraction(volume(members), len(members))),
                "buy_sell_ratio": ratio("buy_sell_ratio", divided(volume(members, "BUY"), volume(members, "SELL"))),
                "large_trade_count": len(large),
                "large_trade_pct": ratio("large_trade_pct", divided(volume(large), volume(members))),
                "price_impact_avg": ratio("price_impact_avg", mean(impacts)),
            }
        )
    return made


def _impact(before: Row, trade: Row) -> float:
    moved = float(trade["price"] - before["price"]) / float(before["price"])
    return moved if trade["trade_type"] == "BUY" else -moved
