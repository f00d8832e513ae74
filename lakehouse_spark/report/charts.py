"""The geometry of the page's charts: where to draw what, in the units of their viewBox; knows no markup."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate, groupby

from lakehouse_spark.report.model import Minute, TraderDay

WIDTH = 960.0
_LEFT, _RIGHT = 64.0, 20.0
_MINUTES = (1, 2, 5, 10, 15, 30)
_MOST_BARS = 150
_HOURS = (15, 30, 60, 120, 180, 360)


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Box:
    """A rectangle; `tip` is what it says when pointed at, a line each."""

    x: float
    y: float
    width: float
    height: float
    kind: str = ""
    tip: str = ""


@dataclass(frozen=True)
class Panel:
    """One chart of a column of charts that share their horizontal axis."""

    title: str
    top: float
    height: float
    ticks: tuple[Tick, ...]
    boxes: tuple[Box, ...] = ()
    lines: tuple[str, ...] = ()
    area: str = ""
    zero: float | None = None


@dataclass(frozen=True)
class Chart:
    height: float
    panels: tuple[Panel, ...]
    ticks: tuple[Tick, ...]
    hits: tuple[Box, ...]
    left: float = _LEFT
    right: float = WIDTH - _RIGHT


@dataclass(frozen=True)
class Scale:
    """A linear map of [low, high] to [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 2)


def round_steps(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` + 1 round numbers within [low, high]: multiples of 1, 2, 2.5 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def short(value: float) -> str:
    """A number in at most four digits: 12, 3.5K, 1.25M."""
    sign, value = "\N{MINUS SIGN}" if value < 0 else "", abs(value)
    for power, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= power:
            return sign + f"{value / power:.2f}".rstrip("0").rstrip(".") + unit
    return f"{sign}{value:.6g}"


def clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


# A symbol's day


@dataclass
class _Slot:
    """Some minutes in a row, drawn as one bar."""

    start: int
    minutes: list[Minute] = field(default_factory=list)

    @property
    def volume(self) -> int:
        return sum(minute.volume for minute in self.minutes)

    @property
    def trades(self) -> int:
        return sum(minute.trades for minute in self.minutes)

    @property
    def low(self) -> float | None:
        return min((float(m.low) for m in self.minutes if m.low is not None), default=None)

    @property
    def high(self) -> float | None:
        return max((float(m.high) for m in self.minutes if m.high is not None), default=None)

    @property
    def close(self) -> float | None:
        return next((float(m.price) for m in reversed(self.minutes) if m.price is not None), None)

    @property
    def spread(self) -> float | None:
        """The mean spread of the slot's order books."""
        known = [(m.spread, m.books) for m in self.minutes if m.spread is not None and m.books]
        return sum(spread * books for spread, books in known) / sum(books for _, books in known) if known else None


def day_chart(minutes: Sequence[Minute], price: Callable[[float], str]) -> Chart | None:
    """Price, volume and spread of a day, UTC; `price` writes a price. None without a minute."""
    if not minutes:
        return None
    first, last = minutes[0].at, minutes[-1].at + 1
    width = next((step for step in _MINUTES if (last - first) / step <= _MOST_BARS), _MINUTES[-1])
    slots = [
        _Slot(start, list(group)) for start, group in groupby(minutes, key=lambda minute: minute.at // width * width)
    ]
    begin, end = first // width * width, slots[-1].start + width
    x = Scale(begin, max(end, begin + 4 * width), _LEFT, WIDTH - _RIGHT)
    tops, heights = (24.0, 270.0, 384.0), (210.0, 78.0, 64.0)
    panels = (
        _price_panel(slots, minutes, x, width, tops[0], heights[0], price),
        _volume_panel(slots, x, width, tops[1], heights[1]),
        _spread_panel(slots, x, width, tops[2], heights[2], price),
    )
    bottom = tops[2] + heights[2]
    step = next((step for step in _HOURS if (end - begin) / step <= 12), _HOURS[-1])
    ticks = tuple(Tick(x(at), clock(at)) for at in range(-(-begin // step) * step, end + 1, step))
    hits = tuple(
        Box(
            x(slot.start),
            tops[0],
            x(slot.start + width) - x(slot.start),
            bottom - tops[0],
            "",
            _told(slot, width, price),
        )
        for slot in slots
    )
    return Chart(bottom + 26, panels, ticks, hits)


def _told(slot: _Slot, width: int, price: Callable[[float], str]) -> str:
    time = clock(slot.start) if width == 1 else f"{clock(slot.start)} to {clock(slot.start + width)}"
    lines = [f"{time} UTC"]
    if slot.close is not None and slot.low is not None and slot.high is not None:
        lines.append(f"price {price(slot.close)}, from {price(slot.low)} to {price(slot.high)}")
        lines.append(f"{slot.volume:,} shares in {slot.trades:,} trades")
    if slot.spread is not None:
        lines.append(f"mean spread {price(slot.spread)}")
    return "\n".join(lines)


def _price_panel(
    slots: Sequence[_Slot],
    minutes: Sequence[Minute],
    x: Scale,
    width: int,
    top: float,
    height: float,
    price: Callable[[float], str],
) -> Panel:
    lows, highs = [s.low for s in slots if s.low is not None], [s.high for s in slots if s.high is not None]
    if not lows:
        return Panel("Price", top, height, ())
    low, high = _padded(min(lows), max(highs))
    y = Scale(low, high, top + height, top)
    bars = tuple(
        _bar(s, x, width, y(s.high), y(s.low), "range") for s in slots if s.low is not None and s.high is not None
    )
    points = [(x(m.at + 0.5), y(float(m.price))) for m in minutes if m.price is not None]
    return Panel("Price", top, height, _y_ticks(low, high, y, price), bars, (_steps(points),))


def _volume_panel(slots: Sequence[_Slot], x: Scale, width: int, top: float, height: float) -> Panel:
    most = max((slot.volume for slot in slots), default=0)
    y = Scale(0, max(most, 1) * 1.05, top + height, top)
    bars = tuple(_bar(s, x, width, y(s.volume), top + height, "volume") for s in slots if s.volume)
    return Panel("Volume, shares", top, height, _y_ticks(0, most, y, short, 3), bars)


def _spread_panel(
    slots: Sequence[_Slot], x: Scale, width: int, top: float, height: float, price: Callable[[float], str]
) -> Panel:
    spreads = [slot.spread for slot in slots if slot.spread is not None]
    if not spreads:
        return Panel("Spread: no order book that day", top, height, ())
    high = max(max(spreads) * 1.05, 1e-6)
    y = Scale(0, high, top + height, top)
    bars = tuple(_bar(s, x, width, y(s.spread), top + height, "spread") for s in slots if s.spread is not None)
    return Panel("Mean spread", top, height, _y_ticks(0, high, y, price, 3), bars)


def _bar(slot: _Slot, x: Scale, width: int, top: float, bottom: float, kind: str) -> Box:
    """A bar over the slot's minutes with a little air beside it; never so flat that it vanishes."""
    left, right = x(slot.start), x(slot.start + width)
    return Box(left + 0.5, top, max(right - left - 1, 0.8), max(bottom - top, 1), kind)


# A trader's days


def pnl_chart(days: Sequence[TraderDay], money: Callable[[Decimal | float], str]) -> Chart | None:
    """Realized P&L day by day, its running total, and how far that is below its peak; None without a day."""
    if not days:
        return None
    gains = [float(day.pnl) for day in days]
    totals, falls = [float(total) for total in accumulate(day.pnl for day in days)], drawdowns(days)
    slot = (WIDTH - _LEFT - _RIGHT) / len(days)
    centres = [round(_LEFT + slot * (number + 0.5), 2) for number in range(len(days))]
    tops, heights = (24.0, 262.0), (200.0, 76.0)
    low, high = _padded(min(0.0, *totals, *gains), max(0.0, *totals, *gains))
    y = Scale(low, high, tops[0] + heights[0], tops[0])
    bar = min(slot * 0.7, 56.0)
    bars = tuple(
        Box(centre - bar / 2, min(y(gain), y(0)), bar, max(abs(y(gain) - y(0)), 0.8), "gain" if gain >= 0 else "loss")
        for centre, gain in zip(centres, gains, strict=True)
    )
    line = list(zip(centres, map(y, totals), strict=True))
    total = Panel("Realized P&L: each day (bars) and in total (line)", tops[0], heights[0],
                  _y_ticks(low, high, y, short), bars, (_line(line),), zero=y(0))  # fmt: skip
    deepest = max([*map(float, falls), 0.0])
    down = Scale(0, deepest * 1.05 or 1.0, tops[1], tops[1] + heights[1])
    below = list(zip(centres, (down(float(fall)) for fall in falls), strict=True))
    fall = Panel("Drawdown: total below its peak", tops[1], heights[1],
                 tuple(Tick(down(t), short(-t) if t else "0") for t in round_steps(0, deepest, 3)),
                 (), (_line(below),), _area(below, tops[1]))  # fmt: skip
    bottom = tops[1] + heights[1]
    every = -(-len(days) // 10)
    ticks = tuple(Tick(centres[n], days[n].day.isoformat()) for n in range(0, len(days), every))
    hits = tuple(
        Box(centre - slot / 2, tops[0], slot, bottom - tops[0], "",
            f"{day.day.isoformat()}\nP&L {money(day.pnl)}\nin total {money(total_)}\nbelow peak {money(fell)}")
        for centre, day, total_, fell in zip(centres, days, totals, falls, strict=True)
    )  # fmt: skip
    return Chart(bottom + 26, (total, fall), ticks, hits)


def drawdowns(days: Sequence[TraderDay]) -> list[Decimal]:
    """After each day, how far the total P&L is below its peak so far, which starts at 0."""
    totals = list(accumulate(day.pnl for day in days))
    peaks = list(accumulate(totals, max, initial=Decimal(0)))[1:]
    return [peak - total for peak, total in zip(peaks, totals, strict=True)]


def _padded(low: float, high: float) -> tuple[float, float]:
    """A little room around the values, also where they are all one."""
    room = (high - low) * 0.06 or abs(high) * 0.01 or 1.0
    return low - room, high + room


def _y_ticks(low: float, high: float, y: Scale, text: Callable[[float], str], most: int = 5) -> tuple[Tick, ...]:
    return tuple(Tick(y(value), text(value)) for value in round_steps(low, high, most))


def _line(points: Sequence[tuple[float, float]]) -> str:
    """A path through the points; one point alone becomes a dot."""
    return f"M{points[0][0]} {points[0][1]}" + "".join(f"L{a} {b}" for a, b in points[1:] or points)


def _steps(points: Sequence[tuple[float, float]]) -> str:
    """A path that keeps each value until the next one."""
    return f"M{points[0][0]} {points[0][1]}" + "".join(f"H{a}V{b}" for a, b in points[1:] or points)


def _area(points: Sequence[tuple[float, float]], base: float) -> str:
    return f"M{points[0][0]} {base}" + "".join(f"L{a} {b}" for a, b in points) + f"L{points[-1][0]} {base}Z"
