"""Who may read and not write: every job says so in one sentence before it works, and asking leaves nothing behind."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from pyarrow import fs
from pyspark.sql import SparkSession

from lakehouse_spark import migrations
from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.jobs.registry import JOBS
from lakehouse_spark.lake import rights, snapshots
from lakehouse_spark.local.loopback import HOST
from lakehouse_spark.settings import KafkaSettings, Settings
from tests.support import servers
from tests.support.executions import counted
from tests.support.lake import Lake, create_tables
from tests.support.object_store import ObjectStore
from tests.support.proxy import Answer, Proxy, Request, undisturbed
from tests.support.rest_catalog import RestCatalog

RAW, SILVER = "bronze.raw_trades", "silver.trades"
ASKED_FOR = {
    "schema_migration": "_metadata.schema_migrations", "bronze_writer": RAW, "silver_processor": SILVER,
    "dimension_loader": "dim.dim_symbol", "fact_loader": "gold.fact_trades",
    "gold_aggregator": "gold.daily_trading_summary", "pipeline": RAW, "compaction": "_metadata.maintenance_log",
    "snapshot_expiration": "_metadata.maintenance_log", "orphan_cleanup": "_metadata.maintenance_log",
    "manifest_rewrite": "_metadata.maintenance_log", "bronze_retention": "_metadata.maintenance_log",
    "maintenance": "_metadata.maintenance_log",
}  # fmt: skip
WRITTEN = sorted({*ASKED_FOR.values()})


@dataclass
class Doors:
    """A lakehouse on servers, for who has other rights there; all that they ask of the catalog goes by a proxy."""

    of_all: Lake
    store: ObjectStore
    catalog: RestCatalog
    proxy: Proxy

    def opened_by(self, name: str) -> Lake:
        """The same lakehouse for a key of the store."""
        environment = {**self.catalog.environment, **self.store.environment_of(name)}
        environment |= {
            "LAKEHOUSE_CATALOG__URI": f"http://{HOST}:{self.proxy.port}",
            "LAKEHOUSE_CATALOG__WAREHOUSE": self.catalog.environment["LAKEHOUSE_CATALOG__WAREHOUSE"],
        }
        of_all = self.of_all.settings
        settings = servers.settings_of(environment).model_copy(update={"home": of_all.home, "kafka": of_all.kafka})
        return Lake(servers.connect(self.of_all.spark, settings), settings)

    @property
    def held(self) -> tuple[set[tuple[str, int]], int]:
        """All objects of the bucket, with their sizes, and how many uploads are begun and not ended."""
        found = self.store.files.get_file_info(fs.FileSelector("warehouse", recursive=True))
        client = snapshots.load(self.of_all.spark, BY_NAME[SILVER]).io().client()
        model = getattr(self.of_all.spark._jvm, "software.amazon.awssdk.services.s3.model")
        asked = model.ListMultipartUploadsRequest.builder().bucket("warehouse").build()
        begun = int(client.listMultipartUploads(asked).uploads().size())
        return {(each.path, each.size) for each in found if each.is_file}, begun


@pytest.fixture(scope="module")
def doors(
    spark: SparkSession, settings: Settings, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Doors]:
    """Nobody is where Kafka should be: of who asks there, that would be told."""
    folder = tmp_path_factory.mktemp("rights")
    kafka = KafkaSettings(bootstrap_servers=f"{HOST}:9")
    with RestCatalog.of(settings, folder / "rights", object_store) as catalog, Proxy(catalog.port) as proxy:
        own = servers.settings_of(catalog.environment)
        lake = Lake(servers.connect(spark, own), own.model_copy(update={"home": folder / "home", "kafka": kafka}))
        create_tables(lake.spark, WRITTEN)
        yield Doors(lake, object_store, catalog, proxy)


@pytest.fixture(autouse=True)
def _as_if_migrated(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """To make all that a migrated lakehouse has takes half a minute, and is of no concern here."""
    monkeypatch.setattr(migrations, "require_current", lambda *_: None)
    yield
    doors.proxy.rule = undisturbed


def refusals_of_every_job(lake: Lake) -> dict[str, str]:
    """What each job says that is run there; all end with 1, and have Spark compute nothing."""
    said = {}
    with counted(lake.spark) as counter:
        for job in JOBS.values():
            with pytest.raises(LakehouseError) as refused:
                job.run(lake.spark, lake.settings)
            assert refused.value.exit_code == 1
            said[job.name] = str(refused.value)
        assert str(counter.spent()) == ""
    return said


def test_a_key_that_may_only_read_ends_every_job_before_it_works(doors: Doors) -> None:
    before = doors.held
    said = refusals_of_every_job(doors.opened_by("reader"))
    assert doors.held == before
    place = f"{doors.catalog.environment['LAKEHOUSE_CATALOG__WAREHOUSE']}/bronze/raw_trades"
    assert said["bronze_writer"].startswith(
        f"bronze.raw_trades: the store does not let us write to {place}: "
        "software.amazon.awssdk.services.s3.model.AccessDeniedException: Access Denied. "
    )
    assert said["bronze_writer"].endswith(
        ". Let the key that LAKEHOUSE_S3__… names, or the catalog gives, write there, or name another one"
    )
    assert {name: sentence.partition(":")[0] for name, sentence in said.items()} == ASKED_FOR
    assert [sentence for sentence in said.values() if "\n" in sentence] == []


def test_a_catalog_that_takes_no_commits_ends_every_job_before_it_works(doors: Doors) -> None:
    lake = doors.opened_by("lakehouse")
    doors.proxy.rule = lambda request: Answer(403) if request.method == "POST" else None
    before = doors.held
    said = refusals_of_every_job(lake)
    assert doors.held == before
    assert said["silver_processor"].startswith(
        f"silver.trades: the catalog at http://{HOST}:{doors.proxy.port} does not let us commit: "
    )
    assert [sentence for sentence in said.values() if "does not let us commit" not in sentence] == []


def test_to_ask_whether_we_may_write_leaves_nothing_behind(doors: Doors) -> None:
    lake, asked = doors.opened_by("lakehouse"), list[Request]()
    before = doors.held

    def listen(request: Request) -> None:
        asked.append(request)

    doors.proxy.rule = listen
    for name in (RAW, SILVER):
        rights.require_writing(lake.spark, lake.settings, BY_NAME[name])
    assert [request.path for request in asked if request.method == "POST"] == [
        "/v1/namespaces/bronze/tables/raw_trades", "/v1/namespaces/silver/tables/trades",
    ]  # fmt: skip
    assert doors.held == before


def test_a_store_that_fails_while_it_is_asked_ends_no_job(doors: Doors) -> None:
    lake = doors.opened_by("lakehouse")
    doors.proxy.rule = lambda request: Answer(503) if request.method == "POST" else None
    rights.require_writing(lake.spark, lake.settings, BY_NAME[SILVER])
