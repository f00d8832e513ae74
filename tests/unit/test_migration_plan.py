"""What `lakehouse migrate --plan` and `--draft` say of a lakehouse that an earlier release wrote, without a JVM."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog
from pyspark import SparkContext

from lakehouse_spark import cli, migrations
from lakehouse_spark.iceberg import pyiceberg
from lakehouse_spark.migrations.migration import Migration
from lakehouse_spark.schema.operations import (
    AddColumn,
    ColumnDefinition,
    CommentColumn,
    DropColumn,
    Operation,
    RenameColumn,
)
from lakehouse_spark.schema.policy import Agreement
from lakehouse_spark.settings import Settings
from tests.support import lakehouses

VENUE = AddColumn("silver.trades", ColumnDefinition("venue", "string", "Its market"), after="exchange")
LOG = (
    "_metadata.maintenance_log is created, with the columns run_id, table_name, job, status, lease_until, reason, "
    "planned, done, detail, _logged_at"
)
READERS = [
    "silver.trader_activity", "gold.fact_trades", "gold.daily_trading_summary", "gold._open_lots",
    "gold.trader_performance", "gold.market_overview", "gold.portfolio_positions", "gold.trade_analytics",
]  # fmt: skip
Ask = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("released")
    lakehouses.unpack("7e782d6", home)
    return home


@pytest.fixture
def home(released: Path, tmp_path: Path) -> Path:
    """The lakehouse of 7e782d6, whose metadata is still in the folder it was unpacked to."""
    shutil.copy(released / "catalog.db", tmp_path / "catalog.db")
    return tmp_path


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs the command on a lakehouse, whose releases may have had more migrations; its exit code and its output."""

    def run(
        home: Path, *options: str, more: tuple[Operation, ...] = (), agreed: Agreement | None = None
    ) -> tuple[int, str]:
        released = migrations.migrations()
        later = [Migration("V099", "a later change", more, agreed=agreed)] if more else []
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "migrations", lambda: [*released, *later])
            patch.setenv("LAKEHOUSE_HOME", str(home))
            patch.setattr(sys, "argv", ["lakehouse", "migrate", *options])
            patch.setattr(SparkContext, "_ensure_initialized", _refuse_spark)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out or said.err

    return run


def _refuse_spark(*_: object, **__: object) -> None:
    raise AssertionError("Spark was asked")


def as_json(answer: tuple[int, str]) -> dict[str, Any]:
    assert answer[0] == 0
    found: dict[str, Any] = json.loads(answer[1])
    return found


def catalog(home: Path) -> Catalog:
    return pyiceberg.open_catalog(Settings(home=home))


def test_a_new_lakehouse_would_get_all_tables(ask: Ask, tmp_path: Path) -> None:
    assert ask(tmp_path / "none", "--plan") == (
        0, "there is no lakehouse here yet: all 27 tables would be made; run: lakehouse migrate\n"
    )  # fmt: skip
    assert as_json(ask(tmp_path / "none", "--plan", "--json"))["new"] is True
    assert list(tmp_path.iterdir()) == []


def test_it_names_what_is_pending_and_what_is_derived_whole(ask: Ask, home: Path) -> None:
    before = (home / "catalog.db").read_bytes()
    code, said = ask(home, "--plan")
    assert code == 0
    assert said.splitlines()[:6] == [
        "V002 repair text of the change log",
        "  repair text of the change log (work: rows are read, and rewritten where they change)",
        "V003 log of maintenance",
        f"  {LOG} (additive; read by no table; metadata only)",
        "V004 ledger by operation",
        "  _metadata.schema_migrations gains operation_index (int) at the end, NULL in the rows it has (additive; read "
        "by no table; metadata only)",
    ]
    assert said.splitlines()[-2:] == [
        "older rules than this release's made these, and their next job derives them whole: dim.dim_exchange (20 "
        "rows), dim.dim_symbol (5 rows), dim.dim_trader (5 rows), silver.trades (12 rows), silver.orderbook_snapshots "
        "(1 rows), silver.market_data (2 rows), silver.trader_activity (6 rows), gold.fact_trades (12 rows), "
        "gold.fact_orderbook (1 rows), gold.daily_trading_summary (4 rows), gold._open_lots (21 rows), "
        "gold.trader_performance (5 rows), gold.market_overview (4 rows), gold.portfolio_positions (11 rows), "
        "gold.trade_analytics (6 rows)",
        "7 migrations are pending: lakehouse migrate",
    ]
    assert (home / "catalog.db").read_bytes() == before


def test_a_change_names_its_class_and_the_tables_that_read_what_it_changes(ask: Ask, home: Path) -> None:
    said = as_json(ask(home, "--plan", "--json", more=(VENUE,)))
    assert said["pending"][-1] == {
        "version": "V099",
        "description": "a later change",
        "operations": [
            {
                "version": "V099",
                "sentence": "silver.trades gains venue (string) after exchange, NULL in the rows it has",
                "kind": "additive",
                "readers": READERS,
                "rewrites_rows": False,
            }
        ],
    }
    assert said["refused"] == []


def drifts(said: Mapping[str, Any]) -> dict[str, list[str]]:
    return {drift["table"]: [*drift["operations"], *drift["unmendable"]] for drift in said["drift"]}


def test_what_pending_migrations_mend_is_no_drift_and_what_they_break_is(ask: Ask, home: Path) -> None:
    assert drifts(as_json(ask(home, "--plan", "--json"))) == {}
    assert drifts(as_json(ask(home, "--plan", "--json", more=(VENUE,)))) == {
        "silver.trades": ["silver.trades.venue is dropped, and only time travel still shows its values"]
    }


def test_a_table_that_drifted_is_told_with_what_would_mend_it(ask: Ask, home: Path) -> None:
    with catalog(home).load_table("gold.fact_trades").update_schema() as schema:
        schema.rename_column("quantity", "qty").update_column("price", doc="Hm")
    code, said = ask(home, "--plan")
    assert code == 0
    assert "gold.fact_trades will still differ from its declaration; what would mend it:" in said
    assert "  gold.fact_trades.qty is renamed to quantity and keeps its values\n" in said
    assert "  gold.fact_trades.price is described as 'Execution price', until now as 'Hm'\n" in said


def test_a_refused_migration_says_what_to_do_instead_and_ends_with_3(ask: Ask, home: Path) -> None:
    code, said = ask(home, "--plan", more=(DropColumn("gold.market_overview", "avg_spread_bps"),))
    assert code == 3
    assert said.splitlines()[-2:] == [
        "refused: V099 (a later change): "
        "gold.market_overview.avg_spread_bps is dropped, and only time travel still shows its values; "
        "whoever reads it may rely on how it was: declare major version 2 with the consumers that agreed, or leave "
        "avg_spread_bps, with a comment that nothing fills it any more",
        "lakehouse migrate would refuse",
    ]


def test_what_was_agreed_is_not_refused(ask: Ask, home: Path) -> None:
    change = DropColumn("gold.market_overview", "avg_spread_bps")
    said = as_json(ask(home, "--plan", "--json", more=(change,), agreed=Agreement(2, ("the risk desk",))))
    assert said["refused"] == []
    assert said["pending"][-1]["operations"][0]["kind"] == "breaking"


def test_a_migration_of_what_is_not_there_is_told(ask: Ask, home: Path) -> None:
    code, said = ask(home, "--plan", more=(AddColumn("silver.notes", ColumnDefinition("note", "string", "A note")),))
    assert code == 3
    assert said.splitlines()[-2] == (
        "refused: V099 (a later change): "
        "silver.notes is missing: silver.notes gains note (string) at the end, NULL in the rows it has"
    )


def test_a_lakehouse_of_a_later_release_is_refused(ask: Ask, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "migrations", list)
    code, said = ask(home, "--plan", more=(VENUE,))
    assert code == 3
    assert "V001 was applied here and is unknown to this release (newest: V099)" in said


def test_a_start_that_was_interrupted_counts_as_new(ask: Ask, home: Path) -> None:
    catalog(home).load_table("_metadata.schema_migrations").delete()
    assert as_json(ask(home, "--plan", "--json"))["new"] is True


def test_a_table_that_is_gone_would_be_made_anew(ask: Ask, home: Path) -> None:
    catalog(home).drop_table("silver.market_data")
    (sentence,) = drifts(as_json(ask(home, "--plan", "--json")))["silver.market_data"]
    assert sentence.startswith("silver.market_data is created, with the columns market_data_id, symbol, ")


def drafted(file: Path) -> tuple[Operation, ...]:
    module: dict[str, tuple[Operation, ...]] = {}
    exec(compile(file.read_text(encoding="utf-8"), file.name, "exec"), module)
    return module["OPERATIONS"]


def test_a_draft_holds_what_would_mend_the_drift(ask: Ask, home: Path, tmp_path: Path) -> None:
    with catalog(home).load_table("gold.fact_trades").update_schema() as schema:
        schema.rename_column("quantity", "qty").update_column("price", doc="Hm")
    options = ("--draft", "mend fact-trades", "--into", str(tmp_path))
    file = tmp_path / "V009__mend_fact_trades.py"

    assert ask(home, *options) == (
        0,
        "gold.fact_trades.qty is renamed to quantity and keeps its values\n"
        "gold.fact_trades.price is described as 'Execution price', until now as 'Hm'\n"
        f"drafted {file}: say there what changes and why, and keep it in lakehouse_spark/migrations\n",
    )
    assert drafted(file) == (
        RenameColumn("gold.fact_trades", "qty", "quantity"),
        CommentColumn("gold.fact_trades", "price", "Hm", "Execution price"),
    )
    before = file.read_text()
    code, said = ask(home, *options)
    assert (code, said) == (2, f"usage: {file} cannot be written: File exists\n")
    assert file.read_text() == before


def test_where_nothing_drifted_nothing_is_drafted(ask: Ask, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert ask(home, "--draft", "mend") == (0, "nothing drifted: there is nothing to draft\n")
    assert as_json(ask(home, "--draft", "mend", "--json")) == {"file": None, "drift": []}
    assert [*home.glob("*.py")] == []


def test_a_new_lakehouse_has_nothing_to_draft(ask: Ask, tmp_path: Path) -> None:
    code, said = ask(tmp_path / "none", "--draft", "mend", "--into", str(tmp_path))
    assert (code, said) == (0, "nothing drifted: there is nothing to draft\n")


def test_only_one_way_to_look_is_taken_at_a_time(ask: Ask, home: Path) -> None:
    assert ask(home, "--plan", "--rehearse") == (2, "usage: --plan, --draft and --rehearse go one at a time\n")
