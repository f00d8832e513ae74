"""Pending migrations tried out on a copy of all tables' metadata (see iceberg.copies)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import SparkSession

from lakehouse_spark import migrations, verify
from lakehouse_spark.jobs import pipeline
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.migrations.migration import Migration
from lakehouse_spark.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """What came of a rehearsal."""

    applied: tuple[Migration, ...]
    summaries: tuple[Summary, ...]
    findings: tuple[verify.Finding, ...]

    @property
    def holds(self) -> bool:
        return not any(finding.violations for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {
            "holds": self.holds,
            "applied": [{"version": each.version, "description": each.description} for each in self.applied],
            "tables": [summary.as_dict() for summary in self.summaries],
            "findings": [finding.as_dict() for finding in self.findings],
        }


def run(
    spark: SparkSession,
    staged: Settings,
    *,
    report: Callable[[Summary | verify.Finding], None] = lambda step: None,
) -> Outcome:
    """Migrates the copy, brings every layer behind bronze up to what bronze holds, and verifies what came of it.

    Raises RefusedError where a migration is refused.
    """
    applied = migrations.migrate(spark, staged, datetime.now(UTC))
    summaries = pipeline.derive(spark, staged, report=report)
    return Outcome(tuple(applied), tuple(summaries), tuple(verify.run(spark, staged, report=report)))
