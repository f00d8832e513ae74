"""Asset checks: one per invariant of `lakehouse verify` and table, of which one verify checks all that are selected;
and the share of records that silver rejects."""

import json
from collections.abc import Iterator
from inspect import cleandoc

import dagster as dg
from dagster import AssetCheckExecutionContext

from lakehouse_spark.catalog import FEEDS, TABLES
from lakehouse_spark.orchestration import processes, watching
from lakehouse_spark.orchestration.assets import BEATS, key, name_of
from lakehouse_spark.settings import load
from lakehouse_spark.verify import CHECKS

REJECTED_SHARE = "rejected_share"
FULL = "lakehouse/full"
"""The tag of a run that checks all there is, and not what is new alone."""

INVARIANTS = tuple((each, table) for each in CHECKS for table in (each.about or TABLES))


@dg.multi_asset_check(
    name="verify",
    specs=[
        dg.AssetCheckSpec(each.name, asset=key(table.name), description=cleandoc(each.check.__doc__ or ""))
        for each, table in INVARIANTS
    ],
    can_subset=True,
    pool=BEATS,
)
def verify(context: AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Checks the invariants against the data itself, in one session: what is new, or all."""
    selected = {(check.name, name_of(check.asset_key)) for check in context.selected_asset_check_keys}
    tables = [table.name for table in TABLES if table.name in {name for _, name in selected}]
    options = [] if len(tables) == len(TABLES) else processes.of_tables(tables)
    full = ["--full"] if FULL in context.run.tags else []
    command = processes.lakehouse("verify", "--json", *full, *options)
    code, text = processes.output_of(context, command)
    try:
        findings = json.loads(text)
    except json.JSONDecodeError:
        processes.raise_unless_done(command, code or 1)
        raise
    for invariant, table in sorted(selected):
        found = [each for each in findings if (each["invariant"], each["table"]) == (invariant, table)]
        yield dg.AssetCheckResult(
            passed=all(each["holds"] for each in found),
            asset_key=key(table),
            check_name=invariant,
            metadata={each["check"]: each["detail"] for each in found},
            description=None if found else "this table has nothing of what is checked",
        )


@dg.multi_asset_check(
    name="look_at_letters",
    specs=[
        dg.AssetCheckSpec(
            REJECTED_SHARE,
            asset=key(feed.table.name),
            description="Of the records judged, no larger share was rejected than LAKEHOUSE_ALERTS__REJECTED_SHARE.",
        )
        for feed in FEEDS.values()
    ],
    can_subset=True,
)
def look_at_letters(context: AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Of all that was judged ever; its sensor tells of what was judged since its last look."""
    selected = {name_of(check.asset_key) for check in context.selected_asset_check_keys}
    for judged in watching.judged(load(), {}):
        if judged.table in selected:
            yield dg.AssetCheckResult(
                passed=judged.is_within_limit,
                asset_key=key(judged.table),
                check_name=REJECTED_SHARE,
                metadata=judged.told,
            )
