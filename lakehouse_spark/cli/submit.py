"""`python -m lakehouse_spark.cli.submit JOB [options]` turns into spark-submit, with what this profile needs."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lakehouse_spark import settings
from lakehouse_spark.cli.run import parse
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.lake import session

ENTRY = Path(__file__).resolve().parent / "entries" / "job.py"


def command(arguments: Sequence[str], master: str | None, conf: dict[str, str]) -> list[str]:
    """The command line for a job and its options; what is secret stays in the environment, where the job reads it."""
    settled = [part for name, value in conf.items() for part in ("--conf", f"{name}={value}")]
    chosen = ["--master", master] if master else []
    return ["spark-submit", *chosen, *settled, str(ENTRY), *arguments]


def main(argv: Sequence[str]) -> NoReturn:
    """Refuses wrong use before any JVM starts; then this process becomes spark-submit, sized for the job.

    What the environment says of sizes wins over what the job declares, and that over the profile.
    """
    try:
        job, _ = parse(argv, "scripts/submit")
        os.environ.update(job.size.as_environment() | os.environ)
        current = settings.load()
        environment = session.launch_environment(current)
        conf = session.launch_conf(current, announce=lambda message: print(message, file=sys.stderr, flush=True))
    except LakehouseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    program = Path(environment["SPARK_HOME"]) / "bin" / "spark-submit"
    os.execve(program, command(argv, current.spark.master, conf), {**os.environ, **environment})


if __name__ == "__main__":
    main(sys.argv[1:])
