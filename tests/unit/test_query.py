"""Which statements DuckDB answers in place of Spark, and what, of a lakehouse that an earlier release wrote."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from lakehouse_spark import cli
from lakehouse_spark.iceberg import pyiceberg, rows
from lakehouse_spark.iceberg.live_files import LiveFile
from lakehouse_spark.iceberg.metadata import Metadata
from lakehouse_spark.query import embedded
from lakehouse_spark.query.typed import NotExactError
from lakehouse_spark.settings import Settings, SparkSettings
from tests.support import lakehouses


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("released")
    lakehouses.unpack("7e782d6", home)
    return home


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


FOUR = "(SELECT trade_id AS id, quantity AS q, price AS p, account_id AS a FROM silver.trades WHERE symbol <> 'AAPL') t"
"""T14, T15, T3 and T4."""


@pytest.mark.parametrize(
    ("sql", "columns", "expected"),
    [
        ("SELECT count(*) FROM gold.fact_trades", ["count(1)"], [(12,)]),
        (f"SELECT Id, t.P FROM {FOUR} ORDER BY p DESC LIMIT 2", ["Id", "P"],
         [("T15", Decimal("31.000000")), ("T14", Decimal("30.000000"))]),
        (f"SELECT sum(q), sum(p), min(id), MAX(t.p), count(a), count(DISTINCT q) FROM {FOUR}",
         ["sum(q)", "sum(p)", "min(id)", "max(p)", "count(a)", "count(DISTINCT q)"],
         [(400, Decimal("82.000000"), "T14", Decimal("31.000000"), 0, 1)]),
        (f"SELECT q * p, p + 1, q - 1 AS less, 'x', 7 FROM {FOUR} WHERE id = 'T3'",
         ["(q * p)", "(p + 1)", "less", "x", "7"], [(Decimal("1000.000000"), Decimal("11.000000"), 99, "x", 7)]),
        (f"SELECT avg(p), avg(q), sum(p * q) / sum(q), p / 3, 7 / q FROM {FOUR} WHERE id = 'T4' GROUP BY p, q",
         ["avg(p)", "avg(q)", "(sum((p * q)) / sum(q))", "(p / 3)", "(7 / q)"],
         [(Decimal("11.0000000000"), 100.0, Decimal("11.000000"), Decimal("3.66666667"), 0.07)]),
        ("SELECT trade_timestamp AS at, to_date(trade_timestamp) AS day FROM silver.trades WHERE trade_id = 'T15'",
         ["at", "day"], [("2025-02-03T15:30:00", date(2025, 2, 3))]),
        ("SELECT trade_id FROM silver.trades WHERE trade_timestamp > '2025-01-15 17:00:00' OR price <= 5.0 ORDER BY 1",
         ["trade_id"], [("T15",), ("T7",)]),
        (f"SELECT CASE WHEN p > 30 THEN 'dear' ELSE 'cheap' END AS kind, count(*) AS n FROM {FOUR} GROUP BY kind "
         "HAVING n > 1 ORDER BY n", ["kind", "n"], [("cheap", 3)]),
        ("WITH s AS (SELECT symbol, sum(quantity) AS shares FROM silver.trades GROUP BY ALL) "
         "SELECT * FROM s JOIN (SELECT symbol, company_name FROM dim.dim_symbol WHERE is_current) d USING (symbol) "
         "WHERE symbol IN ('IBM', 'FLG1') ORDER BY symbol", ["symbol", "shares", "company_name"],
         [("FLG1", 100, "One"), ("IBM", 200, "Not IBM")]),
        (f"SELECT 007, -0, -0.0, 00.50, 0.0000001, round(p, 00) FROM {FOUR} WHERE id = 'T3'",
         ["7", "0", "0.0", "0.50", "1E-7", "round(p, 0)"],
         [(7, 0, Decimal("0.0"), Decimal("0.50"), Decimal("1.00E-7"), Decimal("10"))]),
        ("SELECT count(*) AS n FROM silver.trades WHERE price / quantity > 1", ["n"], [(5,)]),
        ("SELECT max(p) AS m FROM (SELECT price / 2 AS p FROM silver.trades) t WHERE p > 1", ["m"],
         [(Decimal("94.00000000"),)]),
        ("SELECT sector FROM dim.dim_symbol GROUP BY sector ORDER BY sector", ["sector"], [(None,), ("Tech",)]),
        ("SELECT sector FROM dim.dim_symbol GROUP BY sector ORDER BY sector DESC", ["sector"], [("Tech",), (None,)]),
        ("SELECT reasons, _raw_bytes FROM silver._rejected_records WHERE rejected_id LIKE 'nothing%'",
         ["reasons", "_raw_bytes"], []),
    ],
)  # fmt: skip
def test_what_spark_would_say_is_answered_without_it(
    settings: Settings, sql: str, columns: Sequence[str], expected: Sequence[tuple[Any, ...]]
) -> None:
    found = embedded.answer(settings, sql, 100)
    assert (found.columns, found.rows) == (columns, expected)
    assert [[*map(str, row)] for row in found.rows] == [[*map(str, row)] for row in expected]


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT stddev(price) FROM silver.trades", "stddev is not known to be the same"),
        ("SELECT avg(price_change_pct) FROM gold.daily_trading_summary", "Spark takes it in floating point"),
        ("SELECT quantity % 2 AS odd FROM silver.trades", "MOD is not known"),
        ("SELECT price / 0 AS none FROM silver.trades", "DuckDB fails: Invalid Input Error: division by zero"),
        ("SELECT CASE WHEN price > 0 THEN quantity / 3 END > 1 AS x FROM silver.trades", "double is compared"),
        ("SELECT upper(symbol) FROM silver.trades", "upper is not known"),
        ("SELECT my_function(symbol) FROM silver.trades", "my_function is not known"),
        ("SELECT current_timestamp() AS now FROM silver.trades", "current_timestamp is not known"),
        ("SELECT symbol || 'x' AS s FROM silver.trades", "is not known"),
        ("SELECT CAST(quantity AS STRING) AS s FROM silver.trades", "a cast to another type"),
        ("SELECT row_number() OVER (ORDER BY price) AS n FROM silver.trades", "is not known"),
        ("SELECT symbol FROM silver.trades WHERE quantity = '100'", "a text is compared with another type"),
        ("SELECT symbol FROM silver.trades WHERE trade_timestamp > 'yesterday'", "'yesterday' as a timestamp"),
        ("SELECT symbol FROM silver.trades WHERE trade_date > '2025-1-1'", "'2025-1-1' as a date"),
        ("SELECT symbol FROM silver.trades WHERE trade_date > DATE '2025-02-30'", "'2025-02-30' as a date"),
        ("SELECT symbol FROM silver.trades WHERE symbol LIKE 'A_'", "LIKE with another pattern"),
        ("SELECT symbol FROM silver.trades WHERE symbol = 'it''s'", "is not known"),
        (r"SELECT symbol FROM silver.trades WHERE symbol = '\n'", r"\ in the statement"),
        ("SELECT symbol FROM silver.trades WHERE symbol = '${x}'", "${ in the statement"),
        ("SELECT symbol FROM silver.trades WHERE price > 1e2", "the number 1e2"),
        ("SELECT symbol FROM silver.trades WHERE quantity > 9223372036854775808", "the number 9223372036854775808"),
        ("SELECT symbol FROM silver.trades WHERE price > 1 = true", "without parentheses"),
        ("SELECT symbol FROM silver.trades WHERE price", "another type than boolean"),
        ("SELECT symbol FROM silver.trades WHERE price IN (SELECT max(price) FROM silver.trades)", "IN with query"),
        ("SELECT symbol FROM silver.trades WHERE count(*) > 1", "count stands where no aggregate can"),
        ("SELECT sum(count(*)) AS n FROM silver.trades", "count stands where no aggregate can"),
        ("SELECT price > 1 FROM silver.trades", "the name that Spark gives GT"),
        ("SELECT max(price) FROM bronze.raw_trades", "double is compared"),
        ("SELECT sum(price) FROM bronze.raw_trades", "a sum of double"),
        ("SELECT DISTINCT reasons FROM silver._rejected_records", "array<string> is compared"),
        ("SELECT * FROM bronze.raw_reference", "the type of attributes"),
        ("SELECT price * price * price AS cubed FROM silver.trades", "is rounded"),
        ("SELECT nothing FROM silver.trades", "nothing is no column, or several"),
        ("SELECT symbol FROM silver.trades a JOIN silver.trades b ON a.trade_id = b.trade_id", "no column, or several"),
        ("SELECT 1", "a SELECT without FROM"),
        ("FROM silver.trades", "not written as Spark's grammar has it"),
        ("SELECT symbol FROM silver.trades UNION ALL SELECT symbol FROM silver.trades", "it is not one SELECT"),
        ("SELECT symbol FROM silver.trades; SELECT symbol FROM silver.trades", "it is not one SELECT"),
        ("DELETE FROM silver.trades", "it is not one SELECT"),
        ("WITH t AS (SELECT 1) DELETE FROM silver.trades", "it is not one SELECT"),
        ("SELECT symbol symbol symbol FROM", "the statement is not understood"),
        ("SELECT symbol FROM silver.trades VERSION AS OF 1", "TABLE with version"),
        ("SELECT symbol FROM silver.trades TABLESAMPLE (1 ROWS)", "TABLE with sample"),
        ("SELECT /*+ BROADCAST(trades) */ symbol FROM silver.trades", "SELECT with hint"),
        ("SELECT count(*) FROM silver.trades.snapshots", "silver.trades.snapshots is none of the declared tables"),
        ("SELECT count(*) FROM SILVER.trades", "SILVER.trades is none of the declared tables"),
        ("SELECT count(*) FROM trades", "trades is none of the declared tables"),
        ("SELECT count(*) FROM _metadata.maintenance_log", "_metadata.maintenance_log is not there"),
        ("SELECT a.symbol FROM silver.trades a, silver.trades b", "a CROSS JOIN"),
        ("SELECT price FROM silver.trades a LEFT ANTI JOIN dim.dim_symbol b USING (symbol)", "a LEFT ANTI JOIN"),
        ("SELECT a.symbol FROM silver.trades a NATURAL JOIN dim.dim_symbol b", "JOIN with method"),
        ("SELECT n FROM (SELECT count(*) AS n FROM silver.trades LIMIT 1)", "a subquery in an order, or cut off"),
        ("SELECT symbol, price AS symbol FROM silver.trades ORDER BY symbol", "symbol is selected twice"),
        ("SELECT price + 0 AS quantity FROM silver.trades ORDER BY quantity + 1", "quantity is a column and an alias"),
        ("SELECT symbol FROM silver.trades LIMIT 1 OFFSET 1", "SELECT with offset"),
        ("SELECT symbol, count(*) FROM silver.trades GROUP BY symbol WITH ROLLUP", "GROUP with"),
        ("SELECT symbol, FROM silver.trades", "not written as Spark's grammar has it"),
        ("SELECT symbol FROM silver.trades LIMIT 5 WHERE price > 1", "not written as Spark's grammar has it"),
        ("SELECT symbol FROM silver.trades ORDER BY symbol ASC DESC", "not written as Spark's grammar has it"),
        ("SELECT * FROM (FROM silver.trades) t", "not written as Spark's grammar has it"),
        ("SELECT price AS 'y' FROM silver.trades", "not written as Spark's grammar has it"),
        ("SELECT price FROM silver.trades WHERE price NOTNULL", "not written as Spark's grammar has it"),
        ("SELECT countif(price > 1) AS n FROM silver.trades", "not written as Spark's grammar has it"),
        ("SELECT date_trunc(day, trade_timestamp) AS d FROM silver.trades", "not written as Spark's grammar has it"),
        ("SELECT nvl(symbol, symbol, symbol) AS s FROM silver.trades", "not written as Spark's grammar has it"),
        ("SELECT symbol FROM silver.trades /*+ BROADCAST(a) */ WHERE price > 1", "a hint in the statement"),
        ("SELECT price AS é FROM silver.trades", "é is a name without quotes"),
        ("SELECT price FROM silver.trades AS left", "left is a name without quotes"),
        ("SELECT symbol FROM silver.trades LEFT INNER JOIN dim.dim_symbol USING (symbol)", "a LEFT INNER JOIN"),
        ("SELECT symbol FROM silver.trades OUTER JOIN dim.dim_symbol USING (symbol)", "a OUTER JOIN"),
        ("SELECT symbol FROM silver.trades LIMIT 3000000000", "LIMIT of more than an INT"),
        ("SELECT symbol FROM silver.trades WHERE price / quantity > 1 AND price > 0", "DIV beside another condition"),
        ("SELECT symbol FROM silver.trades WHERE quantity IN (quantity * quantity, 7)", "MUL beside another condition"),
        ("SELECT symbol FROM silver.trades WHERE 1 BETWEEN price / quantity AND 7", "DIV beside another condition"),
        ("SELECT a.price FROM silver.trades a JOIN silver.trades b ON a.price / b.price > 1", "DIV of rows that"),
        ("SELECT p FROM (SELECT price / quantity AS p FROM silver.trades) t WHERE p > 1", "DIV of rows that"),
        ("WITH t AS (SELECT price FROM silver.trades) SELECT price FROM t WHERE 1 / price > 1", "DIV of rows that"),
        ("SELECT sum(quantity * 80000000000000000) AS s FROM silver.trades WHERE symbol = 'AAPL' AND quantity <= 100",
         "DuckDB fails: Invalid Input Error: a sum whose parts may overflow"),
        ("SELECT price FROM silver.trades GROUP BY symbol", "DuckDB fails"),
        ("SELECT quantity + 9223372036854775807 AS n FROM silver.trades", "DuckDB fails"),
    ],
)  # fmt: skip
def test_all_else_is_left_to_spark(settings: Settings, sql: str, why: str) -> None:
    with pytest.raises(NotExactError, match=re.escape(why)):
        embedded.answer(settings, sql, 100)


SECRET = "seen-by-nobody"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM `{file}`",
        'SELECT * FROM "{file}"',
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM silver.trades JOIN read_csv('{file}') ON true",
        "SELECT trade_id FROM silver.trades WHERE symbol IN (SELECT content FROM read_text('{file}'))",
        "SELECT (SELECT content FROM read_text('{file}')) AS a FROM silver.trades",
        "WITH a AS (SELECT * FROM read_text('{file}')) SELECT * FROM a",
        "SELECT getenv('HOME') AS a FROM silver.trades",
        "SELECT current_setting('home_directory') AS a FROM silver.trades",
        "SELECT query('SELECT 1') AS a FROM silver.trades",
        "SELECT * FROM query('DROP TABLE a')",
        "SELECT * FROM query_table('a')",
        "COPY (SELECT 1) TO '{folder}/out'",
        "COPY silver.trades FROM '{file}'",
        "EXPORT DATABASE '{folder}/out'",
        "ATTACH '{folder}/out' AS a",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD '{file}'",
        "PRAGMA database_list",
        "SET enable_external_access = true",
        "CALL pragma_version()",
        "CREATE TABLE a AS SELECT 1",
        "CREATE SECRET a (TYPE s3)",
        "DELETE FROM silver.trades",
        "SELECT 1; COPY (SELECT 1) TO '{folder}/out'",
        "SELECT count(*) FROM silver.trades; DELETE FROM silver.trades",
        "SELECT count(*) FROM silver.trades /* ; */ ; COPY (SELECT 1) TO '{folder}/out'",
        "SELECT count(*) FROM silver.trades -- \n; COPY (SELECT 1) TO '{folder}/out'",
    ],
)  # fmt: skip
def test_duckdb_is_asked_for_nothing_but_rows_of_tables(settings: Settings, tmp_path: Path, sql: str) -> None:
    file, folder = tmp_path / "file.csv", tmp_path / "folder"
    file.write_text(SECRET)
    folder.mkdir()
    with pytest.raises(NotExactError) as refused:
        embedded.answer(settings, sql.format(file=file, folder=folder), 10)
    assert SECRET not in str(refused.value)
    assert [*folder.iterdir()] == []


def test_what_stands_in_quotes_stays_a_text(settings: Settings, tmp_path: Path) -> None:
    said = f"'; COPY (SELECT 1) TO '{tmp_path}/out'; --"
    sql = f'SELECT "{said}" AS a FROM silver.trades WHERE symbol <> "{said}" LIMIT 1'
    assert [*map(tuple, embedded.answer(settings, sql, 1).rows)] == [(said,)]
    assert not (tmp_path / "out").exists()


def test_what_duckdb_is_handed_could_not_leave_it(home: Path, tmp_path: Path) -> None:
    """Were a statement to reach it as it is."""
    file = tmp_path / "file.csv"
    file.write_text(SECRET)
    with duckdb.connect(":memory:", config=embedded._CONFIG) as engine:
        for sql in (
            f"SELECT * FROM read_text('{file}')", f"SELECT * FROM '{file}'", f"COPY (SELECT 1) TO '{tmp_path}/out'",
            f"ATTACH '{tmp_path}/out'", "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access = true",
            "SET allowed_directories = ['/']", "SELECT * FROM home", f"SELECT * FROM glob('{tmp_path}/*')",
        ):  # fmt: skip
            with pytest.raises(duckdb.Error):
                engine.execute(sql).fetchall()
    assert [path.name for path in tmp_path.iterdir()] == ["file.csv"]


def test_settings_of_sparks_sql_leave_it_to_spark(home: Path) -> None:
    changed = Settings(home=home, spark=SparkSettings(conf={"spark.sql.ansi.enabled": "false"}))
    with pytest.raises(NotExactError, match=r"settings of Spark's SQL are changed: spark\.sql\.ansi\.enabled"):
        embedded.answer(changed, "SELECT count(*) FROM silver.trades", 100)


def test_what_doubles_with_each_name_of_with_is_left_to_spark(settings: Settings) -> None:
    doubled = (
        f"v{i} AS (SELECT a.symbol FROM v{i - 1} a JOIN v{i - 1} b ON a.symbol = b.symbol)" for i in range(1, 40)
    )
    sql = f"WITH v0 AS (SELECT symbol FROM silver.trades), {', '.join(doubled)} SELECT count(*) FROM v39"
    with pytest.raises(NotExactError, match="its subqueries, written out at each use, are too long"):
        embedded.answer(settings, sql, 100)


# What is read


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[str]]]:
    """How many files are opened from here on, and which columns of them."""
    found: list[tuple[int, list[str]]] = []
    batches = rows.live_batches

    def noting(of: Metadata, files: Sequence[LiveFile], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        found.append((len(files), [*columns]))
        return batches(of, files, columns)

    monkeypatch.setattr(rows, "live_batches", noting)
    return found


@pytest.mark.parametrize(
    ("condition", "files", "number"),
    [
        ("trade_date = '2025-02-03'", 1, 1),
        ("trade_date > DATE '2025-01-16' AND (trade_timestamp <= '2025-02-03 15:30:00')", 1, 1),
        ("trade_timestamp >= TIMESTAMP '2025-02-03 15:30:00.000001'", 0, 0),
        ("symbol > 'IBM'", 1, 1),
        ("symbol BETWEEN 'B' AND 'FZ'", 1, 1),
        ("symbol IN ('A', 'AAPM')", 1, 0),
        ("quantity < 2", 0, 0),
        ("quantity < 8 AND trade_date <= '2025-01-15'", 1, 2),
        ("trade_date = '2025-01-15' OR trade_date = '2025-01-16'", 3, 11),
        ("NOT trade_date > '2025-01-15'", 3, 11),
        ("price < 1", 3, 0),
    ],
)
def test_files_that_hold_no_row_of_the_answer_are_left_alone(
    settings: Settings, read: list[tuple[int, list[str]]], condition: str, files: int, number: int
) -> None:
    found = embedded.answer(settings, f"SELECT count(*) FROM silver.trades WHERE {condition}", 1)
    assert found.rows == [(number,)]
    assert [opened for opened, _ in read] == [files]


def test_no_column_is_read_that_is_not_named(settings: Settings, read: list[tuple[int, list[str]]]) -> None:
    embedded.answer(settings, "SELECT symbol FROM silver.trades WHERE price > 1 ORDER BY quantity", 1)
    assert [sorted(columns) for _, columns in read] == [["price", "quantity", "symbol"]]
    read.clear()
    assert embedded.answer(settings, "SELECT count(*) FROM silver.trades", 1).rows == [(12,)]
    assert read == []


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("MOST_ROWS", "there are 24 rows to read"),
        ("MOST_BYTES", "there are 24 rows to read"),
        ("MOST_FILES", "silver.trades has more than 1 files"),
    ],
)
def test_what_is_large_is_left_to_spark_before_it_is_read(
    settings: Settings, read: list[tuple[int, list[str]]], monkeypatch: pytest.MonkeyPatch, limit: str, why: str
) -> None:
    monkeypatch.setattr(embedded, limit, 1)
    with pytest.raises(NotExactError, match=why):
        embedded.answer(settings, "SELECT a.price FROM silver.trades a JOIN gold.fact_trades b USING (trade_id)", 1)
    assert read == []


# What is printed


def test_a_question_waits_for_no_pandas(home: Path) -> None:
    script = "import sys\nfrom lakehouse_spark import cli\ntry: cli.main()\nfinally: print('pandas' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", script, "query", "SELECT max(price) FROM silver.trades WHERE symbol = 'IBM'", "--json"],
        capture_output=True, text=True, env={**os.environ, "LAKEHOUSE_HOME": str(home), "JAVA_HOME": "/none"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ['[{"max(price)": "11.000000"}]', "False"]


def lakehouse(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["lakehouse", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(str(ended.value.code or 0))


def test_the_command_prints_who_answered_and_writes_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    monkeypatch.chdir(home)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    sql = "SELECT symbol, price, account_id, trade_timestamp FROM silver.trades WHERE symbol <> 'AAPL' ORDER BY price"

    assert lakehouse("query", sql, "--limit", "1", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert lines[0] == "symbol ┃ price ┃ account_id ┃ trade_timestamp"
    assert lines[2:] == ["IBM │ 10.000000 │ NULL │ 2025-01-15T15:30:00", "the first 1 rows; --limit for more"]
    assert said.err == "answered by DuckDB\n"

    assert lakehouse("query", sql, "--limit", "1", "--json", monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == [
        {"symbol": "IBM", "price": "10.000000", "account_id": None, "trade_timestamp": "2025-01-15T15:30:00"}
    ]
    assert said.err == "answered by DuckDB\n"
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_headers_of_records_are_printed_as_pairs_and_as_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lakehouses.unpack("7e782d6", tmp_path)
    raw = pyiceberg.open_catalog(Settings(home=tmp_path)).load_table("bronze.raw_trades")
    headers = pa.list_(pa.struct({"key": pa.string(), "value": pa.binary()}))
    with raw.update_schema() as schema:
        schema.union_by_name(pa.schema({"_kafka_headers": headers}))
    sent = [[("trace", b"two"), ("trace", b""), ("null", None)]]
    unknown = pa.nulls(1, pa.timestamp("us", tz="UTC"))
    raw.append(pa.table({"trade_id": ["H1"], "timestamp": unknown, "_kafka_headers": pa.array(sent, headers)}))
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    sql = "SELECT trade_id, _kafka_headers FROM bronze.raw_trades WHERE trade_id IN ('H1', 'T2') ORDER BY trade_id"

    assert lakehouse("query", sql, "--engine", "duckdb", monkeypatch=monkeypatch) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[2:] == ["H1 │ (trace, 74776f), (trace, ), (null, NULL)", "T2 │ NULL"]

    assert lakehouse("query", sql, "--engine", "duckdb", "--json", monkeypatch=monkeypatch) == 0
    trace, empty, null = ({"key": k, "value": v} for k, v in (("trace", "74776f"), ("trace", ""), ("null", None)))
    assert json.loads(capsys.readouterr().out) == [
        {"trade_id": "H1", "_kafka_headers": [trace, empty, null]},
        {"trade_id": "T2", "_kafka_headers": None},
    ]


def test_what_looks_like_markup_is_printed_as_it_is(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    sql = "SELECT '[b]bold', '[/]' AS `[red]` FROM silver.trades WHERE trade_id = 'T1'"
    assert lakehouse("query", sql, "--engine", "duckdb", monkeypatch=monkeypatch) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [lines[0], lines[2]] == ["[b]bold ┃ [red]", "[b]bold │ [/]"]


def test_duckdb_alone_refuses_what_is_sparks(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(home))
    sql = "SELECT stddev(price) FROM silver.trades"
    assert lakehouse("query", sql, "--engine", "duckdb", monkeypatch=monkeypatch) == 2
    assert capsys.readouterr().err == (
        "usage: DuckDB does not answer this: stddev is not known to be the same in DuckDB. Spark does: --engine spark\n"
    )
