"""The same jobs on a cluster: the tables are those of one machine, whoever is killed.

By spark-submit in client mode to a standalone master, whose workers share no working folder or home with the driver.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import jars
from lakehouse_spark.jobs import pipeline
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.loopback import HOST
from lakehouse_spark.settings import DimTimeSettings, Settings
from tests.support import servers
from tests.support.cluster import Cluster
from tests.support.lake import ALL_TOPICS, Lake
from tests.support.rest_catalog import RestCatalog
from tests.support.shell import SCRIPTS, Done, Shell
from tests.support.two_beats import begin, digests, go_on

EXECUTORS = {"spark.executor.memory": "1g", "spark.executor.cores": "1", "spark.driver.host": HOST}


@pytest.fixture(scope="module")
def cluster(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = jars.find_java(settings.java).resolve().parents[1]
    with Cluster(tmp_path_factory.mktemp("cluster"), home) as running:
        running.add_worker()
        running.add_worker()
        yield running


class Submitted:
    """spark-submit to the cluster, in an environment as docs/how-to/run-on-servers.md has it."""

    def __init__(self, shell: Shell, cluster: Cluster, lake: Lake, catalog: RestCatalog) -> None:
        self._shell = shell
        self.environment = {
            **catalog.environment,
            "LAKEHOUSE_PROFILE": "cluster",
            "LAKEHOUSE_S3__PATH_STYLE_ACCESS": "true",
            "LAKEHOUSE_KAFKA__OPTIONS": json.dumps({"security.protocol": "PLAINTEXT"}),
            "LAKEHOUSE_KAFKA__TOPICS": json.dumps(lake.settings.kafka.topics),
            "LAKEHOUSE_SPARK__MASTER": cluster.master,
            "LAKEHOUSE_SPARK__CONF": json.dumps(EXECUTORS),
            "LAKEHOUSE_SPARK__SHUFFLE_PARTITIONS": "2",
            "SPARK_LOCAL_IP": HOST,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "PYSPARK_PYTHON": "/no/such/python",  # executors do without
        }

    def run(self, *words: str) -> Done:
        return self._shell.run("submit", "pipeline", *words, **self.environment)

    def killed(self, seconds: float) -> None:
        """A driver that dies by kill -9, with its JVM, after so long."""
        environment = {**self._shell.environment, **self.environment}
        with subprocess.Popen(
            [str(SCRIPTS / "submit"), "pipeline"], env=environment, cwd=self._shell.home, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            assert process.returncode is None, "it had ended before"
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.soak
def test_on_two_workers_the_tables_are_those_of_one_machine_whoever_is_killed(
    spark: SparkSession, broker: Broker, settings: Settings, cluster: Cluster, rest_catalog: RestCatalog, tmp_path: Path
) -> None:
    here = Lake.migrated(spark, broker.bootstrap_servers, tmp_path / "folder")
    here.create_topics(names=ALL_TOPICS)
    shell = Shell(broker.bootstrap_servers, tmp_path / "driver", settings.jar_cache)
    shell.home.mkdir()
    submitted = Submitted(shell, cluster, here, rest_catalog)

    begin(here)
    done = submitted.run()
    assert done.code == 0, (done.lines, done.complaints)
    assert done.counts["bronze.raw_trades"] == {"records": 6}

    go_on(here)
    submitted.killed(35)
    stop = threading.Event()

    def kill_one() -> None:
        while not stop.wait(15):
            if cluster.kill_an_executor():
                return

    killer = threading.Thread(target=kill_one)
    killer.start()
    done = submitted.run()
    stop.set()
    killer.join()
    assert done.code == 0, (done.lines, done.complaints)

    cluster.add_worker()
    done = submitted.run()
    assert done.code == 0, (done.lines, done.complaints)
    assert done.counts == {}

    pipeline.run(here.spark, here.settings)
    of_home = {"home": shell.home, "kafka": here.settings.kafka, "dim_time": DimTimeSettings(years=(2025,))}
    there = servers.settings_of(rest_catalog.environment).model_copy(update=of_home)
    on_cluster = Lake(servers.connect(spark, there), there)
    assert digests(on_cluster) == digests(here)
