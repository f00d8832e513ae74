"""How a command tells what went wrong: one sentence."""

import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches

import typer

from lakehouse_spark.errors import LakehouseError, UsageError, hidden, in_a_sentence
from lakehouse_spark.settings import load, load_target


def explained(what: str, error: Exception, say: Callable[[str], None]) -> str:
    """Why `what` failed, and what else, in one sentence; where the settings ask for it, `say` gets the trace first.

    What others say of their failures may repeat a secret: neither does.
    """
    is_debugging = False
    for of_a_place in (load, load_target):
        with suppress(LakehouseError):  # then the wrong settings are the failure
            is_debugging |= of_a_place().debug
    if is_debugging:
        say(hidden("".join(traceback.format_exception(error)).rstrip()))
    also = "".join(f"; also failed: {note}" for note in getattr(error, "__notes__", ()))
    if isinstance(error, LakehouseError):
        return hidden(str(error) + also)
    return hidden(f"{what} failed: {in_a_sentence(error)}{also}") + (
        "" if is_debugging else " (LAKEHOUSE_DEBUG=true shows the trace)"
    )


def of_parser(error: typer.TyperException) -> UsageError:
    """What the parser of the command line complains of, as an error of ours."""
    said = " ".join(error.format_message().split()).rstrip(".").replace(": Value error, ", ": ")  # pydantic's preface
    said = said[:1].lower() + said[1:]
    context: typer.Context | None = getattr(error, "ctx", None)
    if context is None:
        return UsageError(said)
    return UsageError(f"{context.info_name}: {said}; `{context.command_path} --help` lists its options")


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """A name that is none of the known ones; the nearest is proposed."""
    names = list(known)
    close = get_close_matches(name, names, n=1)
    return UsageError(
        f"no {kind} {name!r}; " + (f"did you mean {close[0]}?" if close else f"{kind}s: {', '.join(names)}")
    )
