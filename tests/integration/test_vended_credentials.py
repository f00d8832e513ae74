"""A REST catalog that takes signed requests alone, and gives a key for the files of each table: a job holds none.

SeaweedFS's own catalog, whose names may not begin with an underscore: tables are here without `_metadata`, and so no
whole lakehouse.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
from pyiceberg.exceptions import ForbiddenError
from pyspark.sql import SparkSession

from lakehouse_spark.bronze import raw_marketdata, raw_orderbook, raw_trades
from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.errors import LakehouseError, in_a_sentence
from lakehouse_spark.iceberg import metadata, pyiceberg, rows
from lakehouse_spark.lake import commit, rights, session
from lakehouse_spark.lake.cursor import TopicCursor
from lakehouse_spark.schema import ddl
from lakehouse_spark.settings import Settings
from tests.support import servers
from tests.support.lake import Lake, arrive, book, trade
from tests.support.object_store import VendingStore

TRADES, BOOKS = raw_trades.TOPIC.table, raw_orderbook.TOPIC.table
BARS = raw_marketdata.TOPIC.table
"""To its files, the keys that the catalog gives may not write."""
SIGNED = {"rest.auth.type": "sigv4", "rest.signing-name": "s3tables", "rest.signing-region": "us-east-1"}
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method."
)
PARTS = ("access-key-id", "secret-access-key", "session-token")
VENDED = {"header.X-Iceberg-Access-Delegation": "vended-credentials"}


@dataclass
class Vending:
    """The servers, for who has the key `catalog`."""

    store: VendingStore
    spark: SparkSession

    def settings(self, secret: str = "", asked: Mapping[str, str] = VENDED) -> Settings:
        """Of who signs."""
        key, own = self.store.keys["catalog"]
        secrets = {"rest.access-key-id": key, "rest.secret-access-key": secret or own}
        return self._settings(LAKEHOUSE_CATALOG__SECRETS=json.dumps(secrets), properties={**SIGNED, **asked})

    @property
    def of_oauth(self) -> Settings:
        """Of who asks for a token first."""
        properties = {**VENDED, "oauth2-server-uri": f"{self.store.uri}/v1/oauth/tokens"}
        return self._settings(LAKEHOUSE_CATALOG__CREDENTIAL=":".join(self.store.keys["catalog"]), properties=properties)

    def _settings(self, *, properties: Mapping[str, str], **secret: str) -> Settings:
        given = {"LAKEHOUSE_CATALOG__PROPERTIES": json.dumps(properties), **secret}
        return servers.settings_of({**self.store.environment, **given})

    def opened(self, settings: Settings) -> Lake:
        return Lake(servers.connect(self.spark, settings), settings)


@pytest.fixture(scope="module")
def vending(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vending]:
    with VendingStore(tmp_path_factory.mktemp("vending") / "store") as store:
        yield Vending(store, spark)


@pytest.fixture(scope="module")
def signed(vending: Vending) -> Lake:
    """Three tables as declared, made by who signs, and two trades in one of them."""
    lake = vending.opened(vending.settings())
    lake.spark.sql("CREATE NAMESPACE lake.bronze")
    for table in (TRADES, BOOKS, BARS):
        for statement in ddl.create_table(table):
            lake.spark.sql(statement)
    for table in (TRADES, BOOKS):
        commit.open_table(lake.spark, table)
    arrive(lake, trade(trade_id="T1"), trade(trade_id="T2"))
    return lake


def trades(lake: Lake) -> list[str]:
    found = lake.spark.table(TRADES.identifier).select("raw_payload").collect()
    return sorted(json.loads(row["raw_payload"])["trade_id"] for row in found)


def counts(settings: Settings) -> dict[str, int | None]:
    """As they are read without Spark."""
    found = metadata.read(settings, [TRADES, BOOKS, BY_NAME["silver.trades"]])
    return {name: rows.count(table).rows for name, table in found.items()}


def file_of(lake: Lake) -> str:
    """A file of trades."""
    return str(lake.spark.table(f"{TRADES.identifier}.files").collect()[0]["file_path"])


def test_tables_are_made_written_and_read_by_keys_that_the_catalog_gives(signed: Lake) -> None:
    keys = [name for name in session.spark_conf(signed.settings) if name.endswith(("key", "key-id", "token"))]
    assert keys == ["spark.sql.catalog.lake.rest.access-key-id", "spark.sql.catalog.lake.rest.secret-access-key"]
    assert file_of(signed).startswith("s3://lake/bronze/raw_trades/data/")
    assert signed.spark.table(TRADES.identifier).schema == TRADES.schema
    assert trades(signed) == ["T1", "T2"]
    assert signed.state(TRADES.name).cursor_as(TopicCursor).following == {0: 2}  # type: ignore[union-attr]


def test_what_is_read_without_spark_is_signed_too_and_read_by_such_keys(signed: Lake) -> None:
    assert counts(signed.settings)["bronze.raw_trades"] == 2


def test_who_has_a_token_is_given_keys_as_well(vending: Vending, signed: Lake) -> None:
    lake = vending.opened(vending.of_oauth)
    assert trades(lake) == ["T1", "T2"]
    arrive(lake, book(), topic=raw_orderbook.TOPIC)
    assert counts(lake.settings) == {"bronze.raw_trades": 2, "bronze.raw_orderbook": 1}


@pytest.mark.parametrize("path", ["namespaces", "namespaces/bronze/tables/raw_trades"])
def test_nobody_is_let_in_without_a_signature(vending: Vending, signed: Lake, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{vending.store.uri}/v1/lake/{path}", timeout=30)
    assert refused.value.code == 403
    refused.value.close()


def test_a_wrong_secret_is_one_sentence(vending: Vending, signed: Lake) -> None:
    settings = vending.settings(secret="canary-of-a-stranger")
    with pytest.raises(Exception, match="signature") as of_spark:
        vending.opened(settings)
    with pytest.raises(ForbiddenError) as without:
        counts(settings)
    assert [in_a_sentence(refused.value) for refused in (of_spark, without)] == [
        f"org.apache.iceberg.exceptions.ForbiddenException: Forbidden: {MISMATCH}",
        f"ForbiddenError: ForbiddenException: {MISMATCH}",
    ]


def test_the_key_for_the_catalog_opens_no_file(vending: Vending, signed: Lake) -> None:
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        vending.store.files_of(*vending.store.keys["catalog"]).open_input_file(file_of(signed).removeprefix("s3://"))


def test_who_does_not_ask_for_keys_is_given_none(vending: Vending, signed: Lake) -> None:
    """Then AWS's own chain is asked, which knows of no key, or of one that is not for this store."""
    lake = vending.opened(vending.settings(asked={}))
    with pytest.raises(Exception, match=r"Unable to load credentials from any|InvalidAccessKeyId|Status Code: 403"):
        trades(lake)


def test_a_key_for_one_table_opens_no_file_of_another(vending: Vending, signed: Lake) -> None:
    catalog = pyiceberg.open_catalog(signed.settings)
    given = [pyiceberg.load(catalog, table).io.properties for table in (TRADES, BOOKS)]
    of_trades, of_books = (vending.store.files_of(*(each[f"s3.{part}"] for part in PARTS)) for each in given)
    file = file_of(signed).removeprefix("s3://")
    assert of_trades.open_input_file(file).read(4) == b"PAR1"
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        of_books.open_input_file(file)


def test_whether_we_may_write_is_asked_by_the_key_that_is_given(signed: Lake) -> None:
    rights.require_writing(signed.spark, signed.settings, TRADES)
    with pytest.raises(LakehouseError) as refused:
        rights.require_writing(signed.spark, signed.settings, BARS)
    assert str(refused.value).startswith(
        "bronze.raw_marketdata: the store does not let us write to s3://lake/bronze/raw_marketdata: "
        "software.amazon.awssdk.services.s3.model.AccessDeniedException: Access Denied. "
    )
    assert str(refused.value).endswith(
        ". Let the key that LAKEHOUSE_S3__… names, or the catalog gives, write there, or name another one"
    )
