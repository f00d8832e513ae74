"""What maintenance surveys: the policies in force, the tables that are chosen, and the catalog that is read."""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.catalog import rest as rest_catalogs
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import FileIO
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, StringType, TimestamptzType

from lakehouse_spark import settings as module
from lakehouse_spark.catalog import BY_NAME, LAYERS, TABLES
from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.iceberg import avro, pyiceberg
from lakehouse_spark.lake.cursor import CURSOR
from lakehouse_spark.maintenance import survey
from lakehouse_spark.maintenance.journal import Entry, Journal
from lakehouse_spark.maintenance.plan import Expiry, Plan
from lakehouse_spark.settings import CatalogSettings, MaintenanceSettings, PolicySettings, S3Settings, Settings
from lakehouse_spark.table import Policy

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
RAW, SILVER, GOLD, LOG = "bronze.raw_trades", "silver.trades", "gold.fact_trades", "_metadata.maintenance_log"
NOT_THERE = r"^there is no lakehouse here yet; run: lakehouse migrate$"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment of which only the test's own settings are left."""
    for name in [name for name in os.environ if name.startswith("LAKEHOUSE_")]:
        monkeypatch.delenv(name)


def of_home(home: Path, **changed: Any) -> Settings:
    """Settings of an embedded lakehouse in a folder."""
    return module.load().model_copy(update={"home": home, **changed})


def of_catalog(**catalog: Any) -> Settings:
    return module.load().model_copy(update={"catalog": CatalogSettings(**catalog)})


# Policies


def policy(name: str, **changed: Mapping[str, Mapping[str, int]]) -> Policy:
    """The policy of a table under settings for `layers` and `tables`."""
    return survey.policy_of(BY_NAME[name], MaintenanceSettings.model_validate(changed))


def test_without_settings_policies_are_as_declared() -> None:
    assert policy(RAW) == Policy(snapshot_days=7, max_snapshots=1_000, row_days=90)
    assert policy(SILVER) == Policy(snapshot_days=14, max_snapshots=3_000)
    assert policy(GOLD) == policy("dim.dim_trader") == Policy(snapshot_days=30, max_snapshots=3_000)
    assert policy(LOG) == Policy(snapshot_days=30, max_snapshots=1_000)
    assert policy("bronze.raw_reference") == Policy(snapshot_days=7, max_snapshots=1_000)


def test_settings_of_a_layer_change_what_they_name_of_its_tables_only() -> None:
    layers = {"silver": {"snapshot_days": 3, "min_snapshots": 2}}
    assert policy(SILVER, layers=layers) == Policy(snapshot_days=3, min_snapshots=2, max_snapshots=3_000)
    assert policy("silver._rejected_records", layers=layers) == policy(SILVER, layers=layers)
    assert policy(GOLD, layers=layers) == Policy(snapshot_days=30, max_snapshots=3_000)


def test_settings_of_a_table_win_over_those_of_its_layer() -> None:
    found = policy(
        SILVER,
        layers={"silver": {"snapshot_days": 3, "settle_minutes": 5}},
        tables={SILVER: {"snapshot_days": 1, "orphan_days": 0}, GOLD: {"snapshot_days": 9}},
    )
    assert found == Policy(snapshot_days=1, max_snapshots=3_000, settle_minutes=5, orphan_days=0)


def test_every_field_of_a_policy_may_be_changed() -> None:
    changed = {
        "snapshot_days": 1, "min_snapshots": 2, "max_snapshots": 3, "row_days": 4, "target_file_bytes": 5,
        "min_input_files": 6, "settle_minutes": 7, "orphan_days": 8,
    }  # fmt: skip
    assert policy(RAW, tables={RAW: changed}) == Policy(
        snapshot_days=1, min_snapshots=2, max_snapshots=3, row_days=4, target_file_bytes=5, min_input_files=6,
        settle_minutes=7, orphan_days=8,
    )  # fmt: skip
    assert {*PolicySettings.model_fields} == {*changed} == {*Policy.__dataclass_fields__}


@pytest.mark.parametrize(
    ("changed", "unknown"),
    [
        ({"layers": {"brnze": {}}}, "brnze"),
        ({"layers": {"metadata": {}, "silver": {}, "Gold": {}}}, "Gold, metadata"),
        ({"tables": {"silver.trade": {}}}, "silver.trade"),
        ({"tables": {"trades": {}}}, "trades"),
        ({"layers": {"silver": {}}, "tables": {"silver": {}}}, "silver"),
    ],
)
def test_settings_for_a_layer_or_table_that_is_none_are_refused(changed: Any, unknown: str) -> None:
    with pytest.raises(UsageError, match=rf"^LAKEHOUSE_MAINTENANCE: there is no layer or table {unknown}$"):
        policy(GOLD, **changed)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_MAINTENANCE__LAYERS", '{"_metadata": {"snapshot_days": 2}}')
    monkeypatch.setenv("LAKEHOUSE_MAINTENANCE__TABLES", '{"silver.trades": {"min_input_files": 9}}')
    found = module.load().maintenance
    assert survey.policy_of(BY_NAME[LOG], found) == Policy(snapshot_days=2, max_snapshots=1_000)
    assert survey.policy_of(BY_NAME[SILVER], found) == Policy(snapshot_days=14, max_snapshots=3_000, min_input_files=9)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("bronze.raw_reference", {"layers": {"bronze": {"row_days": 30}}}),
        ("bronze.raw_reference", {"tables": {"bronze.raw_reference": {"row_days": 30}}}),
        (SILVER, {"layers": {"silver": {"row_days": 30}}}),
        ("dim.dim_trader", {"tables": {"dim.dim_trader": {"row_days": 30}}}),
        ("silver.trades", {"layers": {"bronze": {"row_days": 30}}}),
    ],
)
def test_only_rows_that_bronze_keeps_for_some_days_can_be_kept_shorter(name: str, changed: Any) -> None:
    """The dimensions are rebuilt from the change log: its rows stay, whether the setting is refused or passed over."""
    with suppress(UsageError):
        assert policy(name, **changed).row_days is None


# Tables


def test_all_tables_are_surveyed_unless_some_are_named() -> None:
    assert survey.chosen([], []) == list(TABLES)


def test_tables_are_chosen_by_layer_or_by_either_name_in_the_order_of_the_catalog() -> None:
    names = [table.name for table in survey.chosen(["dim"], ["fact_trades", RAW, "dim.dim_time"])]
    assert names == [
        RAW, "dim.dim_exchange", "dim.dim_symbol", "dim.dim_trader", "dim.dim_account", "dim.dim_time", GOLD,
    ]  # fmt: skip
    assert [table.name for table in survey.chosen([], [SILVER])] == [SILVER]


def test_the_layers_are_those_of_the_catalog() -> None:
    assert LAYERS == ("_metadata", "bronze", "dim", "silver", "gold")


# The embedded catalog


def created(home: Path, *, journal_mode: str = "delete") -> None:
    """Makes an embedded catalog with a table in it, as a lakehouse has it; its home may have any name."""
    plain = home.parent / "in the making"
    plain.mkdir()
    made = SqlCatalog(
        "lake", uri=f"sqlite:///{plain}/catalog.db", warehouse=f"file://{home.parent / 'home' / 'warehouse'}"
    )
    made.create_namespace("silver")
    made.create_table(SILVER, Schema(NestedField(1, "trade_id", StringType())))
    made.close()
    with closing(sqlite3.connect(plain / "catalog.db")) as database:
        database.execute(f"PRAGMA journal_mode={journal_mode}")
    home.mkdir(exist_ok=True)
    (plain / "catalog.db").rename(home / "catalog.db")
    plain.rmdir()


def moved(warehouse: Path, to: Path) -> None:
    """Makes tables look as if Spark, which takes a path as it is, had made them in another folder."""
    old, new = f"file://{warehouse}/", f"file://{to}/"
    with closing(sqlite3.connect(warehouse.parent / "catalog.db")) as database:
        database.execute("UPDATE iceberg_tables SET metadata_location = replace(metadata_location, ?, ?)", (old, new))
        database.commit()
    warehouse.rename(to)
    for file in to.rglob("*.metadata.json"):
        file.write_text(file.read_text().replace(old, json.dumps(new, ensure_ascii=False)[1:-1]))


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no file"),
        pytest.param(b"", id="an empty file"),
        pytest.param(b"no database at all, but some text\n" * 99, id="text"),
        pytest.param(b"SQLite format 3\x00", id="the beginning of a database"),
    ],
)
def test_where_no_catalog_is_a_sentence_says_so_and_nothing_is_made(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "catalog.db").write_bytes(content)
    before = names_in(tmp_path)
    with pytest.raises(UsageError, match=r"^[^\n]+$"):
        pyiceberg.open_catalog(of_home(tmp_path))
    assert names_in(tmp_path) == before
    assert content is None or (tmp_path / "catalog.db").read_bytes() == content


def test_a_database_of_something_else_is_no_catalog_and_stays_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as database:
        database.execute("CREATE TABLE notes (text)")
    with pytest.raises(UsageError, match=NOT_THERE):
        pyiceberg.open_catalog(of_home(tmp_path))
    assert names_in(tmp_path) == {"catalog.db"}
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("notes",)]


def test_a_folder_in_the_place_of_the_catalog_is_none(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").mkdir()
    with pytest.raises(UsageError, match=NOT_THERE):
        pyiceberg.open_catalog(of_home(tmp_path))


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=NOT_THERE):
        pyiceberg.open_catalog(of_home(tmp_path / "none"))
    assert names_in(tmp_path) == set()


NAMES = (
    "plain",
    "with  spaces",
    "100%",
    "börse 東京 🦆",
    "a&b=c;d+e",
    "'q' [1] {eu} *",
    "back\\slash",
    "c:d",
)


@pytest.mark.parametrize(
    "name",
    [
        *NAMES,
        "a%20b",
        "a%2Fb",
        "a#b",
        "a?b",
        "why?mode=ro",
    ],
)
def test_a_home_of_any_name_is_opened(tmp_path: Path, name: str) -> None:
    created(tmp_path / name)
    before = names_in(tmp_path)
    catalog = pyiceberg.open_catalog(of_home(tmp_path / name))
    assert catalog.list_tables("silver") == [("silver", "trades")]
    assert names_in(tmp_path) == before


def test_opening_a_home_makes_no_file_whatever_its_name(tmp_path: Path) -> None:
    created(tmp_path / "a#b")
    before = names_in(tmp_path)
    with suppress(LakehouseError):
        pyiceberg.open_catalog(of_home(tmp_path / "a#b"))
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("name", [*NAMES, "a%20b", "a%2Fb", "a#b", "a?b"])
def test_tables_in_a_folder_of_any_name_are_read(tmp_path: Path, name: str) -> None:
    created(tmp_path / "home")
    moved(tmp_path / "home" / "warehouse", tmp_path / name)
    catalog = pyiceberg.open_catalog(of_home(tmp_path / "home"))
    assert pyiceberg.load(catalog, BY_NAME[SILVER]).location() == f"file://{tmp_path / name}/silver/trades"


@pytest.mark.parametrize("name", ["plain", "a#b", "a&b=c"])
def test_spark_opens_the_same_file_whatever_the_name_of_the_home(tmp_path: Path, name: str) -> None:
    uri = of_home(tmp_path / name).catalog_uri
    assert opened_by_java(uri.removeprefix("jdbc:sqlite:")) == f"{tmp_path}/{name}/catalog.db"


def test_a_home_that_spark_would_take_for_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^LAKEHOUSE_HOME: .*/a\?b has a question mark in its name$"):
        _ = of_home(tmp_path / "a?b").catalog_uri


def opened_by_java(given: str) -> str:
    """SQLite's driver for Java takes all behind the first ? for parameters, and those it does not know for the name."""
    name, _, parameters = given.partition("?")
    known = ("journal_mode", "busy_timeout")
    others = [each for each in reversed(parameters.split("&")) if each and each.split("=")[0] not in known]
    return f"{name}?{'&'.join(others)}" if others else name


def test_a_catalog_is_read_while_a_job_writes_to_it(tmp_path: Path) -> None:
    created(tmp_path / "home", journal_mode="wal")
    with closing(sqlite3.connect(tmp_path / "home" / "catalog.db", isolation_level=None)) as job:
        job.execute("CREATE TEMP TABLE more AS SELECT * FROM iceberg_tables")
        job.execute("UPDATE more SET table_name = 'more'")
        job.execute("INSERT INTO iceberg_tables SELECT * FROM more")
        job.execute("BEGIN IMMEDIATE")
        job.execute("DELETE FROM iceberg_tables")
        catalog = pyiceberg.open_catalog(of_home(tmp_path / "home"))
        assert sorted(catalog.list_tables("silver")) == [("silver", "more"), ("silver", "trades")]
        job.execute("ROLLBACK")


def test_a_table_that_is_missing_is_named(tmp_path: Path) -> None:
    created(tmp_path / "home")
    catalog = pyiceberg.open_catalog(of_home(tmp_path / "home"))
    with pytest.raises(UsageError, match=r"^gold\.fact_trades is missing: there is no lakehouse here yet; run: lake"):
        pyiceberg.load(catalog, BY_NAME[GOLD])


def test_a_catalog_elsewhere_is_opened_by_its_uri(tmp_path: Path) -> None:
    created(tmp_path / "home")
    for parameters in ("", "?journal_mode=WAL&busy_timeout=1"):
        catalog = pyiceberg.open_catalog(of_catalog(uri=f"jdbc:sqlite:{tmp_path / 'home' / 'catalog.db'}{parameters}"))
        assert catalog.list_tables("silver") == [("silver", "trades")]


@pytest.mark.parametrize("uri", ["jdbc:postgresql://db.example/lake", "jdbc:mysql://db/lake", "sqlite:///a.db", ""])
def test_other_databases_are_not_read_without_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.chdir(tmp_path)
    if not uri:  # as if it were not set: then the lakehouse in the home is meant
        with pytest.raises(UsageError, match=NOT_THERE):
            pyiceberg.open_catalog(of_catalog(uri=uri))
        return
    with pytest.raises(UsageError, match=f"^LAKEHOUSE_CATALOG__URI: only SQLite and REST .* not '{uri}'$"):
        pyiceberg.open_catalog(of_catalog(uri=uri))
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize(
    "uri",
    [
        "jdbc:postgresql://db.example/lake?user=lake&password=hush",
        "jdbc:postgresql://lake:hush@db.example/lake",
        "jdbc:postgresql://lake:hush/hush@db.example/lake",
        "jdbc:sqlserver://db.example;user=lake;password=hush",
        "jdbc:oracle:thin:lake/hush@//db.example/lake",
    ],
)
def test_a_refused_uri_does_not_tell_its_password(uri: str) -> None:
    with pytest.raises(UsageError, match="only SQLite and REST") as refused:
        pyiceberg.open_catalog(of_catalog(uri=uri))
    assert "hush" not in str(refused.value)


def test_a_file_that_is_no_catalog_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database at all, but some text\n" * 99)
    with pytest.raises(UsageError, match=r"/notes\.txt is no catalog: "):
        pyiceberg.open_catalog(of_catalog(uri=f"jdbc:sqlite:{tmp_path}/notes.txt"))


@pytest.mark.parametrize("problem", ["database is locked", "unable to open database file", "disk I/O error"])
def test_a_catalog_that_cannot_be_read_now_is_not_said_to_be_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    created(tmp_path / "home")

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        raise sqlite3.OperationalError(problem)

    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(LakehouseError, match=problem) as failed:
        pyiceberg.open_catalog(of_home(tmp_path / "home"))
    assert "is no catalog" not in str(failed.value)


# The REST catalog


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What REST catalogs are opened with; none is connected to."""
    opened: list[dict[str, Any]] = []

    class Recorder:
        def __init__(self, name: str, **properties: Any) -> None:
            opened.append({"name": name, **properties})

    monkeypatch.setattr(rest_catalogs, "RestCatalog", Recorder)
    return opened


SERVER = {"type": "rest", "uri": "https://catalog.example/api", "warehouse": "lake"}
PLACE = {"name": "lake", "uri": "https://catalog.example/api", "warehouse": "lake"}
PATHS, HOSTS = {"s3.force-virtual-addressing": "false"}, {"s3.force-virtual-addressing": "true"}


def test_a_rest_catalog_is_opened_where_the_settings_say(connected: list[dict[str, Any]]) -> None:
    pyiceberg.open_catalog(of_catalog(**SERVER))
    assert connected == [{**PLACE, **PATHS, "s3.region": "us-east-1"}]


def test_its_secrets_and_those_of_s3_are_handed_over_in_clear(connected: list[dict[str, Any]]) -> None:
    s3 = S3Settings.model_validate(
        {"endpoint": "http://s3.example", "region": "eu-central-1", "path_style_access": False,
         "access_key_id": "key", "secret_access_key": "hush"}
    )  # fmt: skip
    catalog = {**SERVER, "credential": "id:secret", "token": "bearer", "secrets": {"header.X-Pass": "sesame"}}
    pyiceberg.open_catalog(of_catalog(**catalog).model_copy(update={"s3": s3}))
    assert connected == [
        {
            **PLACE, **HOSTS, "credential": "id:secret", "token": "bearer", "s3.endpoint": "http://s3.example",
            "header.X-Pass": "sesame",
            "s3.region": "eu-central-1", "s3.access-key-id": "key", "s3.secret-access-key": "hush",
        }
    ]  # fmt: skip


def test_one_key_without_the_other_is_none(connected: list[dict[str, Any]]) -> None:
    s3 = S3Settings.model_validate({"access_key_id": "key"})
    pyiceberg.open_catalog(of_catalog(**SERVER).model_copy(update={"s3": s3}))
    assert connected == [{**PLACE, **PATHS, "s3.region": "us-east-1"}]


def test_properties_of_the_catalog_win(connected: list[dict[str, Any]]) -> None:
    properties = {"s3.region": "eu-west-1", "header.X-Tenant": "a", "scope": "PRINCIPAL_ROLE:ALL"}
    pyiceberg.open_catalog(of_catalog(**SERVER, properties=properties))
    assert connected == [{**PLACE, **PATHS, **properties}]


@pytest.mark.parametrize("missing", ["uri", "warehouse"])
def test_a_rest_catalog_needs_its_address_and_its_warehouse(connected: list[dict[str, Any]], missing: str) -> None:
    given = {name: value for name, value in SERVER.items() if name != missing}
    with pytest.raises(UsageError, match="REST catalog needs LAKEHOUSE_CATALOG__URI and LAKEHOUSE_CATALOG__WAREHOUSE"):
        pyiceberg.open_catalog(of_catalog(**given))
    assert connected == []


def test_a_server_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str, **properties: Any) -> Catalog:
        raise ConnectionError("refused\nby a trace of many lines")

    monkeypatch.setattr(rest_catalogs, "RestCatalog", refused)
    with pytest.raises(LakehouseError, match=r"^the catalog does not open \(LAKEHOUSE_CATALOG__…\): refused$"):
        pyiceberg.open_catalog(of_catalog(**SERVER))


# A survey


LOG_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("run_id", "table_name", "job", "status", "detail")),
        ("lease_until", pa.timestamp("us", tz="UTC")),
        ("_logged_at", pa.timestamp("us", tz="UTC")),
    ]
)
TRADES_SCHEMA = Schema(
    NestedField(1, "trade_id", StringType()),
    NestedField(2, "_ingested_at", TimestamptzType()),
    NestedField(3, "_processed_at", TimestamptzType()),
)
FOLLOWING = (
    '{"from":null,"since":"2026-05-01T00:00:00.000000+00:00","source":"bronze.raw_trades",'
    '"stamp":"2026-05-01T00:00:00.000000+00:00","to":"%s","totals":{}}'
)
"""The cursor of silver.trades."""


@pytest.fixture
def lake(tmp_path: Path) -> Catalog:
    """The log, bronze and silver trades, empty; of bronze, no row has an event time."""
    made = SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    for name, schema in ((LOG, LOG_SCHEMA), (RAW, TRADES_SCHEMA), (SILVER, TRADES_SCHEMA)):
        made.create_namespace_if_not_exists(name.split(".")[0])
        made.create_table(name, schema, properties={"format-version": "2"})
    return made


def land(lake: Catalog, table: str, *stamps: datetime, cursor: str | None = None) -> None:
    """A commit with a row for each stamp, or without any."""
    rows = pa.Table.from_pylist(
        [{"trade_id": "T", "_ingested_at": stamp, "_processed_at": stamp} for stamp in stamps],
        schema=TRADES_SCHEMA.as_arrow(),
    )
    lake.load_table(table).append(rows, snapshot_properties={CURSOR: cursor} if cursor else {})


def log(lake: Catalog, table: str, job: str, status: str, detail: Mapping[str, Any] | None = None) -> None:
    row = {
        "run_id": "r", "table_name": table, "job": job, "status": status, "_logged_at": datetime.now(UTC),
        "detail": None if detail is None else json.dumps(detail),
    }  # fmt: skip
    lake.load_table(LOG).append(pa.Table.from_pylist([row], schema=LOG_SCHEMA))


def surveyed(lake: Catalog, *tables: str, now: datetime = NOW, **settings: Any) -> survey.Survey:
    return survey.take(of(lake, **settings), [BY_NAME[name] for name in tables], now)


def of(lake: Catalog, **maintenance: Any) -> Settings:
    home = Path(lake.properties["warehouse"].removeprefix("file://")).parent
    return of_home(home, maintenance=MaintenanceSettings(**maintenance))


def only(found: survey.Survey) -> Plan:
    (plan,) = found.plans
    return plan


def test_tables_that_were_never_written_to_need_nothing(lake: Catalog) -> None:
    found = surveyed(lake, LOG, RAW, SILVER)
    assert found.plans == (Plan(LOG), Plan(RAW), Plan(SILVER))
    assert (found.now, found.journal) == (NOW, Journal())
    assert found.as_dict() == {
        "at": "2026-11-27T12:00:00+00:00",
        "refused": [],
        "tables": [
            {"table": name, "looked_for_orphans": None, "actions": [], "kept": []} for name in (LOG, RAW, SILVER)
        ],
    }


OLD = datetime(2026, 5, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cursor", "goes"),
    [
        (FOLLOWING % "2026-05-01T09:00:00.000000+00:00", 1),
        (FOLLOWING % "2026-05-01T08:59:59.999999+00:00", 0),
        (FOLLOWING.replace("bronze.raw_trades", "bronze.raw_orderbook") % "2026-05-01T09:00:00.000000+00:00", 0),
        ('{"stamp":"2026-05-01T09:00:00.000000+00:00"}', 0),
        (None, 0),
    ],
)
def test_rows_go_from_bronze_once_silver_has_consumed_them(lake: Catalog, cursor: str | None, goes: int) -> None:
    land(lake, RAW, OLD, cursor='{"from":{},"stamp":"2026-05-01T09:00:00.000000+00:00","to":{},"topic":"t"}')
    land(lake, SILVER, OLD, cursor=cursor)
    found = only(surveyed(lake, RAW)).of(["bronze_retention"])
    assert [action.before["rows"] - action.after["rows"] for action in found.actions] == [1] * goes
    assert [each.why for each in found.kept] == ["silver has not consumed all of it"] * (1 - goes)


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


def test_expiry_is_planned_and_counted_without_a_look_at_the_files(lake: Catalog, opened: list[str]) -> None:
    for _ in range(7):
        land(lake, SILVER, OLD)
    later = datetime.now(UTC) + timedelta(days=30)
    (found,) = survey.take(of(lake), [BY_NAME[SILVER]], later, jobs=[Expiry.job]).plans
    (action,) = found.actions
    assert (action.before["snapshots"], action.after["snapshots"]) == (7, 5)
    assert survey.counts_after(of(lake), action)["snapshots"] == 7
    assert opened == []
    surveyed(lake, SILVER)
    assert len(opened) == 7


def test_of_a_table_that_follows_another_only_the_cursor_is_read(lake: Catalog, opened: list[str]) -> None:
    land(lake, RAW, OLD)
    for _ in range(3):
        land(lake, SILVER, OLD)
    surveyed(lake, RAW)
    assert len(opened) == 1
    surveyed(lake, RAW, SILVER)
    assert len(opened) == 1 + 1 + 3


def test_a_survey_goes_by_the_settings(lake: Catalog) -> None:
    for _ in range(3):
        land(lake, SILVER, OLD)
    changed = {"tables": {SILVER: PolicySettings(min_input_files=3, settle_minutes=0)}}
    (action,) = only(surveyed(lake, SILVER, now=datetime.now(UTC), **changed)).actions
    assert (action.job, action.before["files"], action.after["files"]) == ("compaction", 3, 1)
    assert only(surveyed(lake, SILVER)).actions == ()


def test_a_survey_remembers_compactions_by_the_log(lake: Catalog) -> None:
    for _ in range(6):
        land(lake, SILVER, OLD)
    land(lake, SILVER)
    trades = lake.load_table(SILVER)
    *old, _ = [each.snapshot_id for each in trades.metadata.snapshots]
    trades.maintenance.expire_snapshots().by_ids(old).commit()
    assert [action.job for action in only(surveyed(lake, SILVER)).actions] == ["compaction"]

    log(lake, SILVER, "compaction", "DONE", {"sequences": [1, 2, 3], "given_up": 0})
    log(lake, SILVER, "compaction", "DONE", {"sequences": [4, 5, 6], "given_up": 0})

    assert only(surveyed(lake, SILVER)).actions == ()


def test_how_long_a_write_may_take_is_a_setting(lake: Catalog) -> None:
    land(lake, SILVER, OLD)
    trades = lake.load_table(SILVER)
    head = trades.current_snapshot()
    assert head is not None
    name = "commit_20261127T090000_" + "a" * 32
    trades.manage_snapshots().create_branch(head.snapshot_id, name).commit()
    assert only(surveyed(lake, SILVER)).actions == ()
    (action,) = only(surveyed(lake, SILVER, longest_write_hours=2.5)).actions
    assert [*action.parts()][1:] == [f"branch {name}"]


def test_a_lakehouse_without_a_log_is_told_to_migrate(lake: Catalog) -> None:
    lake.drop_table(LOG)
    with pytest.raises(UsageError, match=r"^_metadata\.maintenance_log is missing: .* run: lakehouse migrate$"):
        surveyed(lake, RAW)


def test_the_log_is_read_oldest_entry_first(lake: Catalog) -> None:
    log(lake, SILVER, "compaction", "STARTED")
    log(lake, SILVER, "compaction", "DONE", {"sequences": [4, 5], "given_up": 1})
    log(lake, RAW, "compaction", "FAILED", {"error": "disk full"})
    found = surveyed(lake, RAW).journal
    assert [(entry.table, entry.status) for entry in found.entries] == [
        (SILVER, "STARTED"), (SILVER, "DONE"), (RAW, "FAILED"),
    ]  # fmt: skip
    assert found.compacted()[SILVER] == frozenset({4, 5})
    assert {*found.last_done("compaction")} == {SILVER}
    assert {table: entry.detail for table, entry in found.last_failure().items()} == {RAW: {"error": "disk full"}}


# Leases


def entry(status: str, *, run: str = "one", job: str = "compaction", minutes: float | None = None) -> Entry:
    """An entry for silver.trades with a lease of so many minutes from NOW on."""
    until = None if minutes is None else NOW + timedelta(minutes=minutes)
    return Entry(run, SILVER, job, status, NOW, until)


@pytest.mark.parametrize(
    ("entries", "holder"),
    [
        ([], None),
        ([entry("STARTED", minutes=5)], "one"),
        ([entry("STARTED", minutes=0)], None),
        ([entry("STARTED", minutes=-9), entry("RENEWED", minutes=5)], "one"),
        ([entry("STARTED", minutes=5), entry("DONE")], None),
        ([entry("STARTED", minutes=5), entry("FAILED")], None),
        ([entry("STARTED", minutes=5), entry("STARTED", minutes=5, job="snapshot_expiration"), entry("DONE")], "one"),
        ([entry("STARTED", minutes=-1), entry("STARTED", run="two", minutes=5)], "two"),
    ],
)
def test_a_table_is_held_until_its_run_ends_or_its_lease_runs_out(entries: list[Entry], holder: str | None) -> None:
    found = Journal(tuple(entries))
    assert getattr(found.holder(SILVER, NOW), "run_id", None) == holder
    assert found.holder(RAW, NOW) is None
