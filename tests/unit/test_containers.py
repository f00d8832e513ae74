"""The images and compose files as texts: what starts is pinned, local and locked down. scripts/containers runs them."""

import json
import os
import re
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.docker import inventory

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "infra" / "docker"


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads Compose's own tags as what they stand before."""


for _tag in ("!override", "!reset"):
    _Loader.add_constructor(
        _tag,
        lambda loader, node: (
            loader.construct_sequence(node, deep=True)
            if isinstance(node, yaml.SequenceNode)
            else loader.construct_scalar(node)
        ),
    )


def read(name: str) -> dict[str, Any]:
    return dict(yaml.load((DOCKER / name).read_text(), _Loader))


COMPOSE = read("docker-compose.storage.yml")
POSTGRES, MINIO = read("docker-compose.postgres.yml"), read("docker-compose.minio.yml")
SERVICES: Mapping[str, Mapping[str, Any]] = {
    **COMPOSE["services"],
    "postgres": POSTGRES["services"]["postgres"],
    "iceberg-rest on postgres": COMPOSE["services"]["iceberg-rest"] | POSTGRES["services"]["iceberg-rest"],
    "store of MinIO": COMPOSE["services"]["store"] | MINIO["services"]["store"],
    "store-init of MinIO": COMPOSE["services"]["store-init"] | MINIO["services"]["store-init"],
}


@pytest.fixture(params=sorted(SERVICES))
def service(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    return SERVICES[request.param]


def test_a_service_is_of_a_pinned_image_or_one_of_ours(service: Mapping[str, Any]) -> None:
    if "build" not in service:
        assert re.search(r":(v?\d+\.\d+|RELEASE\.\d)", service["image"])
        return
    assert service["image"] in {"lakehouse-spark", "lakehouse-catalog", "lakehouse-dagster"}
    assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert f" AS {service['build']['target']}\n" in (DOCKER / "Dockerfile").read_text()


def test_a_service_has_no_privileges_and_no_root(service: Mapping[str, Any], request: pytest.FixtureRequest) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    is_root = str(service["user"]).startswith("0:")
    assert is_root == ("store of MinIO" in request.node.name)  # its image knows no other user


def test_ports_are_published_on_loopback_only(service: Mapping[str, Any]) -> None:
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service.get("ports", []))


def test_a_service_can_be_asked_for_its_health_or_ends_by_itself(service: Mapping[str, Any]) -> None:
    assert ("healthcheck" in service) != (service["restart"] == "no")


def test_logs_rotate(service: Mapping[str, Any]) -> None:
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}


def test_what_is_secret_comes_from_the_environment(service: Mapping[str, Any]) -> None:
    names = [name for name in service.get("environment", {}) if re.search("PASSWORD|SECRET|ACCESS_KEY|ROOT_USER", name)]
    for name in {*names} - {"GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"}:
        assert str(service["environment"][name]).startswith("${"), f"{name} holds a value"


def test_a_volume_has_a_name_and_a_mounted_file_is_there(service: Mapping[str, Any]) -> None:
    named = {*COMPOSE["volumes"], *POSTGRES["volumes"], *MINIO["volumes"]}
    for mount in service.get("volumes", []):
        if isinstance(mount, dict):
            assert mount["type"] == "tmpfs"
            continue
        source, _, *options = str(mount).split(":")
        assert source in named or ((DOCKER / source).is_file() and options == ["ro"])


def test_volumes_that_an_image_declares_are_covered() -> None:
    declared = {
        "store": "/data", "store-init": "/data", "postgres": "/var/lib/postgresql/data", "prometheus": "/prometheus",
        "kafka": "/var/lib/kafka/data /etc/kafka/secrets /mnt/shared/config",
        "kafka-init": "/var/lib/kafka/data /etc/kafka/secrets /mnt/shared/config",
    }  # fmt: skip
    for name, folders in declared.items():
        mounts = SERVICES[name]["volumes"]
        covered = {mount["target"] if isinstance(mount, dict) else mount.split(":")[1] for mount in mounts}
        assert {*folders.split()} <= covered, name


def test_the_example_of_env_names_every_variable_and_no_value() -> None:
    texts = "".join((DOCKER / f"docker-compose.{name}.yml").read_text() for name in ("storage", "postgres"))
    lines = [line for line in (DOCKER / ".env.example").read_text().splitlines() if not line.startswith("#")]

    assert lines == ["LAKEHOUSE_S3__ACCESS_KEY_ID=", "LAKEHOUSE_S3__SECRET_ACCESS_KEY=", "CATALOG_PASSWORD="]
    assert {f"{name}=" for name in re.findall(r"(?<!\$)\$\{(\w+)", texts)} == {*lines}


def test_what_watches_and_works_is_started_by_profile_alone() -> None:
    by_profile = {name: each["profiles"] for name, each in COMPOSE["services"].items() if "profiles" in each}

    assert by_profile == {
        "jobs": ["jobs"],
        "live": ["live", "monitoring"],
        "dagster": ["dagster"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
    }


def test_prometheus_finds_live_mode_in_the_network() -> None:
    given = read("prometheus.yml")
    (target,) = given["scrape_configs"][0]["static_configs"][0]["targets"]

    assert (target, COMPOSE["services"]["live"]["environment"]["LAKEHOUSE_METRICS__PORT"]) == ("live:9464", "9464")
    of_one_machine = yaml.safe_load((ROOT / "infra" / "monitoring" / "prometheus.yml").read_text())
    for which in ("job_name", "scrape_interval"):
        assert given["scrape_configs"][0][which] == of_one_machine["scrape_configs"][0][which]


def test_an_image_begins_with_a_pinned_one_and_copies_what_the_build_lets_in() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    given = dict(re.findall(r"^ARG (DEBIAN|CATALOG)=(\S+)$", text, re.MULTILINE))
    stages = {"$DEBIAN", "$CATALOG", *re.findall(r" AS (\w+)$", text, re.MULTILINE)}
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [path for line in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE) for path in line.split()]

    assert given == {"DEBIAN": "debian:bookworm-20251229-slim", "CATALOG": SERVICES["iceberg-rest"]["image"]}
    assert {*re.findall(r"^FROM (\S+)", text, re.MULTILINE)} <= stages
    assert all((ROOT / path).exists() for path in copied)
    assert [path for path in copied if not any(_lets_in(pattern, path) for pattern in let_in)] == []
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert "VOLUME" not in text  # of which each run would make one without a name


def _lets_in(pattern: str, path: str) -> bool:
    return Path(path).match(pattern) or path.startswith(f"{pattern}/")


def test_the_check_of_containers_says_why_it_is_skipped(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)

    command, environment = [str(ROOT / "scripts" / "containers")], {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    expected = "scripts/containers: skipped: no Docker answers (docker version)\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


POM = """\
<project xmlns="urn:pom">
  <licenses><license><name>MIT
    License</name></license></licenses>
</project>
"""


def jar(path: Path, **entries: str) -> Path:
    with zipfile.ZipFile(path, "w") as written:
        for name, text in entries.items():
            written.writestr(name.replace("__", "/").replace("_dot_", "."), text)
    return path


def licences_of(path: Path) -> tuple[str, ...]:
    (part,) = inventory.of_jars([path], {})
    return part.licences


def test_the_licence_of_a_jar_is_what_stands_in_it(tmp_path: Path) -> None:
    bundle = "Manifest-Version: 1.0\r\nBundle-License: https://www.apache.org/lice\r\n nses/LICENSE-2.0.txt\r\n"
    path = "META-INF__maven__org_dot_example__thing__pom_dot_xml"

    assert licences_of(jar(tmp_path / "thing-1.0.jar", **{path: POM, "LICENSE": "Apache License\nVersion 2.0"})) == (
        "MIT License",
    )
    assert licences_of(jar(tmp_path / "other-1.0.jar", **{path: POM, "META-INF__MANIFEST.MF": bundle})) == (
        "Apache-2.0",
    )
    assert licences_of(jar(tmp_path / "text-1.0.jar", **{"META-INF__LICENSE": "Apache License\n  Version 2.0, …"})) == (
        "Apache-2.0",
    )
    assert licences_of(jar(tmp_path / "none-1.0.jar", readme="")) == ("not stated",)


def test_the_bill_of_materials_names_packages_and_jars_by_hash(tmp_path: Path) -> None:
    folder, locked = tmp_path / "jars", tmp_path / "jars.lock"
    folder.mkdir()
    jar(folder / "org.example_thing-1.0.jar", readme="")
    (thing,) = inventory.of_jars([folder / "org.example_thing-1.0.jar"], {})
    locked.write_text(f"# group  org:name:version  sha256\nspark   org.example:thing:1.0  {thing.sha256}\n")
    told = tmp_path / "site" / "rich-15.0.0.dist-info" / "METADATA"
    told.parent.mkdir(parents=True)
    told.write_text(
        "Metadata-Version: 2.1\nName: rich\nVersion: 15.0.0\nClassifier: License :: OSI Approved :: MIT License\n"
    )
    installed = {"metadata": {"name": "rich"}, "download_info": {"archive_info": {"hashes": {"sha256": "ab" * 32}}}}
    (tmp_path / "installed.json").write_text(json.dumps({"install": [installed]}))

    given = ["--site", str(tmp_path / "site"), "--report", str(tmp_path / "installed.json"), "--locked", str(locked)]
    given += ["--jars", str(folder), "--into", str(tmp_path / "out")]
    assert inventory.main(given) == 0
    bill = json.loads((tmp_path / "out" / "bom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert [(each["purl"], each["hashes"]) for each in bill["components"]] == [
        ("pkg:maven/org.example/thing@1.0", [{"alg": "SHA-256", "content": thing.sha256}]),
        ("pkg:pypi/rich@15.0.0", [{"alg": "SHA-256", "content": "ab" * 32}]),
    ]
    assert (tmp_path / "out" / "licences.tsv").read_text() == (
        "maven\tthing\t1.0\tnot stated\npypi\trich\t15.0.0\tMIT License\n"
    )
