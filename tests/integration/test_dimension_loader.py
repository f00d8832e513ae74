"""Reference files and topics → change log → dimensions, on real tables that all tests here share."""

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from threading import Barrier
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import strategies as st
from pyarrow import parquet
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse_spark.bronze import raw_reference
from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.ingest.reference_files.looking import look
from lakehouse_spark.ingest.reference_files.paths import Hadoop, behind
from lakehouse_spark.jobs import dimension_loader, rejected
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.lake import change_log, commit, dead_letters, dimension_members, frames, surrogate_keys
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.migrations.baseline import seed_exchanges
from lakehouse_spark.settings import conf_dir
from tests.support import dim_oracle, histories
from tests.support.dim_oracle import SYMBOL, ChangeEvent
from tests.support.lake import Lake, refusing
from tests.support.scd_changes import OPEN, drawn, june

TABLES = (
    "bronze.raw_reference", "silver._rejected_records", "dim.dim_exchange", "dim.dim_symbol", "dim.dim_trader",
    "dim.dim_account", "_metadata.surrogate_keys", "_metadata.retired_keys",
)  # fmt: skip
BEGINNING = date(1900, 1, 1)


@pytest.fixture(scope="module")
def lake(spark: SparkSession, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """One lakehouse for the module: each test has keys of its own."""
    made = Lake.new(spark, broker.bootstrap_servers, tmp_path_factory.mktemp("dimensions") / "home", TABLES)
    seed_exchanges(made.spark, conf_dir())
    return made


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def load(lake: Lake, dimension: str, *sources: Path) -> dict[str, int]:
    (summary,) = dimension_loader.run(lake.spark, [dimension], [str(source) for source in sources])
    return summary.counts


def counts(records: int, rejected: int = 0, inserted: int = 0, updated: int = 0, deleted: int = 0) -> dict[str, int]:
    return {
        "records": records, "rejected": rejected, "inserted": inserted, "updated": updated, "deleted": deleted
    }  # fmt: skip


def found(lake: Lake, dimension: str, prefix: str, *columns: str) -> list[tuple[Any, ...]]:
    """These columns of the rows whose natural key starts with the prefix, by natural key and date."""
    declared = DIMENSIONS[dimension]
    rows = lake.spark.table(declared.table.identifier).where(f"startswith({declared.natural_key}, '{prefix}')")
    return [tuple(row) for row in rows.orderBy(*declared.table.key).select(*columns).collect()]


def symbols(lake: Lake, prefix: str) -> list[tuple[Any, ...]]:
    return found(lake, "dim_symbol", prefix, "symbol", "sector", "effective_date", "expiry_date", "is_current")


def keys(lake: Lake, prefix: str) -> dict[tuple[str, date], int]:
    return {
        (row[0], row[1]): row[2] for row in found(lake, "dim_symbol", prefix, "symbol", "effective_date", "symbol_key")
    }


def snapshots(lake: Lake) -> list[int]:
    return [lake.snapshots(table) for table in TABLES]


# What users wrote first, with the dates the seed leaves to the load

HEADER = "symbol,company_name,sector,industry,market_cap_category,listing_exchange,effective_date"
FIRST = (
    "S-NEWCO,New Company Inc,Technology,Software,SMALL,NASDAQ,2025-06-01",
    "S-AAPL,Apple Inc,Technology,Consumer Electronics,MEGA,NASDAQ,2025-06-01",
    "S-MSFT,Microsoft Corp,Technology,Software,MEGA,NASDAQ,2025-06-01",
    "S-GOOG,Alphabet Inc,Communication Services,Internet,MEGA,NASDAQ,2025-06-01",
)
SECOND = (
    "S-AAPL,Apple Inc,Consumer Discretionary,Consumer Electronics,MEGA,NASDAQ,2025-06-10",
    "S-MSFT,Microsoft Corp,Technology,Software,MEGA,NASDAQ,2025-06-10",
    "S-GOOG,Alphabet Inc,Technology,Internet,MEGA,NASDAQ,2025-06-10",
)


def test_a_second_load_expires_what_changed_and_a_third_of_the_same_file_writes_nothing(
    lake: Lake, tmp_path: Path
) -> None:
    first, second = write(tmp_path, "1.csv", HEADER, *FIRST), write(tmp_path, "2.csv", HEADER, *SECOND)
    assert load(lake, "dim_symbol", first) == counts(4, inserted=4)
    issued = keys(lake, "S-")
    assert load(lake, "dim_symbol", second) == counts(3, inserted=2, updated=2)
    assert symbols(lake, "S-") == [
        ("S-AAPL", "Technology", june(1), june(9), False),
        ("S-AAPL", "Consumer Discretionary", june(10), OPEN, True),
        ("S-GOOG", "Communication Services", june(1), june(9), False),
        ("S-GOOG", "Technology", june(10), OPEN, True),
        ("S-MSFT", "Technology", june(1), OPEN, True),
        ("S-NEWCO", "Technology", june(1), OPEN, True),
    ]
    reissued = keys(lake, "S-")
    assert issued.items() <= reissued.items()
    assert len(set(reissued.values())) == 6
    before = snapshots(lake)
    assert load(lake, "dim_symbol", first, second) == {}
    assert load(lake, "dim_symbol") == {}
    assert snapshots(lake) == before


# Files


def test_every_format_loads_and_unknown_columns_stay_in_the_log(lake: Lake, tmp_path: Path) -> None:
    header = "\ufeff Symbol ,company_name,IPO_DATE,Effective_Date,desk,desk.`lead`"
    csv = write(tmp_path, "a.csv", header, 'F-CSV,"Big, ""old"" Inc",1980-12-12,2025-06-01,FX,"Ann\nLee"')
    gz = tmp_path / "b.csv.gz"
    gz.write_bytes(gzip.compress(b"symbol,company_name,ipo_date,effective_date,desk\nF-GZ,a|b,,2025-06-01,FX\n"))
    lines = write(
        tmp_path, "c.jsonl",
        '{"symbol": " f-json ", "company_name": "Älß", "desk": 7,'
        ' "ipo_date": "1980-12-12", "effective_date": "2025-06-01"}',
        "",
    )  # fmt: skip
    rows = pa.table(
        {
            "symbol": ["F-PARQUET"], "company_name": [""], "ipo_date": [date(1980, 12, 12)],
            "effective_date": [datetime(2025, 6, 1)], "is_deleted": [False], "sequence": [3],
            "desk": [["FX", "IR"]], "a.b": ["c"],
        }
    )  # fmt: skip
    parquet.write_table(rows, tmp_path / "d.parquet")
    assert load(lake, "dim_symbol", csv, gz, lines, tmp_path / "d.parquet") == counts(4, inserted=4)
    assert found(lake, "dim_symbol", "F-", "symbol", "company_name", "ipo_date", "effective_date") == [
        ("F-CSV", 'Big, "old" Inc', date(1980, 12, 12), june(1)),
        ("F-GZ", "a|b", None, june(1)),
        ("F-JSON", "Älß", date(1980, 12, 12), june(1)),
        ("F-PARQUET", None, date(1980, 12, 12), june(1)),
    ]
    log = lake.spark.table("lake.bronze.raw_reference").where("startswith(natural_key, 'F-')").orderBy("natural_key")
    assert [
        (row["attributes"]["desk"], row["attributes"].get("desk.`lead`"), row["sequence"], row["_source_row"])
        for row in log.collect()
    ] == [("FX", "Ann\nLee", None, 1), ("FX", None, None, 1), ("7", None, None, 1), ('["FX","IR"]', None, 3, 1)]


def test_a_record_without_a_date_is_of_the_day_it_was_loaded(lake: Lake, tmp_path: Path) -> None:
    days = [datetime.now(UTC).date()]
    assert load(lake, "dim_trader", write(tmp_path, "t.csv", "trader_id,name", "U-1,Ann")) == counts(1, inserted=1)
    days.append(datetime.now(UTC).date())  # it may be midnight
    ((effective, expiry, key),) = found(lake, "dim_trader", "U-", "effective_date", "expiry_date", "trader_key")
    assert effective in days
    assert expiry == OPEN
    assert key >= 200_000


def test_bad_records_are_refused_with_every_reason_and_the_good_ones_load(lake: Lake, tmp_path: Path) -> None:
    csv = write(
        tmp_path, "bad.csv",
        "symbol,sector,ipo_date,effective_date,sequence,is_deleted",
        "R-1,Tech,1980-12-12,2025-06-01,1,false",
        ",Tech,,2025-06-01,,",
        "R-2,Tech,,2025-02-30,,",
        "R-3,Tech,soon,2025-06-01,,",
        "R-4,Tech,,2025-06-01,first,",
        "R-5,Tech,,2025-06-01,,maybe",
        "R-6,Tech",
        "R-7,Tech,,2025-06-01,1,no,more",
        '"  ",Tech,never,yesterday,1.5,',
        "R-10,Last,,2025-06-01,1e2,",
        "R-10,First,,2025-06-01,+99.0,",
    )  # fmt: skip
    lines = write(
        tmp_path, "bad.jsonl",
        '{"symbol": "R-8", "effective_date": "2025-06-01"}', '{"symbol": "R-9"', '["R-9"]', '{"symbol": "R-9"} {}',
        '{"sector": "Tech"}', "{'symbol': 'R-9'}", '{"symbol": "R-9"}] and more',
        '{"symbol": "R-9", "effective_date": "0000-01-01"}',
    )  # fmt: skip
    assert load(lake, "dim_symbol", csv, lines) == counts(19, rejected=15, inserted=3)
    assert [row[:2] for row in symbols(lake, "R-")] == [("R-1", "Tech"), ("R-10", "Last"), ("R-8", None)]
    letters = lake.spark.table("lake.silver._rejected_records").where("source_table = 'bronze.raw_reference'")
    mine = letters.where(f"contains(_kafka_topic, '{tmp_path}')").orderBy("_kafka_topic", "_kafka_offset").collect()
    assert [(row["_kafka_offset"], row["reasons"]) for row in mine] == [
        (2, ["missing_symbol"]),
        (3, ["invalid_effective_date"]),
        (4, ["invalid_ipo_date"]),
        (5, ["invalid_sequence"]),
        (6, ["invalid_is_deleted"]),
        (7, ["malformed_record"]),
        (8, ["malformed_record"]),
        (9, ["invalid_effective_date", "invalid_ipo_date", "invalid_sequence", "missing_symbol"]),
        (2, ["malformed_record"]),
        (3, ["malformed_record"]),
        (4, ["malformed_record"]),
        (5, ["missing_symbol"]),
        (6, ["malformed_record"]),
        (7, ["malformed_record"]),
        (8, ["invalid_effective_date"]),
    ]
    assert {(row["status"], row["attempts"]) for row in mine} == {("OPEN", 1)}
    assert (mine[5]["raw_payload"], mine[8]["raw_payload"]) == ("R-6,Tech", '{"symbol": "R-9"')


def test_a_record_that_an_older_rule_refused_is_derived_by_a_replay(lake: Lake, tmp_path: Path) -> None:
    csv = write(
        tmp_path, "strict.csv", "symbol,sector,effective_date", "Y-1,Tech,2025-06-01", "Y-1,New,2025-06-09",
        "Y-2,New,2025-06-01", "Y-3,New,2025-13-01",
    )  # fmt: skip

    with refusing("sector", "New", "invalid_sector"):
        assert load(lake, "dim_symbol", csv) == counts(4, rejected=3, inserted=1)
    key = keys(lake, "Y-")[("Y-1", date(2025, 6, 1))]

    def replay() -> dict[str, int]:
        selection = Selection(table="raw_reference", reason="invalid_sector")
        done = rejected.replay(lake.spark, lake.settings, selection)
        (told,) = done
        assert str(told).startswith(
            f"rejected replay: bronze.raw_reference: {'3 records' if told.counts else 'nothing new'}"
        )
        return told.counts

    def fates() -> list[tuple[Any, ...]]:
        letters = lake.spark.table("lake.silver._rejected_records").where(f"contains(_kafka_topic, '{csv}')")
        rows = letters.orderBy("_kafka_offset").select("status", "attempts", "reasons", "resolution")
        return [tuple(row) for row in rows.collect()]

    assert replay() == {"records": 3, "replayed": 2, "rejected again": 1}
    assert symbols(lake, "Y-") == [
        ("Y-1", "Tech", date(2025, 6, 1), date(2025, 6, 8), False),
        ("Y-1", "New", date(2025, 6, 9), date(9999, 12, 31), True),
        ("Y-2", "New", date(2025, 6, 1), date(9999, 12, 31), True),
    ]
    assert keys(lake, "Y-")[("Y-1", date(2025, 6, 1))] == key
    assert fates() == [
        ("REPLAYED", 2, ["invalid_sector"], "derived"),
        ("REPLAYED", 2, ["invalid_sector"], "derived"),
        ("OPEN", 2, ["invalid_effective_date"], None),
    ]
    before = snapshots(lake)
    assert replay() == {}
    assert snapshots(lake) == before


def test_a_rebuild_accepts_what_an_older_rule_refused_and_a_second_one_writes_nothing(
    lake: Lake, tmp_path: Path
) -> None:
    csv = write(tmp_path, "older.csv", "symbol,sector,effective_date", "Q-1,Tech,2025-06-01", "Q-2,New,2025-06-01")
    with refusing("sector", "New", "invalid_sector"):
        load(lake, "dim_symbol", csv)
    (done,) = dimension_loader.run(lake.spark, ["dim_symbol"], rebuild=True)
    assert done.notes == ("derived whole: 1 rows changed, 0 records refused now, 1 accepted now",)
    assert symbols(lake, "Q-") == [("Q-1", "Tech", june(1), OPEN, True), ("Q-2", "New", june(1), OPEN, True)]
    letters = lake.spark.table("lake.silver._rejected_records").where(f"contains(_kafka_topic, '{csv}')")
    assert [(row["status"], row["resolution"]) for row in letters.collect()] == [("REPLAYED", "derived")]
    before = snapshots(lake)
    (done,) = dimension_loader.run(lake.spark, ["dim_symbol"], rebuild=True)
    assert done.notes == ("derived whole: 0 rows changed, 0 records refused now, 0 accepted now",)
    assert snapshots(lake) == before


def test_a_load_that_dies_while_it_brings_up_what_older_rules_made_leaves_no_letter_open(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv = write(tmp_path, "dies.csv", "symbol,sector,effective_date", "DIE-1,New,2025-06-01")
    with refusing("sector", "New", "invalid_sector"):
        load(lake, "dim_symbol", csv)
    commit.outdate(lake.spark, DIMENSIONS["dim_symbol"].table)
    with monkeypatch.context() as patch:
        patch.setattr(dead_letters, "close", lambda *given, **named: 1 / 0)  # beside the commit of the members
        with pytest.raises(ZeroDivisionError):
            dimension_loader.run(lake.spark, ["dim_symbol"])
    dimension_loader.run(lake.spark, ["dim_symbol"])
    assert symbols(lake, "DIE-") == [("DIE-1", "New", june(1), OPEN, True)]
    letters = lake.spark.table("lake.silver._rejected_records").where(f"contains(_kafka_topic, '{csv}')")
    assert [(row["status"], row["resolution"]) for row in letters.collect()] == [("REPLAYED", "derived")]


FLAGS = """symbol,company_name,effective_date,is_deleted
FLG1,Flag one,2026-02-02,1.0
FLG2,Flag two,2026-02-02,0.0
FLG3,Flag 3,2026-02-02,True
FLG4,Flag 4,2026-02-02,
FLG5,F5,2026-02-02,NaN
"""


def test_flags_are_what_pandas_writes_and_a_delete_that_was_refused_stays_a_delete(lake: Lake, tmp_path: Path) -> None:
    path = tmp_path / "flags.csv"
    path.write_text(FLAGS)
    with refusing("is_deleted", "1.0", "invalid_is_deleted"), pytest.MonkeyPatch.context() as older:
        older.setattr(
            raw_reference, "flag", lambda written: F.lit(False)
        )  # what landing made of a flag it did not know
        assert load(lake, "dim_symbol", path) == counts(5, rejected=1, inserted=3)
    dimension_loader.run(lake.spark, ["dim_symbol"], rebuild=True)
    assert [row[0] for row in symbols(lake, "FLG")] == ["FLG2", "FLG4", "FLG5"]


def test_a_file_that_cannot_be_loaded_is_one_sentence_and_writes_nothing(lake: Lake, tmp_path: Path) -> None:
    before = snapshots(lake)
    refusals = [
        (tmp_path / "missing.csv", UsageError, r"missing\.csv: no such file or folder"),
        (write(tmp_path, "a.xlsx", "symbol"), UsageError, r"a\.xlsx: the extension tells the format: expected one of"),
        (write(tmp_path, "b.csv", "sybmol,sector", "A,T"), UsageError, r"column 'symbol' .*; did you mean 'sybmol'\?"),
        (write(tmp_path, "c.csv", "name", "A"), UsageError, r"expected a column 'symbol' for dim_symbol; it has name"),
        (write(tmp_path, "d.csv", "symbol,sector,sector", "A,T,U"), UsageError, r"twice: 'sector' and 'sector' are"),
        (write(tmp_path, "e.csv", "symbol,Symbol ", "A,B"), UsageError, r"twice: 'symbol' and 'Symbol ' are one name"),
        (write(tmp_path, "f.csv"), UsageError, r"f\.csv: holds nothing, not even a header"),
        (write(tmp_path, "g.parquet", "PAR"), LakehouseError, r"g\.parquet: cannot be read as the parquet"),
        (write(tmp_path, "h.csv.gz", "symbol", "A"), LakehouseError, r"h\.csv\.gz: cannot be read as the csv"),
        (write(tmp_path, "i.jsonl.gz", '{"symbol": "A"}'), LakehouseError, r"i\.jsonl\.gz: cannot be read as the json"),
    ]  # fmt: skip
    for path, error, sentence in refusals:
        with pytest.raises(error, match=sentence) as refused:
            load(lake, "dim_symbol", path)
        assert "\n" not in str(refused.value)
    assert load(lake, "dim_symbol", write(tmp_path, "nothing.csv", "symbol,sector")) == {}
    with pytest.raises(UsageError, match="no such dimension dim_sybmol"):
        dimension_loader.run(lake.spark, ["dim_sybmol"])
    with pytest.raises(UsageError, match="--source needs one --dimension"):
        dimension_loader.run(lake.spark, [], ["a.csv"])
    with pytest.raises(UsageError, match="name them by --source"):
        dimension_loader.run(lake.spark, ["dim_symbol"], again=True)
    assert snapshots(lake) == before


# Files as users have them


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def told(lake: Lake, dimension: str, *sources: Path, **options: Any) -> Summary:
    (summary,) = dimension_loader.run(lake.spark, [dimension], [str(source) for source in sources], **options)
    return summary


def letters(lake: Lake, prefix: Path) -> list[tuple[Any, ...]]:
    """File, row, reasons, text and exact bytes of the refused records of the files below a folder."""
    rows = lake.spark.table("lake.silver._rejected_records").where(f"contains(_kafka_topic, '{prefix}')")
    columns = ("_kafka_topic", "_kafka_offset", "reasons", "raw_payload", "_raw_bytes")
    found = rows.orderBy("_kafka_topic", "_kafka_offset").select(*columns).collect()
    return [(row[0].rpartition("/")[2], *row[1:4], row[4] and bytes(row[4])) for row in found]


def test_files_of_symbols_as_excel_pandas_and_exports_write_them_load_as_meant(lake: Lake, tmp_path: Path) -> None:
    header = b"symbol,company_name,sector,effective_date\n"
    excel = header + b"X-MC,LVMH Mo\xebt,Luxe,2026-01-05\nX-SIE,Siemens,Industrie,2026-01-05\n"
    put(tmp_path, "a/cp1252.csv", excel + b'X-OR,"L\x92Or\xe9al,\r\nParis",Luxe,2026-01-05\n')
    put(tmp_path, "a/cp1252.jsonl", b'{"symbol":"X-ML","company_name":"Clermont-Ferrand \xe9"}\n')
    put(tmp_path, "a/line.json", b'[{"symbol": "X-JB0", "sector": "Tech"}, {"symbol": "X-JB1", "sector": "T\\ud800"}]')
    put(tmp_path, "a/pretty.json", b'[\n  {\n    "symbol": "X-JA0",\n    "sector": "Tech"\n  },\n  3\n]')
    put(tmp_path, "a/spaced.csv", b"Symbol,Company Name,Listing Exchange,Effective Date\nX-HDR,One,NASDAQ,2026-02-02\n")
    put(tmp_path, "a/symbols[1].csv", header + b"X-FBRAK,Brackets,,2026-01-05\n")
    put(tmp_path, "a/symbols {eu}.CSV.GZ", gzip.compress(header + b"X-FCURL,Braces,,2026-01-05\n"))
    put(tmp_path, "a/12:30.csv", header + b"X-FCOLON,Colon,,2026-01-05\n")
    put(tmp_path, "a/notes.txt", b"hi\n")
    moments = pa.array([1_772_409_600_000_000_000], pa.timestamp("ns"))
    exported = pa.array([1_793_527_200_123_456_789], pa.timestamp("ns"))
    nanos = pa.table({"symbol": ["X-NANO"], "effective_date": moments, "exported_at": exported})
    parquet.write_table(nanos, tmp_path / "a" / "pandas.parquet")

    summary = told(lake, "dim_symbol", tmp_path / "a")

    assert summary.counts == counts(13, rejected=5, inserted=8)
    assert found(lake, "dim_symbol", "X-", "symbol", "company_name", "sector", "listing_exchange") == [
        ("X-FBRAK", "Brackets", None, None),
        ("X-FCOLON", "Colon", None, None),
        ("X-FCURL", "Braces", None, None),
        ("X-HDR", "One", None, "NASDAQ"),
        ("X-JA0", None, "Tech", None),
        ("X-JB0", None, "Tech", None),
        ("X-NANO", None, None, None),
        ("X-SIE", "Siemens", "Industrie", None),
    ]
    dates = dict(found(lake, "dim_symbol", "X-", "symbol", "effective_date"))
    assert (dates["X-NANO"], dates["X-HDR"]) == (date(2026, 3, 2), date(2026, 2, 2))
    bad = ["invalid_encoding"]
    moet = "X-MC,LVMH Mo{}t,Luxe,2026-01-05"
    oreal = 'X-OR,"L{}Or{}al,\r\nParis",Luxe,2026-01-05'
    line = '{{"symbol":"X-ML","company_name":"Clermont-Ferrand {}"}}'
    half = '{"symbol": "X-JB1", "sector": "T\\ud800"}'
    assert letters(lake, tmp_path) == [
        ("cp1252.csv", 1, bad, moet.format("\ufffd"), moet.format("\xeb").encode("latin-1")),
        ("cp1252.csv", 3, bad, oreal.format("\ufffd", "\ufffd"), oreal.format("\x92", "\xe9").encode("latin-1")),
        ("cp1252.jsonl", 1, bad, line.format("\ufffd"), line.format("\xe9").encode("latin-1")),
        ("line.json", 2, bad, half, half.encode()),
        ("pretty.json", 2, ["malformed_record"], "3", None),
    ]
    today = f"{day_of_load(lake, 'X-JA0'):%Y-%m-%d}"
    undated = f"has no effective dates: its records are of {today}, the day of this load"
    assert summary.notes == (
        f"{tmp_path}/a/notes.txt: skipped, no files to load",
        f"{tmp_path}/a/line.json: {undated}",
        f"{tmp_path}/a/pretty.json: {undated}",
        f"{tmp_path}/a/pandas.parquet: dim_symbol has no column exported_at: kept in the change log alone",
    )


def day_of_load(lake: Lake, symbol: str) -> date:
    ((day,),) = found(lake, "dim_symbol", symbol, "effective_date")
    assert isinstance(day, date)
    assert day in (datetime.now(UTC).date(), datetime.now(UTC).date() - timedelta(1))  # it may be midnight
    return day


def test_files_of_traders_whose_keys_are_not_utf8_make_no_member(lake: Lake, tmp_path: Path) -> None:
    put(tmp_path, "a.csv", b"trader_id,name\nX-JOS\xc9,Jose A\nX-JOS\xc8,Jose B\n")
    assert told(lake, "dim_trader", tmp_path / "a.csv").counts == counts(2, rejected=2)
    assert found(lake, "dim_trader", "X-", "trader_id") == []
    assert [(row[2], row[4]) for row in letters(lake, tmp_path)] == [
        (["invalid_encoding"], b"X-JOS\xc9,Jose A"),
        (["invalid_encoding"], b"X-JOS\xc8,Jose B"),
    ]


def test_a_file_loaded_before_says_so_and_is_stated_again_on_demand(lake: Lake, tmp_path: Path) -> None:
    header = b"trader_id,risk_category,sequence\n"
    monday = put(tmp_path, "mon.csv", header + b"W-1,LOW,\nW-2,LOW,first\n")
    tuesday = put(tmp_path, "tue.csv", header + b"W-1,HIGH,\n")

    def category() -> str:
        ((value, is_current),) = found(lake, "dim_trader", "W-1", "risk_category", "is_current")
        assert is_current
        return str(value)

    told(lake, "dim_trader", monday)
    told(lake, "dim_trader", tuesday)
    log = lake.spark.table("lake.bronze.raw_reference").where(f"source = 'file:{monday}'")
    (stamp,) = {row[0] for row in log.selectExpr("date_format(_ingested_at, 'yyyy-MM-dd HH:mm:ss')").collect()}
    before = snapshots(lake)
    summary = told(lake, "dim_trader", monday)
    assert (summary.counts, summary.notes) == (
        {},
        (
            f"{monday}: was loaded before, at {stamp} UTC, and is not loaded now; to state it again, give --again",
        ),
    )  # fmt: skip
    assert str(summary).splitlines()[0] == "dimension_loader: dim.dim_trader: nothing new"
    assert snapshots(lake) == before
    assert category() == "HIGH"

    again = told(lake, "dim_trader", monday, again=True)
    assert again.counts == counts(2, rejected=1, updated=1)
    assert category() == "LOW"
    refused = lake.spark.table("lake.silver._rejected_records").where(f"contains(_kafka_topic, '{monday}')")
    assert [row["status"] for row in refused.collect()] == ["OPEN", "OPEN"]


def test_a_name_nearly_right_lands_nothing_and_is_ignored_on_demand(lake: Lake, tmp_path: Path) -> None:
    good = put(tmp_path, "a.csv", b"symbol,sector,effective_date\nN-1,Tech,2026-01-01\n")
    typo = put(tmp_path, "typo.csv", b"symbol,compnay_name,sector,effectve_date\nN-2,Three,Tech,2026-02-02\n")
    before = snapshots(lake)
    with pytest.raises(UsageError, match=r"typo\.csv: no such column 'compnay_name', did you mean 'company_name'\?"):
        told(lake, "dim_symbol", good, typo)
    with pytest.raises(UsageError, match=r"notes\.txt: the extension tells the format"):
        told(lake, "dim_symbol", good, put(tmp_path, "notes.txt", b"hi"))
    with pytest.raises(UsageError, match=r"utf16\.csv: is UTF-16; save it as UTF-8"):
        told(lake, "dim_symbol", good, put(tmp_path, "utf16.csv", "symbol,sector\n".encode("utf-16")))
    with pytest.raises(LakehouseError, match=r"cut\.json: cannot be read as one JSON document"):
        told(lake, "dim_symbol", good, put(tmp_path, "cut.json", b'[{"symbol": "N-3"}'))
    assert snapshots(lake) == before

    summary = told(lake, "dim_symbol", good, typo, ignore_unknown=True)
    assert summary.counts == counts(2, inserted=2)
    assert summary.notes[0] == (
        f"{typo}: ignored compnay_name, effectve_date; dim_symbol gets no company_name, industry, market_cap_category, "
        "listing_exchange, ipo_date, effective_date, sequence, is_deleted from it"
    )
    assert len(summary.notes) == 2
    assert summary.notes[1].startswith(f"{typo}: has no effective dates")


def test_accounts_and_exchanges_load_by_the_names_and_types_that_they_come_with(lake: Lake, tmp_path: Path) -> None:
    accounts = b"account_id,trader_id,current_tier,current_status\nX-ACC,TRD-H,GOLD,ACTIVE\n"
    assert told(lake, "dim_account", put(tmp_path, "a.csv", accounts)).counts == counts(1, inserted=1)
    columns = ("account_id", "current_tier", "current_status")
    assert found(lake, "dim_account", "X-", *columns) == [("X-ACC", "GOLD", "ACTIVE")]
    hours = {"market_open_time": pa.array([time(9, 30)]), "market_close_time": pa.array([time(16)], pa.time32("s"))}
    rows = pa.table({"exchange_code": ["X-PQTM"], "timezone": ["UTC"], **hours})
    parquet.write_table(rows, tmp_path / "times.parquet")
    assert told(lake, "dim_exchange", tmp_path / "times.parquet").counts == counts(1, inserted=1)
    columns = ("exchange_code", "market_open_time", "market_close_time")
    assert found(lake, "dim_exchange", "X-", *columns) == [("X-PQTM", "09:30:00", "16:00:00")]


def test_files_behind_a_hadoop_scheme_are_those_of_their_exact_names(lake: Lake, tmp_path: Path) -> None:
    names = ["100%20#a.csv", "12:30.CSV", "a b?.csv", "symbols {eu}.csv", "symbols[1].csv", "ü€.csv"]
    for name in [*names, "symbols1.csv", "notes.txt"]:
        put(tmp_path / "in:ner", name, b"symbol\nH-1\n")
    place, root = Hadoop(lake.spark), f"file:{tmp_path}/in:ner"

    def found_names(path: str) -> list[str]:
        files, _ = behind(path, place, path)
        return [file.path.removeprefix(f"{root}/") for file in files]

    for name in names:
        assert found_names(f"{root}/{name}") == [name]
    assert found_names(f"file:{tmp_path}/in*/s*[[1s]*.csv") == ["symbols {eu}.csv", "symbols1.csv", "symbols[1].csv"]
    files, skipped = behind(root, place, root)
    assert ([file.path for file in files], skipped) == (
        [f"{root}/{name}" for name in sorted([*names, "symbols1.csv"])],
        [f"{root}/notes.txt"],
    )
    plain = [file for file in files if "12:30" not in file.path]  # beside a local file Hadoop looks for a checksum
    copied = [look(file, DIMENSIONS["dim_symbol"], ignore_unknown=False).records.num_rows for file in plain]
    assert copied == [1] * 6
    with pytest.raises(UsageError, match=r"gone\.csv: no such file or folder"):
        behind("gone.csv", place, f"{root}/gone.csv")
    with pytest.raises(UsageError, match=r'foo:/x/y\.csv: cannot be read: .*No FileSystem for scheme "foo"'):
        behind("y.csv", place, "foo:/x/y.csv")


def test_many_files_alike_are_told_in_a_few_lines(lake: Lake, tmp_path: Path) -> None:
    for n in range(6):
        put(tmp_path, f"{n}.csv", f"symbol,desk\nO-{n},FX\n".encode())
    assert told(lake, "dim_symbol", tmp_path).counts == counts(6, inserted=6)
    notes = told(lake, "dim_symbol", tmp_path).notes
    assert [note.rpartition("/")[2].partition(",")[0] for note in notes] == [
        "0.csv: dim_symbol has no column desk: kept in the change log alone",
        "1.csv: dim_symbol has no column desk: kept in the change log alone",
        "2.csv: dim_symbol has no column desk: kept in the change log alone",
        "the same of 3 more files",
        "0.csv: was loaded before",
        "1.csv: was loaded before",
        "2.csv: was loaded before",
        "the same of 3 more files",
    ]


# SCD1 and SCD3


def test_the_exchanges_are_seeded_and_a_change_of_one_keeps_what_its_file_does_not_speak_of(
    lake: Lake, tmp_path: Path
) -> None:
    seeded = {row["exchange_code"]: row for row in lake.rows("dim.dim_exchange")}
    assert {"NYSE", "NASDAQ", "LSE", "XETRA", "TSE", "HKEX"} <= set(seeded)
    assert (seeded["TSE"]["timezone"], seeded["TSE"]["mic"]) == ("Asia/Tokyo", "XTKS")
    renamed = write(tmp_path, "x.csv", "exchange_code,exchange_name,country", "nyse,Big Board,", "N-X,New,DE")
    gone = write(tmp_path, "y.csv", "exchange_code,is_deleted", "LSE,true", "N-Y,true")
    assert load(lake, "dim_exchange", renamed, gone) == counts(4, inserted=1, updated=1)
    now = {row["exchange_code"]: row for row in lake.rows("dim.dim_exchange")}
    assert now["NYSE"]["_updated_at"] > seeded["NYSE"]["_updated_at"]
    expected = {**seeded["NYSE"].asDict(), "exchange_name": "Big Board", "country": None}
    assert now["NYSE"].asDict() == {**expected, "_updated_at": now["NYSE"]["_updated_at"]}
    assert now["N-X"]["exchange_key"] > max(row["exchange_key"] for row in seeded.values())
    assert {code: row for code, row in now.items() if code not in ("NYSE", "N-X")} == {
        code: row for code, row in seeded.items() if code != "NYSE"
    }


def test_an_account_has_its_current_and_previous_values_and_a_delete_keeps_it(lake: Lake, tmp_path: Path) -> None:
    accounts = write(
        tmp_path, "a.csv",
        "account_id,trader_id,tier,status,account_open_date,effective_date,is_deleted",
        "A-1,T1,SILVER,ACTIVE,2020-02-29,2025-06-01,",
        "A-1,T1,GOLD,,2020-02-29,2025-06-09,",
        "A-1,T2,,SUSPENDED,,2025-06-05,",
        "A-2,T1,GOLD,ACTIVE,,2025-06-01,",
        "A-2,,,,,2025-06-02,yes",
        "A-3,,,,,2025-06-02,yes",
    )  # fmt: skip
    assert load(lake, "dim_account", accounts) == counts(6, inserted=2)
    columns = (
        "account_id", "trader_id", "current_tier", "previous_tier", "tier_change_date", "current_status",
        "previous_status", "status_change_date", "account_open_date",
    )  # fmt: skip
    assert found(lake, "dim_account", "A-", *columns) == [
        ("A-1", "T1", "GOLD", "SILVER", june(9), "SUSPENDED", "ACTIVE", june(5), date(2020, 2, 29)),
        ("A-2", "T1", "GOLD", None, None, "ACTIVE", None, None, None),
    ]


# Kafka


def test_a_topic_fills_the_log_beside_the_files(lake: Lake, tmp_path: Path) -> None:
    def said(dimension: str, **fields: Any) -> bytes:
        return json.dumps({"dimension": dimension, "effective_date": "2025-06-01", **fields}).encode()

    lake.create_topics(names=["raw_reference"])
    lake.produce(
        "raw_reference",
        said("dim_trader", trader_id="K-T1", name="Ann", desk="FX"),
        said("dim_account", account_id="K-A1", trader_id="K-T1", tier="GOLD"),
        said("dim_trader", trader_id="K-T1", name="Ann Lee", effective_date="2025-06-05"),
        said("dim_trader", name="nobody"),
    )
    (bronze,) = lake.bronze("raw_reference")
    assert bronze.counts == {"records": 4}
    csv = write(tmp_path, "t.csv", "trader_id,name,effective_date", "K-T2,Bob,2025-06-01")
    (first,) = dimension_loader.run(lake.spark, ["dim_trader"], [str(csv)])
    assert first.counts == {**counts(4, rejected=1, inserted=3), "ignored": 1}
    assert first.notes[-1:] == (
        "dim_trader has no column of these names in records from Kafka, which are ignored: 'desk'",
    )
    lake.produce("raw_reference", said("dim_trader", trader_id="K-T1", effective_date="2025-06-09", is_deleted=True))
    (bronze,) = lake.bronze("raw_reference")
    assert bronze.counts == {"records": 1}
    done = {
        summary.table: summary.counts for summary in dimension_loader.run(lake.spark, ["dim_trader", "dim_account"])
    }
    assert done == {"dim.dim_trader": counts(1, updated=1), "dim.dim_account": counts(1, inserted=1)}
    span = ("trader_id", "name", "effective_date", "expiry_date", "is_current")
    assert found(lake, "dim_trader", "K-", *span) == [
        ("K-T1", "Ann", june(1), june(4), False),
        ("K-T1", "Ann Lee", june(5), june(8), False),
        ("K-T2", "Bob", june(1), OPEN, True),
    ]
    assert found(lake, "dim_account", "K-", "account_id", "current_tier") == [("K-A1", "GOLD")]
    topic = lake.settings.topic("raw_reference")
    log = lake.spark.table("lake.bronze.raw_reference").where(f"source = '{topic}'").orderBy("_kafka_offset").collect()
    assert [row["_kafka_offset"] for row in log] == [0, 1, 2, 3, 4]
    assert log[0]["attributes"]["desk"] == "FX"

    # records of no dimension concern no loader, and are kept as dead letters all the same, once
    lake.produce("raw_reference", b"{bad", None, b'{"symbol": "K-X"}', said("dim_moon", moon_id="K-M"))
    lake.bronze("raw_reference")
    for _ in range(2):
        dimension_loader.run(lake.spark, ["dim_trader"])
    letters = lake.spark.table("lake.silver._rejected_records").where(f"_kafka_topic = '{topic}'")
    assert [(row["_kafka_offset"], row["reasons"]) for row in letters.orderBy("_kafka_offset").collect()] == [
        (3, ["missing_trader_id"]),
        (5, ["malformed_json"]),
        (6, ["tombstone"]),
        (7, ["missing_dimension"]),
        (8, ["invalid_dimension"]),
    ]


# Surrogate keys, and writers at once


def at_once(lake: Lake, *works: Callable[[SparkSession], Any]) -> list[Any]:
    """Runs each work in a thread and a session of its own."""
    barrier = Barrier(len(works))

    def run(work: Callable[[SparkSession], Any]) -> Any:
        own = lake.spark.newSession()
        for name in ("uri", "warehouse"):
            setting = f"spark.sql.catalog.lake.{name}"
            own.conf.set(setting, str(lake.spark.conf.get(setting)))
        own.table("lake._metadata.surrogate_keys")  # a thread's first look at a catalog has to be Spark's own
        barrier.wait(60)
        return work(own)

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(run, works))


def test_ranges_of_keys_that_two_writers_reserve_at_once_never_overlap(lake: Lake) -> None:
    def reserve(count: int) -> Callable[[SparkSession], list[range]]:
        def work(spark: SparkSession) -> list[range]:
            firsts = [surrogate_keys.reserve(spark, DIMENSIONS["dim_account"], count) for _ in range(3)]
            return [range(first, first + count) for first in firsts]

        return work

    ranges = sorted((r for found in at_once(lake, reserve(7), reserve(5)) for r in found), key=lambda r: r.start)
    assert [len(r) for r in ranges].count(7) == 3
    assert all(one.stop <= other.start for one, other in pairwise(ranges))
    assert ranges[0].start >= 300_000
    (last,) = lake.spark.table("lake._metadata.surrogate_keys").where("table_name = 'dim_account'").collect()
    assert last["last_issued_key"] == ranges[-1].stop - 1


def test_two_loaders_at_once_end_in_the_same_dimension_as_one_after_the_other(lake: Lake, tmp_path: Path) -> None:
    header = "symbol,sector,effective_date"
    one = write(tmp_path, "1.csv", header, "C-1,a,2025-06-01", "C-1,c,2025-06-09", "C-2,x,2025-06-01")
    other = write(tmp_path, "2.csv", header, "C-1,b,2025-06-05", "C-3,y,2025-06-01")

    def loading(path: Path) -> Callable[[SparkSession], Any]:
        return lambda spark: dimension_loader.run(spark, ["dim_symbol"], [str(path)])

    at_once(lake, loading(one), loading(other))
    assert symbols(lake, "C-") == [
        ("C-1", "a", june(1), june(4), False),
        ("C-1", "b", june(5), june(8), False),
        ("C-1", "c", june(9), OPEN, True),
        ("C-2", "x", june(1), OPEN, True),
        ("C-3", "y", june(1), OPEN, True),
    ]
    assert len(set(keys(lake, "C-").values())) == 5


def test_a_version_that_late_changes_take_away_and_bring_back_has_its_key_again(lake: Lake, tmp_path: Path) -> None:
    header = "symbol,sector,effective_date"
    first = write(tmp_path, "v1.csv", header, "V-1,Tech,2025-06-01", "V-1,Media,2025-06-10")
    load(lake, "dim_symbol", first)
    issued = keys(lake, "V-")
    assert load(lake, "dim_symbol", write(tmp_path, "v2.csv", header, "V-1,Media,2025-06-05")) == counts(
        1, inserted=1, updated=1, deleted=1
    )
    assert ("V-1", june(10)) not in keys(lake, "V-")
    assert load(lake, "dim_symbol", write(tmp_path, "v3.csv", header, "V-1,Retail,2025-06-07")) == counts(
        1, inserted=2, updated=1
    )
    returned = keys(lake, "V-")
    assert issued.items() <= returned.items()
    assert len(set(returned.values())) == 4
    # gone again, and a third version with it: each is remembered once
    load(lake, "dim_symbol", write(tmp_path, "v4.csv", header, "V-1,Media,2025-06-07"))
    assert keys(lake, "V-").keys() == {("V-1", june(1)), ("V-1", june(5))}
    remembered = lake.spark.table("lake._metadata.retired_keys").where("natural_key = 'V-1'")
    assert [tuple(row)[:4] for row in remembered.orderBy("effective_date").collect()] == [
        ("dim_symbol", returned["V-1", day], "V-1", day) for day in (june(7), june(10))
    ]


# Inferred members


def test_an_inferred_member_is_split_by_the_first_real_change_and_keeps_its_key(lake: Lake, tmp_path: Path) -> None:
    symbol = DIMENSIONS["dim_symbol"]
    wanted = frames.of_rows(
        lake.spark,
        [("I-1", june(5), june(5)), ("I-1", june(20), june(20)), ("I-2", june(3), june(3))],
        "symbol string, first_day date, last_day date",
    )
    assert dimension_members.infer(lake.spark, symbol, wanted).counts == {"inserted": 2, "updated": 0, "deleted": 0}
    columns = ("symbol", "company_name", "sector", "effective_date", "expiry_date", "is_current", "is_inferred")
    assert found(lake, "dim_symbol", "I-", *columns) == [
        ("I-1", "I-1", None, BEGINNING, OPEN, True, True),
        ("I-2", "I-2", None, BEGINNING, OPEN, True, True),
    ]
    issued, before = keys(lake, "I-"), snapshots(lake)
    dimension_members.infer(lake.spark, symbol, wanted)
    assert snapshots(lake) == before
    real = write(tmp_path, "i.csv", "symbol,company_name,sector,effective_date", "I-1,One Inc,Tech,2025-06-10")
    assert load(lake, "dim_symbol", real) == counts(1, inserted=1, updated=1)
    assert found(lake, "dim_symbol", "I-1", *columns) == [
        ("I-1", "I-1", None, BEGINNING, june(9), False, True),
        ("I-1", "One Inc", "Tech", june(10), OPEN, True, False),
    ]
    assert issued.items() <= keys(lake, "I-").items()
    # and the days behind a delete, which no fact is of, get no member
    gone = write(tmp_path, "gone.csv", "symbol,effective_date,is_deleted", "I-1,2025-06-20,true")
    assert load(lake, "dim_symbol", gone) == counts(1, updated=1)
    assert found(lake, "dim_symbol", "I-1", "effective_date", "expiry_date", "is_current") == [
        (BEGINNING, june(9), False),
        (june(10), june(19), False),
    ]


# Cost


def test_a_load_of_one_changed_key_rewrites_no_other_bucket(lake: Lake, tmp_path: Path) -> None:
    def files() -> set[tuple[int, str]]:
        rows = lake.spark.table("lake.dim.dim_trader.files").select("partition.trader_id_bucket", "file_path")
        return {(row[0], row[1]) for row in rows.collect()}

    header = "trader_id,name,effective_date"
    many = write(tmp_path, "many.csv", header, *(f"M-{n:04},Name {n},2025-06-01" for n in range(2000)))
    assert load(lake, "dim_trader", many) == counts(2000, inserted=2000)
    before = files()
    assert {bucket for bucket, _ in before} == set(range(8))
    one = write(tmp_path, "one.csv", header, "M-0042,Other,2025-06-10")
    assert load(lake, "dim_trader", one) == counts(1, inserted=1, updated=1)
    after = files()
    assert after != before
    assert len({bucket for bucket, _ in before ^ after}) == 1


# Any order, any batching


def arrivals(
    changes: st.SearchStrategy[list[ChangeEvent]], most: int
) -> st.SearchStrategy[tuple[list[ChangeEvent], list[list[ChangeEvent]]]]:
    """A history without ties, and the way it may come: in any order, some changes twice, in up to `most` loads."""

    @st.composite
    def arrive(draw: st.DrawFn) -> tuple[list[ChangeEvent], list[list[ChangeEvent]]]:
        events = [cleaned(event) for event in draw(changes)]
        return events, draw(histories.batches(draw(histories.reordered(events)), most))

    return arrive()


def cleaned(event: ChangeEvent) -> ChangeEvent:
    """As a feed says it: an empty text is none."""
    return replace(event, attributes={name: value or None for name, value in event.attributes.items()})


def land(lake: Lake, dimension: str, number: int, events: Sequence[ChangeEvent]) -> None:
    declared = DIMENSIONS[dimension]

    def said(event: ChangeEvent) -> dict[str, str | None]:
        placed = {"effective_date": event.effective_date, "sequence": event.sequence, "is_deleted": event.is_deleted}
        given = {declared.natural_key: event.natural_key, **event.attributes, **placed}
        return {name: None if value is None else str(value) for name, value in given.items()}

    rows = [(dimension, said(event), "{}", row) for row, event in enumerate(events, 1)]
    frame = frames.of_rows(
        lake.spark, rows, "dimension string, attributes map<string, string>, raw_payload string, _source_row long"
    ).selectExpr(
        "*", "CAST(NULL AS string) AS _kafka_topic", "CAST(NULL AS int) AS _kafka_partition",
        "CAST(NULL AS bigint) AS _kafka_offset", "CAST(NULL AS binary) AS _raw_bytes",
    )  # fmt: skip
    change_log.land(lake.spark, DIMENSIONS[dimension], frame, f"memory:{dimension}", str(number))


@pytest.mark.parametrize(
    ("dimension", "most", "changes", "oracle", "columns"),
    [
        (
            "dim_symbol", 3, histories.symbol_changes(ties=False),
            lambda events: dim_oracle.dimension(SYMBOL, events),
            (
                *SYMBOL.tracked, *SYMBOL.untracked, "effective_date", "expiry_date", "is_current", "_row_hash",
                "is_inferred",
            ),
        ),
        (
            "dim_account", 2, histories.account_changes(ties=False), dim_oracle.accounts,
            (
                "current_tier", "previous_tier", "tier_change_date", "current_status", "previous_status",
                "status_change_date", *dim_oracle.ACCOUNT_COLUMNS,
            ),
        ),
    ],
    ids=["dim_symbol", "dim_account"],
)  # fmt: skip
def test_any_order_and_any_batches_end_in_the_dimension_of_a_single_load(
    lake: Lake,
    dimension: str,
    most: int,
    changes: st.SearchStrategy[list[ChangeEvent]],
    oracle: Callable[[list[ChangeEvent]], list[dict[str, Any]]],
    columns: tuple[str, ...],
) -> None:
    """Each history comes twice, under prefixes of its own: at once, and in pieces."""
    loads: list[list[ChangeEvent]] = [[] for _ in range(most)]
    expected: list[dict[str, Any]] = []
    key, surrogate = DIMENSIONS[dimension].natural_key, DIMENSIONS[dimension].surrogate_key
    for number, (events, parts) in enumerate(drawn(arrivals(changes, most), 40)):
        loads[0] += under(f"ONE-{number:03}-", events)
        for part, arriving in zip(loads, parts, strict=False):
            part += under(f"MANY-{number:03}-", arriving)
        expected += oracle(under(f"{number:03}-", events))
    identity = DIMENSIONS[dimension].table.key
    known: dict[tuple[Any, ...], int] = {}
    for number, part in enumerate(loads):
        land(lake, dimension, number, part)
        dimension_members.apply(lake.spark, DIMENSIONS[dimension])
        issued = {
            tuple(row[:-1]): row[-1]
            for prefix in ("ONE-", "MANY-")
            for row in found(lake, dimension, prefix, *identity, surrogate)
        }
        assert len(set(issued.values())) == len(issued)
        assert {place: known[place] for place in known.keys() & issued.keys()}.items() <= issued.items()
        known = issued
    assert len(expected) > 30
    for prefix in ("ONE-", "MANY-"):
        rows = [
            {key: row[0].removeprefix(prefix), **dict(zip(columns, row[1:], strict=True))}
            for row in found(lake, dimension, prefix, key, *columns)
        ]
        assert rows == expected


def under(prefix: str, events: Sequence[ChangeEvent]) -> list[ChangeEvent]:
    return [replace(event, natural_key=f"{prefix}{event.natural_key}") for event in events]


# What holds of every dimension here, whatever the tests before this loaded


def test_every_dimension_is_whole(lake: Lake) -> None:
    assert {row["table_name"] for row in lake.rows("_metadata.surrogate_keys")} <= set(DIMENSIONS)
    for name, first in (
        ("dim_symbol", 100_000),
        ("dim_trader", 200_000),
        ("dim_account", 300_000),
        ("dim_exchange", 1),
    ):
        dimension = DIMENSIONS[name]
        rows = lake.rows(dimension.table.name)
        issued = [row[dimension.surrogate_key] for row in rows]
        assert len(issued) == len(set(issued))
        assert min(issued, default=first) >= first
        assert len({tuple(row[column] for column in dimension.table.key) for row in rows}) == len(rows)
    for name in ("dim_symbol", "dim_trader"):
        for versions in by_key(lake, name):
            assert [row["is_current"] for row in versions[:-1]] == [False] * (len(versions) - 1)
            assert all(row["is_current"] == (row["expiry_date"] == OPEN) for row in versions)
            assert all(row["effective_date"] <= row["expiry_date"] for row in versions)
            assert all(one["expiry_date"] + timedelta(1) <= two["effective_date"] for one, two in pairwise(versions))
    for row in lake.rows("dim.dim_account"):
        assert (row["previous_tier"] is None) == (row["tier_change_date"] is None)
        assert (row["previous_status"] is None) == (row["status_change_date"] is None)


def by_key(lake: Lake, name: str) -> Iterator[list[Any]]:
    grouped: dict[str, list[Any]] = {}
    for row in lake.rows(f"dim.{name}", order="effective_date"):
        grouped.setdefault(row[DIMENSIONS[name].natural_key], []).append(row)
    yield from grouped.values()
