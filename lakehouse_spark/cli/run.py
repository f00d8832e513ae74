"""The jobs as commands, made of their declarations: the same at `lakehouse run`, scripts/submit and spark-submit."""

import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from types import GenericAlias
from typing import Any

import typer
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession
from typer.core import TyperCommand

from lakehouse_spark import lineage, metrics, migrations
from lakehouse_spark.cli import pipes
from lakehouse_spark.cli.failures import explained, of_parser
from lakehouse_spark.cli.groups import OF_JOBS, Group, completing, list_commands
from lakehouse_spark.errors import LakehouseError, UsageError, in_a_sentence, is_caused_by
from lakehouse_spark.jobs.job import Job, Option, Options
from lakehouse_spark.jobs.registry import JOBS
from lakehouse_spark.jobs.summary import Summary, tell
from lakehouse_spark.lake import commit, last_errors, log
from lakehouse_spark.lake.commit import Commit
from lakehouse_spark.lake.session import complain, open_session
from lakehouse_spark.local import broker
from lakehouse_spark.settings import Settings, load

_NO_TABLES = ("NoSuchTableException", "NoSuchNamespaceException", "TABLE_OR_VIEW_NOT_FOUND", "SCHEMA_NOT_FOUND")
"""Classes and conditions of the errors of Spark and Iceberg about a lakehouse that was never migrated."""


_AS_JSON = "as_json"
"""The option of a job that leaves all but the line of JSON unsaid."""


class _Jobs(Group):
    kind = "job"


class _JobCommand(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        several = {option.flag for option in JOBS[str(self.name)].options if option.takes_several}
        return super().parse_args(ctx, list(_one_by_one(args, several)))


def _one_by_one(args: Sequence[str], several: set[str]) -> Iterator[str]:
    """`--source A B` as `--source A --source B`: the parser takes one value per option."""
    current, taken = "", 0
    for arg in args:
        if arg.startswith("-"):
            current, taken = arg if arg in several else "", 0
        elif current:
            if taken:
                yield current
            taken += 1
        yield arg


def commands(act: Callable[[Job, Options], int]) -> typer.Typer:
    """A command per job; it hands the job and its options to `act`, whose answer is the exit code."""
    app = typer.Typer(cls=_Jobs, add_completion=False, pretty_exceptions_enable=False, **OF_JOBS)
    app.callback(invoke_without_command=True)(list_commands)
    for job in JOBS.values():
        app.command(job.name, cls=_JobCommand, help=job.line)(_command(job, act))
    return app


def _command(job: Job, act: Callable[[Job, Options], int]) -> Callable[..., None]:
    def command(**options: Any) -> None:
        raise typer.Exit(act(job, options))

    command.__signature__ = inspect.Signature([*map(_parameter, job.options)])  # type: ignore[attr-defined]
    return command


def _parameter(option: Option) -> inspect.Parameter:
    """The option as the parameter of a function that typer makes a command of."""
    kind: Any = bool if option.is_switch else str
    default: Any = False if option.is_switch else [] if option.repeats else None
    of_value: dict[str, Any] = {
        "metavar": option.metavar,
        "parser": option.read,
        "autocompletion": completing(option.choices),
    }
    return inspect.Parameter(
        option.parameter,
        inspect.Parameter.KEYWORD_ONLY,
        default=typer.Option(
            default, option.flag, help=option.help, show_default=False, **({} if option.is_switch else of_value)
        ),
        annotation=GenericAlias(list, (kind,)) if option.repeats else kind,
    )


def parse(argv: Sequence[str], program: str) -> tuple[Job, Options]:
    """The job that the arguments name, and its options; raises UsageError, and ends the process after --help."""
    if not argv:
        raise UsageError(f"no job given; jobs: {', '.join(JOBS)}")
    chosen: list[tuple[Job, Options]] = []

    def choose(job: Job, options: Options) -> int:
        chosen.append((job, options))
        return 0

    try:
        code = commands(choose)(argv, prog_name=program, standalone_mode=False)
    except typer.TyperException as error:
        raise of_parser(error) from None
    if not chosen:
        sys.exit(code)
    return chosen[0]


def main(argv: Sequence[str]) -> int:
    """What spark-submit runs: a job's name and its options in, its exit code out."""
    try:
        job, options = parse(argv, "lakehouse run")
    except UsageError as error:
        complain(error)
        return error.exit_code
    return execute(job, options)


def execute(job: Job, options: Options) -> int:
    """Runs the job and returns its exit code: options → session → the job's `run` → one line per table, one of JSON.

    What went wrong is one sentence, the last line on stderr.
    """
    began = time.monotonic()
    given = {name: value for name, value in options.items() if name != _AS_JSON}
    try:
        settings = load()
        log.use(settings.log, job.name)
        serving = broker.serving(settings, job.topics, complain) if job.topics else nullcontext(settings)
        with (
            metrics.observing(settings, job, given) as observer,
            _telling_of_commits(),
            serving as here,
            lineage.telling(here),
        ):
            spark = open_session(here, job.name, announce=complain)
            try:
                observer.begin(spark, here)
                with pipes.reporting() as told:
                    summaries = _run(spark, here, job, observer.heard_by({**given, **told}))
                for summary in () if options.get(_AS_JSON) else summaries:
                    tell(summary)
                _say(_as_json(job, summaries, time.monotonic() - began))
                observer.ended(0)
            finally:
                with suppress(Py4JError, OSError):  # where the JVM is gone, that is not what failed first
                    spark.stop()
    except Exception as error:
        complain(explained(job.name, error, complain), log.ERROR)
        return getattr(error, "exit_code", LakehouseError.exit_code)
    return 0


def _run(spark: SparkSession, settings: Settings, job: Job, options: Options) -> list[Summary]:
    """What the job did; where it fails, the lakehouse keeps why until it ends well."""
    try:
        done = job.run(spark, settings, **options)
    except UsageError:  # of who calls it: the job has begun nothing
        raise
    except Exception as error:
        if not isinstance(error, LakehouseError) and is_caused_by(error, *_NO_TABLES):
            raise migrations.no_tables(settings) from error
        if not job.leaves_tables(options):
            last_errors.keep(spark, settings, job.name, in_a_sentence(error))
        raise
    if not job.leaves_tables(options):  # which did nothing that could have failed again
        last_errors.clear(spark, job.name)
    return done


@contextmanager
def _telling_of_commits() -> Iterator[None]:
    """Where lines are JSON, there is one for each commit."""

    def say(done: Commit) -> None:
        if done.state is not None:
            cursor = json.loads(done.state.cursor.to_json()) if done.state.cursor else None
            seconds = {phase: round(took, 3) for phase, took in done.seconds.items()}
            complain("committed", table=done.table, snapshot=done.state.snapshot_id, cursor=cursor, seconds=seconds)

    with commit.heard_by(say) if log.is_json() else nullcontext():
        yield


def _as_json(job: Job, summaries: Sequence[Summary], seconds: float) -> str:
    tables = [summary.as_dict() for summary in summaries]
    return json.dumps({"job": job.name, "tables": tables, "seconds": round(seconds, 3)})


def _say(line: object) -> None:
    print(line, flush=True)
