"""What is told of a lakehouse's tables without Spark, of tables that PyIceberg wrote."""

import gzip
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from pyiceberg.io import FileIO

from lakehouse_spark.catalog import BY_NAME, TABLES
from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.iceberg import avro, inventory, metadata
from lakehouse_spark.iceberg.inventory import Lag
from lakehouse_spark.settings import Settings
from tests.support.home import LOG, RAW, SILVER, SYMBOLS, Home, at, follows, topic

NOT_THERE = r"^there is no lakehouse here yet; run: lakehouse migrate$"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_a_table_is_told_by_its_metadata(home: Home) -> None:
    home.land(RAW, at(1), at(1), cursor=topic(at(1)))
    home.land(RAW, at(2), cursor=topic(at(2)))
    found = inventory.read(home.settings)
    raw, silver = found.tables[RAW], found.tables[SILVER]
    assert (raw.rows, raw.data_files, raw.delete_files, raw.snapshots, raw.stamp) == (3, 2, 0, 2, at(2))
    assert (raw.follows, raw.lags, raw.is_exact) == (False, (), True)
    assert raw.mean_bytes is not None
    assert (silver.rows, silver.snapshots, silver.stamp, silver.lags) == (0, 0, None, (Lag(RAW, 3, None),))
    assert found.absent == [table.name for table in TABLES if table.name not in (RAW, SILVER, LOG, SYMBOLS)]
    assert {*found.states} == {RAW}


def test_rows_that_are_stamped_later_than_the_cursor_wait(home: Home) -> None:
    for minute in (1, 2, 3):
        home.land(RAW, *[at(minute)] * minute, cursor=topic(at(minute)))
    home.land(SILVER, at(4), cursor=follows(RAW, at(4), at(1)))
    assert home.read()[SILVER].lags == (Lag(RAW, 5, 120.0),)
    assert inventory.read(home.settings).behind == {SILVER: (Lag(RAW, 5, 120.0),)}


def test_a_file_with_older_and_later_rows_is_counted_by_its_stamps(home: Home) -> None:
    home.land(RAW, at(1), at(2), at(3), at(3), cursor=topic(at(3)))
    home.land(SILVER, at(4), cursor=follows(RAW, at(4), at(2)))
    assert home.read()[SILVER].lags == (Lag(RAW, 2, 60.0),)


def test_of_the_change_log_only_records_of_its_own_dimension_wait_for_a_dimension(home: Home) -> None:
    home.land(LOG, at(1), cursor=topic(at(1)))
    home.land(SYMBOLS, at(1), cursor=follows(LOG, at(1), at(1)))
    home.land(LOG, at(2), at(2), at(2), dimension="dim_trader", cursor=topic(at(2)))
    assert home.read()[SYMBOLS].lags == ()
    home.land(LOG, at(3), at(3), cursor=topic(at(3)))
    assert home.read()[SYMBOLS].lags == (Lag(LOG, 2, 120.0),)


def test_the_newest_cursor_may_be_that_of_an_ancestor(home: Home) -> None:
    home.land(RAW, at(1), cursor=topic(at(1)))
    home.land(RAW, at(1))
    assert home.read()[RAW].stamp == at(1)


def test_without_any_cursor_the_stamp_is_the_latest_of_the_files(home: Home) -> None:
    home.land(RAW, at(5), at(1))
    home.land(RAW, at(2))
    assert home.read()[RAW].stamp == at(5)
    assert inventory.read(home.settings).states[RAW].is_lost


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The manifests that are opened from here on; their lists do not count."""
    found: list[str] = []
    fetched = avro.fetched

    def noting(io: FileIO, locations: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        found.extend(location for location in locations if "/snap-" not in location)
        return fetched(io, locations)

    monkeypatch.setattr(avro, "fetched", noting)
    return found


def test_what_is_consumed_costs_nothing_however_much_it_is(home: Home, opened: list[str]) -> None:
    for minute in range(1, 9):
        home.land(RAW, at(minute), cursor=topic(at(minute)))
    home.land(SILVER, at(9), cursor=follows(RAW, at(9), at(8)))
    assert home.read()[SILVER].lags == ()
    assert opened == []
    home.land(RAW, at(9), cursor=topic(at(9)))
    assert home.read()[SILVER].lags == (Lag(RAW, 1, 60.0),)
    assert len(opened) == 1


# What is read


def test_a_look_makes_no_file(home: Home) -> None:
    home.catalog.close()
    with closing(sqlite3.connect(home.folder / "catalog.db")) as database:
        database.execute("PRAGMA journal_mode=wal")
    before = home.names
    assert {*metadata.read(home.settings, TABLES)} == {RAW, SILVER, LOG, SYMBOLS}
    assert home.names == before


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=NOT_THERE):
        inventory.read(Settings(home=tmp_path / "none"))
    with pytest.raises(UsageError, match=NOT_THERE):
        inventory.read(Settings(home=tmp_path))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("name", ["a#b", "100%", "a b", "börse 🦆", "why?"])
def test_a_home_of_any_name_is_read(home: Home, name: str) -> None:
    home.land(RAW, at(1), cursor=topic(at(1)))
    home.catalog.close()
    moved = home.folder.rename(home.folder.parent / name)
    with closing(sqlite3.connect(moved / "catalog.db")) as database, database:
        move = "UPDATE iceberg_tables SET metadata_location = replace(metadata_location, '/home/', ?)"
        database.execute(move, [f"/{name}/"])
    assert metadata.read(Settings(home=moved), [BY_NAME[RAW]])[RAW].total("records") == 1


def test_metadata_may_be_compressed(home: Home) -> None:
    home.land(RAW, at(1), cursor=topic(at(1)))
    for file in (home.folder / "warehouse" / "bronze" / "raw_trades" / "metadata").glob("*.json"):
        file.write_bytes(gzip.compress(file.read_bytes()))
    assert home.read()[RAW].rows == 1


def test_a_catalog_that_cannot_be_read_now_is_not_said_to_be_none(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object, **__: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(sqlite3, "connect", locked)
    with pytest.raises(LakehouseError, match=r"catalog\.db does not open: .*database is locked"):
        inventory.read(home.settings)
