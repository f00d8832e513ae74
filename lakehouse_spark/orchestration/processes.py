"""The commands of the lakehouse as processes of their own, which end with the run of Dagster's that began them.

A run holds the lock of a file while its process lives (see `executor`). The kernel takes it from the dead: so anyone on
this machine can see whether a run is under way that Dagster takes to be. A command holds the lock of its pool, which it
keeps where its run is killed: so the next one begins when it has ended, whatever Dagster counts.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import dagster as dg

from lakehouse_spark.errors import UsageError
from lakehouse_spark.settings import load

Materialized = dg.MaterializeResult[Any]

_Context = dg.OpExecutionContext | dg.AssetExecutionContext | dg.AssetCheckExecutionContext

_PATIENCE_SECONDS = 90
"""For the commit under way when a run is cancelled: bronze_writer takes up to a minute for it."""
_POLL_SECONDS = 0.5


def submit(job: str, *options: str) -> Sequence[str]:
    """The command that becomes spark-submit with a job, sized as the job declares or the environment says.

    Raises UsageError in cluster mode: a driver elsewhere could neither report to Dagster nor be ended by it.
    """
    if load().in_cluster_mode:
        raise UsageError("Dagster needs drivers on its own machine: client mode, not cluster (LAKEHOUSE_SPARK__CONF)")
    return [*_tied(), sys.executable, "-m", "lakehouse_spark.cli.submit", job, *options]


def lakehouse(*arguments: str) -> Sequence[str]:
    """The `lakehouse` command."""
    return [*_tied(), sys.executable, "-c", "from lakehouse_spark.cli import main; main()", *arguments]


def of_tables(names: Iterable[str]) -> Sequence[str]:
    """The options by which a job or a command is of these tables alone."""
    return [part for name in names for part in ("--table", name)]


def _tied() -> Sequence[str]:
    """What makes a process hear SIGTERM when the one that began it is killed; Linux alone has it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def run(context: dg.OpExecutionContext, command: Sequence[str]) -> None:
    """Runs a command to its end; raises Failure where that is not 0."""
    with _in_turn(context) as turn, _begun(command, turn) as process:
        raise_unless_done(command, process.wait())


def output_of(context: _Context, command: Sequence[str]) -> tuple[int, str]:
    """The exit code of a command, and what it wrote to stdout."""
    with _in_turn(context) as turn, _begun(command, turn, stdout=subprocess.PIPE) as process:
        text, _ = process.communicate()
        return process.returncode, text


def reported_by(context: dg.AssetExecutionContext, command: Sequence[str]) -> Iterator[Materialized]:
    """What a job reports through Pipes, table by table as it is done; raises Failure behind the last if it failed."""
    for each in _heard(context, command, lambda session: session.get_reported_results()):
        if isinstance(each, dg.MaterializeResult):
            yield each


def observed_by(context: dg.OpExecutionContext, command: Sequence[str]) -> Iterator[dg.AssetObservation]:
    """The same of a job that makes no table, but does something to some."""
    for said in _heard(context, command, lambda session: session.get_custom_messages()):
        yield dg.AssetObservation(said.pop("table").split("."), metadata=said)


def _heard(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    command: Sequence[str],
    all_of: Callable[[dg.PipesSession], Sequence[Any]],
) -> Iterator[Any]:
    number = 0
    with (
        _in_turn(context) as turn,
        dg.open_pipes_session(context, dg.PipesTempFileContextInjector(), dg.PipesTempFileMessageReader()) as session,
        _begun(command, turn, session.get_bootstrap_env_vars()) as process,
    ):
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
            fresh = all_of(session)[number:]
            yield from fresh
            number += len(fresh)
    yield from all_of(session)[number:]
    raise_unless_done(command, process.returncode)


def raise_unless_done(command: Sequence[str], code: int) -> None:
    """Raises Failure for another exit code than 0; what was refused, to protect data, is not to be tried again."""
    if code:
        what = " ".join(command[command.index(sys.executable) + 3 :])
        said = {2: "wrong use or configuration", 3: "refused, to protect data"}.get(code, "failed")
        raise dg.Failure(f"{what}: {said} (exit {code}); its last line on stderr says why", allow_retries=code == 1)


def is_dead(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the process of a run ended on this machine before the run did."""
    try:
        with (path := _lock_of(instance, run_id)).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(lock.fileno()), path.stat())  # a run that is over takes its file away
    except (FileNotFoundError, BlockingIOError):
        return False


@contextmanager
def held(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Inside it the run is known to be alive as long as this process is."""
    path = _lock_of(instance, run_id)
    aside = path.with_suffix(".new")
    with aside.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        aside.replace(path)  # it is never seen without its lock
        try:
            yield
        finally:
            path.unlink()


def _lock_of(instance: dg.DagsterInstance, name: str) -> Path:
    folder = Path(instance.root_directory) / "running"
    folder.mkdir(exist_ok=True)
    return folder / name


@contextmanager
def _in_turn(context: _Context) -> Iterator[int]:
    """Waits until no command of the same pool, or of the same op where that has none, is left; the lock of that, as a
    descriptor for the command to inherit.

    Dagster's own count of a pool lets two in where the pool is new, and where a run was killed whose command is not yet
    at its end.
    """
    op = context.op_execution_context.op_def
    place = op.pool or op.name
    with _lock_of(context.instance, f"{place}.lock").open("a") as lock:
        if not _took(lock):
            context.log.warning(f"another command of {place} is under way on this machine: waits until it has ended")
            while not _took(lock):
                time.sleep(_POLL_SECONDS)
        yield lock.fileno()


def _took(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _begun(
    command: Sequence[str], turn: int, environment: Mapping[str, str] | None = None, stdout: int | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """The process, which is asked to end if the block does before it; one that does not is killed."""
    process = subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stdout=stdout, text=True, pass_fds=[turn]
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
