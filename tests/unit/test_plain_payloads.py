"""The patterns by which nearly all payloads are known to hold nothing strange, beside Python's own JSON parser.

Both are written in what Java's and Python's regular expressions have in common, but for the sign of the very end.
"""

import re
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from lakehouse_spark.bronze import raw_marketdata, raw_orderbook, raw_trades
from lakehouse_spark.bronze.topic import Topic
from lakehouse_spark.transforms import payload
from tests.support import drift_oracle
from tests.support.lake import bar, book, trade
from tests.support.silver_oracle import MalformedError

BASES = {
    "trade": (raw_trades.TOPIC, trade(commission=0.25, account_id=None).decode()),
    "book": (raw_orderbook.TOPIC, book().decode()),
    "bar": (raw_marketdata.TOPIC, bar().decode()),
}
CHARACTERS = '{}[],:"\\ \n\t0123456789.eE+-nulltrueA~\x01é/'


def pattern(grammar: Any, topic: Topic) -> re.Pattern[str]:
    return re.compile(grammar.objects(topic.kinds.by_name).replace(r"\z", r"\Z"))


def mutated(text: str, dice: Random) -> str:
    """The text with one to three characters or pieces taken away, put in, put elsewhere or repeated."""
    characters = list(text)
    for _ in range(dice.choice((1, 1, 2, 3))):
        first, last = sorted(dice.randrange(len(characters) + 1) for _ in range(2))
        match dice.randrange(5):
            case 0:
                characters[first : first + 1] = []
            case 1:
                characters.insert(first, dice.choice(CHARACTERS))
            case 2:
                characters[first : first + 1] = dice.choice(CHARACTERS)
            case 3:
                characters += characters[first:last]
            case _:
                characters = characters[:first] + characters[last:]
    return "".join(characters)


@pytest.mark.parametrize("name", BASES)
def test_a_plain_payload_is_an_object_as_declared_without_an_escape(name: str) -> None:
    topic, base = BASES[name]
    plain, dice, found = pattern(payload._PLAIN, topic), Random(7), 0
    assert plain.match(base)
    for text in (mutated(base, dice) for _ in range(5_000)):
        if plain.match(text):
            found += 1
            assert drift_oracle.drift(topic.name, text) == [], text
            assert "\\" not in text
    assert found > 300


@pytest.mark.parametrize("name", BASES)
def test_an_object_that_the_wider_pattern_knows_is_as_declared(name: str) -> None:
    topic, base = BASES[name]
    valid, dice, found = pattern(payload._VALID, topic), Random(8), 0
    for text in (mutated(base, dice) for _ in range(5_000)):
        if valid.match(text):
            with suppress(MalformedError):
                assert drift_oracle.drift(topic.name, text) == [], text
                found += 1
    assert found > 300


@pytest.mark.parametrize(
    ("text", "is_plain", "is_known"),
    [
        ('{"price":1.50,"symbol":"A"}', True, True),
        ('{ "price" : 1.50 , "symbol" : null }', True, True),
        ('{"price":12345678}', True, True),
        ('{"price":123456789012345678}', True, True),
        ('{"price":1234567890123456789}', False, True),
        ('{"price":12345678.5}', False, True),  # Spark's parser would print it with an exponent
        ('{"price":0.1234567}', False, True),
        ('{"price":1e5}', False, True),
        ('{\n  "price": 1\n}\n', False, True),
        ('{"symbol":"\\u0041"}', False, True),
        ('{"price":"1.5"}', False, False),
        ('{"symbol":1}', False, False),
        ('{"venue":"A"}', False, False),
        ('{"price":01}', False, False),
        ('{"price":1,}', False, False),
        ('{"price":1}{"price":1}', False, False),
        ("{}", False, False),
    ],
)
def test_what_is_plain_and_what_is_known(text: str, is_plain: bool, is_known: bool) -> None:
    found = [bool(pattern(grammar, raw_trades.TOPIC).match(text)) for grammar in (payload._PLAIN, payload._VALID)]
    assert found == [is_plain, is_known]
