"""What one row, file, snapshot or commit costs: every figure with where it comes from. No other number is measured."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
SIMULATED = RESULTS / "scale.json"

OURS = "lakehouse"
MIB = 2**20


@dataclass(frozen=True)
class Figure:
    """What one of something costs, and the workload, or the reckoning, that says so."""

    value: float
    unit: str
    source: str
    kind: str = "measured"
    """Or `difference` of measured ones, `simulated` without Spark, `assumed`."""


@cache
def samples(workload: str) -> Sequence[Mapping[str, Any]]:
    """The warm turns of a workload."""
    text = (RESULTS / f"{workload}.json").read_text(encoding="utf-8")
    return [sample for sample in json.loads(text)["samples"] if sample["turn"] == "warm"]


@cache
def simulated() -> Mapping[str, Any]:
    """What `simulated` found."""
    found: Mapping[str, Any] = json.loads(SIMULATED.read_text(encoding="utf-8"))
    return found


def of(workload: str, case: str, measure: str = "cpu", contender: str = OURS) -> float:
    """A measure's median; of `mib`, what the files of the result hold."""
    turns = [s for s in samples(workload) if (s["case"], s["contender"]) == (case, contender)]
    return float(median(s["result"][measure] if measure == "mib" else s[measure] for s in turns))


def _more(workload: str, small: str, large: str, millions: float, measure: str = "cpu") -> float:
    """What one more million rows costs, between two sizes: so nothing of what every run costs."""
    return (of(workload, large, measure) - of(workload, small, measure)) / millions


def _layers(case: str) -> Mapping[str, float]:
    """CPU seconds by layer of W8's cycle: its own, in the proportion of the layers' wall seconds."""
    turns = [s for s in samples("W8") if (s["case"], s["contender"]) == (case, OURS)]
    found = [_layers_of(turn) for turn in turns]
    return {name: median(each[name] for each in found) for name in found[0]}


def _layers_of(turn: Mapping[str, Any]) -> Mapping[str, float]:
    """Two tables go at once: a layer takes as long as the longer row of steps that follow each other."""
    wall, rate = turn["details"]["seconds"], turn["cpu"] / turn["wall"]
    summed = wall["gold.daily_trading_summary"] + wall["gold.market_overview"]
    lots = ("gold._open_lots", "gold.trader_performance", "gold.portfolio_positions")
    seconds = {
        "bronze": wall["bronze.raw_trades"],
        "silver": max(wall["silver.trades"], wall["silver.orderbook_snapshots"]),
        "activity": wall["silver.trader_activity"],
        "facts": max(wall["gold.fact_trades"], wall["gold.fact_orderbook"]),
        "symbols": max(summed, wall["gold.trade_analytics"]),
        "lots": sum(wall[name] for name in lots),
    }
    return {name: each * rate for name, each in seconds.items()}


TRADES, BOOKS = 0.72, 0.18
"""Millions that W8's case of 1 M events has more than that of 100 k."""


def _in_the_cycle(layer: str) -> float:
    return _layers("1 M")[layer] - _layers("100 k")[layer]


def _books(layer: str, of_a_trade: float) -> float:
    """A million books: what W8's layer costs beside its trades, which another workload measured alone."""
    return (_in_the_cycle(layer) - TRADES * of_a_trade) / BOOKS


def snapshot_bytes(partitions: int) -> float:
    """Of a bronze snapshot in the file of metadata: on a line through 3 partitions (W7) and 200 (simulated)."""
    few = of("W7", "10 k snapshots", "written_mib", "lakehouse commit") * MIB / 3 / 10_000
    many = simulated()["metadata, 200 partitions"]["bytes of a snapshot"]
    return float(few + (many - few) * (partitions - 3) / 197)


_MILLION, _CPU = 1_000_000, "CPU s a million"


@cache
def all_figures() -> Mapping[str, Figure]:
    """By name; the values of one name are of one unit."""
    return dict(_figures())


def value(name: str) -> float:
    return all_figures()[name].value


def _figures() -> Iterator[tuple[str, Figure]]:
    trades = {
        "bronze": _more("W1", "1 M", "5 M", 4),
        "silver": _more("W2", "100 k", "1 M", 0.9),
        "facts": _more("W4", "1 M, 1 version", "5 M, 1 version", 4),
    }
    sources = {"bronze": "W1, 5 M less 1 M", "silver": "W2, 1 M less 100 k", "facts": "W4, 1 version, 5 M less 1 M"}
    for layer, cost in trades.items():
        yield f"trades to {layer}", Figure(cost, _CPU, sources[layer])
    for layer, cost in trades.items():
        source = f"W8, 1 M less 100 k: the layer, less its trades as by {sources[layer][:2]}"
        yield f"books to {layer}", Figure(_books(layer, cost), _CPU, source, "difference")
    for layer, what in (("activity", "trades read for trader_activity"), ("symbols", "trades read for gold's symbols")):
        cost = _in_the_cycle(layer) / TRADES
        yield what, Figure(cost, _CPU, "W8, 1 M less 100 k, by wall seconds of the tables", "difference")
    cost = _in_the_cycle("lots") / TRADES
    yield "trades and open lots matched", Figure(cost, _CPU, "W8, the same", "difference")
    read = of("W6", "1 k files", contender="a read after") / 0.2
    yield "rows read and added up", Figure(read, _CPU, "W6, 1 k files: a read after")
    random, ordered = "100 k, 30x history, random ids", "100 k, 30x history"
    for name, measure, scale, unit in (
        ("held rows looked through for a key", "cpu", 1, _CPU),
        ("the same, read", "read_mib", MIB / _MILLION, "bytes a row"),
        ("the same, written to disk", "written_mib", MIB / _MILLION, "bytes a row"),
    ):
        more = (of("W2", random, measure) - of("W2", ordered, measure)) / 3 * scale
        yield name, Figure(more, unit, "W2, 30x history: random ids less ids in order", "difference")
    members = "10 k of a million members loaded"
    yield members, Figure(of("W3", "1 M, 1 %"), "CPU s", "W3, 1 M, 1 %")
    yield f"{members}, read", Figure(of("W3", "1 M, 1 %", "read_mib"), "MiB", "W3, 1 M, 1 %")
    yield f"{members}, written", Figure(of("W3", "1 M, 1 %", "mib"), "MiB", "W3, 1 M, 1 %: files of the result")
    written = _more("W2", "100 k", "1 M", 0.9, "written_mib") * MIB / _MILLION
    yield "silver's batch, written to disk", Figure(written, "bytes a row", "W2, 1 M less 100 k: shuffles and spills")
    memory = _more("W2", "100 k", "1 M", 0.9, "peak_rss_mib") * MIB / _MILLION
    yield "silver's batch, in memory", Figure(memory, "bytes a row", "W2, 1 M less 100 k: peak RSS, of a heap of 3 GB")
    yield from _of_bytes()
    yield from _of_files_and_commits()


def _of_bytes() -> Iterator[tuple[str, Figure]]:
    rows = {"bronze.raw_trades": ("W1", "5 M", 5), "silver.trades": ("W2", "1 M", 0.99)}
    rows["gold.fact_trades"] = ("W4", "5 M, 1 version", 5)
    for table, (workload, case, millions) in rows.items():
        size = of(workload, case, "mib") * MIB / millions / _MILLION
        yield table, Figure(size, "bytes a row", f"{workload}, {case}: files of the result")
    books, source = simulated()["bytes a row, 10 levels a side"], "10 levels a side, as Parquet by DuckDB"
    for table in ("bronze.raw_orderbook", "silver.orderbook_snapshots", "gold.fact_orderbook"):
        yield table, Figure(books[table], "bytes a row", source, "simulated")
    for name in ("trades", "books"):
        yield f"payload of {name}", Figure(books[f"payload of {name}"], "bytes a record", source, "simulated")


def _of_files_and_commits() -> Iterator[tuple[str, Figure]]:
    opened = (of("W6", "1 k files", contender="a read before") - of("W6", "1 k files", contender="a read after")) / 1000
    yield "a file opened", Figure(opened, "CPU s", "W6, 1 k files: a read before less a read after")
    planned = of("W6", "a plan of 100 k files", contender="lakehouse plan") / 100_000
    yield "a file planned", Figure(planned, "s on the driver", "W6, a plan of 100 k files")
    entry = of("W6", "a plan of 100 k files", "read_mib", "lakehouse plan") * MIB / 100_000
    yield "a file in its manifest", Figure(entry, "bytes", "W6, a plan of 100 k files: bytes read")
    [turn] = [s for s in samples("W1") if s["case"] == "1000 commits"]
    yield "a commit to bronze", Figure(median(turn["details"]["commit_seconds"]), "s", "W1, 1000 commits")
    few, many = "1 k snapshots", "60 k snapshots"
    longer = of("W7", many, "wall", "lakehouse commit") - of("W7", few, "wall", "lakehouse commit")
    larger = of("W7", many, "written_mib", "lakehouse commit") - of("W7", few, "written_mib", "lakehouse commit")
    yield (
        "a commit, by its metadata",
        Figure(longer / larger * 3, "s a MiB", "W7, 60 k less 1 k snapshots; a third of it"),
    )
    yield "cores kept busy", Figure(of("W8", "1 M") / of("W8", "1 M", "wall") / 2, "of each", "W8, 1 M")
    yield "a small beat", Figure(of("W9", "1 day", "wall"), "s", "W9, 10 k events on one day")
