"""Reference files as the loader reads them, without a JVM: exact records, names, paths, and refusals."""

import bz2
import gzip
import os
import random
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from pyarrow import parquet
from pyspark.sql import SparkSession

from lakehouse_spark.catalog import DIMENSIONS
from lakehouse_spark.cli.run import parse
from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.ingest.reference_files.headers import folded, judge
from lakehouse_spark.ingest.reference_files.looking import Looked, look
from lakehouse_spark.ingest.reference_files.paths import File, find
from lakehouse_spark.settings import S3Settings

NO_SPARK = cast(SparkSession, None)
SYMBOL, ACCOUNT = DIMENSIONS["dim_symbol"], DIMENSIONS["dim_account"]


def files(*sources: str | Path) -> tuple[list[File], list[str]]:
    return find(NO_SPARK, [str(source) for source in sources], S3Settings())


def looked(path: Path, dimension: str = "dim_symbol", *, ignore_unknown: bool = False) -> Looked:
    ((file,), _) = files(path)
    return look(file, DIMENSIONS[dimension], ignore_unknown=ignore_unknown)


def read(path: Path, content: bytes, dimension: str = "dim_symbol") -> list[tuple[Any, str, bytes | None]]:
    """Attributes, payload and exact bytes of the records, in order."""
    path.write_bytes(content)
    rows = looked(path, dimension).records.to_pylist()
    assert [row["_source_row"] for row in rows] == list(range(1, len(rows) + 1))
    return [
        (None if row["attributes"] is None else dict(row["attributes"]), row["raw_payload"], row["_raw_bytes"])
        for row in rows
    ]


def values(path: Path, content: bytes) -> list[Any]:
    """What the records of a file with the columns `symbol` and `sector` say; None for a malformed one."""
    return [None if known is None else tuple(known.values()) for known, _, _ in read(path, content)]


# CSV


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"A,x\nB,y\n", [("A", "x"), ("B", "y")]),
        (b"A,x\r\nB,y", [("A", "x"), ("B", "y")]),
        (b"A,x\r\nB,y\nC,z\r\n", [("A", "x"), ("B", "y"), ("C", "z")]),
        (b"A,\nB,\"\"\nC,\" \"\n", [("A", None), ("B", None), ("C", " ")]),
        (b"\nA,x\n   \n\r\n\nB,y", [("A", "x"), ("B", "y")]),
        (b',\n""\n', [(None, None), None]),
        (b'A,"x,y"\nB,"x\ny"\nC,"x\r\n\r\ny"\n', [("A", "x,y"), ("B", "x\ny"), ("C", "x\r\n\r\ny")]),
        (b'A,"a""b"\nB,""""\nC,"""x"""\n', [("A", 'a"b'), ("B", '"'), ("C", '"x"')]),
        (b'A,5" pipe\nB,a "q" b\nC,a""b\n', [("A", '5" pipe'), ("B", 'a "q" b'), ("C", 'a""b')]),
        (b'A,"x"y\nB,"x" \nC, "x"\nD,"x" ,\n', [("A", '"x"y'), ("B", "x"), ("C", ' "x"'), None]),
        (b'A,"x\nB,"y\nC,z\n', [None, ("C", "z")]),
        (b'A,"x\nB,"y, z"\nC,z\n', [None, ("C", "z")]),
        (b"A\nB,y,\nC,y,z\n#D,x\n", [None, None, None, ("#D", "x")]),
        (b'A,"x\\"\nB,a\\b\n', [("A", "x\\"), ("B", "a\\b")]),
        (b"A,null\nB,NaN\nC,  z  \n", [("A", "null"), ("B", "NaN"), ("C", "  z  ")]),
        ("A,x\u2028y\x85\x0b\x1c\n".encode(), [("A", "x\u2028y\x85\x0b\x1c")]),
        (b"A,x\0y\n", [("A", "x\0y")]),
        (b"A,x\ry\nB,z\n", [("A", "x\ry"), ("B", "z")]),
    ],
)  # fmt: skip
def test_csv_is_read_as_rfc_4180_has_it_and_odd_quotes_lose_no_record(
    tmp_path: Path, lines: bytes, expected: list[Any]
) -> None:
    assert values(tmp_path / "a.csv", b"symbol,sector\n" + lines) == expected


def test_a_csv_of_carriage_returns_alone_has_lines_too(tmp_path: Path) -> None:
    assert values(tmp_path / "a.csv", b'symbol,sector\rA,x\r\rB,"y\rz"\r') == [("A", "x"), ("B", "y\rz")]


def test_a_line_of_a_csv_may_end_in_two_carriage_returns_and_a_line_feed(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", b'"symbol","sector"\r\r\n"A","x"\r\r\n"B","y"\r\r\n') == [
        ({"symbol": "A", "sector": "x"}, '"A","x"', None),
        ({"symbol": "B", "sector": "y"}, '"B","y"', None),
    ]


def test_a_csv_record_that_is_not_utf8_keeps_its_exact_bytes_quotes_and_lines_included(tmp_path: Path) -> None:
    content = b'symbol,company_name\r\nA,"caf\xe9 ""x""\r\nbar"\r\nB,na\xefve\nC,ok\n'
    assert read(tmp_path / "a.csv", content) == [
        (None, 'A,"caf\ufffd ""x""\r\nbar"', b'A,"caf\xe9 ""x""\r\nbar"'),
        (None, "B,na\ufffdve", b"B,na\xefve"),
        ({"symbol": "C", "company_name": "ok"}, "C,ok", None),
    ]


def test_a_quote_that_is_never_closed_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'symbol,sector\nA,x\n\nB,"y\nC,z\n')
    with pytest.raises(LakehouseError, match=r"a\.csv: a quote that opens in the record of line 4 is never closed"):
        looked(path)


def test_names_in_a_header_may_be_quoted_and_empty_ones_are_numbered(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", b'\xef\xbb\xbf"symbol","a,""b""",,\nA,x,y,z\n') == [
        ({"symbol": "A", 'a,"b"': "x", "_c2": "y", "_c3": "z"}, "A,x,y,z", None)
    ]


# JSON


def test_json_values_are_text_as_written_and_nested_ones_are_json(tmp_path: Path) -> None:
    line = b' {"symbol": 1.50, "a": 12345678901234567890, "b": -1E+5, "c": true, "d": null, "e": "\\u00e9\\n",'
    line += b' "f": [1.0, "x", {"y": null}], "sector": 1, "Sector": "last"} '
    path = tmp_path / "a.jsonl"
    path.write_bytes(line)
    with pytest.raises(UsageError, match="a column stands there twice: 'sector' and 'Sector'"):
        looked(path)
    line = line.replace(b"Sector", b"sector")
    assert read(path, b"\xef\xbb\xbf\n" + line + b"\r\n\n") == [
        (
            {
                "symbol": "1.50", "a": "12345678901234567890", "b": "-1E+5", "c": "true", "d": None, "e": "é\n",
                "f": '[1.0,"x",{"y":null}]', "sector": "last",
            },
            line.decode(),
            None,
        )
    ]  # fmt: skip


def test_a_column_of_text_takes_json_strings_and_numbers_alone(tmp_path: Path) -> None:
    line = b'{"symbol": ["A"], "Sector": true, "industry": {}, "desk": false, "is_deleted": true, "ipo_date": []}'
    assert [known for known, _, _ in read(tmp_path / "a.jsonl", line)] == [
        {
            "symbol": "\0", "sector": "\0", "industry": "\0", "desk": "false", "is_deleted": "true", "ipo_date": "[]"
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        b'{"symbol": "A"', b'["A"]', b'"A"', b'{"symbol": "A"} {}', b"{'symbol': 'A'}", b'{"symbol": NaN}',
        b'{"symbol": -Infinity}', b'{"symbol": 01}', b'{"symbol": 1.}', b'{"symbol": "A",}', b'{"symbol": "\t"}',
        b'{"symbol": "A"}] and more', b'{"symbol": ' + b"[" * 5000 + b"]" * 5000 + b"}", b"null", b"\x00{}", b"{1: 2}",
    ],
)  # fmt: skip
def test_a_json_line_that_is_no_object_by_rfc_8259_is_malformed_and_kept(tmp_path: Path, line: bytes) -> None:
    good = b'{"symbol": "B"}'
    assert read(tmp_path / "a.jsonl", good + b"\n" + line + b"\n") == [
        ({"symbol": "B"}, good.decode(), None),
        (None, line.decode(), None),
    ]


@pytest.mark.parametrize(
    ("line", "repaired"),
    [
        (b'{"symbol": "caf\xe9"}', '{"symbol": "caf\ufffd"}'),
        (b'{"symbol": "A", "x\xff": 1}', '{"symbol": "A", "x\ufffd": 1}'),
        (b'{"symbol": "\xed\xa0\x80"}', '{"symbol": "\ufffd\ufffd\ufffd"}'),
        (b'{"symbol": "A\\ud800"}', '{"symbol": "A\\ud800"}'),
        (b'{"symbol": "A", "\\uDC00": 1}', '{"symbol": "A", "\\uDC00": 1}'),
        (b'{"symbol": "A", "x": [{"y": "\\uD83D"}]}', '{"symbol": "A", "x": [{"y": "\\uD83D"}]}'),
    ],
)
@pytest.mark.parametrize("shape", ["lines", "document"])
def test_json_that_is_not_utf8_or_escapes_half_a_pair_keeps_its_exact_bytes(
    tmp_path: Path, shape: str, line: bytes, repaired: str
) -> None:
    good = b'{"symbol": "\\ud83d\\ude00"}'
    content = good + b"\n" + line + b"\n" if shape == "lines" else b" [" + good + b" ,\n" + line + b"]\n"
    assert read(tmp_path / "a.json", content) == [
        ({"symbol": "\U0001f600"}, good.decode(), None),
        (None, repaired, line),
    ]


@pytest.mark.parametrize(
    ("content", "payloads"),
    [
        (b'[{"symbol": "A"}, {"symbol": "B"}]', ['{"symbol": "A"}', '{"symbol": "B"}']),
        (b'\xef\xbb\xbf\n [\n {\n "symbol": "A"\n}\n]\n', ['{\n "symbol": "A"\n}']),
        (b'{\n "symbol": "A"\n}\n', ['{\n "symbol": "A"\n}']),
        (b'{"symbol": "A"}\n{"symbol": "B"}\n', ['{"symbol": "A"}', '{"symbol": "B"}']),
        (b'{"symbol": "A"}', ['{"symbol": "A"}']),
        (b" [ ] ", []),
        (b' \n\xef\xbb\xbf[{"symbol": "A"}]', ['{"symbol": "A"}']),
        (b'\xef\xbb\xbf\n\xef\xbb\xbf \xef\xbb\xbf{\n"symbol": "A"}', ['{\n"symbol": "A"}']),
        (b' \xef\xbb\xbf{"symbol": "A"}\n', [' \ufeff{"symbol": "A"}']),
    ],
)
def test_a_json_file_is_lines_or_one_document_by_its_first_line(
    tmp_path: Path, content: bytes, payloads: list[str]
) -> None:
    records = read(tmp_path / "a.json", content)
    assert [payload for _, payload, _ in records] == payloads
    assert all(known is not None for known, _, _ in records)


def test_an_element_that_is_no_object_or_too_deep_is_malformed_alone(tmp_path: Path) -> None:
    deep = b'{"a": "]", "b": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    content = b'[{"symbol": "A"}, 3, ["x"], null, ' + deep + b', {"symbol": "B"}]'
    assert [(known, len(payload)) for known, payload, _ in read(tmp_path / "a.json", content)] == [
        ({"symbol": "A"}, 15), (None, 1), (None, 5), (None, 4), (None, 10_017), ({"symbol": "B"}, 15)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'[{"symbol": "A"},\n]', "line 2 at character 1"),
        (b'[{"symbol": "A"}', "line 1 at character 17"),
        (b'[{"symbol": "A"} {"symbol": "B"}]', "line 1 at character 18"),
        (b'[{"symbol": "A"}] x', "line 1 at character 19"),
        (b'[{"symbol": NaN}]', "line 1 at character 2"),
        (b'{\n"symbol": "A"\n}\n{\n"symbol": "B"\n}\n', "line 4 at character 1"),
        (b'{"symbol": "A"\n{"symbol": "B"}\n', "line 2 at character 1"),
        (b'[{"symbol": "A"}, \xff]', "line 1 at character 19"),
    ],
)  # fmt: skip
def test_a_json_document_that_is_none_is_refused_whole(tmp_path: Path, content: bytes, place: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(LakehouseError, match=rf"a\.json: cannot be read as one JSON document: an error in {place}$"):
        looked(path)


# Parquet


def test_parquet_of_every_type_becomes_text(tmp_path: Path) -> None:
    moment = datetime(1969, 12, 31, 23, 59, 59, 999_999)
    columns: dict[str, tuple[pa.Array, str | None]] = {
        "symbol": (pa.array(["A"], pa.large_string()), "A"),
        "effective_date": (pa.array([1_772_409_600_000_000_000], pa.timestamp("ns")), "2026-03-02 00:00:00"),
        "before": (pa.array([-1], pa.timestamp("ns")), "1969-12-31 23:59:59.999999"),
        "cut": (pa.array([1_999], pa.timestamp("ns", "Europe/Berlin")), "1970-01-01 00:00:00.000001"),
        "ms": (pa.array([1_500], pa.timestamp("ms", "UTC")), "1970-01-01 00:00:01.5"),
        "us": (pa.array([moment], pa.timestamp("us")), "1969-12-31 23:59:59.999999"),
        "day": (pa.array([date(2026, 3, 2)], pa.date32()), "2026-03-02"),
        "day64": (pa.array([date(2026, 3, 2)], pa.date64()), "2026-03-02"),
        "t_s": (pa.array([time(9, 30)], pa.time32("s")), "09:30:00"),
        "t_us": (pa.array([time(9, 30, 0, 120)], pa.time64("us")), "09:30:00.00012"),
        "t_ns": (pa.array([34_200_000_000_999], pa.time64("ns")), "09:30:00"),
        "flag": (pa.array([True]), "true"),
        "whole": (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
        "double": (pa.array([1.0]), "1.0"),
        "tenth": (pa.array([0.1], pa.float32()), "0.1"),
        "half": (pa.array([1.5], pa.float16()), "1.5"),
        "nan": (pa.array([float("nan")]), None),
        "decimal": (pa.array([Decimal("0.0000000100")], pa.decimal128(20, 10)), "0.0000000100"),
        "bytes": (pa.array([b"text"], pa.binary()), "text"),
        "digest": (pa.array([b"\xff\x00"], pa.binary(2)), "ff00"),
        "dictionary": (pa.array(["d"]).dictionary_encode(), "d"),
        "nothing": (pa.nulls(1), None),
        "list": (pa.array([["FX", "IR"]]), '["FX","IR"]'),
        "struct": (pa.array([{"a": 1, "b": [moment]}]), '{"a":1,"b":["1969-12-31 23:59:59.999999"]}'),
        "map": (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32())), '{"k":1}'),
        "duration": (pa.array([5], pa.duration("us")), "5"),
    }
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({name: column for name, (column, _) in columns.items()}), path)
    (row,) = looked(path).records.to_pylist()
    assert dict(row["attributes"]) == {name: text for name, (_, text) in columns.items()}


def test_an_instant_of_an_old_writer_is_no_other_one_however_far(tmp_path: Path) -> None:
    table = pa.table({"symbol": ["A"], "until": pa.array([datetime(9999, 12, 31, 1, 2, 3, 4)], pa.timestamp("us"))})
    parquet.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    (row,) = looked(tmp_path / "a.parquet").records.to_pylist()
    assert dict(row["attributes"])["until"] == "9999-12-31 01:02:03.000004"


def test_a_parquet_text_that_is_not_utf8_is_kept_within_the_json_of_its_record(tmp_path: Path) -> None:
    binary = pa.array([b"A", b"caf\xe9"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 2, binary.buffers())
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"symbol": broken, "sector": ["x", None]}), path)
    rows = looked(path).records.to_pylist()
    assert [(row["attributes"], row["raw_payload"], row["_raw_bytes"]) for row in rows] == [
        ([("symbol", "A"), ("sector", "x")], '{"symbol":"A","sector":"x"}', None),
        (None, '{"symbol":"caf\ufffd","sector":null}', b'{"symbol":"caf\xe9","sector":null}'),
    ]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3), pa.dictionary(pa.int32(), pa.binary())])
def test_parquet_bytes_in_a_column_of_text_are_text_whatever_stands_beside_them(
    tmp_path: Path, kind: pa.DataType
) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"symbol": pa.array([b"ABC", b"B\xe9C", None], kind)}), path)
    rows = looked(path).records.to_pylist()
    assert [(row["attributes"], row["raw_payload"], row["_raw_bytes"]) for row in rows] == [
        ([("symbol", "ABC")], '{"symbol":"ABC"}', None),
        (None, '{"symbol":"B\ufffdC"}', b'{"symbol":"B\xe9C"}'),
        ([("symbol", None)], '{"symbol":null}', None),
    ]


def test_parquet_booleans_and_nested_values_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    columns = {"symbol": [["A"]], "Sector": [True], "industry": [None], "is_deleted": [True], "desk": [["FX"]]}
    parquet.write_table(pa.table(columns), path)
    (row,) = looked(path).records.to_pylist()
    assert row["raw_payload"] == (
        '{"symbol":"[\\"A\\"]","Sector":"true","industry":null,"is_deleted":"true","desk":"[\\"FX\\"]"}'
    )
    assert dict(row["attributes"]) == {
        "symbol": "\0", "sector": "\0", "industry": None, "is_deleted": "true", "desk": '["FX"]'
    }  # fmt: skip


# Names


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("symbol,sector", []),
        (" SYMBOL ,Company Name,ipo-date,IsDeleted,Effective\u00a0Date,__sequence__,market\ncap category", []),
        ("symbol,desk,names", ["dim_symbol has no column desk, names: kept in the change log alone"]),
        ("symbol,company_name,compnay_name", ["dim_symbol has no column compnay_name: kept in the change log alone"]),
        ("symbol,_c1", ["dim_symbol has no column _c1: kept in the change log alone"]),
    ],
)
def test_names_match_whatever_their_case_blanks_hyphens_and_underscores(header: str, said: list[str]) -> None:
    assert judge(header.split(","), SYMBOL, ignore_unknown=False) == said


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("compnay_name", "company_name"),  # two letters swapped
        ("effectve_date", "effective_date"),  # one missing
        ("effctve_date", "effective_date"),  # two missing, of thirteen
        ("efctve_date", None),  # three missing
        ("industrie", "industry"),  # two more, of eight
        ("sectr", "sector"),
        ("setcor", "sector"),
        ("sektor", "sector"),
        ("sectors", "sector"),
        ("sektr", None),  # two, of six letters
        ("deleted", "is_deleted"),
        ("Company-Nmae", "company_name"),
        ("date", None),
        ("mic", None),
    ],
)
def test_a_name_nearly_right_to_a_column_that_the_file_lacks_is_refused(unknown: str, meant: str | None) -> None:
    if meant is None:
        assert judge(["symbol", unknown], SYMBOL, ignore_unknown=False) == [
            f"dim_symbol has no column {unknown}: kept in the change log alone"
        ]
        return
    with pytest.raises(UsageError) as refused:
        judge(["symbol", unknown], SYMBOL, ignore_unknown=False)
    assert str(refused.value) == (
        f"no such column {unknown.lower()!r}, did you mean {meant!r}? Rename it, or load the rest with --ignore-unknown"
    )
    (said,) = judge(["symbol", unknown], SYMBOL, ignore_unknown=True)
    assert said.startswith(f"ignored {unknown.lower()}; dim_symbol gets no ")
    assert meant in said


def test_accounts_may_have_the_names_of_the_dimensions_own_columns(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", b"account_id,Current Tier,current_status\nA,GOLD,ACTIVE\n", "dim_account")
    assert [known for known, _, _ in rows] == [{"account_id": "A", "tier": "GOLD", "status": "ACTIVE"}]
    with pytest.raises(UsageError, match="twice: 'tier' and 'current_tier' are one name"):
        judge(["account_id", "tier", "current_tier"], ACCOUNT, ignore_unknown=True)
    with pytest.raises(UsageError, match="no such column 'curent_tier', did you mean 'current_tier'"):
        judge(["account_id", "curent_tier"], ACCOUNT, ignore_unknown=False)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        (["symbol", "Company Name", "company_name"], "twice: 'Company Name' and 'company_name' are one name"),
        (["symbol", "desk", "DESK"], "twice: 'desk' and 'DESK' are one name"),
        (["symbol;company_name"], "expected a column 'symbol' for dim_symbol; is the separator a semicolon?"),
        (['a;"symbol"'], "is the separator a semicolon?"),
        (["symbol\tsector"], "is the separator a tab?"),
        (["a|Symbol"], "is the separator a bar?"),
        (
            ["sybmol", "sector"],
            "expected a column 'symbol' for dim_symbol; did you mean 'sybmol'? Rename it to 'symbol'",
        ),
        (["name"], "expected a column 'symbol' for dim_symbol; it has name"),
    ],
)
def test_a_header_that_cannot_be_meant_is_refused(header: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        judge(header, SYMBOL, ignore_unknown=True)
    assert sentence in str(refused.value)


def test_a_json_file_is_judged_by_the_names_of_all_its_records(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"symbol": "A"}\n{"symbol": "B", "sectr": "x"}\n')
    with pytest.raises(UsageError, match="no such column 'sectr', did you mean 'sector'"):
        looked(path)
    path.write_text('{"symbol": "A", "sectr": "x"}\n{"symbol": "B", "sector": "x"}\n')
    assert looked(path).notes == ["dim_symbol has no column sectr: kept in the change log alone"]
    path.write_text('{"sector": "x"}\n')
    with pytest.raises(UsageError, match="expected a column 'symbol' for dim_symbol; it has sector"):
        looked(path)


def test_folding_leaves_letters_alone() -> None:
    assert [folded(name) for name in ("Company Name", "company-NAME", "\ufeffcompany_name\t")] == ["companyname"] * 3
    assert folded("Größe_") == "größe"


def test_a_file_says_whether_it_has_dates(tmp_path: Path) -> None:
    def is_dated(content: bytes) -> bool:
        path = tmp_path / "a.csv"
        path.write_bytes(content)
        return looked(path).is_dated

    assert is_dated(b"symbol,Effective Date\nA,\nB,2026-01-01\n")
    assert not is_dated(b"symbol\nA\n")
    assert not is_dated(b"symbol,effective_date\nA,\nB,  \nC,NaT\n")
    assert is_dated(b"symbol\n\xe9\n")  # no record that would get one


# Paths

GOOD = b"symbol,effective_date\nA,2026-01-01\n"


def paths(*sources: str | Path) -> list[str]:
    return [file.source for file in files(*sources)[0]]


@pytest.mark.parametrize(
    "name",
    [
        "symbols[1].csv", "symbols {eu}.csv", "a:b.csv", "12:30.csv", "a*b?.csv", "#a.csv", "100%20.csv", "a b.csv",
        " .csv", "new\nline.csv", "ü€😀.csv", "a\\b.csv", "a'b\"c.csv", "-a.csv", "~a.csv", "$HOME.csv", "A.CSV",
        "x.y.csv", "a.JSON", "file:a.csv", "a;b,c.csv", "é.csv",
    ],
)  # fmt: skip
def test_a_path_that_exists_is_that_path_whatever_its_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content = b'{"symbol": "A"}' if name.lower().endswith("json") else GOOD
    (tmp_path / name).write_bytes(content)
    (tmp_path / "symbols1.csv").write_bytes(GOOD)  # what `symbols[1].csv` would match
    assert paths(tmp_path / name) == [f"file:{tmp_path}/{name}"]
    assert looked(tmp_path / name).records.num_rows == 1
    assert f"file:{tmp_path}/{name}" in paths(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert paths(name) == [f"file:{tmp_path}/{name}"]
    for uri in ((tmp_path / name).as_uri(), (tmp_path / name).as_uri().replace("file://", "FILE://localhost")):
        assert paths(uri) == [f"file:{tmp_path}/{name}"]


def test_a_pattern_begins_with_the_folders_of_just_its_names(tmp_path: Path) -> None:
    for folder in ("a[1]", "a1", "b {eu}"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.csv").write_bytes(GOOD)
    assert paths(tmp_path / "a[1]" / "*.csv") == [f"file:{tmp_path}/a[1]/x.csv"]
    assert paths(tmp_path / "b {eu}" / "{x,y}.csv") == [f"file:{tmp_path}/b {{eu}}/x.csv"]
    assert paths(tmp_path / "a[0-9]" / "x.*") == [f"file:{tmp_path}/a1/x.csv"]


def test_every_extension_is_known_in_any_case_and_with_every_compression(tmp_path: Path) -> None:
    table = pa.table({"symbol": ["A"]})
    parquet.write_table(table, tmp_path / "x")
    contents = {
        "csv": GOOD, "json": b'[{"symbol": "A"}]', "jsonl": b'{"symbol": "A"}\n', "ndjson": b'{"symbol": "A"}',
        "parquet": (tmp_path / "x").read_bytes(),
    }  # fmt: skip
    packers: dict[str, Callable[[bytes], bytes]] = {
        "": bytes, ".gz": gzip.compress, ".bz2": bz2.compress,
        ".zst": lambda content: bytes(pa.compress(content, codec="zstd", asbytes=True)),
    }  # fmt: skip
    for extension, content in contents.items():
        for packed, pack in packers.items():
            path = tmp_path / f"a.{extension}{packed}".upper()
            path.write_bytes(pack(content))
            assert looked(path).records["attributes"].to_pylist()[0][0] == ("symbol", "A")


def test_a_folder_gives_its_files_by_name_and_says_what_it_skips(tmp_path: Path) -> None:
    folder = tmp_path / "x.csv"
    (folder / "inner").mkdir(parents=True)
    for name in ("b.csv", "a.CSV.GZ", "notes.txt", ".DS_Store", "_SUCCESS", "._b.csv", "inner/c.csv", "csv"):
        (folder / name).write_bytes(GOOD)
    found, skipped = files(folder)
    assert [file.path.rpartition("/")[2] for file in found] == ["a.CSV.GZ", "b.csv"]
    assert [path.rpartition("/")[2] for path in skipped] == [
        ".DS_Store", "._b.csv", "_SUCCESS", "csv", "inner", "notes.txt"
    ]  # fmt: skip
    assert paths(folder / "*.csv") == [f"file:{folder}/b.csv"]
    assert paths(folder / "{b,c}.[a-c]sv", folder / "b.csv", f"{folder}/../x.csv/b.csv") == [f"file:{folder}/b.csv"]
    with pytest.raises(UsageError, match=r"inner2: no such file or folder"):
        files(folder / "inner2")
    with pytest.raises(UsageError, match=r"no file to load in it, only .*notes\.txt; expected one of \.csv"):
        files(folder / "*.txt")
    with pytest.raises(UsageError, match=r"notes\.txt: the extension tells the format"):
        files(folder / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: no file to load in it; expected one of"):
        files(tmp_path / "empty")


def test_a_link_out_of_a_folder_is_skipped_there_and_read_where_it_is_named(tmp_path: Path) -> None:
    folder, secret = tmp_path / "incoming", tmp_path / "secret.csv"
    (folder / "..2025").mkdir(parents=True)
    secret.write_bytes(GOOD)
    (folder / "..2025" / "mounted.csv").write_bytes(GOOD)
    (folder / "..data").symlink_to("..2025")
    (folder / "mounted.csv").symlink_to("..data/mounted.csv")  # as Kubernetes mounts them
    (folder / "out.csv").symlink_to(secret)
    (folder / "up.csv").symlink_to("../secret.csv")
    (folder / "twice.csv").symlink_to("out.csv")
    (folder / "passwords.json").symlink_to("/etc/passwd")
    out = ["out.csv", "passwords.json", "twice.csv", "up.csv"]

    found, skipped = files(folder)
    assert [file.source for file in found] == [f"file:{folder}/mounted.csv"]
    assert [path.rpartition("/")[2] for path in skipped] == ["..2025", "..data", *out]
    assert [file.source for file in files(folder / "*.csv")[0]] == [f"file:{folder}/mounted.csv"]
    with pytest.raises(UsageError, match=r"no file to load in it, only .*up\.csv"):
        files(folder / "u*.csv")
    assert paths(folder / "out.csv", f"file://{folder}/up.csv") == [f"file:{folder}/out.csv", f"file:{folder}/up.csv"]
    (tmp_path / "linked").symlink_to(folder)
    assert paths(tmp_path / "linked") == [f"file:{tmp_path}/linked/mounted.csv"]


def test_names_within_a_folder_are_never_taken_for_paths(tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_bytes(GOOD)
    folder = tmp_path / "incoming"
    folder.mkdir()
    odd = [
        "%2e%2e%2fsecret.csv",
        "a%2F..%2F..%2Fsecret.csv",
        "*.csv",
        "file:..secret.csv",
        "s3a:other.csv",
        "{a,..}.csv",
    ]
    for name in odd:
        (folder / name).write_bytes(GOOD)
    assert sorted(paths(folder)) == sorted(f"file:{folder}/{name}" for name in odd)


def test_an_empty_file_is_refused_where_it_is_named_and_skipped_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"")
    (tmp_path / "b.csv").write_bytes(GOOD)
    with pytest.raises(UsageError, match=r"a\.csv: holds nothing"):
        looked(tmp_path / "a.csv")
    found, _ = files(tmp_path)
    assert [look(file, SYMBOL, ignore_unknown=False).notes for file in found] == [["is empty, and skipped"], []]
    (tmp_path / "c.csv").write_bytes(b"symbol,sector\n")
    assert looked(tmp_path / "c.csv").notes == ["holds no records"]


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "gone.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "device.csv").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "socket.csv"))
        for name in ("pipe", "dangling", "loop", "device", "socket"):
            with pytest.raises(LakehouseError) as refused:
                looked(tmp_path / f"{name}.csv")
            assert str(refused.value).startswith(f"{tmp_path}/{name}.csv: ")
            assert "\n" not in str(refused.value)
        with pytest.raises(LakehouseError):
            files(tmp_path)
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    (tmp_path / "real.csv").write_bytes(GOOD)
    assert paths(tmp_path / "link.csv") == [f"file:{tmp_path}/link.csv"]


def test_what_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.csv").write_bytes(GOOD)
    found, _ = files(tmp_path / "a.csv")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(LakehouseError, match=r"a\.csv: cannot be read: Permission denied$"):
        look(found[0], SYMBOL, ignore_unknown=False)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(LakehouseError, match=r": cannot be read: Permission denied$"):
        files(tmp_path)


def test_a_name_that_is_not_utf8_is_one_sentence(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv")
    Path(path).write_bytes(GOOD)
    with pytest.raises(UsageError, match=r"caf\\udce9\.csv: its name is not UTF-8; rename it"):
        files(path)


def test_how_files_are_loaded_is_said_by_options() -> None:
    given = ["--dimension", "dim_symbol", "--source", "a.csv", "b.csv", "--again", "--ignore-unknown"]
    _, options = parse(["dimension_loader", *given], "lakehouse run")
    assert (options["sources"], options["again"], options["ignore_unknown"]) == (["a.csv", "b.csv"], True, True)
    _, options = parse(["dimension_loader"], "lakehouse run")
    assert (options["sources"], options["again"], options["ignore_unknown"]) == ([], False, False)


# Files that are not what they say


def packed_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table({"symbol": [f"S{n}" for n in range(5000)]}), sink)
    return bytes(sink.getvalue().to_pybytes())


WHOLE = packed_parquet()
RANDOM = random.Random(7).randbytes(4096)
ODD: dict[str, bytes] = {
    "truncated.parquet": WHOLE[:-9], "half.parquet": WHOLE[: len(WHOLE) // 2], "text.parquet": GOOD,
    "encrypted.parquet": b"PARE" + WHOLE[4:-4] + b"PARE", "damaged.parquet": WHOLE[:60] + RANDOM[:2000] + WHOLE[2060:],
    "empty.parquet": b"", "nul.parquet": b"\0" * 512, "random.parquet": RANDOM, "magic.parquet": b"PAR1PAR1",
    "packed.parquet.gz": gzip.compress(WHOLE)[:-20],
    "ends_early.csv.gz": gzip.compress(GOOD * 100)[:-12], "none.csv.gz": GOOD, "damaged.csv.gz":
    gzip.compress(RANDOM)[:200] + RANDOM[:100], "empty.csv.gz": b"", "nothing.csv.gz": gzip.compress(b""),
    "ends_early.csv.bz2": bz2.compress(GOOD * 100)[:-12], "none.csv.bz2": GOOD, "empty.jsonl.bz2": b"",
    "ends_early.csv.zst": bytes(pa.compress(GOOD * 100, codec="zstd", asbytes=True))[:-3], "none.csv.zst": GOOD,
    "gzip.csv": gzip.compress(GOOD), "bzip.csv": bz2.compress(GOOD), "parquet.csv": WHOLE, "parquet.json": WHOLE,
    "excel.csv": b"PK\x03\x04" + RANDOM, "random.csv": RANDOM, "random.json": RANDOM, "random.jsonl": RANDOM,
    "empty.csv": b"", "empty.json": b"", "empty.ndjson": b"", "bom.csv": b"\xef\xbb\xbf", "bom.json": b"\xef\xbb\xbf",
    "blank.csv": b"\n \r\n\n", "blank.json": b"\n \r\n\n", "nul.csv": b"\0" * 512, "nul.json": b"\0" * 512,
    "line.csv": b"x" * 10_000_000, "line.json": b"[" * 1_000_000, "line.jsonl": b"x" * 10_000_000,
    "utf16.csv": "symbol,sector\nA,x\n".encode("utf-16"), "utf16le.csv": "symbol,sector\nA,x\n".encode("utf-16-le"),
    "utf16be.json": '[{"symbol": "A"}]'.encode("utf-16-be"), "utf32.csv": "symbol\nA\n".encode("utf-32"),
    "utf32le.jsonl": '{"symbol": "A"}\n'.encode("utf-32-le"), "header.csv": b"symbol,sect\xe9ur\nA,x\n",
    "html.csv": b"<html><body>404</body></html>", "html.json": b"<html>\n</html>", "csv.json": GOOD,
    "word.jsonl": b"null\n", "cut.json": b'[{"symbol": "A"}, {"sym', "open.csv": GOOD + b'B,"2026',
    "array.jsonl": b'["A"]\n',
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_a_file_that_is_not_what_it_says_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(ODD[name])
    with pytest.raises(LakehouseError) as refused:
        looked(path)
    sentence = str(refused.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    assert len(sentence) < 600
    assert refused.value.exit_code in (1, 2)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_text_in_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.csv"
    for name in ("Köln", "中文" * 999):
        path.write_bytes(f"symbol,company_name\nA,{name}\n".encode(encoding))
        with pytest.raises(UsageError, match=rf"a\.csv: is {encoding[:6].upper()}; save it as UTF-8$"):
            looked(path)


@pytest.mark.parametrize("seed", range(40))
def test_bytes_that_changed_or_are_gone_never_end_in_a_trace(tmp_path: Path, seed: int) -> None:
    """Whatever is done to a good file, it is read or refused in a sentence, and no text of it is not UTF-8."""
    chance = random.Random(seed)
    names = ("a.csv", "a.json", "a.jsonl", "a.parquet", "a.csv.gz", "a.csv.bz2")
    good = dict(zip(names, (
        b'symbol,sector\nA,"x\n""y"""\n' * 3, b'[{"symbol": "A", "sector": "\\u00e9"}, {"symbol": "B"}]',
        b'{"symbol": "A", "sector": [1, {"a": null}]}\n' * 3, WHOLE, gzip.compress(GOOD * 9), bz2.compress(GOOD * 9),
    ), strict=True))  # fmt: skip
    for name, content in good.items():
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(damaged))
            if chance.random() < 0.5:
                damaged[place] = chance.choice(b'"\\,{}[]\n\r\0\xff\xc3 ' + chance.randbytes(3))
            else:
                del damaged[place : place + chance.randint(1, 5)]
        path = tmp_path / name
        path.write_bytes(damaged)
        with suppress(LakehouseError):
            looked(path, ignore_unknown=True).records.validate(full=True)  # all strings are UTF-8
