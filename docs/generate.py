"""What the code says of itself, in the pages: `python -m docs.generate` brings all of them up to date.

A page holds `<!-- generated: NAME -->` … `<!-- end -->` where a block belongs; the rest of it is written by hand.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer.main
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from benchmarks.scale import page as scale
from docs import drawing
from lakehouse_spark import cli, errors, settings
from lakehouse_spark.lake import cursor
from lakehouse_spark.metrics.declared import OF_TABLES, OF_WORK, Metric
from lakehouse_spark.schema import dictionary
from lakehouse_spark.schema.dictionary import escaped
from lakehouse_spark.transforms.reasons import REASONS

ROOT = Path(__file__).resolve().parents[1]


_PICTURES = (drawing.rooms, drawing.lineage, drawing.memory)


def files() -> dict[Path, str]:
    """The text of every page that holds a block, and of every picture, as the code of today makes it."""
    found = {ROOT / "docs" / "pictures" / f"{draw.__name__}.svg": draw() for draw in _PICTURES}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        if _BLOCK.search(text):
            found[page] = _BLOCK.sub(lambda block: f"{block[1]}\n\n{BLOCKS[block[2]]()}\n\n{block[3]}", text)
    return found


_BLOCK = re.compile(r"(<!-- generated: (\w+) -->).*?(<!-- end -->)", re.DOTALL)


def reasons() -> str:
    rows = ((f"`{r.code}`", escaped(r.meaning), r.who, escaped(r.remedy)) for r in REASONS)
    return _grid("code | what it means | who mends it | how", rows)


# Settings


def named_settings(
    model: type[BaseModel] = settings.Settings, prefix: str = "LAKEHOUSE_"
) -> Iterator[tuple[str, FieldInfo, str]]:
    """Each setting's environment variable, its declaration and its line."""
    lines = lines_of(model)
    for name, declared in model.model_fields.items():
        if inspect.isclass(declared.annotation) and issubclass(declared.annotation, BaseModel):
            yield from named_settings(declared.annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", declared, lines.get(name, "")


def all_settings() -> str:
    return _grid(
        "variable | type | default | what it is",
        ((f"`{name}`", _kind(of.annotation), _default(of), escaped(line)) for name, of, line in named_settings()),
    )


def profiles() -> str:
    shown = sorted((ROOT / "lakehouse_spark" / "conf").glob("*.yaml"))
    return "\n\n".join(f"### {file.stem}\n\n```yaml\n{file.read_text(encoding='utf-8').strip()}\n```" for file in shown)


_KINDS = {
    str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", SecretStr: "secret",
}  # fmt: skip


def _kind(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in args)
    if origin in (Union, UnionType):
        return _kind(next(arg for arg in args if arg is not NoneType))
    if origin is not None:
        return "JSON list" if origin is tuple else "secrets by name" if SecretStr in args else "texts by name"
    return _KINDS.get(annotation, "decimal number")


def _default(declared: FieldInfo) -> str:
    value = declared.default
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "none" if value in (None, {}, ()) else f"`{value}`"


def lines_of(declared: type) -> dict[str, str]:
    """The docstring below each attribute of a class, inherited ones included, in one line."""
    found: dict[str, str] = {}
    for part in reversed(declared.__mro__):
        if not part.__module__.startswith("lakehouse_spark"):
            continue
        (parsed,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        for statement, below in pairwise(parsed.body if isinstance(parsed, ast.ClassDef) else []):
            match statement, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


# Commands


Command = tuple[str, str, list[tuple[str, str]]]
"""The words of a command (`lakehouse rejected list`), what it does, and its options and arguments with a line each."""


def tree() -> list[Command]:
    return list(_below("lakehouse", typer.main.get_command(cli.app), None))


def _below(words: str, command: Any, parent: Any) -> Iterator[Command]:
    context = command.make_context(words.split()[-1], [], parent=parent, resilient_parsing=True)
    children = getattr(command, "commands", {})
    if not children or command.params:
        records = (parameter.get_help_record(context) for parameter in command.params)
        shown = [(" ".join(name.split()), " ".join(line.split())) for name, line in filter(None, records)]
        yield words, " ".join((command.help or "").split()), shown
    for name, child in sorted(children.items()):
        yield from _below(f"{words} {name}", child, context)


def commands() -> str:
    return "\n\n".join(
        f"## {words}\n\n{escaped(line)}" + (f"\n\n{_options(options)}" if options else "")
        for words, line, options in tree()
    )


def _options(options: Iterable[tuple[str, str]]) -> str:
    return _grid("option | what it does", ((f"`{name}`", escaped(line)) for name, line in options))


def exit_codes() -> str:
    rows = (
        (str(e.exit_code), f"`{e.__name__}`", escaped(" ".join((e.__doc__ or "").split()))) for e in error_classes()
    )
    return _grid("code | error | when", rows)


def error_classes() -> list[type[errors.LakehouseError]]:
    """The project's errors, by their exit codes."""
    found = [errors.LakehouseError]
    for error in found:
        found += error.__subclasses__()
    return sorted((each for each in found if each.__module__ == errors.__name__), key=lambda each: each.exit_code)


# Cursors

Shape = tuple[str, str, list[tuple[str, str]]]
"""Name and meaning of a kind of cursor, and its keys with a line each."""


def cursors() -> str:
    return "\n\n".join(
        f"### {title}\n\n{line}\n\n" + _grid("key | what it says", ((f"`{key}`", escaped(says)) for key, says in keys))
        for title, line, keys in shapes()
    )


def shapes() -> list[Shape]:
    """What the dataclasses of cursors say; a field's docstring begins with its key in JSON where that differs."""
    found = []
    for declared in vars(cursor).values():
        if is_dataclass(declared) and isinstance(declared, type) and declared.__module__ == cursor.__name__:
            lines = lines_of(declared)
            inherited = {field.name for base in declared.__mro__[1:] if is_dataclass(base) for field in fields(base)}
            keys = [_keyed(f.name, lines.get(f.name, "")) for f in fields(declared) if f.name not in inherited]
            found.append((declared.__name__, " ".join((declared.__doc__ or "").split()), keys))
    return found


def _keyed(name: str, line: str) -> tuple[str, str]:
    named = re.match(r"`(\w+)`: (.*)", line)
    return (named[1], named[2][0].upper() + named[2][1:]) if named else (name, line)


# Metrics


def metrics() -> str:
    return "\n\n".join(
        f"## {title}\n\n" + _grid("metric | kind | unit | labels | what it is | worry when", map(_told, metrics))
        for title, metrics in (("Of the tables", OF_TABLES), ("Of the work", OF_WORK))
    )


def _told(metric: Metric) -> tuple[str, ...]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"`{metric.name}`", metric.kind, metric.unit, labels, escaped(metric.help), escaped(metric.alert)


def _grid(head: str, rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


BLOCKS: Mapping[str, Callable[[], str]] = {
    "table_list": dictionary.table_list,
    "dictionary": dictionary.dictionary,
    "lineage": dictionary.lineage,
    "reasons": reasons,
    "settings": all_settings,
    "profiles": profiles,
    "commands": commands,
    "exit_codes": exit_codes,
    "cursors": cursors,
    "metrics": metrics,
    **scale.BLOCKS,
}
"""What can stand in a page."""


def main() -> None:
    for file, text in files().items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
