"""Alerts to a real HTTP server: each once when it begins and once when it ends; a webhook that is down."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from lakehouse_spark import metrics
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.iceberg.letters import Judged
from lakehouse_spark.jobs.beat import Beat
from lakehouse_spark.jobs.registry import JOBS
from lakehouse_spark.metrics import alerts
from lakehouse_spark.metrics.alerts import Alert, Webhook
from lakehouse_spark.metrics.observers import Enduring
from lakehouse_spark.metrics.reading import Reading
from lakehouse_spark.settings import AlertSettings, KafkaSettings, Settings
from tests.support.home import NOTHING, RAW, Home, at, topic
from tests.support.receiver import Receiver, receiving

SILVER = "silver.trades"
EVERY = {"every": timedelta(minutes=15)}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def told(receiver: Receiver) -> list[tuple[str, str, str]]:
    return [(each["alert"], each["subject"], each["status"]) for each in receiver.posted]


def settings_for(url: str, **given: Any) -> Settings:
    return Settings(alerts=AlertSettings(webhook_url=SecretStr(url), **given))


def fails(table: str, why: str = "broke") -> Alert:
    return Alert(alerts.TABLE_FAILS, table, why)


def test_an_alert_is_posted_when_it_begins_and_when_it_ends(receiver: Receiver) -> None:
    webhook = Webhook(settings_for(receiver.url), pytest.fail)
    for firing in ([fails(SILVER)], [fails(SILVER, "broke otherwise")], [], [], [fails(SILVER)]):
        webhook.tell(firing)
    assert told(receiver) == [
        ("LakehouseTableFails", SILVER, "firing"),
        ("LakehouseTableFails", SILVER, "resolved"),
        ("LakehouseTableFails", SILVER, "firing"),
    ]
    assert {*receiver.posted[0]} == {"alert", "status", "subject", "text", "at", "lakehouse"}
    assert receiver.posted[0]["text"] == "LakehouseTableFails firing: broke"


def test_what_a_webhook_did_not_take_is_posted_again_and_complained_of_once(receiver: Receiver) -> None:
    complaints: list[str] = []
    webhook = Webhook(settings_for(receiver.url), complaints.append)
    receiver.status = 503
    for _ in range(3):
        webhook.tell([fails(SILVER)])
    receiver.status = 200
    webhook.tell([fails(SILVER)])
    assert told(receiver) == [("LakehouseTableFails", SILVER, "firing")]
    assert complaints == ["alerts: the webhook did not take one, and is tried again: it answered 503"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:9/hush", "Connection refused"),
        ("http://hush hush/", "InvalidURL"),
        ("https://[hush", "ValueError"),
    ],
)
def test_a_webhook_that_cannot_be_reached_fails_nothing_and_is_not_named(url: str, why: str) -> None:
    complaints: list[str] = []
    Webhook(settings_for(url), complaints.append).tell([fails(SILVER)])
    assert complaints == [f"alerts: the webhook did not take one, and is tried again: {why}"]


def test_no_secret_of_the_settings_is_sent(receiver: Receiver) -> None:
    kafka = KafkaSettings(secrets={"sasl.jaas.config": SecretStr("user=u password=p4ss")})
    settings = settings_for(receiver.url).model_copy(update={"kafka": kafka})
    Webhook(settings, pytest.fail).tell([fails(SILVER, "refused user=u password=p4ss")])
    assert receiver.posted[0]["text"] == "LakehouseTableFails firing: refused ***"
    assert receiver.url not in str(settings)


def test_lags_and_rejects_fire_above_their_limits() -> None:
    judged = {SILVER: Judged(1_000, 100), "silver.market_data": Judged(1_000, 50), "silver.few": Judged(99, 99)}
    reading = Reading({}, {SILVER: 700, "gold.fact_trades": 601, "dim.dim_symbol": 600}, judged, {})
    found = [*alerts.of_reading(reading, settings_for("http://127.0.0.1:9/", lag_seconds=600))]
    assert [(each.name, each.subject, each.said) for each in found] == [
        ("LakehouseLag", SILVER, "silver.trades: something has waited for 700 s that it has not consumed"),
        ("LakehouseLag", "gold.fact_trades",
         "gold.fact_trades: something has waited for 601 s that it has not consumed"),
        ("LakehouseRejects", SILVER, "silver.trades: 100 of 1,000 records of the last hour were rejected (10.0%)"),
    ]  # fmt: skip


def beat(number: int, failed: dict[str, str], *done: str) -> Beat:
    return Beat(number, at(number), 1.0, [], failed, {}, done)


def test_live_mode_posts_behind_its_beats_and_when_it_ends_badly(receiver: Receiver, home: Home) -> None:
    def live_until_it_fails() -> None:
        settings = settings_for(receiver.url).model_copy(update={"home": home.folder})
        with metrics.observing(settings, JOBS["pipeline"], EVERY) as live:
            live.begin(NOTHING, settings)
            watch = live.heard_by(EVERY)["watch"]
            watch.ended(beat(1, {SILVER: "broke"}), 0)
            awaited(receiver, 1)
            watch.ended(beat(2, {}, "silver.market_data"), 0)  # it was not tried
            watch.ended(beat(3, {"gold.fact_trades": "broke"}, SILVER), 0)
            awaited(receiver, 3)
            raise LakehouseError("Spark is gone")

    with pytest.raises(LakehouseError):
        live_until_it_fails()
    assert told(receiver) == [
        ("LakehouseTableFails", SILVER, "firing"),
        ("LakehouseTableFails", "gold.fact_trades", "firing"),
        ("LakehouseTableFails", SILVER, "resolved"),
        ("LakehouseJobFailed", "pipeline", "firing"),
    ]
    assert receiver.posted[-1]["text"] == "LakehouseJobFailed firing: Spark is gone"


def awaited(receiver: Receiver, number: int) -> None:
    deadline = time.monotonic() + 30
    while len(receiver.posted) < number:
        assert time.monotonic() < deadline, receiver.posted
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("options", "late"),
    [
        ({"every": timedelta(minutes=15), "tables": ["silver.market_data"]}, []),
        ({"every": timedelta(minutes=15), "tables": [SILVER]}, [SILVER]),
        ({"continuous": True, "tables": []}, []),
    ],
)
def test_alerts_are_of_the_tables_that_are_kept_up_to_date(
    options: dict[str, Any], late: list[str], receiver: Receiver, home: Home
) -> None:
    home.land(RAW, at(1), cursor=topic(at(1)))  # long ago, and silver has not consumed it
    settings = settings_for(receiver.url).model_copy(update={"home": home.folder})
    with metrics.observing(settings, JOBS["pipeline"], options) as observer:
        assert isinstance(observer, Enduring)
        observer.begin(NOTHING, settings)
        observer.beat(beat(1, {"the last": "broke"}), 0)
        awaited(receiver, len(late) + 1)
        observer.ended(0)
    assert told(receiver) == [
        *(("LakehouseLag", table, "firing") for table in late), ("LakehouseTableFails", "the last", "firing"),
    ]  # fmt: skip


def test_a_webhook_that_does_not_answer_holds_no_beat(receiver: Receiver, home: Home) -> None:
    receiver.may_answer.clear()
    settings = settings_for(receiver.url).model_copy(update={"home": home.folder})
    with metrics.observing(settings, JOBS["pipeline"], EVERY) as live:
        live.begin(NOTHING, settings)
        watch = live.heard_by(EVERY)["watch"]
        watch.ended(beat(1, {SILVER: "broke"}), 0)
        assert receiver.has_taken.wait(30)
        for number in range(2, 50):
            watch.ended(beat(number, {SILVER: "broke"}), 0)
        assert receiver.posted == []  # all of these beats went by while it waited
        receiver.may_answer.set()
        awaited(receiver, 1)
        live.ended(0)
    assert told(receiver) == [("LakehouseTableFails", SILVER, "firing")]
