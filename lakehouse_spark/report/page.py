"""The report as one HTML page that needs nothing else: no other file, no network. Every value is escaped by Jinja2."""

import base64
import hashlib
import shlex
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lakehouse_spark.iceberg.inventory import TableState
from lakehouse_spark.report import charts, sankey
from lakehouse_spark.report.model import Report, Trader

TEMPLATE, SCRIPT = "report.html.j2", "report.js"
NONE = "\N{EN DASH}"
"""Stands where there is no value."""

_MOST_REASONS = 25


def render(report: Report) -> str:
    """The page. It shows what the report holds and says of the rest why it is missing."""
    environment = _environment()
    script, _, _ = environment.loader.get_source(environment, SCRIPT)  # type: ignore[union-attr]
    day, trader = report.symbol_day, report.trader
    return environment.get_template(TEMPLATE).render(
        report=report,
        tiles=_tiles(report),
        flow=sankey.sankey(report.flows),
        rejects=_rejects(report),
        layers=_layers(report.tables),
        day_chart=charts.day_chart(day.minutes, price) if day else None,
        day_facts=_day_facts(day.summary) if day and day.summary else [],
        pnl_chart=charts.pnl_chart(trader.days, money) if trader else None,
        trader_facts=_trader_facts(trader) if trader and trader.days else [],
        commands={name: _command(*subject) for name, subject in report.subjects.items()},
        script_hash=_integrity(script.removesuffix("\n")),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lakehouse_spark.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number, "price": price, "money": money, "size": size, "instant": instant, "duration": duration,
        "percent": percent, "or_none": lambda value: NONE if value is None else value,
    }  # fmt: skip
    return environment


def _integrity(script: str) -> str:
    """The one script's hash, for the page's policy: whatever a value holds, no other script runs."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


# Values as texts


def number(value: int | None) -> str:
    return NONE if value is None else f"{value:,}"


def price(value: Decimal | float | None) -> str:
    """Two digits at least, four at most; six below 1."""
    if value is None:
        return NONE
    text = f"{value:,.4f}" if value >= 1 or value <= -1 else f"{value:.6f}"
    whole, _, digits = text.partition(".")
    return whole + "." + digits.rstrip("0").ljust(2, "0")


def money(value: Decimal | float | None) -> str:
    return NONE if value is None else f"{value:,.2f}".replace("-", "\N{MINUS SIGN}")


def percent(value: Decimal | float | None) -> str:
    return NONE if value is None else f"{value:+,.2f} %".replace("-", "\N{MINUS SIGN}")


def size(count: int | None) -> str:
    if count is None:
        return NONE
    if count < 1024:
        return f"{count} B"
    value, unit = count / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB", "PiB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"


def instant(value: datetime | None) -> str:
    return NONE if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float | None) -> str:
    """Roughly: the largest unit, of days, hours, minutes and seconds, and the next one."""
    if seconds is None:
        return NONE
    left, parts = int(max(seconds, 0)), list[tuple[int, str]]()
    for name, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        parts.append((left // length, name))
        left %= length
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    largest = [f"{count} {name}" for count, name in parts[first : first + 2] if count]
    return " ".join(largest) or "under 1 s"


# Parts of the page


def _tiles(report: Report) -> list[dict[str, str]]:
    """The few numbers to look at first."""
    bronze, rejected, waiting = (
        sum(getattr(flow, name) for flow in report.flows) for name in ("bronze", "rejected", "waiting")
    )
    behind = [table for table in report.tables if table.lags]
    share = f"{100 * rejected / bronze:.2f} % of all" if bronze else "nothing ingested yet"
    return [
        {"name": "Records in bronze", "value": number(bronze), "note": f"{number(waiting)} not judged yet"},
        {"name": "Rejected", "value": number(rejected), "note": share},
        {
            "name": "Tables behind",
            "value": number(len(behind)),
            "note": f"of {len(report.tables)}" if behind or not report.tables else "all have what is upstream",
            "state": "warn" if behind else "good",
        },
        {
            "name": "Data files",
            "value": number(sum(table.data_files for table in report.tables)),
            "note": size(sum(table.bytes for table in report.tables)),
        },
    ]


def _rejects(report: Report) -> dict[str, Any]:
    """Per reason its records by topic, most frequent first; widths in percent of the most frequent one."""
    rejects, known = report.rejects, [flow.topic for flow in report.flows]
    topics = [*known, *sorted({row.topic for row in rejects} - set(known))]
    by_reason: dict[str, dict[str, int]] = {}
    for row in rejects:
        counts = by_reason.setdefault(row.reason, {})
        counts[row.topic] = counts.get(row.topic, 0) + row.records
    ranked = sorted(by_reason.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    most = max((sum(counts.values()) for _, counts in ranked), default=1)
    rows = [
        {
            "reason": reason,
            "records": sum(counts.values()),
            "parts": [
                {
                    "number": place,
                    "topic": topic,
                    "records": counts[topic],
                    "width": round(100 * counts[topic] / most, 2),
                }
                for place, topic in enumerate(topics)
                if topic in counts
            ],
        }
        for reason, counts in ranked
    ]
    rest = rows[_MOST_REASONS:]
    return {"topics": topics, "rows": rows[:_MOST_REASONS], "rest": rest, "rest_sum": sum(r["records"] for r in rest)}


def _layers(tables: Iterable[TableState]) -> list[dict[str, Any]]:
    """The tables by layer, in the catalog's order."""
    return [
        {"name": layer, "tables": list(group)}
        for layer, group in groupby(tables, key=lambda table: table.name.partition(".")[0])
    ]


def _day_facts(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = [
        ("Open", price, "open_price"),
        ("High", price, "high_price"),
        ("Low", price, "low_price"),
        ("Close", price, "close_price"),
        ("Change", percent, "price_change_pct"),
        ("VWAP", price, "vwap"),
        ("Volume", number, "total_volume"),
        ("Trades", number, "trade_count"),
        ("Mean spread", price, "avg_spread"),
    ]
    return [{"name": name, "value": shown(summary[column]), "column": column} for name, shown, column in rows]


def _trader_facts(trader: Trader) -> list[dict[str, str]]:
    last = trader.days[-1]
    total = sum((day.pnl for day in trader.days), Decimal(0))
    wins = NONE if last.win_rate is None else f"{100 * last.win_rate:.1f} %"
    rows = [
        ("Realized P&L", money(total), ""),
        ("Deepest drawdown", money(max(charts.drawdowns(trader.days))), ""),
        ("Days traded", number(len(trader.days)), ""),
        ("Trades", number(sum(day.trades for day in trader.days)), ""),
        ("Last day's P&L", money(last.pnl), "realized_pnl"),
        ("Last day's win rate", wins, "win_rate"),
    ]
    return [{"name": name, "value": value, "column": column} for name, value, column in rows]


def _command(table: str, key: Mapping[str, str]) -> str:
    """What to type to trace a row."""
    return shlex.join(["lakehouse", "trace", table, *(f"{name}={value}" for name, value in key.items())])
