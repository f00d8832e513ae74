"""One Spark session, one broker, one object store and one REST catalog, all real, for all tests; a lakehouse of its own
for each test that asks for one."""

import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import cli, jars
from lakehouse_spark.cli import sessions
from lakehouse_spark.errors import hide_nothing
from lakehouse_spark.lake import session
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.settings import Settings, SparkSettings, load
from tests.support import servers
from tests.support.lake import Lake
from tests.support.object_store import ObjectStore
from tests.support.rest_catalog import RestCatalog, jars_of
from tests.support.shell import Terminal

ROOT = Path(__file__).parents[1]
CONF = {
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",  # no compiling: a test's plans run once
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.execution.removeRedundantProjects": "false",  # to find them takes longer than a test's rows in them
    "spark.default.parallelism": "1",  # a test's rows are few: one task takes them all
    # Rows of Python are worked on in tasks, as a table's are, and not while their query is planned.
    "spark.sql.optimizer.excludedRules": ",".join(
        f"org.apache.spark.sql.catalyst.optimizer.{rule}" for rule in ("FoldablePropagation", "ConvertToLocalRelation")
    ),
    "spark.python.daemon.module": "tests.support.python_workers",
    # Spark keeps the last 1,000 plans for a page that nobody opens, each with its text.
    "spark.sql.ui.retainedExecutions": "5",
    "spark.ui.retainedJobs": "5",
    "spark.ui.retainedStages": "5",
    "spark.ui.retainedTasks": "100",
}


@pytest.fixture(scope="session", autouse=True)
def elsewhere() -> Iterator[dict[str, str]]:
    """What LAKEHOUSE_TEST_… names: servers of someone else's, for the tests that run on them too; by default none."""
    with servers.named_by_the_environment() as given:
        yield given


@pytest.fixture(autouse=True)
def _secrets_of_one_test_are_words_to_the_next() -> Iterator[None]:
    yield
    hide_nothing()


@pytest.fixture(scope="session")
def settings(elsewhere: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of the shared session; its cache is the user's, its home is thrown away."""
    home = tmp_path_factory.mktemp("home")
    spark = SparkSettings(master="local[2]", driver_memory="3g", shuffle_partitions=1, conf=CONF)
    return load().model_copy(update={"home": home, "spark": spark})


@pytest.fixture(scope="session")
def spark(settings: Settings) -> Iterator[SparkSession]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
        # At the end of the class path, where the start-up archive fits still.
        avro = jars.ensure(["avro"], settings.jar_cache, settings.java)["avro"]
        patch.setenv("SPARK_DIST_CLASSPATH", os.pathsep.join(map(str, (*jars_of("spark", settings), *avro))))
        opened = session.open_session(settings, "tests")
    yield opened
    opened.stop()


@pytest.fixture(scope="session")
def broker(settings: Settings) -> Iterator[Broker]:
    with _broker(settings, settings.root) as running:
        yield running


@pytest.fixture
def own_broker(settings: Settings, tmp_path: Path) -> Iterator[Broker]:
    """A broker that may be killed."""
    with _broker(settings, tmp_path / "own broker") as running:
        yield running


def _broker(settings: Settings, home: Path) -> Broker:
    found = jars.ensure(["broker"], settings.jar_cache, settings.java)
    return Broker(home, jars.find_java(settings.java), found["broker"])


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("store") / "store") as running:
        yield running


@pytest.fixture(scope="session")
def rest_catalog(
    settings: Settings, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RestCatalog]:
    with RestCatalog.of(settings, tmp_path_factory.mktemp("catalog") / "lake", object_store) as running:
        yield running


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    def run(lake: Lake, *words: str) -> tuple[int, str]:
        with monkeypatch.context() as patch:
            patch.setattr(sessions, "opened", lambda *_, **__: nullcontext((lake.spark, lake.settings)))
            patch.setattr(sys, "argv", ["lakehouse", *words])
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out or said.err

    return run


@pytest.fixture
def lake(spark: SparkSession, broker: Broker, tmp_path: Path) -> Lake:
    """Bronze, silver and the exchanges, empty, with a topic of one partition each."""
    made = Lake.new(spark, broker.bootstrap_servers, tmp_path / "home")
    made.create_topics()
    return made
