"""Metrics and alerts: what a process does and how its lakehouse is, told to Prometheus or to a webhook.

Whoever starts a job opens an `observing` around it. What keeps metrics from being told never keeps the job from its
work: it is said once, and left.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import SparkSession

from lakehouse_spark.errors import LakehouseError, in_a_sentence
from lakehouse_spark.jobs.job import Job, Options
from lakehouse_spark.settings import Settings


class Observer:
    """Hears what a run of a job does; this one does nothing about it."""

    is_over = False
    """Whether it has heard the end of the run."""

    def begin(self, spark: SparkSession, settings: Settings) -> None:
        """The session is there; the settings know the broker, too."""

    def heard_by(self, options: Options) -> Options:
        """The options of the job with who is to hear of what it does."""
        return options

    def ended(self, exit_code: int, error: str = "") -> None:
        """The run is over."""


@contextmanager
def observing(settings: Settings, job: Job, options: Options) -> Iterator[Observer]:
    """Tells what a run of the job does, as far as the settings ask for it; UsageError where the port is taken.

    Live mode and continuous streams are told over HTTP and to the webhook, all other jobs in the textfile.
    """
    goes_on = bool(options.get("every") or options.get("continuous"))
    is_asked_on = settings.metrics.port is not None or settings.alerts.webhook_url is not None
    is_asked = is_asked_on if goes_on else settings.metrics.textfile_dir
    if not is_asked or job.leaves_tables(options):  # then it does nothing that could be late or fail
        yield Observer()
        return
    from lakehouse_spark.metrics import observers  # which nobody waits for who asks for nothing

    observer = observers.Enduring(settings, job, options) if goes_on else observers.Passing(settings, job)
    with observer.open():
        try:
            yield observer
        except Exception as error:
            if not observer.is_over:  # what was added up once is not to be again
                observer.ended(getattr(error, "exit_code", LakehouseError.exit_code), in_a_sentence(error))
            raise
