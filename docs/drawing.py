"""The drawings: the rooms as pyproject.toml stacks them, the lineage of the tables, live mode's memory as measured."""

import ast
import re
import tomllib
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from textwrap import wrap

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.schema import dictionary

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lakehouse_spark"

WIDTH, MARGIN, GAP = 960, 16, 8
_STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1b1f24 }
.name { font-weight: 600 } .small { font-size: 11.5px; fill: #57606a }
rect { fill: #f6f8fa; stroke: #8c959f } .paper { fill: #fff; stroke: none }
.bronze { fill: #f6e7d8 } .silver { fill: #eaeef2 } .gold { fill: #fbf0c4 } .dim { fill: #dff0e4 }
path { fill: none; stroke: #8c959f } .lookup { stroke-dasharray: 4 4 }
</style>"""
_LOOKUP = ' class="lookup"'
_MEBIBYTES = {
    "heap behind a collection": (151.8, 142.1, 158.3, 147.2, 165.7, 161.5, 158.5, 159.7, 159.6, 167.1),
    "metaspace": (84.8, 86.8, 87.9, 88.5, 88.9, 89.1, 88.2, 88.2, 88.6, 89.0),
    "Python": (225.6, 226.8, 228.3, 229.8, 230.9, 232.2, 233.3, 234.8, 235.9, 237.3),
}
"""As tests/integration/test_live.py printed them on 2026-11-29, behind every twentieth of 200 beats."""


def layers() -> list[list[str]]:
    """The rooms from the top down, those of one line beside each other; rooms that are only planned are left out."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    lines = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rooms = ([name.strip(" ()") for name in re.split(r"[|:]", line)] for line in lines)
    return [there for line in rooms if (there := [name for name in line if _source(name).is_file()])]


def holds(room: str) -> str:
    """The first line of the room's docstring."""
    docstring = ast.get_docstring(ast.parse(_source(room).read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ").replace("`", "")


def _source(room: str) -> Path:
    module = PACKAGE / f"{room}.py"
    return module if module.is_file() else PACKAGE / room / "__init__.py"


def rooms() -> str:
    """A box per room; a room may import those below it, never one beside or above it."""
    parts, top, height, indent = [], MARGIN, 42, 104
    for line in layers():
        width = (WIDTH - 2 * MARGIN - GAP * (len(line) - 1)) / len(line)
        for number, room in enumerate(line):
            left = MARGIN + number * (width + GAP)
            parts.append(_box(left, top, width, height, room if room in dictionary.LAYERS else ""))
            parts.append(_text(left + 12, top + height / 2 + 5, room, "name"))
            said = wrap(holds(room), int((width - indent) / 6.4))[:2]
            above = top + height / 2 + 4 - 8 * (len(said) - 1)
            parts += [_text(left + indent, above + 16 * row, words, "small") for row, words in enumerate(said)]
        top += height + GAP
    return _svg(top - GAP + MARGIN, "The rooms of lakehouse_spark: imports point down only", parts)


def lineage() -> str:
    """A column per step from the sources; a line from each table to what is built from it, dashed for lookups."""
    depth: dict[str, int] = {}
    for table in TABLES:
        depth[table.name] = 1 + max((depth[source] for source in table.sources), default=-1)
    follows = {name for edge in dictionary.edges() for name in edge[:2]}
    columns = [
        [name for name in depth if name in follows and depth[name] == step] for step in range(max(depth.values()) + 1)
    ]
    width, height, row, gap = 150, 26, 50, 48
    tallest = max(map(len, columns))
    at = {
        name: (MARGIN + step * (width + gap), MARGIN + row * (number + (tallest - len(column)) / 2))
        for step, column in enumerate(columns)
        for number, name in enumerate(column)
    }
    parts = []
    for source, target, is_lookup in dictionary.edges():
        (left, top), (right, below) = at[source], at[target]
        x, y, end = left + width, top + height / 2, below + height / 2
        curve = f"M{x:.0f} {y:.0f} C{x + 30:.0f} {y:.0f} {right - 30:.0f} {end:.0f} {right:.0f} {end:.0f}"
        parts.append(f'<path d="{curve}"{_LOOKUP if is_lookup else ""}/>')
    for name, (left, top) in at.items():
        parts.append(_box(left, top, width, height, name.partition(".")[0]))
        parts.append(_text(left + 8, top + 17, name.partition(".")[2], "small"))
    wide = 2 * MARGIN + len(columns) * (width + gap) - gap
    return _svg(MARGIN + row * tallest, "Which table is built from which", parts, wide)


def memory() -> str:
    """A line for each kind of memory, by beats."""
    height, most, left, right = 240, 260, 60, 700
    parts = []
    for mark in range(0, most, 50):
        y = MARGIN + height - height * mark / most
        parts += [f'<path class="lookup" d="M{left} {y:.0f} H{right}"/>', _text(MARGIN, y + 4, f"{mark} MiB", "small")]
    for name, values in _MEBIBYTES.items():
        step = (right - left) / len(values)
        points = [(left + step * (n + 1), MARGIN + height - height * value / most) for n, value in enumerate(values)]
        parts.append(f'<path d="M{" L".join(f"{x:.0f} {y:.1f}" for x, y in points)}"/>')
        parts.append(_text(right + 10, points[-1][1] + 4, f"{name}: {values[-1]:.0f}", "small"))
    for beat in range(20, 201, 20):
        parts.append(_text(left + (right - left) * beat / 200 - 10, MARGIN + height + 18, str(beat), "small"))
    return _svg(height + 3 * MARGIN, "Memory of live mode over 200 beats, in MiB", parts, WIDTH - 60)


def _box(left: float, top: float, width: float, height: float, kind: str) -> str:
    classed = f' class="{kind}"' if kind else ""
    return f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6"{classed}/>'


def _text(left: float, top: float, words: str, kind: str) -> str:
    return f'<text x="{left:.0f}" y="{top:.0f}" class="{kind}">{escape(words)}</text>'


def _svg(height: float, title: str, parts: Iterable[str], width: float = WIDTH) -> str:
    size = f"0 0 {width:.0f} {height:.0f}"
    lines: Sequence[str] = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" role="img" aria-label="{escape(title)}">',
        _STYLE,
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
