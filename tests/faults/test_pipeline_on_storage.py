"""Every layer, gold too, on an object store and a REST catalog of which some answers are late, lost, or errors."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse_spark import migrations, verify
from lakehouse_spark.jobs import pipeline
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.settings import DimTimeSettings, Settings
from tests.support.faults import ROUNDS
from tests.support.lake import ALL_TOPICS, Lake, compiled, trade
from tests.support.two_beats import begin, digests, go_on
from tests.support.wire import Wire, at_random, strung

pytestmark = pytest.mark.soak
TRIES = 30


def more(number: int) -> list[bytes]:
    """Trades of two days, of which one repeats and one is refused."""
    made = [
        trade(trade_id=f"R{number}a", timestamp="2025-01-14T15:31:00Z", account_id="AC1"),
        trade(trade_id=f"R{number}b", timestamp="2025-01-16T15:31:00Z", symbol="MSFT", quantity=10 + number),
        trade(trade_id=f"R{number}c", timestamp="2025-01-16T15:32:00Z", trade_type="SELL", price=190 + number),
    ]
    return [*made, made[0], trade(trade_id=f"R{number}d", price=-1)]


def disturbed_until_done(wire: Wire, seed: int) -> list[str]:
    """What was told of the runs that failed, before one did not."""
    store, catalog = at_random(seed)
    said: list[str] = []
    with wire.disturbed(store=store, catalog=catalog):
        for _ in range(TRIES):
            failed = wire.run(lambda lake: pipeline.run(lake.spark, lake.settings))
            if failed is None:
                return said
            said.append(failed)
    raise AssertionError(said)


def test_a_pipeline_of_servers_that_fail_at_random_makes_what_an_undisturbed_one_does(
    spark: SparkSession, settings: Settings, broker: Broker, tmp_path: Path
) -> None:
    there = Lake.migrated(spark, broker.bootstrap_servers, tmp_path / "folder")
    there.create_topics(names=ALL_TOPICS)
    (tmp_path / "wire").mkdir()
    with strung(spark, settings, broker, tmp_path / "wire", ()) as wire:
        wire.lake.settings = wire.lake.settings.model_copy(
            update={"kafka": there.settings.kafka, "dim_time": DimTimeSettings(years=(2025,))}
        )
        with compiled(wire.lake.spark):
            migrations.migrate(wire.lake.spark, wire.lake.settings, datetime.now(UTC))
        for number in range(max(3, ROUNDS // 4)):
            if number < 2:
                (begin, go_on)[number](there)
            there.produce("raw_trades", *more(number))
            said = disturbed_until_done(wire, 20260401 + number)
            assert [each for each in said if "\n" in each] == []
            pipeline.run(there.spark, there.settings)
            made = digests(wire.lake)
            assert made == digests(there)
        assert pipeline_writes_nothing(wire)
        verified = verify.go_on(wire.lake.spark, wire.lake.settings, in_full=True)
        assert verified.complaint is None
        assert [str(found) for found in verified.findings if not found.holds] == []


def pipeline_writes_nothing(wire: Wire) -> bool:
    before = wire.objects
    done = pipeline.run(wire.lake.spark, wire.lake.settings)
    return [each for each in done if each.snapshot_id is not None] == [] and wire.objects == before
