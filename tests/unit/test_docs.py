"""The pages: up to date, complete, and true in what they name."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path

import pytest

from docs import generate
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.transforms.reasons import REASONS
from tests.support import lakehouses

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
REFERENCE = DOCS / "reference"


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def cells(page: str) -> set[str]:
    """What stands first in the rows of a reference page's tables, unquoted."""
    return {found[1] for found in re.finditer(r"^\| `?([^|`]+?)`? \|", text(REFERENCE / page), re.MULTILINE)}


def headings(page: str) -> set[str]:
    return {line.lstrip("# ") for line in text(REFERENCE / page).splitlines() if line.startswith("#")}


# The pages are what the code says


def test_the_generated_parts_are_what_the_code_says_today() -> None:
    made = generate.files()
    assert {"rooms.svg", "README.md", "tables.md", "commands.md"} <= {file.name for file in made}
    stale = [str(file.relative_to(ROOT)) for file, today in made.items() if text(file) != today]
    assert stale == [], "run: python -m docs.generate"


def test_every_block_stands_in_a_page() -> None:
    standing = {name for page in PAGES for name in re.findall(r"<!-- generated: (\w+) -->", text(page))}
    assert standing == set(generate.BLOCKS)


def test_the_pages_build_without_a_warning_and_need_no_network_to_be_read(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", str(DOCS), str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (built.returncode, built.stderr) == (0, "")
    fetched = r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"'
    assert [url for page in tmp_path.rglob("*.html") for url in re.findall(fetched, text(page))] == []


# Everything is documented


def test_every_table_and_column_is_documented() -> None:
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", text(REFERENCE / "tables.md"), re.DOTALL | re.MULTILINE))
    assert set(sections) == {table.name for table in TABLES}
    assert {"silver.trades", "gold._open_lots", "_metadata.retired_keys"} <= set(sections)
    for table in TABLES:
        for column in table.columns:
            assert f"| `{column.name}` | `{column.dataType.simpleString()}` |" in sections[table.name]
    assert "| `trade_timestamp` | `timestamp` | Event timestamp (UTC normalized) |" in sections["silver.trades"]


def test_the_lineage_page_shows_every_source_of_every_table() -> None:
    rows = text(REFERENCE / "lineage.md").splitlines()
    picture = text(DOCS / "pictures" / "lineage.svg")
    for table in TABLES:
        row = next(line for line in rows if line.startswith(f"| `{table.name}` |")).rpartition(" | ")[0]
        assert re.findall(r"`([\w.]+)`", row)[1:] == [*table.follows, *table.lookups]
    assert picture.count("<path ") == sum(len(table.sources) for table in TABLES) > 30
    assert "| `silver.trades` | `bronze.raw_trades` | `dim.dim_exchange` |" in text(REFERENCE / "lineage.md")


def test_every_setting_is_documented_with_a_line() -> None:
    named = {name: line for name, _, line in generate.named_settings()}
    assert {"LAKEHOUSE_HOME", "LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS", "LAKEHOUSE_GOLD__COMMISSION_BPS"} <= set(named)
    assert [name for name, line in named.items() if not line.endswith((".", "…", ")"))] == []
    assert set(named) <= cells("settings.md")


def test_every_reason_is_documented_with_who_mends_it() -> None:
    assert {reason.code for reason in REASONS} <= cells("reasons.md")
    assert "| `invalid_timezone` |" in text(REFERENCE / "reasons.md")
    for reason in REASONS:
        assert f"| {reason.who} |" in next(
            line for line in text(REFERENCE / "reasons.md").splitlines() if line.startswith(f"| `{reason.code}` |")
        )


def test_every_command_and_option_is_documented() -> None:
    documented = text(REFERENCE / "commands.md")
    known = {words: options for words, _, options in generate.tree()}
    assert {"lakehouse demo", "lakehouse rejected replay", "lakehouse run silver_processor"} <= set(known)
    for words, options in known.items():
        section = documented.partition(f"\n## {words}\n")[2].partition("\n## ")[0]
        assert section, words
        assert [name for name, _ in options if f"| `{name}` |" not in section] == [], words
    assert "`--accept-gap`" in documented


def test_every_exit_code_is_documented_and_every_refusal_has_its_way_out() -> None:
    assert {"0", "1", "2", "3"} <= cells("exit-codes.md")
    assert {error.__name__ for error in generate.error_classes()} <= set(
        re.findall(r"\| `(\w+)` \|", text(REFERENCE / "exit-codes.md"))
    )
    assert {str(error.exit_code) for error in generate.error_classes()} <= cells("exit-codes.md")


def test_every_field_of_a_cursor_is_documented_with_a_line() -> None:
    documented = cells("cursor.md")
    assert {"stamp", "rules", "rebuilt", "counts", "topic_id", "to", "upto", "totals"} <= documented
    shapes = generate.shapes()
    assert {"TopicCursor", "UpstreamsCursor"} <= {title for title, _, _ in shapes}
    for title, line, keys in shapes:
        assert title in headings("cursor.md")
        assert line
        assert [key for key, says in keys if key not in documented or not says] == []


# What the pages show can be done


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", DOCS / "how-to" / "read-without-spark.md"], ids=lambda page: page.name
)
def test_the_examples_of_reading_without_spark_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lakehouses.unpack("7e782d6", tmp_path / ".lakehouse")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    for block in blocks:
        if "SqlCatalog" in block or ("lake" in names and "duckdb" not in block and "scd_type2" not in block):
            exec(block, names)

    printed = capsys.readouterr().out
    assert "trade_id: string" in printed
    if page.name != "README.md":
        assert "'accepted': 12, 'duplicates': 1" in printed
        assert printed.rstrip().endswith("\n0")


# What the pages and the code name is there

_PLACE = re.compile(r"`((?:lakehouse_spark|tests|scripts|infra|jobs|docs|benchmarks|locks)/[\w./-]*)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    assert [name for name in _PLACE.findall(text(page)) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", text(page)))
    if named:
        written = "\n".join(text(path) for path in (ROOT / "tests").rglob("test_*.py"))
        there = set(re.findall(r"def (test_\w+)\(", written)) | {p.stem for p in (ROOT / "tests").rglob("test_*.py")}
        assert named <= there


def command_lines(page: Path) -> Iterator[str]:
    """The lines of the page's shell blocks that call the lakehouse, without their comments and environment."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text(page), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.match(r"\s*(?:\w+=\S+ )*(?:\.venv/bin/|scripts/)?((?:lakehouse|submit) .*)", line):
                yield found[1].replace("submit ", "lakehouse run ", 1) if found[1].startswith("submit") else found[1]


def advised() -> Iterator[str]:
    """The commands that texts of the package send a user to."""
    for path in (ROOT / "lakehouse_spark").rglob("*.py"):
        for node in ast.walk(ast.parse(text(path))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = (part.value if isinstance(part, ast.Constant) else "X" for part in parts)
            said = "".join(each for each in texts if isinstance(each, str))
            yield from re.findall(r"(?:run:? |`|see: |around: |replay: |\()(lakehouse [a-z][^`.;,·)]*)", said)


@cache
def spelled() -> dict[str, set[str]]:
    """The options and arguments of each command."""
    return {words: {name.split()[0] for name, _ in options} for words, _, options in generate.tree()}


def wrong(line: str) -> str:
    """What is wrong with a command line: '' where each of its words is known."""
    words = shlex.split(line, comments=True)
    if any(known.startswith(" ".join(words) + " ") for known in spelled()):
        return ""  # a group of commands
    command = next((c for n in range(len(words), 0, -1) if (c := " ".join(words[:n])) in spelled()), "")
    known, rest = spelled().get(command, set()), words[len(command.split()) :]
    values = list(takewhile(lambda word: not word.startswith("--"), rest))
    is_any_job = command in ("lakehouse", "lakehouse run") and words[1:2] == ["run"] and words[2:3] in ([], ["JOB"])
    takes_values = command != "lakehouse run" and any(not name.startswith("--") for name in known)
    if not command or (values and not takes_values and not is_any_job):
        return f"{line}: no such command"
    options = {word.partition("=")[0] for word in rest if word.startswith("--")} - {"--help"}
    return f"{line}: no option {', '.join(sorted(options - known))}" if options - known else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_line_of_a_page_parses(page: Path) -> None:
    assert list(filter(None, map(wrong, command_lines(page)))) == []


def test_every_command_that_an_error_advises_is_there() -> None:
    lines = set(advised())
    assert {"lakehouse migrate", "lakehouse rejected list"} <= lines
    assert any("--accept-gap" in line for line in lines)
    assert list(filter(None, map(wrong, sorted(lines)))) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("lakehouse run bronze_writer --table raw_trades --accept-gap", ""),
        ("lakehouse status --json  # for machines", ""),
        ("lakehouse statsu", "no such command"),
        ("lakehouse run bronze_wrtier", "no such command"),
        ("lakehouse run JOB --help", ""),
        ("lakehouse rejected", ""),
        ("lakehouse rejected shwo abc", "no such command"),
        ("lakehouse rejected discard abc --why 'a test'", ""),
        ("lakehouse status --fast", "no option --fast"),
    ],
)
def test_a_wrong_command_line_is_found(line: str, why: str) -> None:
    assert why in wrong(line)
    assert bool(why) == bool(wrong(line))


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_link_of_a_page_outside_the_site_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text(page))
    assert "docs/architecture.md" in links
    assert [link for link in links if not (ROOT / link).exists()] == []
