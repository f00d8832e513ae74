"""Cursors: what their JSON says to any reader, and that what earlier releases wrote is read."""

import ast
import inspect
import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.lake import cursor as module
from lakehouse_spark.lake.cursor import (
    Consumed,
    Cursor,
    FeedCursor,
    Gap,
    TopicCursor,
    UpstreamCursor,
    UpstreamsCursor,
    from_json,
)
from lakehouse_spark.lake.snapshots import State


def at(hour: int, minute: int, second: int, micros: int = 0, day: int = 27) -> datetime:
    return datetime(2026, 11, day, hour, minute, second, micros, tzinfo=UTC)


JUDGED = {"accepted": 12, "duplicates": 1, "inserted": 12, "records": 19, "rejected": 6, "rows": 12, "updated": 0}
ONE_ROW = {"deleted": 0, "inserted": 1, "updated": 0}

WRITTEN_BY_7E782D6: dict[str, tuple[str, Cursor]] = {
    "a topic": (
        '{"from":{},"stamp":"2026-11-27T20:11:52.915969+00:00","to":{"0":19,"1":0,"2":0},"topic":"raw_trades",'
        '"topic_id":"PM2NhB_3TOWHRuV7968SOw"}',
        TopicCursor(
            stamp=at(20, 11, 52, 915969), topic="raw_trades", topic_id="PM2NhB_3TOWHRuV7968SOw",
            following={0: 19, 1: 0, 2: 0},
        ),
    ),
    "a file in the change log": (
        '{"source":"file:/files/ex.csv","stamp":"2026-11-27T20:10:56.824543+00:00"}',
        TopicCursor(stamp=at(20, 10, 56, 824543), source="file:/files/ex.csv"),
    ),
    "silver": (
        '{"counts":{"accepted":12,"duplicates":1,"inserted":12,"records":19,"rejected":6,"rows":12,"updated":0},'
        '"from":null,"since":"2026-11-27T20:12:23.958351+00:00","source":"bronze.raw_trades",'
        '"stamp":"2026-11-27T20:12:23.958351+00:00","to":"2026-11-27T20:11:52.915969+00:00",'
        '"totals":{"accepted":12,"duplicates":1,"inserted":12,"records":19,"rejected":6,"rows":12,"updated":0}}',
        FeedCursor(
            stamp=at(20, 12, 23, 958351), source="bronze.raw_trades", after=None, upto=at(20, 11, 52, 915969),
            since=at(20, 12, 23, 958351), counts=JUDGED, totals=JUDGED,
        ),
    ),
    "trader activity": (
        '{"counts":{"deleted":0,"inserted":6,"updated":0},"from":null,"rebuilt":null,"source":"silver.trades",'
        '"stamp":"2026-11-27T20:12:40.348511+00:00","to":"2026-11-27T20:12:23.958351+00:00"}',
        UpstreamCursor(
            stamp=at(20, 12, 40, 348511), source="silver.trades", after=None, upto=at(20, 12, 23, 958351),
            counts={"deleted": 0, "inserted": 6, "updated": 0},
        ),
    ),
    "a dimension": (
        '{"counts":{"deleted":0,"inserted":1,"updated":0},"from":"2026-11-27T20:11:08.192719+00:00","rebuilt":null,'
        '"source":"bronze.raw_reference","stamp":"2026-11-27T20:12:10.875175+00:00",'
        '"to":"2026-11-27T20:11:53.005017+00:00"}',
        UpstreamCursor(
            stamp=at(20, 12, 10, 875175), source="bronze.raw_reference", after=at(20, 11, 8, 192719),
            upto=at(20, 11, 53, 5017), counts=ONE_ROW,
        ),
    ),
    "facts": (
        '{"counts":{"deleted":0,"inserted":1,"updated":0},"stamp":"2026-11-27T20:12:51.355732+00:00",'
        '"upto":{"dim.dim_symbol":"2026-11-27T20:11:53.005017+00:00","dim.dim_symbol rebuilt":null,'
        '"silver.orderbook_snapshots":"2026-11-27T20:12:33.984970+00:00","silver.orderbook_snapshots rebuilt":null}}',
        UpstreamsCursor(
            stamp=at(20, 12, 51, 355732), counts=ONE_ROW,
            upto={
                "dim.dim_symbol": Consumed(at(20, 11, 53, 5017)),
                "silver.orderbook_snapshots": Consumed(at(20, 12, 33, 984970)),
            },
        ),
    ),
    "gold beside a dimension without members": (
        '{"counts":{"deleted":0,"inserted":1,"updated":0},"stamp":"2026-11-27T20:13:04.544658+00:00",'
        '"upto":{"dim.dim_account":null,"dim.dim_account rebuilt":null}}',
        UpstreamsCursor(stamp=at(20, 13, 4, 544658), counts=ONE_ROW, upto={"dim.dim_account": Consumed()}),
    ),
    "reserved keys": (
        '{"counts":{"deleted":0,"inserted":1,"updated":0},"reserved":"dim_trader",'
        '"stamp":"2026-11-27T20:11:18.671296+00:00"}',
        Cursor(stamp=at(20, 11, 18, 671296), counts=ONE_ROW, notes={"reserved": "dim_trader"}),
    ),
    "dead letters": (
        '{"counts":{"deleted":0,"inserted":1,"updated":0},"read":"2026-11-27T20:11:32.870836+00:00",'
        '"source":"bronze.raw_reference","stamp":"2026-11-27T20:11:36.514530+00:00"}',
        Cursor(
            stamp=at(20, 11, 36, 514530), counts=ONE_ROW,
            notes={"read": "2026-11-27T20:11:32.870836+00:00", "source": "bronze.raw_reference"},
        ),
    ),
    "resolved letters": (
        '{"resolved":true,"stamp":"2026-11-27T20:13:08.076772+00:00"}',
        Cursor(stamp=at(20, 13, 8, 76772), notes={"resolved": True}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("of", WRITTEN_BY_7E782D6)
def test_a_cursor_of_the_last_release_is_read_and_said_as_it_was(of: str) -> None:
    text, cursor = WRITTEN_BY_7E782D6[of]
    assert from_json(text) == cursor
    assert type(from_json(text)) is type(cursor)
    assert cursor.to_json() == text
    assert cursor.rules == 1


def test_a_topics_cursor_says_everything_that_happened_to_the_topic() -> None:
    cursor = TopicCursor(
        stamp=at(12, 0, 0), rules=2, topic="t", topic_id="id", began={0: 4}, following={10: 1, 2: 3, 0: 5},
        epoch=at(11, 0, 0), gaps=(Gap("partition 0: 4 records are gone", {0: 4}),), source="file:/ex.csv",
    )  # fmt: skip
    text = (
        '{"epoch":"2026-11-27T11:00:00.000000+00:00","from":{"0":4},'
        '"gaps":[{"accepted":"partition 0: 4 records are gone","was":{"0":4}}],"rules":2,"source":"file:/ex.csv",'
        '"stamp":"2026-11-27T12:00:00.000000+00:00","to":{"0":5,"10":1,"2":3},"topic":"t","topic_id":"id"}'
    )
    assert cursor.to_json() == text
    assert from_json(text) == cursor


def test_the_others_say_their_rules_and_what_was_rebuilt() -> None:
    dimension = UpstreamCursor(
        stamp=at(12, 0, 0), rules=2, rebuilt=at(12, 0, 0), source="bronze.raw_reference", after=None, upto=at(9, 0, 0)
    )
    facts = UpstreamsCursor(stamp=at(13, 0, 0), rules=2, upto={"dim.dim_symbol": Consumed(at(9, 0, 0), at(12, 0, 0))})
    silver = FeedCursor(
        stamp=at(12, 0, 0), rules=2, rebuilt=at(12, 0, 0), source="bronze.raw_trades", after=None, upto=at(9, 0, 0),
        since=at(12, 0, 0), totals={"records": 1},
    )  # fmt: skip
    noon = "2026-11-27T12:00:00.000000+00:00"
    assert json.loads(dimension.to_json()) == {
        "from": None, "to": "2026-11-27T09:00:00.000000+00:00", "stamp": noon, "rules": 2, "rebuilt": noon,
        "source": "bronze.raw_reference",
    }  # fmt: skip
    assert json.loads(facts.to_json()) == {
        "stamp": "2026-11-27T13:00:00.000000+00:00", "rules": 2,
        "upto": {"dim.dim_symbol": "2026-11-27T09:00:00.000000+00:00", "dim.dim_symbol rebuilt": noon},
    }  # fmt: skip
    assert json.loads(silver.to_json()) == {
        "from": None, "to": "2026-11-27T09:00:00.000000+00:00", "stamp": noon, "rules": 2, "rebuilt": noon,
        "source": "bronze.raw_trades", "since": noon, "totals": {"records": 1},
    }  # fmt: skip
    for cursor in (dimension, facts, silver):
        assert from_json(cursor.to_json()) == cursor


@pytest.mark.parametrize("of", WRITTEN_BY_7E782D6)
def test_what_a_later_release_adds_is_handed_on(of: str) -> None:
    said = {**json.loads(WRITTEN_BY_7E782D6[of][0]), "rules": 9, "lease": {"until": "2027"}}
    cursor = from_json(json.dumps(said))
    assert type(cursor) is type(WRITTEN_BY_7E782D6[of][1])
    assert cursor.rules == 9
    assert json.loads(replace(cursor, stamp=at(23, 0, 0)).to_json()) == {
        **said, "stamp": "2026-11-27T23:00:00.000000+00:00",
    }  # fmt: skip


def test_an_instant_of_any_zone_is_said_in_utc_with_microseconds() -> None:
    berlin = datetime(2026, 11, 27, 1, 30, tzinfo=timezone(timedelta(hours=1)))
    assert Cursor(stamp=berlin).to_json() == '{"stamp":"2026-11-27T00:30:00.000000+00:00"}'


def test_a_place_is_how_far_the_sources_are_consumed() -> None:
    new = UpstreamCursor(stamp=at(1, 0, 0), source="bronze.raw_reference", after=None, upto=None)
    assert new.place is None
    assert replace(new, stamp=at(2, 0, 0), upto=at(1, 0, 0)).place == (None, at(1, 0, 0))
    facts = UpstreamsCursor(stamp=at(1, 0, 0), upto={"silver.trades": Consumed(at(0, 0, 0))})
    assert replace(facts, stamp=at(2, 0, 0)).place == facts.place
    assert replace(facts, upto={"silver.trades": Consumed(at(0, 0, 0), at(0, 0, 0))}).place != facts.place
    assert Cursor(stamp=at(1, 0, 0), notes={"reserved": "dim_trader"}).place is None


def test_a_cursor_of_another_shape_is_refused_and_none_is_none() -> None:
    state = State(7, Cursor(stamp=at(1, 0, 0)), at(1, 0, 0))
    with pytest.raises(LakehouseError, match=r'^snapshot 7: expected a FeedCursor, found the cursor \{"stamp":'):
        state.cursor_as(FeedCursor)
    assert state.cursor_as(Cursor) is state.cursor
    assert State(7, None, None).cursor_as(FeedCursor) is None


@pytest.mark.parametrize("shape", [Cursor, Gap, TopicCursor, UpstreamCursor, FeedCursor, Consumed, UpstreamsCursor])
def test_every_field_is_documented(shape: type) -> None:
    tree = ast.parse(inspect.getsource(module))
    (declared,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == shape.__name__)
    named = {
        field.target.id
        for field, doc in zip(declared.body, declared.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr)
    }
    inherited = {field.name for base in shape.__mro__[1:-1] for field in fields(base)}
    assert named == {field.name for field in fields(shape)} - inherited
