"""A migration that would mend what drifted, as the source of a module for a person to finish. Pure."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from lakehouse_spark.errors import UsageError
from lakehouse_spark.schema.drift import Drift
from lakehouse_spark.schema.operations import FIRST, AddColumn, MoveColumn, Operation
from lakehouse_spark.schema.policy import Agreement, readers
from lakehouse_spark.table import Table

_WIDTH = 120
_PLACES = {(AddColumn, "after"), (MoveColumn, "old"), (MoveColumn, "new")}
"""Fields in which FIRST may stand."""


def file_name(newest: str, name: str) -> str:
    """The name of the module that follows the newest version: V005__add_venue_fee.py.

    Raises UsageError for a name that can be none.
    """
    words = re.sub(r"[\s-]+", "_", name.strip().lower())
    if not re.fullmatch(r"[a-z][a-z0-9_]*", words):
        raise UsageError(f"a migration's name has letters, digits and underscores, as add_venue_fee; got {name!r}")
    return f"V{int(newest.removeprefix('V')) + 1:03}__{words}.py"


def source(drifts: Sequence[Drift], tables: Sequence[Table], major: int) -> str:
    """The source of a module whose OPERATIONS are those of the drifts, in the project's format.

    Comments say what no operation can mend, and where one breaks its readers, which of the `tables` have to agree to
    the version after `major`.
    """
    operations = tuple(operation for drift in drifts for operation in drift.operations)
    sections = [
        '"""Say what changes, and why."""  # noqa: N999',
        _import(sorted({*_names(operations)}, key=lambda name: (not name.isupper(), name))),
        *_comments(drifts, operations, tables, major),
        f"OPERATIONS = {_written(operations, '', _WIDTH - len('OPERATIONS = '))}",
    ]
    return "\n\n".join(sections) + "\n"


def _comments(
    drifts: Sequence[Drift], operations: Sequence[Operation], tables: Sequence[Table], major: int
) -> Iterator[str]:
    unmendable = [f"No operation can mend this: {sentence}." for drift in drifts for sentence in drift.unmendable]
    if unmendable:
        yield "\n".join(map(_comment, unmendable))
    breaking = [operation for operation in operations if operation.is_breaking]
    if breaking:
        consumers = dict.fromkeys(name for operation in breaking for name in readers(operation.table, tables))
        agreed = Agreement(major + 1, tuple(consumers) or ("who reads it",))
        yield "\n".join(
            [
                *(_comment(f"This breaks who reads it: {operation.sentence}.") for operation in breaking),
                _comment("So it is refused until all that read it, these tables and whoever else, can do without."),
                "# from lakehouse_spark.schema.policy import Agreement",
                textwrap.indent(f"AGREED = {_written(agreed, '', _WIDTH - len('# AGREED = '))}", "# "),
            ]
        )


def _comment(sentence: str) -> str:
    return textwrap.fill(sentence, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _import(names: Sequence[str]) -> str:
    flat = f"from lakehouse_spark.schema.operations import {', '.join(names)}"
    if len(flat) <= _WIDTH:
        return flat
    return "\n".join(["from lakehouse_spark.schema.operations import (", *(f"    {name}," for name in names), ")"])


class _Name(str):
    """A name, which stands without quotes."""


def _names(value: Any) -> Iterator[str]:
    """The names that a value as Python uses."""
    if isinstance(value, _Name):
        yield value
    elif isinstance(value, tuple) or is_dataclass(value):
        name, parts = _taken_apart(value)
        yield from [name] if name else []
        yield from (used for _, part in parts for used in _names(part))


def _taken_apart(value: Any) -> tuple[str, list[tuple[str, Any]]]:
    """What stands before the brackets, and what stands in them: labels with values, those at their default left out."""
    if isinstance(value, tuple):
        return "", [("", part) for part in value]
    given = {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default}
    for name in given:
        if (type(value), name) in _PLACES and given[name] == FIRST:
            given[name] = _Name("FIRST")
    return type(value).__name__, [(f"{name}=", part) for name, part in given.items()]


def _written(value: Any, indent: str, room: int) -> str:
    """A value as Python, over several lines where it has no room on one."""
    flat = _flat(value)
    if len(flat) <= room:
        return flat
    if isinstance(value, str):
        return f"\n{indent}".join(map(_quoted, _split(value, room, _WIDTH - len(indent) - 1)))
    name, parts = _taken_apart(value)
    inner = indent + "    "
    lines = [f"{inner}{label}{_written(part, inner, _WIDTH - len(inner + label) - 1)}," for label, part in parts]
    return "\n".join([f"{name}(", *lines, f"{indent})"])


def _flat(value: Any) -> str:
    """A value as Python on one line."""
    if isinstance(value, _Name):
        return value
    if isinstance(value, str):
        return _quoted(value)
    if not isinstance(value, tuple) and not is_dataclass(value):
        return repr(value)
    name, parts = _taken_apart(value)
    comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
    return f"{name}({', '.join(label + _flat(part) for label, part in parts)}{comma})"


def _quoted(text: str) -> str:
    """In double quotes, unless that takes more escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    escaped = repr('"' + text)[2:-1].replace("\\'", "'")  # as it stands in single quotes, but for these
    return quote + escaped.replace(quote, "\\" + quote) + quote


def _split(text: str, room: int, more: int) -> Iterator[str]:
    """A text cut behind spaces: what has room on the line that is begun, then on lines with room for `more`."""
    words = re.findall(r"\S*\s*", text)
    part = ""
    for word in words:
        if part and len(_quoted(part + word)) > room:
            yield part
            part, room = "", more
        part += word
    yield part
