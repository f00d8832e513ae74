"""Migrations drafted from what drifted: their source, and what it means once it is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_spark.catalog import TABLES
from lakehouse_spark.errors import UsageError
from lakehouse_spark.migrations import draft
from lakehouse_spark.schema.drift import Drift
from lakehouse_spark.schema.operations import (
    FIRST,
    AddColumn,
    ChangePartitioning,
    ChangeSortOrder,
    ColumnDefinition,
    CommentColumn,
    CreateTable,
    DropColumn,
    MakeOptional,
    MoveColumn,
    Operation,
    PromoteColumn,
    RenameColumn,
    SetProperties,
)

TRADES = "silver.trades"
LONG = (
    'What the venue charges for the trade, in the trading currency; NULL where its payload names none, as "never" did'
)
EVERY: tuple[Operation, ...] = (
    CreateTable(
        "silver.notes",
        "Notes.",
        (ColumnDefinition("note", "string", "It's a note"), ColumnDefinition("at", "timestamp", LONG)),
        partitioned_by=("days(at)",),
        properties=(("commit.retry.num-retries", "9"),),
    ),
    RenameColumn(TRADES, "qty", "quantity"),
    AddColumn(TRADES, ColumnDefinition("venue_fee", "decimal(18,6)", LONG + " " + LONG), after=FIRST),
    AddColumn(TRADES, ColumnDefinition("é", "int", "Both ' and \" and \\ and\nmore"), after="venue_fee"),
    AddColumn(TRADES, ColumnDefinition("last", "int", "")),
    MoveColumn(TRADES, "venue", old=FIRST, new="exchange"),
    PromoteColumn(TRADES, "price", "decimal(18,6)", "decimal(20,6)"),
    MakeOptional(TRADES, "price"),
    CommentColumn(TRADES, "price", "", "Price"),
    ChangePartitioning(TRADES, added=("bucket(16, symbol)",), removed=("hours(trade_timestamp)",)),
    ChangeSortOrder(TRADES, ("symbol",), (), "hash"),
    DropColumn(TRADES, "flag"),
    SetProperties(TRADES, (("comment", None, "Trades."), ("owner", "me", None))),
)
MOST = Drift(TRADES, EVERY[1:], ("silver.trades.side is int, declared string: declare the type that it has",))


def load(source: str) -> tuple[Operation, ...]:
    module: dict[str, tuple[Operation, ...]] = {}
    exec(compile(source, "draft", "exec"), module)
    return module["OPERATIONS"]


def test_a_drafted_module_reads_as_people_write_them() -> None:
    drifted = Drift("gold.market_overview", (DropColumn("gold.market_overview", "breadth"),), ("The rest stays",))
    more = Drift(
        TRADES,
        (
            AddColumn(TRADES, ColumnDefinition("venue", "string", "Where the trade was made"), after=FIRST),
            SetProperties(TRADES, (("owner", None, "me"),)),
        ),
    )
    assert (
        draft.source([drifted, more], TABLES, major=1)
        == '''\
"""Say what changes, and why."""  # noqa: N999

from lakehouse_spark.schema.operations import FIRST, AddColumn, ColumnDefinition, DropColumn, SetProperties

# No operation can mend this: The rest stays.

# This breaks who reads it: gold.market_overview.breadth is dropped, and only time travel still shows its values.
# So it is refused until all that read it, these tables and whoever else, can do without.
# from lakehouse_spark.schema.policy import Agreement
# AGREED = Agreement(major=2, consumers=("who reads it",))

OPERATIONS = (
    DropColumn(table="gold.market_overview", column="breadth"),
    AddColumn(
        table="silver.trades",
        column=ColumnDefinition(name="venue", type="string", comment="Where the trade was made"),
        after=FIRST,
    ),
    SetProperties(table="silver.trades", changes=(("owner", None, "me"),)),
)
'''
    )


def test_loading_it_gives_exactly_the_operations() -> None:
    source = draft.source([Drift("silver.notes", EVERY[:1]), MOST], TABLES, major=3)
    assert load(source) == EVERY
    assert (
        "# AGREED = Agreement(\n"
        "#     major=4,\n"
        "#     consumers=(\n"
        '#         "silver.trader_activity",\n'
        '#         "gold.fact_trades",\n'
        '#         "gold.daily_trading_summary",\n'
        '#         "gold._open_lots",\n'
        '#         "gold.trader_performance",\n'
        '#         "gold.market_overview",\n'
        '#         "gold.portfolio_positions",\n'
        '#         "gold.trade_analytics",\n'
        "#     ),\n"
        "# )\n"
    ) in source


@pytest.mark.parametrize("command", [["format", "--diff"], ["check"]], ids=lambda command: command[0])
def test_it_is_formatted_as_all_modules_are(command: list[str], tmp_path: Path) -> None:
    config = Path(__file__).parents[2] / "pyproject.toml"
    (tmp_path / "__init__.py").touch()
    file = tmp_path / "V005__mend.py"
    file.write_text(draft.source([Drift("silver.notes", EVERY[:1]), MOST], TABLES, major=1), encoding="utf-8")
    ruff = [str(Path(sys.executable).parent / "ruff"), *command, "--no-cache", f"--config={config}", str(file)]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


texts = st.text(st.characters(codec="utf-8"), max_size=300) | st.text("ab'\"\\ \n", max_size=300)


@given(texts, texts)
def test_whatever_words_it_holds_it_loads_as_they_were(comment: str, place: str) -> None:
    operation = AddColumn(TRADES, ColumnDefinition("x", "int", comment), after=place)
    assert load(draft.source([Drift(TRADES, (operation,))], TABLES, major=1)) == (operation,)


@pytest.mark.parametrize(
    ("newest", "name", "file"),
    [
        ("V003", "add_venue_fee", "V004__add_venue_fee.py"),
        ("V009", "Add venue-fee ", "V010__add_venue_fee.py"),
        ("V099", "x2", "V100__x2.py"),
    ],
)
def test_it_is_named_for_the_next_version(newest: str, name: str, file: str) -> None:
    assert draft.file_name(newest, name) == file


@pytest.mark.parametrize("name", ["", "2x", "a/b", "né", "a.py", "../x"])
def test_a_name_that_is_no_modules_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"^a migration's name has letters, digits and underscores, as add_venue_fee;"):
        draft.file_name("V003", name)
