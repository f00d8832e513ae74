"""The manifests for Kubernetes and the image's first program: what of them can be tried without a cluster."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lakehouse_spark import settings
from lakehouse_spark.cli.submit import ENTRY
from lakehouse_spark.jars import SPARK_JARS
from lakehouse_spark.jobs.registry import JOBS
from lakehouse_spark.lake import session

ROOT = Path(__file__).parents[2]
ENTRYPOINT = ROOT / "infra" / "docker" / "entrypoint"
OPERATOR = "github.com/kubeflow/spark-operator/v2@v2.5.2"
SCHEDULED = ("pipeline", "maintenance")


def manifests(name: str) -> list[dict[str, Any]]:
    return [*yaml.safe_load_all((ROOT / "infra" / "kubernetes" / f"{name}.yaml").read_text())]


@pytest.fixture
def of_cluster(monkeypatch: pytest.MonkeyPatch) -> settings.Settings:
    [configured] = (each for each in manifests("access") if each["kind"] == "ConfigMap")
    for name, value in configured["data"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LAKEHOUSE_SECRETS_DIR")
    return settings.load()


@pytest.mark.parametrize("job", SCHEDULED)
def test_an_application_gives_spark_what_spark_submit_is_given(
    job: str, of_cluster: settings.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "jar_paths", lambda *given: [])
    wanted = session.launch_conf(of_cluster)
    for of_its_own in ("spark.jars", "spark.driver.memory"):
        del wanted[of_its_own]
    in_image = "/usr/share/lakehouse/cache/jars/*"
    wanted |= {"spark.driver.extraClassPath": in_image, "spark.executor.extraClassPath": in_image}
    [application] = manifests(job)
    template = application["spec"]["template"]
    assert template["sparkConf"] == wanted
    assert template["arguments"] == [job]
    assert template["mainApplicationFile"].endswith(str(ENTRY.relative_to(ROOT)))
    size, executor = JOBS[job].size, template["executor"]
    assert (template["driver"]["memory"], executor["instances"]) == (size.driver_memory, size.executors)
    assert (executor["memory"], executor["cores"]) == (size.executor_memory, size.executor_cores)


def test_every_manifest_names_its_own_namespace_and_no_secret() -> None:
    found = [each for name in ("access", "migration", *SCHEDULED) for each in manifests(name)]
    assert {each["metadata"].get("namespace") for each in found if each["kind"] != "Namespace"} == {"lakehouse"}
    # Of a name that begins so, each pod is told where its service is, in a variable that looks like a setting.
    assert [each["metadata"]["name"] for each in found if each["metadata"]["name"].startswith("lakehouse-")] == []
    assert "Secret" not in {each["kind"] for each in found}


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("go") is None, reason="the operator's definitions come as a module of Go")
@pytest.mark.parametrize("job", SCHEDULED)
def test_an_application_is_as_the_operator_defines_it(job: str, tmp_path: Path) -> None:
    fetched = subprocess.run(
        ["go", "mod", "download", "-json", OPERATOR], cwd=tmp_path, capture_output=True, check=True
    )
    folder = Path(json.loads(fetched.stdout)["Dir"]) / "config" / "crd" / "bases"
    definition = yaml.safe_load((folder / "sparkoperator.k8s.io_scheduledsparkapplications.yaml").read_text())
    [version] = (each for each in definition["spec"]["versions"] if each["name"] == "v1beta2")
    validator = jsonschema.Draft4Validator(_closed(version["schema"]["openAPIV3Schema"]))
    [application] = manifests(job)
    assert [error.message for error in validator.iter_errors(application)] == []
    application["spec"]["template"]["driver"]["coars"] = 1
    application["spec"]["template"]["type"] = "Phyton"
    assert len([*validator.iter_errors(application)]) == 2


def _closed(schema: Any) -> Any:
    """The schema where nothing may stand that it does not name: a server would drop that, with a warning."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict) or schema.get("x-kubernetes-int-or-string"):
        return {} if isinstance(schema, dict) else schema
    closed = {name: _closed(value) for name, value in schema.items()}
    is_whole = schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema
    return {**closed, "additionalProperties": False} if is_whole else closed


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "SPARK_HOME": str(SPARK_JARS.parent), **environment}
    return subprocess.run([ENTRYPOINT, *arguments], env=known, capture_output=True, text=True, check=False)


@pytest.fixture
def stand_ins(tmp_path: Path) -> str:
    """A PATH on which `java` and `lakehouse` print what they are given."""
    for name in ("java", "lakehouse"):
        (tmp_path / name).write_text('#!/bin/sh\necho "${0##*/}"\nprintf "%s\\n" "$@"\n')
        (tmp_path / name).chmod(0o755)
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


def test_a_container_runs_a_command_of_lakehouse(stand_ins: str) -> None:
    assert run("run", "pipeline", PATH=stand_ins).stdout.split("\n") == ["lakehouse", "run", "pipeline", ""]


def test_an_executor_gets_what_its_pod_says(stand_ins: str) -> None:
    told = {
        "SPARK_JAVA_OPT_0": "-Da=b c", "SPARK_JAVA_OPT_1": "-Dd=$e", "SPARK_EXECUTOR_MEMORY": "6g",
        "SPARK_CLASSPATH": "/jars/*", "SPARK_DRIVER_URL": "spark://driver", "SPARK_EXECUTOR_ID": "7",
        "SPARK_EXECUTOR_CORES": "4", "SPARK_APPLICATION_ID": "spark-1", "SPARK_EXECUTOR_POD_IP": "10.0.0.1",
        "SPARK_EXECUTOR_POD_NAME": "exec-7", "SPARK_RESOURCE_PROFILE_ID": "0",
    }  # fmt: skip
    assert run("executor", PATH=stand_ins, **told).stdout.splitlines() == [
        "java", "-Da=b c", "-Dd=$e", "-Xms6g", "-Xmx6g", "-cp", f"/jars/*:{SPARK_JARS}/*",
        "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend",
        "--driver-url", "spark://driver", "--executor-id", "7", "--cores", "4", "--app-id", "spark-1",
        "--hostname", "10.0.0.1", "--podName", "exec-7", "--resourceProfileId", "0",
    ]  # fmt: skip


def test_a_driver_runs_the_job_as_spark_submit_would(tmp_path: Path) -> None:
    given = tmp_path / "spark.properties"
    given.write_text("spark.master=local[1]\n")
    entry, of_python = f"local://{ENTRY}", "org.apache.spark.deploy.PythonRunner"
    done = run(
        "driver", "--properties-file", str(given), "--class", of_python, entry, "no_such_job",
        SPARK_DRIVER_BIND_ADDRESS="127.0.0.1", PYTHONPATH=str(ROOT),
    )  # fmt: skip
    assert done.returncode == 2
    assert "no_such_job" in done.stdout + done.stderr
