"""The child of one contender: `python -m benchmarks.child job.json`."""

import json
import sys
from pathlib import Path

from benchmarks import measure
from benchmarks.plan import Job
from benchmarks.workloads import WORKLOADS


def main(file: str) -> None:
    given = json.loads(Path(file).read_text())
    job = Job(**{**given, "cores": tuple(given["cores"])})
    measure.live(WORKLOADS[job.workload].contenders[job.contender], job)


if __name__ == "__main__":
    main(sys.argv[1])
