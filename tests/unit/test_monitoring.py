"""What is shipped for Prometheus and Grafana names what is declared, has its runbook, and a real Prometheus takes it.

Debian's package of Prometheus serves, installed or not: where it is not, it is fetched once into the user's cache.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import generate
from lakehouse_spark import metrics
from lakehouse_spark.jobs.registry import JOBS
from lakehouse_spark.metrics import alerts
from lakehouse_spark.metrics.declared import METRICS
from lakehouse_spark.settings import MetricsSettings, Settings
from tests.support.home import NOTHING, RAW, SILVER, Home, at, topic

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "infra" / "monitoring"
RULES = yaml.safe_load((SHIPPED / "alerts.yml").read_text())["groups"][0]["rules"]
RUNBOOK = (ROOT / "docs" / "how-to" / "runbook.md").read_text()
DASHBOARD = json.loads((SHIPPED / "dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
_WORDS = re.compile(r"\blakehouse_\w+")
_SELECTED = re.compile(r"(lakehouse_\w+)\{([^}]*)\}")
_GROUPED = re.compile(r"by \(([^)]*)\) \(+(?:\w+\()?(lakehouse_\w+)")


@pytest.mark.parametrize("query", [rule["expr"] for rule in RULES] + QUERIES)
def test_a_query_asks_for_declared_metrics_by_labels_that_they_have(query: str) -> None:
    named = _WORDS.findall(query)
    assert named or query.startswith("up{")
    assert {*named} <= {*METRICS}
    for name, matchers in _SELECTED.findall(query):
        assert {*re.findall(r"(\w+)=", matchers)} <= {*METRICS[name].labels}
    for labels, name in _GROUPED.findall(query):
        assert {*labels.split(", ")} <= {*METRICS[name].labels}


def test_every_metric_that_says_when_to_worry_has_a_rule() -> None:
    asked = {name for rule in RULES for name in _WORDS.findall(rule["expr"])}
    assert {name for name, metric in METRICS.items() if metric.alert} <= asked


def sections() -> dict[str, str]:
    return dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^#|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_links_to_its_section_of_the_runbook(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["runbook"] == f"docs/how-to/runbook.md#{rule['alert'].lower()}"
    assert "**Do:** " in sections()[rule["alert"]]
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in ("page", "ticket")


def test_the_runbook_has_a_section_for_each_exit_code_and_alert_and_no_other() -> None:
    codes = {f"Exit code {code}" for code in {error.exit_code for error in generate.error_classes()} | {130, 137}}
    assert {*sections()} == {rule["alert"] for rule in RULES} | codes
    assert all("**Do:** " in section for section in sections().values())
    of_webhook = {alerts.LAG, alerts.TABLE_FAILS, alerts.REJECTS, alerts.JOB_FAILED}
    assert of_webhook <= {*sections()}


# A real Prometheus


@pytest.fixture(scope="module")
def prometheus() -> Path:
    """The folder of `prometheus` and `promtool`."""
    if installed := shutil.which("prometheus"):
        return Path(installed).parent
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakehouse-spark" / "prometheus"
    if not (cache / "usr" / "bin" / "promtool").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        for command in (["apt-get", "download", "prometheus"], ["sh", "-c", "dpkg -x prometheus_*.deb ."]):
            try:
                subprocess.run(command, cwd=cache, check=True, capture_output=True, timeout=120)
            except (OSError, subprocess.SubprocessError) as error:
                pytest.skip(f"there is no Prometheus, and it cannot be fetched: {error}")
    return cache / "usr" / "bin"


def test_prometheus_takes_the_rules_and_the_configuration(prometheus: Path) -> None:
    for what, file in (("rules", "alerts.yml"), ("config", "prometheus.yml")):
        checked = subprocess.run(
            [prometheus / "promtool", "check", what, SHIPPED / file], capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
    assert "14 rules found" in checked.stdout


FIRES = {
    "LakehouseDown": 'up{job="lakehouse", instance="a"}: 0x60',
    "LakehouseUnreadable": "lakehouse_readable: 0x60",
    "LakehouseLag": 'lakehouse_lag_seconds{table="t", upstream="u"}: 3000+60x60',
    "LakehouseTableFails": 'lakehouse_table_failing{table="t"}: 1x60',
    "LakehouseBeatLate": "lakehouse_beat_timestamp_seconds: -7200x60",
    "LakehouseBeatsSkipped": "lakehouse_beats_skipped_total: 0+1x60",
    "LakehouseMaintenanceFails": 'lakehouse_maintenance_failures_total{schedule="s"}: 0x30 1x30',
    "LakehouseJobFailed": 'lakehouse_job_exit_code{job_name="j"}: 3x60',
    "LakehouseJobOverdue": 'lakehouse_job_last_success_timestamp_seconds{job_name="j"}: -180000x60',
    "LakehouseRejects": (
        'lakehouse_judged_records_total{table="t", outcome="records"}: 0+100x60',
        'lakehouse_judged_records_total{table="t", outcome="rejected"}: 0+6x60',
    ),
    "LakehouseLostRaces": 'lakehouse_lost_races_total{table="t"}: 0+1x60',
    "LakehouseSmallFiles": 'lakehouse_table_small_files{table="t"}: 6000x1500',
    "LakehouseSnapshots": 'lakehouse_table_snapshots{table="t"}: 6000x1500',
    "LakehousePayloadDrift": 'lakehouse_payload_drift_records{topic="t", change="RETYPED"}: 3x60',
}
"""Values, a minute apart, at which an alert fires and no other does."""


def test_each_rule_fires_when_it_should_and_no_other_does(prometheus: Path, tmp_path: Path) -> None:
    tests = []
    for alert, given in FIRES.items():
        series = [line.rpartition(": ") for line in ([given] if isinstance(given, str) else given)]
        minutes = 1_500 if alert in ("LakehouseSmallFiles", "LakehouseSnapshots") else 60
        tests.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, _, values in series],
                "promql_expr_test": [
                    {
                        "expr": 'count(ALERTS{alertstate="firing"}) by (alertname)',
                        "eval_time": f"{minutes}m",
                        "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}],
                    }
                ],
            }
        )
    assert {*FIRES} == {rule["alert"] for rule in RULES}
    file = tmp_path / "rules_test.yml"
    file.write_text(json.dumps({"rule_files": [str(SHIPPED / "alerts.yml")], "tests": tests}))
    tested = subprocess.run(
        [prometheus / "promtool", "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stderr + tested.stdout


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def scraping(prometheus: Path, tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A Prometheus with the shipped rules: the port that it scrapes, and its own."""
    target, own = free_port(), free_port()
    config = {
        "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
        "rule_files": [str(SHIPPED / "alerts.yml")],
        "scrape_configs": [{"job_name": "lakehouse", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    command = [
        str(prometheus / "prometheus"), f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{own}", "--log.level=error",
    ]  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield target, own
        finally:
            running.terminate()
            running.wait(30)


def asked(port: int, query: str) -> dict[str, float]:
    """The answer to a query, by table."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.loads(answer.read())["data"]["result"]
    except OSError:  # it is not up yet
        return {}
    return {each["metric"].get("table", ""): float(each["value"][1]) for each in found}


def test_prometheus_scrapes_live_mode_and_its_alerts_fire(scraping: tuple[int, int], tmp_path: Path) -> None:
    target, own = scraping
    home = Home(tmp_path / "home")
    home.land(RAW, at(1), cursor=topic(at(1)))  # long ago, and silver has not consumed it
    settings = Settings(home=home.folder, metrics=MetricsSettings(port=target))
    with metrics.observing(settings, JOBS["pipeline"], {"every": timedelta(minutes=15)}) as live:
        live.begin(NOTHING, settings)
        deadline = time.monotonic() + 60
        pending = 'ALERTS{alertname="LakehouseLag"}'
        while not (fired := asked(own, pending)):
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        assert fired == {SILVER: 1}
        assert asked(own, 'up{job="lakehouse"}') == {"": 1}
        assert asked(own, f'lakehouse_table_rows{{table="{RAW}"}}') == {RAW: 1}
        live.ended(0)
