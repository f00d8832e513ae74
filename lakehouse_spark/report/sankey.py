"""The geometry of the flow of records: topics one below the other, layers from left to right."""

from collections.abc import Sequence
from dataclasses import dataclass

from lakehouse_spark.report.charts import Box
from lakehouse_spark.report.model import Flow


@dataclass(frozen=True)
class Label:
    x: float
    y: float
    text: str
    anchor: str = "start"
    strong: str = ""


@dataclass(frozen=True)
class Ribbon:
    path: str
    kind: str
    tip: str


@dataclass(frozen=True)
class Sankey:
    height: float
    nodes: tuple[Box, ...]
    ribbons: tuple[Ribbon, ...]
    labels: tuple[Label, ...]


_NODE, _GAP, _THINNEST = 12.0, 20.0, 1.5
_COLUMNS = (130.0, 360.0, 620.0, 838.0)
_FLOW_HEIGHT = 320.0


def sankey(flows: Sequence[Flow]) -> Sankey | None:
    """Topics one below the other, all to one scale; None where there is no record to draw."""
    drawn = [flow for flow in flows if flow.bronze]
    if not drawn:
        return None
    unit = _FLOW_HEIGHT / sum(flow.bronze for flow in drawn)
    nodes: list[Box] = []
    ribbons: list[Ribbon] = []
    labels = [
        Label(x + (_NODE if anchor == "end" else 0), 12, text, anchor)
        for x, text, anchor in zip(
            _COLUMNS, ("Bronze", "Judged", "Silver", "Facts"), ("end", "start", "start", "start"), strict=True
        )
    ]
    top = 30.0
    for flow in drawn:
        top = _topic(flow, top, unit, nodes, ribbons, labels) + 26
    return Sankey(round(top, 1), tuple(nodes), tuple(ribbons), tuple(labels))


def _topic(flow: Flow, top: float, unit: float, nodes: list[Box], ribbons: list[Ribbon], labels: list[Label]) -> float:
    """Draws one topic and returns where it ends."""

    def node(column: int, y: float, records: int, kind: str, name: str) -> Box:
        height = max(records * unit, _THINNEST)
        box = Box(_COLUMNS[column], round(y, 2), _NODE, round(height, 2), kind, f"{flow.topic}: {records:,} {name}")
        nodes.append(box)
        middle = box.y + box.height / 2 + 4
        if column == 0:
            labels.append(Label(box.x - 8, middle - 7, flow.topic, "end"))
            labels.append(Label(box.x - 8, middle + 8, "", "end", f"{records:,}"))
        else:
            labels.append(Label(box.x + _NODE + 7, middle, name, "start", f"{records:,}"))
        return box

    def ribbon(source: Box, offset: float, target: Box, kind: str) -> None:
        height = min(target.height, source.height)
        ribbons.append(Ribbon(_ribbon(source, source.y + offset, target, height), kind, target.tip))

    bronze = node(0, top, flow.bronze, "bronze", "records")
    outcomes = [
        (flow.accepted, "accepted"),
        (flow.waiting, "waiting"),
        (flow.duplicates, "duplicates"),
        (flow.rejected, "rejected"),
    ]
    judged: dict[str, Box] = {}
    y, offset = top, 0.0
    for records, kind in outcomes:
        if not records:
            continue
        judged[kind] = node(1, y, records, kind, kind)
        ribbon(bronze, min(offset, bronze.height - _THINNEST), judged[kind], kind)
        offset += records * unit
        y += max(judged[kind].height, 2.0) + _GAP
    end = max(y - _GAP, bronze.y + bronze.height)
    if "accepted" not in judged or not flow.silver:
        return end + 6
    accepted = judged["accepted"]
    silver = node(2, top, flow.silver, "silver", "rows")
    ribbon(accepted, 0, silver, "accepted")
    if flow.updates:
        changed = node(2, top + silver.height + _GAP, flow.updates, "updates", "changed a row")
        ribbon(accepted, max(accepted.height - changed.height, 0), changed, "updates")
        end = max(end, changed.y + changed.height)
    if flow.facts:
        ribbon(silver, 0, node(3, top, flow.facts, "gold", "facts"), "accepted")
    return end + 6


def _ribbon(source: Box, y: float, target: Box, height: float) -> str:
    x0, x1 = source.x + source.width, target.x
    middle = (x0 + x1) / 2
    y0, y1 = round(y, 2), target.y
    y2, y3 = round(y0 + height, 2), round(y1 + height, 2)
    return f"M{x0} {y0}C{middle} {y0} {middle} {y1} {x1} {y1}V{y3}C{middle} {y3} {middle} {y2} {x0} {y2}Z"
