"""Reference records: what a record of the topic says, why it is refused, and when an exchange trades by it."""

import csv
import json
import os
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse_spark.catalog import DIMENSIONS, REFERENCE_TOPIC
from lakehouse_spark.dim import reference_log
from lakehouse_spark.dim.dimension import changes
from lakehouse_spark.lake import frames
from lakehouse_spark.settings import conf_dir
from lakehouse_spark.transforms import market_hours
from tests.support import dim_oracle
from tests.support.hostile_references import hostile_references
from tests.support.silver_oracle import Record

STAMP = datetime(2025, 6, 2, 12, 0, 0, 250_000, tzinfo=UTC)
MOST = 2000
_RECORD = "value binary, topic string, partition int, offset long"


def log_of(spark: SparkSession, values: list[bytes | None]) -> DataFrame:
    """The rows that the topic's records make in the change log, computed once."""
    frame = frames.of_rows(spark, [(value, "topic", 0, offset) for offset, value in enumerate(values)], _RECORD)
    return REFERENCE_TOPIC.build(frame, STAMP, MOST).localCheckpoint()


def said(dimension: str, **fields: Any) -> bytes:
    return json.dumps({"dimension": dimension, **fields}, ensure_ascii=False).encode(errors="surrogatepass")


def reasons(spark: SparkSession, *values: bytes | None) -> list[list[str]]:
    rows = reference_log.judged(log_of(spark, list(values)), DIMENSIONS.values(), MOST).orderBy("_kafka_offset")
    return [row["_reasons"] for row in rows.select("_reasons").collect()]


@pytest.mark.parametrize("seed", range(int(os.environ.get("SOAK_ROUNDS", "1"))))
def test_any_record_of_the_topic_says_what_the_reference_reads_in_it(spark: SparkSession, seed: int) -> None:
    records = [Record(value, offset, STAMP) for offset, value in enumerate(hostile_references(1500, 4100 + seed))]
    expected = [dim_oracle.refer(record, MOST) for record in records]
    log = log_of(spark, [record.value for record in records])
    judged = reference_log.judged(log, DIMENSIONS.values(), MOST).orderBy("_kafka_offset").select("_reasons").collect()
    differing = [
        (record.value, row["_reasons"], each.reasons)
        for record, row, each in zip(records, judged, expected, strict=True)
        if row["_reasons"] != each.reasons
    ]
    assert differing == []
    for name, dimension in DIMENSIONS.items():
        rows = changes(log.where(reference_log.of_dimension(dimension)), dimension).collect()
        found = {row["_place"]["_kafka_offset"]: row.asDict() for row in rows}
        good = {n: each for n, each in enumerate(expected) if each.dimension == name and not each.reasons}
        assert len(good) > 40
        assert found.keys() == good.keys()
        wrong = []
        for offset, each in good.items():
            columns = [*dim_oracle.FEEDS[name].columns, *dim_oracle.PLACING]
            says = [found[offset][column] for column in columns]
            if says != [each.values.get(column) for column in columns]:
                wrong.append((records[offset].value, says, each.values))
            states = {a.name for a in dimension.attributes if found[offset][f"_states_{a.name}"]}
            if states != {a.name for a in dimension.attributes} & each.values.keys():
                wrong.append((records[offset].value, sorted(states), each.values))
        assert wrong == []
        stored = log.where(reference_log.of_dimension(dimension)).select("natural_key", "_kafka_offset").collect()
        # a member's records are looked for under the key they landed with
        keys = {row["_kafka_offset"]: row["natural_key"] for row in stored}
        assert {n: keys[n] for n in good} == {n: found[n][dimension.natural_key] for n in good}
    for row in log.select("dimension", "natural_key", "raw_payload", "attributes").collect():
        texts = [row[0], row[1], row[2], *(row[3] or {}), *(row[3] or {}).values()]
        "".join(text for text in texts if text is not None).encode()  # no half of a surrogate pair


def test_what_cannot_be_read_has_one_reason_in_the_order_of_the_rules(spark: SparkSession) -> None:
    symbol = said("dim_symbol", symbol="AAPL")
    assert reasons(
        spark,
        None,
        said("dim_symbol", symbol="AAPL", note="x" * MOST),
        b"\xff" * (MOST + 1),
        b"\0\0\0\0\x07" + symbol,
        b"\0\0\0\xff\x07" + symbol,
        b'{"dimension": "dim_symbol", "symbol": "AAPL", "note": "\xff"}',
        rb'{"dimension": "dim_symbol", "symbol": "AAPL", "note": "\ud800"}',
        rb'{"dimension": "dim_symbol", "symbol": "AAPL", "n\udc00te": 1}',
        rb'{"dimension": "dim_symbol", "symbol": "AAPL", "note": [{"\ud83d\ude00": "\ud83d"}]}',
        rb'{"dimension": "dim_symbol", "symbol": "AAPL", "note": "\ud83d\ude00 \\ud800"}',
        b"\xef\xbb\xbf" + symbol,
        b"[1]",
        symbol + b"{}",
        b"{}",
        said("dim_moon"),
    ) == [
        ["tombstone"], ["oversized_record"], ["oversized_record"], ["schema_registry_framing"],
        ["schema_registry_framing"], ["invalid_encoding"], ["invalid_encoding"], ["invalid_encoding"],
        ["invalid_encoding"], [], [], ["malformed_json"], ["malformed_json"], ["missing_dimension"],
        ["invalid_dimension"],
    ]  # fmt: skip


def test_names_fold_and_values_are_what_the_record_writes(spark: SparkSession) -> None:
    log = log_of(
        spark,
        [
            b'{"Dimension": "dim_symbol", "SYMBOL": "brk.b", "Company Name": 1.50, "market-cap_Category": "MEGA",'
            b' "ipo date": "1980-12-12", "Effective-Date": "2025-06-01", "Desk Name": [1.50, true], "sector": null}',
            said("dim_account", account_id="A1", current_tier="GOLD", CurrentStatus="ACTIVE", **{"Account ID": "A2"}),
        ],
    )
    first, second = (row["attributes"] for row in log.orderBy("_kafka_offset").collect())
    assert first == {
        "dimension": "dim_symbol", "symbol": "brk.b", "company_name": "1.50", "market_cap_category": "MEGA",
        "ipo_date": "1980-12-12", "effective_date": "2025-06-01", "desk name": "[1.5,true]", "sector": None,
    }  # fmt: skip
    assert second == {"dimension": "dim_account", "account_id": "A2", "tier": "GOLD", "status": "ACTIVE"}
    (change,) = changes(log.where("dimension = 'dim_symbol'"), DIMENSIONS["dim_symbol"]).collect()
    assert (change["symbol"], change["company_name"], change["sector"], change["effective_date"]) == (
        "BRK.B", "1.50", None, date(2025, 6, 1),
    )  # fmt: skip
    assert (change["_states_sector"], change["_states_industry"]) == (True, False)


def test_flags_dates_and_numbers_take_what_pandas_writes_and_nothing_else(spark: SparkSession) -> None:
    def trader(**fields: Any) -> bytes:
        return said("dim_trader", trader_id="T1", **fields)

    true = [trader(is_deleted=value) for value in ("1", "1.0", "true", "T", "YES", "y", True, 1, 1.0)]
    no: tuple[Any, ...] = ("0", "0.0", "False", "f", "no", "N", "", "NaN", None, False, 0)
    false = [trader(is_deleted=value) for value in no]
    missing = [trader(effective_date=value, sequence=value, registration_date=value) for value in ("NaT", "nan", " ")]
    no_flags: tuple[Any, ...] = ("2", "on", "ye\u017f", "1e0", [])
    wrong = [trader(is_deleted=value) for value in no_flags]
    log = log_of(spark, [*true, *false, *missing, *wrong, trader(effective_date="2026-01-05 00:00:00", sequence="2.0")])
    assert [
        row["_reasons"]
        for row in reference_log.judged(log, DIMENSIONS.values(), MOST)
        .orderBy("_kafka_offset")
        .select("_reasons")
        .collect()
    ] == [*[[]] * 23, *[["invalid_is_deleted"]] * 5, []]
    rows = changes(log, DIMENSIONS["dim_trader"]).orderBy("_place").collect()
    assert [row["is_deleted"] for row in rows] == [*[True] * 9, *[False] * 15]
    assert {(row["effective_date"], row["sequence"]) for row in rows[:-1]} == {(date(2025, 6, 2), None)}
    assert (rows[-1]["effective_date"], rows[-1]["sequence"]) == (date(2026, 1, 5), 2)


def test_a_text_is_no_boolean_array_or_object_and_a_code_has_ascii_letters_only(spark: SparkSession) -> None:
    assert reasons(
        spark,
        said("dim_symbol", symbol=True, sector=["Tech"], industry={"a": 1}),
        said("dim_symbol", symbol="\u0131BM"),
        said("dim_symbol", symbol="T\ufb01"),
        said("dim_symbol", symbol="ABCDEFGHIJKLMNOP"),
        said("dim_symbol", symbol="brk-b", sector="true", industry="[1]", company_name=7),
        said("dim_exchange", exchange_code="BÖRSE"),
        said("dim_exchange", exchange_code="N\u0000Y"),
        said("dim_exchange", exchange_code="lse 2"),
        said("dim_trader", trader_id="\u0131ß"),
        said("dim_symbol", ipo_date="soon", symbol=" "),
    ) == [
        ["invalid_industry", "invalid_sector", "invalid_symbol"], ["invalid_symbol"], ["invalid_symbol"],
        ["invalid_symbol"], [], ["invalid_exchange_code"], ["invalid_exchange_code"], [], [],
        ["invalid_ipo_date", "missing_symbol"],
    ]  # fmt: skip


def test_the_fields_of_an_exchange_have_rules_and_those_it_lacks_are_not_judged(spark: SparkSession) -> None:
    def exchange(**fields: Any) -> bytes:
        return said("dim_exchange", exchange_code="X", **fields)

    def hours(opens: str | None, closes: str | None) -> bytes:
        return exchange(market_open_time=opens, market_close_time=closes)

    opening, closing = "invalid_market_open_time", "invalid_market_close_time"
    assert reasons(
        spark,
        hours("09:30", "16:00:00"), hours("00:00", "24:00:00"), hours("17:00", "16:00"), hours("09:30", None),
        hours("9:30 AM", "4:00 PM"), hours("9:30", "25:00"), hours("09:30", "09:30:00"), hours("24:00", "16:00"),
        hours("24:00", "24:00:00"), hours("24:01", "16:60"),
        exchange(timezone="America/New_York"), exchange(timezone="UTC"), exchange(timezone="EST/EDT"),
        exchange(timezone="america/new_york"), exchange(timezone="localtime"),
        exchange(mic="xnys"), exchange(mic="24/7"), exchange(mic="us_futures"), exchange(mic="IEXG"),
        exchange(mic="XNSE"), exchange(mic="XXXX"), exchange(exchange_name="only a name"),
    ) == [
        [], [], [], [],
        [closing, opening], [closing, opening], [closing, opening], [opening],
        [closing, opening], [closing, opening],
        [], [], ["invalid_timezone"], ["invalid_timezone"], ["invalid_timezone"],
        [], [], [], [], [], ["invalid_mic"], [],
    ]  # fmt: skip


def test_a_trade_settles_up_to_thirty_days_after_it_however_the_number_is_written(spark: SparkSession) -> None:
    def record(days: Any) -> bytes:
        return said("dim_exchange", exchange_code="X", settlement_days=days)

    assert reasons(spark, *map(record, (0, 1, "2", "2.0", "+3", "1e1", 30, "nan", "", None))) == [[]] * 10
    assert reasons(spark, *map(record, (31, -1, 1.5, "T+2", True, [2]))) == [["invalid_settlement_days"]] * 6


# When an exchange trades


def exchange(**fields: str) -> dict[str, str | None]:
    names = ("exchange_code", "mic", "timezone", "market_open_time", "market_close_time")
    return dict.fromkeys(names) | {"exchange_code": "X"} | fields


GLOBEX = exchange(timezone="America/Chicago", market_open_time="17:00", market_close_time="16:00")


def sessions_of(spark: SparkSession, listed: dict[str, str | None], instants: list[datetime]) -> list[str]:
    first, last = min(instants).date(), max(instants).date()
    hours = frames.of_rows(spark, market_hours.hours([listed], first, last), market_hours.HOURS)
    trades = frames.of_rows(
        spark, [("X", at.date(), at) for at in instants], "exchange string, trade_date date, trade_timestamp timestamp"
    )
    found = {
        row[0]: row[1]
        for row in market_hours.with_session(trades, hours).select("trade_timestamp", "market_session").collect()
    }
    return [found[at.replace(tzinfo=None)] for at in instants]


def utc(*texts: str) -> list[datetime]:
    return [datetime.fromisoformat(f"2026-{text}:00+00:00") for text in texts]


def test_a_session_over_midnight_belongs_to_the_weekday_of_its_close(spark: SparkSession) -> None:
    """Chicago, in winter six hours behind: its week begins on Sunday at 17:00 and ends on Friday at 16:00."""
    asked = {
        "01-04T22:59": "CLOSED", "01-04T23:00": "REGULAR", "01-05T05:59": "REGULAR", "01-05T21:59": "REGULAR",
        "01-05T22:00": "AFTER_HOURS", "01-05T22:59": "AFTER_HOURS", "01-05T23:00": "REGULAR",
        "01-09T21:59": "REGULAR", "01-09T22:00": "AFTER_HOURS", "01-10T05:59": "AFTER_HOURS", "01-10T06:00": "CLOSED",
        "01-10T23:00": "CLOSED",
    }  # fmt: skip
    assert sessions_of(spark, GLOBEX, utc(*asked)) == list(asked.values())


def test_a_session_that_opens_on_the_morning_before_is_found_though_no_later_day_is_asked_for(
    spark: SparkSession,
) -> None:
    """Osaka, nine hours ahead: its Thursday opens on Wednesday at 08:45, on the evening of Tuesday in UTC."""
    osaka = exchange(timezone="Asia/Tokyo", market_open_time="08:45", market_close_time="06:00")
    asked = {"01-06T20:59": "REGULAR", "01-06T21:00": "AFTER_HOURS", "01-06T23:44": "AFTER_HOURS"}
    asked |= {"01-06T23:45": "REGULAR", "01-06T23:59": "REGULAR"}
    assert sessions_of(spark, osaka, utc(*asked)) == list(asked.values())


def test_hours_follow_the_local_clock_over_a_clock_change(spark: SparkSession) -> None:
    """Chicago's clocks go forward on 8 March 2026: 17:00 on Sunday is 22:00 UTC then, where it was 23:00."""
    asked = {"03-08T21:59": "CLOSED", "03-08T22:00": "REGULAR", "03-09T20:59": "REGULAR", "03-09T21:00": "AFTER_HOURS"}
    assert sessions_of(spark, GLOBEX, utc(*asked)) == list(asked.values())


@pytest.mark.parametrize(
    "listed",
    [
        exchange(timezone="UTC", market_open_time="00:00", market_close_time="24:00"),
        exchange(timezone="America/New_York", market_open_time="00:00:00", market_close_time="24:00:00"),
        exchange(timezone="America/New_York"),
        exchange(market_open_time="09:30", market_close_time="16:00"),
        exchange(timezone="America/New_York", market_open_time="09:30"),
        exchange(timezone="America/New_York", market_open_time="09:30", market_close_time="09:30:00"),
        exchange(mic="24/7", timezone="UTC"),
        exchange(timezone="EST/EDT", market_open_time="9:30 AM", market_close_time="4:00 PM"),  # of older rules
    ],
    ids=["all day", "all day in New York", "no hours", "no time zone", "no close", "equal", "by calendar", "broken"],
)  # fmt: skip
def test_an_exchange_that_never_closes_or_says_too_little_is_regular_at_any_time(listed: dict[str, str | None]) -> None:
    rows = sorted({row[2:] for row in market_hours.hours([listed], date(2026, 1, 2), date(2026, 1, 6))})
    assert all((begins, ends) == (opens, closes) for begins, ends, opens, closes in rows)
    assert all(one[1] == two[0] for one, two in pairwise(rows))
    assert rows[0][0] <= datetime(2026, 1, 2, tzinfo=UTC)
    assert rows[-1][1] >= datetime(2026, 1, 7, tzinfo=UTC)


def test_a_mic_comes_before_hours_and_its_calendar_knows_the_holidays(spark: SparkSession) -> None:
    asked = {
        "01-01T16:00": "CLOSED", "01-02T14:29": "PRE_MARKET", "01-02T14:30": "REGULAR", "01-02T20:59": "REGULAR",
        "01-02T21:00": "AFTER_HOURS", "01-03T16:00": "CLOSED",
    }  # fmt: skip
    for mic in ("XNYS", "xnys"):
        listed = exchange(mic=mic, timezone="America/New_York", market_open_time="00:00", market_close_time="24:00")
        assert sessions_of(spark, listed, utc(*asked)) == list(asked.values())
    mumbai = exchange(mic="XNSE", timezone="Asia/Kolkata")  # Republic Day, and the day after it
    assert sessions_of(spark, mumbai, utc("01-26T05:00", "01-27T05:00")) == ["CLOSED", "REGULAR"]


def test_a_close_of_midnight_is_the_day_after_as_24_00_is_not(spark: SparkSession) -> None:
    """From 17:00 to 00:00: the close is of the day after, so that Monday's session is that of Sunday evening."""
    midnight = exchange(timezone="UTC", market_open_time="17:00", market_close_time="00:00")
    late = exchange(timezone="UTC", market_open_time="17:00", market_close_time="24:00")
    asked = utc("01-04T18:00", "01-05T10:00", "01-05T18:00", "01-09T18:00", "01-10T10:00")
    assert sessions_of(spark, midnight, asked) == ["REGULAR", "AFTER_HOURS", "REGULAR", "AFTER_HOURS", "CLOSED"]
    assert sessions_of(spark, late, asked) == ["CLOSED", "PRE_MARKET", "REGULAR", "REGULAR", "CLOSED"]


def test_sessions_by_hours_are_those_of_the_reference_hour_by_hour(spark: SparkSession) -> None:
    """Two weeks, with a change of clocks in them, at every half hour."""
    instants = [datetime(2026, 3, 1, 0, 15, tzinfo=UTC) + timedelta(minutes=30 * n) for n in range(14 * 48)]
    for opens, closes in (
        ("09:30", "16:00"),
        ("17:00", "16:00"),
        ("22:00", "04:00:30"),
        ("00:00", "24:00"),
        ("08:00", "24:00"),
    ):
        listed = exchange(timezone="America/Chicago", market_open_time=opens, market_close_time=closes)
        assert sessions_of(spark, listed, instants) == [dim_oracle.session(listed, at) for at in instants]


def test_every_exchange_of_the_reference_file_is_good(spark: SparkSession) -> None:

    with (conf_dir() / "reference" / "exchanges.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert reasons(spark, *(said("dim_exchange", **line) for line in lines)) == [[]] * len(lines)
