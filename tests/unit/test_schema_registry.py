"""What the schema registry is asked, what its answers mean, and what a user reads where there is none."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.ingest import decoding, schema_registry
from lakehouse_spark.ingest.schema_registry import Interrupted, Schema, schema
from lakehouse_spark.local.loopback import free_port
from lakehouse_spark.settings import KafkaSettings, RegistrySettings, Settings
from tests.support.schema_registry import Registry, serving

SECRET = "canary-of-the-registry"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as running:
        running.add(7, {"type": "string"})
        yield running


def settings(url: str, **registry: Any) -> Settings:
    return Settings(registry=RegistrySettings(url=url, **registry))


def never(seconds: float) -> bool:
    raise AssertionError("waits")


def test_a_schema_is_asked_for_once_and_one_that_is_not_there_each_time(registry: Registry) -> None:
    asked = settings(f"{registry.url}/")
    assert schema(asked, 7) == schema(asked, 7) == Schema('{"type": "string"}', "AVRO")
    assert [schema(asked, 8), schema(asked, 8), schema(asked, 2**31)] == [None, None, None]
    assert registry.asked == ["/schemas/ids/7", "/schemas/ids/8", "/schemas/ids/8"]
    registry.add(8, {"type": "object"}, kind="JSON")
    assert schema(asked, 8) == Schema('{"type": "object"}', "JSON")


def test_references_come_each_behind_those_that_it_refers_to_and_once(registry: Registry) -> None:
    to = {name: {"name": name, "subject": f"of/{name}", "version": 1} for name in "abc"}
    registry.add(11, "a", subject="of/a")
    registry.add(12, "b", [to["a"]], subject="of/b")
    registry.add(13, "c", [to["b"], to["a"]], subject="of/c")
    registry.add(14, "d", [to["c"], to["a"], to["b"]])
    assert schema(settings(registry.url), 14) == Schema('"d"', "AVRO", ('"a"', '"b"', '"c"'))
    assert registry.asked.count("/subjects/of%2Fa/versions/1") == 1


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"credential": SecretStr(f"lake:{SECRET}")}, "Basic bGFrZTpjYW5hcnktb2YtdGhlLXJlZ2lzdHJ5"),
        ({"token": SecretStr(SECRET)}, f"Bearer {SECRET}"),
    ],
    ids=["basic", "bearer"],
)
def test_a_registry_that_wants_to_know_who_asks_is_told(registry: Registry, given: dict[str, Any], sent: str) -> None:
    registry.authorization = sent
    assert schema(settings(registry.url, **given), 7) is not None
    with pytest.raises(LakehouseError) as refused:
        schema(
            settings(registry.url.replace("127.0.0.1", "localhost"), **{k: SecretStr("x:y") for k in given}), 7, never
        )
    assert str(refused.value) == (
        f"the schema registry at http://localhost:{registry.server_port} refuses us (HTTP 401). Look at "
        "LAKEHOUSE_REGISTRY__CREDENTIAL or LAKEHOUSE_REGISTRY__TOKEN"
    )
    assert refused.value.exit_code == 1


@pytest.mark.parametrize("status", [400, 404, 302])
def test_who_is_no_registry_is_told_from_one_that_has_no_such_schema(registry: Registry, status: int) -> None:
    registry.status = status
    with pytest.raises(LakehouseError, match=f"answers HTTP {status} where a schema registry would name a schema"):
        schema(settings(registry.url), 7, never)


def test_a_registry_that_fails_is_waited_for(registry: Registry) -> None:
    registry.status, pauses = 503, []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        registry.status = 200 if len(pauses) == 4 else 503
        return False

    assert schema(settings(registry.url), 7, pause) is not None
    assert pauses == [0.25, 0.5, 1, 2]


def test_a_job_that_is_to_end_does_not_wait(registry: Registry) -> None:
    registry.status = 500
    with pytest.raises(Interrupted):
        schema(settings(registry.url), 7, lambda seconds: True)


def test_one_that_is_not_there_is_given_up_in_one_sentence(registry: Registry) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(LakehouseError) as given_up:
        schema(settings(url, patience_seconds=0), 7, never)
    assert str(given_up.value) == (
        f"the schema registry at {url} does not answer: Connection refused. Nothing is lost: run the job again once "
        "it does"
    )
    registry.status = 503
    with pytest.raises(LakehouseError, match="does not answer: HTTP 503"):
        schema(settings(registry.url, patience_seconds=0.3), 7)


def test_wrong_settings_are_said_before_anything_is_read() -> None:
    def check(registry: RegistrySettings, **formats: Any) -> None:
        decoding.check(Settings(kafka=KafkaSettings(formats=formats), registry=registry), ["raw_trades"])

    check(RegistrySettings(), raw_trades="json_schema")
    check(RegistrySettings(), raw_orderbook="avro")
    with pytest.raises(UsageError, match="records in Avro need a schema registry: set LAKEHOUSE_REGISTRY__URL"):
        check(RegistrySettings(), raw_trades="avro")
    with pytest.raises(UsageError, match="LAKEHOUSE_KAFKA__FORMATS: no such table trades; tables: raw_trades, "):
        check(RegistrySettings(), trades="json")
    with pytest.raises(UsageError, match=r"LAKEHOUSE_REGISTRY__CA_FILE: /nowhere\.pem: No such file"):
        check(RegistrySettings(url="https://127.0.0.1", ca_file="/nowhere.pem"), raw_trades="avro")  # type: ignore[arg-type]
    for url in ("registry:8081", f"https://lake:{SECRET}@registry"):
        with pytest.raises(ValueError, match=r"expected http|user and password belong in") as refused:
            RegistrySettings(url=url)
        assert SECRET not in str(refused.value.errors(include_input=False))  # type: ignore[attr-defined]


def test_nothing_of_a_secret_is_in_what_is_said(registry: Registry) -> None:
    registry.status = 403
    asked = settings(registry.url, token=SecretStr(SECRET))
    assert asked.without_secrets(f"a {SECRET}") == "a ***"
    with pytest.raises(LakehouseError) as refused:
        schema(asked, 7, never)
    assert SECRET not in str(refused.value)
    assert schema_registry.MOST_ID == 2_147_483_647
