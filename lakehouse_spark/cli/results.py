"""How commands print what came of work on a lakehouse: of jobs, of the demo, of `verify`."""

from collections.abc import Callable, Sequence

from lakehouse_spark import verify
from lakehouse_spark.cli.output import grid_of, out, print_json
from lakehouse_spark.jobs.summary import Summary
from lakehouse_spark.local import demo


def show_outcome(outcome: demo.Outcome) -> None:
    grid = grid_of(
        "topic", "in Kafka", "bronze", "accepted", "duplicates", "rejected", "silver rows", "lost", "doubled"
    )
    for flow in outcome.flows:
        judged = (flow.accepted, flow.duplicates, flow.rejected)
        numbers = (flow.produced, flow.bronze, *judged, flow.rows, flow.lost, flow.doubled)
        grid.add_row(flow.topic, *(f"{number:,}" for number in numbers))
    out.print(grid)
    reasons = grid_of("rejected because", *(flow.topic for flow in outcome.flows))
    for code in sorted({code for flow in outcome.flows for code in flow.reasons}):
        reasons.add_row(code, *(f"{flow.reasons.get(code, 0):,}" for flow in outcome.flows))
    out.print(reasons)
    model = grid_of("dimensions, facts, gold", "rows")
    for name, number in outcome.rows.items():
        model.add_row(name, f"{number:,}")
    out.print(model)
    show_findings(outcome.findings, only_violations=True)
    for surprise in outcome.surprises:
        out.print(f"[red]not as simulated:[/] {surprise}")
    lost, doubled = (sum(getattr(flow, name) for flow in outcome.flows) for name in ("lost", "doubled"))
    checked = sum(1 for finding in outcome.findings if finding.holds)
    colour = "green" if outcome.proved else "red"
    out.print(f"[bold {colour}]{lost:,} lost, {doubled:,} doubled[/]: verify checked {checked} invariants")


def show_findings(findings: Sequence[verify.Finding], *, only_violations: bool = False) -> None:
    shown = [finding for finding in findings if not (only_violations and finding.holds)]
    if shown:
        grid = grid_of("invariant", "table", "", "detail")
        for finding in shown:
            mark = (
                "[green]holds[/]"
                if finding.holds
                else "[yellow]unchecked[/]"
                if finding.violations is None
                else "[red]BROKEN[/]"
            )
            grid.add_row(finding.check, finding.table, mark, finding.detail)
        out.print(grid)
    if not only_violations:
        broken = sum(1 for finding in findings if finding.violations)
        unchecked = sum(1 for finding in findings if finding.violations is None)
        rest = f", {unchecked} could not be checked" if unchecked else ""
        out.print(f"{len(findings) - broken - unchecked} invariants hold, {broken} are broken{rest}")


def teller(step: Callable[[str], None]) -> Callable[[Summary | verify.Finding], None]:
    """Tells of every step of the work, and of invariants only where they do not hold."""

    def tell(done: Summary | verify.Finding) -> None:
        if isinstance(done, Summary) or not done.holds:
            step(line(done))

    return tell


def line(done: Summary | verify.Finding) -> str:
    if isinstance(done, Summary):
        return str(done)
    return f"verify: {done.table}: {done.check}: {'holds' if done.holds else done.detail}"


def print_summaries(summaries: Sequence[Summary], as_json: bool) -> None:
    if as_json:
        print_json([summary.as_dict() for summary in summaries])
        return
    for summary in summaries:
        out.print(str(summary), highlight=False)
