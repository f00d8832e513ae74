"""`python -m lakehouse_spark.submit JOB [options]` turns into spark-submit, with what this profile needs."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lakehouse_spark import settings
from lakehouse_spark.cli import entry
from lakehouse_spark.errors import LakehouseError
from lakehouse_spark.lake import session

ENTRIES = Path(__file__).resolve().parents[2] / "jobs"


def command(job: str, options: Sequence[str], master: str | None, conf: dict[str, str]) -> list[str]:
    """The command line; everything secret stays in the environment, where the job reads it."""
    settled = [part for name, value in conf.items() for part in ("--conf", f"{name}={value}")]
    chosen = ["--master", master] if master else []
    return ["spark-submit", *chosen, *settled, str(ENTRIES / f"{job}.py"), *options]


def main(argv: Sequence[str]) -> NoReturn:
    """Refuses wrong use before any JVM starts; then this process becomes spark-submit."""
    if argv and argv[0] in entry.HELP:
        print(entry.listing("scripts/submit"))
        sys.exit(0)
    try:
        job, options = entry.known_job(argv)
        entry.parse(job, options)
        current = settings.load()
        environment = session.launch_environment(current)
        conf = session.launch_conf(current, announce=lambda message: print(message, file=sys.stderr, flush=True))
    except LakehouseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    program = Path(environment["SPARK_HOME"]) / "bin" / "spark-submit"
    os.execve(program, command(job, options, current.spark.master, conf), {**os.environ, **environment})


if __name__ == "__main__":
    main(sys.argv[1:])
