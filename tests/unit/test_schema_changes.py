"""What a sensor learns of schemas that changed: which tables, and all that is built from them."""

import shutil
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.types import StringType

from lakehouse_spark.catalog import with_downstream
from lakehouse_spark.iceberg import pyiceberg, schema_changes
from lakehouse_spark.settings import Settings
from tests.support import lakehouses

OF_TRADES = (
    "silver.trades", "silver.trader_activity", "gold.fact_trades", "gold.daily_trading_summary", "gold._open_lots",
    "gold.trader_performance", "gold.market_overview", "gold.portfolio_positions", "gold.trade_analytics",
)  # fmt: skip


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("released")
    lakehouses.unpack("7e782d6", home)
    return home


@pytest.fixture
def settings(released: Path, tmp_path: Path) -> Settings:
    shutil.copy(released / "catalog.db", tmp_path / "catalog.db")
    return Settings(home=tmp_path)


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return pyiceberg.open_catalog(settings)


def test_downstream_is_what_is_built_from_tables_directly_or_not() -> None:
    assert with_downstream(["silver.trades"]) == OF_TRADES
    assert with_downstream(["gold.fact_orderbook", "dim.dim_exchange"])[0] == "dim.dim_exchange"
    assert with_downstream(["gold.fact_orderbook"]) == ("gold.fact_orderbook",)
    assert with_downstream([]) == ()


def test_nothing_changed_since_the_last_look(settings: Settings) -> None:
    first = schema_changes.since(settings, {})
    assert len(first.changed) == len(first.ids) == 25
    again = schema_changes.since(settings, first.ids)
    assert (again.ids, again.changed, again.affected) == (first.ids, (), ())


def test_a_changed_schema_affects_all_that_is_built_from_the_table(settings: Settings, catalog: Catalog) -> None:
    seen = schema_changes.since(settings, {}).ids
    with catalog.load_table("silver.trades").update_schema() as schema:
        schema.add_column("venue", StringType())

    found = schema_changes.since(settings, seen)

    assert (found.changed, found.affected) == (("silver.trades",), OF_TRADES)
    assert found.ids == {**seen, "silver.trades": 1}


def test_tables_that_came_or_went_have_changed(settings: Settings, catalog: Catalog) -> None:
    seen = dict(schema_changes.since(settings, {}).ids)
    del seen["gold.fact_orderbook"]
    catalog.drop_table("gold.trade_analytics")
    assert schema_changes.since(settings, seen).changed == ("gold.fact_orderbook", "gold.trade_analytics")


def test_rows_alone_change_no_schema(settings: Settings, catalog: Catalog) -> None:
    seen = schema_changes.since(settings, {}).ids
    trades = catalog.load_table("silver.trades")
    with trades.transaction() as transaction:
        transaction.set_properties({"owner": "someone"})
    assert schema_changes.since(settings, seen).changed == ()
