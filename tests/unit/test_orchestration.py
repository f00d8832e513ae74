"""What Dagster is told: lineage, invariants, schedules; and what its runs make of a job's reports."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyiceberg.types import StringType

dg: Any = pytest.importorskip("dagster", reason="the extra `dagster` is not installed")

from lakehouse_spark.catalog import BY_NAME, TABLES  # noqa: E402
from lakehouse_spark.errors import LakehouseError  # noqa: E402
from lakehouse_spark.iceberg import inventory, pyiceberg  # noqa: E402
from lakehouse_spark.iceberg.inventory import Inventory, Lag, TableState  # noqa: E402
from lakehouse_spark.jobs import beat as beats  # noqa: E402
from lakehouse_spark.jobs.registry import JOBS  # noqa: E402
from lakehouse_spark.orchestration import assets, checks, processes, sensors, streams  # noqa: E402
from lakehouse_spark.orchestration.definitions import defs, every_15_minutes  # noqa: E402
from lakehouse_spark.orchestration.executor import _Held  # noqa: E402
from lakehouse_spark.settings import Settings  # noqa: E402
from lakehouse_spark.verify import CHECKS  # noqa: E402
from tests.support import lakehouses  # noqa: E402

pytestmark = pytest.mark.filterwarnings(  # of Dagster about itself
    "ignore:AssetExecutionContext.run_id is deprecated", "ignore::dagster.PreviewWarning"
)

TODAY = "2025-01-31"
TRADES, SUMMARY = "silver.trades", "gold.daily_trading_summary"


@pytest.fixture(scope="module")
def instance() -> Iterator[Any]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_the_graph_is_the_declared_lineage() -> None:
    graph = defs.resolve_asset_graph()
    found = {
        assets.name_of(key): {assets.name_of(up) for up in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }

    assert found == {table.name: set(table.sources) for table in TABLES}
    assert found["gold.fact_trades"] == {
        "silver.trades", "dim.dim_symbol", "dim.dim_trader", "dim.dim_exchange", "dim.dim_time",
    }  # fmt: skip


def test_what_a_beat_brings_up_to_date_is_what_the_job_does() -> None:
    assert set(assets.DERIVED) == set(beats.TABLES)
    assert set(assets.DAILY) == {
        "gold.daily_trading_summary", "gold.market_overview", "gold.trade_analytics", "gold._open_lots",
        "gold.trader_performance", "gold.portfolio_positions",
    }  # fmt: skip


def test_an_asset_tells_what_its_table_is() -> None:
    spec = defs.resolve_asset_graph().get(assets.key("dim.dim_exchange"))
    columns = spec.metadata["dagster/column_schema"].columns

    assert spec.description == BY_NAME["dim.dim_exchange"].doc
    assert (spec.group_name, list(spec.owners)) == ("dim", ["team:lakehouse"])
    assert [(column.name, column.type) for column in columns[:2]] == [
        ("exchange_key", "bigint"),
        ("exchange_code", "string"),
    ]
    assert all(column.description for column in columns)


def test_every_invariant_is_a_check_of_each_table_that_it_is_about() -> None:
    found = {(check.name, assets.name_of(check.asset_key)) for check in defs.resolve_asset_graph().asset_check_keys}

    invariants = {(each.name, table.name) for each in CHECKS for table in each.about or TABLES}
    assert found - invariants == {
        ("rejected_share", "silver.trades"),
        ("rejected_share", "silver.orderbook_snapshots"),
        ("rejected_share", "silver.market_data"),
    }
    assert invariants < found
    assert len({name for name, _ in invariants}) == 17


def test_the_definitions_are_these() -> None:
    repository = defs.get_repository_def()

    assert {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")} == {
        "every_layer", "end_of_day", "verify_all", "bronze_streams", "maintain",
        "compact_bronze", "compact_silver", "compact_gold", "compact_dimensions",
        "expire_snapshots", "orphan_cleanup", "rewrite_manifests",
    }  # fmt: skip
    assert {each.job_name: (each.cron_schedule, each.execution_timezone) for each in repository.schedule_defs} == {
        "every_layer": ("*/15 * * * *", "UTC"),
        "end_of_day": ("30 1 * * *", "UTC"),
        "verify_all": ("0 7 * * 0", "UTC"),
        "compact_bronze": ("0 */6 * * *", "UTC"),
        "compact_silver": ("0 */12 * * *", "UTC"),
        "compact_gold": ("0 2 * * *", "UTC"),
        "compact_dimensions": ("0 3 * * 0", "UTC"),
        "expire_snapshots": ("0 4 * * *", "UTC"),
        "orphan_cleanup": ("0 5 * * 0", "UTC"),
        "rewrite_manifests": ("0 6 * * 0", "UTC"),
    }
    assert {each.name for each in repository.sensor_defs} == {
        "bronze_streams_sensor", "schema_changes_sensor", "lag_sensor", "small_files_sensor", "rejected_share_sensor",
        "lost_runs_sensor",
    }  # fmt: skip
    nodes = [node for job in repository.get_all_jobs() for node in job.all_node_defs]
    assert {node.name: set(node.pools) for node in nodes if node.pools} == {
        "beat": {"beats"},
        "verify": {"beats"},
        **{
            f"run_{name}": {"maintenance"}
            for name in (
                "compact_bronze", "compact_silver", "compact_gold", "compact_dimensions",
                "expire_snapshots", "orphan_cleanup", "rewrite_manifests",
            )
        },
        "maintain_tables": {"maintenance"},
    }  # fmt: skip


def test_importing_the_definitions_starts_no_jvm_and_imports_no_job() -> None:
    program = (
        "import json, sys; import lakehouse_spark.orchestration.definitions; from pyspark import SparkContext; "
        "found = [n for n in sys.modules if n.startswith('lakehouse_spark.jobs') or n in ('pandas', 'pyarrow')]; "
        "print(json.dumps([SparkContext._gateway is None, found]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == [True, []]


def reporting(tmp_path: Path, *tables: str, code: int = 0) -> Any:
    """In place of spark-submit: a process that reports these tables as a job does, and notes what it was asked."""
    program = (
        "import sys; from lakehouse_spark.cli import pipes; from lakehouse_spark.jobs.summary import Summary\n"
        "open(sys.argv[1], 'a').write(' '.join(sys.argv[4:]) + '\\n')\n"
        "with pipes.reporting() as told:\n"
        "    for name in filter(None, sys.argv[2].split(',')):\n"
        "        told['report'](Summary('job', name, {'inserted': 3}, 7, 1.5))\n"
        "sys.exit(int(sys.argv[3]))\n"
    )

    def submit(job: str, *options: str) -> Sequence[str]:
        return [sys.executable, "-c", program, str(tmp_path / "asked"), ",".join(tables), str(code), job, *options]

    return submit


def materialized(instance: Any, *names: str, tags: dict[str, str] | None = None) -> tuple[bool, dict[str, Any]]:
    """Whether a run of the tables ended well, and the metadata of what it materialized by table and partition."""
    done = dg.materialize(
        [assets.beat, *assets.BESIDE], selection=[assets.key(name) for name in names], instance=instance,
        partition_key=TODAY, tags=tags, raise_on_error=False,
    )  # fmt: skip
    events = [event.step_materialization_data.materialization for event in done.get_asset_materialization_events()]
    return done.success, {
        assets.name_of(event.asset_key): (
            event.partition,
            {name: value.value for name, value in event.metadata.items()},
        )
        for event in events
    }


@pytest.fixture
def no_lakehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_with_row_count", lambda result: result)


def test_jobs_whose_driver_would_be_elsewhere_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(processes.submit("pipeline"))[-3:] == ["-m", "lakehouse_spark.cli.submit", "pipeline"]
    monkeypatch.setenv("LAKEHOUSE_SPARK__CONF", '{"spark.submit.deployMode": "cluster"}')
    with pytest.raises(LakehouseError, match="Dagster needs drivers on its own machine: client mode, not cluster"):
        processes.submit("pipeline")


@pytest.mark.usefixtures("no_lakehouse")
def test_a_beat_of_some_tables_is_one_job_whose_reports_become_materializations(
    instance: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "submit", reporting(tmp_path, TRADES, SUMMARY))

    succeeded, found = materialized(instance, TRADES, SUMMARY)

    told = {"outcome": "job: {}: 3 inserted in 1.5 s", "seconds": 1.5, "inserted": 3}
    assert succeeded
    assert found == {
        TRADES: (None, {**told, "outcome": "job: silver.trades: 3 inserted in 1.5 s"}),
        SUMMARY: (TODAY, {**told, "outcome": "job: gold.daily_trading_summary: 3 inserted in 1.5 s"}),
    }
    assert (tmp_path / "asked").read_text() == f"pipeline --table {TRADES} --table {SUMMARY}\n"


@pytest.mark.usefixtures("no_lakehouse")
def test_a_beat_that_fails_keeps_what_it_reported_before(
    instance: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "submit", reporting(tmp_path, TRADES, code=3))

    succeeded, found = materialized(instance, TRADES, SUMMARY)

    assert (succeeded, [*found]) == (False, [TRADES])


@pytest.mark.usefixtures("no_lakehouse")
def test_a_backfill_of_gold_days_is_a_rebuild(instance: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "submit", reporting(tmp_path, SUMMARY, "gold.market_overview"))

    succeeded, found = materialized(instance, SUMMARY, tags={"dagster/backfill": "b1"})

    assert (succeeded, [*found]) == (True, [SUMMARY])
    assert (tmp_path / "asked").read_text() == "gold_aggregator --rebuild\n"


def test_maintenance_is_observed_on_the_tables_that_it_looked_at(
    instance: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "submit", reporting(tmp_path, TRADES, "_metadata.maintenance_log"))

    done = defs.resolve_job_def("compact_silver").execute_in_process(instance=instance)

    told = [event.asset_observation_data.asset_observation for event in done.all_events if event.is_asset_observation]
    assert {assets.name_of(each.asset_key): each.metadata["outcome"].value for each in told} == {
        TRADES: "job: silver.trades: 3 inserted in 1.5 s",
        "_metadata.maintenance_log": "job: _metadata.maintenance_log: 3 inserted in 1.5 s",
    }
    assert told[0].metadata["inserted"].value == 3
    assert (tmp_path / "asked").read_text() == "compaction --layer silver\n"


def test_the_commands_that_are_run_are_jobs_with_their_options() -> None:
    from lakehouse_spark.cli.run import parse
    from lakehouse_spark.maintenance.schedule import SCHEDULES

    asked = [["pipeline", *(part for name in assets.DERIVED for part in ("--table", name))]]
    asked += [
        [job, *(part for layer in each.layers for part in ("--layer", layer))]
        for each in SCHEDULES
        for job in each.jobs
    ]
    asked += [["gold_aggregator", "--rebuild"], ["bronze_writer", "--continuous"], ["maintenance", "--table", TRADES]]

    assert [parse(arguments, "lakehouse run")[0] for arguments in asked] == [JOBS[arguments[0]] for arguments in asked]


def test_verify_is_run_once_and_tells_every_check(instance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [
        {"check": "keys", "table": TRADES, "invariant": "keys_are_unique", "detail": "2 keys", "holds": False},
        {"check": "texts", "table": TRADES, "invariant": "texts_are_utf8", "detail": "none", "holds": True},
    ]
    asked = []

    def output_of(context: Any, command: Sequence[str]) -> tuple[int, str]:
        asked.append([*command][command.index("verify") :])
        return 1, json.dumps(findings)

    monkeypatch.setattr(processes, "output_of", output_of)
    selection = dg.AssetSelection.checks(
        *(dg.AssetCheckKey(assets.key(TRADES), name) for name in ("keys_are_unique", "texts_are_utf8"))
    )
    job = dg.define_asset_job("some", selection)
    done = dg.Definitions([assets.beat, *assets.BESIDE], asset_checks=[checks.verify], jobs=[job])
    result = done.resolve_job_def("some").execute_in_process(instance=instance)
    done.resolve_job_def("some").execute_in_process(instance=instance, tags={checks.FULL: "true"})

    assert asked == [["verify", "--json", "--table", TRADES], ["verify", "--json", "--full", "--table", TRADES]]
    assert {each.check_name: each.passed for each in result.get_asset_check_evaluations()} == {
        "keys_are_unique": False, "texts_are_utf8": True,
    }  # fmt: skip


@pytest.mark.parametrize(("deaths", "pause"), [(0, 0), (1, 30), (2, 60), (3, 120), (5, 480), (6, 900), (1_000, 900)])
def test_a_stream_that_dies_again_is_left_alone_longer(deaths: int, pause: int) -> None:
    assert streams.pause_after(deaths) == timedelta(seconds=pause)


FAILED, DONE, CANCELED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED


@pytest.mark.parametrize(
    ("statuses", "deaths"), [([], 0), ([FAILED], 1), ([FAILED, FAILED, DONE, FAILED], 2), ([CANCELED, FAILED], 0)]
)
def test_deaths_are_counted_since_the_streams_last_ended_well(statuses: list[Any], deaths: int) -> None:
    assert streams.deaths_of(statuses) == deaths


def streams_died(instance: Any, times: int) -> None:
    for _ in range(times):
        run = instance.create_run_for_job(streams.bronze_streams)
        instance.report_run_failed(run)


def test_the_sensor_asks_for_streams_that_do_not_run_and_reports_the_third_death(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "_observed", tuple)
    with dg.DagsterInstance.ephemeral() as fresh:
        look: Any = lambda: streams.bronze_streams_sensor(dg.build_sensor_context(fresh))  # noqa: E731
        assert [asked.run_key for asked in look().run_requests] == ["first"]
        streams_died(fresh, 1)
        assert look().skip_reason.skip_message.startswith(
            "the streams died 1 times in a row; they are asked for again at "
        )
        monkeypatch.setattr(streams, "pause_after", lambda deaths: timedelta(0))
        assert len(look().run_requests) == 1
        monkeypatch.undo()
        monkeypatch.setattr(streams, "_observed", tuple)
        streams_died(fresh, 2)
        with pytest.raises(dg.Failure, match="the streams died 3 times in a row"):
            look()


def test_a_beat_that_is_due_is_skipped_while_one_is_under_way(tmp_path: Path) -> None:
    at = datetime(2025, 1, 31, 12, 15, tzinfo=UTC)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as fresh:
        due: Any = lambda: every_15_minutes(dg.build_schedule_context(fresh, scheduled_execution_time=at))  # noqa: E731
        assert due().partition_key == TODAY
        run = fresh.create_run_for_job(defs.resolve_job_def("every_layer"), status=dg.DagsterRunStatus.STARTED)
        assert due() == dg.SkipReason("the beat before is under way")
        fresh.report_run_canceled(run)
        assert due().partition_key == TODAY


def test_sensors_wait_where_there_is_no_lakehouse_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / "none"))
    with dg.DagsterInstance.ephemeral() as fresh:
        looks = [looked(each, fresh) for each in sensors.SENSORS]

    assert all(isinstance(look, dg.SkipReason) for look in looks)
    assert not (tmp_path / "none").exists()


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A lakehouse that an earlier release wrote, and an instance to look at it from."""
    lakehouses.unpack("7e782d6", tmp_path)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path))
    with dg.DagsterInstance.ephemeral() as fresh:
        yield fresh


def looked(sensor: Any, instance: Any, cursor: str | None = None) -> Any:
    return sensor(dg.build_sensor_context(instance, cursor=cursor, definitions=defs))


def test_a_changed_schema_asks_for_the_checks_of_what_is_built_from_it_once(released: Any, tmp_path: Path) -> None:
    first = looked(sensors.schema_changes_sensor, released)
    with pyiceberg.open_catalog(Settings(home=tmp_path)).load_table("gold.fact_trades").update_schema() as schema:
        schema.add_column("venue", StringType())

    found = looked(sensors.schema_changes_sensor, released, first.cursor)

    [asked] = found.run_requests
    assert asked.run_key == "gold.fact_trades 1"
    assert {assets.name_of(check.asset_key) for check in asked.asset_check_keys} == {"gold.fact_trades"}
    assert {check.name for check in asked.asset_check_keys} == {
        "facts_follow_silver", "foreign_keys_resolve", "trades_settle_as_their_exchange_says", "values_add_up",
        "keys_are_unique", "texts_are_utf8", "declarations_hold", "files_exist",
    }  # fmt: skip
    assert looked(sensors.schema_changes_sensor, released, found.cursor).run_requests == []


def test_tables_beyond_their_limits_are_maintained_and_not_again_at_once(
    released: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(looked(sensors.small_files_sensor, released), dg.SkipReason)
    monkeypatch.setenv("LAKEHOUSE_MAINTENANCE__URGENT_SNAPSHOTS", "1")

    found = looked(sensors.small_files_sensor, released)

    [asked] = found.run_requests
    assert "silver.trades" in asked.run_config["ops"]["maintain_tables"]["config"]["tables"]
    assert isinstance(looked(sensors.small_files_sensor, released, found.cursor), dg.SkipReason)


def test_what_silver_judged_since_the_last_look_is_told_once(released: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_ALERTS__REJECTED_SHARE", "0")

    found = looked(sensors.rejected_share_sensor, released)

    assert [(assets.name_of(each.asset_key), each.passed) for each in found.asset_events] == [
        ("silver.trades", False), ("silver.orderbook_snapshots", False), ("silver.market_data", True),
    ]  # fmt: skip
    trades = found.asset_events[0].metadata
    assert (trades["records judged"].value, round(trades["rejected share"].value * 19)) == (19, 6)
    assert looked(sensors.rejected_share_sensor, released, found.cursor).asset_events == []


def test_the_lag_sensor_fails_while_a_table_is_late(released: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(sensors.lag_sensor, released) == dg.SkipReason("no table is late")
    now = datetime.now(UTC)
    lags = (
        Lag("bronze.raw_trades", 5, None, since=now - timedelta(minutes=120)),
        Lag("dim.dim_exchange", None, 7_200.0, since=now - timedelta(minutes=1)),
    )
    behind = TableState("silver.trades", 1, 1, 1, 0, 1, lags=lags)
    monkeypatch.setattr(inventory, "read", lambda settings: Inventory({"silver.trades": behind}, {}))

    with pytest.raises(
        LakehouseError, match=r"^silver.trades has not consumed what came to bronze.raw_trades 120 minutes ago$"
    ):
        looked(sensors.lag_sensor, released)


def test_every_run_holds_its_lock_from_its_first_event_to_its_last(tmp_path: Path) -> None:
    class Inner(dg.Executor):  # type: ignore[misc]
        retries = None

        def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[str]:
            yield "first"
            yield "last"

    assert {job.executor_def.name for job in defs.get_repository_def().get_all_jobs()} == {"in_process_and_held"}
    with dg.DagsterInstance.local_temp(str(tmp_path)) as fresh:
        found = []
        for _ in _Held(Inner()).execute(SimpleNamespace(instance=fresh, run_id="R1"), None):
            with (tmp_path / "running" / "R1").open() as lock:
                found.append(processes._took(lock))
        assert found == [False, False]
        assert [*(tmp_path / "running").iterdir()] == []


def test_a_run_whose_process_was_killed_fails_at_the_next_look(tmp_path: Path) -> None:
    program = (
        "import sys; import dagster as dg\n"
        "from lakehouse_spark.orchestration import processes\n"
        "instance = dg.DagsterInstance.local_temp(sys.argv[1])\n"
        "with processes.held(instance, sys.argv[2]): print('held', flush=True); input()\n"
    )
    with dg.DagsterInstance.local_temp(str(tmp_path)) as fresh:
        run = fresh.create_run_for_job(streams.bronze_streams, status=dg.DagsterRunStatus.STARTED)
        command = [sys.executable, "-c", program, str(tmp_path), run.run_id]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            assert looked(sensors.lost_runs_sensor, fresh) == dg.SkipReason("0 runs were lost")
            process.kill()
        assert looked(sensors.lost_runs_sensor, fresh) == dg.SkipReason("1 runs were lost")
        assert fresh.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_job_hears_of_the_death_of_the_run_that_began_it(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    job = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1]).touch(), sys.exit()))\n"
        "print('begun', flush=True); time.sleep(60)\n"
    )
    run = (
        "import sys; from lakehouse_spark.orchestration import processes\n"
        "with processes._begun([*processes._tied(), sys.executable, '-c', *sys.argv[1:]], 2) as process:\n"
        "    process.wait()\n"
    )
    with subprocess.Popen([sys.executable, "-c", run, job, str(heard)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.kill()
    deadline = time.monotonic() + 20
    while not heard.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert heard.exists()


def test_what_a_killed_run_left_behind_ends_before_the_next_of_its_pool_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited, ended = tmp_path / "waited", tmp_path / "ended"
    left = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun', flush=True)\n"
        "while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)\n"
        "pathlib.Path(sys.argv[2]).write_text('left\\n')\n"
    )
    program = (
        "import sys; import dagster as dg; from lakehouse_spark.orchestration import processes\n"
        "@dg.op(pool='beats')\n"
        "def work(context): processes.run(context, [*processes._tied(), sys.executable, '-c', *sys.argv[2:]])\n"
        "@dg.job\n"
        "def some(): work()\n"
        "with dg.DagsterInstance.local_temp(sys.argv[1]) as instance: some.execute_in_process(instance=instance)\n"
    )

    def work(context: dg.OpExecutionContext) -> None:
        processes.run(context, [sys.executable, "-c", f"print('next', file=open({str(ended)!r}, 'a'))"])

    def looks(lock: Any) -> bool:
        taken = took(lock)
        if not taken:
            waited.touch()
        return taken

    took = processes._took
    monkeypatch.setattr(processes, "_took", looks)
    operation = dg.op(pool="beats")(work)
    other = dg.GraphDefinition("other", node_defs=[operation]).to_job()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as fresh:
        command = [sys.executable, "-c", program, str(tmp_path), left, str(waited), str(ended)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as killed:
            assert killed.stdout is not None
            assert killed.stdout.readline() == "begun\n"
            killed.kill()
        try:
            assert other.execute_in_process(instance=fresh).success
        finally:
            waited.touch()

    assert ended.read_text() == "left\nnext\n"
