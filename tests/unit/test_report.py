"""The page of `lakehouse report`: what it shows of given values, and that no value can break out of it."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import lakehouse_spark
from lakehouse_spark import report
from lakehouse_spark.errors import UsageError
from lakehouse_spark.report import charts, page, sankey
from lakehouse_spark.report.model import Flow, Listed, Minute, Rejects, Report, Traced, TracedColumn, TraderDay
from tests.support.reports import EVIL, FULL, HOSTILE, NOW

TEMPLATES = Path(lakehouse_spark.__file__).parent / "report" / "templates"


class Parsed(HTMLParser):
    """The page as a browser reads it: its elements with their attributes, its texts, and its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def count(self, tag: str) -> int:
        return sum(1 for name, _ in self.elements if name == tag)


def test_a_full_report_tells_its_numbers() -> None:
    text = Parsed(page.render(FULL)).text

    for told in (
        "made at 2025-06-06 22:00:00 UTC",
        "Records in bronze 1,000 40 not judged yet",
        "Rejected 35 3.50 % of all",
        "Tables behind 1 of 3",
        "raw_trades 1,000 900 25 35 40 880 880",
        "invalid_price 30",
        "AAPL on 2025-06-06",
        "Apple Inc., NASDAQ, Technology.",
        "Open 187.50 High 188.25 Low 187.10 Close 187.90 Change \N{MINUS SIGN}1.23 % VWAP 187.6543 Volume 1,234,567",
        "Trader TR1, Ada",
        "Realized P&L 80.25 Deepest drawdown 30.25 Days traded 3 Trades 6 Last day's P&L 10.00",
        "Last day's win rate 62.5 %",
        "Largest positions at the end of 2025-06-06",
        "TR1 AC1 AAPL -40 10.00 12.00 \N{MINUS SIGN}480.00 \N{MINUS SIGN}80.00 \N{MINUS SIGN}20.00 %",
        "trades 2025-06-06 20:00:00 2 h bronze.raw_trades: 40 rows, 1 h 58 min",
        "fact_trades 2025-06-05 20:00:00 1 d 2 h up to date",
        "trades 880 2 1 2.9 KiB 1000 B 2",
        "fact_trades 880 1 0 4.8 MiB 4.8 MiB 2",
    ):
        assert told in text


TRACED = Traced(
    "gold.daily_trading_summary",
    {"summary_date": "2025-06-06", "symbol": EVIL},
    (
        TracedColumn("vwap", "187.654321", "187.654321", True, "Volume-weighted"),
        TracedColumn("close_price", EVIL, "1", False, EVIL),
    ),
    (Listed(EVIL, 3, ("record", EVIL), ((EVIL, "a"),)), Listed("nothing of this", 0, (), ())),
    (EVIL,),
)


def test_a_number_leads_to_where_it_comes_from() -> None:
    said = Parsed(page.render(replace(FULL, traces={"symbol": TRACED})))
    links = [found["href"] for tag, found in said.elements if tag == "a" and "#trace-" in str(found.get("href"))]
    assert links[:2] == ["#trace-symbol-open_price", "#trace-symbol-high_price"]
    assert "#trace-symbol" in links
    ids = {found.get("id") for _, found in said.elements}
    assert {"trace-symbol", "trace-symbol-vwap", "trace-symbol-close_price"} <= ids
    assert "vwap 187.654321 187.654321 equal Volume-weighted" in said.text
    assert "1 differs" in said.text
    assert ": 3, of which 1" in said.text
    assert "nothing of this" not in said.text
    assert {tag for tag, _ in said.elements}.isdisjoint({"img"})
    assert said.count("script") == 1


def test_a_row_that_is_gone_meanwhile_costs_its_trace_and_not_the_page() -> None:
    def trace(name: str, key: Mapping[str, str]) -> Traced:
        if name == "gold.trader_performance":
            raise UsageError(f"{name} has no row with {key['trader_id']}")
        return TRACED

    found = report._traced(FULL, trace)
    assert [*found.traces] == ["symbol", "position"]
    assert found.missing == ("not traced: gold.trader_performance has no row with TR1",)
    assert "lakehouse trace gold.trader_performance" in page.render(found)


def test_what_is_not_traced_says_how_it_is() -> None:
    said = Parsed(page.render(FULL)).text
    for command in (
        "lakehouse trace gold.daily_trading_summary summary_date=2025-06-06 symbol=AAPL",
        "lakehouse trace gold.trader_performance performance_date=2025-06-06 trader_id=TR1",
        "lakehouse trace gold.portfolio_positions position_date=2025-06-06 trader_id=TR1 account_id=AC1 symbol=AAPL",
    ):
        assert command in said


def test_a_number_that_is_an_upper_bound_says_so() -> None:
    silver = FULL.tables[1]
    assert "at most" not in page.render(FULL)
    unsure = replace(silver, is_exact=False, lags=(replace(silver.lags[0], is_exact=False),))
    html = page.render(replace(FULL, tables=(unsure,)))
    assert '<td class="n">at most 880</td>' in html
    assert "bronze.raw_trades: at most 40 rows" in html


def test_an_empty_lakehouse_has_a_page_that_says_so() -> None:
    said = Parsed(
        page.render(Report(NOW, "local", missing=("There is no lakehouse here yet. Run: lakehouse migrate",)))
    )

    assert said.count("svg") == 0
    assert said.count("section") == 7
    for told in (
        "There is no lakehouse here yet. Run: lakehouse migrate",
        "Records in bronze 0 0 not judged yet Rejected 0 nothing ingested yet",
        "Nothing was ingested yet.",
        "Nothing was rejected.",
        "No trades to show.",
        "No trader's days to show.",
        "No open positions to show.",
        "No tables yet.",
    ):
        assert told in said.text


@pytest.mark.parametrize(
    "part", ["tables", "flows", "rejects", "symbol_day", "trader", "positions"], ids=lambda part: f"without {part}"
)
def test_a_partly_filled_lakehouse_has_a_page(part: str) -> None:
    nothing: dict[str, Any] = {part: None if part in ("symbol_day", "trader") else ()}
    assert Parsed(page.render(replace(FULL, **nothing))).count("section") == 7


def test_a_symbol_without_a_summary_keeps_its_chart() -> None:
    assert FULL.symbol_day is not None
    said = Parsed(page.render(replace(FULL, symbol_day=replace(FULL.symbol_day, summary=None))))

    assert "AAPL on 2025-06-06" in said.text
    assert "Apple" not in said.text
    assert said.count("svg") == 3


def test_hostile_values_stay_text() -> None:
    html = page.render(HOSTILE)
    said = Parsed(html)

    assert (said.count("script"), said.count("img")) == (1, 0)
    assert not any(name.startswith("on") for _, attributes in said.elements for name in attributes)
    assert "<script>document" not in html
    assert said.text.count(EVIL) >= 10


def test_a_page_loads_nothing_from_anywhere() -> None:
    html = page.render(FULL)

    assert "://" not in html
    assert "url(" not in html
    assert "@import" not in html
    for tag, attributes in Parsed(html).elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base"), tag
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")


def test_the_policy_lets_only_the_pages_own_script_run() -> None:
    html = page.render(HOSTILE)
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    policy = next(a["content"] for tag, a in Parsed(html).elements if a.get("http-equiv") == "Content-Security-Policy")

    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_no_template_calls_a_value_safe() -> None:
    for file in TEMPLATES.iterdir():
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", file.read_text(encoding="utf-8")), file.name


def test_every_id_is_unique_and_every_link_finds_its_section() -> None:
    elements = Parsed(page.render(FULL)).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]

    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for tag, a in elements if tag == "a"} <= set(ids)
    assert all(a.get("aria-label") for tag, a in elements if tag == "svg")


def test_rare_reasons_are_folded_into_one_line() -> None:
    rejects = tuple(Rejects("raw_trades", f"reason_{n:02d}", 100 - n) for n in range(27))
    text = Parsed(page.render(replace(FULL, rejects=rejects))).text

    assert "reason_24 76 2 more reasons with 149 records" in text
    assert "reason_25" not in text


def test_the_flow_is_drawn_to_one_scale() -> None:
    drawn = sankey.sankey(
        [Flow("a", 600, 300, 100, 100, 200, 150), Flow("b", 40, 0, 0, 0, 0, None), Flow("c", 0, 0, 0, 0, 0, 0)]
    )

    assert drawn is not None
    heights = [(node.kind, node.height, node.tip) for node in drawn.nodes]
    assert heights == [
        ("bronze", 300.0, "a: 600 records"),
        ("accepted", 150.0, "a: 300 accepted"),
        ("waiting", 50.0, "a: 100 waiting"),
        ("duplicates", 50.0, "a: 100 duplicates"),
        ("rejected", 50.0, "a: 100 rejected"),
        ("silver", 100.0, "a: 200 rows"),
        ("updates", 50.0, "a: 100 changed a row"),
        ("gold", 75.0, "a: 150 facts"),
        ("bronze", 20.0, "b: 40 records"),
        ("waiting", 20.0, "b: 40 waiting"),
    ]
    assert sankey.sankey([Flow("c", 0, 0, 0, 0, 0, 0)]) is None


def test_a_single_record_is_still_seen() -> None:
    drawn = sankey.sankey([Flow("a", 1_000_000, 999_999, 0, 1, 999_999, None)])

    assert drawn is not None
    assert [node.height for node in drawn.nodes if node.kind == "rejected"] == [1.5]


def test_minutes_become_bars_and_the_price_holds_until_the_next_trade() -> None:
    minutes = [
        Minute(600, Decimal(10), Decimal(9), Decimal(11), 50, 2, 0.1, 1),
        Minute(601, Decimal(12), Decimal(12), Decimal(12), 30, 1, 0.4, 2),
        Minute(1000, Decimal(11), Decimal(11), Decimal(11), 20, 1),
    ]
    drawn = charts.day_chart(minutes, page.price)

    assert drawn is not None
    price, volume, spread = drawn.panels
    assert [hit.tip for hit in drawn.hits] == [
        "10:00 to 10:05 UTC\nprice 12.00, from 9.00 to 12.00\n80 shares in 3 trades\nmean spread 0.30",
        "16:40 to 16:45 UTC\nprice 11.00, from 11.00 to 11.00\n20 shares in 1 trades",
    ]
    assert (len(price.boxes), len(volume.boxes), len(spread.boxes)) == (2, 2, 1)
    assert re.fullmatch(r"M[\d.]+ [\d.]+H[\d.]+V[\d.]+H[\d.]+V[\d.]+", price.lines[0])
    assert [tick.label for tick in drawn.ticks] == ["10:00", "11:00", "12:00", "13:00", "14:00", "15:00", "16:00"]


@pytest.mark.parametrize(
    "minutes",
    [
        [Minute(0, Decimal(5), Decimal(5), Decimal(5), 1, 1)],
        [Minute(1439, spread=0.0, books=1)],
        [Minute(at, Decimal(5), Decimal(5), Decimal(5), 0, 1) for at in range(1440)],
    ],
    ids=["one trade", "one book in the last minute", "a whole day at one price"],
)
def test_any_day_can_be_drawn_inside_its_frame(minutes: list[Minute]) -> None:
    drawn = charts.day_chart(minutes, page.price)

    assert drawn is not None
    assert len(drawn.hits) <= 150
    for box in (*drawn.hits, *(box for panel in drawn.panels for box in panel.boxes)):
        assert 0 <= box.x <= box.x + box.width <= 960
        assert 0 <= box.y <= box.y + box.height <= drawn.height


def days(*gains: str) -> list[TraderDay]:
    return [TraderDay(date(2025, 6, n), Decimal(gain), 1, None, None) for n, gain in enumerate(gains, start=1)]


@pytest.mark.parametrize(
    ("gains", "falls"),
    [
        (["5", "-3", "1", "4", "-9"], ["0", "3", "2", "0", "9"]),
        (["-2", "-1", "10"], ["2", "3", "0"]),
        (["0.1"], ["0"]),
        ([], []),
    ],
)
def test_a_drawdown_is_measured_from_the_peak_that_starts_at_zero(gains: list[str], falls: list[str]) -> None:
    assert charts.drawdowns(days(*gains)) == [Decimal(fall) for fall in falls]


def test_a_traders_days_tell_their_sums() -> None:
    drawn = charts.pnl_chart(days("1000", "-400"), page.money)

    assert drawn is not None
    assert drawn.hits[1].tip == ("2025-06-02\nP&L \N{MINUS SIGN}400.00\nin total 600.00\nbelow peak 400.00")
    assert [box.kind for box in drawn.panels[0].boxes] == ["gain", "loss"]
    assert charts.pnl_chart([], page.money) is None


@pytest.mark.parametrize(
    ("low", "high", "steps"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (187.1, 188.3, [187.25, 187.5, 187.75, 188.0, 188.25]),
        (-2.1e6, 3e5, [-2e6, -1.5e6, -1e6, -5e5, 0]),
        (3, 3, [3]),
    ],
)
def test_axes_are_marked_at_round_numbers(low: float, high: float, steps: list[float]) -> None:
    assert charts.round_steps(low, high) == steps


def test_values_are_written_for_people() -> None:
    none = "\N{EN DASH}"
    assert [page.price(v) for v in (Decimal("1234.500000"), Decimal("0.000100"), 61.12346, None)] == [
        "1,234.50", "0.0001", "61.1235", none,
    ]  # fmt: skip
    assert [page.size(v) for v in (0, 1023, 1536, 5 * 1024**3, None)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB", none]
    assert [page.duration(v) for v in (0.2, 59, 3600, 3661, 90_000, None)] == [
        "under 1 s", "59 s", "1 h", "1 h 1 min", "1 d 1 h", none,
    ]  # fmt: skip
    assert [page.money(v) for v in (Decimal("-1234.567"), None)] == ["\N{MINUS SIGN}1,234.57", none]
    assert [page.percent(v) for v in (Decimal("2.5"), None)] == ["+2.50 %", none]
    assert page.instant(datetime(2025, 6, 6, 22, 1, 2, 999, tzinfo=UTC)) == "2025-06-06 22:01:02"
    assert [charts.short(v) for v in (0, 999, -1250, 2_500_000, 0.25)] == [
        "0",
        "999",
        "\N{MINUS SIGN}1.25K",
        "2.5M",
        "0.25",
    ]
