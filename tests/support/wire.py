"""A lakehouse on an object store and a REST catalog, what stands between it and them, and what may happen there."""

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs
from pyspark.sql import SparkSession

from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.cli.failures import explained
from lakehouse_spark.lake import snapshots
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.loopback import HOST
from lakehouse_spark.settings import KafkaSettings, Settings
from lakehouse_spark.verify import ingestion, storage
from tests.support import servers
from tests.support.child import MADE, TABLES, chain
from tests.support.lake import ALL_TOPICS, Lake, create_tables, enter_exchanges
from tests.support.object_store import ObjectStore
from tests.support.proxy import Answer, Cut, Late, Proxy, Request, Rule, undisturbed
from tests.support.rest_catalog import RestCatalog

RAW, SILVER = "bronze.raw_trades", "silver.trades"
HOLD = (
    ingestion.offsets_are_there_once, ingestion.offsets_are_complete, ingestion.rows_are_accounted_for,
    ingestion.activity_follows_from_trades, storage.keys_are_unique, storage.files_exist,
)  # fmt: skip
"""The checks that hold behind whatever happened."""
BRANCH, WRITE, PUBLISH, EXPIRE = "the branch", "the staged commit", "the fast-forward", "the expiry"
LOST: dict[str, Answer | Cut] = {"cut": Cut(), "a 500": Answer(500, is_done=True), "a 503": Answer(503, is_done=True)}
"""How the answer to what was done gets lost."""
_OF_CATALOG = (Answer(500), Answer(503), Answer(500, is_done=True), Answer(503, is_done=True), Cut(), Late(0.3))
_OF_STORE = (Answer(500), Answer(503), Late(0.3), Cut())


@dataclass
class Wire:
    """A lakehouse whose servers may be killed, and what stands between it and them."""

    store: ObjectStore
    catalog: RestCatalog
    to_store: Proxy
    to_catalog: Proxy
    lake: Lake

    @contextmanager
    def disturbed(self, *, store: Rule = undisturbed, catalog: Rule = undisturbed) -> Iterator[None]:
        self.to_store.rule, self.to_catalog.rule = store, catalog
        try:
            yield
        finally:
            self.to_store.rule = self.to_catalog.rule = undisturbed

    def run(self, work: Callable[[Lake], object] = chain) -> str | None:
        """What a user is told of a run that failed; None: it went well."""
        said: list[str] = []
        try:
            work(self.lake)
        except Exception as error:
            said.append(explained("chain", error, said.append))
        assert len(said) <= 1
        return said[0] if said else None

    @property
    def commits(self) -> dict[str, int]:
        """How many snapshots there are on main, by table."""
        loaded = {name: snapshots.load(self.lake.spark, BY_NAME[name]) for name in TABLES}
        return {name: len([*snapshots.ancestors(each, each.currentSnapshot())]) for name, each in loaded.items()}

    @property
    def objects(self) -> list[str]:
        """All that is in the bucket."""
        found = self.store.files.get_file_info(fs.FileSelector("warehouse", recursive=True))
        return sorted(each.path for each in found if each.is_file)

    @property
    def branches(self) -> set[str]:
        loaded = (snapshots.load(self.lake.spark, BY_NAME[name]) for name in TABLES)
        return {name for each in loaded for name in each.refs() if name != "main"}


@contextmanager
def strung(
    spark: SparkSession, settings: Settings, broker: Broker, folder: Path, tables: Sequence[str] = MADE
) -> Iterator[Wire]:
    """One with these tables, empty, if there are any, and topics."""
    with (
        ObjectStore(folder / "store") as store,
        RestCatalog.of(settings, folder / "lake", store) as catalog,
        Proxy(store.ports["s3.port"]) as to_store,
        Proxy(catalog.port) as to_catalog,
    ):
        environment = {
            **catalog.environment,
            "LAKEHOUSE_CATALOG__URI": f"http://{HOST}:{to_catalog.port}",
            "LAKEHOUSE_S3__ENDPOINT": f"http://{HOST}:{to_store.port}",
            "LAKEHOUSE_HOME": str(folder / "home"),
        }
        topics = {name: f"{folder.name}_{name}" for name in ALL_TOPICS}
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, topics=topics)
        of_lake = servers.settings_of(environment).model_copy(update={"kafka": kafka})
        own = servers.connect(spark, of_lake)
        if tables:
            create_tables(own, tables)
            enter_exchanges(own)
        lake = Lake(own, of_lake)
        lake.create_topics(names=ALL_TOPICS)
        yield Wire(store, catalog, to_store, to_catalog, lake)


def stage_of(request: Request, table: str) -> str | None:
    """Which step of a commit to this table is asked of the catalog."""
    namespace, _, name = table.partition(".")
    if request.method != "POST" or request.path != f"/v1/namespaces/{namespace}/tables/{name}":
        return None
    updates = json.loads(request.body)["updates"]
    if any(update["action"] == "add-snapshot" for update in updates):
        return WRITE
    if any(update["action"] == "remove-snapshots" for update in updates):
        return EXPIRE
    moved = [update["ref-name"] for update in updates if update["action"] == "set-snapshot-ref"]
    return None if not moved else PUBLISH if moved == ["main"] else BRANCH


def once(table: str, stage: str, fate: Answer | Cut | Late) -> tuple[Rule, list[str]]:
    """A rule for the first request of a stage, and what it struck."""
    struck: list[str] = []

    def rule(request: Request) -> Answer | Cut | Late | None:
        if struck or stage_of(request, table) != stage:
            return None
        struck.append(stage)
        return fate

    return rule, struck


def at_random(seed: int) -> tuple[Rule, Rule]:
    """Rules for the store and the catalog, by which some requests are answered late, by an error, or not at all."""
    chance, lock = random.Random(seed), threading.Lock()

    def some(share: float, fates: Sequence[Answer | Cut | Late]) -> Rule:
        def rule(request: Request) -> Answer | Cut | Late | None:
            with lock:
                return chance.choice(fates) if chance.random() < share else None

        return rule

    return some(0.05, _OF_STORE), some(0.1, _OF_CATALOG)
