"""Jobs as a cluster runs them: the scripts, spark-submit, a real broker, a lakehouse of their own."""

import gzip
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs
from pyspark.sql import SparkSession

from lakehouse_spark import jars, verify
from lakehouse_spark.local.broker import Broker
from lakehouse_spark.local.topics import create_topics
from lakehouse_spark.settings import KafkaSettings, Settings
from lakehouse_spark.verify import ingestion
from tests.support.lake import TOPICS, trade
from tests.support.lakehouses import connect
from tests.support.object_store import ObjectStore
from tests.support.shell import LAKEHOUSE, Done, Shell, finished, scraped


@pytest.fixture(scope="module")
def shell(broker: Broker, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A migrated lakehouse with empty topics."""
    jars.ensure(["spark"], settings.jar_cache, settings.java)
    made = Shell(broker.bootstrap_servers, tmp_path_factory.mktemp("submit") / "home", settings.jar_cache)
    create_topics(broker.bootstrap_servers, {f"submit_{name}": 1 for name in TOPICS})
    done = made.run("submit", "schema_migration")
    assert (done.code, done.complaints) == (0, [])
    assert done.lines[0].startswith("schema_migration: _metadata.schema_migrations: ")
    return made


def test_records_go_through_bronze_and_silver(shell: Shell) -> None:
    shell.produce("raw_trades", trade(trade_id="T1"), trade(trade_id="T2"), trade(trade_id="T1"), b"{")

    bronze = shell.run("submit", "bronze_writer", "--table", "raw_trades")
    assert (bronze.code, bronze.complaints) == (0, [])
    assert len(bronze.lines) == 2
    assert bronze.lines[0].startswith("bronze_writer: bronze.raw_trades: 4 records in ")
    assert bronze.report["job"] == "bronze_writer"
    assert bronze.counts == {"bronze.raw_trades": {"records": 4}}

    textfiles = shell.home.parent / "textfiles"
    silver = shell.run(
        "silver_processor", "--table", "trades",
        LAKEHOUSE_LOG__FORMAT="json", LAKEHOUSE_METRICS__TEXTFILE_DIR=str(textfiles),
    )  # fmt: skip
    committed = [json.loads(line) for line in silver.complaints]
    assert (silver.code, [(each["job"], each["table"], each["message"]) for each in committed]) == (
        0, [("silver_processor", table, "committed") for table in ("silver._rejected_records", "silver.trades")],
    )  # fmt: skip
    assert committed[-1]["cursor"]["counts"]["rejected"] == 1
    assert json.loads(silver.lines[0])["snapshot"] == committed[-1]["snapshot"]
    told = (textfiles / "lakehouse.prom").read_text().splitlines()
    assert 'lakehouse_job_exit_code{job_name="silver_processor"} 0.0' in told
    assert 'lakehouse_judged_records_total{outcome="accepted",table="silver.trades"} 2.0' in told
    assert 'lakehouse_commits_total{table="silver.trades"} 1.0' in told
    counts = silver.counts["silver.trades"]
    assert (counts["accepted"], counts["duplicates"], counts["rejected"]) == (2, 1, 1)


CHATTY = {"JAVA_TOOL_OPTIONS": "-Dlakehouse.test=1"}
"""Java tells of options that it picks up from a variable."""


def test_what_spark_says_while_it_starts_reaches_no_user(shell: Shell) -> None:
    done = shell.run(LAKEHOUSE, "run", "silver_processor", "--table", "market_data", **CHATTY)

    assert (done.code, done.complaints) == (0, [])
    assert len(done.lines) == 2
    assert done.report["job"] == "silver_processor"


@pytest.mark.soak
def test_what_spark_submit_says_reaches_who_asks(shell: Shell) -> None:
    quiet = shell.run("submit", "silver_processor", "--table", "market_data", **CHATTY)
    asked = shell.run("submit", "silver_processor", "--table", "market_data", LAKEHOUSE_DEBUG="true", **CHATTY)

    assert (quiet.code, quiet.complaints) == (0, [])
    assert asked.code == 0
    assert "WARNING: Using incubator modules: jdk.incubator.vector" in asked.complaints
    assert "Picked up JAVA_TOOL_OPTIONS: -Dlakehouse.test=1" in asked.complaints


@pytest.mark.soak
def test_a_run_finds_nothing_new(shell: Shell) -> None:
    shell.run("bronze_writer", "--table", "raw_trades", "--table", "raw_orderbook")

    again = shell.run("bronze_writer", "--table", "raw_trades", "--table", "raw_orderbook")
    assert (again.code, again.complaints) == (0, [])
    assert again.lines[:-1] == [
        f"bronze_writer: bronze.{name}: nothing new" for name in ("raw_trades", "raw_orderbook")
    ]
    assert again.counts == {}


@pytest.mark.soak
def test_sigterm_ends_a_continuous_writer_cleanly_with_all_it_committed(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = {"LAKEHOUSE_METRICS__PORT": str(port), "LAKEHOUSE_METRICS__REFRESH_SECONDS": "1"}
    with shell.start("bronze_writer", "--table", "raw_marketdata", "--continuous", **told) as process:
        assert process.stdout is not None
        shell.produce("raw_marketdata", b"{}", b"{}")
        first = process.stdout.readline()
        assert 'lakehouse_commits_total{table="bronze.raw_marketdata"} 1.0' in scraped(
            port, 'lakehouse_lag_records{table="bronze.raw_marketdata",upstream="kafka"} 0.0'
        )
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        done = finished(process)

    assert first.startswith("bronze_writer: bronze.raw_marketdata: ")
    assert (done.code, done.complaints) == (0, [f"metrics: http://127.0.0.1:{port}/metrics"])
    assert time.monotonic() - began < 60
    assert done.counts == {"bronze.raw_marketdata": {"records": 2}}


INGESTED = (ingestion.offsets_are_there_once, ingestion.offsets_are_complete, ingestion.rows_are_accounted_for)


def broken(shell: Shell, spark: SparkSession, *checks: verify.Check) -> list[str]:
    """What does not hold of the lakehouse."""
    topics = {name: f"submit_{name}" for name in TOPICS}
    kafka = KafkaSettings(bootstrap_servers=shell.bootstrap_servers, topics=topics)
    settings, own = Settings(home=shell.home, kafka=kafka), connect(spark, shell.home)
    findings = verify.findings(own, settings, *checks)
    return [f"{found.table}: {found.check}: {found.detail}" for found in findings if found.violations]


def stopped_in_a_beat(process: "subprocess.Popen[str]") -> Done:
    """How live mode ended that was asked to as soon as it had told of a first table."""
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    done = finished(process)
    assert first.startswith("bronze_writer: bronze.raw_"), (first, done)
    return done


@pytest.mark.soak
def test_sigterm_in_a_beat_ends_live_mode_behind_what_is_being_committed(shell: Shell, spark: SparkSession) -> None:
    shell.produce("raw_trades", trade(trade_id="L1"), trade(trade_id="L2"), b"{")
    shell.produce("raw_marketdata", b"{}")
    with shell.start(LAKEHOUSE, "run", "pipeline", "--every", "1h") as process:
        done = stopped_in_a_beat(process)

    assert (done.code, done.complaints) == (0, [])
    assert done.report["job"] == "pipeline"
    beats = [json.loads(line) for line in done.lines if line.startswith('{"job": "pipeline", "beat"')]
    assert [(beat["beat"], beat["failed"], beat["skipped"]) for beat in beats] == [(1, {}, 0)]
    assert broken(shell, spark, *INGESTED) == []


@pytest.mark.soak
def test_sigterm_ends_live_mode_under_spark_submit_and_all_holds(shell: Shell, spark: SparkSession) -> None:
    shell.produce("raw_trades", trade(trade_id="L3"))
    with shell.start("pipeline", "--every", "1h") as process:
        done = stopped_in_a_beat(process)

    assert (done.code, done.complaints) == (0, [])
    assert done.report["job"] == "pipeline"
    assert broken(shell, spark, *(each.check for each in verify.CHECKS)) == []


def test_a_wrong_table_ends_with_one_sentence_and_exit_code_2(shell: Shell) -> None:
    done = shell.run("bronze_writer", "--table", "trades")

    assert (done.code, done.lines) == (2, [])
    assert len(done.complaints) == 1
    assert done.complaints[0].startswith("bronze_writer: invalid value for '--table': 'trades' is none of raw_trades, ")


@pytest.mark.soak
def test_a_dead_broker_ends_with_one_sentence_and_exit_code_1(shell: Shell) -> None:
    nowhere = "127.0.0.1:1"

    done = shell.run("submit", "bronze_writer", LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS=nowhere)

    assert (done.code, done.lines) == (1, [])
    assert len(done.complaints) == 1
    assert done.complaints[0].startswith(f"Kafka at {nowhere} does not answer: ")


@pytest.mark.soak
def test_a_live_mode_is_drained_from_elsewhere_and_keeps_a_second_one_away(shell: Shell) -> None:
    only = ("--table", "market_data")
    with shell.start([*LAKEHOUSE, "live", "--every", "2s", *only]) as live:
        assert live.stdout is not None
        told = next(line for line in live.stdout if line.startswith("{"))  # behind what it brought up to date
        assert json.loads(told)["beat"] == 1

        second = shell.run([*LAKEHOUSE, "live", "--every", "2s", *only])
        assert (second.code, second.lines) == (3, [])
        assert second.complaints[-1].endswith("To end it, run: lakehouse live --drain")

        drained = shell.run([*LAKEHOUSE, "live", "--drain"])
        assert (drained.code, drained.complaints) == (0, [])
        done = finished(live)
    assert (done.code, done.complaints) == (0, [])
    assert shell.run([*LAKEHOUSE, "live", "--drain"]).lines == ["no live mode works on this lakehouse"]


@pytest.mark.soak
def test_a_catalog_that_does_not_open_is_one_sentence(shell: Shell) -> None:
    done = shell.run("submit", "silver_processor", LAKEHOUSE_CATALOG__URI="jdbc:sqlite:/no/such/folder/catalog.db")

    assert (done.code, done.lines) == (1, [])
    assert len(done.complaints) == 1
    assert done.complaints[0].startswith(
        "the catalog does not open (LAKEHOUSE_CATALOG__…): [SQLITE_CANTOPEN] Unable to open the database file"
    )


def last_errors(shell: Shell, job: str) -> list[str]:
    """What `status` says of a job that has not ended well since."""
    return [line for line in shell.run(LAKEHOUSE, "status", "--errors").lines if line.startswith(f"{job} failed at ")]


@pytest.mark.soak
def test_an_error_that_nobody_foresaw_ends_with_a_sentence_too(shell: Shell) -> None:
    metadata = shell.home / "warehouse" / "silver" / "market_data" / "metadata"
    metadata.rename(metadata.with_name("lost"))
    try:
        done = shell.run("submit", "silver_processor", "--table", "market_data")
        traced = shell.run("submit", "silver_processor", "--table", "market_data", LAKEHOUSE_DEBUG="true")
    finally:
        metadata.with_name("lost").rename(metadata)
    [kept] = last_errors(shell, "silver_processor")
    shell.run("submit", "silver_processor", "--table", "market_data")

    assert (done.code, done.lines) == (1, [])
    assert len(done.complaints) == 1
    assert done.complaints[0].startswith("silver_processor failed: ")
    assert done.complaints[0].endswith(" (LAKEHOUSE_DEBUG=true shows the trace)")
    assert str(metadata) in done.complaints[0]
    assert (traced.code, traced.lines) == (1, [])
    assert "Traceback (most recent call last):" in traced.complaints
    assert kept.startswith("silver_processor failed at 20")
    assert str(metadata) in kept
    assert last_errors(shell, "silver_processor") == []
    assert traced.complaints[-1] == done.complaints[0].removesuffix(" (LAKEHOUSE_DEBUG=true shows the trace)")


def test_a_home_that_is_no_folder_is_wrong_use(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    done = shell.run("silver_processor", LAKEHOUSE_HOME=str(tmp_path / "file"))

    assert (done.code, done.lines) == (2, [])
    assert done.complaints == [f"LAKEHOUSE_HOME: {tmp_path / 'file'} cannot be a folder: File exists"]


@pytest.mark.soak
def test_a_lakehouse_without_tables_names_the_job_that_makes_them(shell: Shell, tmp_path: Path) -> None:
    done = shell.run("submit", "silver_processor", LAKEHOUSE_HOME=str(tmp_path / "empty"))

    assert (done.code, done.lines) == (2, [])
    assert len(done.complaints) == 1
    assert "tables are missing in " in done.complaints[0]
    assert "run `lakehouse migrate` first" in done.complaints[0]


def test_a_reference_file_that_cannot_be_read_is_one_sentence(shell: Shell, tmp_path: Path) -> None:
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"symbol,sector\nA,Tech\n" * 100)[:-9])

    done = shell.run("dimension_loader", "--dimension", "dim_symbol", "--source", str(cut))

    assert (done.code, done.lines) == (1, [])
    said = "cannot be read as the csv, compressed as .gz, that its extension says it is"
    assert done.complaints == [
        f"{cut}: {said}: Compressed file ended before the end-of-stream marker was reached"
    ]  # fmt: skip


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[ObjectStore]:
    """A store that holds nothing yet."""
    with ObjectStore(tmp_path / "store") as store:
        yield store


@pytest.mark.soak
def test_the_whole_cycle_runs_on_s3(shell: Shell, own_store: ObjectStore, tmp_path: Path) -> None:
    on_s3 = {**own_store.environment, "LAKEHOUSE_HOME": str(tmp_path / "home")}
    shell.produce("raw_trades", trade(trade_id="S1"), trade(trade_id="S2"), trade(trade_id="S1"), b"{")

    done = shell.run("submit", "pipeline", **on_s3)
    assert (done.code, done.complaints) == (0, [])
    rows = done.counts
    assert rows["bronze.raw_trades"]["records"] >= 4
    assert rows["silver.trades"]["inserted"] == rows["gold.fact_trades"]["inserted"] >= 2

    again = shell.run("submit", "pipeline", **on_s3)
    assert (again.code, again.counts) == (0, {})

    looked = shell.run(LAKEHOUSE, "status", "--json", JAVA_HOME="/none", **on_s3)
    (told,) = [table for table in json.loads(looked.lines[-1]) if table["table"] == "gold.fact_trades"]
    assert (told["rows"], told["behind"]) == (rows["gold.fact_trades"]["inserted"], 0)
    letters = shell.run(LAKEHOUSE, "rejected", "list", "--json", JAVA_HOME="/none", **on_s3)
    assert {"malformed_json"} <= {code for each in json.loads(letters.lines[-1]) for code in each["reasons"]}
    sql = "SELECT count(price) AS number FROM silver.trades"
    read = shell.run(LAKEHOUSE, "query", sql, "--json", JAVA_HOME="/none", **on_s3)
    assert json.loads(read.lines[-1]) == [{"number": rows["silver.trades"]["inserted"]}]
    assert read.complaints == ["answered by DuckDB"]


@pytest.mark.soak
def test_tables_on_s3_are_maintained(shell: Shell, own_store: ObjectStore, tmp_path: Path) -> None:
    policy = {"settle_minutes": 0, "min_input_files": 2, "snapshot_days": 0, "min_snapshots": 1, "orphan_days": 0}
    of_bronze = {
        **own_store.environment,
        "LAKEHOUSE_HOME": str(tmp_path / "home"),
        "LAKEHOUSE_MAINTENANCE__LAYERS": json.dumps({"bronze": policy}),
        "LAKEHOUSE_MAINTENANCE__LONGEST_WRITE_HOURS": "0.000000001",
    }

    def do(*command: str) -> list[dict[str, Any]]:
        done = shell.run("submit", *command, **of_bronze)
        assert (done.code, done.complaints) == (0, [])
        return [table for table in done.report["tables"] if table.get("planned") or table["notes"]]

    do("schema_migration")
    for trade_id in ("S1", "S2"):
        shell.produce("raw_trades", trade(trade_id=trade_id))
        do("bronze_writer", "--table", "raw_trades")

    compacted, expired = do("maintenance", "--table", "raw_trades", "--json")
    assert compacted["job"] == "compaction"
    assert compacted["before"]["files"] - compacted["counts"]["files"] == 1
    # The newest, which is the compaction, and the one before, which carries the newest cursor.
    assert (expired["job"], expired["counts"]["snapshots"]) == ("snapshot_expiration", 2)

    store = own_store.files
    orphan = "warehouse/bronze/raw_trades/data/orphan.parquet"
    with store.open_output_stream(orphan) as file:
        file.write(b"debris")
    time.sleep(2)
    (aside,) = do("orphan_cleanup", "--table", "raw_trades", "--quarantine")
    assert aside["before"]["files there"] - aside["counts"]["files there"] == 1
    assert store.get_file_info(orphan).type == fs.FileType.NotFound
    run = aside["notes"][0].partition("set aside as ")[2].partition(",")[0]
    (back,) = do("orphan_cleanup", "--table", "raw_trades", "--restore", run)
    assert back["notes"] == ["brought 1 files back"]
    assert store.get_file_info(orphan).size == 6

    planned = shell.run([*LAKEHOUSE, "plan", "--table", "raw_trades", "--orphans", "--json"], **of_bronze)
    (told,) = planned.report["tables"]
    assert [action["job"] for action in told["actions"]] == ["orphan_cleanup"]
    do("orphan_cleanup", "--table", "raw_trades")
    assert store.get_file_info(orphan).type == fs.FileType.NotFound
    read = shell.run([*LAKEHOUSE, "query", "SELECT count(*) AS number FROM bronze.raw_trades", "--json"], **of_bronze)
    assert read.code == 0
    assert json.loads(read.lines[-1])[0]["number"] >= 2


@pytest.mark.soak
def test_migrations_of_tables_on_s3_are_rehearsed_in_a_folder(
    shell: Shell, own_store: ObjectStore, tmp_path: Path
) -> None:
    (tmp_path / "folders").mkdir()
    on_s3 = {**own_store.environment, "LAKEHOUSE_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "folders")}
    for job in (("schema_migration",), ("bronze_writer", "--table", "raw_trades")):
        shell.produce("raw_trades", trade(trade_id="S1"), trade(trade_id="S2"))
        assert shell.run("submit", *job, **on_s3).code == 0
    store = own_store.files

    def there() -> dict[str, tuple[int, int]]:
        found = store.get_file_info(fs.FileSelector("warehouse", recursive=True))
        return {file.path: (file.size, file.mtime_ns) for file in found if file.type == fs.FileType.File}

    before = there()
    done = shell.run([*LAKEHOUSE, "migrate", "--rehearse", "--json"], **on_s3)
    assert (done.code, done.report["holds"], done.report["applied"]) == (0, True, [])
    assert done.counts["silver.trades"]["inserted"] == done.counts["gold.fact_trades"]["inserted"] >= 2
    assert there() == before
    assert list((tmp_path / "folders").glob("lakehouse-rehearsal-*")) == []
    verified = shell.run([*LAKEHOUSE, "verify", "--table", "raw_trades", "--json"], **on_s3)
    held = {finding["check"]: finding["holds"] for finding in json.loads(verified.lines[-1])}
    assert (verified.code, held["as declared"], held["every referenced file exists"]) == (0, True, True)


@pytest.mark.soak
def test_reference_files_on_s3_may_have_any_name(shell: Shell, own_store: ObjectStore) -> None:
    names = ["symbols [1] {eu}.csv", "12:30.CSV", "a*b?.csv", "100%20#a.csv", "ü€.csv"]
    store = own_store.files
    for number, name in enumerate([*names, "notes.txt"]):
        with store.open_output_stream(f"warehouse/reference/{name}") as file:
            file.write(b"symbol,effective_date\nS3-%d,2025-06-01\n" % number)
    reach = {name: value for name, value in own_store.environment.items() if "S3" in name}  # tables stay at home

    def load(*sources: str) -> Done:
        return shell.run("dimension_loader", "--dimension", "dim_symbol", "--source", *sources, **reach)

    done = load(*(f"s3a://warehouse/reference/{name}" for name in names))
    assert (done.code, done.complaints) == (0, [])
    assert done.counts["dim.dim_symbol"] == {"records": 5, "rejected": 0, "inserted": 5, "updated": 0, "deleted": 0}
    folder = load("s3a://warehouse/reference")
    assert (folder.code, folder.counts) == (0, {})
    assert any("notes.txt: skipped, no files to load" in line for line in folder.lines)
    gone = load("s3a://warehouse/reference/gone.csv")
    assert (gone.code, gone.complaints) == (2, ["s3a://warehouse/reference/gone.csv: no such file or folder"])
