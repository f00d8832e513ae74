"""Tells Dagster, where it runs the job through Pipes, of each table once that is up to date."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lakehouse_spark.jobs.job import Options
from lakehouse_spark.jobs.summary import Summary


@contextmanager
def reporting() -> Iterator[Options]:
    """The options that a job gets beside those that were given: whom it reports to, if anyone listens."""
    if "DAGSTER_PIPES_CONTEXT" not in os.environ:
        yield {}
        return
    from dagster_pipes import open_dagster_pipes  # of the extra `dagster`; Dagster itself is not needed here

    with open_dagster_pipes() as pipes:

        def report(summary: Summary) -> None:
            asset = summary.table.replace(".", "/")
            said: dict[str, Any] = {"outcome": str(summary), "seconds": summary.seconds, **summary.counts}
            if not pipes.is_asset_step:  # maintenance, which makes no table
                pipes.report_custom_message({"table": summary.table, **said})
            elif asset in pipes.asset_keys:  # a job may do more than was asked for
                pipes.report_asset_materialization(asset_key=asset, metadata=said)

        yield {"report": report}
