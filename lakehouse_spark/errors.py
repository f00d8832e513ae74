"""The errors a user can meet, each with the exit code its job ends with; and those of others in a sentence."""

import re
from collections.abc import Callable, Iterator
from typing import Any

LONGEST = 400
"""Characters of a sentence about an error of someone else."""


class LakehouseError(Exception):
    """The work failed: what happened and, where it is not part of that already, what to do next."""

    exit_code = 1

    def __init__(self, happened: str, advice: str = "") -> None:
        super().__init__(f"{happened}. {advice}" if advice else happened)
        self.happened = happened
        self.advice = advice


class UsageError(LakehouseError):
    """Wrong use or configuration."""

    exit_code = 2


class RefusedError(LakehouseError):
    """Refused to protect data: a gap, a recreated topic, a lost race, a safety limit."""

    exit_code = 3


class HeldError(RefusedError):
    """A commit that breaks checks of its table is held back: nothing of it is published, and it waits for a person."""


class LostRaceError(RefusedError):
    """Another writer committed the same range first; nothing of this attempt was kept."""


_CLEANERS: dict[str, Callable[[str], str]] = {}
"""What keeps secrets out of what this process says, by whose they are."""


def hide_by(whose: str, clean: Callable[[str], str]) -> None:
    """From here on, what this process says goes through `clean`, which takes secrets out: the newest of each."""
    _CLEANERS[whose] = clean


def hide_nothing() -> None:
    _CLEANERS.clear()


def hidden(text: str) -> str:
    """The text without the secrets of the settings that this process loaded last."""
    for clean in _CLEANERS.values():
        text = clean(text)
    return text


def in_a_sentence(error: BaseException) -> str:
    """What went wrong in one line of at most LONGEST characters, never empty, without the trace of how, and without the
    secrets that others may repeat: before it is cut, for half a secret is none that is found again.

    Of an error of Java's it is the deepest cause, with Spark's own words for where that happened; one without a message
    is named by its class and the nearest message above it.
    """
    said, name = _gist(_text(error)), type(error).__name__
    chain = [(of, hidden(message)) for of, message in _java_chain(error)]
    if chain:
        return _shortened(_of_java(chain, said))
    if isinstance(error, LakehouseError):
        return _shortened(said or name)
    if _is_without_jvm(error):
        return _shortened(f"the JVM that Spark runs in is gone, killed or out of memory: {said}")
    if isinstance(error, OSError) and error.strerror:
        told = ": ".join(str(part) for part in (error.strerror, error.filename) if part is not None)
        return _shortened(_gist(hidden(told)))
    is_known = hasattr(error, "getCondition") or isinstance(error, OSError)  # of PySpark: its messages stand alone
    return _shortened(said if said and is_known else f"{name}: {said}" if said else name)


def is_caused_by(error: BaseException, *names: str) -> bool:
    """Whether an error of Java's, or any cause of it, is of a class or of a condition of Spark's with such a name.

    A class goes by its name without the package, a condition by the whole or the part before the dot.
    """
    wanted = set(names)
    for name, message in _java_chain(error):
        conditions = {found[1] for found in _CONDITION.finditer(message)}
        known = {re.split(r"[.$]", name)[-1], *conditions, *(found.partition(".")[0] for found in conditions)}
        if known & wanted:
            return True
    return False


_CONDITION = re.compile(r"\[([A-Z][A-Z0-9_.]+)\]")
_SQLSTATE = re.compile(r"\s*SQLSTATE: \w{5}")
_WRAPPERS = ("STREAM_FAILED", "FOREACH_BATCH_USER_FUNCTION_ERROR")
"""Conditions that say no more than that something below them failed."""
_DEEPEST = 50


def _java_chain(error: BaseException) -> Iterator[tuple[str, str]]:
    """Class and message of the error of Java's behind this one and of its causes, the topmost first; none if none."""
    java: Any = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    for _ in range(_DEEPEST):
        if java is None:
            return
        try:
            yield str(java.getClass().getName()), str(java.getMessage() or "")
            java = java.getCause()
        except Exception:  # the JVM is gone: what it said before is all there is
            return


def _is_without_jvm(error: BaseException | None) -> bool:
    """Whether the JVM did not live to answer a call; the next one finds nobody to connect to."""
    while error is not None:
        if type(error).__name__ == "Py4JNetworkError":
            return True
        error = error.__context__
    return False


def _text(error: BaseException) -> str:
    try:
        return hidden(str(error))
    except Exception:  # an error of Java's asks the JVM for its text
        return ""


def _of_java(chain: list[tuple[str, str]], called: str) -> str:
    """The deepest cause, and where Spark says it happened; `called` is what Python saw of it."""
    name, message = chain[-1]
    said = _gist(message)
    above = [_gist(text) for _, text in reversed(chain[:-1])]
    if not said:
        nearest = next((text for text in above if text), called)
        return f"{name} ({nearest})" if nearest else name
    if _CONDITION.match(said):
        return said
    place = next((text for text in above if (found := _CONDITION.match(text)) and found[1] not in _WRAPPERS), "")
    return f"{name}: {said}" + (f" ({place})" if place and said not in place else "")


def _gist(text: str) -> str:
    """The line of a message that says most: the last cause's where it holds a trace, else the first."""
    lines = [line for line in text.splitlines() if line.strip()]
    causes = [line.strip().removeprefix("Caused by: ") for line in lines if line.strip().startswith("Caused by: ")]
    if causes:
        chosen = causes[-1]
    elif lines and any(line.startswith("Traceback (most recent call last)") for line in lines):
        chosen = next((line for line in reversed(lines) if not line[0].isspace()), lines[0])
    else:
        chosen = _told_by_json(text) or (lines[0] if lines else "")
    printable = "".join(c if c.isprintable() else " " for c in _SQLSTATE.sub("", chosen))
    return " ".join(printable.split()).rstrip(" ;")


def _told_by_json(text: str) -> str:
    """The message in the JSON that some servers answer with; '' in anything else."""
    found = re.search(r'"(?:message|msg|error)"\s*:\s*"((?:[^"\\]|\\.)+)"', text) if text.lstrip()[:1] == "{" else None
    return found[1] if found else ""


def _shortened(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST else sentence[: LONGEST - 2].rstrip() + " …"
