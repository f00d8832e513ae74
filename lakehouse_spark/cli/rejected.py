"""`lakehouse rejected`: the dead-letter table: look, replay, discard."""

from typing import Annotated

import typer

from lakehouse_spark.catalog import TOPICS
from lakehouse_spark.cli.groups import Group, completing
from lakehouse_spark.cli.output import Json, out, print_json, show_reasons, show_rows, stages, text
from lakehouse_spark.errors import UsageError
from lakehouse_spark.iceberg import letters
from lakehouse_spark.lake.dead_letters import Selection
from lakehouse_spark.settings import load
from lakehouse_spark.silver.rejected_records import STATUSES
from lakehouse_spark.transforms import reasons

app = typer.Typer(cls=Group)

_LISTED = (
    "rejected_id", "source_table", "_kafka_partition", "_kafka_offset", "event_time", "reasons", "status",
)  # fmt: skip

Topic = Annotated[
    str | None, typer.Option("--table", help=f"One of {', '.join(TOPICS)}.", autocompletion=completing(TOPICS))
]
_CODES = [reason.code for reason in reasons.REASONS]
Reason = Annotated[
    str | None, typer.Option(help="Only records with this reason code.", autocompletion=completing(_CODES))
]
Status = Annotated[
    str | None,
    typer.Option("--status", help=f"One of {', '.join(STATUSES)}.", autocompletion=completing(STATUSES)),
]
Ids = Annotated[list[str] | None, typer.Argument(help="Ids of records; none: all that the options select.")]


@app.command("list")
def list_rejected(
    table: Topic = None,
    reason: Reason = None,
    status_is: Status = None,
    limit: Annotated[int, typer.Option(min=1, help="Records to print at most.")] = 50,
    by_reason: Annotated[bool, typer.Option("--by-reason", help="Only how many per reason, and what to do.")] = False,
    as_json: Json = False,
) -> None:
    """The rejected records by reason, with what to do about it; then each, oldest first. Read without Spark."""
    found = letters.read(load(), Selection(table, reason, status_is))
    if by_reason or not as_json:
        number, codes = found.by_reason()
        groups = reasons.grouped(codes)
    if by_reason:
        print_json(groups) if as_json else show_reasons(groups)
        return
    if as_json:
        print_json(found.oldest(limit, [*_LISTED, "attempts", "resolution"]))
        return
    rows = found.oldest(limit, _LISTED)
    show_reasons(groups)
    show_rows(_LISTED, [[row[name] for name in _LISTED] for row in rows])
    out.print(f"{len(rows):,} of {number:,} records")


@app.command("show")
def show_rejected(rejected_id: str, as_json: Json = False) -> None:
    """One rejected record, whole, with its payload. Read without Spark."""
    rows = letters.read(load(), Selection(ids=[rejected_id])).oldest()
    if not rows:
        raise UsageError(f"no rejected record has the id {rejected_id!r}; see: lakehouse rejected list")
    if as_json:
        print_json(rows)
        return
    for row in rows:
        for name, value in row.items():
            out.print(f"[bold]{name}[/]: ", end="")
            out.print(text(value), markup=False, highlight=False)
        for code in row["reasons"]:
            out.print(reasons.explained(code), markup=False, highlight=False)


@app.command("replay")
def replay_rejected(
    ids: Ids = None,
    table: Topic = None,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Judge open records by today's rules; those that are good now enter silver."""
    from lakehouse_spark import migrations
    from lakehouse_spark.cli.results import print_summaries
    from lakehouse_spark.cli.sessions import opened
    from lakehouse_spark.jobs import rejected

    with opened("rejected replay") as (spark, settings), stages(as_json) as step:
        migrations.require_current(spark, settings)
        step("replaying")
        summaries = rejected.replay(spark, settings, Selection(table, reason, ids=ids or ()))
    print_summaries(summaries, as_json)


@app.command("discard")
def discard_rejected(
    ids: Ids = None,
    table: Topic = None,
    reason: Reason = None,
    why: Annotated[str, typer.Option(help="What the audit will read.")] = "",
    as_json: Json = False,
) -> None:
    """Close open records for good; they stay in the table with the reason given."""
    if not why:
        raise UsageError("say why: --why 'test feed of 3 May, agreed with the desk'")
    if not (ids or table or reason):
        raise UsageError("say which records: ids, --table or --reason")
    from lakehouse_spark import migrations
    from lakehouse_spark.cli.sessions import opened
    from lakehouse_spark.jobs import rejected

    with opened("rejected discard") as (spark, settings):
        migrations.require_current(spark, settings)
        number = rejected.discard(spark, Selection(table, reason, ids=ids or ()), why)
    print_json({"discarded": number}) if as_json else out.print(f"{number:,} records discarded")
