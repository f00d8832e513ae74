"""The errors a user can meet; each carries the exit code its job ends with."""


class LakehouseError(Exception):
    """The work failed; the message says what to do next."""

    exit_code = 1


class UsageError(LakehouseError):
    """Wrong use or configuration."""

    exit_code = 2


class RefusedError(LakehouseError):
    """Refused to protect data: a gap, a recreated topic, a lost race, a safety limit."""

    exit_code = 3


class LostRaceError(RefusedError):
    """Another writer committed the same range first; nothing of this attempt was kept."""


def in_a_sentence(error: BaseException) -> str:
    """What went wrong, without the trace of how: of an error of Java's its deepest cause."""
    cause = getattr(error, "java_exception", None)
    if cause is not None:
        while cause.getCause() is not None:
            cause = cause.getCause()
        return str(cause.toString()).splitlines()[0]
    return (str(error).strip() or type(error).__name__).splitlines()[0]
