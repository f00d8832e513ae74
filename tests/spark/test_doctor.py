"""What `lakehouse doctor` finds in a lakehouse that was migrated: all well, then what dead runs left."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import SparkSession

from lakehouse_spark.catalog import BY_NAME
from lakehouse_spark.cli import doctor
from lakehouse_spark.cli.doctor import OK, WARN
from lakehouse_spark.lake.snapshots import load
from lakehouse_spark.maintenance.journal import Run
from lakehouse_spark.maintenance.plan import ManifestRewrite
from lakehouse_spark.settings import Settings
from tests.support.lakehouses import connect, copy

_LONG_AGO = "commit_20250101T000000_0123456789abcdef0123456789abcdef"


def test_a_new_lakehouse_is_well_and_what_dead_runs_left_is_told(migrated: SparkSession, tmp_path: Path) -> None:
    warehouse = str(migrated.conf.get("spark.sql.catalog.lake.warehouse")).removeprefix("file://")
    (tmp_path / "home").mkdir()
    copy(Path(warehouse).parent, tmp_path / "home")
    settings, spark = Settings(home=tmp_path / "home"), connect(migrated, tmp_path / "home")

    def verdicts() -> dict[str, str]:
        return {check.name: check.verdict for check in doctor.examine(settings, datetime.now(UTC) + timedelta(days=2))}

    of_lakehouse = ("catalog", "schema", "clock", "branches", "leases")
    assert [verdicts()[name] for name in of_lakehouse] == [OK] * 5

    trades = load(spark, BY_NAME["silver.trades"])
    trades.manageSnapshots().createBranch(_LONG_AGO, trades.currentSnapshot().snapshotId()).commit()
    action = ManifestRewrite(table="silver.trades", reason="a test", before={"manifests": 1}, after={"manifests": 1})
    Run(spark, settings, timedelta(days=3)).start([action])
    assert [verdicts()[name] for name in of_lakehouse] == [OK, OK, OK, WARN, WARN]
