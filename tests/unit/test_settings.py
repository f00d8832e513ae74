"""Settings: a profile's file, overridden by the environment; what they become as Spark configuration."""

import json
import os
import re
from pathlib import Path

import pytest

from lakehouse_spark import jars, settings
from lakehouse_spark.errors import UsageError, in_a_sentence
from lakehouse_spark.lake import session

CONF = Path(__file__).parents[2] / "lakehouse_spark" / "conf"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment of which only the test's own settings are left."""
    for name in [name for name in os.environ if name.startswith("LAKEHOUSE_")]:
        monkeypatch.delenv(name)


def profile(monkeypatch: pytest.MonkeyPatch, name: str, **variables: str) -> settings.Settings:
    monkeypatch.setenv("LAKEHOUSE_PROFILE", name)
    for variable, value in variables.items():
        monkeypatch.setenv(f"LAKEHOUSE_{variable}", value)
    return settings.load()


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_every_profile_loads_under_its_own_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert profile(monkeypatch, name).profile == name


def test_without_any_setting_everything_is_embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    loaded = settings.load()

    home = tmp_path / ".lakehouse"
    assert loaded.catalog_uri == f"jdbc:sqlite:{home}/catalog.db?journal_mode=WAL&busy_timeout=30000"
    assert loaded.warehouse == f"file://{home}/warehouse"
    assert (loaded.spark.master, loaded.kafka.bootstrap_servers) == ("local[*]", None)
    assert not session.has_tables_at_s3(loaded)


def test_the_docker_profile_needs_nothing_but_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = profile(monkeypatch, "docker", S3__ACCESS_KEY_ID="key", S3__SECRET_ACCESS_KEY="hush")

    conf = session.spark_conf(loaded)

    assert conf["spark.sql.catalog.lake.type"] == "rest"
    assert conf["spark.sql.catalog.lake.uri"] == "http://127.0.0.1:8181"
    assert conf["spark.sql.catalog.lake.warehouse"] == "s3://warehouse/"
    assert conf["spark.sql.catalog.lake.s3.endpoint"] == "http://127.0.0.1:8333"
    assert conf["spark.sql.catalog.lake.s3.secret-access-key"] == "hush"


def test_with_an_endpoint_alone_tables_stay_local_and_spark_needs_no_jar_for_s3(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = profile(monkeypatch, "local", S3__ENDPOINT="http://127.0.0.1:9000", S3__ACCESS_KEY_ID="key")

    conf = session.spark_conf(loaded)

    assert not session.has_tables_at_s3(loaded)
    assert "spark.sql.catalog.lake.io-impl" not in conf


def test_the_cluster_profile_leaves_the_master_to_spark_and_encrypts_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = profile(monkeypatch, "cluster", KAFKA__SECRETS='{"sasl.jaas.config": "hush"}')

    assert loaded.spark.master is None
    assert not session.is_local(loaded)
    assert loaded.kafka_options() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": "hush",
    }


def test_a_rest_catalog_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="profile cluster: a REST catalog needs LAKEHOUSE_CATALOG__URI"):
        session.spark_conf(profile(monkeypatch, "cluster"))


def test_a_bare_off_of_yaml_is_off() -> None:
    audits = settings.AuditSettings.model_validate({"mode": False, "tables": {"gold.market_overview": {"mode": False}}})
    assert (audits.mode, audits.tables["gold.market_overview"].mode) == ("off", "off")


def test_the_environment_overrides_single_settings_of_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = profile(monkeypatch, "docker", KAFKA__BOOTSTRAP_SERVERS="broker:1", SPARK__SHUFFLE_PARTITIONS="7")

    assert loaded.kafka.bootstrap_servers == "broker:1"
    assert loaded.spark.shuffle_partitions == 7
    assert loaded.catalog.uri == "http://127.0.0.1:8181"


def test_spark_options_of_the_environment_are_added_to_those_of_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = profile(monkeypatch, "cluster", SPARK__CONF='{"spark.executor.memory": "9g"}')

    assert loaded.spark.conf["spark.executor.memory"] == "9g"
    assert loaded.spark.conf["spark.speculation"] == "false"


def test_secrets_come_from_a_mounted_folder_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "LAKEHOUSE_CATALOG").write_text('{"token": "hush"}')

    loaded = profile(monkeypatch, "cluster", SECRETS_DIR=str(tmp_path), CATALOG__URI="https://catalog.example")

    assert loaded.catalog.token is not None
    assert loaded.catalog.token.get_secret_value() == "hush"
    assert loaded.catalog.uri == "https://catalog.example"


def test_a_folder_of_secrets_that_is_not_there_or_leads_elsewhere_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    with pytest.raises(UsageError) as refused:
        profile(monkeypatch, "local", SECRETS_DIR=str(secrets))
    assert str(refused.value) == f"LAKEHOUSE_SECRETS_DIR: {secrets} is no folder"

    secrets.mkdir()
    (tmp_path / "elsewhere").write_text('{"token": "hush"}')
    (secrets / "LAKEHOUSE_CATALOG").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError) as refused:
        profile(monkeypatch, "local", SECRETS_DIR=str(secrets))
    assert str(refused.value) == f"LAKEHOUSE_SECRETS_DIR: {secrets}/LAKEHOUSE_CATALOG is no file of that folder"


def test_secrets_are_read_as_kubernetes_mounts_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "LAKEHOUSE_CATALOG").write_text('{"token": "hush"}')
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "LAKEHOUSE_CATALOG").symlink_to("..data/LAKEHOUSE_CATALOG")
    loaded = profile(monkeypatch, "local", SECRETS_DIR=str(tmp_path))
    assert loaded.catalog.token is not None
    assert loaded.catalog.token.get_secret_value() == "hush"


@pytest.mark.parametrize(
    ("name", "value", "is_secret"),
    [
        ("CATALOG__TOKEN", "x", True),
        ("CATALOG__SECRETS", '{"header.X-Api-Key": "a\\/b"}', True),
        ("CATALOG", '{"type": "rest", "credential": "id:hush"}', True),
        ("CATALOG__URI", "jdbc:postgresql://db/lake?password=hush", True),
        ("KAFKA", '{"secrets": {"ssl.key.password": "p\\"w"}}', True),
        ("S3__ACCESS_KEY_ID", "lake", True),
        ("ALERTS__WEBHOOK_URL", "https://hook", True),
        ("CATALOG__URI", "https://catalog.example", False),
        ("CATALOG__WAREHOUSE", "s3://lake/", False),
        ("KAFKA", '{"options": {"security.protocol": "SSL"}}', False),
        ("S3__PATH_STYLE_ACCESS", "true", False),
        ("PROFILE", "cluster", False),
    ],
)
def test_variables_with_secrets_are_known(name: str, value: str, is_secret: bool) -> None:
    assert settings.sets_a_secret(f"LAKEHOUSE_{name}", value) is is_secret


def test_a_value_that_is_no_json_is_said_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as refused:
        profile(monkeypatch, "local", KAFKA__SECRETS="{hush}")
    assert str(refused.value) == (
        'wrong settings: error parsing value for field "kafka" from source "EnvSettingsSource": '
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    )


def test_one_jvm_looks_into_the_jars_used_most_first_and_takes_no_copies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = [tmp_path / "org.apache.iceberg_iceberg-spark-runtime-4.1.jar", tmp_path / "org.xerial_sqlite-jdbc.jar"]
    monkeypatch.setattr(jars, "ensure", lambda *_, **__: {"spark": [*reversed(ours)], "s3": []})
    local, docker = profile(monkeypatch, "local"), profile(monkeypatch, "docker", SPARK__MASTER="spark://cluster:7077")
    found = session.launch_conf(local)["spark.driver.extraClassPath"].split(":")
    assert [Path(name).name for name in found] == [
        "spark-sql_2.13-4.1.1.jar", "spark-catalyst_2.13-4.1.1.jar", "spark-core_2.13-4.1.1.jar",
        "scala-library-2.13.17.jar", "spark-sql-api_2.13-4.1.1.jar", ours[0].name, "*", ours[1].name, ours[0].name,
    ]  # fmt: skip
    assert "spark.jars" not in session.launch_conf(local)
    assert session.launch_conf(docker)["spark.jars"] == f"{ours[1]},{ours[0]}"
    assert "spark.driver.extraClassPath" not in session.launch_conf(docker)


def test_a_start_up_archive_is_used_once_it_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jars, "ensure", lambda *_, **__: {"spark": []})
    local = profile(monkeypatch, "local", CACHE=str(tmp_path))
    assert "SharedArchiveFile" not in session.launch_conf(local)["spark.driver.extraJavaOptions"]
    archive = session.startup_archive(local, session.launch_conf(local)["spark.driver.extraClassPath"])
    archive.parent.mkdir()
    archive.touch()
    options = session.launch_conf(local)["spark.driver.extraJavaOptions"]
    assert options.endswith(f' -XX:SharedArchiveFile="{archive}" -Xlog:cds*=off')


def test_a_session_is_its_own_driver_wherever_submitted_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "ensure", lambda *_, **__: {"spark": []})
    local = profile(monkeypatch, "local", SPARK__CONF='{"spark.submit.deployMode": "cluster", "spark.x": "y"}')
    assert local.in_cluster_mode
    for conf in (session.launch_conf(local), session.spark_conf(local)):
        assert ("spark.submit.deployMode" in conf, conf["spark.x"]) == (False, "y")


def test_an_accelerator_takes_its_jar_and_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "ensure", lambda groups, *_, **__: {group: [Path(f"{group}.jar")] for group in groups})
    alone = session.launch_conf(profile(monkeypatch, "local"))
    conf = session.launch_conf(profile(monkeypatch, "local", SPARK__ACCELERATOR="comet"))
    assert alone["spark.driver.extraClassPath"].endswith("*:spark.jar")
    assert conf["spark.driver.extraClassPath"].endswith("*:spark.jar:comet.jar")
    assert (conf["spark.plugins"], conf["spark.memory.offHeap.size"]) == ("org.apache.spark.CometPlugin", "2g")
    assert "spark.plugins" not in alone


def test_the_jar_of_avro_comes_where_a_topic_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "ensure", lambda groups, *_, **__: {group: [Path(f"{group}.jar")] for group in groups})
    path = "spark.driver.extraClassPath"
    json_alone = session.launch_conf(profile(monkeypatch, "local", KAFKA__FORMATS='{"raw_trades": "json_schema"}'))
    conf = session.launch_conf(profile(monkeypatch, "local", KAFKA__FORMATS='{"raw_trades": "avro"}'))
    assert json_alone[path].endswith("*:spark.jar")
    assert conf[path].endswith("*:spark.jar:avro.jar")
    with pytest.raises(
        UsageError, match=r"wrong settings: kafka\.formats\.raw_trades: Input should be 'json', 'avro' or"
    ):
        profile(monkeypatch, "local", KAFKA__FORMATS='{"raw_trades": "protobuf"}')


def test_the_tables_that_keep_headers_are_a_list_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    assert profile(monkeypatch, "local").kafka.headers == ()
    assert profile(monkeypatch, "local", KAFKA__HEADERS='["raw_trades"]').kafka.headers == ("raw_trades",)
    with pytest.raises(UsageError, match=r"^wrong settings: kafka\.headers: "):
        profile(monkeypatch, "local", KAFKA__HEADERS='{"raw_trades": true}')


def test_no_secret_is_shown_or_stands_on_a_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jars, "ensure", lambda groups, *_, **__: {group: [] for group in groups})
    loaded = profile(
        monkeypatch,
        "docker",
        S3__ACCESS_KEY_ID="hush",
        S3__SECRET_ACCESS_KEY="hush",
        CATALOG__TOKEN="hush",
        CATALOG__CREDENTIAL="hush",
        CATALOG__SECRETS='{"header.X-Pass": "hush"}',
        KAFKA__SECRETS='{"sasl.jaas.config": "hush"}',
        REGISTRY__CREDENTIAL="lake:hush",
        REGISTRY__TOKEN="hush",
    )

    assert "hush" not in f"{loaded!r} {loaded} {loaded.model_dump_json()}"
    assert "hush" not in str(session.launch_conf(loaded))
    conf = session.spark_conf(loaded)
    secrets = [name for name, value in conf.items() if value == "hush"]
    assert secrets == [
        "spark.sql.catalog.lake.s3.access-key-id",
        "spark.sql.catalog.lake.s3.secret-access-key",
        "spark.sql.catalog.lake.credential",
        "spark.sql.catalog.lake.token",
        "spark.sql.catalog.lake.header.X-Pass",
    ]
    assert [name for name in secrets if not re.search(conf["spark.redaction.regex"], name)] == []  # in logs and the UI


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("BROKER", "x", "unknown settings in the environment: LAKEHOUSE_BROKER"),
        ("KAFKA__BOOTSTRAP", "x", r"wrong settings: kafka\.bootstrap"),
        ("SPARK__SHUFFLE_PARTITIONS", "none", r"wrong settings: spark\.shuffle_partitions"),
        ("SPARK__SHUFFLE_PARTITIONS", "0", r"wrong settings: spark\.shuffle_partitions"),
        ("PROFILE", "prod", r"no profile 'prod' in .+: LAKEHOUSE_PROFILE is one of cluster, docker, local"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"LAKEHOUSE_{variable}", value)

    with pytest.raises(UsageError, match=message):
        settings.load()


def test_a_wrong_secret_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_KAFKA__SECRETS", '{"sasl.jaas.config": ["hush"]}')

    with pytest.raises(UsageError, match=r"kafka\.secrets") as refused:
        settings.load()
    assert "hush" not in str(refused.value)


def test_a_text_is_rid_of_every_secret_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "CATALOG__TOKEN": "t0ken", "S3__ACCESS_KEY_ID": "k3y-", "S3__SECRET_ACCESS_KEY": "s3cret",
        "KAFKA__SECRETS": '{"ssl.truststore.password": "tru5t"}', "ALERTS__WEBHOOK_URL": "http://hook/hush",
        "CATALOG__SECRETS": '{"jdbc.password": "pa55"}',
    }  # fmt: skip
    loaded = profile(monkeypatch, "local", **given)
    said = "t0ken k3y- s3cret tru5t pa55 http://hook/hush and local"
    assert loaded.without_secrets(said) == "*** *** *** *** *** *** and local"


@pytest.mark.parametrize(
    ("said", "cleaned"),
    [
        ("wrong password: pa55word", "wrong password: ***"),
        ("u is unknown", "u is unknown"),
        ("Login required username='u'", "Login required username='u'"),
        ("storeKey is true", "storeKey is true"),
        ("got reader:s3cret", "got ***"),
        ("reader has not s3cret", "reader has not ***"),
        ("Authorization: Basic cmVhZGVyOnMzY3JldA==", "Authorization: Basic ***"),
        ("no hook at /services/T0?key=hush", "no hook at ***"),
        ("no key hush", "no key ***"),
        ("https://hooks.example and bot", "https://hooks.example and bot"),
        ("by pw12", "by ***"),
        (r'{"token": "a\"b +"}', '{"token": "***"}'),
        ("?token=a%22b%20%2B", "?token=***"),
    ],
)
def test_what_is_secret_within_a_secret_and_what_others_make_of_it_is_not_said_either(
    monkeypatch: pytest.MonkeyPatch, said: str, cleaned: str
) -> None:
    jaas = 'Login required username="u" password="pa55word" storeKey=true;'
    loaded = profile(
        monkeypatch, "local", KAFKA__SECRETS=json.dumps({"sasl.jaas.config": jaas}), CATALOG__TOKEN='a"b +',
        CATALOG__CREDENTIAL="reader:s3cret", ALERTS__WEBHOOK_URL="https://bot:pw12@hooks.example/services/T0?key=hush",
    )  # fmt: skip
    assert loaded.without_secrets(said) == cleaned


def test_a_secret_is_taken_out_before_a_sentence_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    profile(monkeypatch, "local", CATALOG__TOKEN="canary-of-twenty-letters")
    said = in_a_sentence(ValueError("x" * 380 + "canary-of-twenty-letters"))
    assert said == "ValueError: " + "x" * 380 + "***"


def test_what_a_process_says_is_rid_of_the_secrets_it_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    profile(monkeypatch, "local", CATALOG__TOKEN="canary")
    session.complain("the server took no canary")
    assert capsys.readouterr().err == "the server took no ***\n"


@pytest.mark.parametrize(
    ("url", "cleaned"),
    [
        (
            "jdbc:postgresql://db/lake?user=lake&password=pa55&ssl=true",
            "jdbc:postgresql://db/lake?user=lake&password=***&ssl=true",
        ),
        ("jdbc:postgresql://lake:pa55/pa55@db/lake", "jdbc:postgresql://lake:***@db/lake"),
        ("jdbc:sqlserver://db;user=lake;PWD=pa55", "jdbc:sqlserver://db;user=lake;PWD=***"),
        ("jdbc:oracle:thin:lake/pa55@//db/lake", "jdbc:oracle:thin:lake/***@//db/lake"),
        ("http://127.0.0.1:8181/a", "http://127.0.0.1:8181/a"),
    ],
)
def test_a_password_in_the_address_of_a_catalog_is_a_secret(
    monkeypatch: pytest.MonkeyPatch, url: str, cleaned: str
) -> None:
    loaded = profile(monkeypatch, "local", CATALOG__URI=url)
    assert loaded.without_secrets(f"no driver for {url}") == f"no driver for {cleaned}"
    is_redacted = re.search(session.spark_conf(loaded)["spark.redaction.regex"], url) is not None
    assert is_redacted == (url != cleaned)


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_refused(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^wrong settings: metrics\.port: "):
        profile(monkeypatch, "local", METRICS__PORT=port)


def test_a_webhook_is_reached_by_http_and_its_url_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as refused:
        profile(monkeypatch, "local", ALERTS__WEBHOOK_URL="ftp://hush")
    assert str(refused.value) == ("wrong settings: alerts.webhook_url: Value error, expected http://… or https://…")
    assert "hush" not in repr(profile(monkeypatch, "local", ALERTS__WEBHOOK_URL="https://hook/hush"))


def test_a_target_has_variables_of_its_own_and_none_of_the_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "LAKEHOUSE_CATALOG").write_text('{"token": "hush"}')
    here = profile(
        monkeypatch, "local", S3__ENDPOINT="http://here", TO_PROFILE="docker", TO_S3__REGION="eu-west-1",
        TO_SECRETS_DIR=str(tmp_path),
    )  # fmt: skip
    there = settings.load_target()
    assert (here.profile, here.s3.endpoint, here.s3.region) == ("local", "http://here", "us-east-1")
    assert (there.profile, there.s3.endpoint, there.s3.region) == ("docker", "http://127.0.0.1:8333", "eu-west-1")
    assert there.catalog.token is not None
    assert there.catalog.token.get_secret_value() == "hush"
    assert settings.load_target("local", tmp_path).warehouse == f"file://{tmp_path}/warehouse"


def test_what_kubernetes_says_of_services_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    of_services = {
        "LAKEHOUSE_PORT": "tcp://10.0.0.1:80", "LAKEHOUSE_UI_SVC_SERVICE_HOST": "10.0.0.1",
        "LAKEHOUSE_UI_SVC_SERVICE_PORT_HTTP": "80", "LAKEHOUSE_UI_SVC_PORT_4040_TCP_ADDR": "10.0.0.1",
    }  # fmt: skip
    for name, value in of_services.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="LAKEHOUSE_PORT, LAKEHOUSE_UI_SVC_PORT_4040_TCP_ADDR, "):
        settings.load()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    settings.load()
    monkeypatch.setenv("LAKEHOUSE_BROKER", "x")
    with pytest.raises(UsageError, match="unknown settings in the environment: LAKEHOUSE_BROKER; known"):
        settings.load()


def test_a_name_that_no_setting_of_a_target_has_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_TO_HOEM", "/backup")
    settings.load()
    with pytest.raises(UsageError, match="unknown settings in the environment: LAKEHOUSE_TO_HOEM; known: "):
        settings.load_target()
