"""What goes wrong between a lakehouse and the servers it is on: each is killed in the middle of a commit, and answers
get lost, late, or errors. Behind it a run goes on, nothing is lost, nothing is there twice, and no live file is gone.
"""

import json
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import verify
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.settings import Settings
from tests.support.child import MADE, TABLES, chain, round_of
from tests.support.faults import ROUNDS
from tests.support.lake import Lake
from tests.support.proxy import Answer, Request
from tests.support.wire import BRANCH, HOLD, LOST, PUBLISH, RAW, SILVER, WRITE, Wire, at_random, once, stage_of, strung

ALL = [(table, stage, how) for table in (RAW, SILVER) for stage in (BRANCH, WRITE, PUBLISH) for how in LOST]
FEW = [(RAW, BRANCH, "a 503"), (SILVER, WRITE, "cut"), (RAW, PUBLISH, "a 500")]
_NUMBERED = "Cannot add snapshot with sequence number 7 older than last sequence number 7"
_KIND = "ValidationException"


@pytest.fixture(scope="module")
def wire(
    spark: SparkSession, settings: Settings, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Wire]:
    """Behind all tests it has what a lakehouse in a folder makes of the same records, undisturbed, and all holds."""
    homes = tmp_path_factory.mktemp("wire")
    with strung(spark, settings, broker, homes) as made:
        yield made
        lake = made.lake
        other = Lake.new(spark, broker.bootstrap_servers, homes / "undisturbed", MADE).on_topics_of(lake)
        chain(other)
        for table in TABLES:
            assert lake.content(table) == other.content(table), table
        found = verify.findings(lake.spark, lake.settings, *HOLD)
        assert [str(each) for each in found if each.violations] == []


def test_a_commit_whose_answer_was_lost_is_made_once(wire: Wire) -> None:
    for number, (table, stage, how) in enumerate(ALL if ROUNDS >= 20 else FEW):
        wire.lake.produce("raw_trades", *round_of(number))
        before = wire.commits
        rule, struck = once(table, stage, LOST[how])
        with wire.disturbed(catalog=rule):
            assert wire.run() is None, (table, stage, how)
        assert struck == [stage], (table, stage, how)
        assert {name: after - before[name] for name, after in wire.commits.items()} == dict.fromkeys(TABLES, 1)
        assert wire.branches == set(), (table, stage, how)


def test_a_commit_that_another_writer_numbered_before_is_staged_again(wire: Wire) -> None:
    """A catalog refuses a snapshot that is numbered like one which came since, though on another branch; servers up to
    Iceberg 1.10 call that a bad request (apache/iceberg#15001)."""
    refused = Answer(400, body=json.dumps({"error": {"message": _NUMBERED, "type": _KIND, "code": 400}}).encode())
    wire.lake.produce("raw_trades", *round_of(500))
    before = wire.commits
    told = []

    def rule(request: Request) -> Answer | None:
        for table in (RAW, SILVER):
            if stage_of(request, table) == WRITE and table not in told:
                told.append(table)
                return refused
        return None

    with wire.disturbed(catalog=rule):
        assert wire.run() is None
    assert told == [RAW, SILVER]
    assert {name: after - before[name] for name, after in wire.commits.items()} == dict.fromkeys(TABLES, 1)
    assert wire.branches == set()


def test_answers_that_are_late_lost_or_errors_at_random_change_nothing(wire: Wire) -> None:
    store, catalog = at_random(20250101 + ROUNDS)
    for number in range(ROUNDS):
        wire.lake.produce("raw_trades", *round_of(1_000 + number))
        before = wire.commits
        with wire.disturbed(store=store, catalog=catalog):
            assert any(wire.run() is None for _ in range(20))
        assert {name: after - before[name] for name, after in wire.commits.items()} == dict.fromkeys(TABLES, 1)
