"""`lakehouse move`: a lakehouse in another place, with its history; and so a backup, and what restores it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse_spark.cli.output import Json, grid_of, out, print_json, stages
from lakehouse_spark.errors import UsageError
from lakehouse_spark.settings import TARGET, Settings, load, load_target

# Imported when it runs: help does without PyIceberg.

if TYPE_CHECKING:
    from lakehouse_spark.move import Moved, Plan


def run(
    profile: Annotated[str | None, typer.Option("--to-profile", help="Short for LAKEHOUSE_TO_PROFILE.")] = None,
    home: Annotated[Path | None, typer.Option("--to-home", help="Short for LAKEHOUSE_TO_HOME.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be copied, and whether it may be.")
    ] = False,
    beside_writers: Annotated[
        bool,
        typer.Option("--beside-writers", help="For a backup: what writers commit meanwhile is not in it."),
    ] = False,
    by_size: Annotated[
        bool,
        typer.Option(
            "--by-size", help="Take a file that is there with the same size for the same, without reading it."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy the lakehouse, history and all, to the place that LAKEHOUSE_TO_… names, and verify it there; no Spark."""
    if not (profile or home or _named()):
        raise UsageError(
            "say where the lakehouse is to go: --to-home FOLDER, or the place's settings, each behind LAKEHOUSE_TO_"
        )
    from lakehouse_spark.move import Move

    target = load_target(profile, home)
    move = Move(load(), target, beside_writers=beside_writers, by_size=by_size)
    if dry_run:
        plan = move.plan()
        print_json(plan.as_dict()) if as_json else _show(plan)
        return
    with stages(as_json) as step:
        moved = move.run(step)
    if as_json:
        print_json(moved.as_dict())
    else:
        _tell(moved, _to_set(target, profile, home))


def _show(plan: "Plan") -> None:
    grid = grid_of("table", "snapshots", "files", "MB")
    for each in plan.tables:
        grid.add_row(each.table, f"{each.snapshots:,}", f"{each.files:,}", f"{each.bytes / 1e6:,.1f}")
    out.print(grid)
    out.print()
    there = sum(each.is_there for each in plan.tables)
    out.print(
        f"{len(plan.tables)} tables, {plan.files:,} files, {plan.bytes / 1e6:,.1f} MB: {plan.source} → {plan.target}"
        + (f"; {there} tables are there already" if there else ""),
        markup=False, highlight=False,
    )  # fmt: skip


def _tell(moved: "Moved", to_set: list[str]) -> None:
    plan = moved.plan
    said = (
        f"{len(plan.tables)} tables, {plan.files:,} files, {plan.bytes / 1e6:,.1f} MB are in {plan.target}; "
        f"{moved.copied:,} files were copied, {moved.registered} tables registered",
        "verified there: each file by its SHA-256, each snapshot by its files",
        f"the source is as it was, and can still be written to: let nothing write to {plan.source} any more",
        f"to work in the new place, set {', '.join(to_set)}; then: lakehouse verify --full",
    )
    for sentence in said:
        out.print(sentence, markup=False, highlight=False)


def _to_set(target: Settings, profile: str | None, home: Path | None) -> list[str]:
    """What the target's variables are called once it is the lakehouse; values of some are secret, so they are named."""
    given = {name.replace(TARGET, "LAKEHOUSE_", 1) for name in _named()}
    shown = {"LAKEHOUSE_PROFILE": target.profile if profile else None, "LAKEHOUSE_HOME": target.root if home else None}
    named = {name: f"{name}={value}" for name, value in shown.items() if value is not None}
    others = (f"{name} (as LAKEHOUSE_TO_{name.removeprefix('LAKEHOUSE_')} is)" for name in sorted(given - named.keys()))
    return [*named.values(), *others]


def _named() -> list[str]:
    return [name for name in os.environ if name.startswith(TARGET)]
