"""What goes wrong between a lakehouse and the servers it is on: each is killed in the middle of a commit, and answers
get lost, late, or errors. Behind it a run goes on, nothing is lost, nothing is there twice, and no live file is gone.
"""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import verify
from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.cli.failures import explained
from lakehouse_spark.lake import snapshots
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.loopback import HOST
from lakehouse_spark.settings import KafkaSettings, Settings
from lakehouse_spark.verify import ingestion, storage
from tests.support import servers
from tests.support.child import MADE, TABLES, chain, round_of
from tests.support.faults import ROUNDS
from tests.support.lake import Lake, create_tables, enter_exchanges
from tests.support.object_store import ObjectStore
from tests.support.proxy import Answer, Cut, Late, Proxy, Request, Rule, undisturbed
from tests.support.rest_catalog import RestCatalog

RAW, SILVER = "bronze.raw_trades", "silver.trades"
BRANCH, WRITE, PUBLISH = "the branch", "the staged commit", "the fast-forward"
LOST: dict[str, Answer | Cut] = {"cut": Cut(), "a 500": Answer(500, is_done=True), "a 503": Answer(503, is_done=True)}
"""How the answer to what was done gets lost."""
ALL = [(table, stage, how) for table in (RAW, SILVER) for stage in (BRANCH, WRITE, PUBLISH) for how in LOST]
FEW = [
    (RAW, BRANCH, "cut"), (RAW, WRITE, "a 503"), (RAW, PUBLISH, "a 500"), (SILVER, BRANCH, "a 503"),
    (SILVER, WRITE, "cut"), (SILVER, PUBLISH, "cut"),
]  # fmt: skip
HOLD = (
    ingestion.offsets_are_there_once, ingestion.offsets_are_complete, ingestion.rows_are_accounted_for,
    ingestion.activity_follows_from_trades, storage.keys_are_unique, storage.files_exist,
)  # fmt: skip


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

    def run(self) -> str | None:
        """What a user is told of a run that failed; None: it went well."""
        said: list[str] = []
        try:
            chain(self.lake)
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
    def branches(self) -> set[str]:
        loaded = (snapshots.load(self.lake.spark, BY_NAME[name]) for name in TABLES)
        return {name for each in loaded for name in each.refs() if name != "main"}


@pytest.fixture(scope="module")
def wire(
    spark: SparkSession, settings: Settings, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Wire]:
    folder = tmp_path_factory.mktemp("wire")
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
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, topics={"raw_trades": "wire_raw_trades"})
        of_lake = servers.settings_of(environment).model_copy(update={"kafka": kafka})
        own = servers.connect(spark, of_lake)
        create_tables(own, MADE)
        enter_exchanges(own)
        lake = Lake(own, of_lake)
        lake.create_topics(names=["raw_trades"])
        yield Wire(store, catalog, to_store, to_catalog, lake)


@pytest.fixture(autouse=True)
def _as_if_nothing_had_happened(wire: Wire, spark: SparkSession, tmp_path: Path) -> Iterator[None]:
    """Behind each test: what a lakehouse in a folder makes of the same records, undisturbed, and all that holds."""
    yield
    lake = wire.lake
    other = Lake.new(spark, str(lake.settings.kafka.bootstrap_servers), tmp_path / "undisturbed", MADE)
    other.settings = other.settings.model_copy(update={"kafka": lake.settings.kafka})
    chain(other)
    for table in TABLES:
        assert lake.content(table) == other.content(table), table
    found = verify.findings(lake.spark, lake.settings, *HOLD)
    assert [str(each) for each in found if each.violations] == []


def stage_of(request: Request, table: str) -> str | None:
    """Which step of a commit to this table is asked of the catalog."""
    namespace, _, name = table.partition(".")
    if request.method != "POST" or request.path != f"/v1/namespaces/{namespace}/tables/{name}":
        return None
    updates = json.loads(request.body)["updates"]
    if any(update["action"] == "add-snapshot" for update in updates):
        return WRITE
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


def test_a_commit_whose_answer_was_lost_is_made_once(wire: Wire) -> None:
    for number, (table, stage, how) in enumerate(ALL if ROUNDS >= 20 else FEW):
        wire.lake.produce("raw_trades", *round_of(number))
        before = wire.commits
        rule, struck = once(table, stage, LOST[how])
        with wire.disturbed(catalog=rule):
            assert wire.run() is None, (table, stage, how)
        assert struck == [stage], (table, stage, how)
        assert {name: after - before[name] for name, after in wire.commits.items()} == dict.fromkeys(TABLES, 1)
        assert wire.branches == set(), (table, stage, how)


def test_answers_that_are_late_lost_or_errors_at_random_change_nothing(wire: Wire) -> None:
    chance, lock = random.Random(20250101 + ROUNDS), threading.Lock()
    of_catalog = (Answer(500), Answer(503), Answer(500, is_done=True), Answer(503, is_done=True), Cut(), Late(0.3))
    of_store = (Answer(500), Answer(503), Late(0.3), Cut())

    def some(share: float, fates: tuple[Answer | Cut | Late, ...]) -> Rule:
        def rule(request: Request) -> Answer | Cut | Late | None:
            with lock:
                return chance.choice(fates) if chance.random() < share else None

        return rule

    for number in range(ROUNDS):
        wire.lake.produce("raw_trades", *round_of(1_000 + number))
        before = wire.commits
        with wire.disturbed(store=some(0.05, of_store), catalog=some(0.1, of_catalog)):
            assert any(wire.run() is None for _ in range(20))
        assert {name: after - before[name] for name, after in wire.commits.items()} == dict.fromkeys(TABLES, 1)
