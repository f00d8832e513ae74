"""The clean feed: correlated price walks, and the trades, order books and bars of every minute around them."""

from bisect import bisect
from collections.abc import Iterator, Mapping
from heapq import merge
from itertools import accumulate
from math import exp
from random import Random

from lakehouse_spark.errors import UsageError
from lakehouse_spark.local.simulator import calendars, event, reference
from lakehouse_spark.local.simulator.event import MILLI, MINUTE, SECOND, Event
from lakehouse_spark.local.simulator.scenario import BARS, BOOKS, TRADES, Scenario

HISTORY = 5
"""Sessions before the first simulated one, where late records come from."""

Hosts = Mapping[str, Mapping[int, str]]
"""Per topic: the numbers of the events that dirt is modelled on, and the trade status that it needs ('': any)."""

_MARKET_STEP, _OWN_STEP = 0.0003, 0.0004  # standard deviation of a minute's log return
_CLOSED_MINUTES = 60  # what a night moves a price, in minutes of trading
_UNUSUAL = 0.04  # share of events in one of the unusual notations
_FIRST_LEVELS, _MORE_LEVELS = 5, 6
_LOTS = (1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 8, 10, 20)
_ORDER_TYPES = ('"MARKET"',) * 9 + ('"LIMIT"',) * 9 + ('"STOP"',) * 2
_STATUSES = ("", "", "EXECUTED", "EXECUTED", "EXECUTED") * 19 + ("PARTIAL",) * 4 + ("CANCELLED",)


class _Walk:
    """One symbol's price, advanced when somebody looks: within a minute it moves from `begin` to `stop`."""

    __slots__ = ("begin", "beta", "level", "listing", "minute", "own_step", "stop")

    def __init__(self, listing: reference.Symbol, dice: Random) -> None:
        self.listing = listing
        self.beta = dice.uniform(0.5, 1.6)
        self.own_step = _OWN_STEP * dice.uniform(0.7, 2.5)
        self.begin = self.stop = listing.price
        self.level, self.minute = 0.0, -1

    def advance(self, minute: int, before: float, level: float, dice: Random) -> None:
        """`before` and `level`: the market factor (a log price) at the minute's begin and end."""
        listing = self.listing
        self.begin = self.stop
        if minute - self.minute > 1 and self.minute >= 0:
            closed = min(minute - self.minute - 1, _CLOSED_MINUTES) ** 0.5
            self.begin *= exp(self.beta * (before - self.level) + self.own_step * closed * dice.gauss(0, 1))
        self.stop = self.begin * exp(self.beta * (level - before) + self.own_step * dice.gauss(0, 1))
        lowest = max(0.1 * listing.price, 100 * listing.tick)
        self.begin, self.stop = max(self.begin, lowest), max(self.stop, lowest)
        self.minute, self.level = minute, level


class Market:
    """The sessions of a scenario and, once, their events minute by minute."""

    def __init__(self, scenario: Scenario) -> None:
        self._dice = Random(f"{scenario.seed} market")
        self._tag = scenario.tag
        self._symbols = reference.symbols(scenario)
        self._walks = [_Walk(listing, self._dice) for listing in self._symbols]
        self._venues = [
            (exchange, members)
            for exchange in reference.EXCHANGES
            if (members := [at for at, listing in enumerate(self._symbols) if exchange in listing.exchanges])
        ]
        self._popularity = [
            [(0.2 if exchange != self._symbols[at].exchanges[0] else 1) / (at + 2) ** 1.05 for at in members]
            for exchange, members in self._venues
        ]
        self._sessions = [
            calendars.sessions(exchange, scenario.end, scenario.days + HISTORY) for exchange, _ in self._venues
        ]
        self._weight = self._bar_weight = 0
        for _, venue, weight, regular in self._slots():
            self._weight += weight
            self._bar_weight += len(self._venues[venue][1]) if regular else 0
        owned: dict[str, list[str]] = {}
        for account in reference.accounts(scenario):
            owned.setdefault(account.trader_id, []).append(f'"{account.account_id}"')
        self._traders = [(f'"{trader}"', ids) for trader, ids in owned.items()]
        self._activity = list(accumulate(1 / (at + 3) ** 0.9 for at in range(len(self._traders))))

    @property
    def most_bars(self) -> int:
        """One per minute of regular trading and listing: more one-minute bars do not exist."""
        return self._bar_weight

    def _slots(self) -> Iterator[tuple[int, int, int, bool]]:
        """Minute, venue, weight and whether it is in the regular session, by time."""

        def slots(venue: int) -> Iterator[tuple[int, int, int, bool]]:
            share = int(sum(self._popularity[venue]) * 1000)
            for session in self._sessions[venue][HISTORY:]:
                for minute, intensity in session.intensities():
                    yield minute, venue, share * intensity, session.opens <= minute < session.closes

        return merge(*(slots(venue) for venue in range(len(self._venues))))

    def minutes(self, trades: int, books: int, bars: int, hosts: Hosts) -> Iterator[tuple[int, list[Event]]]:
        """The given numbers of events, spread by intensity: each minute since 1970 and venue with its events."""
        dice, weight, bar_weight, now, before, level = self._dice, 0, 0, -1, 0.0, 0.0
        made_trades = made_books = made_bars = 0
        for minute, venue, share, regular in self._slots():
            if minute != now:
                now, before, level = minute, level, level + dice.gauss(0, _MARKET_STEP)
                stamp = event.iso(minute * MINUTE)[:17]
            weight += share
            exchange, members = self._venues[venue]
            bar_weight += len(members) if regular else 0
            until_trade, until_book = trades * weight // self._weight, books * weight // self._weight
            until_bar = bars * bar_weight // self._bar_weight
            count = until_trade - made_trades + until_book - made_books
            if count + until_bar - made_bars == 0:
                continue
            if count > 60_000:
                raise UsageError(f"simulator: {count} events in one minute of {exchange}, at most 60000; use more days")
            times = dice.sample(range(60_000), count)  # distinct milliseconds: no two books of a venue at one instant
            chosen = dice.choices(members, self._popularity[venue], k=count)
            barred = dice.sample(members, until_bar - made_bars)
            for at in {*chosen, *barred}:
                if self._walks[at].minute != minute:
                    self._walks[at].advance(minute, before, level, dice)
            ticks = zip(chosen, times, strict=True)
            batch = [
                *(self._trade(made_trades + n, *next(ticks), venue, minute, stamp, hosts[TRADES])
                  for n in range(until_trade - made_trades)),
                *(self._book(made_books + n, *next(ticks), venue, minute, stamp, hosts[BOOKS])
                  for n in range(until_book - made_books)),
                *(self._bar(made_bars + n, at, venue, minute, stamp, hosts[BARS]) for n, at in enumerate(barred)),
            ]  # fmt: skip
            made_trades, made_books, made_bars = until_trade, until_book, until_bar
            yield minute, batch

    def _trade(
        self, number: int, symbol: int, milli: int, venue: int, minute: int, stamp: str, hosts: Mapping[int, str]
    ) -> Event:
        dice, walk = self._dice, self._walks[symbol]
        random, listing, status = dice.random, walk.listing, hosts.get(number)
        micro = int(random() * 500) * 2
        luck = random()
        buy = luck < 0.51
        price = round((walk.begin + (walk.stop - walk.begin) * milli / 60_000) / listing.tick)
        if 0.2 < luck < 0.25:
            text = f"{(price + 0.5) * listing.tick:.{listing.decimals + 1}f}"  # filled at the midpoint
        else:
            text = f"{(price + 1 if buy else price) * listing.tick:.{listing.decimals}f}"
        quantity = listing.lot * _LOTS[int(random() * 15)]
        luck = random()
        if luck < 0.004:
            quantity *= 50
        elif luck < 0.2:
            quantity = int(1 + luck * 2000 * random())  # an odd lot
        trader = bisect(self._activity, random() * self._activity[-1])
        trader_id, accounts = self._traders[trader]
        # Even microseconds; late records have odd ones, so that neither takes the other's key.
        fields = {
            "trade_id": f'"{self._tag}-{number}"',
            "symbol": f'"{listing.symbol}"',
            "price": text,
            "quantity": str(quantity),
            "trade_type": '"BUY"' if buy else '"SELL"',
            "order_type": _ORDER_TYPES[int(random() * 20)],
            "trader_id": trader_id,
            "exchange": f'"{self._venues[venue][0]}"',
            "timestamp": f'"{stamp}{milli // 1000:02d}.{milli % 1000:03d}{micro:03d}Z"',
        }
        if (luck := random()) < 0.85:
            fields["account_id"] = accounts[luck > 0.65 and len(accounts) > 1]
        status = status or _STATUSES[int(random() * 100)]
        if status:
            fields["status"] = f'"{status}"'
        if random() < 0.4:
            fields["commission"] = f"{max(0.35, float(text) * quantity * 0.00012):.2f}"
        at = minute * MINUTE + milli * MILLI + micro
        found = Event(TRADES, number, listing.symbol.encode(), symbol, at, self._arrival(at), fields, trader)
        found.active = status != "CANCELLED"
        return self._finish(found, venue, number in hosts)

    def _book(
        self, number: int, symbol: int, milli: int, venue: int, minute: int, stamp: str, hosts: Mapping[int, str]
    ) -> Event:
        dice, walk = self._dice, self._walks[symbol]
        random, listing = dice.random, walk.listing
        tick, decimals, lot = listing.tick, listing.decimals, listing.lot
        micro = int(random() * 500) * 2
        price = round((walk.begin + (walk.stop - walk.begin) * milli / 60_000) / tick)
        bid = price - int(random() * 2)
        ask = price + 1 + int(random() * 2)
        gap = 1 if random() < 0.8 else 2
        levels = range(_FIRST_LEVELS + int(random() * _MORE_LEVELS))
        bids = ",".join(
            [f"[{(bid - n * gap) * tick:.{decimals}f},{lot * (1 + int((n + 2) * 4 * random()))}]" for n in levels]
        )
        asks = ",".join(
            [f"[{(ask + n * gap) * tick:.{decimals}f},{lot * (1 + int((n + 2) * 4 * random()))}]" for n in levels]
        )
        fields = {
            "symbol": f'"{listing.symbol}"',
            "snapshot_time": f'"{stamp}{milli // 1000:02d}.{milli % 1000:03d}{micro:03d}Z"',
            "bids": f"[{bids}]",
            "asks": f"[{asks}]",
            "exchange": f'"{self._venues[venue][0]}"',
        }
        at = minute * MINUTE + milli * MILLI + micro
        found = Event(BOOKS, number, listing.symbol.encode(), symbol, at, self._arrival(at), fields)
        return self._finish(found, venue, number in hosts)

    def _bar(self, number: int, symbol: int, venue: int, minute: int, stamp: str, hosts: Mapping[int, str]) -> Event:
        dice, walk = self._dice, self._walks[symbol]
        listing = walk.listing
        tick, decimals = listing.tick, listing.decimals
        first, last = round(walk.begin / tick), round(walk.stop / tick)
        high = max(first, last) + 1 + int(dice.expovariate(0.7))  # a buyer pays a tick more
        low = min(first, last) - int(dice.expovariate(0.7))
        volume = int(dice.lognormvariate(3.5, 1.1) + 1) * listing.lot
        fields = {
            "symbol": f'"{listing.symbol}"',
            "tick_time": f'"{stamp}00Z"',
            "open": f"{first * tick:.{decimals}f}",
            "high": f"{high * tick:.{decimals}f}",
            "low": f"{low * tick:.{decimals}f}",
            "close": f"{last * tick:.{decimals}f}",
            "volume": str(volume),
            "interval": '"1m"',
            "exchange": f'"{self._venues[venue][0]}"',
        }
        if dice.random() < 0.95:
            fields["vwap"] = f"{(first + high + low + last) * tick / 4:.{decimals + 2}f}"
            fields["trade_count"] = str(1 + volume // (3 * listing.lot))
        at = minute * MINUTE
        found = Event(BARS, number, listing.symbol.encode(), symbol, at, self._arrival(at + MINUTE), fields)
        return self._finish(found, venue, number in hosts)

    def _arrival(self, at: int) -> int:
        """Mostly within a second, some so late that others overtake them."""
        luck = self._dice.random()
        return at + (int(luck * SECOND) if luck < 0.98 else int((luck - 0.98) * 4500 * SECOND))

    def _finish(self, found: Event, venue: int, is_host: bool) -> Event:
        """Hosts keep the plain notation, for dirt to build on; a few others get an unusual one."""
        dice = self._dice
        if is_host:
            opens = [session.opens for session in self._sessions[venue]]
            today = bisect(opens, found.at // MINUTE + 12 * 60) - 1
            found.earlier = (opens[today] - opens[dice.randrange(max(0, today - HISTORY), today)]) * MINUTE
        elif dice.random() < _UNUSUAL:
            found.fields = dice.choice(event.NOTATIONS)(found, dice)
        return found
