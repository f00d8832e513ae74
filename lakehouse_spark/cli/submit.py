"""`python -m lakehouse_spark.cli.submit JOB [options]` turns into spark-submit, with what this profile needs."""

import json
import os
import shutil
import sys
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import NoReturn

from lakehouse_spark import settings
from lakehouse_spark.cli.run import parse
from lakehouse_spark.errors import LakehouseError, UsageError
from lakehouse_spark.lake import session
from lakehouse_spark.settings import (
    DEPLOY_MODE,
    Settings,
    of_environment,
    python_environment,
    secret_files,
    sets_a_secret,
)

ENTRY = Path(__file__).resolve().parent / "entries" / "job.py"
_FILES = "spark.yarn.dist.files"
_TOLD = "LAKEHOUSE_SUBMITTED_WITH"
_CONF_DIR, _SECRETS_DIR = "LAKEHOUSE_CONF_DIR", "LAKEHOUSE_SECRETS_DIR"
_OF_THIS_MACHINE = {"LAKEHOUSE_HOME", "LAKEHOUSE_CACHE", "LAKEHOUSE_JAVA_HOME"}


def command(arguments: Sequence[str], master: str | None, conf: dict[str, str]) -> list[str]:
    """The command line for a job and its options; what is secret stays in the environment, where the job reads it."""
    settled = [part for name, value in conf.items() for part in ("--conf", f"{name}={value}")]
    chosen = ["--master", master] if master else []
    return ["spark-submit", *chosen, *settled, str(ENTRY), *arguments]


def for_a_driver_elsewhere(current: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Spark's configuration by which a driver that YARN starts on another machine has the settings of this environment,
    and the files of its secrets.

    Raises UsageError for what cannot go there: a variable with a secret, which would stand on command lines, and a
    folder of profiles.
    """
    told = {name: value for name, value in of_environment(environment).items() if name not in _OF_THIS_MACHINE}
    if _CONF_DIR in told:
        raise UsageError(f"cluster mode: {_CONF_DIR} is a folder of this machine, and stays here")
    if secret := sorted(name for name, value in told.items() if sets_a_secret(name, value)):
        raise UsageError(
            f"cluster mode: {', '.join(secret)}: a secret in a variable would stand in the application's configuration;"
            f" put it into a file of {_SECRETS_DIR}, which travels as a file"
        )
    secrets = secret_files(environment.get(_SECRETS_DIR), _SECRETS_DIR)
    # YARN writes a variable into a script as it is: quotes, dollars and double braces would not arrive.
    blob = json.dumps({"settings": told, "secrets": [*secrets]}).encode()
    links = [f"{file.resolve().as_uri()}#{name}" for name, file in secrets.items()]
    conf = {DEPLOY_MODE: "cluster", f"spark.yarn.appMasterEnv.{_TOLD}": b64encode(blob).decode()}
    if files := ",".join(filter(None, (current.spark.conf.get(_FILES), *links))):
        conf[_FILES] = files
    return conf


def take_over(environment: MutableMapping[str, str]) -> None:
    """Adds what such a driver was submitted with, if this is one; what its machine says itself wins."""
    blob = environment.pop(_TOLD, None)
    if blob is None:
        return
    told = json.loads(b64decode(blob))
    if told["secrets"]:
        folder = tempfile.mkdtemp(prefix="secrets-", dir=".")
        for name in told["secrets"]:  # a link to where YARN keeps it, which settings do not follow
            shutil.copyfile(name, Path(folder) / name)
        environment.setdefault(_SECRETS_DIR, folder)
    environment.update(told["settings"] | dict(environment))


def main(argv: Sequence[str]) -> NoReturn:
    """Refuses wrong use before any JVM starts; then this process becomes spark-submit, sized for the job.

    What the environment says of sizes wins over what the job declares, and that over the profile.
    """
    try:
        job, _ = parse(argv, "scripts/submit")
        os.environ.update(job.size.wanted_in(os.environ))
        current = settings.load()
        environment = session.launch_environment(current)
        conf = session.launch_conf(current, announce=lambda message: print(message, file=sys.stderr, flush=True))
        if current.in_cluster_mode:
            conf = {"spark.app.name": f"lakehouse {job.name}"} | conf | for_a_driver_elsewhere(current, os.environ)
            environment = {name: value for name, value in environment.items() if name not in python_environment()}
    except LakehouseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    program = Path(environment["SPARK_HOME"]) / "bin" / "spark-submit"
    os.execve(program, command(argv, current.spark.master, conf), {**os.environ, **environment})


if __name__ == "__main__":
    main(sys.argv[1:])
