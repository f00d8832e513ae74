"""What `lakehouse doctor` finds where there is no lakehouse yet, or not all is well."""

import json
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse_spark import cli, migrations
from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.cli import doctor
from lakehouse_spark.cli.doctor import FAIL, OK, WARN, Check
from lakehouse_spark.iceberg import metadata
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.lake.cursor import CURSOR, Cursor
from lakehouse_spark.settings import KafkaSettings, RegistrySettings, Settings
from tests.support import schema_registry

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
MIGRATIONS, LOG = "_metadata.schema_migrations", "_metadata.maintenance_log"


def verdicts(settings: Settings) -> dict[str, str]:
    return {check.name: check.verdict for check in doctor.examine(settings, NOW)}


def found(settings: Settings, name: str) -> Check:
    (check,) = [check for check in doctor.examine(settings, NOW) if check.name == name]
    return check


def test_a_new_place_is_fit_for_a_lakehouse_and_stays_empty(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "none")
    checks = doctor.examine(settings, NOW)
    assert [check.name for check in checks] == ["java", "disk", "warehouse", "kafka", "catalog"]
    assert checks[2:] == [
        Check("warehouse", OK, f"{tmp_path} can be written to"),
        Check(
            "kafka",
            WARN,
            "no broker is configured",
            "Set LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS; `lakehouse demo` starts a broker of its own.",
        ),
        Check("catalog", WARN, "there is no lakehouse here yet; run: lakehouse migrate"),
    ]
    assert [*tmp_path.iterdir()] == []


def test_a_java_that_is_not_there_is_told_with_what_to_install(tmp_path: Path) -> None:
    check = found(Settings(home=tmp_path, java_home=tmp_path / "no jdk"), "java")
    assert check.verdict == FAIL
    assert check.found.startswith(f"Java: none in JAVA_HOME ({tmp_path}/no jdk), expected 17 or 21; install one (")


def test_a_home_that_is_a_file_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = found(Settings(home=tmp_path / "file"), "warehouse")
    assert check.verdict == FAIL
    assert check.found == f"{tmp_path / 'file'} is no folder that can be written to"


def test_a_full_disk_fails_and_a_scarce_one_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, verdict in ((900_000_000, FAIL), (9_000_000_000, WARN), (90_000_000_000, OK)):
        usage = (0, 0, free)
        monkeypatch.setattr("shutil.disk_usage", lambda _, usage=usage: type("Usage", (), {"free": usage[2]}))
        assert verdicts(Settings(home=tmp_path))["disk"] == verdict


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


@pytest.mark.parametrize("options", [{}, {"security.protocol": "SASL_SSL"}])
def test_a_broker_that_does_not_answer_fails(
    tmp_path: Path, deaf_port: int, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_SECONDS", 1)
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{deaf_port}", options=options)
    check = found(Settings(home=tmp_path, kafka=kafka), "kafka")
    assert (check.verdict, check.advice[:9]) == (FAIL, "Start it,")
    assert str(deaf_port) in check.found


def test_a_broker_behind_options_of_kafkas_is_only_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        servers = f"127.0.0.1:{server.getsockname()[1]},elsewhere:9092"
        kafka = KafkaSettings(bootstrap_servers=servers, options={"security.protocol": "SASL_SSL"})
        assert verdicts(Settings(home=tmp_path, kafka=kafka))["kafka"] == OK


def test_a_schema_registry_is_looked_at_where_a_topic_needs_it(tmp_path: Path, deaf_port: int) -> None:
    avro = KafkaSettings(formats={"raw_trades": "avro"})
    assert "registry" not in verdicts(Settings(home=tmp_path))
    with schema_registry.serving() as registry:
        check = found(Settings(home=tmp_path, kafka=avro, registry=RegistrySettings(url=registry.url)), "registry")
        assert (check.verdict, check.found) == (OK, f"{registry.url} answers")
    away = RegistrySettings(url=f"http://127.0.0.1:{deaf_port}")
    check = found(Settings(home=tmp_path, kafka=avro, registry=away), "registry")
    assert check.verdict == FAIL
    assert check.found.startswith(f"the schema registry at http://127.0.0.1:{deaf_port} does not answer: Connection")


# A lakehouse


@pytest.fixture
def lake(tmp_path: Path) -> SqlCatalog:
    made = SqlCatalog("lake", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    made.create_namespace("_metadata")
    return made


def versions(lake: SqlCatalog, home: Path, *recorded: str) -> dict[str, Metadata]:
    """A ledger as earlier releases wrote it: a row per version."""
    schema = pa.schema(
        [("version", pa.string()), ("checksum", pa.string()), ("applied_at", pa.timestamp("us", tz="UTC"))]
    )
    checksums = {migration.version: migration.checksum for migration in migrations.migrations()}
    table = lake.create_table(MIGRATIONS, schema, properties={"format-version": "2"})
    for version in recorded:
        row = {"version": version, "checksum": checksums.get(version, "other"), "applied_at": NOW}
        rows = pa.Table.from_pylist([row], schema=schema)
        table.append(rows, snapshot_properties={CURSOR: Cursor(stamp=NOW).to_json()})
    return metadata.read(Settings(home=home), [BY_NAME[MIGRATIONS]])


def test_a_lakehouse_of_this_release_is_told_by_its_newest_version(lake: SqlCatalog, tmp_path: Path) -> None:
    known = [migration.version for migration in migrations.migrations()]
    (check,) = doctor._schema(versions(lake, tmp_path, *known))
    assert check == Check("schema", OK, f"{known[-1]}, which is this release's")


def test_a_migration_that_is_pending_is_to_be_applied(lake: SqlCatalog, tmp_path: Path) -> None:
    (check,) = doctor._schema(versions(lake, tmp_path, "V001"))
    assert (check.verdict, check.advice) == (FAIL, "Run: lakehouse migrate")
    assert check.found.startswith("pending: V002, V003")


def test_a_migration_of_a_later_release_is_told(lake: SqlCatalog, tmp_path: Path) -> None:
    (check,) = doctor._schema(versions(lake, tmp_path, "V001", "V998", "V999"))
    assert check.verdict == FAIL
    assert check.found.startswith("_metadata.schema_migrations: V998 was applied here and is unknown to this release")
    assert check.advice == "Run the release that applied it, or a later one."


@pytest.mark.parametrize(
    ("ahead", "verdict"), [(timedelta(seconds=-5), OK), (timedelta(seconds=59), OK), (timedelta(seconds=61), WARN)]
)
def test_a_clock_that_runs_behind_the_stamps_is_told(
    lake: SqlCatalog, tmp_path: Path, ahead: timedelta, verdict: str
) -> None:
    (check,) = doctor._clock(versions(lake, tmp_path, "V001"), NOW - ahead)
    assert check.verdict == verdict


def test_tables_that_are_missing_are_named(lake: SqlCatalog, tmp_path: Path) -> None:
    versions(lake, tmp_path)
    check = found(Settings(home=tmp_path), "tables")
    assert (check.verdict, check.advice) == (FAIL, "Run: lakehouse migrate")
    assert check.found.startswith("missing: _metadata.maintenance_log, ")


def test_what_cannot_be_looked_at_does_not_hide_the_rest(lake: SqlCatalog, tmp_path: Path) -> None:
    versions(lake, tmp_path, "V001")
    for file in tmp_path.rglob("*.metadata.json"):
        file.unlink()
    checks = verdicts(Settings(home=tmp_path))
    assert (checks["catalog"], checks["warehouse"]) == (FAIL, OK)


def test_doctor_exits_1_if_something_must_be_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(**environment: str) -> tuple[Any, list[dict[str, str]]]:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["lakehouse", "doctor", "--json"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, json.loads(capsys.readouterr().out)

    code, checks = run(LAKEHOUSE_HOME=str(tmp_path))
    assert (code, {check["verdict"] for check in checks} & {FAIL}) == (0, set())
    assert [*checks[0]] == ["name", "verdict", "found", "advice"]
    code, checks = run(LAKEHOUSE_JAVA_HOME=str(tmp_path))
    assert (code, checks[0]["verdict"]) == (1, FAIL)
