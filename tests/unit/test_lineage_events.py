"""Events of OpenLineage, as its own client writes them to a file and posts them to a real server."""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from lakehouse_spark import lineage
from lakehouse_spark.catalog import BY_NAME, TABLES
from lakehouse_spark.errors import UsageError
from lakehouse_spark.lake import commit
from lakehouse_spark.lake.commit import Commit
from lakehouse_spark.lake.snapshots import State
from lakehouse_spark.settings import KafkaSettings, OpenLineageSettings, Settings
from tests.support.receiver import Receiver, receiving

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)


def asking(home: Path, **given: Any) -> Settings:
    kafka = KafkaSettings(bootstrap_servers="broker:9092,other:9092", topics={"raw_trades": "trades.v1"})
    return Settings(home=home, kafka=kafka, openlineage=OpenLineageSettings(**given))


def committed(table: str, snapshot: int = 7) -> None:
    added = {"records": 5, "data-files": 2, "files-size": 900}
    for listen in commit.LISTENERS:
        listen(Commit(table, State(snapshot, None, NOON), added=added))


def test_each_commit_adds_an_event_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / "lineage.jsonl"
    with lineage.telling(asking(tmp_path, file=file)):
        committed("bronze.raw_trades")
        committed("silver.trades", snapshot=8)
        for listen in commit.LISTENERS:
            listen(Commit("silver.trades", is_lost=True))
    raw, silver = map(json.loads, file.read_text().splitlines())
    assert commit.LISTENERS == []
    assert (silver["eventType"], silver["job"]["namespace"], silver["job"]["name"]) == (
        "COMPLETE", "lakehouse-spark", "silver.trades",
    )  # fmt: skip
    assert [(each["namespace"], each["name"]) for each in raw["inputs"]] == [("kafka://broker:9092", "trades.v1")]
    here = f"file://{tmp_path}/warehouse"
    assert [(each["namespace"], each["name"]) for each in silver["inputs"]] == [
        (here, "bronze.raw_trades"), (here, "dim.dim_exchange"),
    ]  # fmt: skip
    [output] = silver["outputs"]
    assert (output["namespace"], output["name"]) == (here, "silver.trades")
    assert output["facets"]["version"]["datasetVersion"] == "8"
    first = output["facets"]["schema"]["fields"][0]
    assert (first["name"], first["type"]) == ("trade_id", "string")
    of_price = output["facets"]["columnLineage"]["fields"]["price"]["inputFields"]
    assert [(each["name"], each["field"]) for each in of_price] == [("bronze.raw_trades", "raw_payload")]
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (5, 900, 2)


def test_columns_are_said_to_come_from_what_declarations_name() -> None:
    assert lineage.columns_of(BY_NAME["gold.fact_trades"]) == {
        "symbol_key": ("dim.dim_symbol", "symbol_key"),
        "trader_key": ("dim.dim_trader", "trader_key"),
        "exchange_key": ("dim.dim_exchange", "exchange_key"),
    }
    assert lineage.columns_of(BY_NAME["silver.trades"])["_source_offset"] == ("bronze.raw_trades", "_kafka_offset")
    assert lineage.columns_of(BY_NAME["gold.market_overview"]) == {}
    for table in TABLES:
        for column, (source, of) in lineage.columns_of(table).items():
            assert column in table.column_names
            assert source in table.sources
            assert of in BY_NAME[source].column_names


def awaited(receiver: Receiver) -> None:
    deadline = time.monotonic() + 30
    while not receiver.posted:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_is_posted_each_event_with_its_key(tmp_path: Path) -> None:
    with receiving() as receiver:
        with lineage.telling(asking(tmp_path, url=SecretStr(receiver.base), api_key=SecretStr("s3cret"))):
            committed("silver.trades")
        [event] = receiver.posted
        assert receiver.paths == ["/api/v1/lineage"]
        assert event["job"]["name"] == "silver.trades"
        assert receiver.headers[0]["Authorization"] == "Bearer s3cret"


def test_a_server_that_does_not_answer_holds_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "_WAITING", 10)
    with receiving() as receiver:
        receiver.may_answer.clear()
        with lineage.telling(asking(tmp_path, url=SecretStr(receiver.base))):
            committed("silver.trades")
            assert receiver.has_taken.wait(30)
            for number in range(100):
                committed("_metadata.retired_keys", number)
            assert receiver.posted == []  # all of these commits went by while it waited
            receiver.may_answer.set()
            awaited(receiver)


def test_a_server_that_is_down_is_complained_of_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lineage.telling(asking(tmp_path, url=SecretStr("http://127.0.0.1:9/hush"))):
        committed("silver.trades")
        committed("silver.trades")
    assert capsys.readouterr().err.splitlines() == ["lineage: an event was not taken, and is left out: ConnectionError"]


def test_without_the_client_it_is_wrong_use_and_nothing_is_asked_of_who_wants_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openlineage.client", None)
    with lineage.telling(asking(tmp_path)):
        assert commit.LISTENERS == []
    with (
        pytest.raises(UsageError, match=r"is not installed. Install it: pip install 'lakehouse-spark\[openlineage\]'$"),
        lineage.telling(asking(tmp_path, file=tmp_path / "lineage.jsonl")),
    ):
        pass
