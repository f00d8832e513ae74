"""How commands print what came of work on a lakehouse: of jobs, of the demo, of `verify`."""

from collections.abc import Callable, Iterator, Sequence

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
    looked_at = [finding for finding in findings if finding.checked != verify.NOTHING_NEW]
    shown = [finding for finding in looked_at if not (only_violations and finding.holds)]
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


def show_verified(findings: Sequence[verify.Finding]) -> None:
    """What was checked, how much of all that is, and since when all of it is known to hold."""
    show_findings(findings)
    for sentence in of_proofs(findings):
        out.print(sentence, markup=False, highlight=False)


def of_proofs(findings: Sequence[verify.Finding]) -> Iterator[str]:
    """How much was looked at, where that is not all, and as the last line when all of it was last proved."""
    of_new, of_nothing = (sum(f.checked == checked for f in findings) for checked in (verify.NEW, verify.NOTHING_NEW))
    if of_new or of_nothing:
        yield f"{of_nothing} of them have nothing new since they were proved, {of_new} were checked for what is new"
    times = [finding.proved_in_full for finding in findings]
    known = [time for time in times if time is not None]
    when = f"proved in full at {min(known):%Y-%m-%d %H:%M:%S} UTC" if known else "nothing is proved in full"
    yield when + (f", but for {len(times) - len(known)} of {len(times)}" if 0 < len(known) < len(times) else "")


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
