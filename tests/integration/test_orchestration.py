"""Dagster's own daemon runs the real job by the clock."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

dg: Any = pytest.importorskip("dagster", reason="the extra `dagster` is not installed")

ROOT = Path(__file__).parents[2]
_PATIENCE_SECONDS = 500  # for a minute to pass, a session, all migrations and a beat


def awaited(found: Callable[[], Any], process: "subprocess.Popen[bytes]") -> Any:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the daemon ended"
        if (there := found()) is not None:
            return there
        time.sleep(1)
    raise AssertionError("nothing was materialized")


@pytest.mark.soak
def test_the_daemon_runs_a_beat_by_the_clock_and_keeps_what_was_materialized(tmp_path: Path) -> None:
    home, workspace = tmp_path / "dagster", tmp_path / "workspace.yaml"
    home.mkdir()
    shutil.copy(ROOT / "infra" / "dagster" / "dagster.yaml", home)
    module = {"module_name": "tests.support.every_minute", "working_directory": str(ROOT)}
    workspace.write_text(yaml.safe_dump({"load_from": [{"python_module": module}]}))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DAGSTER_HOME": str(home),
        "LAKEHOUSE_HOME": str(tmp_path / "lake"),
        "LAKEHOUSE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",  # no bronze table is chosen, so nobody is asked
        "LAKEHOUSE_SPARK__DRIVER_MEMORY": "1g",
    }
    command = [sys.executable, "-m", "dagster._daemon", "run", "--workspace", str(workspace)]
    with (tmp_path / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:

            def materialized(name: str) -> Any:
                return instance.get_latest_materialization_event(dg.AssetKey(name.split(".")))

            activity = awaited(lambda: materialized("silver.trader_activity"), process).asset_materialization
            overview = awaited(lambda: materialized("gold.market_overview"), process).asset_materialization
            [run] = instance.get_runs(limit=1)[-1:]
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:  # where tests run in the background of a shell, it hears no signal
            process.kill()

    told = {name: value.value for name, value in activity.metadata.items()}
    assert told["outcome"] == "silver_processor: silver.trader_activity: nothing new"
    assert (told["dagster/row_count"], activity.partition) == (0, None)
    assert overview.partition == run.tags["dagster/partition"]
    assert run.tags["dagster/schedule_name"] == "every_minute"
