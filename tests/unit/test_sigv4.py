"""Signatures of requests to a REST catalog: AWS's own example, and what AWS's client (botocore 1.44) made of others."""

import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from requests import Request

from lakehouse_spark.errors import UsageError
from lakehouse_spark.iceberg import pyiceberg, sigv4
from lakehouse_spark.iceberg.sigv4 import Key, Signing
from lakehouse_spark.settings import Settings

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
KEY = Key("AKIDEXAMPLE", "secret", "tok/en+=", "eu-central-1", "s3tables")


def test_the_example_of_aws() -> None:
    """`get-vanilla` of its test suite."""
    key = Key("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None, "us-east-1", "service")
    given = {"x-amz-date": "20150830T123600Z"}
    assert key.authorization("GET", "https://example.amazonaws.com/", given) == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    )


@pytest.mark.parametrize(
    ("method", "url", "body", "signature"),
    [
        (
            "GET", "http://127.0.0.1:8181/v1/lake/namespaces/a%1Fb/tables/t?snapshots=refs&b=%20x%2Fy&a=", b"",
            "ddc77211885e91120061024a2381d8a41395044751e0793418d313ce521d20c1",
        ),
        (
            "POST", "https://c.example/iceberg/v1/x y", b'{"a":1}',
            "1f72224a89766b6906299e12bfdeaef2688510d8e9900cca383631c5da917d1e",
        ),
        (
            "POST", "https://c.example:443/iceberg/v1/x y", b'{"a":1}',  # a port that no header names
            "1f72224a89766b6906299e12bfdeaef2688510d8e9900cca383631c5da917d1e",
        ),
    ],
)  # fmt: skip
def test_requests_are_signed_as_aws_signs_them(method: str, url: str, body: bytes, signature: str) -> None:
    assert KEY.headers(method, url, body, NOON)["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20250601/eu-central-1/s3tables/aws4_request, "
        f"SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature={signature}"
    )


def test_a_request_says_when_of_what_and_by_whose_leave_it_was_signed() -> None:
    said = KEY.headers("POST", "https://c.example/", b"a", NOON)
    del said["Authorization"]
    assert said == {
        "x-amz-date": "20250601T120000Z",
        "x-amz-content-sha256": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        "x-amz-security-token": "tok/en+=",
    }


def test_text_is_signed_as_the_bytes_that_are_sent() -> None:
    request = Request("POST", "https://c.example/", data="ü").prepare()
    Signing(KEY).add_headers(request)
    assert request.headers["x-amz-content-sha256"] == "607474ca475a9724d7360aba71a56d5df77e61350e3f724cfa1f46e857e2d85f"


def test_the_key_is_named_as_iceberg_names_it() -> None:
    given = {"rest.access-key-id": "id", "rest.secret-access-key": "hush"}
    assert Key.of(given) == Key("id", "hush", None, "us-east-1", "execute-api")
    more = {"rest.session-token": "t", "rest.signing-region": "eu-west-1", "rest.signing-name": "glue"}
    assert Key.of({**given, **more}) == Key("id", "hush", "t", "eu-west-1", "glue")
    assert Key.of({**given, "client.region": "eu-west-2"}) == Key("id", "hush", None, "eu-west-2", "execute-api")
    assert Key.of({"rest.access-key-id": "id"}) is None


def catalog(**properties: str) -> Settings:
    server = {"type": "rest", "uri": "http://127.0.0.1:9", "warehouse": "lake", "properties": properties}
    return Settings.model_validate({"catalog": server})


@pytest.mark.parametrize("asked", [{"rest.auth.type": "sigv4"}, {"rest.sigv4-enabled": "true"}])
def test_a_catalog_is_signed_for_under_either_name_of_that(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, str]
) -> None:
    opened: list[dict[str, Any]] = []
    monkeypatch.setattr(sigv4, "SignedCatalog", lambda name, **given: opened.append({"name": name, **given}))
    pyiceberg.open_catalog(catalog(**asked))
    assert opened == [
        {
            "name": "lake", "uri": "http://127.0.0.1:9", "warehouse": "lake", "s3.region": "us-east-1",
            "s3.force-virtual-addressing": "false", **asked, "rest.sigv4-enabled": "true",
        }
    ]  # fmt: skip


def test_without_a_key_and_aws_s_client_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(UsageError) as refused:
        pyiceberg.open_catalog(catalog(**{"rest.auth.type": "sigv4"}))
    assert str(refused.value) == (
        "the catalog wants signed requests (sigv4), and LAKEHOUSE_CATALOG__SECRETS has no rest.access-key-id and "
        "rest.secret-access-key. Give these, or install boto3, which asks AWS's own chain: pip install boto3"
    )
