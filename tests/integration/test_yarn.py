"""Jobs on YARN, in cluster mode: driver and executors are where YARN puts them, with what HDFS brought them.

The package, its dependencies and its jars travel as docs/how-to/run-on-servers.md has it.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import jars
from lakehouse_spark.jobs import pipeline
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.loopback import HOST, wait_for
from lakehouse_spark.settings import DimTimeSettings, Settings
from tests.support import servers, wheel
from tests.support.lake import ALL_TOPICS, Lake
from tests.support.rest_catalog import RestCatalog, jars_of
from tests.support.shell import Done, Shell, finished
from tests.support.two_beats import begin, digests, go_on
from tests.support.yarn import Hadoop

pytestmark = pytest.mark.soak
SMALL = {
    "spark.executor.instances": "1", "spark.executor.memory": "600m", "spark.executor.cores": "1",
    "spark.yarn.am.memory": "512m",
    **{f"spark.{where}.SPARK_LOCAL_IP": HOST for where in ("yarn.appMasterEnv", "executorEnv")},
}  # fmt: skip
IN_CLUSTER = {
    "spark.submit.deployMode": "cluster",
    "spark.yarn.dist.archives": "{archive}#environment",
    "spark.pyspark.python": "./environment/bin/python",
}


@pytest.fixture(scope="module")
def hadoop(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hadoop]:
    home = jars.find_java(settings.java).resolve().parents[1]
    with Hadoop(tmp_path_factory.mktemp("hadoop"), home, jars_of("yarn", settings)) as running:
        running.add_node()
        running.add_node()
        yield running


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel and its dependencies, and beside it what travels of it."""
    built, environment = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("installed") / "environment"
    wheel.build(tmp_path_factory.mktemp("tree"), built)
    wheel.add_dependencies(wheel.install(built, environment))
    packed = environment.with_suffix(".tar.gz")
    command = ["tar", "--create", "--gzip", "--file", str(packed), "--exclude", "pyspark/jars"]
    subprocess.run([*command, "--directory", str(environment), "."], check=True)
    return packed


@dataclass(frozen=True)
class Submitted:
    """spark-submit from that environment, in a shell without this tree."""

    shell: Shell
    hadoop: Hadoop
    archive: Path
    environment: dict[str, str]

    @classmethod
    def by(cls, shell: Shell, hadoop: Hadoop, archive: Path, lake: Lake, catalog: RestCatalog) -> "Submitted":
        given, secrets = {**catalog.environment}, shell.home / "secrets"
        keys = {name: given.pop(f"LAKEHOUSE_S3__{name.upper()}") for name in ("access_key_id", "secret_access_key")}
        secrets.mkdir()
        (secrets / "LAKEHOUSE_S3").write_text(json.dumps(keys))
        return cls(shell, hadoop, archive, {
            **given,
            "LAKEHOUSE_PROFILE": "cluster",
            "LAKEHOUSE_SECRETS_DIR": str(secrets),
            "LAKEHOUSE_S3__PATH_STYLE_ACCESS": "true",
            "LAKEHOUSE_KAFKA": json.dumps({"options": {"security.protocol": "PLAINTEXT"}}),
            "LAKEHOUSE_S3": json.dumps({"region": "us-east-1"}),
            "LAKEHOUSE_KAFKA__TOPICS": json.dumps(lake.settings.kafka.topics),
            "LAKEHOUSE_SPARK__MASTER": "yarn",
            "LAKEHOUSE_SPARK__SHUFFLE_PARTITIONS": "2",
            "HADOOP_CONF_DIR": str(hadoop.conf),
            "SPARK_LOCAL_IP": HOST,
        })  # fmt: skip

    def start(self, conf: dict[str, str]) -> "subprocess.Popen[str]":
        known = {name: value for name, value in self.shell.environment.items() if name != "PYTHONPATH"}
        settled = {name: value.format(archive=self.archive) for name, value in conf.items()}
        python = self.archive.parent / "environment" / "bin" / "python"
        return subprocess.Popen(
            [str(python), "-m", "lakehouse_spark.cli.submit", "pipeline"],
            env={**known, **self.environment, "LAKEHOUSE_SPARK__CONF": json.dumps(settled)},
            cwd=self.shell.home, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, conf: dict[str, str]) -> Done:
        with self.start(conf) as process:
            return finished(process, 600)

    @property
    def reports(self) -> list[dict[str, Any]]:
        """Of each driver that came to its end, in their order."""
        said = (text.splitlines()[-1] for name, text in self.hadoop.logs().items() if name.endswith("stdout") and text)
        return [json.loads(line) for line in said if line.startswith('{"job"')]


def kill_a_driver(hadoop: Hadoop, after: float) -> bool:
    """Whether there was one, so long after its executor came."""
    if wait_for(lambda: any(hadoop.executors()), 300):
        time.sleep(after)
        for driver in hadoop.drivers():
            os.kill(driver.pid, signal.SIGKILL)
            return True
    return False


def test_on_yarn_the_tables_are_those_of_one_machine_though_a_driver_is_killed(
    spark: SparkSession, broker: Broker, settings: Settings, hadoop: Hadoop, archive: Path, rest_catalog: RestCatalog,
    tmp_path: Path,
) -> None:  # fmt: skip
    here = Lake.migrated(spark, broker.bootstrap_servers, tmp_path / "folder")
    here.create_topics(names=ALL_TOPICS)
    shell = Shell(broker.bootstrap_servers, tmp_path / "user", settings.jar_cache)
    shell.home.mkdir()
    submitted = Submitted.by(shell, hadoop, archive, here, rest_catalog)

    begin(here)
    done = submitted.run(SMALL | IN_CLUSTER)
    assert done.code == 0, (done.complaints, hadoop.logs())
    [first] = submitted.reports
    assert first["job"] == "pipeline"
    assert [each["counts"] for each in first["tables"] if each["table"] == "bronze.raw_trades"] == [{"records": 6}]

    go_on(here)
    with submitted.start(SMALL | IN_CLUSTER) as process:
        assert kill_a_driver(hadoop, 25)
        done = finished(process, 600)
    assert done.code == 0, (done.complaints, hadoop.logs())  # YARN began a second one
    assert len(submitted.reports) == 2

    hadoop.add_node()
    done = submitted.run(SMALL)  # in client mode, the driver is here
    assert done.code == 0, (done.lines, done.complaints)
    assert done.counts == {}

    pipeline.run(here.spark, here.settings)
    of_home = {"home": shell.home, "kafka": here.settings.kafka, "dim_time": DimTimeSettings(years=(2025,))}
    there = servers.settings_of(rest_catalog.environment).model_copy(update=of_home)
    on_yarn = Lake(servers.connect(spark, there), there)
    assert digests(on_yarn) == digests(here)

    key = rest_catalog.environment["LAKEHOUSE_S3__SECRET_ACCESS_KEY"]
    said = [*hadoop.logs().items(), *(("scripts", file.read_text()) for file in hadoop.folder.glob("**/launch_*.sh"))]
    assert [name for name, text in said if key in text] == []
