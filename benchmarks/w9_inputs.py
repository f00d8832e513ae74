"""What W9 and W10 start from: days of history in every layer, and the beats that are to come.

Run as a module it builds the history, in a process whose JVM ends with it.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from benchmarks import lake, trades, w8_inputs
from benchmarks.filling import in_process
from benchmarks.plan import Case, Inputs
from lakehouse_spark.bronze import raw_orderbook, raw_trades
from lakehouse_spark.catalog import TOPICS
from lakehouse_spark.jobs import pipeline
from lakehouse_spark.lake.session import open_session
from lakehouse_spark.local import broker

NEWEST_DAY = "2025-03-06"
"""A Thursday; histories of any length end here, so that the beats are the same for all."""

DAYS = {"1 day": 1, "10 days": 10, "60 days": 60}
"""Lengths of history by the names of cases."""

OF_A_DAY = 12_500
"""Events of a day of history."""

_LATEST = 30
"""Days by which an event comes late at most."""

_KINDS = {"trades": (raw_trades.TABLE.short_name, 4), "books": (raw_orderbook.TABLE.short_name, 1)}
"""The topic of each kind of event, and how many of five events are of it."""

# Events in the order in which they arrive: the history's days, then beats of $each, of which one pair in a hundred is
# late. `s` numbers the events of a day. On the newest day time goes on with the arrivals.
_ARRIVALS = f"""
    numbered AS (
        SELECT range AS n, 0 AS beat, $days - 1 - range // $per_day AS back, range % $per_day AS s
        FROM range($days * $per_day)
        UNION ALL
        SELECT $days * $per_day + range, 1 + range // $each,
            CASE WHEN $days > 1 AND range // 2 % 100 = 0
                THEN 1 + (hash(range // 2, 1) % least({_LATEST}, $days - 1))::BIGINT ELSE 0 END,
            $per_day + range
        FROM range($beats * $each)
    ),
    arrivals AS (
        SELECT *, DATE '{NEWEST_DAY}' - back::INTEGER AS day, s // 2 AS pair,
            day + to_microseconds(52200000000 + CASE WHEN back = 0
                THEN (s * 23400000000) // ($per_day + $beats * $each)
                ELSE (hash(n, 2) % 23400000000)::BIGINT END) AS moment,
            n % {trades.PARTITIONS} AS place, n // {trades.PARTITIONS} AS following
        FROM numbered
    )
"""

# Trades come in pairs, as W5's: one opens, the other closes as many shares, of the history half of them the day after.
# So what is held at the end of a day does not grow with the days. Of a pair that breaks a rule both do.
_TRADES = f"""
    WITH {_ARRIVALS},
    paired AS (
        SELECT *, s % 2 = 1 AS closes, pair % 100 = 99 AS breaks,
            CASE WHEN closes AND pair % 2 = 1 AND s < $per_day THEN day - 1 ELSE day END AS opened
        FROM arrivals
    ),
    drawn AS (
        SELECT *, CASE WHEN breaks THEN 1 + pair // 100 % 4 ELSE 0 END AS bad,
            (hash(opened, pair, 3) % 200)::INTEGER AS number,
            lpad((hash(opened, pair, 4) % 1000)::VARCHAR, 5, '0') AS who,
            (hash(opened, pair, 5) % 2 = 0) <> closes AS buys
        FROM paired
    ),
    fields AS (
        SELECT n, beat, bad, moment, place, following,
            concat('T', strftime(day, '%Y%m%d'), '-', lpad(s::VARCHAR, 9, '0')) AS trade_id,
            concat('SYM', lpad(number::VARCHAR, 3, '0')) AS symbol,
            CASE WHEN bad = 1 THEN -1 ELSE (2000 + 100 * number + hash(n, 6) % 500) / 100 END::DECIMAL(18, 2) AS price,
            CASE WHEN bad = 2 THEN 0 ELSE 1 + hash(opened, pair, 7) % 5000 END::BIGINT AS quantity,
            CASE WHEN bad = 3 THEN 'HOLD' WHEN buys THEN 'BUY' ELSE 'SELL' END AS trade_type,
            (['MARKET', 'LIMIT', 'STOP'])[1 + (hash(n, 8) % 3)::INTEGER] AS order_type,
            concat('TRD-', who) AS trader_id, concat('ACC-', who, '-1') AS account_id,
            CASE WHEN bad = 4 THEN 'NOWHERE'
                ELSE ({list(trades.VENUES)!r})[1 + (hash(n, 9) % {len(trades.VENUES)})::INTEGER] END AS exchange
        FROM drawn
    )
    SELECT *, {trades.PAYLOAD} AS payload FROM fields
"""
_BOOKS = f"""
    WITH {_ARRIVALS},
    fields AS (
        SELECT n, beat, moment, place, following,
            concat('SYM', lpad((hash(n, 11) % 200)::VARCHAR, 3, '0')) AS symbol,
            ((2000 + hash(n, 12) % 20000) / 100)::DECIMAL(18, 2) AS bid,
            ((1 + hash(n, 13) % 9) / 100)::DECIMAL(18, 2) AS spread,
            ({list(trades.VENUES)!r})[1 + (hash(n, 14) % {len(trades.VENUES)})::INTEGER] AS exchange
        FROM arrivals
    )
    SELECT *, {w8_inputs.BOOK_PAYLOAD} AS payload FROM fields
"""


@contextmanager
def inputs(case: Case, folder: Path) -> Iterator[Inputs]:
    """The product's own pipeline takes in the history at once; the broker that held it leaves its data behind."""
    expected = _write(folder, beats=1 + case.runs, **case.params)
    w8_inputs.write_reference(folder)
    with broker.serving(lake.here(folder / "broker"), TOPICS) as served:
        servers = str(served.kafka.bootstrap_servers)
        publish(folder, servers, 0)
        values = in_process("benchmarks.w9_inputs", {"folder": str(folder), "servers": servers})
    yield Inputs({**values, "folder": str(folder)}, expected)


@contextmanager
def own_broker(values: Mapping[str, Any], folder: Path) -> Iterator[Mapping[str, Any]]:
    """A broker that holds the history and nothing else, for one child to add its beats to."""
    shutil.copytree(Path(values["folder"]) / "broker", folder / "broker")
    with broker.serving(lake.here(folder / "broker"), TOPICS) as served:
        servers = str(served.kafka.bootstrap_servers)
        yield {"servers": servers, "settings": {"kafka__bootstrap_servers": servers}}


def publish(folder: Path, servers: str, beat: int) -> None:
    """Sends the events of one beat; those of beat 0 are the history."""
    for kind, (topic, _) in _KINDS.items():
        trades.publish(folder / f"{kind}-{beat}.parquet", servers, topic)


def of_beat(beat: int, digests: Mapping[str, str]) -> dict[str, str]:
    """The digests of what stands after a beat, under names of their own."""
    return {f"beat {beat}: {name}": digest for name, digest in digests.items()}


def _write(folder: Path, *, records: int, days: int, per_day: int, beats: int) -> dict[str, str]:
    """A file for each kind of event and each beat; what the tables must hold after each beat."""
    con = duckdb.connect()
    for (kind, (_, share)), query in zip(_KINDS.items(), (_TRADES, _BOOKS), strict=True):
        told = {"days": days, "per_day": per_day * share // 5, "each": records * share // 5, "beats": beats}
        con.execute(f"CREATE TABLE {kind} AS {query}", told)
        for beat in range(beats + 1):
            rows, file = f"SELECT * FROM {kind} WHERE beat = {beat} ORDER BY n", folder / f"{kind}-{beat}.parquet"
            con.execute(f"COPY ({rows}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")
    expected: dict[str, str] = {}
    for beat in range(beats + 1):
        books = (per_day * days + records * beat) // 5
        good = f"(SELECT * FROM trades WHERE beat <= {beat} AND bad = 0)"
        expected |= of_beat(beat, w8_inputs.truth(con, good, books))
    return expected


def fill(given: Mapping[str, Any]) -> dict[str, Any]:
    """Brings the history through every layer; what contenders are told of it."""
    folder = Path(given["folder"])
    settings = lake.here(folder / "home", kafka__bootstrap_servers=given["servers"])
    spark = open_session(settings, "benchmark inputs")
    w8_inputs.start(spark, settings, folder)
    pipeline.run(spark, settings)
    spark.stop()
    return w8_inputs.described(settings.home)


if __name__ == "__main__":
    print(json.dumps(fill(json.loads(sys.argv[1]))))
