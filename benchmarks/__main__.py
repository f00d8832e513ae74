"""`scripts/bench [W1 …] [--size S] [--runs N]`."""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks import harness, plan, report
from benchmarks.workloads import WORKLOADS


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Each workload beside its peers and its limit.")
    parser.add_argument("workloads", nargs="*", metavar="W", help=f"of {', '.join(WORKLOADS)}; default: all")
    parser.add_argument(
        "--size", choices=plan.SIZES, default="small", help="small takes minutes, full hours; default: small"
    )
    parser.add_argument("--runs", type=int, default=5, help="warm runs per contender, at least; default: 5")
    parser.add_argument("--children", type=int, help="processes per contender; default: 2, and 1 for the smaller sizes")
    parser.add_argument("--case", action="append", default=[], help="only this case; may be repeated")
    parser.add_argument("--only", action="append", default=[], help="only this contender; may be repeated")
    parser.add_argument("--keep", action="store_true", help="add to the results there are, replacing the cases run")
    parser.add_argument("--lock", type=Path, help="hold this file's lock during each run, where others measure too")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="where tables, JSON and plots go")
    options = parser.parse_args()
    if unknown := set(options.workloads) - set(WORKLOADS):
        parser.error(f"no workload {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # brokers and children end too
    console = Console(width=None if sys.stdout.isatty() else 220)
    for name in options.workloads or WORKLOADS:
        workload = WORKLOADS[name].workload
        cases = [c for c in workload.cases(options.size, options.runs) if not options.case or c.name in options.case]
        results = report.load(workload, options.results) if options.keep else plan.Results(name)
        for chosen in (plan.chosen(case, options.only, options.children) for case in cases):
            if not chosen.contenders:
                continue
            results.forget(chosen)
            try:
                with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", ignore_cleanup_errors=True) as folder:
                    harness.run(workload, chosen, Path(folder), results, options.lock, console.print)
            finally:  # a long run may be stopped, and goes on with --keep
                report.write(workload, results, options.results, console)


if __name__ == "__main__":
    main()
