"""The whole product on an object store and a REST catalog: what it makes there is what it makes in a folder.

LAKEHOUSE_TEST_CATALOG__URI, LAKEHOUSE_TEST_CATALOG__WAREHOUSE, LAKEHOUSE_TEST_S3__ENDPOINT … name other servers than
those that the tests begin; the lakehouse there has to be empty, and is empty again in the end.
"""

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import migrations, verify
from lakehouse_spark.catalog import TABLES
from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.ingest.reference_files.paths import Buckets, behind
from lakehouse_spark.jobs import pipeline
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.settings import DimTimeSettings
from tests.support import servers
from tests.support.lake import ALL_TOPICS, Lake
from tests.support.object_store import ObjectStore
from tests.support.rest_catalog import RestCatalog
from tests.support.two_beats import begin, digests, go_on

SILVER = "silver.trades"


@dataclass
class Compared:
    """The same records on servers and in a folder."""

    on_servers: Lake
    in_folder: Lake


@pytest.fixture(scope="module")
def environment(elsewhere: dict[str, str], request: pytest.FixtureRequest) -> dict[str, str]:
    if elsewhere:
        return {"LAKEHOUSE_CATALOG__TYPE": "rest", **elsewhere}
    own: RestCatalog = request.getfixturevalue("rest_catalog")
    return own.environment


@contextmanager
def compiled(spark: SparkSession) -> Iterator[None]:
    """As long as plans are compiled: the minutes of a year are half a million."""
    mode = "spark.sql.codegen.factoryMode"
    spark.conf.set(mode, "FALLBACK")
    yield
    spark.conf.unset(mode)


@pytest.fixture(scope="module")
def compared(
    spark: SparkSession,
    broker: Broker,
    elsewhere: dict[str, str],
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Compared]:
    """Two beats on servers, and the same records in one in a folder."""
    homes = tmp_path_factory.mktemp("compared")
    in_folder = Lake.migrated(spark, broker.bootstrap_servers, homes / "folder")
    in_folder.create_topics(names=ALL_TOPICS)
    of_home = {"home": homes / "servers", "kafka": in_folder.settings.kafka, "dim_time": DimTimeSettings(years=(2025,))}
    settings = servers.settings_of(environment).model_copy(update=of_home)
    with servers.emptied(settings) if elsewhere else nullcontext():
        on_servers = Lake(servers.connect(spark, settings), settings)
        with compiled(on_servers.spark):
            migrations.migrate(on_servers.spark, settings, datetime.now(UTC))
        for news in (begin, go_on):
            news(on_servers)
            pipeline.run(on_servers.spark, settings)
        pipeline.run(in_folder.spark, in_folder.settings)
        yield Compared(on_servers, in_folder)


def test_what_is_made_on_servers_is_what_is_made_in_a_folder(compared: Compared) -> None:
    here, there = compared.on_servers, compared.in_folder
    assert digests(here) == digests(there)
    symbols = here.rows("dim.dim_symbol", "symbol", "effective_date", "company_name", "is_current")
    assert sorted((row[0], str(row[1]), row[2], row[3]) for row in symbols) == [
        ("AAPL", "2025-01-01", "Apple", False),
        ("AAPL", "2025-01-15", "Apfel", True),
        ("MSFT", "1900-01-01", "MSFT", True),
    ]
    summaries = here.rows("gold.daily_trading_summary", "summary_date", "symbol", "company_name", "total_volume")
    assert sorted((str(row[0]), row[1], row[2], row[3]) for row in summaries) == [
        ("2025-01-14", "AAPL", "Apple", 110),
        ("2025-01-15", "AAPL", "Apfel", 40),
        ("2025-01-15", "MSFT", "MSFT", 100),
        ("2025-01-16", "AAPL", "Apfel", 100),
    ]


def test_a_run_with_nothing_new_writes_nothing_there(compared: Compared) -> None:
    lake = compared.on_servers
    before = {table.name: lake.snapshots(table.name) for table in TABLES}
    assert [summary.table for summary in pipeline.run(lake.spark, lake.settings) if summary.snapshot_id] == []
    assert {table.name: lake.snapshots(table.name) for table in TABLES} == before


def test_every_invariant_holds_there_in_full(compared: Compared) -> None:
    lake = compared.on_servers
    verified = verify.go_on(lake.spark, lake.settings, in_full=True)
    assert verified.complaint is None
    assert [str(found) for found in verified.findings if not found.holds] == []
    assert {found.invariant for found in verified.findings} == {invariant.name for invariant in verify.CHECKS}


def test_nobody_reads_a_file_there_without_a_key(compared: Compared) -> None:
    lake = compared.on_servers
    file = lake.spark.table(f"lake.{SILVER}.files").first()
    assert file is not None
    url = f"{lake.settings.s3.endpoint}/{file['file_path'].removeprefix('s3://')}"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=30)
    assert refused.value.code == 403
    refused.value.close()


def test_reference_files_on_s3_are_those_of_their_exact_names(object_store: ObjectStore, tmp_path: Path) -> None:
    names = ["100%20#a.csv", "12:30.CSV.gz", "a b?.csv", "symbols {eu}.csv", "symbols[1].csv", "ü€.csv"]
    for name in [*names, "symbols1.csv", "notes.txt", "deep/er.csv"]:
        with object_store.files.open_output_stream(f"warehouse/named/in:ner/{name}", compression=None) as file:
            file.write(name.encode())
    place, root = Buckets(servers.settings_of(object_store.environment).s3), "s3a://warehouse/named/in:ner"

    def found(path: str) -> list[str]:
        return [file.path.removeprefix(f"{root}/") for file in behind(path, place, path)[0]]

    for name in names:
        assert found(f"{root}/{name}") == [name]
    assert found("s3a://warehouse/named/in*/s*[[1s]*.csv") == ["symbols {eu}.csv", "symbols1.csv", "symbols[1].csv"]
    files, skipped = behind(root, place, root)
    assert [file.source for file in files] == [f"{root}/{name}" for name in sorted([*names, "symbols1.csv"])]
    assert skipped == [f"{root}/deep", f"{root}/notes.txt"]
    assert [file.fetch(tmp_path).read_bytes().decode() for file in files] == sorted([*names, "symbols1.csv"])
    with pytest.raises(UsageError, match=r"gone\.csv: no such file or folder"):
        behind("gone.csv", place, f"{root}/gone.csv")


def test_a_bucket_that_is_closed_is_one_sentence(object_store: ObjectStore) -> None:
    wrong = {**object_store.environment, "LAKEHOUSE_S3__SECRET_ACCESS_KEY": "canary-of-a-stranger"}
    place = Buckets(servers.settings_of(wrong).s3)
    with pytest.raises(LakehouseError) as refused:
        behind("a.csv", place, "s3a://warehouse/named/a.csv")
    assert str(refused.value).startswith("s3a://warehouse/named/a.csv: cannot be read: ")
    assert "canary" not in str(refused.value)
    assert "\n" not in str(refused.value)
